"""Carries out what the steps decide: transactions, the tool's body, waiting.

A call is one transaction before its body runs (proposed, decided, claimed) and one after (how it
ended): no body runs that the journal does not know, and no caller knows a result that the journal
does not.
"""

from __future__ import annotations

import asyncio
import dataclasses
import random
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

from toolgate import faults
from toolgate.errors import JournalTampered, JournalUnavailable
from toolgate.ir import ActionStatus, Outcome, OutcomeError, OutcomeKind
from toolgate.journal.journal import Journal, Transaction
from toolgate.journal.records import SessionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.allowance import Exhausted, NoToken, Usage
from toolgate.kernel.attempts import CANCEL_GRACE, wait_before
from toolgate.kernel.expiry import Expiry
from toolgate.kernel.holds import view_hold
from toolgate.kernel.judge import Prepared
from toolgate.kernel.recording import Recorder
from toolgate.kernel.records import Call
from toolgate.kernel.result import (
    CANCELLED,
    Ending,
    ToolError,
    ToolLost,
    ToolReply,
    ToolTimeout,
    concluded,
    ending,
)
from toolgate.kernel.running import Attempt, Deadlines, Running
from toolgate.kernel.step import Claim, Held, Joined, Settings, Step, Unprepared
from toolgate.kernel.steps import Steps
from toolgate.kernel.tools import RegisteredTool
from toolgate.kernel.waiting import Waiting

RequestId: TypeAlias = int | str
"""The request that a body belongs to, as its runner knows it."""

TOKEN_PATIENCE: Final = 120.0
"""Seconds that a call waits for its rate limit at most, when nobody has set it a time."""


class ToolRun(NamedTuple):
    """An order to run a tool's body. ``call`` is the id of the request it belongs to."""

    call: RequestId
    tool: str
    args: dict[str, JSONValue]
    uid: str
    attempt: int
    timeout: float


class NotStarted(Exception):
    """A call has not started, and nothing was written of it, for its caller or the gate is going.

    Of a proposal's action that is raised: whoever goes on with the proposal may start it.
    """


class ToolRunner(Protocol):
    """Runs tools' bodies, somewhere."""

    def run(self, order: ToolRun, on_reply: Callable[[ToolReply], None]) -> None:
        """Start a body; ``on_reply`` is called with how it ended, later, and at most once."""

    def cancel(self, uid: str, reason: str) -> None:
        """Ask that a body stop; it may go on all the same."""


class _Looked(NamedTuple):
    """What came of resuming an action, and the number of the last answer there was then."""

    step: Step
    prepared: Prepared | None
    seen: int


@dataclass(frozen=True, slots=True)
class _GivenUp:
    """The last failure stands after all; ``claim`` is as the journal knows it."""

    claim: Claim


