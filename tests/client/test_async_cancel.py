"""Callers that are cancelled, bodies that the gate gives up on, and loops that close under both."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.client_gates import Background, fake_gate, received, workers_end
from support.loops import cancelling, soon, timeout
from toolgate_client import GateClient


@pytest.fixture
def gate() -> Iterator[GateClient]:
    with fake_gate() as gate:
        yield gate


def cancelled(gate: GateClient) -> list[int]:
    """The ids of the requests that the gate was told nobody waits for."""
    return [message["params"]["id"] for message in received(gate, "cancel")]


def answers(gate: GateClient) -> list[str]:
    """How the runs ended that have failed."""
    return [message["error"]["data"]["type"] for message in received(gate) if "error" in message]


def check_answered(gate: GateClient) -> None:
    """Every run has its answer, and nothing of a caller was left behind."""
    state = {"unanswered": [], "contradictions": []}
    while gate.govern("state", {}).output != state:
        gate.ping()
    assert gate._gate is not None
    assert not gate._gate.core._pending


class Body:
    """An asynchronous body that waits for ever, and how it ended."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.ended: list[str] = []

    async def __call__(self, args: dict[str, Any]) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        except BaseException as error:
            self.ended.append(type(error).__name__)
            raise


class TestCallers:
    @pytest.mark.parametrize("wait", [None, 1000.0])
    async def test_a_task_that_is_cancelled_while_it_waits_withdraws(
        self, gate: GateClient, wait: float | None
    ) -> None:
        waiting = asyncio.create_task(gate.aresume("never", wait=wait))
        await soon(lambda: gate._gate.core._pending, gate.aping)  # type: ignore[union-attr]
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        (resume,) = received(gate, "resume")
        assert cancelled(gate) == [resume["id"]]
        check_answered(gate)

    async def test_a_hold_whose_answer_came_as_its_caller_left_is_withdrawn(
        self, gate: GateClient
    ) -> None:
        call = asyncio.create_task(gate.agovern("held", {}, body=lambda args: 1))
        await asyncio.sleep(0)
        gate.ping()  # by now the answer is here, and the task has not heard of it
        call.cancel()
        await asyncio.sleep(0)
        call.cancel()  # twice, as the impatient do
        with pytest.raises(asyncio.CancelledError):
            await call
        assert len(received(gate, "withdraw")) == 1
        assert cancelled(gate) == []
        await gate.aping()
        check_answered(gate)

    async def test_a_task_that_was_cancelled_before_it_began_asks_nothing(
        self, gate: GateClient
    ) -> None:
        call = asyncio.create_task(gate.agovern("t", {}, body=lambda args: 1))
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert [m["params"]["tool"] for m in received(gate, "govern")] == ["record"]

    async def test_an_asynchronous_body_hears_of_it_and_its_end_is_recorded(
        self, gate: GateClient
    ) -> None:
        body = Body()
        call = asyncio.create_task(gate.agovern("t", {}, body=body.__call__))
        await body.begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert body.ended == ["CancelledError"]
        assert answers(gate) == ["CancelledError"]
        assert cancelled(gate) == []
        check_answered(gate)

    async def test_a_timeout_of_the_caller_is_a_timeout(self, gate: GateClient) -> None:
        body = Body()
        with pytest.raises(TimeoutError):
            async with timeout(0.01):
                await gate.agovern("t", {}, body=body.__call__)
        assert body.ended in (["CancelledError"], [])
        task = asyncio.current_task()
        assert task is not None
        assert not cancelling(task)
        check_answered(gate)

    async def test_a_synchronous_body_ends_by_itself_and_is_reported(
        self, gate: GateClient
    ) -> None:
        begun, go = threading.Event(), threading.Event()

        def body(args: dict[str, Any]) -> str:
            begun.set()
            go.wait(20)
            return "done"

        call = asyncio.create_task(gate.agovern("t", {}, body=body))
        await soon(begun.is_set)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert len(cancelled(gate)) == 1
        go.set()
        await soon(lambda: [m for m in received(gate) if m.get("result") == {"output": "done"}])
        check_answered(gate)

    async def test_a_coroutine_that_comes_too_late_is_not_begun(self, gate: GateClient) -> None:
        begun, go = threading.Event(), threading.Event()
        ran: list[int] = []

        async def coroutine() -> None:
            ran.append(1)

        def body(args: dict[str, Any]) -> Any:
            begun.set()
            go.wait(20)
            return coroutine()

        call = asyncio.create_task(gate.agovern("t", {}, body=body))
        await soon(begun.is_set)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        go.set()
        await soon(lambda: answers(gate))
        assert answers(gate) == ["CallerGone"]
        assert ran == []
        check_answered(gate)

    async def test_a_body_that_waits_for_a_worker_is_not_begun_for_a_caller_that_left(
        self, gate: GateClient
    ) -> None:
        occupied, go, ran = threading.Semaphore(0), threading.Event(), []

        def occupy(args: dict[str, Any]) -> None:
            occupied.release()
            go.wait(20)

        others = [asyncio.create_task(gate.agovern("t", {}, body=occupy)) for _ in range(32)]
        for _ in others:
            await soon(lambda: occupied.acquire(blocking=False))
        call = asyncio.create_task(gate.agovern("t", {}, body=lambda args: ran.append(1)))
        await soon(lambda: len(received(gate, "govern")) > 32)
        await gate.aping()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        go.set()
        await asyncio.gather(*others)
        assert ran == []
        check_answered(gate)

    async def test_other_calls_are_not_disturbed(self, gate: GateClient) -> None:
        async def body(args: dict[str, Any]) -> int:
            await asyncio.sleep(0)
            return int(args["n"])

        calls = [asyncio.create_task(gate.acall("t", {"n": n}, body=body)) for n in range(100)]
        for turn in range(20):
            await asyncio.sleep(0)
            calls[turn * 5].cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)
        for n, result in enumerate(results):
            assert result == n or (n % 5 == 0 and isinstance(result, asyncio.CancelledError))
        check_answered(gate)


