"""What an approver signs: this hold, this action, this digest, yes or no."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal, cast

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from toolgate import clock, jsonvalue
from toolgate.approvals.hold import Hold
from toolgate.errors import ApprovalError, JSONError
from toolgate.jsonvalue import JSONValue
from toolgate.signatures import dsse

PAYLOAD_TYPE = "application/vnd.toolgate.approval+json"
"""Binds a signature to this use: an envelope signed for anything else is no approval."""

VERSION = 1
Answer = Literal["approve", "deny"]

_REQUIRED: Final = frozenset({"version", "hold", "action", "digest", "verdict", "approver", "at"})
_OPTIONAL: Final = frozenset({"reason", "args"})


@dataclass(frozen=True, slots=True)
class Statement:
    """An approver's answer. ``at`` is the approver's own clock, microseconds since the epoch.

    With ``args`` it is an edit: an approval of these arguments in the place of those that were
    held; ``digest`` is that of the hold with them. ``signed`` says that its envelope carries a
    signature, not whose.
    """

    hold: str
    action: str
    digest: str
    verdict: Answer
    approver: str
    at: int
    reason: str | None = None
    args: dict[str, JSONValue] | None = None
    signed: bool = True


def sign(
    hold: Hold,
    verdict: Answer,
    approver: str,
    key: Ed25519PrivateKey | None,
    at: int,
    reason: str | None = None,
    args: dict[str, JSONValue] | None = None,
) -> bytes:
    """Return a signed envelope in which ``approver`` answers ``hold`` at ``at`` (microseconds).

    The answer is about the hold's arguments, or with ``args`` about those in their place: it raises
    :class:`ApprovalError` where these name a redacted value that is not held there. Without a key
    nobody signs it.
    """
    digest = hold.digest if args is None else hold.digest_with(hold.revealed(args))
    payload: dict[str, JSONValue] = {
        "version": VERSION,
        "hold": hold.hold_id,
        "action": hold.uid,
        "digest": digest,
        "verdict": verdict,
        "approver": approver,
        "at": clock.to_text(at),
    }
    if reason is not None:
        payload["reason"] = reason
    if args is not None:
        payload["args"] = args
    text = jsonvalue.canonical(payload)
    if key is None:
        return dsse.unsigned(text, PAYLOAD_TYPE)
    return dsse.sign(text, PAYLOAD_TYPE, approver, key)


def read(envelope: dsse.Envelope) -> Statement:
    """Return the statement an envelope carries; who signed it is for the caller to verify.

    Raises :class:`ApprovalError` when the payload is of another type, version or shape. A field
    that this version does not know is refused too: it could change what was approved.
    """
    if envelope.payload_type != PAYLOAD_TYPE:
        raise ApprovalError(f"the envelope carries {envelope.payload_type!r}, not an approval")
    try:
        value = jsonvalue.parse(envelope.payload)
    except JSONError as error:
        raise ApprovalError(f"the statement is not JSON: {error}") from None
    if not isinstance(value, dict) or value.get("version") != VERSION:
        raise ApprovalError(f"the statement is not of version {VERSION}")
    if not value.keys() >= _REQUIRED or value.keys() - _REQUIRED - _OPTIONAL:
        odd = sorted(_REQUIRED ^ (value.keys() - _OPTIONAL))
        raise ApprovalError(f"the statement lacks or adds fields: {', '.join(odd)}")
    texts = {name: value[name] for name in value if name not in ("version", "args")}
    if not all(isinstance(text, str) for text in texts.values()):
        raise ApprovalError("a field of the statement is not a string")
    if texts["verdict"] not in ("approve", "deny"):
        raise ApprovalError(f"the verdict is {texts['verdict']!r}, neither approve nor deny")
    try:
        at = clock.from_text(texts["at"])
    except ValueError as error:
        raise ApprovalError(f"`at` is not a time: {error}") from None
    return Statement(
        hold=texts["hold"],
        action=texts["action"],
        digest=texts["digest"],
        verdict=cast(Answer, texts["verdict"]),
        approver=texts["approver"],
        at=at,
        reason=texts.get("reason"),
        args=_args(value),
        signed=bool(envelope.signatures),
    )


def _args(value: dict[str, Any]) -> dict[str, JSONValue] | None:
    """Return the arguments that an edit has, if it is one."""
    if "args" not in value:
        return None
    if not isinstance(value["args"], dict):
        raise ApprovalError("the edited arguments are not an object")
    if value["verdict"] != "approve":
        raise ApprovalError("only an approval can have edited arguments")
    return value["args"]
