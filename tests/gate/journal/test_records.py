"""Every record comes back as it was written, or not at all."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolgate import jsonvalue
from toolgate.errors import JournalTampered, JournalUnavailable
from toolgate.journal.chain import JournalKey
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Journal, Reader, RecordChanged, Transaction
from toolgate.journal.liveness import Liveness
from toolgate.journal.records import (
    TABLES,
    ActionRecord,
    CheckpointRecord,
    HoldRecord,
    ProposalRecord,
    Record,
    ResultRecord,
    SessionRecord,
    StateRecord,
    UsageRecord,
)
from toolgate.journal.sqlite import SQLiteStore

KEY = JournalKey(bytes(range(32)))

ACTION = ActionRecord(
    "u", "p", "a", "s", "t", b"{}", "c", "k", "executing", None, "r", 1, None, 1, 7
)
PROPOSAL = ProposalRecord("p1", "p", "a", "s", "mine", b'{"actions":[]}', "k", "running", "r", 1, 7)
STATE = StateRecord("s", "ready", b"true", 7, 7)
RECORDS: list[tuple[Record, Callable[[Reader], Record | None]]] = [
    (ACTION, lambda reader: reader.action("u")),
    (
        HoldRecord("h", "u", "s", "t", "pending", b"{}", b"[]", "why", "d", "pd", 1, None, 0, 7),
        lambda reader: reader.hold("h"),
    ),
    (SessionRecord("s", "p", "a", 1, 7), lambda reader: reader.session("s")),
    (PROPOSAL, lambda reader: reader.proposal("p1")),
    (PROPOSAL, lambda reader: reader.proposal_by_key("p", "a", "k")),
    (STATE, lambda reader: reader.state("s", "ready")),
    (STATE._replace(value=None), lambda reader: reader.state("s", "ready")),
    (ResultRecord("s", "c", "u", 1, 7), lambda reader: reader.result("s", "c")),
    (UsageRecord("tool:pay", b"{}", 7), lambda reader: reader.usage("tool:pay")),
    (
        CheckpointRecord("c1", "s", "before", b'{"a":1}', 1, 7),
        lambda reader: reader.checkpoint("c1"),
    ),
]
NAMES = [f"{TABLES[type(record)]} {n}" for n, (record, _) in enumerate(RECORDS)]


def started(path: Path | None) -> Journal:
    """Open a journal in a file, or in memory."""
    journal = Journal(SQLiteStore(path), KEY, Liveness(None))
    journal.start("test")
    return journal


@pytest.fixture(params=["file", "memory"])
def journal(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Journal]:
    """Give a started journal of either kind."""
    opened = started(tmp_path / "j.db" if request.param == "file" else None)
    yield opened
    opened.close()


def write(journal: Journal, *records: Record) -> None:
    """Insert records in one transaction, each with the event that it needs."""

    def insert(tx: Transaction) -> None:
        for record in records:
            match record:
                case StateRecord():
                    put_state(tx, record)
                case UsageRecord():
                    tx.count(record.name, jsonvalue.parse(record.data), None, "s")
                case _:
                    tx.insert(record)

    journal.write_now(insert)


def put_state(tx: Transaction, record: StateRecord) -> StateRecord:
    """Write a key of a session's state, as the kernel does, and return what stands there."""
    data: dict[str, Any] = {"changes": [record.key]}
    seq = tx.append_state(EventKind.STATE_CHANGED, data, session=record.session)
    record = record._replace(last_seq=seq)
    tx.put(record)
    return record


@pytest.mark.parametrize(("record", "read"), RECORDS, ids=NAMES)
def test_record_comes_back_as_it_was_written(
    journal: Journal, record: Record, read: Callable[[Reader], Record | None]
) -> None:
    assert read(journal.reader) is None
    write(journal, record)
    found = read(journal.reader)
    assert found is not None
    if isinstance(record, (StateRecord, UsageRecord)):
        record = record._replace(last_seq=2)
    assert found == record


def changes(record: Record) -> Iterator[tuple[str, Any]]:
    """Yield another value for each column."""
    for column, value in zip(record._fields, record, strict=True):
        match value:
            case int():
                yield column, value + 1
                yield column, "one"
            case str():
                yield column, f"{value}x"
            case bytes():
                yield column, b"null"
            case None:
                yield column, b"null"
    yield "mac", bytes(32)
    yield "mac", "text"


@pytest.mark.parametrize(
    ("record", "column", "value"),
    [
        pytest.param(record, column, value, id=f"{TABLES[type(record)]} {column} {value!r}")
        for record, _ in RECORDS
        for column, value in changes(record)
    ],
)
def test_row_that_was_changed_by_hand_is_refused(
    tmp_path: Path, record: Record, column: str, value: Any
) -> None:
    table = TABLES[type(record)]
    journal = started(tmp_path / "j.db")
    write(journal, record)
    with sqlite3.connect(tmp_path / "j.db") as db:
        db.execute(f"UPDATE {table} SET {column} = ?", (value,))
        keys = [row[1] for row in db.execute(f"PRAGMA table_info({table})") if row[5]]
        found = db.execute(f"SELECT {', '.join(keys) or record._fields[0]} FROM {table}").fetchone()
    db.close()
    reader: Any = journal.reader
    with pytest.raises(JournalTampered, match="does not verify"):
        getattr(reader, table)(*found)
    journal.close()


