"""Requests as tasks make them: what :mod:`toolgate_client._threads` is for threads.

An asynchronous body runs in the very task that waits for its call. A synchronous one runs in a
worker thread with a copy of the task's context; when it returns a coroutine, the task awaits that.

The gate may want a body stopped. An asynchronous one is cancelled, as a timeout would cancel it:
its task goes on when the body has ended. One that a worker has not begun is not begun.
"""

from __future__ import annotations

import asyncio
from contextvars import copy_context
from types import CoroutineType

from toolgate_client import _requests
from toolgate_client._bodies import Running, execute, is_coroutine_function, running
from toolgate_client._conversation import Conversation, attend, take_turns
from toolgate_client._exchange import Waiter
from toolgate_client._port import Port, TaskWaiter, port_of
from toolgate_client._protocol import held_uid

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from toolgate_client._bodies import Body
    from toolgate_client._gate import Gate
    from toolgate_client._mailbox import Mailbox, Run
    from toolgate_client._requests import Asked, Request

    T = TypeVar("T")


class TaskCall(TaskWaiter, Conversation):
    """A request under way, which the task that made it waits for."""

    def __init__(self, gate: Gate, request: Request, port: Port) -> None:
        super().__init__(gate, request)
        self.port = port
        self._awaited: dict[Run, asyncio.Task[Any]] = {}
        """The asynchronous bodies that run, and the tasks they run in."""
        self._stopped: set[Run] = set()
        """Those that the gate had cancelled."""
        self._loans: dict[Run, Loan] = {}
        """The synchronous bodies that workers have."""

    async def perform(self, run: Run) -> None:
        """Run a body for the gate, and answer."""
        await self._play(run, self.request.body)

    def dismiss(self) -> None:
        """The caller leaves. What still runs for it answers for itself."""

    async def abandon(self) -> None:
        """The caller was cancelled, and has left: nothing runs for it any more when this returns.

        But for synchronous bodies, which end by themselves.
        """
        uid = _held(self)
        if uid is not None:  # the answer came first, and nobody will ever hear of the hold
            withdrawal = self.port.loop.create_task(_withdraw(self.gate, uid))
            self.port.tasks.add(withdrawal)
            withdrawal.add_done_callback(self._withdrawn)
            await asyncio.shield(withdrawal)  # whoever is impatient cancels twice

    def _withdrawn(self, withdrawal: asyncio.Task[None]) -> None:
        self.port.tasks.discard(withdrawal)
        self.port.rest_later()

    # --- bodies

    async def _play(self, run: Run, given: Body | None) -> None:
        body = self.gate.body_of(run, given)
        if body is not None:
            as_ = Running(self.gate, self.id, run.uid, running.get())
            if is_coroutine_function(body):
                await self._in_task(run, body, as_)
            else:
                await self._in_thread(run, body, as_)
        self.note_interrupt(run)
        if not run.answered:
            self.gate.answer(run)
            self.port.send(self)

    async def _in_task(self, run: Run, body: Body, as_: Running) -> None:
        task: asyncio.Task[Any] = asyncio.current_task()  # type: ignore[assignment]
        cancelled = _cancelling(task)
        token = running.set(as_)
        self._awaited[run] = task
        try:
            run.returned.append(await body(run.args))
        except GeneratorExit:
            raise  # the task was thrown away
        except BaseException as error:  # noqa: BLE001 - as in `execute`
            run.raised = error
        finally:
            del self._awaited[run]
            try:
                running.reset(token)
            except ValueError:
                pass  # thrown away in another context, which has its own
        if run in self._stopped:
            _uncancel(task)
            if isinstance(run.raised, asyncio.CancelledError) and _cancelling(task) <= cancelled:
                run.raised = None
                message = f"the body of tool {run.tool!r} was cancelled, as the gate asked"
                self.gate.core.reply_failed(run, "Cancelled", message)
                self.port.send(self)

    async def _in_thread(self, run: Run, body: Body, as_: Running) -> None:
        loan = self._loans[run] = Loan(self, run, body, as_)
        run.hand_over(loan)
        at_once, as_.hired = as_.hired, True
        try:
            try:
                self.port.workers.do(loan.work, at_once=at_once)
            except RuntimeError as error:  # no thread is to be had
                run.raised = error
            else:
                await loan.done
        except BaseException:
            loan.abandoned = True
            if loan.revoke():
                self._take_back(run)
            raise
        finally:
            del self._loans[run]
        self._take_back(run)
        if not run.answered and run.returned:
            coroutine = run.returned.pop()
            as_.hired = as_.outer is not None and as_.outer.hired
            await self._in_task(run, lambda args: coroutine, as_)

    def _take_back(self, run: Run) -> None:
        run.hand_over(run if self.left else self)

    def stop_body(self, run: Run) -> None:
        """The gate wants a body stopped that has begun."""
        # Never at once: this may be the very task, in a synchronous call that its body makes.
        if not self.port.call(self._stop, run):
            self.port.forget(self)

    def _stop(self, run: Run) -> None:
        task, loan = self._awaited.get(run), self._loans.get(run)
        if task is not None:
            if run not in self._stopped:
                self._stopped.add(run)
                task.cancel()
        elif loan is not None and loan.revoke():
            self.gate.core.not_begun(run)
            self.port.send(self)
            self.port.ring(loan.done)


