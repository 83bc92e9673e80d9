"""Turns the JSON that a capability takes into the task that an agent is given.

Each capability takes an object with one text, under its own name; other members are left out.
"""

from __future__ import annotations

from collections.abc import Mapping

from toolgate import jsonvalue
from toolgate.errors import JSONError, ToolgateError
from toolgate.jsonvalue import JSONValue

FIELDS: Mapping[str, str] = {
    "research": "question",
    "search-knowledge": "question",
    "summarize": "text",
    "verify-claim": "claim",
    "transcribe-audio": "audio_path",
    "create-note": "content",
}
"""The member that holds the text, by capability."""

_TASKS: Mapping[str, str] = {
    "research": "Research this question and answer it with your sources:",
    "search-knowledge": "Search the knowledge you have access to, and answer this question:",
    "summarize": "Summarize this text:",
    "verify-claim": "Check whether this claim is true:",
    "transcribe-audio": "Transcribe the recording at this path:",
    "create-note": "Make a note of this:",
}


class PayloadError(ToolgateError):
    """The payload of a capability cannot be used; the message names what is wrong with it."""


def format_payload(capability: str, payload: JSONValue | bytes) -> str:
    """Return the task for a capability and its payload: JSON text, or a value read from it.

    Raises :class:`PayloadError` for a capability that takes no payload, for text that is not JSON,
    for anything but an object, and for a member that is missing or not a string, by its name.
    """
    field = FIELDS.get(capability)
    if field is None:
        raise PayloadError(
            f"no payload is known for the capability {capability!r}; there are {', '.join(FIELDS)}"
        )
    value = _read(capability, payload)
    if not isinstance(value, dict):
        raise PayloadError(
            f"the payload of {capability} must be a JSON object with {field!r}: "
            f"it is {_kind(value)}"
        )
    if field not in value:
        raise PayloadError(f"the payload of {capability} lacks {field!r}")
    text = value[field]
    if not isinstance(text, str):
        raise PayloadError(f"{field!r} of {capability} must be a string: it is {_kind(text)}")
    return f"{_TASKS[capability]}\n\n{text}"


def _read(capability: str, payload: JSONValue | bytes) -> JSONValue:
    if not isinstance(payload, (str, bytes)):
        return payload
    try:
        return jsonvalue.parse(payload.encode() if isinstance(payload, str) else payload)
    except (JSONError, UnicodeEncodeError) as error:
        raise PayloadError(f"the payload of {capability} is not JSON: {error}") from None


def _kind(value: JSONValue) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list():
            return "an array"
    return "an object"
