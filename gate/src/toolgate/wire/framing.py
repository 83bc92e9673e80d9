"""Bytes into lines. A line over the limit is dropped whole: its tail is never a message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

HEAD: Final = 256
"""Bytes of an oversized line's ends that are kept: enough to tell what it would have been."""


@dataclass(frozen=True, slots=True)
class Oversized:
    """Stands for a line that was longer than the limit; ``head`` is how it began.

    ``tail`` is how it ended, where that was asked for.
    """

    head: bytes
    tail: bytes = b""


class LineSplitter:
    """Splits a stream at LF; keeps at most one unfinished line, never more than the limit of it."""

    def __init__(self, limit: int, *, tails: bool = False) -> None:
        """``limit`` is the largest line accepted, in bytes without its LF.

        An oversized line is told of as soon as it is one; with ``tails`` when it has ended, and
        then with its end.
        """
        self._limit = limit
        self._tails = tails
        self._rest = bytearray()
        self._skipping = False
        self._head = b""

    def feed(self, data: bytes) -> Iterator[bytes | Oversized]:
        """Yield the lines that ``data`` completes, empty ones left out, in order."""
        start = 0
        while True:
            end = data.find(b"\n", start)
            if end < 0:
                break
            if self._skipping:
                self._skipping = False
                if self._tails:
                    self._keep_tail(data[start:end])
                    tail = bytes(self._rest)
                    self._rest.clear()
                    yield Oversized(self._head, tail)
            else:
                line = bytes(self._rest) + data[start:end] if self._rest else data[start:end]
                self._rest.clear()
                if len(line) > self._limit:
                    yield Oversized(line[:HEAD], line[-HEAD:] if self._tails else b"")
                elif line.strip():
                    yield line
            start = end + 1
        if self._skipping:
            self._keep_tail(data[start:])
            return
        self._rest += data[start:]
        if len(self._rest) > self._limit:
            self._head = bytes(self._rest[:HEAD])
            self._skipping = True
            self._keep_tail(b"")
            if not self._tails:
                yield Oversized(self._head)

    def _keep_tail(self, data: bytes) -> None:
        """Keep the end of a line that is being dropped; nothing of it when nobody asks for it."""
        if self._tails:
            self._rest += data[-HEAD:]
            del self._rest[:-HEAD]
        else:
            self._rest.clear()
