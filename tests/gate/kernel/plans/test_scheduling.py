"""When the actions of a plan start: as soon as they may, and never before."""

from __future__ import annotations

import asyncio
import random
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.driver import Driver
from support.plans import World, call, plan_config, propose, read, sent, statuses, write

RETRY: dict[str, Any] = {"failure_behavior": "retry"}
PROPERTY = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


async def run_in_any_order(gate: Driver, proposed: Any, chance: random.Random) -> list[str]:
    """Answer a plan's bodies by chance, and return what started and ended in order.

    A start is an action's name, an end that name in parentheses.
    """
    history: list[str] = []
    under_way: list[dict[str, Any]] = []
    while not proposed.done():
        await gate.request("ping")
        while not gate.runs.empty():
            under_way.append(gate.runs.get_nowait())
            history.append(under_way[-1]["params"]["args"]["name"])
        if under_way and chance.random() < 0.7:
            run = under_way.pop(chance.randrange(len(under_way)))
            history.append(f"({run['params']['args']['name']})")
            gate.answer(run, None)
    return history


async def test_independent_actions_run_at_once(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        proposed = sent(gate, *(call(f"a{n}", parameters={"n": n}, **RETRY) for n in range(10)))
        runs = [await gate.runs.get() for _ in range(10)]
        for run in runs:
            gate.answer(run, run["params"]["args"]["n"])
        result = await proposed
    assert [item["output"] for item in result["results"]] == list(range(10))


async def test_ten_tools_of_ten_milliseconds_overlap(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    took = {}
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        for behavior in ("abort", "retry"):
            started = loop.time()
            more = {"failure_behavior": behavior}
            proposed = sent(gate, *(call(f"a{n}", parameters={"n": n}, **more) for n in range(10)))
            for _ in range(10):
                loop.call_later(0.010, gate.answer, await gate.runs.get(), None)
            assert statuses(await proposed) == ["succeeded"] * 10
            took[behavior] = loop.time() - started
    assert took["abort"] >= 0.1
    assert took["retry"] < took["abort"] / 2


async def test_plans_run_in_listed_order_unless_they_say_otherwise(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        proposed = sent(gate, *(call(f"a{n}", parameters={"n": n}) for n in range(4)))
        for n in range(4):
            run = await gate.runs.get()
            await gate.request("ping")
            assert run["params"]["args"] == {"n": n}
            assert gate.runs.empty()
            gate.answer(run, None)
        await proposed


async def test_one_ready_action_that_would_abort_makes_all_run_one_by_one(tmp_path: Path) -> None:
    actions = [call(f"a{n}", parameters={"name": f"a{n}"}, **RETRY) for n in range(4)]
    actions[2]["failure_behavior"] = "abort"
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        proposed = sent(gate, *actions)
        history = await run_in_any_order(gate, proposed, random.Random(1))
    assert history == ["a0", "(a0)", "a1", "(a1)", "a2", "(a2)", "a3", "(a3)"]


async def test_no_more_run_at_once_than_the_operator_allows(tmp_path: Path) -> None:
    changes = {"limits": {"max_concurrency": 3}}
    async with Driver(tmp_path, plan_config(**changes)) as gate:
        await gate.tool("step")
        proposed = sent(gate, *(call(f"a{n}", parameters={"n": n}, **RETRY) for n in range(7)))
        under_way = [await gate.runs.get() for _ in range(3)]
        for _ in range(4):
            await gate.request("ping")
            assert gate.runs.empty()
            gate.answer(under_way.pop(), None)
            under_way.append(await gate.runs.get())
        for run in under_way:
            gate.answer(run, None)
        result = await proposed
    assert statuses(result) == ["succeeded"] * 7


async def test_nobody_waits_for_what_it_does_not_need(tmp_path: Path) -> None:
    actions = [
        call("slow", parameters={"name": "slow"}, **RETRY),
        call("quick", parameters={"name": "quick"}, **RETRY),
        call("after", parameters={"name": "after"}, dependencies=["quick"], **RETRY),
    ]
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        proposed = sent(gate, *actions)
        slow, quick = await gate.runs.get(), await gate.runs.get()
        gate.answer(quick, None)
        after = await gate.runs.get()
        gate.answer(after, None)
        gate.answer(slow, None)
        assert after["params"]["args"] == {"name": "after"}
        assert statuses(await proposed) == ["succeeded"] * 3


async def test_dependency_listed_later_runs_first(tmp_path: Path) -> None:
    world = World()
    async with Driver(tmp_path, plan_config()) as gate:
        await world.equip(gate, "step")
        result = await propose(
            gate,
            call("a", parameters={"of": "$b.output.number"}),
            call("b", parameters={"of": "$c.output.number"}),
            call("c"),
        )
    assert statuses(result) == ["succeeded"] * 3
    assert [args for _, args in world.done] == [{}, {"of": 1}, {"of": 2}]


async def test_32_reader_listed_between_two_writers_runs_between_them(tmp_path: Path) -> None:
    actions = [
        write("one", "k", 1, **RETRY),
        read("first", "k", **RETRY),
        write("two", "k", 2, **RETRY),
        read("second", "k", **RETRY),
        call("three", expected_effects={"k": 3}, **RETRY),
        read("third", "k", **RETRY),
    ]
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step")
        result = await propose(gate, *actions)
    outputs = {item["action_id"]: item["output"] for item in result["results"]}
    assert [outputs[name] for name in ("first", "second", "third")] == [1, 2, 3]


async def test_thousand_actions_cost_what_a_hundred_cost_each(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    took = {}
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step", lambda args: None)
        for count in (100, 1000):
            names = [f"a{n}" for n in range(count)]
            before = [None, *names]
            actions = [
                call(name, parameters={"n": name}, dependencies=[waits] if waits else [])
                for name, waits in zip(names, before, strict=False)
            ]
            started = loop.time()
            result = await propose(gate, *actions)
            took[count] = (loop.time() - started) / count
            assert statuses(result) == ["succeeded"] * count
    assert took[1000] < 5 * took[100]


@st.composite
def plans(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Return plans of tool calls that wait for others, read keys and write keys."""
    count = draw(st.integers(1, 8))
    actions = []
    for n in range(count):
        waits = draw(st.sets(st.integers(0, n - 1), max_size=2)) if n else set()
        refers = draw(st.sets(st.integers(0, n - 1), max_size=1)) if n else set()
        parameters: dict[str, Any] = {"name": f"a{n}"}
        parameters |= {"refers": [f"$a{m}.output" for m in sorted(refers)]}
        actions.append(
            call(
                f"a{n}",
                parameters=parameters,
                dependencies=[f"a{m}" for m in sorted(waits)],
                state_dependencies=draw(st.lists(st.sampled_from("xyz"), max_size=2, unique=True)),
                expected_effects=dict.fromkeys(
                    draw(st.lists(st.sampled_from("xyz"), max_size=2, unique=True)), n
                ),
                failure_behavior=draw(st.sampled_from(["retry", "skip", "retry", "abort"])),
            )
        )
    return actions


def edges(actions: list[dict[str, Any]]) -> set[tuple[str, str]]:
    """Return which action must have ended before which starts, by the words of the rule."""
    found = set()
    for later, action in enumerate(actions):
        named = set(action["dependencies"])
        named |= {text.split(".")[0][1:] for text in action["parameters"]["refers"]}
        found |= {(name, action["id"]) for name in named}
        for other in actions[:later]:
            touched = set(action["expected_effects"]) | set(action["state_dependencies"])
            wrote = set(other["expected_effects"])
            read_there = set(other["state_dependencies"])
            if touched & wrote or set(action["expected_effects"]) & read_there:
                found.add((other["id"], action["id"]))
    return found


@PROPERTY
@given(actions=plans(), seed=st.integers(0, 1000))
def test_order_of_execution_respects_every_edge(
    tmp_path: Path, actions: list[dict[str, Any]], seed: int
) -> None:
    async def run() -> tuple[Any, list[str]]:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        async with Driver(folder, plan_config(state={"x": 0, "y": 0, "z": 0})) as gate:
            await gate.tool("step")
            proposed = sent(gate, *actions)
            return proposed, await run_in_any_order(gate, proposed, random.Random(seed))

    proposed, history = asyncio.run(asyncio.wait_for(run(), 20))
    result = proposed.result()
    assert [item["action_id"] for item in result["results"]] == [a["id"] for a in actions]
    assert statuses(result) == ["succeeded"] * len(actions)
    for before, after in edges(actions):
        assert history.index(f"({before})") < history.index(after)
    aborting = {action["id"] for action in actions if action["failure_behavior"] == "abort"}
    for name in aborting:
        alone = history[history.index(name) : history.index(f"({name})") + 1]
        assert alone == [name, f"({name})"]


@pytest.mark.parametrize("seed", range(3))
async def test_wide_plan_in_any_order_of_answers_is_complete(tmp_path: Path, seed: int) -> None:
    actions = [call(f"a{n}", parameters={"name": f"a{n}"}, **RETRY) for n in range(40)]
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        proposed = sent(gate, *actions)
        history = await run_in_any_order(gate, proposed, random.Random(seed))
    assert statuses(proposed.result()) == ["succeeded"] * 40
    assert len(history) == 80
