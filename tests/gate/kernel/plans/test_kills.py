"""A gate killed at any moment of a plan: another goes on, and nothing runs twice."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.people import ALICE
from support.plans import FAIL, World, call, plan_config, sent, statuses, write
from toolgate.errors import JournalUnavailable
from toolgate.journal.sqlite import SQLiteStore

RETRY: dict[str, Any] = {"failure_behavior": "retry", "max_retries": 0}
UNDO: dict[str, Any] = {
    "reversibility": "compensable",
    "compensation": {"type": "tool", "tool": "undo", "parameters": {"n": 1}},
}
COMPLETES = [
    write("w", "k", 1),
    call("pay", "pay", expected_effects={"paid": True}),
    call("b", parameters={"n": 2}, **RETRY),
    call("c", parameters={"n": 3}, **RETRY),
    write("x", "l", 2),
]
ABORTS = [write("w", "k", 1), call("a", parameters={"n": 1}, **UNDO), FAIL, write("x", "l", 2)]
SETTLED = {"succeeded", "failed", "rejected", "skipped"}


class Killer:
    """Kills whoever commits for the n-th time, before that commit or after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, nth: int, when: str) -> None:
        """Nobody is dead yet."""
        self.dead = asyncio.Event()
        self.commits = 0
        self.armed = True
        commit = SQLiteStore.commit

        def dying(store: SQLiteStore) -> None:
            self.commits += 1
            if self.armed and self.commits >= nth:
                if self.commits == nth and when == "after":
                    commit(store)
                self.dead.set()
                raise JournalUnavailable("killed")
            commit(store)

        monkeypatch.setattr(SQLiteStore, "commit", dying)


async def equip(gate: Driver, world: World) -> None:
    """Register the plans' tools."""
    await world.equip(gate, "step", "pay", "undo")


async def finish(gate: Driver, plan: list[dict[str, Any]], folder: Path) -> Any:
    """Go on with a plan until it ends, approving what is held."""
    for _ in range(4):
        result = await sent(gate, *plan, idempotency_key="k")
        held = [item["uid"] for item in result["results"] if item["status"] == "held"]
        if result["status"] in ("completed", "aborted"):
            return result
        for uid in held:
            gate.approve(uid, ALICE, folder)
    raise AssertionError("the plan does not come to an end")


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("nth", range(1, 17))
@pytest.mark.parametrize("plan", [COMPLETES, ABORTS], ids=["completes", "aborts"])
async def test_plan_whose_gate_is_killed_ends_once_and_truly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plan: list[dict[str, Any]], nth: int, when: str
) -> None:
    monkeypatch.setattr("toolgate.kernel.recording.RECORD_RETRIES", ())
    world = World()
    async with Driver(tmp_path, plan_config()) as gate:
        await equip(gate, world)
        killer = Killer(monkeypatch, nth, when)
        running = asyncio.ensure_future(finish(gate, plan, tmp_path))
        dead = asyncio.ensure_future(killer.dead.wait())
        await asyncio.wait({running, dead}, return_when=asyncio.FIRST_COMPLETED)
        killer.armed = False
        gate.die()
        await asyncio.wait({running}, timeout=0)
        running.cancel()
        dead.cancel()
        await asyncio.gather(running, dead, return_exceptions=True)
    async with Driver(tmp_path, plan_config()) as later:
        await equip(later, world)
        result = await finish(later, plan, tmp_path)
        state = await later.request("state")
    calls = [(name, args.get("n")) for name, args in world.done]
    assert len(set(calls)) == len(calls)
    assert set(statuses(result)) <= SETTLED
    for item, action in zip(result["results"], plan, strict=True):
        if action["type"] == "tool_call" and item["status"] == "succeeded":
            assert (action["tool"], action.get("parameters", {}).get("n")) in calls
    if result["status"] == "aborted":
        assert state == {}
        undone = {item["action_id"] for item in result["results"] if item["rolled_back"]}
        succeeded = {
            item["action_id"] for item in result["results"] if item["status"] == "succeeded"
        }
        assert undone == succeeded
    else:
        assert state["k"] == 1
        assert state["l"] == 2
    in_doubt = [item for item in result["results"] if item.get("kind") == "in_doubt"]
    if plan is COMPLETES and not in_doubt:
        assert statuses(result) == ["succeeded"] * 5
    if plan is ABORTS and not in_doubt:
        assert statuses(result) == ["succeeded", "succeeded", "failed", "skipped"]
        assert len(result["rollback"]["compensations"]) == 1
