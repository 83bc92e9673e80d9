"""Toolgate for AutoGen: tools and workbenches that ask a gate before they run.

AutoGen is imported by the first call or the first use of a class, not by this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from toolgate_autogen._api import (
    agoverned_call,
    bind,
    govern_tools,
    governed_call,
    run_approved,
)

if TYPE_CHECKING:
    from toolgate_autogen._holds import HoldTermination
    from toolgate_autogen._tools import GovernedStreamTool, GovernedTool
    from toolgate_autogen._workbenches import GovernedStreamWorkbench, GovernedWorkbench

__version__ = "0.1.0"

__all__ = [
    "GovernedStreamTool",
    "GovernedStreamWorkbench",
    "GovernedTool",
    "GovernedWorkbench",
    "HoldTermination",
    "__version__",
    "agoverned_call",
    "bind",
    "govern_tools",
    "governed_call",
    "run_approved",
]

_CLASSES = {
    "GovernedStreamTool": "_tools",
    "GovernedStreamWorkbench": "_workbenches",
    "GovernedTool": "_tools",
    "GovernedWorkbench": "_workbenches",
    "HoldTermination": "_holds",
}


def __getattr__(name: str) -> Any:
    if name not in _CLASSES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_CLASSES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_CLASSES})
