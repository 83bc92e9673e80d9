"""Plans that are cut short: by their caller, by a shutdown, by a store that fails."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.people import ALICE
from support.plans import (
    FAIL,
    World,
    call,
    kinds,
    of,
    plan_config,
    propose,
    sent,
    statuses,
    timeless,
    write,
)
from toolgate.errors import JournalUnavailable
from toolgate.journal.sqlite import SQLiteStore
from toolgate.wire.messages import RPCError

RETRY: dict[str, Any] = {"failure_behavior": "retry", "max_retries": 0}
SKIP: dict[str, Any] = {"failure_behavior": "skip"}


async def test_cancelled_plan_starts_nothing_more_and_undoes_what_it_did(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        proposed = sent(gate, write("w", "k", 1), call("a"), call("b", parameters={"n": 1}))
        run = await gate.runs.get()
        gate.cancel(proposed)
        note = await gate.notes.get()
        gate.answer(run, "done all the same")
        result = await proposed
        state = await gate.request("state")
        again = await gate.request("resume", uid=result["uid"])
    assert (note["method"], note["params"]["uid"]) == ("cancel_tool", run["params"]["uid"])
    assert result["status"] == "aborted"
    assert statuses(result) == ["succeeded", "succeeded", "skipped"]
    assert kinds(result) == [None, None, "cancelled"]
    assert result["error"]["kind"] == "cancelled"
    assert state == {}
    assert timeless(again["proposal"]) == timeless(result)
    assert len(gate.ran) == 1


async def test_cancelled_plan_compensates_when_somebody_resumes_it(tmp_path: Path) -> None:
    undo = {"type": "tool", "tool": "undo", "parameters": {"of": "$a.output"}}
    compensable: dict[str, Any] = {"reversibility": "compensable", "compensation": undo}
    async with Driver(tmp_path, plan_config()) as gate:
        world = World()
        await world.equip(gate, "step1", "undo")
        await gate.tool("step")
        proposed = sent(
            gate, write("w", "k", 1), call("a", "step1", **compensable), call("b"), call("c")
        )
        run = await gate.runs.get()
        gate.cancel(proposed)
        gate.answer(run, "done all the same")
        cancelled = await proposed
        state = await gate.request("state")
        before = list(gate.ran)
    async with Driver(tmp_path, plan_config()) as later:
        await world.equip(later, "step1", "undo")
        resumed = (await later.request("resume", uid=cancelled["uid"]))["proposal"]
        again = (await later.request("resume", uid=cancelled["uid"]))["proposal"]
    assert cancelled["status"] == "suspended"
    assert cancelled["error"]["kind"] == "cancelled"
    assert state == {}
    assert "undo" not in [tool for tool, _ in before]
    assert resumed["status"] == "aborted"
    assert [item["status"] for item in resumed["rollback"]["compensations"]] == ["succeeded"]
    assert [effect["action_id"] for effect in resumed["rollback"]["external_effects"]] == ["b"]
    assert [tool for tool, _ in later.ran] == ["undo"]
    assert timeless(again) == timeless(resumed)


async def test_plan_that_is_cancelled_when_all_has_run_is_complete(tmp_path: Path) -> None:
    undo = {"type": "action_ref", "action_id": "undo"}
    plan = [call("a", reversibility="compensable", compensation=undo), call("undo", "undo")]
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        proposed = sent(gate, *plan)
        run = await gate.runs.get()
        gate.cancel(proposed)
        gate.answer(run, "done")
        result = await proposed
    assert (result["status"], statuses(result)) == ("completed", ["succeeded", "skipped"])


async def test_cancelled_plan_withdraws_the_holds_it_opened(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        await World().equip(gate, "pay")
        proposed = sent(gate, call("pay", "pay", **RETRY), call("a", **RETRY))
        run = await gate.runs.get()
        gate.cancel(proposed)
        gate.answer(run, "done")
        result = await proposed
        pending = await gate.request("holds", status="pending")
    assert result["status"] == "aborted"
    assert kinds(result) == ["cancelled", None]
    assert pending["holds"] == []


async def test_plan_cancelled_before_it_began_runs_nothing(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step")
        proposed = sent(gate, call("a"), call("b"))
        gate.cancel(proposed)
        result = await proposed
    assert result["status"] == "aborted"
    assert kinds(result) == ["cancelled", "cancelled"]
    assert gate.ran == []


async def test_cancelled_wait_withdraws_the_hold_and_the_plan_can_go_on(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", "pay")
        held = await propose(gate, call("pay", "pay"), call("a"))
        waiting = gate.send("resume", uid=of(held, "pay")["uid"], wait_ms=None)
        await gate.request("ping")
        gate.cancel(waiting)
        left = await waiting
        result = (await gate.request("resume", uid=held["uid"]))["proposal"]
    assert (left["status"], left["action_id"], left["error"]["kind"]) == (
        "skipped",
        "pay",
        "cancelled",
    )
    assert kinds(result) == ["cancelled", None]


async def test_wait_of_another_session_withdraws_nothing_when_it_is_cancelled(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", "pay")
        held = await propose(gate, call("pay", "pay"), call("a"))
        async with Driver(tmp_path, plan_config(session="other")) as other:
            await World().equip(other, "step", "pay")
            waiting = other.send("resume", uid=of(held, "pay")["uid"], wait_ms=None)
            await other.request("ping")
            other.cancel(waiting)
            left = await waiting
    assert left["status"] == "held"


async def test_resume_cancelled_at_once_leaves_no_action_without_an_end(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay")
        held = await propose(gate, call("pay", "pay"))
        gate.approve(of(held, "pay")["uid"], ALICE, tmp_path)
        resuming = gate.send("resume", uid=held["uid"])
        gate.cancel(resuming)
        await resuming
        final = (await gate.request("resume", uid=held["uid"]))["proposal"]
        pending = await gate.request("holds", status="pending")
    assert final["status"] == "aborted"
    assert kinds(final) == ["cancelled"]
    assert pending["holds"] == []
    assert gate.ran == []


async def test_shutdown_ends_what_runs_and_leaves_the_rest_for_later(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        proposed = sent(gate, call("a", parameters={"n": 1}), call("b", parameters={"n": 2}))
        run = await gate.runs.get()
        shutdown = gate.send("shutdown")
        await gate.request("ping")
        gate.answer(run, "done")
        suspended = await proposed
        await shutdown
    async with Driver(tmp_path, plan_config()) as later:
        await World().equip(later, "step")
        outcome = await later.request("resume", uid=suspended["uid"])
    assert suspended["status"] == "suspended"
    assert statuses(suspended) == ["succeeded", "proposed"]
    assert statuses(outcome["proposal"]) == ["succeeded", "succeeded"]
    assert later.ran == [("step", {"n": 2})]


async def test_plan_whose_last_body_ends_in_the_drain_is_complete(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        proposed = sent(gate, call("a"))
        run = await gate.runs.get()
        shutdown = gate.send("shutdown")
        await gate.request("ping")
        gate.answer(run, "done")
        result = await proposed
        await shutdown
    assert (result["status"], statuses(result)) == ("completed", ["succeeded"])


async def test_shutdown_leaves_holds_as_they_are(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", "pay")
        held = await propose(gate, call("pay", "pay"), call("a"))
        waiting = gate.send("resume", uid=held["uid"], wait_ms=None)
        await gate.request("ping")
        await gate.request("shutdown")
        left = await waiting
    async with Driver(tmp_path, plan_config()) as later:
        await World().equip(later, "step", "pay")
        later.approve(of(held, "pay")["uid"], ALICE, tmp_path)
        outcome = await later.request("resume", uid=held["uid"])
    assert left["status"] == "held"
    assert statuses(outcome["proposal"]) == ["succeeded", "succeeded"]


async def test_body_that_outlasts_the_drain_is_in_doubt_and_aborts_its_plan_later(
    tmp_path: Path,
) -> None:
    undo = {"type": "tool", "tool": "undo", "parameters": {}}
    plan = [
        call("a", parameters={"n": 1}, reversibility="compensable", compensation=undo),
        call("b", "step-hangs", expected_effects={"k": 1}),
        call("c"),
    ]
    async with Driver(tmp_path, plan_config(limits={"drain": "5ms"})) as gate:
        await World().equip(gate, "step", "undo")
        await gate.tool("step-hangs")
        proposed = sent(gate, *plan)
        await gate.runs.get()
        await gate.request("shutdown")
        suspended = await proposed
    async with Driver(tmp_path, plan_config()) as later:
        await World().equip(later, "step", "undo")
        result = (await later.request("resume", uid=suspended["uid"]))["proposal"]
    assert statuses(suspended) == ["succeeded", "failed", "proposed"]
    assert kinds(result) == [None, "in_doubt", "cancelled"]
    assert result["status"] == "aborted"
    assert later.ran == [("undo", {})]


async def test_client_that_goes_away_leaves_a_plan_that_another_goes_on_with(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        sent(
            gate, call("a", **RETRY), call("b", dependencies=["a"]), call("c"), idempotency_key="k"
        )
        await gate.runs.get()
    async with Driver(tmp_path, plan_config()) as later:
        await World().equip(later, "step")
        result = await propose(
            later, call("a", **RETRY), call("b", dependencies=["a"]), call("c"), idempotency_key="k"
        )
    assert kinds(result) == ["in_doubt", "dependency_failed", None]
    assert result["status"] == "completed"


class Failing:
    """Has the store refuse commits: those that ``refuse`` picks by their number, from 1."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is refused yet."""
        self.count = 0
        self.refused: set[int] = set()
        self.all = False
        commit = SQLiteStore.commit

        def sometimes(store: SQLiteStore) -> None:
            self.count += 1
            if self.all or self.count in self.refused:
                raise JournalUnavailable("the journal could not be written: disk full")
            commit(store)

        monkeypatch.setattr(SQLiteStore, "commit", sometimes)


