"""What the log calls things that are no actions: limits, idempotency keys, removed labels.

A name is a canonical JSON array, so it is never the uid of an action or of a proposal. It stands in
the ``action`` of the events that are about the thing, and is looked up like a uid, by index: a row
that was taken out of the store, or set back, does not agree with the last of them.
"""

from __future__ import annotations

from functools import lru_cache

from toolgate import jsonvalue
from toolgate.journal.records import TABLES, ActionRecord, ProposalRecord


def name_of(*parts: str) -> str:
    """Return the name of what these texts tell from everything else, kind first."""
    return jsonvalue.canonical(list(parts)).decode()


def key_name(of: type[ActionRecord | ProposalRecord], project: str, agent: str, key: str) -> str:
    """Return the name of an idempotency key: single actions' and proposals' keys do not meet."""
    return name_of("key", TABLES[of], project, agent, key)


def removals_name(session: str) -> str:
    """Return the name of what was taken away of a session's labels, and of what was said of it."""
    return name_of("labels", session)


@lru_cache(maxsize=64)
def calls_name(session: str) -> str:
    """Return the name of the count of a session's calls."""
    return name_of("calls", session)


def is_name(action: str | None) -> bool:
    """Tell whether an event's ``action`` is a name, not the uid of an action or a proposal."""
    return action is not None and action.startswith("[")
