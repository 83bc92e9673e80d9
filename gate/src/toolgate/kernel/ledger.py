"""The transitions of an action, each as the events and the row it writes. No decisions, no waiting.

Every method runs inside a transaction; what it returns is true once that is durable.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from toolgate import jsonvalue
from toolgate.approvals.tally import HoldState, is_edit
from toolgate.ir import ActionStatus, OutcomeError, OutcomeKind
from toolgate.journal.events import EventKind
from toolgate.journal.evidence import REMEMBERED
from toolgate.journal.grounds import STOOD_ON
from toolgate.journal.journal import Transaction
from toolgate.journal.records import ActionRecord, HoldRecord, ResultRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel import past, state
from toolgate.kernel.answers import Heard, heard_of
from toolgate.kernel.records import UNSETTLED, Call, redacted, shown_args
from toolgate.kernel.result import Ending
from toolgate.plan import effects


@dataclass(frozen=True, slots=True)
class Ledger:
    """Writes for one project, agent and run."""

    project: str
    agent: str
    run: str

    def propose(self, tx: Transaction, session: str, call: Call, uid: str) -> None:
        """Journal that a call is proposed, as the action ``uid``."""
        shown = call.redaction
        args = call.args if shown is None else shown.args
        data: dict[str, JSONValue] = {"tool": call.tool, "args": args}
        if shown is not None:
            data["redacted"] = list(shown.pointers)
        for name in ("idempotency_key", "parent", "metadata", "proposal"):
            value = getattr(call, name)
            if value is not None:
                data[name] = value
        if call.timeout is not None:
            data["timeout_ms"] = round(call.timeout * 1000)
        if call.proposal is not None:
            data["action_id"] = call.action.id
            data["type"] = call.action.type.value
        tx.append(EventKind.ACTION_PROPOSED, data, session=session, action=uid)

    def decide(
        self,
        tx: Transaction,
        session: str,
        uid: str,
        decision: dict[str, JSONValue],
        stood_on: Mapping[str, JSONValue],
    ) -> None:
        """Journal policy's decision on an action, and what was read of the session for it."""
        if stood_on:
            decision = {**decision, STOOD_ON: dict(stood_on)}
        tx.append(EventKind.ACTION_DECIDED, decision, session=session, action=uid)

    def insert(
        self,
        tx: Transaction,
        session: str,
        call: Call,
        uid: str,
        status: ActionStatus,
        last_seq: int,
        *,
        kind: str | None = None,
        hold: str | None = None,
        attempts: int = 0,
    ) -> ActionRecord:
        """Insert the row of a call that has just been decided."""
        executing = status is ActionStatus.EXECUTING
        secret = call.redaction is not None and status not in UNSETTLED
        record = ActionRecord(
            uid=uid,
            project=self.project,
            agent=self.agent,
            session=session,
            tool=call.tool,
            args=call.redaction.args_json if secret and call.redaction else call.args_json,
            content=call.content,
            idempotency_key=call.idempotency_key,
            status=status.value,
            kind=kind,
            run=self.run if executing else None,
            attempts=1 if executing else attempts,
            hold=hold,
            created_at=tx.now,
            last_seq=last_seq,
        )
        tx.insert(record)
        return record

    def refuse(
        self,
        tx: Transaction,
        session: str,
        call: Call,
        uid: str,
        status: ActionStatus,
        error: OutcomeError | None,
    ) -> ActionRecord:
        """End a call that never started: rejected, or skipped (without an error: not needed)."""
        seq = self._ended(tx, session, uid, status, error)
        kind = None if error is None else error.kind.value
        return self.insert(tx, session, call, uid, status, seq, kind=kind)

    def execute(
        self,
        tx: Transaction,
        session: str,
        call: Call,
        uid: str,
        timeout: float,
        emits: tuple[str, ...] = (),
    ) -> ActionRecord:
        """Claim a call that policy allows for this run, before its body may start.

        ``emits`` are the labels that its session gets when it ends.
        """
        seq = self._executing(tx, session, uid, 1, timeout, emits)
        record = self.insert(tx, session, call, uid, ActionStatus.EXECUTING, seq)
        past.count_call(tx, record)
        return record

    def deduplicate(
        self,
        tx: Transaction,
        session: str,
        call: Call,
        uid: str,
        of: str,
        output: JSONValue,
        emits: tuple[str, ...] = (),
    ) -> tuple[ActionRecord, dict[str, JSONValue]]:
        """End a call with the recorded result of the action ``of``; returns its state changes."""
        seq, changes = self._deduplicated(tx, session, call, uid, of, output, emits)
        return self.insert(tx, session, call, uid, ActionStatus.SUCCEEDED, seq), changes

    def perform(
        self, tx: Transaction, session: str, call: Call, uid: str, end: Ending
    ) -> dict[str, JSONValue]:
        """End a state action, which happens here and now; returns its state changes."""
        changes = effects.writes(call.action) if end.status is ActionStatus.SUCCEEDED else {}
        state.commit(tx, session, uid, changes)
        data: dict[str, JSONValue] = {"status": end.status.value, "attempts": 1}
        if end.status is ActionStatus.SUCCEEDED:
            data |= {"output": end.output, "state_changes": changes}
        if end.error is not None:
            data["error"] = end.error.to_json()
        seq = tx.append(_end_kind(end.status, end.error), data, session=session, action=uid)
        kind = None if end.error is None else end.error.kind.value
        self.insert(tx, session, call, uid, end.status, seq, kind=kind, attempts=1)
        return changes

    def retry(
        self, tx: Transaction, action: ActionRecord, error: OutcomeError, wait: float
    ) -> ActionRecord:
        """Record that an attempt failed, and that another starts in ``wait`` seconds."""
        data: dict[str, JSONValue] = {
            "attempt": action.attempts,
            "error": error.to_json(),
            "wait_ms": round(wait * 1000),
        }
        seq = tx.append(EventKind.ACTION_RETRYING, data, session=action.session, action=action.uid)
        record = action._replace(last_seq=seq)
        tx.update(record, action.last_seq)
        return record

    def attempt(
        self, tx: Transaction, action: ActionRecord, timeout: float, emits: tuple[str, ...] = ()
    ) -> ActionRecord:
        """Record that another attempt starts, before its body may."""
        number = action.attempts + 1
        seq = self._executing(tx, action.session, action.uid, number, timeout, emits)
        record = action._replace(attempts=number, last_seq=seq)
        tx.update(record, action.last_seq)
        return record

    def suspend(
        self,
        tx: Transaction,
        action: ActionRecord,
        hold: HoldRecord | None,
        duration_ms: float,
    ) -> ActionRecord:
        """Record that a body has stopped itself: its action is held, or proposed, as before."""
        data: dict[str, JSONValue] = {"attempt": action.attempts, "duration_ms": duration_ms}
        if hold is not None:
            data |= heard_before(tx, hold).to_json()
        kind = EventKind.ACTION_SUSPENDED
        seq = tx.append(kind, data, session=action.session, action=action.uid)
        if hold is not None:
            waits = hold._replace(status=HoldState.PENDING.value, last_seq=seq)
            tx.update(waits, hold.last_seq)
        status = ActionStatus.PROPOSED if hold is None else ActionStatus.HELD
        record = action._replace(status=status.value, run=None, last_seq=seq)
        tx.update(record, action.last_seq)
        return record

    def enter_again(
        self, tx: Transaction, action: ActionRecord, timeout: float, emits: tuple[str, ...]
    ) -> ActionRecord:
        """Claim an action that is proposed again for another attempt by this run."""
        claimed = action._replace(status=ActionStatus.EXECUTING.value, run=self.run)
        return self.attempt(tx, claimed, timeout, emits)

    def again(
        self,
        tx: Transaction,
        action: ActionRecord,
        timeout: float,
        emits: tuple[str, ...],
        why: tuple[EventKind, dict[str, JSONValue]],
    ) -> ActionRecord:
        """Claim an action in doubt for another attempt by this run, before its body may start.

        ``why`` is the event that says on whose word it runs again.
        """
        kind, data = why
        tx.append(kind, data, session=action.session, action=action.uid)
        claimed = action._replace(status=ActionStatus.EXECUTING.value, kind=None, run=self.run)
        return self.attempt(tx, claimed, timeout, emits)

    def end(
        self,
        tx: Transaction,
        action: ActionRecord,
        end: Ending,
        duration_ms: float | None,
        changes: dict[str, JSONValue] | None = None,
        settled: dict[str, JSONValue] | None = None,
        *,
        remembered: bool = False,
    ) -> ActionRecord:
        """Record how an execution ended; a late end of one that was in doubt settles it.

        ``changes`` are what its success commits to the session's state; ``settled`` tells who has
        settled it, where somebody has.
        """
        data: dict[str, JSONValue] = {"status": end.status.value, "attempts": action.attempts}
        data |= settled or {}
        if duration_ms is not None:
            data["duration_ms"] = duration_ms
        if end.status is ActionStatus.SUCCEEDED:
            data["output"] = end.output
        if end.omitted:
            data["omitted"] = True
        if remembered:
            data[REMEMBERED] = True
        if end.error is not None:
            data["error"] = end.error.to_json()
        if changes:
            state.commit(tx, action.session, action.uid, changes)
            data["state_changes"] = changes
        doubted = action.status == ActionStatus.IN_DOUBT
        kind = EventKind.ACTION_SETTLED if doubted else _end_kind(end.status, end.error)
        seq = tx.append(kind, data, session=action.session, action=action.uid)
        ended = action._replace(
            status=end.status.value,
            kind=None if end.error is None else end.error.kind.value,
            last_seq=seq,
        )
        record = settled_row(tx, ended)
        tx.update(record, action.last_seq)
        return record

    def reached(self, tx: Transaction, session: str, uid: str, error: OutcomeError) -> None:
        """Journal that a limit kept an action from starting."""
        data: dict[str, JSONValue] = {"kind": error.kind.value, **(error.details or {})}
        tx.append(EventKind.LIMIT_REACHED, data, session=session, action=uid)

    def remember(self, tx: Transaction, action: ActionRecord, content: str) -> None:
        """Remember a success, so that a repeat of what ran can be given its result."""
        tx.put(ResultRecord(action.session, content, action.uid, tx.now, action.last_seq))

    def _deduplicated(
        self,
        tx: Transaction,
        session: str,
        call: Call,
        uid: str,
        of: str,
        output: JSONValue,
        emits: tuple[str, ...],
    ) -> tuple[int, dict[str, JSONValue]]:
        if emits:
            past.add_labels(tx, session, emits, {"action": uid}, uid)
        changes = effects.writes(call.action)
        state.commit(tx, session, uid, changes)
        data: dict[str, JSONValue] = {
            "status": ActionStatus.SUCCEEDED.value,
            "of": of,
            "output": output,
            "state_changes": changes,
        }
        if emits:
            data["emits"] = list(emits)
        seq = tx.append(EventKind.ACTION_DEDUPLICATED, data, session=session, action=uid)
        return seq, changes

    def _executing(
        self,
        tx: Transaction,
        session: str,
        uid: str,
        attempt: int,
        timeout: float,
        emits: tuple[str, ...],
        heard: dict[str, JSONValue] | None = None,
    ) -> int:
        tx.may_begin()
        data: dict[str, JSONValue] = {"attempt": attempt, "timeout_ms": round(timeout * 1000)}
        data |= heard or {}
        if emits:
            # Whoever finds the gate dead knows by this what the body may have brought.
            data["emits"] = list(emits)
        return tx.append(EventKind.ACTION_EXECUTING, data, session=session, action=uid)

    def _ended(
        self,
        tx: Transaction,
        session: str,
        uid: str,
        status: ActionStatus,
        error: OutcomeError | None,
    ) -> int:
        data: dict[str, JSONValue] = {"status": status.value}
        if error is not None:
            data["error"] = error.to_json()
        return tx.append(_end_kind(status, error), data, session=session, action=uid)


