"""Whatever comes in, in whatever order: nothing crashes, hangs, goes unanswered or piles up."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.people import config
from support.processes import largest
from toolgate import gate as gates
from toolgate.config import parse_config
from toolgate.gate import Gate
from toolgate.journal.opening import inspect_journal
from toolgate.journal.verify import verify
from toolgate.wire.memory import MemoryTransport

BOUND = 20.0
LAST = 10**9
TURNS = 10
"""Of the event loop, between two steps: the gate may be anywhere with the one before."""
NEWEST = "the uid told last"
LIMITS = {"max_message_bytes": 4096, "max_in_flight": 3, "max_waiting": 3, "drain": "50ms"}
_FEW = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
tools = st.sampled_from(["search", "search", "pay", "pay", "slow", "vault", "shell", "nobody's"])
uids = st.sampled_from([NEWEST, NEWEST, "a", f"{NEWEST}-1"])
actions = st.fixed_dictionaries(
    {"type": st.sampled_from(["tool_call", "state_write", "assertion", "x"])},
    optional={
        "id": st.sampled_from(["a", "b"]),
        "tool": tools,
        "parameters": st.sampled_from(
            [{}, {"key": "k", "value": 1}, {"key": "k"}, {"q": "$a.output"}]
        ),
        "dependencies": st.just(["a"]),
        "failure_behavior": st.sampled_from(["abort", "retry", "skip"]),
        "max_retries": st.just(0),
    },
)
plans = st.fixed_dictionaries({"actions": st.lists(actions, max_size=3)})
states = st.sampled_from([{}, {"k": 1}])
places = st.integers(0, 40)
METHODS: dict[str, dict[str, st.SearchStrategy[Any]]] = {
    "register_tool": {
        "name": tools,
        "parameters": st.sampled_from([{}, {"type": "object"}, {"type": 7}]),
    },
    "govern": {
        "tool": tools,
        "args": st.fixed_dictionaries({"a": st.integers(0, 3)}),
        "idempotency_key": st.sampled_from(["one", "two"]),
        "timeout_ms": st.sampled_from([1, 5000]),
        "parent": uids,
    },
    "propose": {"proposal": plans, "idempotency_key": st.sampled_from(["one", "two"])},
    "resume": {"uid": uids, "wait_ms": st.sampled_from([0, 5, None])},
    "withdraw": {"uid": uids},
    "observe": {"text": st.text(max_size=5), "trust": st.sampled_from(["trusted", "untrusted"])},
    "state": {"keys": st.lists(st.sampled_from(["k", "l"]), max_size=2)},
    "checkpoint": {"name": st.just("c")},
    "restore": {"checkpoint_id": st.just("c")},
    "verify": {"proposal": plans, "state": states},
    "simulate": {"proposal": plans, "state": states},
    "equivalent": {"a": plans, "b": plans, "states": st.lists(states, max_size=2)},
    "optimize": {"proposal": plans},
    "rank": {"candidates": st.lists(plans, max_size=2)},
    "holds": {"status": st.just("pending"), "limit": st.integers(1, 5), "after": uids},
    "events": {"after": places, "limit": st.integers(1, 5), "action_id": uids},
    "subscribe": {"after": places, "limit": st.integers(1, 5), "action_id": uids},
    "ping": {},
    "nothing like it": {},
}
FREQUENT = ["govern", "govern", "govern", "propose", "resume", "subscribe", "register_tool"]
SELDOM = {"idempotency_key", "timeout_ms", "parent", "after", "status", "action_id", "dependencies"}
ids = st.integers(0, 30) | st.sampled_from(["x", ""])


class Step(NamedTuple):
    """What the client does next: send bytes, or answer a run (by its number, modulo)."""

    send: bytes = b""
    run: int | None = None
    answer: Any = None


def line(message: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode()


@st.composite
def requests(draw: st.DrawFn) -> dict[str, Any]:
    """Draw a request that is right, or nearly so."""
    method = draw(st.sampled_from(FREQUENT) | st.sampled_from(list(METHODS)))
    known = METHODS[method]
    params = {
        name: draw(value)
        for name, value in known.items()
        if draw(st.integers(0, 9)) > (7 if name in SELDOM else 0)
    }
    if draw(st.integers(0, 7)) == 0:
        params[draw(st.sampled_from([*known, "junk"]))] = draw(values)
    return {"id": draw(ids), "method": method, "params": params}


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw a message with a wrong member, or bytes of it that are wrong, lost or repeated."""
    message = draw(requests())
    if draw(st.booleans()):
        message[draw(st.sampled_from(["id", "method", "params", "jsonrpc", "result"]))] = draw(
            values
        )
        return line(message)
    data = bytearray(line(message))
    where = draw(st.integers(0, len(data) - 1))
    match draw(st.integers(0, 2)):
        case 0:
            data[where] = draw(st.integers(0, 255))
        case 1:
            del data[where : where + draw(st.integers(1, 20))]
        case 2:
            data[where:where] = data[where : where + draw(st.integers(1, 20))]
    return bytes(data)


