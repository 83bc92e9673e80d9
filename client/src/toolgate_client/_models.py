"""What callers get back: outcomes, holds, decisions, as frozen values.

Fields carry the names and units of the wire. A gate may add fields; unknown ones are left out.

The annotations are evaluated here, not left as text: what resolves the fields of a dataclass by its
module (pydantic, ``typing.get_type_hints``) would look for their names in the package.
"""

from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["succeeded", "held", "rejected", "failed", "skipped", "executing", "proposed"]
ProposalStatus = Literal["completed", "aborted", "suspended", "running"]
Ran = dict[str, tuple[list[Any], Exception | None]]
"""By uid, the bodies that ran for a request: what each returned (if it did), what it raised."""


@dataclass(frozen=True)
class ErrorInfo:
    """Why an action has no output: ``kind`` for machines, ``message`` for people."""

    kind: str
    message: str
    details: Any = None


@dataclass(frozen=True)
class Observed:
    """What policy would have said about a call if what is only observed were enforced."""

    effect: str
    rules: tuple[Any, ...] = ()
    reason: str = ""
    errors: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Decision:
    """What policy said about a call, and by which rules.

    ``effect`` is ``allow``, ``deny`` or ``hold``; ``policy`` names the policy and ``digest`` its
    exact text; ``errors`` lists conditions that could not be evaluated. With ``mode`` ``observe``,
    ``observed`` is what would have been decided otherwise; ``None``: nothing would be. Where
    several rules decided, ``reasons`` has what each of them says, by its id; ``reason`` joins them.
    """

    effect: str
    rules: tuple[Any, ...] = ()
    reason: str = ""
    policy: str | None = None
    digest: str | None = None
    mode: str | None = None
    errors: tuple[Any, ...] = ()
    observed: Observed | None = None
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class HoldGroup:
    """Those whom one rule asks on a hold: ``quorum`` of ``approvers``; ``approved_by`` already did.

    ``rule`` is ``None`` where the tool's level asks. One approval counts in every group that names
    its approver.
    """

    rule: str | None
    approvers: tuple[str, ...] = ()
    quorum: int = 1
    approved_by: tuple[str, ...] = ()


@dataclass(frozen=True)
class Missing:
    """What a hold still waits for: ``quorum`` of ``approvers``, none of whom has approved yet.

    ``rules`` ask for it; none where the tool's level does.
    """

    approvers: tuple[str, ...] = ()
    quorum: int = 1
    rules: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Hold:
    """A call that waits for people to decide.

    ``approvers`` may answer, and ``approved_by`` have approved. It is released when every one of
    ``groups`` has its quorum; ``missing`` says whose approval that still takes, ``quorum`` is the
    largest of a single group. ``deadline`` and ``opened_at`` are RFC 3339 texts (``deadline`` is
    ``None`` when it never expires).

    The hold of an :class:`Outcome` says what is waited for; those that ``GateClient.holds`` lists
    say also which call is held: ``uid``, ``session``, ``tool``, ``args``, ``digest`` and
    ``status`` (``pending``, ``released``, ``denied``, ``expired`` or ``withdrawn``).
    """

    hold_id: str
    reason: str = ""
    rule: str | None = None
    rules: tuple[Any, ...] = ()
    approvers: tuple[str, ...] = ()
    quorum: int = 1
    approved_by: tuple[str, ...] = ()
    deadline: str | None = None
    uid: str | None = None
    session: str | None = None
    tool: str | None = None
    args: dict[str, Any] | None = None
    status: str | None = None
    opened_at: str | None = None
    digest: str | None = None
    groups: tuple[HoldGroup, ...] = ()
    missing: tuple[Missing, ...] = ()


@dataclass(frozen=True)
class Event:
    """Something that the journal says of this session.

    ``seq`` is its place in the log, to go on from; ``run`` the gate that wrote it, and ``n`` its
    place among what that has written. ``at`` is an RFC 3339 text. ``action`` is the uid of the
    action or proposal that it is about, or what else it names. ``data`` is as ``kind`` has it.
    """

    seq: int
    kind: str
    at: str
    session: str
    action: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    run: str | None = None
    n: int | None = None


@dataclass(frozen=True)
class _Result:
    """What an outcome of a single call and a result in a proposal have in common."""

    status: Status
    uid: str
    action_id: str
    output: Any = None
    error: ErrorInfo | None = None
    hold: Hold | None = None
    decision: Decision | None = None
    state_changes: dict[str, Any] = field(default_factory=dict)
    duration_ms: float | None = None
    attempts: int = 0
    replayed: bool = False
    edited_args: dict[str, Any] | None = None
    omitted: bool = False
    live: bool = False
    exception: Exception | None = field(default=None, compare=False, repr=False)

    @property
    def succeeded(self) -> bool:
        """Whether it ran and its result was accepted."""
        return self.status == "succeeded"

    @property
    def held(self) -> bool:
        """Whether it waits for somebody to decide."""
        return self.status == "held"


