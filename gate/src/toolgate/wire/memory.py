"""The wire without a process: a client's end in memory, for tests and for embedding."""

from __future__ import annotations

import asyncio

from toolgate import jsonvalue
from toolgate.jsonvalue import JSONValue
from toolgate.wire.transport import Receiver


class MemoryTransport:
    """The gate's end: what it sends is put, line by line and parsed, into :attr:`sent`."""

    def __init__(self) -> None:
        """Connect it with :meth:`connect` before bytes are fed."""
        self.sent: asyncio.Queue[dict[str, JSONValue]] = asyncio.Queue()
        self.closed = asyncio.Event()
        self.waiting = 0
        """Whoever plays a client that does not read sets it."""
        self._receiver: Receiver | None = None

    def connect(self, receiver: Receiver) -> None:
        """Hand everything that is fed from now on to ``receiver``."""
        self._receiver = receiver

    def feed(self, data: bytes) -> None:
        """Let the gate receive bytes."""
        if self._receiver is None:
            raise RuntimeError("not connected")
        self._receiver.received(data)

    def end(self) -> None:
        """Let the gate see the end of its input."""
        if self._receiver is not None:
            self._receiver.ended()

    def send(self, data: bytes) -> None:
        """Take bytes from the gate."""
        for line in data.splitlines():
            self.sent.put_nowait(jsonvalue.parse(line))

    async def close(self) -> None:
        """Note that the gate has closed its end."""
        self.closed.set()
