"""The figures of proposals: plans that run, in a row and side by side, and plans looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count, pairwise
from pathlib import Path
from statistics import median
from typing import Any, Final, TypeAlias

import subjects
from measure import Lane, Plan, Turn, lanes_in_turns
from reading import Prepared, Reading, Target, against, always
from states import State

from toolgate import analysis
from toolgate.ir import ActionProposal, ToolSchema
from toolgate.kernel.tools import ToolRegistry
from toolgate.policy.contracts import contract_for

_CHAIN: Final = 100
_FAN: Final = 100
_FEW: Final = 10
_LOOKED_AT: Final = 1000
"""Actions of the plans."""

_AT_ONCE: Final = 16
"""Bodies that run at once (``limits.max_concurrency``, and the client's workers)."""

_LINEAR: Final = 2.4
"""How much longer twice as many actions may take: more is not linear, whatever the noise."""

Make: TypeAlias = Callable[[int], dict[str, Any]]
"""Makes a proposal of so many actions."""


@contextmanager
def chain(plan: Plan, folder: Path) -> Iterator[Prepared]:
    """Prepare a plan in which each action waits for the one before, against as many calls."""
    with subjects.gate(folder) as gate:
        call = subjects.call(gate, "search", "succeeded")

        def calls() -> None:
            for _ in range(_CHAIN):
                call()

        lanes = {"calls": calls, "chain": subjects.propose(gate, _chain(), _CHAIN)}

        def measure() -> list[Reading]:
            turns = {name: _ms(taken) for name, taken in lanes_in_turns(lanes, plan).items()}
            what, floor = f"chain of {_CHAIN} actions", f"{_CHAIN} allowed calls"
            return [against(what, turns["chain"], floor, turns["calls"], unit="ms")]

        yield Prepared(measure, (gate.process,))


@contextmanager
def fan(plan: Plan, folder: Path) -> Iterator[Prepared]:
    """Prepare plans of actions that wait for nothing but their own bodies, of 10 ms each."""
    with subjects.gate(folder) as gate:
        make = _fan("pause")
        lanes = {
            "call": subjects.call(gate, "search", "succeeded"),
            "few": subjects.propose(gate, make, _FEW),
            "many": subjects.propose(gate, make, _FAN),
        }

        def measure() -> list[Reading]:
            turns = {name: _ms(taken) for name, taken in lanes_in_turns(lanes, plan).items()}
            limits: dict[State, Target] = {"idle": Target(1.3)}
            pause = subjects.PAUSE * 1e3
            ideal = [-(-_FAN // _AT_ONCE) * pause for _ in turns["many"]]
            least = [pause + _FEW * call for call in turns["call"]]
            many = f"{_FAN} actions of {pause:g} ms, {_AT_ONCE} at once"
            few = f"{_FEW} actions of {pause:g} ms, all at once"
            return [
                against(many, turns["many"], "the ideal", ideal, limits, "ms"),
                against(few, turns["few"], f"one, and {_FEW} calls", least, limits, "ms"),
            ]

        # Bodies run in threads: no core of one's own for each end.
        yield Prepared(measure)


@contextmanager
def verify(plan: Plan, folder: Path) -> Iterator[Prepared]:
    """Prepare plans that are only looked at: by the analysis itself, and by a gate's client."""
    with subjects.gate(folder) as gate:
        lanes: dict[str, Lane] = {}
        shapes = {"independent": _fan("search"), "a chain": _chain()}
        for shape, make in shapes.items():
            some, more = (_parsed(make(size)) for size in (_LOOKED_AT, 2 * _LOOKED_AT))
            lanes |= {
                f"verify {shape}": _verify(some),
                f"twice {shape}": _verify(more),
                f"client {shape}": subjects.verify(gate, make(_LOOKED_AT)),
                f"simulate {shape}": lambda some=some: analysis.simulate(some, {}),
                f"optimize {shape}": lambda some=some: analysis.optimize(some, {}),
            }

        def measure() -> list[Reading]:
            turns = {name: _ms(taken) for name, taken in lanes_in_turns(lanes, plan).items()}
            return [reading for shape in shapes for reading in _looks(turns, shape)]

        yield Prepared(measure, (gate.process,))


def _looks(turns: dict[str, list[float]], shape: str) -> list[Reading]:
    verified, bound = turns[f"verify {shape}"], always(50, "value")
    return [
        Reading(f"verify, 1,000 actions, {shape}", "ms", median(verified), targets=bound),
        against(
            f"verify, 2,000 actions, {shape}",
            turns[f"twice {shape}"], "1,000", verified, always(_LINEAR), "ms",
        ),
        against(
            f"client.verify, 1,000 actions, {shape}",
            turns[f"client {shape}"], "verify", verified, bound, "ms",
        ),
        *(
            Reading(f"{method}, 1,000 actions, {shape}", "ms", median(turns[f"{method} {shape}"]))
            for method in ("simulate", "optimize")
        ),
    ]  # fmt: skip


def _fan(tool: str) -> Make:
    """Return what makes plans whose actions wait for nothing, and whose arguments are all new."""
    numbers = count()

    def make(size: int) -> dict[str, Any]:
        return {"actions": [_action(i, tool, next(numbers)) for i in range(size)]}

    return make


def _chain() -> Make:
    """Return what makes plans in which each action depends on the one listed before it."""
    make = _fan("search")

    def chained(size: int) -> dict[str, Any]:
        proposal = make(size)
        actions = proposal["actions"]
        for before, action in pairwise(actions):
            action["dependencies"] = [before["id"]]
        return proposal

    return chained


def _action(place: int, tool: str, number: int) -> dict[str, Any]:
    return {
        "id": f"a{place}",
        "type": "tool_call",
        "tool": tool,
        "parameters": {"q": "where is my order", "n": number},
        # With "abort", the default, actions run one after another.
        "failure_behavior": "retry",
    }


def _parsed(proposal: dict[str, Any]) -> ActionProposal:
    return ActionProposal.model_validate(proposal)


def _verify(proposal: ActionProposal) -> Lane:
    tools = ToolRegistry(lambda name: contract_for(name, None))
    tools.register(ToolSchema(name="search", parameters=subjects.PARAMETERS))

    def once() -> None:
        if not analysis.verify(proposal, tools, {}).valid:
            raise RuntimeError("a plan that is one was found invalid")

    return once


def _ms(turns: Sequence[Turn]) -> list[float]:
    """Return each round's median, in milliseconds."""
    return [turn.p50 / 1e3 for turn in turns]
