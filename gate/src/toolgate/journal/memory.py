"""What a gate has seen of its log while it runs: none of that vanishes.

Rows are held against events that are found by index, and nobody seals an index: whoever writes the
store can hide an event for a moment, by changing the column that it is found by. To whoever has
seen it, it is missing.

1. What is remembered are places in the log, at most :data:`REMEMBERED` of them, the latest asked
   for; of a session's labels all, of at most :data:`SESSIONS` sessions.
2. A place is remembered once it is durable: what a transaction has written waits for its commit,
   and is dropped with what was undone.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, Literal, TypeAlias

REMEMBERED: Final = 10_000
"""Of so many things it is remembered where the log told of them last."""
SESSIONS: Final = 1000
"""Of so many sessions the labels are remembered."""

Seen: TypeAlias = tuple[Literal["state", "count", "result"], str, str]
"""What the log tells of again and again: its kind, and what names it."""

_EVERYTHING: Final = 1 << 62


class Memory:
    """The places that one process has seen, as far as they are durable."""

    def __init__(self) -> None:
        self._durable = _EVERYTHING
        """What stands after this place in the log may be undone yet."""
        self._places: OrderedDict[Seen, int] = OrderedDict()
        self._labels: OrderedDict[str, set[int]] = OrderedDict()
        self._waiting: list[tuple[Seen | str, int]] = []

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
        """Return the last place at which the log told of ``what``, 0 when it was not seen."""
        return self._places.get(what, 0)

    def labels(self, session: str) -> set[int]:
        """Return the places at which a session was given the labels that were seen."""
        return self._labels.get(session, set())

    def saw(self, what: Seen, seq: int) -> None:
        """Note that the log told of ``what`` at a place."""
        self._note(what, seq)

    def saw_label(self, session: str, seq: int) -> None:
        """Note that a session was given a label at a place."""
        self._note(session, seq)

    def _note(self, what: Seen | str, seq: int) -> None:
        if seq <= self._durable:
            self._keep(what, seq)
        else:
            self._waiting.append((what, seq))

    def _keep(self, what: Seen | str, seq: int) -> None:
        if isinstance(what, str):
            self._labels.setdefault(what, set()).add(seq)
            self._labels.move_to_end(what)
            if len(self._labels) > SESSIONS:
                self._labels.popitem(last=False)
            return
        self._places[what] = seq
        self._places.move_to_end(what)
        if len(self._places) > REMEMBERED:
            self._places.popitem(last=False)
