"""What a hold asks of people, and whose approval it still lacks."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolgate.policy.requirement import (
    ANYBODY,
    ApprovalRequirement,
    ApproverGroup,
    in_words,
    missing,
)

PEOPLE = ("dana", "erin", "frank", "gus")
TWO = ApproverGroup("outside", ("dana", "erin", "frank"), 2)
ERIN = ApproverGroup("privacy", ("erin",), 1)
GROUPS = st.builds(
    lambda rule, approvers, quorum: ApproverGroup(rule, approvers, min(quorum, len(approvers))),
    st.sampled_from([None, "a", "b"]),
    st.lists(st.sampled_from(PEOPLE), min_size=1, unique=True).map(tuple),
    st.integers(0, 4),
)
REQUIREMENTS = st.lists(GROUPS, min_size=1, max_size=3).map(
    lambda groups: ApprovalRequirement(tuple(groups), None)
)


def lacks(*approved_by: str, of: tuple[ApproverGroup, ...] = (TWO, ERIN)) -> str:
    """Say what groups wait for."""
    return in_words(missing(ApprovalRequirement(of, None), approved_by))


@pytest.mark.parametrize(
    ("approved_by", "waits_for"),
    [
        ((), "2 of dana, erin, frank, and for erin"),
        (("erin",), "dana or frank"),
        (("dana",), "erin"),  # Erin is of both groups: nobody else need sign.
        (("dana", "frank"), "erin"),
        (("dana", "frank", "erin"), "nobody"),
    ],
)
def test_what_is_missing_is_said_of_those_who_have_not_approved(
    approved_by: tuple[str, ...], waits_for: str
) -> None:
    assert lacks(*approved_by) == waits_for


def test_the_same_of_the_same_people_is_missing_once_for_all_rules_that_ask_it() -> None:
    again = ApproverGroup("again", ("erin",), 1)
    [ask] = missing(ApprovalRequirement((ERIN, again), None), ())
    assert ask.to_json() == {"approvers": ["erin"], "quorum": 1, "rules": ["privacy", "again"]}


def test_anybody_is_missing_until_somebody_has_approved_and_a_named_one_is_anybody() -> None:
    anybody = ApproverGroup(None, ANYBODY, 2)
    assert lacks(of=(anybody,)) == "any 2 (approvals.allow_unsigned)"
    assert lacks("me", of=(anybody,)) == "anybody (approvals.allow_unsigned)"
    assert lacks("me", of=(anybody, ERIN)) == "erin"


def test_group_that_nobody_is_in_lacks_somebody_and_is_never_met() -> None:
    nobody = ApprovalRequirement((ApproverGroup(None, (), 1),), None)
    assert in_words(missing(nobody, ("erin",))) == "nobody who can be asked"
    assert not nobody.met(("erin",))


@given(REQUIREMENTS, st.sets(st.sampled_from(PEOPLE)))
def test_those_who_give_what_is_missing_meet_every_group_and_nobody_else_does(
    requirement: ApprovalRequirement, approved: set[str]
) -> None:
    lacking = missing(requirement, tuple(approved))
    others = [name for name in PEOPLE if name not in approved]
    assert all(set(ask.approvers) <= set(others) for ask in lacking)
    for count in range(len(others) + 1):
        for more in itertools.combinations(others, count):
            given_ = all(len(set(ask.approvers) & set(more)) >= ask.quorum for ask in lacking)
            assert requirement.met((*approved, *more)) is given_
