"""Edits by approvers through the whole gate: what is signed is what runs, or nothing does."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from support.clock import MINUTE, Clock
from support.driver import Driver
from support.people import ALICE, BOB, MALLORY, Person, config
from toolgate import jsonvalue
from toolgate.approvals import statement
from toolgate.cli.policy.recorded import find
from toolgate.desk import Desk
from toolgate.errors import ApprovalError
from toolgate.journal.opening import inspect_journal
from toolgate.journal.verify import verify

PAY = {"amount": 900, "to": "supplier"}
LESS = {"amount": 90, "to": "supplier"}


def editable(*rules: dict[str, Any], quorum: int = 1, **changes: Any) -> dict[str, Any]:
    """Return a config whose payments wait for alice or bob, who may edit them."""
    money = {
        "id": "money",
        "tools": ["pay"],
        "effect": "hold",
        "reason": "a person looks at payments",
        "approval": {"approvers": ["alice", "bob"], "quorum": quorum, "edit": True},
    }
    return config(policy={"rules": [money, *rules]}, **changes)


def held_by(name: str, when: str, **approval: Any) -> dict[str, Any]:
    """Return one more rule that holds payments."""
    return {"id": name, "tools": ["pay"], "when": when, "effect": "hold", "approval": approval}


def edit(gate: Driver, uid: str, person: Person, folder: Path, args: dict[str, Any]) -> None:
    """Edit a held call's arguments as the command does."""
    desk = Desk(gate.config)
    try:
        desk.answer(uid, "approve", person.id, person.key_file(folder), args=args)
    finally:
        desk.close()


def insert(gate: Driver, uid: str, person: Person, args: dict[str, Any]) -> None:
    """Put a genuine edit beside a hold that the desk would refuse."""
    desk = Desk(gate.config)
    now = desk.find(uid).hold.opened_at + 1
    hold = desk.find(uid).hold
    envelope = statement.sign(hold, "approve", person.id, person.key, now, args=args)
    desk._journal.store.add_approval(hold.hold_id, envelope, now)
    desk.close()


def events(gate: Driver, uid: str) -> list[tuple[str, dict[str, Any]]]:
    """Return an action's events."""
    store = gate.gate.runtime._journal._store
    return [(event.kind, jsonvalue.parse(event.data)) for event in store.events(action=uid)]


def check(gate: Driver) -> None:
    """Check that the journal verifies."""
    journal = gate.gate.runtime._journal
    assert verify(journal._store, journal._key, lambda seen: None).problem is None


async def held(gate: Driver, args: dict[str, Any] = PAY, **declared: Any) -> str:
    """Leave a payment held and return its uid."""
    await gate.tool("pay", lambda args: f"paid {args['amount']}", **declared)
    outcome = await gate.govern("pay", args)
    assert outcome["status"] == "held"
    uid: str = outcome["uid"]
    return uid


async def test_edited_arguments_run_and_the_caller_is_told_them(tmp_path: Path) -> None:
    async with Driver(tmp_path, editable()) as gate:
        uid = await held(gate)
        edit(gate, uid, ALICE, tmp_path, LESS)
        outcome = await gate.request("resume", uid=uid)
        again = await gate.request("resume", uid=uid)
        kinds = [kind for kind, _ in events(gate, uid)]
        row = gate.gate.runtime._journal.reader.action(uid)
        check(gate)
    assert gate.ran == [("pay", LESS)]
    assert outcome["output"] == "paid 90"
    assert outcome["edited_args"] == again["edited_args"] == LESS
    assert row is not None
    assert jsonvalue.parse(row.args) == LESS
    assert kinds == [
        "action.proposed",
        "action.decided",
        "hold.opened",
        "approval.recorded",
        "hold.edited",
        "action.decided",
        "hold.released",
        "action.executing",
        "action.succeeded",
    ]


async def test_call_that_nobody_edited_has_no_edited_arguments(tmp_path: Path) -> None:
    async with Driver(tmp_path, editable()) as gate:
        uid = await held(gate)
        gate.approve(uid, ALICE, tmp_path)
        outcome = await gate.request("resume", uid=uid)
    assert "edited_args" not in outcome


