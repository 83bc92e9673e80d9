"""References: parameters that stand for the output of another action.

A string value that is exactly ``$<id>.output``, or ``$<id>.output.<path>``, anywhere in an action's
parameters stands for that output, or for what ``path`` leads to in it: the keys of objects and the
indexes of arrays, with dots between them. An id reaches to the first ``.output``. Such text with
one more ``$`` before it is the text itself: ``$$a.output`` means ``$a.output``. Any other string
is what it is, and so are the keys of objects.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from toolgate.errors import ToolgateError
from toolgate.jsonvalue import JSONValue

_REFERENCE: Final = re.compile(r"\$([^$].*?)\.output(?:\.(.+))?", re.DOTALL)
_ESCAPED: Final = re.compile(r"\$\$+[^$].*?\.output(?:\..+)?", re.DOTALL)
_INDEX: Final = re.compile(r"0|[1-9][0-9]{0,17}")
_NOTHING: Final[frozenset[str]] = frozenset()


class UnresolvedReference(ToolgateError):
    """A reference leads to nothing: no such output, or its path leads nowhere."""


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


def resolve(value: JSONValue, outputs: Mapping[str, JSONValue]) -> JSONValue:
    """Return ``value`` with every reference replaced, and with escaped text as what it means.

    ``outputs`` are the outputs of the actions that succeeded, by id. ``value`` is left as it is,
    and is returned itself when there is nothing to replace in it; outputs are not copied. Raises
    :class:`UnresolvedReference` for the first reference that leads to nothing.
    """
    return value if is_plain(value) else _resolve(value, outputs)


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


def _resolve(value: JSONValue, outputs: Mapping[str, JSONValue]) -> JSONValue:
    if isinstance(value, str):
        return _resolve_text(value, outputs)
    if isinstance(value, dict):
        return {key: _resolve(item, outputs) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, outputs) for item in value]
    return value


def _resolve_text(text: str, outputs: Mapping[str, JSONValue]) -> JSONValue:
    match = is_reference(text)
    if match is None:
        return text[1:] if text[:2] == "$$" and _ESCAPED.fullmatch(text) else text
    action, path = match.groups()
    if action not in outputs:
        raise UnresolvedReference(f"{text!r}: there is no output of {action!r}")
    found = outputs[action]
    for step in () if path is None else path.split("."):
        if isinstance(found, dict) and step in found:
            found = found[step]
        elif isinstance(found, list) and _INDEX.fullmatch(step) and int(step) < len(found):
            found = found[int(step)]
        else:
            raise UnresolvedReference(
                f"{text!r}: the output of {action!r} has nothing there ({_lacks(found, step)})"
            )
    return found


def _lacks(value: JSONValue, step: str) -> str:
    """Say why ``step`` leads nowhere in ``value``."""
    if isinstance(value, dict):
        return f"no key {step!r}"
    if isinstance(value, list):
        return f"no index {step!r} in an array of {len(value)}"
    return f"{step!r} of what is neither an object nor an array"