results = st.one_of(
    st.fixed_dictionaries({"output": values}),
    st.fixed_dictionaries({"output": values, "documents": values}),
    st.just({"suspended": True}),
    st.just({"suspended": True, "output": 1}),
    values,
)
answers = st.one_of(
    results.map(lambda result: {"result": result}),
    st.fixed_dictionaries({"code": values, "message": values, "data": values}).map(
        lambda error: {"error": error}
    ),
    values.map(lambda value: {"error": value}),
)
steps = st.one_of(
    requests().map(lambda message: Step(line(message))),
    requests().map(lambda message: Step(line(message))),
    st.builds(lambda run, answer: Step(run=run, answer=answer), st.integers(0, 5), answers),
    ids.map(lambda id: Step(line({"method": "cancel", "params": {"id": id}}))),
    values.map(lambda value: Step(line({"method": "cancel", "params": value}))),
    mutated().map(Step),
    st.binary(max_size=40).map(Step),
    values.map(lambda value: Step(json.dumps(value).encode())),
    st.just(Step(line({"id": 1, "method": "ping", "params": {"x": "x" * 5000}}))),
)
sequences = st.lists(steps, min_size=8, max_size=40)


def _strict(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key twice")
    return dict(pairs)


def _refuse(text: str) -> Any:
    raise ValueError(text)


def _number(text: str) -> float:
    value = float(text)
    if value in (float("inf"), float("-inf")):
        raise ValueError(text)
    return value


class Expected:
    """Which answers a client waits for that has sent some bytes, by a reading of its own."""

    def __init__(self) -> None:
        self.answers: Counter[Any] = Counter()
        self.unreadable = 0
        """Lines that get an error, whoever it is sent to, or end a run."""

    def sent(self, data: bytes) -> None:
        for each in data.split(b"\n"):
            self._line(each)

    def _line(self, data: bytes) -> None:
        if not data.strip():
            return
        try:
            if len(data) > LIMITS["max_message_bytes"]:  # type: ignore[operator]
                raise ValueError("too long")
            message = json.loads(
                data.decode(),
                parse_constant=_refuse,
                object_pairs_hook=_strict,
                parse_float=_number,
            )
            json.dumps(message, ensure_ascii=False).encode()
        except (ValueError, RecursionError):
            self.unreadable += 1
            return
        id = message.get("id") if isinstance(message, dict) else None
        if not isinstance(id, (int, str)) or isinstance(id, bool):
            self.unreadable += 1
            return
        reply = message.get("method") is None and ("result" in message or "error" in message)
        if message.get("jsonrpc") != "2.0" or not reply:
            self.answers[id] += 1


class Listener:
    """Counts the answers by their ids, and keeps the runs for whoever answers them."""

    def __init__(self) -> None:
        self.answers: Counter[Any] = Counter()
        self.results: dict[Any, Any] = {}
        self.newest = "a"
        self.runs: list[dict[str, Any]] = []
        self.open: dict[int, None] = {}
        self.heard = asyncio.Event()

    def hear(self, message: dict[str, Any]) -> None:
        """Take note of one message of the gate."""
        if message.get("method") == "run_tool":
            self.runs.append(message)
            self.open[message["id"]] = None
            self.newest = message["params"]["uid"]
        elif "method" in message:
            assert message["method"] in ("ready", "event", "log", "cancel_tool")
            assert "internal error" not in str(message["params"])
        else:
            assert message.get("error", {}).get("code") != -32603, message
            result = message.get("result")
            if isinstance(result, dict) and isinstance(result.get("uid"), str):
                self.newest = result["uid"]
            self.answers[message["id"]] += 1
            self.results[message["id"]] = result
        self.heard.set()

    def bytes_of(self, step: Step) -> bytes:
        """Return what a step sends, with the names that are only known now."""
        if step.run is None:
            return step.send.replace(NEWEST.encode(), self.newest.encode())
        id = self.runs[step.run % len(self.runs)]["id"] if self.runs else step.run
        if isinstance(step.answer.get("result"), dict) or "error" in step.answer:
            self.open.pop(id, None)
        return line({"id": id, **step.answer})

    def check(self, expected: Expected) -> None:
        """See that every request has been answered once, and that all else answers bad lines."""
        missing, more = expected.answers - self.answers, self.answers - expected.answers
        assert not missing
        assert more.total() <= expected.unreadable, more


GOOD = [
    line({"id": LAST, "method": "register_tool", "params": {"name": "typed"}}),
    line({"id": LAST + 1, "method": "govern", "params": {"tool": "typed", "args": {}}}),
]


class Conversation:
    """A gate in this process, and what is said to it and by it."""

    def __init__(self, folder: Path) -> None:
        self.config = parse_config(config(limits=LIMITS), folder)
        self.listener = Listener()
        self.expected = Expected()
        self._connect(folder)
        self._listening = asyncio.ensure_future(self._listen())

    def _connect(self, folder: Path) -> None:
        self.transport = MemoryTransport()
        self.gate = Gate(self.config, self.transport)
        self.transport.connect(self.gate.peer)
        self.serving: asyncio.Future[Any] = asyncio.ensure_future(self.gate.serve())

    async def _listen(self) -> None:
        while True:
            self.listener.hear(await self.transport.sent.get())

    def feed(self, data: bytes) -> None:
        self.expected.sent(data)
        self.transport.feed(data + b"\n")

    async def say(self, steps: list[Step], turns: list[int]) -> None:
        for number, step in enumerate(steps):
            if self.serving.done():
                return
            self.feed(self.listener.bytes_of(step))
            for _ in range(turns[number % len(turns)]):
                await asyncio.sleep(0)

    async def begin(self) -> None:
        """Register tools, so that most calls are of known ones."""
        for number, name in enumerate(["search", "pay", "slow", "vault"]):
            params = {"name": name}
            self.feed(line({"id": LAST - number - 1, "method": "register_tool", "params": params}))
        await self.settle()

    async def settle(self, *, impatient: bool = False) -> None:
        """Answer what the gate asks until all is answered; ``impatient`` cancels what may wait."""
        while self.expected.answers - self.listener.answers:
            if self._listening.done():
                self._listening.result()
            self.listener.heard.clear()
            for run in list(self.listener.open):
                self.feed(line({"id": run, "result": {"output": 1}}))
                self.listener.open.pop(run, None)
            if impatient:
                for id in self.expected.answers:
                    self.feed(line({"method": "cancel", "params": {"id": id}}))
            try:
                await asyncio.wait_for(self.listener.heard.wait(), 0.5)
            except TimeoutError:
                continue

    async def serve_a_good_call(self) -> None:
        for good in GOOD:
            self.feed(good)
            await self.settle()
        assert self.listener.results[LAST + 1]["status"] == "succeeded"

    async def end(self, how: bytes | None) -> None:
        if how is None:
            self.transport.end()
        else:
            self.feed(how)
        await self.serving
        self._listening.cancel()
        await asyncio.wait((self._listening,))
        assert self._listening.cancelled(), self._listening.exception()
        while not self.transport.sent.empty():
            self.listener.hear(self.transport.sent.get_nowait())

    def verify(self) -> None:
        journal = inspect_journal(self.config)
        try:
            assert verify(journal.store, journal.key, lambda seen: None).problem is None
        finally:
            journal.store.close()


@pytest.fixture(autouse=True)
def nobody_waits_long_for_late_bodies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gates, "_LAST_WORDS", 0.2)


