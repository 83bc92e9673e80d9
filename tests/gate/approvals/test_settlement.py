"""When a settlement counts, and which of several does."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from support.people import ALICE, BOB, MALLORY, Person
from toolgate import clock, jsonvalue
from toolgate.approvals import settlement, statement
from toolgate.approvals.hold import Hold
from toolgate.approvals.settlement import FORM, Doubt, Judged, SettledAs, judge
from toolgate.approvals.tally import CLOCK_SKEW, Received
from toolgate.policy.verdict import ApprovalRequirement
from toolgate.signatures import dsse

SINCE = 1_800_000_000_000_000
PINNED = {person.id: person.key.public_key() for person in (ALICE, BOB, MALLORY)}
DOUBT = Doubt("u1", "pay", "sha256:c", 7, b"\x01", SINCE, ("alice", "bob"))


def says(
    outcome: SettledAs = "succeeded",
    person: Person = ALICE,
    *,
    doubt: Doubt = DOUBT,
    at: int = SINCE + 1,
    seq: int = 1,
    output: Any = None,
) -> Received:
    """Return a person's settlement as it arrives."""
    envelope = settlement.sign(doubt, outcome, person.id, person.key, at, "looked", output)
    return Received(seq, envelope, at)


def refusal(judged: Judged) -> str:
    """Return the reason the one settlement was refused."""
    assert judged.settlement is None
    [refused] = judged.refused
    return refused.reason


def test_genuine_settlement_counts_with_its_output_and_its_reason() -> None:
    said = judge(DOUBT, [says(output={"id": 3})], PINNED).settlement
    assert said is not None
    assert (said.outcome, said.approver, said.output, said.reason) == (
        "succeeded",
        "alice",
        {"id": 3},
        "looked",
    )


def test_nobody_but_those_who_were_asked_may_settle() -> None:
    assert "mallory is not asked" in refusal(judge(DOUBT, [says(person=MALLORY)], PINNED))


def test_key_that_is_not_pinned_settles_nothing() -> None:
    forged = settlement.sign(DOUBT, "retry", "alice", MALLORY.key, SINCE)
    assert "not by the key" in refusal(judge(DOUBT, [Received(1, forged, SINCE)], PINNED))
    pinned = {"bob": BOB.key.public_key()}
    assert "no key is pinned" in refusal(judge(DOUBT, [says()], pinned))


@pytest.mark.parametrize(
    "other",
    [{"uid": "u2"}, {"tool": "wire"}, {"content": "sha256:d"}, {"seq": 8}, {"event": b"\x02"}],
    ids=["action", "tool", "arguments", "later doubt", "another log"],
)
def test_settlement_of_another_doubt_is_none_of_this_one(other: dict[str, Any]) -> None:
    elsewhere = dataclasses.replace(DOUBT, **other)
    judged = judge(DOUBT, [says("retry", doubt=elsewhere)], PINNED)
    assert "not about this" in refusal(judged)


def test_approval_is_no_settlement_and_settlement_no_approval() -> None:
    hold = Hold("h", "u1", "s", "pay", {}, ApprovalRequirement((), None), "d", (), "", "", 0, None)
    approval = statement.sign(hold, "approve", "alice", ALICE.key, SINCE)
    assert "the envelope carries" in refusal(judge(DOUBT, [Received(1, approval, SINCE)], PINNED))
    assert FORM.payload_type != statement.PAYLOAD_TYPE


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"outcome": "maybe"}, "neither succeeded, failed nor retry"),
        ({"outcome": "retry"}, "only what succeeded has an output"),
        ({"version": 2}, "not of version 1"),
        ({"version": True}, "not of version 1"),
        ({"force": True}, "adds fields: force"),
        ({"at": "soon"}, "`at` is not a time"),
        ({"approver": 3}, "not a string"),
        ({"reason": ["x"]}, "not a string"),
    ],
)
def test_statement_of_another_shape_does_not_count(change: dict[str, Any], why: str) -> None:
    payload = jsonvalue.parse(dsse.parse(says().envelope).payload) | change
    envelope = dsse.sign(jsonvalue.canonical(payload), FORM.payload_type, "alice", ALICE.key)
    assert why in refusal(judge(DOUBT, [Received(1, envelope, SINCE)], PINNED))


@pytest.mark.parametrize("field", ["action", "digest", "outcome", "approver", "at", "version"])
def test_statement_that_leaves_something_unsaid_does_not_count(field: str) -> None:
    payload = jsonvalue.parse(dsse.parse(says().envelope).payload)
    del payload[field]
    envelope = dsse.sign(jsonvalue.canonical(payload), FORM.payload_type, "alice", ALICE.key)
    assert judge(DOUBT, [Received(1, envelope, SINCE)], PINNED).settlement is None


def test_settlement_is_dated_after_the_doubt_and_before_its_arrival_give_or_take_a_minute() -> None:
    fine = says(at=SINCE - CLOCK_SKEW)
    early = says(at=SINCE - CLOCK_SKEW - 1)
    late = Received(1, says(at=SINCE + CLOCK_SKEW + 2).envelope, SINCE + 1)
    assert judge(DOUBT, [fine], PINNED).settlement is not None
    assert "before what it is about" in refusal(judge(DOUBT, [early], PINNED))
    assert "after it arrived" in refusal(judge(DOUBT, [late], PINNED))


def test_rows_that_no_command_writes_are_refused_and_leave_the_others_alone() -> None:
    rubbish: list[Any] = ["text", 3, None, b"{}", b"\xff"]
    rows = [Received(n, item, SINCE) for n, item in enumerate(rubbish, 1)]
    rows.append(Received(9, says().envelope, "yesterday"))
    judged = judge(DOUBT, [*rows, says(seq=10)], PINNED)
    assert [refused.seq for refused in judged.refused] == [1, 2, 3, 4, 5, 9]
    assert judged.settlement is not None
    assert judged.settlement.seq == 10


def test_of_several_settlements_the_one_that_was_signed_last_counts_in_any_order() -> None:
    first = says("retry", at=SINCE + 1, seq=1)
    second = says("failed", BOB, at=SINCE + 2, seq=2)
    put_back = dataclasses.replace(first, seq=3)
    for rows in ([first, second], [second, put_back], [first, second, put_back]):
        judged = judge(DOUBT, rows, PINNED)
        assert judged.settlement is not None
        assert judged.settlement.outcome == "failed"
        assert {refused.reason for refused in judged.refused} == {
            "another settlement was signed after it"
        }


def test_what_cannot_run_again_can_still_be_settled_otherwise() -> None:
    over = dataclasses.replace(DOUBT, ended="its proposal p is aborted")
    assert "its proposal p is aborted" in refusal(judge(over, [says("retry", doubt=over)], PINNED))
    assert judge(over, [says("failed", doubt=over)], PINNED).settlement is not None


def test_times_are_the_signers_own() -> None:
    said = judge(DOUBT, [says(at=SINCE + 5)], PINNED).settlement
    assert said is not None
    assert clock.to_text(said.at) == clock.to_text(SINCE + 5)
