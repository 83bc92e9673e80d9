"""What a settlement of an action in doubt means for the proposal that it belongs to."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.doubts import settle, story
from support.driver import Driver
from support.people import ALICE
from support.plans import (
    World,
    call,
    kinds,
    of,
    plan_config,
    propose,
    sent,
    statuses,
    write,
)
from toolgate.errors import ApprovalError

PLAN = [
    write("before", "k", 1),
    call("pay", "step", parameters={"n": 1}, expected_effects={"paid": True}),
    call("tell", "peek", parameters={"text": "$pay.output.args.n"}),
]


async def broken_off(folder: Path, config: dict[str, Any], *plan: dict[str, Any]) -> str:
    """Leave a plan whose gate dies while `step` runs; return the proposal's uid."""
    async with Driver(folder, config) as gate:
        await gate.tool("step")
        await World().equip(gate, "peek", "undo")
        sent(gate, *plan, idempotency_key="k")
        uid: str = (await gate.runs.get())["params"]["uid"]
        gate.die()
    async with Driver(folder, config):
        # The next gate puts in doubt what this one ran, and leaves the proposal alone.
        return uid.partition("-")[0]


async def test_plan_goes_on_from_an_action_that_is_settled_as_succeeded_before_it_is_resumed(
    tmp_path: Path,
) -> None:
    uid = await broken_off(tmp_path, plan_config(), *PLAN)
    async with Driver(tmp_path, plan_config()) as gate:
        world = World()
        await world.equip(gate, "step", "peek")
        settle(gate, f"{uid}-2", "succeeded", tmp_path, output={"args": {"n": 7}})
        result = (await gate.request("resume", uid=uid))["proposal"]
        state = await gate.request("state")
    assert result["status"] == "completed"
    assert statuses(result) == ["succeeded"] * 3
    assert world.done == [("peek", {"text": 7})]
    # As after a late result, what it was expected to write is not written.
    assert state == {"k": 1}


async def test_plan_is_aborted_by_an_action_that_is_settled_as_failed(tmp_path: Path) -> None:
    uid = await broken_off(tmp_path, plan_config(), *PLAN)
    async with Driver(tmp_path, plan_config()) as gate:
        world = World()
        await world.equip(gate, "step", "peek")
        settle(gate, f"{uid}-2", "failed", tmp_path)
        result = (await gate.request("resume", uid=uid))["proposal"]
        state = await gate.request("state")
    assert result["status"] == "aborted"
    assert statuses(result) == ["succeeded", "failed", "skipped"]
    assert "settled it as failed" in of(result, "pay")["error"]
    assert (world.done, state) == ([], {})


async def test_plan_runs_an_action_once_more_that_is_settled_so_and_goes_on(
    tmp_path: Path,
) -> None:
    uid = await broken_off(tmp_path, plan_config(), *PLAN)
    async with Driver(tmp_path, plan_config()) as gate:
        world = World()
        await world.equip(gate, "step", "peek")
        settle(gate, f"{uid}-2", "retry", tmp_path)
        outcome = await gate.request("resume", uid=f"{uid}-2")
        state = await gate.request("state")
        again = await propose(gate, *PLAN, idempotency_key="k")
    assert (outcome["status"], outcome["attempts"]) == ("succeeded", 2)
    assert outcome["proposal"]["status"] == again["status"] == "completed"
    assert [name for name, _ in world.done] == ["step", "peek"]
    assert state == {"k": 1, "paid": True}
    assert outcome["proposal"]["cost"]["retries"] == 1


async def test_plan_goes_on_by_itself_from_an_action_of_an_idempotent_tool(
    tmp_path: Path,
) -> None:
    value = plan_config(tools={"step": {"level": 1, "idempotent": True}})
    uid = await broken_off(tmp_path, value, *PLAN)
    async with Driver(tmp_path, value) as gate:
        world = World()
        await world.equip(gate, "step", "peek")
        result = (await gate.request("resume", uid=uid))["proposal"]
    assert result["status"] == "completed"
    assert [name for name, _ in world.done] == ["step", "peek"]


async def test_plan_is_not_resumed_for_a_retry_by_a_client_that_lacks_the_tool(
    tmp_path: Path,
) -> None:
    uid = await broken_off(tmp_path, plan_config(), *PLAN)
    async with Driver(tmp_path, plan_config()) as unable:
        await World().equip(unable, "peek")
        settle(unable, f"{uid}-2", "retry", tmp_path)
        outcome = await unable.request("resume", uid=uid)
    async with Driver(tmp_path, plan_config()) as gate:
        world = World()
        await world.equip(gate, "step", "peek")
        result = (await gate.request("resume", uid=uid))["proposal"]
    assert outcome["status"] == "held"
    assert outcome["error"]["kind"] == "unregistered_tool"
    assert result["status"] == "completed"


