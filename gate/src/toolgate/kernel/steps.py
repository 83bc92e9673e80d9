"""What each request does inside its transaction: read, decide, write. No waiting, no bodies.

A step runs under the journal's write lock, so what it decided on cannot have changed when it
becomes durable. It returns what is to be done after the commit: an outcome to answer, an action
that this gate has claimed and must execute, one that stays held, or one that executes in this gate
already.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolgate import clock
from toolgate.approvals.hold import Hold
from toolgate.approvals.tally import Tally
from toolgate.errors import JournalTampered, ToolgateError
from toolgate.ir import ActionStatus, ActionType, Outcome, OutcomeError, OutcomeKind
from toolgate.journal.journal import Transaction, new_id
from toolgate.journal.records import ActionRecord, HoldRecord, SessionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.admission import Admission, admit, check
from toolgate.kernel.ledger import Ledger
from toolgate.kernel.records import (
    Call,
    check_place,
    count,
    decision_json,
    decision_of,
    hold_of,
    hold_summary,
    recall,
)
from toolgate.kernel.release import Release, release
from toolgate.kernel.result import Ending, in_doubt
from toolgate.kernel.tools import RegisteredTool, ToolRegistry
from toolgate.policy.facts import CallFacts
from toolgate.policy.verdict import Policy, Verdict


class KeyConflict(ToolgateError):
    """An idempotency key names a call already, and this is another call."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What the kernel needs of the deployment's config."""

    project: str
    agent: str
    framework: str | None
    mode: str
    join_repeats: bool
    remember_denial: bool
    approvers: Mapping[str, Ed25519PublicKey]


@dataclass(frozen=True, slots=True)
class Claim:
    """An action that this gate has claimed: nobody else will execute it. ``timeout`` in seconds."""

    record: ActionRecord
    args: dict[str, JSONValue]
    tool: RegisteredTool
    decision: dict[str, JSONValue] | None
    timeout: float


@dataclass(frozen=True, slots=True)
class Held:
    """An action that stays held, at most until ``deadline`` (microseconds since the epoch).

    ``opened`` says that it was this very step that opened the hold.
    """

    uid: str
    session: str
    hold_id: str
    deadline: int | None
    outcome: Outcome
    opened: bool = False


@dataclass(frozen=True, slots=True)
class Prepared:
    """A call with what needs no journal to be known: its tool, and what is wrong with it."""

    call: Call
    tool: RegisteredTool | None
    error: OutcomeError | None


@dataclass(frozen=True, slots=True)
class Joined:
    """An action whose body runs in this gate already: its outcome is awaited."""

    uid: str


Step: TypeAlias = Outcome | Claim | Held | Joined


