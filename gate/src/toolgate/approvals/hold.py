"""What is held: one action, the approval it needs, and the digest that names exactly that."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from toolgate import jsonvalue
from toolgate.errors import ApprovalError
from toolgate.jsonvalue import JSONValue
from toolgate.policy.requirement import ANYBODY, ApprovalRequirement

MICROSECONDS = 1_000_000
MARK: Final = "redacted:"
"""What a value that is shown in place of a redacted one begins with."""


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
    blind: str | None = None
    """What is in the digest besides where arguments are redacted: see :func:`hold_digest`."""
    after: int = 0
    """Answers up to this number are void: it tells an opening of the hold from those before."""
    redacted: dict[str, JSONValue] | None = None
    """The arguments as everybody may see them, where some are redacted."""
    hidden: tuple[str, ...] = ()
    """The JSON pointers of those that are."""

    @property
    def approvers(self) -> tuple[str, ...]:
        """Everybody who may speak on this hold, sorted."""
        return tuple(sorted({a for group in self.requirement.groups for a in group.approvers}))

    @property
    def asked(self) -> str:
        """Everybody who may speak on this hold, in words."""
        who = [name for name in self.approvers if (name,) != ANYBODY]
        return ", ".join(["anybody"] if len(who) < len(self.approvers) else who)

    @property
    def quorum(self) -> int:
        """The largest number of approvals that one rule asks for; several may need more."""
        return max((group.quorum for group in self.requirement.groups), default=1)

    def asks(self, approver: str) -> bool:
        """Tell whether somebody may speak on this hold."""
        return any(group.has(approver) for group in self.requirement.groups)

    def digest_with(self, args: dict[str, JSONValue]) -> str:
        """Return the digest of this hold if it were of these arguments."""
        return hold_digest(
            self.uid,
            self.tool,
            args,
            self.requirement,
            self.expected_effects,
            self.compensation,
            self.retries,
            self.blind,
            self.after,
        )

    def reopened(self, after: int) -> Hold:
        """Return the hold as it is when it is opened anew: answers up to ``after`` are void."""
        hold = replace(self, after=after)
        return replace(hold, digest=hold.digest_with(self.args))

    def edited(self, args: dict[str, JSONValue]) -> Hold:
        """Return the hold as it is with other arguments."""
        return replace(self, args=args, digest=self.digest_with(args))

    def revealed(self, args: dict[str, JSONValue]) -> dict[str, JSONValue]:
        """Return edited arguments as they would run: redacted values are put in their places.

        An edit may name such a value as everybody sees it, which leaves it as it is. Raises
        :class:`ApprovalError` for one that names another's in its place.
        """
        whole: Any = args
        for pointer in self.hidden:
            stated = jsonvalue.value_at(whole, pointer)
            held = jsonvalue.value_at(self.args, pointer)
            if stated is None:
                continue
            path, value = stated
            if held is not None and jsonvalue.value_at(self.redacted, pointer) == stated:
                whole = jsonvalue.with_value(whole, path, held[1])
            elif isinstance(value, str) and value.startswith(MARK):
                raise ApprovalError(
                    f"the value at {pointer} is named as a redacted one, and is not the one that "
                    "is held there"
                )
        return whole  # type: ignore[no-any-return]


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
    blind: str | None = None,
    after: int = 0,
) -> str:
    """Return the digest an approval must name: over everything that would happen.

    That is uid, tool, arguments, what a success writes to the session's state, what would be run
    to compensate it, how many attempts may follow a failed one, and the approval requirement. A
    single call has no effects to expect and no compensation; they are part of the digest all the
    same, so that one rule names every hold. Retries are named where there are any.

    Each opening of a hold has a digest of its own, so that no answer to an earlier one fits: of one
    that was reopened it names the number ``after`` up to which answers are void, and which grows.

    The digest is told to everybody. Where some arguments are redacted, a ``blind`` that only
    holders of the journal key can make is in it, so that no guess at them can be tried.
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
    if after:
        named["after"] = after
    if blind is not None:
        named["blind"] = blind
    return jsonvalue.digest(named)
