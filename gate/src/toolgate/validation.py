"""Arguments and results against JSON Schemas.

Schemas are of draft 2020-12 unless ``$schema`` says otherwise; ``format`` is asserted; nothing
outside the schema itself is ever fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import jsonschema_rs

from toolgate.errors import SchemaError
from toolgate.jsonvalue import JSONValue, pointer

_DRAFTS: Final = frozenset(
    {
        "http://json-schema.org/draft-04/schema",
        "http://json-schema.org/draft-06/schema",
        "http://json-schema.org/draft-07/schema",
        "https://json-schema.org/draft/2019-09/schema",
        "https://json-schema.org/draft/2020-12/schema",
    }
)
MAX_PROBLEMS: Final = 50
"""At most this many problems of one value are reported; a hostile value may have a million."""

MAX_MESSAGE: Final = 500
"""Characters of a problem's message; longer ones lose their middle."""


@dataclass(frozen=True, slots=True)
class SchemaProblem:
    """One thing wrong with a value: where (a JSON pointer), and what."""

    pointer: str
    message: str


class Schema:
    """A compiled schema."""

    __slots__ = ("_validator",)

    def __init__(self, validator: Any) -> None:
        """Made by :func:`compile_schema`."""
        self._validator = validator

    def problems(self, value: JSONValue) -> list[SchemaProblem]:
        """Return what is wrong with ``value``, at most :data:`MAX_PROBLEMS`; empty: it is valid."""
        if self._validator.is_valid(value):
            return []
        found: list[SchemaProblem] = []
        for error in self._validator.iter_errors(value):
            message = error.message
            if len(message) > MAX_MESSAGE:
                # It quotes the value, which may be as large as a message can be.
                message = f"{message[: MAX_MESSAGE // 2]} … {message[-MAX_MESSAGE // 2 :]}"
            found.append(SchemaProblem(pointer(error.instance_path), message))
            if len(found) == MAX_PROBLEMS:
                break
        # Two walks of one validator: should they ever disagree, the value is still not valid.
        return found or [SchemaProblem("", "is not valid under the schema")]


def compile_schema(schema: dict[str, Any] | bool, mask: str | None = None) -> Schema:
    """Check a schema against its draft's meta-schema and compile it.

    With ``mask``, problems say this in place of the value they are about.

    Raises :class:`SchemaError` when it is not a valid schema, is of a draft this gate does not
    know, or refers to anything outside itself.
    """
    draft = schema.get("$schema") if isinstance(schema, dict) else None
    if draft is not None and (not isinstance(draft, str) or draft.rstrip("#") not in _DRAFTS):
        raise SchemaError(f"the schema's $schema is {draft!r}, a draft this gate does not know")
    try:
        validator = jsonschema_rs.validator_cls_for(schema)
        return Schema(validator(schema, validate_formats=True, offline=True, mask=mask))
    except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError) as error:
        where = pointer(getattr(error, "instance_path", ()))
        message = getattr(error, "message", str(error))
        raise SchemaError(f"not a usable JSON Schema, at {where or '/'}: {message}") from None
