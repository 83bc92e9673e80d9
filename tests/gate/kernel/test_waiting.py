"""Waiting for people holds no thread, polls nothing expensive, misses no answer, and is bounded.

Regressions 17 (waiting for ever is possible and holds no thread) and 30 (memory does not grow;
polling one hold slows nobody).
"""

from __future__ import annotations

import asyncio
import statistics
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.logged import journaled, kinds
from support.people import ALICE, BOB, config
from support.plans import World, call, plan_config, propose
from toolgate.embedding import Kernel, TooManyCalls
from toolgate.journal.journal import Journal
from toolgate.kernel import waiting
from toolgate.kernel.plan_steps import PlanSteps
from toolgate.kernel.waiting import Waiting
from toolgate.wire.messages import RPCError

PAY = {"amount": 100}


async def paying(gate: Driver, **args: Any) -> str:
    """Hold a payment and return its uid."""
    await gate.tool("pay", lambda args: f"paid {args['amount']}")
    outcome = await gate.govern("pay", PAY | args)
    assert outcome["status"] == "held"
    return str(outcome["uid"])


async def many(gate: Driver, number: int) -> list[str]:
    """Hold so many payments and return their uids."""
    await gate.tool("pay", lambda args: args["amount"])
    sent = [gate.send("govern", tool="pay", args={"amount": n}) for n in range(number)]
    return [outcome["uid"] for outcome in await asyncio.gather(*sent)]


async def asleep(gate: Driver, waiters: int) -> None:
    """Return once so many requests of the gate wait for people; the test's bound ends the wait."""
    register = gate.gate.runtime.engine._waiting._waiters
    while len(set().union(*register.values())) < waiters:  # noqa: ASYNC110 - nobody tells of it
        await asyncio.sleep(0.001)


class Counted:
    """Counts the calls of a method."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.calls = 0
        self._next = asyncio.Event()
        original = getattr(owner, name)

        def counting(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            self._next.set()
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, counting)

    async def reach(self, calls: int) -> None:
        """Return once there were so many; the test's bound ends the wait."""
        while self.calls < calls:
            self._next.clear()
            await self._next.wait()


def lasting_threads() -> set[threading.Thread]:
    """Return the threads there are, but for one that may be writing the anchor just now."""
    return {each for each in threading.enumerate() if each.name != "toolgate-anchor"}


async def test_17_thousand_waits_hold_no_thread_and_each_ends_soon_after_its_approval(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config(limits={"max_in_flight": 1000})) as gate:
        uids = await many(gate, 1000)
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay", lambda args: args["amount"])
        threads = lasting_threads()
        waits = [gate.send("resume", uid=uid, wait_ms=None) for uid in uids]
        await asleep(gate, 1000)
        assert lasting_threads() == threads
        loop, took = asyncio.get_running_loop(), []
        for n in range(0, 1000, 100):
            gate.approve(uids[n], ALICE, tmp_path)
            approved = loop.time()
            assert (await waits[n])["output"] == n
            took.append(loop.time() - approved)
        assert sum(wait.done() for wait in waits) == 10
    assert statistics.median(took) <= 0.1


async def test_30_waits_look_at_one_number_and_nothing_else_while_nothing_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK", 0.001)
    monkeypatch.setattr(waiting, "SLOW", 0.002)
    looks = Counted(monkeypatch, Journal, "version")
    async with Driver(tmp_path, config()) as gate:
        uids = await many(gate, 100)
        waits = [gate.send("resume", uid=uid, wait_ms=None) for uid in uids]
        await asleep(gate, 100)
        await looks.reach(looks.calls + 20)
        transactions = Counted(monkeypatch, Journal, "transact")
        sought = Counted(monkeypatch, Journal, "moved_on")
        before = looks.calls
        await looks.reach(before + 50)
        assert (transactions.calls, sought.calls) == (0, 0)
        assert not any(wait.done() for wait in waits)


async def test_30_work_of_another_gate_wakes_nobody_whose_hold_it_leaves_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "LOOK", 0.001)
    monkeypatch.setattr(waiting, "SLOW", 0.002)
    async with Driver(tmp_path, config()) as gate, Driver(tmp_path, config()) as other:
        uids = await many(gate, 50)
        await other.tool("search", lambda args: "found")
        waits = [gate.send("resume", uid=uid, wait_ms=None) for uid in uids]
        await asleep(gate, 50)
        sought = Counted(monkeypatch, Journal, "moved_on")
        resumed = Counted(monkeypatch, type(gate.gate.runtime.engine.steps), "resume")
        for n in range(20):
            await other.govern("search", {"n": n})
            await sought.reach(sought.calls + 1)
        assert resumed.calls == 0
        assert not any(wait.done() for wait in waits)


