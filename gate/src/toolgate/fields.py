"""What values in an operator's documents may be: names, globs, durations, sections.

The config and the policy document are written in the same few types, and refuse what is not of them
in the same words.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeAlias

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from toolgate import globs
from toolgate.jsonvalue import pointer_parts

_DURATION = re.compile(r"([0-9]{1,12})(ms|s|m|h|d)", re.ASCII)
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST = 3650 * 86400.0
_REFERENCE: Final = r"\$\{[A-Za-z_][A-Za-z0-9_]*\}"
_WRITTEN_DURATION: Final = rf"^[0-9]{{1,12}}(ms|s|m|h|d)$|{_REFERENCE}"
"""A duration for a JSON Schema, which sees the text before the environment's values are in it."""
_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


def parse_duration(value: object) -> float:
    """Return the seconds of ``250ms``, ``30s``, ``15m``, ``2h`` or ``7d`` (at most ten years).

    Raises :class:`ValueError`, also for a bare number, which would leave its unit to guessing.
    """
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match is None:
        raise ValueError("must be a duration such as 250ms, 30s, 15m, 2h or 7d")
    seconds = int(match[1]) * _SECONDS[match[2]]
    if seconds > _LONGEST:
        raise ValueError("must not be longer than ten years (3650d)")
    return seconds


def _parse_expiry(value: object) -> float | str:
    if value == "never":
        return "never"
    try:
        seconds = parse_duration(value)
    except ValueError as error:
        raise ValueError(f'{error}, or "never"') from None
    if not seconds:
        raise ValueError("must be longer than 0")
    return seconds


def _positive(seconds: float) -> float:
    if not seconds > 0:
        raise ValueError("must be longer than 0")
    return seconds


def _name(value: str) -> str:
    if not 1 <= len(value) <= 200 or _UNPRINTABLE.search(value):
        raise ValueError("must be 1 to 200 characters long, without control characters")
    return value


def stripped(value: str) -> str:
    """Return the text without the white space around it; :class:`ValueError` if that is all."""
    if not value.strip():
        raise ValueError("is empty")
    return value.strip()


def as_tuple(value: object) -> object:
    """Let a list stand for a tuple; anything else is left for the type to refuse."""
    return tuple(value) if isinstance(value, list) else value


def distinct(values: tuple[str, ...]) -> tuple[str, ...]:
    """Return the values; :class:`ValueError` when one is there twice."""
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"names {', '.join(twice)} more than once")
    return values


def _well_formed(patterns: tuple[str, ...]) -> tuple[str, ...]:
    for glob in patterns:
        globs.check(glob)
    return patterns


Duration: TypeAlias = Annotated[
    float,
    BeforeValidator(parse_duration),
    WithJsonSchema({"type": "string", "pattern": _WRITTEN_DURATION}),
]
"""Seconds, written with a unit (:func:`parse_duration`)."""

PositiveDuration: TypeAlias = Annotated[Duration, AfterValidator(_positive)]
"""A :data:`Duration` longer than zero."""

Expiry: TypeAlias = Annotated[
    float | Literal["never"],
    BeforeValidator(_parse_expiry),
    WithJsonSchema({"type": "string", "pattern": f"^never$|{_WRITTEN_DURATION}"}),
]
"""Seconds longer than zero, or ``"never"``."""

Name: TypeAlias = Annotated[
    str,
    AfterValidator(_name),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 200}),
]
"""An identifier people see: 1 to 200 characters, none of them a control character."""

Names: TypeAlias = Annotated[
    tuple[Name, ...],
    BeforeValidator(as_tuple),
    AfterValidator(distinct),
    Field(json_schema_extra={"uniqueItems": True}),
]
"""Distinct names, in the order written."""

Globs: TypeAlias = Annotated[Names, AfterValidator(_well_formed)]
"""Distinct patterns for names (:mod:`toolgate.globs`), in the order written."""


def _pointers(values: tuple[str, ...]) -> tuple[str, ...]:
    for value in values:
        pointer_parts(value)
    return values


Pointers: TypeAlias = Annotated[Names, AfterValidator(_pointers)]
"""Distinct JSON pointers (RFC 6901), in the order written."""

Text: TypeAlias = Annotated[str, AfterValidator(stripped)]
"""A text with something in it, without the white space around it."""


class Section(BaseModel):
    """A part of a document an operator writes: unknown keys are errors, values keep their type."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
