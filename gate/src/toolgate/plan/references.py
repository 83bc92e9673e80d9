"""References: parameters that stand for the output of another action.

A string value that is exactly ``$<id>.output``, or ``$<id>.output.<path>``, anywhere in an action's
parameters stands for that output, or for what ``path`` leads to in it: the keys of objects and the
indexes of arrays, with dots between them. An id reaches to the first ``.output``. Such text with
one more ``$`` before it is the text itself: ``$$a.output`` means ``$a.output``. Any other string
is what it is, and so are the keys of objects.

A short plan could make values as large, and as deep, as it likes by referring to one twice, again
and again: what comes of references is bounded.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from toolgate.errors import ToolgateError
from toolgate.jsonvalue import JSONValue, size, too_deep

_REFERENCE: Final = re.compile(r"\$([^$].*?)\.output(?:\.(.+))?", re.DOTALL)
_ESCAPED: Final = re.compile(r"\$\$+[^$].*?\.output(?:\..+)?", re.DOTALL)
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_NOTHING: Final[frozenset[str]] = frozenset()

LARGEST: Final = 4 * 1024 * 1024
"""About how many bytes all that references put into one action's parameters may take together."""
MOST: Final = 4 * LARGEST
"""About how many bytes references may put into all of a proposal's parameters, and state into its
outputs."""
DEEPEST: Final = 128
"""Levels that parameters may have with what references put into them; JSON texts may have more."""


class Room:
    """How much may still be put into one proposal: see :data:`MOST`."""

    def __init__(self) -> None:
        """Nothing was put into it yet."""
        self.left = MOST

    def take(self, value: JSONValue) -> bool:
        """Make room for ``value``, and tell whether there was enough."""
        self.left -= size(value, max(self.left, 0))
        return self.left >= 0


class UnresolvedReference(ToolgateError):
    """A reference leads to nothing: no such output, its path leads nowhere, or it is too much."""


def referenced(value: JSONValue) -> frozenset[str]:
    """Return the ids of the actions whose outputs ``value`` refers to."""
    found: set[str] = set()
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if match := is_reference(item):
                found.add(match[1])
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return frozenset(found) if found else _NOTHING


def is_reference(text: str) -> re.Match[str] | None:
    """Return the match of a reference, its groups the id and the path (or None); else None."""
    return _REFERENCE.fullmatch(text) if text[:1] == "$" else None


def resolve(
    value: JSONValue, outputs: Mapping[str, JSONValue], room: Room | None = None
) -> JSONValue:
    """Return ``value`` with every reference replaced, and with escaped text as what it means.

    ``outputs`` are the outputs of the actions that succeeded, by id. ``value`` is left as it is,
    and is returned itself when there is nothing to replace in it; outputs are not copied. Raises
    :class:`UnresolvedReference` for the first reference that leads to nothing, and when the result
    is larger than :data:`LARGEST`, deeper than :data:`DEEPEST`, or more than ``room`` is there for.
    """
    if is_plain(value):
        return value
    resolved = _Resolver(outputs, room or Room()).resolve(value)
    if too_deep(resolved, DEEPEST):
        raise UnresolvedReference(
            f"with what its references put into them, the parameters are nested deeper than "
            f"{DEEPEST} levels"
        )
    return resolved


def is_plain(value: JSONValue) -> bool:
    """Tell whether no string in ``value`` begins with ``$``, so that resolving changes nothing."""
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            if item[:1] == "$":
                return False
        elif isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return True


class _Resolver:
    """Puts outputs into one action's parameters, as long as they are not too large together."""

    def __init__(self, outputs: Mapping[str, JSONValue], room: Room) -> None:
        self._outputs = outputs
        self._room = room
        self._left = LARGEST

    def resolve(self, value: JSONValue) -> JSONValue:
        if isinstance(value, str):
            match = is_reference(value)
            return _text(value) if match is None else self._output(match)
        if isinstance(value, dict):
            return {key: self.resolve(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.resolve(item) for item in value]
        return value

    def _output(self, match: re.Match[str]) -> JSONValue:
        found = _follow(match, self._outputs)
        self._left -= size(found, self._left)
        if self._left < 0 or not self._room.take(found):
            raise UnresolvedReference(
                f"{match[0]!r}: what references put into these parameters is larger than "
                f"{LARGEST} bytes, or into the whole proposal larger than {MOST}"
            )
        return found


def _text(text: str) -> str:
    return text[1:] if text[:2] == "$$" and _ESCAPED.fullmatch(text) else text


def _follow(match: re.Match[str], outputs: Mapping[str, JSONValue]) -> JSONValue:
    """Return what a reference leads to."""
    text = match[0]
    action, path = match.groups()
    if action not in outputs:
        raise UnresolvedReference(f"{text!r}: there is no output of {action!r}")
    found = outputs[action]
    steps = [] if path is None else path.split(".")
    for place, step in enumerate(steps):
        if isinstance(found, dict) and step in found:
            found = found[step]
        elif isinstance(found, list) and _INDEX.fullmatch(step) and int(step) < len(found):
            found = found[int(step)]
        else:
            within = f"{'.'.join(steps[:place])!r} in " if place else ""
            where = f"{within}the output of {action!r}"
            raise UnresolvedReference(f"{text!r}: {where} {_lacks(found, step)}")
    return found


def _lacks(value: JSONValue, step: str) -> str:
    """Say why ``step`` leads nowhere in ``value``."""
    if isinstance(value, dict):
        return f"has no member {step!r}"
    if isinstance(value, list):
        return f"is an array of {len(value)}: it has no index {step!r}"
    if value is None:
        kind = "null"
    elif isinstance(value, bool):
        kind = "a boolean"
    else:
        kind = "a string" if isinstance(value, str) else "a number"
    return f"is {kind}: it has no member {step!r}"
