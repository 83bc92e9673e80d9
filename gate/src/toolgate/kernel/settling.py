"""Actions in doubt: what people, or their contracts, say is to become of them.

An action is in doubt when nobody knows whether its body had its effect. Whoever resumes one is told
so, and nothing runs, but for two cases:

1. somebody who may has settled it with a signature (:mod:`toolgate.approvals.settlement`): as
   succeeded or as failed, which ends it, or to be run again;
2. the operator's contract says that the tool is idempotent, and the gate that ran it is gone: it is
   run again, as often as :func:`toolgate.kernel.attempts.reruns` says.

What is run again is claimed anew, as a further attempt: capabilities, state and policy are asked as
they are now, and limits count it. An approval that it had stands, for the same requirement. If it
may not run now it stays in doubt, is told why, and the settlement stands until it may.

Everything here happens inside a transaction, like :mod:`toolgate.kernel.steps`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolgate import clock, jsonvalue
from toolgate.approvals import settlement
from toolgate.approvals.settlement import Doubt, Judged, Settlement
from toolgate.approvals.tally import Received
from toolgate.errors import JournalTampered
from toolgate.ir import ActionStatus, Outcome, OutcomeError, OutcomeKind, ProposalStatus
from toolgate.journal.events import EventKind
from toolgate.journal.grounds import DOUBT
from toolgate.journal.journal import Reader, Transaction
from toolgate.journal.records import ActionRecord, ApprovalRow
from toolgate.jsonvalue import JSONValue
from toolgate.kernel import edits
from toolgate.kernel.admission import Admission, unregistered
from toolgate.kernel.allowance import Allowance, NoToken, Usage
from toolgate.kernel.attempts import reruns
from toolgate.kernel.judge import Judge, Prepared
from toolgate.kernel.ledger import Ledger
from toolgate.kernel.places import call_of, compensates, proposal_uid
from toolgate.kernel.records import check_place, decision_json, edited_args, recall
from toolgate.kernel.releases import Releases
from toolgate.kernel.result import Ending, concluded
from toolgate.kernel.step import Claim, Settings, Step, Unprepared, timeout_of
from toolgate.policy.verdict import ApprovalRequirement

_ENDED = (ProposalStatus.COMPLETED, ProposalStatus.ABORTED)


def doubt_of(reader: Reader, record: ActionRecord, pinned: Mapping[str, Ed25519PublicKey]) -> Doubt:
    """Return the doubt that an action is in; ``pinned`` are the approvers of the config.

    Raises :class:`JournalTampered`.
    """
    check_place(reader, record)
    event = reader.last_event(record.uid, EventKind.ACTION_IN_DOUBT, record.last_seq)
    if event is None or record.status != ActionStatus.IN_DOUBT:
        raise JournalTampered(f"no event says that the action {record.uid} is in doubt")
    settlers = sorted(pinned)
    if record.hold is not None:
        asked = _requirement(reader, record.hold).groups
        settlers = [name for name in settlers if any(group.has(name) for group in asked)]
    return Doubt(
        record.uid,
        record.tool,
        record.content,
        event.seq,
        event.hash,
        event.at,
        tuple(settlers),
        _why_over(reader, record.uid),
    )


def judge(
    doubt: Doubt, rows: Iterable[ApprovalRow], pinned: Mapping[str, Ed25519PublicKey]
) -> Judged:
    """Judge the envelopes that lie beside a doubt."""
    return settlement.judge(doubt, [Received(r.seq, r.envelope, r.at) for r in rows], pinned)


def _requirement(reader: Reader, hold: str) -> ApprovalRequirement:
    """Return what was asked of people on a hold; raises :class:`JournalTampered`."""
    record = reader.hold(hold)
    if record is None:
        raise JournalTampered(f"the hold {hold} is missing from the journal")
    return ApprovalRequirement.from_json(jsonvalue.parse(record.requirement))


def _why_over(reader: Reader, uid: str) -> str | None:
    """Return why an action cannot run again, though somebody says so: its proposal is over."""
    proposal = None if compensates(uid) else proposal_uid(uid)
    if proposal is None:
        return None
    record = reader.proposal(proposal)
    if record is None:
        raise JournalTampered(f"the proposal of action {uid} is missing from the journal")
    if record.status in _ENDED:
        return f"its proposal {proposal} is {record.status}"
    if reader.last_event(proposal, EventKind.STATE_ROLLED_BACK, record.last_seq) is not None:
        return f"its proposal {proposal} is being aborted"
    return None


class _Case(NamedTuple):
    """An action in doubt, what lies beside it, and what that comes to."""

    record: ActionRecord
    doubt: Doubt
    rows: list[ApprovalRow]
    judged: Judged

    @property
    def said(self) -> Settlement | None:
        """Return the settlement that counts."""
        return self.judged.settlement

    def told(self, said: Settlement) -> dict[str, JSONValue]:
        """Return what the log tells of a settlement: who, what and why, with the evidence."""
        row = next(row for row in self.rows if row.seq == said.seq)
        return {
            "outcome": said.outcome,
            "settled_by": said.approver,
            "reason": said.reason,
            DOUBT: self.doubt.seq,
            "envelope": row.envelope.decode(),
            "arrived": clock.to_text(row.at),
        }


class Settling:
    """The actions in doubt of one project and agent, as one gate sees them."""

    def __init__(
        self,
        judge: Judge,
        allowance: Allowance,
        ledger: Ledger,
        releases: Releases,
        settings: Settings,
        abandoned: Callable[[str | None], bool],
    ) -> None:
        """``abandoned`` tells whether what a run had under way is nobody's any more."""
        self._judge = judge
        self._allowance = allowance
        self._ledger = ledger
        self._releases = releases
        self._settings = settings
        self._abandoned = abandoned

    def resume(
        self,
        tx: Transaction,
        record: ActionRecord,
        usage: Usage | None,
        prepared: Prepared | None,
        *,
        patient: bool,
    ) -> Step:
        """Bring an action in doubt on as far as it goes: settle it, claim it again, or tell of it.

        ``usage``, ``prepared`` and ``patient`` are those of :meth:`Releases.resume`.
        """
        case = self._hear(tx, record)
        if case.said is not None and case.said.outcome != "retry":
            return self._end(tx, case, case.said)
        if case.said is None and not self._by_contract(tx, case):
            return recall(tx, case.record)
        return self._again(tx, case, usage, prepared, patient=patient)

    def settle(self, tx: Transaction, record: ActionRecord) -> bool:
        """Take in what ends an action in doubt; tell whether resuming it would run it again."""
        case = self._hear(tx, record)
        if case.said is not None and case.said.outcome != "retry":
            self._end(tx, case, case.said)
            return False
        return case.said is not None or self._by_contract(tx, case)

    def _hear(self, tx: Transaction, record: ActionRecord) -> _Case:
        """Judge what has been said of a doubt; what does not count is journaled once."""
        doubt = doubt_of(tx, record, self._settings.approvers)
        rows = tx.approvals(doubt.subject)
        judged = judge(doubt, rows, self._settings.approvers)
        last, seen = None, 0
        if judged.refused:
            last = tx.last_event(record.uid, EventKind.APPROVAL_REFUSED, record.last_seq)
        if last is not None and last.seq > doubt.seq:
            seen = jsonvalue.parse(last.data)["settlement"]
        evidence = {row.seq: row.evidence() for row in rows}
        seq = record.last_seq
        for refusal in judged.refused:
            if refusal.seq > seen:
                data: dict[str, JSONValue] = {
                    "settlement": refusal.seq,
                    "reason": refusal.reason,
                    **evidence[refusal.seq],
                }
                kind = EventKind.APPROVAL_REFUSED
                seq = tx.append(kind, data, session=record.session, action=record.uid)
        if seq != record.last_seq:
            heard = record._replace(last_seq=seq)
            tx.update(heard, record.last_seq)
            tx.flush()
            record = heard
        return _Case(record, doubt, rows, judged)

    def _by_contract(self, tx: Transaction, case: _Case) -> bool:
        """Tell whether an action in doubt is run again without anybody's word."""
        record = case.record
        if case.doubt.ended is not None or not self._abandoned(record.run):
            # A body that only ran out of its time may still be running, in this gate's client.
            return False
        call = call_of(tx, record)
        most = reruns(call.action, self._judge.contract(record.tool))
        return call.calls_tool and record.attempts <= most

    def _end(self, tx: Transaction, case: _Case, said: Settlement) -> Outcome:
        """End an action as it was settled.

        What it was expected to write to the session's state is not written, as with a late result:
        its caller was told that it failed, and others may have gone on from there.
        """
        if said.outcome == "succeeded":
            end = Ending(ActionStatus.SUCCEEDED, said.output)
        else:
            why = f": {said.reason}" if said.reason else ""
            error = OutcomeError(
                OutcomeKind.EXECUTION_FAILED,
                f"it was in doubt, and {said.approver} has settled it as failed{why}",
                {"settled_by": said.approver},
            )
            failed = Ending(ActionStatus.FAILED, error=error)
            end = concluded(call_of(tx, case.record).action, failed)
        ended = self._ledger.end(tx, case.record, end, None, settled=case.told(said))
        tx.flush()
        return recall(tx, ended)

    def _again(
        self,
        tx: Transaction,
        case: _Case,
        usage: Usage | None,
        prepared: Prepared | None,
        *,
        patient: bool,
    ) -> Step:
        """Claim an action in doubt for a further attempt, if it may run now."""
        record = case.record
        call = self._releases.as_proposed(tx, record)
        if not self._judge.can_run(call):
            return self._stays(tx, case, unregistered(record.tool))
        if prepared is None or prepared.call.args_json != call.args_json:
            return Unprepared(record.uid, call)
        session = self._releases.session_of(tx, record)
        admission = self._judge.admit(tx, prepared, record.uid, session, tx.now)
        error = self._refusal(tx, record, admission)
        if error is not None or prepared.tool is None or admission.verdict is None:
            return self._stays(tx, case, error)
        refusal = self._allowance.attempted(tx, record.session, prepared.tool, usage)
        if isinstance(refusal, NoToken) and patient:
            return refusal
        if refusal is not None:
            return self._stays(tx, case, refusal.error)
        decision = decision_json(admission.verdict, self._settings.mode)
        self._ledger.decide(tx, record.session, record.uid, decision, admission.stood_on)
        timeout = timeout_of(prepared.tool, call)
        emits = prepared.tool.contract.emits
        claimed = self._ledger.again(tx, record, timeout, emits, self._why(tx, case))
        return Claim(
            claimed, prepared.call, prepared.tool, decision, timeout, edited_args(tx, record)
        )

    def _why(self, tx: Transaction, case: _Case) -> tuple[EventKind, dict[str, JSONValue]]:
        """Return the event that tells on whose word an action runs again."""
        if case.said is not None:
            told = {"status": ActionStatus.EXECUTING.value, **case.told(case.said)}
            return EventKind.ACTION_SETTLED, told
        error = recall(tx, case.record).error
        data: dict[str, JSONValue] = {"attempt": case.record.attempts, "wait_ms": 0}
        if error is not None:
            data["error"] = error.to_json()
        return EventKind.ACTION_RETRYING, data

    def _refusal(
        self, tx: Transaction, record: ActionRecord, admission: Admission
    ) -> OutcomeError | None:
        """Return why an action may not run again now, by what was looked at anew."""
        if admission.step == "reject":
            return admission.error
        verdict = admission.verdict
        if verdict is None or verdict.effect != "hold":
            return None
        if record.hold is not None and verdict.requirement is not None:
            given = _requirement(tx, record.hold)
            edited = edited_args(tx, record) is not None
            if given == verdict.requirement or (
                edited and edits.asked_already(given, verdict.requirement)
            ):
                return None
        return OutcomeError(
            OutcomeKind.APPROVAL_REQUIRED,
            f"policy holds it now, and nobody has approved it so ({verdict.reason}): settle it as "
            "failed, and propose it anew",
        )

    def _stays(self, tx: Transaction, case: _Case, why: OutcomeError | None) -> Outcome:
        """Return the outcome of an action that would run again, and may not now."""
        outcome = recall(tx, case.record)
        if why is None or outcome.error is None:
            return outcome
        who = "its contract" if case.said is None else case.said.approver
        told = f"{outcome.error.message}. {who} says that it runs again; it cannot: {why.message}"
        error = dataclasses.replace(outcome.error, message=told)
        return dataclasses.replace(outcome, error=error)
