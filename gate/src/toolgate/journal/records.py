"""The rows whose content decides something, and the bytes that their MACs cover.

A record is what the gate acts on: it is only ever built from a row whose MAC verified, or by the
gate itself. Its fields, in the order they are listed here, are its row's columns; the last column
is the MAC. The MAC covers the table's name and every field in that order, keys as well as content:
a row that is changed, given another key, or moved to another table does not verify. To add a field
or to move one is a migration that seals every row anew.

``last_seq`` is always the last field: the place in the log of the last event about the record. It
is under the MAC, so that an old row, put back, no longer agrees with the log.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, NamedTuple, TypeAlias

from toolgate.journal.chain import row_bytes
from toolgate.jsonvalue import JSONValue


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


class ProposalRecord(NamedTuple):
    """One proposal: a plan that was handed in as a whole.

    ``uid`` is the gate's own, ``proposal_id`` the proposer's name for it. ``document`` is canonical
    JSON: what the plan is carried out from. ``status`` is a :class:`~toolgate.ir.ProposalStatus`;
    ``run`` the gate that carries it out, or did last. After its insertion only ``status``, ``run``
    and ``last_seq`` change. Events about it carry its uid as their ``action``. Its n-th listed
    action (from 1) has the uid ``<uid>-<n>``, the compensation of that ``<uid>-<n>c``.
    """

    uid: str
    project: str
    agent: str
    session: str
    proposal_id: str
    document: bytes
    idempotency_key: str | None
    status: str
    run: str | None
    created_at: int
    last_seq: int

    def sealed(self) -> bytes:
        """Return the bytes the row's MAC covers."""
        return row_bytes("proposal", self)


class StateRecord(NamedTuple):
    """One key of a session's state.

    ``value`` is canonical JSON; ``None`` says that the key is absent again. ``version`` is the
    place of the event that wrote this value: two equal versions are the same write.
    """

    session: str
    key: str
    value: bytes | None
    version: int
    last_seq: int

    def sealed(self) -> bytes:
        """Return the bytes the row's MAC covers."""
        return row_bytes("state", self)


class ResultRecord(NamedTuple):
    """A result that a session remembers: of which action, for a repeat of this content.

    ``at`` is when the action succeeded, microseconds since the epoch. The result itself is in the
    log, where the action ``uid`` ended.
    """

    session: str
    content: str
    uid: str
    at: int
    last_seq: int

    def sealed(self) -> bytes:
        """Return the bytes the row's MAC covers."""
        return row_bytes("result", self)


class UsageRecord(NamedTuple):
    """What has been used of one limit: ``data`` is canonical JSON."""

    name: str
    data: bytes
    last_seq: int

    def sealed(self) -> bytes:
        """Return the bytes the row's MAC covers."""
        return row_bytes("usage", self)


class CheckpointRecord(NamedTuple):
    """A session's state as it was at one moment: ``state`` is canonical JSON, an object."""

    checkpoint: str
    session: str
    name: str
    state: bytes
    created_at: int
    last_seq: int

    def sealed(self) -> bytes:
        """Return the bytes the row's MAC covers."""
        return row_bytes("checkpoint", self)


class LabelRecord(NamedTuple):
    """A label that a session has: ``at`` is when something last brought it.

    ``last_seq`` is the place of the event that tells so: there is one each time, and a removal
    names it. The row goes when an approver takes the label away.
    """

    session: str
    label: str
    at: int
    last_seq: int

    def sealed(self) -> bytes:
        """Return the bytes the row's MAC covers."""
        return row_bytes("label", self)


class ApprovalRow(NamedTuple):
    """An approver's envelope as it was put into the store: only its signature is trusted.

    ``envelope`` is bytes and ``at`` a time; ``None`` where something else lies in the store.
    """

    seq: int
    hold: str
    envelope: Any
    at: Any

    def digest(self) -> str:
        """Return the digest of all that lies in the store of it, its place included."""
        return hashlib.sha256(row_bytes("approval", self)).hexdigest()

    def evidence(self) -> dict[str, JSONValue]:
        """Return what the log keeps of an envelope that does not count: it may be anything.

        Nothing is kept of what was never loaded.
        """
        if self.envelope is None:
            return {}
        return {"envelope_sha256": hashlib.sha256(self.envelope).hexdigest()}


Record: TypeAlias = (
    ActionRecord
    | HoldRecord
    | SessionRecord
    | ProposalRecord
    | StateRecord
    | ResultRecord
    | UsageRecord
    | CheckpointRecord
    | LabelRecord
)

TABLES: Final[dict[type[Record], str]] = {
    ActionRecord: "action",
    HoldRecord: "hold",
    SessionRecord: "session",
    ProposalRecord: "proposal",
    StateRecord: "state",
    ResultRecord: "result",
    UsageRecord: "usage",
    CheckpointRecord: "checkpoint",
    LabelRecord: "label",
}
"""The table of each kind of record: its projection."""
