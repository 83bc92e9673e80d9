"""What actions read and write of the session's state.

1. A *writer* of a key is a ``state_write`` of it, or an action with it in ``expected_effects``; a
   *reader* names it in ``state_dependencies``, or is a ``state_read`` or ``assertion`` of it.
2. An action that succeeds commits its ``expected_effects``, then its own write; an absent ``value``
   is null.
3. ``state_read`` puts out the value, null if the key is absent. ``assertion`` compares the value
   (absent: null) with ``expected`` (absent: null) as JSON.
4. A state action whose key is a reference reads or writes a key that nobody knows before it runs,
   so it is a reader or writer of none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from toolgate.ir import Action, ActionType
from toolgate.jsonvalue import JSONValue, equal
from toolgate.plan.references import is_reference, resolve
from toolgate.plan.text import shown


@dataclass(frozen=True, slots=True)
class StateOutcome:
    """What a state action came to: its output, or the text of why it failed."""

    output: JSONValue
    error: str | None = None


def malformed(action: Action) -> str | None:
    """Return why the action cannot be carried out, whatever the tools and the state; else None.

    A ``tool_call`` names a tool; a state action has a string as ``parameters.key``.
    """
    if action.type is ActionType.TOOL_CALL:
        return None if action.tool else "a tool_call names its tool, and this one names none"
    if "key" not in action.parameters:
        return f"a {action.type.value} names its state key in parameters.key, which is missing"
    if not isinstance(action.parameters["key"], str):
        return f"the parameters.key of a {action.type.value} is a string"
    return None


def written_keys(action: Action) -> frozenset[str]:
    """Return the keys that the action, as it was proposed, writes when it succeeds."""
    own = _own_key(action) if action.type is ActionType.STATE_WRITE else None
    return frozenset(action.expected_effects if own is None else (*action.expected_effects, own))


def read_keys(action: Action) -> frozenset[str]:
    """Return the keys that the action, as it was proposed, reads."""
    reads = action.type in (ActionType.STATE_READ, ActionType.ASSERTION)
    own = _own_key(action) if reads else None
    return frozenset(
        action.state_dependencies if own is None else (*action.state_dependencies, own)
    )


def touched_keys(action: Action) -> frozenset[str]:
    """Return every key that the action names, whatever for: what capabilities are asked about.

    The references in its parameters have been resolved, so its own key is taken as it is.
    """
    keys = {
        *action.expected_effects,
        *action.state_dependencies,
        *(condition.key for condition in action.preconditions),
    }
    own = action.parameters.get("key")
    if action.type is not ActionType.TOOL_CALL and isinstance(own, str):
        keys.add(own)
    return frozenset(keys)


def writes(action: Action) -> dict[str, JSONValue]:
    """Return what the success of a well-formed action commits to state.

    The references in its parameters have been resolved.
    """
    committed = dict(action.expected_effects)
    if action.type is ActionType.STATE_WRITE:
        committed[action.parameters["key"]] = action.parameters.get("value")
    return committed


def run(action: Action, state: Mapping[str, JSONValue]) -> StateOutcome:
    """Carry out a well-formed state action on ``state``, which it does not change.

    The references in its parameters have been resolved. What it writes is :func:`writes`.
    """
    key = action.parameters["key"]
    actual = state.get(key)
    match action.type:
        case ActionType.STATE_WRITE:
            return StateOutcome(f"written: {key}")
        case ActionType.STATE_READ:
            return StateOutcome(actual)
        case ActionType.ASSERTION:
            expected = action.parameters.get("expected")
            if equal(actual, expected):
                return StateOutcome({"asserted": key, "value": actual})
            found = f"is {shown(actual)}" if key in state else "does not exist"
            return StateOutcome(None, f"state key {key!r} {found}; expected {shown(expected)}")
    raise ValueError(f"a {action.type.value} is no state action")


def _own_key(action: Action) -> str | None:
    """Return the key that a state action names, when it is known before the action runs."""
    key = action.parameters.get("key")
    if not isinstance(key, str) or is_reference(key):
        return None
    return str(resolve(key, {}))
