"""Reads one YAML or JSON document strictly and remembers on which line each value stands.

YAML is read as a notation for JSON: mappings have string keys, each once; there are no tags, merge
keys or dates (a date is a string); numbers are finite. Only the structure is taken from the YAML
library, so no object of it is ever constructed. A string with a NUL character or a lone surrogate
is refused, because what evaluates conditions cannot represent it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import yaml
from pydantic_core import ErrorDetails
from yaml.constructor import SafeConstructor

from toolgate import jsonvalue
from toolgate.errors import JSONError, ToolgateError

Location: TypeAlias = tuple[str | int, ...]
"""Where a value stands: the keys and list indexes that lead to it from the top."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_MAX_VALUES = 200_000
_TAG = "tag:yaml.org,2002:"
_STRINGS = {_TAG + kind for kind in ("str", "timestamp", "value")}


class UnreadableSource(ToolgateError):
    """A document that is not well-formed; ``problems`` are complete sentences, at least one."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A well-formed document: its JSON value, and the lines its values stand on (YAML only)."""

    name: str
    value: jsonvalue.JSONValue
    lines: Mapping[Location, int] = field(default_factory=dict)

    def line(self, location: Location) -> int:
        """Return the line of the value at ``location``, or of what encloses it; 0: not known."""
        for end in range(len(location), -1, -1):
            if location[:end] in self.lines:
                return self.lines[location[:end]]
        return 0


class Problems:
    """What is wrong with one document, each with its place, told in the order of its lines."""

    def __init__(self, lines: Mapping[Location, int]) -> None:
        self._lines = SourceFile("", None, lines)
        self._found: list[tuple[int, str]] = []

    def add(self, location: Location, text: str, *, subject: str | None = None) -> None:
        """Report ``text`` of the value at ``location``; ``subject`` names it otherwise."""
        self.add_at(self._lines.line(location), subject or dotted(location), text)

    def add_at(self, line: int, subject: str, text: str) -> None:
        """Report ``text`` of ``subject`` on ``line`` (0: not known)."""
        place = f"line {line}: " if line else ""
        self._found.append((line, f"{place}{subject}: {text}" if subject else f"{place}{text}"))

    def line(self, location: Location) -> int:
        """Return the line of the value at ``location``; 0: not known."""
        return self._lines.line(location)

    def __bool__(self) -> bool:
        return bool(self._found)

    def __iter__(self) -> Iterator[str]:
        return (text for _, text in sorted(self._found, key=lambda found: found[0]))


def read(path: Path) -> SourceFile:
    """Read a file: JSON when it is named ``*.json``, else YAML.

    Raises :class:`UnreadableSource` with everything that is wrong with it.
    """
    return parse(path, load(path))


