"""Whether two proposals leave the same state. It samples: equal answers are no proof."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from toolgate.analysis.simulate import simulate
from toolgate.ir import ActionProposal
from toolgate.jsonvalue import JSONValue, equal

DEFAULT_STATES: Final[tuple[Mapping[str, JSONValue], ...]] = ({}, {"x": 1, "y": 2})
"""The states from which two proposals are compared when nobody names others."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A state from which two proposals leave different ones, and those two."""

    state: dict[str, JSONValue]
    a: dict[str, JSONValue]
    b: dict[str, JSONValue]

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape."""
        return {"state": self.state, "a": self.a, "b": self.b}


@dataclass(frozen=True, slots=True)
class Equivalence:
    """The states from which two proposals differ; none: they are equivalent on the sample."""

    differences: tuple[Difference, ...]

    @property
    def equivalent(self) -> bool:
        """Whether no difference was found."""
        return not self.differences

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape."""
        differences = [difference.to_json() for difference in self.differences]
        return {"equivalent": self.equivalent, "differences": differences}


def equivalent(
    a: ActionProposal,
    b: ActionProposal,
    states: Iterable[Mapping[str, JSONValue]] = DEFAULT_STATES,
) -> Equivalence:
    """Compare what two proposals leave of each given state, as JSON.

    Values that only a tool's output could tell are equal when they refer to the same output of the
    same action.
    """
    differences = []
    for state in states:
        left, right = simulate(a, state).state, simulate(b, state).state
        if not equal(left, right):
            differences.append(Difference(dict(state), left, right))
    return Equivalence(tuple(differences))
