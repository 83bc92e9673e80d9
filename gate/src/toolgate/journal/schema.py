"""What an SQLite journal's database holds, how it got there, and that it holds nothing else."""

from __future__ import annotations

import sqlite3
from functools import cache
from typing import Final

MIGRATIONS: Final = {
    # What is here has run on people's journals: it never changes, a new number is added.
    1: """
    CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
    CREATE TABLE event (
        seq INTEGER PRIMARY KEY, run TEXT NOT NULL, n INTEGER NOT NULL, at INTEGER NOT NULL,
        session TEXT, action TEXT, kind TEXT NOT NULL, data BLOB NOT NULL,
        prev BLOB NOT NULL, hash BLOB NOT NULL, mac BLOB NOT NULL);
    CREATE INDEX event_action ON event (action) WHERE action IS NOT NULL;
    CREATE TABLE action (
        uid TEXT NOT NULL PRIMARY KEY, project TEXT NOT NULL, agent TEXT NOT NULL,
        session TEXT NOT NULL, tool TEXT NOT NULL, args BLOB NOT NULL, content TEXT NOT NULL,
        idempotency_key TEXT, status TEXT NOT NULL, kind TEXT, run TEXT,
        attempts INTEGER NOT NULL, hold TEXT, created_at INTEGER NOT NULL,
        last_seq INTEGER NOT NULL, mac BLOB NOT NULL) WITHOUT ROWID;
    CREATE UNIQUE INDEX action_key ON action (project, agent, idempotency_key)
        WHERE idempotency_key IS NOT NULL;
    CREATE INDEX action_asked ON action (session, content)
        WHERE status = 'held' OR kind = 'approval_denied';
    CREATE INDEX action_executing ON action (run) WHERE status = 'executing';
    CREATE TABLE hold (
        hold_id TEXT NOT NULL UNIQUE, uid TEXT NOT NULL, session TEXT NOT NULL, tool TEXT NOT NULL,
        status TEXT NOT NULL, requirement BLOB NOT NULL, rules BLOB NOT NULL, reason TEXT NOT NULL,
        digest TEXT NOT NULL, policy_digest TEXT NOT NULL, opened_at INTEGER NOT NULL,
        deadline INTEGER, seen INTEGER NOT NULL, last_seq INTEGER NOT NULL, mac BLOB NOT NULL);
    CREATE INDEX hold_status ON hold (status);
    CREATE TABLE session (
        session TEXT NOT NULL UNIQUE, project TEXT NOT NULL, agent TEXT NOT NULL,
        opened_at INTEGER NOT NULL, last_seq INTEGER NOT NULL, mac BLOB NOT NULL);
    CREATE TABLE approval (
        seq INTEGER PRIMARY KEY, hold TEXT NOT NULL, envelope BLOB NOT NULL,
        at INTEGER NOT NULL);
    CREATE INDEX approval_hold ON approval (hold);
    """,
    2: """
    CREATE TABLE proposal (
        uid TEXT NOT NULL UNIQUE, project TEXT NOT NULL, agent TEXT NOT NULL,
        session TEXT NOT NULL, proposal_id TEXT NOT NULL, document BLOB NOT NULL,
        idempotency_key TEXT, status TEXT NOT NULL, run TEXT, created_at INTEGER NOT NULL,
        last_seq INTEGER NOT NULL, mac BLOB NOT NULL);
    CREATE UNIQUE INDEX proposal_key ON proposal (project, agent, idempotency_key)
        WHERE idempotency_key IS NOT NULL;
    CREATE INDEX proposal_running ON proposal (run) WHERE status = 'running';
    CREATE TABLE state (
        session TEXT NOT NULL, key TEXT NOT NULL, value BLOB, version INTEGER NOT NULL,
        last_seq INTEGER NOT NULL, mac BLOB NOT NULL, PRIMARY KEY (session, key)) WITHOUT ROWID;
    CREATE TABLE result (
        session TEXT NOT NULL, content TEXT NOT NULL, uid TEXT NOT NULL, at INTEGER NOT NULL,
        last_seq INTEGER NOT NULL, mac BLOB NOT NULL, PRIMARY KEY (session, content))
        WITHOUT ROWID;
    CREATE TABLE usage (
        name TEXT NOT NULL PRIMARY KEY, data BLOB NOT NULL, last_seq INTEGER NOT NULL,
        mac BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE checkpoint (
        checkpoint TEXT NOT NULL UNIQUE, session TEXT NOT NULL, name TEXT NOT NULL,
        state BLOB NOT NULL, created_at INTEGER NOT NULL, last_seq INTEGER NOT NULL,
        mac BLOB NOT NULL);
    """,
    3: """
    CREATE TABLE label (
        session TEXT NOT NULL, label TEXT NOT NULL, at INTEGER NOT NULL,
        last_seq INTEGER NOT NULL, mac BLOB NOT NULL, PRIMARY KEY (session, label)) WITHOUT ROWID;
    CREATE INDEX event_label ON event (session) WHERE kind = 'label.added';
    """,
    4: """
    CREATE INDEX event_state ON event (session)
        WHERE kind IN ('state.changed', 'state.rolled_back', 'checkpoint.restored');
    CREATE INDEX hold_due ON hold (deadline, hold_id)
        WHERE status = 'pending' AND deadline IS NOT NULL;
    CREATE INDEX action_held ON action (project, agent) WHERE status = 'held';
    """,
    # Whether an event belongs to an index is asked for each that is written, and to ask with IN
    # costs as much as to write it.
    5: """
    DROP INDEX event_state;
    CREATE INDEX event_state ON event (session)
        WHERE kind = 'state.changed' OR kind = 'state.rolled_back' OR kind = 'checkpoint.restored';
    """,
}
SCHEMA_VERSION: Final = max(MIGRATIONS)
"""The version this program knows (``PRAGMA user_version``); a newer one is refused."""

SCHEMA: Final = "SELECT type, name, sql FROM sqlite_master"
"""Reads what a database holds."""

NOT_AUTHORIZED: Final = "not authorized"
"""SQLite's words for a statement that :func:`authorize` has refused."""


def authorize(
    action: int, first: str | None, second: str | None, database: str | None, inside: str | None
) -> int:
    """Refuse every statement that would act through a trigger or a view.

    SQLite asks when it compiles a statement, and again when the schema has changed since.
    """
    return sqlite3.SQLITE_OK if inside is None else sqlite3.SQLITE_DENY


@cache
def expected_schema(version: int = SCHEMA_VERSION) -> frozenset[tuple[str, str, str | None]]:
    """Return what a database holds that the migrations up to ``version`` made, and nothing else."""
    db = sqlite3.connect(":memory:", isolation_level=None)
    try:
        for number in range(1, version + 1):
            db.executescript(MIGRATIONS[number])
        return frozenset(db.execute(SCHEMA).fetchall())
    finally:
        db.close()
