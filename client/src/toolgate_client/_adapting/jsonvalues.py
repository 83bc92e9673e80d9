"""JSON values as adapters compare and show them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from toolgate_client._encode import to_wire

_SCHEMAS_BY_NAME = ("properties", "patternProperties", "$defs", "definitions", "dependentSchemas")


def canonical(value: Any) -> bytes:
    """Return JSON as the same bytes for the same value, in every process.

    Raises ``ValueError`` for NaN, infinity and lone surrogates, ``TypeError`` for what is not JSON.
    """
    text = json.dumps(
        value, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":")
    )
    return text.encode()


def check_sendable(args: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` or ``TypeError`` for arguments that no message to a gate can carry.

    That is what is not JSON, and what is nested too deeply; their size is not looked at.
    """
    to_wire({"args": args}, "the call")


def same_json(one: Any, other: Any) -> bool:
    """Tell whether two JSON values are written alike; ``true`` is not ``1``, nor ``1.0``."""
    return canonical(one) == canonical(other)


def without_formats(schema: Any) -> Any:
    """Return a JSON Schema that pydantic wrote without ``format``.

    Its own types check what they take, and take more than the formats say: a date-time without an
    offset is one to pydantic and none to RFC 3339.
    """
    if isinstance(schema, list):
        return [without_formats(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _SCHEMAS_BY_NAME and isinstance(value, dict):
            kept[key] = {name: without_formats(item) for name, item in value.items()}
        elif key in {"default", "const", "enum", "examples"}:
            kept[key] = value
        elif key != "format":
            kept[key] = without_formats(value)
    return kept