class TestTheGateGivesUp:
    async def test_an_asynchronous_body_is_cancelled_and_its_caller_is_not(
        self, gate: GateClient
    ) -> None:
        body = Body()
        call = asyncio.create_task(gate.agovern("stopped", {}, body=body.__call__))
        await body.begun.wait()
        await gate.aping()
        outcome = await call
        assert outcome.error is not None
        assert outcome.error.kind == "execution_timeout"
        assert body.ended == ["CancelledError"]
        assert not cancelling(call)
        assert answers(gate) == ["Cancelled"]
        check_answered(gate)

    async def test_a_body_may_finish_what_it_does(self, gate: GateClient) -> None:
        begun = asyncio.Event()

        async def body(args: dict[str, Any]) -> str:
            begun.set()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
            return "finished"

        async def caller() -> Any:
            await gate.agovern("stopped", {}, body=body)
            await asyncio.sleep(0)  # where a cancellation that is left over would strike
            return "went on"

        call = asyncio.create_task(caller())
        await begun.wait()
        await gate.aping()
        assert await call == "went on"
        assert {"output": "finished"} in [m.get("result") for m in received(gate)]

    @pytest.mark.skipif(sys.version_info < (3, 11), reason="a task does not know how often")
    async def test_a_caller_that_is_cancelled_as_well_is_cancelled(self, gate: GateClient) -> None:
        body = Body()
        call = asyncio.create_task(gate.agovern("stopped", {}, body=body.__call__))
        await body.begun.wait()
        pinged = asyncio.create_task(gate.aping())
        await soon(lambda: call.cancelling() or pinged.done())
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await pinged
        check_answered(gate)

    async def test_a_body_that_was_not_begun_is_not_begun(self, gate: GateClient) -> None:
        async def body(args: dict[str, Any]) -> None:
            pytest.fail("the body must not run")

        outcome = await gate.agovern("stopped_at_once", {}, body=body)
        assert outcome.error is not None
        assert answers(gate) == ["NotBegun"]

    async def test_a_body_that_waits_for_a_worker_is_not_begun(self, gate: GateClient) -> None:
        occupied, go, ran = threading.Semaphore(0), threading.Event(), []

        def occupy(args: dict[str, Any]) -> None:
            occupied.release()
            go.wait(20)

        others = [asyncio.create_task(gate.agovern("t", {}, body=occupy)) for _ in range(32)]
        for _ in others:
            await soon(lambda: occupied.acquire(blocking=False))
        call = asyncio.create_task(gate.agovern("stopped", {}, body=lambda args: ran.append(1)))
        await soon(call.done, gate.aping)
        go.set()
        await asyncio.gather(*others)
        assert ran == []
        assert answers(gate) == ["NotBegun"]

    async def test_a_synchronous_body_ends_by_itself(self, gate: GateClient) -> None:
        begun, go = threading.Event(), threading.Event()

        def body(args: dict[str, Any]) -> str:
            begun.set()
            go.wait(20)
            return "done"

        call = asyncio.create_task(gate.agovern("stopped", {}, body=body))
        await soon(begun.is_set)
        await gate.aping()
        go.set()
        await call
        assert {"output": "done"} in [m.get("result") for m in received(gate)]

    async def test_a_synchronous_call_in_the_body_hears_it_for_the_body(
        self, gate: GateClient
    ) -> None:
        ended: list[str] = []

        async def body(args: dict[str, Any]) -> None:
            gate.ping()  # the loop's own thread reads that this very body is given up
            gate.ping()
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                ended.append("cancelled")
                raise

        outcome = await gate.agovern("stopped", {}, body=body)
        assert outcome.status == "failed"
        assert ended == ["cancelled"]
        await asyncio.sleep(0)


