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
    POLICY_REFUSED = "policy.refused"
    """A changed policy could not be used; the one before stays in force."""
    TOOL_REGISTERED = "tool.registered"
    PROPOSAL_RECEIVED = "proposal.received"
    PROPOSAL_SUSPENDED = "proposal.suspended"
    PROPOSAL_RESUMED = "proposal.resumed"
    PROPOSAL_COMPLETED = "proposal.completed"
    PROPOSAL_ABORTED = "proposal.aborted"
    ACTION_PROPOSED = "action.proposed"
    ACTION_DECIDED = "action.decided"
    ACTION_REJECTED = "action.rejected"
    ACTION_EXECUTING = "action.executing"
    ACTION_RETRYING = "action.retrying"
    """A further attempt starts; the first is ``action.executing``."""
    ACTION_SUSPENDED = "action.suspended"
    """Its body has stopped itself, to be entered again."""
    ACTION_SUCCEEDED = "action.succeeded"
    ACTION_FAILED = "action.failed"
    ACTION_SKIPPED = "action.skipped"
    ACTION_DEDUPLICATED = "action.deduplicated"
    """It got the recorded result of another action of the same content."""
    ACTION_CANCELLED = "action.cancelled"
    ACTION_IN_DOUBT = "action.in_doubt"
    ACTION_SETTLED = "action.settled"
    ACTION_COMPENSATED = "action.compensated"
    HOLD_OPENED = "hold.opened"
    HOLD_EDITED = "hold.edited"
    """Arguments that an approver put in the place of those that were held are the action's now."""
    HOLD_RELEASED = "hold.released"
    HOLD_REOPENED = "hold.reopened"
    HOLD_EXPIRED = "hold.expired"
    HOLD_WITHDRAWN = "hold.withdrawn"
    APPROVAL_RECORDED = "approval.recorded"
    APPROVAL_REFUSED = "approval.refused"
    STATE_CHANGED = "state.changed"
    STATE_ROLLED_BACK = "state.rolled_back"
    LABEL_ADDED = "label.added"
    """Something brought it, though the session may have it already."""
    LABEL_REMOVED = "label.removed"
    """An approver has taken it away; ``action`` is the name of the session's removals."""
    OBSERVATION_RECORDED = "observation.recorded"
    """Content came into the session: its digest, not the content."""
    CHECKPOINT_SAVED = "checkpoint.saved"
    CHECKPOINT_RESTORED = "checkpoint.restored"
    LIMIT_REACHED = "limit.reached"
    LIMIT_COUNTED = "limit.counted"
    """Something of a limit was used up; ``action`` is the limit's name."""
    KEY_CLAIMED = "key.claimed"
    """An idempotency key names an action or a proposal from now on; ``action`` is its name."""
    JOURNAL_TAMPERED = "journal.tampered"
    """A stored row did not verify; nothing was done on its word."""


class Event(NamedTuple):
    """One row of the log.

    ``seq`` is its place in the whole log, ``n`` its place in the chain of its ``run`` (one
    process), both from 1 without a gap. ``at`` is microseconds since the epoch; ``data`` canonical
    JSON. ``action`` is the uid of the action that it is about, or of the proposal; or the name of
    the limit, idempotency key or removed labels (:mod:`toolgate.journal.names`).
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
