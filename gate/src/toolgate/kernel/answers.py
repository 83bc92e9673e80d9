"""What has been said on a hold since it was last opened anew, and what that comes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolgate import jsonvalue
from toolgate.approvals.hold import Hold
from toolgate.approvals.tally import Received, Tally, tally
from toolgate.errors import JournalTampered
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Reader
from toolgate.journal.records import ApprovalRow, HoldRecord

AFTER: Final = "after"
"""The member of an event's data that is the number up to which answers to its hold are void."""


class Answers(NamedTuple):
    """The envelopes that lie beside a hold, and what they come to."""

    rows: list[ApprovalRow]
    said: Tally


def answers(
    reader: Reader,
    hold: Hold,
    pinned: Mapping[str, Ed25519PublicKey],
    *,
    unsigned: bool,
    more: ApprovalRow | None = None,
) -> Answers:
    """Tally what has been said on a hold, with one envelope ``more`` as if it had arrived.

    Answers from before the hold was reopened are void. ``unsigned`` is that of
    :func:`~toolgate.approvals.tally.tally`.
    """
    void = void_up_to(reader, reader.hold(hold.hold_id))
    rows = [row for row in reader.approvals(hold.hold_id) if row.seq > void]
    if more is not None:
        rows.append(more)
    received = [Received(row.seq, row.envelope, row.at) for row in rows]
    return Answers(rows, tally(hold, received, pinned, unsigned=unsigned))


def void_up_to(reader: Reader, hold: HoldRecord | None) -> int:
    """Return the number up to which answers to a hold are void; 0: none is.

    It is told by the event that the hold's row stands at, whose place is sealed: who takes the
    event of the reopening away, or changes it, makes no answer count again. Raises
    :class:`JournalTampered`.
    """
    if hold is None:
        raise JournalTampered("a hold is missing from the journal")
    event = reader.event(hold.last_seq)
    told = jsonvalue.parse(event.data)
    if event.action != hold.uid:
        raise JournalTampered(f"the hold {hold.hold_id} stands at an event of another action")
    if AFTER not in told:
        # An older program said it where the hold was reopened, and nowhere else.
        reopened = reader.last_event(hold.uid, EventKind.HOLD_REOPENED)
        told = {} if reopened is None else jsonvalue.parse(reopened.data)
    after: int = told.get(AFTER, 0)
    return after
