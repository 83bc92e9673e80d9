"""Calls under way in a program: each is a task of its own, which its waiter's end does not end.

The kernel sees to the end of what it has begun, because the journal has to tell it. So a task that
waits for a call can be cancelled, and the call's own task cannot be, but by closing the kernel.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from toolgate.embedding.bodies import Bodies
from toolgate.errors import JournalTampered
from toolgate.runtime import Runtime

T = TypeVar("T")

PATIENCE: Final = 1.0
"""Seconds that a cancelled waiter waits at most for what it called to end."""
TOLD: Final = 100
"""Tampered rows that are journaled and logged; whoever asks again must not fill the log."""

_log = logging.getLogger("toolgate")


class Calls:
    """The calls of one kernel, and what has been told of rows that are not genuine."""

    def __init__(self, bodies: Bodies) -> None:
        """``bodies`` are those that the calls run."""
        self.under_way: set[asyncio.Task[Any]] = set()
        self._bodies = bodies
        self._tampering: set[str] = set()

    async def do(
        self,
        runtime: Runtime,
        work: Coroutine[Any, Any, T],
        on_cancel: Callable[[], None] = lambda: None,
    ) -> T:
        """Do something, and return what it comes to.

        When the waiter is cancelled, ``on_cancel`` is called, and the waiter stays a while.
        """
        task = asyncio.ensure_future(work)
        self._keep(runtime, task)
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError:
            on_cancel()
            await asyncio.wait({task}, timeout=PATIENCE)
            raise
        return task.result()

    async def quiet(self, seconds: float, hurry: asyncio.Future[None] | None = None) -> None:
        """Wait until no call and no body is under way.

        That is at most for ``seconds``, or until ``hurry`` is done.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        stop = loop.create_future() if hurry is None else hurry
        while (busy := {*self.under_way, *self._bodies.tasks}) and not stop.done():
            left = until - loop.time()
            if left <= 0:
                return
            await asyncio.wait({*busy, stop}, timeout=left, return_when=asyncio.FIRST_COMPLETED)

    @contextmanager
    def watching(self, runtime: Runtime) -> Iterator[None]:
        """Tell of a row that is not genuine, if that is what comes of what is done within."""
        try:
            yield
        except JournalTampered as error:
            self.tell(runtime, error)
            raise

    def tell(self, runtime: Runtime, error: JournalTampered) -> None:
        """Journal and log, once each, that a stored row was not believed."""
        what = str(error)
        if what in self._tampering or len(self._tampering) >= TOLD:
            return
        self._tampering.add(what)
        _log.error("tampered journal: %s", what)
        self._keep(runtime, asyncio.ensure_future(runtime.journal_tampering(error)))

    def _keep(self, runtime: Runtime, task: asyncio.Task[Any]) -> None:
        self.under_way.add(task)
        task.add_done_callback(lambda _: self._done(runtime, task))

    def _done(self, runtime: Runtime, task: asyncio.Task[Any]) -> None:
        self.under_way.discard(task)
        # Asking for it marks it as seen: whoever waited may have gone.
        error = None if task.cancelled() else task.exception()
        if isinstance(error, JournalTampered):
            self.tell(runtime, error)
