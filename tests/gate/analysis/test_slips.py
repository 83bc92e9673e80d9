"""What a proposal says, and its author hardly means."""

from __future__ import annotations

from typing import Any

import pytest

from support.proposals import act, plan
from toolgate.analysis import Issue, verify
from toolgate.ir import ActionProposal

CALL: dict[str, Any] = {"id": "a", "type": "tool_call", "tool": "t"}
OTHER: dict[str, Any] = {"id": "b.c", "type": "tool_call", "tool": "u"}
UNDO: dict[str, Any] = {"type": "tool", "tool": "t"}


def slips(*actions: dict[str, Any], **fields: Any) -> list[Issue]:
    """Return what is found in a proposal that was sent, of which nothing is an error."""
    sent = {"actions": list(actions), **fields}
    found = verify(ActionProposal.model_validate(sent), None, {}, sent=sent)
    assert found.valid
    assert {issue.severity for issue in found.issues} <= {"warning"}
    return list(found.issues)


def codes(*actions: dict[str, Any]) -> list[str]:
    return [issue.code for issue in slips(*actions)]


# --- fields that there are none of


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (
            {**CALL, "preconditons": []},
            'preconditons" is no field of an action, and is ignored: did you mean "preconditions"?',
        ),
        ({**CALL, "depends_on": []}, 'did you mean "dependencies"?'),
        ({**CALL, "args": {}}, "there are id, type, tool, parameters"),
        (
            {**CALL, "preconditions": [{"key": "k", "operater": "eq", "operator": "not_exists"}]},
            'no field of a precondition (number 1), and is ignored: did you mean "operator"?',
        ),
        (
            {**CALL, "reversibility": "compensable", "compensation": {**UNDO, "tol": 1}},
            '"tol" is no field of a compensation (type tool), and is ignored: did you mean "tool"?',
        ),
        (
            {
                **CALL,
                "reversibility": "compensable",
                "compensation": {"type": "action_ref", "action_id": "b.c", "tool": "t"},
            },
            "of a compensation (type action_ref), and is ignored: there are type, action_id",
        ),
        (
            {"id": "a", "type": "state_read", "parameters": {"key": "k", "value": 1}},
            "there are key",
        ),
        (
            {"id": "a", "type": "assertion", "parameters": {"key": "k", "expected": None, "to": 1}},
            '"to" is no field of the parameters (type assertion)',
        ),
    ],
)
def test_field_that_there_is_none_of_is_told_with_the_nearest_there_is(
    action: dict[str, Any], told: str
) -> None:
    [issue] = slips(action, OTHER)
    assert (issue.action_id, issue.code) == ("a", "unknown_field")
    assert told in issue.message


def test_field_of_the_proposal_is_told_of_the_whole() -> None:
    [issue] = slips(CALL, sorce="me")
    assert (issue.action_id, issue.code) == (None, "unknown_field")
    assert 'did you mean "source"?' in issue.message


def test_action_without_an_id_is_named_by_the_one_it_was_given() -> None:
    sent = {"actions": [{"type": "tool_call", "tool": "t", "retries": 1}]}
    proposal = ActionProposal.model_validate(sent)
    [issue] = verify(proposal, None, {}, sent=sent).issues
    assert issue.action_id == proposal.actions[0].id


def test_anything_may_stand_in_what_is_free() -> None:
    free = {"x": {"toool": 1}}
    assert not slips(
        {**CALL, "parameters": free, "expected_effects": free, "metadata": free}, context=free
    )


def test_many_fields_that_there_are_none_of_do_not_bury_the_rest() -> None:
    issues = slips({**CALL, **{f"x{n}": n for n in range(500)}, "y" * 5000: 1})
    assert len(issues) == 9
    assert issues[-1].message == "493 more are no fields of an action, and are ignored"
    assert all(len(issue.message) < 600 for issue in issues)


def test_without_what_was_sent_nothing_is_said_of_its_fields() -> None:
    sent = {"actions": [{**CALL, "preconditons": [], "max_retries": 5}]}
    assert not verify(ActionProposal.model_validate(sent), None, {}).issues


# --- values that are null


@pytest.mark.parametrize(
    ("kind", "name", "told"),
    [
        ("state_write", "value", "no 'value', so it writes null"),
        ("assertion", "expected", "no 'expected', so it compares with null"),
    ],
)
def test_null_is_written_out_where_it_is_meant(kind: str, name: str, told: str) -> None:
    action: dict[str, Any] = {"id": "a", "type": kind, "parameters": {"key": "k"}}
    [issue] = slips(action)
    assert issue.code == "no_value"
    assert told in issue.message
    assert not slips({**action, "parameters": {"key": "k", name: None}})


# --- retries


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"max_retries": 5}, ["idle_retries"]),
        ({"max_retries": 3}, ["idle_retries"]),
        ({"max_retries": 5, "failure_behavior": "skip"}, ["idle_retries"]),
        ({"max_retries": 5, "failure_behavior": "retry"}, []),
        ({"max_retries": 3, "failure_behavior": "abort"}, []),
        ({"max_retries": 0}, []),
        ({}, []),
    ],
)
def test_retries_are_idle_unless_failure_is_retried(
    fields: dict[str, Any], expected: list[str]
) -> None:
    assert codes({**CALL, **fields}) == expected


def test_proposal_in_which_every_field_is_written_out_has_no_slips() -> None:
    plain = plan(act("a", reversibility="reversible", compensation=UNDO), act("b", tool="u"))
    sent = plain.model_dump(mode="json")
    assert not verify(plain, None, {}, sent=sent).issues


# --- text that looks like a reference


@pytest.mark.parametrize(
    "text",
    [
        "receipt for $b.c.output.y",
        "$b.c.output ",
        "$b.c.outputs",
        "$b.c.receipt",
        "$b.c",
        "${b.c.output}",
        "costs $5, see $b.c.output",
    ],
)
def test_text_that_looks_like_a_reference_and_is_none_is_told(text: str) -> None:
    [issue] = slips({**CALL, "parameters": {"deep": [{"a/b": text}]}}, OTHER)
    assert (issue.action_id, issue.code, issue.tier) == ("a", "no_reference", "heuristic")
    assert issue.message.startswith(f'/deep/0/a~1b: "{text}" is passed on as it is')
    assert '"$b.c.output"' in issue.message


@pytest.mark.parametrize(
    "text",
    [
        "$b.c.output",
        "$b.c.output.y",
        "$$b.c.output",
        "see $$b.c.output",
        "see $ghost.output",
        "see $b.c",
        "$ghost.y",
        "$5.00",
        "$",
        "$$",
        "b.c.output",
    ],
)
def test_references_and_other_text_are_not_told(text: str) -> None:
    assert not slips({**CALL, "parameters": {"x": text}}, OTHER)


def test_parameters_of_a_compensation_are_looked_at_too() -> None:
    undo = {**UNDO, "parameters": {"id": "$a.receipt"}}
    [issue] = slips({**CALL, "reversibility": "compensable", "compensation": undo})
    assert issue.code == "no_reference"
    assert issue.message.startswith("its compensation: /id: ")


@pytest.mark.parametrize(
    "fields",
    [
        {"expected_effects": {"k": ["$b.c.output.id"]}},
        {"preconditions": [{"key": "k", "operator": "not_exists", "value": "$b.c.output"}]},
    ],
)
def test_reference_outside_of_parameters_is_text(fields: dict[str, Any]) -> None:
    [issue] = slips({**CALL, **fields}, OTHER)
    assert issue.code == "no_reference"
    assert "only parameters have references" in issue.message
