"""The action IR: the values that a call is made of, without behaviour.

The tables of statuses and outcome kinds stand here and nowhere else; code, wire, command line and
docs read them from here.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Literal, TypeAlias

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


LONGEST_MS = 10**12
"""Milliseconds, some thirty years: a longer time is a mistake, and would not fit a timer."""


class FailureBehavior(StrEnum):
    """What a failed action means for its proposal."""

    ABORT = "abort"
    """Nothing further starts, and what the proposal did is undone where that can be done."""
    RETRY = "retry"
    """It is attempted again, up to ``max_retries`` times; when that is no use, the plan goes on."""
    SKIP = "skip"
    """It counts as skipped, and the plan goes on."""


class ProposalStatus(StrEnum):
    """Where a proposal stands; the last two are ends."""

    RUNNING = "running"
    SUSPENDED = "suspended"
    """It waits for people: an action is held, and nothing else can start before it is settled."""
    COMPLETED = "completed"
    ABORTED = "aborted"


class _Model(BaseModel):
    """A value that a client sends: types are strict, unknown fields are left out."""

    # A schema is built when it is first needed: a gate is to be ready soon.
    model_config = ConfigDict(strict=True, frozen=True, extra="ignore", defer_build=True)


class RateLimit(_Model):
    """At most ``max_calls`` within ``interval_secs`` seconds, as a token bucket."""

    max_calls: Annotated[int, Field(ge=1)]
    interval_secs: Annotated[float, Field(gt=0, allow_inf_nan=False)]


class ToolSchema(_Model):
    """A tool as a client declares it; trust is not the client's to declare (see contracts)."""

    name: str = Field(min_length=1, max_length=256)
    description: str = ""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """JSON Schema of the arguments; ``{}`` accepts any object."""
    returns: dict[str, Any] | None = None
    """JSON Schema of the output; ``None`` accepts any JSON."""
    idempotent: bool = False
    """A repeat of a call that succeeded in this session gets its result. Permits no second run."""
    cache_ttl_secs: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    """Seconds for which a repeat of a call that succeeded in this session gets its result."""
    rate_limit: RateLimit | None = None


class Precondition(_Model):
    """What must hold of the session's state before an action may run.

    ``operator`` is one of :data:`toolgate.plan.preconditions.OPERATORS`; any other never holds.
    """

    key: str
    operator: str = "eq"
    value: Any = None
    description: str = ""


class ToolCompensation(_Model):
    """A call that compensates an action: it counteracts what the action did."""

    type: Literal["tool"]
    tool: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class ActionCompensation(_Model):
    """Another action of the proposal that compensates this one, and runs for nothing else."""

    type: Literal["action_ref"]
    action_id: str


Compensation: TypeAlias = Annotated[
    ToolCompensation | ActionCompensation, Field(discriminator="type")
]
Reversibility: TypeAlias = Literal["irreversible", "compensable", "reversible"]


def _local_id() -> str:
    return secrets.token_hex(6)


class Action(_Model):
    """One action of a proposal. ``id`` is a name within the proposal; ``timeout_ms`` milliseconds.

    ``parameters`` are a tool's arguments; state actions name their key there (``key``), with
    ``value`` (``state_write``) or ``expected`` (``assertion``). ``expected_effects`` are committed
    to the session's state when the action has succeeded. ``state_dependencies`` are keys that the
    action reads.
    """

    id: str = Field(default_factory=_local_id, min_length=1, max_length=256)
    type: Annotated[ActionType, Field(strict=False)]
    tool: str | None = None
    parameters: dict[str, Any] = Field(default_factory=dict)
    preconditions: tuple[Precondition, ...] = Field(default=(), strict=False)
    expected_effects: dict[str, Any] = Field(default_factory=dict)
    state_dependencies: tuple[str, ...] = Field(default=(), strict=False)
    dependencies: tuple[str, ...] = Field(default=(), strict=False)
    idempotent: bool = False
    max_retries: Annotated[int, Field(ge=0, le=1000)] = 3
    failure_behavior: Annotated[FailureBehavior, Field(strict=False)] = FailureBehavior.ABORT
    timeout_ms: Annotated[int, Field(ge=1, le=LONGEST_MS)] | None = None
    reversibility: Reversibility = "irreversible"
    compensation: Compensation | None = None
    metadata: dict[str, Any] = Field(default_factory=dict)


class ActionProposal(_Model):
    """A plan: a graph of actions. ``id`` is the proposer's own name for it."""

    id: str = Field(default_factory=_local_id, min_length=1, max_length=256)
    source: str = "unknown"
    actions: tuple[Action, ...] = Field(strict=False)
    timestamp: str | None = None
    """When it was made (RFC 3339, UTC), as the proposer says."""
    context: dict[str, Any] = Field(default_factory=dict)


class CostBudget(_Model):
    """What may be spent at most; ``None`` is no limit. Durations in milliseconds."""

    max_tool_calls: Annotated[int, Field(ge=0)] | None = None
    max_duration_ms: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    max_actions: Annotated[int, Field(ge=0)] | None = None


