"""What becomes of a whole proposal, transaction by transaction. No waiting, no bodies.

A proposal is ``running`` in one gate at a time, which has its row's ``run``; ``suspended`` when
nothing can go on before a person has answered or a gate takes it up again; and in the end
``completed`` or ``aborted``. A gate that dies leaves it running: whoever resumes it next goes on
from what the journal knows, with the actions that were executing in doubt.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

from toolgate import clock, faults, jsonvalue
from toolgate.errors import JournalTampered
from toolgate.ir import (
    Action,
    ActionProposal,
    ActionResult,
    ActionStatus,
    ActionType,
    Compensated,
    ExternalEffect,
    Outcome,
    OutcomeError,
    OutcomeKind,
    ProposalResult,
    ProposalStatus,
    Rollback,
)
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Reader, RecordChanged, Transaction, new_id
from toolgate.journal.records import ActionRecord, ProposalRecord, SessionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel import state
from toolgate.kernel.places import (
    action_uid,
    call_for,
    compensates,
    compensation_of,
    read_proposal,
)
from toolgate.kernel.progress import Progress, cost_of
from toolgate.kernel.records import REDACTED, Call, content_of, error_of, recall
from toolgate.kernel.step import Settings
from toolgate.kernel.steps import KeyConflict, Steps
from toolgate.plan.graph import Graph, build

_SHORT = 200
"""Characters of the reason for a refusal that each action repeats."""

_ENDED = (ProposalStatus.COMPLETED, ProposalStatus.ABORTED)


@dataclass(frozen=True, slots=True)
class Known:
    """The proposal ``uid`` was proposed before, with the same idempotency key."""

    uid: str


@dataclass(frozen=True, slots=True)
class Settled:
    """Nothing more happens to the proposal."""

    result: ProposalResult


@dataclass(frozen=True, slots=True)
class Asleep:
    """The proposal waits: for people, who have not answered these holds, or for tools."""

    result: ProposalResult
    session: str
    holds: tuple[str, ...]
    deadline: int | None
    """When the first of the holds expires (microseconds), if any does."""
    error: OutcomeError | None = None
    """Why it does not go on although it could: this client cannot run what is left of it."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """Another gate runs the proposal at this moment."""

    result: ProposalResult


Standing: TypeAlias = Settled | Asleep | Elsewhere | Progress


class PlanSteps:
    """The steps of proposals, of one project and agent."""

    def __init__(self, steps: Steps, settings: Settings, run: str) -> None:
        """``steps`` are those of single actions; ``run`` is this gate's."""
        self._steps = steps
        self._settings = settings
        self._run = run

    def receive(
        self,
        tx: Transaction,
        session: SessionRecord,
        proposal: ActionProposal,
        content: str,
        idempotency_key: str | None,
        parent: str | None,
        graph: Graph | OutcomeError,
    ) -> Known | Settled | Progress:
        """Journal a proposal, claimed for this run, or refused as a whole when it has no graph.

        ``content`` is the digest of the proposal as it was sent. Raises :class:`KeyConflict` when
        the key names another one.
        """
        ours = (self._settings.project, self._settings.agent)
        redactor = self._steps.judge.redactor
        hidden_content = REDACTED + redactor.keyed(b"proposal\n" + content.encode()).hex()
        if idempotency_key is not None:
            known = tx.proposal_by_key(*ours, idempotency_key)
            if known is not None:
                if _received(tx, known).get("content") not in (content, hidden_content):
                    raise KeyConflict(
                        f"the idempotency key {idempotency_key!r} names another proposal "
                        f"({known.uid}): one key is one proposal for ever"
                    )
                return Known(known.uid)
        uid = new_id(tx.now)
        plan = proposal.model_dump(mode="json")
        document = jsonvalue.canonical(plan)
        data: dict[str, JSONValue] = {"proposal": plan, "content": content}
        shown = redactor.proposal(plan)
        if shown is not None:
            data = {"proposal": shown, "content": hidden_content}
        missing = self._steps.judge.unregistered(_tools_of(proposal))
        if missing:
            data["unregistered"] = list(missing)
        if parent is not None:
            data["parent"] = parent
        if idempotency_key is not None:
            data["idempotency_key"] = idempotency_key
        seq = tx.append(EventKind.PROPOSAL_RECEIVED, data, session=session.session, action=uid)
        status = ProposalStatus.RUNNING
        if isinstance(graph, OutcomeError):
            status = ProposalStatus.ABORTED
            document = document if shown is None else jsonvalue.canonical(shown)
            end: dict[str, JSONValue] = {"error": graph.to_json(), "refused": True}
            seq = tx.append(EventKind.PROPOSAL_ABORTED, end, session=session.session, action=uid)
        record = ProposalRecord(
            uid=uid,
            project=self._settings.project,
            agent=self._settings.agent,
            session=session.session,
            proposal_id=proposal.id,
            document=document,
            idempotency_key=idempotency_key,
            status=status.value,
            run=self._run if status is ProposalStatus.RUNNING else None,
            created_at=tx.now,
            last_seq=seq,
        )
        tx.insert(record)
        faults.hit("proposal.received")
        if isinstance(graph, OutcomeError):
            return Settled(_refused(record, proposal, graph))
        return self._progress(record, proposal, graph, session)

    def look(self, tx: Transaction, uid: str, *, take: bool = True) -> Standing | None:
        """Tell how a proposal stands, and claim it for this run when it can go on.

        ``None``: this project and agent have no such proposal. Without ``take`` it is only told.
        """
        record = tx.proposal(uid)
        ours = (self._settings.project, self._settings.agent)
        if record is None or (record.project, record.agent) != ours:
            return None
        if tx.last_seq_of(uid) != record.last_seq:
            raise JournalTampered(
                f"the log of proposal {uid} does not end where its row says: an old row was put "
                "back, or events are missing; nothing was done on its word"
            )
        if record.status in _ENDED:
            self._take_in_settlements(tx, uid)
            return Settled(result_of(tx, record))
        running = record.status == ProposalStatus.RUNNING
        mine = record.run == self._run
        elsewhere = running and not (take if mine else self._steps.abandoned(record.run))
        progress, held, stopped = self._load(tx, record, settle=not elsewhere)
        if elsewhere:
            return Elsewhere(progress.result(ProposalStatus.RUNNING))
        answered = []
        if progress.ending:
            ready = not progress.executing
        else:
            answered = [item for item in held if self._steps.releases.answered(tx, item)]
            ready = bool(answered or stopped) or progress.schedule.startable or not progress.held
        error = self._missing_tools(tx, progress) if take and ready else None
        if not (take and ready) or error is not None:
            holds = [self._steps.releases.hold(tx, item)[1] for item in held]
            deadlines = [hold.deadline for hold in holds if hold.deadline is not None]
            return Asleep(
                progress.result(ProposalStatus.SUSPENDED),
                record.session,
                tuple(hold.hold_id for hold in holds),
                min(deadlines, default=None),
                error,
            )
        for item in (*answered, *stopped):
            progress.schedule.release(progress.proposal.actions[_place(item.uid)].id)
        self._move(tx, progress, EventKind.PROPOSAL_RESUMED, {}, ProposalStatus.RUNNING)
        return progress

    def _missing_tools(self, tx: Transaction, progress: Progress) -> OutcomeError | None:
        """Return why this client must not go on with a proposal: it would reject what is left.

        A tool that nobody had registered when the proposal was made is not waited for.
        """
        never = _received(tx, progress.record).get("unregistered") or ()
        ahead = (tool for tool in progress.tools_ahead() if tool not in never)
        missing = self._steps.judge.unregistered(ahead)
        if not missing:
            return None
        return OutcomeError(
            OutcomeKind.UNREGISTERED_TOOL,
            f"what is left of the proposal may call {', '.join(map(repr, missing))}, which this "
            "client has not registered: it stays as it is; register them, and resume it",
            {"tools": list(missing)},
        )

    def suspend(self, tx: Transaction, progress: Progress) -> ProposalResult:
        """Let go of a proposal that cannot go on now."""
        _still_claimed(tx, progress)
        data: dict[str, JSONValue] = {"held": [progress.uid_of(n) for n in progress.held]}
        self._move(tx, progress, EventKind.PROPOSAL_SUSPENDED, data, ProposalStatus.SUSPENDED)
        faults.hit("proposal.suspended")
        return progress.result(ProposalStatus.SUSPENDED)

    def complete(self, tx: Transaction, progress: Progress) -> ProposalResult:
        """End a proposal whose actions have all settled; what compensates others was not needed."""
        _still_claimed(tx, progress)
        if progress.exhausted is not None:
            self._withdraw_held(tx, progress, progress.exhausted)
        # Without a budget's word these are what compensates others, and was not needed.
        self._skip_unstarted(tx, progress, progress.exhausted)
        result = progress.result(ProposalStatus.COMPLETED)
        data: dict[str, JSONValue] = {"cost": result.cost.to_json()}
        self._move(tx, progress, EventKind.PROPOSAL_COMPLETED, data, ProposalStatus.COMPLETED)
        faults.hit("proposal.completed")
        return result

    def roll_back(self, tx: Transaction, progress: Progress) -> tuple[list[str], list[str]]:
        """Begin an abort: skip what has not started, withdraw what is held, undo the state.

        Returns the state keys that were restored, and those that others have written since. What
        an earlier gate has done of it is not done again.
        """
        _still_claimed(tx, progress)
        done = tx.last_event(progress.uid, EventKind.STATE_ROLLED_BACK, progress.record.last_seq)
        if done is not None:
            data = jsonvalue.parse(done.data)
            return data["restored"], data["kept"]
        why = progress.why_aborted()
        error = OutcomeError(
            OutcomeKind.CANCELLED, f"not started: the proposal was aborted ({why.message})"
        )
        self._skip_unstarted(tx, progress, error)
        withdrawn = OutcomeError(OutcomeKind.CANCELLED, "withdrawn: the proposal was aborted")
        self._withdraw_held(tx, progress, withdrawn)
        undone = [progress.uid_of(name) for name in progress.to_undo()]
        restored, kept = state.undo(tx, progress.record.session, progress.uid, undone)
        for uid in undone:
            record = tx.action(uid)
            if record is None:
                continue
            content = content_of(tx, record)
            known = tx.result(record.session, content)
            if known is not None and known.uid == uid:
                tx.forget(record.session, content)
        self._keep(tx, progress, ProposalStatus.RUNNING, tx.seq)
        faults.hit("proposal.rolled_back")
        progress.rolled_back = True
        return restored, kept

    def abort(self, tx: Transaction, progress: Progress, rollback: Rollback) -> ProposalResult:
        """End an abort, of which ``rollback`` tells."""
        _still_claimed(tx, progress)
        for item in rollback.compensations:
            data: dict[str, JSONValue] = {
                "of": item.action_id,
                "by": item.outcome.uid,
                "status": item.outcome.status.value,
            }
            session = progress.record.session
            tx.append(EventKind.ACTION_COMPENSATED, data, session=session, action=progress.uid)
        self._skip_unstarted(
            tx, progress, OutcomeError(OutcomeKind.CANCELLED, "not started: the proposal ended")
        )
        result = progress.result(ProposalStatus.ABORTED, rollback)
        end: dict[str, JSONValue] = {
            "error": progress.why_aborted().to_json(),
            "rollback": rollback.to_json(),
        }
        self._move(tx, progress, EventKind.PROPOSAL_ABORTED, end, ProposalStatus.ABORTED)
        faults.hit("proposal.aborted")
        return result

    def refuse(
        self, tx: Transaction, progress: Progress, call: Call, error: OutcomeError
    ) -> Outcome:
        """Reject an action of a proposal that cannot be looked at."""
        _still_claimed(tx, progress)
        return self._steps.refuse(tx, progress.session, call, ActionStatus.REJECTED, error)

    def call(self, progress: Progress, action: Action, parent: str | None = None) -> Call:
        """Return the call that an action makes whose references are resolved."""
        uid = progress.uid_of(action.id)
        return self.call_as(progress, action, uid, parent)

    def call_as(
        self, progress: Progress, action: Action, uid: str, parent: str | None = None
    ) -> Call:
        """Return the call that an action makes as the action ``uid`` of the proposal."""
        redactor = self._steps.judge.redactor
        claimed = progress.record.last_seq
        return call_for(action, uid, progress.uid, parent, claimed, redactor=redactor)

    def _withdraw_held(self, tx: Transaction, progress: Progress, error: OutcomeError) -> None:
        for name in progress.held:
            uid = progress.uid_of(name)
            outcome = self._steps.withdraw(tx, uid, error.message, error.kind)
            progress.note(name, outcome, tx.now)

    def _skip_unstarted(
        self, tx: Transaction, progress: Progress, error: OutcomeError | None
    ) -> None:
        for action in list(progress.unstarted()):
            call = self.call(progress, action)
            outcome = self._steps.refuse(tx, progress.session, call, ActionStatus.SKIPPED, error)
            progress.note(action.id, outcome, tx.now)

    def _take_in_settlements(self, tx: Transaction, uid: str) -> set[str]:
        """Settle a proposal's actions that are in doubt, as far as somebody has settled them.

        Returns the uids of those that are to run again.
        """
        rows = [row for row in tx.actions_of(uid) if row.status == ActionStatus.IN_DOUBT]
        again = {row.uid for row in rows if self._steps.settling.settle(tx, row)}
        tx.flush()
        return again

    def _load(
        self, tx: Transaction, record: ProposalRecord, *, settle: bool
    ) -> tuple[Progress, list[ActionRecord], list[ActionRecord]]:
        """Return a proposal as the journal knows it, and the rows of its actions that wait.

        First those that are held, then those whose bodies have stopped themselves.

        With ``settle``, what has been said of those in doubt is taken in, and those are ended that
        were denied or not approved in time: a denial is final where it is heard, whoever listens.
        """
        session = tx.session(record.session)
        if session is None:
            raise JournalTampered(f"the session of proposal {record.uid} is missing")
        proposal = read_proposal(record)
        progress = self._progress(record, proposal, build(proposal.actions), session)
        rows = [row for row in tx.actions_of(record.uid) if not compensates(row.uid)]
        for row in rows:
            if row.status == ActionStatus.EXECUTING and self._steps.abandoned(row.run):
                self._steps.doubt(tx, row)
            elif row.status == ActionStatus.HELD and settle:
                self._steps.releases.conclude(tx, row)
        tx.flush()
        again = self._take_in_settlements(tx, record.uid) if settle else set()
        rows = [row for row in tx.actions_of(record.uid) if not compensates(row.uid)]
        held: list[ActionRecord] = []
        stopped: list[ActionRecord] = []
        for row in sorted(rows, key=lambda row: row.last_seq):
            action = progress.proposal.actions[_place(row.uid)]
            if row.status in (ActionStatus.HELD, ActionStatus.EXECUTING):
                step = self._steps.releases.standing(tx, row)
                held += [row] if row.status == ActionStatus.HELD else []
            elif row.status == ActionStatus.PROPOSED:
                step = self._steps.reentry.standing(tx, row)
                stopped.append(row)
            else:
                step = recall(tx, row)
            progress.usage.spent = progress.usage.spent.add(
                tool_calls=row.attempts if action.type is ActionType.TOOL_CALL else 0,
                actions=int(row.attempts > 0),
                duration_ms=step.duration_ms or 0.0,
            )
            take_note = progress.again if row.uid in again else progress.note
            take_note(action.id, step, tx.event(row.last_seq).at)
        done = tx.last_event(record.uid, EventKind.STATE_ROLLED_BACK, record.last_seq)
        progress.rolled_back = done is not None
        return progress, held, stopped

    def _progress(
        self,
        record: ProposalRecord,
        proposal: ActionProposal,
        graph: Graph,
        session: SessionRecord,
    ) -> Progress:
        return Progress(record, proposal, graph, session, self._settings.max_concurrency)

    def _move(
        self,
        tx: Transaction,
        progress: Progress,
        kind: EventKind,
        data: dict[str, JSONValue],
        status: ProposalStatus,
    ) -> None:
        record = progress.record
        seq = tx.append(kind, data, session=record.session, action=record.uid)
        self._keep(tx, progress, status, seq)

    def _keep(self, tx: Transaction, progress: Progress, status: ProposalStatus, seq: int) -> None:
        run = self._run if status is ProposalStatus.RUNNING else None
        moved = progress.record._replace(status=status.value, run=run, last_seq=seq)
        if status in _ENDED:
            moved = moved._replace(document=_shown(tx, moved))
        tx.update(moved, progress.record.last_seq)
        progress.record = moved


