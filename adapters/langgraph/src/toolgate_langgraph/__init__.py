"""Toolgate for LangGraph and LangChain: tools that ask a gate before they run.

LangChain is imported by the first call, not by this package.
"""

from typing import TYPE_CHECKING

from toolgate_langgraph._api import (
    agoverned_call,
    bind,
    govern_tools,
    governed_call,
    tool_call_wrappers,
)

if TYPE_CHECKING:
    from toolgate_langgraph._middleware import GateMiddleware

__version__ = "0.1.0"

__all__ = [
    "GateMiddleware",
    "__version__",
    "agoverned_call",
    "bind",
    "govern_tools",
    "governed_call",
    "tool_call_wrappers",
]


def __getattr__(name: str) -> object:
    if name == "GateMiddleware":
        from toolgate_langgraph._middleware import GateMiddleware

        return GateMiddleware
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