async def test_edit_takes_approvals_of_other_arguments_away(tmp_path: Path) -> None:
    async with Driver(tmp_path, editable(quorum=2)) as gate:
        uid = await held(gate)
        gate.approve(uid, ALICE, tmp_path)
        edit(gate, uid, BOB, tmp_path, LESS)
        waiting = await gate.request("resume", uid=uid)
        gate.approve(uid, ALICE, tmp_path)
        outcome = await gate.request("resume", uid=uid)
    assert (waiting["status"], waiting["hold"]["approved_by"]) == ("held", ["bob"])
    assert outcome["edited_args"] == LESS
    assert gate.ran == [("pay", LESS)]


async def test_later_edit_supersedes_an_earlier_one(tmp_path: Path) -> None:
    least = {**LESS, "amount": 9}
    async with Driver(tmp_path, editable(quorum=2)) as gate:
        uid = await held(gate)
        edit(gate, uid, ALICE, tmp_path, LESS)
        edit(gate, uid, BOB, tmp_path, least)
        waiting = await gate.request("resume", uid=uid)
        gate.approve(uid, ALICE, tmp_path)
        outcome = await gate.request("resume", uid=uid)
    assert waiting["hold"]["approved_by"] == ["bob"]
    assert outcome["edited_args"] == least


async def test_denial_of_edited_arguments_denies_the_call(tmp_path: Path) -> None:
    async with Driver(tmp_path, editable(quorum=2)) as gate:
        uid = await held(gate)
        edit(gate, uid, ALICE, tmp_path, LESS)
        gate.approve(uid, BOB, tmp_path, "deny")
        outcome = await gate.request("resume", uid=uid)
        repeated = await gate.govern("pay", PAY)
    assert outcome["error"]["kind"] == repeated["error"]["kind"] == "approval_denied"
    assert "edited_args" not in outcome
    assert gate.ran == []


@pytest.mark.parametrize(
    "rules",
    [
        [held_by("second", "true", approvers=["alice"])],
        [{"id": "money", "tools": ["pay"], "effect": "hold", "approval": {"quorum": 1}}],
    ],
)
async def test_rule_that_allows_no_edits_keeps_everybody_from_editing(
    tmp_path: Path, rules: list[dict[str, Any]]
) -> None:
    value = editable(*rules) if len(rules[0]) == 5 else config(policy={"rules": rules})
    async with Driver(tmp_path, value) as gate:
        uid = await held(gate)
        with pytest.raises(ApprovalError, match="allows edits"):
            edit(gate, uid, ALICE, tmp_path, LESS)
        insert(gate, uid, ALICE, LESS)
        outcome = await gate.request("resume", uid=uid)
    assert outcome["status"] == "held"
    assert gate.ran == []


async def test_05_edited_arguments_are_validated_and_put_to_policy_again(tmp_path: Path) -> None:
    limit = {
        "id": "limit",
        "tools": ["pay"],
        "when": "args.amount > 5000",
        "effect": "deny",
        "reason": "nobody pays more than 5000",
    }
    typed = {"pay": {"parameters": {"required": ["to"], "type": "object"}}}
    async with Driver(tmp_path, editable(limit, tools=typed)) as gate:
        uid = await held(gate)
        for args, why in (
            ({"amount": 5001, "to": "x"}, "nobody pays more than 5000"),
            ({"amount": 90}, "not valid"),
        ):
            with pytest.raises(ApprovalError, match=why):
                edit(gate, uid, ALICE, tmp_path, args)
            insert(gate, uid, ALICE, args)
            outcome = await gate.request("resume", uid=uid)
            assert (outcome["status"], outcome["hold"]["approved_by"]) == ("held", [])
            refusals = [data for kind, data in events(gate, uid) if kind == "approval.refused"]
            assert why in refusals[-1]["reason"]
        gate.approve(uid, BOB, tmp_path)
        outcome = await gate.request("resume", uid=uid)
        check(gate)
    assert "edited_args" not in outcome
    assert gate.ran == [("pay", PAY)]


async def test_edit_that_the_clients_schema_refuses_leaves_the_call_held(tmp_path: Path) -> None:
    schema = {"properties": {"amount": {"type": "integer"}}}
    async with Driver(tmp_path, editable()) as gate:
        uid = await held(gate, parameters=schema)
        edit(gate, uid, ALICE, tmp_path, {"amount": "ninety"})
        waiting = gate.send("resume", uid=uid, wait_ms=None)
        await gate.request("ping")
        listed = (await gate.request("holds"))["holds"][0]
        gate.approve(uid, ALICE, tmp_path)
        outcome = await waiting
    assert (listed["args"], listed["status"]) == (PAY, "pending")
    assert outcome["output"] == "paid 900"


