"""Bytes into lines. A line over the limit is dropped whole: its tail is never a message."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

HEAD: Final = 256
"""Bytes of an oversized line that are kept: enough to tell what it would have been."""


@dataclass(frozen=True, slots=True)
class Oversized:
    """Stands for a line that was longer than the limit; ``head`` is how it began."""

    head: bytes


class LineSplitter:
    """Splits a stream at LF; keeps at most one unfinished line, never more than the limit of it."""

    def __init__(self, limit: int) -> None:
        """``limit`` is the largest line accepted, in bytes without its LF."""
        self._limit = limit
        self._rest = bytearray()
        self._skipping = False

    def feed(self, data: bytes) -> Iterator[bytes | Oversized]:
        """Yield the lines that ``data`` completes, empty ones left out, in order."""
        start = 0
        while True:
            end = data.find(b"\n", start)
            if end < 0:
                break
            if self._skipping:
                self._skipping = False
            else:
                line = bytes(self._rest) + data[start:end] if self._rest else data[start:end]
                self._rest.clear()
                if len(line) > self._limit:
                    yield Oversized(line[:HEAD])
                elif line.strip():
                    yield line
            start = end + 1
        if self._skipping:
            return
        self._rest += data[start:]
        if len(self._rest) > self._limit:
            head = bytes(self._rest[:HEAD])
            self._rest.clear()
            self._skipping = True
            yield Oversized(head)
