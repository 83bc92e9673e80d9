"""What is governed in this process, by gate: who can run and show what a gate releases by itself.

Nothing here keeps a gate, a tool or a workbench: the gate's client keeps the registered bodies.
"""

from __future__ import annotations

from typing import Any, Protocol
from weakref import WeakKeyDictionary, WeakSet, WeakValueDictionary

from toolgate_client import GateClient


class DetachedBody(Protocol):
    """The registered body of a governed tool."""

    async def __call__(self, released: dict[str, Any]) -> Any:
        """Run the tool with what the gate releases."""

    def shown(self, value: Any, live: bool) -> str:
        """Return a result as models are shown it; ``live``: it is what the call returned."""


class Lists(Protocol):
    """What registers its tools when it is asked to list them."""

    async def list_tools(self) -> Any:
        """List the tools."""


_bodies: WeakKeyDictionary[GateClient, WeakValueDictionary[str, Any]] = WeakKeyDictionary()
_workbenches: WeakKeyDictionary[GateClient, WeakSet[Any]] = WeakKeyDictionary()


def note_body(gate: GateClient, name: str, body: DetachedBody) -> None:
    """Note that a gate has this body for tools of a name."""
    _bodies.setdefault(gate, WeakValueDictionary())[name] = body


def note_workbench(gate: GateClient, workbench: Lists) -> None:
    """Note that a gate governs a workbench, whose tools may not have been listed yet."""
    _workbenches.setdefault(gate, WeakSet()).add(workbench)


async def body_of(gate: GateClient, name: str) -> DetachedBody | None:
    """Return a gate's body of a name; workbenches may have to list their tools first."""
    bodies = _bodies.setdefault(gate, WeakValueDictionary())
    if name not in bodies:
        for workbench in list(_workbenches.get(gate, ())):
            await workbench.list_tools()
    return bodies.get(name)
