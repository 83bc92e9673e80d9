"""What a store must offer: transactions over plain rows. It is not trusted, and decides nothing.

Rows cross this boundary as tuples in the order of the records' fields, followed by their MAC; the
:mod:`toolgate.journal.journal` above seals and verifies them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeAlias

from toolgate.journal.events import Event
from toolgate.journal.records import ApprovalRow

Row: TypeAlias = tuple[Any, ...]


class StoreBusy(Exception):
    """Another process holds the write lock at this moment; try again shortly."""


class Store(Protocol):
    """One connection to a journal's store.

    Every method raises :class:`~toolgate.errors.JournalUnavailable` when the store cannot be read
    or written.
    """

    def begin(self) -> None:
        """Start a transaction under the write lock; raises :class:`StoreBusy` when it is held."""

    def commit(self) -> None:
        """Make the transaction durable."""

    def rollback(self) -> None:
        """Undo the transaction, if there is one."""

    def savepoint(self) -> None:
        """Mark a point inside the transaction."""

    def release_savepoint(self) -> None:
        """Keep what was done since the last mark."""

    def rollback_to_savepoint(self) -> None:
        """Undo what was done since the last mark, and forget the mark."""

    def view(self) -> AbstractContextManager[None]:
        """Read one unchanging view of the store inside; in a transaction that is so anyway."""

    def in_transaction(self) -> bool:
        """Tell whether a transaction is open, or an unchanging view."""

    def version(self) -> int:
        """Return a number that changes when another connection has committed."""

    def meta(self, key: str) -> str | None:
        """Return a value that belongs to the whole journal."""

    def set_meta(self, key: str, value: str) -> None:
        """Set a value that belongs to the whole journal."""

    def last_seq(self) -> int:
        """Return the place of the last event, 0 for an empty log."""

    def append(self, events: Sequence[Event]) -> None:
        """Add events to the log."""

    def event(self, seq: int) -> Event | None:
        """Return one event."""

    def last_seq_of(self, action: str) -> int:
        """Return the place of the last event about an action, by index; 0 when there is none."""

    def last_event(self, action: str, kind: str) -> Event | None:
        """Return an action's last event of a kind, by index."""

    def events(
        self,
        *,
        after: int = 0,
        until: int | None = None,
        action: str | None = None,
        proposal: str | None = None,
        session: str | None = None,
        kinds: Sequence[str] | None = None,
        last: int | None = None,
    ) -> Iterator[Event]:
        """Iterate over the log in order, one consistent view of it.

        With ``proposal``, over its own events and those of its actions and their compensations;
        with ``kinds``, over those of these kinds alone; with ``last``, over so many of the latest.
        """

    def count(
        self,
        *,
        after: int = 0,
        until: int | None = None,
        action: str | None = None,
        proposal: str | None = None,
        session: str | None = None,
        kinds: Sequence[str] | None = None,
    ) -> int:
        """Return how many events :meth:`events` would give."""

    def insert(self, table: str, row: Row) -> None:
        """Add a row to a projection; ``table`` is one of the records' tables."""

    def update(self, table: str, row: Row, was: int) -> bool:
        """Replace the row of the same first column if its ``last_seq`` is ``was``; tell so."""

    def put(self, table: str, row: Row) -> None:
        """Put a row of ``state``, ``result``, ``usage`` or ``label`` in the place of its key's."""

    def delete(self, table: str, *key: str) -> bool:
        """Take a row out of ``result`` or ``label``, and tell whether there was one."""

    def get(self, table: str, *key: str) -> Row | None:
        """Return the projection's row whose first columns are ``key``."""

    def action_by_key(self, project: str, agent: str, key: str) -> Row | None:
        """Return the action that an idempotency key names."""

    def proposal_by_key(self, project: str, agent: str, key: str) -> Row | None:
        """Return the proposal that an idempotency key names."""

    def action_by_content(self, session: str, content: str) -> Row | None:
        """Return a session's latest action of this content that is held or that a person denied."""

    def executing(self) -> Iterator[Row]:
        """Iterate over the actions that are executing, by index."""

    def actions_of(self, proposal: str) -> list[Row]:
        """Return the actions whose uids begin with a proposal's and a hyphen, by uid."""

    def running_proposals(self) -> Iterator[Row]:
        """Iterate over the proposals that are running, by index."""

    def states(self, session: str) -> list[Row]:
        """Return a session's state, in the order of the keys' UTF-8."""

    def labels(self, session: str) -> list[Row]:
        """Return a session's labels, in the order of their UTF-8."""

    def labels_added(self, session: str) -> list[int]:
        """Return the places of the events that give a session a label, by index, in order."""

    def last_label_event(self, session: str) -> int:
        """Return the place of the last event that gives a session a label, by index; 0: none."""

    def last_state_event(self, session: str) -> int:
        """Return the place of the last event that writes a session's state, by index; 0: none."""

    def state_events(
        self, session: str, *, after: int = 0, newest_first: bool = False
    ) -> Iterator[Event]:
        """Iterate over the events that write a session's state, by index, in the log's order."""

    def actions_since(self, session: str, uid: str) -> Iterator[Row]:
        """Iterate over a session's actions whose uids are ``uid`` or come after it, by uid."""

    def held(self, project: str, agent: str, most: int) -> int:
        """Return how many actions of an agent are held, counted up to ``most``, by index."""

    def due(self, after: tuple[int, str], until: int, limit: int) -> list[tuple[int, str, str]]:
        """Return ``(deadline, hold, action)`` of pending holds with deadlines before ``until``.

        They are in the order of their deadlines, then of their ids, those after a deadline and id.
        """

    def next_deadline(self, after: tuple[int, str]) -> int | None:
        """Return the first deadline of a pending hold after a deadline and id, by index."""

    def moved_on(self, holds: Iterable[str]) -> list[str]:
        """Return those of these holds that are there and not pending any more."""

    def holds(self, status: str | None, limit: int, after: str | None) -> list[Row]:
        """Return holds in the order they were opened, of one status or of all, after a hold id."""

    def proposals(self, status: str | None, limit: int, after: str | None) -> list[Row]:
        """Return proposals in the order they came, of one status or of all, after a uid."""

    def actions(
        self,
        project: str,
        status: str | None,
        tool: str | None,
        session: str | None,
        limit: int,
        after: str | None,
        *,
        newest_first: bool,
    ) -> list[Row]:
        """Return a project's actions by uid, those of a status, a tool, a session, after a uid.

        Nothing of that is looked up by an index but the uid: it is for people, who can wait.
        """

    def proposals_named(self, proposal_id: str) -> list[Row]:
        """Return the proposals whose proposers gave them this id, in the order they came."""

    def add_approval(self, hold: str, envelope: bytes, at: int, *, pending: bool = False) -> bool:
        """Put an approver's envelope beside its hold, durably, in a transaction of its own.

        With ``pending``, only while the hold's row says so: in one step with the look at it, so
        nothing comes after what ends the hold. Returns whether it was put there.
        """

    def forget_approvals(self, hold: str, but: Collection[int]) -> None:
        """Put nothing in the place of each envelope of a hold, but for those of these numbers."""

    def approvals(self, hold: str) -> list[ApprovalRow]:
        """Return the envelopes received for a hold, in order of arrival: a bounded number.

        What is no envelope, because it is not bytes or too large, is ``None`` and was not loaded.
        """

    def last_approval(self) -> int:
        """Return the number of the last approval received, 0 when there is none."""

    def approvals_after(self, seq: int) -> list[tuple[int, str]]:
        """Return ``(number, hold)`` of the next approvals received after the number ``seq``.

        They are in order, and may be fewer than there are; none: there are no more.
        """

    def damage(self) -> str | None:
        """Return what is wrong with the store's own order, indexes against tables, if anything."""

    def rows(self, table: str) -> Iterator[Row]:
        """Iterate over a whole projection."""

    def sync(self) -> None:
        """Have what was committed survive the machine, too; may be called in any thread."""

    def close(self) -> None:
        """Close the connection."""
