"""The embedded store: one SQLite file in WAL mode, shared by every gate on the host."""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from toolgate.errors import JournalTampered, JournalUnavailable
from toolgate.journal.database import (
    CHECKPOINT_BYTES,
    READING,
    WRITING,
    checkpoint,
    identity,
    open_database,
)
from toolgate.journal.events import Event
from toolgate.journal.records import ApprovalRow
from toolgate.journal.statements import (
    COLUMNS,
    DELETE,
    EVENT,
    GET,
    INSERT,
    INSERT_EVENT,
    PUT,
    UPDATE,
    chosen,
    uids_under,
)
from toolgate.journal.store import Row, StoreBusy

PLACE_INTERVAL = 0.1
"""Seconds between two looks whether the file is still where it was: a look costs a system call."""

_LARGEST_SEQ: Final = 1 << 62
_GENUINE_SEQ: Final = f"seq BETWEEN 1 AND {_LARGEST_SEQ}"
"""Places that the journal itself gives: others were written by somebody else."""
MAX_APPROVALS: Final = 1000
"""At most so many answers to one hold are looked at: nobody can make a resume slow with more."""


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
        self._db = open_database(path, power=power, create=create)
        self._run = self._db.execute
        self._place = str(path)
        self._place_known_until = 0.0
        self._file = None if path is None else identity(self._place)

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
        with WRITING:
            self._run("COMMIT")
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

    def savepoint(self) -> None:
        """Mark a point inside the transaction."""
        with WRITING:
            self._run("SAVEPOINT unit")

    def release_savepoint(self) -> None:
        """Keep what was done since the last mark."""
        with WRITING:
            self._run("RELEASE unit")

    def rollback_to_savepoint(self) -> None:
        """Undo what was done since the last mark, and forget the mark."""
        with WRITING:
            self._run("ROLLBACK TO unit")
            self._run("RELEASE unit")

    def version(self) -> int:
        """Return a number that changes when another connection has committed."""
        with READING:
            return int(self._run("PRAGMA data_version").fetchone()[0])

    def meta(self, key: str) -> str | None:
        """Return a value that belongs to the whole journal."""
        with READING:
            row = self._run("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return None if row is None else str(row[0])

    def set_meta(self, key: str, value: str) -> None:
        """Set a value that belongs to the whole journal."""
        with WRITING:
            self._run("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))

    def last_seq(self) -> int:
        """Return the place of the last event, 0 for an empty log."""
        with READING:
            last = self._run("SELECT ifnull(max(seq), 0) FROM event").fetchone()[0]
        if not isinstance(last, int) or not 0 <= last < _LARGEST_SEQ:
            raise JournalTampered(f"the log's last place is {last}: the gate never gave it")
        return last

    def append(self, events: Sequence[Event]) -> None:
        """Add events to the log."""
        with WRITING:
            if self._db.executemany(INSERT_EVENT, events).rowcount != len(events):
                raise JournalTampered("the journal did not take an event: somebody changed it")

    def event(self, seq: int) -> Event | None:
        """Return one event."""
        with READING:
            row = self._run(f"SELECT {EVENT} FROM event WHERE seq = ?", (seq,)).fetchone()
        return None if row is None else Event(*row)

    def last_seq_of(self, action: str) -> int:
        """Return the place of the last event about an action, by index; 0 when there is none."""
        with READING:
            sql = "SELECT ifnull(max(seq), 0) FROM event WHERE action = ?"
            return int(self._run(sql, (action,)).fetchone()[0])

    def last_event(self, action: str, kind: str) -> Event | None:
        """Return an action's last event of a kind, by index."""
        with READING:
            row = self._run(
                f"SELECT {EVENT} FROM event WHERE action = ? AND kind = ?"
                " ORDER BY seq DESC LIMIT 1",
                (action, kind),
            ).fetchone()
        return None if row is None else Event(*row)

    def events(
        self,
        *,
        after: int = 0,
        action: str | None = None,
        proposal: str | None = None,
        session: str | None = None,
        last: int | None = None,
    ) -> Iterator[Event]:
        """Iterate over the log in order, one consistent view of it."""
        where, values = chosen(after, action, proposal, session)
        sql = f"SELECT {EVENT} FROM event WHERE {where} ORDER BY seq"
        if last is not None:
            sql = f"SELECT * FROM ({sql} DESC LIMIT ?) ORDER BY seq"
            values.append(last)
        with READING:
            for row in self._run(sql, values):
                yield Event(*row)

    def count(
        self,
        *,
        after: int = 0,
        action: str | None = None,
        proposal: str | None = None,
        session: str | None = None,
    ) -> int:
        """Return how many events :meth:`events` would give."""
        where, values = chosen(after, action, proposal, session)
        with READING:
            row = self._run(f"SELECT count(*) FROM event WHERE {where}", values).fetchone()
        return int(row[0])

    def insert(self, table: str, row: Row) -> None:
        """Add a row to a projection."""
        with WRITING:
            if self._run(INSERT[table], row).rowcount != 1:
                raise JournalTampered(f"the journal did not take a row of {table}: it was changed")

    def update(self, table: str, row: Row, was: int) -> bool:
        """Replace the row of the same first column if its ``last_seq`` is ``was``; tell so."""
        sql, changed = UPDATE[table]
        with WRITING:
            return self._run(sql, (*changed(row), row[0], was)).rowcount == 1

    def put(self, table: str, row: Row) -> None:
        """Add a row to a projection, or replace the one of the same key."""
        with WRITING:
            if self._run(PUT[table], row).rowcount != 1:
                raise JournalTampered(f"the journal did not take a row of {table}: it was changed")

    def delete(self, table: str, *key: str) -> bool:
        """Take a row out of a projection, and tell whether there was one."""
        with WRITING:
            return self._run(DELETE[table], key).rowcount == 1

    def get(self, table: str, *key: str) -> Row | None:
        """Return the projection's row whose first columns are ``key``."""
        return self._one(GET[table], key)

    def action_by_key(self, project: str, agent: str, key: str) -> Row | None:
        """Return the action that an idempotency key names."""
        return self._one(
            f"SELECT {COLUMNS['action']} FROM action"
            " WHERE project = ? AND agent = ? AND idempotency_key = ?",
            (project, agent, key),
        )

    def proposal_by_key(self, project: str, agent: str, key: str) -> Row | None:
        """Return the proposal that an idempotency key names."""
        return self._one(
            f"SELECT {COLUMNS['proposal']} FROM proposal"
            " WHERE project = ? AND agent = ? AND idempotency_key = ?",
            (project, agent, key),
        )

    def action_by_content(self, session: str, content: str) -> Row | None:
        """Return a session's action of this content that a person denied, else one held now."""
        return self._one(
            f"SELECT {COLUMNS['action']} FROM action WHERE session = ? AND content = ?"
            " AND (status = 'held' OR kind = 'approval_denied')"
            " ORDER BY kind IS NULL, uid DESC LIMIT 1",
            (session, content),
        )

    def executing(self) -> Iterator[Row]:
        """Iterate over the actions that are executing, by index."""
        with READING:
            yield from self._run(
                f"SELECT {COLUMNS['action']} FROM action WHERE status = 'executing' ORDER BY run"
            )

    def actions_of(self, proposal: str) -> list[Row]:
        """Return the actions whose uids begin with a proposal's and a hyphen, by uid."""
        with READING:
            return self._run(
                f"SELECT {COLUMNS['action']} FROM action WHERE uid > ? AND uid < ? ORDER BY uid",
                uids_under(proposal),
            ).fetchall()

    def running_proposals(self) -> Iterator[Row]:
        """Iterate over the proposals that are running, by index."""
        with READING:
            yield from self._run(
                f"SELECT {COLUMNS['proposal']} FROM proposal WHERE status = 'running' ORDER BY run"
            )

    def states(self, session: str) -> list[Row]:
        """Return a session's state, by key."""
        sql = f"SELECT {COLUMNS['state']} FROM state WHERE session = ? ORDER BY key"
        with READING:
            return self._run(sql, (session,)).fetchall()

    def labels(self, session: str) -> list[Row]:
        """Return a session's labels."""
        sql = f"SELECT {COLUMNS['label']} FROM label WHERE session = ? ORDER BY label"
        with READING:
            return self._run(sql, (session,)).fetchall()

    def labels_added(self, session: str) -> int:
        """Return how many events say that a session was given a label, by index."""
        sql = "SELECT count(*) FROM event WHERE kind = 'label.added' AND session = ?"
        with READING:
            return int(self._run(sql, (session,)).fetchone()[0])

    def actions_since(self, session: str, uid: str) -> Iterator[Row]:
        """Iterate over a session's actions whose uids are ``uid`` or come after it, by uid."""
        sql = f"SELECT {COLUMNS['action']} FROM action WHERE uid >= ? AND session = ? ORDER BY uid"
        with READING:
            yield from self._run(sql, (uid, session))

    def holds(self, status: str | None, limit: int, after: str | None) -> list[Row]:
        """Return holds in the order they were opened, of one status or of all, after a hold id."""
        return self._page("hold", "hold_id", status, limit, after)

    def proposals(self, status: str | None, limit: int, after: str | None) -> list[Row]:
        """Return proposals in the order they came, of one status or of all, after a uid."""
        return self._page("proposal", "uid", status, limit, after)

    def proposals_named(self, proposal_id: str) -> list[Row]:
        """Return the proposals whose proposers gave them this id, in the order they came."""
        sql = f"SELECT {COLUMNS['proposal']} FROM proposal WHERE proposal_id = ? ORDER BY rowid"
        with READING:
            return self._run(sql, (proposal_id,)).fetchall()

    def _page(
        self, table: str, key: str, status: str | None, limit: int, after: str | None
    ) -> list[Row]:
        wheres: list[str] = []
        values: list[object] = []
        if after is not None:
            wheres.append(f"rowid > (SELECT rowid FROM {table} WHERE {key} = ?)")
            values.append(after)
        if status is not None:
            wheres.append("status = ?")
            values.append(status)
        where = f" WHERE {' AND '.join(wheres)}" if wheres else ""
        sql = f"SELECT {COLUMNS[table]} FROM {table}{where} ORDER BY rowid LIMIT ?"
        with READING:
            return self._run(sql, (*values, limit)).fetchall()

    def add_approval(self, hold: str, envelope: bytes, at: int) -> None:
        """Put an approver's envelope beside its hold, durably, in a transaction of its own."""
        with WRITING:
            self._run("PRAGMA busy_timeout = 5000")
            self._run("PRAGMA synchronous = FULL")
            self._run(
                "INSERT INTO approval (seq, hold, envelope, at)"
                f" SELECT ifnull(max(seq), 0) + 1, ?, ?, ? FROM approval WHERE {_GENUINE_SEQ}",
                (hold, envelope, at),
            )

    def approvals(self, hold: str) -> list[ApprovalRow]:
        """Return the envelopes received for a hold, in order of arrival."""
        with READING:
            rows = self._run(
                f"SELECT seq, hold, envelope, at FROM approval WHERE hold = ? AND {_GENUINE_SEQ}"
                " ORDER BY seq LIMIT ?",
                (hold, MAX_APPROVALS),
            ).fetchall()
        return [ApprovalRow(*row) for row in rows]

    def last_approval(self) -> int:
        """Return the number of the last approval received, 0 when there is none."""
        with READING:
            sql = f"SELECT ifnull(max(seq), 0) FROM approval WHERE {_GENUINE_SEQ}"
            return int(self._run(sql).fetchone()[0])

    def approvals_after(self, seq: int) -> list[tuple[int, str]]:
        """Return ``(number, hold)`` of every approval received after the number ``seq``."""
        with READING:
            sql = f"SELECT seq, hold FROM approval WHERE seq > ? AND {_GENUINE_SEQ} ORDER BY seq"
            return self._run(sql, (seq,)).fetchall()

    def rows(self, table: str) -> Iterator[Row]:
        """Iterate over a whole projection."""
        with READING:
            yield from self._run(f"SELECT {COLUMNS[table]} FROM {table}")

    def close(self) -> None:
        """Close the connection, waiting for a copy of the WAL that is under way."""
        if self._checkpoint is not None:
            self._checkpoint.join()
        self._db.close()

    def _one(self, sql: str, values: Sequence[object]) -> Row | None:
        with READING:
            row: Row | None = self._run(sql, values).fetchone()
            return row

    def _check_place(self) -> None:
        """Refuse to go on in a file that is no longer where everybody else looks for it."""
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
