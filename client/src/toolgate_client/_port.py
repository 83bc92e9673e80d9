"""How an event loop takes part in the exchange with a gate.

A loop that has callers watches the gate's output, and so does every other: whichever comes first
reads for all. Nobody waits for a loop that is busy, because no loop ever keeps the role of the
reader; and a thread that reads meanwhile keeps none of them from noticing what it delivered. The
loop's own thread may read, too, in a synchronous call made by a task.

Watching ends in the turn of the loop after its last caller has left; a caller that makes one call
after the other never sees it end.

A loop that cannot watch a pipe (Windows' Proactor) has a thread of the exchange read for it.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import suppress
from threading import Thread

from toolgate_client._bodies import running_loop
from toolgate_client._exchange import Exchange, Waiter
from toolgate_client._mailbox import Mailbox
from toolgate_client._workers import Workers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future, Task
    from typing import Any, TypeVar

    T = TypeVar("T")


class TaskWaiter(Mailbox):
    """The mailbox of a task; its ``bell`` is a future of the task's loop."""

    port: Port

    def wake(self) -> None:
        """End the present or the next :meth:`wait`. From any thread."""
        if self.port.loop.is_closed():
            # Its task will never run again.
            self.port.forget(self)
        elif self.bell is not None:
            self.port.ring(self.bell)

    async def wait(self, deadline: float | None = None) -> None:
        """Return when there is news, the gate has ended, or it is ``deadline`` (monotonic)."""
        core, loop = self.port.exchange.core, self.port.loop
        while not self.has_news() and not core.ended:
            self.bell = bell = loop.create_future()
            if self.has_news() or core.ended:
                return  # it came before there was a bell to ring
            if deadline is None:
                await bell
                continue
            left = deadline - time.monotonic()
            if left <= 0:
                return
            timer = loop.call_later(left, _ring, bell)
            try:
                await bell
            finally:
                timer.cancel()


class Port:
    """One loop's side of an exchange. Where nothing else is said, for that loop's thread only."""

    def __init__(self, exchange: Exchange, loop: AbstractEventLoop) -> None:
        self.exchange = exchange
        self.loop = loop
        self.callers: dict[TaskWaiter, None] = {}
        self.tasks: set[Task[None]] = set()
        """What runs bodies, or withdraws for who has left: a loop does not keep its tasks alive."""
        self._owner = os.getpid()
        self._reading = False
        self._writing = False
        self._resting = False
        self.attendants: dict[str, _Attendant] = {}
        """The ``one`` that reads, or none."""
        self._workers: Workers | None = None

    # --- callers

    def enter(self, box: TaskWaiter) -> None:
        """From now on what comes for ``box`` is read."""
        self.callers[box] = None
        self._watch()

    def send(self, box: object) -> None:
        """Write what is in the outbox; what does not fit now, as soon as there is room."""
        outbox = self.exchange.core.outbox
        if outbox and (not self.exchange.send(box) or outbox):
            if running_loop() is self.loop:
                self._watch_for_room()
            else:
                self.call(self._watch_for_room)

    def leave(self, box: TaskWaiter) -> None:
        """Give back what ``box`` holds and say goodbye for what is open. From any thread, again.

        A task that is thrown away leaves when it is collected, which may be anywhere.
        """
        if os.getpid() != self._owner:
            return  # a fork: the gate, its pipes and the loop are the parent's
        self.exchange.give_back(box)
        self.exchange.core.leave(box)
        self.callers.pop(box, None)
        self.send(box)
        box.gone = True
        self.rest_later()

    def forget(self, box: TaskWaiter) -> None:
        """Answer for a caller whose loop has closed. From any thread."""
        self.exchange.core.leave(box)
        self.callers.pop(box, None)

    # --- threads and the loop

    def ring(self, bell: Future[None]) -> None:
        """Wake who awaits ``bell``. From any thread."""
        if running_loop() is self.loop:
            _ring(bell)
        else:
            self.call(_ring, bell)

    def call(self, function: Callable[..., object], *args: Any) -> bool:
        """Have the loop call a function in its next turn; False when it has closed."""
        try:
            if running_loop() is self.loop:
                self.loop.call_soon(function, *args)
            else:
                self.loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            return False
        return True

    @property
    def workers(self) -> Workers:
        """The threads for synchronous bodies of this loop's callers."""
        if self._workers is None:
            self._workers = Workers()
        return self._workers

    # --- the pipes

    def watches(self) -> bool:
        """Whether the loop may look at the pipes. From any thread."""
        return (self._reading or self._writing) and not self.loop.is_closed()

    def close(self) -> None:
        """Watch the pipes no more. From any thread."""
        if running_loop() is self.loop or not self.loop.is_running():
            self._unwatch()
        else:
            self.call(self._unwatch)

    def _watch(self) -> None:
        exchange = self.exchange
        if self._reading or exchange.core.ended:
            return
        try:
            self.loop.add_reader(exchange.read_fd, self._on_readable)
        except NotImplementedError:
            self._attend()
        else:
            self._reading = True
            os.set_blocking(exchange.read_fd, True)  # uvloop's loops change that

    def _watch_for_room(self) -> None:
        if self._writing or self.exchange.core.ended or not self.exchange.core.outbox:
            return
        try:
            self.loop.add_writer(self.exchange.write_fd, self._on_writable)
        except NotImplementedError:
            Thread(target=self._flush, name="toolgate-flush", daemon=True).start()
        else:
            self._writing = True

    def _unwatch(self) -> None:
        self._stop_reading()
        self._stop_writing()

    # An interrupt may come between any two steps. Watching twice does no harm, so what is known
    # must never be more than what is so.

    def _stop_reading(self) -> None:
        if self._reading:
            self._reading = False
            with suppress(RuntimeError):  # the loop has closed
                self.loop.remove_reader(self.exchange.read_fd)

    def _stop_writing(self) -> None:
        if self._writing:
            self._writing = False
            with suppress(RuntimeError):
                self.loop.remove_writer(self.exchange.write_fd)

    def _on_readable(self) -> None:
        exchange = self.exchange
        try:
            more = exchange.read_now(self)
        except BaseException:  # an interrupt: who reads next goes on with what was read
            self._give_back()
            raise
        if not more:
            # The end: what remains to be done then takes time, and a thread has it.
            self._stop_reading()
            self._attend()
        elif exchange.core.outbox:
            self.send(self)

    def _on_writable(self) -> None:
        exchange = self.exchange
        try:
            exchange.send(self)
        except BaseException:
            self._give_back()
            raise
        if not exchange.core.outbox or exchange.core.ended:
            self._stop_writing()
            self.rest_later()

    def _give_back(self) -> None:
        try:
            self.exchange.give_back(self)
        finally:
            self.exchange.give_back(self)  # another interrupt

    def _attend(self) -> None:
        attendant = _Attendant(self)
        if self.attendants.setdefault("one", attendant) is attendant:
            Thread(target=attendant.work, name="toolgate-reader", daemon=True).start()

    def _flush(self) -> None:
        box = Waiter()
        try:
            self.exchange.flush(box)
        finally:
            self.exchange.leave(box)

    # --- rest

    def rest_later(self) -> None:
        """Stop watching when nobody needs it any more."""
        if not self.callers and not self._resting:
            self._resting = self.call(self._rest)

    def _rest(self) -> None:
        self._resting = False
        core = self.exchange.core
        if self.callers or self.tasks or (core.outbox and not core.ended):
            return
        self._unwatch()
        if self._workers is not None:
            self._workers.dismiss()
            self._workers = None
        for attendant in list(self.attendants.values()):
            attendant.wake()
        self.exchange.ports.pop(self.loop, None)


