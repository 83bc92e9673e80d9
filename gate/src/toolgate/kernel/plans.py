"""Runs proposals: starts what may start, takes note of what came of it, and brings it to an end."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

from toolgate import faults
from toolgate.errors import JournalError
from toolgate.ir import (
    Action,
    ActionProposal,
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
from toolgate.journal.journal import Journal, RecordChanged, Transaction
from toolgate.journal.records import SessionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.engine import Engine, NotStarted, RequestId
from toolgate.kernel.places import (
    compensates,
    compensation_of,
    compensation_uid,
    proposal_uid,
)
from toolgate.kernel.plan_steps import (
    Asleep,
    Elsewhere,
    PlanSteps,
    Settled,
    Standing,
)
from toolgate.kernel.progress import Progress
from toolgate.kernel.records import Call
from toolgate.kernel.steps import unknown
from toolgate.kernel.tools import ToolRegistry
from toolgate.plan.graph import Graph, PlanError, build
from toolgate.plan.references import UnresolvedReference, resolve

READS = 1
"""The highest level of tools without effects outside (:mod:`toolgate.policy.contracts`)."""

MAX_PROBLEMS = 50
"""At most this many problems of a proposal are reported; a hostile one may have a million."""
MAX_IDS = 8
"""At most this many actions are named by one of them."""

LOOK_AGAIN = 1.0
"""Seconds after which a caller that waits for what another gate does looks again."""

_STATUS = {
    ProposalStatus.COMPLETED: ActionStatus.SUCCEEDED,
    ProposalStatus.ABORTED: ActionStatus.FAILED,
    ProposalStatus.SUSPENDED: ActionStatus.HELD,
    ProposalStatus.RUNNING: ActionStatus.EXECUTING,
}


_STOPPED = (ActionStatus.PROPOSED, ActionStatus.HELD)
"""What an action is whose body has been entered, and has stopped itself."""

_UNSETTLED = (ActionStatus.PROPOSED, ActionStatus.HELD, ActionStatus.EXECUTING)


class _Looked(NamedTuple):
    """How a turn has left a proposal, and the number of the last answer there was at its look."""

    standing: Standing
    result: ProposalResult
    seen: int


@dataclass(slots=True)
class _Turn:
    """A request's turn at a proposal, which others of this gate wait for.

    Whoever came before it looked may take what it ``found`` for a look of their own: of many who
    wait for one proposal, one looks.
    """

    over: asyncio.Future[None]
    has_looked: bool = False
    found: _Looked | None = None
    failed: JournalError | None = None


class Plans:
    """The proposals of one session. Its coroutines may run concurrently, on one event loop."""

    def __init__(
        self,
        journal: Journal,
        engine: Engine,
        steps: PlanSteps,
        tools: ToolRegistry,
        session: SessionRecord,
    ) -> None:
        """``engine`` executes their actions."""
        self._journal = journal
        self._engine = engine
        self._steps = steps
        self._tools = tools
        self._session = session
        self._active: dict[str, _Turn] = {}

    async def propose(
        self,
        proposal: ActionProposal,
        content: str,
        request: RequestId,
        cancelled: asyncio.Future[None],
        idempotency_key: str | None = None,
        parent: str | None = None,
    ) -> ProposalResult:
        """Run a proposal to its end, or until it is suspended by a hold.

        ``content`` is the digest of the proposal as it was sent. When ``cancelled`` is done, what
        has not started does not start, the proposal's state is undone, and it is aborted, or
        suspended while there is something to compensate. Raises
        :class:`~toolgate.kernel.steps.KeyConflict`,
        :class:`~toolgate.errors.JournalUnavailable` and :class:`~toolgate.errors.JournalTampered`.
        """
        with self._engine.counted():
            graph = self._graph(proposal)
            step = await self._journal.transact(
                lambda tx: self._steps.receive(
                    tx, self._session, proposal, content, idempotency_key, parent, graph
                )
            )
            if isinstance(step, Settled):
                return step.result
            if isinstance(step, Progress):
                faults.hit("proposal.started")
                with self._turn(step.uid):
                    return await self._run(step, request, cancelled, parent)
        if (turn := self._active.get(step.uid)) is not None:
            await asyncio.wait({turn.over, cancelled}, return_when=asyncio.FIRST_COMPLETED)
        outcome = await self.resume(step.uid, request, 0.0, cancelled)
        if outcome.proposal is None:
            raise ValueError("a proposal that is known has a result")
        return outcome.proposal

    def belongs(self, uid: str) -> str | None:
        """Return the proposal that resuming ``uid`` brings on, if it is an action of one."""
        return None if compensates(uid) else proposal_uid(uid)

    async def resume(
        self,
        uid: str,
        request: RequestId,
        wait: float | None,
        cancelled: asyncio.Future[None],
    ) -> Outcome:
        """Bring a proposal on as far as it goes; ``uid`` is its own, or that of one of its actions.

        Returns how that one stands then, with the result of the whole. ``wait`` and ``cancelled``
        are those of :meth:`Engine.resume`.
        """
        loop = asyncio.get_running_loop()
        until = None if wait is None else loop.time() + wait
        proposal = proposal_uid(uid) or uid
        while True:
            turn = self._active.get(proposal)
            if turn is None:
                looked = await self._take_turn(proposal, request, wait, cancelled)
                if looked is None:
                    return unknown(uid)
            else:
                will_look = not turn.has_looked
                left = None if until is None else max(until - loop.time(), 0.0)
                await asyncio.wait(
                    {turn.over, cancelled}, timeout=left, return_when="FIRST_COMPLETED"
                )
                if not turn.over.done():
                    return _outcome(uid, await self._as_it_stands(proposal))
                if will_look and turn.failed is not None:
                    raise turn.failed
                if turn.found is None or not will_look:
                    continue
                looked = turn.found
            standing, result, seen = looked
            if not _waits(uid, result):
                return _outcome(uid, result, replayed=isinstance(standing, Settled))
            if isinstance(standing, Progress) and standing.stopped:
                # To enter it again is for the next resume: this one would never end.
                return _outcome(uid, result)
            if isinstance(standing, Asleep) and standing.error is not None:
                return _outcome(uid, result, error=standing.error)
            if isinstance(standing, Asleep) and cancelled.done():
                return await self._give_up(uid, standing)
            if (
                self._engine.closing
                or (until is not None and loop.time() >= until)
                or (isinstance(standing, Elsewhere) and cancelled.done())
            ):
                return _outcome(uid, result)
            if not isinstance(standing, Progress):
                await self._sleep(uid, standing, seen, cancelled, until)

    async def _take_turn(
        self,
        proposal: str,
        request: RequestId,
        wait: float | None,
        cancelled: asyncio.Future[None],
    ) -> _Looked | None:
        """Look how a proposal stands, and run it as far as it goes if it can go on.

        ``None``: this project and agent have no such proposal.
        """
        with self._turn(proposal) as turn:

            def look(tx: Transaction) -> tuple[Standing | None, int]:
                turn.has_looked = True
                standing = self._steps.look(tx, proposal, take=not self._engine.closing)
                return standing, tx.last_approval()

            try:
                with self._engine.looking(wait):
                    standing, seen = await self._journal.transact(look)
            except JournalError as error:
                turn.failed = error
                raise
            if standing is None:
                return None
            if isinstance(standing, Progress):
                faults.hit("proposal.resumed")
                with self._engine.counted():
                    result = await self._run(standing, request, cancelled, None)
                return _Looked(standing, result, seen)
            turn.found = _Looked(standing, standing.result, seen)
            return turn.found

    async def _as_it_stands(self, proposal: str) -> ProposalResult:
        """Return how a proposal stands that this or another gate runs."""
        standing = await self._journal.transact(
            lambda tx: self._steps.look(tx, proposal, take=False)
        )
        if standing is None or isinstance(standing, Progress):
            raise ValueError("a proposal that is known has a result")
        return standing.result

    async def _sleep(
        self,
        uid: str,
        standing: Asleep | Elsewhere | Settled,
        seen: int,
        cancelled: asyncio.Future[None],
        until: float | None,
    ) -> None:
        """Wait until a proposal may go on. What another gate does with it is looked at again."""
        if isinstance(standing, Asleep) and standing.holds:
            await self._engine.wait_for(
                uid, standing.holds, seen, cancelled, standing.deadline, until
            )
            return
        soon = asyncio.get_running_loop().time() + LOOK_AGAIN
        await self._engine.wait_for(
            uid, (), seen, cancelled, None, soon if until is None else min(soon, until)
        )

    async def _give_up(self, uid: str, standing: Asleep) -> Outcome:
        """Withdraw the hold that a caller of this session was waiting on, who has gone."""
        told = _outcome(uid, standing.result)
        if told.status is not ActionStatus.HELD or standing.session != self._session.session:
            return told
        if uid == standing.result.uid:
            return told
        return await self._engine.withdraw(uid, "the caller no longer waits")

    @contextmanager
    def _turn(self, proposal: str) -> Iterator[_Turn]:
        """Have a proposal to oneself: of this gate's requests, one at a time brings it on."""
        turn = _Turn(asyncio.get_running_loop().create_future())
        self._active[proposal] = turn
        try:
            yield turn
        finally:
            del self._active[proposal]
            turn.over.set_result(None)

    def _graph(self, proposal: ActionProposal) -> Graph | OutcomeError:
        """Return a proposal's graph, or why the whole of it is refused before anything runs."""
        refusal = self._engine.steps.judge.refusal_of_size(len(proposal.actions))
        if refusal is not None:
            return refusal
        try:
            return build(proposal.actions)
        except PlanError as error:
            redactor = self._engine.steps.judge.redactor
            told = [
                redactor.problem(item, proposal.actions) for item in error.problems[:MAX_PROBLEMS]
            ]
            more = len(error.problems) - len(told)
            message = "; ".join(item.message for item in told)
            problems: list[JSONValue] = [
                {"code": item.code, "message": item.message, "ids": list(item.ids[:MAX_IDS])}
                for item in told
            ]
            return OutcomeError(
                OutcomeKind.INVALID_ACTION,
                f"{message}; and {more} problems more" if more else message,
                {"problems": problems},
            )

    async def _run(
        self,
        progress: Progress,
        request: RequestId,
        cancelled: asyncio.Future[None],
        parent: str | None,
    ) -> ProposalResult:
        """Run a proposal that this run has claimed, as far as it goes.

        When another gate takes this one for dead, and the proposal over, it goes no further here.
        """
        try:
            return await self._run_claimed(progress, request, cancelled, parent)
        except RecordChanged:
            return await self._as_it_stands(progress.uid)

    async def _run_claimed(
        self,
        progress: Progress,
        request: RequestId,
        cancelled: asyncio.Future[None],
        parent: str | None,
    ) -> ProposalResult:
        await self._run_actions(progress, request, cancelled, parent)
        if progress.executing or (self._engine.closing and not progress.finished):
            return await self._journal.transact(lambda tx: self._steps.suspend(tx, progress))
        if cancelled.done() and not progress.settled:
            progress.cancelled = True
        if progress.aborting:
            return await self._abort(progress, request, cancelled)
        if progress.held and not progress.ending:
            self._engine.waits_in(progress.uid, parent)
            return await self._journal.transact(lambda tx: self._steps.suspend(tx, progress))
        return await self._journal.transact(lambda tx: self._steps.complete(tx, progress))

    async def _run_actions(
        self,
        progress: Progress,
        request: RequestId,
        cancelled: asyncio.Future[None],
        parent: str | None,
    ) -> None:
        """Start actions as they become ready, until nothing runs and nothing more may start."""
        tasks: dict[asyncio.Task[Outcome], str] = {}
        failure: BaseException | None = None
        while True:
            if failure is None and not self._ending(progress, cancelled):
                for name in progress.schedule.next():
                    work = self._one(progress, name, request, cancelled, parent)
                    tasks[asyncio.ensure_future(work)] = name
            if not tasks:
                break
            ended, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in sorted(ended, key=lambda task: progress.graph.index[tasks[task]]):
                name = tasks.pop(task)
                error = task.exception()
                if isinstance(error, NotStarted):
                    continue
                if error is not None:
                    failure = failure or error
                    continue
                outcome = task.result()
                progress.note(name, outcome, self._journal.now())
                progress.stopped |= outcome.attempts > 0 and outcome.status in _STOPPED
                faults.hit("proposal.between")
        if failure is not None:
            raise failure

    def _ending(self, progress: Progress, cancelled: asyncio.Future[None]) -> bool:
        return (
            progress.aborting
            or progress.exhausted is not None
            or cancelled.done()
            or self._engine.closing
        )

    async def _one(
        self,
        progress: Progress,
        name: str,
        request: RequestId,
        cancelled: asyncio.Future[None],
        parent: str | None,
    ) -> Outcome:
        """Bring one action to an end, or to a hold."""
        if name in progress.proposed:
            return await self._engine.bring_on(
                progress.uid_of(name), request, cancelled, progress.usage
            )
        action = progress.actions[name]
        error = progress.failed_requirement(name) or progress.no_room(name)
        if error is None:
            try:
                action = _resolved(action, progress)
            except UnresolvedReference as unresolved:
                call = self._steps.call(progress, action)
                return await self._refuse(progress, call, _unresolved(call, unresolved))
        if error is not None:
            return await self._refuse(progress, self._steps.call(progress, action), error)
        call = self._steps.call(progress, action, parent)
        return await self._engine.act(call, progress.session, request, cancelled, progress.usage)

    async def _refuse(self, progress: Progress, call: Call, error: OutcomeError) -> Outcome:
        return await self._journal.transact(
            lambda tx: self._steps.refuse(tx, progress, call, error)
        )

    async def _abort(
        self, progress: Progress, request: RequestId, cancelled: asyncio.Future[None]
    ) -> ProposalResult:
        """Undo what a proposal did: first its state, then what can be compensated, last to first.

        Compensations are governed like any call: policy may deny one, or hold it, and then it is
        told so, and the others go on. A caller who has gone, or a gate that closes, runs none: the
        proposal is suspended, and whoever resumes it sees to them.
        """
        restored, kept = await self._journal.transact(
            lambda tx: self._steps.roll_back(tx, progress)
        )
        never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        compensations: list[Compensated] = []
        for name, compensation in _compensations(progress):
            if self._engine.closing or cancelled.done():
                return await self._journal.transact(lambda tx: self._steps.suspend(tx, progress))
            try:
                outcome = await self._compensate(progress, name, compensation, request, never)
            except NotStarted:
                return await self._journal.transact(lambda tx: self._steps.suspend(tx, progress))
            compensations.append(Compensated(name, outcome))
            faults.hit("proposal.compensated")
        made_good = {
            item.action_id
            for item in compensations
            if item.outcome.status is ActionStatus.SUCCEEDED
        }
        rollback = Rollback(
            tuple(restored),
            tuple(kept),
            tuple(compensations),
            tuple(
                ExternalEffect(action.id, came.uid, action.tool or "", came.status)
                for action in progress.proposal.actions
                if (came := progress.outcomes.get(action.id)) is not None
                and action.id not in made_good
                and self._may_have_effects(action, came)
            ),
        )
        return await self._journal.transact(lambda tx: self._steps.abort(tx, progress, rollback))

    async def _compensate(
        self,
        progress: Progress,
        name: str,
        compensation: Action,
        request: RequestId,
        cancelled: asyncio.Future[None],
    ) -> Outcome:
        """Run what compensates an action, unless that was done before."""
        uid = compensation_uid(progress.uid_of(name))
        known = await self._journal.transact(lambda tx: self._engine.steps.recorded(tx, uid))
        if known is not None:
            return known
        try:
            compensation = _resolved(compensation, progress)
        except UnresolvedReference as unresolved:
            call = self._steps.call_as(progress, compensation, uid)
            return await self._refuse(progress, call, _unresolved(call, unresolved))
        call = self._steps.call_as(progress, compensation, uid)
        return await self._engine.act(call, progress.session, request, cancelled, None)

    def _may_have_effects(self, action: Action, outcome: Outcome) -> bool:
        """Tell whether an action may have done something outside that nobody has undone."""
        if action.type is not ActionType.TOOL_CALL or outcome.attempts == 0:
            return False
        tool = self._tools.get(action.tool or "")
        return tool is None or tool.contract.level > READS


