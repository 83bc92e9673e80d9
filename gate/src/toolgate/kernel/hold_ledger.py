"""What is written about an action while people are asked: its hold, their answers, their edits.

Like :mod:`toolgate.kernel.ledger`, which it adds to: no decisions, no waiting.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from toolgate import clock, jsonvalue
from toolgate.approvals.hold import Hold, deadline_of, hold_digest
from toolgate.approvals.tally import HoldState, Tally, Version
from toolgate.ir import ActionStatus, OutcomeError
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Transaction, new_id
from toolgate.journal.records import ActionRecord, ApprovalRow, HoldRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel import past
from toolgate.kernel.answers import Heard
from toolgate.kernel.ledger import Ledger, heard_before, settled_row
from toolgate.kernel.records import Call, consequences
from toolgate.kernel.redaction import blind
from toolgate.kernel.result import Ending
from toolgate.policy.verdict import ApprovalRequirement, Verdict


@dataclass(frozen=True, slots=True)
class HoldLedger(Ledger):
    """Writes for one project, agent and run, those about holds included."""

    def deduplicate_held(
        self,
        tx: Transaction,
        action: ActionRecord,
        hold: HoldRecord,
        said: Tally,
        call: Call,
        of: str,
        output: JSONValue,
        emits: tuple[str, ...] = (),
    ) -> dict[str, JSONValue]:
        """Release a held action with the recorded result of another: see :meth:`deduplicate`."""
        self._released(tx, action, hold, said)
        seq, changes = self._deduplicated(tx, action.session, call, action.uid, of, output, emits)
        tx.update(hold._replace(status="released", last_seq=seq), hold.last_seq)
        ended = action._replace(status=ActionStatus.SUCCEEDED.value, last_seq=seq)
        tx.update(settled_row(tx, ended), action.last_seq)
        return changes

    def hold(
        self, tx: Transaction, session: str, call: Call, uid: str, verdict: Verdict
    ) -> tuple[ActionRecord, HoldRecord]:
        """Hold a call for people."""
        hold_id = new_id(tx.now)
        record = self._hold_record(tx, hold_id, uid, session, call, verdict)
        seq = self._hold_event(tx, EventKind.HOLD_OPENED, record)
        record = record._replace(last_seq=seq)
        tx.insert(record)
        held = self.insert(tx, session, call, uid, ActionStatus.HELD, seq, hold=hold_id)
        return held, record

    def reopen(
        self,
        tx: Transaction,
        action: ActionRecord,
        old: HoldRecord,
        call: Call,
        verdict: Verdict,
        requirement: ApprovalRequirement,
    ) -> tuple[HoldRecord, ActionRecord]:
        """Ask again, under another requirement: what was said before is void."""
        verdict = replace(verdict, requirement=requirement)
        fresh = self._hold_record(tx, old.hold_id, old.uid, old.session, call, verdict, old.seen)
        return self._reopened(tx, action, old, fresh._replace(seen=old.seen))

    def edit(
        self,
        tx: Transaction,
        action: ActionRecord,
        hold: HoldRecord,
        version: Version,
        call: Call,
    ) -> tuple[HoldRecord, ActionRecord]:
        """Put an approver's arguments in the place of the action's; ``call`` is made with them."""
        data: dict[str, JSONValue] = {
            "hold": hold.hold_id,
            "digest": version.digest,
            "by": version.by,
            "args": call.args if call.redaction is None else call.redaction.args,
            "content": call.content,
            **heard_before(tx, hold).to_json(),
        }
        seq = tx.append(EventKind.HOLD_EDITED, data, session=hold.session, action=hold.uid)
        record = hold._replace(digest=version.digest, last_seq=seq)
        tx.update(record, hold.last_seq)
        edited = action._replace(args=call.args_json, last_seq=seq)
        tx.update(edited, action.last_seq)
        return record, edited

    def refuse_edit(
        self,
        tx: Transaction,
        action: ActionRecord,
        hold: HoldRecord,
        opened: Hold,
        version: Version,
        error: OutcomeError,
        *,
        heard: bool,
    ) -> tuple[HoldRecord, ActionRecord]:
        """Take an edit back that may not run: the hold is as it was ``opened``, and nothing said.

        ``heard`` says that the log tells that the edit counted.
        """
        if heard:
            data: dict[str, JSONValue] = {
                "reason": edit_refused(error),
                "approver": version.by,
                "hold": hold.hold_id,
            }
            seq = tx.append(EventKind.APPROVAL_REFUSED, data, session=hold.session, action=hold.uid)
            told = hold._replace(last_seq=seq)
            tx.update(told, hold.last_seq)
            hold = told
        fresh = hold._replace(digest=opened.reopened(hold.seen).digest)
        return self._reopened(tx, action, hold, fresh)

    def _reopened(
        self, tx: Transaction, action: ActionRecord, old: HoldRecord, fresh: HoldRecord
    ) -> tuple[HoldRecord, ActionRecord]:
        seq = self._hold_event(tx, EventKind.HOLD_REOPENED, fresh, Heard(old.seen, ()))
        record = fresh._replace(last_seq=seq)
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
        if not new:
            return record
        heard = heard_before(tx, record)
        # What an older program has heard, and not named, is named from here on.
        if heard.digests is None:
            heard = heard.more(row for row in rows if row.seq in counted and row not in new)
        for row in new:
            if row.seq in counted:
                heard = heard.more([row])
                statement = counted[row.seq]
                kind = EventKind.APPROVAL_RECORDED
                data: dict[str, JSONValue] = {
                    "approver": statement.approver,
                    "verdict": statement.verdict,
                    "reason": statement.reason,
                    "digest": statement.digest,
                    "arrived": clock.to_text(row.at),
                }
                if statement.args is not None:
                    data["edited"] = True
                if statement.args is not None and said.secret:
                    data["envelope_sha256"] = hashlib.sha256(row.envelope).hexdigest()
                else:
                    data["envelope"] = row.envelope.decode()
                if not statement.signed:
                    data["unsigned"] = True
            else:
                kind = EventKind.APPROVAL_REFUSED
                data = {"reason": refused[row.seq], **row.evidence()}
            data |= {"hold": record.hold_id, **heard.to_json()}
            seq = tx.append(kind, data, session=record.session, action=record.uid)
        moved = record._replace(seen=new[-1].seq, last_seq=seq)
        tx.update(moved, record.last_seq)
        return moved

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
        ended = action._replace(status=end.status.value, kind=end.error.kind.value, last_seq=seq)
        record = settled_row(tx, ended)
        tx.update(record, action.last_seq)
        return record

    def claim_held(
        self,
        tx: Transaction,
        action: ActionRecord,
        hold: HoldRecord,
        said: Tally,
        timeout: float,
        emits: tuple[str, ...] = (),
    ) -> ActionRecord:
        """Claim a released action for this run: of all who try, one succeeds."""
        heard = heard_before(tx, hold).to_json()
        self._released(tx, action, hold, said)
        attempt = action.attempts + 1
        seq = self._executing(tx, action.session, action.uid, attempt, timeout, emits, heard)
        tx.update(hold._replace(status="released", last_seq=seq), hold.last_seq)
        record = action._replace(
            status=ActionStatus.EXECUTING.value, run=self.run, attempts=attempt, last_seq=seq
        )
        tx.update(record, action.last_seq)
        if action.attempts == 0:
            past.count_call(tx, record)
        return record

    def release(
        self, tx: Transaction, action: ActionRecord, hold: HoldRecord, said: Tally
    ) -> ActionRecord:
        """Release a held action whose end is recorded in this very transaction."""
        seq = self._released(tx, action, hold, said)
        tx.update(hold._replace(status="released", last_seq=seq), hold.last_seq)
        released = action._replace(
            status=ActionStatus.EXECUTING.value, attempts=action.attempts + 1, last_seq=seq
        )
        tx.update(released, action.last_seq)
        return released

    def hold_again(
        self, tx: Transaction, action: ActionRecord, call: Call, verdict: Verdict
    ) -> tuple[ActionRecord, HoldRecord]:
        """Hold an action for people that is proposed again."""
        hold_id = new_id(tx.now)
        record = self._hold_record(tx, hold_id, action.uid, action.session, call, verdict)
        seq = self._hold_event(tx, EventKind.HOLD_OPENED, record)
        record = record._replace(last_seq=seq)
        tx.insert(record)
        held = action._replace(status=ActionStatus.HELD.value, hold=hold_id, last_seq=seq)
        tx.update(held, action.last_seq)
        return held, record

    def _released(
        self, tx: Transaction, action: ActionRecord, hold: HoldRecord, said: Tally
    ) -> int:
        data: dict[str, JSONValue] = {
            "hold": hold.hold_id,
            "digest": said.version.digest,
            "approved_by": list(said.approved_by),
        }
        if said.unsigned:
            data["unsigned"] = list(said.unsigned)
        return tx.append(EventKind.HOLD_RELEASED, data, session=action.session, action=action.uid)

    def _hold_event(
        self, tx: Transaction, kind: EventKind, record: HoldRecord, heard: Heard | None = None
    ) -> int:
        """Journal a hold; of one that is reopened, ``heard`` tells what is void."""
        data: dict[str, JSONValue] = {
            "hold": record.hold_id,
            "digest": record.digest,
            "requirement": jsonvalue.parse(record.requirement),
            "reason": record.reason,
            "deadline": None if record.deadline is None else clock.to_text(record.deadline),
        }
        if heard is not None:
            data |= heard.to_json()
        seq = tx.append(kind, data, session=record.session, action=record.uid)
        # Whoever reads the hold reads the event that its row stands at.
        tx.flush()
        return seq

    def _hold_record(
        self,
        tx: Transaction,
        hold_id: str,
        uid: str,
        session: str,
        call: Call,
        verdict: Verdict,
        after: int = 0,
    ) -> HoldRecord:
        requirement = required(verdict)
        return HoldRecord(
            hold_id=hold_id,
            uid=uid,
            session=session,
            tool=call.tool,
            status=HoldState.PENDING.value,
            requirement=jsonvalue.canonical(requirement.to_json()),
            rules=jsonvalue.canonical(list(verdict.rules)),
            reason=verdict.reason,
            digest=hold_digest(
                uid,
                call.tool,
                call.args,
                requirement,
                *consequences(call.action),
                blind(tx.redacting, uid),
                after,
            ),
            policy_digest=verdict.digest,
            opened_at=tx.now,
            deadline=deadline_of(requirement, tx.now),
            seen=0,
            last_seq=0,
        )


def edit_refused(error: OutcomeError) -> str:
    """Return why an edit does not count that was looked at: the gate's reason."""
    return f"the edit is refused: {error.message}"


def required(verdict: Verdict) -> ApprovalRequirement:
    """Return what a hold's verdict asks of people."""
    if verdict.requirement is None:
        raise ValueError("a verdict that holds says what it requires")
    return verdict.requirement
