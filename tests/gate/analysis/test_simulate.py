"""The state that execution would leave."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

from support.proposals import act, claim, plan, plans, read, states, write
from toolgate.analysis import simulate
from toolgate.ir import Action, ActionProposal, ActionStatus


def left(*actions: Action, **state: Any) -> dict[str, Any]:
    """Return the state that actions leave of another."""
    return simulate(plan(*actions), state).state


def statuses(*actions: Action, **state: Any) -> dict[str, str]:
    return {id: status.value for id, status in simulate(plan(*actions), state).statuses.items()}


def test_state_that_was_given_is_not_changed() -> None:
    state = {"x": 1}
    assert simulate(plan(write("a", "x", 2)), state).state == {"x": 2}
    assert state == {"x": 1}


def test_writes_and_expected_effects_are_left_in_the_order_of_the_plan() -> None:
    effects = act("b", expected_effects={"x": 2, "y": 3})
    assert left(write("a", "x", 1), effects, write("c", "x", 4)) == {"x": 4, "y": 3}


def test_write_without_a_value_leaves_null() -> None:
    assert left(act("a", "state_write", parameters={"key": "x"}), x=1) == {"x": None}


def test_forward_dependency_turns_the_order_of_actions_but_not_of_writers() -> None:
    late = act("a", dependencies=["b"], preconditions=[{"key": "x", "value": 1}])
    assert statuses(late, write("b", "x", 1)) == {"b": "succeeded", "a": "succeeded"}


@pytest.mark.parametrize(
    "blocked",
    [
        act("a", tool=None, expected_effects={"y": 1}),
        act("a", "state_write", parameters={"value": 1}, expected_effects={"y": 1}),
        act("a", "state_write", parameters={"key": 5}, expected_effects={"y": 1}),
        act("a", state_dependencies=["missing"], expected_effects={"y": 1}),
        act("a", preconditions=[{"key": "x", "value": 2}], expected_effects={"y": 1}),
    ],
)
def test_blocked_action_is_rejected_and_its_effects_are_left_out(blocked: Action) -> None:
    dependant = act("b", dependencies=["a"], expected_effects={"z": 1})
    other = write("c", "w", 1)
    assert statuses(blocked, dependant, other, x=1) == {
        "a": "rejected",
        "b": "rejected",
        "c": "succeeded",
    }
    assert left(blocked, dependant, other, x=1) == {"x": 1, "w": 1}


def test_key_written_earlier_meets_a_state_dependency() -> None:
    waiting = act("b", state_dependencies=["x"], expected_effects={"y": 1})
    assert left(write("a", "x", 1), waiting) == {"x": 1, "y": 1}


def test_rejection_never_aborts() -> None:
    rejected = act("b", state_dependencies=["missing"])
    assert left(write("a", "x", 1), rejected, write("c", "y", 2)) == {"x": 1, "y": 2}


def test_assertion_that_fails_with_abort_undoes_everything_and_starts_nothing_more() -> None:
    actions = (write("a", "x", 2), claim("b", "x", 3), write("c", "y", 1))
    assert left(*actions, x=1) == {"x": 1}
    assert statuses(*actions, x=1) == {"a": "succeeded", "b": "failed"}


@pytest.mark.parametrize(("behaviour", "status"), [("retry", "failed"), ("skip", "skipped")])
def test_assertion_that_fails_otherwise_rejects_its_dependants_only(
    behaviour: str, status: str
) -> None:
    failing = claim("b", "x", 3, failure_behavior=behaviour, expected_effects={"y": 1})
    actions = (
        write("a", "x", 2),
        failing,
        write("c", "y", 2, dependencies=["b"]),
        write("d", "z", "$b.output.value"),
        write("e", "w", 4),
    )
    assert left(*actions) == {"x": 2, "w": 4}
    assert statuses(*actions)["b"] == status
    assert statuses(*actions)["d"] == "rejected"


def test_outputs_of_state_actions_are_put_where_they_are_referred_to() -> None:
    actions = (
        read("r", "x"),
        write("w", "y", {"got": "$r.output.deep.0"}),
        claim("c", "y", {"got": 7}),
        write("v", "z", "$c.output"),
        write("u", "t", "$w.output"),
    )
    assert left(*actions, x={"deep": [7]}) == {
        "x": {"deep": [7]},
        "y": {"got": 7},
        "z": {"asserted": "y", "value": {"got": 7}},
        "t": "written: y",
    }


def test_reference_that_leads_nowhere_in_a_known_output_is_rejected() -> None:
    assert statuses(read("r", "x"), write("w", "y", "$r.output.no"), x={})["w"] == "rejected"


def test_output_of_a_tool_is_shown_as_the_reference_to_it() -> None:
    written = write("w", "x", ["$a.output.id", "$$a.output"])
    assert left(act("a"), written) == {"x": ["$a.output.id", "$a.output"]}


def test_what_is_not_known_is_taken_to_meet_conditions_but_is_known_to_be_there() -> None:
    first = (act("a"), write("w", "x", "$a.output"))
    after = {"dependencies": ["w"]}
    assert statuses(
        *first,
        claim("equal", "x", 5, **after),
        act("greater", preconditions=[{"key": "x", "operator": "gt", "value": 3}], **after),
        act("there", preconditions=[{"key": "x", "operator": "exists"}], **after),
        act("absent", preconditions=[{"key": "x", "operator": "not_exists"}], **after),
        act("strange", preconditions=[{"key": "x", "operator": "like"}], **after),
        claim("against", "y", "$a.output"),
        read("r", "x"),
        write("v", "z", "$r.output.deep"),
    ) == {
        "a": "succeeded",
        "w": "succeeded",
        "equal": "succeeded",
        "greater": "succeeded",
        "there": "succeeded",
        "absent": "rejected",
        "strange": "rejected",
        "against": "succeeded",
        "r": "succeeded",
        "v": "succeeded",
    }


def test_key_is_known_again_when_a_known_value_is_written_to_it() -> None:
    actions = (act("a"), write("w", "x", "$a.output"), write("v", "x", 1))
    assert statuses(*actions, claim("c", "x", 2, failure_behavior="retry"))["c"] == "failed"


def test_write_of_a_key_that_is_not_known_is_left_out_and_of_a_known_one_is_not() -> None:
    assert left(act("a"), write("w", "$a.output", 1)) == {}
    assert left(read("r", "x"), write("w", "$r.output", 1), x="y") == {"x": "y", "y": 1}
    assert left(read("r", "x"), write("w", "$r.output", 1), x=5) == {"x": 5}


def test_proposal_that_is_no_plan_changes_nothing() -> None:
    assert left(write("a", "x", 1), write("a", "y", 1)) == {}
    assert left(write("a", "x", 1), write("b", "y", 1, dependencies=["b"])) == {}


# --- compensations


def compensable(id: str, by: str, **fields: Any) -> Action:
    undo = {"type": "action_ref", "action_id": by}
    return act(id, **{"reversibility": "compensable", "compensation": undo, **fields})


def test_compensator_does_nothing_when_nothing_is_compensated() -> None:
    assert left(compensable("a", "undo"), write("undo", "x", 1)) == {}


def test_after_an_abort_compensations_have_their_effects_last_to_first() -> None:
    actions = (
        compensable("a", "first"),
        compensable("b", "last"),
        compensable("kept", "never", reversibility="irreversible"),
        write("undone", "y", 5),
        write("first", "x", "undid a"),
        write("last", "x", "undid b"),
        write("never", "z", 1),
        claim("fail", "x", "no"),
    )
    assert left(*actions, x=0) == {"x": "undid a"}


def test_compensation_of_an_action_that_never_ran_has_no_effects() -> None:
    actions = (claim("fail", "x", "no"), compensable("a", "undo"), write("undo", "x", 1))
    assert left(*actions) == {}


# --- properties


@given(plans(), states)
def test_every_action_settles_unless_the_plan_aborts(
    proposal: ActionProposal, state: dict[str, Any]
) -> None:
    simulation = simulate(proposal, state)
    compensators = {
        action.compensation.action_id
        for action in proposal.actions
        if action.compensation is not None and action.compensation.type == "action_ref"
    }
    behaviour = {action.id: action.failure_behavior for action in proposal.actions}
    aborted = any(
        status is ActionStatus.FAILED and behaviour[id] == "abort"
        for id, status in simulation.statuses.items()
    )
    if aborted and not compensators:
        assert simulation.state == state
    if not aborted:
        assert simulation.statuses.keys() == behaviour.keys() - compensators