def _unresolved(call: Call, error: UnresolvedReference) -> OutcomeError:
    """Return why an action is rejected whose parameters refer to what is not there."""
    said = "a reference in its (redacted) parameters leads nowhere"
    return OutcomeError(
        OutcomeKind.DEPENDENCY_FAILED, str(error) if call.redaction is None else said
    )


def _compensations(progress: Progress) -> Iterator[tuple[str, Action]]:
    """Iterate over the actions to be compensated, the last to succeed first, with what does it."""
    for name in progress.to_undo():
        action = progress.actions[name]
        compensation = compensation_of(action, progress.proposal.actions)
        if compensation is None or action.reversibility == "irreversible":
            continue
        if progress.outcomes[name].attempts == 0:
            # It repeated a result: what that came from has happened for another, and stays.
            continue
        yield name, compensation


def _resolved(action: Action, progress: Progress) -> Action:
    """Return the action with outputs in the place of references to them."""
    parameters = resolve(action.parameters, progress.outputs(), progress.room)
    if parameters is action.parameters:
        return action
    return action.model_copy(update={"parameters": parameters})


def _waits(uid: str, result: ProposalResult) -> bool:
    """Tell whether ``uid`` (an action, or the proposal itself) has not come to its end."""
    if uid == result.uid:
        return result.status in (ProposalStatus.SUSPENDED, ProposalStatus.RUNNING)
    outcome = next((r.outcome for r in result.results if r.outcome.uid == uid), None)
    # An approved action that this client cannot run: waiting would not change that.
    return outcome is not None and outcome.error is None and outcome.status in _UNSETTLED


def _outcome(
    uid: str,
    result: ProposalResult,
    *,
    replayed: bool = False,
    error: OutcomeError | None = None,
) -> Outcome:
    """Return how an action of the proposal stands, or the proposal itself, with all of it.

    ``error`` is why it was not brought on.
    """
    for item in result.results:
        if item.outcome.uid == uid:
            return dataclasses.replace(
                item.outcome,
                error=item.outcome.error or error,
                action_id=item.action_id,
                proposal=result,
                replayed=item.outcome.replayed or replayed,
            )
    if uid != result.uid:
        return unknown(uid)
    error = error or result.error
    return Outcome(_STATUS[result.status], uid, error=error, proposal=result, replayed=replayed)
