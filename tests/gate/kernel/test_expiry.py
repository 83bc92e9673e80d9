"""A hold whose deadline passes ends by itself, told as expired, and nothing that was said is lost.

Regressions 16 (an expired hold says expired, not denied), 29 (an approval given in time and picked
up late counts; a hold past its deadline expires by itself).
"""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from support.clock import MINUTE, Clock
from support.driver import Driver
from support.logged import DB, events, journaled, kinds
from support.people import ALICE, config
from support.plans import call
from toolgate.errors import JournalUnavailable
from toolgate.journal.journal import Journal
from toolgate.kernel import expiry


def expiring(expires: str, **changes: Any) -> dict[str, Any]:
    """Return a config whose payments are held for so long, and whose others for ever."""
    rules = [
        {"id": "m", "tools": ["pay"], "effect": "hold", "approval": {"expires": expires}},
        {"id": "n", "tools": ["wait"], "effect": "hold", "approval": {"expires": "never"}},
        {"id": "r", "tools": ["search"], "effect": "allow"},
    ]
    return config(policy={"rules": rules}, **changes)


async def held(gate: Driver, tool: str = "pay", **args: Any) -> str:
    """Hold a call and return its uid."""
    await gate.tool(tool, lambda args: "done")
    outcome = await gate.govern(tool, args)
    assert outcome["status"] == "held"
    return str(outcome["uid"])


async def test_29_hold_past_its_deadline_expires_though_nobody_resumes_it(tmp_path: Path) -> None:
    async with Driver(tmp_path, expiring("30ms")) as gate:
        uid = await held(gate)
        await journaled(tmp_path, "action.rejected", uid)
        outcome = await gate.request("resume", uid=uid)
    assert kinds(tmp_path, uid)[-2:] == ["hold.expired", "action.rejected"]
    assert outcome["replayed"] is True
    assert outcome["error"]["kind"] == "approval_timeout"
    assert gate.ran == []


async def test_16_expired_hold_says_that_nobody_denied_it(tmp_path: Path) -> None:
    async with Driver(tmp_path, expiring("30ms")) as gate:
        uid = await held(gate)
        await journaled(tmp_path, "action.rejected", uid)
    error = events(tmp_path, uid)[-1][1]["error"]
    assert error["kind"] == "approval_timeout"
    assert error["message"].endswith("and nobody denied it")


async def test_the_first_of_several_deadlines_rings_first(tmp_path: Path) -> None:
    rules = [
        {"id": n, "tools": [n], "effect": "hold", "approval": {"expires": e}}
        for n, e in (("late", "1h"), ("early", "30ms"), ("later", "2h"))
    ]
    async with Driver(tmp_path, config(policy={"rules": rules})) as gate:
        uids = [await held(gate, name) for name in ("late", "early", "later")]
        await journaled(tmp_path, "hold.expired")
    assert ["hold.expired" in kinds(tmp_path, uid) for uid in uids] == [False, True, False]


async def test_hold_of_a_gate_that_died_is_expired_by_one_that_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    async with Driver(tmp_path, expiring("15m")) as gate:
        uid = await held(gate)
        gate.die()
    clock.forward(16 * MINUTE)
    async with Driver(tmp_path, expiring("15m")):
        await journaled(tmp_path, "hold.expired", uid)


async def test_hold_of_a_gate_that_died_is_expired_by_one_that_was_there_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "FAR", 0.02)
    async with Driver(tmp_path, expiring("40ms")), Driver(tmp_path, expiring("40ms")) as gate:
        uid = await held(gate)
        gate.die()
        await journaled(tmp_path, "hold.expired", uid)


async def test_overdue_holds_are_all_ended_however_many_a_gate_finds_at_its_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many = 2 * expiry.BATCH + 5
    clock = Clock(monkeypatch)
    async with Driver(tmp_path, expiring("15m")) as gate:
        await gate.tool("pay", lambda args: "paid")
        sent = [gate.send("govern", tool="pay", args={"n": n}) for n in range(many)]
        await asyncio.gather(*sent)
        gate.die()
    clock.forward(16 * MINUTE)
    async with Driver(tmp_path, expiring("15m")) as later:
        assert await later.request("ping") == {}
        await journaled(tmp_path, "hold.expired", times=many)
    assert kinds(tmp_path).count("hold.expired") == many


async def test_29_approval_given_in_time_is_not_expired_and_counts_when_it_is_picked_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    async with Driver(tmp_path, expiring("15m")) as gate:
        approved, other = await held(gate, n=1), await held(gate, n=2)
        gate.approve(approved, ALICE, tmp_path)
        gate.die()
    clock.forward(16 * MINUTE)
    async with Driver(tmp_path, expiring("15m")) as later:
        await later.tool("pay", lambda args: "paid late")
        await journaled(tmp_path, "hold.expired", other)
        outcome = await later.request("resume", uid=approved)
    assert outcome["output"] == "paid late"
    assert "hold.expired" not in kinds(tmp_path, approved)