async def test_hold_that_another_gate_takes_back_ends_the_wait(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate, Driver(tmp_path, config()) as other:
        uid = await paying(gate)
        wait = gate.send("resume", uid=uid, wait_ms=None)
        await asleep(gate, 1)
        await other.request("withdraw", uid=uid)
        outcome = await wait
    assert outcome["error"]["kind"] == "cancelled"


async def test_every_wait_for_one_hold_ends_with_its_outcome_and_its_body_ran_once(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = await paying(gate)
        waits = [gate.send("resume", uid=uid, wait_ms=None) for _ in range(50)]
        await asleep(gate, 50)
        gate.approve(uid, ALICE, tmp_path)
        outcomes = await asyncio.gather(*waits)
    assert {outcome["output"] for outcome in outcomes} == {"paid 100"}
    assert len(gate.ran) == 1


@pytest.mark.parametrize("first", [True, False], ids=["nobody waits", "others wait"])
async def test_answer_that_comes_between_the_look_and_the_wait_is_not_missed(
    tmp_path: Path, first: bool
) -> None:
    never: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    async with Driver(tmp_path, config()) as gate:
        uid, other = await paying(gate, amount=1), await paying(gate, amount=2)
        hold = gate.gate.runtime.engine.holds("pending", 10, None)[0][0]
        register: Waiting = gate.gate.runtime.engine._waiting
        looked = gate.gate.runtime._journal.reader.last_approval()
        if not first:
            waits = gate.send("resume", uid=other, wait_ms=None)
            await asleep(gate, 1)
        gate.approve(uid, ALICE, tmp_path)
        if not first:
            gate.approve(other, ALICE, tmp_path)
            await waits
            # It has been told of both answers by now; another one keeps it looking.
            third = gate.send("resume", uid=await paying(gate, amount=3), wait_ms=None)
            await asleep(gate, 1)
        await register.wait((str(hold["hold_id"]),), looked, never, None)
        if not first:
            gate.cancel(third)
            await third


async def test_flood_of_waits_is_refused_beyond_its_limit_and_calls_go_on(tmp_path: Path) -> None:
    limits = {"max_in_flight": 2, "max_waiting": 3}
    async with Driver(tmp_path, config(limits=limits)) as gate:
        uid = await paying(gate)
        await gate.tool("search", lambda args: "found")
        waits = [gate.send("resume", uid=uid, wait_ms=None) for _ in range(5)]
        await asleep(gate, 5)
        with pytest.raises(RPCError, match=r"limits\.max_waiting") as refused:
            await gate.request("resume", uid=uid, wait_ms=None)
        gate.cancel(waits.pop())
        await asyncio.wait(waits)
        assert (await gate.govern("search", {}))["output"] == "found"
    assert refused.value.code == -32003


async def test_program_is_refused_a_wait_beyond_the_limit_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    limits = {"max_in_flight": 1, "max_waiting": 1}

    async def execute(run: Any) -> None:
        raise AssertionError("nothing runs")

    async with Kernel(config(limits=limits), execute) as kernel:
        await kernel.register_tool({"name": "pay"})
        uid = (await kernel.govern("pay", PAY)).uid
        waits = [asyncio.ensure_future(kernel.resume(uid, wait=None)) for _ in range(3)]
        with pytest.raises(TooManyCalls, match=r"limits\.max_waiting"):
            await waits.pop()
        assert not any(wait.done() for wait in waits)
        for wait in waits:
            wait.cancel()
        await asyncio.wait(waits)


async def test_burst_of_waits_takes_no_room_from_calls(tmp_path: Path) -> None:
    async with Driver(tmp_path, config(limits={"max_in_flight": 3})) as gate:
        uid = await paying(gate)
        await gate.tool("search", lambda args: "found")
        waits = [gate.send("resume", uid=uid, wait_ms=None) for _ in range(20)]
        answered = await asyncio.gather(*[gate.send("govern", tool="search") for _ in range(3)])
        await asleep(gate, 20)
        assert not any(wait.done() for wait in waits)
    assert [outcome["output"] for outcome in answered] == ["found"] * 3


async def test_many_who_wait_for_one_plan_share_one_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = Counted(monkeypatch, PlanSteps, "look")
    async with Driver(tmp_path, plan_config()) as gate:
        world = World()
        await world.equip(gate, "pay", "step")
        plan = await propose(gate, call("pay", "pay"), call("then"))
        waits = [gate.send("resume", uid=plan["uid"], wait_ms=None) for _ in range(100)]
        await asleep(gate, 100)
        assert looks.calls == 1
        gate.approve(plan["results"][0]["uid"], ALICE, tmp_path)
        outcomes = await asyncio.gather(*waits)
    assert {outcome["proposal"]["status"] for outcome in outcomes} == {"completed"}
    assert len(world.done) == 2
    assert looks.calls <= 3


async def test_action_of_a_plan_that_is_aborted_ends_the_wait_for_it(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay", "wire_money", "step")
        plan = await propose(
            gate,
            call("pay", "pay", failure_behavior="skip"),
            call("wire", "wire_money", failure_behavior="skip"),
            call("then", dependencies=["wire"]),
            {"id": "x", "type": "assertion", "dependencies": ["wire"],
             "parameters": {"key": "nothing", "expected": 1}},
        )  # fmt: skip
        wait = gate.send("resume", uid=plan["results"][0]["uid"], wait_ms=None)
        await asleep(gate, 1)
        wire = plan["results"][1]["uid"]
        gate.approve(wire, ALICE, tmp_path)
        gate.approve(wire, BOB, tmp_path)
        outcome = await wait
    assert outcome["proposal"]["status"] == "aborted"
    assert (outcome["status"], outcome["error"]["kind"]) == ("skipped", "cancelled")


@pytest.mark.parametrize(
    "leave",
    [
        lambda gate: gate.transport.end(),
        lambda gate: gate.die(),
        lambda gate: gate.gate.stop("SIGTERM"),
    ],
    ids=["end of input", "death", "signal"],
)
async def test_leaving_while_it_waits_withdraws_nothing(
    tmp_path: Path, leave: Callable[[Driver], None]
) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = await paying(gate)
        gate.send("resume", uid=uid, wait_ms=None)
        await asleep(gate, 1)
        leave(gate)
        await asyncio.wait({gate.serving})
    assert "hold.withdrawn" not in kinds(tmp_path, uid)
    gate.approve(uid, ALICE, tmp_path)
    async with Driver(tmp_path, config()) as later:
        await later.tool("pay", lambda args: "paid later")
        assert (await later.request("resume", uid=uid))["output"] == "paid later"


async def test_wait_cancelled_by_another_session_leaves_the_hold_to_its_opener(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        uid = await paying(gate)
    async with Driver(tmp_path, config()) as other:
        wait = other.send("resume", uid=uid, wait_ms=None)
        await asleep(other, 1)
        other.cancel(wait)
        outcome = await wait
    assert outcome["status"] == "held"
    assert "hold.withdrawn" not in kinds(tmp_path, uid)


async def test_call_that_is_cancelled_before_it_is_answered_withdraws_the_hold_it_opened(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        asked = gate.send("govern", tool="pay", args=PAY)
        gate.cancel(asked)
        outcome = await asked
    assert (outcome["status"], outcome["error"]["kind"]) == ("skipped", "cancelled")
    assert kinds(tmp_path, outcome["uid"])[-2:] == ["hold.withdrawn", "action.cancelled"]


async def test_waiting_gate_journals_each_answer_when_it_comes(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("wire_money", lambda args: "wired")
        uid = (await gate.govern("wire_money", {}))["uid"]
        wait = gate.send("resume", uid=uid, wait_ms=None)
        await asleep(gate, 1)
        gate.approve(uid, ALICE, tmp_path)
        await journaled(tmp_path, "approval.recorded", uid)
        assert not wait.done()


async def test_gate_that_waits_for_a_plan_journals_each_answer_when_it_comes(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "wire_money")
        plan = await propose(gate, call("wire", "wire_money"))
        uid = plan["results"][0]["uid"]
        wait = gate.send("resume", uid=plan["uid"], wait_ms=None)
        await asleep(gate, 1)
        gate.approve(uid, ALICE, tmp_path)
        await journaled(tmp_path, "approval.recorded", uid)
        assert not wait.done()
        gate.approve(uid, BOB, tmp_path)
        assert (await wait)["proposal"]["status"] == "completed"
    assert kinds(tmp_path, uid).count("approval.recorded") == 2


async def test_30_ended_waits_leave_nothing_behind(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        uids = await many(gate, 30)
        timed_out = [await gate.request("resume", uid=uid, wait_ms=1) for uid in uids]
        waits = [gate.send("resume", uid=uid, wait_ms=None) for uid in uids]
        await asleep(gate, 30)
        for uid, wait in zip(uids, waits, strict=True):
            gate.cancel(wait)
            assert (await wait)["uid"] == uid
        engine = gate.gate.runtime.engine
        assert engine._waiting._waiters == {}
        assert gate.gate._calls == {}
        assert engine.in_flight == 0
    assert {outcome["status"] for outcome in timed_out} == {"held"}


async def test_body_that_asked_for_holds_and_ended_leaves_nothing_behind(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "pay")
        await gate.tool("step")
        outer = gate.send("govern", tool="step")
        run = await gate.runs.get()
        parent = run["params"]["uid"]
        await gate.govern("pay", PAY, parent=parent)
        plan = {"actions": [call("p", "pay")]}
        await gate.request("propose", proposal=plan, parent=parent)
        gate.answer(run, "done")
        await outer
        assert gate.gate.runtime.engine._parents == {}
