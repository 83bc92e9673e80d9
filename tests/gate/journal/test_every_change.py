"""Whatever is done to one row, or to two, of a journal with everything in it, `verify` finds it."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from support.driver import Driver
from support.people import ALICE, config
from support.plans import FAIL, call, propose, write
from toolgate.errors import JournalError
from toolgate.journal.events import EventKind
from toolgate.journal.opening import inspect_journal
from toolgate.journal.statements import COLUMNS
from toolgate.journal.verify import verify

DB = ".toolgate/journal.db"
TABLES = ("event", *COLUMNS)
KEYS = {
    "state": 2,
    "result": 2,
    "label": 2,
}
"""How many of a table's first columns name a row; one where nothing is said."""
MANY = settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
DEPLOYMENT = config(
    session="s",
    state={"ready": True},
    budget={"session": {"max_actions": 500}},
    policy={
        "rules": [
            {"id": "writes", "types": ["state_write", "assertion"], "effect": "allow"},
            {"id": "reads", "tools": ["search", "manual"], "effect": "allow"},
            {
                "id": "once",
                "tools": ["count"],
                "when": "session.total_calls > 0",
                "effect": "allow",
            },
            {"id": "pay", "tools": ["pay"], "effect": "hold", "approval": {"approvers": ["alice"]}},
        ]
    },
    tools={
        "search": {"idempotent": True, "rate_limit": {"max_calls": 500, "interval_secs": 1}},
        "count": {"emits": ["counted"]},
    },
)

Rows = dict[str, list[tuple[Any, ...]]]


@dataclass(frozen=True, repr=False)
class History:
    """A journal, and the rows it had at earlier moments."""

    folder: Path
    rows: Rows
    earlier: list[Rows]


def all_rows(path: Path) -> Rows:
    """Return everything that decides something: all but the answers, which nobody trusts."""
    with sqlite3.connect(path) as db:
        found = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in TABLES}
    db.close()
    return found


async def live(folder: Path) -> list[Rows]:
    """Leave a journal with every kind of row, and return its rows after each step."""
    moments = []
    async with Driver(folder, DEPLOYMENT) as gate:
        for name in ("search", "count", "pay", "manual"):
            await gate.tool(name, lambda args: {"found": args})
        await gate.govern("search", {"n": 1}, idempotency_key="k")
        held = [(await gate.govern("pay", {"n": n}))["uid"] for n in range(3)]
        moments.append(all_rows(folder / DB))
        await propose(gate, write("a", "ready", 1), call("b", "search"), idempotency_key="k")
        checkpoint = await gate.request("checkpoint", name="then")
        moments.append(all_rows(folder / DB))
        await gate.govern("count")
        gate.approve(held[0], ALICE, folder)
        await gate.request("resume", uid=held[0])
        await gate.request("withdraw", uid=held[1])
        moments.append(all_rows(folder / DB))
        waiting = await propose(gate, write("a", "new", 1), call("b", "pay"), write("c", "d", 2))
        moments.append(all_rows(folder / DB))
        await propose(gate, write("a", "ready", 2), call("b", "search"), FAIL)
        await gate.request("withdraw", uid=waiting["results"][1]["uid"])
    async with Driver(folder, DEPLOYMENT) as later:
        await later.tool("search", lambda args: {"found": args})
        await later.govern("search", {"n": 2})
        await later.request("restore", checkpoint_id=checkpoint["checkpoint_id"])
    return moments


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> History:
    """Make the journal once."""
    folder = tmp_path_factory.mktemp("history")
    earlier = asyncio.run(live(folder))
    with sqlite3.connect(folder / DB) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    return History(folder, all_rows(folder / DB), earlier)