async def test_what_was_said_before_an_edit_that_is_refused_is_void(tmp_path: Path) -> None:
    async with Driver(tmp_path, editable(quorum=2)) as gate:
        uid = await held(gate, parameters={"properties": {"amount": {"type": "integer"}}})
        gate.approve(uid, ALICE, tmp_path)
        insert(gate, uid, BOB, {"amount": "ninety"})
        await gate.request("resume", uid=uid)
        gate.approve(uid, BOB, tmp_path)
        one = await gate.request("resume", uid=uid)
        gate.approve(uid, ALICE, tmp_path)
        two = await gate.request("resume", uid=uid)
    assert (one["status"], one["hold"]["approved_by"]) == ("held", ["bob"])
    assert two["output"] == "paid 900"


async def test_edit_never_makes_fewer_people_necessary(tmp_path: Path) -> None:
    two = held_by("large", "args.amount > 500", approvers=["alice", "bob"], quorum=2, edit=True)
    async with Driver(tmp_path, editable(two)) as gate:
        uid = await held(gate)
        edit(gate, uid, ALICE, tmp_path, LESS)
        waiting = await gate.request("resume", uid=uid)
        gate.approve(uid, BOB, tmp_path)
        outcome = await gate.request("resume", uid=uid)
    assert waiting["status"] == "held"
    assert [group["approved_by"] for group in waiting["hold"]["groups"]] == [["alice"], ["alice"]]
    assert waiting["hold"]["missing"] == [{"approvers": ["bob"], "quorum": 1, "rules": ["large"]}]
    assert outcome["edited_args"] == LESS
    assert gate.ran == [("pay", LESS)]


async def test_edit_that_needs_more_approvals_reopens_the_hold_for_them(tmp_path: Path) -> None:
    large = held_by("large", "args.amount > 500", approvers=["bob"], edit=True)
    async with Driver(tmp_path, editable(large)) as gate:
        uid = await held(gate, LESS)
        edit(gate, uid, ALICE, tmp_path, PAY)
        reopened = await gate.request("resume", uid=uid)
        gate.approve(uid, ALICE, tmp_path)
        still = await gate.request("resume", uid=uid)
        gate.approve(uid, BOB, tmp_path)
        outcome = await gate.request("resume", uid=uid)
        kinds = [kind for kind, _ in events(gate, uid)]
        check(gate)
    assert reopened["hold"]["rules"] == ["money", "large"]
    assert (reopened["hold"]["approved_by"], still["hold"]["approved_by"]) == ([], ["alice"])
    assert still["status"] == "held"
    assert outcome["edited_args"] == PAY
    assert kinds.index("hold.edited") < kinds.index("hold.reopened")
    assert gate.ran == [("pay", PAY)]


async def test_edit_may_not_bring_the_call_under_a_rule_that_allows_no_edits(
    tmp_path: Path,
) -> None:
    large = held_by("large", "args.amount > 500", approvers=["bob"])
    async with Driver(tmp_path, editable(large)) as gate:
        uid = await held(gate, LESS)
        with pytest.raises(ApprovalError, match="held by large, which allows no edits"):
            edit(gate, uid, ALICE, tmp_path, PAY)
        insert(gate, uid, ALICE, PAY)
        outcome = await gate.request("resume", uid=uid)
    assert outcome["status"] == "held"
    assert gate.ran == []


async def test_results_are_remembered_for_what_ran_and_not_for_what_was_proposed(
    tmp_path: Path,
) -> None:
    tools = {"pay": {"idempotent": True}}
    async with Driver(tmp_path, editable(tools=tools)) as gate:
        uid = await held(gate)
        edit(gate, uid, ALICE, tmp_path, LESS)
        await gate.request("resume", uid=uid)
        for args, edited in ((PAY, PAY), (LESS, LESS)):
            other = (await gate.govern("pay", args))["uid"]
            gate.approve(other, ALICE, tmp_path)
            outcome = await gate.request("resume", uid=other)
            assert outcome["output"] == f"paid {edited['amount']}"
        check(gate)
    assert gate.ran == [("pay", LESS), ("pay", PAY)]


