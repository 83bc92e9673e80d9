"""Held actions through the whole gate: asked, answered, released, and run exactly once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.clock import MINUTE, Clock
from support.driver import Driver
from support.people import ALICE, BOB, MALLORY, config
from toolgate.errors import ApprovalError
from toolgate.wire.messages import RPCError

PAY = {"amount": 100, "to": "supplier"}


async def paying(gate: Driver, **more: Any) -> dict[str, Any]:
    """Register the tool `pay` and propose a payment."""
    await gate.tool("pay", lambda args: f"paid {args['amount']}")
    outcome: dict[str, Any] = await gate.govern("pay", PAY, **more)
    return outcome


async def test_held_call_is_answered_at_once_and_its_body_has_not_run(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        outcome = await paying(gate)
    assert outcome["status"] == "held"
    assert outcome["hold"]["reason"] == "a person looks at payments"
    assert outcome["hold"]["rule"] == "money"
    assert outcome["hold"]["approvers"] == ["alice"]
    assert outcome["hold"]["quorum"] == 1
    assert outcome["hold"]["approved_by"] == []
    assert gate.ran == []


async def test_approved_action_runs_once_and_is_replayed_after_that(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
        gate.approve(uid, ALICE, tmp_path)
        first = await gate.request("resume", uid=uid)
        second = await gate.request("resume", uid=uid)
    assert first["output"] == second["output"] == "paid 100"
    assert [first["replayed"], second["replayed"]] == [False, True]
    assert gate.ran == [("pay", PAY)]


async def test_resume_without_an_answer_stays_held_however_often(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
        outcomes = [await gate.request("resume", uid=uid) for _ in range(3)]
    assert [outcome["status"] for outcome in outcomes] == ["held"] * 3
    assert gate.ran == []


async def test_denied_action_never_runs_and_the_agent_is_told_by_whom(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
        gate.approve(uid, ALICE, tmp_path, "deny")
        outcome = await gate.request("resume", uid=uid)
        with pytest.raises(ApprovalError, match="denied"):
            gate.approve(uid, ALICE, tmp_path)
    assert outcome["status"] == "rejected"
    assert outcome["error"]["kind"] == "approval_denied"
    assert outcome["error"]["message"] == "denied by alice: because"
    assert gate.ran == []


async def test_hold_survives_the_gates_death_and_another_gate_runs_it_once(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
        gate.die()
    gate.approve(uid, ALICE, tmp_path)
    async with Driver(tmp_path, config()) as later:
        await later.tool("pay", lambda args: "paid by the second gate")
        outcome = await later.request("resume", uid=uid)
        again = await later.request("resume", uid=uid)
    assert outcome["output"] == again["output"] == "paid by the second gate"
    assert gate.ran == []
    assert later.ran == [("pay", PAY)]


async def test_idempotency_key_of_a_held_call_resumes_it(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        held = await paying(gate, idempotency_key="step-7")
        still = await gate.govern("pay", PAY, idempotency_key="step-7")
        gate.approve(held["uid"], ALICE, tmp_path)
        ran = await gate.govern("pay", PAY, idempotency_key="step-7")
        after = await gate.govern("pay", PAY, idempotency_key="step-7")
    assert [o["uid"] for o in (still, ran, after)] == [held["uid"]] * 3
    assert [o["status"] for o in (held, still, ran, after)] == [
        "held",
        "held",
        "succeeded",
        "succeeded",
    ]
    assert len(gate.ran) == 1


async def test_same_call_while_held_joins_that_hold_instead_of_asking_twice(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        first = await paying(gate)
        second = await gate.govern("pay", PAY)
        other = await gate.govern("pay", {**PAY, "amount": 101})
        holds = (await gate.request("holds"))["holds"]
    assert second["uid"] == first["uid"]
    assert other["uid"] != first["uid"]
    assert len(holds) == 2


async def test_repeats_ask_again_where_the_operator_wants_that(tmp_path: Path) -> None:
    approvals = {"approvers": [ALICE.pinned, BOB.pinned], "repeat": "ask"}
    async with Driver(tmp_path, config(approvals=approvals)) as gate:
        first = await paying(gate)
        second = await gate.govern("pay", PAY)
    assert second["uid"] != first["uid"]


async def test_call_a_person_denied_is_denied_again_without_asking(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
        gate.approve(uid, ALICE, tmp_path, "deny")
        await gate.request("resume", uid=uid)
        repeated = await gate.govern("pay", PAY)
        keyed = await gate.govern("pay", PAY, idempotency_key="other")
        different = await gate.govern("pay", {**PAY, "amount": 1})
        pending = (await gate.request("holds", status="pending"))["holds"]
    for outcome in (repeated, keyed):
        assert outcome["status"] == "rejected"
        assert outcome["error"]["kind"] == "approval_denied"
        assert "denied by alice" in outcome["error"]["message"]
    assert different["status"] == "held"
    assert len(pending) == 1


async def test_denied_call_stays_denied_although_an_equal_one_is_still_held(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        first = await paying(gate, idempotency_key="one")
        await gate.govern("pay", PAY, idempotency_key="two")
        gate.approve(first["uid"], ALICE, tmp_path, "deny")
        await gate.request("resume", uid=first["uid"])
        repeated = await gate.govern("pay", PAY)
        keyed = await gate.govern("pay", PAY, idempotency_key="three")
    assert repeated["error"]["kind"] == keyed["error"]["kind"] == "approval_denied"


async def test_denial_is_forgotten_in_another_session(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
        gate.approve(uid, ALICE, tmp_path, "deny")
        await gate.request("resume", uid=uid)
    async with Driver(tmp_path, config()) as other:
        assert (await paying(other))["status"] == "held"


async def test_quorum_needs_as_many_different_people(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("wire_money", lambda args: "wired")
        uid = (await gate.govern("wire_money", {}))["uid"]
        gate.approve(uid, ALICE, tmp_path)
        one = await gate.request("resume", uid=uid)
        with pytest.raises(ApprovalError, match="already spoken"):
            gate.approve(uid, ALICE, tmp_path)
        gate.approve(uid, BOB, tmp_path)
        two = await gate.request("resume", uid=uid)
    assert (one["status"], one["hold"]["approved_by"]) == ("held", ["alice"])
    assert two["output"] == "wired"


async def test_one_denial_denies_whatever_others_approved(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("wire_money", lambda args: "wired")
        uid = (await gate.govern("wire_money", {}))["uid"]
        gate.approve(uid, ALICE, tmp_path)
        gate.approve(uid, BOB, tmp_path, "deny")
        outcome = await gate.request("resume", uid=uid)
    assert outcome["error"]["kind"] == "approval_denied"
    assert gate.ran == []


async def test_level_four_is_held_without_any_rule_for_any_pinned_approver(tmp_path: Path) -> None:
    rules = [{"id": "all", "tools": ["*"], "effect": "allow"}]
    async with Driver(tmp_path, config(policy={"rules": rules})) as gate:
        await gate.tool("vault", lambda args: "opened")
        held = await gate.govern("vault", {})
        gate.approve(held["uid"], BOB, tmp_path)
        outcome = await gate.request("resume", uid=held["uid"])
    assert held["hold"]["approvers"] == ["alice", "bob"]
    assert outcome["output"] == "opened"


async def test_hold_that_nobody_could_approve_is_refused_at_once(tmp_path: Path) -> None:
    rules = [{"id": "ask", "tools": ["pay"], "effect": "hold"}]
    async with Driver(tmp_path, config(policy={"rules": rules}, approvals={})) as gate:
        outcome = await paying(gate)
    assert outcome["status"] == "rejected"
    assert outcome["error"]["kind"] == "approval_required"
    assert "approvals.approvers" in outcome["error"]["message"]


async def test_hold_past_its_deadline_expired_and_was_denied_by_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
        clock.forward(16 * MINUTE)
        listed = (await gate.request("holds"))["holds"][0]["status"]
        with pytest.raises(ApprovalError, match="expired"):
            gate.approve(uid, ALICE, tmp_path)
        outcome = await gate.request("resume", uid=uid)
    assert listed == "expired"
    assert outcome["error"]["kind"] == "approval_timeout"
    assert "denied" not in outcome["error"]["message"].replace("nobody denied", "")
    assert gate.ran == []


async def test_approval_given_in_time_and_picked_up_late_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
        gate.approve(uid, ALICE, tmp_path)
        clock.forward(60 * MINUTE)
        outcome = await gate.request("resume", uid=uid)
    assert outcome["output"] == "paid 100"


async def test_waiting_resume_is_released_by_the_approval(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
        waiting = gate.send("resume", uid=uid, wait_ms=None)
        await gate.request("ping")
        gate.approve(uid, ALICE, tmp_path)
        outcome = await waiting
    assert outcome["output"] == "paid 100"


async def test_waiting_resume_ends_after_its_time_and_the_hold_stays(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
        outcome = await gate.request("resume", uid=uid, wait_ms=30)
        holds = (await gate.request("holds", status="pending"))["holds"]
    assert outcome["status"] == "held"
    assert [hold["uid"] for hold in holds] == [uid]


async def test_hold_expires_under_a_waiting_resume_by_itself(tmp_path: Path) -> None:
    rules = [
        {"id": "m", "tools": ["pay"], "effect": "hold", "approval": {"expires": "50ms"}},
    ]
    async with Driver(tmp_path, config(policy={"rules": rules})) as gate:
        uid = (await paying(gate))["uid"]
        outcome = await gate.request("resume", uid=uid, wait_ms=None)
    assert outcome["error"]["kind"] == "approval_timeout"


async def test_cancelled_wait_withdraws_the_hold_so_a_later_approval_runs_nothing(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
        waiting = gate.send("resume", uid=uid, wait_ms=None)
        await gate.request("ping")
        gate.cancel(waiting)
        outcome = await waiting
        with pytest.raises(ApprovalError, match="withdrawn"):
            gate.approve(uid, ALICE, tmp_path)
        again = await gate.request("resume", uid=uid)
    assert (outcome["status"], outcome["error"]["kind"]) == ("skipped", "cancelled")
    assert again["error"]["kind"] == "cancelled"
    assert gate.ran == []


async def test_withdrawn_hold_runs_nothing_even_with_an_approval_given_before(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
        gate.approve(uid, ALICE, tmp_path)
        await gate.request("withdraw", uid=uid)
        outcome = await gate.request("resume", uid=uid)
    assert outcome["error"]["kind"] == "cancelled"
    assert gate.ran == []


async def test_withdrawing_what_has_ended_changes_nothing(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
        gate.approve(uid, ALICE, tmp_path)
        await gate.request("resume", uid=uid)
        outcome = await gate.request("withdraw", uid=uid)
    assert outcome["output"] == "paid 100"


async def test_leaving_never_withdraws(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
        waiting = gate.send("resume", uid=uid, wait_ms=None)
        await gate.request("ping")
        await gate.request("shutdown")
        outcome = await waiting
    gate.approve(uid, ALICE, tmp_path)
    async with Driver(tmp_path, config()) as later:
        await later.tool("pay", lambda args: "paid")
        resumed = await later.request("resume", uid=uid)
    assert outcome["status"] == "held"
    assert resumed["output"] == "paid"


async def test_client_that_has_not_registered_the_tool_leaves_the_hold_as_it_is(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
    gate.approve(uid, ALICE, tmp_path)
    async with Driver(tmp_path, config()) as other:
        told = await other.request("resume", uid=uid, wait_ms=None)
        await other.tool("pay", lambda args: "paid")
        outcome = await other.request("resume", uid=uid)
    assert told["status"] == "held"
    assert told["error"]["kind"] == "unregistered_tool"
    assert outcome["output"] == "paid"


async def test_policy_that_denies_by_now_beats_an_approval(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
    gate.approve(uid, ALICE, tmp_path)
    rules = [{"id": "freeze", "tools": ["pay"], "effect": "deny", "reason": "accounts are frozen"}]
    async with Driver(tmp_path, config(policy={"rules": rules})) as later:
        await later.tool("pay", lambda args: "paid")
        outcome = await later.request("resume", uid=uid)
    assert outcome["error"] == {"kind": "policy_denied", "message": "accounts are frozen"}
    assert later.ran == []


async def test_changed_requirement_asks_again_and_old_approvals_do_not_count(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
    gate.approve(uid, ALICE, tmp_path)
    stricter = [
        {
            "id": "money",
            "tools": ["pay"],
            "effect": "hold",
            "approval": {"approvers": ["alice", "bob"], "quorum": 2},
        }
    ]
    async with Driver(tmp_path, config(policy={"rules": stricter})) as later:
        await later.tool("pay", lambda args: "paid")
        reopened = await later.request("resume", uid=uid)
        later.approve(uid, ALICE, tmp_path)
        later.approve(uid, BOB, tmp_path)
        outcome = await later.request("resume", uid=uid)
    assert reopened["status"] == "held"
    assert reopened["hold"]["approved_by"] == []
    assert reopened["hold"]["quorum"] == 2
    assert outcome["output"] == "paid"


async def test_approval_stands_when_only_other_parts_of_the_policy_changed(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
    gate.approve(uid, ALICE, tmp_path)
    rules = [*config()["policy"]["rules"], {"id": "new", "tools": ["other"], "effect": "allow"}]
    async with Driver(tmp_path, config(policy={"rules": rules})) as later:
        await later.tool("pay", lambda args: "paid")
        outcome = await later.request("resume", uid=uid)
    assert outcome["output"] == "paid"


async def test_arguments_are_checked_again_by_the_schema_of_the_resuming_client(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
    gate.approve(uid, ALICE, tmp_path)
    async with Driver(tmp_path, config()) as later:
        schema = {"properties": {"amount": {"maximum": 50}}}
        await later.tool("pay", lambda args: "paid", parameters=schema)
        outcome = await later.request("resume", uid=uid)
    assert outcome["error"]["kind"] == "invalid_arguments"
    assert later.ran == []


async def test_approval_releases_no_other_call_even_of_the_same_tool_and_arguments(
    tmp_path: Path,
) -> None:
    approvals = {"approvers": [ALICE.pinned, BOB.pinned], "repeat": "ask"}
    async with Driver(tmp_path, config(approvals=approvals)) as gate:
        first, second = (await paying(gate))["uid"], (await paying(gate))["uid"]
        gate.approve(first, ALICE, tmp_path)
        other = await gate.request("resume", uid=second)
        mine = await gate.request("resume", uid=first)
    assert other["status"] == "held"
    assert mine["status"] == "succeeded"
    assert len(gate.ran) == 1


async def test_key_that_is_not_pinned_cannot_answer(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
        with pytest.raises(ApprovalError, match="mallory"):
            gate.approve(uid, MALLORY, tmp_path)
        with pytest.raises(ApprovalError, match="not asked"):
            gate.approve(uid, BOB, tmp_path)


async def test_wait_of_many_holds_is_woken_one_by_one(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay", lambda args: args["amount"])
        uids = [(await gate.govern("pay", {"amount": n}))["uid"] for n in range(20)]
        waiting = [gate.send("resume", uid=uid, wait_ms=None) for uid in uids]
        await gate.request("ping")
        gate.approve(uids[7], ALICE, tmp_path)
        outcome = await waiting[7]
        assert [future.done() for future in waiting].count(True) == 1
    assert outcome["output"] == 7


async def test_waiting_holds_do_not_count_as_calls_in_flight(tmp_path: Path) -> None:
    async with Driver(tmp_path, config(limits={"max_in_flight": 1})) as gate:
        uid = (await paying(gate))["uid"]
        waiting = gate.send("resume", uid=uid, wait_ms=None)
        await gate.request("ping")
        await gate.tool("search", lambda args: "found")
        assert (await gate.govern("search", {}))["output"] == "found"
        gate.approve(uid, ALICE, tmp_path)
        assert (await waiting)["status"] == "succeeded"


async def test_06_two_gates_racing_for_one_hold_run_it_once(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as one, Driver(tmp_path, config()) as two:
        uid = (await paying(one))["uid"]
        await two.tool("pay", lambda args: "paid by two")
        one.approve(uid, ALICE, tmp_path)
        requests = [gate.send("resume", uid=uid) for gate in (one, two, one, two)]
        outcomes = [await request for request in requests]
        final = await two.request("resume", uid=uid)
    assert len(one.ran) + len(two.ran) == 1
    assert {outcome["status"] for outcome in outcomes} <= {"succeeded", "executing"}
    assert final["status"] == "succeeded"


async def test_holds_are_listed_by_status_a_page_at_a_time(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        uids = [(await gate.govern("pay", {"amount": n}))["uid"] for n in range(5)]
        gate.approve(uids[0], ALICE, tmp_path)
        await gate.request("resume", uid=uids[0])
        first = await gate.request("holds", status="pending", limit=3)
        second = await gate.request("holds", status="pending", limit=3, after=first["next"])
        released = await gate.request("holds", status="released")
        with pytest.raises(RPCError):
            await gate.request("holds", status="nonsense")
    assert [hold["uid"] for hold in first["holds"] + second["holds"]] == uids[1:]
    assert second["next"] is None
    assert [hold["uid"] for hold in released["holds"]] == uids[:1]
    assert first["holds"][0]["args"] == {"amount": 1}


async def test_answered_hold_is_listed_as_what_it_has_come_to_before_anybody_resumes_it(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        uids = [(await gate.govern("pay", {"amount": n}))["uid"] for n in range(3)]
        gate.approve(uids[0], ALICE, tmp_path)
        gate.approve(uids[1], ALICE, tmp_path, "deny")
        listed = {
            status: [h["uid"] for h in (await gate.request("holds", status=status))["holds"]]
            for status in ("released", "denied", "pending", "expired", "withdrawn")
        }
    assert listed == {
        "released": uids[:1],
        "denied": uids[1:2],
        "pending": uids[2:],
        "expired": [],
        "withdrawn": [],
    }


async def test_holds_of_another_project_in_the_same_journal_are_not_shown_or_answered(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = (await paying(gate))["uid"]
    async with Driver(tmp_path, config(project="elsewhere")) as other:
        listed = (await other.request("holds"))["holds"]
        with pytest.raises(ApprovalError, match="has no hold"):
            other.approve(uid, ALICE, tmp_path)
    async with Driver(tmp_path, config(agent={"id": "another"})) as another:
        anothers = (await another.request("holds"))["holds"]
    assert listed == anothers == []
