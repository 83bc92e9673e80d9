"""A single row that is genuine and old, or gone, is not believed: by no gate, nor by `verify`."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.driver import Driver
from support.people import config
from support.plans import FAIL, call, propose, statuses, write
from toolgate.errors import JournalTampered
from toolgate.journal import heads
from toolgate.journal.chain import JournalKey
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Journal, Transaction
from toolgate.journal.liveness import Liveness
from toolgate.journal.opening import inspect_journal
from toolgate.journal.records import StateRecord, UsageRecord
from toolgate.journal.sqlite import SQLiteStore
from toolgate.journal.verify import verify
from toolgate.wire.messages import RPCError

DB = ".toolgate/journal.db"
RULES = [
    {"id": "writes", "types": ["state_write", "assertion"], "effect": "allow"},
    {"id": "ready", "tools": ["deploy"], "when": 'state["ready"] == 1', "effect": "allow"},
    {"id": "reads", "tools": ["search", "manual"], "effect": "allow"},
]
DEPLOYMENT = config(
    session="s",
    policy={"rules": RULES},
    tools={"search": {"idempotent": True}, "deploy": {}},
    budget={"session": {"max_actions": 50}},
)


def rows(folder: Path, table: str) -> list[tuple[Any, ...]]:
    """Return all rows of a table."""
    with sqlite3.connect(folder / DB) as db:
        found = db.execute(f"SELECT * FROM {table}").fetchall()
    db.close()
    return found


def replace(folder: Path, table: str, values: list[tuple[Any, ...]]) -> None:
    """Put these rows in the place of all that a table has."""
    with sqlite3.connect(folder / DB) as db:
        db.execute(f"DELETE FROM {table}")
        for row in values:
            db.execute(f"INSERT INTO {table} VALUES ({','.join('?' * len(row))})", row)
    db.close()


def problem(folder: Path) -> str:
    """Return what `verify` finds wrong, nothing when all is well."""
    journal = inspect_journal(Driver(folder, DEPLOYMENT).config)
    found = verify(journal.store, journal.key, lambda seen: None).problem
    journal.store.close()
    return found or ""


def tampered(folder: Path) -> list[str]:
    """Return what the log tells of rows that were not believed."""
    events = rows(folder, "event")
    return [str(event[7]) for event in events if event[6] == "journal.tampered"]


async def tools(gate: Driver) -> None:
    """Register what the tests call."""
    await gate.tool("search", lambda args: "found")
    await gate.tool("deploy", lambda args: "deployed")


@pytest.mark.parametrize("newer", [True, False], ids=["set back", "deleted"])
async def test_state_set_back_or_deleted_lets_nothing_run(tmp_path: Path, newer: bool) -> None:
    async with Driver(tmp_path, DEPLOYMENT) as gate:
        await tools(gate)
        await propose(gate, write("a", "ready", 1))
        old = rows(tmp_path, "state")
        await propose(gate, write("a", "ready", 0))
        replace(tmp_path, "state", old if newer else [])
        with pytest.raises(RPCError, match="state 'ready' of session s"):
            await gate.govern("deploy")
    async with Driver(tmp_path, DEPLOYMENT) as later:
        await tools(later)
        with pytest.raises(RPCError, match="state 'ready' of session s"):
            await later.govern("deploy")
        with pytest.raises(RPCError, match="state 'ready' of session s"):
            await later.request("state")
    assert gate.ran == later.ran == []
    assert len(tampered(tmp_path)) >= 2
    assert "state 'ready' of session s" in problem(tmp_path)


async def test_state_that_another_gate_wrote_is_followed_and_not_taken_for_an_old_row(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, DEPLOYMENT) as one, Driver(tmp_path, DEPLOYMENT) as two:
        await tools(one)
        for value in range(4):
            await propose(one if value % 2 else two, write("a", "ready", value))
            assert await one.request("state") == await two.request("state")
        old = rows(tmp_path, "state")
        await propose(two, write("a", "ready", 1))
        assert (await one.govern("deploy"))["status"] == "succeeded"
        replace(tmp_path, "state", old)
        for gate in (one, two):
            with pytest.raises(RPCError, match="an old row was put back"):
                await gate.request("state")


async def test_state_that_was_undone_stands_where_the_log_says(tmp_path: Path) -> None:
    async with Driver(tmp_path, DEPLOYMENT) as gate:
        await propose(gate, write("a", "ready", 1))
        before = rows(tmp_path, "state")
        aborted = await propose(gate, write("a", "ready", 2), write("b", "new", 2), FAIL)
        assert aborted["status"] == "aborted"
        undone = rows(tmp_path, "state")
        assert await gate.request("state") == {"ready": 1}
        replace(tmp_path, "state", before)
        with pytest.raises(RPCError, match="of session s"):
            await gate.request("state")
        replace(tmp_path, "state", undone)
        assert await gate.request("state") == {"ready": 1}
    assert problem(tmp_path) == ""


@pytest.mark.parametrize("newer", [True, False], ids=["set back", "deleted"])
async def test_count_set_back_or_deleted_frees_no_budget(tmp_path: Path, newer: bool) -> None:
    small = {**DEPLOYMENT, "budget": {"session": {"max_actions": 2}}}
    async with Driver(tmp_path, small) as gate, Driver(tmp_path, small) as other:
        await tools(gate)
        await tools(other)
        await gate.govern("search", {"n": 1})
        old = rows(tmp_path, "usage")
        await gate.govern("search", {"n": 2})
        replace(tmp_path, "usage", old if newer else [])
        refused = await gate.govern("search", {"n": 3})
        with pytest.raises(RPCError, match="used of the limit"):
            await other.govern("search", {"n": 4})
    async with Driver(tmp_path, small) as later:
        await tools(later)
        with pytest.raises(RPCError, match="used of the limit"):
            await later.govern("search", {"n": 5})
    assert refused["error"]["kind"] == "budget_exceeded"
    assert (len(gate.ran), other.ran, later.ran) == (2, [], [])
    assert "used of the limit" in problem(tmp_path)


async def test_result_of_a_plan_that_was_rolled_back_is_given_to_nobody(tmp_path: Path) -> None:
    plan = [call("s", "search", parameters={"n": 1}), call("m", "manual"), FAIL]
    async with Driver(tmp_path, DEPLOYMENT) as gate:
        await tools(gate)
        await gate.tool("manual")
        running = gate.send("propose", proposal={"id": "p", "actions": plan})
        manual = await gate.runs.get()
        remembered = rows(tmp_path, "result")
        gate.answer(manual, "done")
        assert (await running)["status"] == "aborted"
        assert len(remembered) == 1
        assert rows(tmp_path, "result") == []
        replace(tmp_path, "result", remembered)
        with pytest.raises(RPCError, match="an old row was put back"):
            await gate.govern("search", {"n": 1})
    async with Driver(tmp_path, DEPLOYMENT) as later:
        await tools(later)
        with pytest.raises(RPCError, match="an old row was put back"):
            await later.govern("search", {"n": 1})
    assert "an old row was put back" in problem(tmp_path)


async def test_result_that_was_deleted_is_missed_by_verify(tmp_path: Path) -> None:
    async with Driver(tmp_path, DEPLOYMENT) as gate:
        await tools(gate)
        await gate.govern("search", {"n": 1})
        again = await gate.govern("search", {"n": 1})
        assert again["replayed"]
    assert problem(tmp_path) == ""
    replace(tmp_path, "result", [])
    assert "the row of what session s remembers" in problem(tmp_path)


async def test_older_result_put_back_is_refused_by_the_gate_that_knows_better_and_by_verify(
    tmp_path: Path,
) -> None:
    cached = {**DEPLOYMENT, "tools": {"search": {"cache_ttl": "1ms"}}}
    async with Driver(tmp_path, cached) as gate:
        await tools(gate)
        await gate.govern("search")
        old = rows(tmp_path, "result")
        while rows(tmp_path, "result") == old:
            await gate.govern("search")
        replace(tmp_path, "result", old)
        with pytest.raises(RPCError, match="an old row was put back"):
            await gate.govern("search")
    assert "an old row was put back" in problem(tmp_path)


async def test_key_of_a_proposal_whose_row_is_away_runs_nothing_again(tmp_path: Path) -> None:
    async with Driver(tmp_path, DEPLOYMENT) as gate:
        await tools(gate)
        first = await propose(gate, call("a", "search"), idempotency_key="k")
        replace(tmp_path, "proposal", [])
        with pytest.raises(RPCError, match="key 'k' is taken"):
            await propose(gate, call("a", "search"), idempotency_key="k")
    assert statuses(first) == ["succeeded"]
    assert len(gate.ran) == 1


KEY = JournalKey(bytes(range(32)))
NAMES = st.sampled_from("abcdefgh")


def started(path: Path | None = None) -> Journal:
    """Open a journal, in memory unless there is a path."""
    journal = Journal(SQLiteStore(path), KEY, Liveness(None))
    journal.start("test")
    return journal


def wrote(session: str, *keys: str) -> Callable[[Transaction], int]:
    """Return what writes some keys of a session in one event."""

    def write(tx: Transaction) -> int:
        data: dict[str, Any] = {"changes": list(keys)}
        seq = tx.append_state(EventKind.STATE_CHANGED, data, session=session)
        for key in keys:
            tx.put(StateRecord(session, key, b"1", seq, seq))
        return seq

    return write


@given(
    st.lists(st.tuples(st.sampled_from("st"), st.sets(NAMES, min_size=0)), max_size=40),
    st.integers(1, 5),
)
def test_heads_are_where_each_key_was_written_last_however_they_were_read(
    writes: list[tuple[str, set[str]]], every: int
) -> None:
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(heads, "EVERY", every)
        journal = started()
        known: dict[str, dict[str, int]] = {"s": {}, "t": {}}
        for session, keys in writes:
            seq = journal.write_now(wrote(session, *keys))
            known[session].update(dict.fromkeys(keys, seq))
            journal.write_now(lambda tx: tx.append(EventKind.TOOL_REGISTERED, {}))
        for session, expected in known.items():
            assert journal.reader.heads.of(session) == expected
            journal.reader.heads.forget()
            assert journal.reader.heads.of(session) == expected
            assert {r.key: r.last_seq for r in journal.reader.states(session)} == expected
        journal.close()


def test_long_session_is_read_back_to_its_latest_summary_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(heads, "EVERY", 10)
    journal = started(tmp_path / "j.db")
    journal.write_now(wrote("s", "first"))
    for number in range(200):
        journal.write_now(wrote("s", f"key {number % 4}"))
    journal.close()
    again = started(tmp_path / "j.db")
    read: list[int] = []
    events = SQLiteStore.state_events

    def counted(self: SQLiteStore, *args: Any, **more: Any) -> Any:
        for event in events(self, *args, **more):
            read.append(event.seq)
            yield event

    monkeypatch.setattr(SQLiteStore, "state_events", counted)
    assert len(again.reader.states("s")) == 5
    assert 1 <= len(read) <= 11
    again.close()


def test_events_of_state_cut_off_under_a_running_gate_are_missed(tmp_path: Path) -> None:
    journal = started(tmp_path / "j.db")
    journal.write_now(wrote("s", "a"))
    old = rows_of(tmp_path)
    last = journal.write_now(wrote("s", "a"))
    assert len(journal.reader.states("s")) == 1
    with sqlite3.connect(tmp_path / "j.db") as db:
        db.execute("DELETE FROM event WHERE seq = ?", (last,))
        db.execute("DELETE FROM state")
        db.execute(f"INSERT INTO state VALUES ({','.join('?' * len(old))})", old)
    db.close()
    with pytest.raises(JournalTampered, match="are missing"):
        journal.reader.states("s")
    journal.close()


def rows_of(folder: Path) -> tuple[Any, ...]:
    """Return the only row of state."""
    with sqlite3.connect(folder / "j.db") as db:
        (row,) = db.execute("SELECT * FROM state").fetchall()
    db.close()
    return tuple(row)


def test_count_that_an_older_program_made_is_believed_until_the_log_tells_of_another(
    tmp_path: Path,
) -> None:
    journal = started(tmp_path / "j.db")
    made = UsageRecord("n", b"1", 1)
    journal.write_now(lambda tx: tx.put(made))
    row = journal.reader.store.get("usage", "n")
    assert row is not None
    assert journal.reader.usage("n") == made
    journal.write_now(lambda tx: tx.count("n", 2, 2, "s"))
    journal.write_now(lambda tx: tx.store.put("usage", row))
    with pytest.raises(JournalTampered, match="an old row was put back"):
        journal.reader.usage("n")
    journal.close()


def test_state_is_looked_up_by_an_index_that_plain_calls_do_not_touch() -> None:
    journal = started()
    store: Any = journal.reader.store
    asked: list[str] = []
    store._db.set_trace_callback(asked.append)
    journal.write_now(wrote("s", "a"))
    journal.reader.heads.of("s")
    store._db.set_trace_callback(None)
    looks = [sql for sql in asked if "checkpoint.restored" in sql]
    plans = [row[3] for sql in looks for row in store._db.execute(f"EXPLAIN QUERY PLAN {sql}")]
    journal.close()
    assert plans
    assert all("event_state" in plan for plan in plans), plans
