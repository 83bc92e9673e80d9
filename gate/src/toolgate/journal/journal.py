"""One run's hand on the store: sealed rows, a chained log, and group commit.

Whoever wants to read and write together passes :meth:`Journal.transact` a function. What is passed
in one turn of the event loop runs in one transaction, each function in a savepoint of its own,
under the store's write lock: what it reads cannot change before what it writes is durable, in this
gate or in any other. A function decides and writes; it never waits. Its result is handed out after
the commit.
"""

from __future__ import annotations

import asyncio
import os
import secrets
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar, cast

from toolgate import clock, jsonvalue
from toolgate.errors import JournalError, JournalKeyError, JournalTampered, JournalUnavailable
from toolgate.journal.chain import GENESIS, JournalKey, event_hash, hash_of
from toolgate.journal.events import Event, EventKind
from toolgate.journal.liveness import Liveness
from toolgate.journal.records import ActionRecord, ApprovalRow, HoldRecord, SessionRecord
from toolgate.journal.store import Row, Store, StoreBusy
from toolgate.jsonvalue import JSONValue

T = TypeVar("T")
R = TypeVar("R", ActionRecord, HoldRecord, SessionRecord)

LOCK_PATIENCE = 10.0
"""Seconds to wait for another process's write lock before a call is refused."""
LOCK_RETRY = 0.001
"""Seconds between two tries for the lock; other gates hold it for about this long."""


class RecordChanged(Exception):
    """A record is no longer as it was read: somebody else has moved it on."""


def new_id(at: int) -> str:
    """Return a fresh identifier: 24 hex digits that sort by ``at`` (microseconds)."""
    return f"{at // 1000:011x}" + secrets.token_hex(7)[1:]


class Reader:
    """Verified reading: every row is checked against its MAC before anybody sees it."""

    def __init__(self, store: Store, key: JournalKey) -> None:
        """``key`` must be the one the journal was made with (see :func:`check_key`)."""
        self.store = store
        self._mac = key.mac

    def action(self, uid: str) -> ActionRecord | None:
        """Return an action by its uid; raises :class:`JournalTampered`."""
        return self._record(ActionRecord, self.store.get("action", uid))

    def action_by_key(self, project: str, agent: str, key: str) -> ActionRecord | None:
        """Return the action an idempotency key names; raises :class:`JournalTampered`."""
        record = self._record(ActionRecord, self.store.action_by_key(project, agent, key))
        if record is not None and record.idempotency_key != key:
            raise JournalTampered(f"the action {record.uid} does not carry the key asked for")
        return record

    def action_by_content(self, session: str, content: str) -> ActionRecord | None:
        """Return a session's latest action of this content that is held, or a person denied."""
        return self._record(ActionRecord, self.store.action_by_content(session, content))

    def executing(self) -> Iterator[ActionRecord]:
        """Iterate over the actions that are executing; rows that do not verify are left out."""
        for row in self.store.executing():
            try:
                yield cast(ActionRecord, self._record(ActionRecord, row))
            except JournalTampered:
                continue

    def hold(self, hold_id: str) -> HoldRecord | None:
        """Return a hold; raises :class:`JournalTampered`."""
        return self._record(HoldRecord, self.store.get("hold", hold_id))

    def holds(
        self, status: str | None, limit: int, after: str | None
    ) -> list[tuple[str, HoldRecord | JournalTampered]]:
        """Return holds, by id, in the order they were opened; one that does not verify says so."""
        found: list[tuple[str, HoldRecord | JournalTampered]] = []
        for row in self.store.holds(status, limit, after):
            try:
                found.append((row[0], cast(HoldRecord, self._record(HoldRecord, row))))
            except JournalTampered as error:
                found.append((row[0], error))
        return found

    def session(self, session: str) -> SessionRecord | None:
        """Return a session; raises :class:`JournalTampered`."""
        return self._record(SessionRecord, self.store.get("session", session))

    def approvals(self, hold: str) -> list[ApprovalRow]:
        """Return the envelopes received for a hold; nothing about them is verified here."""
        return self.store.approvals(hold)

    def last_seq_of(self, action: str) -> int:
        """Return the place of the last event about an action, 0 when there is none."""
        return self.store.last_seq_of(action)

    def event(self, seq: int) -> Event:
        """Return one event, verified; raises :class:`JournalTampered` when missing or wrong."""
        event = self.store.event(seq)
        if event is None:
            raise JournalTampered(f"the event {seq} is missing from the journal")
        return self._verified(event)

    def last_event(self, action: str, kind: EventKind) -> Event | None:
        """Return an action's last event of a kind, verified; raises :class:`JournalTampered`."""
        event = self.store.last_event(action, kind)
        return None if event is None else self._verified(event)

    def genuine(self, event: Event) -> bool:
        """Tell whether an event was written with the journal key, and not changed since."""
        try:
            return secrets.compare_digest(hash_of(event), event.hash) and (
                secrets.compare_digest(self._mac(event.hash), event.mac)
            )
        except TypeError:
            return False

    def _verified(self, event: Event) -> Event:
        if not self.genuine(event):
            raise JournalTampered(f"the event {event.seq} does not verify under the journal key")
        return event

    def _record(self, kind: type[R], row: Row | None) -> R | None:
        if row is None:
            return None
        record = kind(*row[:-1])
        try:
            genuine = secrets.compare_digest(self._mac(record.sealed()), row[-1])
        except TypeError:
            genuine = False
        if not genuine:
            raise JournalTampered(
                f"the row of {row[0]!r} does not verify under the journal key; nothing was done on "
                "its word (`toolgate journal verify` tells what else is wrong)"
            )
        return record


