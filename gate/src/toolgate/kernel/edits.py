"""An approver's edit: what would run, and whether it may. Pure.

The rules, for the gate at release and for the desk beforehand:

1. everything that is looked at when a call is proposed is looked at with the edited arguments;
2. policy may allow them, or hold them by rules that allow edits (``approval.edit``); a denial, or
   whatever else may be the arguments' fault, refuses the edit, not the action;
3. an edit never makes fewer people necessary: what was asked of people is asked, and what policy
   asks for the edited arguments besides;
4. a state action stays with its key: the order of its proposal depends on it.

Of an action of a proposal only the parameters change: expected effects and compensation stay.
"""

from __future__ import annotations

from typing import Final

from toolgate import jsonvalue
from toolgate.approvals.tally import Version
from toolgate.ir import OutcomeError, OutcomeKind
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.admission import Admission
from toolgate.kernel.records import SINGLE, Call, content_digest
from toolgate.kernel.redaction import redact
from toolgate.policy.verdict import ApprovalRequirement

_OF_ARGUMENTS: Final = frozenset(
    {
        OutcomeKind.INVALID_ACTION,
        OutcomeKind.INVALID_ARGUMENTS,
        OutcomeKind.CAPABILITY_DENIED,
        OutcomeKind.POLICY_DENIED,
        OutcomeKind.APPROVAL_REQUIRED,
    }
)
"""What other arguments may be the reason of."""


def edited_call(call: Call, args: dict[str, JSONValue]) -> Call:
    """Return the call that a held one becomes with other arguments.

    Its content is that of these arguments: what it returns is remembered for calls like it.
    """
    args_json = jsonvalue.canonical(args)
    redaction = call.redaction
    if redaction is not None:
        redaction = redact(args, redaction.pointers, redaction.keyed)
    action = call.action
    if action is not SINGLE:
        action = action.model_copy(update={"parameters": args})
    keyed = None if redaction is None else redaction.keyed
    return call._replace(
        args=args,
        args_json=args_json,
        content=content_digest(call.tool, args_json, action.type, keyed),
        action=action,
        redaction=redaction,
    )


def edited_or_not(call: Call, version: Version) -> Call:
    """Return the call with the arguments in force."""
    return call if version.by is None else edited_call(call, version.args)


def moved(call: Call, edited: Call) -> OutcomeError | None:
    """Return why an edit cannot be of this call: it turns a state action to another key."""
    if call.calls_tool or call.args.get("key") == edited.args.get("key"):
        return None
    return OutcomeError(
        OutcomeKind.INVALID_ACTION,
        f"an edit cannot turn a {call.tool} to another state key: its proposal's order depends on "
        "it",
    )


def refused(admitted: Admission) -> OutcomeError | None:
    """Return why an edit is refused whose call was admitted so; ``None``: it is not."""
    if admitted.step == "reject":
        error = admitted.error
        return error if error is not None and error.kind in _OF_ARGUMENTS else None
    requirement = None if admitted.verdict is None else admitted.verdict.requirement
    if requirement is None or requirement.editable:
        return None
    rules = [group.rule or "the tool's level" for group in requirement.groups if not group.edit]
    return OutcomeError(
        OutcomeKind.POLICY_DENIED,
        f"the edited call is held by {', '.join(rules)}, which allows no edits (approval.edit)",
    )


def asked_already(have: ApprovalRequirement, asked: ApprovalRequirement) -> bool:
    """Tell whether whoever meets ``have`` has met ``asked``: an edit may make a rule not match."""
    return set(asked.groups) <= set(have.groups) and (asked.unsigned or not have.unsigned)


def widened(have: ApprovalRequirement, asked: ApprovalRequirement) -> ApprovalRequirement:
    """Return what is asked of people who were asked for ``have``, and now also for ``asked``.

    Of one rule, what it asks now.
    """
    groups = {group.rule: group for group in (*have.groups, *asked.groups)}
    limits = [item.expires for item in (have, asked) if item.expires is not None]
    return ApprovalRequirement(
        tuple(sorted(groups.values(), key=lambda group: group.rule or "")),
        min(limits, default=None),
        asked.unsigned,
    )
