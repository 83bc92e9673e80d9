"""Published failures of other gates that kernel and journal decide; the numbers are the design's.

Others of them are tests beside what they are about, by the same numbers.
"""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from support.clock import MINUTE, Clock
from support.driver import Driver
from support.logged import DB, events, kinds
from support.people import ALICE, BOB, config
from toolgate import clock, jsonvalue
from toolgate.approvals import statement
from toolgate.desk import Desk
from toolgate.errors import ApprovalError
from toolgate.journal.opening import inspect_journal
from toolgate.journal.verify import verify
from toolgate.signatures import dsse

PAY = {"amount": 100}


async def held(gate: Driver, **more: Any) -> dict[str, Any]:
    """Hold a payment and return its outcome."""
    await gate.tool("pay", lambda args: f"paid {args['amount']}")
    outcome: dict[str, Any] = await gate.govern("pay", PAY, **more)
    assert outcome["status"] == "held"
    return outcome


def put_beside(folder: Path, hold: str, envelope: bytes) -> None:
    """Put an envelope beside a hold, as whoever can write the store may."""
    with sqlite3.connect(folder / DB) as db:
        db.execute(
            "INSERT INTO approval (hold, envelope, at) VALUES (?, ?, ?)",
            (hold, envelope, clock.now()),
        )
    db.close()


@pytest.mark.parametrize("verdict", ["missing", None, "", True, "approved", ["approve"]], ids=repr)
async def test_02_no_decision_is_not_an_approval_though_the_signature_is_genuine(
    tmp_path: Path, verdict: Any
) -> None:
    async with Driver(tmp_path, config()) as gate:
        outcome = await held(gate)
        desk = Desk(gate.config)
        hold = desk.find(outcome["uid"]).hold
        desk.close()
        approval = dsse.parse(statement.sign(hold, "approve", "alice", ALICE.key, clock.now()))
        said = jsonvalue.parse(approval.payload)
        said.pop("verdict")
        if verdict != "missing":
            said["verdict"] = verdict
        text = jsonvalue.canonical(said)
        put_beside(
            tmp_path, hold.hold_id, dsse.sign(text, statement.PAYLOAD_TYPE, "alice", ALICE.key)
        )
        resumed = await gate.request("resume", uid=outcome["uid"])
    assert (resumed["status"], resumed["hold"]["approved_by"]) == ("held", [])
    assert gate.ran == []
    assert "approval.refused" in kinds(tmp_path, outcome["uid"])


async def test_02_a_client_that_says_so_itself_approves_nothing(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await held(gate))["uid"]
        for said in ({"verdict": "approve"}, {"approved": True}, {"decision": None}):
            assert (await gate.request("resume", uid=uid, **said))["status"] == "held"
    assert gate.ran == []


async def test_06_an_approval_put_beside_another_hold_releases_nothing(tmp_path: Path) -> None:
    approvals = {**config()["approvals"], "repeat": "ask"}
    async with Driver(tmp_path, config(approvals=approvals)) as gate:
        first = await held(gate)
        gate.approve(first["uid"], ALICE, tmp_path)
        assert (await gate.request("resume", uid=first["uid"]))["status"] == "succeeded"
        again = await held(gate)
        with sqlite3.connect(tmp_path / DB) as db:
            ((envelope,),) = db.execute("SELECT envelope FROM approval").fetchall()
        db.close()
        for hold in (again["hold"]["hold_id"], first["hold"]["hold_id"]):
            put_beside(tmp_path, hold, envelope)
        resumed = await gate.request("resume", uid=again["uid"])
        replayed = await gate.request("resume", uid=first["uid"])
    assert (resumed["status"], replayed["replayed"]) == ("held", True)
    assert len(gate.ran) == 1


