"""Plans that wait for people: suspended, answered, resumed, and to the same end as any other."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.clock import MINUTE, Clock
from support.driver import Driver
from support.people import ALICE, BOB
from support.plans import (
    FAIL,
    World,
    call,
    check,
    events,
    kinds,
    needs,
    of,
    plan_config,
    propose,
    read,
    statuses,
    timeless,
    write,
)

SKIP: dict[str, Any] = {"failure_behavior": "skip"}
RETRY: dict[str, Any] = {"failure_behavior": "retry"}


def unheld(**changes: Any) -> dict[str, Any]:
    """Return a config in which nothing is held, and all else is as in the other."""
    value = plan_config(**changes)
    value["policy"]["rules"] = [allowing(rule) for rule in value["policy"]["rules"]]
    return value


def allowing(rule: dict[str, Any]) -> dict[str, Any]:
    """Return a rule that allows what this one holds; any other as it is."""
    if rule["effect"] != "hold":
        return rule
    return {key: rule[key] for key in rule.keys() - {"approval"}} | {"effect": "allow"}


def bare(value: Any) -> Any:
    """Return a result without what tells two runs of one proposal apart, nor who allowed it."""
    if isinstance(value, dict):
        left_out = {"uid", "timestamp", "duration_ms", "total_duration_ms", "decision"}
        return {key: bare(item) for key, item in value.items() if key not in left_out}
    return [bare(item) for item in value] if isinstance(value, list) else value


PLANS: dict[str, list[dict[str, Any]]] = {
    "in order": [
        write("w", "k", 1),
        call("pay", "pay", parameters={"k": 1}, expected_effects={"paid": True}),
        call("receipt", parameters={"of": "$pay.output.args"}, state_dependencies=["paid"]),
        read("r", "paid"),
    ],
    "beside others": [
        call("a", parameters={"n": 1}, **RETRY),
        call("pay", "pay", parameters={"n": 2}, **RETRY),
        call("b", parameters={"n": 3}, dependencies=["pay"], **SKIP),
        call("c", parameters={"n": 4}, **SKIP),
    ],
    "that aborts": [
        write("w", "k", 1),
        call("pay", "pay", expected_effects={"paid": True}),
        check("x", "paid", False),
        call("never"),
    ],
    "with a held write": [
        write("asked", "asked", {"deep": [1]}),
        read("r", "asked"),
        call("a", expected_effects={"asked more": 1}),
    ],
    "that fails when released": [
        call("pay", "pay", parameters={"n": 1}, **SKIP),
        call("lies", "pay-lies", **RETRY),
        call("after", dependencies=["lies"], **SKIP),
    ],
    "with a repeat": [
        call("one", "pay", idempotent=True),
        call("two", "pay", idempotent=True),
        call("three", idempotent=True),
    ],
}


@pytest.mark.parametrize("killed", ["held", "approved"])
@pytest.mark.parametrize("plan", PLANS)
async def test_plan_suspended_by_a_hold_ends_in_another_gate_as_an_unheld_run_does(
    tmp_path: Path, plan: str, killed: str
) -> None:
    held_lies = {"id": "lies", "tools": ["pay-lies"], "effect": "hold", "approval": {}}
    free, asked = tmp_path / "free", tmp_path / "asked"
    free.mkdir()
    asked.mkdir()

    async def equip(gate: Driver) -> None:
        await World().equip(gate, "step", "pay")
        await gate.tool("pay-lies", lambda args: "this", returns={"const": "that"})

    allowed = unheld()
    allowed["policy"]["rules"].append(allowing(held_lies))
    async with Driver(free, allowed) as gate:
        await equip(gate)
        expected = await propose(gate, *PLANS[plan])
        expected_state = await gate.request("state")
    async with Driver(asked, plan_config(held_lies)) as gate:
        await equip(gate)
        result = await propose(gate, *PLANS[plan])
        assert result["status"] == "suspended"
        uid = result["uid"]
        if killed == "held":
            gate.die()
    rounds, approved = 0, set[str]()
    while result["status"] == "suspended":
        rounds += 1
        assert rounds <= 3
        async with Driver(asked, plan_config(held_lies)) as later:
            await equip(later)
            for item in result["results"]:
                if item["status"] == "held" and item["uid"] not in approved:
                    approved.add(item["uid"])
                    later.approve(item["uid"], ALICE, tmp_path)
            if killed == "approved" and rounds == 1:
                later.die()
                continue
            outcome = await later.request("resume", uid=uid)
            result = outcome["proposal"]
            state = await later.request("state")
            if result["status"] == "suspended":
                later.die()
    assert without_numbers(bare(result)) == without_numbers(bare(expected))
    assert state == expected_state


def without_numbers(value: Any) -> Any:
    """Leave out how many bodies had run: each gate counts its own."""
    if isinstance(value, dict):
        return {key: without_numbers(item) for key, item in value.items() if key != "number"}
    return [without_numbers(item) for item in value] if isinstance(value, list) else value


async def test_nothing_listed_after_a_held_action_that_would_abort_starts(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", "pay")
        held = await propose(gate, call("a", **RETRY), call("pay", "pay"), call("mail", **RETRY))
    assert statuses(held) == ["succeeded", "held", "proposed"]


async def test_denied_action_never_aborts_and_its_dependants_are_rejected(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", "pay")
        held = await propose(
            gate,
            call("pay", "pay"),
            call("b", dependencies=["pay"]),
            call("c", parameters={"n": 1}),
        )
        gate.approve(of(held, "pay")["uid"], ALICE, tmp_path, "deny")
        outcome = await gate.request("resume", uid=of(held, "pay")["uid"])
        again = await gate.request("resume", uid=of(held, "pay")["uid"])
    assert (outcome["status"], outcome["action_id"]) == ("rejected", "pay")
    assert outcome["proposal"]["status"] == "completed"
    assert kinds(outcome["proposal"]) == ["approval_denied", "dependency_failed", None]
    assert timeless(again["proposal"]) == timeless(outcome["proposal"])
    assert again["replayed"] is True


async def test_withdrawn_action_lets_the_rest_go_on(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", "pay")
        held = await propose(gate, call("pay", "pay"), call("c"))
        withdrawn = await gate.request("withdraw", uid=of(held, "pay")["uid"])
        result = (await gate.request("resume", uid=held["uid"]))["proposal"]
        with pytest.raises(Exception, match="withdrawn"):
            gate.approve(of(held, "pay")["uid"], ALICE, tmp_path)
    assert withdrawn["status"] == "skipped"
    assert kinds(result) == ["cancelled", None]
    assert gate.ran == [("step", {})]


async def test_hold_that_expired_is_told_so_and_the_plan_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", "pay")
        held = await propose(gate, call("pay", "pay"), call("c"))
        clock.forward(16 * MINUTE)
        result = (await gate.request("resume", uid=held["uid"]))["proposal"]
    assert kinds(result) == ["approval_timeout", None]
    assert gate.ran == [("step", {})]


async def test_two_holds_are_answered_one_by_one_or_together(tmp_path: Path) -> None:
    plan = [call(f"p{n}", "pay", parameters={"n": n}, **SKIP) for n in range(2)]
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay")
        one, both = await propose(gate, *plan), await propose(gate, *plan)
        gate.approve(of(one, "p1")["uid"], ALICE, tmp_path)
        first = (await gate.request("resume", uid=of(one, "p0")["uid"]))["proposal"]
        gate.approve(of(one, "p0")["uid"], ALICE, tmp_path)
        second = (await gate.request("resume", uid=of(one, "p0")["uid"]))["proposal"]
        for item in both["results"]:
            gate.approve(item["uid"], ALICE, tmp_path)
        together = (await gate.request("resume", uid=both["uid"]))["proposal"]
    assert statuses(one) == ["held", "held"]
    assert (statuses(first), first["status"]) == (["held", "succeeded"], "suspended")
    assert (statuses(second), second["status"]) == (["succeeded", "succeeded"], "completed")
    assert statuses(together) == ["succeeded", "succeeded"]
    assert len(gate.ran) == 4


async def test_resume_that_waits_goes_on_through_one_hold_after_the_other(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay", "step")
        plan = [call("a", "pay"), call("b", "pay", parameters={"n": 1}), call("c")]
        held = await propose(gate, *plan)
        waiting = gate.send("resume", uid=held["uid"], wait_ms=None)
        for name in "ab":
            await gate.request("ping")
            assert not waiting.done()
            while of((await still(gate, held["uid"])), name)["status"] != "held":
                await gate.request("ping")
            gate.approve(of(held, name)["uid"], ALICE, tmp_path)
            if name == "a":
                while not gate.ran:
                    await asyncio.wait({waiting}, timeout=0.01)
        outcome = await waiting
    assert outcome["status"] == "succeeded"
    assert statuses(outcome["proposal"]) == ["succeeded"] * 3


async def still(gate: Driver, uid: str) -> Any:
    """Return how a proposal stands."""
    return (await gate.request("resume", uid=uid))["proposal"]


async def test_waiting_resume_ends_with_the_time_it_was_given(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay")
        held = await propose(gate, call("a", "pay"))
        of_plan = await gate.request("resume", uid=held["uid"], wait_ms=10)
        of_action = await gate.request("resume", uid=of(held, "a")["uid"], wait_ms=10)
    assert of_plan["status"] == of_action["status"] == "held"
    assert of_action["hold"]["rule"] == "money"
    assert of_plan["proposal"]["status"] == "suspended"


async def test_resume_without_an_answer_leaves_no_trace(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay", "step")
        held = await propose(gate, call("a", "pay"), call("b"))
        before = len(events(gate))
        for _ in range(3):
            assert await still(gate, held["uid"]) == await still(gate, held["uid"])
        after = len(events(gate))
    assert before == after


async def test_resume_by_a_client_without_the_tool_says_so_and_the_hold_stays(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay", "step")
        held = await propose(gate, call("a", "pay"), call("b"))
        gate.approve(of(held, "a")["uid"], ALICE, tmp_path)
    async with Driver(tmp_path, plan_config()) as bare_gate:
        told = await bare_gate.request("resume", uid=of(held, "a")["uid"], wait_ms=None)
        assert told["error"]["kind"] == "unregistered_tool"
        assert "register it" in told["error"]["message"]
        await World().equip(bare_gate, "pay")
        without_step = await bare_gate.request("resume", uid=of(held, "a")["uid"], wait_ms=None)
        ran = list(bare_gate.ran)
        await World().equip(bare_gate, "step")
        done = (await bare_gate.request("resume", uid=held["uid"]))["proposal"]
    assert statuses(told["proposal"]) == ["held", "proposed"]
    assert without_step["error"]["details"] == {"tools": ["step"]}
    assert statuses(without_step["proposal"]) == ["held", "proposed"]
    assert ran == []
    assert statuses(done) == ["succeeded", "succeeded"]


async def test_plan_is_not_resumed_by_a_client_that_could_not_compensate_it(tmp_path: Path) -> None:
    undo: dict[str, Any] = {
        "reversibility": "compensable",
        "compensation": {"type": "tool", "tool": "undo", "parameters": {}},
    }
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay", "step", "undo")
        held = await propose(gate, call("a", **undo), call("b", "pay"), FAIL)
        gate.approve(of(held, "b")["uid"], ALICE, tmp_path)
    async with Driver(tmp_path, plan_config()) as bare_gate:
        await World().equip(bare_gate, "pay")
        told = await bare_gate.request("resume", uid=held["uid"])
        ran = list(bare_gate.ran)
        await World().equip(bare_gate, "undo")
        done = (await bare_gate.request("resume", uid=held["uid"]))["proposal"]
    assert (told["error"]["kind"], ran) == ("unregistered_tool", [])
    assert done["status"] == "aborted"
    assert [item["status"] for item in done["rollback"]["compensations"]] == ["succeeded"]


async def test_tool_that_nobody_had_from_the_beginning_is_not_waited_for(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay")
        held = await propose(gate, call("a", "pay"), call("b", "step nobody has", **SKIP))
        gate.approve(of(held, "a")["uid"], ALICE, tmp_path)
        done = (await gate.request("resume", uid=held["uid"]))["proposal"]
    assert done["status"] == "completed"
    assert kinds(done) == [None, "unregistered_tool"]


async def test_04_everything_is_looked_at_again_when_an_action_is_released(
    tmp_path: Path,
) -> None:
    plan = [
        call("state", "pay", parameters={"n": 1}, preconditions=needs("open", "eq", True), **SKIP),
        call("policy", "pay", parameters={"n": 2}, **SKIP),
        call("effect", "pay", parameters={"n": 3}, expected_effects={"later": 1}, **SKIP),
        call("schema", "pay", parameters={"n": 4}, **SKIP),
    ]
    async with Driver(tmp_path, plan_config(state={"open": True})) as gate:
        await World().equip(gate, "pay")
        held = await propose(gate, *plan)
        for item in held["results"]:
            gate.approve(item["uid"], ALICE, tmp_path)
        await propose(gate, write("shut", "open", False))
    strict = plan_config(
        {"id": "no-two", "tools": ["pay"], "when": "args.n == 2", "effect": "deny"},
        {
            "id": "not-later",
            "types": ["state_write"],
            "when": 'args.key == "later"',
            "effect": "deny",
        },
    )
    async with Driver(tmp_path, strict) as later:
        schema = {"properties": {"n": {"maximum": 3}}}
        await World().equip(later, "pay", parameters=schema)
        result = (await later.request("resume", uid=held["uid"]))["proposal"]
    assert kinds(result) == [
        "precondition_failed",
        "policy_denied",
        "policy_denied",
        "invalid_arguments",
    ]
    assert later.ran == []


async def test_requirement_that_changed_asks_again(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay", "step")
        held = await propose(gate, call("a", "pay"), call("b"))
        gate.approve(of(held, "a")["uid"], ALICE, tmp_path)
    stricter = {
        "id": "bob-too",
        "tools": ["pay"],
        "effect": "hold",
        "approval": {"approvers": ["bob"]},
    }
    async with Driver(tmp_path, plan_config(stricter)) as later:
        await World().equip(later, "pay", "step")
        reopened = await still(later, held["uid"])
        later.approve(of(held, "a")["uid"], ALICE, tmp_path)
        half = await still(later, held["uid"])
        later.approve(of(held, "a")["uid"], BOB, tmp_path)
        done = await still(later, held["uid"])
    assert statuses(reopened) == statuses(half) == ["held", "proposed"]
    assert of(reopened, "a")["hold"]["approvers"] == ["alice", "bob"]
    assert statuses(done) == ["succeeded", "succeeded"]


async def test_abort_withdraws_what_is_still_held(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay")
        result = await propose(gate, call("a", "pay", **SKIP), write("w", "k", 1), FAIL)
        pending = await gate.request("holds", status="pending")
    assert result["status"] == "aborted"
    assert kinds(result) == ["cancelled", None, "execution_failed"]
    assert pending["holds"] == []


async def test_two_resumes_of_one_plan_run_it_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolgate.kernel.plans.LOOK_AGAIN", 0.02)
    async with Driver(tmp_path, plan_config()) as one, Driver(tmp_path, plan_config()) as two:
        world = World()
        for gate in (one, two):
            await world.equip(gate, "pay", "step")
        plan = [call("a", "pay"), *(call(f"b{n}", parameters={"n": n}) for n in range(5))]
        held = await propose(one, *plan)
        one.approve(of(held, "a")["uid"], ALICE, tmp_path)
        asked = [
            gate.send("resume", uid=uid, wait_ms=5000)
            for gate in (one, two)
            for uid in (held["uid"], of(held, "a")["uid"], held["uid"])
        ]
        outcomes = await asyncio.gather(*asked)
        final = [await still(gate, held["uid"]) for gate in (one, two)]
    assert all(outcome["status"] in ("succeeded", "executing") for outcome in outcomes)
    assert statuses(final[0]) == ["succeeded"] * 6
    assert timeless(final[0]) == timeless(final[1])
    assert len(world.done) == 6


async def test_plan_that_runs_in_another_gate_is_told_of_and_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolgate.kernel.plans.LOOK_AGAIN", 0.02)
    async with Driver(tmp_path, plan_config()) as one, Driver(tmp_path, plan_config()) as two:
        await one.tool("step")
        await World().equip(two, "step")
        proposed = one.send(
            "propose",
            proposal={"actions": [call("a"), call("b", parameters={"n": 1})]},
            idempotency_key="k",
        )
        run = await one.runs.get()
        uid = run["params"]["uid"]
        told = await two.request("resume", uid=uid)
        of_plan = await two.request("resume", uid=uid.rpartition("-")[0])
        by_key = await two.request(
            "propose",
            proposal={"actions": [call("a"), call("b", parameters={"n": 1})]},
            idempotency_key="k",
        )
        waiting = two.send("resume", uid=uid.rpartition("-")[0], wait_ms=5000)
        one.answer(run, 1)
        one.answer(await one.runs.get(), 2)
        await proposed
        waited = await waiting
    assert told["status"] == of_plan["status"] == "executing"
    assert by_key["status"] == "running"
    assert waited["status"] == "succeeded"
    assert two.ran == []


async def test_thousand_actions_before_a_hold_make_no_resume_dear(tmp_path: Path) -> None:
    loop = asyncio.get_running_loop()
    actions = [write(f"w{n}", "k", n) for n in range(1000)]
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay")
        held = await propose(gate, *actions, call("pay", "pay"))
        started = loop.time()
        await still(gate, held["uid"])
        took = loop.time() - started
        gate.approve(of(held, "pay")["uid"], ALICE, tmp_path)
        done = await still(gate, held["uid"])
    assert done["status"] == "completed"
    assert took < 1.0


async def test_time_of_a_body_stands_still_while_it_waits_for_a_plan_of_its_own(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        await World().equip(gate, "pay")
        outer = gate.send("propose", proposal={"actions": [call("a", timeout_ms=40)]})
        run = await gate.runs.get()
        inner = await propose(gate, call("pay", "pay"), parent=run["params"]["uid"])
        waiting = gate.send("resume", uid=inner["uid"], wait_ms=None)
        ended, _ = await asyncio.wait({outer, waiting}, timeout=0.08)
        assert not ended
        gate.approve(of(inner, "pay")["uid"], ALICE, tmp_path)
        assert (await waiting)["status"] == "succeeded"
        gate.answer(run, "in its time")
        result = await outer
    assert result["results"][0]["output"] == "in its time"


async def test_action_of_a_plan_is_told_by_its_local_name_wherever_it_is_asked_for(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay")
        held = await propose(gate, call("pay", "pay"))
        resumed = await gate.request("resume", uid=of(held, "pay")["uid"])
        withdrawn = await gate.request("withdraw", uid=of(held, "pay")["uid"])
    assert [outcome["action_id"] for outcome in (resumed, withdrawn)] == ["pay", "pay"]
