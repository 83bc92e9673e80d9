"""The gate's stdin and stdout as a transport: pipes on the event loop, files by a thread."""

from __future__ import annotations

import asyncio
import os
import stat
import sys
import threading
from typing import Final, cast

from toolgate.wire.transport import HIGH_WATER, Receiver

CLOSE_PATIENCE: Final = 5.0
"""Seconds to wait, at the end, for the client to read what is left."""
_CHUNK: Final = 1 << 16


class StdioTransport(asyncio.Protocol):
    """Carries the wire over two file descriptors, and keeps stdout for the wire alone."""

    def __init__(self) -> None:
        """Take stdin and stdout for the wire; whatever else prints to stdout reaches stderr."""
        sys.stdout.flush()
        self._input = os.dup(0)
        self._output = os.dup(1)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        os.dup2(2, 1)
        self._receiver: Receiver | None = None
        self._reader: asyncio.ReadTransport | None = None
        self._writer: asyncio.WriteTransport | None = None
        self._drained = asyncio.Event()
        self._ended = False

    async def connect(self, receiver: Receiver) -> None:
        """Start to hand what comes in to ``receiver``."""
        self._receiver = receiver
        loop = asyncio.get_running_loop()
        self._drained.set()
        if _pollable(self._output):
            writer, _ = await loop.connect_write_pipe(
                lambda: _Writer(self), os.fdopen(self._output, "wb", buffering=0)
            )
            writer.set_write_buffer_limits(high=HIGH_WATER)
            self._writer = writer
        if _pollable(self._input):
            reader, _ = await loop.connect_read_pipe(
                lambda: self, os.fdopen(self._input, "rb", buffering=0)
            )
            self._reader = reader
        else:
            threading.Thread(target=self._read_file, args=(loop,), daemon=True).start()

    @property
    def waiting(self) -> int:
        """How many bytes are buffered because the client does not read."""
        return 0 if self._writer is None else self._writer.get_write_buffer_size()

    def send(self, data: bytes) -> None:
        """Send bytes; they are buffered while the client does not read."""
        if self._writer is not None:
            if not self._writer.is_closing():
                self._writer.write(data)
            return
        view = memoryview(data)
        while view:
            view = view[os.write(self._output, view) :]

    async def close(self) -> None:
        """Send what is buffered, waiting at most :data:`CLOSE_PATIENCE`, and close."""
        if self._reader is not None and not self._reader.is_closing():
            self._ended = True
            self._reader.close()
        if self._writer is not None and not self._writer.is_closing():
            self._writer.set_write_buffer_limits(high=0)
            if self._writer.get_write_buffer_size() > 0:
                self._drained.clear()
                try:
                    await asyncio.wait_for(self._drained.wait(), CLOSE_PATIENCE)
                except TimeoutError:
                    self._writer.abort()
                    return
            self._writer.close()

    # asyncio.Protocol, for the reading side
    def data_received(self, data: bytes) -> None:
        """Hand bytes on."""
        cast(Receiver, self._receiver).received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell of the end of the input, once."""
        if not self._ended:
            self._ended = True
            cast(Receiver, self._receiver).ended()

    # the writing side
    def pause_writing(self) -> None:
        """Stop reading from a client that does not read: its replies must not pile up here."""
        self._drained.clear()
        if self._reader is not None and not self._reader.is_closing():
            self._reader.pause_reading()

    def resume_writing(self) -> None:
        """Read again."""
        self._drained.set()
        if self._reader is not None and not self._reader.is_closing():
            self._reader.resume_reading()

    def _read_file(self, loop: asyncio.AbstractEventLoop) -> None:
        while data := os.read(self._input, _CHUNK):
            loop.call_soon_threadsafe(self.data_received, data)
        loop.call_soon_threadsafe(self.connection_lost, None)


class _Writer(asyncio.BaseProtocol):
    """The writing side's callbacks, which belong to the one transport."""

    def __init__(self, owner: StdioTransport) -> None:
        self._owner = owner

    def pause_writing(self) -> None:
        self._owner.pause_writing()

    def resume_writing(self) -> None:
        self._owner.resume_writing()

    def connection_lost(self, exc: Exception | None) -> None:
        self._owner.resume_writing()


def _pollable(fd: int) -> bool:
    mode = os.fstat(fd).st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode)
