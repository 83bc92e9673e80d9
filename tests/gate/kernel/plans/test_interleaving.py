"""Two gates at once: whatever the order, the result is that of some order one by one."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.driver import Driver
from support.plans import call, check, events, needs, plan_config, read, sent, write
from toolgate import jsonvalue

PROPERTY = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
KEYS = st.sampled_from("xy")
VALUES = st.integers(0, 2)


@st.composite
def plans(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return plans that read and write two keys, wait for bodies, and end well or are undone."""
    actions = []
    for n in range(draw(st.integers(1, 5))):
        behavior = draw(st.sampled_from(["abort", "skip", "retry"]))
        more: dict[str, Any] = {"failure_behavior": behavior, "max_retries": 0}
        if draw(st.booleans()):
            operator = draw(st.sampled_from(["eq", "neq", "not_exists", "gte"]))
            more["preconditions"] = needs(draw(KEYS), operator, draw(VALUES))
        key, value = draw(KEYS), draw(VALUES)
        actions.append(
            draw(
                st.sampled_from(
                    [
                        write(f"a{n}", key, value, **more),
                        write(f"a{n}", key, value, **more),
                        read(f"a{n}", key, **more),
                        check(f"a{n}", key, value, **more),
                        call(f"a{n}", parameters={"n": n}, **more),
                        call(f"a{n}", parameters={"n": n}, expected_effects={key: value}, **more),
                    ]
                )
            )
        )
    return actions


async def together(
    folder: Path, config: dict[str, Any], proposals: list[list[dict[str, Any]]], seed: int
) -> tuple[list[Any], Any, list[Any]]:
    """Run plans in two gates, answering their bodies by chance: results, state and the log."""
    chance = random.Random(seed)
    async with Driver(folder, config) as one, Driver(folder, config) as two:
        gates = (one, two)
        for gate in gates:
            await gate.tool("step")
        asked = [sent(gates[n % 2], *actions) for n, actions in enumerate(proposals)]
        under_way: list[tuple[Driver, dict[str, Any]]] = []
        while not all(future.done() for future in asked):
            await chance.choice(gates).request("ping")
            for gate in gates:
                while not gate.runs.empty():
                    under_way.append((gate, gate.runs.get_nowait()))
            if under_way and chance.random() < 0.6:
                gate, run = under_way.pop(chance.randrange(len(under_way)))
                gate.answer(run, None)
        return [future.result() for future in asked], await one.request("state"), events(one)


def holds(condition: dict[str, Any], state: dict[str, Any]) -> bool:
    """Tell whether a precondition holds, of the operators and values that these plans have."""
    key, value, operator = condition["key"], condition["value"], condition["operator"]
    if key not in state or operator == "not_exists":
        return key not in state and operator == "not_exists"
    compared = {"eq": state[key] == value, "neq": state[key] != value, "gte": state[key] >= value}
    return compared[operator]


@PROPERTY
@given(proposals=st.lists(plans(), min_size=2, max_size=4), seed=st.integers(0, 10_000))
def test_state_is_that_of_the_same_actions_one_by_one_in_the_order_of_the_log(
    tmp_path: Path, proposals: list[list[dict[str, Any]]], seed: int
) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    results, final, log = asyncio.run(
        asyncio.wait_for(together(folder, plan_config(), proposals, seed), 20)
    )
    actions = {
        item["uid"]: (action, item)
        for result, proposed in zip(results, proposals, strict=True)
        for action, item in zip(proposed, result["results"], strict=True)
    }
    state: dict[str, Any] = {}
    versions: dict[str, list[tuple[str, Any]]] = {"x": [], "y": []}
    for event in log:
        if event.kind == "state.rolled_back":
            mine = {uid for uid in actions if uid.startswith(f"{event.action}-")}
            for stack in versions.values():
                while stack and stack[-1][0] in mine:
                    stack.pop()
            state = {key: stack[-1][1] for key, stack in versions.items() if stack}
        if event.action not in actions:
            continue
        action, item = actions[event.action]
        decided = event.kind in ("action.decided", "action.rejected")
        if decided and item.get("kind") in (None, "precondition_failed", "execution_failed"):
            met = all(holds(condition, state) for condition in action.get("preconditions", ()))
            assert met == (event.kind == "action.decided")
        if event.kind == "action.succeeded" and action["type"] == "state_read":
            assert jsonvalue.parse(event.data)["output"] == state.get(action["parameters"]["key"])
        if event.kind == "action.succeeded" and action["type"] == "assertion":
            assert state.get(action["parameters"]["key"]) == action["parameters"]["expected"]
        if event.kind == "action.succeeded":
            for key, value in item["state_changes"].items():
                versions[key].append((event.action, value))
                state[key] = value
    assert state == final


@PROPERTY
@given(
    counts=st.lists(st.integers(1, 5), min_size=2, max_size=4),
    budget=st.integers(0, 10),
    rate=st.integers(1, 10),
    seed=st.integers(0, 10_000),
)
def test_limits_let_through_exactly_what_they_allow(
    tmp_path: Path, counts: list[int], budget: int, rate: int, seed: int
) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    limits: dict[str, Any] = {
        "budget": {"session": {"max_tool_calls": budget}},
        "tools": {"step": {"rate_limit": {"max_calls": rate, "interval_secs": 100_000}}},
    }
    proposals = [
        [
            call(f"a{n}", parameters={"n": n}, failure_behavior="skip", timeout_ms=50)
            for n in range(count)
        ]
        for count in counts
    ]
    results, _, log = asyncio.run(
        asyncio.wait_for(together(folder, plan_config(**limits), proposals, seed), 20)
    )
    ran = sum(event.kind == "action.executing" for event in log)
    assert ran == min(sum(counts), budget, rate)
    assert ran == sum(item["attempts"] for result in results for item in result["results"])


@PROPERTY
@given(gates=st.integers(2, 6), seed=st.integers(0, 10_000))
def test_of_all_who_write_a_key_that_nobody_has_one_succeeds(
    tmp_path: Path, gates: int, seed: int
) -> None:
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    proposals = [
        [write("lock", "x", n, preconditions=needs("x", "not_exists"))] for n in range(gates)
    ]
    results, final, _ = asyncio.run(
        asyncio.wait_for(together(folder, plan_config(), proposals, seed), 20)
    )
    winners = [
        n for n, result in enumerate(results) if result["results"][0]["status"] == "succeeded"
    ]
    assert len(winners) == 1
    assert final == {"x": winners[0]}
