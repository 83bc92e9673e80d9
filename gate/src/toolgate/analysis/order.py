"""Orders and paths in the graph of a plan."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Final

from toolgate.plan.graph import Graph

_AT_ONCE: Final = 1024


def listed_order(graph: Graph) -> list[str]:
    """Return the actions in the order in which they run one after another.

    Of those that are ready, the one listed first comes first. Compensators are left out.
    """
    waiting = {id: len(graph.before[id]) for id in graph.ids if id not in graph.compensators}
    ready = [graph.index[id] for id, count in waiting.items() if not count]
    heapify(ready)
    order = []
    while ready:
        id = graph.ids[heappop(ready)]
        order.append(id)
        for later in graph.after[id]:
            waiting[later] -= 1
            if not waiting[later]:
                heappush(ready, graph.index[later])
    return order


def joined_indirectly(
    order: Sequence[str],
    before: Mapping[str, Collection[str]],
    pairs: Iterable[tuple[str, str]],
) -> set[tuple[str, str]]:
    """Return those of ``pairs`` (earlier, later) that a path of two or more edges joins.

    ``order`` is any order of the whole graph that its edges, ``before``, allow. Every pass through
    it looks for the paths from the next thousand of the earlier actions.
    """
    wanted: dict[str, list[str]] = {}
    for earlier, later in pairs:
        wanted.setdefault(earlier, []).append(later)
    starts = list(wanted)
    found: set[tuple[str, str]] = set()
    for first in range(0, len(starts), _AT_ONCE):
        bits = {id: 1 << place for place, id in enumerate(starts[first : first + _AT_ONCE])}
        far: dict[str, int] = {}
        reached: dict[str, int] = {}
        for id in order:
            by_path = directly = 0
            for earlier in before[id]:
                by_path |= reached[earlier]
                directly |= bits.get(earlier, 0)
            far[id] = by_path
            reached[id] = by_path | directly
        found.update(
            (earlier, later)
            for earlier, bit in bits.items()
            for later in wanted[earlier]
            if far[later] & bit
        )
    return found
