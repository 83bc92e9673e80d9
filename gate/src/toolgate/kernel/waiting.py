"""Who waits for which held action, and what wakes them: no thread, no task each, one cheap look.

Another process's commit shows as a change of the store's version, which one timer looks at while
anybody waits. A change wakes those whose hold has new answers; the rest look for themselves at a
slow pace, in case their action was moved on in another way, and when their own deadline passes.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from typing import Final

from toolgate.errors import JournalError
from toolgate.journal.journal import Journal

LOOK: Final = 0.02
"""Seconds between two looks at the store's version while anybody waits."""
SLOW: Final = 1.0
"""Seconds after which every waiter looks again when the store has changed."""


class Waiting:
    """The waiters of one gate, by hold."""

    def __init__(self, journal: Journal) -> None:
        """``journal`` tells when another process has committed."""
        self._journal = journal
        self._waiters: dict[str, set[asyncio.Future[None]]] = {}
        self._version = 0
        self._seen = 0
        self._stale_since: float | None = None
        self._timer: asyncio.TimerHandle | None = None

    async def wait(
        self, holds: Collection[str], cancelled: asyncio.Future[None], until: float | None
    ) -> None:
        """Return when one of ``holds`` may have moved on, at loop time ``until``, or cancelled.

        Without any hold it waits for whatever another process does.
        """
        holds = holds or ("",)
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        for hold_id in holds:
            self._waiters.setdefault(hold_id, set()).add(waiter)
        if self._timer is None:
            self._version = self._journal.version()
            self._seen = self._journal.last_approval()
            self._timer = loop.call_later(LOOK, self._look)
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
            for hold_id in holds:
                waiters = self._waiters[hold_id]
                waiters.discard(waiter)
                if not waiters:
                    del self._waiters[hold_id]

    def wake(self, hold_id: str) -> None:
        """Wake those who wait for a hold."""
        for waiter in self._waiters.get(hold_id, ()):
            _wake(waiter)

    def wake_all(self) -> None:
        """Wake everybody."""
        for hold_id in list(self._waiters):
            self.wake(hold_id)

    def _look(self) -> None:
        self._timer = None
        if not self._waiters:
            return
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(LOOK, self._look)
        try:
            version = self._journal.version()
            if version != self._version:
                self._version = version
                self._stale_since = self._stale_since or loop.time()
                for seq, hold_id in self._journal.approvals_after(self._seen):
                    self._seen = max(self._seen, seq)
                    self.wake(hold_id)
        except JournalError:
            # Whoever waits looks for itself, and tells its caller what is wrong with the journal.
            self.wake_all()
        if self._stale_since is not None and loop.time() - self._stale_since > SLOW:
            self._stale_since = None
            self.wake_all()


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