def test_genuine_row_copied_to_another_key_is_refused(tmp_path: Path) -> None:
    journal = started(tmp_path / "j.db")
    ready = journal.write_now(lambda tx: put_state(tx, STATE))
    with sqlite3.connect(tmp_path / "j.db") as db:
        db.execute(
            "INSERT INTO state SELECT session, 'paid', value, version, last_seq, mac FROM state"
        )
    db.close()
    assert journal.reader.state("s", "ready") == ready
    with pytest.raises(JournalTampered):
        journal.reader.state("s", "paid")
    with pytest.raises(JournalTampered):
        journal.reader.states("s")
    journal.close()


def test_store_that_answers_with_another_row_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = started(tmp_path / "j.db")
    other = PROPOSAL._replace(uid="p2", idempotency_key=None)
    write(journal, PROPOSAL, other)
    row = journal.reader.store.get("proposal", "p2")
    monkeypatch.setattr(SQLiteStore, "get", lambda self, table, *key: row)
    monkeypatch.setattr(SQLiteStore, "proposal_by_key", lambda self, *key: row)
    assert journal.reader.proposal("p2") == other
    with pytest.raises(JournalTampered, match="answered"):
        journal.reader.proposal("p1")
    with pytest.raises(JournalTampered, match="does not carry the key"):
        journal.reader.proposal_by_key("p", "a", "k")
    journal.close()


def test_proposal_moves_on_once_from_where_it_stood(journal: Journal) -> None:
    write(journal, PROPOSAL)
    done = PROPOSAL._replace(status="completed", run=None, last_seq=9)
    journal.write_now(lambda tx: tx.update(done, 7))
    assert journal.reader.proposal("p1") == done
    with pytest.raises(RecordChanged):
        journal.write_now(lambda tx: tx.update(done._replace(last_seq=10), 7))
    assert journal.reader.proposal("p1") == done


def test_idempotency_key_names_one_proposal(journal: Journal) -> None:
    write(journal, PROPOSAL, ACTION, PROPOSAL._replace(uid="p2", agent="b"))
    write(journal, PROPOSAL._replace(uid="p3", idempotency_key=None))
    write(journal, PROPOSAL._replace(uid="p4", idempotency_key=None))
    with pytest.raises(JournalUnavailable, match="UNIQUE"):
        write(journal, PROPOSAL._replace(uid="p5"))
    named = journal.reader.proposal_by_key("p", "b", "k")
    assert named is not None
    assert named.uid == "p2"
    assert journal.reader.proposal_by_key("q", "a", "k") is None


def test_actions_of_a_proposal_are_those_under_its_uid(journal: Journal) -> None:
    ours = ["p1-1", "p1-10", "p1-2", "p1-2c"]
    others = ["p1", "p1.", "p1/1", "p1,1", "p10-1", "p-1", "p11", "p2-1", "P1-1"]
    for uid in [*others, *reversed(ours)]:
        write(journal, ACTION._replace(uid=uid, idempotency_key=None))
    assert [action.uid for action in journal.reader.actions_of("p1")] == ours
    assert [action.uid for action in journal.reader.actions_of("p2")] == ["p2-1"]
    assert journal.reader.actions_of("p3") == []


def test_one_action_that_does_not_verify_spoils_its_proposal_and_no_other(tmp_path: Path) -> None:
    journal = started(tmp_path / "j.db")
    for uid in ("p1-1", "p1-2", "p2-1"):
        write(journal, ACTION._replace(uid=uid, idempotency_key=None))
    with sqlite3.connect(tmp_path / "j.db") as db:
        db.execute("UPDATE action SET status = 'succeeded' WHERE uid = 'p1-2'")
    db.close()
    with pytest.raises(JournalTampered, match="p1-2"):
        journal.reader.actions_of("p1")
    assert len(journal.reader.actions_of("p2")) == 1
    journal.close()


def test_running_proposals_are_found_and_forged_ones_left_out(tmp_path: Path) -> None:
    journal = started(tmp_path / "j.db")
    for uid, status in [
        ("p1", "running"),
        ("p2", "suspended"),
        ("p3", "running"),
        ("p4", "aborted"),
    ]:
        write(journal, PROPOSAL._replace(uid=uid, status=status, idempotency_key=None))
    assert [found.uid for found in journal.reader.running_proposals()] == ["p1", "p3"]
    with sqlite3.connect(tmp_path / "j.db") as db:
        db.execute("UPDATE proposal SET status = 'running' WHERE uid = 'p4'")
        db.execute("UPDATE proposal SET document = x'7b7d' WHERE uid = 'p1'")
    db.close()
    assert [found.uid for found in journal.reader.running_proposals()] == ["p3"]
    journal.close()


