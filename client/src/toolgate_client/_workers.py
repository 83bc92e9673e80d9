"""Threads that run synchronous bodies for the tasks of one event loop.

A loop must not run them itself: they would keep all its tasks waiting. Threads come when they are
needed, at most :data:`_MOST`; what comes then waits for one. They go when the loop has no more
callers, and an idle one soon in any case: nothing may tell it that its loop has closed, and the
process would wait for it at its end.

A body that calls a tool occupies its thread until that tool's body has run. Were that to wait for a
thread as well, all could end up waiting for each other; so it has a thread of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import count
from queue import Empty, SimpleQueue
from threading import Thread, current_thread

_MOST = 32
_LINGER = 1.0
"""How long an idle thread stays, in seconds."""


class Workers:
    """The threads of one loop. For that loop's thread only."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], object] | None] = SimpleQueue()
        self._free: deque[None] = deque()
        self._threads: set[int] = set()
        self._numbers = count()

    def do(self, job: Callable[[], object], *, at_once: bool) -> None:
        """Have a thread do a job, ``at_once`` even when all are occupied.

        Raises ``RuntimeError`` when no thread is to be had.
        """
        if at_once:
            _start(job)
            return
        try:
            self._free.pop()
        except IndexError:
            if len(self._threads) < _MOST:
                self._hire()
        self._jobs.put(job)

    def dismiss(self) -> None:
        """The threads go, once they have done what they have begun."""
        for _ in list(self._threads):
            self._jobs.put(None)

    def _hire(self) -> None:
        number = next(self._numbers)
        self._threads.add(number)
        try:
            _start(lambda: self._work(number))
        except RuntimeError:
            self._threads.discard(number)
            if not self._threads:
                raise

    def _work(self, number: int) -> None:
        while self._work_on():
            pass
        self._threads.discard(number)

    def _work_on(self) -> bool:
        """Do the next job; whether there may be another one."""
        try:
            job = self._jobs.get(timeout=_LINGER)
        except Empty:
            # Whoever brings a job counts on a free thread: this one goes if nobody has.
            try:
                self._free.pop()
            except IndexError:
                return True
            return False
        if job is None:
            return False
        job()
        self._free.append(None)
        return True


def _start(target: Callable[[], object]) -> None:
    # It keeps the process alive if the thread of the loop does.
    Thread(target=target, name="toolgate-body-task", daemon=current_thread().daemon).start()