class Steps:
    """The steps of one session of one gate."""

    def __init__(
        self,
        policy: Policy,
        tools: ToolRegistry,
        settings: Settings,
        session: SessionRecord,
        run: str,
        alive: Callable[[str], bool],
    ) -> None:
        """``run`` is this gate's; ``alive`` tells whether another run's process still lives."""
        self._policy = policy
        self._tools = tools
        self._settings = settings
        self._session = session
        self._run = run
        self._alive = alive
        self._released: set[str] = set()
        self._ledger = Ledger(settings.project, settings.agent, session.session, run)

    def prepare(self, call: Call) -> Prepared:
        """Look up a call's tool and check its arguments.

        That is done outside of any transaction: a client's schema decides how long it takes.
        """
        tool = self._tools.get(call.tool)
        return Prepared(call, tool, check(call.tool, tool, call.args))

    def propose(self, tx: Transaction, prepared: Prepared) -> Step:
        """Decide on a proposed call; raises :class:`KeyConflict`.

        A call whose idempotency key names an action already is a resume of that action, whatever
        has become of it.
        """
        settings, call, tool = self._settings, prepared.call, prepared.tool
        if call.idempotency_key is not None:
            known = tx.action_by_key(settings.project, settings.agent, call.idempotency_key)
            if known is not None:
                if known.content != call.content:
                    raise KeyConflict(
                        f"the idempotency key {call.idempotency_key!r} names another call (action "
                        f"{known.uid}, tool {known.tool!r}, or other arguments): one key is one "
                        "call for ever"
                    )
                return self.resume(tx, known.uid)
        uid = new_id(tx.now)
        if prepared.error is not None or tool is None:
            admission = Admission("reject", error=prepared.error)
        else:
            admission = admit(self._judge(tx, uid, self._session, tool, call.args))
        if admission.step == "hold":
            before = tx.action_by_content(self._session.session, call.content)
            if before is not None and before.kind == OutcomeKind.APPROVAL_DENIED:
                if settings.remember_denial:
                    error = _denied_before(recall(tx, before))
                    admission = Admission("reject", admission.verdict, error)
            elif before is not None and settings.join_repeats and call.idempotency_key is None:
                return self.resume(tx, before.uid)
        return self._admitted(tx, call, uid, tool, admission)

    def resume(self, tx: Transaction, uid: str) -> Step:
        """Bring an action on: claim it when it is released, else tell how it stands."""
        record = self._own_action(tx, uid)
        if record is None:
            return _unknown(uid)
        match ActionStatus(record.status):
            case ActionStatus.HELD:
                return self._resume_held(tx, record)
            case ActionStatus.EXECUTING:
                return self._resume_executing(tx, record)
            case _:
                return recall(tx, record)

    def withdraw(self, tx: Transaction, uid: str, reason: str) -> Outcome:
        """Take a held action back; anything else is left as it is, and told."""
        record = self._own_action(tx, uid)
        if record is None:
            return _unknown(uid)
        if record.status == ActionStatus.EXECUTING:
            return Outcome(ActionStatus.EXECUTING, uid, attempts=record.attempts)
        if record.status != ActionStatus.HELD:
            return recall(tx, record)
        hold_record, hold = self._hold(tx, record)
        error = OutcomeError(OutcomeKind.CANCELLED, f"{reason}; a later approval runs nothing")
        end = Ending(ActionStatus.SKIPPED, error=error)
        self._ledger.refuse_held(tx, record, hold_record, "withdrawn", end)
        decision = decision_of(tx, uid)
        return Outcome(
            ActionStatus.SKIPPED, uid, error=error, hold=hold_summary(hold, ()), decision=decision
        )

    def end(self, tx: Transaction, claim: Claim, end: Ending, duration_ms: float) -> Outcome:
        """Record how a claimed action ended.

        Raises :class:`~toolgate.journal.journal.RecordChanged` when another gate has moved it on,
        taking this one for dead.
        """
        self._ledger.end(tx, claim.record, end, duration_ms)
        if claim.record.hold is not None:
            # What lies in the store may be set back; what this gate knows may not.
            self._released.add(claim.record.uid)
        return Outcome(
            status=end.status,
            uid=claim.record.uid,
            output=end.output,
            error=end.error,
            decision=claim.decision,
            duration_ms=duration_ms,
            attempts=claim.record.attempts,
        )

    def settle(
        self, tx: Transaction, claim: Claim, end: Ending, duration_ms: float | None
    ) -> Outcome:
        """Settle an action in doubt with what its body came to; a settled one stays so."""
        record = tx.action(claim.record.uid)
        if record is None:
            return _unknown(claim.record.uid)
        if record.status == ActionStatus.IN_DOUBT:
            record = self._ledger.end(tx, record, end, duration_ms)
        return self.recall(tx, record.uid)

    def recall(self, tx: Transaction, uid: str) -> Outcome:
        """Return the recorded outcome of an action that has ended, also in this transaction."""
        tx.flush()
        record = self._own_action(tx, uid)
        return _unknown(uid) if record is None else recall(tx, record)

    def doubt_the_dead(self, tx: Transaction) -> int:
        """Put every action in doubt whose gate is gone, and return how many there were."""
        orphans = [
            record
            for record in tx.executing()
            if tx.last_seq_of(record.uid) == record.last_seq
            and (record.run is None or (record.run != self._run and not self._alive(record.run)))
        ]
        for record in orphans:
            self._doubt(tx, record)
        return len(orphans)

    def _admitted(
        self,
        tx: Transaction,
        call: Call,
        uid: str,
        tool: RegisteredTool | None,
        admission: Admission,
    ) -> Step:
        verdict = admission.verdict
        self._ledger.propose(tx, call, uid)
        decision = None
        if verdict is not None:
            decision = decision_json(verdict, self._settings.mode)
            self._ledger.decide(tx, self._session.session, uid, decision)
        if admission.step == "execute" and tool is not None:
            timeout = tool.contract.timeout
            if call.timeout is not None:
                timeout = min(timeout, call.timeout)
            record = self._ledger.execute(tx, call, uid, timeout)
            return Claim(record, call.args, tool, decision, timeout)
        if admission.step == "hold" and verdict is not None:
            action, hold_record = self._ledger.hold(tx, call, uid, verdict)
            held = _held(action, hold_of(hold_record, action), decision)
            return dataclasses.replace(held, opened=True)
        if admission.error is None:
            raise ValueError("a rejected call has a reason")
        self._ledger.reject(tx, call, uid, admission.error)
        return Outcome(ActionStatus.REJECTED, uid, error=admission.error, decision=decision)

    def _resume_executing(self, tx: Transaction, record: ActionRecord) -> Step:
        check_place(tx, record)
        if record.run == self._run:
            return Joined(record.uid)
        if record.run is not None and self._alive(record.run):
            decision = decision_of(tx, record.uid)
            return Outcome(
                ActionStatus.EXECUTING, record.uid, decision=decision, attempts=record.attempts
            )
        self._doubt(tx, record)
        return self.recall(tx, record.uid)

    def _resume_held(self, tx: Transaction, record: ActionRecord) -> Step:
        hold_record, hold = self._hold(tx, record)
        rows = tx.approvals(hold.hold_id)
        said = count(hold, rows, self._settings.approvers)
        hold_record = self._ledger.heard(tx, hold_record, said, rows)
        tool = self._tools.get(record.tool)
        session = self._session_of(tx, record)
        step = release(
            hold,
            said,
            tx.now,
            tool,
            lambda tool: self._judge(tx, record.uid, session, tool, hold.args),
        )
        if step.verdict is None:
            decision = decision_of(tx, record.uid)
        else:
            decision = decision_json(step.verdict, self._settings.mode)
            self._ledger.decide(tx, record.session, record.uid, decision)
        if step.step == "execute" and tool is not None:
            if record.uid in self._released:
                raise JournalTampered(
                    f"this gate has released action {record.uid} already: the journal was set back"
                )
            timeout = tool.contract.timeout
            claimed = self._ledger.claim_held(tx, record, hold_record, said, timeout)
            return Claim(claimed, hold.args, tool, decision, timeout)
        return self._not_released(tx, record, hold_record, hold, said, step, decision)

    def _not_released(
        self,
        tx: Transaction,
        record: ActionRecord,
        hold_record: HoldRecord,
        hold: Hold,
        said: Tally,
        step: Release,
        decision: dict[str, JSONValue] | None,
    ) -> Step:
        if step.step == "reject" and step.error is not None:
            end = Ending(ActionStatus.REJECTED, error=step.error)
            self._ledger.refuse_held(tx, record, hold_record, step.state.value, end)
            return Outcome(
                ActionStatus.REJECTED,
                record.uid,
                error=step.error,
                hold=hold_summary(hold, said.approved_by),
                decision=decision,
            )
        if step.step == "reopen" and step.verdict is not None:
            hold_record, record = self._ledger.reopen(tx, record, hold_record, hold, step.verdict)
            return _held(record, hold_of(hold_record, record), decision)
        held = _held(record, hold, decision, said.approved_by, step.error)
        # Approved, but this client cannot run it: waiting would not change that.
        return held if step.error is None else held.outcome

    def _doubt(self, tx: Transaction, record: ActionRecord) -> None:
        reason = "the gate that ran it died before it could record how it ended"
        end = Ending(ActionStatus.IN_DOUBT, error=in_doubt(record.tool, reason))
        self._ledger.end(tx, record, end, None)

    def _own_action(self, tx: Transaction, uid: str) -> ActionRecord | None:
        """Return an action of this project and agent; another's is as good as unknown."""
        record = tx.action(uid)
        if record is None or record.uid != uid:
            return None
        ours = (self._settings.project, self._settings.agent)
        return record if (record.project, record.agent) == ours else None

    def _hold(self, tx: Transaction, record: ActionRecord) -> tuple[HoldRecord, Hold]:
        hold_record = None if record.hold is None else tx.hold(record.hold)
        if hold_record is None:
            raise JournalTampered(f"the hold of action {record.uid} is missing from the journal")
        if tx.last_seq_of(record.uid) != hold_record.last_seq or hold_record.status != "pending":
            raise JournalTampered(
                f"the log of action {record.uid} does not end where its hold's row says: an old "
                "row was put back, or events are missing; nothing was done on its word"
            )
        return hold_record, hold_of(hold_record, record)

    def _session_of(self, tx: Transaction, record: ActionRecord) -> SessionRecord:
        if record.session == self._session.session:
            return self._session
        session = tx.session(record.session)
        if session is None:
            raise JournalTampered(f"the session of action {record.uid} is missing")
        return session

    def _judge(
        self,
        tx: Transaction,
        uid: str,
        session: SessionRecord,
        tool: RegisteredTool,
        args: dict[str, JSONValue],
    ) -> Verdict:
        return self._policy.decide(
            CallFacts(
                args=args,
                contract=tool.contract,
                action_id=uid,
                action_type=ActionType.TOOL_CALL.value,
                proposal_id=None,
                agent_id=self._settings.agent,
                framework=self._settings.framework,
                session_id=session.session,
                session_age=(tx.now - session.opened_at) / 1e6,
                now=clock.to_datetime(tx.now),
            )
        )


def _held(
    record: ActionRecord,
    hold: Hold,
    decision: dict[str, JSONValue] | None,
    approved_by: tuple[str, ...] = (),
    error: OutcomeError | None = None,
) -> Held:
    outcome = Outcome(
        ActionStatus.HELD,
        record.uid,
        error=error,
        hold=hold_summary(hold, approved_by),
        decision=decision,
    )
    return Held(record.uid, record.session, hold.hold_id, hold.deadline, outcome)


def _denied_before(before: Outcome) -> OutcomeError:
    said = before.error.message if before.error is not None else "denied"
    return OutcomeError(
        OutcomeKind.APPROVAL_DENIED,
        f"{said} (this very call was denied earlier in this session; nobody is asked again)",
        {"denied_action": before.uid},
    )


def _unknown(uid: str) -> Outcome:
    error = OutcomeError(
        OutcomeKind.UNKNOWN_ACTION, f"this project and agent have no action {uid!r}"
    )
    return Outcome(ActionStatus.REJECTED, uid, error=error)