@dataclass(frozen=True)
class ActionResult(_Result):
    """What became of one action of a proposal.

    The fields are those of :class:`Outcome`, and two more. ``action_id`` is the action's id in its
    proposal, while ``uid`` names it at the gate. ``rolled_back`` says that it succeeded, and was
    undone or compensated since, because the proposal was aborted. ``timestamp`` is when it came to
    this (RFC 3339, UTC).
    """

    rolled_back: bool = False
    timestamp: str | None = None


@dataclass(frozen=True)
class Cost:
    """What a proposal has cost. ``actions_executed`` counts those that succeeded or failed."""

    tool_calls: int = 0
    actions_executed: int = 0
    actions_rejected: int = 0
    actions_skipped: int = 0
    total_duration_ms: float = 0.0
    retries: int = 0


@dataclass(frozen=True)
class Compensated:
    """One compensation of an aborted proposal: a governed action of its own, with its own end.

    ``action_id`` is the action it compensates, ``uid`` the compensation's own.
    """

    action_id: str
    uid: str
    status: Status
    error: ErrorInfo | None = None


@dataclass(frozen=True)
class ExternalEffect:
    """An irreversible action that an aborted proposal had run: what it did, stays done."""

    action_id: str
    uid: str
    tool: str
    status: Status


@dataclass(frozen=True)
class Rollback:
    """What was undone of an aborted proposal, and what was not.

    The state keys ``restored`` have the values from before it; those ``kept`` have been written by
    somebody else since.
    """

    restored: tuple[str, ...] = ()
    kept: tuple[str, ...] = ()
    compensations: tuple[Compensated, ...] = ()
    external_effects: tuple[ExternalEffect, ...] = ()


@dataclass(frozen=True)
class ProposalResult:
    """What became of a proposal.

    ``status`` is ``completed``, ``aborted``, ``suspended`` (an action is held, and nothing else can
    run before it is settled) or ``running`` (another gate runs it at this moment). ``uid`` names it
    for ``resume``, ``proposal_id`` is the proposer's own name for it. ``results`` are in the order
    in which the actions were listed. ``error`` says why a proposal was refused as a whole, with
    nothing run; ``rollback`` what was undone of one that was aborted.
    """

    proposal_id: str
    uid: str
    status: ProposalStatus
    results: tuple[ActionResult, ...] = ()
    cost: Cost = field(default_factory=Cost)
    error: ErrorInfo | None = None
    rollback: Rollback | None = None

    def result(self, action_id: str) -> ActionResult:
        """The result of the action with this id; raises ``KeyError`` when there is none."""
        for result in self.results:
            if result.action_id == action_id:
                return result
        raise KeyError(action_id)

    @property
    def succeeded(self) -> bool:
        """Whether it is completed and everything in it has succeeded.

        What was skipped without an error, such as a compensation nobody needed, does no harm.
        """
        return self.status == "completed" and all(
            result.succeeded or (result.status == "skipped" and result.error is None)
            for result in self.results
        )

    @property
    def suspended(self) -> bool:
        """Whether it waits for somebody to decide."""
        return self.status == "suspended"

    @property
    def aborted(self) -> bool:
        """Whether it ended before its end, or was refused as a whole."""
        return self.status == "aborted"

    @property
    def holds(self) -> tuple[Hold, ...]:
        """What it waits for; ``resume(hold.uid)`` continues it once that is decided."""
        return tuple(
            result.hold for result in self.results if result.held and result.hold is not None
        )


@dataclass(frozen=True)
class Outcome(_Result):
    """What became of one governed call.

    ``status`` is ``succeeded``, ``held``, ``rejected``, ``failed``, ``skipped``, ``executing``
    (another gate runs it), or ``proposed`` (its body has stopped itself, or was not begun). ``uid``
    names the action for ``resume``, ``withdraw``. ``replayed``: this is a recorded outcome.

    ``output`` is the very object the body returned when it ran for this call (``live`` is true),
    else its JSON projection as the gate recorded it. ``exception`` is what the body raised for this
    call, to fail or as ``ToolSuspended``; it is not part of equality.

    ``edited_args`` are the arguments that an approver has put in the place of the proposed ones,
    as the gate shows them; ``None``: nobody has. ``omitted``: the result was too large to be
    recorded; the recorded ``output`` is an object in its place that says so.

    ``duration_ms`` is in milliseconds. ``proposal`` is how the proposal stands that the resumed
    action belongs to; when the proposal itself was resumed, ``status`` sums it up: ``succeeded``
    (completed), ``failed`` (aborted), ``held`` (suspended) or ``executing``.
    """

    proposal: ProposalResult | None = None
