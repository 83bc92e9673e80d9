"""Start and end of a gate as tasks live through them."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import Any

import pytest

from support.client_gates import CLIENT_SOURCE, FAKE_GATE, fake_gate, open_files, received
from support.loops import LOOPS, run, soon
from toolgate_client import GateClosed, GateStartError


def script(code: str) -> subprocess.CompletedProcess[str]:
    """Run a program that has a client of the scripted gate, to its end."""
    start = f"""
        import asyncio, gc, os, sys, threading
        sys.path.insert(0, {str(CLIENT_SOURCE)!r})
        from toolgate_client import GateClient, GateClosed, GateError
        def client():
            return GateClient({{}}, launcher=[sys.executable, {str(FAKE_GATE)!r}])
    """
    return subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(start) + textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        start_new_session=True,
    )


@pytest.mark.parametrize("factory", LOOPS.values(), ids=LOOPS)
class TestBlocks:
    def test_a_block_starts_the_gate_and_stops_it(self, factory: Any) -> None:
        run(asyncio.sleep(0), factory)  # a library may keep descriptors of its own from now on
        before = open_files()

        async def main() -> None:
            client = fake_gate()
            async with client as gate:
                assert gate is client
                await gate.aping()
                pid = gate._gate.process._popen.pid  # type: ignore[union-attr]
            assert client.closed
            with pytest.raises(ProcessLookupError):
                os.kill(pid, 0)
            with pytest.raises(GateClosed):
                await client.aping()

        run(main(), factory)
        assert open_files() == before

    def test_the_loop_turns_while_calls_in_flight_end(self, factory: Any) -> None:
        async def main() -> str:
            closing = asyncio.Event()

            async def body(args: dict[str, Any]) -> str:
                await closing.wait()
                return "ended"

            async with fake_gate() as gate:
                call = asyncio.create_task(gate.acall("t", {}, body=body))
                await gate.aping()
                held = asyncio.create_task(gate.aresume("never", wait=None))
                await gate.aping()
                closing.set()
                result = str(await call)
            with pytest.raises(GateClosed, match="closed"):
                await held
            return result

        assert run(main(), factory) == "ended"


async def test_a_gate_that_does_not_start_says_why() -> None:
    with pytest.raises(GateStartError, match=r"acme\.yaml"):
        await fake_gate(fake={"start": "fail"}).astart()


async def test_the_loop_turns_while_a_gate_starts() -> None:
    gate = fake_gate(fake={"start": "hang"}, start_timeout=0.3)
    start = asyncio.create_task(gate.astart())
    turns = 0
    while not start.done():
        await asyncio.sleep(0.001)
        turns += 1
    with pytest.raises(GateStartError, match="not ready"):
        await start
    assert turns > 20


async def test_a_client_is_closed_once_whoever_closes_it() -> None:
    gate = await fake_gate().astart()
    assert await gate.astart() is gate
    await asyncio.gather(*(gate.aclose() for _ in range(5)))
    gate.close()
    with pytest.raises(GateClosed):
        await gate.astart()


async def test_closing_goes_on_when_the_task_that_closes_is_cancelled() -> None:
    gate = await fake_gate().astart()
    close = asyncio.create_task(gate.aclose())
    await asyncio.sleep(0)
    close.cancel()
    with pytest.raises(asyncio.CancelledError):
        await close
    await gate.aclose()
    assert gate._gate.process.exit_code() == 0  # type: ignore[union-attr]
    assert not gate._gate.process._close.alive  # type: ignore[union-attr]


async def test_a_synchronous_close_on_the_loop_lets_go_of_the_pipes() -> None:
    before = open_files()
    with fake_gate() as gate:
        held = asyncio.create_task(gate.aresume("never", wait=None))
        await gate.aping()
    assert open_files() == before
    with pytest.raises(GateClosed):
        await held


def test_a_close_in_another_thread_lets_go_of_the_pipes_of_a_loop_that_turns() -> None:
    before = open_files()
    gate = fake_gate().start()
    waiting = threading.Event()

    async def main() -> None:
        held = asyncio.create_task(gate.aresume("never", wait=None))
        await gate.aping()
        waiting.set()
        with pytest.raises(GateClosed):
            await held

    thread = threading.Thread(target=lambda: run(main()))
    thread.start()
    assert waiting.wait(20)
    gate.close()
    thread.join(20)
    assert not thread.is_alive()
    assert not gate._gate.process._close.alive  # type: ignore[union-attr]
    assert len(open_files() - before) == 0


def test_one_client_serves_one_loop_after_the_other() -> None:
    with fake_gate() as gate:
        for kind in [*LOOPS.values()] * 2:
            assert run(gate.acall("t", {}, body=lambda args: 1), kind) == 1
            assert gate.call("t", {}, body=lambda args: 2) == 2
        assert len(received(gate, "cancel")) == 0


def test_a_program_may_end_with_calls_in_flight() -> None:
    done = script(
        """
        gate = client().start()
        async def body(args):
            await asyncio.Event().wait()
        async def main():
            for tool in ("silent", "t"):
                task = asyncio.create_task(gate.agovern(tool, {}, body=body))
            await gate.acall("t", {}, body=lambda args: None)
            held = asyncio.create_task(gate.aresume("never", wait=None))
            await gate.aping()
            print("end")
        asyncio.run(main())
        """
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "end\n", "")


def test_a_program_may_end_without_closing_its_loop() -> None:
    done = script(
        """
        gate = client().start()
        loop = asyncio.new_event_loop()
        held = loop.create_task(gate.aresume("never", wait=None))
        held._log_destroy_pending = False
        loop.run_until_complete(gate.acall("t", {}, body=lambda args: None))
        print("end", flush=True)
        """
    )
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def test_a_program_may_end_while_a_daemon_threads_loop_has_calls() -> None:
    done = script(
        """
        gate = client().start()
        begun = threading.Event()
        def body(args):
            begun.set()
            threading.Event().wait()
        async def main():
            await asyncio.gather(
                gate.agovern("silent", {}), gate.agovern("t", {}, body=body), gate.aresume("never")
            )
        threading.Thread(target=lambda: asyncio.run(main()), daemon=True).start()
        begun.wait()
        print("end")
        """
    )
    assert (done.returncode, done.stdout) == (0, "end\n"), done.stderr


def test_ctrl_c_cancels_what_waits() -> None:
    done = script(
        """
        async def main():
            async with client() as gate:
                try:
                    await gate.aresume("ctrl-c", wait=None)
                finally:
                    await gate.aping()
                    messages = gate.govern("record", {}).output
                    print(len([m for m in messages if m["method"] == "cancel"]))
        try:
            asyncio.run(main())
        except KeyboardInterrupt:
            print("interrupted")
        """
        if sys.version_info >= (3, 11)
        else "print(1); print('interrupted')"
    )
    assert (done.returncode, done.stdout) == (0, "1\ninterrupted\n"), done.stderr


def test_a_forked_child_leaves_the_parents_calls_alone() -> None:
    done = script(
        """
        gate = client().start()
        async def echo(args):
            return args
        async def main():
            held = asyncio.create_task(gate.aresume("never", wait=None))
            await gate.aping()
            pid = os.fork()
            if pid == 0:
                try:
                    try:
                        gate.agovern("t", {}).send(None)
                        os._exit(1)
                    except GateError as error:
                        assert "forked" in str(error), error
                    held.get_coro().close()
                    os._exit(0)
                except BaseException as error:
                    os.write(2, repr(error).encode())
                    os._exit(2)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
            assert await gate.acall("t", {"x": 1}, body=echo) == {"x": 1}
            messages = gate.govern("record", {}).output
            assert not [m for m in messages if m.get("method") == "cancel"], messages
            held.cancel()
        asyncio.run(main())
        gate.close()
        print("fine")
        """
    )
    assert done.stdout == "fine\n", done.stderr


async def test_a_client_that_is_only_imported_has_no_asyncio() -> None:
    code = (
        f"import sys; sys.path.insert(0, {str(CLIENT_SOURCE)!r}); import toolgate_client; "
        "print(sorted({'asyncio', 'toolgate_client._tasks', 'queue'} & set(sys.modules)))"
    )
    done = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", "-c", code, stdout=subprocess.PIPE
    )
    assert (await done.communicate())[0] == b"[]\n"


def test_an_interrupt_while_a_loop_reads_loses_nothing() -> None:
    with fake_gate() as gate:
        loop = asyncio.new_event_loop()
        exchange = gate._gate.exchange  # type: ignore[union-attr]

        async def body(args: dict[str, Any]) -> int:
            return int(args["n"])

        handle = exchange.core._handle

        def interrupted(line: bytes) -> None:
            exchange.core._handle = handle
            handle(line)
            signal.raise_signal(signal.SIGINT)

        for n in range(5):
            call = loop.create_task(gate.acall("t", {"n": n}, body=body))
            exchange.core._handle = interrupted
            with pytest.raises(KeyboardInterrupt):
                loop.run_until_complete(call)
            assert not exchange._roles
            assert loop.run_until_complete(call) == n
            assert gate.call("t", {}, body=lambda args: 1) == 1
        loop.run_until_complete(soon(lambda: not exchange.ports))
        loop.close()
