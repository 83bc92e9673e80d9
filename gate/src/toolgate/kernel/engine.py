"""Carries out what the steps decide: transactions, the tool's body, waiting.

A call is one transaction before its body runs (proposed, decided, claimed) and one after (how it
ended): no body runs that the journal does not know, and no caller knows a result that the journal
does not.
"""

from __future__ import annotations

import asyncio
import dataclasses
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Protocol

from toolgate.errors import JournalTampered, JournalUnavailable, ToolgateError
from toolgate.ir import Outcome
from toolgate.journal.journal import Journal, RecordChanged
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.records import Call, view_hold
from toolgate.kernel.result import CANCELLED, Ending, ToolLost, ToolReply, ToolTimeout, ending
from toolgate.kernel.steps import Claim, Held, Joined, Settings, Step, Steps
from toolgate.kernel.waiting import Waiting

RECORD_RETRIES: Final = (0.05, 0.1, 0.2, 0.5, 1.0)
"""Seconds between the tries to record the end of a body that ran, before its caller is told."""
RECORD_AGAIN: Final = 2.0
"""Seconds between further tries, for as long as the gate lives."""


class Unrecorded(JournalUnavailable):
    """The body ran, and how it ended could not be recorded; ``uid`` names the action."""

    def __init__(self, uid: str, cause: Exception) -> None:
        """``cause`` is why the journal could not be written."""
        self.uid = uid
        super().__init__(
            f"the tool of action {uid} ran, but how it ended could not be recorded: {cause}. It is "
            "not run again; the gate goes on trying to record it"
        )


@dataclass(frozen=True, slots=True)
class ToolRun:
    """An order to run a tool's body. ``call`` is the id of the request it belongs to."""

    call: int | str
    tool: str
    args: dict[str, JSONValue]
    uid: str
    attempt: int
    timeout: float


class ToolRunner(Protocol):
    """Runs tools' bodies, somewhere."""

    def run(self, order: ToolRun, on_reply: Callable[[ToolReply], None]) -> None:
        """Start a body; ``on_reply`` is called with how it ended, later, and at most once."""

    def cancel(self, uid: str, reason: str) -> None:
        """Ask that a body stop; it may go on all the same."""


class _Running:
    """A body under way. Its reply may come in time, late, or never."""

    __slots__ = ("_on_late", "claim", "joined", "replied")

    def __init__(self, claim: Claim, on_late: Callable[[Claim, ToolReply], None]) -> None:
        self.claim = claim
        self.replied: asyncio.Future[ToolReply] = asyncio.get_running_loop().create_future()
        self.joined: list[asyncio.Future[Outcome]] = []
        self._on_late = on_late

    def reply(self, reply: ToolReply) -> None:
        if not self.replied.done():
            self.replied.set_result(reply)
        elif not isinstance(reply, ToolLost):
            self._on_late(self.claim, reply)


