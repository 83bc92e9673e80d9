"""What is known of a log besides what its store says now: none of that vanishes.

Rows are held against events that are found by index, and nobody seals an index: whoever writes the
store can hide an event for a moment, by changing the column that it is found by. To whoever has
seen it, it is missing.

1. What is remembered are places in the log: of each thing the newest at which it was seen to stand.
   They are kept for ever in the anchor (:mod:`toolgate.journal.anchor`), and here until they are in
   it; without an anchor, here for the last :data:`REMEMBERED` things.
2. A place is remembered once it is durable: what a transaction has written waits for its commit,
   and is dropped with what was undone.
3. The anchor is asked each time: another gate may have gone on since. Ask before looking into the
   store, which is never behind the anchor.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final, Literal, Protocol, TypeAlias

REMEMBERED: Final = 10_000
"""Of so many things it is remembered without an anchor where they stood last."""

Kind: TypeAlias = Literal[
    "action", "hold", "proposal", "session", "usage", "result", "forgotten", "key", "state", "label"
]
Seen: TypeAlias = tuple[str, str, str]
"""A row, by its table and its key; an idempotency key; or all of a session's state, or labels."""

_EVERYTHING: Final = 1 << 62


class Marks(Protocol):
    """The places that outlive a process."""

    def last(self, mark: tuple[str, str, str]) -> int:
        """Return the newest place at which a thing was seen to stand, 0 when it never was."""

    def view(self) -> AbstractContextManager[None]:
        """Read one unchanging view of the marks inside."""


class Memory:
    """The places that one process has seen, as far as they are durable, and those of its anchor."""

    def __init__(self, anchor: Marks | None = None) -> None:
        self._anchor = anchor
        self._durable = _EVERYTHING
        """What stands after this place in the log may be undone yet."""
        self._places: OrderedDict[Seen, int] = OrderedDict()
        """With an anchor, those that it has not yet."""
        self._waiting: list[tuple[Seen, int]] = []

    def begin(self, durable: int) -> None:
        """A transaction begins, and ``durable`` is the log's last place."""
        self.keep()
        self._durable = durable

    def keep(self) -> None:
        """All that was noted is durable: a transaction was committed."""
        self._durable = _EVERYTHING
        waiting, self._waiting = self._waiting, []
        for what, seq in waiting:
            self._keep(what, seq)

    def forget(self, after: int) -> None:
        """What stands after the place ``after`` is not going to be durable."""
        self._waiting = [(what, seq) for what, seq in self._waiting if seq <= after]

    def last(self, what: Seen) -> int:
        """Return the newest place at which a thing was seen to stand, 0 when it never was."""
        here = self._places.get(what, 0)
        return here if self._anchor is None else max(here, self._anchor.last(what))

    def noted(self, what: Seen) -> int:
        """Return what :meth:`last` does, with what the open transaction has noted."""
        waiting = (seq for name, seq in self._waiting if name == what)
        return max(self.last(what), *waiting, 0)

    def view(self) -> AbstractContextManager[None]:
        """Ask one unchanging view of the anchor inside; enter it before that of the store."""
        return nullcontext() if self._anchor is None else self._anchor.view()

    def unwritten(self) -> dict[Seen, int]:
        """Return the places that the anchor has not yet."""
        return dict(self._places)

    def written(self, marks: Mapping[Seen, int]) -> None:
        """Let go of places that the anchor has now, but for those that moved on meanwhile."""
        for what, seq in marks.items():
            if self._places.get(what) == seq:
                del self._places[what]

    def saw(self, what: Seen, seq: int) -> None:
        """Note that a thing stands at a place."""
        if seq <= self._durable:
            self._keep(what, seq)
        else:
            self._waiting.append((what, seq))

    def _keep(self, what: Seen, seq: int) -> None:
        places = self._places
        if seq <= places.get(what, 0):
            return
        places[what] = seq
        if self._anchor is None:
            places.move_to_end(what)
            if len(places) > REMEMBERED:
                places.popitem(last=False)
