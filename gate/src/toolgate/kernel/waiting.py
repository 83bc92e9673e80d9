"""Who waits for which held action, and what wakes them: no thread, no timer each, one cheap look.

The rules:

1. Another process's commit shows as a change of the store's version, which one timer looks at while
   anybody waits. After a change it wakes those whose hold has new answers, by the answers' numbers.
2. At a slow pace after a change, it wakes those whose hold is not pending any more: another gate
   has released, ended or withdrawn it.
3. Whoever waits says up to which answer the journal was read when it was found that there is
   something to wait for: an answer that came since then wakes at once.
4. That this gate itself has ended a hold it tells by :meth:`Waiting.wake`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from toolgate.errors import JournalError
from toolgate.journal.journal import Journal

LOOK: Final = 0.05
"""Seconds between two looks at the store's version while anybody waits."""
SLOW: Final = 1.0
"""Seconds after which a change of the store has been looked through for holds that moved on."""


class Waiting:
    """The waiters of one gate, by hold."""

    def __init__(self, journal: Journal) -> None:
        """``journal`` tells when another process has committed."""
        self._journal = journal
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._version: int | None = None
        self._seen = 0
        self._look_through: float | None = None
        """When to look for holds that moved on, in the event loop's time."""
        self._timer: asyncio.TimerHandle | None = None

    async def wait(
        self,
        holds: Collection[str],
        seen: int,
        cancelled: asyncio.Future[None],
        until: float | None,
    ) -> None:
        """Return when one of ``holds`` may have moved on, at loop time ``until``, or cancelled.

        ``seen`` is the number of the last answer there was when the caller found that it has to
        wait. Without any hold it waits for the time, or until everybody is woken.
        """
        holds = holds or ("",)
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        for hold in holds:
            self._waiters.setdefault(hold, set()).add(waiter)
        self._begin(holds, seen, waiter)
        alarm = None if until is None else loop.call_at(until, _wake, waiter)

        def on_cancel(_: asyncio.Future[None]) -> None:
            _wake(waiter)

        cancelled.add_done_callback(on_cancel)
        try:
            await waiter
        finally:
            cancelled.remove_done_callback(on_cancel)
            if alarm is not None:
                alarm.cancel()
            for hold in holds:
                waiters = self._waiters[hold]
                waiters.discard(waiter)
                if not waiters:
                    del self._waiters[hold]

    def wake(self, hold: str) -> None:
        """Wake those who wait for a hold."""
        for waiter in self._waiters.get(hold, ()):
            _wake(waiter)

    def wake_all(self) -> None:
        """Wake everybody."""
        for hold in self._waiters:
            self.wake(hold)

    def _begin(self, holds: Collection[str], seen: int, waiter: asyncio.Future[None]) -> None:
        """See to it that ``waiter`` misses nothing that has happened since its caller looked."""
        loop = asyncio.get_running_loop()
        if self._look_through is None:
            self._look_through = loop.time() + SLOW
        if self._timer is None:
            self._version, self._seen = None, seen
            self._timer = loop.call_later(LOOK, self._look)
        elif seen < self._seen:
            try:
                missed = self._journal.approvals_after(seen)
                if any(hold in holds for _, hold in missed):
                    _wake(waiter)
            except JournalError:
                _wake(waiter)

    def _look(self) -> None:
        self._timer = None
        if not self._waiters:
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LOOK, self._look)
        try:
            version = self._journal.version()
            if version != self._version:
                for seq, hold in self._journal.approvals_after(self._seen):
                    self._seen = seq
                    self.wake(hold)
                self._version = version
                if self._look_through is None:
                    self._look_through = loop.time() + SLOW
            if self._look_through is not None and loop.time() >= self._look_through:
                for hold in self._journal.moved_on(self._waiters):
                    self.wake(hold)
                self._look_through = None
        except JournalError:
            # Whoever waits looks for itself, and tells its caller what is wrong with the journal.
            self.wake_all()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
