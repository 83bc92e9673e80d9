"""The rows whose content decides something, and the bytes that their MACs cover.

A record is what the gate acts on: it is only ever built from a row whose MAC verified, or by the
gate itself. ``last_seq`` is the place in the log of the last event about the record; it is under
the MAC, so that an old row, put back, no longer agrees with the log.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from toolgate.journal.chain import row_bytes


class ActionRecord(NamedTuple):
    """One action. Times are microseconds since the epoch.

    ``args`` is canonical JSON. ``content`` is the digest of tool and arguments, by which a repeated
    call is recognised. ``run`` is the gate that executes it, once one has claimed it. ``status``
    is an :class:`~toolgate.ir.ActionStatus`; ``kind`` the outcome kind of one that did not succeed.
    """

    uid: str
    project: str
    agent: str
    session: str
    tool: str
    args: bytes
    content: str
    idempotency_key: str | None
    status: str
    kind: str | None
    run: str | None
    attempts: int
    hold: str | None
    created_at: int
    last_seq: int

    def sealed(self) -> bytes:
        """Return the bytes the row's MAC covers."""
        return row_bytes("action", self)


class HoldRecord(NamedTuple):
    """One hold: ``requirement`` and ``rules`` are canonical JSON.

    ``seen`` is the last approval that a gate has journaled its judgement of. ``status`` is
    ``pending``, ``released``, ``denied``, ``expired`` or ``withdrawn``.
    """

    hold_id: str
    uid: str
    session: str
    tool: str
    status: str
    requirement: bytes
    rules: bytes
    reason: str
    digest: str
    policy_digest: str
    opened_at: int
    deadline: int | None
    seen: int
    last_seq: int

    def sealed(self) -> bytes:
        """Return the bytes the row's MAC covers."""
        return row_bytes("hold", self)


class SessionRecord(NamedTuple):
    """One agent's session: what is remembered and counted together."""

    session: str
    project: str
    agent: str
    opened_at: int
    last_seq: int

    def sealed(self) -> bytes:
        """Return the bytes the row's MAC covers."""
        return row_bytes("session", self)


class ApprovalRow(NamedTuple):
    """An approver's envelope as it was put into the store: only its signature is trusted.

    ``envelope`` ought to be bytes and ``at`` a time; whoever can write the store decides.
    """

    seq: int
    hold: str
    envelope: Any
    at: Any