SHUTDOWN = line({"id": LAST + 2, "method": "shutdown", "params": {}})
turns = st.lists(st.sampled_from([0, 0, 1, TURNS]), min_size=1, max_size=5)


def in_a_folder(base: Path, run: Any) -> None:
    """Run a coroutine function in a folder of its own, within the bound."""
    folder = base / "example"
    folder.mkdir()
    try:
        asyncio.run(asyncio.wait_for(run(folder), BOUND))
    finally:
        shutil.rmtree(folder)


@settings(_FEW, max_examples=50)
@given(sequences, turns)
def test_every_request_is_answered_once_and_a_good_call_is_served_after_it(
    tmp_path: Path, sent: list[Step], turns: list[int]
) -> None:
    async def converse(folder: Path) -> None:
        talk = Conversation(folder)
        await talk.begin()
        await talk.say(sent, turns)
        await talk.settle(impatient=True)
        await talk.serve_a_good_call()
        await talk.end(SHUTDOWN)
        talk.listener.check(talk.expected)
        talk.verify()

    in_a_folder(tmp_path, converse)


@settings(_FEW, max_examples=40)
@given(sequences, turns, st.sampled_from([SHUTDOWN, line({"method": "shutdown"}), None]))
def test_an_end_in_the_middle_of_it_answers_what_was_asked_and_closes_the_journal_well(
    tmp_path: Path, sent: list[Step], turns: list[int], how: bytes | None
) -> None:
    async def converse(folder: Path) -> None:
        talk = Conversation(folder)
        await talk.begin()
        await talk.say(sent, turns)
        if how is not None:
            # What comes while the gate shuts down is answered, too.
            talk.feed(how)
            await talk.say(sent[:5], turns)
        await talk.end(how if how is None else b"")
        if how is not None:
            talk.listener.check(talk.expected)
        talk.verify()

    in_a_folder(tmp_path, converse)


