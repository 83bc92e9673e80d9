"""JSON values as the gate understands them: strict parsing, canonical bytes, digests, equality.

Canonical bytes are what hashes, digests and signatures are computed over: object keys sorted by
code point, no insignificant white space, UTF-8, integers exact, finite numbers only.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias

import jiter
import orjson

from toolgate.errors import JSONError

JSONValue: TypeAlias = Any
"""``None``, ``bool``, ``int``, ``float``, ``str``, ``list`` or ``dict`` with string keys."""

_EACH = 16
MAX_DEPTH = 200
"""Levels of arrays and objects in one JSON text; what is deeper is neither read nor written."""

# That both ways begin with one digit is what makes the search fast.
_MAY_OVERFLOW = re.compile(rb"[0-9](?:[eE]\+?[0-9]{2}|[0-9]{299})")
PLACE = re.compile("0|[1-9][0-9]*")
"""How a JSON pointer writes a place in an array (RFC 6901)."""
_STRICT = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_PASSTHROUGH_DATACLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_SUBCLASS
)
_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def parse(text: bytes) -> JSONValue:
    """Parse one JSON text (UTF-8).

    Raises :class:`JSONError` for a syntax error, trailing text, an object with a key twice, ``NaN``
    or ``Infinity``, a number beyond a double's range, a lone surrogate, or nesting deeper than
    :data:`MAX_DEPTH`.
    """
    try:
        value = jiter.from_json(
            text, allow_inf_nan=False, catch_duplicate_keys=True, cache_mode="keys"
        )
    except ValueError as error:
        raise JSONError(str(error)) from None
    # jiter reads 1e400 as infinity; only a long digit run or a large exponent can do that.
    if _MAY_OVERFLOW.search(text) and not _finite(value):
        raise JSONError("a number is too large for JSON's double precision")
    return value


def canonical(value: JSONValue) -> bytes:
    """Return the canonical bytes of ``value``, which :func:`parse` can read.

    Raises :class:`JSONError` when it is not JSON, or nested deeper than :data:`MAX_DEPTH`.
    """
    try:
        text = orjson.dumps(value, option=_STRICT)
    except TypeError:
        # orjson knows 64-bit integers only; the standard library knows them all, but is slower.
        text = _canonical_slowly(value)
    # A short text cannot be nested deeply, nor can few brackets: only the rest is walked through.
    if (
        len(text) > 2 * MAX_DEPTH
        and text.count(b"[") + text.count(b"{") > MAX_DEPTH
        and too_deep(value, MAX_DEPTH)
    ):
        raise JSONError(f"nested deeper than {MAX_DEPTH} levels")
    if b"null" in text and not _finite(value):
        # orjson writes null for NaN and the infinities.
        raise JSONError("not a JSON value: a number is not finite")
    return text


def _canonical_slowly(value: JSONValue) -> bytes:
    if not all(
        isinstance(key, str) for item in _items(value) if isinstance(item, dict) for key in item
    ):
        raise JSONError("not a JSON value: an object has a key that is not a string")
    try:
        return _ENCODER.encode(value).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise JSONError(f"not a JSON value: {error}") from None


def digest(value: JSONValue) -> str:
    """Return ``sha256:<hex>`` over the canonical bytes of ``value``."""
    return "sha256:" + hashlib.sha256(canonical(value)).hexdigest()


def equal(left: JSONValue, right: JSONValue) -> bool:
    """Compare as JSON: a boolean never equals a number, 1 equals 1.0, objects compare by key."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, (dict, list)) or isinstance(right, (dict, list)):
        return False
    return bool(left == right)


def too_deep(value: JSONValue, most: int) -> bool:
    """Tell whether arrays and objects in ``value`` are nested deeper than ``most`` levels."""
    level = [value]
    for _ in range(most + 1):
        level = [
            child
            for item in level
            if isinstance(item, (dict, list))
            for child in (item.values() if isinstance(item, dict) else item)
        ]
        if not level:
            return False
    return True


def size(value: JSONValue, most: int) -> int:
    """Return about how many bytes ``value`` takes, counted up to a little over ``most``.

    Each of the values in it counts as 16 bytes besides its text: many small ones are as much work
    as a few large ones.
    """
    total, stack = 0, [value]
    while stack and total <= most:
        item = stack.pop()
        if isinstance(item, str):
            total += len(item) + _EACH
        elif isinstance(item, dict):
            total += sum(map(len, item)) + _EACH
            stack.extend(item.values())
        else:
            total += _EACH
            if isinstance(item, list):
                stack.extend(item)
    return total


def _finite(value: JSONValue) -> bool:
    return all(math.isfinite(item) for item in _items(value) if isinstance(item, float))


def _items(value: JSONValue) -> Iterator[JSONValue]:
    """Iterate over a value and everything in it."""
    stack = [value]
    while stack:
        item = stack.pop()
        yield item
        if isinstance(item, dict):
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            stack.extend(item)


def pointer(path: Iterable[str | int]) -> str:
    """Return the JSON pointer (RFC 6901) of a path of keys and places."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


def pointer_parts(pointer: str) -> list[str]:
    """Return the parts of a JSON pointer, unescaped; raises :class:`ValueError` for another text.

    That of a whole value, the empty one, is refused as well.
    """
    if not pointer.startswith("/") or re.search(r"~(?![01])", pointer):
        raise ValueError(
            f"{pointer!r} is not a JSON pointer: one begins with /, and in it ~ is written ~0 and "
            "/ is written ~1"
        )
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer[1:].split("/")]


def value_at(value: JSONValue, pointer: str) -> tuple[tuple[str | int, ...], JSONValue] | None:
    """Return the path and the value that a JSON pointer leads to, ``None`` when it leads nowhere.

    Raises :class:`ValueError` for a text that is no pointer.
    """
    path: list[str | int] = []
    for part in pointer_parts(pointer):
        place: str | int = part
        if isinstance(value, list) and PLACE.fullmatch(part) and int(part) < len(value):
            place = int(part)
        elif not (isinstance(value, dict) and part in value):
            return None
        value = value[place]
        path.append(place)
    return tuple(path), value


def with_value(value: JSONValue, path: tuple[str | int, ...], item: JSONValue) -> JSONValue:
    """Return a value with ``item`` at a path that is in it; what is not on the way is shared."""
    if not path:
        return item
    changed = value.copy()
    changed[path[0]] = with_value(value[path[0]], path[1:], item)
    return changed
