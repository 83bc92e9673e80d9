"""How the kernel's values become the journal's rows, and back, and what the wire shows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolgate import clock, jsonvalue
from toolgate.approvals.hold import Hold
from toolgate.approvals.tally import Received, Tally, tally
from toolgate.errors import JournalTampered
from toolgate.ir import (
    Action,
    ActionStatus,
    ActionType,
    FailureBehavior,
    Outcome,
    OutcomeError,
    OutcomeKind,
)
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Reader
from toolgate.journal.records import ActionRecord, ApprovalRow, HoldRecord
from toolgate.jsonvalue import JSONValue
from toolgate.policy.verdict import ApprovalRequirement, Verdict

SINGLE: Final = Action(id="call", type=ActionType.TOOL_CALL)
"""What a single governed call is besides its tool and arguments: no effects, no conditions."""


class Call(NamedTuple):
    """A proposed action: a single call of one tool, or an action of a proposal.

    ``tool`` is the tool's name, or the type of a state action; ``args`` are the arguments, or the
    state action's parameters, with references resolved. ``args_json`` is their canonical JSON;
    ``content`` the digest by which a repeated call is recognised. ``timeout`` (seconds) may only
    shorten the contract's. ``parent`` is the uid of the action whose body makes this call.
    ``uid`` is the action's when it is known beforehand, and ``proposal`` the uid of its proposal,
    whose log ended at ``claimed`` when this gate began, or went on, to run it.
    """

    tool: str
    args: dict[str, JSONValue]
    args_json: bytes
    content: str
    idempotency_key: str | None = None
    timeout: float | None = None
    parent: str | None = None
    metadata: dict[str, JSONValue] | None = None
    action: Action = SINGLE
    uid: str | None = None
    proposal: str | None = None
    claimed: int | None = None

    @property
    def calls_tool(self) -> bool:
        """Whether this is a tool call, not a state action."""
        return self.action.type is ActionType.TOOL_CALL


def content_digest(
    tool: str, args_json: bytes, action_type: ActionType = ActionType.TOOL_CALL
) -> str:
    """Return the digest of a tool's name and canonical arguments, or of a state action."""
    name = tool.encode()
    head = b"" if action_type is ActionType.TOOL_CALL else action_type.value.encode() + b"!"
    return "sha256:" + hashlib.sha256(b"%b%d:%b%b" % (head, len(name), name, args_json)).hexdigest()


def decision_json(verdict: Verdict, mode: str) -> dict[str, JSONValue]:
    """Return policy's decision as the wire and the journal tell it.

    ``mode`` is the gate's. With a rule that only observes, the decision's is ``observe`` too; then
    ``observed`` says what would have been decided.
    """
    decision: dict[str, JSONValue] = {
        "effect": verdict.effect,
        "rules": list(verdict.rules),
        "reason": verdict.reason,
        "policy": verdict.policy,
        "digest": verdict.digest,
        "mode": mode,
        "errors": [{"rule": error.rule, "error": error.error} for error in verdict.errors],
    }
    if verdict.observed is not None:
        would_be = decision_json(verdict.observed, mode)
        decision["mode"] = "observe"
        decision["observed"] = {
            key: would_be[key] for key in ("effect", "rules", "reason", "errors")
        }
    return decision


def hold_of(record: HoldRecord, action: ActionRecord, call: Call) -> Hold:
    """Return the hold that a record, its action and its call describe.

    Raises :class:`JournalTampered` when they do not belong together.
    """
    if action.uid != record.uid or action.hold != record.hold_id or action.tool != record.tool:
        raise JournalTampered(f"the hold {record.hold_id} and the action {action.uid} do not match")
    expected_effects, compensation, retries = consequences(call.action)
    return Hold(
        hold_id=record.hold_id,
        uid=record.uid,
        session=record.session,
        tool=record.tool,
        args=call.args,
        requirement=ApprovalRequirement.from_json(jsonvalue.parse(record.requirement)),
        digest=record.digest,
        rules=tuple(jsonvalue.parse(record.rules)),
        reason=record.reason,
        policy_digest=record.policy_digest,
        opened_at=record.opened_at,
        deadline=record.deadline,
        expected_effects=expected_effects,
        compensation=compensation,
        retries=retries,
    )


def consequences(action: Action) -> tuple[dict[str, JSONValue], JSONValue, int]:
    """Return what an approval covers besides the call.

    That is expected effects, the compensation, and how many attempts the plan asks for after the
    first.
    """
    compensation = action.compensation
    return (
        action.expected_effects,
        None if compensation is None else compensation.model_dump(),
        action.max_retries if action.failure_behavior is FailureBehavior.RETRY else 0,
    )


def count(hold: Hold, rows: list[ApprovalRow], pinned: Mapping[str, Ed25519PublicKey]) -> Tally:
    """Tally the envelopes that lie beside a hold."""
    return tally(hold, [Received(row.seq, row.envelope, row.at) for row in rows], pinned)


def hold_summary(hold: Hold, approved_by: tuple[str, ...]) -> dict[str, JSONValue]:
    """Return a hold as an outcome tells it."""
    return {
        "hold_id": hold.hold_id,
        "reason": hold.reason,
        "rule": hold.rules[0] if hold.rules else None,
        "rules": list(hold.rules),
        "approvers": list(hold.approvers),
        "quorum": hold.quorum,
        "approved_by": list(approved_by),
        "deadline": None if hold.deadline is None else clock.to_text(hold.deadline),
    }


def check_place(reader: Reader, record: ActionRecord) -> None:
    """Refuse a row that the log has gone on from; raises :class:`JournalTampered`."""
    if reader.last_seq_of(record.uid) != record.last_seq:
        raise JournalTampered(
            f"the log of action {record.uid} does not end where its row says: an old row was put "
            "back, or events are missing; nothing was done on its word"
        )


def recall(reader: Reader, record: ActionRecord) -> Outcome:
    """Return the recorded outcome of an action that has ended; raises :class:`JournalTampered`."""
    check_place(reader, record)
    event = reader.event(record.last_seq)
    data = jsonvalue.parse(event.data)
    if event.action != record.uid or data.get("status") != record.status:
        raise JournalTampered(
            f"the row of action {record.uid} says {record.status}, its last event says otherwise"
        )
    return Outcome(
        status=ActionStatus(record.status),
        uid=record.uid,
        output=data.get("output"),
        error=error_of(data.get("error")),
        decision=decision_of(reader, record.uid),
        duration_ms=data.get("duration_ms"),
        attempts=record.attempts,
        replayed=True,
        state_changes=data.get("state_changes") or {},
    )


def decision_of(reader: Reader, uid: str) -> dict[str, JSONValue] | None:
    """Return policy's last decision on an action, from the log."""
    event = reader.last_event(uid, EventKind.ACTION_DECIDED)
    if event is None:
        return None
    decision: dict[str, JSONValue] = jsonvalue.parse(event.data)
    return decision


def error_of(data: dict[str, Any] | None) -> OutcomeError | None:
    """Read an error as :meth:`OutcomeError.to_json` wrote it."""
    if data is None:
        return None
    return OutcomeError(OutcomeKind(data["kind"]), data["message"], data.get("details"))
