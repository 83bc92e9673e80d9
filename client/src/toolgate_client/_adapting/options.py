"""The options of governed calls that all adapters have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from toolgate_client import GateError

OnDenied = Literal["raise"] | Callable[[GateError], str] | None
"""What becomes of a call without a result: a function words it, ``"raise"`` raises it."""


def check_options(modes: Sequence[str], hold: object, on_denied: object = None) -> None:
    """Raise ``ValueError`` or ``TypeError`` for an option that is none."""
    if hold not in modes:
        raise ValueError(f"hold is one of {', '.join(modes)}, not {hold!r}")
    if on_denied not in {None, "raise"} and not callable(on_denied):
        raise TypeError(f'on_denied is a function, "raise" or None, not {on_denied!r}')
