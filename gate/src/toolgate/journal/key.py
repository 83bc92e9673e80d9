"""The journal key: where it lives (never in the store), and how it is made on first use."""

from __future__ import annotations

import base64
import binascii
import os
import secrets
import stat
from pathlib import Path

from toolgate.errors import JournalKeyError
from toolgate.journal.chain import JournalKey
from toolgate.journal.database import make_folder

_LENGTH = 32


def key_from_env(name: str) -> JournalKey:
    """Read the key, base64 of 32 bytes, from the environment variable ``name``.

    Raises :class:`JournalKeyError` when it is unset or not such a text.
    """
    text = os.environ.get(name)
    if text is None:
        raise JournalKeyError(
            f"journal_key: the environment variable {name} is not set; "
            "it must hold base64 of 32 random bytes"
        )
    return JournalKey(_decode(text, f"the environment variable {name}"))


def key_from_file(path: Path, *, create: bool) -> JournalKey:
    """Read the key from ``path``; with ``create``, make it (mode 0600) when there is none.

    Raises :class:`JournalKeyError` when the file is missing and may not be made, is readable by
    others than its owner, or does not hold a key.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if not create:
            raise JournalKeyError(
                f"the journal key {path} is missing, and this journal was made with one: restore "
                "the key file; without it nothing in the journal can be trusted or continued"
            ) from None
        return _create(path)
    except OSError as error:
        raise JournalKeyError(f"cannot read the journal key {path}: {error.strerror}") from None
    with os.fdopen(fd, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & 0o077:
            raise JournalKeyError(
                f"the journal key {path} has mode {mode:04o}: others may read it; chmod 600 it"
            )
        return JournalKey(_decode(file.read().decode("ascii", "replace"), str(path)))


def _create(path: Path) -> JournalKey:
    secret = secrets.token_bytes(_LENGTH)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        make_folder(path.parent)
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(base64.b64encode(secret) + b"\n")
            file.flush()
            os.fsync(file.fileno())
        try:
            # A link never replaces: when two gates start at once, one key wins and both use it.
            os.link(temporary, path)
        except FileExistsError:
            return key_from_file(path, create=False)
        finally:
            temporary.unlink()
    except OSError as error:
        raise JournalKeyError(f"cannot write the journal key {path}: {error.strerror}") from None
    return JournalKey(secret)


def _decode(text: str, where: str) -> bytes:
    try:
        secret = base64.b64decode(text.strip(), validate=True)
    except (binascii.Error, ValueError):
        secret = b""
    if len(secret) != _LENGTH:
        raise JournalKeyError(f"{where} does not hold a journal key (base64 of 32 bytes)")
    return secret


def random_key() -> JournalKey:
    """Return a key that nobody keeps: for a journal in memory."""
    return JournalKey(secrets.token_bytes(_LENGTH))
