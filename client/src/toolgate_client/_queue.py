"""Callers over the gate's ``max_in_flight`` wait here until another call of this client ends.

The gate alone counts: it refuses what is too much, and the client asks again. Each call that ends
wakes one caller that was refused. A caller that nobody can ever wake is told so instead: when every
call under way is one whose body waits here for a call of its own.
"""

from __future__ import annotations

from toolgate_client._exchange import Waiter
from toolgate_client._protocol import Core


class Turn(Waiter):
    """A refused caller. ``depth`` calls wait for it, because it was made by their bodies."""

    __slots__ = ("depth",)

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.depth = depth


class Turns:
    """The refused callers of one connection."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._refused: dict[Turn, None] = {}
        self._asleep: dict[Turn, None] = {}
        self._woken: dict[Turn, None] = {}

    def line_up(self, turn: Turn) -> None:
        """From now on the end of another call wakes this one.

        The caller asks once more before it sleeps: what ended before this did not wake it.
        """
        turn.listen()
        self._woken.pop(turn, None)
        self._core.parked[turn] = None
        self._refused[turn] = None

    def sleep(self, turn: Turn) -> bool:
        """Wait for the end of another call; False at once when there is none to wait for."""
        self._asleep[turn] = None
        blocked = sum(other.depth for other in list(self._asleep))
        if turn in self._refused and not self._woken and self._core.under_way() <= blocked:
            return False
        turn.sleep()
        self._asleep.pop(turn, None)
        self._refused.pop(turn, None)
        return True

    def next(self) -> None:
        """A call has ended: wake one refused caller. To be called while it still is under way."""
        for turn in list(self._refused)[:1]:
            self._woken[turn] = None
            self._asleep.pop(turn, None)
            self._refused.pop(turn, None)
            turn.wake()

    def served(self, turn: Turn) -> None:
        """The caller that was woken has asked again, and was answered."""
        self._woken.pop(turn, None)

    def leave(self, turn: Turn) -> None:
        """The caller is refused no more, or gives up. May be called again."""
        if turn in self._woken:
            # A wake-up that reached a caller on its way out belongs to another one.
            self.next()
        for table in (self._refused, self._asleep, self._woken, self._core.parked):
            table.pop(turn, None)

    def __bool__(self) -> bool:
        return bool(self._refused)
