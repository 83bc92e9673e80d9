"""Governed calls of tasks: where bodies run, what comes back, and that both halves are alike."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.client_gates import Background, fake_gate, received
from support.loops import LOOPS, Runner, soon
from toolgate_client import (
    ActionDenied,
    ActionFailed,
    ActionHeld,
    GateClient,
    GateError,
    ProtocolError,
)


@pytest.fixture
def gate() -> Iterator[GateClient]:
    with fake_gate() as gate:
        yield gate


VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="nobody's")


class TestTwins:
    METHODS = tuple(
        name
        for name, _ in inspect.getmembers(GateClient, inspect.isfunction)
        if not name.startswith("_")
        and not inspect.iscoroutinefunction(getattr(GateClient, name))
        # What it returns serves threads and tasks.
        and name != "subscribe"
    )

    @pytest.mark.parametrize("name", METHODS)
    def test_every_method_has_a_twin_that_takes_and_returns_the_same(self, name: str) -> None:
        method, twin = getattr(GateClient, name), getattr(GateClient, "a" + name)
        assert inspect.iscoroutinefunction(twin)
        assert inspect.signature(twin) == inspect.signature(method)
        assert twin.__doc__

    def test_nothing_is_asynchronous_alone(self) -> None:
        twins = {
            name
            for name, _ in inspect.getmembers(GateClient, inspect.iscoroutinefunction)
            if not name.startswith("_")
        }
        assert twins == {"a" + name for name in self.METHODS}

    async def test_the_twins_ask_and_answer_the_same(self, gate: GateClient) -> None:
        plan = {"actions": [{"id": "a", "tool": "held"}]}
        uses: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
            ("observe", ("text",), {"source": "s"}),
            ("holds", ("pending",), {}),
            ("verify", (plan,), {"state": {"k": 1}, "max_actions": 3}),
            ("simulate", (plan,), {"state": {"k": 1}}),
            ("equivalent", (plan, plan), {"states": [{"k": 1}]}),
            ("optimize", (plan,), {"state": {}}),
            ("rank", ([plan],), {"target": {"cost_weight": 1}, "state": {}}),
            ("state", (["a"],), {}),
            ("events", (), {"after": 0, "limit": 2, "uid": "u"}),
            ("checkpoint", ("mine",), {}),
            ("restore", ("c-mine",), {}),
            ("ping", (), {}),
            ("withdraw", ("u1",), {}),
            ("propose", (plan,), {"idempotency_key": "k", "max_workers": 2}),
            ("govern", ("held", {"x": 1}), {"idempotency_key": "k", "timeout": 2.0}),
        ]
        for name, args, options in uses:
            before = len(received(gate))
            one = getattr(gate, name)(*args, **options)
            other = await getattr(gate, "a" + name)(*args, **options)
            said = [message for message in received(gate)[before:] if "id" in message]
            half = (len(said) - 1) // 2
            mine, twins = said[:half], said[half:-1]
            assert mine
            assert [each["params"] for each in mine] == [each["params"] for each in twins], name
            if name not in {"propose", "govern", "withdraw"}:  # which have ids of their own
                assert one == other


class TestBodies:
    async def test_an_asynchronous_body_runs_in_the_waiting_task(self, gate: GateClient) -> None:
        VARIABLE.set("caller's")

        async def body(args: dict[str, Any]) -> Any:
            seen = VARIABLE.get()
            await asyncio.sleep(0)
            VARIABLE.set("body's")
            return asyncio.current_task(), seen

        value = await gate.acall("t", {}, body=body)
        assert value == (asyncio.current_task(), "caller's")
        assert VARIABLE.get() == "body's"

    async def test_a_synchronous_body_runs_in_a_worker_thread_with_a_copy_of_the_context(
        self, gate: GateClient
    ) -> None:
        VARIABLE.set("caller's")

        def body(args: dict[str, Any]) -> Any:
            seen = VARIABLE.get()
            VARIABLE.set("body's")
            return threading.get_ident(), seen

        thread, seen = await gate.acall("t", {}, body=body)
        assert thread != threading.get_ident()
        assert seen == "caller's"
        assert VARIABLE.get() == "caller's"

    async def test_a_coroutine_that_a_synchronous_body_returns_is_awaited_in_the_task(
        self, gate: GateClient
    ) -> None:
        async def body(x: int) -> Any:
            await asyncio.sleep(0)
            return x, asyncio.current_task()

        value = await gate.acall("t", {"x": 7}, body=lambda args: body(**args))
        assert value == (7, asyncio.current_task())

    async def test_the_loop_turns_while_a_synchronous_body_runs(self, gate: GateClient) -> None:
        turned = threading.Event()
        call = asyncio.create_task(gate.acall("t", {}, body=lambda args: turned.wait(20)))
        await gate.aping()
        turned.set()
        assert await call is True

    async def test_the_caller_gets_the_very_object_that_the_body_returned(
        self, gate: GateClient
    ) -> None:
        value = object()

        async def body(args: dict[str, Any]) -> object:
            return value

        outcome = await gate.agovern("t", {}, body=body)
        assert outcome.live
        assert outcome.output is value
        assert await gate.acall("t", {}, body=lambda args: value) is value

    async def test_a_registered_body_runs(self, gate: GateClient) -> None:
        async def greet(args: dict[str, Any]) -> str:
            return f"hello {args['name']}"

        contract = await gate.aregister_tool("greet", greet, idempotent=True)
        assert contract == {"level": 3, "idempotent": True}
        assert await gate.acall("greet", {"name": "ada"}) == "hello ada"

    async def test_a_second_attempt_runs_the_body_again(self, gate: GateClient) -> None:
        tries: list[int] = []

        async def body(args: dict[str, Any]) -> str:
            tries.append(1)
            if len(tries) == 1:
                raise OSError("try again")
            return "done"

        assert await gate.acall("retried", {}, body=body) == "done"
        assert len(tries) == 2

    async def test_no_more_threads_come_than_synchronous_bodies_may_run_at_once(
        self, gate: GateClient
    ) -> None:
        names: set[str] = set()
        before = threading.active_count()
        peak: list[int] = []

        def body(args: dict[str, Any]) -> int:
            names.add(threading.current_thread().name)
            peak.append(threading.active_count() - before)
            return int(args["n"])

        calls = [gate.acall("t", {"n": n}, body=body) for n in range(200)]
        assert await asyncio.gather(*calls) == list(range(200))
        assert max(peak) <= 32
        await soon(lambda: threading.active_count() <= before)


class TestFailures:
    async def test_an_exception_fails_the_action_and_is_kept(self, gate: GateClient) -> None:
        problem = OSError("disk full")

        async def body(args: dict[str, Any]) -> None:
            raise problem

        def plain(args: dict[str, Any]) -> None:
            raise problem

        for each in (body, plain):
            outcome = await gate.agovern("t", {}, body=each)
            assert outcome.exception is problem
            with pytest.raises(ActionFailed, match="disk full") as caught:
                await gate.acall("t", {}, body=each)
            assert caught.value.__cause__ is problem

    async def test_denied_and_held_calls_raise_and_run_nothing(self, gate: GateClient) -> None:
        async def never(args: dict[str, Any]) -> None:
            pytest.fail("the body must not run")

        with pytest.raises(ActionDenied):
            await gate.acall("denied", {}, body=never)
        with pytest.raises(ActionHeld):
            await gate.acall("held", {}, body=never)

    async def test_a_run_without_a_body_fails_and_says_what_to_do(self, gate: GateClient) -> None:
        outcome = await gate.agovern("unheard_of", {})
        assert outcome.error is not None
        assert "register_tool" in outcome.error.message

    async def test_what_is_not_json_proposes_nothing(self, gate: GateClient) -> None:
        with pytest.raises(TypeError):
            await gate.agovern("t", {"x": object()})
        assert [m["params"]["tool"] for m in received(gate, "govern")] == ["record"]

    async def test_a_result_that_cannot_be_sent_fails_the_action(self) -> None:
        async with fake_gate(encoder=lambda value: {}[value]) as gate:

            async def body(args: dict[str, Any]) -> str:
                return "x"

            for each in (body, lambda args: "x"):
                outcome = await gate.agovern("t", {}, body=each)
                assert outcome.error is not None
                assert "cannot be sent" in outcome.error.message

    async def test_a_request_the_gate_refuses_is_a_protocol_error(self, gate: GateClient) -> None:
        with pytest.raises(ProtocolError, match="bad parameters"):
            await gate.agovern("refused", {})

    async def test_an_interrupt_of_a_body_is_recorded_and_then_raised(
        self, gate: GateClient
    ) -> None:
        class Interrupt(BaseException):
            pass

        async def body(args: dict[str, Any]) -> None:
            raise Interrupt

        def plain(args: dict[str, Any]) -> None:
            raise Interrupt

        for each in (body, plain):
            with pytest.raises(Interrupt):
                await gate.agovern("t", {}, body=each)
        errors = [m["error"]["data"]["type"] for m in received(gate) if "error" in m]
        assert errors == ["Interrupt", "Interrupt"]

    async def test_without_a_loop_nothing_is_proposed(self, gate: GateClient) -> None:
        def on_no_loop() -> None:
            with pytest.raises(RuntimeError, match="no running event loop"):
                gate.agovern("t", {}).send(None)

        Background(on_no_loop).result()
        assert len(received(gate, "govern")) == 1


class TestNestedCalls:
    async def test_tasks_in_tasks_threads_in_tasks_and_tasks_in_threads(
        self, gate: GateClient
    ) -> None:
        loop = asyncio.get_running_loop()

        async def leaf(args: dict[str, Any]) -> str:
            return "leaf"

        def in_the_loop(args: dict[str, Any]) -> Any:
            return asyncio.run_coroutine_threadsafe(
                gate.acall("leaf", {}, body=lambda args: gate.call("deep", {}, body=leaf)), loop
            ).result(20)

        async def outer(args: dict[str, Any]) -> Any:
            return [
                await gate.acall("leaf", {}, body=leaf),
                await gate.acall("leaf", {}, body=lambda args: gate.call("deep", {}, body=leaf)),
                gate.call("leaf", {}, body=lambda args: "on the loop's own thread"),
                await gate.acall("leaf", {}, body=in_the_loop),
            ]

        outcome = await gate.agovern("outer", {}, body=outer)
        assert outcome.output == ["leaf", "leaf", "on the loop's own thread", "leaf"]
        calls = {m["id"]: m["params"] for m in received(gate, "govern")[:-1]}
        parents = {f"u{id}": call.get("parent") for id, call in calls.items()}
        for id, call in calls.items():
            depth, uid = 0, f"u{id}"
            while parents.get(uid) is not None:
                depth, uid = depth + 1, parents[uid]
            expected = {"outer": [0], "leaf": [1, 2], "deep": [2, 3]}
            assert depth in expected[call["tool"]]

    async def test_bodies_in_every_worker_may_wait_for_bodies_in_workers(
        self, gate: GateClient
    ) -> None:
        loop = asyncio.get_running_loop()
        together = threading.Barrier(32)

        def body(args: dict[str, Any]) -> int:
            together.wait(20)
            inner = gate.acall("inner", args, body=lambda args: args["n"])
            return int(asyncio.run_coroutine_threadsafe(inner, loop).result(20))

        calls = [gate.acall("outer", {"n": n}, body=body) for n in range(32)]
        assert await asyncio.gather(*calls) == list(range(32))

    async def test_a_task_that_a_body_starts_names_the_body_as_its_parent(
        self, gate: GateClient
    ) -> None:
        async def inner(args: dict[str, Any]) -> int:
            return 1

        async def outer(args: dict[str, Any]) -> Any:
            return await asyncio.gather(*(gate.acall("in", {}, body=inner) for _ in range(3)))

        outcome = await gate.agovern("out", {}, body=outer)
        assert outcome.output == [1, 1, 1]
        await gate.acall("after", {}, body=inner)
        parents = [m["params"].get("parent") for m in received(gate, "govern")]
        assert parents == [None, *[outcome.uid] * 3, None, None]


class TestTurns:
    """More calls than the gate takes at once."""

    async def test_tasks_wait_for_their_turn_and_the_loop_goes_on(self) -> None:
        async with fake_gate(fake={"max_in_flight": 2}) as gate:

            async def body(args: dict[str, Any]) -> int:
                await asyncio.sleep(0)
                return int(args["n"])

            calls = [gate.acall("t", {"n": n}, body=body) for n in range(40)]
            assert await asyncio.gather(*calls) == list(range(40))
            assert gate._gate is not None
            assert not gate._gate.core.turns._waiting

    async def test_a_nested_call_that_nobody_can_give_room_is_told_so(self) -> None:
        async with fake_gate(fake={"max_in_flight": 1}) as gate:

            async def outer(args: dict[str, Any]) -> None:
                await gate.acall("t", {}, body=lambda args: 1)

            with pytest.raises(ActionFailed, match="too many"):
                await gate.acall("t", {}, body=outer)

    async def test_a_synchronous_call_does_not_wait_for_what_its_own_loop_has_to_do(self) -> None:
        async with fake_gate(fake={"max_in_flight": 2}) as gate:
            begun = asyncio.Event()

            async def other(args: dict[str, Any]) -> str:
                begun.set()
                await asyncio.sleep(0)
                return "other"

            async def outer(args: dict[str, Any]) -> None:
                await begun.wait()
                gate.call("t", {}, body=lambda args: 1)

            first = asyncio.create_task(gate.acall("t", {}, body=outer))
            second = asyncio.create_task(gate.acall("silent", {}, body=other))
            await soon(lambda: len(gate._gate.core.under_way()) == 2)  # type: ignore[union-attr]
            begun.set()
            with pytest.raises(ActionFailed, match="too many"):
                await first
            second.cancel()

    async def test_a_task_that_is_cancelled_in_the_queue_passes_its_turn_on(self) -> None:
        async with fake_gate(fake={"max_in_flight": 1}) as gate:
            running, go = asyncio.Event(), asyncio.Event()

            async def first(args: dict[str, Any]) -> int:
                running.set()
                await go.wait()
                return 1

            async def other(args: dict[str, Any]) -> int:
                return 2

            occupying = asyncio.create_task(gate.acall("t", {}, body=first))
            await running.wait()
            queued = [asyncio.create_task(gate.acall("t", {}, body=other)) for _ in range(3)]
            turns = gate._gate.core.turns  # type: ignore[union-attr]
            await soon(lambda: len(turns._asleep) == 3)
            queued[0].cancel()
            go.set()
            assert await occupying == 1
            assert await asyncio.gather(*queued[1:]) == [2, 2]
            assert queued[0].cancelled()


async def test_a_client_that_was_not_started_says_so() -> None:
    gate = GateClient({})
    with pytest.raises(GateError, match="start"):
        await gate.aping()
    await gate.aclose()


@pytest.mark.parametrize("kind", LOOPS)
def test_every_sort_of_loop_serves(kind: str, gate: GateClient) -> None:
    async def main() -> None:
        async def body(args: dict[str, Any]) -> Any:
            await asyncio.sleep(0)
            return args["n"]

        calls = [gate.acall("t", {"n": n}, body=body) for n in range(50)]
        assert await asyncio.gather(*calls) == list(range(50))
        assert await gate.acall("t", {}, body=lambda args: "plain") == "plain"
        large = "x" * 3_000_000
        assert await gate.acall("t", {"large": large}, body=lambda args: args["large"]) == large

    with Runner(loop_factory=LOOPS[kind]) as runner:
        runner.run(asyncio.wait_for(main(), 30))
    # And threads read as before, whatever the loop did to the pipe.
    for _ in range(3):
        assert gate.call("t", {}, body=lambda args: 1) == 1
