"""Which arguments are in force, and what no order of answers can release."""

from __future__ import annotations

import dataclasses
import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.people import ALICE, BOB, MALLORY, Person
from toolgate.approvals import statement
from toolgate.approvals.hold import Hold, hold_digest
from toolgate.approvals.tally import HoldState, Received, Tally, tally
from toolgate.errors import ApprovalError
from toolgate.policy.verdict import ANYBODY, ApprovalRequirement, ApproverGroup

OPENED, DEADLINE = 1_800_000_000_000_000, 1_800_000_900_000_000
PINNED = {person.id: person.key.public_key() for person in (ALICE, BOB, MALLORY)}
BOTH = ApproverGroup("money", ("alice", "bob"), 2, edit=True)
ANY = ApproverGroup("money", ("alice", "bob"), 1, edit=True)
FIRST: dict[str, Any] = {"amount": 900}
SECOND: dict[str, Any] = {"amount": 90}
THIRD: dict[str, Any] = {"amount": 9}


def hold(*groups: ApproverGroup, unsigned: bool = False, **changes: Any) -> Hold:
    """Return a hold of a payment that alice and bob together approve, and may edit."""
    requirement = ApprovalRequirement(groups or (BOTH,), 900.0, unsigned)
    made = Hold(
        hold_id="h1",
        uid="u1",
        session="s1",
        tool="pay",
        args=FIRST,
        requirement=requirement,
        digest=hold_digest("u1", "pay", FIRST, requirement, {}, None, 0),
        rules=("money",),
        reason="money",
        policy_digest="sha256:0",
        opened_at=OPENED,
        deadline=DEADLINE,
    )
    return dataclasses.replace(made, **changes)


def said(asked: Hold, *answers: tuple[Any, ...], **options: Any) -> Tally:
    """Tally answers: who, the arguments meant, and ``edit``, ``deny`` or nothing."""
    received = []
    for number, (who, args, *what) in enumerate(answers, start=1):
        at = OPENED + number
        if what == ["edit"]:
            envelope = statement.sign(asked, "approve", who.id, who.key, at, args=args)
        else:
            verdict: Any = what[0] if what else "approve"
            envelope = statement.sign(asked.edited(args), verdict, who.id, who.key, at)
        received.append(Received(number, envelope, at))
    return tally(asked, received, PINNED, **options)


def test_edit_is_its_authors_approval_of_the_arguments_it_names() -> None:
    result = said(hold(ANY), (ALICE, SECOND, "edit"))
    assert result.released
    assert result.version.args == SECOND
    assert (result.version.by, result.approved_by) == ("alice", ("alice",))


def test_edit_takes_every_approval_of_other_arguments_away() -> None:
    result = said(hold(), (ALICE, FIRST), (BOB, SECOND, "edit"))
    assert not result.released
    assert [version.approved_by for version in result.versions] == [("alice",), ("bob",)]


def test_who_approved_other_arguments_may_speak_again() -> None:
    result = said(hold(), (ALICE, FIRST), (BOB, SECOND, "edit"), (ALICE, SECOND))
    assert result.released
    assert result.approved_by == ("bob", "alice")


def test_approval_of_what_was_replaced_counts_for_nothing() -> None:
    result = said(hold(), (BOB, SECOND, "edit"), (ALICE, FIRST))
    assert not result.released
    assert "the arguments were edited since" in result.refused[0].reason


def test_approval_of_an_edit_that_has_not_arrived_counts_for_nothing() -> None:
    result = said(hold(), (ALICE, SECOND), (BOB, SECOND, "edit"))
    assert not result.released
    assert result.approved_by == ("bob",)


def test_later_edit_supersedes_an_earlier_one_also_by_the_same_person() -> None:
    result = said(hold(), (ALICE, SECOND, "edit"), (ALICE, THIRD, "edit"), (BOB, THIRD))
    assert result.released
    assert result.version.args == THIRD


def test_edit_to_the_arguments_in_force_is_an_approval_of_them() -> None:
    result = said(hold(), (ALICE, FIRST), (BOB, FIRST, "edit"))
    assert result.released
    assert len(result.versions) == 1


def test_denial_stays_a_denial_whatever_is_edited_after_it() -> None:
    result = said(hold(ANY), (ALICE, FIRST, "deny"), (BOB, SECOND, "edit"))
    assert result.state(hold(ANY), OPENED) is HoldState.DENIED
    assert result.version.args == FIRST
    assert "denied before" in result.refused[0].reason


def test_denial_of_what_was_replaced_is_not_a_denial_of_what_replaced_it() -> None:
    result = said(hold(), (BOB, SECOND, "edit"), (ALICE, FIRST, "deny"))
    assert result.state(hold(), OPENED) is HoldState.PENDING


