"""Which statements count, and what they come to.

An approver may answer a hold as it is, or put other arguments in the place of those that are held:
an *edit*, which is their approval of these. The arguments of the last edit that counts are those
*in force*, before the first one those that were held; whatever an edit replaces, it takes every
approval of it away, and all who are asked may speak again.

A statement counts when, in this order:

1. its envelope and payload are well formed;
2. its approver has not spoken on the arguments in force, and it is no copy of one that has counted;
3. the approver's key is pinned in the gate's config, and the signature is that key's; or nobody has
   signed it, and both the gate and the hold's requirement do without signatures;
4. the approver is named by the hold's requirement;
5. it is about this hold and this action, and names the digest in force where it arrived; an edit
   names the digest of its own arguments, is allowed by every group of the requirement, and comes
   before any denial;
6. the approver signed it, and it arrived, no later than the deadline;
7. no gate has looked at it before, and not heard it to count.

Whatever does not count changes nothing. One counted denial denies, whatever else was said;
approvals of the arguments in force release them when every group of the requirement has its quorum
of distinct approvers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolgate.approvals import statement
from toolgate.approvals.hold import Hold
from toolgate.approvals.statement import Statement
from toolgate.errors import ApprovalError, JSONError
from toolgate.jsonvalue import JSONValue
from toolgate.policy.requirement import Ask, missing
from toolgate.signatures import dsse

_LATEST = 1 << 53
"""Microseconds since the epoch; about the year 2255."""
_LONGEST_NAME = 200
FORGOTTEN: Final = b""
"""What stands in the place of an envelope that is no longer kept."""
CLOCK_SKEW = 60 * 1_000_000
"""How far (microseconds) an approver's clock may run ahead of, or behind, the gate's."""


@dataclass(frozen=True, slots=True)
class Received:
    """An envelope as it lies in the store, and when it got there (microseconds since the epoch).

    Nothing of it is trusted: where it ought to be bytes and a time it may be anything.
    ``passed_over`` says that a gate has looked where it lies, and not heard it to count.
    """

    seq: int
    envelope: Any
    at: Any
    passed_over: bool = False


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
class Version:
    """Arguments that were in force, by their hold's ``digest``, and who approved exactly them.

    ``by`` is the approver whose edit they
    are, in the envelope ``seq``; ``None``: they are those that were held. ``unsigned`` are the
    approvers of ``approved_by`` who signed nothing.
    """

    digest: str
    args: dict[str, JSONValue]
    by: str | None = None
    seq: int = 0
    approved_by: tuple[str, ...] = ()
    unsigned: tuple[str, ...] = ()

    def approved(self, said: Statement) -> Version:
        """Return the version with one more approval."""
        unsigned = self.unsigned if said.signed else (*self.unsigned, said.approver)
        return replace(self, approved_by=(*self.approved_by, said.approver), unsigned=unsigned)


@dataclass(frozen=True, slots=True)
class Tally:
    """What has been said on a hold: what counted, in order of arrival, and what did not.

    ``versions`` are the arguments in the order they were in force: the last ones are. The approvals
    of the others no longer count. ``secret`` says that arguments of the hold are redacted: edits
    are for approvers only.
    """

    counted: tuple[tuple[int, Statement], ...]
    refused: tuple[Refusal, ...]
    released: bool
    versions: tuple[Version, ...]
    secret: bool = False

    @property
    def version(self) -> Version:
        """The arguments in force."""
        return self.versions[-1]

    @property
    def approved_by(self) -> tuple[str, ...]:
        """The approvers whose approval counts, in order of arrival."""
        return self.version.approved_by

    @property
    def unsigned(self) -> tuple[str, ...]:
        """Those of them who signed nothing."""
        return self.version.unsigned

    @property
    def denial(self) -> Statement | None:
        """The first denial that counts, if any."""
        return next((s for _, s in self.counted if s.verdict == "deny"), None)

    def missing(self, hold: Hold) -> list[Ask]:
        """Return whose approval of the arguments in force is missing; empty: nobody's is."""
        return missing(hold.requirement, self.approved_by)

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

    def without(self, seq: int, reason: str) -> Tally:
        """Return the tally with a statement that counted refused for a ``reason`` of the gate's.

        It is for telling what was judged: what else was said then has to be said again.
        """
        counted = tuple(item for item in self.counted if item[0] != seq)
        return replace(
            self, counted=counted, refused=(*self.refused, Refusal(seq, reason)), released=False
        )


def tally(
    hold: Hold,
    received: Iterable[Received],
    pinned: Mapping[str, Ed25519PublicKey],
    *,
    unsigned: bool = False,
) -> Tally:
    """Judge every envelope received for ``hold``, in order of arrival, by the rules above.

    ``unsigned`` says that the gate does without signatures.
    """
    count = _Count(
        hold,
        pinned,
        unsigned and hold.requirement.unsigned,
        Version(hold.digest, hold.args),
    )
    refused: list[Refusal] = []
    for item in received:
        try:
            count.hear(item)
        except ApprovalError as error:
            refused.append(Refusal(item.seq, str(error)))
    return Tally(
        tuple(count.counted),
        tuple(refused),
        hold.requirement.met(count.versions[-1].approved_by),
        tuple(count.versions),
        hold.redacted is not None,
    )


