"""What becomes of a proposed action, before anything is used up or run. Pure.

In this order, and the first that fails ends it:

1. it is well-formed: a tool call names a tool, a state action a key (``invalid_action``);
2. the session's capabilities cover the tool, or every state key it names (``capability_denied``);
3. the tool is registered (``unregistered_tool``), and the arguments match the client's schema and
   the operator's, every error reported at once (``invalid_arguments``);
4. what it would write to the session's state passes policy as a ``state_write`` of that key would;
   the state it depends on is there and its preconditions hold, all failures reported together
   (``precondition_failed``);
5. policy's verdict: deny (``policy_denied``), hold, or allow; that on its effects counts as well;
6. a hold that nobody is configured to approve is refused at once (``approval_required``).

:func:`check` needs nothing but the call, so it runs outside of any transaction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Literal, NamedTuple

from toolgate.ir import Action, OutcomeError, OutcomeKind
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.capabilities import Capabilities
from toolgate.kernel.records import Call
from toolgate.kernel.tools import RegisteredTool
from toolgate.plan import effects, preconditions
from toolgate.policy.verdict import ApprovalRequirement, Verdict, combined
from toolgate.validation import SchemaProblem


class Admission(NamedTuple):
    """The decision on a call. ``verdict`` is ``None`` when policy was not asked.

    ``stood_on`` is what was read of the session for it, in few words, and nothing else.
    """

    step: Literal["reject", "hold", "execute"]
    verdict: Verdict | None = None
    error: OutcomeError | None = None
    stood_on: Mapping[str, JSONValue] = MappingProxyType({})


def check(
    call: Call, tool: RegisteredTool | None, capabilities: Capabilities
) -> OutcomeError | None:
    """Return what is wrong with a call before state and policy are looked at (steps 1 to 3)."""
    if call.proposal is not None:
        malformed = effects.malformed(call.action)
        if malformed is not None:
            return OutcomeError(OutcomeKind.INVALID_ACTION, malformed)
        refusal = beyond_capabilities(call, capabilities)
    else:
        refusal = capabilities.refusal_of_tool(call.tool)
    if refusal is not None or not call.calls_tool:
        return refusal
    if tool is None:
        return unregistered(call.tool)
    problems = tool.argument_problems(call.args)
    return invalid_arguments(call.tool, problems) if problems else None


def beyond_capabilities(call: Call, capabilities: Capabilities) -> OutcomeError | None:
    """Return why the session may not do what an action of a proposal does (step 2), or None."""
    if call.calls_tool and (refusal := capabilities.refusal_of_tool(call.tool)) is not None:
        return refusal
    keys = sorted(effects.touched_keys(call.action))
    refusals = (capabilities.refusal_of_key(key) for key in keys)
    return next((refusal for refusal in refusals if refusal is not None), None)


def unmet(action: Action, state: Mapping[str, JSONValue]) -> OutcomeError | None:
    """Return what an action needs of the session's state and does not find there (step 4)."""
    failures = [
        f"state key {key!r}, which it depends on, does not exist"
        for key in dict.fromkeys(action.state_dependencies)
        if key not in state
    ]
    failures += preconditions.failures(action.preconditions, state)
    if not failures:
        return None
    return OutcomeError(
        OutcomeKind.PRECONDITION_FAILED, "; ".join(failures), {"failures": list(failures)}
    )


def admit(verdict: Verdict, on_effects: Sequence[tuple[str, Verdict]] = ()) -> Admission:
    """Decide on a well-formed call by policy's verdict, and by those on keys it would write."""
    if on_effects:
        verdict = combined(
            verdict, {f"its expected effect on state key {key!r}": v for key, v in on_effects}
        )
    if verdict.effect == "deny":
        return Admission("reject", verdict, policy_denied(verdict))
    if verdict.effect == "allow":
        return Admission("execute", verdict)
    if not answerable(verdict.requirement):
        return Admission(
            "reject",
            verdict,
            OutcomeError(
                OutcomeKind.APPROVAL_REQUIRED,
                f"{verdict.reason}: a person must approve this, and nobody is configured to "
                "(approvals.approvers in the gate's config)",
            ),
        )
    return Admission("hold", verdict)


def unregistered(name: str) -> OutcomeError:
    """Return the error for a tool nobody registered."""
    return OutcomeError(
        OutcomeKind.UNREGISTERED_TOOL,
        f"no tool named {name!r} is registered with the gate; register it before it is called",
    )


def invalid_arguments(name: str, problems: list[SchemaProblem]) -> OutcomeError:
    """Return the error that lists everything wrong with a call's arguments."""
    listed = "; ".join(f"{problem.pointer or '/'}: {problem.message}" for problem in problems)
    return OutcomeError(
        OutcomeKind.INVALID_ARGUMENTS,
        f"the arguments of {name} are not valid: {listed}",
        {"problems": [{"pointer": p.pointer, "message": p.message} for p in problems]},
    )


def policy_denied(verdict: Verdict) -> OutcomeError:
    """Return the error for a call that policy denies, with policy's reason."""
    return OutcomeError(OutcomeKind.POLICY_DENIED, verdict.reason)


def held_write(key: str, verdict: Verdict) -> OutcomeError:
    """Return the error for a key that policy would hold, written where nobody can be asked."""
    return OutcomeError(
        OutcomeKind.APPROVAL_REQUIRED,
        f"writing state key {key!r} needs a person's approval ({verdict.reason}): propose it as a "
        "state_write, which can be held",
    )


def answerable(requirement: ApprovalRequirement | None) -> bool:
    """Tell whether enough people are configured to meet the requirement at all."""
    return (
        requirement is not None
        and bool(requirement.groups)
        and all(group.answerable for group in requirement.groups)
    )