async def answer(request: Any) -> Any:
    """Return the answer to a request: its result, or its error."""
    return (await asyncio.gather(request, return_exceptions=True))[0]


PLAN = [
    write("w", "k", 1),
    call("a", expected_effects={"k": 2}),
    call("b", parameters={"n": "$a.output.number"}, **RETRY),
    call("c", parameters={"n": 3}, **RETRY),
    write("x", "l", "$b.output.args"),
]


@pytest.mark.parametrize("nth", range(1, 12))
@pytest.mark.parametrize("plan", ["completes", "aborts"])
async def test_commit_that_fails_hangs_nobody_and_the_plan_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nth: int, plan: str
) -> None:
    monkeypatch.setattr("toolgate.kernel.recording.RECORD_RETRIES", (0.001,))
    actions = [*PLAN, *([FAIL] if plan == "aborts" else [])]
    world = World()
    async with Driver(tmp_path, plan_config()) as gate:
        await world.equip(gate, "step")
        failing = Failing(monkeypatch)
        failing.refused = {nth}
        for _ in range(2):
            result = await answer(sent(gate, *actions, idempotency_key="k"))
            if not isinstance(result, RPCError):
                break
            assert result.code == -32005
        state = await gate.request("state")
    expected = ["succeeded"] * 5 + (["failed"] if plan == "aborts" else [])
    assert statuses(result) == expected
    assert state == ({} if plan == "aborts" else {"k": 2, "l": {"n": 1}})
    assert len(world.done) == 3


