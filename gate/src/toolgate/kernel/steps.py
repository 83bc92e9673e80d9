"""What each request does inside its transaction: read, decide, write. No waiting, no bodies.

A step runs under the journal's write lock, so what it decided on cannot have changed when it
becomes durable. It returns what is to be done after the commit: an outcome to answer, an action
that this gate has claimed and must execute, one that stays held, one that executes in this gate
already, or one that waits for its rate limit.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from toolgate import faults, jsonvalue
from toolgate.errors import JournalTampered, ToolgateError
from toolgate.ir import ActionStatus, Outcome, OutcomeError, OutcomeKind
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Reader, RecordChanged, Transaction, new_id
from toolgate.journal.records import ActionRecord, SessionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel import past
from toolgate.kernel.admission import Admission
from toolgate.kernel.allowance import Allowance, Exhausted, NoToken, Usage
from toolgate.kernel.hold_ledger import HoldLedger
from toolgate.kernel.judge import Judge, Prepared
from toolgate.kernel.places import call_of, planned, proposal_uid
from toolgate.kernel.records import (
    Call,
    check_place,
    decision_json,
    error_of,
    hold_of,
    recall,
    same_content,
)
from toolgate.kernel.reentry import Reentry
from toolgate.kernel.releases import Releases
from toolgate.kernel.result import CANCELLED, Ending, concluded, ending_of_state_action, in_doubt
from toolgate.kernel.settling import Settling
from toolgate.kernel.state import StateView
from toolgate.kernel.step import Claim, Joined, Settings, Step, held_step, timeout_of
from toolgate.plan import effects


class KeyConflict(ToolgateError):
    """An idempotency key names a call already, and this is another call."""


class Steps:
    """The steps of one gate, for one project and agent."""

    def __init__(
        self,
        judge: Judge,
        allowance: Allowance,
        settings: Settings,
        run: str,
        alive: Callable[[str], bool],
    ) -> None:
        """``run`` is this gate's; ``alive`` tells whether another run's process still lives."""
        self.judge = judge
        self.allowance = allowance
        self._settings = settings
        self._run = run
        self._alive = alive
        self.ledger = HoldLedger(settings.project, settings.agent, run)
        self.releases = Releases(judge, allowance, self.ledger, settings)
        self.reentry = Reentry(judge, allowance, self.ledger, self.releases, settings)
        self.settling = Settling(
            judge, allowance, self.ledger, self.releases, settings, self.abandoned
        )

    def propose(
        self,
        tx: Transaction,
        session: SessionRecord,
        prepared: Prepared,
        usage: Usage | None = None,
        *,
        patient: bool = True,
    ) -> Step:
        """Decide on a proposed call; raises :class:`KeyConflict`.

        Raises :class:`~toolgate.journal.journal.RecordChanged` when another gate has taken over the
        call's proposal, taking this one for dead.

        A call whose idempotency key names an action already is a resume of that action, whatever
        has become of it. ``usage`` is the proposal's; without ``patient`` a call that its rate
        limit has no token for is rejected.
        """
        settings, call = self._settings, prepared.call
        if call.proposal is not None and tx.last_seq_of(call.proposal) != call.claimed:
            raise RecordChanged(call.proposal)
        if call.idempotency_key is not None:
            known = tx.action_by_key(settings.project, settings.agent, call.idempotency_key)
            if known is not None:
                if not same_content(tx, known, call):
                    raise KeyConflict(
                        f"the idempotency key {call.idempotency_key!r} names another call (action "
                        f"{known.uid}, tool {known.tool!r}, or other arguments): one key is one "
                        "call for ever"
                    )
                return self.resume(tx, known.uid)
        uid = call.uid or new_id(tx.now)
        _check_unknown(tx, call)
        admission = self.judge.admit(tx, prepared, uid, session, tx.now)
        if admission.step == "hold":
            before = tx.action_by_content(session.session, call.content)
            if before is not None and before.kind == OutcomeKind.APPROVAL_DENIED:
                if settings.remember_denial:
                    error = _denied_before(recall(tx, before))
                    admission = admission._replace(step="reject", error=error)
            elif (
                before is not None
                and settings.join_repeats
                and call.idempotency_key is None
                and call.proposal is None
                and proposal_uid(before.uid) is None
            ):
                return self.resume(tx, before.uid)
        if admission.step == "execute":
            return self._start(tx, session, prepared, uid, admission, usage, patient=patient)
        decision = self._propose(tx, session, call, uid, admission)
        if admission.step == "hold" and admission.verdict is not None:
            full = self._no_room(tx)
            if full is not None:
                self.ledger.reached(tx, session.session, uid, full)
                return self._refuse(tx, session, call, uid, ActionStatus.REJECTED, full, decision)
            action, hold_record = self.ledger.hold(
                tx, session.session, call, uid, admission.verdict
            )
            faults.hit("hold.opened")
            held = held_step(action, hold_of(tx, hold_record, action, call), decision)
            return dataclasses.replace(held, opened=True)
        if admission.error is None:
            raise ValueError("a rejected call has a reason")
        return self._refuse(
            tx, session, call, uid, ActionStatus.REJECTED, admission.error, decision
        )

    def refuse(
        self,
        tx: Transaction,
        session: SessionRecord,
        call: Call,
        status: ActionStatus,
        error: OutcomeError | None,
    ) -> Outcome:
        """End an action of a proposal that will not be looked at: rejected, or skipped.

        Without an error it was not needed: it compensates another.
        """
        uid = call.uid or new_id(tx.now)
        _check_unknown(tx, call)
        self.ledger.propose(tx, session.session, call, uid)
        return self._refuse(tx, session, call, uid, status, error, None)

    def resume(
        self,
        tx: Transaction,
        uid: str,
        usage: Usage | None = None,
        prepared: Prepared | None = None,
        *,
        patient: bool = True,
    ) -> Step:
        """Bring an action on: claim it when it is released, else tell how it stands.

        A released call has to be ``prepared``, and so has one in doubt that is to run again: see
        :meth:`Releases.resume` and :meth:`Settling.resume`. Without ``patient`` one
        that its rate limit has no token for stays held.
        """
        record = self.own_action(tx, uid)
        if record is None:
            return unknown(uid)
        match ActionStatus(record.status):
            case ActionStatus.HELD:
                return self.releases.resume(tx, record, usage, prepared, patient=patient)
            case ActionStatus.EXECUTING:
                return self._resume_executing(tx, record, usage, prepared, patient=patient)
            case ActionStatus.PROPOSED:
                return self.reentry.resume(tx, record, usage, prepared, patient=patient)
            case ActionStatus.IN_DOUBT:
                return self.settling.resume(tx, record, usage, prepared, patient=patient)
            case _:
                return recall(tx, record)

    def conclude(self, tx: Transaction, uid: str) -> str | None:
        """End a held action that is denied or expired: see :meth:`Releases.conclude`."""
        record = self.own_action(tx, uid)
        if record is None or record.status != ActionStatus.HELD:
            return None
        return self.releases.conclude(tx, record)

    def withdraw(
        self,
        tx: Transaction,
        uid: str,
        reason: str,
        kind: OutcomeKind = OutcomeKind.CANCELLED,
    ) -> Outcome:
        """Take a held action back; anything else is left as it is, and told."""
        record = self.own_action(tx, uid)
        if record is None:
            return unknown(uid)
        match ActionStatus(record.status):
            case ActionStatus.HELD:
                error = OutcomeError(kind, f"{reason}; a later approval runs nothing")
                outcome = self.releases.withdraw(tx, record, error)
            case ActionStatus.PROPOSED:
                error = OutcomeError(kind, f"{reason}; its body is not entered again")
                outcome = self.reentry.withdraw(tx, record, error)
            case ActionStatus.EXECUTING:
                outcome = Outcome(ActionStatus.EXECUTING, uid, attempts=record.attempts)
            case _:
                outcome = recall(tx, record)
        name = None if proposal_uid(uid) is None else planned(tx, uid).id
        return dataclasses.replace(outcome, action_id=name)

    def recorded(self, tx: Transaction, uid: str) -> Outcome | None:
        """Return how an action stands that may have been proposed before, without moving it on."""
        record = self.own_action(tx, uid)
        if record is None:
            return None
        if record.status == ActionStatus.EXECUTING and self.abandoned(record.run):
            self.doubt(tx, record)
            return self.recall(tx, uid)
        return self._standing(tx, record)

    def end(
        self,
        tx: Transaction,
        claim: Claim,
        end: Ending,
        duration_ms: float,
        usage: Usage | None = None,
    ) -> Outcome:
        """Record how a claimed action ended.

        Raises :class:`~toolgate.journal.journal.RecordChanged` when another gate has moved it on,
        taking this one for dead.
        """
        succeeded = end.status is ActionStatus.SUCCEEDED
        changes = effects.writes(claim.call.action) if succeeded else {}
        self._take_in(tx, claim, end)
        if end.status is ActionStatus.PROPOSED:
            self.allowance.took(tx, claim.record.session, duration_ms, usage)
            return self.reentry.suspend(tx, claim, duration_ms)
        # Of an omitted result nothing is there that a repeat could be given: that runs again.
        remembered = (
            succeeded and not end.omitted and self.allowance.remembers(claim.call, claim.tool)
        )
        record = self.ledger.end(tx, claim.record, end, duration_ms, changes, remembered=remembered)
        if remembered:
            self.ledger.remember(tx, record, claim.call.content)
        self.allowance.took(tx, claim.record.session, duration_ms, usage)
        faults.hit("end.written")
        return Outcome(
            status=end.status,
            uid=claim.record.uid,
            output=end.output,
            error=end.error,
            decision=claim.decision,
            duration_ms=duration_ms,
            attempts=claim.record.attempts,
            state_changes=changes,
            edited_args=claim.edited_args,
            omitted=end.omitted,
        )

    def fail(
        self,
        tx: Transaction,
        claim: Claim,
        end: Ending,
        duration_ms: float,
        tampered: JournalTampered | None,
    ) -> Outcome:
        """Record the failure of a claimed action whose own end cannot be written, and no more.

        What its body has brought is taken in where that can be written; what it was to write to the
        session's state, or to use up, is not. ``tampered`` is the row that was not believed.
        """
        record = claim.record
        try:
            past.take_in(tx, record, claim.tool.contract.emits)
        except JournalTampered as error:
            # Nothing is judged in this session any more: its labels are not believed.
            tampered = tampered or error
        if tampered is not None:
            what: dict[str, JSONValue] = {"what": str(tampered)}
            tx.append(EventKind.JOURNAL_TAMPERED, what, session=record.session)
        self.ledger.end(tx, record, end, duration_ms)
        return Outcome(
            status=end.status,
            uid=record.uid,
            error=end.error,
            decision=claim.decision,
            duration_ms=duration_ms,
            attempts=record.attempts,
        )

    def retry(self, tx: Transaction, claim: Claim, end: Ending, wait: float) -> Claim:
        """Record that an attempt failed and that another comes after ``wait`` seconds."""
        if end.error is None:
            raise ValueError("what failed has an error")
        self._take_in(tx, claim, end)
        record = self.ledger.retry(tx, claim.record, end.error, wait)
        return claim._replace(record=record)

    def attempt(
        self, tx: Transaction, claim: Claim, usage: Usage | None
    ) -> Claim | Exhausted | NoToken:
        """Record that another attempt starts, if the limits have room for it."""
        refusal = self.allowance.attempted(tx, claim.record.session, claim.tool, usage)
        if refusal is not None:
            return refusal
        record = self.ledger.attempt(tx, claim.record, claim.timeout, claim.tool.contract.emits)
        return claim._replace(record=record)

    def settle(
        self, tx: Transaction, claim: Claim, end: Ending, duration_ms: float | None
    ) -> Outcome:
        """Settle an action in doubt with what its body came to; a settled one stays so.

        The doubt must be about that very attempt: one that was run again since is not settled by
        the attempt before. A body that has stopped itself when nobody waited any more settles
        nothing.

        What it was expected to write to the session's state is not written any more: its caller
        was told that it failed, and others have gone on from there.
        """
        record = tx.action(claim.record.uid)
        if record is None:
            return unknown(claim.record.uid)
        about_it = (
            record.status == ActionStatus.IN_DOUBT and end.status is not ActionStatus.PROPOSED
        )
        if about_it and record.attempts == claim.record.attempts:
            self._take_in(tx, claim, end)
            record = self.ledger.end(tx, record, end, duration_ms)
        return self.recall(tx, record.uid)

    def recall(self, tx: Transaction, uid: str) -> Outcome:
        """Return how an action stands, also one that was moved on in this transaction."""
        tx.flush()
        record = self.own_action(tx, uid)
        return unknown(uid) if record is None else self._standing(tx, record)

    def doubt_the_dead(self, tx: Transaction) -> int:
        """Put every action in doubt whose gate is gone, and return how many there were."""
        orphans = [
            record
            for record in tx.executing()
            if tx.last_seq_of(record.uid) == record.last_seq and self.abandoned(record.run)
        ]
        for record in orphans:
            try:
                self.doubt(tx, record)
            except ToolgateError:
                # What cannot be read is looked at when somebody asks for it; others must not wait.
                continue
        return len(orphans)

    def abandoned(self, run: str | None) -> bool:
        """Tell whether what ``run`` had under way is nobody's any more."""
        return run is None or (run != self._run and not self._alive(run))

    def doubt(self, tx: Transaction, record: ActionRecord) -> None:
        """Record that the gate that executed an action died.

        Its body may or may not have run, so the action is in doubt; unless it was between two
        attempts, when the failure of the last one stands.
        """
        past.take_in(tx, record, past.emitted(tx, record))
        last = tx.event(record.last_seq)
        if last.kind == EventKind.ACTION_RETRYING and last.action == record.uid:
            error = error_of(jsonvalue.parse(last.data).get("error"))
            failed = Ending(ActionStatus.FAILED, error=error)
            self.ledger.end(tx, record, concluded(call_of(tx, record).action, failed), None)
            return
        reason = "the gate that ran it died before it could record how it ended"
        end = Ending(ActionStatus.IN_DOUBT, error=in_doubt(record.tool, reason))
        self.ledger.end(tx, record, end, None)

    def own_action(self, tx: Reader, uid: str) -> ActionRecord | None:
        """Return an action of this project and agent; another's is as good as unknown."""
        record = tx.action(uid)
        if record is None or record.uid != uid:
            return None
        ours = (self._settings.project, self._settings.agent)
        return record if (record.project, record.agent) == ours else None

    def _standing(self, tx: Transaction, record: ActionRecord) -> Outcome:
        match ActionStatus(record.status):
            case ActionStatus.HELD | ActionStatus.EXECUTING:
                return self.releases.standing(tx, record)
            case ActionStatus.PROPOSED:
                return self.reentry.standing(tx, record)
            case _:
                return recall(tx, record)

    def _take_in(self, tx: Transaction, claim: Claim, end: Ending) -> None:
        """Take what a body that was started has brought into its session, however it ended."""
        emits = claim.tool.contract.emits
        if (emits or end.documents) and end is not CANCELLED:
            past.take_in(tx, claim.record, emits, end.documents)

    def _propose(
        self, tx: Transaction, session: SessionRecord, call: Call, uid: str, admission: Admission
    ) -> dict[str, JSONValue] | None:
        """Journal that a call was proposed, and what policy said of it."""
        self.ledger.propose(tx, session.session, call, uid)
        if admission.verdict is None:
            return None
        decision = decision_json(admission.verdict, self._settings.mode)
        self.ledger.decide(tx, session.session, uid, decision, admission.stood_on)
        return decision

    def _start(
        self,
        tx: Transaction,
        session: SessionRecord,
        prepared: Prepared,
        uid: str,
        admission: Admission,
        usage: Usage | None,
        *,
        patient: bool,
    ) -> Step:
        """Claim an admitted call, or answer it from what is known, or refuse it by its limits."""
        call, tool, name = prepared.call, prepared.tool, session.session
        repeat = self.allowance.repeat(tx, name, call, tool)
        if repeat is not None:
            decision = self._propose(tx, session, call, uid, admission)
            _, changes = self.ledger.deduplicate(
                tx, name, call, uid, repeat.uid, repeat.output, repeat.emits
            )
            return Outcome(
                ActionStatus.SUCCEEDED,
                uid,
                output=repeat.output,
                decision=decision,
                replayed=True,
                state_changes=changes,
            )
        refusal = self.allowance.refusal(tx, name, call, tool, usage)
        if isinstance(refusal, NoToken) and patient:
            return refusal
        decision = self._propose(tx, session, call, uid, admission)
        if refusal is not None:
            status = (
                ActionStatus.SKIPPED if isinstance(refusal, Exhausted) else ActionStatus.REJECTED
            )
            self.ledger.reached(tx, name, uid, refusal.error)
            return self._refuse(tx, session, call, uid, status, refusal.error, decision)
        if tool is None:
            end = ending_of_state_action(call.action, StateView(tx, name))
            changes = self.ledger.perform(tx, name, call, uid, end)
            return Outcome(
                end.status,
                uid,
                output=end.output,
                error=end.error,
                decision=decision,
                attempts=1,
                state_changes=changes,
            )
        timeout = timeout_of(tool, call)
        record = self.ledger.execute(tx, name, call, uid, timeout, tool.contract.emits)
        faults.hit("call.claimed")
        return Claim(record, call, tool, decision, timeout)

    def _no_room(self, tx: Transaction) -> OutcomeError | None:
        """Return why no hold is opened, when this agent has as many as it may."""
        settings = self._settings
        most = settings.max_pending
        if tx.held(settings.project, settings.agent, most) < most:
            return None
        return OutcomeError(
            OutcomeKind.RATE_LIMITED,
            f"this call would be held, and {most} calls of the agent {settings.agent} are held "
            "already (approvals.max_pending): resume those that were answered, or withdraw some",
            {"limit": "approvals.max_pending", "held": most},
        )

    def _refuse(
        self,
        tx: Transaction,
        session: SessionRecord,
        call: Call,
        uid: str,
        status: ActionStatus,
        error: OutcomeError | None,
        decision: dict[str, JSONValue] | None,
    ) -> Outcome:
        self.ledger.refuse(tx, session.session, call, uid, status, error)
        return Outcome(status, uid, error=error, decision=decision)

    def _resume_executing(
        self,
        tx: Transaction,
        record: ActionRecord,
        usage: Usage | None,
        prepared: Prepared | None,
        *,
        patient: bool,
    ) -> Step:
        check_place(tx, record)
        if record.run == self._run:
            return Joined(record.uid)
        if not self.abandoned(record.run):
            return self.releases.standing(tx, record)
        self.doubt(tx, record)
        tx.flush()
        return self.resume(tx, record.uid, usage, prepared, patient=patient)


def _check_unknown(tx: Transaction, call: Call) -> None:
    """Refuse to propose an action of a plan again whose row was taken out of the store."""
    if call.uid is not None and (tx.last_seq_of(call.uid) or tx.action(call.uid) is not None):
        raise JournalTampered(
            f"the log knows the action {call.uid}, and its row is missing: it is not run again"
        )


def _denied_before(before: Outcome) -> OutcomeError:
    said = before.error.message if before.error is not None else "denied"
    return OutcomeError(
        OutcomeKind.APPROVAL_DENIED,
        f"{said} (this very call was denied earlier in this session; nobody is asked again)",
        {"denied_action": before.uid},
    )


def unknown(uid: str) -> Outcome:
    """Return the outcome of an action that this project and agent do not have."""
    error = OutcomeError(
        OutcomeKind.UNKNOWN_ACTION, f"this project and agent have no action {uid!r}"
    )
    return Outcome(ActionStatus.REJECTED, uid, error=error)
