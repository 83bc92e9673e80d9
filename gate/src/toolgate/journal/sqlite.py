"""The embedded store: one SQLite file in WAL mode, shared by every gate on the host."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from types import TracebackType
from typing import Final

from toolgate.errors import JournalError, JournalTampered, JournalUnavailable
from toolgate.journal.events import Event
from toolgate.journal.records import ApprovalRow
from toolgate.journal.schema import (
    MIGRATIONS,
    NOT_AUTHORIZED,
    SCHEMA,
    SCHEMA_VERSION,
    authorize,
    expected_schema,
)
from toolgate.journal.store import Row, StoreBusy

CHECKPOINT_BYTES: Final = 16 << 20
"""The WAL is copied back into the database once it is about this long."""

PLACE_INTERVAL = 0.1
"""Seconds between two looks whether the file is still where it was: a look costs a system call."""

_COLUMNS: Final = {
    "action": (
        "uid, project, agent, session, tool, args, content, idempotency_key, status, kind, run, "
        "attempts, hold, created_at, last_seq, mac"
    ),
    "hold": (
        "hold_id, uid, session, tool, status, requirement, rules, reason, digest, policy_digest, "
        "opened_at, deadline, seen, last_seq, mac"
    ),
    "session": "session, project, agent, opened_at, last_seq, mac",
}
_LARGEST_SEQ: Final = 1 << 62
_GENUINE_SEQ: Final = f"seq BETWEEN 1 AND {_LARGEST_SEQ}"
"""Places that the journal itself gives: others were written by somebody else."""
MAX_APPROVALS: Final = 1000
"""At most so many answers to one hold are looked at: nobody can make a resume slow with more."""
_EVENT: Final = "seq, run, n, at, session, action, kind, data, prev, hash, mac"


def _placeholders(columns: str) -> str:
    return ", ".join("?" for _ in columns.split(","))


_INSERT_EVENT: Final = f"INSERT INTO event ({_EVENT}) VALUES ({_placeholders(_EVENT)})"
_INSERT: Final = {
    table: f"INSERT INTO {table} ({columns}) VALUES ({_placeholders(columns)})"
    for table, columns in _COLUMNS.items()
}
_MUTABLE: Final = {
    "action": "status, kind, run, attempts, hold, last_seq, mac",
    "hold": (
        "status, requirement, rules, reason, digest, policy_digest, opened_at, deadline, seen, "
        "last_seq, mac"
    ),
}
"""What an update changes; the rest of a row is what it was when it was inserted."""
_UPDATE: Final = {
    table: (
        (
            f"UPDATE {table} SET ({columns}) = ({_placeholders(columns)})"
            f" WHERE {_COLUMNS[table].split(',')[0]} = ? AND last_seq = ?"
        ),
        itemgetter(*(_COLUMNS[table].split(", ").index(name) for name in columns.split(", "))),
    )
    for table, columns in _MUTABLE.items()
}
_GET: Final = {
    table: f"SELECT {columns} FROM {table} WHERE {columns.split(',')[0]} = ?"
    for table, columns in _COLUMNS.items()
}


class _Translated:
    """Turns SQLite's errors into the journal's own; one instance serves every statement."""

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, sqlite3.DatabaseError) and str(error) == NOT_AUTHORIZED:
            raise JournalTampered(
                "the journal's database holds a trigger or a view that the journal never made: "
                "nothing is read or written through it"
            ) from error
        if isinstance(error, sqlite3.Error):
            text = f"the journal could not be {self._doing}: {error}"
            raise JournalUnavailable(text) from error


_OPENING: Final = _Translated("opened")
_READING: Final = _Translated("read")
_WRITING: Final = _Translated("written")


class SQLiteStore:
    """A :class:`~toolgate.journal.store.Store` in one file, or in memory when ``path`` is ``None``.

    ``power`` makes every commit survive the loss of power (``synchronous=FULL``); without it a
    commit survives the death of every process, not of the machine.
    """

    def __init__(self, path: Path | None, *, power: bool = False, create: bool = True) -> None:
        """Open the file; with ``create``, make it (mode 0600) and its tables when they are missing.

        Raises :class:`~toolgate.errors.JournalUnavailable` when it cannot be opened, and
        :class:`~toolgate.errors.JournalError` when a newer program made it.
        """
        self.path = path
        self._checkpoint: threading.Thread | None = None
        self._commits = 0
        if path is not None:
            _prepare_file(path, create=create)
        with _Translated(f"opened at {path}" if path is not None else "opened"):
            self._db = sqlite3.connect(
                str(path) if path is not None else ":memory:",
                isolation_level=None,
                timeout=5.0,
                cached_statements=64,
                check_same_thread=False,
            )
            self._run = self._db.execute
            self._run("PRAGMA trusted_schema = OFF")
            self._run(f"PRAGMA synchronous = {'FULL' if power else 'NORMAL'}")
            self._run("PRAGMA wal_autocheckpoint = 0")
            self._run(f"PRAGMA journal_size_limit = {CHECKPOINT_BYTES // 2}")
            if create:
                self._run("PRAGMA journal_mode = WAL")
        self._migrate(create)
        self._place = str(path)
        self._place_known_until = 0.0
        self._file = None if path is None else _identity(self._place)
        self._check_schema()
        self._db.set_authorizer(authorize)
        # From here on a lock that is held is waited for by the caller, never inside SQLite.
        self._run("PRAGMA busy_timeout = 0")

    def begin(self) -> None:
        """Start a transaction under the write lock; raises :class:`StoreBusy` when it is held."""
        self._check_place()
        try:
            self._run("BEGIN IMMEDIATE")
        except sqlite3.Error as error:
            if error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                raise StoreBusy from None
            raise JournalUnavailable(f"the journal could not be written: {error}") from error

    def commit(self) -> None:
        """Make the transaction durable, and copy the WAL back in the background once it is long."""
        with _WRITING:
            self._run("COMMIT")
        self._commits += 1
        if self._commits % 128 == 0:
            self._checkpoint_when_long()

    def rollback(self) -> None:
        """Undo the transaction, if there is one."""
        if self._db.in_transaction:
            with _WRITING:
                self._run("ROLLBACK")

    def snapshot(self) -> None:
        """Read one unchanging view of the store from here on, until :meth:`rollback`."""
        with _READING:
            self._run("BEGIN")
            # A deferred transaction takes its view at its first read.
            self._run("SELECT 1 FROM event LIMIT 1").fetchone()

    def savepoint(self) -> None:
        """Mark a point inside the transaction."""
        with _WRITING:
            self._run("SAVEPOINT unit")

    def release_savepoint(self) -> None:
        """Keep what was done since the last mark."""
        with _WRITING:
            self._run("RELEASE unit")

    def rollback_to_savepoint(self) -> None:
        """Undo what was done since the last mark, and forget the mark."""
        with _WRITING:
            self._run("ROLLBACK TO unit")
            self._run("RELEASE unit")

    def version(self) -> int:
        """Return a number that changes when another connection has committed."""
        with _READING:
            return int(self._run("PRAGMA data_version").fetchone()[0])

    def meta(self, key: str) -> str | None:
        """Return a value that belongs to the whole journal."""
        with _READING:
            row = self._run("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Set a value that belongs to the whole journal."""
        with _WRITING:
            self._run("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    def last_seq(self) -> int:
        """Return the place of the last event, 0 for an empty log."""
        with _READING:
            last = self._run("SELECT ifnull(max(seq), 0) FROM event").fetchone()[0]
        if not isinstance(last, int) or not 0 <= last < _LARGEST_SEQ:
            raise JournalTampered(f"the log's last place is {last}: the gate never gave it")
        return last

    def append(self, events: Sequence[Event]) -> None:
        """Add events to the log."""
        with _WRITING:
            if self._db.executemany(_INSERT_EVENT, events).rowcount != len(events):
                raise JournalTampered("the journal did not take an event: somebody changed it")

    def event(self, seq: int) -> Event | None:
        """Return one event."""
        with _READING:
            row = self._run(f"SELECT {_EVENT} FROM event WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else Event(*row)

    def last_seq_of(self, action: str) -> int:
        """Return the place of the last event about an action, by index; 0 when there is none."""
        with _READING:
            sql = "SELECT ifnull(max(seq), 0) FROM event WHERE action = ?"
            return int(self._run(sql, (action,)).fetchone()[0])

    def last_event(self, action: str, kind: str) -> Event | None:
        """Return an action's last event of a kind, by index."""
        with _READING:
            row = self._run(
                f"SELECT {_EVENT} FROM event WHERE action = ? AND kind = ?"
                " ORDER BY seq DESC LIMIT 1",
                (action, kind),
            ).fetchone()
        return None if row is None else Event(*row)

    def events(
        self, *, after: int = 0, action: str | None = None, session: str | None = None
    ) -> Iterator[Event]:
        """Iterate over the log in order, one consistent view of it."""
        wheres, values = ["seq > ?"], [str(after)]
        for column, value in (("action", action), ("session", session)):
            if value is not None:
                wheres.append(f"{column} = ?")
                values.append(value)
        sql = f"SELECT {_EVENT} FROM event WHERE {' AND '.join(wheres)} ORDER BY seq"
        with _READING:
            for row in self._run(sql, values):
                yield Event(*row)

    def insert(self, table: str, row: Row) -> None:
        """Add a row to a projection."""
        with _WRITING:
            if self._run(_INSERT[table], row).rowcount != 1:
                raise JournalTampered(f"the journal did not take a row of {table}: it was changed")

    def update(self, table: str, row: Row, was: int) -> bool:
        """Replace the row of the same first column if its ``last_seq`` is ``was``; tell so."""
        sql, changed = _UPDATE[table]
        with _WRITING:
            return self._run(sql, (*changed(row), row[0], was)).rowcount == 1

    def get(self, table: str, key: str) -> Row | None:
        """Return the projection's row whose first column is ``key``."""
        return self._one(_GET[table], (key,))

    def action_by_key(self, project: str, agent: str, key: str) -> Row | None:
        """Return the action that an idempotency key names."""
        return self._one(
            f"SELECT {_COLUMNS['action']} FROM action"
            " WHERE project = ? AND agent = ? AND idempotency_key = ?",
            (project, agent, key),
        )

    def action_by_content(self, session: str, content: str) -> Row | None:
        """Return a session's action of this content that a person denied, else one held now."""
        return self._one(
            f"SELECT {_COLUMNS['action']} FROM action WHERE session = ? AND content = ?"
            " AND (status = 'held' OR kind = 'approval_denied')"
            " ORDER BY kind IS NULL, uid DESC LIMIT 1",
            (session, content),
        )

    def executing(self) -> Iterator[Row]:
        """Iterate over the actions that are executing, by index."""
        with _READING:
            yield from self._run(
                f"SELECT {_COLUMNS['action']} FROM action WHERE status = 'executing' ORDER BY run"
            )

    def holds(self, status: str | None, limit: int, after: str | None) -> list[Row]:
        """Return holds in the order they were opened, of one status or of all, after a hold id."""
        wheres: list[str] = []
        values: list[object] = []
        if after is not None:
            wheres.append("rowid > (SELECT rowid FROM hold WHERE hold_id = ?)")
            values.append(after)
        if status is not None:
            wheres.append("status = ?")
            values.append(status)
        where = f" WHERE {' AND '.join(wheres)}" if wheres else ""
        sql = f"SELECT {_COLUMNS['hold']} FROM hold{where} ORDER BY rowid LIMIT ?"
        with _READING:
            return self._run(sql, (*values, limit)).fetchall()

    def add_approval(self, hold: str, envelope: bytes, at: int) -> None:
        """Put an approver's envelope beside its hold, durably, in a transaction of its own."""
        with _WRITING:
            self._run("PRAGMA busy_timeout = 5000")
            self._run("PRAGMA synchronous = FULL")
            self._run(
                "INSERT INTO approval (seq, hold, envelope, at)"
                f" SELECT ifnull(max(seq), 0) + 1, ?, ?, ? FROM approval WHERE {_GENUINE_SEQ}",
                (hold, envelope, at),
            )

    def approvals(self, hold: str) -> list[ApprovalRow]:
        """Return the envelopes received for a hold, in order of arrival."""
        with _READING:
            rows = self._run(
                f"SELECT seq, hold, envelope, at FROM approval WHERE hold = ? AND {_GENUINE_SEQ}"
                " ORDER BY seq LIMIT ?",
                (hold, MAX_APPROVALS),
            ).fetchall()
        return [ApprovalRow(*row) for row in rows]

    def last_approval(self) -> int:
        """Return the number of the last approval received, 0 when there is none."""
        with _READING:
            sql = f"SELECT ifnull(max(seq), 0) FROM approval WHERE {_GENUINE_SEQ}"
            return int(self._run(sql).fetchone()[0])

    def approvals_after(self, seq: int) -> list[tuple[int, str]]:
        """Return ``(number, hold)`` of every approval received after the number ``seq``."""
        with _READING:
            sql = f"SELECT seq, hold FROM approval WHERE seq > ? AND {_GENUINE_SEQ} ORDER BY seq"
            return self._run(sql, (seq,)).fetchall()

    def rows(self, table: str) -> Iterator[Row]:
        """Iterate over a whole projection."""
        with _READING:
            yield from self._run(f"SELECT {_COLUMNS[table]} FROM {table}")

    def close(self) -> None:
        """Close the connection, waiting for a copy of the WAL that is under way."""
        if self._checkpoint is not None:
            self._checkpoint.join()
        self._db.close()

    def _one(self, sql: str, values: Sequence[object]) -> Row | None:
        with _READING:
            row: Row | None = self._run(sql, values).fetchone()
            return row

    def _migrate(self, create: bool) -> None:
        with _OPENING:
            version = self._schema_version()
            if version < SCHEMA_VERSION and create:
                self._run("BEGIN IMMEDIATE")
                for number in range(self._schema_version() + 1, SCHEMA_VERSION + 1):
                    for statement in MIGRATIONS[number].split(";"):
                        if statement.strip():
                            self._run(statement)
                    self._run(f"PRAGMA user_version = {number}")
                self._run("COMMIT")
                version = SCHEMA_VERSION
        if version > SCHEMA_VERSION:
            raise JournalError(
                f"the journal {self.path} has schema {version}, made by a newer Toolgate; this one "
                f"knows {SCHEMA_VERSION}: upgrade it"
            )
        if version < SCHEMA_VERSION:
            raise JournalError(f"{self.path} is not a journal (schema {version})")

    def _check_schema(self) -> None:
        """Refuse a database that holds anything but the journal's own tables and indexes.

        A trigger or a view planted in it would make statements do other things than they say.
        """
        with _READING:
            found = set(self._run(SCHEMA).fetchall())
        strange = sorted(f"{kind} {name}" for kind, name, _ in found ^ expected_schema())
        if strange:
            raise JournalTampered(
                f"the database {self.path} is not a journal as this program makes it: "
                f"{', '.join(strange)}"
            )

    def _check_place(self) -> None:
        """Refuse to go on in a file that is no longer where everybody else looks for it."""
        now = time.monotonic()
        if self.path is None or now < self._place_known_until:
            return
        self._place_known_until = now + PLACE_INTERVAL
        if _identity(self._place) != self._file:
            self._place_known_until = now
            raise JournalUnavailable(
                f"the journal {self.path} was moved, removed or replaced while it was in use; "
                "restart the gate"
            )

    def _schema_version(self) -> int:
        return int(self._run("PRAGMA user_version").fetchone()[0])

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
                target=_checkpoint, args=(self.path,), name="toolgate-checkpoint", daemon=True
            )
            self._checkpoint.start()
            return
        # Writers that never pause keep the WAL from being reused: now one has to wait for it.
        with _WRITING:
            self._run("PRAGMA wal_checkpoint(RESTART)")


def _identity(path: str) -> tuple[int, int] | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _checkpoint(path: Path) -> None:
    db = sqlite3.connect(str(path), isolation_level=None, timeout=1.0)
    try:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")
    except sqlite3.Error:
        # Nothing is lost: the WAL stays as it is, and the next turn tries again.
        return
    finally:
        db.close()


def _prepare_file(path: Path, *, create: bool) -> None:
    """Make the file with mode 0600 before SQLite would make it with the umask's."""
    try:
        if create:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        elif not path.exists():
            raise JournalUnavailable(
                f"there is no journal at {path}: has a gate run with this config?"
            )
    except OSError as error:
        raise JournalUnavailable(f"cannot open the journal {path}: {error.strerror}") from None
