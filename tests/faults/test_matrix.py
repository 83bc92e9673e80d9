"""Every point of :mod:`toolgate.faults`, each fault there, and each thing to ask for.

Which points a scenario comes to, and how often, is found by running it with every point told; then
it is run once for each of them and each fault.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.fault_runs import Found, nursery, play
from support.plans import FAIL
from toolgate.faults import POINTS

READY = "request.read@1"
"""The first step of a gate that has started."""

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


@dataclass(frozen=True)
class Scenario:
    """What is asked for, and which part of it meets the fault: from the step ``start`` to ``end``.

    ``later``: another gate was asked before and has died, what it held is approved, and the fault
    meets the one that comes after it. What one scenario is no different from in another is left to
    that one: the start of a gate, and a plan before it is undone.
    """

    asked: dict[str, Any]
    bodies: tuple[int, ...] = ()
    start: str | None = READY
    end: str | None = None
    later: bool = False


def search(id: str, n: int, **more: Any) -> dict[str, Any]:
    """Return an action that is allowed."""
    return {"id": id, "type": "tool_call", "tool": "search", "parameters": {"n": n}, **more}


WRITE = {"id": "w", "type": "state_write", "parameters": {"key": "k", "value": 1}}
PAY = {"id": "pay", "type": "tool_call", "tool": "pay", "parameters": {"n": 2}}
UNDO = {
    "reversibility": "compensable",
    "compensation": {"type": "tool", "tool": "undo", "parameters": {"n": 9}},
}
ALLOWED = {"tool": "search", "args": {"n": 1}, "tools": ["search"]}
HELD = {"tool": "pay", "args": {"n": 1}, "tools": ["pay"], "resumes": True}
PLAN = {
    "proposal": {"id": "p", "actions": [WRITE, search("a", 1), PAY, search("c", 3)]},
    "tools": ["search", "pay"],
    "resumes": True,
}
UNDONE = {
    "proposal": {"id": "p", "actions": [WRITE, search("a", 1, **UNDO), PAY, FAIL]},
    "tools": ["search", "pay", "undo"],
}
SCENARIOS = {
    "allowed": Scenario(ALLOWED, bodies=(1,), start=None),
    "held": Scenario(HELD, bodies=(1,)),
    "plan": Scenario(PLAN, bodies=(1, 2, 3)),
    "undone": Scenario(UNDONE, bodies=(1, 2, 9), start="hold.claimed@1"),
    "allowed before": Scenario(ALLOWED, start=None, end=READY, later=True),
    "held before": Scenario(HELD, start=None, end=READY, later=True),
    "plan before": Scenario(PLAN, start=None, end=READY, later=True),
}

APPROVERS = {"approval.signed", "approval.written"}
"""Where a gate never comes: see `test_approvers.py`."""
HOLDS = {"hold.opened", "hold.committed", "resume.read", "hold.judged", "hold.claimed"}
PLANS = {name for name in POINTS if name.startswith("proposal.")}
ENDS = {"proposal.rolled_back", "proposal.compensated", "proposal.aborted", "proposal.completed"}
START = {"start.migrating", "start.migrated", "anchor.made", "run.started", "run.committed"}
TRANSACTIONS = {"transaction.begun", "transaction.written", "transaction.committed"}
NOT_APPLICABLE = {
    "allowed": APPROVERS | HOLDS | PLANS,
    "held": APPROVERS | PLANS | START | {"call.claimed"},
    "plan": APPROVERS | START | ENDS - {"proposal.completed"},
    "undone": APPROVERS
    | START
    | (HOLDS - {"hold.claimed"})
    | (PLANS - ENDS - {"proposal.between"})
    | {"proposal.completed"},
}
"""The points that a scenario does not come to, or where another one stands for it (a start).

