"""How the kernel's values become the journal's rows, and back, and what the wire shows."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolgate import clock, jsonvalue
from toolgate.approvals.hold import Hold
from toolgate.approvals.tally import HoldState, Received, Tally, tally
from toolgate.errors import JournalTampered
from toolgate.ir import ActionStatus, Outcome, OutcomeError, OutcomeKind
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Reader
from toolgate.journal.records import ActionRecord, ApprovalRow, HoldRecord
from toolgate.jsonvalue import JSONValue
from toolgate.policy.verdict import ApprovalRequirement, Verdict


@dataclass(frozen=True, slots=True)
class Call:
    """A proposed call of one tool, as the client asked for it.

    ``args_json`` is the canonical JSON of ``args``; ``content`` the digest by which a repeated
    call is recognised. ``timeout`` (seconds) may only shorten the contract's. ``parent`` is the
    uid of the action whose body makes this call.
    """

    tool: str
    args: dict[str, JSONValue]
    args_json: bytes
    content: str
    idempotency_key: str | None = None
    timeout: float | None = None
    parent: str | None = None
    metadata: dict[str, JSONValue] | None = None


def content_digest(tool: str, args_json: bytes) -> str:
    """Return the digest of a tool's name and canonical arguments."""
    name = tool.encode()
    return "sha256:" + hashlib.sha256(b"%d:%b%b" % (len(name), name, args_json)).hexdigest()


def decision_json(verdict: Verdict, mode: str) -> dict[str, JSONValue]:
    """Return policy's decision as the wire and the journal tell it."""
    return {
        "effect": verdict.effect,
        "rules": list(verdict.rules),
        "reason": verdict.reason,
        "policy": verdict.policy,
        "digest": verdict.digest,
        "mode": mode,
        "errors": [{"rule": error.rule, "error": error.error} for error in verdict.errors],
    }


def hold_of(record: HoldRecord, action: ActionRecord) -> Hold:
    """Return the hold that a record and its action's arguments describe.

    Raises :class:`JournalTampered` when the two do not belong together.
    """
    if action.uid != record.uid or action.hold != record.hold_id or action.tool != record.tool:
        raise JournalTampered(f"the hold {record.hold_id} and the action {action.uid} do not match")
    return Hold(
        hold_id=record.hold_id,
        uid=record.uid,
        session=record.session,
        tool=record.tool,
        args=jsonvalue.parse(action.args),
        requirement=ApprovalRequirement.from_json(jsonvalue.parse(record.requirement)),
        digest=record.digest,
        rules=tuple(jsonvalue.parse(record.rules)),
        reason=record.reason,
        policy_digest=record.policy_digest,
        opened_at=record.opened_at,
        deadline=record.deadline,
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


@dataclass(frozen=True, slots=True)
class HoldView:
    """A hold with everything said on it, as lists of holds and approvers see it.

    One journal may serve several projects and agents: ``project`` and ``agent`` are the action's.
    """

    project: str
    agent: str
    hold: Hold
    status: str
    tally: Tally

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape of a hold in a list."""
        hold = self.hold
        return {
            **hold_summary(hold, self.tally.approved_by),
            "uid": hold.uid,
            "session": hold.session,
            "tool": hold.tool,
            "args": hold.args,
            "status": self.status,
            "opened_at": clock.to_text(hold.opened_at),
            "digest": hold.digest,
            "policy_digest": hold.policy_digest,
        }


def view_hold(
    reader: Reader,
    record: HoldRecord | JournalTampered,
    pinned: Mapping[str, Ed25519PublicKey],
    now: int,
) -> HoldView:
    """Return a hold as it stands at ``now``: a deadline that has passed shows by itself.

    Raises :class:`JournalTampered`.
    """
    if isinstance(record, JournalTampered):
        raise record
    action = reader.action(record.uid)
    if action is None:
        raise JournalTampered(f"the action {record.uid} of hold {record.hold_id} is missing")
    hold = hold_of(record, action)
    said = count(hold, reader.approvals(record.hold_id), pinned)
    status = record.status
    if status == HoldState.PENDING:
        status = said.state(hold, now).value
    return HoldView(action.project, action.agent, hold, status, said)


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
