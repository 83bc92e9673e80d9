"""Held actions: how they stand, and how they are released, refused or taken back.

Everything here happens inside a transaction, like :mod:`toolgate.kernel.steps`.
"""

from __future__ import annotations

from dataclasses import dataclass

from toolgate import faults, jsonvalue
from toolgate.approvals.hold import Hold
from toolgate.approvals.tally import HoldState, Tally
from toolgate.errors import JournalTampered
from toolgate.ir import ActionStatus, Outcome, OutcomeError
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Transaction
from toolgate.journal.records import ActionRecord, ApprovalRow, HoldRecord, SessionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel import edits
from toolgate.kernel.admission import unregistered
from toolgate.kernel.allowance import Allowance, Exhausted, NoToken, Repeat, Usage
from toolgate.kernel.answers import Answers, answers
from toolgate.kernel.hold_ledger import HoldLedger, edit_refused
from toolgate.kernel.judge import Judge, Prepared
from toolgate.kernel.places import call_of
from toolgate.kernel.records import (
    Call,
    decision_json,
    decision_of,
    edited_args,
    hold_of,
    hold_summary,
)
from toolgate.kernel.release import Release, approval_denied, approval_timeout, release
from toolgate.kernel.result import Ending, ending_of_state_action
from toolgate.kernel.state import StateView
from toolgate.kernel.step import Claim, Settings, Step, Unprepared, held_step, timeout_of
from toolgate.kernel.tools import RegisteredTool
from toolgate.plan import effects


@dataclass(frozen=True, slots=True)
class _Case:
    """A held action that was looked at, as it is written: with the arguments in force.

    ``edited`` are these as its caller is told them, when they are an approver's.
    """

    record: ActionRecord
    hold_record: HoldRecord
    hold: Hold
    said: Tally
    call: Call
    decision: dict[str, JSONValue] | None
    edited: dict[str, JSONValue] | None


