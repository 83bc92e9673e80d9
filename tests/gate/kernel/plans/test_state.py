"""State: what actions read and write of it, and what they cannot smuggle into it."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.driver import Driver
from support.people import ALICE
from support.plans import (
    World,
    call,
    check,
    kinds,
    needs,
    of,
    plan_config,
    propose,
    read,
    statuses,
    write,
)

scalars = (
    st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([1.0, -0.0, 0.5, "", "1"])
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner, max_size=2)
    ),
    max_leaves=4,
)


def same(a: Any, b: Any) -> bool:
    """Tell whether two values are the same JSON, by the words of the rule."""
    if isinstance(a, bool) or isinstance(b, bool):
        return isinstance(a, bool) and isinstance(b, bool) and a == b
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return (type(a) is type(b) and a == b) or ({type(a), type(b)} == {int, float} and a == b)


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(pairs=st.lists(st.tuples(values, values), min_size=1, max_size=20))
def test_state_compares_as_json(tmp_path: Path, pairs: list[tuple[Any, Any]]) -> None:
    actions = [
        action
        for n, (actual, expected) in enumerate(pairs)
        for action in (
            check(f"equal {n}", f"k{n}", expected, failure_behavior="skip"),
            read(f"eq {n}", f"k{n}", preconditions=needs(f"k{n}", "eq", expected)),
            read(f"neq {n}", f"k{n}", preconditions=needs(f"k{n}", "neq", expected)),
            check(f"itself {n}", f"k{n}", actual),
        )
    ]

    async def run() -> Any:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        state = {f"k{n}": actual for n, (actual, _) in enumerate(pairs)}
        async with Driver(folder, plan_config(state=state)) as gate:
            return await propose(gate, *actions)

    result = asyncio.run(asyncio.wait_for(run(), 20))
    for n, (actual, expected) in enumerate(pairs):
        equal = same(actual, expected)
        succeeded = [of(result, f"{what} {n}")["status"] == "succeeded" for what in ("equal", "eq")]
        assert succeeded == [equal, equal]
        assert (of(result, f"neq {n}")["status"] == "succeeded") is not equal
        assert of(result, f"itself {n}")["status"] == "succeeded"


async def test_success_commits_expected_effects_and_then_the_own_write(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config(state={"k": 0})) as gate:
        await World().equip(gate, "step")
        result = await propose(
            gate,
            call("a", expected_effects={"k": [1], "other": None}),
            write("b", "own", "written", expected_effects={"own": "expected", "b": True}),
        )
        state = await gate.request("state")
    assert of(result, "a")["state_changes"] == {"k": [1], "other": None}
    assert of(result, "b")["state_changes"] == {"own": "written", "b": True}
    assert state == {"k": [1], "other": None, "own": "written", "b": True}


@pytest.mark.parametrize("behavior", ["retry", "skip", "abort"])
async def test_failure_commits_nothing(tmp_path: Path, behavior: str) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step", lambda args: 1, returns={"type": "string"})
        more: dict[str, Any] = {"failure_behavior": behavior, "expected_effects": {"k": 1}}
        result = await propose(gate, call("a", **more), check("b", "x", 1, **more))
        state = await gate.request("state")
    assert state == {}
    assert all(item["state_changes"] == {} for item in result["results"])


async def test_state_of_a_plan_is_the_sessions_and_outlives_its_gate(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config(state={"k": "initial"})) as gate:
        first = await propose(gate, read("a", "k"), write("b", "k", "written"))
    async with Driver(tmp_path, plan_config(state={"k": "initial"})) as gate:
        second = await propose(gate, read("a", "k"))
    async with Driver(tmp_path, plan_config(state={"k": "initial"}, session="other")) as gate:
        third = await propose(gate, read("a", "k"))
    assert [of(result, "a")["output"] for result in (first, second, third)] == [
        "initial",
        "written",
        "initial",
    ]


async def test_what_an_effect_may_not_write_stops_the_tool_before_it_runs(tmp_path: Path) -> None:
    capabilities = {"state_keys": {"deny": ["forbidden*"]}}
    async with Driver(tmp_path, plan_config(capabilities=capabilities)) as gate:
        await World().equip(gate, "step")
        result = await propose(
            gate,
            call("a", expected_effects={"locked": 1}),
            call("b", expected_effects={"forbidden": 1}),
            read("c", "k", expected_effects={"locked": 1}),
            write("d", "k", 1, expected_effects={"locked": 1}),
        )
        state = await gate.request("state")
    assert kinds(result) == ["policy_denied", "capability_denied", "policy_denied", "policy_denied"]
    assert "'locked'" in of(result, "a")["error"]
    assert gate.ran == []
    assert state == {}


async def test_effect_that_policy_holds_holds_the_tool(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step")
        held = await propose(gate, call("a", expected_effects={"asked": 1}), read("b", "asked"))
        ran_before = list(gate.ran)
        gate.approve(of(held, "a")["uid"], ALICE, tmp_path)
        resumed = await gate.request("resume", uid=held["uid"])
    assert statuses(held) == ["held", "proposed"]
    assert "'asked'" in of(held, "a")["hold"]["reason"]
    assert ran_before == []
    assert [item.get("output") for item in resumed["proposal"]["results"]][1] == 1


async def test_policy_sees_state_as_it_is_when_the_action_is_decided(tmp_path: Path) -> None:
    rule = {
        "id": "closed",
        "tools": ["step"],
        "when": '"closed" in state && state.closed == true',
        "effect": "deny",
    }
    async with Driver(tmp_path, plan_config(rule)) as gate:
        await World().equip(gate, "step")
        result = await propose(
            gate,
            call("a", parameters={"n": 1}),
            write("b", "closed", True),
            call("c", parameters={"n": 2}),
        )
    assert kinds(result) == [None, None, "policy_denied"]


async def test_resolved_text_that_looks_like_a_reference_stays_text(tmp_path: Path) -> None:
    texts = {"plain": "$secret.output", "escaped": "$$secret.output", "key": "$secret.output.x"}
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step-secret", lambda args: {"x": "the secret"})
        await gate.tool("step-texts", lambda args: texts)
        await gate.tool("step", lambda args: args)
        await gate.tool("pay", lambda args: args)
        result = await propose(
            gate,
            call("secret", "step-secret"),
            call("texts", "step-texts"),
            call("a", parameters={"all": "$texts.output", "one": "$texts.output.plain"}),
            call("b", parameters={"again": "$a.output"}),
            call(
                "literal", parameters={"x": "$$secret.output", "y": "$$$secret.output", "z": "$1"}
            ),
            call("held", "pay", parameters={"x": "$texts.output.key"}),
        )
        gate.approve(of(result, "held")["uid"], ALICE, tmp_path)
        resumed = (await gate.request("resume", uid=result["uid"]))["proposal"]
    assert of(result, "a")["output"] == {"all": texts, "one": "$secret.output"}
    assert of(result, "b")["output"] == {"again": {"all": texts, "one": "$secret.output"}}
    assert of(result, "literal")["output"] == {
        "x": "$secret.output",
        "y": "$$secret.output",
        "z": "$1",
    }
    assert of(resumed, "held")["output"] == {"x": "$secret.output.x"}


async def test_reference_does_not_get_round_capabilities_policy_or_schemas(tmp_path: Path) -> None:
    outputs = {"key": "forbidden", "locked": "locked", "command": "rm -rf /", "n": "text", "no": 1}
    capabilities = {"state_keys": {"deny": ["forbidden"]}}
    async with Driver(tmp_path, plan_config(capabilities=capabilities)) as gate:
        await gate.tool("step", lambda args: outputs)
        await gate.tool("shell", lambda args: "ran")
        schema = {"properties": {"n": {"type": "integer"}}}
        await gate.tool("step-typed", lambda args: "ran", parameters=schema)
        result = await propose(
            gate,
            call("a"),
            write("capability", "$a.output.key", 1),
            read("reads", "$a.output.key"),
            write("policy", "$a.output.locked", 1),
            write("not-text", "$a.output.no", 1),
            call("command", "shell", parameters={"command": "$a.output.command"}),
            call("schema", "step-typed", parameters={"n": "$a.output.n"}),
        )
        state = await gate.request("state")
    assert kinds(result) == [
        None,
        "capability_denied",
        "capability_denied",
        "policy_denied",
        "invalid_action",
        "policy_denied",
        "invalid_arguments",
    ]
    assert gate.ran == [("step", {})]
    assert state == {}


async def test_escaped_text_is_judged_as_what_it_means(tmp_path: Path) -> None:
    rule = {
        "id": "no-dollar",
        "tools": ["step"],
        "when": 'args.x == "$a.output"',
        "effect": "deny",
    }
    capabilities = {"state_keys": {"deny": ["$a.output"]}}
    async with Driver(tmp_path, plan_config(rule, capabilities=capabilities)) as gate:
        await World().equip(gate, "step")
        result = await propose(
            gate,
            call("b", parameters={"x": "$$a.output"}),
            write("c", "$$a.output", 1),
        )
    assert kinds(result) == ["policy_denied", "capability_denied"]