async def test_result_that_cannot_be_recorded_is_told_and_recorded_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolgate.kernel.recording.RECORD_RETRIES", (0.001,))
    monkeypatch.setattr("toolgate.kernel.recording.RECORD_AGAIN", 0.001)
    plan = [call("a"), call("b", parameters={"n": 1})]
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        proposed = sent(gate, *plan, idempotency_key="k")
        run = await gate.runs.get()
        failing = Failing(monkeypatch)
        failing.all = True
        gate.answer(run, "ran")
        with pytest.raises(RPCError, match="ran, but how it ended") as told:
            await proposed
        failing.all = False
        recording = gate.gate.runtime.engine.recorder.under_way
        await asyncio.gather(*recording)
        again = sent(gate, *plan, idempotency_key="k")
        gate.answer(await gate.runs.get(), "second")
        result = await again
    assert told.value.data == {"uid": run["params"]["uid"], "ran": True}
    assert [item["output"] for item in result["results"]] == ["ran", "second"]
    assert len(gate.ran) == 2


async def test_plan_is_told_as_executing_while_a_result_is_not_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolgate.kernel.recording.RECORD_RETRIES", ())
    monkeypatch.setattr("toolgate.kernel.plans.LOOK_AGAIN", 0.005)
    plan = [call("a"), call("b", parameters={"n": 1})]
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        proposed = sent(gate, *plan)
        run = await gate.runs.get()
        uid = run["params"]["uid"].rpartition("-")[0]
        failing = Failing(monkeypatch)
        failing.refused = {1}
        gate.answer(run, "ran")
        with pytest.raises(RPCError, match="ran, but how it ended"):
            await proposed
        told = await gate.request("resume", uid=uid, wait_ms=20)
        log_before = gate.gate.runtime._journal.reader.store.last_seq()
        await gate.request("resume", uid=uid)
        log_after = gate.gate.runtime._journal.reader.store.last_seq()
    assert statuses(told["proposal"]) == ["executing", "proposed"]
    assert log_before == log_after


async def test_gate_taken_for_dead_runs_nothing_twice(tmp_path: Path) -> None:
    plan = [call("a", **RETRY), call("b", parameters={"n": 1}), write("w", "k", 1)]
    world = World()
    async with Driver(tmp_path, plan_config()) as one:
        await one.tool("step")
        proposed = sent(one, *plan, idempotency_key="k")
        run = await one.runs.get()
        one.gate.runtime._journal.liveness.release()
        async with Driver(tmp_path, plan_config()) as two:
            await world.equip(two, "step")
            taken = await propose(two, *plan, idempotency_key="k")
        one.answer(run, "late")
        told = await proposed
        final = await propose(one, *plan, idempotency_key="k")
    assert kinds(taken) == ["in_doubt", None, None]
    assert timeless(told) == timeless(final)
    assert statuses(final) == ["succeeded"] * 3
    assert len(one.ran) == 1
    assert len(world.done) == 1
