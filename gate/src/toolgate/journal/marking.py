"""Seeing what a journal holds without having lived through it: all of it, or its newest events.

What is seen is taken for the newest there is: nobody can tell from a journal alone whether it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from toolgate.errors import JournalTampered
from toolgate.journal.anchor import Anchor, Log, Mark
from toolgate.journal.events import Event, EventKind
from toolgate.journal.heads import STATE_EVENTS
from toolgate.journal.names import is_name, key_name
from toolgate.journal.reader import LASTING, Reader
from toolgate.journal.records import TABLES, ActionRecord, ProposalRecord, ResultRecord
from toolgate.journal.store import Store

MOST: Final = 10_000
"""Of so many of the newest events it is caught up at most what they tell of."""


def mark_all(anchor: Anchor, reader: Reader) -> int:
    """Make the anchor of a journal that has verified, and return how far it knows the log.

    Nobody may write the journal meanwhile. Raises :class:`~toolgate.errors.JournalError`.
    """
    last = reader.store.last_seq()
    log = Log(reader.event(1).hash, last, reader.event(last).hash) if last else None
    anchor.make(_marks(reader.store), log)
    anchor.close()
    return last


def _marks(store: Store) -> Iterator[tuple[Mark, int]]:
    for kind in (*LASTING, ResultRecord):
        table = TABLES[kind]
        for row in store.rows(table):
            part = row[1] if kind is ResultRecord else ""
            # Before the MAC comes the place.
            yield (table, row[0], part), row[-2]
            if kind in (ActionRecord, ProposalRecord):
                record = kind(*row[:-1])
                if record.idempotency_key is not None:
                    name = key_name(kind, record.project, record.agent, record.idempotency_key)
                    yield ("key", name, ""), store.last_seq_of(name) or record.last_seq
    for session, *_ in store.rows("session"):
        if seq := store.last_state_event(session):
            yield ("state", session, ""), seq
        if added := store.labels_added(session):
            yield ("label", session, ""), added[-1]


def catch_up(reader: Reader, after: int) -> None:
    """See what the events after a place tell of, as a gate would have that lived through them.

    A gate that was killed has seen more than its anchor knows. What does not verify is left out.
    """
    for event in reader.store.events(after=max(after, reader.store.last_seq() - MOST)):
        # Whoever asks for it is told.
        with suppress(JournalTampered):
            _see(reader, reader.event(event.seq))


def _see(reader: Reader, event: Event) -> None:
    """Look at the rows that an event tells of: what is read is remembered."""
    session, name = event.session, event.action
    if session is not None:
        reader.session(session)
        if event.kind in STATE_EVENTS:
            reader.heads.of(session)
        elif event.kind == EventKind.LABEL_ADDED:
            reader.labels(session)
    if name is None:
        return
    if is_name(name):
        if event.kind == EventKind.LIMIT_COUNTED:
            reader.usage(name)
        elif event.kind == EventKind.KEY_CLAIMED:
            reader.memory.saw(("key", name, ""), event.seq)
        return
    action = reader.action(name)
    if action is None:
        reader.proposal(name)
        return
    if action.hold is not None:
        reader.hold(action.hold)
    if event.kind == EventKind.ACTION_SUCCEEDED:
        reader.result(action.session, action.content)
