"""Hashes and MACs: how an event is chained to the one before it, and how a row is sealed. Pure.

``hash = sha256(prev || header || 0x0a || data)`` with the header's fields joined by 0x1f; ``prev``
is the hash of the event before it in the same run, 32 zero bytes for the first. ``mac =
HMAC-SHA256(key, hash)``: without the journal key nobody can write an event, or a row, that
verifies.
"""

from __future__ import annotations

import hashlib
from typing import Final

from toolgate.journal.events import Event

GENESIS: Final = bytes(32)
_SEPARATOR: Final = "\x1f"
_BLOCK: Final = 64


class JournalKey:
    """The deployment's secret key and its id (the start of the key's own hash)."""

    def __init__(self, secret: bytes) -> None:
        """``secret`` is 32 bytes from a cryptographic random source."""
        self.key_id = hashlib.sha256(b"toolgate journal key\n" + secret).hexdigest()[:16]
        # HMAC-SHA256 (RFC 2104) with both pads hashed once: a copy is far cheaper than a new one.
        padded = secret.ljust(_BLOCK, b"\0")
        self._inner = hashlib.sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = hashlib.sha256(bytes(byte ^ 0x5C for byte in padded))

    def derived(self, purpose: str) -> JournalKey:
        """Return a key for another purpose: what is made with it tells nothing of this one's."""
        return JournalKey(self.mac(b"derived key\n" + purpose.encode()))

    def mac(self, message: bytes) -> bytes:
        """Return HMAC-SHA256 of ``message``: 32 bytes."""
        inner = self._inner.copy()
        inner.update(message)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()


def event_hash(
    prev: bytes,
    seq: int,
    run: str,
    n: int,
    at: int,
    session: str | None,
    action: str | None,
    kind: str,
    data: bytes,
) -> bytes:
    """Return the hash that chains an event to ``prev``."""
    header = (
        f"{seq}{_SEPARATOR}{run}{_SEPARATOR}{n}{_SEPARATOR}{at}{_SEPARATOR}{session or ''}"
        f"{_SEPARATOR}{action or ''}{_SEPARATOR}{kind}"
    )
    return hashlib.sha256(b"%b%b\n%b" % (prev, header.encode(), data)).digest()


def hash_of(event: Event) -> bytes:
    """Recompute an event's hash from everything else in its row.

    The answer is no hash at all for a row that no gate writes and whose hash would be another
    row's: with an empty text where nothing stands, a separator inside a field, or a hash before it
    that is longer or shorter than a hash. Nor is there one for text that is not UTF-8.
    """
    if len(event.prev) != len(GENESIS):
        return b""
    if event.session == "" or event.action == "" or _SEPARATOR in (event.session or ""):
        return b""
    if _SEPARATOR in event.run or _SEPARATOR in event.kind or _SEPARATOR in (event.action or ""):
        return b""
    try:
        return event_hash(
            event.prev,
            event.seq,
            event.run,
            event.n,
            event.at,
            event.session,
            event.action,
            event.kind,
            event.data,
        )
    except UnicodeEncodeError:
        return b""


def row_bytes(table: str, fields: tuple[str | int | bytes | None, ...]) -> bytes:
    """Return the bytes a row's MAC covers: its table's name and its values as ASCII literals.

    A literal tells its type and where it ends, so no two rows have the same bytes.
    """
    return b"%b%b" % (table.encode(), ascii(tuple(fields)).encode())