def _still_claimed(tx: Transaction, progress: Progress) -> None:
    """Raise :class:`RecordChanged` when another gate has taken the proposal over."""
    if tx.last_seq_of(progress.uid) != progress.record.last_seq:
        raise RecordChanged(progress.uid)


def result_of(reader: Reader, record: ProposalRecord) -> ProposalResult:
    """Return the recorded result of a proposal that has ended; raises :class:`JournalTampered`."""
    proposal = read_proposal(record)
    status = ProposalStatus(record.status)
    end = jsonvalue.parse(reader.event(record.last_seq).data)
    error = error_of(end.get("error"))
    if end.get("refused") and error is not None:
        return _refused(record, proposal, error)
    rows = {row.uid: row for row in reader.actions_of(record.uid)}
    results = []
    for place, action in enumerate(proposal.actions):
        row = rows.get(action_uid(record.uid, place))
        if row is None:
            raise JournalTampered(f"an action of proposal {record.uid} is missing")
        outcome = recall(reader, row)
        undone = status is ProposalStatus.ABORTED and outcome.status is ActionStatus.SUCCEEDED
        at = clock.to_text(reader.event(row.last_seq).at)
        results.append(ActionResult(action.id, outcome, undone, at))
    return ProposalResult(
        proposal.id,
        record.uid,
        status,
        tuple(results),
        cost_of(proposal.actions, results),
        error,
        _rollback_of(end.get("rollback")),
    )


