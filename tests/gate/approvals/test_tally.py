"""When an answer counts, and what the answers come to."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.people import ALICE, BOB, MALLORY, Person
from toolgate import jsonvalue
from toolgate.approvals import statement
from toolgate.approvals.hold import Hold, hold_digest
from toolgate.approvals.statement import Answer
from toolgate.approvals.tally import CLOCK_SKEW, HoldState, Received, Tally, tally
from toolgate.policy.verdict import ApprovalRequirement, ApproverGroup
from toolgate.signatures import dsse

OPENED, DEADLINE = 1_800_000_000_000_000, 1_800_000_900_000_000
PINNED = {person.id: person.key.public_key() for person in (ALICE, BOB, MALLORY)}


def hold(*groups: ApproverGroup, deadline: int | None = DEADLINE) -> Hold:
    """Return a hold of a payment, by default for alice alone."""
    requirement = ApprovalRequirement(groups or (ApproverGroup("money", ("alice",), 1),), 900.0)
    args = {"amount": 100}
    return Hold(
        hold_id="h1",
        uid="u1",
        session="s1",
        tool="pay",
        args=args,
        requirement=requirement,
        digest=hold_digest("u1", "pay", args, requirement, {}, None, 0),
        rules=("money",),
        reason="money",
        policy_digest="sha256:0",
        opened_at=OPENED,
        deadline=deadline,
    )


def says(
    asked: Hold, person: Person, verdict: Answer = "approve", at: int = OPENED + 1, seq: int = 1
) -> Received:
    """Return a person's answer as it arrives."""
    return Received(seq, statement.sign(asked, verdict, person.id, person.key, at), at)


def refusal(result: Tally) -> str:
    """Return the reason the one answer was refused."""
    assert not result.counted
    (refused,) = result.refused
    return refused.reason


def test_genuine_answer_counts() -> None:
    asked = hold()
    result = tally(asked, [says(asked, ALICE)], PINNED)
    assert result.released
    assert result.approved_by == ("alice",)
    assert result.state(asked, OPENED) is HoldState.RELEASED


def test_nothing_said_is_no_approval() -> None:
    assert tally(hold(), [], PINNED).state(hold(), OPENED) is HoldState.PENDING


def test_requirement_without_groups_is_never_met() -> None:
    asked = dataclasses.replace(hold(), requirement=ApprovalRequirement((), None))
    assert not tally(asked, [], PINNED).released


def test_answer_by_a_key_that_is_not_pinned_for_its_name_counts_for_nothing() -> None:
    asked = hold()
    forged = statement.sign(asked, "approve", "alice", MALLORY.key, OPENED + 1)
    assert "not by the key pinned for alice" in refusal(
        tally(asked, [Received(1, forged, OPENED + 1)], PINNED)
    )


def test_answer_by_somebody_who_is_not_asked_counts_for_nothing() -> None:
    asked = hold()
    assert "not asked" in refusal(tally(asked, [says(asked, BOB)], PINNED))


def test_answer_by_somebody_unknown_counts_for_nothing() -> None:
    asked = hold()
    assert "no key is pinned" in refusal(tally(asked, [says(asked, ALICE)], {}))


@pytest.mark.parametrize(
    "change",
    [
        {"hold_id": "h2"},
        {"uid": "u2"},
        {"digest": "sha256:1"},
    ],
)
def test_answer_about_something_else_counts_for_nothing(change: dict[str, str]) -> None:
    other = dataclasses.replace(hold(), **change)
    result = tally(hold(), [says(other, ALICE)], PINNED)
    assert not result.released
    assert refusal(result)


@pytest.mark.parametrize(
    ("at", "arrived", "counts"),
    [
        (DEADLINE, DEADLINE, True),
        (DEADLINE + 1, DEADLINE + 1, False),
        (DEADLINE, DEADLINE + 1, False),
        (OPENED - CLOCK_SKEW - 1, OPENED, False),
        (OPENED + CLOCK_SKEW + 2, OPENED + 1, False),
    ],
)
def test_answer_counts_only_when_given_and_arrived_in_time(
    at: int, arrived: int, counts: bool
) -> None:
    asked = hold()
    envelope = statement.sign(asked, "approve", "alice", ALICE.key, at)
    assert tally(asked, [Received(1, envelope, arrived)], PINNED).released is counts