async def test_plan_that_nobody_settles_is_aborted_by_its_doubt_as_ever(tmp_path: Path) -> None:
    uid = await broken_off(tmp_path, plan_config(), *PLAN)
    async with Driver(tmp_path, plan_config()) as gate:
        world = World()
        await world.equip(gate, "step", "peek")
        result = (await gate.request("resume", uid=uid))["proposal"]
        with pytest.raises(ApprovalError, match=f"its proposal {uid} is aborted"):
            settle(gate, f"{uid}-2", "retry", tmp_path)
        settle(gate, f"{uid}-2", "succeeded", tmp_path, output="done")
        later = (await gate.request("resume", uid=uid))["proposal"]
    assert kinds(result) == [None, "in_doubt", "cancelled"]
    assert later["status"] == "aborted"
    assert of(later, "pay")["output"] == "done"
    assert world.done == []


async def test_retry_that_policy_denies_by_now_aborts_the_plan_like_the_doubt_it_stays(
    tmp_path: Path,
) -> None:
    uid = await broken_off(tmp_path, plan_config(), *PLAN)
    no_step = {"id": "no-step", "tools": ["step"], "effect": "deny", "reason": "not today"}
    async with Driver(tmp_path, plan_config(no_step)) as gate:
        world = World()
        await world.equip(gate, "step", "peek")
        settle(gate, f"{uid}-2", "retry", tmp_path)
        result = (await gate.request("resume", uid=uid))["proposal"]
    assert result["status"] == "aborted"
    assert of(result, "pay")["kind"] == "in_doubt"
    assert "not today" in of(result, "pay")["error"]
    assert world.done == []


async def test_action_whose_failure_aborts_nothing_is_run_again_while_its_plan_waits_for_people(
    tmp_path: Path,
) -> None:
    plan = [
        call("a", "step", failure_behavior="skip", parameters={"n": 1}),
        call("p", "pay", failure_behavior="skip"),
    ]
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        await gate.tool("pay", lambda args: "paid")
        sent(gate, *plan)
        uid = (await gate.runs.get())["params"]["uid"]
        gate.die()
    async with Driver(tmp_path, plan_config()) as gate:
        world = World()
        await world.equip(gate, "step", "pay")
        settle(gate, uid, "retry", tmp_path)
        suspended = await gate.request("resume", uid=uid)
        gate.approve(f"{uid[:-2]}-2", ALICE, tmp_path)
        result = (await gate.request("resume", uid=uid))["proposal"]
    assert suspended["status"] == "succeeded"
    assert suspended["proposal"]["status"] == "suspended"
    assert statuses(result) == ["succeeded", "succeeded"]
    assert [name for name, _ in world.done] == ["step", "pay"]


async def test_gate_that_dies_again_in_a_retried_action_leaves_another_doubt(
    tmp_path: Path,
) -> None:
    uid = await broken_off(tmp_path, plan_config(), *PLAN)
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        await World().equip(gate, "peek")
        settle(gate, f"{uid}-2", "retry", tmp_path)
        gate.send("resume", uid=uid)
        await gate.runs.get()
        gate.die()
    async with Driver(tmp_path, plan_config()) as later:
        world = World()
        await world.equip(later, "step", "peek")
        doubt = story(later, f"{uid}-2").judged
        result = (await later.request("resume", uid=uid))["proposal"]
    assert doubt is not None
    assert doubt.settlement is None
    assert result["status"] == "aborted"
    assert of(result, "pay")["attempts"] == 2
    assert world.done == []


async def test_resume_that_is_cancelled_before_a_retry_began_aborts_the_plan_and_retries_nothing(
    tmp_path: Path,
) -> None:
    plan = [call("pay", "step")]
    uid = await broken_off(tmp_path, plan_config(), *plan)
    async with Driver(tmp_path, plan_config()) as gate:
        world = World()
        await world.equip(gate, "step")
        settle(gate, f"{uid}-1", "retry", tmp_path)
        request = gate.send("resume", uid=uid)
        gate.cancel(request)
        result = (await request)["proposal"]
    assert result["status"] == "aborted"
    assert of(result, "pay")["kind"] == "in_doubt"
    assert world.done == []
