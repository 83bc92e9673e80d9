"""Approvers' keys on disk and in configs."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from toolgate.errors import ApprovalError
from toolgate.signatures.keys import (
    load_private_key,
    load_public_key,
    new_private_key,
    public_key_text,
)


def test_new_key_is_readable_by_its_owner_alone_and_loads_again(tmp_path: Path) -> None:
    path = tmp_path / "alice.key"
    key = new_private_key(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    loaded = load_private_key(path)
    assert public_key_text(loaded.public_key()) == public_key_text(key.public_key())


def test_key_file_is_never_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "alice.key"
    new_private_key(path)
    before = path.read_bytes()
    with pytest.raises(ApprovalError, match="never overwritten"):
        new_private_key(path)
    assert path.read_bytes() == before


def test_public_key_is_read_from_base64_and_from_pem(tmp_path: Path) -> None:
    public = new_private_key(tmp_path / "k").public_key()
    pem = public.public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert public_key_text(load_public_key(pem.decode())) == public_key_text(public)
    assert public_key_text(load_public_key(public_key_text(public))) == public_key_text(public)


@pytest.mark.parametrize("text", ["", "alice", "AAAA", "ä" * 44, "-----BEGIN PUBLIC KEY-----\nx"])
def test_text_that_is_no_public_key_is_refused(text: str) -> None:
    with pytest.raises(ApprovalError):
        load_public_key(text)


def test_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    other = ec.generate_private_key(ec.SECP256R1())
    path = tmp_path / "ec.key"
    path.write_bytes(
        other.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    path.chmod(0o600)
    with pytest.raises(ApprovalError, match="Ed25519"):
        load_private_key(path)
    pem = other.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    with pytest.raises(ApprovalError, match="Ed25519"):
        load_public_key(pem.decode())


def test_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "alice.key"
    new_private_key(path)
    path.chmod(0o644)
    with pytest.raises(ApprovalError, match="chmod 600"):
        load_private_key(path)


def test_missing_key_file_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(ApprovalError, match="No such file"):
        load_private_key(tmp_path / "nobody.key")
