"""The write-ahead log is copied back and begun anew, whatever else goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from toolgate.journal.chain import JournalKey
from toolgate.journal.database import PAGE_BYTES, checkpoint
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Journal
from toolgate.journal.liveness import Liveness
from toolgate.journal.sqlite import SQLiteStore

KEY = JournalKey(bytes(range(32)))


def started(path: Path) -> tuple[Journal, SQLiteStore]:
    """Open a journal, and return its store too."""
    store = SQLiteStore(path)
    journal = Journal(store, KEY, Liveness(None))
    journal.start("test")
    return journal, store


def commit(journal: Journal, times: int) -> None:
    """Commit that many events, one by one."""
    for _ in range(times):
        journal.write_now(lambda tx: tx.append(EventKind.TOOL_REGISTERED, {"text": "x" * 500}))


def frames(store: SQLiteStore) -> int:
    """Return how many pages lie in the WAL, read from outside any transaction."""
    return int(store._run("PRAGMA wal_checkpoint(PASSIVE)").fetchone()[1])


def test_write_after_a_checkpoint_begins_the_wal_anew(tmp_path: Path) -> None:
    journal, store = started(tmp_path / "j.db")
    commit(journal, 100)
    checkpoint(tmp_path / "j.db")
    commit(journal, 1)
    assert frames(store) < 10
    assert store.last_seq() == 102
    journal.close()


def test_wal_of_a_long_run_stays_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    length = 1 << 18
    monkeypatch.setattr("toolgate.journal.connection.CHECKPOINT_BYTES", length)
    monkeypatch.setattr("toolgate.journal.database.CHECKPOINT_BYTES", length)
    journal, store = started(tmp_path / "j.db")
    longest = 0
    for _ in range(12):
        commit(journal, 128)
        longest = max(longest, (tmp_path / "j.db-wal").stat().st_size)
        if store._checkpoint is not None:
            store._checkpoint.join(timeout=10)
    written = store.last_seq() * PAGE_BYTES
    journal.close()
    assert written > 4 * longest
    assert longest < 4 * length


def test_checkpoint_does_not_wait_for_somebody_who_reads(tmp_path: Path) -> None:
    journal, store = started(tmp_path / "j.db")
    commit(journal, 10)
    reader = SQLiteStore(tmp_path / "j.db", create=False)
    reader.snapshot()
    commit(journal, 10)
    checkpoint(tmp_path / "j.db")
    commit(journal, 10)
    assert reader.last_seq() == 11
    reader.rollback()
    assert reader.last_seq() == store.last_seq() == 31
    reader.close()
    journal.close()


def test_checkpoint_gives_up_while_somebody_writes_and_loses_nothing(tmp_path: Path) -> None:
    journal, store = started(tmp_path / "j.db")
    other = SQLiteStore(tmp_path / "j.db")
    other.begin()
    other.set_meta("a", "b")
    checkpoint(tmp_path / "j.db")
    other.commit()
    other.close()
    commit(journal, 1)
    assert store.meta("a") == "b"
    assert store.last_seq() == 2
    journal.close()


def test_checkpoint_of_no_database_is_no_error_and_makes_none(tmp_path: Path) -> None:
    (tmp_path / "j.db").write_text("not a database, whatever its name says " * 100)
    checkpoint(tmp_path / "j.db")
    checkpoint(tmp_path / "moved.db")
    checkpoint(tmp_path / "no folder" / "j.db")
    assert [path.name for path in tmp_path.iterdir()] == ["j.db"]


@pytest.mark.parametrize("name", ["a b?c#d%20.db", "ä:1.db"])
def test_checkpoint_finds_a_file_of_any_name(tmp_path: Path, name: str) -> None:
    journal, store = started(tmp_path / name)
    commit(journal, 100)
    checkpoint(tmp_path / name)
    commit(journal, 1)
    assert frames(store) < 10
    journal.close()


def test_new_journal_has_small_pages(tmp_path: Path) -> None:
    journal, store = started(tmp_path / "j.db")
    assert store._run("PRAGMA page_size").fetchone() == (PAGE_BYTES,)
    journal.close()