class Releases:
    """The held actions of one project and agent, as one gate sees them."""

    def __init__(
        self, judge: Judge, allowance: Allowance, ledger: HoldLedger, settings: Settings
    ) -> None:
        """``ledger`` writes what becomes of them."""
        self._judge = judge
        self._allowance = allowance
        self._ledger = ledger
        self._settings = settings

    def standing(self, tx: Transaction, record: ActionRecord) -> Outcome:
        """Return how an action stands that is held or executing."""
        decision = decision_of(tx, record)
        if record.status == ActionStatus.EXECUTING:
            return Outcome(
                ActionStatus.EXECUTING,
                record.uid,
                decision=decision,
                attempts=record.attempts,
                edited_args=edited_args(tx, record),
            )
        _, hold = self.hold(tx, record)
        _, said = self._answers(tx, hold)
        summary = hold_summary(hold, said)
        error = None
        if said.state(hold, tx.now) is HoldState.RELEASED and not self._runnable(tx, record):
            error = unregistered(record.tool)
        return Outcome(
            ActionStatus.HELD,
            record.uid,
            error=error,
            hold=summary,
            decision=decision,
            attempts=record.attempts,
        )

    def answered(self, tx: Transaction, record: ActionRecord) -> bool:
        """Tell whether resuming a held action would bring it on; journals what has been said.

        What is denied or too late has been ended before (:meth:`conclude`). An edit that nobody has
        heard of is left to the resume, which judges it.
        """
        hold_record, hold = self.hold(tx, record)
        rows, said = self._answers(tx, hold)
        edited = said.version.seq > hold_record.seen
        if not edited and self._ledger.heard(tx, hold_record, said, rows) is not hold_record:
            tx.flush()
        brought_on = edited or said.state(hold, tx.now) is not HoldState.PENDING
        return brought_on and self._runnable(tx, record)

    def conclude(self, tx: Transaction, record: ActionRecord) -> str | None:
        """End a held action that is denied, or was not approved in time, and return its hold's id.

        ``None``: it stays held, because it is released, or may be yet.
        """
        hold_record, hold = self.hold(tx, record)
        rows, said = self._answers(tx, hold)
        state = said.state(hold, tx.now)
        if state is HoldState.DENIED:
            error = approval_denied(said)
        elif state is HoldState.EXPIRED:
            error = approval_timeout(hold)
        else:
            return None
        hold_record = self._ledger.heard(tx, hold_record, said, rows)
        end = Ending(ActionStatus.REJECTED, error=error)
        self._ledger.refuse_held(tx, record, hold_record, state.value, end)
        return hold.hold_id

    def withdraw(self, tx: Transaction, record: ActionRecord, error: OutcomeError) -> Outcome:
        """Take a held action back, because of ``error``: a later approval runs nothing."""
        hold_record, hold = self.hold(tx, record)
        end = Ending(ActionStatus.SKIPPED, error=error)
        self._ledger.refuse_held(tx, record, hold_record, "withdrawn", end)
        return Outcome(
            ActionStatus.SKIPPED,
            record.uid,
            error=error,
            hold=hold_summary(hold),
            decision=decision_of(tx, record),
            attempts=record.attempts,
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
        rows, said = self._answers(tx, hold)
        version = said.version
        held_call = self.as_proposed(tx, record)
        call = edits.edited_or_not(held_call, version)
        session = self.session_of(tx, record)
        runnable = self._judge.can_run(call)
        fresh = version.seq > hold_record.seen
        if prepared is None or prepared.call.args_json != call.args_json:
            state = said.state(hold, tx.now)
            looked_at = state is HoldState.RELEASED or (state is HoldState.PENDING and fresh)
            if runnable and looked_at:
                return Unprepared(record.uid, call)
            prepared = Prepared(call, None, None)
        moved = edits.moved(held_call, call)
        judged = prepared if moved is None else prepared._replace(error=moved)
        edited = edited_args(tx, record)
        step = release(
            hold,
            said,
            tx.now,
            runnable=runnable,
            fresh=fresh,
            edited=edited is not None,
            examine=lambda: self._judge.admit(tx, judged, record.uid, session, tx.now),
        )
        faults.hit("hold.judged")
        if step.step == "refuse_edit" and step.error is not None:
            return self._refuse_edit(tx, record, hold_record, hold, said, rows, step.error)
        repeat = refusal = None
        if step.step == "execute":
            repeat = self._allowance.repeat(tx, record.session, call, judged.tool)
            if repeat is None:
                refusal = self._room(tx, record, call, judged.tool, usage)
            if isinstance(refusal, NoToken):
                held = held_step(record, hold, decision_of(tx, record), said, refusal.error)
                return refusal if patient else held.outcome
        hold_record = self._ledger.heard(tx, hold_record, said, rows)
        if version.by is not None and step.step in ("execute", "reopen"):
            hold_record, record = self._ledger.edit(tx, record, hold_record, version, call)
            edited = call.args if call.redaction is None else call.redaction.args
        if step.verdict is None:
            decision = decision_of(tx, record)
        else:
            decision = decision_json(step.verdict, self._settings.mode)
            self._ledger.decide(tx, record.session, record.uid, decision, step.stood_on)
        case = _Case(record, hold_record, hold, said, call, decision, edited)
        if step.step != "execute":
            return self._not_released(tx, case, step)
        if repeat is not None:
            return self._repeated(tx, case, repeat)
        if refusal is not None:
            return self._exhausted(tx, case, refusal.error)
        return self._run(tx, case, judged.tool)

    def _room(
        self,
        tx: Transaction,
        record: ActionRecord,
        call: Call,
        tool: RegisteredTool | None,
        usage: Usage | None,
    ) -> Exhausted | NoToken | None:
        """Use up what a released action takes: once as an action, each time as an attempt."""
        if record.attempts and tool is not None:
            return self._allowance.attempted(tx, record.session, tool, usage)
        return self._allowance.refusal(tx, record.session, call, tool, usage)

    def _repeated(self, tx: Transaction, case: _Case, repeat: Repeat) -> Outcome:
        """Release an action with the recorded result that answers it."""
        changes = self._ledger.deduplicate_held(
            tx,
            case.record,
            case.hold_record,
            case.said,
            case.call,
            repeat.uid,
            repeat.output,
            repeat.emits,
        )
        return Outcome(
            ActionStatus.SUCCEEDED,
            case.record.uid,
            output=repeat.output,
            decision=case.decision,
            replayed=True,
            state_changes=changes,
            edited_args=case.edited,
        )

    def _exhausted(self, tx: Transaction, case: _Case, error: OutcomeError) -> Outcome:
        """End a released action that a budget has no room for."""
        self._ledger.reached(tx, case.record.session, case.record.uid, error)
        end = Ending(ActionStatus.SKIPPED, error=error)
        self._ledger.refuse_held(tx, case.record, case.hold_record, "released", end)
        return Outcome(
            ActionStatus.SKIPPED,
            case.record.uid,
            error=error,
            decision=case.decision,
            edited_args=case.edited,
        )

    def _run(self, tx: Transaction, case: _Case, tool: RegisteredTool | None) -> Outcome | Claim:
        """Claim a released tool call, or carry a state action out."""
        record, hold_record, call = case.record, case.hold_record, case.call
        if tool is not None:
            timeout, emits = timeout_of(tool, call), tool.contract.emits
            claimed = self._ledger.claim_held(tx, record, hold_record, case.said, timeout, emits)
            faults.hit("hold.claimed")
            return Claim(claimed, call, tool, case.decision, timeout, case.edited)
        released = self._ledger.release(tx, record, hold_record, case.said)
        end = ending_of_state_action(call.action, StateView(tx, record.session))
        changes = effects.writes(call.action) if end.status is ActionStatus.SUCCEEDED else {}
        self._ledger.end(tx, released, end, None, changes)
        return Outcome(
            end.status,
            record.uid,
            output=end.output,
            error=end.error,
            decision=case.decision,
            attempts=released.attempts,
            state_changes=changes,
            edited_args=case.edited,
        )

    def _refuse_edit(
        self,
        tx: Transaction,
        record: ActionRecord,
        hold_record: HoldRecord,
        hold: Hold,
        said: Tally,
        rows: list[ApprovalRow],
        error: OutcomeError,
    ) -> Step:
        """Leave an action held whose edit may not run, as it was when it was opened."""
        version = said.version
        heard = version.seq <= hold_record.seen
        said = said.without(version.seq, edit_refused(error))
        hold_record = self._ledger.heard(tx, hold_record, said, rows)
        hold_record, record = self._ledger.refuse_edit(
            tx, record, hold_record, hold, version, error, heard=heard
        )
        return held_step(record, hold, decision_of(tx, record))

    def _not_released(self, tx: Transaction, case: _Case, step: Release) -> Step:
        record, hold_record, hold = case.record, case.hold_record, case.hold
        if step.step == "reject" and step.error is not None:
            end = Ending(ActionStatus.REJECTED, error=step.error)
            self._ledger.refuse_held(tx, record, hold_record, step.state.value, end)
            return Outcome(
                ActionStatus.REJECTED,
                record.uid,
                error=step.error,
                hold=hold_summary(hold, case.said),
                decision=case.decision,
                edited_args=case.edited,
            )
        if step.verdict is not None and step.requirement is not None:
            hold_record, record = self._ledger.reopen(
                tx, record, hold_record, case.call, step.verdict, step.requirement
            )
            return held_step(record, hold_of(tx, hold_record, record, case.call), case.decision)
        held = held_step(record, hold, case.decision, case.said, step.error)
        # Approved, but this client cannot run it: waiting would not change that.
        return held if step.error is None else held.outcome

    def _answers(self, tx: Transaction, hold: Hold) -> Answers:
        settings = self._settings
        return answers(tx, hold, settings.approvers, unsigned=settings.allow_unsigned)

    def _runnable(self, tx: Transaction, record: ActionRecord) -> bool:
        return self._judge.can_run(call_of(tx, record))

    def as_proposed(self, tx: Transaction, record: ActionRecord) -> Call:
        """Return a held action's call, with the time its caller gave it."""
        call = call_of(tx, record)
        event = tx.last_event(record.uid, EventKind.ACTION_PROPOSED, record.last_seq)
        timeout_ms = None if event is None else jsonvalue.parse(event.data).get("timeout_ms")
        return call if timeout_ms is None else call._replace(timeout=timeout_ms / 1000)

    def session_of(self, tx: Transaction, record: ActionRecord) -> SessionRecord:
        """Return an action's session; raises :class:`JournalTampered` when it is missing."""
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
        return hold_record, hold_of(tx, hold_record, record, call_of(tx, record))
