"""What CrewAI is given in the place of a result.

Nothing is raised into it: a ReAct agent makes a call that raised again, up to six times.
"""

from __future__ import annotations

from typing import Any

from toolgate_client import GateError
from toolgate_client._adapting.messages import (
    describe,
    details_of,
    explain,
    kind_of,
    own_words,
)
from toolgate_client._adapting.options import OnDenied

try:
    from crewai.tools.tool_failure import ToolFailure, ToolFailureReason
except ImportError:  # the first versions of CrewAI 1.15
    ToolFailure = None

_RETRYABLE = frozenset({"held", "executing", "approval_timeout", "rate_limited"})
"""Kinds of which the same call may succeed later, without anybody having to change it."""


class FailureText(str):
    """The text of a failed call, where CrewAI has no ``ToolFailure``."""

    __slots__ = ()


def is_failure(result: Any) -> bool:
    """Tell whether a result says that its call failed."""
    if isinstance(result, FailureText):
        return True
    return ToolFailure is not None and isinstance(result, ToolFailure)


def denied(tool: str, error: GateError, on_denied: OnDenied) -> Any:
    """Return what stands for a call that gave no result, and not because its body raised."""
    kind = kind_of(error)
    words = own_words(on_denied, error)
    if words is not None:
        text = message = words
    else:
        text, message = explain(tool, error), describe(tool, error)
        if kind in {"held", "executing"} and (uid := details_of(error).get("uid")):
            text, message = f"{text} Its uid is {uid}.", f"{message} Its uid is {uid}."
    if ToolFailure is None:
        return FailureText(text)
    invalid = kind == "invalid_arguments"
    return ToolFailure(
        message=message,
        reason=ToolFailureReason.INVALID_INPUT if invalid else ToolFailureReason.TOOL_REPORTED,
        code=kind if words is None else None,
        retryable=kind in _RETRYABLE,
        details=details_of(error),
    )


def raised(error: Exception) -> Any:
    """Return what stands for a call whose body raised: CrewAI's own words for that."""
    message = f"Error executing tool: {error}"
    if ToolFailure is None:
        return FailureText(message)
    return ToolFailure(
        message=message,
        reason=ToolFailureReason.EXCEPTION,
        details={"kind": "execution_failed", "exception": type(error).__name__},
    )