async def test_edit_to_what_has_run_already_is_given_its_result(tmp_path: Path) -> None:
    tools = {"pay": {"idempotent": True}}
    async with Driver(tmp_path, editable(tools=tools)) as gate:
        first = await held(gate, LESS)
        gate.approve(first, ALICE, tmp_path)
        await gate.request("resume", uid=first)
        uid = (await gate.govern("pay", PAY))["uid"]
        edit(gate, uid, ALICE, tmp_path, LESS)
        outcome = await gate.request("resume", uid=uid)
    assert (outcome["output"], outcome["edited_args"]) == ("paid 90", LESS)
    assert gate.ran == [("pay", LESS)]


async def test_idempotency_key_means_the_action_by_its_proposed_arguments(tmp_path: Path) -> None:
    async with Driver(tmp_path, editable()) as gate:
        await gate.tool("pay", lambda args: f"paid {args['amount']}")
        uid = (await gate.govern("pay", PAY, idempotency_key="k"))["uid"]
        edit(gate, uid, ALICE, tmp_path, LESS)
        ran = await gate.govern("pay", PAY, idempotency_key="k")
        after = await gate.govern("pay", PAY, idempotency_key="k")
        with pytest.raises(Exception, match="another call"):
            await gate.govern("pay", LESS, idempotency_key="k")
    assert [o["uid"] for o in (ran, after)] == [uid, uid]
    assert ran["edited_args"] == after["edited_args"] == LESS
    assert gate.ran == [("pay", LESS)]


async def test_edit_counts_in_another_gate_after_a_restart(tmp_path: Path) -> None:
    async with Driver(tmp_path, editable(quorum=2)) as gate:
        uid = await held(gate)
        edit(gate, uid, ALICE, tmp_path, LESS)
        gate.die()
    async with Driver(tmp_path, editable(quorum=2)) as later:
        await later.tool("pay", lambda args: "paid by the second")
        later.approve(uid, BOB, tmp_path)
        outcome = await later.request("resume", uid=uid)
    assert (outcome["output"], outcome["edited_args"]) == ("paid by the second", LESS)
    assert later.ran == [("pay", LESS)]


async def test_policy_that_denies_the_edited_call_by_now_refuses_the_edit_alone(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, editable()) as gate:
        uid = await held(gate)
        edit(gate, uid, ALICE, tmp_path, LESS)
    small = {"id": "small", "tools": ["pay"], "when": "args.amount < 100", "effect": "deny"}
    async with Driver(tmp_path, editable(small)) as later:
        await later.tool("pay", lambda args: f"paid {args['amount']}")
        refused = await later.request("resume", uid=uid)
        later.approve(uid, BOB, tmp_path)
        outcome = await later.request("resume", uid=uid)
    assert (refused["status"], refused["hold"]["approved_by"]) == ("held", [])
    assert outcome["output"] == "paid 900"
    assert later.ran == [("pay", PAY)]


async def test_approver_may_insist_on_the_version_that_was_shown(tmp_path: Path) -> None:
    async with Driver(tmp_path, editable(quorum=2)) as gate:
        uid = await held(gate)
        desk = Desk(gate.config)
        shown = desk.find(uid).hold.digest
        edit(gate, uid, ALICE, tmp_path, LESS)
        with pytest.raises(ApprovalError, match="edited or reopened since"):
            desk.answer(uid, "approve", "bob", BOB.key_file(tmp_path), digest=shown)
        desk.answer(
            uid, "approve", "bob", BOB.key_file(tmp_path), digest=desk.find(uid).hold.digest
        )
        desk.close()
        outcome = await gate.request("resume", uid=uid)
    assert outcome["edited_args"] == LESS


async def test_answer_that_an_edit_overtakes_counts_for_nothing_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Driver(tmp_path, editable(quorum=2)) as gate:
        uid = await held(gate)
        desk = Desk(gate.config)
        add = desk._journal.store.add_approval

        def overtaken(hold: str, envelope: bytes, at: int, *, pending: bool) -> bool:
            monkeypatch.undo()
            edit(gate, uid, ALICE, tmp_path, LESS)
            return add(hold, envelope, at, pending=pending)

        monkeypatch.setattr(desk._journal.store, "add_approval", overtaken)
        with pytest.raises(ApprovalError, match="answered meanwhile"):
            desk.answer(uid, "approve", "bob", BOB.key_file(tmp_path))
        desk.close()
        outcome = await gate.request("resume", uid=uid)
    assert (outcome["status"], outcome["hold"]["approved_by"]) == ("held", ["alice"])


