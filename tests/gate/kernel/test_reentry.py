"""A body that stops itself is entered again when its action is resumed, as if nothing had run."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from support.doubts import kinds_of, settle
from support.driver import Driver
from support.people import ALICE, config
from toolgate.config import parse_config
from toolgate.journal.opening import inspect_journal
from toolgate.journal.verify import verify
from toolgate.wire import messages
from toolgate.wire.messages import RPCError


def problem(folder: Path) -> str | None:
    """Verify the journal in a folder and return what is wrong."""
    journal = inspect_journal(parse_config(config(), folder))
    report = verify(journal.store, journal.key, lambda seen: None)
    journal.store.close()
    return report.problem


async def suspended(gate: Driver, tool: str = "search", **args: Any) -> Any:
    """Make a call whose body stops itself and return its outcome."""
    await gate.tool(tool)
    call = gate.send("govern", tool=tool, args=args)
    gate.suspend(await gate.runs.get())
    return await call


async def entered_again(gate: Driver, uid: str, output: Any = "done") -> Any:
    """Resume an action whose body ends this time, and return its outcome."""
    resumed = gate.send("resume", uid=uid)
    gate.answer(await gate.runs.get(), output)
    return await resumed


async def test_allowed_call_whose_body_stops_itself_is_proposed_and_runs_again_on_resume(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        first = await suspended(gate, n=1)
        second = await entered_again(gate, first["uid"])
        third = await gate.request("resume", uid=first["uid"])
        kinds = kinds_of(gate, first["uid"])
    assert (first["status"], first["attempts"], first["replayed"]) == ("proposed", 1, False)
    assert "error" not in first
    assert "output" not in first
    assert (second["status"], second["output"], second["attempts"]) == ("succeeded", "done", 2)
    assert third["replayed"]
    assert gate.ran == [("search", {"n": 1})] * 2
    assert kinds[-5:] == [
        "action.executing",
        "action.suspended",
        "action.decided",
        "action.executing",
        "action.succeeded",
    ]
    assert problem(tmp_path) is None


async def test_approved_call_whose_body_stops_itself_is_held_again_and_its_approval_stands(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay")
        uid = (await gate.govern("pay", {"amount": 1}))["uid"]
        gate.approve(uid, ALICE, tmp_path)
        resumed = gate.send("resume", uid=uid)
        gate.suspend(await gate.runs.get())
        first = await resumed
        [listed] = (await gate.request("holds"))["holds"]
    assert problem(tmp_path) is None
    async with Driver(tmp_path, config()) as later:
        await later.tool("pay")
        second = await entered_again(later, uid, "paid")
    assert (first["status"], first["attempts"]) == ("held", 1)
    assert first["hold"]["approved_by"] == ["alice"]
    assert listed["status"] == "released"
    assert (second["output"], second["attempts"]) == ("paid", 2)
    assert later.ran == [("pay", {"amount": 1})]
    assert problem(tmp_path) is None


async def test_approved_body_that_stopped_itself_is_not_entered_again_when_policy_denies_by_now(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay")
        uid = (await gate.govern("pay"))["uid"]
        gate.approve(uid, ALICE, tmp_path)
        resumed = gate.send("resume", uid=uid)
        gate.suspend(await gate.runs.get())
        await resumed
    strict = config()
    strict["policy"]["rules"][3] = {"id": "money", "tools": ["pay"], "effect": "deny"}
    async with Driver(tmp_path, strict) as later:
        await later.tool("pay", lambda args: "paid")
        outcome = await later.request("resume", uid=uid)
    assert outcome["error"]["kind"] == "policy_denied"
    assert later.ran == []
    assert problem(tmp_path) is None


async def test_policy_is_asked_again_before_an_allowed_body_is_entered_again(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        uids = [(await suspended(gate, n=n))["uid"] for n in (1, 2)]
    denying, asking = config(), config()
    denying["policy"]["rules"].append({"id": "no", "tools": ["search"], "effect": "deny"})
    asking["policy"]["rules"].append(
        {"id": "ask", "tools": ["search"], "effect": "hold", "approval": {"approvers": ["alice"]}}
    )
    async with Driver(tmp_path, denying) as gate:
        await gate.tool("search")
        denied = await gate.request("resume", uid=uids[0])
    async with Driver(tmp_path, asking) as gate:
        await gate.tool("search")
        held = await gate.request("resume", uid=uids[1])
        gate.approve(uids[1], ALICE, tmp_path)
        done = await entered_again(gate, uids[1])
    assert (denied["status"], denied["error"]["kind"]) == ("rejected", "policy_denied")
    assert held["status"] == "held"
    assert (done["status"], done["attempts"]) == ("succeeded", 2)
    assert problem(tmp_path) is None


async def test_suspended_action_waits_for_a_client_that_has_its_tool_and_can_be_withdrawn(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await suspended(gate))["uid"]
    async with Driver(tmp_path, config()) as unable:
        waiting = await unable.request("resume", uid=uid)
        withdrawn = await unable.request("withdraw", uid=uid)
    async with Driver(tmp_path, config()) as later:
        await later.tool("search", lambda args: "late")
        after = await later.request("resume", uid=uid)
    assert (waiting["status"], waiting["error"]["kind"]) == ("proposed", "unregistered_tool")
    assert (withdrawn["status"], withdrawn["error"]["kind"]) == ("skipped", "cancelled")
    assert after["status"] == "skipped"
    assert later.ran == []
    assert problem(tmp_path) is None


async def test_body_may_stop_itself_again_and_again_and_a_waiting_resume_ends_each_time(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await suspended(gate))["uid"]
        for attempt in (2, 3):
            resumed = gate.send("resume", uid=uid, wait_ms=None)
            gate.suspend(await gate.runs.get())
            outcome = await resumed
            assert (outcome["status"], outcome["attempts"]) == ("proposed", attempt)
        assert (await entered_again(gate, uid))["attempts"] == 4


async def test_gate_that_dies_in_a_body_that_was_entered_again_leaves_a_doubt(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await suspended(gate))["uid"]
        gate.send("resume", uid=uid)
        await gate.runs.get()
        gate.die()
    async with Driver(tmp_path, config()) as later:
        await later.tool("search")
        doubt = await later.request("resume", uid=uid)
        settle(later, uid, "retry", tmp_path)
        done = await entered_again(later, uid)
    assert doubt["error"]["kind"] == "in_doubt"
    assert (done["status"], done["attempts"]) == ("succeeded", 3)
    assert problem(tmp_path) is None


async def test_two_gates_that_resume_a_suspended_action_enter_it_once(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as one, Driver(tmp_path, config()) as two:
        uid = (await suspended(one))["uid"]
        await two.tool("search")
        calls = [gate.send("resume", uid=uid) for gate in (one, two)]
        gets = [asyncio.ensure_future(gate.runs.get()) for gate in (one, two)]
        done, pending = await asyncio.wait(gets, return_when=asyncio.FIRST_COMPLETED)
        [run] = [task.result() for task in done]
        winner = one if gets[0] in done else two
        winner.answer(run, "done")
        outcomes = [await call for call in calls]
        for task in pending:
            task.cancel()
    assert len(one.ran) + len(two.ran) == 2
    assert {item["status"] for item in outcomes} <= {"succeeded", "executing"}


async def test_session_counts_a_call_once_however_often_its_body_is_entered(
    tmp_path: Path,
) -> None:
    once = config()
    once["policy"]["rules"].append(
        {
            "id": "two",
            "tools": ["search"],
            "when": 'session.calls["search"] >= 2',
            "effect": "deny",
        }
    )
    async with Driver(tmp_path, once) as gate:
        uid = (await suspended(gate, n=1))["uid"]
        for _ in range(3):
            resumed = gate.send("resume", uid=uid)
            gate.suspend(await gate.runs.get())
            await resumed
        other = await suspended(gate, n=2)
        third = await gate.govern("search", {"n": 3})
    assert other["status"] == "proposed"
    assert third["status"] == "rejected"


async def test_approved_call_is_one_call_and_one_action_however_often_its_body_is_entered(
    tmp_path: Path,
) -> None:
    counted = config(budget={"session": {"max_actions": 2, "max_tool_calls": 4}})
    counted["policy"]["rules"].append(
        {
            "id": "one",
            "tools": ["search"],
            "when": 'session.calls["pay"] >= 2',
            "effect": "deny",
        }
    )
    async with Driver(tmp_path, counted) as gate:
        await gate.tool("pay")
        await gate.tool("search", lambda args: "found")
        await gate.govern("search", {"n": 1})
        uid = (await gate.govern("pay"))["uid"]
        gate.approve(uid, ALICE, tmp_path)
        for _ in range(2):
            resumed = gate.send("resume", uid=uid)
            gate.suspend(await gate.runs.get())
            assert (await resumed)["status"] == "held"
        verdict = (await gate.govern("search", {"n": 2}))["decision"]["effect"]
        done = await entered_again(gate, uid)
        over = await gate.govern("search", {"n": 3})
    assert verdict == "allow"
    assert done["status"] == "succeeded"
    assert over["error"]["kind"] == "budget_exceeded"


async def test_what_a_body_had_read_when_it_stopped_labels_its_session(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        call = gate.send("govern", tool="search", args={})
        gate.suspend(await gate.runs.get(), documents=[{"text": "a page"}])
        await call
        answer = await gate.request("observe", text="", trust="trusted")
    assert answer["labels"] == ["untrusted"]


async def test_stop_that_comes_after_the_time_was_up_settles_nothing(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("slow")
        outcome = await gate.govern("slow")
        gate.suspend(await gate.runs.get())
        await gate.request("ping")
        for task in list(gate.gate.runtime.engine.recorder.under_way):
            await task
        after = await gate.request("resume", uid=outcome["uid"])
    assert outcome["error"] == after["error"]
    assert after["attempts"] == 1
    assert len(gate.ran) == 1
    assert problem(tmp_path) is None


@pytest.mark.parametrize("reply", [{"suspended": True, "output": 1}, {"suspended": False}, {}])
async def test_reply_that_says_neither_or_both_fails_the_call(
    tmp_path: Path, reply: dict[str, Any]
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        call = gate.send("govern", tool="search", args={})
        run = await gate.runs.get()
        gate.transport.feed(messages.result(run["id"], reply))
        outcome = await call
    assert outcome["status"] == "failed"
    assert "neither `output` nor `suspended`, or both" in outcome["error"]["message"]


@pytest.mark.tampers
async def test_row_of_a_suspended_action_that_is_put_back_enters_nothing_twice(
    tmp_path: Path,
) -> None:
    columns = "status, kind, run, attempts, last_seq, mac"
    async with Driver(tmp_path, config()) as gate:
        uid = (await suspended(gate))["uid"]
        with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
            row = db.execute(f"SELECT {columns} FROM action").fetchone()
        await entered_again(gate, uid)
        with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
            db.execute(f"UPDATE action SET ({columns}) = (?, ?, ?, ?, ?, ?)", row)
        db.close()
        with pytest.raises(RPCError, match="an old row was put back"):
            await gate.request("resume", uid=uid)
    assert len(gate.ran) == 2
