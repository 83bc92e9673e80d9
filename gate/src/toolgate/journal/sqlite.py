"""The embedded store: one SQLite file in WAL mode, shared by every gate on the host."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence

from toolgate import faults
from toolgate.errors import JournalTampered
from toolgate.journal.database import READING, WRITING
from toolgate.journal.envelopes import LARGEST_SEQ, Envelopes
from toolgate.journal.events import Event
from toolgate.journal.statements import (
    COLUMNS,
    DELETE,
    EVENT,
    GET,
    INSERT,
    INSERT_EVENT,
    PUT,
    STATE_EVENT,
    UPDATE,
    chosen,
    uids_under,
)
from toolgate.journal.store import Row


def _bound(event: Event) -> tuple[object, ...]:
    """Return what is bound to write an event: its bytes as those that sqlite3 takes as they are.

    For ``bytes`` it looks for an adapter, each time: half of what it costs to write an event.
    """
    *texts, data, prev, digest, mac = event
    return (*texts, bytearray(data), bytearray(prev), bytearray(digest), bytearray(mac))


def _due(after: tuple[int, str]) -> tuple[str, tuple[int, object]]:
    """Return which pending holds may expire after one of them, and the values of that.

    Of itself SQLite takes the index of all pending holds, and sorts them.
    """
    place, value = _stored(after[1])
    sql = "hold INDEXED BY hold_due WHERE status = 'pending' AND deadline IS NOT NULL"
    return f"{sql} AND (deadline, hold_id) > (?, {place})", (after[0], value)


def _stored(found: str | bytes) -> tuple[str, object]:
    """Return how a statement names a key that came out of the store, whatever stood there.

    Only as bytes can text be given back that is not UTF-8.
    """
    if isinstance(found, str):
        return "CAST(? AS TEXT)", found.encode("utf-8", "surrogateescape")
    return "?", found


class SQLiteStore(Envelopes):
    """A :class:`~toolgate.journal.store.Store` in one file, or in memory."""

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
        if not isinstance(last, int) or not 0 <= last < LARGEST_SEQ:
            raise JournalTampered(f"the log's last place is {last}: the gate never gave it")
        return last

    def append(self, events: Sequence[Event]) -> None:
        """Add events to the log."""
        with WRITING:
            faults.fail_store()
            if self._write.executemany(INSERT_EVENT, map(_bound, events)).rowcount != len(events):
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
        until: int | None = None,
        action: str | None = None,
        proposal: str | None = None,
        session: str | None = None,
        kinds: Sequence[str] | None = None,
        last: int | None = None,
    ) -> Iterator[Event]:
        """Iterate over the log in order, one consistent view of it."""
        where, values = chosen(after, until, action, proposal, session, kinds)
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
        until: int | None = None,
        action: str | None = None,
        proposal: str | None = None,
        session: str | None = None,
        kinds: Sequence[str] | None = None,
    ) -> int:
        """Return how many events :meth:`events` would give."""
        where, values = chosen(after, until, action, proposal, session, kinds)
        with READING:
            row = self._run(f"SELECT count(*) FROM event WHERE {where}", values).fetchone()
        return int(row[0])

    def insert(self, table: str, row: Row) -> None:
        """Add a row to a projection."""
        with WRITING:
            if self._write.execute(INSERT[table], row).rowcount != 1:
                raise JournalTampered(f"the journal did not take a row of {table}: it was changed")

    def update(self, table: str, row: Row, was: int) -> bool:
        """Replace the row of the same first column if its ``last_seq`` is ``was``; tell so."""
        sql, changed = UPDATE[table]
        with WRITING:
            return self._write.execute(sql, (*changed(row), row[0], was)).rowcount == 1

    def put(self, table: str, row: Row) -> None:
        """Add a row to a projection, or replace the one of the same key."""
        with WRITING:
            if self._write.execute(PUT[table], row).rowcount != 1:
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

    def labels_added(self, session: str) -> list[int]:
        """Return the places of the events that give a session a label, by index, in order."""
        sql = "SELECT seq FROM event WHERE kind = 'label.added' AND session = ? ORDER BY seq"
        with READING:
            return [row[0] for row in self._run(sql, (session,))]

    def last_label_event(self, session: str) -> int:
        """Return the place of the last event that gives a session a label, by index; 0: none."""
        sql = "SELECT ifnull(max(seq), 0) FROM event WHERE kind = 'label.added' AND session = ?"
        with READING:
            return int(self._run(sql, (session,)).fetchone()[0])

    def last_state_event(self, session: str) -> int:
        """Return the place of the last event that writes a session's state, by index; 0: none."""
        sql = f"SELECT ifnull(max(seq), 0) FROM event WHERE {STATE_EVENT} AND session = ?"
        with READING:
            return int(self._run(sql, (session,)).fetchone()[0])

    def state_events(
        self, session: str, *, after: int = 0, newest_first: bool = False
    ) -> Iterator[Event]:
        """Iterate over the events that write a session's state, by index, in the log's order."""
        sql = f"SELECT {EVENT} FROM event WHERE {STATE_EVENT} AND session = ? AND seq > ?"
        order = "DESC" if newest_first else "ASC"
        with READING:
            for row in self._run(f"{sql} ORDER BY seq {order}", (session, after)):
                yield Event(*row)

    def actions_since(self, session: str, uid: str) -> Iterator[Row]:
        """Iterate over a session's actions whose uids are ``uid`` or come after it, by uid."""
        sql = f"SELECT {COLUMNS['action']} FROM action WHERE uid >= ? AND session = ? ORDER BY uid"
        with READING:
            yield from self._run(sql, (uid, session))

    def held(self, project: str, agent: str, most: int) -> int:
        """Return how many actions of an agent are held, counted up to ``most``, by index."""
        sql = (
            "SELECT count(*) FROM (SELECT 1 FROM action"
            " WHERE project = ? AND agent = ? AND status = 'held' LIMIT ?)"
        )
        with READING:
            return int(self._run(sql, (project, agent, most)).fetchone()[0])

    def due(self, after: tuple[int, str], until: int, limit: int) -> list[tuple[int, str, str]]:
        """Return ``(deadline, hold, action)`` of pending holds with deadlines before ``until``.

        They are in the order of their deadlines, then of their ids, those after a deadline and id.
        """
        due, values = _due(after)
        sql = (
            f"SELECT deadline, hold_id, uid FROM {due} AND deadline < ?"
            " ORDER BY deadline, hold_id LIMIT ?"
        )
        with READING:
            return self._run(sql, (*values, until, limit)).fetchall()

    def next_deadline(self, after: tuple[int, str]) -> int | None:
        """Return the first deadline of a pending hold after a deadline and id, by index."""
        due, values = _due(after)
        sql = f"SELECT deadline FROM {due} ORDER BY deadline, hold_id LIMIT 1"
        with READING:
            row = self._run(sql, values).fetchone()
        return row[0] if row is not None and isinstance(row[0], int) else None

    def moved_on(self, holds: Iterable[str]) -> list[str]:
        """Return those of these holds that are there and not pending any more."""
        sql = (
            "SELECT value FROM json_each(?) JOIN hold ON hold_id = value"
            " WHERE status IS NOT 'pending'"
        )
        with READING:
            return [row[0] for row in self._run(sql, (json.dumps(list(holds)),))]

    def holds(self, status: str | None, limit: int, after: str | None) -> list[Row]:
        """Return holds in the order they were opened, of one status or of all, after a hold id."""
        return self._page("hold", "hold_id", status, limit, after)

    def proposals(self, status: str | None, limit: int, after: str | None) -> list[Row]:
        """Return proposals in the order they came, of one status or of all, after a uid."""
        return self._page("proposal", "uid", status, limit, after)

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
        """Return a project's actions by uid, those of a status, a tool, a session, after a uid."""
        beyond, order = ("uid <", "DESC") if newest_first else ("uid >", "ASC")
        asked = {
            "project =": project,
            "status =": status,
            "tool =": tool,
            "session =": session,
        }
        given: dict[str, object] = {
            f"{name} ?": value for name, value in asked.items() if value is not None
        }
        if after is not None:
            place, value = _stored(after)
            given[f"{beyond} {place}"] = value
        where = " AND ".join(given)
        sql = f"SELECT {COLUMNS['action']} FROM action WHERE {where} ORDER BY uid {order} LIMIT ?"
        with READING:
            return self._run(sql, (*given.values(), limit)).fetchall()

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
            place, value = _stored(after)
            wheres.append(f"rowid > (SELECT rowid FROM {table} WHERE {key} = {place})")
            values.append(value)
        if status is not None:
            wheres.append("status = ?")
            values.append(status)
        where = f" WHERE {' AND '.join(wheres)}" if wheres else ""
        sql = f"SELECT {COLUMNS[table]} FROM {table}{where} ORDER BY rowid LIMIT ?"
        with READING:
            return self._run(sql, (*values, limit)).fetchall()

    def damage(self) -> str | None:
        """Return what is wrong with the store's own order, indexes against tables, if anything."""
        with READING:
            found = str(self._run("PRAGMA integrity_check(1)").fetchone()[0])
        return None if found == "ok" else " ".join(found.split())

    def rows(self, table: str) -> Iterator[Row]:
        """Iterate over a whole projection."""
        with READING:
            yield from self._run(f"SELECT {COLUMNS[table]} FROM {table}")

    def _one(self, sql: str, values: Sequence[object]) -> Row | None:
        with READING:
            row: Row | None = self._run(sql, values).fetchone()
            return row