class TaskCrew(TaskCall):
    """A request under way for which several bodies may run at once, each in a task of its own."""

    def __init__(self, gate: Gate, request: Request, port: Port) -> None:
        super().__init__(gate, request, port)
        self._parts: dict[asyncio.Task[None], Run] = {}

    def has_news(self) -> bool:
        """Whether there is something for the caller: no run that it cannot begin yet."""
        if self.response is not None or self.room or self.interrupts:
            return True
        return bool(self.waiting) and self._has_place()

    def take(self) -> Run | None:
        """The next run to begin, if another one may run beside those that do."""
        return super().take() if self._has_place() else None

    async def perform(self, run: Run) -> None:
        """Begin a body; that of a single action runs here and now."""
        given = self.request.body if run.uid == self.request.uid else None
        # The actions of a proposal have uids of the form <proposal>-<n>.
        if run.uid == self.request.uid and "-" not in run.uid:
            await self._play(run, given)
            return
        task = self.port.loop.create_task(self._play(run, given), name=f"toolgate-body {run.tool}")
        self._parts[task] = run
        self.port.tasks.add(task)
        task.add_done_callback(self._part_ended)

    def stop(self) -> None:
        """A body was interrupted: nothing else is begun, here or at the gate."""
        self.gate.core.cancel(self)

    def dismiss(self) -> None:
        """The caller leaves. What still runs for it answers for itself."""
        for run in self._parts.values():
            if run not in self._loans:
                run.hand_over(run)

    async def abandon(self) -> None:
        """Cancel the bodies and wait for their ends."""
        await super().abandon()
        cancelled = None
        while self._parts:
            for task in self._parts:
                task.cancel()
            try:
                await asyncio.wait(list(self._parts))
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled

    def _has_place(self) -> bool:
        return self.interrupt is not None or len(self._parts) < self.request.size

    def _part_ended(self, task: asyncio.Task[None]) -> None:
        run = self._parts.pop(task)
        self.port.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.interrupts.append(error)
        # Somebody else cancelled it, before it began.
        if not run.answered and (run.claim(self) or run.claim(run)):
            self.gate.core.caller_gone(run)
            self.port.send(self)
        self.wake()
        self.port.rest_later()


