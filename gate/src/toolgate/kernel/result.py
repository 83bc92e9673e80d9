"""What an execution came to. Pure.

An output must be JSON (the wire has seen to that) and match ``returns`` where the tool declares
it, which one that is too large to be told does not. A body that failed, that the client lost, or
that ran out of time, each has its kind. Where nobody can know whether the body had its effect, the
action is in doubt, and is never run again on its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeAlias

from toolgate.ir import Action, ActionStatus, FailureBehavior, OutcomeError, OutcomeKind
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.past import Content
from toolgate.kernel.redaction import Redaction
from toolgate.kernel.tools import RegisteredTool
from toolgate.plan import effects


@dataclass(frozen=True, slots=True)
class ToolOutput:
    """The body returned; ``documents`` are what it has read.

    ``omitted``: its result was too large to be told, and ``output`` says so in its place.
    """

    output: JSONValue
    documents: tuple[Content, ...] = ()
    omitted: bool = False


@dataclass(frozen=True, slots=True)
class ToolError:
    """The body raised: the type's name and the message, as the client tells them."""

    message: str
    type: str = "Exception"
    retryable: bool = True
    """Whether trying again could help, as far as the client knows."""


@dataclass(frozen=True, slots=True)
class ToolSuspended:
    """The body has stopped itself, to be entered again; ``documents`` are what it has read."""

    documents: tuple[Content, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolTimeout:
    """The body has not ended in time. ``seconds`` is how long it had.

    It may still be running, unless it ``ended`` when it was told to.
    """

    seconds: float
    ended: bool = False


@dataclass(frozen=True, slots=True)
class ToolLost:
    """Nobody will say how the body ended."""

    reason: str


ToolReply: TypeAlias = ToolOutput | ToolError | ToolSuspended | ToolTimeout | ToolLost


class Ending(NamedTuple):
    """How an action ended, or that it is in doubt; ``documents`` are what its body has read.

    ``omitted``: its result was too large to be told, and ``output`` says so in its place.
    ``proposed``: it has not ended, it is to be entered again (:mod:`toolgate.kernel.reentry`).
    """

    status: ActionStatus
    output: JSONValue = None
    error: OutcomeError | None = None
    documents: tuple[Content, ...] = ()
    omitted: bool = False


CANCELLED: Final = Ending(
    ActionStatus.SKIPPED,
    error=OutcomeError(OutcomeKind.CANCELLED, "cancelled by the caller before it ran"),
)
"""How a call ends whose caller has gone before its body was started."""


def ending(tool: RegisteredTool, reply: ToolReply, redaction: Redaction | None = None) -> Ending:
    """Judge what came back from a tool's body; its error tells nothing of redacted arguments."""
    name = tool.declared.name
    match reply:
        case ToolOutput(documents=documents, omitted=True) if tool.returns is not None:
            refused = _failed(
                OutcomeKind.INVALID_RESULT,
                f"{name} ran, and what it returned is too large to be told, so that nobody can "
                "check it against what it declares",
                {},
            )
            return refused._replace(documents=documents)
        case ToolOutput(output, documents, omitted):
            problems = tool.result_problems(output)
            if not problems:
                return Ending(ActionStatus.SUCCEEDED, output, documents=documents, omitted=omitted)
            listed = "; ".join(f"{p.pointer or '/'}: {p.message}" for p in problems)
            refused = _failed(
                OutcomeKind.INVALID_RESULT,
                f"{name} ran, and what it returned is not what it declares: {listed}",
                {"problems": [{"pointer": p.pointer, "message": p.message} for p in problems]},
            )
            return refused._replace(documents=documents)
        case ToolError(message, kind):
            failed = _failed(OutcomeKind.EXECUTION_FAILED, message or kind, {"type": kind})
            if redaction is None or failed.error is None:
                return failed
            return failed._replace(error=redaction.error(failed.error))
        case ToolSuspended(documents):
            return Ending(ActionStatus.PROPOSED, documents=documents)
        case ToolTimeout(seconds, ended=True):
            return _failed(
                OutcomeKind.EXECUTION_TIMEOUT,
                f"{name} did not end within {seconds:g} s, and was cancelled",
                {},
            )
        case ToolTimeout(seconds):
            return Ending(
                ActionStatus.IN_DOUBT,
                error=OutcomeError(
                    OutcomeKind.EXECUTION_TIMEOUT,
                    f"{name} did not end within {seconds:g} s; it may still be running. It is not "
                    "run again, and a late result settles it",
                ),
            )
        case ToolLost(reason):
            return Ending(ActionStatus.IN_DOUBT, error=in_doubt(name, reason))


def ending_of_state_action(action: Action, state: Mapping[str, JSONValue]) -> Ending:
    """Carry out a state action on the session's state, which the caller then commits."""
    done = effects.run(action, state)
    if done.error is None:
        return Ending(ActionStatus.SUCCEEDED, done.output)
    failed = Ending(
        ActionStatus.FAILED, error=OutcomeError(OutcomeKind.EXECUTION_FAILED, done.error)
    )
    return concluded(action, failed)


def concluded(action: Action, end: Ending) -> Ending:
    """Return how an action ends that will not be attempted again: ``skip`` skips a failure."""
    if end.status is ActionStatus.FAILED and action.failure_behavior is FailureBehavior.SKIP:
        return end._replace(status=ActionStatus.SKIPPED)
    return end


def unrecordable(tool: RegisteredTool, error: Exception) -> Ending:
    """Return how an action ends whose body ran, and whose own end cannot be written."""
    return _failed(
        OutcomeKind.INTERNAL_ERROR,
        f"{tool.declared.name} ran, and how it ended cannot be recorded: {error}. It is not run "
        "again; look whether it had its effect",
        {"type": type(error).__name__},
    )


def in_doubt(name: str, reason: str) -> OutcomeError:
    """Return the error of an action whose body may or may not have run."""
    return OutcomeError(
        OutcomeKind.IN_DOUBT,
        f"{name} may or may not have run: {reason}. It is not run again on its own: look whether "
        "it had its effect, and settle it",
    )


def _failed(kind: OutcomeKind, message: str, details: dict[str, JSONValue]) -> Ending:
    return Ending(ActionStatus.FAILED, error=OutcomeError(kind, message, details))
