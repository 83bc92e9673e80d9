"""Preconditions: what must hold of the session's state before an action may run.

1. On a missing key nothing holds but ``not_exists``; a key whose value is null is there.
2. ``eq`` and ``neq`` compare as JSON: a boolean never equals a number, 1 equals 1.0.
3. ``gt``, ``lt``, ``gte`` and ``lte`` hold of two numbers only; a boolean is none.
4. ``contains`` holds of a string and a part of it, of an array and an equal member, and of an
   object and one of its keys; of nothing else.
5. An operator that is none of these never holds.
"""

from __future__ import annotations

import operator as operators
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from toolgate.ir import Precondition
from toolgate.jsonvalue import JSONValue, equal
from toolgate.plan.text import shown

_ORDER: Final[Mapping[str, Callable[[JSONValue, JSONValue], bool]]] = {
    "gt": operators.gt,
    "lt": operators.lt,
    "gte": operators.ge,
    "lte": operators.le,
}
OPERATORS: Final = frozenset({"eq", "neq", "exists", "not_exists", "contains", *_ORDER})
"""The operators that there are."""


def failures(preconditions: Iterable[Precondition], state: Mapping[str, JSONValue]) -> list[str]:
    """Return a sentence for people about each precondition that does not hold of ``state``."""
    return [
        _failure(precondition, state)
        for precondition in preconditions
        if not holds(
            precondition.operator,
            precondition.key in state,
            state.get(precondition.key),
            precondition.value,
        )
    ]


def holds(operator: str, present: bool, actual: JSONValue, expected: JSONValue) -> bool:
    """Tell whether ``operator`` holds of a key that is ``present`` and has the value ``actual``."""
    if operator == "not_exists" or not present:
        return operator == "not_exists" and not present
    if operator in _ORDER:
        return _number(actual) and _number(expected) and _ORDER[operator](actual, expected)
    match operator:
        case "exists":
            return True
        case "eq":
            return equal(actual, expected)
        case "neq":
            return not equal(actual, expected)
        case "contains":
            return _contains(actual, expected)
    return False


def _contains(actual: JSONValue, expected: JSONValue) -> bool:
    if isinstance(actual, list):
        return any(equal(item, expected) for item in actual)
    return isinstance(actual, (str, dict)) and isinstance(expected, str) and expected in actual


def _number(value: JSONValue) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _failure(precondition: Precondition, state: Mapping[str, JSONValue]) -> str:
    key, operator = precondition.key, precondition.operator
    if operator not in OPERATORS:
        said = f"{operator!r} is no operator (they are {', '.join(sorted(OPERATORS))})"
    else:
        wanted = "" if operator.endswith("exists") else f" {shown(precondition.value)}"
        actual = f"it is {shown(state[key])}" if key in state else "there is no such key"
        said = f"{operator}{wanted} does not hold: {actual}"
    about = f" ({precondition.description})" if precondition.description else ""
    return f"state key {key!r}: {said}{about}"
