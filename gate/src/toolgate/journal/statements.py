"""The SQL of the embedded store: one statement for each thing that is done to a projection.

A projection's columns are its record's fields in their order, and the MAC.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final

from toolgate.journal.events import Event
from toolgate.journal.records import TABLES

EVENT: Final = ", ".join(Event._fields)
COLUMNS: Final = {table: ", ".join((*record._fields, "mac")) for record, table in TABLES.items()}

_KEYS: Final = {
    "action": ("uid",),
    "hold": ("hold_id",),
    "session": ("session",),
    "proposal": ("uid",),
    "state": ("session", "key"),
    "result": ("session", "content"),
    "usage": ("name",),
    "checkpoint": ("checkpoint",),
    "label": ("session", "label"),
}
"""What names a row: always its first columns."""
_MUTABLE: Final = {
    "action": ("args", "status", "kind", "run", "attempts", "hold", "last_seq", "mac"),
    "hold": (
        "status",
        "requirement",
        "rules",
        "reason",
        "digest",
        "policy_digest",
        "opened_at",
        "deadline",
        "seen",
        "last_seq",
        "mac",
    ),
    "proposal": ("document", "status", "run", "last_seq", "mac"),
}
"""What an update changes; the rest of a row is what it was when it was inserted."""
_PUT: Final = ("state", "result", "usage", "label")
"""The projections whose rows are replaced as they are, whatever stood there."""


def _values(columns: str) -> str:
    return ", ".join("?" for _ in columns.split(", "))


def _where(table: str) -> str:
    return " AND ".join(f"{column} = ?" for column in _KEYS[table])


def _insert(table: str) -> str:
    return f"INSERT INTO {table} ({COLUMNS[table]}) VALUES ({_values(COLUMNS[table])})"


def _update(table: str) -> tuple[str, Callable[[Any], tuple[Any, ...]]]:
    changed = ", ".join(_MUTABLE[table])
    places = [COLUMNS[table].split(", ").index(name) for name in _MUTABLE[table]]
    sql = (
        f"UPDATE {table} SET ({changed}) = ({_values(changed)})"
        f" WHERE {_where(table)} AND last_seq = ?"
    )
    return sql, itemgetter(*places)


def _put(table: str) -> str:
    rest = [name for name in COLUMNS[table].split(", ") if name not in _KEYS[table]]
    return (
        f"{_insert(table)} ON CONFLICT ({', '.join(_KEYS[table])}) DO UPDATE SET"
        f" ({', '.join(rest)}) = ({', '.join(f'excluded.{name}' for name in rest)})"
    )


STATE_EVENT: Final = (
    "(kind = 'state.changed' OR kind = 'state.rolled_back' OR kind = 'checkpoint.restored')"
)
"""The events that write state, in the very words of their index: SQLite compares these."""
INSERT_EVENT: Final = f"INSERT INTO event ({EVENT}) VALUES ({_values(EVENT)})"
INSERT: Final = {table: _insert(table) for table in COLUMNS}
UPDATE: Final = {table: _update(table) for table in _MUTABLE}
"""The statement, and what picks the changed columns out of a row: then come its key and ``was``."""
PUT: Final = {table: _put(table) for table in _PUT}
GET: Final = {
    table: f"SELECT {columns} FROM {table} WHERE {_where(table)}"
    for table, columns in COLUMNS.items()
}
DELETE: Final = {
    table: f"DELETE FROM {table} WHERE {_where(table)}" for table in ("result", "label")
}


def chosen(
    after: int,
    until: int | None,
    action: str | None,
    proposal: str | None,
    session: str | None,
    kinds: Sequence[str] | None,
) -> tuple[str, list[object]]:
    """Return the condition on the events that are asked for, and its values."""
    wheres, values = ["seq > ?"], list[object]((after,))
    if until is not None:
        wheres.append("seq <= ?")
        values.append(until)
    if kinds is not None:
        wheres.append(f"kind IN ({', '.join('?' * len(kinds))})")
        values += kinds
    for column, value in (("action", action), ("session", session)):
        if value is not None:
            wheres.append(f"{column} = ?")
            values.append(value)
    if proposal is not None:
        wheres.append("(action = ? OR (action > ? AND action < ?))")
        values += (proposal, *uids_under(proposal))
    return " AND ".join(wheres), values


def uids_under(proposal: str) -> tuple[str, str]:
    """Return the bounds, both outside, of the uids ``<proposal>-…``: a full stop follows it."""
    return f"{proposal}-", f"{proposal}."