async def test_approver_sees_what_was_proposed_beside_what_would_run(tmp_path: Path) -> None:
    async with Driver(tmp_path, editable(quorum=2)) as gate:
        uid = await held(gate)
        gate.approve(uid, BOB, tmp_path)
        before = (await gate.request("holds"))["holds"][0]
        edit(gate, uid, ALICE, tmp_path, LESS)
        after = (await gate.request("holds"))["holds"][0]
    assert "edited_by" not in before
    assert (after["args"], after["proposed_args"], after["edited_by"]) == (LESS, PAY, "alice")
    assert after["digest"] != before["digest"]
    assert after["versions"] == [
        {"digest": before["digest"], "edited_by": None, "approved_by": ["bob"]},
        {"digest": after["digest"], "edited_by": "alice", "approved_by": ["alice"]},
    ]


async def test_late_edit_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    async with Driver(tmp_path, editable(quorum=2)) as gate:
        uid = await held(gate)
        clock.forward(16 * 60 * 1_000_000)
        with pytest.raises(ApprovalError, match="expired"):
            edit(gate, uid, ALICE, tmp_path, LESS)
        outcome = await gate.request("resume", uid=uid)
    assert outcome["error"]["kind"] == "approval_timeout"


SECRET = {"pay": {"redact": ["/card"]}}


@pytest.mark.parametrize("card", [None, "4222-2222"])
async def test_edit_of_redacted_arguments_is_for_approvers_and_nobody_else(
    tmp_path: Path, card: str | None
) -> None:
    async with Driver(tmp_path, editable(tools=SECRET, quorum=2)) as gate:
        uid = await held(gate, {"amount": 900, "card": "4111-1111"})
        shown = (await gate.request("holds"))["holds"][0]["args"]
        assert shown["card"].startswith("redacted:")
        edit(gate, uid, ALICE, tmp_path, {"amount": 90, "card": card or shown["card"]})
        await gate.request("resume", uid=uid)
        listed = (await gate.request("holds"))["holds"][0]
        desk = Desk(gate.config)
        asked = desk.find(uid)
        gate.approve(uid, BOB, tmp_path)
        outcome = await gate.request("resume", uid=uid)
        ended = desk.find(uid)
        desk.close()
        store, reader = gate.gate.runtime._journal._store, gate.gate.runtime._journal.reader
        log = b"".join(event.data for event in store.events())
        rows = reader.approvals(asked.hold.hold_id)
        row = reader.action(uid)
        check(gate)
    ran = {"amount": 90, "card": card or "4111-1111"}
    told = outcome["edited_args"]
    assert gate.ran == [("pay", ran)]
    assert asked.seen.args == ran
    assert listed["args"] == told
    assert told["amount"] == 90
    assert told["card"].startswith("redacted:")
    assert (told["card"] == shown["card"]) is (card is None)
    assert b"4111" not in log
    assert b"4222" not in log
    assert [bool(item.envelope) for item in rows] == [False, True]
    assert row is not None
    assert jsonvalue.parse(row.args) == told == ended.seen.args
    assert ended.tally.approved_by == ("alice", "bob")


PLAN: dict[str, Any] = {
    "id": "p",
    "actions": [
        {
            "id": "pay",
            "type": "tool_call",
            "tool": "pay",
            "parameters": PAY,
            "expected_effects": {"paid": True},
        },
        {
            "id": "note",
            "type": "state_write",
            "parameters": {"key": "note", "value": "$pay.output"},
        },
    ],
}


async def test_edited_arguments_are_those_of_a_plans_action_for_this_execution(
    tmp_path: Path,
) -> None:
    writes = {"id": "writes", "types": ["state_write"], "effect": "allow"}
    async with Driver(tmp_path, editable(writes)) as gate:
        await gate.tool("pay", lambda args: f"paid {args['amount']}")
        result = await gate.request("propose", proposal=PLAN)
        uid = result["results"][0]["uid"]
        edit(gate, uid, ALICE, tmp_path, LESS)
        outcome = await gate.request("resume", uid=uid)
        check(gate)
    assert outcome["edited_args"] == LESS
    assert outcome["proposal"]["status"] == "completed"
    assert gate.ran == [("pay", LESS)]
    changes = [result["state_changes"] for result in outcome["proposal"]["results"]]
    assert changes == [{"paid": True}, {"note": "paid 90"}]


