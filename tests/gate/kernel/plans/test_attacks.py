"""Plans of somebody who wants the gate to fall over, or to forget what it knows."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.plans import (
    World,
    call,
    kinds,
    plan_config,
    propose,
    read,
    statuses,
    write,
)
from toolgate.wire.messages import RPCError

SKIP: dict[str, Any] = {"failure_behavior": "skip"}


def nested(levels: int) -> Any:
    """Return a value nested so deeply."""
    value: Any = "bottom"
    for _ in range(levels):
        value = [value]
    return value


async def test_references_cannot_nest_values_deeper_than_can_be_read_again(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        result = await propose(
            gate,
            write("a", "k", nested(100), **SKIP),
            read("b", "k", **SKIP),
            write("c", "deep", [nested(40), "$b.output"], **SKIP),
            write("d", "deeper", {"x": nested(20), "y": [["$b.output"]]}, **SKIP),
        )
        state = await gate.request("state")
    assert statuses(result)[:2] == ["succeeded", "succeeded"]
    assert kinds(result)[2:] == [None, None]
    async with Driver(tmp_path, plan_config()) as gate:
        deeper = await propose(gate, read("r", "deep"), write("w", "k", [nested(30), "$r.output"]))
        assert set(await gate.request("state")) == set(state)
    assert kinds(deeper) == [None, None]


async def test_value_that_grows_too_deep_by_a_reference_rejects_its_action(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        value: dict[str, Any] = {"type": "state_write", **SKIP}
        result = await propose(
            gate,
            write("a", "k", nested(110), **SKIP),
            read("b", "k", **SKIP),
            {**value, "id": "c", "parameters": {"key": "d", "value": [[[["$b.output"]]]]}},
            {**value, "id": "d", "parameters": {"key": "e", "value": _around(30, "$b.output")}},
        )
        assert "d" in await gate.request("state")
    assert kinds(result) == [None, None, None, "dependency_failed"]
    assert "nested deeper" in result["results"][3]["error"]


def _around(levels: int, value: Any) -> Any:
    for _ in range(levels):
        value = [value]
    return value


async def test_references_cannot_double_a_value_without_end(tmp_path: Path) -> None:
    actions = [write("w0", "k0", "x" * 1000, **SKIP), read("r0", "k0", **SKIP)]
    for n in range(1, 40):
        twice = [f"$r{n - 1}.output"] * 2
        actions += [write(f"w{n}", f"k{n}", twice, **SKIP), read(f"r{n}", f"k{n}", **SKIP)]
    async with Driver(tmp_path, plan_config()) as gate:
        found = await gate.request("verify", proposal={"actions": actions})
        result = await propose(gate, *actions)
    assert not found["valid"]
    assert "dependency_failed" in kinds(result)
    assert any("larger than" in (item.get("error") or "") for item in result["results"])


async def test_refusal_of_a_large_plan_is_told_in_few_words(tmp_path: Path) -> None:
    actions = [call(f"a{n}", dependencies=[f"nobody{n}"]) for n in range(2000)]
    async with Driver(tmp_path, plan_config()) as gate:
        result = await propose(gate, *actions)
    assert len(result["error"]["details"]["problems"]) == 50
    assert "1950 problems more" in result["error"]["message"]
    assert all(len(item["error"]) < 300 for item in result["results"])


async def test_many_dependencies_of_one_action_take_no_time(tmp_path: Path) -> None:
    actions = [call("a", dependencies=[f"b{n}" for n in range(20_000)])]
    started = time.monotonic()
    async with Driver(tmp_path, plan_config()) as gate:
        result = await propose(gate, *actions)
    assert result["status"] == "aborted"
    assert time.monotonic() - started < 5


async def test_time_beyond_any_timer_is_refused_before_anything_runs(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        with pytest.raises(RPCError, match="timeout_ms"):
            await propose(gate, call("a"), call("b", timeout_ms=10**400))


async def test_state_that_may_not_be_read_is_not_told_by_the_wire(tmp_path: Path) -> None:
    secret = {
        "id": "secret",
        "types": ["state_read"],
        "when": 'args.key == "vault"',
        "effect": "deny",
    }
    config = plan_config(
        secret,
        state={"vault": "V4ULT", "hidden": 1, "plain": 2},
        capabilities={"state_keys": {"deny": ["hid*"]}},
    )
    copy = {"actions": [write("w", "copy", "$r.output"), read("r", "vault")]}
    async with Driver(tmp_path, config) as gate:
        assert await gate.request("state") == {"plain": 2}
        assert await gate.request("state", keys=["vault", "hidden", "plain"]) == {"plain": 2}
        simulated = await gate.request("simulate", proposal=copy)
    assert "V4ULT" not in str(simulated)


async def test_approver_signs_how_often_a_plan_may_try(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay")
        once = await propose(gate, call("a", "pay"))
        often = await propose(gate, call("a", "pay", failure_behavior="retry", max_retries=1000))
        holds = (await gate.request("holds"))["holds"]
    assert [hold["retries"] for hold in holds] == [0, 1000]
    assert once["status"] == often["status"] == "suspended"
