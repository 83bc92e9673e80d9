"""The wire of Lodestar's runtime clients, as another way to write the gate's own messages. Pure.

Their messages are flat objects with a ``type``; unknown keys are errors. What they cannot say (a
proposal, a cancellation, an idempotency key) does not exist here, and what they cannot be told (a
``cancel_tool``) is not sent. The ids of their requests and those of the gate's ``run_tool`` are
two spaces, as they are in JSON-RPC, so an ``error`` carries the id of a request or none at all.
"""

from __future__ import annotations

import json
import math
import re
from typing import Annotated, Any, Final, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    FailFast,
    Field,
    ValidationError,
    model_validator,
)

from toolgate import jsonvalue
from toolgate.errors import JSONError
from toolgate.ir import LONGEST_MS
from toolgate.jsonvalue import JSONValue
from toolgate.plan.text import shown
from toolgate.wire.framing import HEAD, Oversized
from toolgate.wire.messages import (
    Dropped,
    ErrorCode,
    Invalid,
    Message,
    Notification,
    Reply,
    Request,
    RequestId,
    RPCError,
)
from toolgate.wire.params import problems_of

LONGEST_DRAIN: Final = 3.0
"""Seconds: the clients kill a gate that has not ended 5 s after they told it to."""

_MOST_DIGITS: Final = 1000
"""Of a number that is looked at; Python refuses to read some thousands."""

_BEGINNING = re.compile(rb'\s*\{\s*"type"\s*:\s*"(\w+)"\s*(?:,\s*"id"\s*:\s*([0-9]{1,18})\s*[,}])?')
_END = re.compile(rb'[{,]\s*"id"\s*:\s*([0-9]{1,18})\s*\}\s*$')
"""How the clients write messages: the type first, the id after it or last of all."""


