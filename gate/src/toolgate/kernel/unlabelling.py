"""Labels that approvers have taken away from a session, taken in when a rule asks for its labels.

Where a session has labels, one look-up by index finds what has been said of them since the last
look. Each removal that counts (:mod:`toolgate.approvals.unlabelling`) is journaled, and its label's
row goes, in the transaction that decides on the call whose rules have asked. What does not count is
journaled once. Without a transaction the answer is the same, and nothing is kept.
"""

from __future__ import annotations

from collections.abc import Mapping

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolgate import clock, jsonvalue
from toolgate.approvals.tally import Received
from toolgate.approvals.unlabelling import Judged, Labelled, judge
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Reader, Transaction
from toolgate.journal.names import removals_name
from toolgate.journal.records import ApprovalRow, LabelRecord
from toolgate.jsonvalue import JSONValue


def labels_left(
    reader: Reader,
    session: str,
    approvers: Mapping[str, Ed25519PublicKey],
    tx: Transaction | None = None,
) -> list[str]:
    """Return a session's labels, sorted, without those that one of ``approvers`` has taken away.

    With ``tx``, which is the ``reader`` then, they are taken away for good.
    """
    records = reader.labels(session)
    rows = unheard(reader, session) if records else []
    if not rows:
        return [record.label for record in records]
    judged = judge(map(labelled, records), map(_received, rows), approvers)
    if tx is not None:
        _hear(tx, session, rows, judged)
    gone = {removal.labelled.label for removal in judged.removals}
    return [record.label for record in records if record.label not in gone]


def labelled(record: LabelRecord) -> Labelled:
    """Return the label of a row, as a removal names it."""
    return Labelled(record.session, record.label, record.last_seq, record.at)


def unheard(reader: Reader, session: str) -> list[ApprovalRow]:
    """Return what was said of a session's labels that no gate has judged yet."""
    name = removals_name(session)
    rows = reader.approvals(name)
    if not rows:
        return rows
    kinds = (EventKind.LABEL_REMOVED, EventKind.APPROVAL_REFUSED)
    said = [event for event in reader.log(name, 0) if event.kind in kinds]
    seen = max((jsonvalue.parse(event.data)["removal"] for event in said), default=0)
    return [row for row in rows if row.seq > seen]


def _received(row: ApprovalRow) -> Received:
    return Received(row.seq, row.envelope, row.at)


def _hear(tx: Transaction, session: str, rows: list[ApprovalRow], judged: Judged) -> None:
    """Journal what was said, in order of its arrival, and take away what counts."""
    refused = {refusal.seq: refusal.reason for refusal in judged.refused}
    removals = {removal.seq: removal for removal in judged.removals}
    for row in rows:
        data: dict[str, JSONValue] = {"removal": row.seq}
        if row.seq in removals:
            removal = removals[row.seq]
            kind = EventKind.LABEL_REMOVED
            data |= {
                "label": removal.labelled.label,
                "added": removal.labelled.added,
                "removed_by": removal.approver,
                "reason": removal.reason,
                "envelope": row.envelope.decode(),
                "arrived": clock.to_text(row.at),
            }
            tx.unlabel(session, removal.labelled.label)
        else:
            kind = EventKind.APPROVAL_REFUSED
            data |= {"reason": refused[row.seq], **row.evidence()}
        tx.append(kind, data, session=session, action=removals_name(session))
    tx.flush()
