"""A journal that an older program made is brought to this program's schema, whole, or refused."""

from __future__ import annotations

import sqlite3
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.people import ALICE, config
from toolgate.desk import Desk
from toolgate.errors import JournalError, JournalTampered
from toolgate.journal.opening import inspect_journal
from toolgate.journal.schema import MIGRATIONS, SCHEMA, SCHEMA_VERSION, expected_schema
from toolgate.journal.sqlite import SQLiteStore
from toolgate.journal.verify import Report, verify

OLD_TABLES = ("meta", "event", "action", "hold", "session", "approval")


def made_by_version_1(path: Path, *, rows_from: Path | None = None) -> None:
    """Make the database that the first version made, with these rows."""
    path.unlink(missing_ok=True)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(MIGRATIONS[1])
        db.execute("PRAGMA user_version = 1")
        if rows_from is not None:
            db.execute("ATTACH ? AS source", (str(rows_from),))
            for table in OLD_TABLES:
                db.execute(f"INSERT INTO {table} SELECT * FROM source.{table}")
    db.close()


async def history(folder: Path) -> tuple[str, str]:
    """Leave an old journal with calls that ran, that were refused, and one held; return uids."""
    async with Driver(folder, config()) as gate:
        await gate.tool("search", lambda args: "found")
        await gate.tool("pay", lambda args: "paid")
        done = (await gate.govern("search", {"q": 1}, idempotency_key="k"))["uid"]
        await gate.govern("nothing", {})
        held = (await gate.govern("pay", {"amount": 1}))["uid"]
    journal = folder / ".toolgate/journal.db"
    journal.rename(folder / "new.db")
    for rest in ("-wal", "-shm"):
        journal.with_name(journal.name + rest).unlink(missing_ok=True)
    made_by_version_1(journal, rows_from=folder / "new.db")
    return done, held


def rows(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """Return everything the old tables hold."""
    with sqlite3.connect(path) as db:
        found = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in OLD_TABLES}
    db.close()
    return found


def verified(folder: Path) -> Report:
    """Verify the journal in a folder."""
    journal = inspect_journal(Driver(folder, config()).config)
    report = verify(journal.store, journal.key, lambda seen: None)
    journal.store.close()
    return report


async def test_upgrade_keeps_every_row_and_the_journal_verifies(tmp_path: Path) -> None:
    await history(tmp_path)
    path = tmp_path / ".toolgate/journal.db"
    before = rows(path)
    SQLiteStore(path).close()
    assert rows(path) == before
    assert all(before[table] for table in OLD_TABLES if table != "approval")
    assert verified(tmp_path).problem is None
    SQLiteStore(path).close()
    assert rows(path) == before


async def test_gate_goes_on_where_the_older_one_stopped(tmp_path: Path) -> None:
    done, held = await history(tmp_path)
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "found again")
        await gate.tool("pay", lambda args: "paid")
        again = await gate.govern("search", {"q": 1}, idempotency_key="k")
        gate.approve(held, ALICE, tmp_path)
        paid = await gate.request("resume", uid=held)
    assert (again["uid"], again["output"], again["replayed"]) == (done, "found", True)
    assert paid["output"] == "paid"
    assert [tool for tool, _ in gate.ran] == ["pay"]
    assert verified(tmp_path).problem is None


async def test_looking_upgrades_nothing_and_says_what_to_do(tmp_path: Path) -> None:
    await history(tmp_path)
    path = tmp_path / ".toolgate/journal.db"
    with pytest.raises(JournalError, match=r"older Toolgate.*start a gate"):
        Desk(Driver(tmp_path, config()).config)
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
        assert set(db.execute(SCHEMA).fetchall()) == expected_schema(1)
    db.close()


def test_database_is_the_same_however_it_came_to_this_schema(tmp_path: Path) -> None:
    made_by_version_1(tmp_path / "old.db")
    for name in ("old.db", "new.db"):
        SQLiteStore(tmp_path / name).close()
        with sqlite3.connect(tmp_path / name) as db:
            assert set(db.execute(SCHEMA).fetchall()) == expected_schema()
            assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
        db.close()


def test_old_journal_with_something_planted_in_it_is_not_upgraded(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    made_by_version_1(path)
    with sqlite3.connect(path) as db:
        db.execute("CREATE TRIGGER t BEFORE INSERT ON event BEGIN SELECT RAISE(IGNORE); END")
    db.close()
    with pytest.raises(JournalTampered, match="trigger t"):
        SQLiteStore(path)
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (1,)
    db.close()


def test_somebody_elses_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (a)")
    db.close()
    with pytest.raises(JournalTampered, match="theirs"):
        SQLiteStore(path)
    with sqlite3.connect(path) as db:
        assert [row[1] for row in db.execute(SCHEMA)] == ["theirs"]
    db.close()


def test_upgrade_that_fails_half_way_leaves_the_old_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "j.db"
    made_by_version_1(path)
    with monkeypatch.context() as patched:
        patched.setitem(MIGRATIONS, 2, MIGRATIONS[2] + "CREATE TABLE event (a);")
        with pytest.raises(JournalError, match="already exists"):
            SQLiteStore(path)
    with sqlite3.connect(path) as db:
        assert set(db.execute(SCHEMA).fetchall()) == expected_schema(1)
    db.close()
    SQLiteStore(path).close()


@pytest.mark.parametrize("old", [False, True], ids=["new", "old"])
def test_gates_that_start_at_once_upgrade_it_once(tmp_path: Path, old: bool) -> None:
    if old:
        made_by_version_1(tmp_path / "j.db")
    with ThreadPoolExecutor(8) as pool:
        for store in pool.map(lambda _: SQLiteStore(tmp_path / "j.db"), range(8)):
            store.close()
    SQLiteStore(tmp_path / "j.db", create=False).close()
