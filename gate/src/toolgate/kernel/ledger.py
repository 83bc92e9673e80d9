"""The transitions of an action, each as the events and the row it writes. No decisions, no waiting.

Every method runs inside a transaction; what it returns is true once that is durable.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from toolgate import clock, jsonvalue
from toolgate.approvals.hold import Hold, deadline_of, hold_digest
from toolgate.approvals.tally import HoldState, Tally
from toolgate.ir import ActionStatus, OutcomeError
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Transaction, new_id
from toolgate.journal.records import ActionRecord, ApprovalRow, HoldRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.records import Call
from toolgate.kernel.result import Ending
from toolgate.policy.verdict import ApprovalRequirement, Verdict


@dataclass(frozen=True, slots=True)
class Ledger:
    """Writes for one project, agent, session and run."""

    project: str
    agent: str
    session: str
    run: str

    def propose(self, tx: Transaction, call: Call, uid: str) -> None:
        """Journal that a call is proposed, as the action ``uid``."""
        data: dict[str, JSONValue] = {"tool": call.tool, "args": call.args}
        for name in ("idempotency_key", "parent", "metadata"):
            value = getattr(call, name)
            if value is not None:
                data[name] = value
        tx.append(EventKind.ACTION_PROPOSED, data, session=self.session, action=uid)

    def decide(
        self, tx: Transaction, session: str, uid: str, decision: dict[str, JSONValue]
    ) -> None:
        """Journal policy's decision on an action."""
        tx.append(EventKind.ACTION_DECIDED, decision, session=session, action=uid)

    def insert(
        self,
        tx: Transaction,
        call: Call,
        uid: str,
        status: ActionStatus,
        last_seq: int,
        *,
        kind: str | None = None,
        hold: str | None = None,
    ) -> ActionRecord:
        """Insert the row of a call that has just been decided."""
        executing = status is ActionStatus.EXECUTING
        record = ActionRecord(
            uid=uid,
            project=self.project,
            agent=self.agent,
            session=self.session,
            tool=call.tool,
            args=call.args_json,
            content=call.content,
            idempotency_key=call.idempotency_key,
            status=status.value,
            kind=kind,
            run=self.run if executing else None,
            attempts=1 if executing else 0,
            hold=hold,
            created_at=tx.now,
            last_seq=last_seq,
        )
        tx.insert(record)
        return record

    def reject(self, tx: Transaction, call: Call, uid: str, error: OutcomeError) -> ActionRecord:
        """End a call that was never admitted."""
        seq = self._ended(tx, self.session, uid, ActionStatus.REJECTED, error)
        return self.insert(tx, call, uid, ActionStatus.REJECTED, seq, kind=error.kind.value)

    def execute(self, tx: Transaction, call: Call, uid: str, timeout: float) -> ActionRecord:
        """Claim a call that policy allows for this run, before its body may start."""
        seq = self._executing(tx, self.session, uid, timeout)
        return self.insert(tx, call, uid, ActionStatus.EXECUTING, seq)

    def hold(
        self, tx: Transaction, call: Call, uid: str, verdict: Verdict
    ) -> tuple[ActionRecord, HoldRecord]:
        """Hold a call for people."""
        hold_id = new_id(tx.now)
        record = self._hold_record(tx, hold_id, uid, self.session, call.tool, call.args, verdict)
        seq = self._hold_event(tx, EventKind.HOLD_OPENED, record)
        record = record._replace(last_seq=seq)
        tx.insert(record)
        return self.insert(tx, call, uid, ActionStatus.HELD, seq, hold=hold_id), record

    def reopen(
        self, tx: Transaction, action: ActionRecord, old: HoldRecord, hold: Hold, verdict: Verdict
    ) -> tuple[HoldRecord, ActionRecord]:
        """Ask again, under the requirement policy has now: earlier answers name another digest."""
        fresh = self._hold_record(
            tx, old.hold_id, hold.uid, hold.session, hold.tool, hold.args, verdict
        )
        seq = self._hold_event(tx, EventKind.HOLD_REOPENED, fresh)
        record = fresh._replace(seen=old.seen, last_seq=seq)
        tx.update(record, old.last_seq)
        moved = action._replace(last_seq=seq)
        tx.update(moved, action.last_seq)
        return record, moved

    def heard(
        self, tx: Transaction, record: HoldRecord, said: Tally, rows: list[ApprovalRow]
    ) -> HoldRecord:
        """Journal how each answer that has arrived since the last look was judged."""
        refused = {refusal.seq: refusal.reason for refusal in said.refused}
        counted = dict(said.counted)
        seq = record.last_seq
        new = [row for row in rows if row.seq > record.seen]
        for row in new:
            if row.seq in counted:
                statement = counted[row.seq]
                kind = EventKind.APPROVAL_RECORDED
                data: dict[str, JSONValue] = {
                    "approver": statement.approver,
                    "verdict": statement.verdict,
                    "reason": statement.reason,
                    "envelope": row.envelope.decode(),
                    "arrived": clock.to_text(row.at),
                }
            else:
                kind = EventKind.APPROVAL_REFUSED
                # What does not count may be anything: its digest is evidence enough.
                envelope = (
                    row.envelope
                    if isinstance(row.envelope, bytes)
                    else ascii(row.envelope).encode()
                )
                digest = hashlib.sha256(envelope).hexdigest()
                data = {"reason": refused[row.seq], "envelope_sha256": digest}
            data["hold"] = record.hold_id
            seq = tx.append(kind, data, session=record.session, action=record.uid)
        if not new:
            return record
        heard = record._replace(seen=new[-1].seq, last_seq=seq)
        tx.update(heard, record.last_seq)
        return heard

    def refuse_held(
        self, tx: Transaction, action: ActionRecord, hold: HoldRecord, state: str, end: Ending
    ) -> ActionRecord:
        """End a held action that will not run: denied, expired, withdrawn, or no longer allowed."""
        kind = {
            HoldState.EXPIRED.value: EventKind.HOLD_EXPIRED,
            "withdrawn": EventKind.HOLD_WITHDRAWN,
        }.get(state, EventKind.HOLD_RELEASED)
        if kind is not EventKind.HOLD_RELEASED:
            data: dict[str, JSONValue] = {"hold": hold.hold_id}
            tx.append(kind, data, session=hold.session, action=hold.uid)
        if end.error is None:
            raise ValueError("a held action that does not run has a reason")
        seq = self._ended(tx, action.session, action.uid, end.status, end.error)
        tx.update(hold._replace(status=state, last_seq=seq), hold.last_seq)
        record = action._replace(status=end.status.value, kind=end.error.kind.value, last_seq=seq)
        tx.update(record, action.last_seq)
        return record

    def claim_held(
        self, tx: Transaction, action: ActionRecord, hold: HoldRecord, said: Tally, timeout: float
    ) -> ActionRecord:
        """Claim a released action for this run: of all who try, one succeeds."""
        data: dict[str, JSONValue] = {
            "hold": hold.hold_id,
            "digest": hold.digest,
            "approved_by": list(said.approved_by),
        }
        tx.append(EventKind.HOLD_RELEASED, data, session=action.session, action=action.uid)
        seq = self._executing(tx, action.session, action.uid, timeout)
        tx.update(hold._replace(status="released", last_seq=seq), hold.last_seq)
        record = action._replace(
            status=ActionStatus.EXECUTING.value,
            run=self.run,
            attempts=action.attempts + 1,
            last_seq=seq,
        )
        tx.update(record, action.last_seq)
        return record

    def end(
        self, tx: Transaction, action: ActionRecord, end: Ending, duration_ms: float | None
    ) -> ActionRecord:
        """Record how an execution ended; a late end of one that was in doubt settles it."""
        kind = {
            ActionStatus.SUCCEEDED: EventKind.ACTION_SUCCEEDED,
            ActionStatus.IN_DOUBT: EventKind.ACTION_IN_DOUBT,
            ActionStatus.SKIPPED: EventKind.ACTION_CANCELLED,
        }.get(end.status, EventKind.ACTION_FAILED)
        data: dict[str, JSONValue] = {"status": end.status.value, "attempts": action.attempts}
        if duration_ms is not None:
            data["duration_ms"] = duration_ms
        if end.status is ActionStatus.SUCCEEDED:
            data["output"] = end.output
        if end.error is not None:
            data["error"] = end.error.to_json()
        if action.status == ActionStatus.IN_DOUBT:
            kind = EventKind.ACTION_SETTLED
        seq = tx.append(kind, data, session=action.session, action=action.uid)
        record = action._replace(
            status=end.status.value,
            kind=None if end.error is None else end.error.kind.value,
            last_seq=seq,
        )
        tx.update(record, action.last_seq)
        return record

    def _executing(self, tx: Transaction, session: str, uid: str, timeout: float) -> int:
        data: dict[str, JSONValue] = {"attempt": 1, "timeout_ms": round(timeout * 1000)}
        return tx.append(EventKind.ACTION_EXECUTING, data, session=session, action=uid)

    def _ended(
        self, tx: Transaction, session: str, uid: str, status: ActionStatus, error: OutcomeError
    ) -> int:
        kind = (
            EventKind.ACTION_CANCELLED
            if status is ActionStatus.SKIPPED
            else EventKind.ACTION_REJECTED
        )
        data: dict[str, JSONValue] = {"status": status.value, "error": error.to_json()}
        return tx.append(kind, data, session=session, action=uid)

    def _hold_event(self, tx: Transaction, kind: EventKind, record: HoldRecord) -> int:
        data: dict[str, JSONValue] = {
            "hold": record.hold_id,
            "digest": record.digest,
            "requirement": jsonvalue.parse(record.requirement),
            "reason": record.reason,
            "deadline": None if record.deadline is None else clock.to_text(record.deadline),
        }
        return tx.append(kind, data, session=record.session, action=record.uid)

    def _hold_record(
        self,
        tx: Transaction,
        hold_id: str,
        uid: str,
        session: str,
        tool: str,
        args: dict[str, JSONValue],
        verdict: Verdict,
    ) -> HoldRecord:
        requirement = required(verdict)
        return HoldRecord(
            hold_id=hold_id,
            uid=uid,
            session=session,
            tool=tool,
            status=HoldState.PENDING.value,
            requirement=jsonvalue.canonical(requirement.to_json()),
            rules=jsonvalue.canonical(list(verdict.rules)),
            reason=verdict.reason,
            digest=hold_digest(uid, tool, args, requirement),
            policy_digest=verdict.digest,
            opened_at=tx.now,
            deadline=deadline_of(requirement, tx.now),
            seen=0,
            last_seq=0,
        )


def required(verdict: Verdict) -> ApprovalRequirement:
    """Return what a hold's verdict asks of people."""
    if verdict.requirement is None:
        raise ValueError("a verdict that holds says what it requires")
    return verdict.requirement