class _Attendant(Waiter):
    """A thread that reads in place of a loop, as long as that has callers or until the end."""

    __slots__ = ("_port",)

    def __init__(self, port: Port) -> None:
        super().__init__()
        self._port = port

    def has_news(self) -> bool:
        """Whether there is nobody to read for."""
        return not self._port.callers

    def work(self) -> None:
        """Read. For a thread that the loop's port has started."""
        port, attendants = self._port, self._port.attendants
        try:
            while True:
                port.exchange.wait(self)
                attendants.pop("one", None)
                # A caller that came just now has seen this thread at work.
                if not port.callers or port.exchange.core.ended:
                    return
                if attendants.setdefault("one", self) is not self:
                    return
        finally:
            port.exchange.leave(self)


def port_of(exchange: Exchange) -> Port:
    """The port of the event loop that runs in this thread; ``RuntimeError`` when none does."""
    from asyncio import get_running_loop

    loop = get_running_loop()
    port = exchange.ports.get(loop)
    if port is None:
        for other in list(exchange.ports):
            if other.is_closed():
                exchange.ports.pop(other, None)
        port = exchange.ports[loop] = Port(exchange, loop)
    return port


async def in_thread(function: Callable[[], T]) -> T:
    """Await a function that runs in a thread of its own; returns, or raises, what it does.

    A caller that is cancelled no longer waits; the function goes on to its end.
    """
    from asyncio import get_running_loop

    loop = get_running_loop()
    ended: Future[None] = loop.create_future()
    returned: list[T] = []
    raised: list[BaseException] = []

    def run() -> None:
        try:
            returned.append(function())
        except BaseException as error:  # noqa: BLE001 - who awaits it raises it
            raised.append(error)
        with suppress(RuntimeError):  # the loop has closed meanwhile
            loop.call_soon_threadsafe(_ring, ended)

    Thread(target=run, name="toolgate-life").start()
    await ended
    if raised:
        raise raised.pop()
    return returned.pop()


def _ring(bell: Future[None]) -> None:
    if not bell.done():
        bell.set_result(None)
