"""Whatever a gate says, in whatever order: nobody waits for ever, and every caller hears an end.

The gate is a pair of pipes and a list of what is written to one of them; the clients are threads
and tasks, on the very code that real gates are spoken to with.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.client_gates import PATIENCE, Background
from support.loops import LOOPS, Runner, soon
from toolgate_client import GateError, Outcome, default_encoder
from toolgate_client._events import Subscription
from toolgate_client._gate import Gate
from toolgate_client._requests import govern, ping, propose, resume
from toolgate_client._tasks import do as ado
from toolgate_client._threads import do


class Pipes:
    """A gate that is its pipes; what a client says to it is thrown away."""

    def __init__(self) -> None:
        self.read_fd, self.said = os.pipe()
        self.heard, self.write_fd = os.pipe()
        os.set_blocking(self.write_fd, False)
        self.owner = os.getpid()
        self.stderr = SimpleNamespace(tail=lambda: "its last words")
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()

    def output_ended(self) -> int:
        return 9

    def say(self, data: bytes) -> None:
        while data:
            data = data[os.write(self.said, data) :]

    def end(self) -> None:
        os.close(self.said)

    def close(self) -> None:
        os.close(self.write_fd)
        self._listening.join(PATIENCE)
        os.close(self.read_fd)
        os.close(self.heard)

    def _listen(self) -> None:
        while os.read(self.heard, 1 << 16):
            pass


@contextmanager
def gate() -> Iterator[tuple[Gate, Pipes]]:
    pipes = Pipes()
    try:
        yield Gate(pipes, default_encoder), pipes  # type: ignore[arg-type]
    finally:
        pipes.close()


def line(message: Any) -> bytes:
    return json.dumps(message).encode() + b"\n"


_ids = st.integers(0, 8)
_uids = st.sampled_from(["u1", "u2", "p1-1", "p1-2"])
_runs = st.builds(
    lambda id, call, tool, uid: {
        "id": id,
        "method": "run_tool",
        "params": {"call": call, "tool": tool, "args": {}, "uid": uid},
    },
    _ids,
    _ids,
    st.sampled_from(["plain", "async", "failing", "unheard of"]),
    _uids,
)
_statuses = ["succeeded", "held", "failed", "running"]
_outcomes = st.builds(
    lambda id, uid, status: {"id": id, "result": {"uid": uid, "status": status}},
    _ids,
    _uids,
    st.sampled_from(_statuses),
)
_proposals = st.builds(
    lambda id, uid: {
        "id": id,
        "result": {"proposal_id": "p", "uid": uid, "status": "completed", "results": []},
    },
    _ids,
    _uids,
)
_errors = st.builds(
    lambda id, code: {"id": id, "error": {"code": code, "message": "no"}},
    _ids,
    st.sampled_from([-32602, -32002, -32003, "?", None]),
)
_events = st.builds(
    lambda id, event: {"method": "event", "params": {"subscription": id, "event": event}},
    _ids | st.none() | st.lists(_ids, max_size=1),
    st.builds(
        lambda seq, data: {"seq": seq, "kind": "k", "at": "t", "session": "s", "data": data},
        st.integers(0, 9),
        st.just({}) | st.none(),
    )
    | st.sampled_from([None, {}, 7]),
)
_ends = st.builds(
    lambda id, after: {"id": id, "result": {"after": after}}, _ids, st.integers(0, 9) | st.none()
)
_cancels = _uids.map(lambda uid: {"method": "cancel_tool", "params": {"uid": uid, "reason": "r"}})
_odd = st.sampled_from(
    [{}, {"id": 1}, {"id": "1", "result": 1}, {"method": "log", "params": {"message": "m"}}, 7]
)
_lines = st.one_of(
    st.one_of(_runs, _outcomes, _proposals, _errors, _cancels, _events, _ends, _odd).map(line),
    st.binary(max_size=20).map(lambda data: data.replace(b"\n", b"") + b"\n"),
)
_FEW = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True
)
PLAN = {"actions": [{"id": "a", "type": "tool_call", "tool": "plain"}] * 2}


async def asynchronous(args: dict[str, Any]) -> int:
    await asyncio.sleep(0)
    return 1


def failing(args: dict[str, Any]) -> None:
    raise OSError("no")


def requests(gate: Gate) -> list[Any]:
    """Requests of every sort; they have the ids from 1."""
    gate.bodies.update(plain=len, failing=failing)
    gate.bodies["async"] = asynchronous
    return [
        govern(gate, "plain", {}, None, None, None, None),
        propose(gate, PLAN, None, 2),
        resume(gate, "u2", None, None, None),
        ping(),
    ]


def follow(gate: Gate) -> GateError:
    """Follow the gate's events to the end, which is an error."""
    with Subscription(gate, None, None) as events:
        try:
            seen = [event.seq for event in events]
        except GateError as error:
            return error
    raise AssertionError(seen)


