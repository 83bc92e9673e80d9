"""What a figure is, and a reading of it: a value, the floor it is compared with, and its target."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from measure import Plan, compare
from states import STATES, State


@dataclass(frozen=True, slots=True)
class Target:
    """A bound on a reading's ratio or on its own value; at most, unless ``at_least``."""

    bound: float
    of: Literal["ratio", "value"] = "ratio"
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Reading:
    """One measured figure: ``value`` and ``floor`` in ``unit``.

    ``low`` and ``high`` are the quartiles of the rounds' ratios: what the machine's noise made of
    them. ``targets`` are by state.
    """

    what: str
    unit: str
    value: float
    floor_is: str | None = None
    floor: float | None = None
    ratio: float | None = None
    low: float | None = None
    high: float | None = None
    targets: Mapping[State, Target] | None = None

    def met(self, state: State) -> bool | None:
        """Tell whether the target is met; ``None`` where there is none."""
        target = (self.targets or {}).get(state)
        measured = self.ratio if target is not None and target.of == "ratio" else self.value
        if target is None or measured is None:
            return None
        return measured >= target.bound if target.at_least else measured <= target.bound


@dataclass(frozen=True, slots=True)
class Prepared:
    """A figure that can be measured; ``others`` are the processes that this one talks to for it."""

    measure: Callable[[], Sequence[Reading]]
    others: tuple[int, ...] = ()


Prepare: TypeAlias = Callable[[Plan, Path], AbstractContextManager[Prepared]]


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, and the states in which it means something; a ``long`` one is none of --quick."""

    prepare: Prepare
    states: tuple[State, ...] = STATES
    long: bool = False


def always(bound: float, of: Literal["ratio", "value"] = "ratio") -> dict[State, Target]:
    """Return a target that is the same in every state."""
    return {state: Target(bound, of) for state in STATES}


def against(
    what: str,
    subject: Sequence[float],
    floor_is: str,
    floor: Sequence[float],
    targets: Mapping[State, Target] | None = None,
    unit: str = "µs",
) -> Reading:
    """Return a reading of something measured in turns with what it is compared with."""
    compared = compare(subject, floor)
    return Reading(
        what,
        unit,
        compared.subject,
        floor_is,
        compared.floor,
        compared.ratio,
        compared.low,
        compared.high,
        targets,
    )
