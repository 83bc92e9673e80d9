"""The client's one exception tree: what can go wrong between a caller and its gate."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolgate_client._models import Hold, Outcome


class GateError(Exception):
    """Base of everything this package raises about a gate or a governed call."""


class GateStartError(GateError):
    """The gate could not be found, started, or did not say it was ready in time.

    The message holds what the gate printed. ``exit_code`` is the gate's exit code, or ``None`` when
    it never ran or had to be ended; ``stderr`` is the last part of what it printed.
    """

    def __init__(self, message: str, *, exit_code: int | None = None, stderr: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.stderr = stderr


class GateClosed(GateError):
    """There is no gate to ask: this client was closed, or its gate ended.

    ``exit_code`` is the gate's exit code (negative: the number of the signal that ended it), or
    ``None`` when it is not known; ``stderr`` is the last part of what the gate printed.
    """

    def __init__(self, message: str, *, exit_code: int | None = None, stderr: str = "") -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.stderr = stderr


class ProtocolError(GateError):
    """The gate refused a request as such. A denied call is not this: it is an :class:`Outcome`.

    ``code`` is the JSON-RPC error code (−32602 bad parameters, −32001 message too large, −32003 too
    many calls in flight, −32004 another schema for a registered tool, −32005 journal unavailable);
    ``data`` is what the gate added to it, such as the list of what is wrong.
    """

    def __init__(self, message: str, *, code: int = -32603, data: Any = None) -> None:
        super().__init__(message)
        self.code = code
        self.data = data


class ActionError(GateError):
    """A governed call has no output to return.

    ``kind`` is the machine-readable reason (``policy_denied``, ``invalid_arguments``,
    ``execution_failed`` …), ``reason`` the one for people, ``uid`` names the action at the gate,
    ``hold`` tells what it waits for, and ``outcome`` is the whole of it.
    """

    def __init__(
        self,
        message: str,
        *,
        kind: str = "",
        reason: str = "",
        uid: str = "",
        hold: Hold | None = None,
        outcome: Outcome | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.reason = reason
        self.uid = uid
        self.hold = hold
        self.outcome = outcome


class ActionDenied(ActionError):
    """The call did not run: it was rejected or skipped."""


class ActionHeld(ActionError):
    """The call is not settled yet: somebody has to decide, or another gate runs it right now.

    Or its body has stopped itself; then its ``__cause__`` is the :class:`ToolSuspended`. ``kind``
    is ``held``, ``executing`` or ``proposed``. ``resume(uid)`` continues it.
    """


class ActionFailed(ActionError):
    """The call ran and failed. What its body raised in this call is its ``__cause__``."""


class ToolSuspended(GateError):
    """A body raises this to stop itself: its call has not failed, and has not ended.

    The action goes back to what it was before, ``held`` with its approvals or ``proposed``, and
    ``resume(uid)`` enters the body again, from its top. What it did until then stays done.
    """


def action_error(tool: str, outcome: Outcome) -> ActionError:
    """The error that says why a call has no output."""
    error, hold, decision = outcome.error, outcome.hold, outcome.decision
    reason = (error and error.message) or (hold and hold.reason) or (decision and decision.reason)
    kind = error.kind if error is not None and error.kind else outcome.status
    what = f"the call to tool {tool!r}"
    later = f"; resume({outcome.uid!r}) continues it"
    classes: dict[str, tuple[type[ActionError], str]] = {
        "held": (ActionHeld, f"{what} is held: {reason or 'it needs approval'}{later}"),
        "executing": (ActionHeld, f"{what} is run by another gate at this moment{later}"),
        "failed": (ActionFailed, f"{what} failed ({kind}): {reason or 'no reason was given'}"),
    }
    stopped = (ActionHeld, f"the body of {what} has stopped itself{later}")
    classes["proposed"] = stopped
    if isinstance(outcome.exception, ToolSuspended):
        classes["held"] = stopped
    denied = (ActionDenied, f"{what} was denied ({kind}): {reason or 'no reason was given'}")
    cls, message = classes.get(outcome.status, denied)
    return cls(message, kind=kind, reason=reason or "", uid=outcome.uid, hold=hold, outcome=outcome)