async def test_edit_cannot_turn_a_state_write_to_another_key(tmp_path: Path) -> None:
    hold = {
        "id": "writes",
        "types": ["state_write"],
        "effect": "hold",
        "approval": {"edit": True},
    }
    plan = {
        "id": "p",
        "actions": [
            {"id": "w", "type": "state_write", "parameters": {"key": "a", "value": 1}},
        ],
    }
    async with Driver(tmp_path, editable(hold)) as gate:
        result = await gate.request("propose", proposal=plan)
        uid = result["results"][0]["uid"]
        with pytest.raises(ApprovalError, match="another state key"):
            edit(gate, uid, ALICE, tmp_path, {"key": "b", "value": 1})
        insert(gate, uid, ALICE, {"key": "b", "value": 1})
        refused = await gate.request("resume", uid=uid)
        edit(gate, uid, ALICE, tmp_path, {"key": "a", "value": 2})
        outcome = await gate.request("resume", uid=uid)
    assert refused["status"] == "held"
    assert outcome["edited_args"] == {"key": "a", "value": 2}
    assert outcome["state_changes"] == {"a": 2}


async def test_aborted_plan_forgets_the_result_of_what_ran(tmp_path: Path) -> None:
    tools = {"pay": {"idempotent": True}}
    allow = {"id": "rest", "tools": ["fail"], "effect": "allow"}
    plan = {
        "id": "p",
        "actions": [
            {"id": "pay", "type": "tool_call", "tool": "pay", "parameters": PAY},
            {"id": "fail", "type": "tool_call", "tool": "fail", "max_retries": 0},
        ],
    }
    async with Driver(tmp_path, editable(allow, tools=tools)) as gate:
        await gate.tool("pay", lambda args: f"paid {args['amount']}")
        await gate.tool("fail")
        uid = (await gate.request("propose", proposal=plan))["results"][0]["uid"]
        edit(gate, uid, ALICE, tmp_path, LESS)
        resuming = gate.send("resume", uid=uid)
        gate.fail(await gate.runs.get(), "no")
        outcome = await resuming
        other = (await gate.govern("pay", LESS))["uid"]
        gate.approve(other, ALICE, tmp_path)
        await gate.request("resume", uid=other)
        check(gate)
    assert outcome["proposal"]["status"] == "aborted"
    assert [args for tool, args in gate.ran if tool == "pay"] == [LESS, LESS]


async def test_plans_action_stays_held_when_its_edit_is_refused(tmp_path: Path) -> None:
    writes = {"id": "writes", "types": ["state_write"], "effect": "allow"}
    schema = {"properties": {"amount": {"type": "integer"}}}
    async with Driver(tmp_path, editable(writes)) as gate:
        await gate.tool("pay", lambda args: f"paid {args['amount']}", parameters=schema)
        uid = (await gate.request("propose", proposal=PLAN))["results"][0]["uid"]
        edit(gate, uid, ALICE, tmp_path, {"amount": "ninety"})
        refused = await gate.request("resume", uid=uid)
        told = [data.get("reason", "") for kind, data in events(gate, uid) if "refused" in kind]
        gate.approve(uid, ALICE, tmp_path)
        outcome = await gate.request("resume", uid=uid)
        check(gate)
    assert (refused["status"], refused["proposal"]["status"]) == ("held", "suspended")
    assert "the edit is refused: the arguments of pay are not valid" in told[-1]
    assert (outcome["output"], outcome["proposal"]["status"]) == ("paid 900", "completed")


async def test_edit_that_arrives_while_a_release_waits_for_its_rate_limit_is_what_runs(
    tmp_path: Path,
) -> None:
    tools = {"pay": {"rate_limit": {"max_calls": 1, "interval_secs": 0.4}}}
    async with Driver(tmp_path, editable(tools=tools)) as gate:
        first = await held(gate, {"amount": 1})
        uid = (await gate.govern("pay", PAY))["uid"]
        gate.approve(first, ALICE, tmp_path)
        gate.approve(uid, ALICE, tmp_path)
        await gate.request("resume", uid=first)
        waiting = gate.send("resume", uid=uid)
        await gate.request("ping")
        insert(gate, uid, BOB, LESS)
        outcome = await waiting
    assert outcome["edited_args"] == LESS
    assert gate.ran == [("pay", {"amount": 1}), ("pay", LESS)]


