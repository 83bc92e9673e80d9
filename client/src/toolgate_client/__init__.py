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
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolgate_client._models import Decision, ErrorInfo, Hold, Outcome
del TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "ActionDenied",
    "ActionError",
    "ActionFailed",
    "ActionHeld",
    "Decision",
    "ErrorInfo",
    "GateClient",
    "GateClosed",
    "GateError",
    "GateStartError",
    "Hold",
    "Outcome",
    "ProtocolError",
    "__version__",
    "default_encoder",
]

_LATER = frozenset({"Decision", "ErrorInfo", "Hold", "Outcome"})
"""What is imported when it is first asked for: dataclasses take as long as all the rest."""


def __getattr__(name: str) -> object:
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from toolgate_client import _models

    value: object = getattr(_models, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(globals().keys() | _LATER)


# Users see, and pickle, the names where they are promised to be.
for _name in __all__:
    if _name in globals() and _name != "__version__":
        globals()[_name].__module__ = __name__
del _name