class Engine:
    """The kernel of one session. Its coroutines may run concurrently, on one event loop."""

    def __init__(
        self, journal: Journal, steps: Steps, settings: Settings, session: str, runner: ToolRunner
    ) -> None:
        """``runner`` runs the bodies; ``session`` is the one that ``steps`` was made for."""
        self._journal = journal
        self._steps = steps
        self._settings = settings
        self._session = session
        self._runner = runner
        self._running: dict[str, _Running] = {}
        self._waiting = Waiting(journal)
        self._recording: set[asyncio.Task[None]] = set()
        self._closing = False
        self.in_flight = 0
        """How many calls are under way; one that waits for people is not."""

    async def govern(
        self, call: Call, request: int | str, cancelled: asyncio.Future[None]
    ) -> Outcome:
        """Propose a call and bring it to an outcome, or to a hold.

        When ``cancelled`` is done before the body has started, it does not start, and a hold that
        was opened is withdrawn.

        Raises :class:`~toolgate.kernel.steps.KeyConflict`, :class:`JournalUnavailable` and
        :class:`~toolgate.errors.JournalTampered`.
        """
        self.in_flight += 1
        try:
            proposed = self._steps.prepare(call)
            step = await self._journal.transact(lambda tx: self._steps.propose(tx, proposed))
            if isinstance(step, Held) and step.opened and cancelled.done():
                return await self.withdraw(step.uid, "cancelled by the caller")
            return await self._carry_out(step, request, cancelled)
        finally:
            self.in_flight -= 1

    async def resume(
        self, uid: str, request: int | str, wait: float | None, cancelled: asyncio.Future[None]
    ) -> Outcome:
        """Bring a held action on: run it once it is approved, waiting up to ``wait`` seconds.

        ``wait`` of ``None`` waits as long as it takes. When ``cancelled`` is done the wait ends,
        and a hold of this session is withdrawn. An action that has ended returns its recorded
        outcome. Raises :class:`JournalUnavailable` and :class:`~toolgate.errors.JournalTampered`.
        """
        loop = asyncio.get_running_loop()
        until = None if wait is None else loop.time() + wait
        while True:
            self.in_flight += 1
            try:
                step = await self._journal.transact(lambda tx: self._steps.resume(tx, uid))
                if not isinstance(step, Held):
                    return await self._carry_out(step, request, cancelled)
            finally:
                self.in_flight -= 1
            if cancelled.done():
                if step.session == self._session:
                    return await self.withdraw(uid, "the caller no longer waits")
                return step.outcome
            if self._closing or (until is not None and loop.time() >= until):
                return step.outcome
            alarm = self._alarm(step.deadline, until)
            await self._waiting.wait(step.hold_id, cancelled, alarm)

    async def withdraw(self, uid: str, reason: str = "withdrawn by the agent") -> Outcome:
        """Take a held action back: a later approval runs nothing. Others are left as they are."""
        outcome = await self._journal.transact(lambda tx: self._steps.withdraw(tx, uid, reason))
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
                view = view_hold(reader, record, self._settings.approvers, now)
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
        self._closing = True
        under_way = [running.replied for running in self._running.values()]
        if under_way and seconds > 0:
            await asyncio.wait(under_way, timeout=seconds)
        for running in list(self._running.values()):
            running.reply(ToolLost("the gate was shut down while it ran"))
        self._waiting.wake_all()

    async def _carry_out(
        self, step: Step, request: int | str, cancelled: asyncio.Future[None]
    ) -> Outcome:
        """Do what a step decided, now that it is durable."""
        match step:
            case Outcome():
                return step
            case Held():
                return step.outcome
            case Joined(uid):
                return await self._join(uid)
            case Claim() if cancelled.done():
                return await self._record(step, CANCELLED, 0.0)
            case Claim():
                return await self._execute(step, request)

    async def _execute(self, claim: Claim, request: int | str) -> Outcome:
        loop = asyncio.get_running_loop()
        uid = claim.record.uid
        running = _Running(claim, self._settle_late)
        self._running[uid] = running
        started = time.perf_counter()
        timer = loop.call_later(claim.timeout, self._expire, running)
        order = ToolRun(
            request, claim.record.tool, claim.args, uid, claim.record.attempts, claim.timeout
        )
        try:
            self._runner.run(order, running.reply)
            reply = await running.replied
            duration_ms = round((time.perf_counter() - started) * 1000, 3)
            outcome = await self._record(claim, ending(claim.tool, reply), duration_ms)
        except BaseException as error:
            for waiter in running.joined:
                if not waiter.done():
                    waiter.set_exception(error)
            raise
        finally:
            timer.cancel()
            del self._running[uid]
        for waiter in running.joined:
            if not waiter.done():
                waiter.set_result(outcome)
        return outcome

    def _expire(self, running: _Running) -> None:
        if not running.replied.done():
            running.reply(ToolTimeout(running.claim.timeout))
            self._runner.cancel(running.claim.record.uid, "timeout")

    async def _join(self, uid: str) -> Outcome:
        """Return the outcome of a body that runs in this gate already, once it has one."""
        running = self._running.get(uid)
        if running is None:
            return await self._journal.transact(lambda tx: self._steps.recall(tx, uid))
        waiter: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        running.joined.append(waiter)
        return dataclasses.replace(await waiter, replayed=True)

    async def _record(self, claim: Claim, end: Ending, duration_ms: float) -> Outcome:
        """Record how a body ended. It ran: while the journal cannot be written, it is tried again.

        Raises :class:`Unrecorded` when that took too long; the tries go on in the background.
        """
        for pause in (*RECORD_RETRIES, None):
            try:
                return await self._record_once(claim, end, duration_ms)
            except JournalUnavailable as error:
                if pause is None:
                    self._in_background(self._record_some_day(claim, end, duration_ms))
                    raise Unrecorded(claim.record.uid, error) from error
                await asyncio.sleep(pause)
        raise AssertionError("the last try returns or raises")

    async def _record_once(self, claim: Claim, end: Ending, duration_ms: float | None) -> Outcome:
        took = duration_ms or 0.0
        try:
            return await self._journal.transact(lambda tx: self._steps.end(tx, claim, end, took))
        except RecordChanged:
            # Another gate took this one for dead and put the action in doubt: this settles it.
            return await self._journal.transact(lambda tx: self._steps.settle(tx, claim, end, took))

    async def _record_some_day(self, claim: Claim, end: Ending, duration_ms: float) -> None:
        while True:
            await asyncio.sleep(RECORD_AGAIN)
            try:
                await self._record_once(claim, end, duration_ms)
            except JournalUnavailable:
                continue
            return

    def _settle_late(self, claim: Claim, reply: ToolReply) -> None:
        async def settle() -> None:
            end = ending(claim.tool, reply)
            try:
                await self._journal.transact(lambda tx: self._steps.settle(tx, claim, end, None))
            except ToolgateError:
                # It stays in doubt, as its caller was told.
                return

        self._in_background(settle())

    def _in_background(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._recording.add(task)
        task.add_done_callback(self._recording.discard)

    def _alarm(self, deadline: int | None, until: float | None) -> float | None:
        """Return the loop time at which a waiter must look again on its own account."""
        if deadline is None:
            return until
        left = max(deadline - self._journal.now(), 0) / 1e6 + 0.001
        expires = asyncio.get_running_loop().time() + left
        return expires if until is None else min(expires, until)
