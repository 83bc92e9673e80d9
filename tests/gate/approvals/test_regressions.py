"""Published failures of other gates that concern approvals; the numbers are those of the design."""

from __future__ import annotations

import dataclasses
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.people import ALICE, BOB, MALLORY, Person, config
from toolgate import clock, jsonvalue
from toolgate.approvals import statement
from toolgate.desk import Desk
from toolgate.errors import ApprovalError

PAY = {"amount": 900}
LESS = {"amount": 90}
EDITABLE = {
    "id": "money",
    "tools": ["pay"],
    "effect": "hold",
    "approval": {"approvers": ["alice"], "edit": True},
}


def settings(*rules: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a config whose payments wait for alice, who may edit them."""
    return config(policy={"rules": [EDITABLE, *rules]}, **changes)


async def held(gate: Driver) -> str:
    """Leave a payment held and return its uid."""
    await gate.tool("pay", lambda args: f"paid {args['amount']}")
    uid: str = (await gate.govern("pay", PAY))["uid"]
    return uid


def put(folder: Path, uid: str, person: Person, key: Person, **more: Any) -> None:
    """Write an answer into the store behind everybody's back."""
    desk = Desk(Driver(folder, settings()).config)
    hold = desk.find(uid).hold
    now = clock.now()
    envelope = statement.sign(hold, "approve", person.id, key.key, now, **more)
    desk._journal.store.add_approval(hold.hold_id, envelope, now)
    desk.close()


async def test_03_the_approver_sees_exactly_the_arguments_that_run(tmp_path: Path) -> None:
    async with Driver(tmp_path, settings()) as gate:
        uid = await held(gate)
        desk = Desk(gate.config)
        desk.answer(uid, "approve", "alice", ALICE.key_file(tmp_path), args=LESS)
        shown = desk.find(uid).hold
        desk.close()
        await gate.request("resume", uid=uid)
    assert gate.ran == [("pay", shown.args)] == [("pay", LESS)]
    assert shown.digest == shown.digest_with(LESS)


async def test_03_arguments_that_are_not_those_of_the_digest_do_not_run(tmp_path: Path) -> None:
    async with Driver(tmp_path, settings()) as gate:
        uid = await held(gate)
        desk = Desk(gate.config)
        hold = desk.find(uid).hold
        genuine = statement.sign(hold, "approve", "alice", ALICE.key, clock.now(), args=LESS)
        # The approver's own key over a digest of other arguments than those beside it.
        payload = jsonvalue.parse(statement.dsse.parse(genuine).payload)
        text = jsonvalue.canonical({**payload, "args": {"amount": 99_999}})
        mixed = statement.dsse.sign(text, statement.PAYLOAD_TYPE, "alice", ALICE.key)
        desk._journal.store.add_approval(hold.hold_id, mixed, clock.now())
        desk.close()
        outcome = await gate.request("resume", uid=uid)
    assert outcome["status"] == "held"
    assert gate.ran == []


async def test_05_edited_arguments_that_policy_denies_do_not_run(tmp_path: Path) -> None:
    limit = {"id": "limit", "tools": ["pay"], "when": "args.amount > 1000", "effect": "deny"}
    async with Driver(tmp_path, settings(limit)) as gate:
        uid = await held(gate)
        put(tmp_path, uid, ALICE, ALICE, args={"amount": 1001})
        outcome = await gate.request("resume", uid=uid)
    assert outcome["status"] == "held"
    assert gate.ran == []


@pytest.mark.parametrize("edit", [None, LESS])
async def test_08_forged_answers_are_refused(tmp_path: Path, edit: dict[str, Any] | None) -> None:
    more = {} if edit is None else {"args": edit}
    async with Driver(tmp_path, settings()) as gate:
        uid = await held(gate)
        put(tmp_path, uid, ALICE, MALLORY, **more)
        put(tmp_path, uid, MALLORY, MALLORY, **more)
        put(tmp_path, uid, BOB, BOB, **more)
        outcome = await gate.request("resume", uid=uid)
        methods = [
            await gate.request("holds", status="pending"),
            await gate.request("resume", uid=uid, approved=True, args=LESS),
        ]
    assert outcome["status"] == methods[1]["status"] == "held"
    assert outcome["hold"]["approved_by"] == []
    assert methods[0]["holds"][0]["args"] == PAY
    assert gate.ran == []


async def test_09_an_edit_does_not_outlive_a_policy_that_asks_others_by_now(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, settings()) as gate:
        uid = await held(gate)
        put(tmp_path, uid, ALICE, ALICE, args=LESS)
    bobs = {
        "id": "money",
        "tools": ["pay"],
        "effect": "hold",
        "approval": {"approvers": ["bob"], "edit": True},
    }
    async with Driver(tmp_path, config(policy={"rules": [bobs]})) as later:
        await later.tool("pay", lambda args: "paid")
        reopened = await later.request("resume", uid=uid)
        with pytest.raises(ApprovalError, match="alice is not asked"):
            later.approve(uid, ALICE, tmp_path)
        later.approve(uid, BOB, tmp_path)
        outcome = await later.request("resume", uid=uid)
    assert (reopened["status"], reopened["hold"]["approvers"]) == ("held", ["bob"])
    assert outcome["status"] == "succeeded"
    assert later.ran == [("pay", LESS)]


async def test_09_a_policy_that_denies_by_now_beats_an_approval_and_an_edit(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, settings()) as gate:
        uid = await held(gate)
        put(tmp_path, uid, ALICE, ALICE, args=LESS)
    freeze = {"id": "freeze", "tools": ["pay"], "effect": "deny"}
    async with Driver(tmp_path, settings(freeze)) as later:
        await later.tool("pay", lambda args: "paid")
        refused = await later.request("resume", uid=uid)
        later.approve(uid, ALICE, tmp_path)
        outcome = await later.request("resume", uid=uid)
    assert refused["status"] == "held"
    assert outcome["error"]["kind"] == "policy_denied"
    assert later.ran == []


async def test_27_the_gate_itself_checks_who_may_approve_and_edit(tmp_path: Path) -> None:
    lax = {**EDITABLE, "approval": {"approvers": ["alice", "bob"], "edit": True}}
    async with Driver(tmp_path, settings()) as gate:
        uid = await held(gate)
        # A command with another config than the gate's writes what the gate does not believe.
        desk = Desk(Driver(tmp_path, config(policy={"rules": [lax]})).config)
        hold = dataclasses.replace(desk.find(uid).hold)
        envelope = statement.sign(hold, "approve", "bob", BOB.key, clock.now(), args=LESS)
        desk.close()
        with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
            db.execute(
                "INSERT INTO approval (hold, envelope, at) VALUES (?, ?, ?)",
                (hold.hold_id, envelope, clock.now()),
            )
        db.close()
        outcome = await gate.request("resume", uid=uid)
    assert outcome["status"] == "held"
    assert gate.ran == []


async def test_27_the_approver_is_shown_what_the_signature_is_over(tmp_path: Path) -> None:
    async with Driver(tmp_path, settings()) as gate:
        uid = await held(gate)
        desk = Desk(gate.config)
        shown = desk.find(uid).to_json(reveal=True)
        desk.answer(uid, "approve", "alice", ALICE.key_file(tmp_path), digest=shown["digest"])
        (row,) = desk._journal.reader.approvals(shown["hold_id"])
        desk.close()
        await gate.request("resume", uid=uid)
    signed = jsonvalue.parse(statement.dsse.parse(row.envelope).payload)
    assert signed["digest"] == shown["digest"]
    assert gate.ran == [("pay", shown["args"])]
