"""The options of governed calls, without LangChain."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

from toolgate_client import GateError

HoldMode = Literal["auto", "interrupt", "wait", "return"]
"""What becomes of a held call; see :func:`toolgate_langgraph.govern_tools`."""

OnDenied = Literal["raise"] | Callable[[GateError], str] | None
"""What becomes of a call without a result; see :func:`toolgate_langgraph.govern_tools`."""


def check_options(hold: object, on_denied: object = None) -> None:
    """Raise ``ValueError`` or ``TypeError`` for an option that is none."""
    modes = get_args(HoldMode)
    if hold not in modes:
        raise ValueError(f"hold is one of {', '.join(modes)}, not {hold!r}")
    if on_denied not in {None, "raise"} and not callable(on_denied):
        raise TypeError(f'on_denied is a function, "raise" or None, not {on_denied!r}')
