"""How the kernel's values become the journal's rows, and back, and what the wire shows."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final, NamedTuple

from toolgate import clock, jsonvalue
from toolgate.approvals.hold import Hold
from toolgate.approvals.tally import Tally
from toolgate.config import GateConfig
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
from toolgate.journal.grounds import STOOD_ON
from toolgate.journal.journal import Reader
from toolgate.journal.links import PREVIOUS
from toolgate.journal.records import ActionRecord, HoldRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.answers import heard_of
from toolgate.kernel.redaction import Keyed, Redaction, Redactor, blind, redact
from toolgate.policy.requirement import ApprovalRequirement, missing
from toolgate.policy.verdict import Verdict

REDACTED: Final = "hmac-sha256:"
"""What the content digest of an action begins with whose arguments are redacted in part."""

UNSETTLED: Final = (
    ActionStatus.PROPOSED,
    ActionStatus.HELD,
    ActionStatus.EXECUTING,
    ActionStatus.IN_DOUBT,
)
"""While it is so, an action's row keeps its arguments as they are."""

SINGLE: Final = Action(id="call", type=ActionType.TOOL_CALL)
"""What a single governed call is besides its tool and arguments: no effects, no conditions."""


class Call(NamedTuple):
    """A proposed action: a single call of one tool, or an action of a proposal.

    ``tool`` is the tool's name, or the type of a state action; ``args`` are the arguments, or the
    state action's parameters, with references resolved. ``args_json`` is their canonical JSON;
    ``content`` the digest by which a repeated call is recognised. ``timeout`` (seconds) may only
    shorten the contract's. ``parent`` is the uid of the action whose body makes this call.
    ``uid`` is the action's when it is known beforehand, and ``proposal`` the uid of its proposal,
    whose log ended at ``claimed`` when this gate began, or went on, to run it. ``redaction`` is
    what everybody may see in place of ``args``, where its tool's contract hides any.
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
    redaction: Redaction | None = None

    @property
    def calls_tool(self) -> bool:
        """Whether this is a tool call, not a state action."""
        return self.action.type is ActionType.TOOL_CALL


def content_digest(
    tool: str,
    args_json: bytes,
    action_type: ActionType = ActionType.TOOL_CALL,
    keyed: Keyed | None = None,
) -> str:
    """Return the digest of a tool's name and canonical arguments, or of a state action.

    Where some of the arguments are redacted it is ``keyed``: nobody else can try a guess.
    """
    name = tool.encode()
    head = b"" if action_type is ActionType.TOOL_CALL else action_type.value.encode() + b"!"
    content = b"%b%d:%b%b" % (head, len(name), name, args_json)
    if keyed is not None:
        return REDACTED + keyed(b"content\n" + content).hex()
    return "sha256:" + hashlib.sha256(content).hexdigest()


def redacted(record: ActionRecord) -> bool:
    """Tell whether the action's arguments are redacted wherever others may read them."""
    return record.content.startswith(REDACTED)


def same_content(reader: Reader, record: ActionRecord, call: Call) -> bool:
    """Tell whether a call is of a recorded action's tool and arguments.

    Its tool may have been given ``redact`` pointers since, or have lost them.
    """
    if record.content == call.content:
        return True
    keyed = reader.redacting if redacted(record) else None
    return record.content == content_digest(call.tool, call.args_json, call.action.type, keyed)


def shown_args(reader: Reader, record: ActionRecord) -> dict[str, JSONValue]:
    """Return an action's arguments as the log shows them; raises :class:`JournalTampered`."""
    edited = edited_args(reader, record)
    return proposed_args(reader, record) if edited is None else edited


def proposed_args(reader: Reader, record: ActionRecord) -> dict[str, JSONValue]:
    """Return the arguments an action was proposed with, as the log shows them.

    Raises :class:`JournalTampered`.
    """
    return _proposed(reader, record)["args"]  # type: ignore[no-any-return]


def edited_args(reader: Reader, record: ActionRecord) -> dict[str, JSONValue] | None:
    """Return the arguments that an approver has put in the place of an action's own.

    They are as the log shows them. ``None``: nobody has. Raises :class:`JournalTampered`.
    """
    edit = edit_of(reader, record)
    return None if edit is None else edit["args"]


def content_of(reader: Reader, record: ActionRecord) -> str:
    """Return the digest of an action's tool and arguments as they are, edited or not.

    The row's ``content`` is that of the call as it was proposed, by which a repeat is recognised.
    """
    edit = edit_of(reader, record)
    return record.content if edit is None else edit["content"]


def edit_of(reader: Reader, record: ActionRecord) -> dict[str, Any] | None:
    """Return what the log tells of the edit that an action's arguments are, if they are one."""
    if record.hold is None:
        return None
    event = reader.last_event(record.uid, EventKind.HOLD_EDITED, record.last_seq)
    return None if event is None else jsonvalue.parse(event.data)


