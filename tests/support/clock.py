"""A wall clock that a test sets."""

from __future__ import annotations

import pytest

from toolgate import clock

MINUTE = 60 * 1_000_000


class Clock:
    """Stands in for the wall clock, in microseconds since the epoch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Take the clock's place until the test ends."""
        self.at = clock.now()
        monkeypatch.setattr(clock, "now", lambda: self.at)

    def forward(self, microseconds: int) -> None:
        """Move the clock; negative moves it back."""
        self.at += microseconds