def found(history: History, folder: Path, changed: Rows) -> str | None:
    """Return what `verify` says of the journal with these rows in it."""
    folder = Path(tempfile.mkdtemp(dir=folder))
    for name in (DB, ".toolgate/journal.key"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(history.folder / name, folder / name)
    with closing(sqlite3.connect(folder / DB)) as db, db:
        for table, values in changed.items():
            db.execute(f"DELETE FROM {table}")
            for row in values:
                db.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
    journal = inspect_journal(Driver(folder, DEPLOYMENT).config)
    try:
        journal.store.snapshot()
        return verify(journal.store, journal.key, lambda seen: None).problem
    finally:
        journal.store.close()
        shutil.rmtree(folder)


def refused(history: History, folder: Path, changed: Rows) -> bool:
    """Tell whether the changed journal is found to be so; what SQLite does not take cannot be."""
    try:
        return found(history, folder, changed) is not None
    except sqlite3.IntegrityError:
        assume(False)
    except JournalError:
        return True
    raise AssertionError


def test_untouched_journal_has_every_kind_of_row_and_verifies(
    history: History, tmp_path: Path
) -> None:
    assert found(history, tmp_path, {}) is None
    assert found(history, tmp_path, history.rows) is None
    assert all(history.rows.values())
    kinds = {row[6] for row in history.rows["event"]}
    assert kinds >= {
        EventKind.LIMIT_COUNTED,
        EventKind.KEY_CLAIMED,
        EventKind.STATE_ROLLED_BACK,
        EventKind.CHECKPOINT_RESTORED,
        EventKind.LABEL_ADDED,
        EventKind.HOLD_RELEASED,
    }


def flipped(value: Any, at: int, bit: int) -> Any:
    """Return a value with one bit flipped; of one without bits, another value."""
    match value:
        case bytes() if value:
            changed = bytearray(value)
            changed[at % len(value)] ^= 1 << bit
            return bytes(changed)
        case str() if value:
            place = at % len(value)
            return value[:place] + chr(ord(value[place]) ^ (1 << bit)) + value[place + 1 :]
        case int():
            return value ^ (1 << (at % 60))
        case None:
            return ""
        case _:
            return b"x" if isinstance(value, bytes) else "x"


ANY = st.integers(0, 5000)
"""Which of some things, counted round and round."""


@MANY
@given(st.sampled_from(TABLES), ANY, ANY, ANY, st.integers(0, 6))
def test_one_bit_of_one_row_is_found(
    history: History, tmp_path: Path, table: str, row: int, column: int, at: int, bit: int
) -> None:
    rows = list(history.rows[table])
    row, column = row % len(rows), column % len(rows[0])
    values = list(rows[row])
    values[column] = flipped(values[column], at, bit)
    rows[row] = tuple(values)
    assert refused(history, tmp_path, {table: rows})


@MANY
@given(data=st.data())
def test_rows_that_were_taken_away_are_missed(
    history: History, tmp_path: Path, data: st.DataObject
) -> None:
    table = data.draw(st.sampled_from(TABLES))
    rows = history.rows[table]
    gone = data.draw(st.sets(st.integers(0, len(rows) - 1), min_size=1, max_size=3))
    kept = [row for place, row in enumerate(rows) if place not in gone]
    if table == "event":
        # Nothing stands at a run's end: the last event may be cut off unseen.
        assume(len(rows) - 1 not in gone)
    assert refused(history, tmp_path, {table: kept})


@MANY
@given(data=st.data())
def test_rows_that_changed_places_or_were_copied_are_found(
    history: History, tmp_path: Path, data: st.DataObject
) -> None:
    table = data.draw(st.sampled_from([t for t in TABLES if len(history.rows[t]) > 1]))
    rows = history.rows[table]
    one, two = data.draw(
        st.lists(st.integers(0, len(rows) - 1), min_size=2, max_size=2, unique=True)
    )
    keys = KEYS.get(table, 1)
    moved = list(rows)
    if data.draw(st.booleans()):
        moved[one] = (*rows[one][:keys], *rows[two][keys:])
        moved[two] = (*rows[two][:keys], *rows[one][keys:])
    else:
        new = 10_000 if table == "event" else "another"
        moved.append((new, *rows[one][1:]))
    assert refused(history, tmp_path, {table: moved})


@MANY
@given(data=st.data())
def test_rows_set_back_to_what_they_were_are_found(
    history: History, tmp_path: Path, data: st.DataObject
) -> None:
    table = data.draw(st.sampled_from(sorted(COLUMNS)))
    keys = KEYS.get(table, 1)
    earlier = data.draw(st.sampled_from(history.earlier))[table]
    old = {row[:keys]: row for row in earlier}
    now = {row[:keys]: row for row in history.rows[table]}
    stale = sorted(key for key, row in old.items() if now.get(key) != row)
    assume(stale)
    back = data.draw(st.lists(st.sampled_from(stale), min_size=1, max_size=3, unique=True))
    rows = {**now, **{key: old[key] for key in back}}
    assert refused(history, tmp_path, {table: list(rows.values())})


@pytest.mark.parametrize("table", [*COLUMNS])
def test_table_set_back_as_a_whole_is_found(history: History, tmp_path: Path, table: str) -> None:
    for earlier in history.earlier:
        if earlier[table] != history.rows[table]:
            assert refused(history, tmp_path, {table: earlier[table]})