def _rollback_of(data: JSONValue) -> Rollback | None:
    if data is None:
        return None
    compensations = []
    for item in data["compensations"]:
        error = None
        if "kind" in item:
            error = OutcomeError(OutcomeKind(item["kind"]), item["error"])
        outcome = Outcome(ActionStatus(item["status"]), item["uid"], error=error)
        compensations.append(Compensated(item["action_id"], outcome))
    effects = [
        ExternalEffect(item["action_id"], item["uid"], item["tool"], ActionStatus(item["status"]))
        for item in data["external_effects"]
    ]
    restored, kept = tuple(data["restored"]), tuple(data["kept"])
    return Rollback(restored, kept, tuple(compensations), tuple(effects))


def _refused(
    record: ProposalRecord, proposal: ActionProposal, error: OutcomeError
) -> ProposalResult:
    """Return the result of a proposal that was refused as a whole: every action is rejected.

    What is wrong stands with the proposal; an action only says that it was refused with it.
    """
    at = clock.to_text(record.created_at)
    short = error.message if len(error.message) <= _SHORT else f"{error.message[:_SHORT]} …"
    refused = OutcomeError(error.kind, f"the whole proposal was refused: {short}")
    results = [
        ActionResult(
            action.id,
            Outcome(ActionStatus.REJECTED, action_uid(record.uid, place), error=refused),
            rolled_back=False,
            timestamp=at,
        )
        for place, action in enumerate(proposal.actions)
    ]
    return ProposalResult(
        proposal.id,
        record.uid,
        ProposalStatus.ABORTED,
        tuple(results),
        cost_of(proposal.actions, results),
        error,
    )


def _shown(reader: Reader, record: ProposalRecord) -> bytes:
    """Return a proposal's document as its log shows it."""
    received = _received(reader, record)
    if not str(received.get("content", "")).startswith(REDACTED):
        return record.document
    return jsonvalue.canonical(received["proposal"])


def _received(reader: Reader, record: ProposalRecord) -> dict[str, JSONValue]:
    event = reader.last_event(record.uid, EventKind.PROPOSAL_RECEIVED, record.last_seq)
    if event is None:
        raise JournalTampered(f"no event says that proposal {record.uid} was received")
    data: dict[str, JSONValue] = jsonvalue.parse(event.data)
    return data


def _tools_of(proposal: ActionProposal) -> Iterator[str]:
    for action in proposal.actions:
        for item in (action, compensation_of(action, proposal.actions)):
            if item is not None and item.type is ActionType.TOOL_CALL and item.tool:
                yield item.tool


def _place(uid: str) -> int:
    return int(uid.rpartition("-")[2]) - 1