The scenarios named "… before" have the starts alone: those of a store that is made already.
"""
MADE = {"start.migrating", "start.migrated", "anchor.made"}
BEFORE = set(POINTS) - (START | TRANSACTIONS) | MADE

FAULTS = {"gate killed": "kill", "client killed": "pause", "store error": "error", "full": "full"}
LASTING = ("transaction.begun", "run_tool.sent", "result.read", "shutdown.begun")
"""Where a store that stays full begins to be so: a single error comes at every point."""


@dataclass(frozen=True)
class Trace:
    """The points a scenario comes to, in order, each with its count; and how many precede it."""

    steps: tuple[str, ...]
    first: int
    last: int

    def tried(self, fault: str) -> list[str]:
        """Return the steps that meet a fault."""
        tried = self.steps[self.first : self.last]
        return [step for step in tried if fault != "full" or step.startswith(LASTING)]

    def in_doubt(self, step: str) -> int:
        """Return how many actions are in doubt when nothing is recorded from this step on.

        Those are the actions whose claim is committed by then, and whose end is not.
        """
        here, doubt, ends = self.steps.index(step), 0, 0
        for place, name in enumerate(self.steps):
            if place > here:
                break
            if name.startswith(("call.claimed@", "hold.claimed@")):
                doubt += self._committed(place) <= here
            if name.startswith("end.written@"):
                ends += self._committed(place) <= here
        return doubt - ends

    def _committed(self, place: int) -> int:
        rest = range(place, len(self.steps))
        return next(i for i in rest if self.steps[i].startswith("transaction.committed@"))


@pytest.fixture(scope="module")
def gates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with nursery(tmp_path_factory.mktemp("n")) as socket:
        yield socket


_TRACES: dict[str, Trace] = {}


def trace_of(name: str, folder: Path, gates: Path) -> Trace:
    """Return what a scenario comes to, from a run in which every point is told."""
    if name not in _TRACES:
        scenario = SCENARIOS[name]
        found = play(folder / "trace", scenario.asked, "*:tell", gates, later=scenario.later)
        assert found.problems == []
        assert found.in_doubt == 0
        steps = tuple(re.findall(r"fault: tell at (\S+)", found.stderr))
        first = 0 if scenario.start is None else steps.index(scenario.start)
        last = len(steps) if scenario.end is None else steps.index(scenario.end)
        _TRACES[name] = Trace(steps, first, last)
    return _TRACES[name]


@pytest.mark.parametrize("name", SCENARIOS)
def test_scenario_comes_to_every_point_but_those_that_are_listed(
    name: str, tmp_path: Path, gates: Path
) -> None:
    reached = {step.partition("@")[0] for step in trace_of(name, tmp_path, gates).tried("")}
    assert set(POINTS) - reached == NOT_APPLICABLE.get(name, BEFORE)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("name", SCENARIOS)
def test_nothing_runs_twice_or_unapproved_and_nothing_told_is_lost(
    name: str, fault: str, tmp_path: Path, gates: Path
) -> None:
    trace = trace_of(name, tmp_path, gates)
    action = FAULTS[fault]

    def check(step: str) -> list[str]:
        asked = f"{step}:{action}"
        scenario = SCENARIOS[name]
        folder = tmp_path / str(trace.steps.index(step))
        try:
            found = play(folder, scenario.asked, asked, gates, later=scenario.later)
        except Exception as error:  # noqa: BLE001 - the others are still to be seen
            return [f"{asked}: {error!r}"]
        problems = [f"{asked}: {problem}" for problem in found.problems]
        problems += [f"{asked}: {problem}" for problem in judged(found, trace, step, action)]
        if not problems:
            shutil.rmtree(folder)
        return problems

    with ThreadPoolExecutor(max_workers=(os.cpu_count() or 1) + 1) as pool:
        problems = [line for lines in pool.map(check, trace.tried(fault)) for line in lines]
    assert not problems, "\n".join(problems)


def judged(found: Found, trace: Trace, step: str, action: str) -> Iterator[str]:
    """Yield what is not as this fault at this step must leave it."""
    if found.code not in ((-signal.SIGKILL,) if action == "pause" else (0, 3)):
        yield f"the agent ended with {found.code}: it hangs, or is broken"
    if action == "pause":
        if not found.paused:
            yield "the point was not reached"
        if found.in_doubt > 1:
            yield f"{found.in_doubt} actions are in doubt"
        return
    if f"fault: {action} at {step}" not in found.stderr:
        yield "the point was not reached"
    expected = 0 if action == "error" else trace.in_doubt(step)
    if found.in_doubt != expected:
        yield f"{found.in_doubt} actions are in doubt, not {expected}"


@pytest.mark.parametrize("who", ["client", "gate"])
@pytest.mark.parametrize("name", [name for name in SCENARIOS if SCENARIOS[name].bodies])
def test_body_under_which_somebody_is_killed_is_in_doubt_and_not_run_again(
    name: str, who: str, tmp_path: Path, gates: Path
) -> None:
    scenario = SCENARIOS[name]
    for n in scenario.bodies:
        found = play(tmp_path / str(n), scenario.asked, None, gates, dies=(who, n))
        begun = [line for line in found.effects if re.fullmatch(rf"begin \w+ {n}", line)]
        assert found.problems == []
        assert len(begun) == 1
        assert found.in_doubt == 1
