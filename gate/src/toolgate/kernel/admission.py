"""What becomes of a proposed call. Pure.

In this order, and the first that fails ends it:

1. the tool is registered (``unregistered_tool``);
2. the arguments match the client's schema and the operator's, every error reported at once
   (``invalid_arguments``);
3. policy's verdict: deny (``policy_denied``), hold, or allow;
4. a hold that nobody is configured to approve is refused at once (``approval_required``).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from toolgate.ir import OutcomeError, OutcomeKind
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.tools import RegisteredTool
from toolgate.kernel.validation import SchemaProblem
from toolgate.policy.verdict import ApprovalRequirement, Verdict


@dataclass(frozen=True, slots=True)
class Admission:
    """The decision on a call. ``verdict`` is ``None`` when policy was not asked."""

    step: Literal["reject", "hold", "execute"]
    verdict: Verdict | None = None
    error: OutcomeError | None = None


def check(
    name: str, tool: RegisteredTool | None, args: dict[str, JSONValue]
) -> OutcomeError | None:
    """Return what is wrong with a call of the tool ``name`` before policy is asked, if anything."""
    if tool is None:
        return unregistered(name)
    problems = tool.argument_problems(args)
    return invalid_arguments(name, problems) if problems else None


def admit(verdict: Verdict) -> Admission:
    """Decide on a well-formed call by policy's verdict."""
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


def answerable(requirement: ApprovalRequirement | None) -> bool:
    """Tell whether enough people are configured to meet the requirement at all."""
    return (
        requirement is not None
        and bool(requirement.groups)
        and all(len(group.approvers) >= group.quorum >= 1 for group in requirement.groups)
    )
