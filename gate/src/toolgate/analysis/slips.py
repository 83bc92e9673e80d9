"""Slips: what a proposal says and its author hardly means. They all are warnings.

1. A field that the IR has none of is left out of the model without an error, as documents of other
   systems may have more: it is told, with the known name that is nearest. A state action has no
   parameters but ``key``, and ``value`` (``state_write``) or ``expected`` (``assertion``); those
   two are null when they are not there.
2. A compensation runs when a success is undone, and nothing is undone of what is ``irreversible``,
   as every action is that does not say otherwise.
3. ``max_retries`` counts with ``failure_behavior: retry`` only. Nothing is said of the default that
   stands beside a ``failure_behavior``, as in a document in which every field is written out.
4. A reference is the whole of a text in parameters. A text that has ``$ID.output`` of an action
   within it, or begins with ``$ID.``, or is ``$ID``, is passed on as it is; and so is a reference
   in ``expected_effects`` or in the value of a precondition. One more ``$`` says that it is meant.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import get_close_matches
from functools import lru_cache
from typing import Final

from toolgate.analysis.issues import Issue
from toolgate.ir import (
    Action,
    ActionProposal,
    ActionType,
    FailureBehavior,
    Precondition,
    ToolCompensation,
)
from toolgate.jsonvalue import JSONValue
from toolgate.plan.references import is_reference
from toolgate.plan.text import shown

_PARAMETERS: Final[Mapping[ActionType, tuple[str, ...]]] = {
    ActionType.STATE_WRITE: ("key", "value"),
    ActionType.STATE_READ: ("key",),
    ActionType.ASSERTION: ("key", "expected"),
}
_NULL: Final = {
    ActionType.STATE_WRITE: ("value", "writes"),
    ActionType.ASSERTION: ("expected", "compares with"),
}
_SHOWN: Final = 8
_LONGEST_NAME: Final = 64
_LONGEST_ID: Final = 256
_DOLLAR: Final = re.compile(r"(?<!\$)\$\{?(?!\$)")


def of_proposal(proposal: ActionProposal) -> Iterator[Issue]:
    """Find the slips that the model of a proposal shows."""
    ids = {action.id for action in proposal.actions}
    for action in proposal.actions:
        yield from _of_null(action)
        yield from _of_compensation(action)
        yield from _of_references(action, ids)


def of_sent(sent: Mapping[str, JSONValue], proposal: ActionProposal) -> Iterator[Issue]:
    """Find the slips that only the JSON shows which ``proposal`` was read from."""
    yield from _unknown(None, sent, "a proposal", tuple(ActionProposal.model_fields))
    for said, action in zip(sent["actions"], proposal.actions, strict=True):
        yield from _unknown(action.id, said, "an action", tuple(Action.model_fields))
        if action.type in _PARAMETERS:
            kind = f"the parameters (type {action.type.value})"
            yield from _unknown(action.id, action.parameters, kind, _PARAMETERS[action.type])
        for number, condition in enumerate(said.get("preconditions", ()), start=1):
            kind = f"a precondition (number {number})"
            yield from _unknown(action.id, condition, kind, tuple(Precondition.model_fields))
        undo = action.compensation
        if undo is not None:
            kind = f"a compensation (type {undo.type})"
            fields = tuple(type(undo).model_fields)
            yield from _unknown(action.id, said["compensation"], kind, fields)
        yield from _of_retries(said, action)


def _unknown(
    id: str | None, said: Mapping[str, JSONValue], owner: str, known: tuple[str, ...]
) -> Iterator[Issue]:
    """Find fields that ``owner`` has none of."""
    unknown = [name for name in said if name not in known]
    for name in unknown[:_SHOWN]:
        near = _nearest(name, known) if len(name) <= _LONGEST_NAME else None
        hint = f"there are {', '.join(known)}" if near is None else f'did you mean "{near}"?'
        message = f"{shown(name)} is no field of {owner}, and is ignored: {hint}"
        yield Issue(id, "warning", "unknown_field", message)
    if len(unknown) > _SHOWN:
        message = f"{len(unknown) - _SHOWN} more are no fields of {owner}, and are ignored"
        yield Issue(id, "warning", "unknown_field", message)


@lru_cache(maxsize=256)
def _nearest(name: str, known: tuple[str, ...]) -> str | None:
    return next(iter(get_close_matches(name, known, n=1)), None)


def _of_null(action: Action) -> Iterator[Issue]:
    name, does = _NULL.get(action.type, ("", ""))
    if name and name not in action.parameters and "key" in action.parameters:
        message = f"its parameters have no {name!r}, so it {does} null: say so, if that is meant"
        yield Issue(action.id, "warning", "no_value", message)


def _of_compensation(action: Action) -> Iterator[Issue]:
    if action.compensation is None and action.reversibility == "compensable":
        message = "it is compensable and names no compensation, so an abort does not undo it"
        yield Issue(action.id, "warning", "no_compensation", message)
    if action.compensation is not None and action.reversibility == "irreversible":
        message = (
            "its compensation never runs, because its reversibility is 'irreversible', the "
            "default: write reversibility: compensable"
        )
        yield Issue(action.id, "warning", "idle_compensation", message)


def _of_retries(said: Mapping[str, JSONValue], action: Action) -> Iterator[Issue]:
    if not said.get("max_retries") or action.failure_behavior is FailureBehavior.RETRY:
        return
    default = Action.model_fields["max_retries"].default
    if "failure_behavior" in said and action.max_retries == default:
        return
    message = (
        "its max_retries is of no use: only with failure_behavior: retry is a failure tried again, "
        f"and this one has {action.failure_behavior.value}"
    )
    yield Issue(action.id, "warning", "idle_retries", message)


def _of_references(action: Action, ids: Collection[str]) -> Iterator[Issue]:
    for pointer, text in _texts(action.parameters):
        yield from _of_parameter(action.id, pointer, text, ids)
    if isinstance(action.compensation, ToolCompensation):
        for pointer, text in _texts(action.compensation.parameters):
            for issue in _of_parameter(action.id, pointer, text, ids):
                yield issue.of_compensation()
    elsewhere: list[tuple[str, JSONValue]] = [("expected_effects", action.expected_effects)]
    elsewhere += [("preconditions", condition.value) for condition in action.preconditions]
    for field, value in elsewhere:
        for _, text in _texts(value):
            match = is_reference(text)
            if match is not None and match[1] in ids:
                message = f"{field}: {shown(text)} is text: only parameters have references"
                yield Issue(action.id, "warning", "no_reference", message, "heuristic")


def _of_parameter(id: str, pointer: str, text: str, ids: Collection[str]) -> Iterator[Issue]:
    if is_reference(text) is None and (meant := _meant(text, ids)) is not None:
        message = (
            f"{pointer}: {shown(text)} is passed on as it is: a reference is the whole string, "
            f'"${meant}.output" or "${meant}.output.PATH"'
        )
        yield Issue(id, "warning", "no_reference", message, "heuristic")


def _meant(text: str, ids: Collection[str]) -> str | None:
    """Return the action whose output a text seems to mean, which is no reference itself."""
    for dollar in _DOLLAR.finditer(text):
        start = dollar.end()
        end = text.find(".output", start, start + _LONGEST_ID + len(".output"))
        if end != -1 and text[start:end] in ids:
            return text[start:end]
    if text[:1] == "$":
        head = text[1 : _LONGEST_ID + 2]
        ends = [place for place, char in enumerate(head) if char == "."]
        candidates = [head[:end] for end in ends] + [text[1:]]
        return next((id for id in candidates if id in ids), None)
    return None


def _texts(value: JSONValue, pointer: str = "") -> Iterator[tuple[str, str]]:
    """Find the texts in a value that have a ``$``, each with its JSON pointer."""
    if isinstance(value, str):
        if "$" in value:
            yield pointer or "/", value
    elif isinstance(value, dict):
        for key, item in value.items():
            step = key.replace("~", "~0").replace("/", "~1")
            yield from _texts(item, f"{pointer}/{step}")
    elif isinstance(value, list):
        for place, item in enumerate(value):
            yield from _texts(item, f"{pointer}/{place}")
