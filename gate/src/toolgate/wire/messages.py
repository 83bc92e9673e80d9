"""Single JSON-RPC 2.0 messages: what each line is, and the one table of error codes."""

from __future__ import annotations

import re
from enum import IntEnum
from typing import Any, NamedTuple, TypeAlias

import orjson
from pydantic_core import to_json

from toolgate import jsonvalue
from toolgate.errors import JSONError, ToolgateError
from toolgate.jsonvalue import JSONValue


class ErrorCode(IntEnum):
    """Every code the gate answers with, and those it understands from a client."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    TOOL_FAILED = -32000
    """From the client: the tool's body raised."""
    MESSAGE_TOO_LARGE = -32001
    SHUTTING_DOWN = -32002
    TOO_MANY_IN_FLIGHT = -32003
    TOOL_CONFLICT = -32004
    JOURNAL_UNAVAILABLE = -32005


class RPCError(ToolgateError):
    """An error to answer a request with, or one that a request was answered with."""

    def __init__(self, code: int, message: str, data: JSONValue = None) -> None:
        """``data`` holds particulars for machines; ``None`` leaves them out."""
        self.code = code
        self.message = message
        self.data = data
        super().__init__(message)


RequestId: TypeAlias = int | str

_BEGINNING = re.compile(
    rb'\s*\{\s*"jsonrpc"\s*:\s*"2\.0"\s*,\s*"id"\s*:\s*([0-9]{1,18})\s*,\s*"(method|result|error)"'
)
"""How a message begins that is written in the usual order; then its id is known for sure."""


class Request(NamedTuple):
    """A request, which is always answered."""

    id: RequestId
    method: str
    params: dict[str, JSONValue]


class Notification(NamedTuple):
    """A message that is never answered."""

    method: str
    params: dict[str, JSONValue]


class Reply(NamedTuple):
    """An answer to one of our requests: a result, or an error."""

    id: RequestId
    result: JSONValue
    error: RPCError | None


class Invalid(NamedTuple):
    """A line that is none of these: what to answer, and to which id if one could be made out."""

    id: RequestId | None
    error: RPCError


class Dropped(NamedTuple):
    """A line that nobody is answered for, and why."""

    why: str


Message: TypeAlias = Request | Notification | Reply | Invalid | Dropped


def read(line: bytes) -> Message:
    """Tell what a line is. Never raises: whatever it is not fit for becomes :class:`Invalid`."""
    try:
        value = jsonvalue.parse(line)
    except JSONError as error:
        return unreadable(line, ErrorCode.PARSE_ERROR, f"not JSON: {error}")
    if isinstance(value, list):
        return _invalid(None, "batches are not part of this protocol; send one object a line")
    if not isinstance(value, dict):
        return _invalid(None, "a message is a JSON object")
    identifier = value.get("id")
    known = identifier if _is_id(identifier) else None
    if value.get("jsonrpc") != "2.0":
        return _invalid(known, 'a message carries "jsonrpc": "2.0"')
    method = value.get("method")
    if method is None:
        return _read_reply(value, known)
    if not isinstance(method, str):
        return _invalid(known, "method is not a string")
    params = value.get("params", {})
    if "id" in value and known is None:
        return _invalid(None, "an id is an integer or a string")
    if not isinstance(params, dict):
        return Invalid(
            known, RPCError(ErrorCode.INVALID_PARAMS, "params is an object of named parameters")
        )
    return Notification(method, params) if known is None else Request(known, method, params)


def unreadable(head: bytes, code: ErrorCode, why: str) -> Invalid | Reply:
    """Tell what a line that cannot be read would have been, from how it begins.

    A reply that cannot be read is still the end of what it replies to: nobody waits for another.
    """
    match = _BEGINNING.match(head)
    if match is None:
        return Invalid(None, RPCError(code, why))
    identifier = int(match[1])
    if match[2] == b"method":
        return Invalid(identifier, RPCError(code, why))
    return Reply(identifier, None, RPCError(code, f"the reply is {why}", {"type": "ProtocolError"}))


def _read_reply(value: dict[str, JSONValue], known: RequestId | None) -> Message:
    if "result" not in value and "error" not in value:
        return _invalid(known, "neither a request (method) nor a reply (result or error)")
    if known is None:
        return _invalid(None, "a reply carries the id of its request")
    error = value.get("error")
    if error is None:
        return Reply(known, value.get("result"), None)
    if not isinstance(error, dict):
        return Reply(known, None, RPCError(ErrorCode.INTERNAL_ERROR, "the error is not an object"))
    code, message = error.get("code"), error.get("message")
    return Reply(
        known,
        None,
        RPCError(
            code if isinstance(code, int) else ErrorCode.INTERNAL_ERROR,
            message if isinstance(message, str) else "",
            error.get("data"),
        ),
    )


def _is_id(value: Any) -> bool:
    return isinstance(value, (int, str)) and not isinstance(value, bool)


def _invalid(identifier: RequestId | None, why: str) -> Invalid:
    return Invalid(identifier, RPCError(ErrorCode.INVALID_REQUEST, why))


def request(identifier: RequestId, method: str, params: dict[str, JSONValue]) -> bytes:
    """Return a request as a line."""
    return _line({"jsonrpc": "2.0", "id": identifier, "method": method, "params": params})


def notification(method: str, params: dict[str, JSONValue]) -> bytes:
    """Return a notification as a line."""
    return _line({"jsonrpc": "2.0", "method": method, "params": params})


def result(identifier: RequestId, value: JSONValue) -> bytes:
    """Return a successful reply as a line."""
    return _line({"jsonrpc": "2.0", "id": identifier, "result": value})


def error(identifier: RequestId | None, failure: RPCError) -> bytes:
    """Return an error reply as a line; an id of ``None`` is for a line whose id is unknown."""
    shape: dict[str, JSONValue] = {"code": int(failure.code), "message": failure.message}
    if failure.data is not None:
        shape["data"] = failure.data
    return _line({"jsonrpc": "2.0", "id": identifier, "error": shape})


def _line(message: dict[str, JSONValue]) -> bytes:
    try:
        return orjson.dumps(message, option=orjson.OPT_APPEND_NEWLINE)
    except TypeError:
        # orjson knows 64-bit integers only.
        return to_json(message) + b"\n"
