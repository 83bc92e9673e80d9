"""One run's hand on the store: sealed rows, a chained log, and group commit.

Whoever wants to read and write together passes :meth:`Journal.transact` a function. What is passed
in one turn of the event loop runs in one transaction, each function in a savepoint of its own,
under the store's write lock: what it reads cannot change before what it writes is durable, in this
gate or in any other. A function decides and writes; it never waits. Its result is handed out after
the commit.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

from toolgate import clock, faults
from toolgate.errors import (
    JournalError,
    JournalKeyError,
    JournalTampered,
    JournalUnavailable,
    Unanchored,
)
from toolgate.journal.anchor import Anchor
from toolgate.journal.anchoring import Anchoring
from toolgate.journal.chain import GENESIS, JournalKey
from toolgate.journal.events import EventKind
from toolgate.journal.evidence import ANCHORED
from toolgate.journal.liveness import Liveness
from toolgate.journal.reader import Reader
from toolgate.journal.store import Store, StoreBusy
from toolgate.journal.transaction import RecordChanged, Transaction

_log = logging.getLogger("toolgate")

T = TypeVar("T")

__all__ = ["Journal", "Reader", "RecordChanged", "Transaction", "check_key", "new_id", "write_lock"]

LOCK_PATIENCE = 10.0
"""Seconds to wait for another process's write lock before a call is refused."""
LOCK_RETRY = 0.001
"""Seconds between two tries for the lock; other gates hold it for about this long."""


