"""A runaway agent cannot fill the approvers' desk: so many of its calls are held, and no more."""

from __future__ import annotations

import asyncio
from collections import Counter
from pathlib import Path
from typing import Any

from support.driver import Driver
from support.logged import events, journaled, kinds
from support.people import ALICE, config
from support.plans import World, call, plan_config, propose


def capped(most: int, **changes: Any) -> dict[str, Any]:
    """Return a config under which an agent may have so many calls held."""
    value = config(**changes)
    value["approvals"]["max_pending"] = most
    return value


async def held(gate: Driver, number: int, first: int = 0) -> list[dict[str, Any]]:
    """Propose so many payments at once and return their outcomes."""
    await gate.tool("pay", lambda args: "paid")
    sent = [gate.send("govern", tool="pay", args={"n": first + n}) for n in range(number)]
    return list(await asyncio.gather(*sent))


async def test_call_over_the_limit_is_rejected_and_nobody_is_asked(tmp_path: Path) -> None:
    async with Driver(tmp_path, capped(2)) as gate:
        outcomes = await held(gate, 3)
        await gate.tool("search", lambda args: "found")
        allowed = await gate.govern("search", {})
        pending = (await gate.request("holds", status="pending"))["holds"]
    assert [outcome["status"] for outcome in outcomes] == ["held", "held", "rejected"]
    assert outcomes[2]["error"]["kind"] == "rate_limited"
    assert "approvals.max_pending" in outcomes[2]["error"]["message"]
    assert outcomes[2]["decision"]["effect"] == "hold"
    assert allowed["output"] == "found"
    assert len(pending) == 2
    assert kinds(tmp_path, outcomes[2]["uid"]) == [
        "action.proposed",
        "action.decided",
        "limit.reached",
        "action.rejected",
    ]


async def test_hold_that_ends_makes_room_for_another(tmp_path: Path) -> None:
    async with Driver(tmp_path, capped(3)) as gate:
        uids = [outcome["uid"] for outcome in await held(gate, 3)]
        gate.approve(uids[0], ALICE, tmp_path)
        gate.approve(uids[1], ALICE, tmp_path, "deny")
        await gate.request("resume", uid=uids[0])
        await gate.request("resume", uid=uids[1])
        await gate.request("withdraw", uid=uids[2])
        again = await held(gate, 4, first=10)
    assert [outcome["status"] for outcome in again] == ["held"] * 3 + ["rejected"]


async def test_hold_that_expires_makes_room_although_nobody_resumes_it(tmp_path: Path) -> None:
    rules = [{"id": "m", "tools": ["pay"], "effect": "hold", "approval": {"expires": "30ms"}}]
    async with Driver(tmp_path, capped(1, policy={"rules": rules})) as gate:
        uid = (await held(gate, 1))[0]["uid"]
        await journaled(tmp_path, "hold.expired", uid)
        again = await held(gate, 1, first=1)
    assert again[0]["status"] == "held"


async def test_limit_holds_over_sessions_gates_and_restarts(tmp_path: Path) -> None:
    async with Driver(tmp_path, capped(5)) as one, Driver(tmp_path, capped(5)) as two:
        outcomes = await asyncio.gather(held(one, 6), held(two, 6, first=10))
    async with Driver(tmp_path, capped(5)) as later:
        after = await held(later, 1, first=20)
    statuses = Counter(outcome["status"] for pair in outcomes for outcome in pair)
    assert statuses == {"held": 5, "rejected": 7}
    assert after[0]["error"]["kind"] == "rate_limited"


async def test_each_agent_has_a_limit_of_its_own(tmp_path: Path) -> None:
    async with Driver(tmp_path, capped(1)) as gate:
        await held(gate, 2)
    async with Driver(tmp_path, capped(1, agent={"id": "another"})) as another:
        outcomes = await held(another, 1)
    assert outcomes[0]["status"] == "held"


async def test_repeat_of_a_held_call_joins_its_hold_where_there_is_no_room(tmp_path: Path) -> None:
    async with Driver(tmp_path, capped(1)) as gate:
        first, repeated = [(await held(gate, 1))[0] for _ in range(2)]
    assert (repeated["status"], repeated["uid"]) == ("held", first["uid"])


async def test_action_of_a_plan_over_the_limit_is_rejected_and_the_rest_goes_on(
    tmp_path: Path,
) -> None:
    value = plan_config()
    value["approvals"]["max_pending"] = 1
    async with Driver(tmp_path, value) as gate:
        await World().equip(gate, "pay", "step")
        await gate.govern("pay", {"n": 0})
        result = await propose(
            gate, call("pay", "pay"), call("then", dependencies=["pay"]), call("rest")
        )
    assert result["status"] == "completed"
    assert [item["status"] for item in result["results"]] == ["rejected", "rejected", "succeeded"]
    assert result["results"][0]["kind"] == "rate_limited"
    told = [data for kind, data in events(tmp_path) if kind == "limit.reached"]
    assert told == [{"kind": "rate_limited", "limit": "approvals.max_pending", "held": 1}]
