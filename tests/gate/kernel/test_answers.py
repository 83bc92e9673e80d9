"""What a gate has heard and journaled stays said, whatever becomes of the envelopes since."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.logged import DB, events, kinds
from support.people import ALICE, BOB, config
from support.plans import call, propose, statuses
from toolgate.approvals import statement
from toolgate.approvals.statement import Answer
from toolgate.desk import Desk
from toolgate.errors import JournalTampered
from toolgate.kernel.answers import AFTER, Heard
from toolgate.wire.messages import RPCError

pytestmark = pytest.mark.tampers

MONEY: dict[str, Any] = {
    "id": "money",
    "tools": ["pay"],
    "effect": "hold",
    "approval": {
        "approvers": ["alice", "bob"],
        "quorum": 2,
        "edit": True,
        "expires": "never",
    },
}
ATLEAST_5 = {"type": "object", "properties": {"n": {"minimum": 5}}}
"""A client's own schema: the desk does not know it, the gate refuses an edit by it."""


def two() -> dict[str, Any]:
    """Return a config in which two people approve a payment, and may edit it."""
    return config(policy={"rules": [MONEY]})


def write(folder: Path, sql: str, *values: Any) -> list[Any]:
    """Use the store behind the gate's back, and return the rows that it answers with."""
    with sqlite3.connect(folder / DB) as db:
        rows = db.execute(sql, values).fetchall()
    db.close()
    return rows


async def held(gate: Driver, **declared: Any) -> str:
    """Leave a payment of 1000 held and return its uid."""
    await gate.tool("pay", lambda args: f"paid {args['n']}", **declared)
    return str((await gate.govern("pay", {"n": 1000}))["uid"])


def answer(gate: Driver, uid: str, folder: Path, args: dict[str, Any]) -> None:
    """Edit a held call as bob, by the command."""
    desk = Desk(gate.config)
    try:
        desk.answer(uid, "approve", "bob", BOB.key_file(folder), args=args)
    finally:
        desk.close()


def signed(gate: Driver, uid: str, verdict: Answer = "approve") -> tuple[str, bytes, int]:
    """Return alice's answer to a hold as a row of the store that has no number yet."""
    desk = Desk(gate.config)
    try:
        hold = desk.find(uid).hold
    finally:
        desk.close()
    at = hold.opened_at + 1
    return hold.hold_id, statement.sign(hold, verdict, "alice", ALICE.key, at), at


async def refused(gate: Driver, uid: str) -> RPCError:
    """Resume an action, which is refused, and return how."""
    with pytest.raises(RPCError) as caught:
        await gate.request("resume", uid=uid)
    return caught.value


async def test_denial_ends_a_plans_action_where_it_is_heard_though_the_client_cannot_go_on(
    tmp_path: Path,
) -> None:
    value = config(session="s", policy={"rules": [MONEY]})
    async with Driver(tmp_path, value) as gate:
        await gate.tool("pay", lambda args: "paid")
        plan = await propose(gate, call("a", "pay", parameters={"n": 1}))
        uid = plan["results"][0]["uid"]
        gate.approve(uid, BOB, tmp_path, "deny")
    async with Driver(tmp_path, value) as without_tools:
        await without_tools.request("resume", uid=plan["uid"])
    heard = kinds(tmp_path, uid)
    write(tmp_path, "DELETE FROM approval")
    async with Driver(tmp_path, value) as later:
        await later.tool("pay", lambda args: "paid")
        result = await later.request("resume", uid=plan["uid"])
    assert heard[-2:] == ["approval.recorded", "action.rejected"]
    assert statuses(result["proposal"]) == ["rejected"]
    assert (gate.ran, later.ran) == ([], [])


@pytest.mark.parametrize(
    "change",
    [
        "DELETE FROM approval WHERE seq = 2",
        "UPDATE approval SET at = 0 WHERE seq = 2",
        "UPDATE approval SET seq = 9 WHERE seq = 2",
        "UPDATE approval SET envelope = x'7b7d' WHERE seq = 2",
        "UPDATE approval SET hold = 'another' WHERE seq = 2",
        "UPDATE approval SET seq = -2 WHERE seq = 2",
    ],
)
async def test_nothing_runs_and_nobody_is_shown_a_hold_once_a_heard_edit_is_gone_or_changed(
    tmp_path: Path, change: str
) -> None:
    async with Driver(tmp_path, two()) as gate:
        uid = await held(gate)
        gate.approve(uid, ALICE, tmp_path)
        answer(gate, uid, tmp_path, {"n": 10})
        edited = await gate.request("resume", uid=uid)
        gate.approve(uid, ALICE, tmp_path)
        write(tmp_path, change)
        desk = Desk(gate.config)
        with pytest.raises(JournalTampered, match="a gate has heard is missing beside it"):
            desk.find(uid)
        desk.close()
        error = await refused(gate, uid)
    assert edited["hold"]["approved_by"] == ["bob"]
    assert error.code == -32005
    assert gate.ran == []


async def test_approval_that_a_refused_edit_made_void_counts_nowhere_else(tmp_path: Path) -> None:
    async with Driver(tmp_path, two()) as gate:
        uid = await held(gate, parameters=ATLEAST_5)
        gate.approve(uid, ALICE, tmp_path)
        answer(gate, uid, tmp_path, {"n": 1})
        await gate.request("resume", uid=uid)
        gate.approve(uid, BOB, tmp_path)
        before = await gate.request("resume", uid=uid)
        write(
            tmp_path,
            "INSERT INTO approval SELECT 9, hold, envelope, at FROM approval WHERE seq = 1",
        )
        after = await gate.request("resume", uid=uid)
        gate.approve(uid, ALICE, tmp_path)
        again = await gate.request("resume", uid=uid)
    opened, reopened = (
        data["digest"]
        for kind, data in events(tmp_path, uid)
        if kind in ("hold.opened", "hold.reopened")
    )
    assert opened != reopened
    assert before["hold"]["approved_by"] == after["hold"]["approved_by"] == ["bob"]
    assert again["output"] == "paid 1000"


async def test_answer_that_is_put_where_a_gate_has_looked_already_does_not_count(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, two()) as gate:
        uid = await held(gate)
        write(tmp_path, "INSERT INTO approval VALUES (1, 'of no hold', x'', 0)")
        gate.approve(uid, BOB, tmp_path)
        await gate.request("resume", uid=uid)
        write(
            tmp_path,
            "UPDATE approval SET hold = ?, envelope = ?, at = ? WHERE seq = 1",
            *signed(gate, uid),
        )
        planted = await gate.request("resume", uid=uid)
        gate.approve(uid, ALICE, tmp_path)
        answered = await gate.request("resume", uid=uid)
    assert (planted["status"], planted["hold"]["approved_by"]) == ("held", ["bob"])
    assert answered["output"] == "paid 1000"


async def test_answers_that_an_older_program_heard_are_taken_as_they_lie_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(Heard, "to_json", lambda heard: {AFTER: heard.after} if heard.after else {})
        async with Driver(tmp_path, two()) as gate:
            uid = await held(gate)
            gate.approve(uid, ALICE, tmp_path)
            one = await gate.request("resume", uid=uid)
    async with Driver(tmp_path, two()) as later:
        await later.tool("pay", lambda args: f"paid {args['n']}")
        gate.approve(uid, BOB, tmp_path)
        both = await later.request("resume", uid=uid)
    assert one["hold"]["approved_by"] == ["alice"]
    assert both["output"] == "paid 1000"
