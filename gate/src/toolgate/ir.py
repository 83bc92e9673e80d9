"""The action IR: the values that a call is made of, without behaviour.

The tables of statuses and outcome kinds stand here and nowhere else; code, wire, command line and
docs read them from here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from toolgate.jsonvalue import JSONValue


class ActionType(StrEnum):
    """What an action does: call a tool, touch the session's state, or assert something of it."""

    TOOL_CALL = "tool_call"
    STATE_WRITE = "state_write"
    STATE_READ = "state_read"
    ASSERTION = "assertion"


class ActionStatus(StrEnum):
    """Where an action stands; the last five are ends."""

    PROPOSED = "proposed"
    VALIDATED = "validated"
    HELD = "held"
    EXECUTING = "executing"
    IN_DOUBT = "in_doubt"
    """Its body may or may not have run (the gate or the client died, or it timed out)."""
    REJECTED = "rejected"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"


class OutcomeKind(StrEnum):
    """Why an action did not succeed: the machine's tag beside the text for people."""

    INVALID_ACTION = "invalid_action"
    UNREGISTERED_TOOL = "unregistered_tool"
    INVALID_ARGUMENTS = "invalid_arguments"
    PRECONDITION_FAILED = "precondition_failed"
    DEPENDENCY_FAILED = "dependency_failed"
    CAPABILITY_DENIED = "capability_denied"
    POLICY_DENIED = "policy_denied"
    APPROVAL_REQUIRED = "approval_required"
    """The call needs a person's approval and nobody is configured to give one."""
    APPROVAL_DENIED = "approval_denied"
    APPROVAL_TIMEOUT = "approval_timeout"
    RATE_LIMITED = "rate_limited"
    BUDGET_EXCEEDED = "budget_exceeded"
    EXECUTION_FAILED = "execution_failed"
    EXECUTION_TIMEOUT = "execution_timeout"
    INVALID_RESULT = "invalid_result"
    CANCELLED = "cancelled"
    IN_DOUBT = "in_doubt"
    UNKNOWN_ACTION = "unknown_action"
    INTERNAL_ERROR = "internal_error"


class ToolSchema(BaseModel):
    """A tool as a client declares it; trust is not the client's to declare (see contracts)."""

    model_config = ConfigDict(strict=True, frozen=True)

    name: str = Field(min_length=1, max_length=256)
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """JSON Schema of the arguments; ``{}`` accepts any object."""
    returns: dict[str, Any] | None = None
    """JSON Schema of the output; ``None`` accepts any JSON."""
    idempotent: bool = False


@dataclass(frozen=True, slots=True)
class OutcomeError:
    """Why an action did not succeed: a machine tag, a sentence for people, and particulars."""

    kind: OutcomeKind
    message: str
    details: dict[str, JSONValue] | None = None

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape; ``details`` is left out when there are none."""
        shape: dict[str, JSONValue] = {"kind": self.kind.value, "message": self.message}
        if self.details is not None:
            shape["details"] = self.details
        return shape


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a call came to, as the wire and the journal tell it."""

    status: ActionStatus
    uid: str
    output: JSONValue = None
    error: OutcomeError | None = None
    hold: dict[str, JSONValue] | None = None
    decision: dict[str, JSONValue] | None = None
    duration_ms: float | None = None
    attempts: int = 0
    replayed: bool = False
    state_changes: dict[str, JSONValue] = field(default_factory=dict)

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape: optional fields are left out, never null.

        An action in doubt is ``failed`` to its caller, with kind ``in_doubt`` or, when only its
        time ran out, ``execution_timeout``.
        """
        status = ActionStatus.FAILED if self.status is ActionStatus.IN_DOUBT else self.status
        shape: dict[str, JSONValue] = {
            "status": status.value,
            "uid": self.uid,
            "action_id": self.uid,
            "state_changes": self.state_changes,
            "attempts": self.attempts,
            "replayed": self.replayed,
        }
        if self.status is ActionStatus.SUCCEEDED:
            shape["output"] = self.output
        if self.error is not None:
            shape["error"] = self.error.to_json()
        if self.hold is not None:
            shape["hold"] = self.hold
        if self.decision is not None:
            shape["decision"] = self.decision
        if self.duration_ms is not None:
            shape["duration_ms"] = self.duration_ms
        return shape
