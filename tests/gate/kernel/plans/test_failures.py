"""What a failure means for a plan: each way to end, with each behaviour and each neighbour."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.plans import World, call, check, of, plan_config, propose, read, sent, statuses, write

BEHAVIORS = ["abort", "retry", "skip"]
NEIGHBOURS = ["before", "independent", "dependant", "referrer", "state_reader", "needs_state"]

ENDINGS: dict[str, dict[str, Any]] = {
    "fails": call("x", "step-fails", max_retries=1, expected_effects={"k": 1}),
    "fails by itself": check("x", "k", "what k is not", expected_effects={"k": 1}),
    "is rejected": call("x", expected_effects={"k": 1, "locked": 1}),
    "is in doubt": call("x", "step-hangs", timeout_ms=10, expected_effects={"k": 1}),
    "is held": call("x", "pay", expected_effects={"k": 1}),
    "succeeds": call("x", expected_effects={"k": 1}),
}

ABORTED = {
    "before": "succeeded",
    "independent": "skipped",
    "dependant": "skipped",
    "referrer": "skipped",
    "state_reader": "skipped",
    "needs_state": "skipped",
}
WENT_ON = {
    "before": "succeeded",
    "independent": "succeeded",
    "dependant": "rejected",
    "referrer": "rejected",
    "state_reader": "succeeded",
    "needs_state": "rejected",
}
WAITS = dict.fromkeys(NEIGHBOURS, "proposed") | {"before": "succeeded"}
ALL_WELL = dict.fromkeys(NEIGHBOURS, "succeeded")

TABLE: list[tuple[str, str, str, str, dict[str, str]]] = [
    ("fails", "abort", "failed", "aborted", ABORTED),
    ("fails", "retry", "failed", "completed", WENT_ON),
    ("fails", "skip", "skipped", "completed", WENT_ON),
    ("fails by itself", "abort", "failed", "aborted", ABORTED),
    ("fails by itself", "retry", "failed", "completed", WENT_ON),
    ("fails by itself", "skip", "skipped", "completed", WENT_ON),
    ("is rejected", "abort", "rejected", "completed", WENT_ON),
    ("is rejected", "retry", "rejected", "completed", WENT_ON),
    ("is rejected", "skip", "rejected", "completed", WENT_ON),
    ("is in doubt", "abort", "failed", "aborted", ABORTED),
    ("is in doubt", "retry", "failed", "completed", WENT_ON),
    ("is in doubt", "skip", "failed", "completed", WENT_ON),
    ("is held", "abort", "held", "suspended", WAITS),
    ("is held", "retry", "held", "suspended", WAITS | {"independent": "succeeded"}),
    ("is held", "skip", "held", "suspended", WAITS | {"independent": "succeeded"}),
    ("succeeds", "abort", "succeeded", "completed", ALL_WELL),
    ("succeeds", "retry", "succeeded", "completed", ALL_WELL),
    ("succeeds", "skip", "succeeded", "completed", ALL_WELL),
]
"""An action, its behaviour, what becomes of it, of its plan, and of each of its neighbours."""


def neighbours(behavior: str) -> list[dict[str, Any]]:
    """Return the neighbours that are listed after the action ``x``."""
    more: dict[str, Any] = {"failure_behavior": behavior}
    return [
        call("independent", parameters={"n": 1}, **more),
        call("dependant", parameters={"n": 2}, dependencies=["x"], **more),
        call("referrer", parameters={"n": 3, "x": "$x.output"}, **more),
        read("state_reader", "k", **more),
        call("needs_state", parameters={"n": 4}, state_dependencies=["k"], **more),
    ]


@pytest.mark.parametrize("neighbour", BEHAVIORS)
@pytest.mark.parametrize(("ending", "behavior", "own", "plan", "expected"), TABLE)
async def test_neighbours_of_an_action_that_ends_like_this(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ending: str,
    behavior: str,
    own: str,
    plan: str,
    expected: dict[str, str],
    neighbour: str,
) -> None:
    monkeypatch.setattr("toolgate.kernel.attempts.FIRST_WAIT", 0.0)
    if ending == "fails by itself":
        # An assertion reads its key: what else reads it does not wait for it.
        expected = expected | ({} if plan == "aborted" else {"needs_state": "rejected"})
    action = {**ENDINGS[ending], "failure_behavior": behavior}
    before = call("before", failure_behavior=neighbour)
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", "pay")
        await gate.tool("step-hangs")
        await gate.tool(
            "step-fails", lambda args: {"not": "what is declared"}, returns={"const": 1}
        )
        result = await propose(gate, before, action, *neighbours(neighbour))
    assert result["status"] == plan
    assert of(result, "x")["status"] == own
    assert {name: of(result, name)["status"] for name in NEIGHBOURS} == expected
    undone = {item["action_id"] for item in result["results"] if item["rolled_back"]}
    assert undone == ({"before"} if plan == "aborted" else set())


async def test_failure_aborts_only_when_what_runs_beside_it_has_ended(tmp_path: Path) -> None:
    others = {"failure_behavior": "retry", "max_retries": 0}
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        proposed = sent(
            gate,
            call("a", parameters={"n": 1}, **others),
            call("b", parameters={"n": 2}, **others),
            call("c", parameters={"n": 3}, dependencies=["a"]),
            call("d", parameters={"n": 4}, dependencies=["c"], **others),
        )
        runs = [await gate.runs.get() for _ in range(2)]
        gate.answer(runs[0], 1)
        gate.answer(runs[1], 2)
        gate.fail(await gate.runs.get(), "no")
        result = await proposed
    assert result["status"] == "aborted"
    assert statuses(result) == ["succeeded", "succeeded", "failed", "skipped"]
    assert result["error"]["details"] == {"action_id": "c"}


async def test_results_are_in_listed_order_whatever_ran_first(tmp_path: Path) -> None:
    quick = {"failure_behavior": "skip"}
    actions = [
        call("z", parameters={"n": 1}, dependencies=["y"], **quick),
        call("y", parameters={"n": 2}, dependencies=["x"], **quick),
        call("x", parameters={"n": 3}, **quick),
        write("w", "k", 1, **quick),
    ]
    world = World()
    async with Driver(tmp_path, plan_config()) as gate:
        await world.equip(gate, "step")
        result = await propose(gate, *actions)
    assert [item["action_id"] for item in result["results"]] == ["z", "y", "x", "w"]
    assert [args["n"] for _, args in world.done] == [3, 2, 1]


async def test_rejected_plan_runs_nothing_and_names_the_ids(tmp_path: Path) -> None:
    problems: list[tuple[list[dict[str, Any]], str, list[str]]] = [
        ([call("a"), call("a"), call("b")], "duplicate_id", ["a"]),
        ([call("a", dependencies=["b"]), call("b", dependencies=["a"])], "cycle", ["a", "b"]),
        ([call("a", dependencies=["a"])], "cycle", ["a"]),
        ([call("a"), call("b", dependencies=["c"])], "unknown_id", ["b", "c"]),
        ([call("a", parameters={"x": ["$c.output"]})], "unknown_id", ["a", "c"]),
    ]
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step")
        for actions, code, ids in problems:
            result = await propose(gate, *actions)
            again = await gate.request("resume", uid=result["uid"])
            assert result["status"] == "aborted"
            assert result["error"]["kind"] == "invalid_action"
            problem = result["error"]["details"]["problems"][0]
            assert problem["code"] == code
            assert sorted(problem["ids"]) == ids
            assert statuses(result) == ["rejected"] * len(actions)
            assert again["proposal"] == result
            of_one = await gate.request("resume", uid=f"{result['uid']}-1")
            assert of_one["status"] == "rejected"
    assert gate.ran == []


async def test_plan_without_actions_is_complete(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        result = await propose(gate)
    assert (result["status"], result["results"]) == ("completed", [])
