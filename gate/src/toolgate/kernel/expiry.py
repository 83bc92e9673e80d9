"""Ends holds when their deadlines pass, though nobody resumes them: one timer, no poller.

The rules:

1. The timer rings at the first deadline of a pending hold that this gate knows of. A hold that it
   opens or waits for moves it forward; what other gates have opened it finds by the journal's
   index when it rings, at most :data:`FAR` seconds after it has last done so.
2. A hold whose deadline has passed is judged by the answers that arrived, as at a resume: approved
   in time, it stays as it is, for whoever picks it up; denied, or not approved, it ends.
3. Each hold is looked at once, in the order of the deadlines, at most :data:`BATCH` in one turn of
   the event loop: a gate that starts on a journal full of old holds serves its client meanwhile.
4. A hold that cannot be read, or judged, is left to whoever asks for it; the others do not wait for
   that. A batch that the store refuses is looked at one by one: it may be the fault of one row.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from toolgate.errors import JournalError, JournalUnavailable, ToolgateError
from toolgate.journal.journal import Journal, Transaction

FAR: Final = 30.0
"""Seconds after which the gate looks for what others have opened, and after a failure again."""
BATCH: Final = 100


class Expiry:
    """The deadlines of one gate's holds: those of its project and agent."""

    def __init__(
        self,
        journal: Journal,
        ours: Callable[[str], bool],
        conclude: Callable[[Transaction, str], str | None],
        ended: Callable[[str], None],
    ) -> None:
        """``ours`` tells whether an action is this gate's to look after.

        ``conclude`` ends a held action that is denied or expired, and returns the id of its hold if
        it did; ``ended`` is called with that once it is durable.
        """
        self._journal = journal
        self._ours = ours
        self._conclude = conclude
        self._ended = ended
        self._looked_at = (0, "")
        """The deadline and id of the last hold that was looked at."""
        self._timer: asyncio.TimerHandle | None = None
        self._working: asyncio.Task[None] | None = None
        self._on = False

    def start(self) -> None:
        """Begin with the holds that are overdue already."""
        self._on = True
        self._ring_in(0.0)

    def stop(self) -> None:
        """Look no more; what is not ended yet ends at the next start, or when it is resumed."""
        self._on = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._working is not None:
            self._working.cancel()

    def expect(self, deadline: int | None) -> None:
        """Ring no later than at ``deadline`` (microseconds since the epoch; ``None``: never)."""
        # While a batch is under way there is no timer: it asks for the first deadline at its end.
        if deadline is None or not self._on or self._timer is None:
            return
        seconds = self._seconds_to(deadline)
        if asyncio.get_running_loop().time() + seconds < self._timer.when():
            self._timer.cancel()
            self._ring_in(seconds)

    def _ring_in(self, seconds: float) -> None:
        self._timer = asyncio.get_running_loop().call_later(seconds, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._working = asyncio.ensure_future(self._work())

    async def _work(self) -> None:
        """Look at a batch, and set the timer for the next."""
        wait = FAR
        try:
            if await self._batch() == BATCH:
                wait = 0.0
            elif (first := self._journal.next_deadline(self._looked_at)) is not None:
                wait = min(self._seconds_to(first), FAR)
        except JournalError:
            # It cannot be read or written now; calls tell their callers so.
            wait = FAR
        finally:
            if self._on:
                self._ring_in(wait)

    async def _batch(self) -> int:
        """End what is to end of the next holds that are due; return how many were looked at."""
        due = self._journal.due(self._looked_at, BATCH)
        ours = [uid for _, _, uid in due if self._may_be_ours(uid)]
        came = await self._concluded(*ours)
        if any(isinstance(end, JournalUnavailable) for end in came):
            came = [end for uid in ours for end in await self._concluded(uid)]
            unavailable = [end for end in came if isinstance(end, JournalUnavailable)]
            if len(unavailable) == len(came):
                raise unavailable[0]
        if due:
            self._looked_at = due[-1][:2]
        for end in came:
            if isinstance(end, str):
                self._ended(end)
            elif isinstance(end, BaseException) and not isinstance(end, ToolgateError):
                told = {"message": "a hold could not be judged at its deadline", "exception": end}
                asyncio.get_running_loop().call_exception_handler(told)
        return len(due)

    async def _concluded(self, *uids: str) -> list[str | BaseException | None]:
        """Look at some actions in one transaction, and return what came of each."""
        ends = [
            self._journal.transact(lambda tx, uid=uid: self._conclude(tx, uid))  # type: ignore[misc]
            for uid in uids
        ]
        return await asyncio.gather(*ends, return_exceptions=True)

    def _may_be_ours(self, uid: str) -> bool:
        try:
            return self._ours(uid)
        except JournalUnavailable:
            # The transaction that looks at it finds out whether that is the row's fault.
            return True
        except ToolgateError:
            return False

    def _seconds_to(self, deadline: int) -> float:
        return max(deadline - self._journal.now(), 0) / 1e6 + 0.001
