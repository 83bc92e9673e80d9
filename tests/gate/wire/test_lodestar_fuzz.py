"""Whatever Lodestar's clients could send: nothing crashes, hangs, goes unanswered or piles up."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.lodestar_driver import LodestarDriver, Message
from support.people import config
from support.processes import largest

BOUND = 20.0
LAST = 10**9
TURNS = 10
"""Of the event loop, between two lines: the gate may be anywhere with the one before."""
HELD = "the last that was held"
TYPES = ["register_tool", "govern", "govern", "resume", "tool_result", "tool_error"]

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
tools = st.sampled_from(["search", "pay", "shell", "vault", "nobody's"])
likely: dict[str, st.SearchStrategy[Any]] = {
    "id": st.integers(0, 8),
    "name": tools,
    "tool": tools,
    "args": st.dictionaries(st.sampled_from(["command", "a"]), st.text(max_size=3)),
    "action_id": st.sampled_from([HELD, "a"]),
    "request_id": st.sampled_from([HELD, "h"]),
    "wait_ms": st.sampled_from([0, 5, 20.0]),
    "output": values,
    "documents": st.lists(st.fixed_dictionaries({"text": st.text(max_size=3)}), max_size=2),
    "message": st.text(max_size=5),
}
KEYS = {
    "register_tool": ["id", "name"],
    "govern": ["id", "tool", "args"],
    "resume": ["id", "action_id", "request_id", "wait_ms"],
    "tool_result": ["id", "output", "documents"],
    "tool_error": ["id", "message"],
}


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """Draw a message that is right, or nearly so."""
    kind = draw(st.sampled_from(TYPES))
    message = {"type": kind, **{key: draw(likely[key]) for key in KEYS[kind]}}
    match draw(st.integers(0, 7)):
        case 0:
            message[draw(st.sampled_from([*likely, "type", "junk"]))] = draw(values)
        case 1:
            del message[draw(st.sampled_from(list(message)))]
    return json.dumps(message).encode()


noise = st.binary(max_size=40) | values.map(lambda value: json.dumps(value).encode())
lines = st.lists(messages() | messages() | noise.filter(lambda line: b"\n" not in line), min_size=6)


def awaited(line: bytes) -> int | None:
    """Return the id with which the sender of a line waits for an answer, if it does."""

    def refuse(constant: str) -> None:
        raise ValueError(constant)

    try:
        value = json.loads(line.decode(), parse_constant=refuse)
    except ValueError:
        return None
    if not isinstance(value, dict) or value.get("type") in ("tool_result", "tool_error"):
        return None
    id = value.get("id")
    return id if isinstance(id, int) and not isinstance(id, bool) else None


class Listener:
    """Counts the answers by their ids, and at the end ends the runs that nothing else has ended."""

    def __init__(self, gate: LodestarDriver) -> None:
        self.answers: Counter[int] = Counter()
        self.held: Message = {"action_id": "a", "request_id": "h"}
        self._gate = gate
        self._open: list[Message] | None = []
        self._heard = asyncio.Event()

    async def listen(self) -> None:
        """Listen until the gate ends."""
        while True:
            message = await self._gate.next()
            if message["type"] == "run_tool":
                if self._open is None:
                    self._gate.answer(message, 1)
                else:
                    self._open.append(message)
                continue
            assert message["type"] in ("registered", "govern_result", "error")
            if "id" in message:
                self.answers[message["id"]] += 1
            if message.get("phase") == "pending_approval" and "request_id" in message:
                self.held = message
            self._heard.set()

    async def until(self, expected: Counter[int]) -> None:
        """Wait until there are so many answers to each id."""
        for run in self._open or ():
            self._gate.answer(run, 1)
        self._open = None
        while not self.answers >= expected:
            self._heard.clear()
            await self._heard.wait()

    def filled_in(self, line: bytes) -> bytes:
        """Put the names of the last hold where a line asks for them."""
        for key in ("action_id", "request_id"):
            asked, name = (f'"{key}": "{name}"'.encode() for name in (HELD, self.held[key]))
            line = line.replace(asked, name)
        return line


async def converse(folder: Path, sent: list[bytes]) -> None:
    """Send lines, and see that everything that can be answered is, once, and that the gate ends."""
    async with asyncio.timeout(BOUND), LodestarDriver(folder, config(journal="memory:")) as gate:
        for name in ("search", "pay", "vault"):
            await gate.ask("register_tool", name=name)
        listener = Listener(gate)
        listening = asyncio.ensure_future(listener.listen())
        expected = Counter([LAST])
        for line in sent:
            gate.feed(listener.filled_in(line))
            expected.update(id for id in [awaited(line)] if id is not None)
            for _ in range(TURNS):
                await asyncio.sleep(0)
        gate.feed(b'{"type": "register_tool", "name": "search", "id": %d}' % LAST)
        await listener.until(expected)
        gate.feed(b'{"type": "shutdown"}')
        await gate.serving
        assert not listening.done()
        listening.cancel()
    assert listener.answers == expected


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(lines)
def test_every_request_is_answered_once_whatever_else_is_sent(
    tmp_path: Path, sent: list[bytes]
) -> None:
    asyncio.run(converse(tmp_path, sent))


@settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(st.lists(st.binary(max_size=3000), max_size=10))
def test_random_bytes_are_survived_however_they_are_cut(tmp_path: Path, sent: list[bytes]) -> None:
    async def babble() -> None:
        limits = {"max_message_bytes": 1024}
        settings = config(journal="memory:", limits=limits)
        async with asyncio.timeout(BOUND), LodestarDriver(tmp_path, settings) as gate:
            for piece in sent:
                gate.transport.feed(piece)
            gate.feed(b'\n{"type": "register_tool", "name": "search", "id": %d}' % LAST)
            while (message := await gate.next()).get("id") != LAST:
                assert message["type"] == "error"
            gate.feed(b'{"type": "shutdown"}')
            await gate.serving
        assert message["type"] == "registered"

    asyncio.run(babble())


FLOOD = {
    "lines without end": b"x" * (1 << 20),
    "lines that are too long": b'{"type": "govern", "args": "'
    + b"x" * (5 << 20)
    + b'", "id": 1}\n',
    "lines that are not JSON": b'{"type": "govern", "id": NaN}\n' * 2000,
    "malformed requests": b'{"type": "govern", "id": 1, "x": 1}\n' * 2000,
    "answers of no run": b'{"type": "tool_result", "id": 7, "output": 1}\n' * 2000,
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the size of a process from /proc")
async def test_a_flood_of_bad_input_does_not_make_the_gate_grow(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(yaml.safe_dump(config()))
    with (tmp_path / "err").open("wb") as err:
        gate = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "toolgate", "runtime", "gate", "--config", str(path)),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=err,
            limit=1 << 20,
        )
    assert gate.stdin is not None
    assert gate.stdout is not None

    async def answered(id: int) -> None:
        assert gate.stdout is not None
        while (message := json.loads(await gate.stdout.readline())).get("id") != id:
            assert message["type"] in ("ready", "error")

    async def flood(times: int, id: int) -> int:
        assert gate.stdin is not None
        hearing = asyncio.ensure_future(answered(id))
        for _ in range(times):
            for piece in FLOOD.values():
                gate.stdin.write(piece)
                await gate.stdin.drain()
        gate.stdin.write(b'\n{"type": "register_tool", "name": "search", "id": %d}\n' % id)
        await hearing
        return largest(gate.pid)

    try:
        before = await flood(2, 100)
        after = await flood(10, 200)
        gate.stdin.write(b'{"type": "shutdown"}\n')
        assert await gate.wait() == 0
    finally:
        if gate.returncode is None:
            gate.kill()
            await gate.wait()
    assert after - before < 16 * 1024, "KiB more after five times as much"
    assert len((tmp_path / "err").read_bytes()) < 100_000
