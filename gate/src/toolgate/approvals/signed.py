"""What every signed statement has in common that is no answer to a hold. Pure.

A statement is a DSSE envelope over a JSON object: ``version``, ``approver``, ``at``, a ``reason``
if there is one, and the fields of its form. It counts when, in this order:

1. its envelope and payload are well formed, of its form's type and version, without a field that
   is not known: such a field could change what was meant;
2. the approver's key is pinned in the gate's config, and the signature is that key's;
3. the approver is one of those who may speak on the subject;
4. it names exactly the subject as it stands now;
5. it is dated neither before the subject came to stand so, nor after it arrived, give or take
   :data:`~toolgate.approvals.tally.CLOCK_SKEW`.

Whatever does not count changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from toolgate import clock, jsonvalue
from toolgate.approvals.tally import CLOCK_SKEW, Received
from toolgate.errors import ApprovalError, JSONError
from toolgate.jsonvalue import JSONValue
from toolgate.signatures import dsse

VERSION = 1
_LATEST = 1 << 53
"""Microseconds since the epoch; about the year 2255."""


@dataclass(frozen=True, slots=True)
class Said:
    """What somebody has signed. ``at`` is the signer's own clock, microseconds since the epoch."""

    approver: str
    at: int
    reason: str | None
    fields: Mapping[str, JSONValue]


@dataclass(frozen=True, slots=True)
class Form:
    """One kind of statement: ``payload_type`` binds a signature to this use and to no other.

    ``fields`` are its own: whether each of them must be there.
    """

    payload_type: str
    fields: Mapping[str, bool]

    def sign(
        self,
        fields: Mapping[str, JSONValue],
        approver: str,
        key: Ed25519PrivateKey,
        at: int,
        reason: str | None,
    ) -> bytes:
        """Return an envelope in which ``approver`` states ``fields`` at ``at`` (microseconds)."""
        payload: dict[str, JSONValue] = {
            "version": VERSION,
            **fields,
            "approver": approver,
            "at": clock.to_text(at),
        }
        if reason is not None:
            payload["reason"] = reason
        return dsse.sign(jsonvalue.canonical(payload), self.payload_type, approver, key)

    def read(self, received: Received, pinned: Mapping[str, Ed25519PublicKey]) -> Said:
        """Return what somebody has said with the key that is pinned for them (rules 1 and 2).

        Raises :class:`ApprovalError` saying why it does not count.
        """
        at = received.at
        if not isinstance(received.envelope, bytes) or not (
            isinstance(at, int) and 0 <= at < _LATEST
        ):
            raise ApprovalError("the row is not one that the command writes")
        envelope = dsse.parse(received.envelope)
        said = self._statement(envelope)
        key = pinned.get(said.approver)
        if key is None:
            raise ApprovalError(f"no key is pinned for an approver named {said.approver!r}")
        if not dsse.verified_by(envelope, key):
            raise ApprovalError(f"the signature is not by the key pinned for {said.approver}")
        return said

    def judge(
        self,
        said: Said,
        received: Received,
        speakers: Collection[str],
        subject: Mapping[str, JSONValue],
        since: int,
    ) -> None:
        """Judge whether what was said is this person's to say, and of this (rules 3 to 5).

        ``speakers`` may speak on it; ``subject`` are the fields that say what it is about, which
        has stood so ``since`` (microseconds). Raises :class:`ApprovalError` saying why it does not
        count.
        """
        if said.approver not in speakers:
            raise ApprovalError(
                f"{said.approver} is not asked about it; {', '.join(sorted(speakers))} may speak"
            )
        if any(not jsonvalue.equal(said.fields[name], value) for name, value in subject.items()):
            raise ApprovalError("the statement is not about this, as it stands now")
        if said.at < since - CLOCK_SKEW:
            raise ApprovalError("the statement is dated before what it is about")
        if said.at > received.at + CLOCK_SKEW:
            raise ApprovalError("the statement is dated after it arrived")

    def _statement(self, envelope: dsse.Envelope) -> Said:
        if envelope.payload_type != self.payload_type:
            raise ApprovalError(
                f"the envelope carries {envelope.payload_type!r}, not {self.payload_type!r}"
            )
        try:
            value = jsonvalue.parse(envelope.payload)
        except JSONError as error:
            raise ApprovalError(f"the statement is not JSON: {error}") from None
        if not isinstance(value, dict) or not jsonvalue.equal(value.get("version"), VERSION):
            raise ApprovalError(f"the statement is not of version {VERSION}")
        required = {"version", "approver", "at"} | {n for n, must in self.fields.items() if must}
        allowed = required | {"reason"} | self.fields.keys()
        odd = sorted((required - value.keys()) | (value.keys() - allowed))
        if odd:
            raise ApprovalError(f"the statement lacks or adds fields: {', '.join(odd)}")
        texts = [value["approver"], value["at"], value.get("reason", "")]
        if not all(isinstance(text, str) for text in texts):
            raise ApprovalError("a field of the statement is not a string")
        try:
            at = clock.from_text(value["at"])
        except ValueError as error:
            raise ApprovalError(f"`at` is not a time: {error}") from None
        own = {name: value[name] for name in self.fields if name in value}
        return Said(value["approver"], at, value.get("reason"), own)
