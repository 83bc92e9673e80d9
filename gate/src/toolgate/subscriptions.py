"""How a client is told of events: page by page, or as they come, from a place in the log, no queue.

The rules:

1. A subscription is a request that takes long. It is answered, with the place to go on from, when
   the client cancels it, when it has told as much as was asked for, or when the gate shuts down:
   then after everything that was written before the run's end.
2. The log is looked at every :data:`LOOK` seconds, and from where the subscription stands. While
   the client does not read what it was sent, nothing more is sent; the place stays, so nothing is
   lost, and nothing piles up here.
3. Calls go first: one turn of the event loop tells :data:`TURN` events at most.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from toolgate.jsonvalue import JSONValue
from toolgate.kernel.engine import RequestId
from toolgate.kernel.telling import LARGEST, Page

LOOK: Final = 0.05
"""Seconds between two looks at the log."""
TURN: Final = 50
"""Events that are told in one turn of the event loop."""
MOST: Final = 64
"""Subscriptions that one client may have at a time."""
ROOM: Final = 1 << 16
"""Bytes that may wait for a client that does not read, before events wait, too."""


class TooManySubscriptions(Exception):
    """The client has :data:`MOST` subscriptions already."""


class Subscriptions:
    """What one client has subscribed to."""

    def __init__(
        self,
        look: Callable[[int | None, int, str | None], Page],
        tell: Callable[[RequestId, dict[str, JSONValue]], None],
        waiting: Callable[[], int],
    ) -> None:
        """``look`` returns the events after a place, at most so many, about a uid if one is given.

        ``tell`` sends one of them to the client; ``waiting`` is how many bytes it has not read.
        """
        self._look = look
        self._tell = tell
        self._waiting = waiting
        self._open: dict[RequestId, asyncio.Future[None]] = {}
        self._tasks: set[asyncio.Task[object]] = set()
        self._ending = False

    @property
    def tasks(self) -> frozenset[asyncio.Task[object]]:
        """The tasks that serve them, which go on until :meth:`end`."""
        return frozenset(self._tasks)

    def cancel(self, identifier: RequestId) -> bool:
        """End the subscription that this request is, and tell whether it is one."""
        over = self._open.get(identifier)
        if over is not None and not over.done():
            over.set_result(None)
        return over is not None

    async def end(self, seconds: float) -> None:
        """Tell each what there is yet, and answer it, within ``seconds``: the gate shuts down."""
        self._ending = True
        for over in self._open.values():
            if not over.done():
                over.set_result(None)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=seconds)

    async def follow(
        self,
        identifier: RequestId,
        after: int | None,
        limit: int | None,
        about: str | None,
        *,
        cancelled: bool = False,
    ) -> int:
        """Tell the events after a place until it is over; returns the place to go on from.

        It is over after ``limit`` events, or sooner when those that were told are large: then it is
        for who asks to go on. ``cancelled``: it is over already. Raises
        :class:`TooManySubscriptions`, and what ``look`` raises.
        """
        if len(self._open) >= MOST:
            raise TooManySubscriptions
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in one
        over = self._open[identifier] = asyncio.get_running_loop().create_future()
        self._tasks.add(task)
        if cancelled:
            over.set_result(None)
        try:
            return await self._follow(identifier, after, limit, about, over)
        finally:
            del self._open[identifier]
            self._tasks.discard(task)

    async def listed(self, after: int, limit: int, about: str | None) -> Page:
        """Return events after a place, at most ``limit``, looked up in several turns.

        They are fewer when they are large, or when those of others lie in between. Raises what
        ``look`` raises.
        """
        events: list[dict[str, JSONValue]] = []
        size, page = 0, Page([], after, more=True)
        for _ in range(0, limit, TURN):
            page = self._look(page.after, min(limit - len(events), TURN), about)
            events += page.events
            size += page.size
            if not page.more or len(events) == limit or size >= LARGEST:
                break
            await asyncio.sleep(0)
        return Page(events, page.after, page.more, size)

    async def _follow(
        self,
        identifier: RequestId,
        after: int | None,
        limit: int | None,
        about: str | None,
        over: asyncio.Future[None],
    ) -> int:
        left, size = limit, 0
        place = self._look(after, 1, about).after if after is None else after
        while not over.done() or self._ending:
            last, more = over.done(), False
            if self._waiting() < ROOM:
                page = self._look(place, TURN if left is None else min(left, TURN), about)
                for event in page.events:
                    self._tell(identifier, event)
                place, more = page.after, page.more
                size += page.size
                if left is not None:
                    left -= len(page.events)
                    if left == 0 or size >= LARGEST:
                        break
            if more:
                await asyncio.sleep(0)
            elif last:
                break
            else:
                await asyncio.wait((over,), timeout=LOOK)
        return place
