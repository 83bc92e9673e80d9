"""Proposals of tasks: their bodies run in tasks of their own, so many at once as allowed."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.client_gates import fake_gate, received
from support.loops import soon
from toolgate_client import GateClient, GateClosed


@pytest.fixture
def gate() -> Iterator[GateClient]:
    with fake_gate() as gate:
        yield gate


def plan(*tools: str, **context: Any) -> dict[str, Any]:
    """A proposal of one action for each tool, with the ids a1, a2 …."""
    actions = [
        {"id": f"a{number}", "type": "tool_call", "tool": tool, "parameters": {"n": number}}
        for number, tool in enumerate(tools, 1)
    ]
    return {"id": "plan", "actions": actions, "context": context}


class Counted:
    """An asynchronous body that knows how many of it run at once, and waits until told."""

    def __init__(self) -> None:
        self.running = 0
        self.peak = 0
        self.begun: list[int] = []
        self.ended: list[str] = []
        self.go = asyncio.Event()

    async def __call__(self, args: dict[str, Any]) -> int:
        self.running += 1
        self.peak = max(self.peak, self.running)
        self.begun.append(args["n"])
        try:
            await self.go.wait()
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise
        finally:
            self.running -= 1
        return int(args["n"])


async def test_actions_at_the_same_time_run_in_tasks_at_the_same_time(gate: GateClient) -> None:
    body = Counted()
    await gate.aregister_tool("t", body)
    call = asyncio.create_task(gate.apropose(plan(*["t"] * 10)))
    await soon(lambda: body.running == 10)
    body.go.set()
    result = await call
    assert [each.output for each in result.results] == list(range(1, 11))
    assert all(each.live for each in result.results)


async def test_no_more_bodies_run_at_once_than_allowed(gate: GateClient) -> None:
    body = Counted()
    await gate.aregister_tool("t", body)
    call = asyncio.create_task(gate.apropose(plan(*["t"] * 10), max_workers=3))
    await soon(lambda: body.running == 3)
    await gate.aping()
    body.go.set()
    result = await call
    assert [each.output for each in result.results] == list(range(1, 11))
    assert body.peak == 3


async def test_actions_one_after_the_other_are_run_so(gate: GateClient) -> None:
    order: list[int] = []

    async def body(args: dict[str, Any]) -> None:
        order.append(args["n"])
        await asyncio.sleep(0)
        order.append(args["n"])

    await gate.aregister_tool("t", body)
    await gate.apropose(plan("t", "t", "t", together=False))
    assert order == [1, 1, 2, 2, 3, 3]


async def test_each_body_has_a_copy_of_the_callers_context(gate: GateClient) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("caller's")

    async def body(args: dict[str, Any]) -> Any:
        seen = variable.get()
        variable.set(str(args["n"]))
        await asyncio.sleep(0)
        return seen, variable.get(), await gate.acall("inner", {}, body=lambda args: 1)

    def plain(args: dict[str, Any]) -> Any:
        return variable.get(), threading.get_ident()

    await gate.aregister_tool("t", body)
    await gate.aregister_tool("s", plain)
    result = await gate.apropose(plan("t", "t", "s"))
    assert [each.output for each in result.results[:2]] == [
        ("caller's", "1", 1),
        ("caller's", "2", 1),
    ]
    seen, thread = result.result("a3").output
    assert seen == "caller's"
    assert thread != threading.get_ident()
    assert variable.get() == "caller's"
    parents = [m["params"].get("parent") for m in received(gate, "govern")]
    assert parents[:2] == [result.result("a1").uid, result.result("a2").uid]


async def test_bodies_may_propose(gate: GateClient) -> None:
    async def outer(args: dict[str, Any]) -> Any:
        inner = await gate.apropose(plan("leaf", "leaf"), max_workers=1)
        return [each.output for each in inner.results]

    async def leaf(args: dict[str, Any]) -> int:
        await asyncio.sleep(0)
        return int(args["n"])

    await gate.aregister_tool("outer", outer)
    await gate.aregister_tool("leaf", leaf)
    result = await gate.apropose(plan(*["outer"] * 5), max_workers=2)
    assert [each.output for each in result.results] == [[1, 2]] * 5


async def test_a_held_action_runs_when_it_is_resumed(gate: GateClient) -> None:
    async def body(args: dict[str, Any]) -> Any:
        return asyncio.current_task()

    await gate.aregister_tool("t", body)
    await gate.aregister_tool("held", body)
    result = await gate.apropose(plan("t", "held"))
    assert result.suspended
    outcome = await gate.aresume(result.result("a2").uid)
    assert outcome.succeeded
    assert outcome.proposal is not None
    assert outcome.proposal.result("a2").live


async def test_the_body_of_a_single_resumed_action_runs_in_the_waiting_task(
    gate: GateClient,
) -> None:
    async def body(args: dict[str, Any]) -> Any:
        return asyncio.current_task()

    outcome = await gate.aresume("u77", body=body)
    assert outcome.output is asyncio.current_task()


async def test_an_exception_fails_its_action_alone(gate: GateClient) -> None:
    problem = OSError("disk full")

    async def failing(args: dict[str, Any]) -> None:
        raise problem

    await gate.aregister_tool("t", lambda args: "fine")
    await gate.aregister_tool("f", failing)
    result = await gate.apropose(plan("t", "f"))
    assert result.result("a1").output == "fine"
    assert result.result("a2").exception is problem


async def test_an_interrupt_of_a_body_cancels_the_proposal_and_is_raised(gate: GateClient) -> None:
    class Interrupt(BaseException):
        pass

    async def interrupted(args: dict[str, Any]) -> None:
        await asyncio.sleep(0)
        raise Interrupt

    ran: list[int] = []
    await gate.aregister_tool("i", interrupted)
    await gate.aregister_tool("t", lambda args: ran.append(1))
    with pytest.raises(Interrupt):
        await gate.apropose(plan("i", "t", "t", together=False))
    assert ran == []
    assert len(received(gate, "cancel")) == 1
    assert gate.govern("state", {}).output["unanswered"] == []


class TestCancelling:
    async def test_it_cancels_the_proposal_and_the_bodies_and_waits_for_their_ends(
        self, gate: GateClient
    ) -> None:
        body = Counted()
        await gate.aregister_tool("t", body)
        call = asyncio.create_task(gate.apropose(plan(*["t"] * 5), max_workers=3))
        await soon(lambda: body.running == 3)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert body.ended == ["CancelledError"] * 3
        assert len(body.begun) == 3
        assert len(received(gate, "cancel")) == 1
        while gate.govern("state", {}).output["unanswered"]:
            await gate.aping()
        await soon(lambda: not gate._gate.exchange.ports)  # type: ignore[union-attr]

    async def test_synchronous_bodies_end_by_themselves(self, gate: GateClient) -> None:
        begun, go = threading.Semaphore(0), threading.Event()

        def body(args: dict[str, Any]) -> str:
            begun.release()
            go.wait(20)
            return "done"

        await gate.aregister_tool("t", body)
        call = asyncio.create_task(gate.apropose(plan("t", "t")))
        for _ in range(2):
            await soon(lambda: begun.acquire(blocking=False))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        go.set()

        def done() -> int:
            return len([m for m in received(gate) if m.get("result") == {"output": "done"}])

        await soon(lambda: done() == 2)

    async def test_the_gate_may_cancel_one_of_them(self, gate: GateClient) -> None:
        body = Counted()
        await gate.aregister_tool("t", body)
        proposal = plan("t", "t", cancelled=["a2"])
        call = asyncio.create_task(gate.apropose(proposal, max_workers=1))
        await soon(lambda: body.running == 1)
        await gate.aping()
        body.go.set()
        result = await call
        assert result.result("a1").output == 1
        assert result.result("a2").status == "failed"
        assert body.begun == [1]

    async def test_a_body_task_that_somebody_else_cancels_is_answered(
        self, gate: GateClient
    ) -> None:
        body = Counted()
        await gate.aregister_tool("t", body)
        call = asyncio.create_task(gate.apropose(plan("t", "t")))
        await soon(lambda: body.running == 2)
        for task in asyncio.all_tasks():
            if task.get_name().startswith("toolgate-body"):
                task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        while gate.govern("state", {}).output["unanswered"]:
            await gate.aping()


async def test_when_the_gate_dies_bodies_end_by_themselves() -> None:
    with fake_gate() as gate:
        body = Counted()
        await gate.aregister_tool("t", body)
        call = asyncio.create_task(gate.apropose(plan("t", "t")))
        await soon(lambda: body.running == 2)
        os.kill(gate._gate.process._popen.pid, signal.SIGKILL)  # type: ignore[union-attr]
        with pytest.raises(GateClosed):
            await call
        assert body.running == 2
        body.go.set()
        await soon(lambda: body.running == 0)
        assert body.ended == []
