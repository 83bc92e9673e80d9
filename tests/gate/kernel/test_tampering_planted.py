"""A row that somebody has planted in the store is refused once, and does harm to nobody else."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.clock import MINUTE, Clock
from support.driver import Driver
from support.logged import DB, journaled, kinds
from support.people import ALICE, BOB, config
from toolgate.approvals import statement
from toolgate.desk import Desk
from toolgate.errors import ApprovalError, JournalTampered, JournalUnavailable
from toolgate.journal import envelopes
from toolgate.journal.names import removals_name
from toolgate.journal.opening import inspect_journal
from toolgate.journal.sqlite import SQLiteStore
from toolgate.journal.verify import verify
from toolgate.kernel import expiry
from toolgate.kernel.releases import Releases
from toolgate.signatures.dsse import MAX_ENVELOPE_BYTES
from toolgate.wire.messages import RPCError

pytestmark = pytest.mark.tampers

NO_TEXT = "CAST(x'ff' AS TEXT)"
"""Text that is not UTF-8."""


@contextmanager
def store(folder: Path) -> Iterator[sqlite3.Connection]:
    """Open the database as whoever can write it does."""
    with sqlite3.connect(folder / DB) as db:
        yield db
    db.close()


def plant(folder: Path, sql: str, *values: Any) -> None:
    """Change the store behind the gate's back."""
    with store(folder) as db:
        db.execute(sql, values)


def copy(folder: Path, table: str, **changed: str) -> None:
    """Plant a copy of one of a table's rows in which some columns are other SQL."""
    with store(folder) as db:
        names = [row[1] for row in db.execute(f"PRAGMA table_info({table})")]
        columns = ", ".join(changed.get(name, name) for name in names)
        db.execute(f"INSERT INTO {table} SELECT {columns} FROM {table} LIMIT 1")


def problem(folder: Path) -> str | None:
    """Verify the journal in a folder and return what is wrong."""
    journal = inspect_journal(Driver(folder, config()).config)
    report = verify(journal.store, journal.key, lambda seen: None)
    journal.store.close()
    return report.problem


async def held(gate: Driver, **args: Any) -> tuple[str, str]:
    """Hold a payment and return its uid and its hold's id."""
    await gate.tool("pay", lambda args: "paid")
    outcome = await gate.govern("pay", args)
    return outcome["uid"], outcome["hold"]["hold_id"]