class Transaction(Reader):
    """Reading and writing under the write lock; what it appends is chained when it commits."""

    def __init__(self, journal: Journal, store: Store, key: JournalKey) -> None:
        """Made by the journal alone, which calls :meth:`open` when it has the lock."""
        super().__init__(store, key)
        self._journal = journal
        self._events: list[Event] = []
        self._seq = self._n = self.now = 0
        self._prev = GENESIS

    def open(self, n: int, prev: bytes, at: int) -> None:
        """Begin where the run's chain ended; ``at`` is the time everything in here happens."""
        self._seq, self._n, self._prev, self.now = self.store.last_seq(), n, prev, at

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
        run = self._journal.run
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

    def insert(self, record: ActionRecord | HoldRecord | SessionRecord) -> None:
        """Add a record, sealed."""
        self.store.insert(_TABLE[type(record)], (*record, self._mac(record.sealed())))

    def update(self, record: ActionRecord | HoldRecord, was: int) -> None:
        """Replace a record, sealed anew, whose row still has the ``last_seq`` ``was``.

        Raises :class:`RecordChanged` when somebody else has changed it.
        """
        row = (*record, self._mac(record.sealed()))
        if not self.store.update(_TABLE[type(record)], row, was):
            raise RecordChanged(str(row[0]))


_TABLE: dict[type, str] = {ActionRecord: "action", HoldRecord: "hold", SessionRecord: "session"}


class _Unit(Generic[T]):
    """A function to run in the next transaction, and the future its result goes to."""

    __slots__ = ("function", "future")

    def __init__(self, function: Callable[[Transaction], T], future: asyncio.Future[T]) -> None:
        self.function = function
        self.future = future


