"""Tells the people who run an agent what its gate notices: on stderr, and by ``log``.

The client is told what changes how its gate works and what no call's answer tells: a journal that
was tampered with or cannot be written, a policy that was put in force or refused, a defect. That
has a bound, and never waits for a client that does not read: stderr has all of it.
"""

from __future__ import annotations

import asyncio
import sys
from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from toolgate.kernel.reload import Level

BURST: Final = 20
"""Notices that the client is told at once; after that :data:`PER_SECOND`."""
PER_SECOND: Final = 1.0
ROOM: Final = 1 << 16
"""Bytes that may wait for a client that does not read; over it, it is told nothing of this sort."""
LONGEST: Final = 2000
"""Characters of a notice that the client is told."""
AGAIN: Final = 60.0
"""Seconds after which the same trouble is told again."""
_TROUBLES: Final = 100


def log(line: str) -> None:
    """Tell people something, on stderr; calls go on where nobody reads that any more."""
    with suppress(OSError):
        sys.stderr.write(f"toolgate: {line}\n")
        sys.stderr.flush()


class Notices:
    """One client's share of what its gate notices."""

    def __init__(
        self,
        send: Callable[[Level, str], None],
        waiting: Callable[[], int],
        clock: Callable[[], float] | None = None,
    ) -> None:
        """``send`` sends one to the client; ``waiting`` is how many bytes it has not read.

        ``clock`` returns seconds; by default the running event loop's.
        """
        self._send = send
        self._waiting = waiting
        self._clock = clock
        self._tokens = float(BURST)
        self._at: float | None = None
        self._left_out = 0
        self._troubles: OrderedDict[str, float] = OrderedDict()

    def tell(self, level: Level, text: str, *, more: str = "") -> None:
        """Tell of something; ``more`` goes to stderr alone."""
        log(text + more)
        now = self._now()
        if self._at is not None:
            self._tokens = min(BURST, self._tokens + (now - self._at) * PER_SECOND)
        self._at = now
        if self._tokens < 1 or self._waiting() >= ROOM:
            self._left_out += 1
            return
        self._tokens -= 1
        if len(text) > LONGEST:
            text = text[:LONGEST] + " … (the gate's stderr has all of it)"
        if self._left_out:
            text += f" ({self._left_out} notices before this are on the gate's stderr alone)"
            self._left_out = 0
        self._send(level, text)

    def trouble(self, text: str) -> None:
        """Tell of an error that goes on: the same again only after :data:`AGAIN` seconds."""
        now, told = self._now(), self._troubles.pop(text, None)
        again = told is None or now - told >= AGAIN
        self._troubles[text] = now if again or told is None else told
        while len(self._troubles) > _TROUBLES:
            self._troubles.popitem(last=False)
        if again:
            self.tell("error", text)

    def _now(self) -> float:
        return (self._clock or asyncio.get_running_loop().time)()