class CostTarget(_Model):
    """What a plan should cost, for ranking; ``cost_weight`` is from 0 (ignored) to 1."""

    target_tool_calls: Annotated[int, Field(ge=1)] = 5
    target_duration_ms: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 5000.0
    target_actions: Annotated[int, Field(ge=1)] = 10
    cost_weight: Annotated[float, Field(ge=0, le=1)] = 0.2


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
    action_id: str | None = None
    """The action's name in its proposal; ``None``: it is a single call, named by its uid."""
    proposal: ProposalResult | None = None
    """How the action's proposal stands, when it was brought on with the action."""
    edited_args: dict[str, JSONValue] | None = None
    """The arguments that an approver has put in the place of the caller's; ``None``: nobody has."""
    omitted: bool = False
    """The result was too large to be told; ``output`` says so in its place."""

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape: optional fields are left out, never null.

        An action in doubt is ``failed`` to its caller, with kind ``in_doubt`` or, when only its
        time ran out, ``execution_timeout``.
        """
        status = ActionStatus.FAILED if self.status is ActionStatus.IN_DOUBT else self.status
        shape: dict[str, JSONValue] = {
            "status": status.value,
            "uid": self.uid,
            "action_id": self.action_id or self.uid,
            "state_changes": self.state_changes,
            "attempts": self.attempts,
            "replayed": self.replayed,
        }
        if self.status is ActionStatus.SUCCEEDED:
            shape["output"] = self.output
        if self.omitted:
            shape["omitted"] = True
        if self.error is not None:
            shape["error"] = self.error.to_json()
        if self.hold is not None:
            shape["hold"] = self.hold
        if self.decision is not None:
            shape["decision"] = self.decision
        if self.duration_ms is not None:
            shape["duration_ms"] = self.duration_ms
        if self.edited_args is not None:
            shape["edited_args"] = self.edited_args
        if self.proposal is not None:
            shape["proposal"] = self.proposal.to_json()
        return shape


@dataclass(frozen=True, slots=True)
class ActionResult:
    """What one action of a proposal came to. ``action_id`` is its name in the proposal.

    ``rolled_back`` marks a success whose effects on state were undone when the proposal was
    aborted. ``timestamp`` (RFC 3339, UTC) is when it came to stand so.
    """

    action_id: str
    outcome: Outcome
    rolled_back: bool
    timestamp: str

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape: an error is a text for people, beside its kind."""
        shape = self.outcome.to_json()
        del shape["replayed"]
        error = self.outcome.error
        if error is not None:
            shape["error"] = error.message
            shape["kind"] = error.kind.value
            if error.details is not None:
                shape["details"] = error.details
        shape["action_id"] = self.action_id
        shape["rolled_back"] = self.rolled_back
        shape["timestamp"] = self.timestamp
        return shape


@dataclass(frozen=True, slots=True)
class Cost:
    """What a proposal has cost. Executed are those that succeeded or failed."""

    tool_calls: int = 0
    """Tool calls that succeeded."""
    actions_executed: int = 0
    actions_rejected: int = 0
    actions_skipped: int = 0
    total_duration_ms: float = 0.0
    retries: int = 0

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape."""
        return {
            "tool_calls": self.tool_calls,
            "actions_executed": self.actions_executed,
            "actions_rejected": self.actions_rejected,
            "actions_skipped": self.actions_skipped,
            "total_duration_ms": round(self.total_duration_ms, 3),
            "retries": self.retries,
        }


@dataclass(frozen=True, slots=True)
class Compensated:
    """What the compensation of an action came to; its own action is ``outcome.uid``."""

    action_id: str
    outcome: Outcome

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape."""
        shape: dict[str, JSONValue] = {
            "action_id": self.action_id,
            "uid": self.outcome.uid,
            "status": self.outcome.to_json()["status"],
        }
        if self.outcome.error is not None:
            shape["error"] = self.outcome.error.message
            shape["kind"] = self.outcome.error.kind.value
        return shape


@dataclass(frozen=True, slots=True)
class ExternalEffect:
    """A tool call whose effects outside nobody has undone (or nobody knows of), by an abort."""

    action_id: str
    uid: str
    tool: str
    status: ActionStatus

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape."""
        status = self.status.value
        return {"action_id": self.action_id, "uid": self.uid, "tool": self.tool, "status": status}


@dataclass(frozen=True, slots=True)
class Rollback:
    """What an abort undid, and what it did not.

    ``restored`` are state keys that are as they were before the proposal; ``kept`` those that
    somebody else has written since, which stay.
    """

    restored: tuple[str, ...]
    kept: tuple[str, ...]
    compensations: tuple[Compensated, ...]
    external_effects: tuple[ExternalEffect, ...]

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape."""
        return {
            "restored": list(self.restored),
            "kept": list(self.kept),
            "compensations": [item.to_json() for item in self.compensations],
            "external_effects": [item.to_json() for item in self.external_effects],
        }


@dataclass(frozen=True, slots=True)
class ProposalResult:
    """What a proposal came to; ``results`` are in the order its actions were listed.

    ``proposal_id`` is the proposer's name for it, ``uid`` the gate's. ``error`` says why a whole
    proposal was refused, or aborted.
    """

    proposal_id: str
    uid: str
    status: ProposalStatus
    results: tuple[ActionResult, ...]
    cost: Cost
    error: OutcomeError | None = None
    rollback: Rollback | None = None

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape: optional fields are left out, never null."""
        shape: dict[str, JSONValue] = {
            "proposal_id": self.proposal_id,
            "uid": self.uid,
            "status": self.status.value,
            "results": [result.to_json() for result in self.results],
            "cost": self.cost.to_json(),
        }
        if self.error is not None:
            shape["error"] = self.error.to_json()
        if self.rollback is not None:
            shape["rollback"] = self.rollback.to_json()
        return shape
