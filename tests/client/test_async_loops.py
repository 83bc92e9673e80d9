"""Threads and event loops, many of each, on one gate: every message reaches its owner."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from support.client_gates import PATIENCE, Background, fake_gate
from support.loops import LOOPS, run, soon
from toolgate_client import GateClient, GateClosed

MEGABYTE = 1 << 20


@pytest.fixture
def gate() -> Iterator[GateClient]:
    with fake_gate() as gate:
        yield gate


async def echo(args: dict[str, Any]) -> Any:
    await asyncio.sleep(0)
    return args["n"]


def test_threads_and_loops_of_every_sort_each_get_their_own_replies(gate: GateClient) -> None:
    barrier = threading.Barrier(64 + 2 * len(LOOPS))

    def thread(index: int) -> list[Any]:
        barrier.wait(PATIENCE)
        return [gate.call("t", {"n": [index, n]}, body=lambda args: args["n"]) for n in range(8)]

    def loop(index: int) -> list[Any]:
        async def main() -> list[Any]:
            barrier.wait(PATIENCE)
            calls = [gate.acall("t", {"n": [index, n]}, body=echo) for n in range(30)]
            return await asyncio.gather(*calls)

        result: list[Any] = run(main(), list(LOOPS.values())[index % len(LOOPS)])
        return result

    threads = [Background(partial(thread, index)) for index in range(64)]
    loops = [Background(partial(loop, index)) for index in range(100, 100 + 2 * len(LOOPS))]
    for index, each in enumerate(threads):
        assert each.result() == [[index, n] for n in range(8)]
    for index, each in enumerate(loops, 100):
        assert each.result() == [[index, n] for n in range(30)]
    assert gate.govern("state", {}).output == {"unanswered": [], "contradictions": []}


async def test_no_thread_is_started_for_a_call(gate: GateClient) -> None:
    before = threading.active_count()

    async def body(args: dict[str, Any]) -> int:
        await asyncio.sleep(0)
        return threading.active_count()

    calls = [gate.acall("t", {}, body=body) for _ in range(100)]
    assert set(await asyncio.gather(*calls)) == {before}


async def test_a_thousand_waiting_tasks_need_no_thread_and_are_all_answered(
    gate: GateClient,
) -> None:
    before = threading.active_count()
    calls = [asyncio.create_task(gate.agovern("silent", {"n": n})) for n in range(1000)]
    pending = gate._gate.core._pending  # type: ignore[union-attr]
    await soon(lambda: len(pending) == 1000)
    await gate.aping()
    assert threading.active_count() == before
    for number in range(1000):
        os.kill(gate._gate.process._popen.pid, signal.SIGUSR1)  # type: ignore[union-attr]
        await calls[number]
    assert [call.result().output for call in calls] == [{"n": n} for n in range(1000)]


async def test_large_messages_both_ways_at_once_do_not_block(gate: GateClient) -> None:
    async def double(args: dict[str, Any]) -> str:
        return str(args["text"]) * 2

    async def caller(index: int) -> None:
        text = chr(97 + index) * (3 * MEGABYTE)
        outcome = await gate.agovern("t", {"text": text}, body=double)
        assert outcome.output == text * 2

    await asyncio.gather(*(caller(index) for index in range(6)))


async def test_a_gate_that_talks_before_it_listens_is_heard(gate: GateClient) -> None:
    calls = [
        gate.acall("big_backlog", {"text": "x" * MEGABYTE, "n": index}, body=echo)
        for index in range(4)
    ]
    assert await asyncio.gather(*calls) == [0, 1, 2, 3]


def test_a_loop_that_is_busy_keeps_nobody_waiting(gate: GateClient) -> None:
    held, go = threading.Event(), threading.Event()

    async def busy() -> Any:
        call = asyncio.create_task(gate.aresume("never", wait=None))
        await soon(lambda: gate._gate.core._pending, gate.aping)  # type: ignore[union-attr]
        held.set()
        assert go.wait(PATIENCE)  # blocks the loop, while it watches the pipe
        call.cancel()

    async def other() -> Any:
        return [await gate.acall("t", {"n": n}, body=echo) for n in range(5)]

    blocked = Background(lambda: run(busy()))
    assert held.wait(PATIENCE)
    assert Background(lambda: run(other())).result() == list(range(5))
    assert Background(lambda: gate.call("t", {}, body=lambda args: 1)).result() == 1
    go.set()
    blocked.result()


async def test_the_loops_own_thread_may_call_while_its_tasks_wait(gate: GateClient) -> None:
    waiting = asyncio.create_task(gate.aresume("never", wait=None))
    await gate.aping()
    assert [gate.call("t", {"n": n}, body=lambda args: args["n"]) for n in range(5)] == [*range(5)]
    assert await gate.acall("t", {"n": 7}, body=echo) == 7
    waiting.cancel()


def test_tasks_are_answered_while_a_thread_waits_and_reads(gate: GateClient) -> None:
    thread = Background(partial(gate.govern, "silent", {"n": 0}))

    async def main() -> None:
        roles = gate._gate.exchange._roles  # type: ignore[union-attr]
        await soon(lambda: "reader" in roles)
        assert [await gate.acall("t", {"n": n}, body=echo) for n in range(20)] == [*range(20)]
        assert await gate.acall("t", {"n": 1}, body=lambda args: gate.call("u", {}, body=len)) == 0

    run(main())
    os.kill(gate._gate.process._popen.pid, signal.SIGUSR1)  # type: ignore[union-attr]
    assert thread.result().output == {"n": 0}


async def test_a_loop_that_nobody_waits_on_watches_nothing(gate: GateClient) -> None:
    exchange = gate._gate.exchange  # type: ignore[union-attr]
    assert await gate.acall("t", {"n": 1}, body=echo) == 1
    assert await gate.acall("t", {"n": 1}, body=lambda args: 1) == 1
    await soon(lambda: not exchange.ports)
    loop = asyncio.get_running_loop()
    assert not loop.remove_reader(exchange.read_fd)
    assert not loop.remove_writer(exchange.write_fd)


async def test_a_caller_that_makes_call_after_call_watches_once(
    gate: GateClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    loop = asyncio.get_running_loop()
    watched: list[Any] = []
    add_reader = loop.add_reader

    def counted(*args: Any) -> None:
        watched.append(args)
        add_reader(*args)

    monkeypatch.setattr(loop, "add_reader", counted)
    for n in range(10):
        await gate.acall("t", {"n": n}, body=echo)
    assert len(watched) == 1


def test_ports_of_loops_that_have_closed_are_forgotten(gate: GateClient) -> None:
    exchange = gate._gate.exchange  # type: ignore[union-attr]
    for _ in range(3):
        loop = asyncio.new_event_loop()
        call = loop.create_task(gate.aresume("never", wait=None))
        loop.run_until_complete(gate.aping())
        loop.close()
        call._log_destroy_pending = False  # type: ignore[attr-defined]
        call.get_coro().close()  # type: ignore[union-attr]
    run(gate.aping())
    assert not exchange.ports


@pytest.mark.parametrize("factory", LOOPS.values(), ids=LOOPS)
class TestWhenTheGateDies:
    def test_every_waiter_hears_it_with_the_end_of_what_it_printed(self, factory: Any) -> None:
        with fake_gate() as gate:

            async def main() -> list[Any]:
                waiting = [asyncio.create_task(gate.agovern("silent", {})) for _ in range(20)]
                await gate.aping()
                with pytest.raises(GateClosed) as caught:
                    await gate.agovern("die", {})
                assert caught.value.exit_code == 3
                assert "the disk is on fire" in str(caught.value)
                with pytest.raises(GateClosed):
                    await gate.aping()
                return await asyncio.gather(*waiting, return_exceptions=True)

            errors = run(main(), factory)
            assert [type(error) for error in errors] == [GateClosed] * 20
            assert all("on fire" in error.stderr for error in errors)

    def test_a_body_that_runs_then_ends_first(self, factory: Any) -> None:
        ran: list[int] = []
        with fake_gate() as gate:

            async def body(args: dict[str, Any]) -> None:
                os.kill(gate._gate.process._popen.pid, signal.SIGKILL)  # type: ignore[union-attr]
                await soon(lambda: gate.closed)
                ran.append(1)

            async def main() -> None:
                with pytest.raises(GateClosed, match="SIGKILL"):
                    await gate.agovern("t", {}, body=body)

            run(main(), factory)
        assert ran == [1]

    def test_a_gate_that_lives_on_without_its_output_is_ended(self, factory: Any) -> None:
        with fake_gate() as gate:

            async def main() -> int:
                call = asyncio.create_task(gate.agovern("close_output", {}))
                turns = 0
                while not call.done():
                    await asyncio.sleep(0.001)
                    turns += 1
                with pytest.raises(GateClosed):
                    await call
                return turns

            assert run(main(), factory) > 5  # the loop was not blocked meanwhile