class TestLoopsThatClose:
    def test_a_caller_whose_loop_has_closed_has_its_run_answered(self, gate: GateClient) -> None:
        loop = asyncio.new_event_loop()
        call = loop.create_task(gate.agovern("silent", {}, body=lambda args: 1))
        loop.run_until_complete(soon(lambda: gate._gate.core._pending))  # type: ignore[union-attr]
        loop.run_until_complete(gate.aping())
        loop.close()
        os.kill(gate._gate.process._popen.pid, signal.SIGUSR1)  # type: ignore[union-attr]
        while gate._gate.core._pending:  # type: ignore[union-attr]
            gate.ping()
        check_answered(gate)
        _throw_away(call)

    def test_a_body_whose_loop_has_closed_is_answered_for_when_the_gate_gives_up(
        self, gate: GateClient
    ) -> None:
        loop = asyncio.new_event_loop()

        async def main() -> tuple[asyncio.Task[Any], Body]:
            body = Body()
            call = loop.create_task(gate.agovern("stopped", {}, body=body.__call__))
            await body.begun.wait()
            return call, body

        call, _ = loop.run_until_complete(main())
        loop.close()
        while gate._gate.core._pending:  # type: ignore[union-attr]
            gate.ping()
        assert answers(gate) == ["CallerGone"]
        check_answered(gate)
        _throw_away(call)

    def test_a_task_that_is_thrown_away_leaves(self, gate: GateClient) -> None:
        loop = asyncio.new_event_loop()

        async def main() -> tuple[asyncio.Task[Any], Body]:
            body = Body()
            call = loop.create_task(gate.agovern("t", {}, body=body.__call__))
            await body.begun.wait()
            return call, body

        call, body = loop.run_until_complete(main())
        loop.close()
        _throw_away(call)
        assert body.ended == ["GeneratorExit"]
        assert len(cancelled(gate)) == 1
        assert answers(gate) == ["CallerGone"]
        assert "parent" not in received(gate, "govern")[-1]["params"]
        check_answered(gate)

    def test_a_worker_whose_loop_has_closed_answers_for_itself(self, gate: GateClient) -> None:
        loop = asyncio.new_event_loop()
        begun, go = threading.Event(), threading.Event()

        async def coroutine() -> None: ...

        def body(args: dict[str, Any]) -> Any:
            begun.set()
            go.wait(20)
            return coroutine() if args["coroutine"] else "done"

        calls = [
            loop.create_task(gate.agovern("t", {"coroutine": late}, body=body))
            for late in (True, False)
        ]
        loop.run_until_complete(soon(begun.is_set))
        loop.run_until_complete(gate.aping())
        loop.close()
        go.set()
        check_answered(gate)
        for call in calls:
            _throw_away(call)
        Background(gate.ping).result()
        assert workers_end()


def _throw_away(task: asyncio.Task[Any]) -> None:
    """What the garbage collector does to a task that nobody can reach."""
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    task.get_coro().close()  # type: ignore[union-attr]
    del task
    gc.collect()