def test_every_group_must_allow_edits() -> None:
    strict = ApproverGroup("other", ("alice",), 1)
    result = said(hold(ANY, strict), (ALICE, SECOND, "edit"))
    assert result.version.args == FIRST
    assert "allows edits" in result.refused[0].reason


def test_copy_of_a_superseded_edit_does_not_bring_it_back() -> None:
    asked = hold()
    first = statement.sign(asked, "approve", "alice", ALICE.key, OPENED + 1, args=SECOND)
    other = statement.sign(asked, "approve", "bob", BOB.key, OPENED + 2, args=THIRD)
    received = [
        Received(1, first, OPENED + 1),
        Received(2, other, OPENED + 2),
        Received(3, first, OPENED + 3),
    ]
    result = tally(asked, received, PINNED)
    assert result.version.args == THIRD
    assert "a copy" in result.refused[0].reason


def test_edit_whose_digest_is_not_that_of_its_arguments_counts_for_nothing() -> None:
    asked = hold(ANY)
    genuine = statement.sign(asked, "approve", "alice", ALICE.key, OPENED + 1, args=SECOND)
    other = dataclasses.replace(asked, uid="u1", tool="other")
    foreign = statement.sign(other, "approve", "alice", ALICE.key, OPENED + 1, args=SECOND)
    assert tally(asked, [Received(1, genuine, OPENED + 1)], PINNED).released
    result = tally(asked, [Received(1, foreign, OPENED + 1)], PINNED)
    assert not result.released
    assert "another digest" in result.refused[0].reason


def test_redacted_value_is_left_as_it_is_by_its_mark_or_changed_or_left_out() -> None:
    args = {"card": "4111", "list": [{"pin": 1}], "amount": 900}
    shown = {"card": "redacted:a", "list": [{"pin": "redacted:b"}], "amount": 900}
    asked = hold(
        ANY, args=args, redacted=shown, hidden=("/card", "/list/0/pin", "/absent"), blind="x"
    )
    asked = dataclasses.replace(asked, digest=asked.digest_with(args))
    result = said(asked, (ALICE, {**shown, "amount": 1}, "edit"))
    assert result.version.args == {**args, "amount": 1}
    assert result.secret
    assert asked.revealed({"amount": 2}) == {"amount": 2}
    assert asked.revealed({**shown, "card": "4222"}) == {**args, "card": "4222"}
    for other in ({"card": "redacted:b"}, {**shown, "absent": "redacted:a"}):
        with pytest.raises(ApprovalError, match="not the one that is held there"):
            asked.revealed(other)


@pytest.mark.parametrize("gate", [True, False])
@pytest.mark.parametrize("asked", [True, False])
def test_answer_that_nobody_signed_counts_only_where_gate_and_hold_do_without(
    gate: bool, asked: bool
) -> None:
    held = hold(ANY, unsigned=asked)
    envelope = statement.sign(held, "approve", "alice", None, OPENED + 1)
    result = tally(held, [Received(1, envelope, OPENED + 1)], PINNED, unsigned=gate)
    assert result.released is (gate and asked)
    assert result.unsigned == (("alice",) if gate and asked else ())


def test_wrong_signature_counts_for_nothing_where_none_is_needed() -> None:
    held = hold(ANY, unsigned=True)
    envelope = statement.sign(held, "approve", "alice", MALLORY.key, OPENED + 1)
    result = tally(held, [Received(1, envelope, OPENED + 1)], PINNED, unsigned=True)
    assert "not by the key" in result.refused[0].reason


@pytest.mark.parametrize("name", ["", "x" * 201, "a\x1b[2J"])
def test_unsigned_answer_is_in_a_name_that_can_be_shown(name: str) -> None:
    held = hold(ApproverGroup("r", ANYBODY, 1), unsigned=True)
    envelope = statement.sign(held, "approve", name, None, OPENED + 1)
    result = tally(held, [Received(1, envelope, OPENED + 1)], {}, unsigned=True)
    assert not result.released


def test_anybody_is_nobody_where_answers_are_signed() -> None:
    held = hold(ApproverGroup("r", ANYBODY, 1))
    envelope = statement.sign(held, "approve", "whoever", None, OPENED + 1)
    assert not tally(held, [Received(1, envelope, OPENED + 1)], PINNED, unsigned=True).released


# --- no order of answers

CHOICES: list[dict[str, Any]] = [FIRST, SECOND, THIRD]
GROUPS = [
    (BOTH,),
    (ANY,),
    (ANY, ApproverGroup("second", ("bob",), 1, edit=True)),
    (ANY, ApproverGroup("strict", ("alice",), 1)),
]


