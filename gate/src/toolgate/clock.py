"""Time as the gate stores it: whole microseconds since the epoch, UTC; RFC 3339 text for people."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)


def now() -> int:
    """Return the wall clock's time in microseconds since the epoch."""
    return time.time_ns() // 1000


def to_datetime(at: int) -> datetime:
    """Return ``at`` (microseconds since the epoch) as an aware UTC datetime, exactly."""
    return EPOCH + timedelta(microseconds=at)


def to_text(at: int) -> str:
    """Return ``at`` as RFC 3339 text in UTC with microseconds."""
    return to_datetime(at).isoformat(timespec="microseconds").replace("+00:00", "Z")


def from_text(text: str) -> int:
    """Read RFC 3339 text with a time zone; raises :class:`ValueError` for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return (moment - EPOCH) // MICROSECOND


def pause(seconds: float) -> None:
    """Block this thread for a moment, waiting for another process."""
    time.sleep(seconds)
