"""Bodies under way: the attempt, its reply, and the time it has left."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable

from toolgate.ir import Outcome
from toolgate.kernel.result import ToolError, ToolLost, ToolReply, ToolTimeout
from toolgate.kernel.step import Claim


class Attempt:
    """A body under way. Its reply may come in time, late, or never."""

    __slots__ = ("_on_late", "claim", "replied", "timed_out")

    def __init__(self, claim: Claim, on_late: Callable[[Claim, ToolReply], None]) -> None:
        """``on_late`` takes a reply that comes when nobody waits for it any more."""
        self.claim = claim
        self.timed_out: ToolTimeout | None = None
        self.replied: asyncio.Future[ToolReply] = asyncio.get_running_loop().create_future()
        self._on_late = on_late

    def reply(self, reply: ToolReply) -> None:
        """Take the body's reply; one that comes late settles what was in doubt."""
        if not self.replied.done():
            if self.timed_out is not None and isinstance(reply, ToolError):
                # It has ended as it was told to: what it says of that is not why it failed.
                reply = dataclasses.replace(self.timed_out, ended=True)
            self.replied.set_result(reply)
        elif not isinstance(reply, ToolLost):
            self._on_late(self.claim, reply)

    def give_up(self) -> None:
        """Nobody waits any longer for a body that was told to end."""
        if not self.replied.done() and self.timed_out is not None:
            self.replied.set_result(self.timed_out)


class Running:
    """An action that this gate executes: the attempt under way, and the time it has left.

    The time stands still while the body waits for people, in a call of its own (``paused``).
    """

    __slots__ = ("_expire", "_expires", "_left", "_timer", "attempt", "joined", "parent", "paused")

    def __init__(self, parent: str | None, expire: Callable[[Attempt], None]) -> None:
        """``expire`` is called when an attempt has had its time."""
        self.parent = parent
        self.joined: list[asyncio.Future[Outcome]] = []
        self.attempt: Attempt | None = None
        self.paused = 0
        self._expire = expire
        self._timer: asyncio.TimerHandle | None = None
        self._expires = self._left = 0.0

    def begin(self, attempt: Attempt) -> None:
        """Start an attempt's time."""
        self.attempt = attempt
        self._left = attempt.claim.timeout
        if not self.paused:
            self._start(attempt)

    def end(self) -> None:
        """Stop the time: the attempt is over."""
        self.attempt = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def pause(self) -> None:
        """Let the time stand still, once more."""
        self.paused += 1
        if self._timer is not None:
            self._left = self._expires - asyncio.get_running_loop().time()
            self._timer.cancel()
            self._timer = None

    def go_on(self) -> None:
        """Take a :meth:`pause` back."""
        self.paused -= 1
        if not self.paused and self.attempt is not None:
            self._start(self.attempt)

    def _start(self, attempt: Attempt) -> None:
        loop = asyncio.get_running_loop()
        self._expires = loop.time() + self._left
        self._timer = loop.call_at(self._expires, self._expire, attempt)