@settings(_FEW, max_examples=40)
@given(st.lists(st.binary(max_size=6000) | mutated(), max_size=10), st.integers(1, 100))
def test_bytes_are_survived_however_they_are_cut(
    tmp_path: Path, sent: list[bytes], size: int
) -> None:
    async def babble(folder: Path) -> None:
        talk = Conversation(folder)
        data = b"".join(sent)
        talk.expected.unreadable = data.count(b"\n") + 1
        for start in range(0, len(data), size):
            talk.transport.feed(data[start : start + size])
        talk.transport.feed(b"\n")
        await talk.serve_a_good_call()
        await talk.end(SHUTDOWN)
        talk.verify()

    in_a_folder(tmp_path, babble)


class PipedConversation(Conversation):
    """A gate in a process of its own."""

    def _connect(self, folder: Path) -> None:
        path = folder / "gate.yaml"
        path.write_text(yaml.safe_dump(config(limits=LIMITS)))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "toolgate", "serve", "--config", str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self.serving = asyncio.ensure_future(asyncio.to_thread(self.process.wait))

    async def _listen(self) -> None:
        assert self.process.stdout is not None
        while data := await asyncio.to_thread(self.process.stdout.readline):
            self.listener.hear(json.loads(data))

    def feed(self, data: bytes) -> None:
        """Say something; what fits into no pipe is not said here."""
        assert self.process.stdin is not None
        self.expected.sent(data)
        self.process.stdin.write(data + b"\n")
        self.process.stdin.flush()

    async def end(self, how: bytes | None) -> None:
        """Shut the gate down, and hear everything that it says."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.feed(how or b"")
        assert await self.serving == 0
        await self._listening
        self.process.stdin.close()
        self.process.stdout.close()


@settings(_FEW, max_examples=5)
@given(sequences, turns)
def test_a_process_answers_the_same_over_its_pipes(
    tmp_path: Path, sent: list[Step], turns: list[int]
) -> None:
    async def converse(folder: Path) -> None:
        talk = PipedConversation(folder)
        try:
            await talk.begin()
            await talk.say(sent, turns)
            await talk.settle(impatient=True)
            await talk.serve_a_good_call()
            await talk.end(SHUTDOWN)
        finally:
            talk.process.kill()
        talk.listener.check(talk.expected)
        talk.verify()

    in_a_folder(tmp_path, converse)


FLOOD = {
    "lines without end": b"x" * (1 << 20),
    "lines that are too long": line({"id": 1, "method": "ping", "params": {"x": "x" * (5 << 20)}}),
    "lines that are not JSON": b'\n{"id": NaN}' * 2000,
    "malformed requests": (b"\n" + line({"id": 1, "method": "govern"})) * 2000,
    "cancels of nothing": (b"\n" + line({"method": "cancel", "params": {"id": 7}})) * 2000,
    "cancels without an id": (b"\n" + line({"method": "cancel"})) * 2000,
    "notifications that are not known": (b"\n" + line({"method": "x" * 50})) * 2000,
    "replies to nothing": (b"\n" + line({"id": 7, "result": {"output": 1}})) * 2000,
    "subscriptions from nowhere": (
        b"\n" + line({"id": 1, "method": "subscribe", "params": {"after": 10**9}})
    )
    * 2000,
    "ids of all sorts": b"".join(
        b"\n" + line({"id": f"{n}" * 50, "method": "nothing like it"}) for n in range(2000)
    ),
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the size of a process from /proc")
async def test_a_flood_of_bad_input_does_not_make_the_gate_grow(tmp_path: Path) -> None:
    path = tmp_path / "gate.yaml"
    path.write_text(yaml.safe_dump(config()))
    with (tmp_path / "err").open("wb") as err:
        gate = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "toolgate", "serve", "--config", str(path)),
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
            assert "error" in message or message["method"] == "ready", message

    async def flood(times: int, id: int) -> int:
        assert gate.stdin is not None
        hearing = asyncio.ensure_future(answered(id))
        for _ in range(times):
            for piece in FLOOD.values():
                gate.stdin.write(piece)
                await gate.stdin.drain()
        gate.stdin.write(b"\n" + line({"id": id, "method": "ping"}) + b"\n")
        await hearing
        return largest(gate.pid)

    try:
        before = await flood(2, LAST)
        after = await flood(8, LAST + 1)
        gate.stdin.write(SHUTDOWN + b"\n")
        assert await gate.wait() == 0
    finally:
        if gate.returncode is None:
            gate.kill()
            await gate.wait()
    assert after - before < 16 * 1024, "KiB more after four times as much"
    assert len((tmp_path / "err").read_bytes()) < 100_000