LOOKUPS: dict[str, Callable[[Reader], object]] = {
    **{name: read for name, (_, read) in zip(NAMES, RECORDS, strict=True)},
    "states": lambda reader: reader.states("s"),
    "actions of": lambda reader: reader.actions_of("p1"),
    "running": lambda reader: list(reader.running_proposals()),
    "executing": lambda reader: list(reader.executing()),
}


@pytest.mark.parametrize("look_up", LOOKUPS.values(), ids=LOOKUPS)
def test_no_question_is_answered_by_reading_a_whole_table(
    look_up: Callable[[Reader], object],
) -> None:
    journal = started(None)
    asked: list[str] = []
    store: Any = journal.reader.store
    store._db.set_trace_callback(asked.append)
    look_up(journal.reader)
    store._db.set_trace_callback(None)
    assert asked
    plans = [row[3] for sql in asked for row in store._db.execute(f"EXPLAIN QUERY PLAN {sql}")]
    journal.close()
    assert all("USING" in plan and "TEMP B-TREE" not in plan for plan in plans), plans
    assert all(
        plan.startswith("SEARCH") or "_running" in plan or "_executing" in plan for plan in plans
    )


def test_put_replaces_what_stood_under_the_key(journal: Journal) -> None:
    journal.write_now(lambda tx: put_state(tx, STATE))
    journal.write_now(lambda tx: put_state(tx, STATE._replace(key="other")))
    gone = STATE._replace(value=None, version=8)
    later = journal.write_now(lambda tx: put_state(tx, gone))
    assert journal.reader.state("s", "ready") == later
    assert [record.key for record in journal.reader.states("s")] == ["other", "ready"]


def test_put_makes_a_changed_row_good_again(tmp_path: Path) -> None:
    journal = started(tmp_path / "j.db")
    write(journal, UsageRecord("n", b"1", 0))
    with sqlite3.connect(tmp_path / "j.db") as db:
        db.execute("UPDATE usage SET data = x'30'")
    db.close()
    write(journal, UsageRecord("n", b"2", 0))
    assert journal.reader.usage("n") == UsageRecord("n", b"2", 3)
    journal.close()


def test_forgotten_result_is_gone_and_its_like_stay(journal: Journal) -> None:
    for session, content in [("s", "c"), ("s", "d"), ("t", "c")]:
        record = ResultRecord(session, content, "u", 1, 7)
        journal.write_now(lambda tx, record=record: tx.put(record))
    assert journal.write_now(lambda tx: tx.forget("s", "c"))
    assert not journal.write_now(lambda tx: tx.forget("s", "c"))
    assert journal.reader.result("s", "c") is None
    assert journal.reader.result("s", "d") is not None
    assert journal.reader.result("t", "c") is not None


def test_what_a_failed_function_has_put_is_undone(journal: Journal) -> None:
    def fails(tx: Transaction) -> None:
        put_state(tx, STATE._replace(value=b"false"))
        tx.count("n", 2, 2, "s")
        tx.forget("s", "c")
        raise LookupError

    ready = journal.write_now(lambda tx: put_state(tx, STATE))
    journal.write_now(lambda tx: tx.put(ResultRecord("s", "c", "u", 1, 7)))
    with pytest.raises(LookupError):
        journal.write_now(fails)
    assert journal.reader.state("s", "ready") == ready
    assert journal.reader.usage("n") is None
    assert journal.reader.result("s", "c") is not None


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)
SESSIONS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=3)
PUTS = st.tuples(SESSIONS, TEXT, st.none() | st.binary(max_size=8), st.integers(0, 1 << 62))


@given(st.lists(PUTS, max_size=30))
def test_state_behaves_as_a_dictionary(puts: list[tuple[str, str, bytes | None, int]]) -> None:
    journal = started(None)
    known: dict[tuple[str, str], StateRecord] = {}
    for session, key, value, seq in puts:
        record = StateRecord(session, key, value, seq, seq)
        record = journal.write_now(lambda tx, record=record: put_state(tx, record))
        known[session, key] = record
        assert journal.reader.state(session, key) == record
    for session, key, _, _ in puts:
        assert journal.reader.state(session, key) == known[session, key]
        ours = [known[place] for place in sorted(known) if place[0] == session]
        assert journal.reader.states(session) == ours
    journal.close()


@given(st.lists(st.tuples(st.booleans(), TEXT, TEXT, st.integers(0, 1 << 62)), max_size=30))
def test_results_behave_as_a_dictionary(does: list[tuple[bool, str, str, int]]) -> None:
    journal = started(None)
    known: dict[tuple[str, str], ResultRecord] = {}
    for seq, (remember, session, content, at) in enumerate(does, start=1 << 20):
        if remember:
            record = known[session, content] = ResultRecord(session, content, "u", at, seq)
            journal.write_now(lambda tx, record=record: tx.put(record))
        else:
            was = known.pop((session, content), None)
            forgot = journal.write_now(lambda tx, s=session, c=content: tx.forget(s, c))
            assert forgot == (was is not None)
        for place in {(session, content) for _, session, content, _ in does}:
            assert journal.reader.result(*place) == known.get(place)
    journal.close()
