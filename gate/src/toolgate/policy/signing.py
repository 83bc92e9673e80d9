"""Signatures of policy documents: a DSSE envelope beside the document, over its very bytes.

A document counts as signed when, in this order:

1. there is an envelope: the file of its name with ``.sig`` added;
2. the envelope's payload is of the type of policy documents: what was signed for any other use, an
   approval for one, signs no policy;
3. its payload is, byte for byte, the document that is to be loaded;
4. one of its signatures is that of a signer whose key the config pins. Who the envelope says has
   signed plays no part.

Whoever checks reads the document once and loads the bytes that were checked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from toolgate import jsonvalue
from toolgate.config import GateConfig
from toolgate.errors import ApprovalError, PolicyError
from toolgate.signatures import dsse
from toolgate.signatures.keys import load_public_key
from toolgate.sourcefile import Problems

PAYLOAD_TYPE: Final = "application/vnd.toolgate.policy"
"""Binds a signature to this use."""

MAX_DOCUMENT_BYTES: Final = dsse.MAX_ENVELOPE_BYTES // 2
"""A longer document is not signed: its envelope might be too long to be read."""


def signature_file(document: Path) -> Path:
    """Return where the envelope of a document lies."""
    return document.with_name(f"{document.name}.sig")


def pinned_signers(config: GateConfig) -> Mapping[str, Ed25519PublicKey]:
    """Return the key of each of ``policy.signers``.

    Raises :class:`PolicyError` with every key that cannot be used.
    """
    problems = Problems(config.source.lines)
    pinned: dict[str, Ed25519PublicKey] = {}
    for index, signer in enumerate(config.policy.signers):
        try:
            pinned[signer.id] = load_public_key(signer.public_key)
        except ApprovalError as error:
            problems.add(("policy", "signers", index, "public_key"), str(error))
    if problems:
        raise PolicyError(config.source.name, list(problems))
    return pinned


def sign(document: bytes, signer: str, key: Ed25519PrivateKey, beside: bytes | None) -> bytes:
    """Return an envelope in which ``signer`` signs ``document``.

    ``beside`` is the envelope that lies there already: signatures of the same bytes by others stay.
    Raises :class:`ApprovalError` when the document is too long.
    """
    if len(document) > MAX_DOCUMENT_BYTES:
        raise ApprovalError(f"a document of more than {MAX_DOCUMENT_BYTES} bytes cannot be signed")
    envelope = json.loads(dsse.sign(document, PAYLOAD_TYPE, signer, key))
    try:
        before = None if beside is None else dsse.parse(beside)
    except ApprovalError:
        before = None
    if before and (before.payload_type, before.payload) == (PAYLOAD_TYPE, document):
        others = json.loads(beside or b"{}")["signatures"]
        envelope["signatures"] += [item for item in others if item.get("keyid") != signer]
    return jsonvalue.canonical(envelope) + b"\n"


def verify(path: Path, document: bytes, signers: Mapping[str, Ed25519PublicKey]) -> list[str]:
    """Return who of ``signers`` has signed these bytes of the document at ``path``; never nobody.

    Raises :class:`ApprovalError` when nobody has, with the rule that was not met.
    """
    file = signature_file(path)
    try:
        with file.open("rb") as opened:
            text = opened.read(dsse.MAX_ENVELOPE_BYTES + 1)
    except FileNotFoundError:
        raise ApprovalError(
            f"must be signed (policy.require_signature), and there is no {file.name} beside it; "
            "`toolgate policy sign` makes one"
        ) from None
    except OSError as error:
        raise ApprovalError(f"its signature {file.name} cannot be read: {error.strerror}") from None
    try:
        return signed_by(document, text, signers)
    except ApprovalError as error:
        raise ApprovalError(f"its signature {file.name} does not count: {error}") from None


def signed_by(
    document: bytes, envelope: bytes, signers: Mapping[str, Ed25519PublicKey]
) -> list[str]:
    """Return who of ``signers`` has signed exactly ``document``; never nobody.

    Raises :class:`ApprovalError` with the rule that was not met.
    """
    read = dsse.parse(envelope)
    if read.payload_type != PAYLOAD_TYPE:
        raise ApprovalError(f"it carries {read.payload_type!r}, not a policy document")
    if read.payload != document:
        raise ApprovalError("it is of another document, or the document was changed since")
    found = [name for name, key in signers.items() if dsse.verified_by(read, key)]
    if not found:
        pinned = ", ".join(signers) or "nobody"
        raise ApprovalError(f"nobody who may sign (policy.signers: {pinned}) has signed it")
    return found


def write(path: Path, envelope: bytes) -> None:
    """Put an envelope beside the document at ``path``, whole or not at all."""
    file = signature_file(path)
    draft = file.with_name(f"{file.name}.{os.getpid()}.tmp")
    try:
        draft.write_bytes(envelope)
        draft.replace(file)
    except OSError as error:
        draft.unlink(missing_ok=True)
        raise ApprovalError(f"cannot write {file}: {error.strerror}") from None
