"""Calls that are given a recorded result: deduplication, the cache, and idempotency keys."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.clock import Clock
from support.driver import Driver
from support.people import ALICE
from support.plans import (
    FAIL,
    World,
    call,
    events,
    kinds,
    needs,
    of,
    plan_config,
    propose,
    read,
    sent,
    statuses,
    timeless,
    write,
)
from toolgate.wire.messages import RPCError

SECOND = 1_000_000


@pytest.mark.parametrize("who", ["plan", "client", "operator"])
async def test_idempotent_call_that_succeeded_is_given_its_result(tmp_path: Path, who: str) -> None:
    tools = {"step": {"idempotent": True}} if who == "operator" else {}
    action = call("a", parameters={"n": 1, "m": 2}, idempotent=who == "plan")
    swapped = {**action, "id": "b", "parameters": {"m": 2, "n": 1}}
    other = {**action, "id": "c", "parameters": {"n": 2, "m": 2}}
    async with Driver(tmp_path, plan_config(tools=tools)) as gate:
        await World().equip(gate, "step", idempotent=who == "client")
        result = await propose(gate, action, swapped, other)
        again = await propose(gate, action)
    outputs = [item["output"]["number"] for item in (*result["results"], *again["results"])]
    assert outputs == [1, 1, 2, 1]
    assert [item["attempts"] for item in result["results"]] == [1, 0, 1]
    assert result["cost"]["tool_calls"] == 3
    assert len(gate.ran) == 2


async def test_result_is_remembered_in_its_session_only_and_by_all_its_gates(
    tmp_path: Path,
) -> None:
    action = call("a", idempotent=True)
    world = World()
    sessions = ["s", "s", "other"]
    numbers = []
    for session in sessions:
        async with Driver(tmp_path, plan_config(session=session)) as gate:
            await world.equip(gate, "step")
            numbers.append(of(await propose(gate, action), "a")["output"]["number"])
    assert numbers == [1, 1, 2]


async def test_neither_failures_nor_calls_that_are_not_idempotent_are_remembered(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        more: dict[str, Any] = {"failure_behavior": "skip"}
        proposed = sent(
            gate,
            call("a", idempotent=True, **more),
            call("b", idempotent=True, dependencies=["c"], **more),
            call("c", idempotent=False, parameters={"n": 1}, **more),
            call("d", idempotent=False, parameters={"n": 1}, dependencies=["b"], **more),
        )
        first = [await gate.runs.get() for _ in range(2)]
        gate.fail(first[0], "no")
        gate.answer(first[1], 1)
        gate.answer(await gate.runs.get(), 2)
        gate.answer(await gate.runs.get(), 3)
        result = await proposed
    assert statuses(result) == ["skipped", "succeeded", "succeeded", "succeeded"]
    assert len(gate.ran) == 4


async def test_state_actions_are_never_deduplicated(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        result = await propose(
            gate,
            write("a", "k", 1, idempotent=True),
            read("b", "k", idempotent=True),
            write("c", "k", 2, idempotent=True),
            write("d", "k", 1, idempotent=True),
            write("e", "k", 3, idempotent=True),
            read("f", "k", idempotent=True),
        )
    assert [of(result, name)["output"] for name in "bf"] == [1, 3]
    assert [item["attempts"] for item in result["results"]] == [1] * 6


async def test_repeat_bypasses_no_precondition_and_commits_its_own_effects(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step")
        result = await propose(
            gate,
            call("a", idempotent=True, expected_effects={"k": "a"}),
            call("b", idempotent=True, preconditions=needs("k", "eq", "b")),
            call("c", idempotent=True, expected_effects={"k": "c"}),
            read("d", "k"),
            call("e", idempotent=True, expected_effects={"locked": 1}),
        )
        log = events(gate)
    assert statuses(result) == ["succeeded", "rejected", "succeeded", "succeeded", "rejected"]
    assert of(result, "c")["state_changes"] == {"k": "c"}
    assert of(result, "d")["output"] == "c"
    assert len(gate.ran) == 1
    told = [event.kind for event in log if event.action == of(result, "c")["uid"]]
    assert told[-1] == "action.deduplicated"


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    effects=st.lists(st.sampled_from(["allow", "deny", "hold"]), min_size=1, max_size=3),
    remembering=st.sampled_from(["idempotent", "cache_ttl"]),
    capable=st.booleans(),
)
def test_repeat_bypasses_no_rule_that_was_added_since(
    tmp_path: Path, effects: list[str], remembering: str, capable: bool
) -> None:
    tools = {"step": {remembering: True if remembering == "idempotent" else "1h"}}
    added = [
        {"id": f"r{n}", "tools": ["step"], "effect": effect} for n, effect in enumerate(effects)
    ]
    capabilities = {} if capable else {"tools": {"deny": ["step"]}}

    async def run() -> tuple[Any, Any, int]:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        world = World()
        async with Driver(folder, plan_config(tools=tools)) as gate:
            await world.equip(gate, "step")
            await propose(gate, call("a"))
        strict = plan_config(*added, tools=tools, capabilities=capabilities)
        async with Driver(folder, strict) as gate:
            await world.equip(gate, "step")
            single = await gate.govern("step")
            return single, await propose(gate, call("a")), len(world.done)

    single, result, ran = asyncio.run(asyncio.wait_for(run(), 20))
    expected = "succeeded"
    if not capable or "deny" in effects:
        expected = "rejected"
    elif "hold" in effects:
        expected = "held"
    assert single["status"] == of(result, "a")["status"] == expected
    assert ran == 1


async def test_cached_result_is_given_while_it_is_fresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    numbers = []
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", cache_ttl_secs=60)
        for wait in (0, 59, 2, 59):
            clock.forward(wait * SECOND)
            numbers.append(of(await propose(gate, call("a")), "a")["output"]["number"])
    assert numbers == [1, 1, 2, 2]


async def test_repeat_uses_up_no_limit(tmp_path: Path) -> None:
    changes: dict[str, Any] = {
        "tools": {"step": {"rate_limit": {"max_calls": 1, "interval_secs": 1000}}},
        "budget": {"proposal": {"max_tool_calls": 1, "max_actions": 1}},
    }
    async with Driver(tmp_path, plan_config(**changes)) as gate:
        await World().equip(gate, "step", idempotent=True)
        result = await propose(gate, call("a"), call("b"), call("c"))
    assert statuses(result) == ["succeeded"] * 3


async def test_rollback_forgets_what_it_undid_and_nothing_else(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", "step-other", idempotent=True)
        kept = await propose(gate, call("a"))
        aborted = await propose(gate, call("a"), call("b", "step-other"), FAIL)
        after = await propose(gate, call("a"), call("b", "step-other"))
    assert of(kept, "a")["output"]["number"] == of(after, "a")["output"]["number"] == 1
    assert statuses(aborted) == ["succeeded", "succeeded", "failed"]
    assert [item["rolled_back"] for item in aborted["results"]] == [True, True, False]
    assert of(after, "b")["output"]["number"] == 3


async def test_repeat_of_anothers_action_is_not_compensated(tmp_path: Path) -> None:
    undo = {"type": "tool", "tool": "undo", "parameters": {}}
    book = call("book", idempotent=True, reversibility="compensable", compensation=undo)
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", "undo")
        await propose(gate, book)
        aborted = await propose(gate, book, FAIL)
    assert aborted["rollback"]["compensations"] == []
    assert aborted["rollback"]["external_effects"] == []
    assert gate.ran == [("step", {})]


async def test_compensation_runs_again_however_often_it_ran_before(tmp_path: Path) -> None:
    undo = {"type": "tool", "tool": "undo", "parameters": {"seat": 1}}
    book = call("book", idempotent=True, reversibility="compensable", compensation=undo)
    async with Driver(tmp_path, plan_config(tools={"undo": {"cache_ttl": "1h"}})) as gate:
        await World().equip(gate, "step", "undo", idempotent=True)
        await propose(gate, call("by hand", "undo", parameters={"seat": 1}))
        for _ in range(2):
            await propose(gate, book, FAIL)
    assert [name for name, _ in gate.ran] == ["undo", *["step", "undo"] * 2]


async def test_key_of_a_proposal_names_one_proposal_for_ever(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step")
        first = await propose(gate, call("a"), idempotency_key="k")
        again = await propose(gate, call("a"), idempotency_key="k")
        with pytest.raises(RPCError, match="names another proposal") as refused:
            await propose(gate, call("b"), idempotency_key="k")
        other = await propose(gate, call("a"), idempotency_key="other")
    async with Driver(tmp_path, plan_config(session="t")) as later:
        much_later = await propose(later, call("a"), idempotency_key="k")
    assert refused.value.code == -32602
    assert timeless(first) == timeless(again) == timeless(much_later)
    assert other["uid"] != first["uid"]
    assert len(gate.ran) == 2
    assert later.ran == []


async def test_key_of_a_plan_that_was_refused_or_aborted_gives_its_end(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        refused = [await propose(gate, call("a"), call("a"), idempotency_key="1") for _ in "ab"]
        aborted = [await propose(gate, write("w", "k", 1), FAIL, idempotency_key="2") for _ in "ab"]
    for first, second in (refused, aborted):
        assert first["status"] == "aborted"
        assert timeless(first) == timeless(second)


async def test_key_of_a_suspended_plan_resumes_it(tmp_path: Path) -> None:
    plan = [call("a", "pay"), call("b", parameters={"x": "$a.output.number"})]
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay", "step")
        held = await propose(gate, *plan, idempotency_key="k")
        still = await propose(gate, *plan, idempotency_key="k")
        gate.approve(of(held, "a")["uid"], ALICE, tmp_path)
        done = await propose(gate, *plan, idempotency_key="k")
    assert [statuses(result) for result in (held, still, done)] == [
        ["held", "proposed"],
        ["held", "proposed"],
        ["succeeded", "succeeded"],
    ]
    assert timeless(held) == timeless(still)
    assert done["uid"] == held["uid"]


async def test_key_of_a_running_plan_waits_for_its_end(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        one = sent(gate, call("a"), idempotency_key="k")
        run = await gate.runs.get()
        two = sent(gate, call("a"), idempotency_key="k")
        three = sent(gate, call("a"), idempotency_key="k")
        await gate.request("ping")
        gate.cancel(three)
        left = await three
        gate.answer(run, "done")
        assert timeless(await one) == timeless(await two)
    assert (await one)["status"] == "completed"
    assert left["status"] == "running"
    assert statuses(left) == ["executing"]
    assert len(gate.ran) == 1


async def test_two_proposals_at_once_with_one_key_are_one(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as one, Driver(tmp_path, plan_config()) as two:
        world = World()
        await world.equip(one, "step")
        await world.equip(two, "step")
        plan = [call("a"), call("b", parameters={"n": 1})]
        asked = [sent(gate, *plan, idempotency_key="k") for gate in (one, two, one, two)]
        results = await asyncio.gather(*asked)
        final = [await propose(gate, *plan, idempotency_key="k") for gate in (one, two)]
    assert len({result["uid"] for result in results}) == 1
    assert timeless(final[0]) == timeless(final[1])
    assert statuses(final[0]) == ["succeeded"] * 2
    assert len(world.done) == 2


async def test_denied_call_is_denied_again_in_a_plan_without_asking(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay")
        held = await propose(gate, call("a", "pay"))
        gate.approve(of(held, "a")["uid"], ALICE, tmp_path, "deny")
        await gate.request("resume", uid=held["uid"])
        again = await propose(gate, call("a", "pay"))
        single = await gate.govern("pay")
    assert kinds(again) == ["approval_denied"]
    assert single["error"]["kind"] == "approval_denied"


async def test_single_call_does_not_join_the_hold_of_a_plan(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay")
        held = await propose(gate, call("a", "pay", expected_effects={"paid": True}))
        gate.approve(of(held, "a")["uid"], ALICE, tmp_path)
        single = await gate.govern("pay")
    assert single["status"] == "held"
    assert single["uid"] != of(held, "a")["uid"]
    assert gate.ran == []