def load(path: Path) -> bytes:
    """Return a file's bytes; raises :class:`UnreadableSource`."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise UnreadableSource([f"cannot be read: {error.strerror or error}"]) from None


def parse(path: Path, text: bytes) -> SourceFile:
    """Read the bytes of the file at ``path``, which itself is not looked at (:func:`read`)."""
    is_json = path.suffix.lower() == ".json"
    source = (_read_json if is_json else _read_yaml)(str(path), text)
    problems = Problems(source.lines)
    for location, problem in unusable_strings(source.value):
        problems.add(location, problem)
    if problems:
        raise UnreadableSource(list(problems))
    return source


def dotted(location: Iterable[str | int]) -> str:
    """Write a location for people: ``rules[2].when``."""
    out = ""
    for part in location:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else part
    return out


def message(error: ErrorDetails) -> str:
    """Say what a pydantic error means, in the words of somebody who wrote the file."""
    match error["type"]:
        case "missing":
            return "is required"
        case "extra_forbidden":
            return "unknown key"
        case "model_type" | "dict_type":
            return "must be a mapping of keys to values"
        case "tuple_type" | "list_type":
            return "must be a list"
        case "too_short" | "string_too_short":
            return "must not be empty"
        case "value_error":
            return str(error["ctx"]["error"])
    return error["msg"][:1].lower() + error["msg"][1:]


def unusable_strings(
    value: jsonvalue.JSONValue, location: Location = ()
) -> Iterator[tuple[Location, str]]:
    """Find strings and keys with a NUL character or a lone surrogate, and say which."""
    if isinstance(value, str):
        if "\0" in value:
            yield location, "a string may not contain a NUL character"
        elif not value.isascii() and any("\ud800" <= char <= "\udfff" for char in value):
            yield location, "a string may not contain half of a surrogate pair"
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from unusable_strings(key, location)
            yield from unusable_strings(item, (*location, key))
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from unusable_strings(item, (*location, index))


def _read_json(name: str, text: bytes) -> SourceFile:
    try:
        return SourceFile(name, jsonvalue.parse(text))
    except JSONError as error:
        raise UnreadableSource([str(error)]) from None


def _read_yaml(name: str, text: bytes) -> SourceFile:
    reader = _Reader()
    try:
        root = yaml.compose(text, Loader=_LOADER)
        if root is None:
            raise UnreadableSource(["is empty"])
        value = reader.value(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise UnreadableSource([f"{where}{error.problem or error.context}"]) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise UnreadableSource([f"is not YAML: {error}"]) from None
    if reader.problems:
        raise UnreadableSource(list(reader.problems))
    return SourceFile(name, value, reader.lines)


class _Reader:
    """Turns YAML nodes into JSON values and collects what is wrong with them."""

    def __init__(self) -> None:
        self.lines: dict[Location, int] = {}
        self.problems = Problems(self.lines)
        self._scalars = SafeConstructor()
        self._open: set[int] = set()

    def value(self, node: yaml.Node, location: Location) -> jsonvalue.JSONValue:
        self.lines.setdefault(location, node.start_mark.line + 1)
        if len(self.lines) > _MAX_VALUES:
            raise UnreadableSource([f"has more than {_MAX_VALUES} values"])
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, location)
        if id(node) in self._open:
            self.problems.add(location, "an alias may not stand inside what it names")
            return None
        self._open.add(id(node))
        try:
            if node.tag not in (_TAG + "map", _TAG + "seq"):
                self.problems.add(location, f"the tag {node.tag} is not supported")
            if isinstance(node, yaml.MappingNode):
                return self._mapping(node, location)
            return [self.value(item, (*location, i)) for i, item in enumerate(node.value)]
        finally:
            self._open.discard(id(node))

    def _mapping(self, node: yaml.MappingNode, location: Location) -> dict[str, Any]:
        out: dict[str, Any] = {}
        for key_node, item in node.value:
            line, key = key_node.start_mark.line + 1, key_node.value
            subject = dotted(location)
            if key_node.tag == _TAG + "merge":
                self.problems.add_at(line, subject, "merge keys (<<) are not supported")
            elif key_node.tag not in _STRINGS or not isinstance(key, str):
                shown = key if isinstance(key, str) else "of several values"
                problem = f"the key {shown} is not a string: put it in quotes"
                self.problems.add_at(line, subject, problem)
            elif key in out:
                first = self.lines[(*location, key)]
                subject = dotted((*location, key))
                self.problems.add_at(line, subject, f"duplicate key, first on line {first}")
            else:
                self.lines[(*location, key)] = line
                out[key] = self.value(item, (*location, key))
        return out

    def _scalar(self, node: yaml.ScalarNode, location: Location) -> jsonvalue.JSONValue:
        text = str(node.value)
        if node.tag in _STRINGS:
            return text
        try:
            match node.tag.removeprefix(_TAG):
                case "null":
                    return None
                case "bool":
                    return self._scalars.construct_yaml_bool(node)
                case "int":
                    return self._scalars.construct_yaml_int(node)
                case "float":
                    number = self._scalars.construct_yaml_float(node)
                    if math.isfinite(number):
                        return number
                    problem = f"{text} is not a finite number"
                case _:
                    problem = f"the tag {node.tag} is not supported"
        except (ValueError, KeyError, IndexError):
            problem = f"{text!r} does not fit the tag {node.tag}"
        self.problems.add(location, problem)
        return None
