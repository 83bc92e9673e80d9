"""The options of a request as the wire has them."""

from __future__ import annotations

import math

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def add(params: dict[str, Any], **optional: Any) -> None:
    """Add what was given; what is ``None`` is not sent."""
    params.update((key, value) for key, value in optional.items() if value is not None)


def positive(seconds: float | None, name: str) -> float | None:
    """``seconds``, which ``name`` names; raises ``ValueError`` when they are not more than 0."""
    if seconds is not None and seconds <= 0:
        raise ValueError(f"{name} is in seconds, more than 0: {seconds!r}")
    return seconds


def milliseconds(seconds: float | None, name: str) -> int | None:
    """Seconds in milliseconds; raises ``ValueError`` when they are negative or not finite."""
    if seconds is None:
        return None
    if not (math.isfinite(seconds) and seconds >= 0):
        raise ValueError(f"{name} is in seconds, from 0: {seconds!r}")
    return math.ceil(seconds * 1000)