@dataclass(slots=True)
class _Count:
    """What has counted so far."""

    hold: Hold
    pinned: Mapping[str, Ed25519PublicKey]
    unsigned: bool
    first: Version
    versions: list[Version] = field(init=False)
    counted: list[tuple[int, Statement]] = field(default_factory=list)
    spoken: set[str] = field(default_factory=set)
    """Who has spoken on the arguments in force."""
    known: set[bytes] = field(default_factory=set)
    """The payloads that have counted."""
    denied: bool = False

    def __post_init__(self) -> None:
        self.versions = [self.first]

    def hear(self, item: Received) -> None:
        """Count one envelope; raises :class:`ApprovalError` when it does not count."""
        if not isinstance(item.envelope, bytes) or not _is_time(item.at):
            raise ApprovalError("the row is not one that the command writes")
        if item.envelope == FORGOTTEN:
            raise ApprovalError("an edit with redacted arguments is not kept when its action ends")
        envelope = dsse.parse(item.envelope)
        said = statement.read(envelope)
        self._judge(envelope, said)
        version = self.versions[-1] if said.args is None else self._edited(said, said.args, item)
        if version.digest != said.digest:
            edited = " (the arguments were edited since)" if len(self.versions) > 1 else ""
            raise ApprovalError(
                "the statement names another digest: what was shown is not what is held" + edited
            )
        _judge_times(self.hold, said, item)
        if item.passed_over:
            raise ApprovalError("a gate has looked here before, and it did not count then")
        if version.digest != self.versions[-1].digest:
            self.versions.append(version)
            self.spoken.clear()
        self.spoken.add(said.approver)
        self.known.add(envelope.payload)
        self.counted.append((item.seq, said))
        if said.verdict == "approve":
            self.versions[-1] = self.versions[-1].approved(said)
        else:
            self.denied = True

    def _judge(self, envelope: dsse.Envelope, said: Statement) -> None:
        """Judge who speaks, and of which hold (rules 2 to 5)."""
        hold, who = self.hold, said.approver
        # Before a signature is looked at: copies must not cost more than reading them.
        if envelope.payload in self.known:
            raise ApprovalError(f"{who} has already spoken on this hold: this is a copy of it")
        if who in self.spoken and said.args is None:
            raise ApprovalError(f"{who} has already spoken on this hold")
        if said.signed or not self.unsigned:
            key = self.pinned.get(who)
            if key is None:
                raise ApprovalError(f"no key is pinned for an approver named {who!r}")
            if not said.signed:
                raise ApprovalError("nobody has signed it")
            if not dsse.verified_by(envelope, key):
                raise ApprovalError(f"the signature is not by the key pinned for {who}")
        elif not (who.isprintable() and 0 < len(who) <= _LONGEST_NAME):
            raise ApprovalError("it is in nobody's name")
        if not hold.asks(who):
            raise ApprovalError(f"{who} is not asked on this hold; {hold.asked} may answer")
        if said.hold != hold.hold_id or said.action != hold.uid:
            raise ApprovalError("the statement is about another hold")

    def _edited(self, said: Statement, args: dict[str, JSONValue], item: Received) -> Version:
        """Return the arguments that an edit puts in force (rule 5)."""
        hold, in_force = self.hold, self.versions[-1]
        if not hold.requirement.editable:
            raise ApprovalError("not every rule that holds it allows edits (approval.edit)")
        if self.denied:
            raise ApprovalError("it was denied before it was edited")
        revealed = hold.revealed(args)
        try:
            digest = hold.digest_with(revealed)
        except JSONError as error:
            raise ApprovalError(f"the edited arguments are not JSON: {error}") from None
        if digest == in_force.digest:
            if said.approver in self.spoken:
                raise ApprovalError(f"{said.approver} has already spoken on this hold")
            return in_force
        return Version(digest, revealed, said.approver, item.seq)


def _judge_times(hold: Hold, said: Statement, item: Received) -> None:
    if hold.deadline is not None and max(said.at, item.at) > hold.deadline:
        raise ApprovalError("the answer came after the deadline")
    if said.at < hold.opened_at - CLOCK_SKEW:
        raise ApprovalError("the answer is dated before the hold was opened")
    if said.at > item.at + CLOCK_SKEW:
        raise ApprovalError("the answer is dated after it arrived")


def is_edit(envelope: object) -> bool:
    """Tell whether an envelope has edited arguments, whether it counts or not."""
    if not isinstance(envelope, bytes):
        return False
    try:
        return statement.read(dsse.parse(envelope)).args is not None
    except ApprovalError:
        return False


def _is_time(at: object) -> bool:
    return isinstance(at, int) and 0 <= at < _LATEST
