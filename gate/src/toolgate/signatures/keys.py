"""Ed25519 key pairs: making them, writing them for their owner alone, reading them."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from toolgate.errors import ApprovalError

_RAW_LENGTH = 32


def public_key_text(key: Ed25519PublicKey) -> str:
    """Return the config's form of a public key: base64 of its 32 raw bytes."""
    raw = key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return base64.b64encode(raw).decode()


def load_public_key(text: str) -> Ed25519PublicKey:
    """Read a public key: base64 of 32 raw bytes, or a PEM ``PUBLIC KEY`` block.

    Raises :class:`ApprovalError` for anything else, and for keys that are not Ed25519.
    """
    if "-----BEGIN" in text:
        try:
            key = serialization.load_pem_public_key(text.encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ApprovalError(f"not a PEM public key: {error}") from None
        if not isinstance(key, Ed25519PublicKey):
            raise ApprovalError("the public key is not an Ed25519 key")
        return key
    try:
        raw = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        raw = b""
    if len(raw) != _RAW_LENGTH:
        raise ApprovalError(
            "a public key is base64 of 32 raw bytes, or a PEM block; "
            "`toolgate keys new NAME` prints one"
        )
    return Ed25519PublicKey.from_public_bytes(raw)


def load_private_key(path: Path) -> Ed25519PrivateKey:
    """Read an unencrypted PKCS#8 PEM private key.

    Raises :class:`ApprovalError` when the file cannot be read, may be read by others than its
    owner, or is not an Ed25519 private key.
    """
    try:
        with path.open("rb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            text = file.read()
    except OSError as error:
        raise ApprovalError(f"cannot read the key {path}: {error.strerror}") from None
    if mode & 0o077:
        raise ApprovalError(
            f"the key {path} has mode {mode:04o}: others may read it, and sign with it; "
            "chmod 600 it"
        )
    try:
        key = serialization.load_pem_private_key(text, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ApprovalError(f"{path} is not an unencrypted PEM private key") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise ApprovalError(f"{path} is not an Ed25519 private key")
    return key


def new_private_key(path: Path) -> Ed25519PrivateKey:
    """Make a key and write it to ``path``, a file that must not exist yet, with mode 0600.

    Raises :class:`ApprovalError` when the file exists or cannot be written.
    """
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise ApprovalError(f"{path} exists already; a key is never overwritten") from None
    except OSError as error:
        raise ApprovalError(f"cannot write the key {path}: {error.strerror}") from None
    with os.fdopen(fd, "wb") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
    return key