def redaction_of(
    reader: Reader, record: ActionRecord, args: dict[str, JSONValue]
) -> Redaction | None:
    """Return the redaction of a recorded action with its row's arguments; ``None``: it has none.

    Raises :class:`JournalTampered`.
    """
    if not redacted(record):
        return None
    ended = record.status not in UNSETTLED
    pointers = () if ended else _proposed(reader, record).get("redacted", ())
    return redact(args, pointers, reader.redacting)


def redactor_of(
    config: GateConfig, reader: Reader, known: Callable[[str], bool] | None = None
) -> Redactor:
    """Return what a deployment's contracts redact, with its journal's key.

    ``known`` tells which tools there are; without it, it is those that the config speaks of.
    """
    pointers = {name: entry.redact for name, entry in config.tools.items()}
    return Redactor(pointers, reader.redacting, known or config.tools.__contains__)


def _proposed(reader: Reader, record: ActionRecord) -> dict[str, Any]:
    event = reader.last_event(record.uid, EventKind.ACTION_PROPOSED, record.last_seq)
    if event is None:
        raise JournalTampered(
            f"no event says that the action {record.uid} was proposed: the log was cut"
        )
    data: dict[str, Any] = jsonvalue.parse(event.data)
    return data


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
    if len(verdict.reasons) > 1:
        decision["reasons"] = dict(verdict.reasons)
    if verdict.observed is not None:
        would_be = decision_json(verdict.observed, mode)
        decision["mode"] = "observe"
        decision["observed"] = {
            key: would_be[key] for key in ("effect", "rules", "reason", "errors")
        }
    return decision


def hold_of(reader: Reader, record: HoldRecord, action: ActionRecord, call: Call) -> Hold:
    """Return the hold that a record, its action and its call describe.

    Its digest has a blind in it, and tells its opening from others, unless an older program opened
    it.

    Raises :class:`JournalTampered` when they do not belong together.
    """
    if action.uid != record.uid or action.hold != record.hold_id or action.tool != record.tool:
        raise JournalTampered(f"the hold {record.hold_id} and the action {action.uid} do not match")
    expected_effects, compensation, retries = consequences(call.action)
    after = heard_of(reader, record).after
    hold = Hold(
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
        blind=blind(reader.redacting, action.uid),
        after=after,
        redacted=None if call.redaction is None else call.redaction.args,
        hidden=() if call.redaction is None else call.redaction.pointers,
    )
    older = (hold, replace(hold, after=0), replace(hold, blind=None))
    known = (form for form in older if form.digest_with(call.args) == record.digest)
    return next(known, replace(hold, blind=None, after=0))


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


def hold_summary(hold: Hold, said: Tally | None = None) -> dict[str, JSONValue]:
    """Return a hold as an outcome tells it, with what was ``said`` while it was pending."""
    approved, unsigned = ((), ()) if said is None else (said.approved_by, said.unsigned)
    return {
        "hold_id": hold.hold_id,
        "reason": hold.reason,
        "rule": hold.rules[0] if hold.rules else None,
        "rules": list(hold.rules),
        "approvers": list(hold.approvers),
        "quorum": hold.quorum,
        "approved_by": list(approved),
        "groups": [
            {
                "rule": group.rule,
                "approvers": list(group.approvers),
                "quorum": group.quorum,
                "approved_by": list(group.approved(approved)),
            }
            for group in hold.requirement.groups
        ],
        "missing": [ask.to_json() for ask in missing(hold.requirement, approved)],
        "deadline": None if hold.deadline is None else clock.to_text(hold.deadline),
        **({"allow_unsigned": True} if hold.requirement.unsigned else {}),
        **({"unsigned": list(unsigned)} if unsigned else {}),
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
    if record.status == ActionStatus.IN_DOUBT and event.kind == EventKind.APPROVAL_REFUSED:
        # While it is in doubt, its log goes on with what was said of that and does not count.
        event = reader.last_event(record.uid, EventKind.ACTION_IN_DOUBT, record.last_seq) or event
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
        decision=decision_of(reader, record),
        duration_ms=data.get("duration_ms"),
        attempts=record.attempts,
        replayed=True,
        state_changes=data.get("state_changes") or {},
        edited_args=edited_args(reader, record),
        omitted=data.get("omitted", False),
    )


def decision_of(reader: Reader, record: ActionRecord) -> dict[str, JSONValue] | None:
    """Return policy's last decision on an action, from the log, as its caller was told it."""
    event = reader.last_event(record.uid, EventKind.ACTION_DECIDED, record.last_seq)
    if event is None:
        return None
    decision: dict[str, JSONValue] = jsonvalue.parse(event.data)
    decision.pop(STOOD_ON, None)
    decision.pop(PREVIOUS, None)
    return decision


def error_of(data: dict[str, Any] | None) -> OutcomeError | None:
    """Read an error as :meth:`OutcomeError.to_json` wrote it."""
    if data is None:
        return None
    return OutcomeError(OutcomeKind(data["kind"]), data["message"], data.get("details"))
