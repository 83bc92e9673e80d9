"""What actions read and write of the session's state."""

from __future__ import annotations

from typing import Any

import pytest

from toolgate.ir import Action
from toolgate.plan.effects import (
    StateOutcome,
    malformed,
    read_keys,
    run,
    touched_keys,
    writes,
    written_keys,
)


def action(kind: str, parameters: dict[str, Any] | None = None, **fields: Any) -> Action:
    return Action.model_validate({"type": kind, "parameters": parameters or {}, **fields})


def test_state_write_writes_its_key_and_tells_so() -> None:
    state = {"k": 1}
    write = action("state_write", {"key": "k", "value": [2]})
    assert run(write, state) == StateOutcome("written: k")
    assert writes(write) == {"k": [2]}
    assert state == {"k": 1}


def test_state_write_without_a_value_writes_null() -> None:
    assert writes(action("state_write", {"key": "k"})) == {"k": None}


def test_own_write_comes_after_the_expected_effects() -> None:
    write = action("state_write", {"key": "k", "value": 2}, expected_effects={"k": 1, "j": 3})
    assert writes(write) == {"k": 2, "j": 3}


@pytest.mark.parametrize("kind", ["tool_call", "state_read", "assertion"])
def test_other_actions_write_their_expected_effects_only(kind: str) -> None:
    other = action(kind, {"key": "k", "value": 2}, tool="t", expected_effects={"j": 3})
    assert writes(other) == {"j": 3}
    assert written_keys(other) == {"j"}


def test_state_read_puts_out_the_value_and_null_when_there_is_none() -> None:
    read = action("state_read", {"key": "k"})
    assert run(read, {"k": {"a": 1}}) == StateOutcome({"a": 1})
    assert run(read, {}) == StateOutcome(None)
    assert writes(read) == {}


@pytest.mark.parametrize(
    ("state", "parameters"),
    [
        ({"k": 1}, {"expected": 1.0}),
        ({"k": {"a": [True]}}, {"expected": {"a": [True]}}),
        ({"k": None}, {}),
        ({}, {"expected": None}),
        ({}, {}),
    ],
)
def test_assertion_that_holds_tells_key_and_value(
    state: dict[str, Any], parameters: dict[str, Any]
) -> None:
    outcome = run(action("assertion", {"key": "k", **parameters}), state)
    assert outcome == StateOutcome({"asserted": "k", "value": state.get("k")})


@pytest.mark.parametrize(
    ("state", "expected", "told"),
    [
        ({"k": 1}, True, "state key 'k' is 1; expected true"),
        ({"k": 2**53}, 2**53 + 1, f"state key 'k' is {2**53}; expected {2**53 + 1}"),
        ({"k": None}, False, "state key 'k' is null; expected false"),
        ({}, "x", "state key 'k' does not exist; expected \"x\""),
    ],
)
def test_assertion_that_does_not_hold_tells_both_values(
    state: dict[str, Any], expected: Any, told: str
) -> None:
    outcome = run(action("assertion", {"key": "k", "expected": expected}), state)
    assert outcome == StateOutcome(None, told)


def test_tool_call_is_no_state_action() -> None:
    with pytest.raises(ValueError, match="tool_call"):
        run(action("tool_call", {"key": "k"}, tool="t"), {})


@pytest.mark.parametrize("kind", ["state_read", "assertion"])
def test_readers_of_a_key_are_those_that_name_it(kind: str) -> None:
    assert read_keys(action(kind, {"key": "k"}, state_dependencies=["j"])) == {"k", "j"}
    assert read_keys(action("state_write", {"key": "k"}, state_dependencies=["j"])) == {"j"}
    assert read_keys(action("tool_call", {"key": "k"}, tool="t")) == set()


def test_preconditions_read_nothing() -> None:
    assert not read_keys(action("tool_call", tool="t", preconditions=[{"key": "k"}]))


def test_key_that_is_a_reference_is_nobodys_and_an_escaped_one_is_the_text() -> None:
    assert not written_keys(action("state_write", {"key": "$a.output"}))
    assert not read_keys(action("state_read", {"key": "$a.output.key"}))
    assert written_keys(action("state_write", {"key": "$$a.output"})) == {"$a.output"}
    assert written_keys(action("state_write", {"key": "$$"})) == {"$$"}


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (action("tool_call"), "names its tool"),
        (action("tool_call", tool=""), "names its tool"),
        (action("state_write", {"value": 1}), "missing"),
        (action("state_read", {"key": 5}), "is a string"),
        (action("assertion", {"key": None}), "is a string"),
        (action("assertion"), "missing"),
    ],
)
def test_malformed_action_is_told_what_it_lacks(broken: Action, told: str) -> None:
    assert told in str(malformed(broken))
    assert not written_keys(broken)
    assert not read_keys(broken)


@pytest.mark.parametrize(
    "sound",
    [
        action("tool_call", tool="t"),
        action("state_write", {"key": ""}),
        action("state_read", {"key": "$a.output"}),
    ],
)
def test_well_formed_action_has_nothing_told(sound: Action) -> None:
    assert malformed(sound) is None


def test_touched_keys_are_all_that_an_action_names_its_own_as_it_is() -> None:
    touching = action(
        "state_write",
        {"key": "$a.output"},
        expected_effects={"e": 1},
        state_dependencies=["d"],
        preconditions=[{"key": "p"}],
    )
    assert touched_keys(touching) == {"$a.output", "e", "d", "p"}
    assert touched_keys(action("tool_call", {"key": "k"}, tool="t")) == set()
    assert touched_keys(action("state_read", {"key": 5})) == set()