class Engine:
    """Executes single actions. Its coroutines may run concurrently, on one event loop."""

    def __init__(
        self,
        journal: Journal,
        steps: Steps,
        settings: Settings,
        session: SessionRecord,
        runner: ToolRunner,
    ) -> None:
        """``runner`` runs the bodies; ``session`` is the one that new calls belong to."""
        self.steps = steps
        self.closing = False
        """Whether the gate is shutting down: nothing starts any more."""
        self.in_flight = 0
        """How many calls are under way; one that waits for people, or looks whether to, is not."""
        self._journal = journal
        self._settings = settings
        self._session = session
        self._runner = runner
        self._running: dict[str, Running] = {}
        self._deadlines = Deadlines(self._expire)
        self._waiting = Waiting(journal)
        self.expiry = Expiry(journal, self._is_ours, steps.conclude, self._waiting.wake)
        self._pauses: set[asyncio.Future[None]] = set()
        self._parents: dict[str, str] = {}
        self.recorder = Recorder(journal, steps)

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Count what is done within as one call under way."""
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    async def govern(
        self, call: Call, request: RequestId, cancelled: asyncio.Future[None]
    ) -> Outcome:
        """Propose a call and bring it to an outcome, or to a hold.

        When ``cancelled`` is done before the body has started, it does not start, and a hold that
        was opened is withdrawn.

        Raises :class:`~toolgate.kernel.steps.KeyConflict`, :class:`JournalUnavailable` and
        :class:`~toolgate.errors.JournalTampered`.
        """
        self.in_flight += 1
        try:
            return await self.act(call, self._session, request, cancelled)
        finally:
            self.in_flight -= 1

    async def act(
        self,
        call: Call,
        session: SessionRecord,
        request: RequestId,
        cancelled: asyncio.Future[None],
        usage: Usage | None = None,
    ) -> Outcome:
        """Propose a call in ``session``, single or of a proposal, as :meth:`govern` does.

        Raises :class:`NotStarted` besides, for an action of a proposal.
        """
        faults.hit("arguments.unchecked")
        prepared = self.steps.judge.prepare(call)
        faults.hit("arguments.checked")
        step = await self._journal.transact(
            lambda tx: self.steps.propose(tx, session, prepared, usage)
        )
        if isinstance(step, NoToken):
            try:
                step = await self._wait_for_token(
                    step,
                    cancelled,
                    call.timeout or _patience(prepared.tool),
                    lambda tx, patient: self.steps.propose(
                        tx, session, prepared, usage, patient=patient
                    ),
                    started=False,
                )
            except NotStarted as error:
                if call.proposal is not None:
                    raise
                why = OutcomeError(OutcomeKind.CANCELLED, str(error))
                step = await self._journal.transact(
                    lambda tx: self.steps.refuse(tx, session, call, ActionStatus.SKIPPED, why)
                )
        if isinstance(step, Unprepared):
            return await self.bring_on(step.uid, request, cancelled, usage)
        if isinstance(step, Held):
            faults.hit("hold.committed")
            if step.opened and cancelled.done():
                return await self.withdraw(step.uid, "cancelled by the caller")
            self.expiry.expect(step.deadline)
            self.waits_in(step.uid, call.parent)
        return await self._carry_out(step, request, cancelled, usage)

    async def bring_on(
        self,
        uid: str,
        request: RequestId,
        cancelled: asyncio.Future[None],
        usage: Usage | None = None,
    ) -> Outcome:
        """Bring a held action on, without waiting for people."""
        step, prepared, _ = await self._look(uid, usage)
        if isinstance(step, NoToken):
            step = await self._wait_for_token(
                step,
                cancelled,
                TOKEN_PATIENCE,
                lambda tx, patient: self.steps.resume(tx, uid, usage, prepared, patient=patient),
            )
        if isinstance(step, Unprepared):
            # It was edited while it waited: other arguments are to be looked at.
            return await self.bring_on(uid, request, cancelled, usage)
        return await self._carry_out(step, request, cancelled, usage)

    async def resume(
        self, uid: str, request: RequestId, wait: float | None, cancelled: asyncio.Future[None]
    ) -> Outcome:
        """Bring a held action on: run it once it is approved, waiting up to ``wait`` seconds.

        ``wait`` of ``None`` waits as long as it takes. When ``cancelled`` is done the wait ends,
        and a hold of this session is withdrawn. An action that has ended returns its recorded
        outcome. Raises :class:`JournalUnavailable` and :class:`~toolgate.errors.JournalTampered`.
        """
        loop = asyncio.get_running_loop()
        until = None if wait is None else loop.time() + wait
        while True:
            with self.looking(wait):
                step, _, seen = await self._look(uid)
            if not isinstance(step, Held):
                self._waits_no_more(uid)
                with self.counted():
                    if isinstance(step, NoToken):
                        return await self.bring_on(uid, request, cancelled)
                    return await self._carry_out(step, request, cancelled, None)
            if cancelled.done():
                if step.session == self._session.session:
                    return await self.withdraw(uid, "the caller no longer waits")
                return step.outcome
            if self.closing or (until is not None and loop.time() >= until):
                return step.outcome
            await self.wait_for(uid, (step.hold_id,), seen, cancelled, step.deadline, until)

    def looking(self, wait: float | None) -> AbstractContextManager[None]:
        """Count what is done within, a look whether a call may go on, unless the call may wait.

        Callers that wait are many, and one answer may have all of them look at once.
        """
        return self.counted() if wait is not None and wait <= 0 else nullcontext()

    async def _look(self, uid: str, usage: Usage | None = None) -> _Looked:
        """Resume an action, its arguments checked outside of the transaction if they have to be."""
        prepared: Prepared | None = None

        def look(tx: Transaction) -> _Looked:
            step = self.steps.resume(tx, uid, usage, prepared)
            return _Looked(step, prepared, tx.last_approval())

        while True:
            looked = await self._journal.transact(look)
            if not isinstance(looked.step, Unprepared):
                return looked
            prepared = self.steps.judge.prepare(looked.step.call)

    def waits_in(self, uid: str, parent: str | None) -> None:
        """Take note that the body of the action ``parent`` may wait for ``uid``, which is held."""
        running = None if parent is None else self._running.get(parent)
        if parent is not None and running is not None:
            self._parents[uid] = parent
            running.asked.add(uid)

    def _waits_no_more(self, uid: str) -> None:
        running = self._running.get(self._parents.pop(uid, ""))
        if running is not None:
            running.asked.discard(uid)

    async def wait_for(
        self,
        uid: str,
        holds: Collection[str],
        seen: int,
        cancelled: asyncio.Future[None],
        deadline: int | None,
        until: float | None,
    ) -> None:
        """Return when one of ``holds`` may have moved on, ``cancelled`` is done, or it is time.

        ``holds`` and ``seen`` are those of :meth:`Waiting.wait`; ``deadline`` is when a hold
        expires (microseconds), ``until`` a time of the event loop. The bodies that wait for ``uid``
        by a call of their own are given the time back.
        """
        self.expiry.expect(deadline)
        waiting = list(self._ancestors(uid))
        for running in waiting:
            running.pause()
        try:
            await self._waiting.wait(holds, seen, cancelled, self._alarm(deadline, until))
        finally:
            for running in waiting:
                running.go_on()

    async def withdraw(self, uid: str, reason: str = "withdrawn by the agent") -> Outcome:
        """Take a held action back: a later approval runs nothing. Others are left as they are."""
        outcome = await self._journal.transact(lambda tx: self.steps.withdraw(tx, uid, reason))
        if outcome.hold is not None:
            self._waiting.wake(outcome.hold["hold_id"])
        return outcome

    def holds(
        self, status: str | None, limit: int, after: str | None
    ) -> tuple[list[dict[str, JSONValue]], str | None, list[JournalTampered]]:
        """Return a page of this agent's holds, where the next begins, and what is wrong.

        ``None`` for the next: there are no more. What is wrong are the holds that do not verify.

        A page may hold fewer than ``limit``: others' holds, and those of another status, are left
        out too.
        """
        reader = self._journal.reader
        # What people and the clock have done since the last resume shows here, but in no row yet.
        recorded = status if status in ("pending", "withdrawn") else None
        records = reader.holds(recorded, limit, after)
        now = self._journal.now()
        ours = (self._settings.project, self._settings.agent)
        page: list[dict[str, JSONValue]] = []
        wrong: list[JournalTampered] = []
        for _, record in records:
            try:
                view = view_hold(
                    reader,
                    record,
                    self._settings.approvers,
                    self.steps.judge.redactor,
                    now,
                    unsigned=self._settings.allow_unsigned,
                )
            except JournalTampered as error:
                wrong.append(error)
                continue
            if (view.project, view.agent) == ours and status in (None, view.status):
                page.append(view.to_json())
        return page, records[-1][0] if len(records) == limit else None, wrong

    def cancel(self, uid: str, reason: str) -> None:
        """Ask that a body under way stop."""
        if uid in self._running:
            self._runner.cancel(uid, reason)

    async def drain(self, seconds: float) -> None:
        """Wait up to ``seconds`` for the bodies under way; those that go on are put in doubt."""
        self.closing = True
        self.expiry.stop()
        for pause in self._pauses:
            _wake(pause)
        # A body may be waiting for people, in a call of its own: it is told to look again.
        self._waiting.wake_all()
        under_way = [running.attempt.replied for running in self._executing()]
        if under_way and seconds > 0:
            await asyncio.wait(under_way, timeout=seconds)
        for running in self._executing():
            running.attempt.reply(ToolLost("the gate was shut down while it ran"))
        self._deadlines.stop()

    async def _carry_out(
        self,
        step: Step,
        request: RequestId,
        cancelled: asyncio.Future[None],
        usage: Usage | None,
    ) -> Outcome:
        """Do what a step decided, now that it is durable."""
        match step:
            case Claim() if cancelled.done():
                return await self.recorder.record(step, CANCELLED, 0.0, usage)
            case Claim():
                return await self._execute(step, request, cancelled, usage)
            case Outcome():
                return step
            case Held():
                return step.outcome
            case Joined(uid):
                return await self._join(uid)
            case NoToken() | Unprepared():
                raise ValueError("a call that waits for something has not been decided")

    async def _wait_for_token(
        self,
        step: NoToken,
        cancelled: asyncio.Future[None],
        patience: float,
        again: Callable[[Transaction, bool], Step],
        *,
        started: bool = True,
    ) -> Step:
        """Try a step again when its rate limit has a token, for up to ``patience`` seconds.

        Raises :class:`NotStarted` for one that has not ``started`` when nothing starts any more.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + patience
        waiting: Step = step
        while isinstance(waiting, NoToken):
            patient = loop.time() + waiting.wait < until
            if patient and not (cancelled.done() or self.closing):
                await self._pause(waiting.wait, cancelled)
            if cancelled.done() or self.closing:
                if not started:
                    who = "its caller left" if cancelled.done() else "the gate was shut down"
                    raise NotStarted(f"not started: {who} while it waited for its rate limit")
                patient = False
            waiting = await self._journal.transact(lambda tx, p=patient: again(tx, p))  # type: ignore[misc]
        return waiting

    async def _execute(
        self,
        claim: Claim,
        request: RequestId,
        cancelled: asyncio.Future[None],
        usage: Usage | None,
    ) -> Outcome:
        uid = claim.record.uid
        running = Running(claim.call.parent, self._deadlines)
        self._running[uid] = running
        took = 0.0
        try:
            while True:
                started = time.perf_counter()
                reply = await self._attempt(running, claim, request, cancelled)
                took += (time.perf_counter() - started) * 1000
                again: Claim | _GivenUp | None = None
                if reply is None:
                    end = CANCELLED
                else:
                    end = ending(claim.tool, reply, claim.call.redaction)
                    if end.error is not None:
                        again = await self._try_again(claim, reply, end, cancelled, usage)
                if not isinstance(again, Claim):
                    break
                claim = again
            if again is not None:
                claim = again.claim
            end = concluded(claim.call.action, end)
            outcome = await self.recorder.record(claim, end, round(took, 3), usage)
        except BaseException as error:
            for waiter in running.joined:
                if not waiter.done():
                    waiter.set_exception(error)
            raise
        finally:
            del self._running[uid]
            for asked in running.asked:
                self._parents.pop(asked, None)
        for waiter in running.joined:
            if not waiter.done():
                waiter.set_result(outcome)
        return outcome

    async def _attempt(
        self,
        running: Running,
        claim: Claim,
        request: RequestId,
        cancelled: asyncio.Future[None],
    ) -> ToolReply | None:
        """Run the body once and return what came of it; a body may have to be cancelled.

        ``None``: its caller did not want it any more before it began. What people have said of it
        is used up for good before it begins, whatever becomes of the gate and of its store.
        """
        attempt = Attempt(claim, self.recorder.settle_late)
        order = ToolRun(
            request,
            claim.call.tool,
            claim.call.args,
            claim.record.uid,
            claim.record.attempts,
            claim.timeout,
        )
        running.begin(attempt)
        try:
            try:
                if claim.record.hold is not None or claim.record.attempts > 1:
                    await self._used_up(attempt, cancelled)
                    if attempt.replied.done():
                        return attempt.replied.result()
                    if cancelled.done():
                        return None
                faults.hit("run_tool.unsent")
                self._runner.run(order, attempt.reply)
                faults.hit("run_tool.sent")
            except Exception as error:  # noqa: BLE001 - whatever it is, the body has not begun
                message = f"the body could not be started: {error}"
                return ToolError(message, type(error).__name__, retryable=False)
            reply = await attempt.replied
        finally:
            running.end()
        faults.hit("result.read")
        return reply

    async def _used_up(self, attempt: Attempt, cancelled: asyncio.Future[None]) -> None:
        """Wait until the journal's anchor knows of the claim, or nobody wants the body any more.

        Raises :class:`~toolgate.errors.JournalError`.
        """
        anchored = self._journal.anchored()
        waits: list[asyncio.Future[Any]] = [anchored, attempt.replied, cancelled]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        if anchored.done():
            anchored.result()

    async def _try_again(
        self,
        claim: Claim,
        reply: ToolReply,
        end: Ending,
        cancelled: asyncio.Future[None],
        usage: Usage | None,
    ) -> Claim | _GivenUp | None:
        """Wait, and claim another attempt, if there is to be one.

        ``None``: the failure stands, and nothing was written about it yet.
        """
        action, contract = claim.call.action, claim.tool.contract
        wait = wait_before(action, contract, reply, end, claim.record.attempts, random.random())  # noqa: S311
        if wait is None or end.error is None or cancelled.done() or self.closing:
            return None
        first_wait = wait
        try:
            claim = await self._journal.transact(
                lambda tx: self.steps.retry(tx, claim, end, first_wait)
            )
        except JournalUnavailable:
            return None
        until = asyncio.get_running_loop().time() + claim.timeout
        while True:
            await self._pause(wait, cancelled)
            if cancelled.done() or self.closing:
                return _GivenUp(claim)
            try:
                again = await self._journal.transact(
                    lambda tx: self.steps.attempt(tx, claim, usage)
                )
            except JournalUnavailable:
                return _GivenUp(claim)
            if isinstance(again, Claim):
                return again
            if isinstance(again, Exhausted):
                return _GivenUp(claim)
            wait = again.wait
            if asyncio.get_running_loop().time() + wait > until:
                return _GivenUp(claim)

    def _expire(self, attempt: Attempt) -> None:
        """A body has had its time: it is told to end, and an idempotent one is waited for."""
        if attempt.replied.done():
            return
        claim = attempt.claim
        self._runner.cancel(claim.record.uid, "timeout")
        timed_out = ToolTimeout(claim.timeout)
        if claim.tool.contract.idempotent:
            attempt.timed_out = timed_out
            asyncio.get_running_loop().call_later(CANCEL_GRACE, attempt.give_up)
        else:
            attempt.reply(timed_out)

    def _is_ours(self, uid: str) -> bool:
        return self.steps.own_action(self._journal.reader, uid) is not None

    def _executing(self) -> list[Any]:
        return [running for running in self._running.values() if running.attempt is not None]

    def _ancestors(self, uid: str) -> Iterator[Running]:
        """Iterate over the bodies under way that wait for an action by calls of their own."""
        parent = self._parents.get(uid)
        while parent is not None and (running := self._running.get(parent)) is not None:
            yield running
            parent = running.parent

    async def _pause(self, seconds: float, cancelled: asyncio.Future[None]) -> None:
        """Wait ``seconds``, or until ``cancelled`` is done or the gate closes."""
        loop = asyncio.get_running_loop()
        pause: asyncio.Future[None] = loop.create_future()
        timer = loop.call_later(seconds, _wake, pause)
        self._pauses.add(pause)

        def on_cancel(_: asyncio.Future[None]) -> None:
            _wake(pause)

        cancelled.add_done_callback(on_cancel)
        try:
            await pause
        finally:
            timer.cancel()
            cancelled.remove_done_callback(on_cancel)
            self._pauses.discard(pause)

    async def _join(self, uid: str) -> Outcome:
        """Return the outcome of a body that runs in this gate already, once it has one."""
        running = self._running.get(uid)
        if running is None:
            return await self._journal.transact(lambda tx: self.steps.recall(tx, uid))
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        running.joined.append(waiter)
        return dataclasses.replace(await waiter, replayed=True)

    def _alarm(self, deadline: int | None, until: float | None) -> float | None:
        """Return the loop time at which a waiter must look again on its own account."""
        if deadline is None:
            return until
        left = max(deadline - self._journal.now(), 0) / 1e6 + 0.001
        expires = asyncio.get_running_loop().time() + left
        return expires if until is None else min(expires, until)


def _patience(tool: RegisteredTool | None) -> float:
    """Return the seconds that a call waits for its rate limit: as long as its body may take."""
    return TOKEN_PATIENCE if tool is None else tool.contract.timeout


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
