"""Finds what matters in a compiled CEL expression: the names it uses and its literal regexes.

The binding offers a compiled expression only as a serialized ``cel.expr.CheckedExpr``, and the
protobuf library is not a dependency; this reads the wire format of the few messages it needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

_Message: TypeAlias = dict[int, list[bytes | int]]

# Field numbers of google.protobuf.Any and of cel/expr/{checked,syntax}.proto.
_ANY_VALUE = 2
_REFERENCES, _CHECKED_EXPR, _SOURCE_INFO = 2, 4, 5
_MAP_KEY, _MAP_VALUE = 1, 2
_REFERENCE_NAME = 1
_POSITIONS = 4
_ID, _CONSTANT, _SELECT, _CALL, _LIST, _STRUCT, _COMPREHENSION = 2, 3, 5, 6, 7, 8, 9
_CONSTANT_STRING = 6
_CALL_TARGET, _CALL_FUNCTION, _CALL_ARGUMENTS = 1, 2, 3
_STRUCT_ENTRIES, _ENTRY_KEY, _ENTRY_VALUE = 2, 3, 4
_CHILDREN = {
    _SELECT: (1,),
    _CALL: (_CALL_TARGET, _CALL_ARGUMENTS),
    _LIST: (1,),
    _COMPREHENSION: (2, 4, 5, 6, 7),
}


@dataclass(frozen=True, slots=True)
class Syntax:
    """What an expression refers to: names, and literal regexes with their character offset."""

    names: frozenset[str]
    regexes: tuple[tuple[str, int], ...]


def read(serialized: bytes) -> Syntax:
    """Read a serialized checked expression."""
    checked = _message(_bytes(_message(serialized), _ANY_VALUE))
    names = {
        _bytes(_message(_bytes(_message(entry), _MAP_VALUE)), _REFERENCE_NAME).decode()
        for entry in _all(checked, _REFERENCES)
    }
    positions: dict[int, int] = {}
    for entry in _all(_message(_bytes(checked, _SOURCE_INFO)), _POSITIONS):
        item = _message(entry)
        positions[_int(item, _MAP_KEY)] = _int(item, _MAP_VALUE)
    regexes = tuple(
        (text, positions.get(node, 0))
        for text, node in _literal_regexes(_bytes(checked, _CHECKED_EXPR))
    )
    return Syntax(frozenset(names), regexes)


def _literal_regexes(root: bytes) -> Iterator[tuple[str, int]]:
    pending = [root]
    while pending:
        expr = _message(pending.pop())
        for kind, fields in _CHILDREN.items():
            for inner in _all(expr, kind):
                node = _message(inner)
                operands = [child for number in fields for child in _all(node, number)]
                pending += operands
                if kind == _CALL and _bytes(node, _CALL_FUNCTION) == b"matches":
                    yield from _string_literal(operands[-1])
        for inner in _all(expr, _STRUCT):
            for entry in map(_message, _all(_message(inner), _STRUCT_ENTRIES)):
                pending += _all(entry, _ENTRY_KEY) + _all(entry, _ENTRY_VALUE)


def _string_literal(serialized: bytes) -> Iterator[tuple[str, int]]:
    expr = _message(serialized)
    for constant in _all(expr, _CONSTANT):
        for text in _all(_message(constant), _CONSTANT_STRING):
            yield text.decode(), _int(expr, _ID)


def _message(data: bytes) -> _Message:
    """Split one message into its fields, by number."""
    out: _Message = {}
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        value: bytes | int
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
            case 1:
                value, at = data[at : at + 8], at + 8
            case 2:
                size, at = _varint(data, at)
                value, at = data[at : at + size], at + size
            case 5:
                value, at = data[at : at + 4], at + 4
            case other:
                raise ValueError(f"wire type {other} in a serialized expression")
        out.setdefault(tag >> 3, []).append(value)
    return out


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at += 1
        shift += 7
        if byte < 0x80:
            return value, at


def _all(message: _Message, number: int) -> list[bytes]:
    return [value for value in message.get(number, ()) if isinstance(value, bytes)]


def _bytes(message: _Message, number: int) -> bytes:
    return next(iter(_all(message, number)), b"")


def _int(message: _Message, number: int) -> int:
    return next((value for value in message.get(number, ()) if isinstance(value, int)), 0)
