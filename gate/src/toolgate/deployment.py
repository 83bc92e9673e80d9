"""What loading a config leaves to be checked: approvers' keys, and the operator's schemas."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from toolgate.config import GateConfig
from toolgate.errors import ApprovalError, ConfigError, SchemaError
from toolgate.jsonvalue import pointer_parts
from toolgate.signatures.keys import load_private_key, load_public_key, public_key_text
from toolgate.sourcefile import Problems
from toolgate.validation import compile_schema


def pinned_keys(config: GateConfig) -> Mapping[str, Ed25519PublicKey]:
    """Return the public key that the config pins for each approver.

    Raises :class:`ConfigError` with every key that cannot be used, every key that two approvers
    share (one person could fill a quorum of two), every operator's schema that is not one, and
    every ``redact`` pointer to an argument that this schema does not let through: it hides nothing.
    """
    problems = Problems(config.source.lines)
    pinned: dict[str, Ed25519PublicKey] = {}
    owners: dict[str, str] = {}
    for index, approver in enumerate(config.approvals.approvers):
        location = ("approvals", "approvers", index, "public_key")
        try:
            key = load_public_key(approver.public_key)
        except ApprovalError as error:
            problems.add(location, str(error))
            continue
        owner = owners.setdefault(public_key_text(key), approver.id)
        if owner != approver.id:
            problems.add(location, f"{owner} and {approver.id} have the same key")
        pinned[approver.id] = key
    for name, tool in config.tools.items():
        try:
            compile_schema(tool.parameters or {})
        except SchemaError as error:
            problems.add(("tools", name, "parameters"), str(error))
        for index, pointer in enumerate(tool.redact):
            first = pointer_parts(pointer)[0]
            if not _lets_through(tool.parameters, first):
                problems.add(
                    ("tools", name, "redact", index),
                    f"{pointer!r} hides nothing: the schema beside it lets no {first!r} through",
                )
    if problems:
        raise ConfigError(config.source.name, list(problems))
    return pinned


def _lets_through(schema: Mapping[str, Any] | None, name: str) -> bool:
    """Tell whether a schema may let an argument of this name through: it is not plainly closed."""
    if schema is None or schema.get("additionalProperties") is not False:
        return True
    return name in schema.get("properties", {}) or "patternProperties" in schema


def signing_key(
    pinned: Mapping[str, Ed25519PublicKey], approver: str, key_file: Path
) -> Ed25519PrivateKey:
    """Return the private key of an approver, which is the one that the config pins.

    Raises :class:`ApprovalError`.
    """
    key = load_private_key(key_file)
    public = pinned.get(approver)
    if public is None:
        raise ApprovalError(
            f"no approver named {approver!r} is in the config (approvals.approvers)"
        )
    if public_key_text(public) != public_key_text(key.public_key()):
        raise ApprovalError(f"{key_file} is not the key that the config pins for {approver}")
    return key
