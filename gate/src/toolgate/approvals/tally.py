"""Which statements count, and what they come to.

A statement counts when, in this order:

1. its envelope and payload are well formed;
2. its approver has not spoken on this hold before;
3. the approver's key is pinned in the gate's config, and the signature is that key's;
4. the approver is named by the hold's requirement;
5. it is about this hold and this action, and names this hold's digest;
6. the approver signed it, and it arrived, no later than the deadline.

Whatever does not count changes nothing. One counted denial denies, whatever else was said;
approvals release when every group of the requirement has its quorum of distinct approvers.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolgate.approvals import statement
from toolgate.approvals.hold import Hold
from toolgate.approvals.statement import Statement
from toolgate.errors import ApprovalError
from toolgate.signatures import dsse

_LATEST = 1 << 53
"""Microseconds since the epoch; about the year 2255."""
CLOCK_SKEW = 60 * 1_000_000
"""How far (microseconds) an approver's clock may run ahead of, or behind, the gate's."""


@dataclass(frozen=True, slots=True)
class Received:
    """An envelope as it lies in the store, and when it got there (microseconds since the epoch).

    Nothing of it is trusted: where it ought to be bytes and a time it may be anything.
    """

    seq: int
    envelope: Any
    at: Any


@dataclass(frozen=True, slots=True)
class Refusal:
    """An envelope that does not count, and why."""

    seq: int
    reason: str


class HoldState(StrEnum):
    """What a hold has come to."""

    PENDING = "pending"
    RELEASED = "released"
    DENIED = "denied"
    EXPIRED = "expired"


@dataclass(frozen=True, slots=True)
class Tally:
    """What has been said on a hold: what counts, in order of arrival, and what does not."""

    counted: tuple[tuple[int, Statement], ...]
    refused: tuple[Refusal, ...]
    released: bool

    @property
    def approved_by(self) -> tuple[str, ...]:
        """The approvers whose approval counts, in order of arrival."""
        return tuple(s.approver for _, s in self.counted if s.verdict == "approve")

    @property
    def denial(self) -> Statement | None:
        """The first denial that counts, if any."""
        return next((s for _, s in self.counted if s.verdict == "deny"), None)

    def state(self, hold: Hold, now: int) -> HoldState:
        """Return what the hold has come to at ``now`` (microseconds since the epoch).

        An approval given in time and picked up late still counts.
        """
        if self.denial is not None:
            return HoldState.DENIED
        if self.released:
            return HoldState.RELEASED
        if hold.deadline is not None and now > hold.deadline:
            return HoldState.EXPIRED
        return HoldState.PENDING


def tally(
    hold: Hold, received: Iterable[Received], pinned: Mapping[str, Ed25519PublicKey]
) -> Tally:
    """Judge every envelope received for ``hold``, in order of arrival, by the rules above."""
    counted: list[tuple[int, Statement]] = []
    refused: list[Refusal] = []
    spoken: set[str] = set()
    for item in received:
        try:
            said = _judge(hold, item, pinned, spoken)
        except ApprovalError as error:
            refused.append(Refusal(item.seq, str(error)))
            continue
        spoken.add(said.approver)
        counted.append((item.seq, said))
    approved = {s.approver for _, s in counted if s.verdict == "approve"}
    groups = hold.requirement.groups
    released = bool(groups) and all(
        len(approved.intersection(group.approvers)) >= max(group.quorum, 1) for group in groups
    )
    return Tally(tuple(counted), tuple(refused), released)


def _judge(
    hold: Hold, item: Received, pinned: Mapping[str, Ed25519PublicKey], spoken: Container[str]
) -> Statement:
    if not isinstance(item.envelope, bytes) or not _is_time(item.at):
        raise ApprovalError("the row is not one that the command writes")
    envelope = dsse.parse(item.envelope)
    said = statement.read(envelope)
    if said.approver in spoken:
        # Before its signature is looked at: copies must not cost more than reading them.
        raise ApprovalError(f"{said.approver} has already spoken on this hold")
    key = pinned.get(said.approver)
    if key is None:
        raise ApprovalError(f"no key is pinned for an approver named {said.approver!r}")
    if not dsse.verified_by(envelope, key):
        raise ApprovalError(f"the signature is not by the key pinned for {said.approver}")
    if said.approver not in hold.approvers:
        raise ApprovalError(
            f"{said.approver} is not asked on this hold; {', '.join(hold.approvers)} may answer"
        )
    if said.hold != hold.hold_id or said.action != hold.uid:
        raise ApprovalError("the statement is about another hold")
    if said.digest != hold.digest:
        raise ApprovalError(
            "the statement names another digest: what was shown is not what is held"
        )
    if hold.deadline is not None and max(said.at, item.at) > hold.deadline:
        raise ApprovalError("the answer came after the deadline")
    if said.at < hold.opened_at - CLOCK_SKEW:
        raise ApprovalError("the answer is dated before the hold was opened")
    if said.at > item.at + CLOCK_SKEW:
        raise ApprovalError("the answer is dated after it arrived")
    return said


def _is_time(at: object) -> bool:
    return isinstance(at, int) and 0 <= at < _LATEST
