"""Which actions of a plan may start now. Pure.

1. An action is ready when everything before it in the graph has settled: succeeded, failed, been
   skipped or rejected. A held action has not settled.
2. Among actions that are ready together or running, if any has ``failure_behavior: abort``, they
   run one after another in listed order; otherwise they run at once, up to ``max_concurrency``.
3. While an action whose failure would abort the plan is held, nothing listed after it starts.
4. Once the plan is ending (an abort, an exhausted budget, a cancelled request), nothing starts.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Iterator, Mapping, Sequence
from heapq import heappop, heappush

from toolgate.ir import Action, FailureBehavior
from toolgate.plan.graph import Graph


class Schedule:
    """What of one plan is settled, held, running or ready. Names are local ids.

    Every change costs what the action's own edges cost, so a whole plan is linear in its edges.
    """

    def __init__(self, actions: Sequence[Action], graph: Graph, max_concurrency: int) -> None:
        """Nothing has started yet; ``graph`` is that of ``actions``."""
        self._graph = graph
        self._max_concurrency = max_concurrency
        self._places: Mapping[str, int] = graph.index
        self._aborts = {
            action.id for action in actions if action.failure_behavior is FailureBehavior.ABORT
        }
        self._left = {
            name: len(before)
            for name, before in graph.before.items()
            if name not in graph.compensators
        }
        self._queue: list[tuple[int, str]] = []
        self._ready: set[str] = set()
        self._ready_aborts = 0
        for name, count in self._left.items():
            if count == 0:
                self._make_ready(name)
        self._running: set[str] = set()
        self._held: list[tuple[int, str]] = []
        self._barriers: list[int] = []
        self._settled: set[str] = set()

    @property
    def running(self) -> Collection[str]:
        """The actions that were started and have neither settled nor been held."""
        return self._running

    @property
    def held(self) -> list[str]:
        """The actions that wait for people, in listed order."""
        return [name for _, name in self._held]

    def unsettled(self) -> Iterator[str]:
        """Iterate over the actions that have not settled, in listed order."""
        return (name for name in self._graph.ids if name in self._left and not self.settled(name))

    def settled(self, name: str) -> bool:
        """Tell whether an action has come to an end."""
        return name in self._settled

    @property
    def startable(self) -> bool:
        """Whether an action may start now."""
        return self._first() is not None

    def next(self) -> list[str]:
        """Take the actions that may start now, in listed order; they count as running."""
        started: list[str] = []
        while (name := self._first()) is not None:
            self._no_longer_ready(name)
            self._running.add(name)
            started.append(name)
        return started

    def hold(self, name: str) -> None:
        """Take note that an action is held."""
        self._running.discard(name)
        self._no_longer_ready(name)
        insort(self._held, (self._places[name], name))
        if name in self._aborts:
            insort(self._barriers, self._places[name])

    def release(self, name: str) -> None:
        """Take note that a held action is to be tried again."""
        self._unhold(name)
        self._make_ready(name)

    def settle(self, name: str) -> None:
        """Take note that an action has come to an end; what waited for it may be ready now."""
        if name in self._settled:
            return
        self._settled.add(name)
        self._running.discard(name)
        self._no_longer_ready(name)
        if (self._places[name], name) in self._held:
            self._unhold(name)
        for after in self._graph.after.get(name, ()):
            self._left[after] -= 1
            if self._left[after] == 0 and after not in self._settled:
                self._make_ready(after)

    def _make_ready(self, name: str) -> None:
        heappush(self._queue, (self._places[name], name))
        self._ready.add(name)
        self._ready_aborts += name in self._aborts

    def _no_longer_ready(self, name: str) -> None:
        if name in self._ready:
            self._ready.discard(name)
            self._ready_aborts -= name in self._aborts

    def _unhold(self, name: str) -> None:
        self._held.remove((self._places[name], name))
        if name in self._aborts:
            self._barriers.remove(self._places[name])

    def _first(self) -> str | None:
        """Return the first listed action that is ready, if it may start now."""
        while self._queue and self._queue[0][1] not in self._ready:
            heappop(self._queue)
        if not self._queue or len(self._running) >= self._max_concurrency:
            return None
        place, name = self._queue[0]
        if self._barriers and self._barriers[0] < place:
            return None
        if self._running and (self._ready_aborts or not self._aborts.isdisjoint(self._running)):
            return None
        return name
