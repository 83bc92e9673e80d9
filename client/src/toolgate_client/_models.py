"""What callers get back: outcomes, holds, decisions, as frozen values.

Fields carry the names and units of the wire. A gate may add fields; unknown ones are left out.

The annotations are evaluated here, not left as text: what resolves the fields of a dataclass by its
module (pydantic, ``typing.get_type_hints``) would look for their names in the package.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

Status = Literal["succeeded", "held", "rejected", "failed", "skipped", "executing"]


@dataclass(frozen=True)
class ErrorInfo:
    """Why an action has no output: ``kind`` for machines, ``message`` for people."""

    kind: str
    message: str
    details: Any = None


@dataclass(frozen=True)
class Decision:
    """What policy said about a call, and by which rules.

    ``effect`` is ``allow``, ``deny`` or ``hold``; ``policy`` names the policy and ``digest`` its
    exact text; ``errors`` lists conditions that could not be evaluated.
    """

    effect: str
    rules: tuple[Any, ...] = ()
    reason: str = ""
    policy: str | None = None
    digest: str | None = None
    mode: str | None = None
    errors: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Hold:
    """A call that waits for people to decide.

    ``quorum`` approvals out of ``approvers`` release it; ``approved_by`` already did. ``deadline``
    and ``opened_at`` are RFC 3339 texts (``deadline`` is ``None`` when it never expires).

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


@dataclass(frozen=True)
class Outcome:
    """What became of one governed call.

    ``status`` is ``succeeded``, ``held``, ``rejected``, ``failed``, ``skipped``, or ``executing``
    (another gate runs it at this moment). ``uid`` names the action for ``resume`` and ``withdraw``.
    ``replayed`` says that this is a recorded outcome.

    ``output`` is the very object the body returned when it ran for this call (``live`` is true),
    else its JSON projection as the gate recorded it. ``exception`` is what the body raised when it
    ran for this call and that is why it failed; it is not part of equality.

    ``duration_ms`` is in milliseconds.
    """

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
    live: bool = False
    exception: Exception | None = field(default=None, compare=False, repr=False)

    @property
    def succeeded(self) -> bool:
        """Whether the body ran and its result was accepted."""
        return self.status == "succeeded"

    @property
    def held(self) -> bool:
        """Whether the call waits for somebody to decide."""
        return self.status == "held"


def hold_from_wire(raw: Mapping[str, Any]) -> Hold:
    """Read a hold as the gate sends it; raises ``KeyError`` or ``TypeError`` when it is none."""
    return Hold(
        hold_id=raw["hold_id"],
        reason=raw.get("reason") or "",
        rule=raw.get("rule"),
        rules=tuple(raw.get("rules") or ()),
        approvers=tuple(raw.get("approvers") or ()),
        quorum=raw.get("quorum", 1),
        approved_by=tuple(raw.get("approved_by") or ()),
        deadline=raw.get("deadline"),
        uid=raw.get("uid"),
        session=raw.get("session"),
        tool=raw.get("tool"),
        args=raw.get("args"),
        status=raw.get("status"),
        opened_at=raw.get("opened_at"),
        digest=raw.get("digest"),
    )


def outcome_from_wire(
    raw: Mapping[str, Any],
    *,
    returned: list[Any] | None = None,
    exception: Exception | None = None,
) -> Outcome:
    """Read an outcome as the gate sends it.

    ``returned`` holds the live value if the body ran for this call and returned, ``exception`` what
    it raised. Raises ``KeyError``, ``TypeError`` or ``AttributeError`` when ``raw`` is no outcome.
    """
    status: Status = raw["status"]
    replayed = raw.get("replayed", False)
    live = bool(returned) and status == "succeeded" and not replayed
    error, hold, decision = raw.get("error"), raw.get("hold"), raw.get("decision")
    return Outcome(
        status=status,
        uid=raw["uid"],
        action_id=raw.get("action_id", raw["uid"]),
        output=returned[0] if live and returned else raw.get("output"),
        error=None
        if error is None
        else ErrorInfo(error.get("kind") or "", error.get("message") or "", error.get("details")),
        hold=None if hold is None else hold_from_wire(hold),
        decision=None if decision is None else _decision_from_wire(decision),
        state_changes=raw.get("state_changes") or {},
        duration_ms=raw.get("duration_ms"),
        attempts=raw.get("attempts", 0),
        replayed=replayed,
        live=live,
        exception=exception if status == "failed" and not replayed else None,
    )


def _decision_from_wire(raw: Mapping[str, Any]) -> Decision:
    return Decision(
        effect=raw["effect"],
        rules=tuple(raw.get("rules") or ()),
        reason=raw.get("reason") or "",
        policy=raw.get("policy"),
        digest=raw.get("digest"),
        mode=raw.get("mode"),
        errors=tuple(raw.get("errors") or ()),
    )


for _class in (Decision, ErrorInfo, Hold, Outcome):
    _class.__module__ = "toolgate_client"
del _class