class Loan(Waiter):
    """A synchronous body that a worker thread runs for a task."""

    __slots__ = ("_as", "_body", "_by", "_call", "_context", "_run", "abandoned", "done")

    def __init__(self, call: TaskCall, run: Run, body: Body, as_: Running) -> None:
        super().__init__()
        self.abandoned = False
        """The task does not wait for it any more."""
        self.done: asyncio.Future[None] = call.port.loop.create_future()
        self._call = call
        self._run = run
        self._body = body
        self._as = as_
        self._context = copy_context()
        self._by: dict[str, bool] = {}

    def revoke(self) -> bool:
        """Whether the body was not begun; then it never is."""
        return not self._by.setdefault("begun", False)

    def work(self) -> None:
        """Run the body, in a worker thread, and answer, unless it returned a coroutine."""
        if not self._by.setdefault("begun", True):
            return
        run, call = self._run, self._call
        self._context.run(execute, run, self._body, self._as, complete=False)
        if not self._is_coroutine():
            call.gate.answer(run)
            self._goodbye()
        if not call.port.call(self._land):
            self._drop()

    def _land(self) -> None:
        if self.abandoned:
            self._drop()
        elif not self.done.done():
            self.done.set_result(None)

    def _is_coroutine(self) -> bool:
        returned = self._run.returned
        return bool(returned) and type(returned[0]) is CoroutineType

    def _drop(self) -> None:
        """The body returned a coroutine, and nobody is there to await it."""
        if self._is_coroutine():
            self._run.returned.pop().close()
            self._call.gate.core.caller_gone(self._run)
            self._goodbye()

    def _goodbye(self) -> None:
        exchange = self._call.gate.exchange
        try:
            exchange.flush(self)
        finally:
            exchange.leave(self)


async def _withdraw(gate: Gate, uid: str) -> None:
    await _converse(gate, _requests.withdraw(gate, uid)[0])


def _held(call: TaskCall) -> str | None:
    """The uid of the action that a call was answered is held, if it was made to wait for that."""
    return None if call.response is None or not call.waits else held_uid(call.response)


async def do(gate: Gate, asked: Asked[T]) -> T:
    """Make a request in this task, and return its result.

    When the gate has too many calls in flight, this waits for its turn.
    """
    request, reader = asked
    call = await _converse(gate, request)
    if call.refused():
        call = await _queue_up(gate, request)
    return _requests.read(request, reader, *gate.result(call))


async def _converse(gate: Gate, request: Request) -> TaskCall:
    port = port_of(gate.exchange)
    call = (TaskCrew if request.size else TaskCall)(gate, request, port)
    try:
        try:
            gate.core.request(call, request.method, request.params, request.what)
            port.enter(call)
            await _attend(call)
        except asyncio.CancelledError:
            _leave(call)
            await call.abandon()
            raise
        finally:
            _leave(call)
    finally:
        if not call.gone:  # interrupted on its way out
            _leave(call)
    if gate.core.notices:
        gate.log()
    if call.interrupt is not None:
        raise call.interrupt
    return call


async def _attend(call: TaskCall) -> None:
    for run in attend(call):
        if run is None:
            call.port.send(call)
            await call.wait(call.deadline)
        else:
            await call.perform(run)


def _leave(call: TaskCall) -> None:
    if not call.gone:
        call.dismiss()
        for run in list(call.runs):
            if run.returned and not run.answered and run.claim(call):
                call.gate.answer(run)
        call.port.leave(call)


async def _queue_up(gate: Gate, request: Request) -> TaskCall:
    port = port_of(gate.exchange)
    box = TaskWaiter()
    box.port = port
    try:
        port.enter(box)
        return await _take_turns(gate, request, box)
    finally:
        gate.core.leave_queue(box)
        port.leave(box)


async def _take_turns(gate: Gate, request: Request, box: TaskWaiter) -> TaskCall:
    turns = take_turns(gate, box, frozenset(each.call for each in gate.ancestors()))
    step: Mailbox | None = next(turns)
    while True:
        if step is None:
            call = await _converse(gate, request)
            try:
                step = turns.send(call)
            except StopIteration:
                return call
        else:
            await box.wait()
            step = next(turns)


def _cancelling(task: asyncio.Task[Any]) -> int:
    """How many cancellations of a task nobody has taken back; 0 before Python 3.11."""
    cancelling = getattr(task, "cancelling", None)
    return cancelling() if cancelling is not None else 0


def _uncancel(task: asyncio.Task[Any]) -> None:
    uncancel = getattr(task, "uncancel", None)
    if uncancel is not None:
        uncancel()
