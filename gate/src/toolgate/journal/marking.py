"""Seeing what a journal holds without having lived through it: all of it, or its newest events.

What is seen is taken for the newest there is: nobody can tell from a journal alone whether it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Final

from toolgate import jsonvalue
from toolgate.errors import JournalTampered
from toolgate.journal.anchor import Anchor, Log, Mark
from toolgate.journal.events import Event, EventKind
from toolgate.journal.evidence import REMEMBERED
from toolgate.journal.heads import STATE_EVENTS
from toolgate.journal.memory import Kind, Seen
from toolgate.journal.names import is_name, key_name
from toolgate.journal.reader import LASTING, Reader
from toolgate.journal.records import TABLES, ActionRecord, ProposalRecord, ResultRecord
from toolgate.journal.store import Store

MOST: Final = 10_000
"""Of so many of the newest events a journal's first anchor knows what they tell."""


_PLACES: Final[dict[str, Kind]] = {
    **dict.fromkeys(
        (
            EventKind.ACTION_EXECUTING,
            EventKind.ACTION_SUSPENDED,
            EventKind.ACTION_SUCCEEDED,
            EventKind.ACTION_FAILED,
            EventKind.ACTION_SKIPPED,
            EventKind.ACTION_CANCELLED,
            EventKind.ACTION_IN_DOUBT,
            EventKind.ACTION_SETTLED,
            EventKind.ACTION_REJECTED,
            EventKind.ACTION_DEDUPLICATED,
        ),
        "action",
    ),
    EventKind.PROPOSAL_RECEIVED: "proposal",
    EventKind.PROPOSAL_COMPLETED: "proposal",
    EventKind.PROPOSAL_ABORTED: "proposal",
}
"""Events that the row of what they are about stands at, or beyond: rows of these tables."""


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
        if seq := store.last_label_event(session):
            yield ("label", session, ""), seq


def catch_up(reader: Reader, after: int, own: str | None = None) -> Event | None:
    """See what the events after a place tell of, as a gate would have that lived through them.

    What others have done may be in no anchor yet: a gate that was killed has seen more than it has
    written. The marks are taken from the events, each of which must be there and genuine; a row
    that does not stand where they say is not believed by whoever asks for it, and harms nobody
    else. The events of the run ``own`` are left out: it has seen what it did.

    Returns the last event; ``None``: there is none after the place. Raises
    :class:`~toolgate.errors.JournalTampered`.
    """
    seen = _Seen(reader)
    last: Event | None = None
    for found in reader.store.events(after=after):
        after += 1
        if found.seq != after:
            raise JournalTampered(f"the event {after} is missing from the journal")
        last = reader.verified_event(found)
        if last.run != own:
            seen.take(last)
    seen.check()
    return last


class _Seen:
    """What some genuine events tell of: each thing is looked at once, at its newest place."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader
        self._about: dict[str, None] = {}
        self._remembered: list[str] = []
        self._rolled_back: dict[str, int] = {}
        self._labels: dict[str, None] = {}

    def take(self, event: Event) -> None:
        """Note the places that an event tells of."""
        saw, session, name = self._reader.memory.saw, event.session, event.action
        if session is not None:
            if event.kind == EventKind.SESSION_OPENED:
                saw(("session", session, ""), event.seq)
            elif event.kind in STATE_EVENTS:
                saw(("state", session, ""), event.seq)
            elif event.kind == EventKind.LABEL_ADDED:
                saw(("label", session, ""), event.seq)
                self._labels[session] = None
        if name is None:
            return
        if not is_name(name):
            self._about[name] = None
            if event.kind in _PLACES:
                saw((_PLACES[event.kind], name, ""), event.seq)
            if event.kind == EventKind.ACTION_SUCCEEDED:
                self._remembered.append(name)
            elif event.kind == EventKind.STATE_ROLLED_BACK:
                self._rolled_back[name] = event.seq
        elif event.kind == EventKind.LIMIT_COUNTED:
            saw(("usage", name, ""), event.seq)
        elif event.kind == EventKind.KEY_CLAIMED:
            saw(("key", name, ""), event.seq)

    def check(self) -> None:
        """Look at the rows: what is read is remembered, where it stands beyond its event, too."""
        reader = self._reader
        for name in self._about:
            with suppress(JournalTampered):
                _look(reader, name)
        for uid in self._remembered:
            with suppress(JournalTampered):
                _remember(reader, uid)
        for proposal, seq in self._rolled_back.items():
            with suppress(JournalTampered):
                _forget(reader, proposal, seq)
        for session in self._labels:
            with suppress(JournalTampered):
                reader.labels(session)


def _look(reader: Reader, uid: str) -> None:
    """See the rows of an action or a proposal."""
    action = reader.action(uid)
    if action is None:
        reader.proposal(uid)
    elif action.hold is not None:
        reader.hold(action.hold)


def _result_of(reader: Reader, action: ActionRecord) -> tuple[Seen, int] | None:
    """Return what a session remembers an action's success as, and since where, if it does."""
    end = reader.last_event(action.uid, EventKind.ACTION_SUCCEEDED, action.last_seq)
    if end is None or not jsonvalue.parse(end.data).get(REMEMBERED):
        return None
    edit = reader.last_event(action.uid, EventKind.HOLD_EDITED, action.last_seq)
    content = action.content if edit is None else jsonvalue.parse(edit.data)["content"]
    return ("result", action.session, content), end.seq


def _remember(reader: Reader, uid: str) -> None:
    action = reader.action(uid)
    result = None if action is None else _result_of(reader, action)
    if result is not None:
        reader.memory.saw(*result)


def _forget(reader: Reader, proposal: str, seq: int) -> None:
    """See that a proposal that was rolled back at ``seq`` has its results forgotten."""
    for action in reader.actions_of(proposal):
        result = _result_of(reader, action)
        if result is None:
            continue
        (_, session, content), since = what, _ = result
        # Another call may have put its own in the place.
        if reader.memory.last(what) <= since:
            reader.memory.saw(("forgotten", session, content), seq)
