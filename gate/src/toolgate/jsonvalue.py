"""JSON values as the gate understands them: strict parsing, canonical bytes, digests, equality.

Canonical bytes are what hashes, digests and signatures are computed over: object keys sorted by
code point, no insignificant white space, UTF-8, integers exact, finite numbers only.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator
from typing import Any, TypeAlias

import jiter
import orjson

from toolgate.errors import JSONError

JSONValue: TypeAlias = Any
"""``None``, ``bool``, ``int``, ``float``, ``str``, ``list`` or ``dict`` with string keys."""

# That both ways begin with one digit is what makes the search fast.
_MAY_OVERFLOW = re.compile(rb"[0-9](?:[eE]\+?[0-9]{2}|[0-9]{299})")
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
    or ``Infinity``, a number beyond a double's range, a lone surrogate, or nesting deeper than 200.
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
    """Return the canonical bytes of ``value``; raises :class:`JSONError` when it is not JSON."""
    try:
        text = orjson.dumps(value, option=_STRICT)
    except TypeError:
        # orjson knows 64-bit integers only; the standard library knows them all, but is slower.
        return _canonical_slowly(value)
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
