"""What becomes of an action in doubt: nothing on its own, and what a person signs, once."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from support.doubts import doubted, kinds_of, settle, story
from support.driver import Driver
from support.people import ALICE, BOB, MALLORY, config
from toolgate.approvals import settlement
from toolgate.config import parse_config
from toolgate.errors import ApprovalError
from toolgate.journal.opening import inspect_journal
from toolgate.journal.verify import verify
from toolgate.wire.messages import RPCError

DB = ".toolgate/journal.db"


def problem(folder: Path) -> str | None:
    """Verify the journal in a folder and return what is wrong."""
    journal = inspect_journal(parse_config(config(), folder))
    report = verify(journal.store, journal.key, lambda seen: None)
    journal.store.close()
    return report.problem


def idempotent(**more: Any) -> dict[str, Any]:
    """Return a config in which the operator says that search is idempotent."""
    value = config()
    value["tools"]["search"] = {"level": 1, "idempotent": True, **more}
    return value


async def test_settled_as_succeeded_it_has_the_output_that_was_signed_and_runs_nothing(
    tmp_path: Path,
) -> None:
    uid = await doubted(tmp_path, config(), idempotency_key="k")
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "again")
        settle(gate, uid, "succeeded", tmp_path, output={"id": 3})
        outcome = await gate.request("resume", uid=uid)
        repeated = await gate.govern("search", {"n": 1}, idempotency_key="k")
        kinds = kinds_of(gate, uid)
    assert (outcome["status"], outcome["output"]) == ("succeeded", {"id": 3})
    assert repeated["output"] == {"id": 3}
    assert gate.ran == []
    assert kinds[-2:] == ["action.in_doubt", "action.settled"]
    assert problem(tmp_path) is None


async def test_settled_as_failed_it_says_who_has_settled_it_and_why(tmp_path: Path) -> None:
    uid = await doubted(tmp_path, config())
    async with Driver(tmp_path, config()) as gate:
        settle(gate, uid, "failed", tmp_path)
        outcome = await gate.request("resume", uid=uid)
        again = await gate.request("resume", uid=uid)
        settled = json.loads(story(gate, uid).events[-1].data)
    assert outcome["status"] == "failed"
    assert outcome["error"]["kind"] == "execution_failed"
    assert "alice has settled it as failed: looked at it" in outcome["error"]["message"]
    assert again["error"] == outcome["error"]
    assert (settled["settled_by"], settled["outcome"]) == ("alice", "failed")
    assert "envelope" in settled
    assert problem(tmp_path) is None


async def test_settled_to_be_retried_it_runs_once_more_under_a_claim_of_its_own(
    tmp_path: Path,
) -> None:
    uid = await doubted(tmp_path, config())
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: f"found {args['n']}")
        settle(gate, uid, "retry", tmp_path)
        outcome = await gate.request("resume", uid=uid)
        again = await gate.request("resume", uid=uid)
        kinds = kinds_of(gate, uid)
    assert (outcome["output"], outcome["attempts"], outcome["replayed"]) == ("found 1", 2, False)
    assert (again["output"], again["replayed"]) == ("found 1", True)
    assert gate.ran == [("search", {"n": 1})]
    assert kinds[-5:] == [
        "action.in_doubt",
        "action.decided",
        "action.settled",
        "action.executing",
        "action.succeeded",
    ]
    assert problem(tmp_path) is None


async def test_settlement_to_retry_is_for_this_doubt_and_not_for_the_next(tmp_path: Path) -> None:
    uid = await doubted(tmp_path, config())
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        settle(gate, uid, "retry", tmp_path)
        gate.send("resume", uid=uid)
        await gate.runs.get()
        gate.die()
    async with Driver(tmp_path, config()) as later:
        await later.tool("search", lambda args: "thrice")
        with sqlite3.connect(tmp_path / DB) as db:
            subject = story(later, uid).doubt.subject  # type: ignore[union-attr]
            # The genuine settlement of the first doubt, put beside the second.
            db.execute("UPDATE approval SET hold = ?", (subject,))
        db.close()
        outcome = await later.request("resume", uid=uid)
        refused = [k for k in kinds_of(later, uid) if k == "approval.refused"]
        await later.request("resume", uid=uid)
        once = [k for k in kinds_of(later, uid) if k == "approval.refused"]
    assert outcome["error"]["kind"] == "in_doubt"
    assert outcome["attempts"] == 2
    assert later.ran == []
    assert refused == once == ["approval.refused"]
    assert problem(tmp_path) is None


async def test_two_resumes_of_a_settled_action_run_it_once(tmp_path: Path) -> None:
    uid = await doubted(tmp_path, config())
    async with Driver(tmp_path, config()) as one, Driver(tmp_path, config()) as two:
        for gate in (one, two):
            await gate.tool("search", lambda args: "found")
        settle(one, uid, "retry", tmp_path)
        first, second = one.send("resume", uid=uid), two.send("resume", uid=uid)
        outcomes = [await first, await second]
    assert len(one.ran) + len(two.ran) == 1
    assert {item["status"] for item in outcomes} <= {"succeeded", "executing"}


async def test_approval_of_an_action_stands_when_those_who_gave_it_settle_it_to_be_retried(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay")
        uid = (await gate.govern("pay", {"amount": 1}))["uid"]
        gate.approve(uid, ALICE, tmp_path)
        gate.send("resume", uid=uid)
        await gate.runs.get()
        gate.die()
    async with Driver(tmp_path, config()) as later:
        await later.tool("pay", lambda args: "paid")
        with pytest.raises(ApprovalError, match="bob is not asked about it; alice may speak"):
            settle(later, uid, "retry", tmp_path, BOB)
        before = await later.request("resume", uid=uid)
        settle(later, uid, "retry", tmp_path)
        after = await later.request("resume", uid=uid)
    assert before["error"]["kind"] == "in_doubt"
    assert (after["output"], after["attempts"]) == ("paid", 2)
    assert later.ran == [("pay", {"amount": 1})]
    assert problem(tmp_path) is None


async def test_policy_is_asked_again_and_the_settlement_stands_until_it_allows_the_retry(
    tmp_path: Path,
) -> None:
    uid = await doubted(tmp_path, config())
    strict = config()
    strict["policy"]["rules"].append(
        {"id": "no-search", "tools": ["search"], "effect": "deny", "reason": "closed on Sundays"}
    )
    asking = config()
    asking["policy"]["rules"].append({"id": "ask", "tools": ["search"], "effect": "hold"})
    told = []
    for changed in (strict, asking):
        async with Driver(tmp_path, changed) as gate:
            await gate.tool("search", lambda args: "found")
            settle(gate, uid, "retry", tmp_path)
            told.append((await gate.request("resume", uid=uid))["error"])
        assert gate.ran == []
    async with Driver(tmp_path, config()) as unable:
        told.append((await unable.request("resume", uid=uid))["error"])
    async with Driver(tmp_path, config()) as later:
        await later.tool("search", lambda args: "found")
        outcome = await later.request("resume", uid=uid)
    assert {error["kind"] for error in told} == {"in_doubt"}
    denied, held, unregistered = (error["message"] for error in told)
    assert "alice says that it runs again; it cannot: closed on Sundays" in denied
    assert "policy holds it now, and nobody has approved it so" in held
    assert "no tool named 'search' is registered" in unregistered
    assert outcome["output"] == "found"
    assert problem(tmp_path) is None


async def test_who_thinks_better_of_it_settles_it_again_before_somebody_resumes_it(
    tmp_path: Path,
) -> None:
    uid = await doubted(tmp_path, config())
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "again")
        settle(gate, uid, "retry", tmp_path)
        settle(gate, uid, "failed", tmp_path, BOB)
        outcome = await gate.request("resume", uid=uid)
        with pytest.raises(ApprovalError, match="is failed, not in doubt"):
            settle(gate, uid, "retry", tmp_path)
    assert outcome["status"] == "failed"
    assert gate.ran == []


async def test_forged_settlement_is_journaled_once_and_changes_nothing(tmp_path: Path) -> None:
    uid = await doubted(tmp_path, config())
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "again")
        doubt = story(gate, uid).doubt
        assert doubt is not None
        for name in ("alice", "mallory"):
            forged = settlement.sign(doubt, "retry", name, MALLORY.key, doubt.since)
            gate.gate.runtime._journal.reader.store.add_approval(doubt.subject, forged, doubt.since)
        outcomes = [await gate.request("resume", uid=uid) for _ in range(3)]
        kinds = kinds_of(gate, uid)
        shown = story(gate, uid)
        settle(gate, uid, "succeeded", tmp_path)
        last = await gate.request("resume", uid=uid)
    assert {item["error"]["kind"] for item in outcomes} == {"in_doubt"}
    assert gate.ran == []
    assert kinds.count("approval.refused") == 2
    assert shown.judged is not None
    assert len(shown.judged.refused) == 2
    assert last["status"] == "succeeded"
    assert problem(tmp_path) is None


@pytest.mark.tampers
async def test_old_row_of_an_action_in_doubt_that_is_put_back_runs_nothing_twice(
    tmp_path: Path,
) -> None:
    uid = await doubted(tmp_path, config())
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "found")
        with sqlite3.connect(tmp_path / DB) as db:
            columns = "status, kind, run, attempts, last_seq, mac"
            row = db.execute(f"SELECT {columns} FROM action").fetchone()
        settle(gate, uid, "retry", tmp_path)
        await gate.request("resume", uid=uid)
        with sqlite3.connect(tmp_path / DB) as db:
            db.execute(f"UPDATE action SET ({columns}) = (?, ?, ?, ?, ?, ?)", row)
        db.close()
        with pytest.raises(RPCError, match="an old row was put back"):
            await gate.request("resume", uid=uid)
    assert len(gate.ran) == 1
    assert problem(tmp_path) is not None


@pytest.mark.tampers
async def test_log_that_was_set_back_under_a_living_gate_does_not_run_a_retry_twice(
    tmp_path: Path,
) -> None:
    uid = await doubted(tmp_path, config())
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "found")
        settle(gate, uid, "retry", tmp_path)
        with sqlite3.connect(tmp_path / DB) as db:
            seq = db.execute("SELECT max(seq) FROM event").fetchone()[0]
            columns = "status, kind, run, attempts, last_seq, mac"
            row = db.execute(f"SELECT {columns} FROM action").fetchone()
        await gate.request("resume", uid=uid)
        with sqlite3.connect(tmp_path / DB) as db:
            db.execute("DELETE FROM event WHERE seq > ?", (seq,))
            db.execute(f"UPDATE action SET ({columns}) = (?, ?, ?, ?, ?, ?)", row)
        db.close()
        with pytest.raises(RPCError, match="an old row was put back"):
            await gate.request("resume", uid=uid)
    assert len(gate.ran) == 1


async def test_late_result_of_an_attempt_does_not_settle_the_doubt_of_the_next(
    tmp_path: Path,
) -> None:
    value = config()
    value["tools"]["search"] = {"level": 1, "timeout": "20ms"}
    async with Driver(tmp_path, value) as gate:
        await gate.tool("search")
        first = await gate.govern("search")
        run = await gate.runs.get()
        settle(gate, first["uid"], "retry", tmp_path)
        second = await gate.request("resume", uid=first["uid"])
        rerun = await gate.runs.get()
        gate.answer(run, "the first")
        await gate.request("ping")
        for task in list(gate.gate.runtime.engine.recorder.under_way):
            await task
        still = await gate.request("resume", uid=first["uid"])
        gate.answer(rerun, "the second")
        await gate.request("ping")
        for task in list(gate.gate.runtime.engine.recorder.under_way):
            await task
        settled = await gate.request("resume", uid=first["uid"])
    assert first["error"]["kind"] == second["error"]["kind"] == "execution_timeout"
    assert (run["params"]["attempt"], rerun["params"]["attempt"]) == (1, 2)
    assert still["error"]["kind"] == "execution_timeout"
    assert settled["output"] == "the second"
    assert problem(tmp_path) is None


async def test_action_of_an_idempotent_tool_whose_gate_died_runs_again_when_it_is_resumed(
    tmp_path: Path,
) -> None:
    uid = await doubted(tmp_path, idempotent())
    async with Driver(tmp_path, idempotent()) as gate:
        await gate.tool("search", lambda args: "found")
        outcome = await gate.request("resume", uid=uid)
        kinds = kinds_of(gate, uid)
    assert (outcome["output"], outcome["attempts"]) == ("found", 2)
    assert kinds[-4:] == [
        "action.decided",
        "action.retrying",
        "action.executing",
        "action.succeeded",
    ]
    assert problem(tmp_path) is None


async def test_neither_client_nor_plan_make_a_tool_idempotent_enough_to_run_again(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", idempotent=True)
        gate.send("govern", tool="search", args={})
        uid = (await gate.runs.get())["params"]["uid"]
        gate.die()
    async with Driver(tmp_path, config()) as later:
        await later.tool("search", lambda args: "again", idempotent=True)
        outcome = await later.request("resume", uid=uid)
    assert outcome["error"]["kind"] == "in_doubt"
    assert later.ran == []


@pytest.mark.parametrize(("retries", "attempts"), [(None, 2), (0, 1), (2, 3)])
async def test_idempotent_action_that_keeps_killing_gates_stays_in_doubt_in_the_end(
    tmp_path: Path, retries: int | None, attempts: int
) -> None:
    contract = idempotent() if retries is None else idempotent(retries=retries)
    uid = await doubted(tmp_path, contract)
    for _ in range(attempts - 1):
        async with Driver(tmp_path, contract) as gate:
            await gate.tool("search")
            gate.send("resume", uid=uid)
            await gate.runs.get()
            gate.die()
    async with Driver(tmp_path, contract) as last:
        await last.tool("search", lambda args: "once too often")
        outcome = await last.request("resume", uid=uid)
        settle(last, uid, "retry", tmp_path)
        settled = await last.request("resume", uid=uid)
    assert (outcome["error"]["kind"], outcome["attempts"]) == ("in_doubt", attempts)
    assert (settled["output"], settled["attempts"]) == ("once too often", attempts + 1)


async def test_idempotent_body_that_may_still_be_running_is_not_run_beside_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolgate.kernel.engine.CANCEL_GRACE", 0.0)
    async with Driver(tmp_path, idempotent(timeout="10ms")) as gate:
        await gate.tool("search")
        outcome = await gate.govern("search")
        await gate.runs.get()
        resumed = await gate.request("resume", uid=outcome["uid"])
    assert outcome["error"]["kind"] == resumed["error"]["kind"] == "execution_timeout"
    assert len(gate.ran) == 1


async def test_limits_count_a_further_attempt_and_keep_it_in_doubt_without_a_token(
    tmp_path: Path,
) -> None:
    limited = idempotent(rate_limit={"max_calls": 1, "interval_secs": 86_400}, timeout="10ms")
    uid = await doubted(tmp_path, limited)
    limited["limits"] = {"drain": "10ms"}
    async with Driver(tmp_path, limited) as gate:
        await gate.tool("search", lambda args: "again")
        waiting = gate.send("resume", uid=uid)
        await gate.request("ping")
        await gate.request("shutdown")
        outcome = await waiting
    assert outcome["error"]["kind"] == "in_doubt"
    assert "its contract says that it runs again; it cannot" in outcome["error"]["message"]
    assert gate.ran == []


async def test_late_result_settles_what_nobody_has_settled_and_nothing_else(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("slow")
        outcome = await gate.govern("slow")
        run = await gate.runs.get()
        settle(gate, outcome["uid"], "failed", tmp_path)
        failed = await gate.request("resume", uid=outcome["uid"])
        gate.answer(run, "late")
        await gate.request("ping")
        for task in list(gate.gate.runtime.engine.recorder.under_way):
            await task
        after = await gate.request("resume", uid=outcome["uid"])
    assert failed["error"] == after["error"]
    assert after["status"] == "failed"
