"""Every status, every kind and every operator, as the action of a proposal comes to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from support.clock import MINUTE, Clock
from support.driver import Driver
from support.people import ALICE
from support.plans import (
    RULES,
    World,
    call,
    check,
    kinds,
    needs,
    of,
    plan_config,
    propose,
    read,
    sent,
    statuses,
    write,
)

VALUES = ["null", "true", "1", "1.0", "2", '"b"', '"abc"', "[]", '[1, "b"]', "{}", '{"b": 1}']
"""One or more of each JSON type; every operator is tried on each with each."""
SAME = {(value, value) for value in VALUES} | {("1", "1.0"), ("1.0", "1")}
GREATER = {("2", "1"), ("2", "1.0")}
EQUAL_NUMBERS = {(a, b) for a, b in SAME if a[0] in "12"}
EVERY = {(a, b) for a in VALUES for b in VALUES}
HOLDS: dict[str, set[tuple[str, str]]] = {
    "eq": SAME,
    "neq": EVERY - SAME,
    "exists": EVERY,
    "not_exists": set(),
    "gt": GREATER,
    "gte": GREATER | EQUAL_NUMBERS,
    "lt": {(b, a) for a, b in GREATER},
    "lte": {(b, a) for a, b in GREATER} | EQUAL_NUMBERS,
    "contains": {
        ('"b"', '"b"'),
        ('"abc"', '"b"'),
        ('"abc"', '"abc"'),
        ('[1, "b"]', "1"),
        ('[1, "b"]', "1.0"),
        ('[1, "b"]', '"b"'),
        ('{"b": 1}', '"b"'),
    },
    "matches": set(),
}
"""For each operator the pairs of a key's value and the precondition's of which it holds."""


@pytest.mark.parametrize("operator", HOLDS)
async def test_operator_holds_of_exactly_these_values(tmp_path: Path, operator: str) -> None:
    state = {value: json.loads(value) for value in VALUES}
    pairs = [(a, b) for a in VALUES for b in VALUES]
    actions = [
        read(f"{a} {operator} {b}", a, preconditions=needs(a, operator, json.loads(b)))
        for a, b in pairs
    ]
    async with Driver(tmp_path, plan_config(state=state)) as gate:
        result = await propose(gate, *actions)
    found = {
        pair
        for pair, item in zip(pairs, result["results"], strict=True)
        if item["status"] == "succeeded"
    }
    assert found == HOLDS[operator]
    assert {kind for kind in kinds(result) if kind} <= {"precondition_failed"}


@pytest.mark.parametrize("operator", HOLDS)
async def test_nothing_but_not_exists_holds_of_a_missing_key(tmp_path: Path, operator: str) -> None:
    actions = [
        read(f"{n}", "k", preconditions=needs("missing", operator, json.loads(value)))
        for n, value in enumerate(VALUES)
    ]
    async with Driver(tmp_path, plan_config()) as gate:
        result = await propose(gate, *actions)
    expected = "succeeded" if operator == "not_exists" else "rejected"
    assert statuses(result) == [expected] * len(VALUES)


STATE: dict[str, Any] = {"one": 1, "null": None, "list": [1.0, {"a": True}]}
STATE_ACTIONS: list[tuple[dict[str, Any], str, Any]] = [
    (write("a", "k", [1]), "succeeded", "written: k"),
    (write("a", "one", None), "succeeded", "written: one"),
    (
        {"id": "a", "type": "state_write", "parameters": {"key": "k"}},
        "succeeded",
        "written: k",
    ),
    (read("a", "one"), "succeeded", 1),
    (read("a", "null"), "succeeded", None),
    (read("a", "missing"), "succeeded", None),
    (check("a", "one", 1.0), "succeeded", {"asserted": "one", "value": 1}),
    (
        check("a", "list", [1, {"a": True}]),
        "succeeded",
        {"asserted": "list", "value": STATE["list"]},
    ),
    (check("a", "list", [1, {"a": 1}]), "failed", None),
    (check("a", "one", True), "failed", None),
    (check("a", "null"), "succeeded", {"asserted": "null", "value": None}),
    (check("a", "missing"), "succeeded", {"asserted": "missing", "value": None}),
    (check("a", "missing", 0), "failed", None),
    ({"id": "a", "type": "assertion", "parameters": {}}, "rejected", None),
    ({"id": "a", "type": "state_read", "parameters": {"key": 1}}, "rejected", None),
    ({"id": "a", "type": "state_write", "parameters": {"value": 1}}, "rejected", None),
    ({"id": "a", "type": "tool_call"}, "rejected", None),
    (call("a"), "succeeded", {"args": {}, "number": 1}),
]


@pytest.mark.parametrize(("action", "status", "output"), STATE_ACTIONS)
async def test_action_of_each_type_puts_out_what_it_should(
    tmp_path: Path, action: dict[str, Any], status: str, output: Any
) -> None:
    async with Driver(tmp_path, plan_config(state=STATE)) as gate:
        await World().equip(gate, "step")
        result = await propose(gate, action)
    (found,) = result["results"]
    assert found["status"] == status
    assert found.get("output") == output
    assert ("output" in found) == (status == "succeeded")
    if status == "rejected":
        assert found["kind"] == "invalid_action"


KINDS: list[tuple[str, dict[str, Any], dict[str, Any], str]] = [
    ("invalid_action", {}, {"id": "a", "type": "tool_call"}, "rejected"),
    ("unregistered_tool", {}, call("a", "step-nobody-has"), "rejected"),
    ("invalid_arguments", {}, call("a", "step-typed", parameters={"n": "one"}), "rejected"),
    ("precondition_failed", {}, call("a", preconditions=needs("k")), "rejected"),
    ("precondition_failed", {}, call("a", state_dependencies=["k"]), "rejected"),
    ("dependency_failed", {}, call("a", parameters={"x": "$one.output.nothing"}), "rejected"),
    (
        "capability_denied",
        {"capabilities": {"tools": {"deny": ["step"]}}},
        call("a"),
        "rejected",
    ),
    (
        "capability_denied",
        {"capabilities": {"state_keys": {"allow": ["x*"]}}},
        write("a", "k"),
        "rejected",
    ),
    (
        "capability_denied",
        {"capabilities": {"state_keys": {"allow": ["x*"]}}},
        call("a", preconditions=needs("k", "not_exists")),
        "rejected",
    ),
    ("policy_denied", {}, write("a", "locked"), "rejected"),
    ("policy_denied", {}, call("a", expected_effects={"locked": 1}), "rejected"),
    (
        "approval_required",
        {"approvals": {}, "policy": {"rules": [{**RULES[2], "approval": {}}]}},
        write("a", "asked"),
        "rejected",
    ),
    (
        "rate_limited",
        {"tools": {"step-rare": {"rate_limit": {"max_calls": 1, "interval_secs": 1000}}}},
        call("a", "step-rare", timeout_ms=10),
        "rejected",
    ),
    ("budget_exceeded", {"budget": {"proposal": {"max_actions": 2}}}, call("a"), "skipped"),
    ("budget_exceeded", {"budget": {"session": {"max_tool_calls": 2}}}, call("a"), "skipped"),
    ("execution_failed", {}, call("a", "step-fails"), "failed"),
    ("execution_failed", {}, call("a", "step-fails", failure_behavior="skip"), "skipped"),
    ("execution_timeout", {}, call("a", "step-hangs", timeout_ms=10), "failed"),
    ("invalid_result", {}, call("a", "step-lies"), "failed"),
]


@pytest.mark.parametrize(("kind", "changes", "action", "status"), KINDS)
async def test_action_ends_with_the_kind_that_tells_why(
    tmp_path: Path, kind: str, changes: dict[str, Any], action: dict[str, Any], status: str
) -> None:
    world = World()
    async with Driver(tmp_path, plan_config(**changes)) as gate:
        await world.equip(gate, "step", "step-one", "step-rare")
        await world.equip(gate, "step-lies", returns={"type": "string"})
        await world.equip(gate, "step-typed", parameters={"properties": {"n": {"type": "integer"}}})
        await gate.tool("step-fails")
        await gate.tool("step-hangs")
        first = [call("one", "step-one"), call("two", "step-rare")]
        proposed = sent(gate, *first, action)
        if action.get("tool") == "step-fails":
            gate.fail(await gate.runs.get(), "no")
        result = await proposed
    found = of(result, "a")
    assert (found["status"], found["kind"]) == (status, kind)
    assert isinstance(found["error"], str)
    assert "output" not in found
    assert found["state_changes"] == {}
    assert result["status"] == ("aborted" if status == "failed" else "completed")


async def test_approval_that_is_denied_or_too_late_rejects_the_action(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    async with Driver(tmp_path, plan_config()) as gate:
        first = await propose(gate, write("a", "asked", 1))
        gate.approve(of(first, "a")["uid"], ALICE, tmp_path, "deny")
        denied = await gate.request("resume", uid=first["uid"])
        second = await propose(gate, write("a", "asked", 2))
        clock.forward(16 * MINUTE)
        late = await gate.request("resume", uid=second["uid"])
        state = await gate.request("state")
    assert statuses(first) == statuses(second) == ["held"]
    assert kinds(denied["proposal"]) == ["approval_denied"]
    assert kinds(late["proposal"]) == ["approval_timeout"]
    assert denied["proposal"]["status"] == late["proposal"]["status"] == "completed"
    assert state == {}


async def test_action_whose_gate_died_is_in_doubt_and_aborts_its_plan(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        sent(gate, call("a"), call("b"), idempotency_key="k")
        await gate.runs.get()
        gate.die()
    async with Driver(tmp_path, plan_config()) as later:
        await World().equip(later, "step")
        result = await propose(later, call("a"), call("b"), idempotency_key="k")
    assert statuses(result) == ["failed", "skipped"]
    assert kinds(result) == ["in_doubt", "cancelled"]
    assert result["status"] == "aborted"
    assert result["rollback"]["external_effects"] == [
        {"action_id": "a", "uid": of(result, "a")["uid"], "tool": "step", "status": "in_doubt"}
    ]
    assert later.ran == []


async def test_resume_of_what_nobody_proposed_is_of_an_unknown_action(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        done = await propose(gate, read("a", "k"))
        held = await propose(gate, write("a", "asked"))
        uids = ["nobody", f"{done['uid']}-2", f"{done['uid']}-x", f"{held['uid']}-2", "nobody-1"]
        found = [await gate.request("resume", uid=uid, wait_ms=None) for uid in uids]
    assert [outcome["error"]["kind"] for outcome in found] == ["unknown_action"] * len(uids)


async def test_cost_counts_what_ran_what_was_refused_and_what_was_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolgate.kernel.attempts.FIRST_WAIT", 0.0)
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step")
        await gate.tool("step-fails")
        proposed = sent(
            gate,
            call("ran"),
            write("wrote", "k", 1),
            call("tried", "step-fails", failure_behavior="retry", max_retries=2),
            call("let-go", "step-fails", failure_behavior="skip"),
            call("refused", expected_effects={"locked": 1}),
        )
        for _ in range(4):
            gate.fail(await gate.runs.get(), "no")
        result = await proposed
    assert statuses(result) == ["succeeded", "succeeded", "failed", "skipped", "rejected"]
    assert of(result, "tried")["attempts"] == 3
    cost = result["cost"]
    assert cost.pop("total_duration_ms") > 0
    assert cost == {
        "tool_calls": 1,
        "actions_executed": 3,
        "actions_rejected": 1,
        "actions_skipped": 1,
        "retries": 2,
    }


async def test_everything_wrong_with_the_state_is_told_at_once(tmp_path: Path) -> None:
    conditions = [*needs("a"), *needs("b", "gt", 1), *needs("one", "eq", True)]
    async with Driver(tmp_path, plan_config(state=STATE)) as gate:
        result = await propose(
            gate, read("r", "one", preconditions=conditions, state_dependencies=["c", "one"])
        )
    failures = of(result, "r")["details"]["failures"]
    assert len(failures) == 4
    assert [key for key in ("'c'", "'a'", "'b'", "'one'") if any(key in f for f in failures)] == [
        "'c'",
        "'a'",
        "'b'",
        "'one'",
    ]


async def test_ids_are_local_names_and_uids_are_the_gates(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        first = await propose(gate, read("a", "k"), read("b", "k"))
        second = await propose(gate, read("a", "k"))
        unnamed = await gate.request(
            "propose", proposal={"actions": [{"type": "state_read", "parameters": {"key": "k"}}]}
        )
    assert [item["uid"] for item in first["results"]] == [f"{first['uid']}-1", f"{first['uid']}-2"]
    assert second["uid"] != first["uid"]
    assert len(unnamed["results"][0]["action_id"]) == 12
    assert len(unnamed["proposal_id"]) == 12
