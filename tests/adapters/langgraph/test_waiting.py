"""Without a checkpointer a held call waits for its decision, or says at once that it is held."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver

from support.langgraph_world import World
from support.scripted_model import ScriptedModel, calls, script, tool_call
from toolgate_client import ActionDenied, ActionHeld, GateClient
from toolgate_langgraph import govern_tools

BOUND = 20.0


@pytest.fixture
def paid() -> list[str]:
    """Who was paid."""
    return []


@pytest.fixture
def pay(paid: list[str]) -> Any:
    """The tool that pays."""

    @tool
    def pay(to: str) -> str:
        """Pay somebody."""
        paid.append(to)
        return f"paid {to}"

    return pay


@pytest.fixture
def aside() -> Iterator[Callable[..., Future[Any]]]:
    """Runs something in another thread."""
    with ThreadPoolExecutor() as pool:
        yield pool.submit


def pending(gate: GateClient, count: int = 1) -> list[str]:
    """Return the uids of the pending holds, once there are so many."""
    for _ in range(100_000):
        found = [hold.uid for hold in gate.holds("pending") if hold.uid]
        if len(found) == count:
            return found
    raise AssertionError("nothing is held")


def test_a_held_call_waits_and_runs_when_it_is_approved(
    world: World, gate: GateClient, pay: Any, paid: list[str], aside: Callable[..., Future[Any]]
) -> None:
    [governed] = govern_tools(gate, [pay])
    waiting = aside(governed.invoke, tool_call("pay", {"to": "bob"}))
    [uid] = pending(gate)
    assert paid == []
    world.answer(uid)
    assert waiting.result(BOUND).content == "paid bob"
    assert paid == ["bob"]


def test_a_held_call_that_is_denied_tells_so(
    world: World, gate: GateClient, pay: Any, paid: list[str], aside: Callable[..., Future[Any]]
) -> None:
    [governed] = govern_tools(gate, [pay])
    waiting = aside(governed.invoke, tool_call("pay", {"to": "bob"}))
    [uid] = pending(gate)
    world.answer(uid, "deny", "not now")
    message = waiting.result(BOUND)
    assert message.status == "error"
    assert message.artifact["toolgate"]["kind"] == "approval_denied"
    assert "not now" in message.content
    assert paid == []


def test_a_wait_that_runs_out_takes_the_call_back(
    world: World, gate: GateClient, pay: Any, paid: list[str]
) -> None:
    [governed] = govern_tools(gate, [pay], hold_timeout=0.05)
    message = governed.invoke(tool_call("pay", {"to": "bob"}))
    assert message.status == "error"
    assert message.artifact["toolgate"]["kind"] == "approval_timeout"
    assert "nobody decided within 0.05 s" in message.content
    assert "denied" not in message.content
    [hold] = gate.holds()
    assert hold.status == "withdrawn"
    assert hold.uid is not None
    assert gate.resume(hold.uid).status == "skipped"
    assert paid == []


def test_two_calls_of_one_message_wait_side_by_side(
    world: World, gate: GateClient, pay: Any, paid: list[str], aside: Callable[..., Future[Any]]
) -> None:
    made = calls(tool_call("pay", {"to": "bob"}, "1"), tool_call("pay", {"to": "eve"}, "2"))
    model = ScriptedModel(script=[made, script().script[0]])
    agent = create_agent(model, govern_tools(gate, [pay]))
    waiting = aside(agent.invoke, {"messages": [("user", "go")]})
    for uid in pending(gate, 2):
        world.answer(uid)
    assert waiting.result(BOUND)["messages"][-1].content == "done"
    assert sorted(paid) == ["bob", "eve"]


def test_hold_wait_waits_although_there_is_a_checkpointer(
    world: World, gate: GateClient, pay: Any, paid: list[str], aside: Callable[..., Future[Any]]
) -> None:
    model = script(tool_call("pay", {"to": "bob"}))
    agent = create_agent(
        model, govern_tools(gate, [pay], hold="wait"), checkpointer=InMemorySaver()
    )
    config = {"configurable": {"thread_id": "t"}}
    waiting = aside(agent.invoke, {"messages": [("user", "go")]}, config)
    [uid] = pending(gate)
    world.answer(uid)
    assert "__interrupt__" not in waiting.result(BOUND)
    assert paid == ["bob"]


@pytest.mark.parametrize("hold", ["return", "interrupt"])
def test_hold_return_tells_the_model_and_leaves_the_call_to_be_resumed(
    world: World, gate: GateClient, pay: Any, paid: list[str], hold: Any
) -> None:
    [governed] = govern_tools(gate, [pay], hold=hold)
    message = governed.invoke(tool_call("pay", {"to": "bob"}))
    assert message.status == "error"
    facts = message.artifact["toolgate"]
    assert facts["kind"] == "held"
    assert "alice reads it first" in message.content
    [hold_shown] = gate.holds("pending")
    assert (facts["uid"], facts["hold_id"]) == (hold_shown.uid, hold_shown.hold_id)
    world.answer(facts["uid"])
    assert paid == []
    assert gate.resume(facts["uid"]).output == "paid bob"
    assert gate.resume(facts["uid"]).replayed
    assert paid == ["bob"]


def test_hold_return_with_on_denied_raise_raises_action_held(gate: GateClient, pay: Any) -> None:
    [governed] = govern_tools(gate, [pay], hold="return", on_denied="raise")
    with pytest.raises(ActionHeld) as raised:
        governed.invoke({"to": "bob"})
    assert raised.value.hold is not None
    assert raised.value.kind == "held"


def test_a_coroutine_waits_without_holding_up_its_loop(
    world: World, gate: GateClient, paid: list[str]
) -> None:
    @tool
    async def pay(to: str) -> str:
        """Pay somebody."""
        paid.append(to)
        bodies.append((threading.get_ident(), asyncio.get_running_loop()))
        return f"paid {to}"

    bodies: list[Any] = []

    async def main() -> None:
        [governed] = govern_tools(gate, [pay])
        waiting = [
            asyncio.create_task(governed.ainvoke(tool_call("pay", {"to": str(n)})))
            for n in range(40)
        ]
        for uid in await asyncio.to_thread(pending, gate, 40):
            world.answer(uid)
        messages = await asyncio.gather(*waiting)
        assert [message.content for message in messages] == [f"paid {n}" for n in range(40)]
        assert set(bodies) == {(threading.get_ident(), asyncio.get_running_loop())}

    asyncio.run(asyncio.wait_for(main(), BOUND))


def test_a_coroutine_that_is_cancelled_while_held_takes_the_call_back(
    world: World, gate: GateClient, paid: list[str]
) -> None:
    @tool
    async def pay(to: str) -> str:
        """Pay somebody."""
        raise AssertionError("a withdrawn body ran")

    async def main() -> str:
        [governed] = govern_tools(gate, [pay])
        waiting = asyncio.create_task(governed.ainvoke(tool_call("pay", {"to": "bob"})))
        [uid] = await asyncio.to_thread(pending, gate)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        return uid

    uid = asyncio.run(asyncio.wait_for(main(), BOUND))
    assert gate.resume(uid, wait=BOUND).status == "skipped"


def test_a_coroutine_body_is_cancelled_with_its_caller(gate: GateClient) -> None:
    ends = []

    async def main() -> None:
        started = asyncio.Event()

        @tool
        async def endless(a: int) -> str:
            """Never end."""
            started.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ends.append(a)
                raise
            return ""

        [governed] = govern_tools(gate, [endless])
        running = asyncio.create_task(governed.ainvoke({"a": 1}))
        await started.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(asyncio.wait_for(main(), BOUND))
    assert ends == [1]


def test_on_denied_raise_raises_from_coroutines_too(denying: GateClient) -> None:
    @tool
    async def refused(a: int) -> str:
        """Never run."""
        raise AssertionError("a denied body ran")

    [governed] = govern_tools(denying, [refused], on_denied="raise")
    with pytest.raises(ActionDenied, match="the rule says no"):
        asyncio.run(governed.ainvoke({"a": 1}))
