"""What the gate records of a tool's result, and how a recorded result becomes one again.

The framework gets the very object the body returned. A recorded result is needed when LangGraph
runs a node again whose call has already had its effect: after an interrupt, a crash, a retry.

Messages, commands and pairs of content and artifact are recorded in a marked form; everything else
is left to the client's encoder. Data that carries the mark by itself is wrapped, so that what a
tool fetched from somewhere can never come back as a command.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any, Literal

from langchain_core.messages import (
    BaseMessage,
    ToolMessage,
    message_to_dict,
    messages_from_dict,
)
from langchain_core.tools.base import _format_output

ResponseFormat = Literal["content", "content_and_artifact"]

_MARK = "toolgate:type"


def record(value: Any, response_format: ResponseFormat = "content") -> Any:
    """Return what the gate is told of a result; :func:`restore` turns it back."""
    if response_format == "content_and_artifact" and isinstance(value, tuple) and len(value) == 2:
        return {_MARK: "pair", "content": _part(value[0]), "artifact": value[1]}
    if _is_special(value) or (isinstance(value, list) and any(map(_is_special, value))):
        return _part(value)
    return _data(value)


def restore(recorded: Any, response_format: ResponseFormat = "content") -> Any:
    """Return a recorded result as the tool returned it.

    Content, messages and commands come back as they were; an artifact, and any object that is not
    JSON, as the projection the client made of it.
    """
    value = _restore(recorded) if isinstance(recorded, dict) and _MARK in recorded else recorded
    if response_format == "content_and_artifact" and not isinstance(value, tuple):
        return value, None
    return value


def _part(value: Any) -> Any:
    if isinstance(value, BaseMessage):
        return {_MARK: "message", "message": message_to_dict(value)}
    if is_langgraph(value, "Command"):
        parts = {field.name: _part(getattr(value, field.name)) for field in fields(value)}
        return {_MARK: "command", "parts": parts}
    if is_langgraph(value, "Send"):
        return {_MARK: "send", "node": value.node, "arg": _part(value.arg)}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {_MARK: kind, "items": [_part(item) for item in value]}
    if isinstance(value, dict):
        items = [[key, _part(item)] for key, item in value.items()]
        return {_MARK: "object", "items": items}
    return _data(value)


def _data(value: Any) -> Any:
    """Wrap what is, or may be written as, an object that has the mark's key."""
    if isinstance(value, dict):
        marked = _MARK in value
    else:
        marked = isinstance(value, Mapping) or hasattr(value, "model_dump")
    return {_MARK: "data", "data": value} if marked else value


def _restore(recorded: Any) -> Any:
    if not isinstance(recorded, dict):
        return recorded
    match recorded.get(_MARK):
        case "message":
            return messages_from_dict([recorded["message"]])[0]
        case "pair":
            return _restore(recorded["content"]), recorded["artifact"]
        case "list":
            return [_restore(item) for item in recorded["items"]]
        case "tuple":
            return tuple(_restore(item) for item in recorded["items"])
        case "object":
            return {key: _restore(item) for key, item in recorded["items"]}
        case "data":
            return recorded["data"]
        case "send":
            from langgraph.types import Send

            return Send(recorded["node"], _restore(recorded["arg"]))
        case "command":
            from langgraph.types import Command

            return Command(**{key: _restore(part) for key, part in recorded["parts"].items()})
        case _:
            return recorded


def _is_special(value: Any) -> bool:
    return isinstance(value, BaseMessage) or is_langgraph(value, "Command")


def is_langgraph(value: Any, name: str) -> bool:
    """Tell by name: a process that never imported langgraph has none of its objects."""
    homes = ("langgraph.types", "langgraph.errors")
    return any(cls.__name__ == name and cls.__module__ in homes for cls in type(value).__mro__)


def with_note(
    value: Any, note: str, tool: str, call_id: str, response_format: ResponseFormat
) -> Any:
    """Return a result with a note added to what the model is told of this call.

    Artifacts stay as they are.
    """
    if response_format == "content_and_artifact":
        if not isinstance(value, tuple) or len(value) != 2:
            return value  # LangChain refuses it
        content, artifact = value
        return _noted(content, artifact, note, tool, call_id), artifact
    return _noted(value, None, note, tool, call_id)


def _noted(content: Any, artifact: Any, note: str, tool: str, call_id: str) -> Any:
    said = _format_output(content, artifact, call_id, tool, "success")
    if isinstance(said, list):
        return [_noted_part(part, note, call_id) for part in said]
    return _noted_part(said, note, call_id)


def _noted_part(said: Any, note: str, call_id: str) -> Any:
    if isinstance(said, ToolMessage):
        if said.tool_call_id != call_id:
            return said
        content = said.content
        block = {"type": "text", "text": note}
        more: Any = f"{content}\n\n{note}" if isinstance(content, str) else [*content, block]
        return said.model_copy(update={"content": more})
    if is_langgraph(said, "Command") and isinstance(said.update, dict):
        update = {
            key: [_noted_part(each, note, call_id) for each in part]
            if isinstance(part, list)
            else part
            for key, part in said.update.items()
        }
        return replace(said, update=update)
    return said
