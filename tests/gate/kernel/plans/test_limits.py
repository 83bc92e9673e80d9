"""Limits on plans: rate limits, budgets and capabilities, across gates and restarts."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.clock import Clock
from support.driver import Driver
from support.people import ALICE
from support.plans import (
    World,
    call,
    events,
    kinds,
    of,
    plan_config,
    propose,
    read,
    sent,
    statuses,
    timeless,
    write,
)

SKIP: dict[str, Any] = {"failure_behavior": "skip"}


def limited(calls: int, seconds: float, **more: Any) -> dict[str, Any]:
    """Return changes of a config: a rate limit of ``step``."""
    entry = {"rate_limit": {"max_calls": calls, "interval_secs": seconds}, **more}
    return {"tools": {"step": entry}}


def steps(count: int, **more: Any) -> list[dict[str, Any]]:
    """Return so many tool calls, all different."""
    return [call(f"a{n}", parameters={"n": n}, **more) for n in range(count)]


async def test_call_waits_for_a_token_as_long_as_its_time(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config(**limited(1, 0.03))) as gate:
        await World().equip(gate, "step")
        result = await propose(gate, *steps(3))
    assert statuses(result) == ["succeeded"] * 3


async def test_call_without_a_token_in_its_time_is_rejected_and_the_plan_goes_on(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, plan_config(**limited(2, 1000))) as gate:
        await World().equip(gate, "step")
        result = await propose(gate, *steps(3, timeout_ms=5), read("r", "k"))
        log = events(gate)
    assert kinds(result) == [None, None, "rate_limited", None]
    assert of(result, "a2")["details"]["max_calls"] == 2
    assert "limit.reached" in [event.kind for event in log]


async def test_rate_limit_holds_across_gates_sessions_and_restarts(tmp_path: Path) -> None:
    world = World()
    changes = limited(3, 1000)
    found = []
    async with (
        Driver(tmp_path, plan_config(**changes)) as one,
        Driver(tmp_path, plan_config(**changes, session="other")) as two,
    ):
        for gate in (one, two):
            await world.equip(gate, "step")
        asked = [sent(gate, *steps(2, timeout_ms=5, **SKIP)) for gate in (one, two)]
        found += [kind for result in await asyncio.gather(*asked) for kind in kinds(result)]
    async with Driver(tmp_path, plan_config(**changes)) as gate:
        await world.equip(gate, "step")
        found += kinds(await propose(gate, *steps(1, timeout_ms=5)))
        single = await gate.govern("step", timeout_ms=5)
    assert sorted(found, key=str) == [None, None, None, "rate_limited", "rate_limited"]
    assert single["error"]["kind"] == "rate_limited"
    assert len(world.done) == 3


async def test_limit_forgets_nothing_when_a_gate_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    changes = {**limited(2, 60), "budget": {"session": {"max_tool_calls": 3}}}
    async with Driver(tmp_path, plan_config(**changes)) as gate:
        await gate.tool("step")
        sent(gate, *steps(2, failure_behavior="retry"))
        for _ in range(2):
            await gate.runs.get()
        gate.die()
    async with Driver(tmp_path, plan_config(**changes)) as later:
        await World().equip(later, "step")
        limited_now = await propose(later, *steps(1, timeout_ms=5))
        clock.forward(60 * 1_000_000)
        result = await propose(later, *steps(2, timeout_ms=5))
    assert kinds(limited_now) == ["rate_limited"]
    assert kinds(result) == [None, "budget_exceeded"]


@pytest.mark.parametrize("behavior", ["abort", "retry"])
@pytest.mark.parametrize(
    ("budget", "ran"),
    [
        ({"max_actions": 2}, 2),
        ({"max_tool_calls": 3}, 3),
        ({"max_tool_calls": 0}, 0),
        ({"max_actions": 100}, 6),
        ({"max_duration_ms": 0}, 0),
    ],
)
async def test_budget_of_a_proposal_stops_exactly_at_it_and_skips_the_rest(
    tmp_path: Path, behavior: str, budget: dict[str, Any], ran: int
) -> None:
    async with Driver(tmp_path, plan_config(budget={"proposal": budget})) as gate:
        await World().equip(gate, "step")
        result = await propose(gate, *steps(6, failure_behavior=behavior))
        next_one = await propose(gate, *steps(1))
    assert result["status"] == "completed"
    assert statuses(result) == ["succeeded"] * ran + ["skipped"] * (6 - ran)
    assert set(kinds(result)[ran:]) <= {"budget_exceeded"}
    assert statuses(next_one) == (["succeeded"] if ran else ["skipped"])


async def test_duration_budget_counts_what_bodies_took(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    budget = {"proposal": {"max_duration_ms": 5}}
    async with Driver(tmp_path, plan_config(budget=budget)) as gate:
        await gate.tool("step")
        proposed = sent(gate, *steps(2))
        loop.call_later(0.008, gate.answer, await gate.runs.get(), None)
        result = await proposed
    assert kinds(result) == [None, "budget_exceeded"]


async def test_state_actions_need_no_room_among_tool_calls(tmp_path: Path) -> None:
    budget = {"proposal": {"max_tool_calls": 1}}
    async with Driver(tmp_path, plan_config(budget=budget)) as gate:
        await World().equip(gate, "step")
        result = await propose(gate, write("w", "k", 1), *steps(1), read("r", "k"))
    assert statuses(result) == ["succeeded"] * 3


async def test_every_attempt_counts_as_a_tool_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolgate.kernel.attempts.FIRST_WAIT", 0.0)
    budget = {"proposal": {"max_tool_calls": 2}}
    async with Driver(tmp_path, plan_config(budget=budget)) as gate:
        await gate.tool("step", lambda args: 1, returns={"type": "string"})
        await gate.tool("step-fails")
        proposed = sent(gate, call("a", "step-fails", failure_behavior="retry"), call("b"))
        for _ in range(2):
            gate.fail(await gate.runs.get(), "no")
        result = await proposed
    assert kinds(result) == ["execution_failed", "budget_exceeded"]
    assert of(result, "a")["attempts"] == 2


async def test_budget_of_a_session_is_shared_by_its_gates_and_plans(tmp_path: Path) -> None:
    world = World()
    changes = {"budget": {"session": {"max_actions": 5}}}
    async with (
        Driver(tmp_path, plan_config(**changes)) as one,
        Driver(tmp_path, plan_config(**changes)) as two,
    ):
        for gate in (one, two):
            await world.equip(gate, "step")
        asked = [sent(gate, *steps(4, failure_behavior="retry")) for gate in (one, two)]
        results = await asyncio.gather(*asked)
        single = await one.govern("step")
    async with Driver(tmp_path, plan_config(**changes)) as gate:
        await world.equip(gate, "step")
        after = await propose(gate, *steps(1))
    found = sorted((kind for result in results for kind in kinds(result)), key=str)
    assert found == [None] * 5 + ["budget_exceeded"] * 3
    assert single["error"]["kind"] == "budget_exceeded"
    assert kinds(after) == ["budget_exceeded"]
    assert len(world.done) == 5


async def test_held_plan_has_the_budget_left_that_it_would_have_had(tmp_path: Path) -> None:
    budget = {"proposal": {"max_tool_calls": 2, "max_actions": 4}}
    plan = [write("w", "k", 1), read("r", "k"), call("pay", "pay"), call("a"), read("over", "k")]
    async with Driver(tmp_path, plan_config(budget=budget)) as gate:
        await World().equip(gate, "step", "pay")
        held = await propose(gate, *plan)
    async with Driver(tmp_path, plan_config(budget=budget)) as later:
        await World().equip(later, "step", "pay")
        later.approve(of(held, "pay")["uid"], ALICE, tmp_path)
        result = (await later.request("resume", uid=held["uid"]))["proposal"]
    assert statuses(held) == ["succeeded", "succeeded", "held", "proposed", "proposed"]
    assert kinds(result) == [None, None, None, None, "budget_exceeded"]


async def test_plan_whose_budget_is_used_up_asks_nobody_any_more(tmp_path: Path) -> None:
    budget = {"proposal": {"max_actions": 2}}
    async with Driver(tmp_path, plan_config(budget=budget)) as gate:
        await World().equip(gate, "step", "pay")
        result = await propose(gate, call("pay", "pay", **SKIP), *steps(3, **SKIP))
        again = await gate.request("resume", uid=of(result, "pay")["uid"])
        holds = await gate.request("holds", status="pending")
    assert result["status"] == "completed"
    assert kinds(result) == ["budget_exceeded", None, None, "budget_exceeded"]
    assert timeless(again["proposal"]) == timeless(result)
    assert holds["holds"] == []


async def test_released_action_needs_a_token_as_well(tmp_path: Path) -> None:
    tools = {"pay": {"rate_limit": {"max_calls": 1, "interval_secs": 0.05}}}
    async with Driver(tmp_path, plan_config(tools=tools)) as gate:
        await World().equip(gate, "pay")
        held = await propose(
            gate, *(call(f"p{n}", "pay", parameters={"n": n}, **SKIP) for n in "ab")
        )
        for item in held["results"]:
            gate.approve(item["uid"], ALICE, tmp_path)
        result = (await gate.request("resume", uid=held["uid"]))["proposal"]
    assert statuses(result) == ["succeeded"] * 2


async def test_plan_that_is_too_big_is_rejected_as_a_whole(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config(capabilities={"max_actions": 2})) as gate:
        await World().equip(gate, "step")
        result = await propose(gate, *steps(3))
        small = await propose(gate, *steps(2))
    assert kinds(result) == ["capability_denied"] * 3
    assert (result["status"], small["status"]) == ("aborted", "completed")
    assert len(gate.ran) == 2


async def test_cancelled_call_that_waits_for_a_token_is_cancelled_not_rejected(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, plan_config(**limited(1, 1000, timeout="2000s"))) as gate:
        await World().equip(gate, "step")
        plan = sent(gate, *steps(2))
        while not gate.ran:
            await gate.request("ping")
        await gate.request("ping")
        gate.cancel(plan)
        result = await plan
        single = gate.send("govern", tool="step", args={})
        await gate.request("ping")
        gate.cancel(single)
        outcome = await single
    assert result["status"] == "aborted"
    assert kinds(result) == [None, "cancelled"]
    assert outcome["error"]["kind"] == "cancelled"


async def test_plan_that_waits_for_a_token_at_shutdown_goes_on_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    changes = limited(1, 1000, timeout="2000s")
    async with Driver(tmp_path, plan_config(**changes)) as gate:
        await World().equip(gate, "step")
        plan = sent(gate, *steps(2))
        while not gate.ran:
            await gate.request("ping")
        await gate.request("ping")
        await gate.request("shutdown")
        suspended = await plan
    clock.forward(1000 * 1_000_000)
    async with Driver(tmp_path, plan_config(**changes)) as later:
        await World().equip(later, "step")
        resumed = await later.request("resume", uid=suspended["uid"])
    assert statuses(suspended) == ["succeeded", "proposed"]
    assert suspended["status"] == "suspended"
    assert statuses(resumed["proposal"]) == ["succeeded"] * 2
