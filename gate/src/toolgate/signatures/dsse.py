"""DSSE envelopes: the signed bytes are the payload itself; nothing is canonicalised to verify.

The envelope and its pre-authentication encoding (PAE) are those of the Dead Simple Signing Envelope
protocol, version 1.0.2.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from toolgate import jsonvalue
from toolgate.errors import ApprovalError, JSONError

MAX_ENVELOPE_BYTES = 1 << 20
"""A larger envelope is refused unread: a reason and edited arguments fit many times over."""


@dataclass(frozen=True, slots=True)
class Envelope:
    """A payload, its type, and the signatures over both: ``(key id, signature)`` each."""

    payload: bytes
    payload_type: str
    signatures: tuple[tuple[str, bytes], ...]


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that are signed: the payload bound to its type by their lengths."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(payload: bytes, payload_type: str, key_id: str, key: Ed25519PrivateKey) -> bytes:
    """Sign ``payload`` and return the envelope as JSON bytes."""
    signature = key.sign(pae(payload_type, payload))
    signed = {"keyid": key_id, "sig": base64.b64encode(signature).decode()}
    return _envelope(payload, payload_type, [signed])


def unsigned(payload: bytes, payload_type: str) -> bytes:
    """Return an envelope that nobody has signed, as JSON bytes."""
    return _envelope(payload, payload_type, [])


def parse(text: bytes) -> Envelope:
    """Read an envelope; its signatures are not verified yet.

    Raises :class:`ApprovalError` when it is not an envelope.
    """
    if len(text) > MAX_ENVELOPE_BYTES:
        raise ApprovalError(f"the envelope is larger than {MAX_ENVELOPE_BYTES} bytes")
    try:
        value = jsonvalue.parse(text)
        payload = _decode(value["payload"])
        payload_type = value["payloadType"]
        signatures = tuple(
            (str(s.get("keyid", "")), _decode(s["sig"])) for s in value["signatures"]
        )
    except (JSONError, KeyError, TypeError, AttributeError, ValueError) as error:
        raise ApprovalError(f"not a DSSE envelope: {error}") from None
    if not isinstance(payload_type, str):
        raise ApprovalError("not a DSSE envelope: payloadType is not a string")
    return Envelope(payload, payload_type, signatures)


def verified_by(envelope: Envelope, key: Ed25519PublicKey) -> bool:
    """Tell whether any signature of the envelope is ``key``'s over exactly its payload and type."""
    signed = pae(envelope.payload_type, envelope.payload)
    for _, signature in envelope.signatures[:8]:
        try:
            key.verify(signature, signed)
        except InvalidSignature:
            continue
        return True
    return False


def _envelope(payload: bytes, payload_type: str, signatures: list[dict[str, str]]) -> bytes:
    return jsonvalue.canonical(
        {
            "payload": base64.b64encode(payload).decode(),
            "payloadType": payload_type,
            "signatures": signatures,
        }
    )


def _decode(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("a base64 field is not a string")
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise ValueError(f"a field is not base64: {error}") from None