@dataclasses.dataclass(frozen=True)
class Word:
    """One thing that is put beside a hold."""

    who: Person
    key: Person
    args: int
    kind: str
    fault: str

    def received(self, asked: Hold, seq: int) -> Received:
        """Return it as it arrives at the place ``seq``."""
        about, args = asked, CHOICES[self.args]
        at = OPENED + 1
        if self.fault == "late":
            at = DEADLINE + 1
        elif self.fault == "other hold":
            about = dataclasses.replace(asked, hold_id="h2")
        elif self.fault == "other action":
            about = dataclasses.replace(asked, uid="u2")
        elif self.fault == "other digest":
            about = dataclasses.replace(asked, compensation="another")
        verdict: Any = "deny" if self.kind == "deny" else "approve"
        key = None if self.fault == "unsigned" else self.key.key
        if self.kind == "edit":
            envelope = statement.sign(about, verdict, self.who.id, key, at, args=args)
        else:
            envelope = statement.sign(about.edited(args), verdict, self.who.id, key, at)
        return Received(seq, envelope, at)

    @property
    def genuine(self) -> bool:
        """Whether whoever it names has said it, of this hold, in time."""
        return self.fault == "" and self.who is self.key


words = st.builds(
    Word,
    st.sampled_from([ALICE, BOB]),
    st.sampled_from([ALICE, BOB, MALLORY]),
    st.integers(0, 2),
    st.sampled_from(["approve", "approve", "edit", "deny"]),
    st.sampled_from(["", "", "", "late", "other hold", "other action", "other digest", "unsigned"]),
) | st.builds(
    lambda who, args, kind: Word(who, who, args, kind, ""),
    st.sampled_from([ALICE, BOB]),
    st.integers(0, 2),
    st.sampled_from(["approve", "approve", "edit"]),
)


@given(st.sampled_from(GROUPS), st.lists(words, max_size=8))
def test_nothing_is_released_without_every_quorum_on_exactly_what_is_in_force(
    groups: tuple[ApproverGroup, ...], sequence: list[Word]
) -> None:
    asked = hold(*groups)
    received = [word.received(asked, seq) for seq, word in enumerate(sequence, start=1)]
    result = tally(asked, received, PINNED)
    in_force = result.version.args
    editable = all(group.edit for group in groups)
    edits = [w for w in sequence if w.genuine and w.kind == "edit"]
    assert in_force == FIRST or (editable and in_force in [CHOICES[w.args] for w in edits])
    approvers = {
        word.who.id
        for word in sequence
        if word.genuine and word.kind != "deny" and CHOICES[word.args] == in_force
    }
    assert set(result.approved_by) <= approvers
    assert len(set(result.approved_by)) == len(result.approved_by)
    if result.state(asked, OPENED) is HoldState.RELEASED:
        for group in groups:
            assert len(approvers & set(group.approvers)) >= group.quorum


@given(st.sampled_from(GROUPS), st.lists(words, max_size=8), st.data())
def test_statement_that_does_not_count_changes_nothing(
    groups: tuple[ApproverGroup, ...], sequence: list[Word], data: st.DataObject
) -> None:
    asked = hold(*groups)
    received = [word.received(asked, seq) for seq, word in enumerate(sequence, start=1)]
    result = tally(asked, received, PINNED)
    refused = {refusal.seq for refusal in result.refused}
    without = [item for item in received if item.seq not in refused]
    again = tally(asked, without, PINNED)
    assert (again.counted, again.versions, again.released, again.refused) == (
        result.counted,
        result.versions,
        result.released,
        (),
    )
    place = data.draw(st.integers(0, len(received)))
    junk = data.draw(
        st.sampled_from([b"{", statement.sign(asked, "deny", "bob", MALLORY.key, OPENED + 1)])
    )
    more = [*received[:place], Received(99, junk, OPENED + 1), *received[place:]]
    assert tally(asked, more, PINNED).versions == result.versions


@given(st.sampled_from(GROUPS), st.lists(words, max_size=6), st.data())
def test_copies_of_what_was_said_change_nothing_wherever_they_come(
    groups: tuple[ApproverGroup, ...], sequence: list[Word], data: st.DataObject
) -> None:
    asked = hold(*groups)
    received = [word.received(asked, seq) for seq, word in enumerate(sequence, start=1)]
    result = tally(asked, received, PINNED)
    counted = {seq for seq, _ in result.counted}
    copied = [
        copy
        for item in received
        for copy in (item, *([dataclasses.replace(item, seq=50)] if item.seq in counted else []))
    ]
    late = data.draw(st.permutations([item for item in received if item.seq in counted]))
    again = tally(asked, [*copied, *late], PINNED)
    assert [version.approved_by for version in again.versions] == [
        version.approved_by for version in result.versions
    ]


def test_every_order_of_two_approvals_and_an_edit_releases_only_the_edited_arguments() -> None:
    answers = [(ALICE, FIRST), (BOB, SECOND, "edit"), (ALICE, SECOND)]
    for order in itertools.permutations(answers):
        result = said(hold(), *order)
        if result.released:
            assert result.version.args == SECOND
            assert set(result.approved_by) == {"alice", "bob"}
