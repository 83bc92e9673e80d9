"""How a call under way hears that its cancellation token was cancelled."""

from __future__ import annotations

import asyncio
import contextlib

from autogen_core import CancellationToken


class Watch:
    """Ends the wait of the task that enters it when a token is cancelled, before a body runs.

    AutoGen's tokens cancel the futures they were linked to. A call to the gate is no future, and a
    body that runs is its own business: it has the token itself.
    """

    def __init__(self, token: CancellationToken) -> None:
        self._token = token
        self._task: asyncio.Task[object] | None = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        self._waits = True
        self._ended_it = False
        token.add_callback(self._cancelled)

    def body_begins(self) -> None:
        """Leave everything else to the body; raises ``CancelledError`` when it is too late."""
        if self._token.is_cancelled():
            raise asyncio.CancelledError
        self._waits = False

    def over(self) -> None:
        """End the watch: the call has ended, and its task goes on."""
        self._waits, self._task = False, None

    def takes_back(self) -> bool:
        """Tell, of a task that was cancelled, whether the token did it before the body began.

        Then the task need not end; what was done to it here is taken back.
        """
        if not (self._waits and self._token.is_cancelled()):
            return False
        uncancel = getattr(self._task, "uncancel", None)
        if self._ended_it and uncancel is not None:  # since Python 3.11
            uncancel()
        return True

    def _cancelled(self) -> None:
        # In any thread, and the token is locked: it cannot be asked anything.
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
            self._loop.call_soon_threadsafe(self._end)

    def _end(self) -> None:
        if self._waits and self._task is not None and not self._ended_it:
            self._ended_it = True
            self._task.cancel()
