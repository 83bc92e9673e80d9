"""What has been said on a hold since it was last opened anew, and what that comes to.

The envelopes lie beside the hold, where anybody who writes the store can add and delete. What a
gate has heard and journaled stays said:

1. the event that the hold's row stands at, whose place is sealed, names every answer that was heard
   to count since the hold was opened anew, by a digest of all that lies in the store of it; while
   the hold is pending each still lies there, as it was, or nothing is done;
2. what a gate has looked at and not heard to count never counts;
3. answers up to the number that the same event tells are void; that number is in the digest that is
   signed, so that no answer to an earlier opening fits, wherever it is put.

What an older program wrote names no answers: then those that lie there are taken as they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolgate import jsonvalue
from toolgate.approvals.hold import Hold
from toolgate.approvals.tally import HoldState, Received, Tally, tally
from toolgate.errors import JournalTampered
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Reader
from toolgate.journal.records import ApprovalRow, HoldRecord
from toolgate.jsonvalue import JSONValue

AFTER: Final = "after"
"""The member of an event's data that is the number up to which answers to its hold are void."""

HEARD: Final = "heard"
"""The member that lists the answers that were heard to count since, by their digests."""


class Answers(NamedTuple):
    """The envelopes that lie beside a hold, and what they come to."""

    rows: list[ApprovalRow]
    said: Tally


class Heard(NamedTuple):
    """What the log tells of the answers to a hold.

    Those up to the number ``after`` are void. ``digests`` are those that were heard to count since;
    ``None``: an older program has heard them, and did not tell.
    """

    after: int
    digests: tuple[str, ...] | None

    def more(self, rows: Iterable[ApprovalRow]) -> Heard:
        """Return it with answers that are heard to count now, in addition."""
        known = self.digests or ()
        new = (digest for row in rows if (digest := row.digest()) not in known)
        return self._replace(digests=(*known, *new))

    def to_json(self) -> dict[str, JSONValue]:
        """Return what an event tells of it that the hold's row will stand at."""
        data: dict[str, JSONValue] = {AFTER: self.after} if self.after else {}
        if self.digests is not None:
            data[HEARD] = list(self.digests)
        return data


def answers(
    reader: Reader,
    hold: Hold,
    pinned: Mapping[str, Ed25519PublicKey],
    *,
    unsigned: bool,
    more: ApprovalRow | None = None,
) -> Answers:
    """Tally what has been said on a hold, with one envelope ``more`` as if it had arrived.

    ``unsigned`` is that of :func:`~toolgate.approvals.tally.tally`. Raises
    :class:`JournalTampered` when an answer is gone that a gate has heard.
    """
    record = reader.hold(hold.hold_id)
    if record is None:
        raise JournalTampered("a hold is missing from the journal")
    heard = heard_of(reader, record)
    rows = [row for row in reader.approvals(hold.hold_id) if row.seq > heard.after]
    passed_over: set[int] = set()
    # Of a hold that has ended the log tells; what lay beside it may have been forgotten.
    if record.status == HoldState.PENDING and heard.digests is not None:
        found = {row.digest(): row.seq for row in rows if row.seq <= record.seen}
        if not found.keys() >= set(heard.digests):
            raise JournalTampered(
                f"an answer to the hold {hold.hold_id} that a gate has heard is missing beside it, "
                "or was changed; nothing was done on the word of the others"
            )
        passed_over = {seq for digest, seq in found.items() if digest not in heard.digests}
    if more is not None:
        rows.append(more)
    received = [Received(row.seq, row.envelope, row.at, row.seq in passed_over) for row in rows]
    return Answers(rows, tally(hold, received, pinned, unsigned=unsigned))


def heard_of(reader: Reader, hold: HoldRecord) -> Heard:
    """Return what the event tells that a hold's row stands at; raises :class:`JournalTampered`."""
    event = reader.event(hold.last_seq)
    told = jsonvalue.parse(event.data)
    if event.action != hold.uid:
        raise JournalTampered(f"the hold {hold.hold_id} stands at an event of another action")
    digests = tuple(told[HEARD]) if HEARD in told else None
    if AFTER not in told:
        # An older program said it where the hold was reopened, and nowhere else.
        reopened = reader.last_event(hold.uid, EventKind.HOLD_REOPENED, hold.last_seq)
        told = {} if reopened is None else jsonvalue.parse(reopened.data)
    return Heard(told.get(AFTER, 0), digests)