def _whole(value: object) -> object:
    """Take 500.0 for 500, as JavaScript does, for which the clients were written."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


class _Closed(BaseModel):
    """An object of which an unknown key is an error: one, however many there are."""

    model_config = ConfigDict(strict=True, frozen=True, defer_build=True)

    @model_validator(mode="before")
    @classmethod
    def _has_no_other_key(cls, value: object) -> object:
        if isinstance(value, dict):
            for key in value:
                if key not in cls.model_fields:
                    raise ValueError(f"has an unknown key {shown(key)}")
        return value


class _Sent(_Closed):
    """A message of the client."""

    type: str


_Text = Annotated[str, Field(min_length=1)]
_ToolName = Annotated[str, Field(min_length=1, max_length=256)]
_Milliseconds = Annotated[int, BeforeValidator(_whole), Field(ge=0, le=LONGEST_MS)]


class _RegisterTool(_Sent):
    id: int
    name: _ToolName


class _Govern(_Sent):
    id: int
    tool: _ToolName
    args: dict[str, Any] = {}


class _Resume(_Sent):
    id: int
    action_id: _Text
    request_id: _Text
    wait_ms: _Milliseconds = 0


class _Document(_Closed):
    """What a body has read; it cannot claim to be trusted."""

    text: str
    source: str | None = None


class _ToolResult(_Sent):
    id: int
    output: Any
    documents: Annotated[list[_Document], FailFast()] = []


class _ToolError(_Sent):
    id: int
    message: str


class _Shutdown(_Sent):
    pass


_ANSWERS_OF_A_RUN: Final = frozenset({"tool_result", "tool_error"})
_SENT: Final[dict[str, type[_Sent]]] = {
    "register_tool": _RegisterTool,
    "govern": _Govern,
    "resume": _Resume,
    "tool_result": _ToolResult,
    "tool_error": _ToolError,
    "shutdown": _Shutdown,
}

REJECTED: Final = {
    "unregistered_tool": "unregistered_tool",
    "unknown_action": "unknown_action",
    "policy_denied": "policy_denied",
    "capability_denied": "policy_denied",
    "rate_limited": "policy_denied",
    "budget_exceeded": "policy_denied",
    "approval_required": "approval_required",
    "approval_denied": "approval_denied",
    "approval_timeout": "approval_timeout",
    "precondition_failed": "precondition_failed",
    "dependency_failed": "precondition_failed",
    "invalid_action": "precondition_failed",
    "invalid_arguments": "precondition_failed",
    "cancelled": "precondition_failed",
}
"""Our kinds of outcomes whose body was not run, and how they are called there."""

FAILED: Final = {
    "execution_failed": "execution_failed",
    "execution_timeout": "execution_failed",
    "invalid_result": "execution_failed",
    "in_doubt": "execution_failed",
    "internal_error": "internal_error",
}
"""Our kinds of outcomes whose body was run, or nobody can tell, and how they are called there."""

_KINDS: Final = REJECTED | FAILED
_PENDING: Final = frozenset({"held", "executing", "proposed"})
"""Statuses of an action that has not come to its end: it is to be resumed later."""

_UNAVAILABLE: Final = frozenset({ErrorCode.INTERNAL_ERROR, ErrorCode.JOURNAL_UNAVAILABLE})


class _Glimpse(NamedTuple):
    """What is seen of a message that cannot be taken: its type and its id, if it has them."""

    type: str | None = None
    id: int | None = None


class Lodestar:
    """The codec. ``log_root`` is what ``ready`` calls so: where the journal is."""

    longest_drain: Final = LONGEST_DRAIN
    ends_matter: Final = True

    def __init__(self, log_root: str) -> None:
        self._log_root = log_root

    # -- what the client sends ---------------------------------------------------------------------

    def read(self, line: bytes) -> tuple[Message, ...]:
        """Tell what a line is.

        What is not JSON is dropped. What JSON allows and this gate does not (an object with a key
        twice, a lone surrogate, a nesting too deep, a number too large) is refused like any other
        malformed message: its sender waits for an answer.
        """
        try:
            value = jsonvalue.parse(line)
        except JSONError as error:
            seen = _glimpse(line)
            if seen is None:
                return (Dropped(f"a line that is not JSON is dropped: {error}"),)
            return _refused(seen, ErrorCode.PARSE_ERROR, f"this gate cannot take it: {error}")
        return _read(value)

    def oversized(self, line: Oversized, why: str) -> tuple[Message, ...]:
        """Tell what a line that is too long would have been, from how it begins and ends."""
        return _refused(_ends(line.head, line.tail), ErrorCode.MESSAGE_TOO_LARGE, why)

    # -- what the gate sends -----------------------------------------------------------------------

    def request(self, identifier: RequestId, method: str, params: dict[str, JSONValue]) -> bytes:
        """Return a ``run_tool``, the one request there is."""
        run = {"tool": params["tool"], "args": params["args"], "action_id": params["uid"]}
        return _line({"type": method, "id": identifier, **run})

    def notification(self, method: str, params: dict[str, JSONValue]) -> bytes:
        """Return ``ready``; there is no other notification here."""
        if method != "ready":
            return b""
        known = {"session_id": params["session"], "project_id": params["project"]}
        return _line({"type": "ready", **known, "log_root": self._log_root})

    def result(self, request: Request, value: JSONValue) -> bytes:
        """Return ``registered`` or ``govern_result``."""
        if request.method == "register_tool":
            level = value["contract"]["level"]
            told = {"type": "registered", "id": request.id, "name": value["name"]}
            return _line({**told, "required_level": level})
        return _line({"type": "govern_result", "id": request.id, **_govern_result(value)})

    def failure(self, request: Request, error: RPCError) -> bytes:
        """Return ``error``, or a ``govern_result`` of an action that the gate failed on."""
        data = error.data if isinstance(error.data, dict) else {}
        uid = data.get("uid", request.params.get("uid"))
        if error.code not in _UNAVAILABLE or uid is None:
            return _error(request.id, error.message)
        failed = {"phase": "failed", "action_id": uid}
        why = {"reason": error.message, "kind": "internal_error"}
        return _line({"type": "govern_result", "id": request.id, **failed, **why})

    def invalid(self, message: Invalid) -> bytes:
        """Return ``error``, with an id when it is that of a request."""
        return _error(message.id, message.error.message)


def _read(value: JSONValue) -> tuple[Message, ...]:
    """Tell what a JSON value is, as a message."""
    seen = _seen(value)
    model = _SENT.get(seen.type or "")
    if model is None:
        known = ", ".join(_SENT)
        return _refused(seen, ErrorCode.INVALID_REQUEST, f"its type is none of {known}")
    try:
        sent = model.model_validate(value)
    except ValidationError as error:
        problems = "; ".join(problems_of(error, value))
        return _refused(seen, ErrorCode.INVALID_PARAMS, problems)
    return (_meant(sent),)


def _meant(sent: _Sent) -> Message:
    """Return the message of JSON-RPC that says the same."""
    match sent:
        case _RegisterTool(id=id, name=name):
            return Request(id, "register_tool", {"name": name})
        case _Govern(id=id, tool=tool, args=args):
            return Request(id, "govern", {"tool": tool, "args": args})
        case _Resume(id=id, action_id=uid, wait_ms=wait_ms):
            return Request(id, "resume", {"uid": uid, "wait_ms": wait_ms})
        case _ToolResult(id=id, output=output, documents=documents):
            read: list[JSONValue] = [{"text": d.text, "source": d.source} for d in documents]
            return Reply(id, {"output": output, "documents": read}, None)
        case _ToolError(id=id, message=message):
            return Reply(id, None, RPCError(ErrorCode.TOOL_FAILED, message))
        case _:
            return Notification("shutdown", {})


def _refused(seen: _Glimpse, code: ErrorCode, why: str) -> tuple[Message, ...]:
    """Return what a malformed message comes to.

    A request is answered with its id. The answer of a run ends that run, which fails; the error
    that tells of it has no id, for that of a run could be taken for a request's.
    """
    error = RPCError(code, f"malformed {seen.type if seen.type in _SENT else 'message'}: {why}")
    if seen.type not in _ANSWERS_OF_A_RUN:
        return (Invalid(seen.id, error),)
    told = Invalid(None, error)
    if seen.id is None:
        return (told,)
    failed = RPCError(ErrorCode.TOOL_FAILED, str(error), {"type": "ProtocolError"})
    return (Reply(seen.id, None, failed), told)


def _seen(value: JSONValue) -> _Glimpse:
    """Return what is seen of a message that could be parsed."""
    if not isinstance(value, dict):
        return _Glimpse()
    kind, id = value.get("type"), value.get("id")
    whole = isinstance(id, int) and not isinstance(id, bool)
    return _Glimpse(kind if isinstance(kind, str) else None, id if whole else None)


def _glimpse(line: bytes) -> _Glimpse | None:
    """Return what is seen of a line that this gate refuses; ``None`` when it is not JSON."""
    try:
        parsed = json.loads(line.decode(), parse_constant=_not_json, parse_int=_number)
        return _seen(parsed)
    except ValueError:
        return None
    except RecursionError:
        return _ends(line[:HEAD], line[-HEAD:])


def _number(digits: str) -> JSONValue:
    return int(digits) if len(digits) < _MOST_DIGITS else math.inf


def _not_json(constant: str) -> JSONValue:
    raise ValueError(f"{constant} is not JSON")


def _ends(head: bytes, tail: bytes) -> _Glimpse:
    """Return what a message's beginning and end tell of it."""
    began = _BEGINNING.match(head)
    if began is None:
        return _Glimpse()
    ended = _END.search(tail)
    identifier = began[2] or (ended and ended[1])
    return _Glimpse(began[1].decode(), int(identifier) if identifier else None)


def _govern_result(outcome: dict[str, JSONValue]) -> dict[str, JSONValue]:
    """Return how an outcome is told: its phase, and what belongs to that."""
    status, uid = outcome["status"], outcome["uid"]
    if status == "succeeded":
        return {"phase": "completed", "action_id": uid, "output": outcome["output"]}
    hold, error = outcome.get("hold", {}), outcome.get("error")
    told: dict[str, JSONValue] = {"request_id": hold.get("hold_id")}
    if status in _PENDING:
        phase = "pending_approval"
        told |= {"deadline": hold.get("deadline"), "reason": hold.get("reason", f"it is {status}")}
    else:
        phase = "rejected" if outcome["error"]["kind"] in REJECTED else "failed"
    if error is not None:
        told |= {"reason": error["message"], "kind": _KINDS[error["kind"]]}
    present = {name: value for name, value in told.items() if value is not None}
    return {"phase": phase, "action_id": uid, **present}


def _error(identifier: RequestId | None, message: str) -> bytes:
    told = {"type": "error", "message": message}
    return _line(told if identifier is None else {**told, "id": identifier})


def _line(message: dict[str, JSONValue]) -> bytes:
    # ASCII alone: the clients read in whatever encoding their locale has.
    return json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"