async def test_gate_starts_beside_a_planted_row_that_is_not_utf8_and_verify_names_it(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid, _ = await held(gate)
    copy(tmp_path, "action", uid="'zzz'", tool=NO_TEXT, status="'executing'")
    gate.approve(uid, ALICE, tmp_path)
    async with Driver(tmp_path, config()) as later:
        await later.tool("pay", lambda args: "paid")
        assert (await later.request("resume", uid=uid))["output"] == "paid"
    assert "row of action zzz was not written with the journal key" in str(problem(tmp_path))


@pytest.mark.parametrize("column", ["run", "session", "action", "kind", "data", "prev", "mac"])
async def test_event_whose_text_is_not_utf8_is_named_by_verify(tmp_path: Path, column: str) -> None:
    async with Driver(tmp_path, config()) as gate:
        await held(gate)
    plant(tmp_path, f"UPDATE event SET {column} = {NO_TEXT} WHERE seq = 2")
    found = problem(tmp_path)
    assert found is not None
    assert "event 2 " in found


@pytest.mark.parametrize("column", ["hold_id", "uid", "tool", "status", "requirement", "mac"])
async def test_hold_whose_text_is_not_utf8_hides_no_other_on_any_page(
    tmp_path: Path, column: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolgate.desk.PAGE", 1)
    async with Driver(tmp_path, config()) as gate:
        first, _ = await held(gate, n=1)
        copy(tmp_path, "hold", **{"hold_id": "'zzz'", column: NO_TEXT})
        second, _ = await held(gate, n=2)
        listed = [hold["uid"] for hold in (await gate.request("holds"))["holds"]]
        desk = Desk(gate.config)
        views = list(desk.holds(None))
        desk.close()
    assert listed == [first, second]
    assert [isinstance(view, JournalTampered) for view in views].count(False) == 2


STRANGE = {
    "envelope": ("?", NO_TEXT, "1"),
    "time": ("?", "x'00'", NO_TEXT),
    "hold": (NO_TEXT, "x'00'", "1"),
    "bytes for a hold": ("CAST(? AS BLOB)", "x'00'", "1"),
    "number": ("?", "5", "1.5"),
    "much": ("?", f"zeroblob({MAX_ENVELOPE_BYTES + 1})", "1"),
    "much text": ("?", f"CAST(zeroblob({MAX_ENVELOPE_BYTES + 1}) AS TEXT)", "1"),
}


@pytest.mark.parametrize("what", STRANGE)
async def test_strange_answer_is_refused_once_and_every_hold_goes_on(
    tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    hold, envelope, at = STRANGE[what]
    async with Driver(tmp_path, config()) as gate:
        uid, hold_id = await held(gate, n=1)
        other, _ = await held(gate, n=2)
        sql = f"INSERT INTO approval (hold, envelope, at) VALUES ({hold}, {envelope}, {at})"
        plant(tmp_path, sql, *([hold_id] if "?" in hold else []))
        await gate.request("resume", uid=uid)
        await gate.request("resume", uid=uid)
        assert len((await gate.request("holds"))["holds"]) == 2
        gate.approve(uid, ALICE, tmp_path)
        assert (await gate.request("resume", uid=uid))["output"] == "paid"
        gate.die()
    clock.forward(16 * MINUTE)
    async with Driver(tmp_path, config()):
        await journaled(tmp_path, "hold.expired", other)
    assert kinds(tmp_path, uid).count("approval.refused") <= 1
    assert problem(tmp_path) is None


async def test_strange_removal_of_a_label_is_refused_once_and_stops_no_call(tmp_path: Path) -> None:
    value = config(session="s")
    value["tools"]["search"] = {"level": 1, "emits": ["web"]}
    rules = value["policy"]["rules"]
    rules.insert(
        0, {"id": "w", "tools": ["pay"], "when": '"x" in session.labels', "effect": "deny"}
    )
    async with Driver(tmp_path, value) as gate:
        await gate.tool("search", lambda args: "found")
        await gate.govern("search")
        sql = f"INSERT INTO approval (hold, envelope, at) VALUES (?, {NO_TEXT}, 1)"
        plant(tmp_path, sql, removals_name("s"))
        first, second = await held(gate, n=1), await held(gate, n=2)
    assert first != second
    assert kinds(tmp_path).count("approval.refused") == 1


async def test_planted_envelopes_fill_nobodys_memory(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        _, hold_id = await held(gate)
    large = "INSERT INTO approval (hold, envelope, at) VALUES (?, zeroblob(?), 1)"
    with store(tmp_path) as db:
        db.executemany(large, [(hold_id, MAX_ENVELOPE_BYTES + 1)] * 3)
        db.executemany(large, [(hold_id, MAX_ENVELOPE_BYTES)] * 40)
    journal = SQLiteStore(tmp_path / DB, create=False)
    rows = journal.approvals(hold_id)
    journal.close()
    assert [row.envelope for row in rows[:3]] == [None] * 3
    assert sum(len(row.envelope) for row in rows[3:]) == envelopes.MAX_BYTES


async def test_approver_learns_that_an_answer_lies_beyond_what_gates_look_at(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid, hold_id = await held(gate)
        with store(tmp_path) as db:
            sql = "INSERT INTO approval (hold, envelope, at) VALUES (?, x'7b7d', 1)"
            db.executemany(sql, [(hold_id,)] * envelopes.MAX_APPROVALS)
        with pytest.raises(ApprovalError, match="no gate looks at one more"):
            gate.approve(uid, ALICE, tmp_path)


@pytest.mark.parametrize("error", [JournalUnavailable("too big"), ValueError("strange")])
async def test_hold_that_cannot_be_judged_keeps_no_other_from_expiring_whatever_the_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(expiry, "FAR", 0.02)
    clock = Clock(monkeypatch)
    told: list[Any] = []
    async with Driver(tmp_path, config()) as gate:
        (bad, _), *others = [await held(gate, n=n) for n in range(3)]
        gate.die()
    conclude = Releases.conclude

    def failing(releases: Releases, tx: Any, record: Any) -> Any:
        if record.uid == bad:
            raise error
        return conclude(releases, tx, record)

    monkeypatch.setattr(Releases, "conclude", failing)
    clock.forward(16 * MINUTE)
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))
    async with Driver(tmp_path, config()):
        for uid, _ in others:
            await journaled(tmp_path, "hold.expired", uid)
    assert "hold.expired" not in kinds(tmp_path, bad)
    assert [item["exception"] for item in told] == [error] * isinstance(error, ValueError)


SECRET = {
    "tools": {"pay": {"redact": ["/card"]}},
    "policy": {
        "rules": [
            {
                "id": "money",
                "tools": ["pay"],
                "effect": "hold",
                "approval": {"approvers": ["alice", "bob"], "edit": True},
            }
        ]
    },
}


def secret_rows(folder: Path) -> list[bool]:
    """Return of each envelope in the store whether anything is kept of it."""
    with store(folder) as db:
        return [bool(row[0]) for row in db.execute("SELECT envelope FROM approval ORDER BY seq")]


async def test_edit_that_is_signed_while_its_hold_ends_is_not_kept_and_its_approver_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Driver(tmp_path, config(**SECRET)) as gate:
        uid, _ = await held(gate, card="4111", n=1)
        desk = Desk(gate.config)
        signed, ended = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        def paused(point: str) -> None:
            if point == "approval.signed":
                loop.call_soon_threadsafe(signed.set)
                asyncio.run_coroutine_threadsafe(ended.wait(), loop).result(10)

        monkeypatch.setattr("toolgate.desk.faults.hit", paused)
        answering = asyncio.ensure_future(
            asyncio.to_thread(
                desk.answer,
                uid,
                "approve",
                "alice",
                ALICE.key_file(tmp_path),
                args={"card": "4222", "n": 2},
            )
        )
        await signed.wait()
        await gate.request("withdraw", uid=uid)
        ended.set()
        with pytest.raises(ApprovalError, match="has ended meanwhile"):
            await answering
        desk.close()
    assert secret_rows(tmp_path) == []


async def test_edits_beyond_what_is_looked_at_go_with_the_others_when_their_action_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(envelopes, "MAX_APPROVALS", 2)
    async with Driver(tmp_path, config(**SECRET)) as gate:
        uid, hold_id = await held(gate, card="4111", n=1)
        desk = Desk(gate.config)
        hold = desk.find(uid).hold
        edit = statement.sign(
            hold, "approve", "bob", BOB.key, hold.opened_at + 1, args={"card": "4222"}
        )
        for content in (b"{}", b"{}", edit, b"{}"):
            desk._journal.store.add_approval(hold_id, content, hold.opened_at + 1)
        desk.close()
        await gate.request("withdraw", uid=uid)
    assert secret_rows(tmp_path) == [True, True, False, False]
    assert problem(tmp_path) is None


async def test_approval_that_a_reopening_made_void_does_not_count_again_when_that_is_hidden(
    tmp_path: Path,
) -> None:
    money = {
        "id": "money",
        "tools": ["pay"],
        "effect": "hold",
        "approval": {"approvers": ["alice", "bob"], "quorum": 2, "edit": True},
    }
    never = {"id": "never", "tools": ["pay"], "when": "args.n == 9", "effect": "deny"}
    async with Driver(tmp_path, config(policy={"rules": [never, money]})) as gate:
        uid, hold_id = await held(gate, n=1)
        gate.approve(uid, ALICE, tmp_path)
        await gate.request("resume", uid=uid)
        desk = Desk(gate.config)
        hold = desk.find(uid).hold
        edit = statement.sign(hold, "approve", "bob", BOB.key, hold.opened_at + 1, args={"n": 9})
        desk._journal.store.add_approval(hold_id, edit, hold.opened_at + 1)
        desk.close()
        reopened = await gate.request("resume", uid=uid)
        gate.approve(uid, BOB, tmp_path)
        before = await gate.request("resume", uid=uid)
        plant(tmp_path, "UPDATE event SET action = NULL WHERE kind = 'hold.reopened'")
        plant(tmp_path, "DELETE FROM approval WHERE seq = 2")
        with pytest.raises(RPCError, match="events are missing from it"):
            await gate.request("resume", uid=uid)
    assert reopened["hold"]["approved_by"] == []
    assert (before["status"], before["hold"]["approved_by"]) == ("held", ["bob"])
    assert gate.ran == []
