"""Reading and writing together: sealed rows, and events that are chained in order.

The rules of writing:

1. an event takes the next place in the log (``seq``) and in its run's chain (``n``), and is sealed
   over the hash of the event before it; events reach the store in that order, before the commit;
2. a record is sealed over its table's name and all its fields in order
   (:mod:`toolgate.journal.records`), so it is written whole, ``last_seq`` included, never a column
   alone: append the event first, it gives the ``last_seq`` to write;
3. actions, holds and proposals move on by compare-and-set (:meth:`Transaction.update`); state,
   remembered results and usage are replaced (:meth:`Transaction.put`, :meth:`Transaction.count`),
   which is safe because whoever read them read them under the same lock;
4. what is written of state, of a limit or of an idempotency key has an event of its own that can be
   found by index, so that a row that was set back or taken away is not believed;
5. an event about an action or a proposal names the one before it (:mod:`toolgate.journal.links`).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

from toolgate import jsonvalue
from toolgate.journal.chain import GENESIS, JournalKey, event_hash
from toolgate.journal.events import Event, EventKind
from toolgate.journal.heads import BESIDE, FOLLOWS
from toolgate.journal.links import FIRST, PREVIOUS, UNLINKED
from toolgate.journal.memory import Marks
from toolgate.journal.names import key_name
from toolgate.journal.reader import LASTING, Reader
from toolgate.journal.records import (
    TABLES,
    ActionRecord,
    HoldRecord,
    LabelRecord,
    ProposalRecord,
    Record,
    ResultRecord,
    StateRecord,
    UsageRecord,
)
from toolgate.journal.store import Row, Store
from toolgate.jsonvalue import JSONValue

REMEMBERED_LIMITS = 1000
"""Of so many limits it is remembered between transactions what is used of them."""
REMEMBERED_LOGS = 500
"""Of so many actions and proposals it is remembered between transactions where their logs end."""


class RecordChanged(Exception):
    """A record is no longer as it was read: somebody else has moved it on."""


class Transaction(Reader):
    """Reading and writing under the write lock; what it appends is chained when it commits."""

    def __init__(
        self, run: str, store: Store, key: JournalKey, anchor: Marks | None = None
    ) -> None:
        """Made by the journal of ``run``, which calls :meth:`open` when it has the lock."""
        super().__init__(store, key, anchor)
        self._run = run
        self._events: list[Event] = []
        self._seq = self._n = self._durable = self.now = 0
        self._prev = GENESIS
        self._usage: dict[str, UsageRecord | None] = {}
        """What is used of some limits, as of the log's last event: true until others write."""
        self.may_begin: Callable[[], None] = _may
        """Refuses that a body begins: raises :class:`~toolgate.errors.Unanchored`."""
        self._last: dict[str, int] = {}
        """The last events about some actions and proposals: true until others write."""

    def open(self, n: int, prev: bytes, at: int) -> None:
        """Begin where the run's chain ended; ``at`` is the time everything in here happens."""
        seq = self.store.last_seq()
        if seq != self._seq or len(self._usage) > REMEMBERED_LIMITS:
            self._usage.clear()
        if seq != self._seq or len(self._last) > REMEMBERED_LOGS:
            self._last.clear()
        self._seq, self._n, self._prev, self.now = seq, n, prev, at
        self._durable = seq
        self.memory.begin(seq)

    def committed(self) -> tuple[int, int, bytes]:
        """Take note that everything is durable; returns where the chain stands."""
        self.memory.keep()
        return self.mark()

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
        self._usage.clear()
        self._last.clear()
        kept = max(self._seq, self._durable)
        self.heads.forget(kept)
        self.memory.forget(kept)

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
        self._seq = seq = self._seq + 1
        if action is not None and kind not in UNLINKED:
            previous = self._last.get(action)
            if previous is None:
                previous = 0 if kind in FIRST else self.store.last_seq_of(action)
            data = {**data, PREVIOUS: previous}
            self._last[action] = seq
        text = jsonvalue.canonical(data)
        name, run, prev, now = kind.value, self._run, self._prev, self.now
        self._n = n = self._n + 1
        self._prev = digest = event_hash(prev, seq, run, n, now, session, action, name, text)
        mac = self._mac(digest)
        self._events.append(Event(seq, run, n, now, session, action, name, text, prev, digest, mac))
        return seq

    def append_state(
        self,
        kind: EventKind,
        data: dict[str, JSONValue],
        *,
        session: str,
        action: str | None = None,
    ) -> int:
        """Add an event that writes a session's state, and return its place for the rows' seal.

        The keys that it writes are its ``changes`` (:func:`toolgate.journal.heads.written`). Raises
        :class:`~toolgate.errors.JournalTampered`.
        """
        self.flush()
        data = {**data, **self.heads.next(session)}
        seq = self.append(kind, data, session=session, action=action)
        self.memory.saw(("state", session, ""), seq)
        self.flush()
        return seq

    def log(self, name: str, stands: int) -> list[Event]:
        """Return a log (:meth:`Reader.log`), with what was appended here."""
        self.flush()
        return super().log(name, stands)

    def labels(self, session: str) -> list[LabelRecord]:
        """Return the labels of a session, those given here too; raises :class:`JournalTampered`."""
        self.flush()
        return super().labels(session)

    def add_labels(
        self,
        session: str,
        labels: Iterable[str],
        source: dict[str, JSONValue],
        action: str | None,
    ) -> None:
        """Give a session labels, those that it has once more; ``source`` tells where from.

        Raises :class:`JournalTampered`.
        """
        places = {record.label: record.last_seq for record in self.labels(session)}
        before = self.store.last_label_event(session)
        for label in labels:
            places.pop(label, None)
            data: dict[str, JSONValue] = {
                "label": label,
                "source": source,
                FOLLOWS: before,
                BESIDE: {**places},
            }
            seq = self.append(EventKind.LABEL_ADDED, data, session=session, action=action)
            self.memory.saw(("label", session, ""), seq)
            self.put(LabelRecord(session, label, self.now, seq))
            places[label] = before = seq

    def insert(self, record: Record) -> None:
        """Add a record, sealed; its key (and idempotency key) must be new."""
        if isinstance(record, ActionRecord | ProposalRecord) and record.idempotency_key is not None:
            name = key_name(type(record), record.project, record.agent, record.idempotency_key)
            claimed: dict[str, JSONValue] = {"uid": record.uid}
            seq = self.append(EventKind.KEY_CLAIMED, claimed, session=record.session, action=name)
            self.memory.saw(("key", name, ""), seq)
        self._note(record)
        self.store.insert(TABLES[type(record)], self._sealed(record))

    def update(self, record: ActionRecord | HoldRecord | ProposalRecord, was: int) -> None:
        """Replace a record, sealed anew, whose row still has the ``last_seq`` ``was``.

        Raises :class:`RecordChanged` when somebody else has changed it.
        """
        row = self._sealed(record)
        if not self.store.update(TABLES[type(record)], row, was):
            raise RecordChanged(str(row[0]))
        self._note(record)

    def put(self, record: StateRecord | ResultRecord | UsageRecord | LabelRecord) -> None:
        """Add a record, sealed, or replace the one of the same key, whatever it was."""
        if isinstance(record, ResultRecord):
            self.memory.saw(("result", record.session, record.content), record.last_seq)
        self._note(record)
        self.store.put(TABLES[type(record)], self._sealed(record))

    def usage(self, name: str) -> UsageRecord | None:
        """Return what has been used of a limit; raises :class:`JournalTampered`."""
        if not self.store.in_transaction():
            return super().usage(name)
        if name not in self._usage:
            self._usage[name] = super().usage(name)
        return self._usage[name]

    def count(self, name: str, data: JSONValue, told: JSONValue, session: str) -> int:
        """Set what is used of the limit ``name`` to ``data``; its event says ``told`` of it.

        Returns the event's place.
        """
        known = self.usage(name)
        counted: dict[str, JSONValue] = {
            "used": told,
            FOLLOWS: 0 if known is None else known.last_seq,
        }
        seq = self.append(EventKind.LIMIT_COUNTED, counted, session=session, action=name)
        record = self._usage[name] = UsageRecord(name, jsonvalue.canonical(data), seq)
        self.put(record)
        return seq

    def forget(self, session: str, content: str) -> bool:
        """Delete the result that a session remembers for a content; tell whether there was one."""
        gone = max(self._seq, self.memory.last(("result", session, content)))
        self.memory.saw(("forgotten", session, content), gone)
        return self.store.delete("result", session, content)

    def unlabel(self, session: str, label: str) -> None:
        """Delete a session's label, of whose removal the log tells."""
        self.store.delete(TABLES[LabelRecord], session, label)

    def forget_answers(self, hold: str, but: Collection[int]) -> None:
        """Take the answers to a hold out of the store, but for some: they were for approvers."""
        self.store.forget_approvals(hold, but)

    def _note(self, record: Record) -> None:
        if type(record) in LASTING:
            self.memory.saw((TABLES[type(record)], record[0], ""), record.last_seq)

    def _sealed(self, record: Record) -> Row:
        return (*record, self._mac(record.sealed()))


def _may() -> None:
    """Let it begin: there is no anchor that would not know of it."""
