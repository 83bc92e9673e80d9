"""Verification names the first thing that is wrong, whatever was done to the store."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from support.driver import Driver
from support.people import ALICE, config
from toolgate.journal.opening import inspect_journal
from toolgate.journal.verify import Report, verify
from toolgate.wire.messages import RPCError


async def history(folder: Path) -> None:
    """Leave a journal with an allowed, a denied, a held and an approved call, by two gates."""
    async with Driver(folder, config()) as gate:
        await gate.tool("search", lambda args: "found")
        await gate.tool("pay", lambda args: "paid")
        await gate.govern("search", {"q": 1})
        await gate.govern("nothing", {})
        uid = (await gate.govern("pay", {"amount": 1}))["uid"]
        await gate.govern("pay", {"amount": 2})
    gate.approve(uid, ALICE, folder)
    async with Driver(folder, config()) as later:
        await later.tool("pay", lambda args: "paid")
        await later.request("resume", uid=uid)


def verified(folder: Path) -> Report:
    """Verify the journal in a folder."""
    journal = inspect_journal(Driver(folder, config()).config)
    report = verify(journal.store, journal.key, lambda seen: None)
    journal.store.close()
    return report


async def test_untouched_journal_verifies(tmp_path: Path) -> None:
    await history(tmp_path)
    report = verified(tmp_path)
    assert report.problem is None
    assert report.runs == 2
    assert report.rows == 8
    assert report.events > 20


CHANGES = {
    "data edited": "UPDATE event SET data = '{}' WHERE seq = 7",
    "kind edited": "UPDATE event SET kind = 'action.rejected' WHERE kind = 'action.succeeded'",
    "time edited": "UPDATE event SET at = at + 1 WHERE seq = 5",
    "type edited": "UPDATE event SET at = 'noon' WHERE seq = 5",
    "action edited": "UPDATE event SET action = 'other' WHERE seq = 9",
    "mac edited": "UPDATE event SET mac = zeroblob(32) WHERE seq = 6",
    "event deleted": "DELETE FROM event WHERE seq = 8",
    "last events deleted": "DELETE FROM event WHERE seq > (SELECT max(seq) - 2 FROM event)",
    "last run deleted": "DELETE FROM event WHERE run = (SELECT max(run) FROM event)",
    "session deleted": "DELETE FROM session",
    "whole run deleted": "DELETE FROM event WHERE run = (SELECT min(run) FROM event)",
    "two swapped": "UPDATE event SET seq = CASE seq WHEN 7 THEN -8 WHEN 8 THEN -7 END"
    " WHERE seq IN (7, 8); UPDATE event SET seq = -seq WHERE seq < 0",
    "row edited": "UPDATE action SET status = 'succeeded' WHERE status = 'rejected'",
    "row deleted": "DELETE FROM action WHERE status = 'rejected'",
    "hold edited": "UPDATE hold SET deadline = NULL",
    "session edited": "UPDATE session SET opened_at = 0",
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_whatever_was_changed_is_found(tmp_path: Path, change: str) -> None:
    await history(tmp_path)
    with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
        db.executescript(change)
    db.close()
    assert verified(tmp_path).problem is not None


async def test_hold_whose_row_was_deleted_is_missed(tmp_path: Path) -> None:
    await history(tmp_path)
    with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
        db.execute("DELETE FROM hold WHERE status = 'pending'")
    db.close()
    assert "hold" in (verified(tmp_path).problem or "")


async def test_key_whose_row_is_away_runs_nothing_again_and_is_missed(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "found")
        await gate.govern("search", {}, idempotency_key="k")
        with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
            db.execute("DELETE FROM action")
        db.close()
        with pytest.raises(RPCError, match="key 'k' is taken"):
            await gate.govern("search", {}, idempotency_key="k")
    async with Driver(tmp_path, config()) as later:
        await later.tool("search", lambda args: "found")
        with pytest.raises(RPCError, match="key 'k' is taken"):
            await later.govern("search", {}, idempotency_key="k")
    assert (len(gate.ran), later.ran) == (1, [])
    assert "is missing" in (verified(tmp_path).problem or "")


async def test_first_wrong_event_is_named(tmp_path: Path) -> None:
    await history(tmp_path)
    with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
        db.execute("UPDATE event SET data = '{}' WHERE seq IN (7, 9)")
    db.close()
    assert "event 7 " in (verified(tmp_path).problem or "")


async def test_old_row_put_back_is_found(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        uid = (await gate.govern("pay", {}))["uid"]
        with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
            rows = db.execute("SELECT * FROM action").fetchall()
        db.close()
        await gate.request("withdraw", uid=uid)
    with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
        db.execute("DELETE FROM action")
        db.executemany(f"INSERT INTO action VALUES ({','.join('?' * len(rows[0]))})", rows)
    db.close()
    report = verified(tmp_path)
    assert report.problem is not None


async def test_row_of_a_hold_that_ended_put_back_over_a_later_end_is_found(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay")
        uid = (await gate.govern("pay", {}))["uid"]
        gate.approve(uid, ALICE, tmp_path)
        resumed = gate.send("resume", uid=uid)
        run = await gate.runs.get()
        with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
            released = db.execute("SELECT * FROM hold").fetchall()
        db.close()
        gate.suspend(run)
        await resumed
        await gate.request("withdraw", uid=uid)
    assert verified(tmp_path).problem is None
    with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
        db.execute("DELETE FROM hold")
        db.executemany(f"INSERT INTO hold VALUES ({','.join('?' * len(released[0]))})", released)
    db.close()
    assert "an old row was put back" in (verified(tmp_path).problem or "")


async def test_event_with_digits_moved_into_the_hash_before_it_is_not_genuine_elsewhere(
    tmp_path: Path,
) -> None:
    await history(tmp_path)
    journal = inspect_journal(Driver(tmp_path, config()).config)
    events = [event for event in journal.store.events() if event.seq >= 10]
    journal.store.close()
    assert events
    for event in events:
        place = str(event.seq)
        moved = event._replace(seq=int(place[1:]), prev=event.prev + place[:1].encode())
        assert journal.reader.genuine(event)
        assert not journal.reader.genuine(moved)
