"""What has been said on a hold since it was last opened anew, and what that comes to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolgate import jsonvalue
from toolgate.approvals.hold import Hold
from toolgate.approvals.tally import Received, Tally, tally
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Reader
from toolgate.journal.records import ApprovalRow


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
    reopened = reader.last_event(hold.uid, EventKind.HOLD_REOPENED)
    void = 0 if reopened is None else jsonvalue.parse(reopened.data).get("after", 0)
    rows = [row for row in reader.approvals(hold.hold_id) if row.seq > void]
    if more is not None:
        rows.append(more)
    received = [Received(row.seq, row.envelope, row.at) for row in rows]
    return Answers(rows, tally(hold, received, pinned, unsigned=unsigned))
