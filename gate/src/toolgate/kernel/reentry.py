"""Actions whose bodies have stopped themselves, to be entered again from the top.

A body that answers ``suspended`` has not ended: it waits for something that is not the gate's to
know, such as a person whom its framework asks. Its action goes back to what it was before:

1. one that was held is held again under the same hold, and what was said on that stands: it is
   released as before when somebody resumes it, and every rule of a release holds anew;
2. one that was allowed is ``proposed`` again. Whoever resumes it has everything judged that is
   judged of a proposed call, as it is now: it is claimed again, rejected, or held.

Each entry is an attempt, which limits count; ``session.calls`` counts the call once. A gate that
dies before it has recorded the suspension leaves the action in doubt, as with any body.
"""

from __future__ import annotations

from toolgate.errors import JournalTampered
from toolgate.ir import ActionStatus, Outcome, OutcomeError
from toolgate.journal.journal import Transaction
from toolgate.journal.records import ActionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.admission import unregistered
from toolgate.kernel.allowance import Allowance, NoToken, Usage
from toolgate.kernel.hold_ledger import HoldLedger
from toolgate.kernel.judge import Judge, Prepared
from toolgate.kernel.records import check_place, decision_json, decision_of, hold_of
from toolgate.kernel.releases import Releases
from toolgate.kernel.result import Ending
from toolgate.kernel.step import Claim, Settings, Step, Unprepared, held_step, timeout_of


class Reentry:
    """The suspended actions of one project and agent, as one gate sees them."""

    def __init__(
        self,
        judge: Judge,
        allowance: Allowance,
        ledger: HoldLedger,
        releases: Releases,
        settings: Settings,
    ) -> None:
        """``ledger`` writes what becomes of them."""
        self._judge = judge
        self._allowance = allowance
        self._ledger = ledger
        self._releases = releases
        self._settings = settings

    def suspend(self, tx: Transaction, claim: Claim, duration_ms: float) -> Outcome:
        """Record that a claimed action's body has stopped itself.

        Raises :class:`~toolgate.journal.journal.RecordChanged` like every end of an execution.
        """
        hold = None if claim.record.hold is None else tx.hold(claim.record.hold)
        if claim.record.hold is not None and hold is None:
            raise JournalTampered(f"the hold {claim.record.hold} is missing from the journal")
        record = self._ledger.suspend(tx, claim.record, hold, duration_ms)
        tx.flush()
        return self._releases.standing(tx, record) if hold else self.standing(tx, record)

    def standing(self, tx: Transaction, record: ActionRecord) -> Outcome:
        """Return how an action stands that is proposed again; raises :class:`JournalTampered`."""
        check_place(tx, record)
        error = None if self._judge.has_tool(record.tool) else unregistered(record.tool)
        return Outcome(
            ActionStatus.PROPOSED,
            record.uid,
            error=error,
            decision=decision_of(tx, record),
            attempts=record.attempts,
        )

    def withdraw(self, tx: Transaction, record: ActionRecord, error: OutcomeError) -> Outcome:
        """End an action that is proposed again, because of ``error``: nobody enters it any more."""
        check_place(tx, record)
        self._ledger.end(tx, record, Ending(ActionStatus.SKIPPED, error=error), None)
        return Outcome(
            ActionStatus.SKIPPED,
            record.uid,
            error=error,
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
        """Enter an action again that is proposed, if it may run now; else end it, or hold it.

        ``usage``, ``prepared`` and ``patient`` are those of :meth:`Releases.resume`.
        """
        outcome = self.standing(tx, record)
        call = self._releases.as_proposed(tx, record)
        if outcome.error is not None:
            return outcome
        if prepared is None or prepared.call.args_json != call.args_json:
            return Unprepared(record.uid, call)
        session = self._releases.session_of(tx, record)
        admission = self._judge.admit(tx, prepared, record.uid, session, tx.now)
        decision: dict[str, JSONValue] | None = None
        refusal = None
        if admission.step == "execute" and prepared.tool is not None:
            refusal = self._allowance.attempted(tx, record.session, prepared.tool, usage)
            if isinstance(refusal, NoToken) and patient:
                return refusal
        if admission.verdict is not None:
            decision = decision_json(admission.verdict, self._settings.mode)
            self._ledger.decide(tx, record.session, record.uid, decision, admission.stood_on)
        if admission.step == "hold" and admission.verdict is not None:
            action, hold = self._ledger.hold_again(tx, record, call, admission.verdict)
            return held_step(action, hold_of(tx, hold, action, call), decision)
        error = admission.error
        status = ActionStatus.REJECTED
        if refusal is not None:
            error, status = refusal.error, ActionStatus.SKIPPED
            self._ledger.reached(tx, record.session, record.uid, error)
        if error is not None or prepared.tool is None:
            self._ledger.end(tx, record, Ending(status, error=error), None)
            return Outcome(
                status, record.uid, error=error, decision=decision, attempts=record.attempts
            )
        timeout = timeout_of(prepared.tool, call)
        claimed = self._ledger.enter_again(tx, record, timeout, prepared.tool.contract.emits)
        return Claim(claimed, prepared.call, prepared.tool, decision, timeout)
