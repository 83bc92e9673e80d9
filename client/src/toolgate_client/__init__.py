"""Toolgate's client: put a gate between an agent and its tools.

    from toolgate_client import GateClient

    with GateClient("gate.yaml") as gate:
        gate.register_tool("send_email", send_email)
        gate.call("send_email", {"to": "ada@acme.example"})

Standard library only. The names below are the whole public interface; everything else may change.
"""

from toolgate_client._client import GateClient
from toolgate_client._encode import default_encoder
from toolgate_client._errors import (
    ActionDenied,
    ActionError,
    ActionFailed,
    ActionHeld,
    GateClosed,
    GateError,
    GateStartError,
    ProtocolError,
    ToolSuspended,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolgate_client._analysis import (
        Difference,
        Equivalence,
        Issue,
        Optimized,
        Ranked,
        Removed,
        Restored,
        Verification,
    )
    from toolgate_client._documents import Document, Result
    from toolgate_client._events import Subscription
    from toolgate_client._models import (
        ActionResult,
        Compensated,
        Cost,
        Decision,
        ErrorInfo,
        Event,
        ExternalEffect,
        Hold,
        HoldGroup,
        Missing,
        Observed,
        Outcome,
        ProposalResult,
        Rollback,
    )
del TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "ActionDenied",
    "ActionError",
    "ActionFailed",
    "ActionHeld",
    "ActionResult",
    "Compensated",
    "Cost",
    "Decision",
    "Difference",
    "Document",
    "Equivalence",
    "ErrorInfo",
    "Event",
    "ExternalEffect",
    "GateClient",
    "GateClosed",
    "GateError",
    "GateStartError",
    "Hold",
    "HoldGroup",
    "Issue",
    "Missing",
    "Observed",
    "Optimized",
    "Outcome",
    "ProposalResult",
    "ProtocolError",
    "Ranked",
    "Removed",
    "Restored",
    "Result",
    "Rollback",
    "Subscription",
    "ToolSuspended",
    "Verification",
    "__version__",
    "default_encoder",
]

_LATER = {
    "ActionResult": "_models",
    "Compensated": "_models",
    "Cost": "_models",
    "Decision": "_models",
    "Difference": "_analysis",
    "Document": "_documents",
    "Equivalence": "_analysis",
    "ErrorInfo": "_models",
    "Event": "_models",
    "ExternalEffect": "_models",
    "Hold": "_models",
    "HoldGroup": "_models",
    "Issue": "_analysis",
    "Missing": "_models",
    "Observed": "_models",
    "Optimized": "_analysis",
    "Outcome": "_models",
    "ProposalResult": "_models",
    "Ranked": "_analysis",
    "Removed": "_analysis",
    "Restored": "_analysis",
    "Result": "_documents",
    "Rollback": "_models",
    "Subscription": "_events",
    "Verification": "_analysis",
}
"""What is imported when it is first asked for, and from where: dataclasses take as long as all the
rest."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _LATER.keys())


def _adopt() -> None:
    """Have users see, and pickle, the names where they are promised to be."""
    for name in __all__:
        if name in globals() and name != "__version__":
            globals()[name].__module__ = __name__


_adopt()
del _adopt
