"""What the wire is carried by: anything that takes bytes and hands bytes over."""

from __future__ import annotations

from typing import Final, Protocol

HIGH_WATER: Final = 4 << 20
"""Bytes that may wait for a client that does not read; above, the gate stops reading from it."""


class Receiver(Protocol):
    """Takes what a transport reads, on the event loop's thread."""

    def received(self, data: bytes) -> None:
        """Take some bytes of the stream."""

    def ended(self) -> None:
        """The other side has closed its end; no more bytes come."""


class Transport(Protocol):
    """Carries bytes to the other side."""

    @property
    def waiting(self) -> int:
        """How many bytes are buffered because the other side does not read."""

    def send(self, data: bytes) -> None:
        """Send bytes; they are buffered while the other side does not read."""

    async def close(self) -> None:
        """Send what is buffered, waiting a bounded time for the other side, and close."""
