"""What takes a label away from a session: an approver's signed word. Pure.

A removal is a statement (:mod:`toolgate.approvals.signed`) that names the session, the label, where
in the log it was added, and when something last brought it. So it is about what the approver could
know of: when more content comes in that brings the label before the removal is taken in, the
removal is void, and when some comes in later, the label is added anew, of which it says nothing.

Every approver whose key is pinned may speak.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from toolgate import clock
from toolgate.approvals.signed import Form
from toolgate.approvals.tally import Received, Refusal
from toolgate.errors import ApprovalError
from toolgate.jsonvalue import JSONValue

FORM: Final = Form(
    "application/vnd.toolgate.label-removal+json",
    {"session": True, "label": True, "added": True, "brought": True},
)


@dataclass(frozen=True, slots=True)
class Labelled:
    """A session's label: ``added`` at this place in the log, ``brought`` last (microseconds)."""

    session: str
    label: str
    added: int
    brought: int

    def fields(self) -> dict[str, JSONValue]:
        """Return what a removal must name."""
        return {
            "session": self.session,
            "label": self.label,
            "added": self.added,
            "brought": clock.to_text(self.brought),
        }


@dataclass(frozen=True, slots=True)
class Removal:
    """A removal that counts; ``seq`` is its envelope's place among those received."""

    seq: int
    labelled: Labelled
    approver: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class Judged:
    """What was said of a session's labels: which go, and what does not count."""

    removals: tuple[Removal, ...]
    refused: tuple[Refusal, ...]


def sign(
    labelled: Labelled, approver: str, key: Ed25519PrivateKey, at: int, reason: str | None = None
) -> bytes:
    """Return an envelope in which ``approver`` takes the label away at ``at`` (microseconds)."""
    return FORM.sign(labelled.fields(), approver, key, at, reason)


def judge(
    labels: Iterable[Labelled],
    received: Iterable[Received],
    pinned: Mapping[str, Ed25519PublicKey],
) -> Judged:
    """Judge every envelope received about a session, of which these are the labels."""
    left = {item.label: item for item in labels}
    removals: list[Removal] = []
    refused: list[Refusal] = []
    for item in received:
        try:
            removal = _removal(left, item, pinned)
        except ApprovalError as error:
            refused.append(Refusal(item.seq, str(error)))
            continue
        del left[removal.labelled.label]
        removals.append(removal)
    return Judged(tuple(removals), tuple(refused))


def _removal(
    left: Mapping[str, Labelled], item: Received, pinned: Mapping[str, Ed25519PublicKey]
) -> Removal:
    said = FORM.read(item, pinned)
    label = said.fields["label"]
    labelled = left.get(label) if isinstance(label, str) else None
    if labelled is None:
        raise ApprovalError("the session does not have the label that it names")
    FORM.judge(said, item, pinned, labelled.fields(), labelled.brought)
    return Removal(item.seq, labelled, said.approver, said.reason)
