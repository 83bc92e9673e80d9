"""The log of one action, or of one proposal: each event about it names the one before it.

An event is looked up by columns that nobody seals, so that whoever writes the store can hide one
from a look-up: the newest, which the row's place tells, or one in the middle. The rule:

1. an event that is about an action, a proposal or a session's removed labels carries the place of
   the event before it about the same (:data:`PREVIOUS`), 0 when it is the first;
2. who looks for a kind of event reads the whole log, which is short, verifies each event, and goes
   from link to link (:func:`check`) up to the place at which the row stands, at least.

Events of a limit and of an idempotency key carry none: a count names the one before it
(:data:`~toolgate.journal.heads.FOLLOWS`), and a key is claimed once. What an older program wrote
carries none either, and is taken as it is: between two such events one can be hidden.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from toolgate import jsonvalue
from toolgate.errors import JournalTampered
from toolgate.journal.events import Event, EventKind

PREVIOUS: Final = "previous"
"""The member of an event's data that is the place of the one before it about the same; 0: none."""

UNLINKED: Final = (EventKind.LIMIT_COUNTED, EventKind.KEY_CLAIMED)
"""Whose ``action`` is a name that needs no links."""

FIRST: Final = (EventKind.ACTION_PROPOSED, EventKind.PROPOSAL_RECEIVED)
"""What nothing comes before: nobody looks for it when they are written."""


def check(name: str, events: Iterable[Event], stands: int) -> None:
    """Refuse the log of an action or a proposal that has a gap.

    ``events`` are genuine and in order; ``stands`` is a place that is known to be in it, 0 when
    none is. Raises :class:`~toolgate.errors.JournalTampered`.
    """
    last, found = 0, not stands
    for event in events:
        previous = follows(event, last)
        if previous != last:
            raise JournalTampered(
                f"the log of {name} goes on from event {last} to {event.seq}, which follows "
                f"{previous}: events are missing from it; nothing was done on its word"
            )
        last = event.seq
        found = found or last == stands
    if not found:
        raise JournalTampered(
            f"the event {stands}, at which the row of {name} stands, is missing from its log; "
            "nothing was done on its word"
        )


def follows(event: Event, last: int) -> object:
    """Return the place that an event names before it; ``last`` for one that names none."""
    return jsonvalue.parse(event.data).get(PREVIOUS, last)
