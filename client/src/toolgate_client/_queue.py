"""Calls over the gate's ``max_in_flight`` wait here until another call of this client ends.

The gate alone counts: it refuses what is too much, and the client asks again. Each response to a
call wakes one caller that was refused. A caller that no response can ever wake is told so instead:
when every call under way is one whose body waits here for a call of its own.

Like the rest of the protocol, without threads and I/O: a caller is a mailbox, and its ``room`` says
that it may ask again.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from toolgate_client._mailbox import Mailbox


class Turns:
    """The refused callers of one connection, the first to come first."""

    def __init__(self) -> None:
        self._waiting: dict[Mailbox, None] = {}
        self._asleep: dict[Mailbox, frozenset[int]] = {}
        self._woken: dict[Mailbox, None] = {}

    def line_up(self, caller: Mailbox) -> None:
        """From now on the end of another call gives this one room.

        The caller asks once more before it waits: what ended before this gave it nothing.
        """
        self._woken.pop(caller, None)
        caller.room = False
        self._waiting[caller] = None

    def may_wait(self, caller: Mailbox, above: frozenset[int], under_way: set[int]) -> bool:
        """Whether some call's end will give the caller room; it waits for that then.

        The calls ``above`` wait for this one, because it was made by their bodies; ``under_way``
        are the calls, these among them, that have no response yet.
        """
        self._asleep[caller] = above
        return caller.room or not self.stuck(under_way)

    def stuck(self, under_way: set[int]) -> bool:
        """Whether there are callers that wait and none of the calls ``under_way`` can end."""
        waiting = list(self._asleep.values())
        blocked = frozenset[int]().union(*waiting)
        return bool(waiting) and not self._woken and under_way <= blocked

    def next(self) -> None:
        """A call ended: give one caller room. To be called before the call stops counting."""
        for caller in list(self._waiting)[:1]:
            self._woken[caller] = None
            self._asleep.pop(caller, None)
            self._waiting.pop(caller, None)
            caller.room = True
            caller.wake()

    def served(self, caller: Mailbox) -> None:
        """The caller has used its room and asked again."""
        self._woken.pop(caller, None)

    def leave(self, caller: Mailbox) -> bool:
        """The caller is served or gives up; whether the room it has not used is another's now."""
        unused = caller in self._woken
        self._waiting.pop(caller, None)
        self._asleep.pop(caller, None)
        self._woken.pop(caller, None)
        return unused and bool(self._waiting)

    def __iter__(self) -> Iterator[Mailbox]:
        return iter([*self._waiting, *self._asleep])
