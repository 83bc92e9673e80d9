"""The graph of a proposal: which action waits for which.

1. *Explicit* edges: an action waits for those it names in ``dependencies`` and for those whose
   outputs its parameters refer to, wherever they are listed. These are what it *requires*: when one
   of them did not succeed, the action is rejected.
2. *State* edges: the writers of one key keep their listed order; a reader waits for the nearest
   writer listed before it, and the next writer listed after it waits for the reader. An action
   that both reads and writes a key is one of its writers. Preconditions make no edges.
3. An action that another names as its compensation runs only as that compensation: it waits for
   nobody, and nobody can wait for it or refer to its output.
4. An id that two actions have, an id that no action has, and actions that wait for each other are
   problems of the whole proposal: nothing of it can run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from toolgate.errors import ToolgateError
from toolgate.ir import Action, ActionCompensation, ToolCompensation
from toolgate.plan.effects import read_keys, written_keys
from toolgate.plan.references import referenced

_MOST_STEPS: Final = 8
_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class PlanProblem:
    """Why a proposal cannot be run at all: a machine tag, a sentence for people, the actions."""

    code: Literal["duplicate_id", "unknown_id", "cycle"]
    message: str
    ids: tuple[str, ...]


class PlanError(ToolgateError):
    """A proposal is no plan: the whole of it is refused, before anything runs."""

    def __init__(self, problems: Sequence[PlanProblem]) -> None:
        """``problems`` are everything that is wrong with it, at least one."""
        self.problems = tuple(problems)
        super().__init__("; ".join(problem.message for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Graph:
    """What waits for what. Made by :func:`build`.

    ``ids`` are all actions in listed order, ``index`` their places in it (from 0). ``before`` are
    those that must have settled before an action starts, ``after`` the inverse, in listed order;
    ``required`` are those among ``before`` that must have succeeded. ``compensators`` are the
    actions that run only as the compensation of another; they have no edges.
    """

    ids: tuple[str, ...]
    index: Mapping[str, int]
    before: Mapping[str, frozenset[str]]
    required: Mapping[str, frozenset[str]]
    after: Mapping[str, tuple[str, ...]]
    compensators: frozenset[str]

    def levels(self) -> list[list[str]]:
        """Return the actions in levels, each in listed order, without the compensators.

        An action is in the first level that comes after all that it waits for.
        """
        levels = _levels(self.before, self.after, self.index)
        if not self.compensators:
            return levels
        placed = ([id for id in level if id not in self.compensators] for level in levels)
        return [level for level in placed if level]


def build(actions: Sequence[Action]) -> Graph:
    """Return the graph of a proposal's actions, in time linear in actions and edges.

    Raises :class:`PlanError` with everything that is wrong with them.
    """
    problems, graph = _survey(actions)
    if problems:
        raise PlanError(problems)
    return graph


def problems_of(actions: Sequence[Action]) -> list[PlanProblem]:
    """Return what makes the actions no plan, each problem naming the actions; empty: nothing."""
    return _survey(actions)[0]


def _survey(actions: Sequence[Action]) -> tuple[list[PlanProblem], Graph]:
    """Return the problems, and the graph of what is known of the plan in spite of them."""
    by_id: dict[str, Action] = {}
    for action in actions:
        by_id.setdefault(action.id, action)
    index = {id: place for place, id in enumerate(by_id)}
    compensated = {
        id: action.compensation.action_id
        for id, action in by_id.items()
        if isinstance(action.compensation, ActionCompensation)
    }
    compensators = frozenset(compensated.values()) & by_id.keys()

    problems = list(_duplicates(actions) if len(by_id) < len(actions) else ())
    required: dict[str, frozenset[str]] = {}
    for id, action in by_id.items():
        named = referenced(action.parameters).union(action.dependencies)
        if named or action.compensation is not None:
            problems += _unknown(action, by_id, compensators)
        known = named and frozenset(i for i in named if i in by_id and i not in compensators)
        required[id] = _NONE if id in compensators else known
    before = _with_state_edges(by_id, required, compensators)

    after: dict[str, list[str]] = {id: [] for id in by_id}
    for id, awaited in before.items():
        for earlier in awaited:
            after[earlier].append(id)
    graph = Graph(
        tuple(by_id),
        index,
        before,
        required,
        {id: tuple(later) for id, later in after.items()},
        compensators,
    )
    if len(by_id) == len(actions):
        problems += _circles(by_id, graph, compensated)
    return problems, graph


def _with_state_edges(
    actions: Mapping[str, Action],
    required: Mapping[str, frozenset[str]],
    compensators: frozenset[str],
) -> dict[str, frozenset[str]]:
    """Return what each action waits for: what it requires, and what the state keys say."""
    before: dict[str, frozenset[str]] = {}
    writer: dict[str, str] = {}
    readers: dict[str, list[str]] = {}
    for id, action in actions.items():
        written, read = written_keys(action), read_keys(action)
        if id in compensators or not (written or read):
            before[id] = required[id]
            continue
        awaited = {writer[key] for key in written | read if key in writer}
        for key in read - written:
            readers.setdefault(key, []).append(id)
        for key in written:
            awaited.update(readers.pop(key, ()))
            writer[key] = id
        before[id] = required[id] | awaited
    return before


def _levels(
    before: Mapping[str, frozenset[str]],
    after: Mapping[str, Sequence[str]],
    index: Mapping[str, int],
) -> list[list[str]]:
    """Return the levels; what is in a circle, or waits for one, is in none."""
    waiting = {id: len(awaited) for id, awaited in before.items()}
    level = [id for id, count in waiting.items() if not count]
    levels = []
    while level:
        levels.append(level)
        ready = []
        for id in level:
            for later in after[id]:
                waiting[later] -= 1
                if not waiting[later]:
                    ready.append(later)
        level = sorted(ready, key=index.__getitem__)
    return levels


def _duplicates(actions: Iterable[Action]) -> Iterator[PlanProblem]:
    places: dict[str, list[int]] = {}
    for place, action in enumerate(actions, start=1):
        places.setdefault(action.id, []).append(place)
    for id, found in places.items():
        if len(found) > 1:
            listed = ", ".join(map(str, found[:_MOST_STEPS]))
            more = ", …" if len(found) > _MOST_STEPS else ""
            message = f"{len(found)} actions have the id {id!r} (number {listed}{more})"
            yield PlanProblem("duplicate_id", message, (id,))


def _unknown(
    action: Action, actions: Mapping[str, Action], compensators: frozenset[str]
) -> Iterator[PlanProblem]:
    """Find what the action names and cannot have."""
    sources = [action.parameters]
    if isinstance(action.compensation, ToolCompensation):
        sources.append(action.compensation.parameters)
    dependencies = dict.fromkeys(action.dependencies)
    outputs = sorted(set().union(*map(referenced, sources)).difference(dependencies))
    for id in (*dependencies, *outputs):
        refers = id not in dependencies
        what = f"{action.id!r} {'refers to the output of' if refers else 'depends on'} {id!r}"
        if id not in actions:
            literal = f" (the mere text ${id}.output is written $${id}.output)" if refers else ""
            message = f"{what}, and no action has that id{literal}"
        elif id in compensators:
            message = f"{what}, which runs only as the compensation of another action"
        else:
            continue
        yield PlanProblem("unknown_id", message, (action.id, id))
    undo = action.compensation
    if isinstance(undo, ActionCompensation) and undo.action_id not in actions:
        message = f"{action.id!r} is compensated by {undo.action_id!r}, and no action has that id"
        yield PlanProblem("unknown_id", message, (action.id, undo.action_id))


def _circles(
    actions: Mapping[str, Action], graph: Graph, compensated: Mapping[str, str]
) -> Iterator[PlanProblem]:
    """Find actions that wait for each other, and compensations that go round in a circle."""
    settled = {id for level in _levels(graph.before, graph.after, graph.index) for id in level}
    stuck = {
        id: min(graph.before[id] - settled, key=graph.index.__getitem__)
        for id in graph.ids
        if id not in settled
    }
    for circle in _rounds(stuck):
        steps = [_reason(actions[id], actions[stuck[id]]) for id in circle[:_MOST_STEPS]]
        more = ", …" if len(circle) > _MOST_STEPS else ""
        message = f"actions wait for each other: {', '.join(steps)}{more}"
        yield PlanProblem("cycle", message, tuple(circle))
    for circle in _rounds(compensated):
        steps = [f"{id!r} is compensated by {compensated[id]!r}" for id in circle[:_MOST_STEPS]]
        more = ", …" if len(circle) > _MOST_STEPS else ""
        message = f"compensations go round in a circle: {', '.join(steps)}{more}"
        yield PlanProblem("cycle", message, tuple(circle))


def _rounds(following: Mapping[str, str]) -> Iterator[list[str]]:
    """Find the circles among steps from each id to one other."""
    seen: set[str] = set()
    for start in following:
        trail: dict[str, int] = {}
        id = start
        while id in following and id not in seen:
            seen.add(id)
            trail[id] = len(trail)
            id = following[id]
        if id in trail:
            yield list(trail)[trail[id] :]


def _reason(waiting: Action, awaited: Action) -> str:
    """Say why one action waits for the other."""
    name, other = repr(waiting.id), "itself" if waiting is awaited else repr(awaited.id)
    if awaited.id in waiting.dependencies:
        return f"{name} depends on {other}"
    if awaited.id in referenced(waiting.parameters):
        return f"{name} refers to the output of {other}"
    written, written_there = written_keys(waiting), written_keys(awaited)
    shared = (written | read_keys(waiting)) & written_there
    shared |= written & read_keys(awaited)
    key = min(shared)
    verb = "writes" if key in written else "reads"
    done = "written" if key in written_there else "read"
    return f"{name} {verb} state key {key!r} after {other} has {done} it, as listed"