async def afollow(gate: Gate) -> GateError:
    """As ``follow``, in a task."""
    async with Subscription(gate, None, None) as events:
        try:
            seen = [event.seq async for event in events]
        except GateError as error:
            return error
    raise AssertionError(seen)


def check(gate: Gate, results: list[Any]) -> None:
    """Each caller has a result of its own sort, or an error that says why not; nothing is left."""
    for result in results:
        assert result is None or isinstance(result, (Outcome, GateError)) or result.uid, result
    assert not gate.core._pending
    deadline = time.monotonic() + PATIENCE
    while gate.exchange._roles or gate.exchange._followers:
        os.sched_yield()  # a worker, or who read for a loop, is about to leave
        assert time.monotonic() < deadline
    assert not gate.core.turns._waiting


@_FEW
@given(st.lists(_lines, max_size=15), st.sampled_from(list(LOOPS)))
def test_tasks_hear_an_end_whatever_the_gate_says(lines: list[bytes], kind: str) -> None:
    odd: list[Any] = []
    with gate() as (started, pipes), Runner(loop_factory=LOOPS[kind]) as runner:

        async def main() -> list[Any]:
            asyncio.get_running_loop().set_exception_handler(lambda loop, what: odd.append(what))
            calls = [asyncio.create_task(ado(started, each)) for each in requests(started)]
            calls.append(asyncio.create_task(afollow(started)))
            await asyncio.sleep(0)
            for each in lines:
                pipes.say(each)
                await asyncio.sleep(0)
            pipes.end()
            gathered = asyncio.gather(*calls, return_exceptions=True)
            results: list[Any] = await asyncio.wait_for(gathered, PATIENCE)
            await soon(lambda: not started.exchange.ports)
            return results

        results = runner.run(main())
        check(started, results)
    assert not odd


@_FEW
@given(st.lists(_lines, max_size=15))
def test_threads_hear_an_end_whatever_the_gate_says(lines: list[bytes]) -> None:
    with gate() as (started, pipes):

        def ask(asked: Any) -> Any:
            try:
                return do(started, asked)
            except GateError as error:
                return error

        calls = [Background(lambda each=each: ask(each)) for each in requests(started)]
        calls.append(Background(lambda: follow(started)))
        for each in lines:
            pipes.say(each)
        pipes.end()
        results = [call.result() for call in calls]
        check(started, results)


@_FEW
@given(st.lists(_lines, max_size=12), st.integers(0, 4), st.integers(0, 12))
def test_a_task_may_be_cancelled_between_any_two_messages(
    lines: list[bytes], which: int, when: int
) -> None:
    odd: list[Any] = []
    with gate() as (started, pipes):

        async def main() -> list[Any]:
            asyncio.get_running_loop().set_exception_handler(lambda loop, what: odd.append(what))
            calls = [asyncio.create_task(ado(started, each)) for each in requests(started)]
            calls.append(asyncio.create_task(afollow(started)))
            for number, each in enumerate(lines):
                await asyncio.sleep(0)
                if number == when:
                    calls[which].cancel()
                pipes.say(each)
            pipes.end()
            gathered = asyncio.gather(*calls, return_exceptions=True)
            results: list[Any] = await asyncio.wait_for(gathered, PATIENCE)
            await soon(lambda: not started.exchange.ports)
            return results

        results = asyncio.run(main())
        cancelled = isinstance(results[which], asyncio.CancelledError)
        check(started, [each for each in results if not cancelled or each is not results[which]])
    assert not odd
