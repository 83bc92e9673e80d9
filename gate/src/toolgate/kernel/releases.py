"""Held actions: how they stand, and how they are released, refused or taken back.

Everything here happens inside a transaction, like :mod:`toolgate.kernel.steps`.
"""

from __future__ import annotations

from toolgate import jsonvalue
from toolgate.approvals.hold import Hold
from toolgate.approvals.tally import HoldState
from toolgate.errors import JournalTampered
from toolgate.ir import ActionStatus, Outcome, OutcomeError
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Transaction
from toolgate.journal.records import ActionRecord, HoldRecord, SessionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.admission import unregistered
from toolgate.kernel.allowance import Allowance, Exhausted, NoToken, Usage
from toolgate.kernel.judge import Judge, Prepared
from toolgate.kernel.ledger import Ledger
from toolgate.kernel.places import call_of
from toolgate.kernel.records import (
    Call,
    count,
    decision_json,
    decision_of,
    hold_of,
    hold_summary,
)
from toolgate.kernel.release import Release, release
from toolgate.kernel.result import Ending, ending_of_state_action
from toolgate.kernel.state import StateView
from toolgate.kernel.step import Claim, Settings, Step, Unprepared, held_step, timeout_of
from toolgate.plan import effects


class Releases:
    """The held actions of one project and agent, as one gate sees them."""

    def __init__(
        self, judge: Judge, allowance: Allowance, ledger: Ledger, settings: Settings
    ) -> None:
        """``ledger`` writes what becomes of them."""
        self._judge = judge
        self._allowance = allowance
        self._ledger = ledger
        self._settings = settings
        self._released: set[str] = set()

    def released(self, uid: str) -> None:
        """Remember that a released action has run: the store may be set back, this may not."""
        self._released.add(uid)

    def standing(self, tx: Transaction, record: ActionRecord) -> Outcome:
        """Return how an action stands that is held or executing."""
        decision = decision_of(tx, record.uid)
        if record.status == ActionStatus.EXECUTING:
            return Outcome(
                ActionStatus.EXECUTING, record.uid, decision=decision, attempts=record.attempts
            )
        _, hold = self.hold(tx, record)
        said = count(hold, tx.approvals(hold.hold_id), self._settings.approvers)
        summary = hold_summary(hold, said.approved_by)
        error = None
        if said.state(hold, tx.now) is HoldState.RELEASED and not self._runnable(tx, record):
            error = unregistered(record.tool)
        return Outcome(ActionStatus.HELD, record.uid, error=error, hold=summary, decision=decision)

    def answered(self, tx: Transaction, record: ActionRecord) -> bool:
        """Tell, without a trace, whether resuming a held action would bring it on."""
        _, hold = self.hold(tx, record)
        said = count(hold, tx.approvals(hold.hold_id), self._settings.approvers)
        match said.state(hold, tx.now):
            case HoldState.PENDING:
                return False
            case HoldState.DENIED | HoldState.EXPIRED:
                return True
        return self._runnable(tx, record)

    def withdraw(self, tx: Transaction, record: ActionRecord, error: OutcomeError) -> Outcome:
        """Take a held action back, because of ``error``: a later approval runs nothing."""
        hold_record, hold = self.hold(tx, record)
        end = Ending(ActionStatus.SKIPPED, error=error)
        self._ledger.refuse_held(tx, record, hold_record, "withdrawn", end)
        return Outcome(
            ActionStatus.SKIPPED,
            record.uid,
            error=error,
            hold=hold_summary(hold, ()),
            decision=decision_of(tx, record.uid),
        )

    def resume(
        self,
        tx: Transaction,
        record: ActionRecord,
        usage: Usage | None,
        prepared: Prepared | None,
        *,
        patient: bool,
    ) -> Step:
        """Bring a held action on as far as it goes: claim it, end it, or leave it held.

        ``usage`` is its proposal's. A released call that is not ``prepared`` is given back to be.
        Without ``patient`` one that its rate limit has no token for stays held.
        """
        hold_record, hold = self.hold(tx, record)
        rows = tx.approvals(hold.hold_id)
        said = count(hold, rows, self._settings.approvers)
        call = self._as_proposed(tx, record)
        session = self._session_of(tx, record)
        runnable = self._judge.can_run(call)
        if prepared is None or prepared.call.args_json != call.args_json:
            if runnable and said.state(hold, tx.now) is HoldState.RELEASED:
                return Unprepared(record.uid, call)
            prepared = Prepared(call, None, None)
        case = prepared
        tool = case.tool
        step = release(
            hold,
            said,
            tx.now,
            runnable=runnable,
            examine=lambda: self._judge.admit(tx, case, record.uid, session, tx.now),
        )
        repeat = refusal = None
        if step.step == "execute":
            if record.uid in self._released:
                raise JournalTampered(
                    f"this gate has released action {record.uid} already: the journal was set back"
                )
            repeat = self._allowance.repeat(tx, record.session, call, tool)
            if repeat is None:
                refusal = self._allowance.refusal(tx, record.session, call, tool, usage)
            if isinstance(refusal, NoToken):
                held = held_step(
                    record, hold, decision_of(tx, record.uid), said.approved_by, refusal.error
                )
                return refusal if patient else held.outcome
        hold_record = self._ledger.heard(tx, hold_record, said, rows)
        if step.verdict is None:
            decision = decision_of(tx, record.uid)
        else:
            decision = decision_json(step.verdict, self._settings.mode)
            self._ledger.decide(tx, record.session, record.uid, decision)
        if repeat is not None:
            changes = self._ledger.deduplicate_held(
                tx, record, hold_record, said, call, repeat.uid, repeat.output, repeat.emits
            )
            return Outcome(
                ActionStatus.SUCCEEDED,
                record.uid,
                output=repeat.output,
                decision=decision,
                replayed=True,
                state_changes=changes,
            )
        if isinstance(refusal, Exhausted):
            self._ledger.reached(tx, record.session, record.uid, refusal.error)
            end = Ending(ActionStatus.SKIPPED, error=refusal.error)
            self._ledger.refuse_held(tx, record, hold_record, "released", end)
            return Outcome(ActionStatus.SKIPPED, record.uid, error=refusal.error, decision=decision)
        if step.step == "execute" and tool is None:
            released = self._ledger.release(tx, record, hold_record, said)
            end = ending_of_state_action(call.action, StateView(tx, record.session))
            changes = effects.writes(call.action) if end.status is ActionStatus.SUCCEEDED else {}
            self._ledger.end(tx, released, end, None, changes)
            return Outcome(
                end.status,
                record.uid,
                output=end.output,
                error=end.error,
                decision=decision,
                attempts=released.attempts,
                state_changes=changes,
            )
        if step.step == "execute" and tool is not None:
            timeout = timeout_of(tool, call)
            emits = tool.contract.emits
            claimed = self._ledger.claim_held(tx, record, hold_record, said, timeout, emits)
            return Claim(claimed, call, tool, decision, timeout)
        return self._not_released(
            tx, record, hold_record, hold, call, step, said.approved_by, decision
        )

    def _not_released(
        self,
        tx: Transaction,
        record: ActionRecord,
        hold_record: HoldRecord,
        hold: Hold,
        call: Call,
        step: Release,
        approved_by: tuple[str, ...],
        decision: dict[str, JSONValue] | None,
    ) -> Step:
        if step.step == "reject" and step.error is not None:
            end = Ending(ActionStatus.REJECTED, error=step.error)
            self._ledger.refuse_held(tx, record, hold_record, step.state.value, end)
            return Outcome(
                ActionStatus.REJECTED,
                record.uid,
                error=step.error,
                hold=hold_summary(hold, approved_by),
                decision=decision,
            )
        if step.step == "reopen" and step.verdict is not None:
            hold_record, record = self._ledger.reopen(tx, record, hold_record, call, step.verdict)
            return held_step(record, hold_of(hold_record, record, call), decision)
        held = held_step(record, hold, decision, approved_by, step.error)
        # Approved, but this client cannot run it: waiting would not change that.
        return held if step.error is None else held.outcome

    def _runnable(self, tx: Transaction, record: ActionRecord) -> bool:
        return self._judge.can_run(call_of(tx, record))

    def _as_proposed(self, tx: Transaction, record: ActionRecord) -> Call:
        """Return a held action's call, with the time its caller gave it."""
        call = call_of(tx, record)
        event = tx.last_event(record.uid, EventKind.ACTION_PROPOSED)
        timeout_ms = None if event is None else jsonvalue.parse(event.data).get("timeout_ms")
        return call if timeout_ms is None else call._replace(timeout=timeout_ms / 1000)

    def _session_of(self, tx: Transaction, record: ActionRecord) -> SessionRecord:
        session = tx.session(record.session)
        if session is None:
            raise JournalTampered(f"the session of action {record.uid} is missing")
        return session

    def hold(self, tx: Transaction, record: ActionRecord) -> tuple[HoldRecord, Hold]:
        """Return a held action's hold; raises :class:`JournalTampered`."""
        hold_record = None if record.hold is None else tx.hold(record.hold)
        if hold_record is None:
            raise JournalTampered(f"the hold of action {record.uid} is missing from the journal")
        if tx.last_seq_of(record.uid) != hold_record.last_seq or hold_record.status != "pending":
            raise JournalTampered(
                f"the log of action {record.uid} does not end where its hold's row says: an old "
                "row was put back, or events are missing; nothing was done on its word"
            )
        return hold_record, hold_of(hold_record, record, call_of(tx, record))