async def test_approved_holds_that_nobody_picks_up_keep_no_other_from_expiring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "BATCH", 2)
    clock = Clock(monkeypatch)
    async with Driver(tmp_path, expiring("15m")) as gate:
        for n in range(3):
            gate.approve(await held(gate, n=n), ALICE, tmp_path)
        last = await held(gate, n=3)
        gate.die()
    clock.forward(16 * MINUTE)
    async with Driver(tmp_path, expiring("15m")):
        await journaled(tmp_path, "hold.expired", last)
    assert kinds(tmp_path).count("hold.expired") == 1


async def test_denial_given_in_time_ends_the_hold_as_denied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    async with Driver(tmp_path, expiring("15m")) as gate:
        uid = await held(gate)
        gate.approve(uid, ALICE, tmp_path, "deny")
        gate.die()
    clock.forward(16 * MINUTE)
    async with Driver(tmp_path, expiring("15m")) as later:
        await journaled(tmp_path, "action.rejected", uid)
        outcome = await later.request("resume", uid=uid)
    assert outcome["error"]["kind"] == "approval_denied"
    assert "approval.recorded" in kinds(tmp_path, uid)


async def test_17_hold_that_never_expires_outlives_every_deadline(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    async with Driver(tmp_path, expiring("15m")) as gate:
        forever, other = await held(gate, "wait"), await held(gate)
        gate.die()
    clock.forward(1_000_000 * MINUTE)
    async with Driver(tmp_path, expiring("15m")) as later:
        await later.tool("wait", lambda args: "at last")
        await journaled(tmp_path, "hold.expired", other)
        later.approve(forever, ALICE, tmp_path)
        outcome = await later.request("resume", uid=forever)
    assert outcome["output"] == "at last"


async def test_holds_of_another_agent_are_left_to_its_own_gates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    async with Driver(tmp_path, expiring("15m", agent={"id": "other"})) as gate:
        theirs = await held(gate)
        gate.die()
    async with Driver(tmp_path, expiring("15m")) as gate:
        mine = await held(gate)
        gate.die()
    clock.forward(16 * MINUTE)
    async with Driver(tmp_path, expiring("15m")):
        await journaled(tmp_path, "hold.expired", mine)
    assert "hold.expired" not in kinds(tmp_path, theirs)


@pytest.mark.tampers
async def test_hold_whose_row_was_changed_keeps_no_other_from_expiring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = Clock(monkeypatch)
    async with Driver(tmp_path, expiring("15m")) as gate:
        changed, other = await held(gate, n=1), await held(gate, n=2)
        gate.die()
    with sqlite3.connect(tmp_path / DB) as db:
        db.execute("UPDATE hold SET reason = 'x' WHERE uid = ?", (changed,))
    db.close()
    clock.forward(16 * MINUTE)
    async with Driver(tmp_path, expiring("15m")):
        await journaled(tmp_path, "hold.expired", other)
    assert "hold.expired" not in kinds(tmp_path, changed)


async def test_deadline_that_passes_while_the_store_cannot_be_read_is_made_up_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(expiry, "FAR", 0.02)
    due, failures = Journal.due, iter(range(3))

    def failing(journal: Journal, *asked: Any) -> Any:
        for _ in failures:
            raise JournalUnavailable("the journal could not be read: disk I/O error")
        return due(journal, *asked)

    monkeypatch.setattr(Journal, "due", failing)
    async with Driver(tmp_path, expiring("10ms")) as gate:
        uid = await held(gate)
        await journaled(tmp_path, "hold.expired", uid)


async def test_action_of_a_plan_expires_and_the_rest_goes_on_when_the_plan_is_resumed(
    tmp_path: Path,
) -> None:
    plan = {
        "actions": [
            call("pay", "pay", failure_behavior="skip"),
            call("look", "search", failure_behavior="skip"),
            call("then", "search", parameters={"q": 2}, dependencies=["pay"]),
        ]
    }
    async with Driver(tmp_path, expiring("60ms")) as gate:
        await gate.tool("pay", lambda args: "paid")
        await gate.tool("search", lambda args: "found")
        suspended = await gate.request("propose", proposal=plan)
        uid = suspended["results"][0]["uid"]
        await journaled(tmp_path, "hold.expired", uid)
        resumed = await gate.request("resume", uid=suspended["uid"])
    results = resumed["proposal"]["results"]
    assert resumed["proposal"]["status"] == "completed"
    assert [r["status"] for r in results] == ["rejected", "succeeded", "rejected"]
    assert results[0]["kind"] == "approval_timeout"


async def test_gate_looks_for_deadlines_when_one_passes_and_not_in_between(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    due, looks = Journal.due, []

    def counting(journal: Journal, *asked: Any) -> Any:
        looks.append(asked)
        return due(journal, *asked)

    monkeypatch.setattr(Journal, "due", counting)
    async with Driver(tmp_path, expiring("1h")) as gate:
        for n in range(50):
            await held(gate, n=n)
    assert len(looks) == 1
