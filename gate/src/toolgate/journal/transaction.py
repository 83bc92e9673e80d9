"""Reading and writing together: sealed rows, and events that are chained in order.

The rules of writing:

1. an event takes the next place in the log (``seq``) and in its run's chain (``n``), and is sealed
   over the hash of the event before it; events reach the store in that order, before the commit;
2. a record is sealed over its table's name and all its fields in order
   (:mod:`toolgate.journal.records`), so it is written whole, ``last_seq`` included, never a column
   alone: append the event first, it gives the ``last_seq`` to write;
3. actions, holds and proposals move on by compare-and-set (:meth:`Transaction.update`); state,
   remembered results and usage are replaced (:meth:`Transaction.put`), which is safe because
   whoever read them read them under the same lock.
"""

from __future__ import annotations

from toolgate import jsonvalue
from toolgate.journal.chain import GENESIS, JournalKey, event_hash
from toolgate.journal.events import Event, EventKind
from toolgate.journal.reader import Reader
from toolgate.journal.records import (
    TABLES,
    ActionRecord,
    HoldRecord,
    ProposalRecord,
    Record,
    ResultRecord,
    StateRecord,
    UsageRecord,
)
from toolgate.journal.store import Row, Store
from toolgate.jsonvalue import JSONValue


class RecordChanged(Exception):
    """A record is no longer as it was read: somebody else has moved it on."""


class Transaction(Reader):
    """Reading and writing under the write lock; what it appends is chained when it commits."""

    def __init__(self, run: str, store: Store, key: JournalKey) -> None:
        """Made by the journal of ``run``, which calls :meth:`open` when it has the lock."""
        super().__init__(store, key)
        self._run = run
        self._events: list[Event] = []
        self._seq = self._n = self.now = 0
        self._prev = GENESIS

    def open(self, n: int, prev: bytes, at: int) -> None:
        """Begin where the run's chain ended; ``at`` is the time everything in here happens."""
        self._seq, self._n, self._prev, self.now = self.store.last_seq(), n, prev, at

    @property
    def seq(self) -> int:
        """The place of the last event appended, here or before."""
        return self._seq

    def mark(self) -> tuple[int, int, bytes]:
        """Return where the chain stands, for :meth:`reset`."""
        return self._seq, self._n, self._prev

    def reset(self, mark: tuple[int, int, bytes]) -> None:
        """Forget what was appended since ``mark`` and not yet written."""
        self._seq, self._n, self._prev = mark
        self._events.clear()

    def flush(self) -> None:
        """Write the events appended so far."""
        if self._events:
            self.store.append(self._events)
            self._events.clear()

    def append(
        self,
        kind: EventKind,
        data: dict[str, JSONValue],
        *,
        session: str | None = None,
        action: str | None = None,
    ) -> int:
        """Add an event to the log and return its place in it."""
        text = jsonvalue.canonical(data)
        self._seq += 1
        self._n += 1
        run = self._run
        digest = event_hash(
            self._prev, self._seq, run, self._n, self.now, session, action, kind, text
        )
        self._events.append(
            Event(
                self._seq,
                run,
                self._n,
                self.now,
                session,
                action,
                kind,
                text,
                self._prev,
                digest,
                self._mac(digest),
            )
        )
        self._prev = digest
        return self._seq

    def insert(self, record: Record) -> None:
        """Add a record, sealed; its key (and idempotency key) must be new."""
        self.store.insert(TABLES[type(record)], self._sealed(record))

    def update(self, record: ActionRecord | HoldRecord | ProposalRecord, was: int) -> None:
        """Replace a record, sealed anew, whose row still has the ``last_seq`` ``was``.

        Raises :class:`RecordChanged` when somebody else has changed it.
        """
        row = self._sealed(record)
        if not self.store.update(TABLES[type(record)], row, was):
            raise RecordChanged(str(row[0]))

    def put(self, record: StateRecord | ResultRecord | UsageRecord) -> None:
        """Add a record, sealed, or replace the one of the same key, whatever it was."""
        self.store.put(TABLES[type(record)], self._sealed(record))

    def forget(self, session: str, content: str) -> bool:
        """Delete the result that a session remembers for a content; tell whether there was one."""
        return self.store.delete("result", session, content)

    def _sealed(self, record: Record) -> Row:
        return (*record, self._mac(record.sealed()))