class Journal:
    """One run of one gate: opens its chain, commits what is ready, ends its chain.

    Everything happens on the event loop's thread.
    """

    def __init__(self, store: Store, key: JournalKey, liveness: Liveness) -> None:
        """Take the run's lock and start; call :meth:`start` before anything else."""
        self.run = new_id(clock.now())
        self.liveness = liveness
        self._store = store
        self._key = key
        self._transaction = Transaction(self, store, key)
        self._waiting: list[_Unit[Any]] = []
        self._n = 0
        self._prev = GENESIS
        self._at = 0
        self._lock_wanted_since: float | None = None
        self._retry: asyncio.TimerHandle | None = None
        liveness.hold(self.run)

    @property
    def reader(self) -> Reader:
        """Verified reading outside of a transaction."""
        return self._transaction

    def now(self) -> int:
        """Return the time (microseconds): the wall clock's, never earlier than the last event's."""
        self._at = max(self._at, clock.now())
        return self._at

    def new_id(self) -> str:
        """Return a fresh identifier for an action, a hold or a session."""
        return new_id(self.now())

    def start(self, version: str) -> None:
        """Journal the start of this run; the first run's key becomes the journal's.

        Raises :class:`JournalUnavailable`, and :class:`JournalKeyError` for another key.
        """

        def started(tx: Transaction) -> None:
            check_key(self._store, self._key)
            self._store.set_meta("key_id", self._key.key_id)
            tx.append(
                EventKind.RUN_STARTED, {"pid": os.getpid(), "version": version, "run": self.run}
            )

        self.write_now(started)

    def end(self, reason: str) -> None:
        """Journal the end of this run and close the store."""
        try:
            self.write_now(lambda tx: tx.append(EventKind.RUN_ENDED, {"reason": reason}))
        finally:
            self.close()

    def close(self) -> None:
        """Close the store without a word in the log."""
        if self._retry is not None:
            self._retry.cancel()
        self.liveness.release()
        self._store.close()

    def version(self) -> int:
        """Return a number that changes when another process has committed."""
        return self._store.version()

    def last_approval(self) -> int:
        """Return the number of the last approval received, 0 when there is none."""
        return self._store.last_approval()

    def approvals_after(self, seq: int) -> list[tuple[int, str]]:
        """Return ``(number, hold)`` of every approval received after the number ``seq``."""
        return self._store.approvals_after(seq)

    def transact(self, function: Callable[[Transaction], T]) -> asyncio.Future[T]:
        """Run ``function`` in this turn's transaction; its result comes once it is durable.

        The future raises what the function raised (then nothing it wrote remains), or
        :class:`JournalUnavailable`.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._waiting.append(_Unit(function, future))
        if len(self._waiting) == 1 and self._retry is None:
            loop.call_soon(self._flush)
        return future

    def write_now(self, function: Callable[[Transaction], T]) -> T:
        """Run ``function`` in a transaction of its own, waiting for the lock: for start and end."""
        for _ in range(round(LOCK_PATIENCE / LOCK_RETRY)):
            try:
                self._store.begin()
            except StoreBusy:
                clock.pause(LOCK_RETRY)
                continue
            return self._commit_one(function)
        raise JournalUnavailable("another process has held the journal's lock for too long")

    def _commit_one(self, function: Callable[[Transaction], T]) -> T:
        tx = self._transaction
        try:
            tx.open(self._n, self._prev, self.now())
            result = function(tx)
            tx.flush()
            self._store.commit()
        except BaseException:
            tx.reset((0, 0, GENESIS))
            self._store.rollback()
            raise
        _, self._n, self._prev = tx.mark()
        return result

    def _flush(self) -> None:
        self._retry = None
        units = [unit for unit in self._waiting if not unit.future.cancelled()]
        try:
            if units:
                self._store.begin()
        except StoreBusy:
            self._wait_for_lock()
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            self._waiting.clear()
            _refuse(units, error)
            return
        self._waiting.clear()
        self._lock_wanted_since = None
        if units:
            self._commit(units)

    def _commit(self, units: list[_Unit[Any]]) -> None:
        """Run the units and commit them together; a unit that raises leaves the others alone."""
        tx = self._transaction
        done: list[tuple[_Unit[Any], Any]] = []
        failed: list[tuple[_Unit[Any], BaseException]] = []
        try:
            tx.open(self._n, self._prev, self.now())
            alone = len(units) == 1
            for unit in units:
                mark = tx.mark()
                if not alone:
                    self._store.savepoint()
                try:
                    result = unit.function(tx)
                    tx.flush()
                except JournalUnavailable:
                    raise
                except Exception as error:  # noqa: BLE001 - it goes to whoever passed the unit
                    tx.reset(mark)
                    failed.append((unit, error))
                    if not alone:
                        self._store.rollback_to_savepoint()
                    continue
                done.append((unit, result))
                if not alone:
                    self._store.release_savepoint()
            if done:
                self._store.commit()
            else:
                self._store.rollback()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            tx.reset((0, 0, GENESIS))
            self._roll_back()
            _refuse(units, error)
            return
        _, self._n, self._prev = tx.mark()
        for unit, result in done:
            if not unit.future.done():
                unit.future.set_result(result)
        for unit, failure in failed:
            if not unit.future.done():
                unit.future.set_exception(failure)

    def _roll_back(self) -> None:
        try:
            self._store.rollback()
        except JournalError:
            # SQLite has already undone it (a full disk does that); the next BEGIN tells if not.
            return

    def _wait_for_lock(self) -> None:
        loop = asyncio.get_running_loop()
        if self._lock_wanted_since is None:
            self._lock_wanted_since = loop.time()
        if loop.time() - self._lock_wanted_since > LOCK_PATIENCE:
            self._lock_wanted_since = None
            units, self._waiting = self._waiting, []
            _refuse(
                units,
                JournalUnavailable(
                    f"another process has held the journal's lock for {LOCK_PATIENCE:.0f} s"
                ),
            )
            return
        self._retry = loop.call_later(LOCK_RETRY, self._flush)


def check_key(store: Store, key: JournalKey) -> None:
    """Refuse a key that is not the journal's; raises :class:`JournalKeyError`."""
    known = store.meta("key_id")
    if known is not None and known != key.key_id:
        raise JournalKeyError(
            f"the journal was made with the key {known}, this is the key {key.key_id}: nothing in "
            "it can be verified with this one; restore the right key, or use another journal"
        )


def _refuse(units: list[_Unit[Any]], error: Exception) -> None:
    for unit in units:
        if not unit.future.done():
            unit.future.set_exception(error)
