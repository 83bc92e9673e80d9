"""What the operator says of a tool, and what holds of one nobody has spoken of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from toolgate.config import ToolEntry

Reversibility: TypeAlias = Literal["irreversible", "compensable", "reversible"]
BlastRadius: TypeAlias = Literal["self", "session", "project", "external"]

ALWAYS_HELD = 4
"""The level that always waits for a person; no rule lifts it."""

ALWAYS_DENIED = 5
"""The level that never runs; no rule lifts it."""


@dataclass(frozen=True, slots=True)
class Contract:
    """One tool's standing on the trust ladder and how its calls may be run.

    ``level`` is 0 (pure), 1 (reads), 2 (reversible writes), 3 (external effects), 4 (always held)
    or 5 (always denied). ``parameters`` is the operator's own JSON Schema, which arguments must
    meet besides the client's. ``timeout`` is in seconds.
    """

    name: str
    level: int
    reversibility: Reversibility
    blast_radius: BlastRadius
    labels: tuple[str, ...] = ()
    parameters: dict[str, Any] | None = field(default=None, hash=False)
    idempotent: bool = False
    timeout: float = 120.0

    def public(self) -> dict[str, Any]:
        """Return what a client is told when it registers the tool."""
        return {
            "level": self.level,
            "reversibility": self.reversibility,
            "blast_radius": self.blast_radius,
            "labels": list(self.labels),
            "idempotent": self.idempotent,
            "timeout_ms": round(self.timeout * 1000),
        }


_CONSERVATIVE = ToolEntry()

STATE_CONTRACTS: Mapping[str, Contract] = {
    "state_read": Contract("state_read", 0, "reversible", "session", idempotent=True),
    "assertion": Contract("assertion", 0, "reversible", "session", idempotent=True),
    "state_write": Contract("state_write", 2, "reversible", "session"),
}
"""The contracts of the actions that are not tool calls, by action type."""


def contract_for(name: str, entry: ToolEntry | None) -> Contract:
    """Return the contract of a tool: its entry's, or the conservative one when it has none.

    What an entry leaves out is conservative too: level 3, irreversible, external, not idempotent,
    two minutes.
    """
    entry = entry or _CONSERVATIVE
    return Contract(
        name=name,
        level=entry.level,
        reversibility=entry.reversibility,
        blast_radius=entry.blast_radius,
        labels=tuple(sorted(entry.labels)),
        parameters=entry.parameters,
        idempotent=entry.idempotent,
        timeout=entry.timeout,
    )
