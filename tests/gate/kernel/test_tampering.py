"""Whoever can write the store gets nothing to run, nothing changed, and nothing believed."""

from __future__ import annotations

import dataclasses
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.people import ALICE, MALLORY, config
from toolgate import clock, jsonvalue
from toolgate.approvals import statement
from toolgate.approvals.hold import Hold
from toolgate.desk import Desk
from toolgate.errors import ApprovalError, JournalTampered
from toolgate.wire.messages import RPCError

pytestmark = pytest.mark.tampers

DB = ".toolgate/journal.db"


def write(folder: Path, sql: str, *values: Any) -> None:
    """Change the store behind the gate's back."""
    with sqlite3.connect(folder / DB) as db:
        db.execute(sql, values)
    db.close()


async def held(folder: Path) -> tuple[str, str]:
    """Leave a payment held and return its uid and hold id."""
    async with Driver(folder, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        outcome = await gate.govern("pay", {"amount": 100})
    return outcome["uid"], outcome["hold"]["hold_id"]


async def resumed(folder: Path, uid: str) -> tuple[Any, Driver]:
    """Resume in another gate; returns the outcome or the error, and the gate."""
    async with Driver(folder, config()) as gate:
        await gate.tool("pay", lambda args: f"paid {args['amount']}")
        try:
            return await gate.request("resume", uid=uid), gate
        except RPCError as error:
            return error, gate


ROWS: list[tuple[str, Callable[[str, str], tuple[str, tuple[Any, ...]]]]] = [
    ("arguments", lambda u, h: ("UPDATE action SET args = ?", (b'{"amount":999}',))),
    ("tool", lambda u, h: ("UPDATE action SET tool = 'search'", ())),
    ("status", lambda u, h: ("UPDATE action SET status = 'succeeded'", ())),
    ("hold status", lambda u, h: ("UPDATE hold SET status = 'released'", ())),
    ("deadline", lambda u, h: ("UPDATE hold SET deadline = NULL", ())),
    ("digest", lambda u, h: ("UPDATE hold SET digest = 'sha256:0'", ())),
    (
        "requirement",
        lambda u, h: ("UPDATE hold SET requirement = ?", (b'{"expires":null,"groups":[]}',)),
    ),
    ("type", lambda u, h: ("UPDATE action SET attempts = 'one'", ())),
    ("mac", lambda u, h: ("UPDATE action SET mac = 'text'", ())),
]


@pytest.mark.parametrize(("what", "change"), ROWS, ids=[row[0] for row in ROWS])
async def test_24_changed_row_is_refused_and_nothing_runs_on_its_word(
    tmp_path: Path, what: str, change: Callable[[str, str], tuple[str, tuple[Any, ...]]]
) -> None:
    uid, hold = await held(tmp_path)
    desk = Desk(Driver(tmp_path, config()).config)
    desk.answer(uid, "approve", "alice", ALICE.key_file(tmp_path))
    desk.close()
    sql, values = change(uid, hold)
    write(tmp_path, sql, *values)
    outcome, gate = await resumed(tmp_path, uid)
    assert isinstance(outcome, RPCError), what
    assert outcome.code == -32005
    assert gate.ran == []


async def test_tampering_is_journaled(tmp_path: Path) -> None:
    uid, _ = await held(tmp_path)
    write(tmp_path, "UPDATE action SET args = ?", b'{"amount":999}')
    await resumed(tmp_path, uid)
    with sqlite3.connect(tmp_path / DB) as db:
        kinds = [row[0] for row in db.execute("SELECT kind FROM event")]
    db.close()
    assert "journal.tampered" in kinds


async def test_approver_is_not_shown_forged_arguments(tmp_path: Path) -> None:
    uid, _ = await held(tmp_path)
    write(tmp_path, "UPDATE action SET args = ?", b'{"amount":1}')
    desk = Desk(Driver(tmp_path, config()).config)
    with pytest.raises(JournalTampered):
        desk.find(uid)
    desk.close()


@pytest.mark.parametrize(
    "forgery", ["wrong key", "other digest", "other hold", "not json", "edited"]
)
async def test_forged_approval_in_the_store_counts_for_nothing(
    tmp_path: Path, forgery: str
) -> None:
    uid, hold_id = await held(tmp_path)
    desk = Desk(Driver(tmp_path, config()).config)
    hold = desk.find(uid).hold
    desk.close()
    now = clock.now()
    match forgery:
        case "wrong key":
            envelope = statement.sign(hold, "approve", "alice", MALLORY.key, now)
        case "other digest":
            envelope = statement.sign(
                _other(hold, digest="sha256:0"), "approve", "alice", ALICE.key, now
            )
        case "other hold":
            other = _other(hold, hold_id="x")
            envelope = statement.sign(other, "approve", "alice", ALICE.key, now)
        case "edited":
            genuine = jsonvalue.parse(statement.sign(hold, "deny", "alice", ALICE.key, now))
            wanted = jsonvalue.parse(statement.sign(hold, "approve", "alice", MALLORY.key, now))
            envelope = jsonvalue.canonical({**genuine, "payload": wanted["payload"]})
        case _:
            envelope = b"\xff{"
    write(
        tmp_path,
        "INSERT INTO approval (hold, envelope, at) VALUES (?, ?, ?)",
        hold_id,
        envelope,
        now,
    )
    outcome, gate = await resumed(tmp_path, uid)
    assert outcome["status"] == "held"
    assert outcome["hold"]["approved_by"] == []
    assert gate.ran == []
    with sqlite3.connect(tmp_path / DB) as db:
        kinds = [row[0] for row in db.execute("SELECT kind FROM event")]
    db.close()
    assert "approval.refused" in kinds


def _other(hold: Hold, **changes: Any) -> Hold:
    return dataclasses.replace(hold, **changes)


async def test_old_genuine_rows_put_back_run_nothing_twice(tmp_path: Path) -> None:
    uid, hold_id = await held(tmp_path)
    with sqlite3.connect(tmp_path / DB) as db:
        action = db.execute("SELECT * FROM action").fetchone()
        hold = db.execute("SELECT * FROM hold").fetchone()
    db.close()
    desk = Desk(Driver(tmp_path, config()).config)
    desk.answer(uid, "approve", "alice", ALICE.key_file(tmp_path))
    desk.close()
    first, one = await resumed(tmp_path, uid)
    with sqlite3.connect(tmp_path / DB) as db:
        db.execute("DELETE FROM action")
        db.execute("DELETE FROM hold")
        db.execute(f"INSERT INTO action VALUES ({','.join('?' * len(action))})", action)
        db.execute(f"INSERT INTO hold VALUES ({','.join('?' * len(hold))})", hold)
    db.close()
    second, two = await resumed(tmp_path, uid)
    assert first["output"] == "paid 100"
    assert isinstance(second, RPCError)
    assert "put back" in second.message
    assert len(one.ran) + len(two.ran) == 1
    assert hold_id


async def test_25_forged_success_is_not_believed_over_the_log(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "genuine")
        uid = (await gate.govern("search"))["uid"]
    forged = jsonvalue.canonical({"status": "succeeded", "attempts": 1, "output": "forged"})
    write(tmp_path, "UPDATE event SET data = ? WHERE kind = 'action.succeeded'", forged)
    async with Driver(tmp_path, config()) as later:
        with pytest.raises(RPCError, match="does not verify"):
            await later.request("resume", uid=uid)


async def test_answer_to_a_statement_that_nobody_may_give_is_refused_at_the_desk(
    tmp_path: Path,
) -> None:
    uid, _ = await held(tmp_path)
    desk = Desk(Driver(tmp_path, config()).config)
    with pytest.raises(ApprovalError, match="not the key that the config pins"):
        desk.answer(uid, "approve", "alice", MALLORY.key_file(tmp_path))
    with pytest.raises(ApprovalError, match="has no hold"):
        desk.answer("nothing", "approve", "alice", ALICE.key_file(tmp_path))
    desk.close()


def rows_of(folder: Path, *tables: str) -> dict[str, list[tuple[Any, ...]]]:
    """Return all rows of some tables."""
    with sqlite3.connect(folder / DB) as db:
        found = {table: db.execute(f"SELECT * FROM {table}").fetchall() for table in tables}
    db.close()
    return found


def put_back(folder: Path, rows: dict[str, list[tuple[Any, ...]]]) -> None:
    """Replace whole tables by rows they had before."""
    with sqlite3.connect(folder / DB) as db:
        for table, values in rows.items():
            db.execute(f"DELETE FROM {table}")
            marks = ",".join("?" * len(values[0]))
            db.executemany(f"INSERT INTO {table} VALUES ({marks})", values)
    db.close()


async def test_one_approval_runs_once_even_when_rows_and_events_are_set_back(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        uid = (await gate.govern("pay", {"amount": 100}))["uid"]
        before = rows_of(tmp_path, "action", "hold")
        gate.approve(uid, ALICE, tmp_path)
        first = await gate.request("resume", uid=uid)
        last = before["hold"][0][-2]
        write(tmp_path, "DELETE FROM event WHERE action = ? AND seq > ?", uid, last)
        put_back(tmp_path, before)
        with pytest.raises(RPCError) as caught:
            await gate.request("resume", uid=uid)
    assert first["output"] == "paid"
    assert caught.value.code == -32005
    assert len(gate.ran) == 1


async def test_old_executing_row_put_back_over_a_success_is_not_believed(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        call = gate.send("govern", tool="search", args={})
        run = await gate.runs.get()
        before = rows_of(tmp_path, "action")
        gate.answer(run, "found")
        await call
    put_back(tmp_path, before)
    async with Driver(tmp_path, config()) as later:
        with pytest.raises(RPCError, match="put back"):
            await later.request("resume", uid=run["params"]["uid"])
    assert len(gate.ran) == 1


TRIGGER = "CREATE TRIGGER t BEFORE INSERT ON event BEGIN SELECT RAISE(IGNORE); END"


async def test_trigger_planted_in_the_database_stops_calls_and_runs_nothing(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "found")
        write(tmp_path, TRIGGER)
        with pytest.raises(RPCError, match="a trigger or a view") as caught:
            await gate.govern("search")
    assert caught.value.code == -32005
    assert gate.ran == []
    with pytest.raises(JournalTampered, match="trigger t"):
        async with Driver(tmp_path, config()):
            pass


async def test_dropped_index_is_noticed(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()):
        pass
    write(tmp_path, "DROP INDEX action_key")
    with pytest.raises(JournalTampered, match="action_key"):
        async with Driver(tmp_path, config()):
            pass


async def test_journal_moved_away_under_the_gate_stops_calls(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolgate.journal.connection.PLACE_INTERVAL", 0.0)
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "found")
        (tmp_path / DB).rename(tmp_path / "elsewhere.db")
        with pytest.raises(RPCError, match="moved") as caught:
            await gate.govern("search")
        (tmp_path / "elsewhere.db").rename(tmp_path / DB)
        assert (await gate.govern("search"))["output"] == "found"
    assert caught.value.code == -32005
    assert len(gate.ran) == 1


async def test_database_damaged_under_the_gate_refuses_calls_and_hangs_none(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "found")
        with sqlite3.connect(tmp_path / DB) as db:
            db.execute("INSERT INTO meta VALUES ('x', 'y')")
            db.commit()
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.close()
        with (tmp_path / DB).open("r+b") as file:
            file.write(b"\xff" * 4096)
        for _ in range(3):
            with pytest.raises(RPCError) as caught:
                await gate.govern("search")
            assert caught.value.code == -32005
        assert await gate.request("ping") == {}
    assert gate.ran == []


STRANGE = [
    (5, 1),
    ("text", 1),
    (None, 1),
    (b"\xff", "noon"),
    (b"{}", 1 << 62),
    (b"{}", 1e300),
    (b"{}", None),
]


@pytest.mark.parametrize(("envelope", "at"), STRANGE)
async def test_strange_row_among_the_approvals_counts_for_nothing_and_breaks_nothing(
    tmp_path: Path, envelope: Any, at: Any
) -> None:
    uid, hold_id = await held(tmp_path)
    write(tmp_path, "DROP TABLE approval")
    columns = "seq INTEGER PRIMARY KEY, hold TEXT NOT NULL, envelope BLOB NOT NULL"
    write(tmp_path, f"CREATE TABLE approval ({columns}, at INTEGER NOT NULL)")
    with pytest.raises(JournalTampered, match="approval"):
        await resumed(tmp_path, uid)
    write(tmp_path, "DROP TABLE approval")
    genuine = (
        "CREATE TABLE approval (\n        seq INTEGER PRIMARY KEY, hold TEXT NOT NULL, "
        "envelope BLOB NOT NULL,\n        at INTEGER NOT NULL)"
    )
    write(tmp_path, genuine)
    write(tmp_path, "CREATE INDEX approval_hold ON approval (hold)")
    try:
        sql = "INSERT INTO approval (hold, envelope, at) VALUES (?, ?, ?)"
        write(tmp_path, sql, hold_id, envelope, at)
    except sqlite3.IntegrityError:
        assert envelope is None or at is None
    write(tmp_path, "INSERT INTO approval VALUES (-5, ?, x'7b7d', 1)", hold_id)
    desk = Desk(Driver(tmp_path, config()).config)
    desk.answer(uid, "approve", "alice", ALICE.key_file(tmp_path))
    desk.close()
    outcome, gate = await resumed(tmp_path, uid)
    assert outcome["output"] == "paid 100"
    assert len(gate.ran) == 1


async def test_flood_of_copies_of_an_answer_costs_a_bounded_time(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("wire_money", lambda args: "wired")
        outcome = await gate.govern("wire_money", {})
        uid, hold_id = outcome["uid"], outcome["hold"]["hold_id"]
        gate.approve(uid, ALICE, tmp_path)
        ((_, _, envelope, at),) = rows_of(tmp_path, "approval")["approval"]
        with sqlite3.connect(tmp_path / DB) as db:
            db.executemany(
                "INSERT INTO approval (hold, envelope, at) VALUES (?, ?, ?)",
                [(hold_id, envelope, at)] * 5000,
            )
        db.close()
        still = await gate.request("resume", uid=uid)
        events = rows_of(tmp_path, "event")["event"]
    refused = [event for event in events if "approval.refused" in event]
    assert still["status"] == "held"
    assert len(refused) < 1000


async def test_one_hold_that_does_not_verify_hides_no_other(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        uids = [(await gate.govern("pay", {"amount": n}))["uid"] for n in range(3)]
        write(tmp_path, "UPDATE hold SET reason = 'nothing to see' WHERE uid = ?", uids[1])
        for _ in range(5):
            listed = (await gate.request("holds"))["holds"]
        kinds = [event[6] for event in rows_of(tmp_path, "event")["event"]]
    assert [hold["uid"] for hold in listed] == [uids[0], uids[2]]
    assert kinds.count("journal.tampered") == 1


@pytest.mark.parametrize("seq", [(1 << 63) - 1, 1 << 62])
async def test_place_in_the_log_that_the_gate_never_gave_is_tampering(
    tmp_path: Path, seq: int
) -> None:
    async with Driver(tmp_path, config()):
        pass
    write(tmp_path, "UPDATE event SET seq = ? WHERE seq = 2", seq)
    with pytest.raises(JournalTampered, match="never gave"):
        async with Driver(tmp_path, config()):
            pass
