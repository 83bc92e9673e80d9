"""What a model is told about a call that gave no result: why, and what it can do now."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from typing import Any

from toolgate_client import ActionError, ActionFailed, GateClosed, GateError, Outcome
from toolgate_client._adapting.options import OnDenied

_SETTLED = "Do not repeat this call; choose another way or tell the user."
_UNKNOWN_EFFECT = (
    "It may or may not have taken effect: do not repeat it, and tell the user that it must be "
    "checked."
)

# Kind of outcome: what happened (the reason follows), and what to do now.
_TEXTS: dict[str, tuple[str, str]] = {
    "policy_denied": ("did not run, because policy denies it", _SETTLED),
    "approval_timeout": ("did not run", "Tell the user that it still needs an approval."),
    "held": (
        "has not run, because it waits for a person's approval",
        "Do not repeat it; tell the user that it is waiting.",
    ),
    "executing": ("is being run by another process at this moment", "Do not repeat it."),
    "proposed": (
        "has stopped itself, and has not ended",
        "Do not repeat it; tell the user that it is waiting.",
    ),
    "invalid_arguments": ("did not run", "Correct the arguments and try again."),
    "invalid_edit": ("did not run", "Do not repeat it; tell the user."),
    "rate_limited": ("did not run", "Try again later."),
    "cancelled": ("did not run", "Ask the user before you try again."),
    "execution_failed": ("failed", "Ask the user before you try again."),
    "execution_timeout": ("gave no result", _UNKNOWN_EFFECT),
    "in_doubt": ("gave no result", _UNKNOWN_EFFECT),
    "invalid_result": (
        "ran, but its result was refused",
        "Do not repeat it: it has had its effect.",
    ),
    "gate_unavailable": (
        "did not run, because the gate that governs it cannot be reached",
        "No governed tool can run now; tell the user.",
    ),
}
_DENIED = ("did not run", _SETTLED)
_FAILED = ("gave no result", _UNKNOWN_EFFECT)


def kind_of(error: GateError) -> str:
    """Return the machine-readable kind of a call without a result."""
    return error.kind if isinstance(error, ActionError) else "gate_unavailable"


def reason_of(error: GateError) -> str:
    """Return why, for a model: without what a dying gate printed."""
    if isinstance(error, GateClosed):
        return ""
    return error.reason if isinstance(error, ActionError) else str(error)


def describe(tool: str, error: GateError) -> str:
    """Return what happened to a call without a result, why, and what to do now."""
    kind = kind_of(error)
    reason = reason_of(error).strip()
    happened, advice = _TEXTS.get(kind, _FAILED if isinstance(error, ActionFailed) else _DENIED)
    because = f": {reason}" if reason else ""
    stop = "" if because.endswith((".", "!", "?")) else "."
    return f"{tool} {happened}{because}{stop} {advice}"


def explain(tool: str, error: GateError) -> str:
    """Return the same with the kind, as the text that a model sees instead of a result."""
    return f"{describe(tool, error)} [{kind_of(error)}]"


def of_edit(args: Mapping[str, Any]) -> str:
    """Return what a model is told of a call that a person has changed before approving it."""
    text = json.dumps(args, ensure_ascii=False)
    return f"[A person changed the arguments before approving this call. It ran with: {text}]"


def recorded_output(outcome: Outcome) -> Any:
    """Return the recorded output of a call; of one that was omitted a text that says so.

    A text is what every framework shows a model as it is.
    """
    if not outcome.omitted:
        return outcome.output
    text = json.dumps(outcome.output, ensure_ascii=False)
    return f"[The call has succeeded. Its result cannot be shown again: {text}]"


def own_words(on_denied: OnDenied, error: GateError) -> str | None:
    """Return what a program's own function says of an error; ``None``: there is none, or it fails.

    What it raises would take the place of a denial, which a framework may answer by a second call.
    """
    if not callable(on_denied):
        return None
    try:
        return str(on_denied(error))
    except Exception as problem:  # noqa: BLE001 - it is the program's own code
        warnings.warn(f"on_denied raised {problem!r}; its text is left out", stacklevel=2)
        return None


def details_of(error: GateError) -> dict[str, Any]:
    """Return the same for programs, as JSON: the artifact of the error message."""
    details: dict[str, Any] = {"kind": kind_of(error)}
    if isinstance(error, ActionError):
        details["reason"] = error.reason
        details["uid"] = error.uid
        if error.outcome is not None:
            details["status"] = error.outcome.status
            if error.outcome.decision is not None:
                details["rules"] = list(error.outcome.decision.rules)
        if error.hold is not None:
            details["hold_id"] = error.hold.hold_id
    return details