def test_hold_that_never_expires_waits_for_ever() -> None:
    asked = hold(deadline=None)
    assert tally(asked, [], PINNED).state(asked, DEADLINE * 2) is HoldState.PENDING


def test_first_word_of_an_approver_stands() -> None:
    asked = hold()
    both = [says(asked, ALICE, "approve", seq=1), says(asked, ALICE, "deny", seq=2)]
    result = tally(asked, both, PINNED)
    assert result.released
    assert result.refused[0].reason == "alice has already spoken on this hold"


def test_every_group_needs_its_own_quorum() -> None:
    asked = hold(ApproverGroup("a", ("alice", "bob"), 1), ApproverGroup("b", ("bob",), 1))
    assert not tally(asked, [says(asked, ALICE)], PINNED).released
    assert tally(asked, [says(asked, BOB)], PINNED).released


def test_envelope_signed_for_another_use_is_no_approval() -> None:
    asked = hold()
    genuine = dsse.parse(says(asked, ALICE).envelope)
    other = dsse.sign(genuine.payload, "application/vnd.other+json", "alice", ALICE.key)
    assert "not an approval" in refusal(tally(asked, [Received(1, other, OPENED + 1)], PINNED))


@pytest.mark.parametrize("field", ["arguments", "edited", "expires"])
def test_field_that_is_not_known_makes_a_statement_count_for_nothing(field: str) -> None:
    asked = hold()
    payload = jsonvalue.parse(dsse.parse(says(asked, ALICE).envelope).payload)
    signed = dsse.sign(
        jsonvalue.canonical({**payload, field: {}}), statement.PAYLOAD_TYPE, "alice", ALICE.key
    )
    assert field in refusal(tally(asked, [Received(1, signed, OPENED + 1)], PINNED))


@given(
    st.binary(max_size=200)
    | st.builds(
        jsonvalue.canonical,
        st.recursive(
            st.none() | st.text("payloadTypesg", max_size=12) | st.integers(),
            lambda i: st.dictionaries(
                st.sampled_from(["payload", "payloadType", "signatures", "sig", "keyid"]),
                i | st.lists(i, max_size=2),
            ),
            max_leaves=8,
        ),
    )
)
def test_garbage_is_refused_and_never_raises(envelope: bytes) -> None:
    result = tally(hold(), [Received(1, envelope, OPENED + 1)], PINNED)
    assert not result.released
    assert len(result.refused) == 1


@given(st.data())
def test_any_changed_byte_of_an_envelope_makes_it_count_for_nothing(data: st.DataObject) -> None:
    asked = hold()
    genuine = dsse.parse(says(asked, ALICE).envelope)
    place = data.draw(st.integers(0, len(genuine.payload) - 1))
    changed = bytearray(genuine.payload)
    changed[place] ^= data.draw(st.integers(1, 255))
    forged = dataclasses.replace(genuine, payload=bytes(changed))
    assert not dsse.verified_by(forged, ALICE.key.public_key())


@given(
    st.lists(
        st.tuples(st.sampled_from([ALICE, BOB]), st.sampled_from(["approve", "deny"])), max_size=6
    ),
    st.integers(1, 2),
)
def test_release_needs_a_quorum_of_different_people_and_no_counted_denial(
    said: list[tuple[Person, Answer]], quorum: int
) -> None:
    asked = hold(ApproverGroup("r", ("alice", "bob"), quorum))
    received = [says(asked, who, what, seq=n) for n, (who, what) in enumerate(said)]
    first: dict[str, str] = {}
    for who, what in said:
        first.setdefault(who.id, what)
    expected = (
        HoldState.DENIED
        if "deny" in first.values()
        else HoldState.RELEASED
        if list(first.values()).count("approve") >= quorum
        else HoldState.PENDING
    )
    assert tally(asked, received, PINNED).state(asked, OPENED) is expected
