"""What is held: one action, the approval it needs, and the digest that names exactly that."""

from __future__ import annotations

from dataclasses import dataclass, field

from toolgate import jsonvalue
from toolgate.jsonvalue import JSONValue
from toolgate.policy.verdict import ApprovalRequirement

MICROSECONDS = 1_000_000


@dataclass(frozen=True, slots=True)
class Hold:
    """An action that waits for people. Times are microseconds since the epoch, UTC.

    ``deadline`` is ``None`` for a hold that never expires. ``digest`` names everything that would
    happen (:func:`hold_digest`): a statement that names another digest is about something else.
    """

    hold_id: str
    uid: str
    session: str
    tool: str
    args: dict[str, JSONValue]
    requirement: ApprovalRequirement
    digest: str
    rules: tuple[str, ...]
    reason: str
    policy_digest: str
    opened_at: int
    deadline: int | None
    expected_effects: dict[str, JSONValue] = field(default_factory=dict)
    compensation: JSONValue = None
    retries: int = 0
    """How many attempts may follow a failed one, by the plan's word."""

    @property
    def approvers(self) -> tuple[str, ...]:
        """Everybody who may speak on this hold, sorted."""
        return tuple(sorted({a for group in self.requirement.groups for a in group.approvers}))

    @property
    def quorum(self) -> int:
        """The largest number of approvals that one rule asks for."""
        return max((group.quorum for group in self.requirement.groups), default=1)


def deadline_of(requirement: ApprovalRequirement, opened_at: int) -> int | None:
    """Return when a hold opened at ``opened_at`` expires (microseconds), or ``None`` for never."""
    if requirement.expires is None:
        return None
    return opened_at + round(requirement.expires * MICROSECONDS)


def hold_digest(
    uid: str,
    tool: str,
    args: dict[str, JSONValue],
    requirement: ApprovalRequirement,
    expected_effects: dict[str, JSONValue],
    compensation: JSONValue,
    retries: int,
) -> str:
    """Return the digest an approval must name: over everything that would happen.

    That is uid, tool, arguments, what a success writes to the session's state, what would be run
    to compensate it, how many attempts may follow a failed one, and the approval requirement. A
    single call has no effects to expect and no compensation; they are part of the digest all the
    same, so that one rule names every hold. Retries are named where there are any.
    """
    named: dict[str, JSONValue] = {
        "uid": uid,
        "tool": tool,
        "args": args,
        "expected_effects": expected_effects,
        "compensation": compensation,
        "requirement": requirement.to_json(),
    }
    if retries:
        named["retries"] = retries
    return jsonvalue.digest(named)
