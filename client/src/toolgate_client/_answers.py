"""How the gate's answers become what callers get back: nothing of them is taken on trust.

Raises ``KeyError``, ``TypeError`` or ``ValueError`` for what is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from toolgate_client._models import (
    ActionResult,
    Compensated,
    Cost,
    Decision,
    ErrorInfo,
    Event,
    ExternalEffect,
    Hold,
    HoldGroup,
    Missing,
    Observed,
    Outcome,
    ProposalResult,
    Ran,
    Rollback,
)

T = TypeVar("T")

_RAISED = ("failed", "held", "proposed")
"""How an action stands whose body may have raised an exception."""


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
        groups=tuple(
            HoldGroup(
                rule=group.get("rule"),
                approvers=tuple(group.get("approvers") or ()),
                quorum=group.get("quorum", 1),
                approved_by=tuple(group.get("approved_by") or ()),
            )
            for group in raw.get("groups") or ()
        ),
        missing=tuple(
            Missing(
                approvers=tuple(item.get("approvers") or ()),
                quorum=item.get("quorum", 1),
                rules=tuple(item.get("rules") or ()),
            )
            for item in raw.get("missing") or ()
        ),
    )


def event_from_wire(raw: Mapping[str, Any]) -> Event:
    """Read an event as the gate sends it; raises ``KeyError`` or ``TypeError`` when it is none."""
    seq, data = raw["seq"], raw["data"]
    if type(seq) is not int or not isinstance(data, dict):
        raise TypeError("an event has a place in the log, and data")
    return Event(
        seq=seq,
        kind=raw["kind"],
        at=raw["at"],
        session=raw["session"],
        action=raw.get("action"),
        data=data,
        run=raw.get("run"),
        n=raw.get("n"),
    )


def outcome_from_wire(raw: Mapping[str, Any], ran: Ran) -> Outcome:
    """Read an outcome as the gate sends it; ``ran`` are the bodies that ran for the request.

    Raises ``KeyError``, ``TypeError`` or ``AttributeError`` when ``raw`` is no outcome.
    """
    proposal = raw.get("proposal")
    fields = _result_from_wire(raw, ran, error_from_wire(raw.get("error")))
    fields["proposal"] = None if proposal is None else proposal_from_wire(proposal, ran)
    return _made(Outcome, fields)


def proposal_from_wire(raw: Mapping[str, Any], ran: Ran) -> ProposalResult:
    """Read the result of a proposal, as :func:`outcome_from_wire` reads an outcome."""
    cost, rollback = raw.get("cost") or {}, raw.get("rollback")
    return ProposalResult(
        proposal_id=raw["proposal_id"],
        uid=raw["uid"],
        status=raw["status"],
        results=tuple(_action_from_wire(result, ran) for result in raw["results"]),
        cost=Cost(**{name: cost[name] for name in Cost.__dataclass_fields__ if name in cost}),
        error=error_from_wire(raw.get("error")),
        rollback=None if rollback is None else _rollback_from_wire(rollback),
    )


def error_from_wire(raw: Mapping[str, Any] | None) -> ErrorInfo | None:
    """Read an error as outcomes have it."""
    if raw is None:
        return None
    return ErrorInfo(raw.get("kind") or "", raw.get("message") or "", raw.get("details"))


def _result_from_wire(raw: Mapping[str, Any], ran: Ran, error: ErrorInfo | None) -> dict[str, Any]:
    status, uid, replayed = raw["status"], raw["uid"], raw.get("replayed", False)
    returned, exception = ran.get(uid, ([], None))
    live = bool(returned) and status == "succeeded" and not replayed
    return {
        "status": status,
        "uid": uid,
        "action_id": raw.get("action_id", uid),
        "output": returned[0] if live else raw.get("output"),
        "error": error,
        "hold": _read(hold_from_wire, raw.get("hold")),
        "decision": _read(_decision_from_wire, raw.get("decision")),
        "state_changes": raw.get("state_changes") or {},
        "duration_ms": raw.get("duration_ms"),
        "attempts": raw.get("attempts", 0),
        "replayed": replayed,
        "edited_args": raw.get("edited_args"),
        "omitted": raw.get("omitted", False),
        "live": live,
        "exception": None if replayed or status not in _RAISED else exception,
    }


def _action_from_wire(raw: Mapping[str, Any], ran: Ran) -> ActionResult:
    hold = raw.get("hold")
    if hold is not None:
        raw = {**raw, "hold": {"uid": raw["uid"], **hold}}
    fields = _result_from_wire(raw, ran, _text_error(raw))
    fields["rolled_back"] = raw.get("rolled_back", False)
    fields["timestamp"] = raw.get("timestamp")
    return _made(ActionResult, fields)


def _rollback_from_wire(raw: Mapping[str, Any]) -> Rollback:
    return Rollback(
        restored=tuple(raw.get("restored") or ()),
        kept=tuple(raw.get("kept") or ()),
        compensations=tuple(
            Compensated(each["action_id"], each["uid"], each["status"], _text_error(each))
            for each in raw.get("compensations") or ()
        ),
        external_effects=tuple(
            ExternalEffect(each["action_id"], each["uid"], each["tool"], each["status"])
            for each in raw.get("external_effects") or ()
        ),
    )


def _text_error(raw: Mapping[str, Any]) -> ErrorInfo | None:
    """The error of a result, whose text, kind and details stand side by side."""
    text, kind = raw.get("error"), raw.get("kind")
    if text is None and kind is None:
        return None
    return ErrorInfo(kind or "", text or "", raw.get("details"))


def _read(function: Callable[[Mapping[str, Any]], T], raw: Mapping[str, Any] | None) -> T | None:
    return None if raw is None else function(raw)


def _decision_from_wire(raw: Mapping[str, Any]) -> Decision:
    fields = {
        "effect": raw["effect"],
        "rules": tuple(raw.get("rules") or ()),
        "reason": raw.get("reason") or "",
        "policy": raw.get("policy"),
        "digest": raw.get("digest"),
        "mode": raw.get("mode"),
        "errors": tuple(raw.get("errors") or ()),
        "observed": _read(_observed_from_wire, raw.get("observed")),
        "reasons": dict(raw.get("reasons") or {}),
    }
    return _made(Decision, fields)


def _observed_from_wire(raw: Mapping[str, Any]) -> Observed:
    return Observed(
        effect=raw["effect"],
        rules=tuple(raw.get("rules") or ()),
        reason=raw.get("reason") or "",
        errors=tuple(raw.get("errors") or ()),
    )


def _made(kind: type[T], fields: dict[str, Any]) -> T:
    """Return the frozen value that has these fields, which must be all of its kind's.

    The generated ``__init__`` of a frozen class sets one field after the other through
    ``object.__setattr__``: half of the time that it takes to read an outcome.
    """
    made = object.__new__(kind)
    made.__dict__.update(fields)
    return made


for _class in (
    ActionResult,
    Compensated,
    Cost,
    Decision,
    ErrorInfo,
    Event,
    ExternalEffect,
    Hold,
    HoldGroup,
    Missing,
    Observed,
    Outcome,
    ProposalResult,
    Rollback,
):
    _class.__module__ = "toolgate_client"
del _class
