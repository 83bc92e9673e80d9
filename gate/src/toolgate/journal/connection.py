"""One connection to an SQLite journal: its transactions, its place on the disk, and its WAL."""

from __future__ import annotations

import os
import sqlite3
import stat
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from toolgate import faults
from toolgate.errors import JournalUnavailable
from toolgate.journal.database import (
    CHECKPOINT_BYTES,
    READING,
    WRITING,
    checkpoint,
    identity,
    open_database,
)
from toolgate.journal.store import StoreBusy

_PLAIN = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW
"""What stands in the place of a file must not be followed, or keep who opens it waiting."""
PLACE_INTERVAL = 0.1
"""Seconds between two looks whether the file is still where it was: a look costs a system call."""


class Connection:
    """One connection to the journal in a file, or in memory when ``path`` is ``None``.

    ``power`` makes every commit survive the loss of power (``synchronous=FULL``); without it a
    commit survives the death of every process, not of the machine.
    """

    def __init__(self, path: Path | None, *, power: bool = False, create: bool = True) -> None:
        """Open the file; with ``create``, make it (mode 0600) and its tables when they are missing.

        Raises :class:`~toolgate.errors.JournalUnavailable` when it cannot be opened, and
        :class:`~toolgate.errors.JournalError` when a newer program made it.
        """
        self.path = path
        self._power = power
        self._checkpoint: threading.Thread | None = None
        self._commits = 0
        self._db = open_database(path, power=power, create=create)
        self._run = self._db.execute
        self._write = self._db.cursor()
        """For what gives no rows: then a cursor of its own for each statement is a waste."""
        self._place = str(path)
        self._place_known_until = 0.0
        self._file = None if path is None else identity(self._place)
        self._wal = None if path is None else identity(f"{path}-wal")

    def begin(self) -> None:
        """Start a transaction under the write lock; raises :class:`StoreBusy` when it is held."""
        self.check_place()
        try:
            faults.fail_store()
            self._write.execute("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            # What Python refuses by itself, such as a closed connection, has no code.
            code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_MISUSE)
            if code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StoreBusy from None
            raise JournalUnavailable(f"the journal could not be written: {error}") from error

    def commit(self) -> None:
        """Make the transaction durable, and copy the WAL back in the background once it is long."""
        with WRITING:
            faults.fail_store()
            self._write.execute("COMMIT")
        self._commits += 1
        if self._commits % 128 == 0:
            self._checkpoint_when_long()

    def rollback(self) -> None:
        """Undo the transaction, if there is one."""
        if self._db.in_transaction:
            with WRITING:
                self._run("ROLLBACK")

    def snapshot(self) -> None:
        """Read one unchanging view of the store from here on, until :meth:`rollback`."""
        with READING:
            self._run("BEGIN")
            # A deferred transaction takes its view at its first read.
            self._run("SELECT 1 FROM event LIMIT 1").fetchone()

    @contextmanager
    def view(self) -> Iterator[None]:
        """Read one unchanging view of the store inside; in a transaction that is so anyway."""
        if self._db.in_transaction:
            yield
            return
        with READING:
            self._run("BEGIN")
        try:
            yield
        finally:
            self.rollback()

    def in_transaction(self) -> bool:
        """Tell whether a transaction is open, or an unchanging view."""
        return self._db.in_transaction

    def savepoint(self) -> None:
        """Mark a point inside the transaction."""
        with WRITING:
            self._write.execute("SAVEPOINT unit")

    def release_savepoint(self) -> None:
        """Keep what was done since the last mark."""
        with WRITING:
            self._write.execute("RELEASE unit")

    def rollback_to_savepoint(self) -> None:
        """Undo what was done since the last mark, and forget the mark."""
        with WRITING:
            self._run("ROLLBACK TO unit")
            self._run("RELEASE unit")

    def version(self) -> int:
        """Return a number that changes when another connection has committed."""
        with READING:
            return int(self._run("PRAGMA data_version").fetchone()[0])

    def sync(self) -> None:
        """Have what was committed survive the loss of power, too; may be called in any thread.

        What is not in the WAL any more was synced when it was copied into the database.
        """
        if self.path is None or self._power:
            return
        try:
            # The database itself is never opened here: closing it would take SQLite's locks away.
            fd = os.open(f"{self.path}-wal", _PLAIN)
            try:
                found = os.fstat(fd)
                if (found.st_dev, found.st_ino) != self._wal or not stat.S_ISREG(found.st_mode):
                    raise OSError(0, "its write-ahead log was moved, removed or replaced")
                os.fsync(fd)
            finally:
                os.close(fd)
        except OSError as error:
            raise JournalUnavailable(
                f"the journal {self.path} could not be synced: {error.strerror}"
            ) from None

    def close(self) -> None:
        """Close the connection, waiting for a copy of the WAL that is under way."""
        if self._checkpoint is not None:
            self._checkpoint.join()
        self._db.close()

    def check_place(self) -> None:
        """Refuse to go on in a file that is no longer where everybody else looks for it.

        Raises :class:`~toolgate.errors.JournalUnavailable`.
        """
        now = time.monotonic()
        if self.path is None or now < self._place_known_until:
            return
        self._place_known_until = now + PLACE_INTERVAL
        if identity(self._place) != self._file:
            self._place_known_until = now
            raise JournalUnavailable(
                f"the journal {self.path} was moved, removed or replaced while it was in use; "
                "restart the gate"
            )

    def _checkpoint_when_long(self) -> None:
        if self.path is None or (self._checkpoint is not None and self._checkpoint.is_alive()):
            return
        try:
            length = os.stat(f"{self.path}-wal").st_size
        except OSError:
            return
        if length < CHECKPOINT_BYTES:
            return
        if length < 16 * CHECKPOINT_BYTES:
            # A passive checkpoint on a connection of its own never makes the writer wait.
            self._checkpoint = threading.Thread(
                target=checkpoint, args=(self.path,), name="toolgate-checkpoint", daemon=True
            )
            self._checkpoint.start()
            return
        # Writers that never pause keep the WAL from being reused: now one has to wait for it.
        with WRITING:
            self._run("PRAGMA wal_checkpoint(RESTART)")
