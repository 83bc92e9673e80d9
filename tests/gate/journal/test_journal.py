"""Transactions, the chain they write, and what happens when the store fails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from toolgate.errors import JournalError, JournalKeyError, JournalTampered, JournalUnavailable
from toolgate.journal.chain import GENESIS, JournalKey, hash_of, row_bytes
from toolgate.journal.events import Event, EventKind
from toolgate.journal.journal import (
    Journal,
    Reader,
    RecordChanged,
    Transaction,
    check_key,
    new_id,
)
from toolgate.journal.liveness import Liveness
from toolgate.journal.records import SessionRecord
from toolgate.journal.sqlite import SQLiteStore

KEY = JournalKey(bytes(range(32)))


def open_journal(folder: Path) -> Journal:
    """Open a journal in a folder, started."""
    journal = Journal(SQLiteStore(folder / "j.db"), KEY, Liveness(folder / "runs"))
    journal.start("test")
    return journal


def note(tx: Transaction, what: str) -> int:
    """Append an event that says something."""
    return tx.append(EventKind.TOOL_REGISTERED, {"what": what})


def events(folder: Path) -> list[Event]:
    """Return the whole log."""
    store = SQLiteStore(folder / "j.db", create=False)
    found = list(store.events())
    store.close()
    return found


async def test_what_is_ready_together_is_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = 0
    commit = SQLiteStore.commit

    def counted(self: SQLiteStore) -> None:
        nonlocal commits
        commits += 1
        commit(self)

    journal = open_journal(tmp_path)
    monkeypatch.setattr(SQLiteStore, "commit", counted)
    places = await asyncio.gather(*(journal.transact(lambda tx: note(tx, "x")) for _ in range(50)))
    journal.end("done")
    assert commits == 2
    assert places == list(range(2, 52))


async def test_unit_that_raises_leaves_no_trace_and_the_others_alone(tmp_path: Path) -> None:
    def fails(tx: Transaction) -> None:
        tx.insert(SessionRecord("s", "p", "a", 1, note(tx, "never")))
        tx.flush()
        raise LookupError("no")

    journal = open_journal(tmp_path)
    results = await asyncio.gather(
        journal.transact(lambda tx: note(tx, "before")),
        journal.transact(fails),
        journal.transact(lambda tx: note(tx, "after")),
        return_exceptions=True,
    )
    with pytest.raises(LookupError):
        await journal.transact(fails)
    await journal.transact(lambda tx: note(tx, "last"))
    missing = journal.reader.session("s")
    journal.end("done")
    assert results[0] == 2
    assert isinstance(results[1], LookupError)
    assert results[2] == 3
    assert missing is None
    assert [e.data for e in events(tmp_path)][1:4] == [
        b'{"what":"before"}',
        b'{"what":"after"}',
        b'{"what":"last"}',
    ]


async def test_each_event_names_the_hash_before_it_and_carries_a_mac(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    await journal.transact(lambda tx: note(tx, "a"))
    journal.end("done")
    log = events(tmp_path)
    assert [event.kind for event in log] == ["run.started", "tool.registered", "run.ended"]
    assert [event.prev for event in log] == [GENESIS, log[0].hash, log[1].hash]
    assert all(hash_of(event) == event.hash and KEY.mac(event.hash) == event.mac for event in log)


async def test_two_runs_share_one_log_and_keep_chains_of_their_own(tmp_path: Path) -> None:
    one, two = open_journal(tmp_path), open_journal(tmp_path)
    for n in range(5):
        await one.transact(lambda tx, n=n: note(tx, f"one {n}"))
        await two.transact(lambda tx, n=n: note(tx, f"two {n}"))
    one.end("done")
    two.end("done")
    log = events(tmp_path)
    assert [event.seq for event in log] == list(range(1, 15))
    for run in (one.run, two.run):
        assert [event.n for event in log if event.run == run] == list(range(1, 8))


async def test_lock_held_by_another_process_is_waited_for_without_blocking_the_loop(
    tmp_path: Path,
) -> None:
    journal = open_journal(tmp_path)
    other = SQLiteStore(tmp_path / "j.db")
    other.begin()
    waiting = journal.transact(lambda tx: note(tx, "x"))
    for _ in range(20):
        await asyncio.sleep(0)
    assert not waiting.done()
    other.rollback()
    assert await waiting == 2
    journal.end("done")
    other.close()


async def test_lock_that_is_never_given_up_refuses_the_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolgate.journal.journal.LOCK_PATIENCE", 0.01)
    journal = open_journal(tmp_path)
    other = SQLiteStore(tmp_path / "j.db")
    other.begin()
    with pytest.raises(JournalUnavailable, match="another process"):
        await journal.transact(lambda tx: note(tx, "x"))
    other.rollback()
    assert await journal.transact(lambda tx: note(tx, "y")) == 2
    journal.end("done")
    other.close()


async def test_failed_commit_fails_every_unit_and_the_chain_goes_on_unbroken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: SQLiteStore) -> None:
        raise JournalUnavailable("disk full")

    journal = open_journal(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr(SQLiteStore, "commit", full)
        results = await asyncio.gather(
            *(journal.transact(lambda tx: note(tx, "lost")) for _ in range(3)),
            return_exceptions=True,
        )
    assert all(isinstance(result, JournalUnavailable) for result in results)
    assert await journal.transact(lambda tx: note(tx, "kept")) == 2
    journal.end("done")
    assert [event.n for event in events(tmp_path)] == [1, 2, 3]


async def test_record_that_somebody_else_moved_on_is_not_overwritten(tmp_path: Path) -> None:
    from toolgate.journal.records import ActionRecord

    record = ActionRecord(
        "u", "p", "a", "s", "t", b"{}", "c", None, "executing", None, "r", 1, None, 1, 7
    )
    journal = open_journal(tmp_path)
    await journal.transact(lambda tx: tx.insert(record))
    await journal.transact(lambda tx: tx.update(record._replace(last_seq=8), 7))
    with pytest.raises(RecordChanged):
        await journal.transact(lambda tx: tx.update(record._replace(last_seq=9), 7))
    kept = journal.reader.action("u")
    journal.end("done")
    assert kept is not None
    assert kept.last_seq == 8


def test_time_never_goes_back_in_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from support.clock import MINUTE, Clock

    clock = Clock(monkeypatch)
    journal = open_journal(tmp_path)
    clock.forward(-60 * MINUTE)
    journal.write_now(lambda tx: note(tx, "later"))
    journal.end("done")
    times = [event.at for event in events(tmp_path)]
    assert times == sorted(times)


def test_row_read_with_another_key_is_refused(tmp_path: Path) -> None:
    journal = open_journal(tmp_path)
    journal.write_now(lambda tx: tx.insert(SessionRecord("s", "p", "a", 1, 1)))
    other = Reader(SQLiteStore(tmp_path / "j.db"), JournalKey(bytes(32)))
    assert journal.reader.session("s") is not None
    with pytest.raises(JournalTampered):
        other.session("s")
    other.store.close()
    journal.end("done")


def test_journal_remembers_its_key_and_refuses_another(tmp_path: Path) -> None:
    open_journal(tmp_path).end("done")
    open_journal(tmp_path).end("done")
    store = SQLiteStore(tmp_path / "j.db")
    other = Journal(store, JournalKey(bytes(32)), Liveness(tmp_path / "runs"))
    with pytest.raises(JournalKeyError, match="restore the right key"):
        other.start("test")
    with pytest.raises(JournalKeyError):
        check_key(store, JournalKey(bytes(32)))
    other.close()


def test_journal_of_a_newer_program_is_refused(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "j.db")
    store._run("PRAGMA user_version = 99")
    store.close()
    with pytest.raises(JournalError, match="newer"):
        SQLiteStore(tmp_path / "j.db")


def test_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    (tmp_path / "j.db").write_text("this is not a database, whatever its name says" * 100)
    with pytest.raises(JournalUnavailable, match="not a database"):
        SQLiteStore(tmp_path / "j.db")


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "new" / "j.db")
    store.begin()
    store.set_meta("a", "b")
    store.commit()
    modes = {p.name: p.stat().st_mode & 0o777 for p in (tmp_path / "new").iterdir()}
    folder = (tmp_path / "new").stat().st_mode & 0o777
    store.close()
    assert set(modes.values()) == {0o600}
    assert folder == 0o700


def test_looking_creates_nothing(tmp_path: Path) -> None:
    with pytest.raises(JournalUnavailable, match="no journal"):
        SQLiteStore(tmp_path / "sub" / "j.db", create=False)
    assert list(tmp_path.iterdir()) == []


def test_dead_run_is_told_from_a_living_one(tmp_path: Path) -> None:
    living, dead = Liveness(tmp_path), Liveness(tmp_path)
    living.hold("one")
    dead.hold("two")
    dead.release()
    watcher = Liveness(tmp_path)
    assert watcher.alive("one")
    assert living.alive("one")
    assert not watcher.alive("two")
    assert not watcher.alive("never-was")
    living.release()
    assert not watcher.alive("one")


def test_rows_that_differ_have_different_bytes_under_their_mac() -> None:
    rows = [("1", None), (1, None), (b"1", None), ("1", "None"), ("1, None",), ("1",), ('1"', ",")]
    assert len({row_bytes("action", row) for row in rows}) == len(rows)
    assert row_bytes("action", ("a",)) != row_bytes("hold", ("a",))


def test_identifiers_sort_by_their_time_and_never_repeat() -> None:
    ids = [new_id(1_800_000_000_000_000 + n * 1000) for n in range(1000)]
    assert ids == sorted(ids)
    assert len({new_id(1_800_000_000_000_000) for _ in range(1000)}) == 1000
    assert {len(identifier) for identifier in ids} == {24}


def test_hmac_is_the_standards() -> None:
    import hashlib
    import hmac

    secret, message = bytes(range(32)), b"message"
    assert JournalKey(secret).mac(message) == hmac.digest(secret, message, hashlib.sha256)
