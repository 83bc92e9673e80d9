"""Measuring in turns: everything that is compared runs A B A B …, so that noise meets all alike."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias, TypeVar

T = TypeVar("T")
Lane: TypeAlias = Callable[[], object]
"""Does once what is measured."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured."""

    rounds: int
    turn: float
    """Seconds of one turn."""
    starts: int
    """Rounds of what starts a process each time."""
    events: int
    """Length of the long journal."""
    million: int
    """Length of the longest journal."""
    growth_calls: int
    """Calls after which the gate's memory is looked at again."""
    waiting: int
    """Calls that are held at once."""
    patience: float
    """Seconds after which no further round is begun, once there are :data:`ENOUGH`."""


ENOUGH = 3
FULL = Plan(
    rounds=15,
    turn=0.25,
    starts=21,
    events=100_000,
    million=1_000_000,
    growth_calls=100_000,
    waiting=1_000,
    patience=60.0,
)
QUICK = Plan(
    rounds=7,
    turn=0.06,
    starts=5,
    events=5_000,
    million=20_000,
    growth_calls=3_000,
    waiting=200,
    patience=2.0,
)
SMOKE = Plan(
    rounds=1,
    turn=0.002,
    starts=1,
    events=40,
    million=2_000,
    growth_calls=20,
    waiting=3,
    patience=2.0,
)
"""Tells whether everything still works; its figures mean nothing."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One lane's turn in one round. Times are in microseconds."""

    p50: float
    p99: float
    calls: int


@dataclass(frozen=True, slots=True)
class Compared:
    """What is measured against what it is measured by: medians over the rounds.

    ``ratio`` is the median of the rounds' own ratios, ``low`` and ``high`` their quartiles.
    """

    subject: float
    floor: float
    ratio: float
    low: float
    high: float


def in_turns(
    takers: Mapping[str, Callable[[], T]], rounds: int, patience: float
) -> dict[str, list[T]]:
    """Let each take its turn, one after the other, for some rounds, after one that is warm-up."""
    taken: dict[str, list[T]] = {name: [] for name in takers}
    started = time.perf_counter()
    for number in range(rounds + 1):
        for name, take in takers.items():
            turn = take()
            if number:
                taken[name].append(turn)
        if number >= ENOUGH and time.perf_counter() - started > patience:
            break
    return taken


def lanes_in_turns(lanes: Mapping[str, Lane], plan: Plan) -> dict[str, list[Turn]]:
    """Measure lanes in turns of the plan's length."""
    takers = {name: partial(take_turn, lane, plan.turn) for name, lane in lanes.items()}
    return in_turns(takers, plan.rounds, plan.patience)


def take_turn(lane: Lane, seconds: float) -> Turn:
    """Call a lane for so many seconds, and once at least."""
    clock, times = time.perf_counter, []
    now = clock()
    end = now + seconds
    while True:
        started = now
        lane()
        now = clock()
        times.append(now - started)
        if now >= end:
            break
    return turn_of(times)


def turn_of(times: list[float]) -> Turn:
    """Return the turn in which a lane took these times, in seconds."""
    times.sort()
    count = len(times)
    return Turn(times[count // 2] * 1e6, times[count * 99 // 100] * 1e6, count)


def compare(subject: Sequence[float], floor: Sequence[float]) -> Compared:
    """Compare two series of the same rounds."""
    ratios = [one / other for one, other in zip(subject, floor, strict=True)]
    low, ratio, high = quartiles(ratios)
    return Compared(statistics.median(subject), statistics.median(floor), ratio, low, high)


def p50(turns: Sequence[Turn]) -> list[float]:
    """Return each round's median."""
    return [turn.p50 for turn in turns]


def p99(turns: Sequence[Turn]) -> list[float]:
    """Return each round's 99th percentile."""
    return [turn.p99 for turn in turns]


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Return the quartiles; a single value is all three."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high
