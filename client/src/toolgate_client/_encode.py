"""JSON in and out of Python values: strict text for the wire, a projection for any result.

Arguments must be JSON already: what policy judges is exactly what the caller wrote. A result may
be any object: the caller gets it live, and the gate gets the projection made here.
"""

from __future__ import annotations

import json
import math
import os
from binascii import b2a_base64
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from enum import Enum

TYPE_CHECKING = False  # importing typing takes longer than all of this package
if TYPE_CHECKING:
    from typing import Any

_MAX_DEPTH = 100
"""How deep a projection goes."""
_WIRE_DEPTH = 190
"""How deep a message's content may go: the gate takes 200 levels, some of which are the message's.
It could not tell which call a message was that it cannot read; so none is sent."""

_strict = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode
"""Writes what :func:`_check` has looked through, or :func:`_project` has made: nothing in it stands
inside itself."""


def to_wire(value: Any, what: str) -> bytes:
    """Return ``value`` as UTF-8 JSON text; ``what`` names it in the errors.

    Raises ``TypeError`` when a part of it is not JSON or a key is no string, ``ValueError`` for
    NaN, infinity, a lone surrogate, a value inside itself, or more than 190 levels.
    """
    try:
        _check((value,), _WIRE_DEPTH)
        return _strict(value).encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{what} cannot be sent: it contains a lone surrogate "
            f"({error.object[error.start]!a}), which UTF-8 cannot carry"
        ) from None
    except TypeError as error:
        raise TypeError(f"{what} cannot be sent as JSON: {error}") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{what} cannot be sent as JSON: {error}") from None


def _check(value: Any, levels: int) -> None:
    """Look into a dictionary or sequence for what the encoder would let pass."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                # The encoder would make it one, and two keys might become the same.
                raise TypeError(f"the key {key!r} is not a string")
        value = value.values()
    for item in value:
        if isinstance(item, (dict, list, tuple)):
            if not levels:
                raise ValueError(f"it is nested deeper than {_WIRE_DEPTH} levels, or inside itself")
            _check(item, levels - 1)


def default_encoder(value: Any) -> Any:
    """Return the JSON projection of any Python value; never fails for what it does not know.

    ========================================  ==================================================
    value                                     projection
    ========================================  ==================================================
    ``None``, booleans, strings, integers     themselves
    floats                                    themselves; ``"NaN"``, ``"Infinity"``, ``"-Infinity"``
    mappings                                  objects; a key that is no string becomes ``str(key)``
    lists, tuples                             arrays
    sets                                      arrays, sorted by their text
    dataclasses                               objects of their fields
    objects with ``model_dump`` (pydantic)    what ``model_dump(mode="json")`` returns
    enum members                              their value
    bytes, bytearrays, memoryviews            base64 text
    dates and times                           ``isoformat()``
    paths                                     their text
    arrays and scalars with ``tolist``        what ``tolist()`` returns
    everything else                           ``str(value)`` (decimals, UUIDs, exceptions …)
    ========================================  ==================================================

    A value inside itself becomes ``"<circular>"``, one nested deeper than 100 levels
    ``"<nested too deeply>"``, a lone surrogate in a text U+FFFD.
    """
    return _project(value, (), 0)


def _project(value: Any, above: tuple[int, ...], depth: int) -> Any:
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str:
        return _text(value)
    if kind is int:
        return _integer(value)
    if isinstance(value, Enum):
        return _project(value.value, above, depth + 1)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, str):
        return _text(str(value))
    if isinstance(value, int):
        return _integer(int(value))
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b2a_base64(bytes(value), newline=False).decode("ascii")
    if isinstance(value, os.PathLike):
        return _text(os.fsdecode(value))
    if id(value) in above:
        return "<circular>"
    if depth >= _MAX_DEPTH:
        return "<nested too deeply>"
    above = (*above, id(value))
    depth += 1
    if isinstance(value, Mapping):
        return {
            _text(key if isinstance(key, str) else str(key)): _project(item, above, depth)
            for key, item in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_project(item, above, depth) for item in value]
    if isinstance(value, AbstractSet):
        return sorted((_project(item, above, depth) for item in value), key=_strict)
    if isinstance(value, type):
        return _text(repr(value))
    return _object(value, above, depth)


def _object(value: Any, above: tuple[int, ...], depth: int) -> Any:
    fields = getattr(value, "__dataclass_fields__", None)
    if fields is not None:
        # A field declared with init=False may never have been set.
        return {
            name: _project(getattr(value, name), above, depth)
            for name in fields
            if hasattr(value, name)
        }
    for method, options in (("model_dump", {"mode": "json"}), ("isoformat", {}), ("tolist", {})):
        convert = getattr(value, method, None)
        if callable(convert):
            try:
                return _project(convert(**options), above, depth)
            except Exception:  # noqa: BLE001 - not the method it looks like: its text will do
                break
    try:
        return _text(str(value))
    except Exception:  # noqa: BLE001 - its __str__ is the user's code
        return f"<{type(value).__module__}.{type(value).__qualname__}>"


def _number(value: float) -> float | str:
    if math.isfinite(value):
        return float(value)
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _integer(value: int) -> int | str:
    # Python refuses to write integers of more than some thousand digits in decimal.
    return value if -(1 << 8192) < value < 1 << 8192 else hex(value)


def _text(value: str) -> str:
    if value.isascii():
        return value
    try:
        value.encode()
    except UnicodeEncodeError:
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return value
