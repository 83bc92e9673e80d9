"""An action of a plan whose body stops itself suspends the plan, and is entered again with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.driver import Driver
from support.people import ALICE
from support.plans import FAIL, World, call, of, plan_config, propose, sent, statuses, write

PLAN = [
    write("before", "k", 1),
    call("ask", "step", expected_effects={"heard": True}),
    call("tell", "peek", parameters={"text": "$ask.output"}),
]


async def stopped(gate: Driver, *plan: dict[str, Any]) -> Any:
    """Propose a plan whose `step` stops itself, and return its result."""
    await gate.tool("step")
    await World().equip(gate, "peek", "undo", "pay")
    proposed = sent(gate, *plan, idempotency_key="k")
    gate.suspend(await gate.runs.get())
    return await proposed


async def test_plan_is_suspended_by_a_body_that_stops_itself_and_goes_on_with_it(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        first = await stopped(gate, *PLAN)
        state = await gate.request("state")
    async with Driver(tmp_path, plan_config()) as later:
        await later.tool("step")
        world = World()
        await world.equip(later, "peek")
        resumed = later.send("resume", uid=first["uid"])
        later.answer(await later.runs.get(), "yes")
        result = (await resumed)["proposal"]
        after = await later.request("state")
    assert first["status"] == "suspended"
    assert statuses(first) == ["succeeded", "proposed", "proposed"]
    assert of(first, "ask")["attempts"] == 1
    assert state == {"k": 1}
    assert result["status"] == "completed"
    assert of(result, "ask")["attempts"] == 2
    assert world.done == [("peek", {"text": "yes"})]
    assert after == {"k": 1, "heard": True}


async def test_resume_that_waits_ends_when_the_body_stops_itself_again(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        uid = (await stopped(gate, *PLAN))["uid"]
        for name, attempt in ((uid, 2), (f"{uid}-2", 3)):
            resumed = gate.send("resume", uid=name, wait_ms=None)
            gate.suspend(await gate.runs.get())
            outcome = await resumed
            assert outcome["proposal"]["status"] == "suspended"
            assert of(outcome["proposal"], "ask")["attempts"] == attempt
        again = sent(gate, *PLAN, idempotency_key="k")
        gate.answer(await gate.runs.get(), "yes")
        assert (await again)["status"] == "completed"


async def test_approved_action_of_a_plan_that_stops_itself_is_not_asked_about_again(
    tmp_path: Path,
) -> None:
    plan = [call("pay", "pay"), call("tell", "peek")]
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("pay")
        await World().equip(gate, "peek")
        held = await propose(gate, *plan)
        gate.approve(f"{held['uid']}-1", ALICE, tmp_path)
        resumed = gate.send("resume", uid=held["uid"])
        gate.suspend(await gate.runs.get())
        suspended = (await resumed)["proposal"]
        resumed = gate.send("resume", uid=held["uid"])
        gate.answer(await gate.runs.get(), "paid")
        result = (await resumed)["proposal"]
    assert suspended["status"] == "suspended"
    assert of(suspended, "pay")["status"] == "held"
    assert of(suspended, "pay")["attempts"] == 1
    assert result["status"] == "completed"
    assert of(result, "pay")["attempts"] == 2


async def test_stopped_body_is_not_entered_again_when_its_plan_is_aborted_and_its_effects_are_told(
    tmp_path: Path,
) -> None:
    plan = [
        call("ask", "step", failure_behavior="skip"),
        {**FAIL, "dependencies": []},
    ]
    async with Driver(tmp_path, plan_config()) as gate:
        result = await stopped(gate, *plan)
        later = await gate.request("resume", uid=f"{result['uid']}-1")
    assert result["status"] == "aborted"
    assert of(result, "ask")["status"] == "skipped"
    assert [item["action_id"] for item in result["rollback"]["external_effects"]] == ["ask"]
    assert later["status"] == "skipped"
    assert len(gate.ran) == 1


async def test_plan_with_a_stopped_body_waits_for_a_client_that_has_its_tool(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        uid = (await stopped(gate, *PLAN))["uid"]
    async with Driver(tmp_path, plan_config()) as unable:
        outcome = await unable.request("resume", uid=uid)
    assert outcome["status"] == "held"
    assert outcome["error"]["kind"] == "unregistered_tool"


async def test_stopped_action_of_a_plan_can_be_withdrawn_and_the_rest_goes_on(
    tmp_path: Path,
) -> None:
    plan = [call("ask", "step", failure_behavior="skip"), call("tell", "peek")]
    async with Driver(tmp_path, plan_config()) as gate:
        uid = (await stopped(gate, *plan))["uid"]
        withdrawn = await gate.request("withdraw", uid=f"{uid}-1")
        result = (await gate.request("resume", uid=uid))["proposal"]
    assert withdrawn["status"] == "skipped"
    assert result["status"] == "completed"
    assert statuses(result) == ["skipped", "succeeded"]


async def test_compensation_that_stops_itself_is_entered_again_by_its_own_uid(
    tmp_path: Path,
) -> None:
    undo = {"type": "tool", "tool": "undo", "parameters": {}}
    plan = [call("a", "step", reversibility="compensable", compensation=undo), FAIL]
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step")
        await gate.tool("undo")
        proposed = sent(gate, *plan)
        gate.suspend(await gate.runs.get())
        result = await proposed
        [compensation] = result["rollback"]["compensations"]
        resumed = gate.send("resume", uid=compensation["uid"])
        gate.answer(await gate.runs.get(), "undone")
        outcome = await resumed
    assert result["status"] == "aborted"
    assert compensation["status"] == "proposed"
    assert (outcome["status"], outcome["output"]) == ("succeeded", "undone")
