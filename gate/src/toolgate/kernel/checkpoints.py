"""Checkpoints: a session's whole state under a name, to return to.

1. A checkpoint belongs to the session that saved it; no other can restore it.
2. Restoring makes the state exactly what it was: keys written since go, those gone come back.
3. Whatever it would change must pass capabilities and policy as a ``state_write`` of that key
   would; nobody is asked, so a key that policy would hold is refused. It is all or nothing.
"""

from __future__ import annotations

from toolgate import jsonvalue
from toolgate.ir import ActionStatus, Outcome, OutcomeError, OutcomeKind
from toolgate.journal.events import EventKind
from toolgate.journal.grounds import STOOD_ON
from toolgate.journal.journal import Transaction, new_id
from toolgate.journal.records import CheckpointRecord, SessionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel import state
from toolgate.kernel.judge import Judge


def save(tx: Transaction, session: SessionRecord, name: str) -> str:
    """Keep the session's state under ``name`` and return the checkpoint's id."""
    checkpoint = new_id(tx.now)
    content = state.StateView(tx, session.session).everything()
    data: dict[str, JSONValue] = {"checkpoint": checkpoint, "name": name, "keys": sorted(content)}
    seq = tx.append(EventKind.CHECKPOINT_SAVED, data, session=session.session)
    tx.insert(
        CheckpointRecord(
            checkpoint=checkpoint,
            session=session.session,
            name=name,
            state=jsonvalue.canonical(content),
            created_at=tx.now,
            last_seq=seq,
        )
    )
    return checkpoint


def restore(tx: Transaction, judge: Judge, session: SessionRecord, checkpoint: str) -> Outcome:
    """Return the session's state to a checkpoint, or tell why not.

    The outcome's ``uid`` is the checkpoint's id; a key that went is null in ``state_changes``.
    """
    record = tx.checkpoint(checkpoint)
    if record is None or record.session != session.session:
        error = OutcomeError(
            OutcomeKind.UNKNOWN_ACTION, f"this session has saved no checkpoint {checkpoint!r}"
        )
        return Outcome(ActionStatus.REJECTED, checkpoint, error=error)
    content = jsonvalue.parse(record.state)
    writes = state.difference(tx, session.session, content)
    refusals, read = judge.refusals_of_writes(tx, checkpoint, session, tx.now, writes)
    if refusals:
        message = "; ".join(dict.fromkeys(refusal.message for refusal in refusals))
        error = OutcomeError(refusals[0].kind, f"nothing was restored: {message}")
        return Outcome(ActionStatus.REJECTED, checkpoint, error=error)
    data: dict[str, JSONValue] = {"checkpoint": checkpoint, **({STOOD_ON: read} if read else {})}
    changes = state.replace(tx, session.session, content, EventKind.CHECKPOINT_RESTORED, **data)
    return Outcome(ActionStatus.SUCCEEDED, checkpoint, state_changes=changes)