def new_id(at: int) -> str:
    """Return a fresh identifier: 24 hex digits that sort by ``at`` (microseconds)."""
    return f"{at // 1000:011x}" + os.urandom(7).hex()[1:]


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

    def __init__(
        self,
        store: Store,
        key: JournalKey,
        liveness: Liveness,
        anchor: Anchor | None = None,
        tell: Callable[[str], None] = _log.warning,
    ) -> None:
        """Take the run's lock and start; call :meth:`start` before anything else.

        ``tell`` is how people hear of an anchor that cannot be written.
        """
        self.run = new_id(clock.now())
        self.liveness = liveness
        self._store = store
        self._key = key
        self._transaction = Transaction(self.run, store, key, anchor)
        self._anchoring = Anchoring(anchor, self._transaction, self.run, tell)
        self._transaction.may_begin = self._anchoring.check
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

        Raises :class:`JournalUnavailable`, :class:`JournalKeyError` for another key, and what
        :meth:`Anchoring.start` does.
        """

        def started(tx: Transaction) -> None:
            check_key(self._store, self._key)
            anchored = self._anchoring.start()
            self._store.set_meta("key_id", self._key.key_id)
            started = {"pid": os.getpid(), "version": version, "run": self.run}
            tx.append(EventKind.RUN_STARTED, {**started, ANCHORED: anchored})
            faults.hit("run.started")

        self.write_now(started)
        faults.hit("run.committed")

    def end(self, reason: str) -> None:
        """Journal the end of this run and close the store."""
        try:
            self.write_now(lambda tx: tx.append(EventKind.RUN_ENDED, {"reason": reason}))
            faults.hit("anchor.unwritten")
            self._anchoring.flush()
        finally:
            self.close()

    def close(self) -> None:
        """Close the store without a word in the log."""
        if self._retry is not None:
            self._retry.cancel()
        self._anchoring.close()
        self.liveness.release()
        self._store.close()

    def check_anchored(self) -> None:
        """Refuse to begin anything while what is done here may be forgotten.

        Raises :class:`JournalUnavailable`.
        """
        self._anchoring.check()

    def anchored(self) -> asyncio.Future[None]:
        """Return a future that is done when what is committed outlives this gate in the anchor.

        It raises :class:`JournalError`.
        """
        return self._anchoring.written()

    def version(self) -> int:
        """Return a number that changes when another process has committed."""
        return self._store.version()

    def approvals_after(self, seq: int) -> Iterator[tuple[int, str]]:
        """Iterate over ``(number, hold)`` of the approvals received after the number ``seq``."""
        while found := self._store.approvals_after(seq):
            yield from found
            seq = found[-1][0]

    def due(self, after: tuple[int, str], limit: int) -> list[tuple[int, str, str]]:
        """Return ``(deadline, hold, action)`` of pending holds whose deadlines have passed.

        They are in the order of their deadlines, then of their ids, those after a deadline and id,
        at most ``limit``. Nothing about them is verified.
        """
        return self._store.due(after, self.now(), limit)

    def next_deadline(self, after: tuple[int, str]) -> int | None:
        """Return the first deadline (microseconds) of a pending hold after a deadline and id."""
        return self._store.next_deadline(after)

    def moved_on(self, holds: Iterable[str]) -> list[str]:
        """Return those of these holds that are not pending any more, whoever moved them on."""
        return self._store.moved_on(holds)

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
        write_lock(self._store)
        return self._commit_one(function)

    def _commit_one(self, function: Callable[[Transaction], T]) -> T:
        tx = self._transaction
        try:
            tx.open(self._n, self._prev, self.now())
            faults.hit("transaction.begun")
            result = function(tx)
            tx.flush()
            faults.hit("transaction.written")
            self._store.commit()
        except BaseException:
            tx.reset((0, 0, GENESIS))
            self._store.rollback()
            raise
        self._committed(tx)
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
            faults.hit("transaction.begun")
            alone = len(units) == 1
            for unit in units:
                mark = tx.mark()
                if not alone:
                    self._store.savepoint()
                try:
                    result = unit.function(tx)
                    tx.flush()
                except Exception as error:
                    if isinstance(error, JournalUnavailable) and not isinstance(error, Unanchored):
                        raise
                    tx.reset(mark)
                    failed.append((unit, error))
                    if not alone:
                        self._store.rollback_to_savepoint()
                    continue
                done.append((unit, result))
                if not alone:
                    self._store.release_savepoint()
            faults.hit("transaction.written")
            if done:
                self._store.commit()
            else:
                self._store.rollback()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody may wait for ever
            tx.reset((0, 0, GENESIS))
            self._roll_back()
            _refuse(units, error)
            return
        self._committed(tx)
        for unit, result in done:
            if not unit.future.done():
                unit.future.set_result(result)
        for unit, failure in failed:
            if not unit.future.done():
                unit.future.set_exception(failure)

    def _committed(self, tx: Transaction) -> None:
        before = self._n
        seq, self._n, self._prev = tx.committed()
        if self._n > before:
            self._anchoring.committed(seq - (self._n - before) + 1, seq, self._prev)
        faults.hit("transaction.committed")

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


def write_lock(store: Store) -> None:
    """Begin a transaction, waiting for the lock; raises :class:`JournalUnavailable`."""
    for _ in range(round(LOCK_PATIENCE / LOCK_RETRY)):
        try:
            store.begin()
        except StoreBusy:
            clock.pause(LOCK_RETRY)
            continue
        return
    raise JournalUnavailable("another process has held the journal's lock for too long")


def check_key(store: Store, key: JournalKey) -> None:
    """Refuse a key that is not the journal's; raises :class:`JournalKeyError`.

    Raises :class:`~toolgate.errors.JournalTampered` for a journal that does not say which it is.
    """
    known = store.meta("key_id")
    if known is None and store.last_seq():
        raise JournalTampered(
            "the journal has events, and does not say with which key it was made: its table meta "
            "was changed"
        )
    if known is not None and known != key.key_id:
        raise JournalKeyError(
            f"the journal was made with the key {known}, this is the key {key.key_id}: nothing in "
            "it can be verified with this one; restore the right key, or use another journal"
        )


def _refuse(units: list[_Unit[Any]], error: Exception) -> None:
    for unit in units:
        if not unit.future.done():
            unit.future.set_exception(error)
