"""What the operator says of a tool, and what holds of one nobody has spoken of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from toolgate.config import ToolEntry
from toolgate.ir import ActionType, RateLimit, ToolSchema

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
    meet besides the client's. ``emits`` are labels that a session gets once this tool has run in
    it. ``timeout`` and ``cache_ttl`` are in seconds. ``retries`` is how
    often a failed call is attempted again; where a plan asks too, the smaller number counts, and
    None leaves it to the plan. ``redact`` are JSON pointers to
    arguments that nobody but approvers may read (:mod:`toolgate.kernel.redaction`).
    """

    name: str
    level: int
    reversibility: Reversibility
    blast_radius: BlastRadius
    labels: tuple[str, ...] = ()
    emits: tuple[str, ...] = ()
    parameters: dict[str, Any] | None = field(default=None, hash=False)
    idempotent: bool = False
    timeout: float = 120.0
    rate_limit: RateLimit | None = None
    cache_ttl: float | None = None
    retries: int | None = None
    redact: tuple[str, ...] = ()

    def public(self) -> dict[str, Any]:
        """Return what a client is told when it registers the tool; what is not set is left out."""
        shape: dict[str, Any] = {
            "level": self.level,
            "reversibility": self.reversibility,
            "blast_radius": self.blast_radius,
            "labels": list(self.labels),
            "idempotent": self.idempotent,
            "timeout_ms": round(self.timeout * 1000),
        }
        if self.emits:
            shape["emits"] = list(self.emits)
        if self.rate_limit is not None:
            shape["rate_limit"] = self.rate_limit.model_dump()
        if self.cache_ttl is not None:
            shape["cache_ttl_secs"] = self.cache_ttl
        if self.retries is not None:
            shape["retries"] = self.retries
        if self.redact:
            shape["redact"] = list(self.redact)
        return shape


_CONSERVATIVE = ToolEntry()

_STATE_LEVELS = {ActionType.STATE_READ: 0, ActionType.ASSERTION: 0, ActionType.STATE_WRITE: 2}
_STATE_CONTRACTS = {
    kind: Contract(kind.value, level, "reversible", "session")
    for kind, level in _STATE_LEVELS.items()
}


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
        emits=tuple(sorted(entry.emits)),
        parameters=entry.parameters,
        idempotent=entry.idempotent,
        timeout=entry.timeout,
        rate_limit=entry.rate_limit,
        cache_ttl=entry.cache_ttl,
        retries=entry.retries,
        redact=entry.redact,
    )


def contract_for_state_action(kind: ActionType) -> Contract:
    """Return the contract of actions that are not tool calls; always the same object for a type.

    ``state_read`` and ``assertion`` are level 0, ``state_write`` is level 2. None is idempotent: a
    repeat sees the state of its own time. Raises :class:`KeyError` for a tool call.
    """
    return _STATE_CONTRACTS[kind]


def rate_limit_for(contract: Contract, declared: ToolSchema) -> RateLimit | None:
    """Return the rate limit of a tool, of which the client may only ask for a stricter one.

    When operator and client both name one, it has the smaller number of calls and the slower rate.
    """
    ours, theirs = contract.rate_limit, declared.rate_limit
    if ours is None or theirs is None:
        return ours or theirs
    calls = min(ours.max_calls, theirs.max_calls)
    # Each limit's own interval, made as much shorter as it has calls more.
    slower = max(limit.interval_secs * (calls / limit.max_calls) for limit in (ours, theirs))
    return RateLimit(max_calls=calls, interval_secs=slower)


def cache_ttl_for(contract: Contract, declared: ToolSchema) -> float | None:
    """Return for how many seconds a session may be given a result again; None: not at all.

    The operator's word decides, also when it is 0; without it, the client's: what it is given is
    its own session's result, and policy has judged the call before the cache is asked.
    """
    seconds = declared.cache_ttl_secs if contract.cache_ttl is None else contract.cache_ttl
    return seconds or None
