"""Approvals without signatures, for development: they count where the operator says so, loudly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.people import ALICE, BOB, config
from toolgate import clock, jsonvalue
from toolgate.approvals import statement
from toolgate.desk import Desk
from toolgate.errors import ApprovalError, ConfigError, PolicyError
from toolgate.policy.loading import UNSIGNED_WARNING

RULE = {"id": "money", "tools": ["pay"], "effect": "hold"}


def development(approval: dict[str, Any] | None = None, **approvals: Any) -> dict[str, Any]:
    """Return a config for development, of which nobody has a key unless ``approvers`` are given."""
    rule = RULE if approval is None else {**RULE, "approval": approval}
    return config(policy={"rules": [rule]}, approvals={"allow_unsigned": True, **approvals})


def answer(gate: Driver, uid: str, name: str, verdict: Any = "approve", **more: Any) -> None:
    """Answer a hold as the command does without a key."""
    desk = Desk(gate.config)
    try:
        desk.answer(uid, verdict, name, None, **more)
    finally:
        desk.close()


def events(gate: Driver, kind: str) -> list[dict[str, Any]]:
    """Return the data of the journal's events of a kind."""
    store = gate.gate.runtime._journal._store
    return [jsonvalue.parse(event.data) for event in store.events() if event.kind == kind]


async def held(gate: Driver) -> dict[str, Any]:
    """Leave a payment held and return its outcome."""
    await gate.tool("pay", lambda args: "paid")
    outcome: dict[str, Any] = await gate.govern("pay", {"amount": 1})
    return outcome


async def test_without_keys_and_names_anybody_approves_and_everything_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Driver(tmp_path, development()) as gate:
        outcome = await held(gate)
        answer(gate, outcome["uid"], "whoever")
        listed = (await gate.request("holds"))["holds"][0]
        resumed = await gate.request("resume", uid=outcome["uid"])
        opened, recorded, released = (
            events(gate, kind) for kind in ("hold.opened", "approval.recorded", "hold.released")
        )
    assert resumed["output"] == "paid"
    assert UNSIGNED_WARNING in gate.ready["warnings"]
    assert f"toolgate: warning: {UNSIGNED_WARNING}" in capsys.readouterr().err
    assert outcome["hold"]["approvers"] == ["*"]
    assert outcome["hold"]["allow_unsigned"] is True
    assert listed["unsigned"] == ["whoever"]
    assert [group["approved_by"] for group in listed["groups"]] == [["whoever"]]
    assert (outcome["hold"]["missing"][0]["approvers"], listed["missing"]) == (["*"], [])
    assert opened[0]["requirement"]["unsigned"] is True
    assert recorded[0]["unsigned"] is True
    assert released[0]["unsigned"] == ["whoever"]


async def test_names_of_a_rule_need_no_keys_and_nobody_else_is_asked(tmp_path: Path) -> None:
    settings = development({"approvers": ["dora", "emil"], "quorum": 2})
    async with Driver(tmp_path, settings) as gate:
        uid = (await held(gate))["uid"]
        answer(gate, uid, "dora")
        for name, why in (("dora", "already spoken"), ("mallory", "dora, emil may answer")):
            with pytest.raises(ApprovalError, match=why):
                answer(gate, uid, name)
        waiting = await gate.request("resume", uid=uid)
        answer(gate, uid, "emil")
        resumed = await gate.request("resume", uid=uid)
    assert (waiting["status"], resumed["output"]) == ("held", "paid")


async def test_signed_answers_count_beside_unsigned_ones(tmp_path: Path) -> None:
    settings = development({"approvers": ["alice", "dora"], "quorum": 2}, approvers=[ALICE.pinned])
    async with Driver(tmp_path, settings) as gate:
        uid = (await held(gate))["uid"]
        gate.approve(uid, ALICE, tmp_path)
        answer(gate, uid, "dora")
        await gate.request("resume", uid=uid)
        released = events(gate, "hold.released")[0]
    assert (released["approved_by"], released["unsigned"]) == (["alice", "dora"], ["dora"])


async def test_unsigned_denial_denies(tmp_path: Path) -> None:
    async with Driver(tmp_path, development()) as gate:
        uid = (await held(gate))["uid"]
        answer(gate, uid, "whoever", "deny")
        outcome = await gate.request("resume", uid=uid)
    assert outcome["error"]["kind"] == "approval_denied"


async def test_level_4_is_answered_by_anybody_too(tmp_path: Path) -> None:
    async with Driver(tmp_path, development()) as gate:
        await gate.tool("vault", lambda args: "opened")
        uid = (await gate.govern("vault"))["uid"]
        answer(gate, uid, "whoever")
        outcome = await gate.request("resume", uid=uid)
    assert outcome["output"] == "opened"


async def test_without_the_setting_an_unsigned_statement_never_counts(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await held(gate))["uid"]
        with pytest.raises(ApprovalError, match="an answer is signed"):
            answer(gate, uid, "alice")
        desk = Desk(gate.config)
        hold = desk.find(uid).hold
        envelope = statement.sign(hold, "approve", "alice", None, clock.now())
        desk._journal.store.add_approval(hold.hold_id, envelope, clock.now())
        desk.close()
        outcome = await gate.request("resume", uid=uid)
    assert (outcome["status"], outcome["hold"]["approved_by"]) == ("held", [])
    assert gate.ran == []


async def test_unsigned_approval_of_a_gate_for_development_releases_nothing_in_another(
    tmp_path: Path,
) -> None:
    signed = config(
        policy={"rules": [{**RULE, "approval": {"approvers": ["alice"]}}]},
        approvals={"approvers": [ALICE.pinned, BOB.pinned]},
    )
    async with Driver(tmp_path, development({"approvers": ["alice"]})) as gate:
        uid = (await held(gate))["uid"]
        answer(gate, uid, "alice")
    async with Driver(tmp_path, signed) as strict:
        await strict.tool("pay", lambda args: "paid")
        waiting = await strict.request("resume", uid=uid)
        strict.approve(uid, ALICE, tmp_path)
        reopened = await strict.request("resume", uid=uid)
        strict.approve(uid, ALICE, tmp_path)
        outcome = await strict.request("resume", uid=uid)
    assert (waiting["status"], waiting["hold"]["approved_by"]) == ("held", [])
    assert (reopened["status"], "allow_unsigned" in reopened["hold"]) == ("held", False)
    assert outcome["output"] == "paid"


async def test_hold_of_a_gate_with_signatures_is_not_answered_without_one_later(
    tmp_path: Path,
) -> None:
    signed = config(approvals={"approvers": [ALICE.pinned, BOB.pinned]})
    async with Driver(tmp_path, signed) as gate:
        uid = (await held(gate))["uid"]
    async with Driver(tmp_path, development(approvers=[ALICE.pinned])) as later:
        with pytest.raises(ApprovalError, match="nobody has signed"):
            answer(later, uid, "alice")


def test_names_without_keys_are_an_error_where_answers_are_signed(tmp_path: Path) -> None:
    from toolgate.config import parse_config
    from toolgate.policy import compile_policy

    settings = development({"approvers": ["dora"]}, approvers=[ALICE.pinned])
    settings["approvals"]["allow_unsigned"] = False
    with pytest.raises(PolicyError, match="dora is not among"):
        compile_policy(parse_config(settings, tmp_path))


def test_no_approver_can_be_called_what_stands_for_anybody(tmp_path: Path) -> None:
    from toolgate.config import parse_config

    with pytest.raises(ConfigError, match="nobody's id"):
        parse_config(config(approvals={"approvers": [{**ALICE.pinned, "id": "*"}]}), tmp_path)