async def test_07_an_approval_of_one_call_releases_no_other_of_the_same_tool(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        one = await held(gate)
        two = await gate.govern("pay", {"amount": 1})
        gate.approve(one["uid"], ALICE, tmp_path)
        assert (await gate.request("resume", uid=two["uid"]))["status"] == "held"
        assert (await gate.request("resume", uid=one["uid"]))["status"] == "succeeded"
    assert gate.ran == [("pay", PAY)]


async def test_10_the_body_does_not_run_while_anybody_is_still_asked(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("wire_money", lambda args: "wired")
        uid = (await gate.govern("wire_money", {}))["uid"]
        waiting = gate.send("resume", uid=uid, wait_ms=None)
        gate.approve(uid, ALICE, tmp_path)
        assert (await gate.request("resume", uid=uid, wait_ms=10))["status"] == "held"
        assert gate.ran == []
        gate.approve(uid, BOB, tmp_path)
        assert (await waiting)["output"] == "wired"
    assert len(gate.ran) == 1


async def test_11_a_hold_outlives_restarts_is_not_asked_twice_and_runs_once(
    tmp_path: Path,
) -> None:
    value = config(session="kept")
    async with Driver(tmp_path, value) as gate:
        uid = (await held(gate))["uid"]
        gate.die()
    async with Driver(tmp_path, value) as gate:
        assert (await held(gate))["uid"] == uid
    gate.approve(uid, ALICE, tmp_path)
    async with Driver(tmp_path, value) as gate:
        await gate.tool("pay", lambda args: "paid")
        outcomes = [await gate.request("resume", uid=uid) for _ in range(2)]
    assert [outcome["replayed"] for outcome in outcomes] == [False, True]
    assert kinds(tmp_path).count("hold.opened") == kinds(tmp_path).count("action.executing") == 1


@pytest.mark.parametrize("verdict", ["approve", "deny"])
async def test_12_a_decision_is_honoured_by_whatever_gate_has_the_journal(
    tmp_path: Path, verdict: str
) -> None:
    async with Driver(tmp_path, config()) as opener, Driver(tmp_path, config()) as other:
        uid = (await held(opener))["uid"]
        await other.tool("pay", lambda args: "paid by the other")
        waiting = other.send("resume", uid=uid, wait_ms=None)
        await other.request("ping")
        opener.approve(uid, ALICE, tmp_path, verdict)
        outcome = await waiting
        told = await opener.request("resume", uid=uid)
    if verdict == "approve":
        assert outcome["output"] == told["output"] == "paid by the other"
    else:
        assert outcome["error"]["kind"] == told["error"]["kind"] == "approval_denied"
    assert opener.ran == []


async def test_13_a_hold_of_a_body_s_own_call_comes_back_to_that_body(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        await gate.tool("slow")
        outer = gate.send("govern", tool="slow")
        run = await gate.runs.get()
        inner = await gate.govern("pay", PAY, parent=run["params"]["uid"])
        waiting = gate.send("resume", uid=inner["uid"], wait_ms=None)
        # The outer body has 50 ms; they do not pass while it waits for people.
        assert (await gate.request("resume", uid=inner["uid"], wait_ms=100))["status"] == "held"
        gate.approve(inner["uid"], ALICE, tmp_path)
        paid = await waiting
        gate.answer(run, {"inner": paid["output"]})
        outcome = await outer
    assert (inner["status"], paid["uid"]) == ("held", inner["uid"])
    assert outcome["output"] == {"inner": "paid"}


async def test_14_one_rejected_call_of_many_at_once_leaves_the_others_alone(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: f"found {args['q']}")
        await gate.tool("pay", lambda args: "paid")
        await gate.tool("shell", lambda args: "done", parameters={"required": ["command"]})
        asked = [
            ("search", {"q": 1}),
            ("shell", {"command": "rm x"}),
            ("shell", {}),
            ("pay", PAY),
            ("unknown", {}),
            ("search", {"q": 2}),
        ]
        sent = [gate.send("govern", tool=tool, args=args) for tool, args in asked]
        outcomes = await asyncio.gather(*sent)
    assert [outcome["status"] for outcome in outcomes] == [
        "succeeded",
        "rejected",
        "rejected",
        "held",
        "rejected",
        "succeeded",
    ]
    assert gate.ran == [asked[0], asked[5]]


async def test_15_a_denial_says_why_and_neither_a_held_nor_a_denied_call_is_asked_twice(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        first = await held(gate)
        assert (await held(gate))["uid"] == first["uid"]
        gate.approve(first["uid"], ALICE, tmp_path, "deny")
        denied = await gate.request("resume", uid=first["uid"])
        again = await gate.govern("pay", PAY)
        pending = (await gate.request("holds", status="pending"))["holds"]
    assert denied["error"]["message"] == "denied by alice: because"
    assert again["error"]["kind"] == "approval_denied"
    assert pending == []
    assert kinds(tmp_path).count("hold.opened") == 1


async def test_22_a_torn_end_of_the_log_takes_no_deadline_and_no_replay_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    time = Clock(monkeypatch)
    torn = tmp_path / "torn"
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "found")
        await gate.govern("search", {"q": 1}, idempotency_key="k")
        uid = (await held(gate))["uid"]
        await gate.govern("search", {"q": "the last"}, idempotency_key="torn")
        # As a crash leaves it: what was written last is there in part.
        shutil.copytree(tmp_path / ".toolgate", torn / ".toolgate")
    wal = torn / f"{DB}-wal"
    wal.write_bytes(wal.read_bytes()[:-100])
    time.forward(16 * MINUTE)
    async with Driver(torn, config()) as later:
        await later.tool("search", lambda args: "found again")
        await later.tool("pay", lambda args: "paid")
        with pytest.raises(ApprovalError, match="expired"):
            later.approve(uid, ALICE, tmp_path)
        late = await later.request("resume", uid=uid)
        replayed = await later.govern("search", {"q": 1}, idempotency_key="k")
    assert late["error"]["kind"] == "approval_timeout"
    assert (replayed["replayed"], replayed["output"]) == (True, "found")
    assert later.ran == []
    # The last call's end is what was torn off.
    assert kinds(torn).count("action.succeeded") == kinds(torn).count("action.in_doubt") == 1
    journal = inspect_journal(later.config)
    assert verify(journal.store, journal.key, lambda seen: None).problem is None
    journal.store.close()


async def test_28_every_call_in_flight_at_a_shutdown_has_an_end_in_the_journal_and_an_answer(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config(limits={"drain": "0s"})) as gate:
        uid = (await held(gate))["uid"]
        await gate.tool("search")
        running = gate.send("govern", tool="search")
        run = await gate.runs.get()
        waiting = gate.send("resume", uid=uid, wait_ms=None)
        await gate.request("shutdown")
        answers = [await running, await waiting]
    assert answers[0]["error"]["kind"] == "in_doubt"
    assert answers[1]["status"] == "held"
    assert kinds(tmp_path, run["params"]["uid"])[-1] == "action.in_doubt"
    assert events(tmp_path)[-1] == ("run.ended", {"reason": "shutdown"})
