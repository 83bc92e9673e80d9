"""Ctrl-C between any two bytecodes: nothing is lost, nothing runs twice, nobody else is stuck."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

import toolgate_client
from support.client_gates import (
    CLIENT_SOURCE,
    FAKE_GATE,
    Background,
    fake_gate,
    open_files,
    received,
    workers_end,
)
from support.loops import Runner
from toolgate_client import GateClient, _events

CLIENT = str(Path(toolgate_client.__file__ or "").parent)


class Interruption:
    """Raises ``KeyboardInterrupt`` before the nth bytecode of the client in this thread.

    That is stricter than the interpreter, which looks for signals at some bytecodes only.
    """

    def __init__(self, nth: int) -> None:
        self._left = nth

    def __enter__(self) -> None:
        sys.settrace(self._enter_frame)

    def __exit__(self, *exc_info: object) -> None:
        sys.settrace(None)

    def _enter_frame(self, frame: FrameType, event: str, arg: object) -> Any:
        if not frame.f_code.co_filename.startswith(CLIENT):
            return None
        frame.f_trace_opcodes = True
        frame.f_trace_lines = False
        return self._step

    def _step(self, frame: FrameType, event: str, arg: object) -> Any:
        if event == "opcode":
            self._left -= 1
            if self._left == 0:
                sys.settrace(None)
                raise KeyboardInterrupt
        return self._step


def at_every_bytecode(function: Callable[[], object], *, step: int = 1) -> Iterator[int]:
    """Call ``function`` again and again, interrupted one (or ``step``) later each time.

    Yields after each interrupted call; ends when a call was not reached by its interruption.
    """
    nth = 1
    while True:
        try:
            with Interruption(nth):
                function()
        except KeyboardInterrupt:
            yield nth
            nth += step
        else:
            assert nth > 50, "the client was hardly traced"
            return


@pytest.fixture
def gate() -> Iterator[GateClient]:
    with fake_gate() as gate:
        # What is imported at first use, is; and 3.12 traces a frame from its second time on.
        with Interruption(0):
            gate.call("t", {}, body=lambda args: None)
        yield gate


class Calls:
    """Calls whose bodies are counted."""

    def __init__(self, gate: GateClient, args: dict[str, Any] | None = None) -> None:
        self.gate = gate
        self.args = args or {}
        self.ran = 0

    def __call__(self) -> None:
        self.ran = 0
        self.gate.govern("t", self.args, body=self._body)

    def _body(self, args: dict[str, Any]) -> str:
        self.ran += 1
        return "done"

    def check(self) -> None:
        """The last call ran its body at most once, and everybody can go on calling."""
        assert self.ran <= 1
        for _ in range(2):
            assert Background(lambda: self.gate.call("t", {}, body=lambda args: 1)).result() == 1


def check_answers(gate: GateClient, *, waiting: int = 0) -> None:
    """Every run was answered, no call took an interrupted one for its parent, nothing was left."""
    # A reply may be repeated, word for word, when the interrupt fell between sending it and
    # knowing so.
    assert gate.govern("state", {}).output == {"unanswered": [], "contradictions": []}
    assert gate._gate is not None
    assert len(gate._gate.core._pending) == waiting
    assert len(gate._gate.exchange._roles) == waiting  # who waits alone, reads
    assert not gate._gate.exchange._followers
    assert not [call for call in received(gate, "govern") if "parent" in call["params"]]


def test_a_lone_caller_may_be_interrupted_anywhere(gate: GateClient) -> None:
    calls = Calls(gate)
    for _ in at_every_bytecode(calls):
        calls.check()
    check_answers(gate)


def test_a_caller_may_be_interrupted_anywhere_while_another_reads(gate: GateClient) -> None:
    reader = Background(lambda: gate.resume("never", wait=None))
    calls = Calls(gate)
    for _ in at_every_bytecode(calls, step=3):
        calls.check()
    check_answers(gate, waiting=1)
    gate.close()
    with pytest.raises(toolgate_client.GateClosed):
        reader.result()


def test_the_reader_may_be_interrupted_anywhere_while_others_wait(gate: GateClient) -> None:
    calls = Calls(gate)
    for nth in at_every_bytecode(calls, step=5):
        others = [Background(lambda: gate.call("t", {}, body=lambda args: 1)) for _ in range(3)]
        for other in others:
            assert other.result() == 1, nth
    calls.check()
    check_answers(gate)


def test_a_message_larger_than_the_pipe_may_be_interrupted_anywhere(gate: GateClient) -> None:
    calls = Calls(gate, {"text": "x" * 500_000})
    for _ in at_every_bytecode(calls, step=17):
        calls.check()
    check_answers(gate)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # in a generator
def test_a_nested_call_may_be_interrupted_anywhere(gate: GateClient) -> None:
    def call() -> None:
        gate.call("outer", {}, body=lambda args: gate.call("inner", {}, body=lambda args: 1))

    for _ in at_every_bytecode(call, step=19):
        gate.call("after", {}, body=lambda args: 1)
    calls = [message["params"] for message in received(gate, "govern")]
    assert not [call for call in calls if call["tool"] == "after" and "parent" in call]
    assert gate.govern("state", {}).output["unanswered"] == []


@pytest.mark.filterwarnings("ignore:.*was never awaited")  # it came before the await
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_task_and_its_loop_may_be_interrupted_anywhere(gate: GateClient) -> None:
    ran: list[int] = []

    async def body(args: dict[str, Any]) -> int:
        ran.append(1)
        return 1

    with Runner() as runner:
        loop = runner.get_loop()

        def call() -> None:
            ran.clear()
            loop.run_until_complete(gate.acall("t", {}, body=body))

        async def cancel_all() -> None:
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        call()
        for nth in at_every_bytecode(call, step=5):
            loop.call_soon(loop.stop)  # what the interrupted run has left to be done
            loop.run_forever()
            loop.run_until_complete(cancel_all())  # as at the end of asyncio.run
            assert ran in ([], [1]), nth
            assert Background(lambda: gate.call("t", {}, body=lambda args: 1)).result() == 1
            assert runner.run(gate.acall("t", {}, body=body)) == 1
            assert not gate._gate.exchange._roles, nth  # type: ignore[union-attr]
    assert gate.govern("state", {}).output == {"unanswered": [], "contradictions": []}


class Proposals:
    """Proposals of two bodies at once and one after them, each of which is counted."""

    def __init__(self, gate: GateClient) -> None:
        self.gate = gate
        self.ran: dict[int, int] = {}
        self.values = {number: object() for number in (1, 2, 3)}
        self.plan = {
            "actions": [
                {"id": f"a{number}", "tool": "t", "parameters": {"n": number}}
                for number in self.values
            ]
        }
        gate.register_tool("t", self._body)

    def __call__(self) -> None:
        self.ran = {}
        result = self.gate.propose(self.plan, max_workers=2)
        assert [each.output for each in result.results] == list(self.values.values())

    def _body(self, args: dict[str, Any]) -> object:
        number = args["n"]
        self.ran[number] = self.ran.get(number, 0) + 1
        return self.values[number]

    def settle(self) -> None:
        """Wait for the workers of the last one; nothing ran twice, and its callers can go on."""
        assert workers_end()
        assert set(self.ran.values()) <= {1}


def test_a_proposal_may_be_interrupted_anywhere(gate: GateClient) -> None:
    proposals = Proposals(gate)
    proposals()
    for _ in at_every_bytecode(proposals, step=3):
        proposals.settle()
        assert Background(lambda: gate.call("x", {}, body=lambda args: 1)).result() == 1
    proposals.settle()
    check_answers(gate)


def test_a_proposal_may_be_interrupted_anywhere_while_another_reads(gate: GateClient) -> None:
    reader = Background(lambda: gate.resume("never", wait=None))
    proposals = Proposals(gate)
    proposals()
    for _ in at_every_bytecode(proposals, step=11):
        proposals.settle()
    proposals()
    check_answers(gate, waiting=1)
    gate.close()
    with pytest.raises(toolgate_client.GateClosed):
        reader.result()


def test_waiting_for_a_turn_may_be_interrupted_anywhere() -> None:
    with fake_gate(fake={"max_in_flight": 1}) as gate:
        calls = Calls(gate)
        calls()
        turns = gate._gate.core.turns  # type: ignore[union-attr]
        begun, over = threading.Event(), threading.Event()

        def until_asleep(number: int) -> None:
            while len(turns._asleep) < number and not over.is_set():
                gate.ping()

        def occupy(args: dict[str, Any]) -> None:
            begun.set()
            until_asleep(1)
            # What wakes the first of two may be meant for the other.
            others.append(Background(lambda: gate.call("t", {}, body=lambda args: 1)))
            until_asleep(2)

        def call() -> None:
            begun.clear()
            over.clear()
            others.append(Background(lambda: gate.call("t", {}, body=occupy)))
            assert begun.wait(20)
            calls()

        others: list[Background] = []
        for _ in at_every_bytecode(call, step=7):
            over.set()
            for other in others:
                other.result()
            calls.check()
        assert len(received(gate, "govern")) > 2 * len(others)
        for other in others:
            other.result()
        check_answers(gate)


def test_waiting_for_an_event_may_be_interrupted_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_events, "WINDOW", 2)  # every other event takes another request
    with fake_gate(fake={"events": 10_000}) as gate:
        events = gate.subscribe(after=0)
        seen: list[int] = []

        def look() -> None:
            seen.append(next(events).seq)
            seen.append(next(events).seq)
            seen.append(next(events).seq)

        with Interruption(0):
            look()
        for nth in at_every_bytecode(look):
            # Every second time somebody else goes on from there.
            if nth % 2:
                seen.append(Background(lambda: next(events).seq).result())
            gate.ping()
        # What an interrupt took from the hands of its caller is all that can be missing.
        assert seen == sorted(set(seen))
        assert len(seen) > 0.6 * seen[-1]
        events.close()
        assert gate._gate is not None
        assert not gate._gate.core._pending
        assert not gate._gate.exchange._roles


def test_close_may_be_interrupted_anywhere_and_called_again() -> None:
    gates = [fake_gate().start()]

    def close() -> None:
        gates[-1].close()

    for _ in at_every_bytecode(close, step=37):
        gates[-1].close()
        gate = gates[-1]._gate
        assert gate is not None
        assert gate.process.exit_code() is not None
        assert not gate.process._close.alive
        gates.append(fake_gate().start())


def test_waiting_for_a_gate_to_get_ready_may_be_interrupted() -> None:
    before = open_files()

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    handler = signal.signal(signal.SIGUSR2, interrupt)
    try:
        with pytest.raises(KeyboardInterrupt):
            fake_gate(fake={"start": "signals its parent"}).start()
    finally:
        signal.signal(signal.SIGUSR2, handler)
    assert open_files() == before


@pytest.mark.slow
def test_signals_at_any_time_lose_nothing() -> None:
    """The real thing: a timer interrupts hundreds of calls, in other threads' company."""
    code = f"""
        import itertools, signal, sys, threading
        sys.path.insert(0, {str(CLIENT_SOURCE)!r})
        from toolgate_client import GateClient

        class Interrupt(BaseException): pass

        def interrupt(number, frame):
            raise Interrupt

        with GateClient({{}}, launcher=[sys.executable, {str(FAKE_GATE)!r}]) as gate:
            ending = threading.Event()
            others = []

            def other():
                while not ending.is_set():
                    others.append(gate.call("fast", {{}}, body=lambda args: "other"))

            threads = [threading.Thread(target=other) for _ in range(2)]
            for thread in threads:
                thread.start()
            signal.signal(signal.SIGALRM, interrupt)
            ran, done, interrupted = [0] * 20000, 0, 0
            call = -1
            while interrupted < 600 and call < 19000:
                call += 1
                def body(args, call=call):
                    ran[call] += 1
                    return call
                try:
                    try:
                        signal.setitimer(signal.ITIMER_REAL, 0.0001 + call % 97 / 97 * 0.002)
                        args = {{"padding": "x" * (call % 7 * 20000)}}
                        result = gate.call("fast", args, body=body)
                        assert result == call, (result, call)
                        done += 1
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except Interrupt:
                    interrupted += 1
            ending.set()
            for thread in threads:
                thread.join(20)
                assert not thread.is_alive()
            gate.ping()
            state = gate.govern("state", {{}}).output
            assert state["unanswered"] == [], state
            print(max(ran), interrupted > 100, done > 0, set(others))
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(code)],
        check=False,
        capture_output=True,
        text=True,
        timeout=55,
        env={**os.environ},
    )
    assert (done.stdout, done.stderr) == ("1 True True {'other'}\n", "")


@pytest.mark.slow
def test_signals_at_any_time_leave_no_body_and_no_thread_of_a_proposal_behind() -> None:
    code = f"""
        import signal, sys, threading, time
        sys.path.insert(0, {str(CLIENT_SOURCE)!r})
        from toolgate_client import GateClient

        class Interrupt(BaseException): pass

        def interrupt(number, frame):
            raise Interrupt

        def plan(count, together):
            actions = [
                {{"id": str(n), "tool": "t", "parameters": {{"n": n}}}} for n in range(count)
            ]
            return {{"actions": actions, "context": {{"together": together}}}}

        with GateClient({{}}, launcher=[sys.executable, {str(FAKE_GATE)!r}]) as gate:
            gate.register_tool("t", lambda args: args["n"])
            ending = threading.Event()
            others = []

            def propose(count, together):
                results = gate.propose(plan(count, together), max_workers=3).results
                return [each.output for each in results] == list(range(count))

            def other():
                while not ending.is_set():
                    others.append(propose(3, together=len(others) % 2 == 0))

            thread = threading.Thread(target=other)
            thread.start()
            signal.signal(signal.SIGALRM, interrupt)
            done, interrupted, proposals = [], 0, 0
            while interrupted < 200 and proposals < 4000:
                proposals += 1
                try:
                    try:
                        signal.setitimer(
                            signal.ITIMER_REAL, 0.0001 + proposals % 97 / 97 * 0.005
                        )
                        done.append(propose(4, together=proposals % 3 > 0))
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except Interrupt:
                    interrupted += 1
            ending.set()
            thread.join(20)
            assert not thread.is_alive()
            deadline = time.monotonic() + 20
            while any(each.name.startswith("toolgate-body") for each in threading.enumerate()):
                assert time.monotonic() < deadline
                gate.ping()
            gate.ping()
            state = gate.govern("state", {{}}).output
            assert state == {{"unanswered": [], "contradictions": []}}, state
            print(set(done), interrupted > 50, set(others))
    """
    done = subprocess.run(
        [sys.executable, "-I", "-c", textwrap.dedent(code)],
        check=False,
        capture_output=True,
        text=True,
        timeout=55,
        env={**os.environ},
    )
    assert (done.stdout, done.stderr) == ("{True} True {True}\n", "")