async def test_edited_call_that_runs_again_after_a_crash_runs_as_it_was_edited(
    tmp_path: Path,
) -> None:
    tools = {"pay": {"idempotent": True, "retries": 1}}
    async with Driver(tmp_path, editable(tools=tools)) as gate:
        await gate.tool("pay")
        uid = (await gate.govern("pay", PAY))["uid"]
        edit(gate, uid, ALICE, tmp_path, LESS)
        gate.send("resume", uid=uid)
        run = await gate.runs.get()
        gate.die()
    async with Driver(tmp_path, editable(tools=tools)) as later:
        await later.tool("pay", lambda args: f"paid {args['amount']}")
        outcome = await later.request("resume", uid=uid)
        check(later)
    assert run["params"]["args"] == LESS
    assert (outcome["output"], outcome["edited_args"]) == ("paid 90", LESS)
    assert later.ran == [("pay", LESS)]


async def test_policy_is_explained_by_what_was_proposed(tmp_path: Path) -> None:
    async with Driver(tmp_path, editable()) as gate:
        uid = await held(gate)
        edit(gate, uid, ALICE, tmp_path, LESS)
        await gate.request("resume", uid=uid)
        journal = inspect_journal(gate.config)
        call, _ = find(journal, gate.config, uid)
        journal.store.close()
    assert call.facts.args == PAY


CHOICES: tuple[dict[str, Any], ...] = (PAY, LESS, {"amount": 9999}, {"amount": "many"})
"""What may be held or edited: policy denies the third, the client's schema the last."""

OPERATIONS = st.lists(
    st.tuples(
        st.sampled_from([*["approve"] * 6, *["edit"] * 3, *["resume"] * 2, "deny", "end"]),
        st.sampled_from([ALICE, BOB, ALICE, BOB, MALLORY]),
        st.sampled_from([0, 1, 1, 2, 3]),
    ),
    min_size=4,
    max_size=10,
)


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(operations=OPERATIONS, end=st.sampled_from(["withdraw", "expire"]))
def test_nothing_runs_that_two_people_have_not_signed_whatever_happens_to_the_hold(
    tmp_path_factory: pytest.TempPathFactory,
    operations: list[tuple[str, Person, int]],
    end: str,
) -> None:
    folder = tmp_path_factory.mktemp("gate")
    limit = {"id": "most", "tools": ["pay"], "when": "args.amount == 9999", "effect": "deny"}

    async def run() -> None:
        signed: dict[str, set[str]] = {}
        ended = False
        with pytest.MonkeyPatch.context() as patch:
            clock = Clock(patch)
            async with Driver(folder, editable(limit, quorum=2)) as gate:
                schema = {"properties": {"amount": {"type": "integer"}}}
                uid = await held(gate, parameters=schema)
                for what, who, which in operations:
                    desk = Desk(gate.config)
                    view = desk.find(uid)
                    args = CHOICES[which] if what == "edit" else view.hold.args
                    if what == "resume":
                        await gate.request("resume", uid=uid)
                    elif what == "end" and end == "withdraw":
                        await gate.request("withdraw", uid=uid)
                        ended = True
                    elif what == "end":
                        clock.forward(16 * MINUTE)
                        ended = True
                    else:
                        # As somebody would who has the store, and his own key.
                        envelope = statement.sign(
                            view.hold if what != "edit" else view.base,
                            "deny" if what == "deny" else "approve",
                            who.id,
                            who.key,
                            clock.at,
                            args=args if what == "edit" else None,
                        )
                        desk._journal.store.add_approval(view.hold.hold_id, envelope, clock.at)
                        if who is not MALLORY and what != "deny" and not (gate.ran or ended):
                            signed.setdefault(jsonvalue.digest(args), set()).add(who.id)
                    desk.close()
                await gate.request("resume", uid=uid)
                check(gate)
        event(f"bodies run: {len(gate.ran)}")
        assert len(gate.ran) <= 1
        for _, args in gate.ran:
            assert signed[jsonvalue.digest(args)] == {"alice", "bob"}
            assert args in CHOICES[:2]

    asyncio.run(run())
