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
async def test_changed_row_is_refused_and_nothing_runs_on_its_word(
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


async def test_forged_success_is_not_believed_over_the_log(tmp_path: Path) -> None:
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
