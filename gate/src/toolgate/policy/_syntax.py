"""Finds what matters in a compiled CEL expression: what it reads and compares, and its regexes.

The binding offers a compiled expression only as a serialized ``cel.expr.CheckedExpr``, and the
protobuf library is not a dependency; this reads the wire format of the few messages it needs.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Set
from dataclasses import dataclass
from typing import Final, TypeAlias

_Message: TypeAlias = dict[int, list[bytes | int]]
_Scoped: TypeAlias = tuple[bytes, frozenset[str]]
"""A part of an expression, and the variables of the macros around it."""

# Field numbers of google.protobuf.Any and of cel/expr/{checked,syntax}.proto.
_ANY_TYPE, _ANY_VALUE = 1, 2
_REFERENCES, _CHECKED_EXPR, _SOURCE_INFO = 2, 4, 5
_MAP_KEY, _MAP_VALUE = 1, 2
_REFERENCE_NAME = 1
_POSITIONS = 4
_ID, _CONSTANT, _IDENT, _SELECT, _CALL, _LIST, _STRUCT, _COMPREHENSION = 2, 3, 4, 5, 6, 7, 8, 9
_CONSTANT_INT, _CONSTANT_STRING = 3, 6
_IDENT_NAME = 1
_SELECT_OPERAND, _SELECT_FIELD = 1, 2
_CALL_TARGET, _CALL_FUNCTION, _CALL_ARGUMENTS = 1, 2, 3
_LIST_ITEMS = 1
_STRUCT_ENTRIES, _ENTRY_KEY, _ENTRY_VALUE = 2, 3, 4
_OUTSIDE, _INSIDE, _RESULT = (2, 4), (5, 6), 7
_RANGE = 2
"""Of a comprehension: what its own variables are not known in, are known in, and its result."""
_ITEM, _ACCUMULATOR, _SECOND_ITEM = 1, 3, 8

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True)
class Path:
    """A value that an expression reads: a variable, and the constant keys and indexes below it."""

    variable: str
    steps: tuple[str | int, ...] = ()

    def __str__(self) -> str:
        return self.variable + "".join(
            f".{step}"
            if isinstance(step, str) and _PLAIN.fullmatch(step)
            else f"[{json.dumps(step, ensure_ascii=False)}]"
            for step in self.steps
        )


@dataclass(frozen=True, slots=True)
class Pattern:
    """What ``matches()`` is given where no call plays a part in it: literals and ``vars``.

    ``expression`` is a serialized expression of its own, ``offset`` where it stands, in characters;
    ``paths`` are the constants it reads.
    """

    expression: bytes
    offset: int
    paths: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """A path that may lead through each item of a list: there its step is :data:`EACH`."""

    variable: str
    steps: tuple[str | int | None, ...] = ()


EACH: Final = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """A place whose values are compared with a literal: by ``==``, ``!=`` or ``in``."""

    place: Place
    text: str


@dataclass(frozen=True, slots=True)
class Syntax:
    """What an expression refers to: names, what it reads in the order it stands, and patterns.

    ``items`` are what its macros read of each item of a list. ``joints`` are where the operators
    stand that join the parts of a conjunction, in characters.
    """

    names: frozenset[str]
    paths: tuple[Path, ...]
    patterns: tuple[Pattern, ...]
    comparisons: tuple[Comparison, ...]
    items: tuple[Place, ...]
    joints: tuple[int, ...]


_Scope: TypeAlias = dict[str, Place | None]
"""The variables of macros, and what each stands for; ``None``: for what cannot be followed."""


def read(serialized: bytes, variables: Set[str]) -> Syntax:
    """Read a serialized checked expression; ``variables`` are the names that are declared."""
    return _Reader(serialized, variables).syntax()


class _Reader:
    """One expression: its nodes, and what its identifiers refer to by node."""

    def __init__(self, serialized: bytes, variables: Set[str]) -> None:
        whole = _message(serialized)
        self._type = _bytes(whole, _ANY_TYPE)
        self._checked = _message(_bytes(whole, _ANY_VALUE))
        self._variables = variables
        self._references: dict[int, str] = {}
        for entry in map(_message, _all(self._checked, _REFERENCES)):
            name = _bytes(_message(_bytes(entry, _MAP_VALUE)), _REFERENCE_NAME).decode()
            self._references[_int(entry, _MAP_KEY)] = name
        self._positions: dict[int, int] = {}
        for entry in map(_message, _all(_message(_bytes(self._checked, _SOURCE_INFO)), _POSITIONS)):
            self._positions[_int(entry, _MAP_KEY)] = _int(entry, _MAP_VALUE)

    def syntax(self) -> Syntax:
        root = _bytes(self._checked, _CHECKED_EXPR)
        found = [(at, path) for path, at in self._leaves(root) if path is not None]
        found.sort(key=lambda item: item[0])
        return Syntax(
            frozenset(self._references.values()),
            tuple(dict.fromkeys(path for _, path in found)),
            tuple(sorted(self._patterns(root), key=lambda pattern: pattern.offset)),
            tuple(dict.fromkeys(self._comparisons(root))),
            tuple(dict.fromkeys(self._items(root))),
            tuple(sorted(self._joints(root))),
        )

    def _joints(self, root: bytes) -> Iterator[int]:
        pending = [root]
        while pending:
            node = _message(pending.pop())
            call = _message(_bytes(node, _CALL))
            if _bytes(call, _CALL_FUNCTION) == b"_&&_":
                yield self._positions.get(_int(node, _ID), 0)
                pending += _all(call, _CALL_ARGUMENTS)

    def _comparisons(self, root: bytes) -> Iterator[Comparison]:
        for expr, scope in self._scoped(root):
            call = _message(_bytes(_message(expr), _CALL))
            arguments = _all(call, _CALL_ARGUMENTS)
            match _bytes(call, _CALL_FUNCTION):
                case b"_==_" | b"_!=_":
                    pairs = [arguments, arguments[::-1]]
                    found = [(self._place(one, scope), _texts(other)) for one, other in pairs]
                case b"@in":
                    item, items = arguments
                    found = [(self._place(item, scope), _listed_texts(items))]
                    if (place := self._place(items, scope)) is not None:
                        each = Place(place.variable, (*place.steps, EACH))
                        found.append((each, _texts(item)))
                case _:
                    continue
            yield from (Comparison(p, text) for p, texts in found if p for text in texts)

    def _items(self, root: bytes) -> Iterator[Place]:
        for expr, scope in self._scoped(root):
            place = self._place(expr, scope)
            if place is not None and EACH in place.steps:
                yield place

    def _scoped(self, root: bytes) -> Iterator[tuple[bytes, _Scope]]:
        """Yield an expression and all below it, with what the variables of macros are there."""
        pending: list[tuple[bytes, _Scope]] = [(root, {})]
        while pending:
            expr, scope = pending.pop()
            yield expr, scope
            node = _message(expr)
            inside = {**scope}
            for loop in map(_message, _all(node, _COMPREHENSION)):
                over = self._place(_bytes(loop, _RANGE), scope)
                names = [_bytes(loop, number).decode() for number in (_ITEM, _SECOND_ITEM)]
                inside |= dict.fromkeys((*names, _bytes(loop, _ACCUMULATOR).decode()))
                if over is not None and not names[1]:
                    inside[names[0]] = Place(over.variable, (*over.steps, EACH))
            outside = {bytes(child) for child, bound in _children(node, _NONE) if not bound}
            pending += [
                (child, scope if child in outside else inside)
                for child, _ in _children(node, _NONE)
            ]

    def _place(self, expr: bytes, scope: _Scope) -> Place | None:
        """Return the place that a node reads, if it is one."""
        steps: list[str | int | None] = []
        while True:
            path, _ = self._path(expr, frozenset(scope))
            if path is not None:
                return Place(path.variable, (*path.steps, *reversed(steps)))
            node = _message(expr)
            if _IDENT in node:
                base = scope.get(_name(node))
                return base and Place(base.variable, (*base.steps, *reversed(steps)))
            select = _message(_bytes(node, _SELECT))
            if not select:
                return None
            steps.append(_bytes(select, _SELECT_FIELD).decode())
            expr = _bytes(select, _SELECT_OPERAND)

    def _patterns(self, root: bytes) -> Iterator[Pattern]:
        for _, node, _ in _nodes(root):
            call = _message(_bytes(node, _CALL))
            if _bytes(call, _CALL_FUNCTION) == b"matches":
                argument = _all(call, _CALL_ARGUMENTS)[-1]
                # By itself: a variable of a macro around it is not known there.
                paths = [path for path, _ in self._leaves(argument)]
                constants = [path for path in paths if path and path.variable.startswith("vars.")]
                if len(constants) == len(paths):
                    at = min(self._offset(inner) for _, inner, _ in _nodes(argument))
                    yield Pattern(self._alone(argument), at, tuple(dict.fromkeys(constants)))

    def _leaves(self, root: bytes) -> Iterator[tuple[Path | None, int]]:
        """Yield what is read, as far as it can be followed, with its offset.

        None is any other name: of a type, or of a variable that is not known here. The own
        variables of a macro are left out.
        """
        pending: list[_Scoped] = [(root, _NONE)]
        while pending:
            expr, bound = pending.pop()
            node = _message(expr)
            path, variable = self._path(expr, bound)
            if path is not None:
                yield path, self._offset(variable)
            elif _IDENT not in node:
                pending += _children(node, bound)
            elif _name(node) not in bound:
                yield None, 0

    def _offset(self, node: _Message) -> int:
        at = self._positions.get(_int(node, _ID), 0)
        # Of ``vars.x`` the binding tells where the dot is.
        group, dot, _ = _name(node).partition(".")
        return max(at - len(group), 0) if dot else at

    def _path(self, expr: bytes, bound: frozenset[str]) -> tuple[Path | None, _Message]:
        """Return the path that a node is, if it is one, and the node that its variable is."""
        steps: list[str | int] = []
        while True:
            node = _message(expr)
            name = self._references.get(_int(node, _ID), "")
            if name in self._variables and name not in bound and _CALL not in node:
                return Path(name, tuple(reversed(steps))), node
            if select := _all(node, _SELECT):
                inner = _message(select[0])
                steps.append(_bytes(inner, _SELECT_FIELD).decode())
                expr = _bytes(inner, _SELECT_OPERAND)
                continue
            call = _message(_bytes(node, _CALL))
            if _bytes(call, _CALL_FUNCTION) != b"_[_]":
                return None, {}
            expr, index = _all(call, _CALL_ARGUMENTS)
            constant = _message(_bytes(_message(index), _CONSTANT))
            if _CONSTANT_STRING in constant:
                steps.append(_bytes(constant, _CONSTANT_STRING).decode())
            elif _CONSTANT_INT in constant:
                number = _int(constant, _CONSTANT_INT)
                steps.append(number - (1 << 64) if number >> 63 else number)
            else:
                return None, {}

    def _alone(self, expr: bytes) -> bytes:
        """Serialize a part of the expression as one of its own."""
        checked: _Message = {**self._checked, _CHECKED_EXPR: [expr]}
        parts = (
            _field(number, value)
            for number, values in checked.items()
            for value in values
            if isinstance(value, bytes)
        )
        return _field(_ANY_TYPE, self._type) + _field(_ANY_VALUE, b"".join(parts))


def _nodes(root: bytes) -> Iterator[tuple[bytes, _Message, frozenset[str]]]:
    """Yield an expression and everything below it, with the macro variables known there."""
    pending: list[_Scoped] = [(root, _NONE)]
    while pending:
        expr, bound = pending.pop()
        node = _message(expr)
        yield expr, node, bound
        pending += _children(node, bound)


def _children(node: _Message, bound: frozenset[str]) -> list[_Scoped]:
    """Return a node's operands, each with the macro variables that are known in it."""
    plain = [child for inner in _all(node, _SELECT) for child in _all(_message(inner), 1)]
    for call in map(_message, _all(node, _CALL)):
        plain += _all(call, _CALL_TARGET) + _all(call, _CALL_ARGUMENTS)
    for items in map(_message, _all(node, _LIST)):
        plain += _all(items, _LIST_ITEMS)
    for struct in map(_message, _all(node, _STRUCT)):
        for entry in map(_message, _all(struct, _STRUCT_ENTRIES)):
            plain += _all(entry, _ENTRY_KEY) + _all(entry, _ENTRY_VALUE)
    children = [(child, bound) for child in plain]
    for loop in map(_message, _all(node, _COMPREHENSION)):
        sum_ = _bytes(loop, _ACCUMULATOR).decode()
        items_ = {_bytes(loop, number).decode() for number in (_ITEM, _SECOND_ITEM)}
        children += [(child, bound) for number in _OUTSIDE for child in _all(loop, number)]
        inside = bound | items_ | {sum_}
        children += [(child, inside) for number in _INSIDE for child in _all(loop, number)]
        children += [(child, bound | {sum_}) for child in _all(loop, _RESULT)]
    return children


def _texts(expr: bytes) -> list[str]:
    """Return the text that a node is a literal of, if it is one."""
    constant = _message(_bytes(_message(expr), _CONSTANT))
    return [text.decode() for text in _all(constant, _CONSTANT_STRING)]


def _listed_texts(expr: bytes) -> list[str]:
    """Return the texts in a literal list."""
    items = _all(_message(_bytes(_message(expr), _LIST)), _LIST_ITEMS)
    return [text for item in items for text in _texts(item)]


def _name(node: _Message) -> str:
    return _bytes(_message(_bytes(node, _IDENT)), _IDENT_NAME).decode()


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


def _field(number: int, value: bytes) -> bytes:
    """Write one field of a message."""
    return bytes([number << 3 | 2]) + _size(len(value)) + value


def _size(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _all(message: _Message, number: int) -> list[bytes]:
    return [value for value in message.get(number, ()) if isinstance(value, bytes)]


def _bytes(message: _Message, number: int) -> bytes:
    return next(iter(_all(message, number)), b"")


def _int(message: _Message, number: int) -> int:
    return next((value for value in message.get(number, ()) if isinstance(value, int)), 0)
