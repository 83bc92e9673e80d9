"""The event log's vocabulary: every kind of event the gate writes, in one table."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class EventKind(StrEnum):
    """What happened. Nothing else is ever written in an event's ``kind``."""

    RUN_STARTED = "run.started"
    RUN_ENDED = "run.ended"
    SESSION_OPENED = "session.opened"
    SESSION_CLOSED = "session.closed"
    POLICY_LOADED = "policy.loaded"
    TOOL_REGISTERED = "tool.registered"
    ACTION_PROPOSED = "action.proposed"
    ACTION_DECIDED = "action.decided"
    ACTION_REJECTED = "action.rejected"
    ACTION_EXECUTING = "action.executing"
    ACTION_SUCCEEDED = "action.succeeded"
    ACTION_FAILED = "action.failed"
    ACTION_CANCELLED = "action.cancelled"
    ACTION_IN_DOUBT = "action.in_doubt"
    ACTION_SETTLED = "action.settled"
    HOLD_OPENED = "hold.opened"
    HOLD_RELEASED = "hold.released"
    HOLD_REOPENED = "hold.reopened"
    HOLD_EXPIRED = "hold.expired"
    HOLD_WITHDRAWN = "hold.withdrawn"
    APPROVAL_RECORDED = "approval.recorded"
    APPROVAL_REFUSED = "approval.refused"
    JOURNAL_TAMPERED = "journal.tampered"
    """A stored row did not verify; nothing was done on its word."""


class Event(NamedTuple):
    """One row of the log.

    ``seq`` is its place in the whole log, ``n`` its place in the chain of its ``run`` (one
    process), both from 1 without a gap. ``at`` is microseconds since the epoch; ``data`` canonical
    JSON.
    """

    seq: int
    run: str
    n: int
    at: int
    session: str | None
    action: str | None
    kind: str
    data: bytes
    prev: bytes
    hash: bytes
    mac: bytes
