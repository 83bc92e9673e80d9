"""What an action in doubt is settled with: a person's signed word on what became of it. Pure.

A settlement is a statement (:mod:`toolgate.approvals.signed`) that names the action and the
*doubt*: by a digest over the action's uid, its tool, the digest of its call, and the event that put
it in doubt. So it is for this doubt of this action, once: when the action is run again and comes
into doubt again, that is another doubt.

Besides the rules of every statement:

1. those may speak who were asked on the action's hold; where it was allowed without one, every
   approver whose key is pinned;
2. the outcome is ``succeeded`` (with the output, null if none is named), ``failed``, or ``retry``;
   only ``succeeded`` has an output;
3. ``retry`` does not count where the action cannot run again;
4. of several that count, the one that was signed last does: who has thought better of it signs
   again, until somebody resumes the action.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from toolgate import jsonvalue
from toolgate.approvals.signed import Form, Said
from toolgate.approvals.tally import Received, Refusal
from toolgate.errors import ApprovalError
from toolgate.jsonvalue import JSONValue

SettledAs = Literal["succeeded", "failed", "retry"]

FORM: Final = Form(
    "application/vnd.toolgate.settlement+json",
    {"action": True, "digest": True, "outcome": True, "output": False},
)


@dataclass(frozen=True, slots=True)
class Doubt:
    """An action of which nobody knows how it ended, and who may say so.

    ``seq`` and ``event`` (its hash) are those of the event that put it in doubt, which was
    ``since`` (microseconds since the epoch). ``content`` is the digest of its call. ``ended`` says
    why it cannot run again, if it cannot.
    """

    uid: str
    tool: str
    content: str
    seq: int
    event: bytes
    since: int
    settlers: tuple[str, ...]
    ended: str | None = None

    @property
    def subject(self) -> str:
        """Return the name under which statements about it lie in the store."""
        return f"{self.uid}@{self.seq}"

    @property
    def digest(self) -> str:
        """Return what a settlement must name."""
        return jsonvalue.digest(
            {
                "uid": self.uid,
                "tool": self.tool,
                "content": self.content,
                "doubt": {"seq": self.seq, "hash": self.event.hex()},
            }
        )


@dataclass(frozen=True, slots=True)
class Settlement:
    """A settlement that counts; ``seq`` is its envelope's place among those received."""

    seq: int
    outcome: SettledAs
    approver: str
    at: int
    output: JSONValue = None
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Judged:
    """What was said about a doubt: the settlement that counts, if one does, and what does not."""

    settlement: Settlement | None
    refused: tuple[Refusal, ...]


def sign(
    doubt: Doubt,
    outcome: SettledAs,
    approver: str,
    key: Ed25519PrivateKey,
    at: int,
    reason: str | None = None,
    output: JSONValue = None,
) -> bytes:
    """Return a signed envelope in which ``approver`` settles ``doubt`` at ``at`` (microseconds)."""
    fields: dict[str, JSONValue] = {
        "action": doubt.uid,
        "digest": doubt.digest,
        "outcome": outcome,
    }
    if outcome == "succeeded":
        fields["output"] = output
    return FORM.sign(fields, approver, key, at, reason)


def judge(
    doubt: Doubt, received: Iterable[Received], pinned: Mapping[str, Ed25519PublicKey]
) -> Judged:
    """Judge every envelope received about ``doubt`` by the rules above."""
    counted: list[Settlement] = []
    refused: list[Refusal] = []
    subject: dict[str, JSONValue] = {"action": doubt.uid, "digest": doubt.digest}
    for item in received:
        try:
            said = FORM.read(item, pinned)
            FORM.judge(said, item, doubt.settlers, subject, doubt.since)
            counted.append(_settlement(doubt, item.seq, said))
        except ApprovalError as error:
            refused.append(Refusal(item.seq, str(error)))
    counted.sort(key=lambda settlement: (settlement.at, settlement.seq))
    earlier = "another settlement was signed after it"
    refused.extend(Refusal(settlement.seq, earlier) for settlement in counted[:-1])
    refused.sort(key=lambda refusal: refusal.seq)
    return Judged(counted[-1] if counted else None, tuple(refused))


def _settlement(doubt: Doubt, seq: int, said: Said) -> Settlement:
    outcome = said.fields["outcome"]
    if outcome not in ("succeeded", "failed", "retry"):
        raise ApprovalError(f"the outcome is {outcome!r}: neither succeeded, failed nor retry")
    if "output" in said.fields and outcome != "succeeded":
        raise ApprovalError("only what succeeded has an output")
    if outcome == "retry" and doubt.ended is not None:
        raise ApprovalError(f"it cannot run again: {doubt.ended}")
    return Settlement(
        seq,
        cast(SettledAs, outcome),
        said.approver,
        said.at,
        said.fields.get("output"),
        said.reason,
    )
