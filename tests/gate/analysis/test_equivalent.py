"""Whether two proposals leave the same state."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from support.proposals import act, claim, plan, plans, states, write
from toolgate.analysis import equivalent, simulate
from toolgate.ir import ActionProposal


def test_order_of_independent_writes_makes_no_difference() -> None:
    a, b = write("a", "x", 1), write("b", "y", 2)
    assert equivalent(plan(a, b), plan(b, a)).equivalent


def test_order_of_writes_to_one_key_makes_one() -> None:
    a, b = write("a", "x", 1), write("b", "x", 2)
    found = equivalent(plan(a, b), plan(b, a), [{}])
    assert found.to_json() == {
        "equivalent": False,
        "differences": [{"state": {}, "a": {"x": 2}, "b": {"x": 1}}],
    }


def test_states_compare_as_json() -> None:
    assert equivalent(plan(write("a", "x", 1)), plan(write("a", "x", 1.0))).equivalent
    assert not equivalent(plan(write("a", "x", 1)), plan(write("a", "x", True))).equivalent


def test_default_states_have_x_and_y_or_nothing() -> None:
    guarded = write("a", "z", 1, preconditions=[{"key": "x", "value": 1}])
    found = equivalent(plan(guarded), plan())
    assert [difference.state for difference in found.differences] == [{"x": 1, "y": 2}]


def test_difference_in_no_given_state_is_not_found() -> None:
    guarded = write("a", "z", 1, preconditions=[{"key": "secret", "value": 1}])
    assert equivalent(plan(guarded), plan()).equivalent
    assert not equivalent(plan(guarded), plan(), [{"secret": 1}]).equivalent


def test_abort_leaves_what_no_plan_at_all_leaves() -> None:
    assert equivalent(plan(write("a", "x", 5), claim("b", "x", 6)), plan()).equivalent


def test_outputs_that_are_not_known_are_the_same_when_they_are_of_the_same_action() -> None:
    one = plan(act("a"), write("w", "x", "$a.output"))
    two = plan(act("a"), act("b"), write("w", "x", "$b.output"))
    assert equivalent(one, one).equivalent
    assert not equivalent(one, two).equivalent


@given(plans(), plans(), states)
def test_equivalence_is_reflexive_symmetric_and_that_of_the_simulated_states(
    a: ActionProposal, b: ActionProposal, state: dict[str, Any]
) -> None:
    assert equivalent(a, a, [state]).equivalent
    there, back = equivalent(a, b, [state]), equivalent(b, a, [state])
    assert there.equivalent is back.equivalent
    for difference in there.differences:
        assert difference.a == simulate(a, state).state
        assert difference.b == simulate(b, state).state
