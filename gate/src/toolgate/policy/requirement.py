"""What a hold asks of people, and what it still lacks. Pure.

1. A requirement has groups: each is of some approvers, so many of whom must approve.
2. Every group must be met. One approval counts in each group that names its approver.
3. What is lacking is told in as few words as are true: what is met with another thing that is
   lacking, whoever does that, is not told besides.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

from toolgate.jsonvalue import JSONValue

ANYBODY: Final = ("*",)
"""The approvers of a group where anybody may answer (``approvals.allow_unsigned``)."""


@dataclass(frozen=True, slots=True)
class ApproverGroup:
    """Of these approvers, ``quorum`` must approve; ``rule`` is None for the floor of level 4.

    ``edit`` says that the rule lets them sign other arguments. :data:`ANYBODY` stands for whoever
    gives a name, where nothing is signed and nobody is named.
    """

    rule: str | None
    approvers: tuple[str, ...]
    quorum: int
    edit: bool = False

    def has(self, approver: str) -> bool:
        """Tell whether somebody is one of them."""
        return approver in self.approvers or self.approvers == ANYBODY

    @property
    def answerable(self) -> bool:
        """Whether there are enough of them to meet the quorum at all."""
        return self.quorum >= 1 and (
            len(self.approvers) >= self.quorum or self.approvers == ANYBODY
        )

    def approved(self, approved_by: Iterable[str]) -> tuple[str, ...]:
        """Return those of the approvers who are of the group, in their order."""
        return tuple(name for name in approved_by if self.has(name))

    def lacks(self, approved_by: Iterable[str]) -> int:
        """Return how many more of the group must approve; without an approval none is met."""
        return max(max(self.quorum, 1) - len(self.approved(approved_by)), 0)


@dataclass(frozen=True, slots=True)
class ApprovalRequirement:
    """What a hold asks of people: every group's quorum, within ``expires`` seconds (None: ever).

    With ``unsigned`` their answers need no signature: for development.
    """

    groups: tuple[ApproverGroup, ...]
    expires: float | None
    unsigned: bool = False

    @property
    def editable(self) -> bool:
        """Whether an approver may sign other arguments: every group lets them."""
        return bool(self.groups) and all(group.edit for group in self.groups)

    def met(self, approved_by: Collection[str]) -> bool:
        """Tell whether these approvals release a hold; without groups none do."""
        return bool(self.groups) and not any(group.lacks(approved_by) for group in self.groups)

    def to_json(self) -> dict[str, Any]:
        """Return the plain form that is stored and hashed; what is not allowed is left out."""
        groups = [
            {
                "rule": group.rule,
                "approvers": list(group.approvers),
                "quorum": group.quorum,
                **({"edit": True} if group.edit else {}),
            }
            for group in self.groups
        ]
        whole: dict[str, Any] = {"groups": groups, "expires": self.expires}
        return {**whole, "unsigned": True} if self.unsigned else whole

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> ApprovalRequirement:
        """Read what :meth:`to_json` wrote."""
        groups = (
            ApproverGroup(
                group["rule"],
                tuple(group["approvers"]),
                group["quorum"],
                group.get("edit", False),
            )
            for group in value["groups"]
        )
        return cls(tuple(groups), value["expires"], value.get("unsigned", False))


@dataclass(frozen=True, slots=True)
class Ask:
    """Of these approvers so many must approve. ``rules`` ask it; none: the level does."""

    approvers: tuple[str, ...]
    quorum: int
    rules: tuple[str, ...]

    def __str__(self) -> str:
        if self.approvers == ANYBODY:
            some = "anybody" if self.quorum == 1 else f"any {self.quorum}"
            return f"{some} (approvals.allow_unsigned)"
        if not self.approvers:
            return "nobody who can be asked"
        if self.quorum == len(self.approvers):
            return listed(self.approvers)
        if self.quorum == 1:
            return listed(self.approvers, "or")
        return f"{self.quorum} of {', '.join(self.approvers)}"

    @property
    def whose(self) -> str:
        """The rules that ask it, in words."""
        return listed(self.rules) if self.rules else "the level"

    def lacks(self, approved_by: Iterable[str]) -> int:
        """Return how many more of the approvers must approve."""
        return ApproverGroup(None, self.approvers, self.quorum).lacks(approved_by)

    def implies(self, other: Ask) -> bool:
        """Tell whether the other is met with this one, whoever of these approvers meets it."""
        if self.approvers == ANYBODY or other.approvers == ANYBODY:
            return other.approvers == ANYBODY and self.quorum >= other.quorum
        elsewhere = len(set(self.approvers) - set(other.approvers))
        return self.quorum - elsewhere >= other.quorum

    def to_json(self) -> dict[str, JSONValue]:
        """Return it as the wire tells it."""
        return {
            "approvers": list(self.approvers),
            "quorum": self.quorum,
            "rules": list(self.rules),
        }


def asks(requirement: ApprovalRequirement) -> list[Ask]:
    """Return what a requirement asks; the same of the same people is asked once."""
    rules: dict[tuple[tuple[str, ...], int], list[str]] = {}
    for group in requirement.groups:
        rules.setdefault((group.approvers, group.quorum), []).extend(filter(None, [group.rule]))
    return [Ask(approvers, quorum, tuple(ids)) for (approvers, quorum), ids in rules.items()]


def missing(requirement: ApprovalRequirement, approved_by: Collection[str]) -> list[Ask]:
    """Return what must still be approved, and by whom, after these approvals; nothing: it is met.

    The approvers of each are those who have not approved yet.
    """
    lacking = tuple(
        replace(group, approvers=_others(group, approved_by), quorum=lacks)
        for group in requirement.groups
        if (lacks := group.lacks(approved_by))
    )
    found = asks(replace(requirement, groups=lacking))
    for ask in tuple(found):
        # One at a time: of two that imply each other one is to stay.
        if any(other.implies(ask) for other in found if other is not ask):
            found.remove(ask)
    return found


def _others(group: ApproverGroup, approved_by: Collection[str]) -> tuple[str, ...]:
    if group.approvers == ANYBODY:
        return ANYBODY
    return tuple(name for name in group.approvers if name not in approved_by)


def in_words(lacking: Iterable[Ask]) -> str:
    """Say whose approval is missing, as a sentence has it after "waits for"."""
    return ", and for ".join(str(ask) for ask in lacking) or "nobody"


def listed(names: Iterable[str], last: str = "and") -> str:
    """Return names as a sentence has them: ``a, b and c``."""
    *first, end = names
    return f"{', '.join(first)} {last} {end}" if first else end