def settled_row(tx: Transaction, record: ActionRecord) -> ActionRecord:
    """Return the row of an action that has ended: what the log hides of its arguments goes."""
    if not redacted(record) or record.status in UNSETTLED:
        return record
    if record.hold is not None:
        told = [row for row in tx.approvals(record.hold) if row.envelope is not None]
        # Edits may lie beyond what is looked at, too.
        tx.forget_answers(record.hold, [row.seq for row in told if not is_edit(row.envelope)])
    tx.flush()
    return record._replace(args=jsonvalue.canonical(shown_args(tx, record)))


def _end_kind(status: ActionStatus, error: OutcomeError | None) -> EventKind:
    match status:
        case ActionStatus.SUCCEEDED:
            return EventKind.ACTION_SUCCEEDED
        case ActionStatus.REJECTED:
            return EventKind.ACTION_REJECTED
        case ActionStatus.IN_DOUBT:
            return EventKind.ACTION_IN_DOUBT
        case ActionStatus.SKIPPED if error is not None and error.kind is OutcomeKind.CANCELLED:
            return EventKind.ACTION_CANCELLED
        case ActionStatus.SKIPPED:
            return EventKind.ACTION_SKIPPED
        case _:
            return EventKind.ACTION_FAILED


def heard_before(tx: Transaction, hold: HoldRecord) -> Heard:
    """Return what the event that a hold's row will stand at goes on telling of its answers."""
    tx.flush()
    return heard_of(tx, hold)
