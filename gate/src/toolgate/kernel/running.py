"""Bodies under way: the attempt, its reply, and the time it has left."""

from __future__ import annotations

import asyncio
import dataclasses
import math
from collections.abc import Callable

from toolgate.ir import Outcome
from toolgate.kernel.result import ToolError, ToolLost, ToolReply, ToolSuspended, ToolTimeout
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
            if self.timed_out is not None and isinstance(reply, ToolError | ToolSuspended):
                # It has ended as it was told to: what it says of that is not why it failed.
                reply = dataclasses.replace(self.timed_out, ended=True)
            self.replied.set_result(reply)
        elif not isinstance(reply, ToolLost):
            self._on_late(self.claim, reply)

    def give_up(self) -> None:
        """Nobody waits any longer for a body that was told to end."""
        if not self.replied.done() and self.timed_out is not None:
            self.replied.set_result(self.timed_out)


class Deadlines:
    """The times at which attempts have had theirs, on one timer of the event loop.

    Nearly every body ends long before its time, so a timer for each would be made for nothing.
    """

    def __init__(self, expire: Callable[[Attempt], None]) -> None:
        """``expire`` is called once with each attempt whose time comes."""
        self._expire = expire
        self._times: dict[Attempt, float] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._rings = math.inf

    def set(self, attempt: Attempt, at: float) -> None:
        """Give an attempt until ``at``, a time of the event loop."""
        self._times[attempt] = at
        if at < self._rings:
            self._ring_at(at)

    def clear(self, attempt: Attempt) -> float | None:
        """Forget an attempt's time, and return it if it had not come."""
        return self._times.pop(attempt, None)

    def stop(self) -> None:
        """Forget every attempt's time."""
        self._times.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._rings = math.inf

    def _ring_at(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_at(at, self._ring)
        self._rings = at

    def _ring(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        self._timer, self._rings = None, math.inf
        for attempt in [attempt for attempt, at in self._times.items() if at <= now]:
            del self._times[attempt]
            loop.call_soon(self._expire, attempt)
        if self._times:
            self._ring_at(min(self._times.values()))


class Running:
    """An action that this gate executes: the attempt under way, and the time it has left.

    The time stands still while the body waits for people, in a call of its own (``paused``).
    """

    __slots__ = ("_deadlines", "_left", "asked", "attempt", "joined", "parent", "paused")

    def __init__(self, parent: str | None, deadlines: Deadlines) -> None:
        """``parent`` is the action whose body made the call, if one did."""
        self.parent = parent
        self.joined: list[asyncio.Future[Outcome]] = []
        self.asked: set[str] = set()
        """The held actions and proposals that its body may wait for."""
        self.attempt: Attempt | None = None
        self.paused = 0
        self._deadlines = deadlines
        self._left: float | None = None
        """The seconds the attempt has left, while its time stands still."""

    def begin(self, attempt: Attempt) -> None:
        """Start an attempt's time."""
        self.attempt = attempt
        self._left = attempt.claim.timeout
        self._go_on()

    def end(self) -> None:
        """Stop the time: the attempt is over."""
        if self.attempt is not None:
            self._deadlines.clear(self.attempt)
        self.attempt = self._left = None

    def pause(self) -> None:
        """Let the time stand still, once more."""
        self.paused += 1
        at = None if self.attempt is None else self._deadlines.clear(self.attempt)
        if at is not None:
            self._left = at - asyncio.get_running_loop().time()

    def go_on(self) -> None:
        """Take a :meth:`pause` back."""
        self.paused -= 1
        self._go_on()

    def _go_on(self) -> None:
        if self.attempt is not None and self._left is not None and not self.paused:
            now = asyncio.get_running_loop().time()
            self._deadlines.set(self.attempt, now + self._left)
            self._left = None
