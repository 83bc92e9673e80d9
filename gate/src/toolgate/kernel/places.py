"""Which action of which proposal a uid names.

The n-th listed action of a proposal (from 1) has the uid ``<proposal>-<n>``, and what compensates
it ``<proposal>-<n>c``. A single governed call has a uid without a dash, and no proposal.
"""

from __future__ import annotations

from functools import lru_cache

from toolgate import jsonvalue
from toolgate.errors import JournalTampered
from toolgate.ir import Action, ActionCompensation, ActionProposal, ActionType
from toolgate.journal.journal import Reader
from toolgate.journal.records import ActionRecord, ProposalRecord
from toolgate.kernel.records import SINGLE, Call, content_digest, content_of, redaction_of
from toolgate.kernel.redaction import Redactor


def action_uid(proposal: str, place: int) -> str:
    """Return the uid of a proposal's action at ``place``, counted from 0."""
    return f"{proposal}-{place + 1}"


def compensation_uid(uid: str) -> str:
    """Return the uid of what compensates the action ``uid``."""
    return f"{uid}c"


def compensates(uid: str) -> bool:
    """Tell whether a uid is that of a compensation."""
    return "-" in uid and uid.endswith("c")


def proposal_uid(uid: str) -> str | None:
    """Return the uid of the proposal that the action ``uid`` belongs to, if it belongs to one."""
    proposal, dash, _ = uid.partition("-")
    return proposal if dash else None


def read_proposal(record: ProposalRecord) -> ActionProposal:
    """Return the proposal that a (verified) record keeps."""
    return _read(record.document)


def call_of(reader: Reader, record: ActionRecord) -> Call:
    """Return the call that a recorded action makes, with the arguments of its row.

    Raises :class:`JournalTampered` when the action's proposal is missing, or is another.
    """
    args = jsonvalue.parse(record.args)
    redaction = redaction_of(reader, record, args)
    proposal = proposal_uid(record.uid)
    action = SINGLE if proposal is None else planned(reader, record.uid)
    if action is not SINGLE:
        action = action.model_copy(update={"parameters": args})
    return Call(
        tool=record.tool,
        args=args,
        args_json=record.args,
        content=content_of(reader, record),
        idempotency_key=record.idempotency_key,
        action=action,
        uid=record.uid,
        proposal=proposal,
        redaction=redaction,
    )


def call_for(
    action: Action,
    uid: str,
    proposal: str,
    parent: str | None = None,
    claimed: int | None = None,
    *,
    redactor: Redactor,
) -> Call:
    """Return the call that an action of a proposal makes, as the action ``uid``."""
    name = action.tool or "" if action.type is ActionType.TOOL_CALL else action.type.value
    args_json = jsonvalue.canonical(action.parameters)
    redaction = None
    if action.type is ActionType.TOOL_CALL:
        redaction = redactor.unchecked(name, action.parameters)
    keyed = None if redaction is None else redaction.keyed
    return Call(
        tool=name,
        args=action.parameters,
        args_json=args_json,
        content=content_digest(name, args_json, action.type, keyed),
        timeout=None if action.timeout_ms is None else action.timeout_ms / 1000,
        parent=parent,
        claimed=claimed,
        metadata=action.metadata or None,
        action=action,
        uid=uid,
        proposal=proposal,
        redaction=redaction,
    )


def planned(reader: Reader, uid: str) -> Action:
    """Return the action of a proposal that ``uid`` names, as listed: references are not resolved.

    Raises :class:`JournalTampered` when there is none.
    """
    proposal = _proposal(reader, proposal_uid(uid) or "")
    number = uid.rpartition("-")[2].removesuffix("c")
    actions = () if proposal is None else proposal.actions
    if not number.isdecimal() or not 1 <= int(number) <= len(actions):
        raise JournalTampered(f"the proposal of action {uid} is missing from the journal")
    action = actions[int(number) - 1]
    if not compensates(uid):
        return action
    compensation = compensation_of(action, actions)
    if compensation is None:
        raise JournalTampered(f"the proposal of action {uid} names nothing that compensates")
    return compensation


_MOST_KNOWN = 8
_known: dict[str, ActionProposal] = {}
"""Proposals that were read and verified lately: one never changes, and may be large."""


def _proposal(reader: Reader, uid: str) -> ActionProposal | None:
    known = _known.get(uid)
    if known is None and (record := reader.proposal(uid)) is not None:
        known = read_proposal(record)
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[uid] = known
    return known


def compensation_of(action: Action, actions: tuple[Action, ...]) -> Action | None:
    """Return the action that compensates ``action``, if there is one."""
    compensation = action.compensation
    if compensation is None:
        return None
    if isinstance(compensation, ActionCompensation):
        return next((item for item in actions if item.id == compensation.action_id), None)
    return Action(
        id=action.id,
        type=ActionType.TOOL_CALL,
        tool=compensation.tool,
        parameters=compensation.parameters,
    )


@lru_cache(maxsize=16)
def _read(document: bytes) -> ActionProposal:
    return ActionProposal.model_validate(jsonvalue.parse(document))
