"""Whatever a client sends, the gate answers it and serves the next line."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.driver import Driver
from support.people import config
from toolgate.wire import messages
from toolgate.wire.messages import RPCError

BAD = {
    "not json": (b"{nonsense", -32700),
    "not utf-8": (b'{"jsonrpc":"2.0","id":77,"method":"\xff"}', -32700),
    "duplicate key": (b'{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}', -32700),
    "nan": (b'{"jsonrpc":"2.0","id":77,"method":"ping","params":{"a":NaN}}', -32700),
    "infinite": (b'{"jsonrpc":"2.0","id":77,"method":"ping","params":{"a":1e999}}', -32700),
    "nested too deep": (b"[" * 10_000, -32700),
    "lone surrogate": (b'{"jsonrpc":"2.0","id":77,"method":"\\ud800"}', -32700),
    "batch": (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
    "not an object": (b"42", -32600),
    "no version": (b'{"id":"x","method":"ping"}', -32600),
    "id is null": (b'{"jsonrpc":"2.0","id":null,"method":"ping"}', -32600),
    "id is a fraction": (b'{"jsonrpc":"2.0","id":1.5,"method":"ping"}', -32600),
    "id is true": (b'{"jsonrpc":"2.0","id":true,"method":"ping"}', -32600),
    "method is a number": (b'{"jsonrpc":"2.0","id":"x","method":1}', -32600),
    "neither request nor reply": (b'{"jsonrpc":"2.0","id":"x"}', -32600),
    "params are a list": (b'{"jsonrpc":"2.0","id":"x","method":"ping","params":[]}', -32602),
    "unknown method": (b'{"jsonrpc":"2.0","id":"x","method":"run"}', -32601),
    "private method": (b'{"jsonrpc":"2.0","id":"x","method":"__init__"}', -32601),
    "wrong types": (
        b'{"jsonrpc":"2.0","id":"x","method":"govern","params":{"tool":1,"args":[]}}',
        -32602,
    ),
    "missing parameters": (b'{"jsonrpc":"2.0","id":"x","method":"resume"}', -32602),
}


@pytest.mark.parametrize(("line", "code"), BAD.values(), ids=BAD)
async def test_bad_line_gets_its_error_and_the_next_line_is_served(
    tmp_path: Path, line: bytes, code: int
) -> None:
    async with Driver(tmp_path, config()) as gate:
        gate.transport.feed(line + b"\n")
        answer = await gate.unmatched.get()
        assert await gate.request("ping") == {}
    assert answer["error"]["code"] == code
    assert answer["id"] in (None, "x", 77)
    assert "Traceback" not in answer["error"]["message"]


async def test_oversized_message_is_refused_whole(tmp_path: Path) -> None:
    async with Driver(tmp_path, config(limits={"max_message_bytes": 2000})) as gate:
        tail = messages.request(7, "ping", {})
        gate.transport.feed(b"x" * 5000 + tail)
        answer = await gate.unmatched.get()
        assert await gate.request("ping") == {}
    assert answer["error"]["code"] == -32001
    assert gate.unmatched.empty()


UNREADABLE = {
    "nan": b'{"jsonrpc":"2.0","id":%d,"result":{"output":NaN}}',
    "too large": b'{"jsonrpc":"2.0","id":%d,"result":{"output":"' + b"x" * 5000 + b'"}}',
    "too deep": b'{"jsonrpc": "2.0", "id": %d, "result":{"output":'
    + b"[" * 300
    + b"]" * 300
    + b"}}",
    "cut off": b'{"jsonrpc":"2.0","id":%d,"error":{',
}


@pytest.mark.parametrize("line", UNREADABLE.values(), ids=UNREADABLE)
async def test_reply_that_cannot_be_read_fails_its_run_at_once(tmp_path: Path, line: bytes) -> None:
    async with Driver(tmp_path, config(limits={"max_message_bytes": 4000})) as gate:
        await gate.tool("search")
        call = gate.send("govern", tool="search", args={})
        run = await gate.runs.get()
        gate.transport.feed(line % run["id"] + b"\n")
        outcome = await call
        assert await gate.request("ping") == {}
    assert outcome["status"] == "failed"
    assert outcome["error"]["details"] == {"type": "ProtocolError"}


async def test_request_that_is_too_large_is_answered_under_its_id(tmp_path: Path) -> None:
    async with Driver(tmp_path, config(limits={"max_message_bytes": 4000})) as gate:
        with pytest.raises(RPCError, match="max_message_bytes") as caught:
            await gate.govern("search", {"q": "x" * 5000})
    assert caught.value.code == -32001


async def test_reply_to_no_request_and_a_reply_sent_twice_are_ignored(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        call = gate.send("govern", tool="search", args={})
        run = await gate.runs.get()
        gate.transport.feed(messages.result(99, {"output": "forged"}))
        gate.answer(run, "first")
        gate.answer(run, "second")
        outcome = await call
        again = await gate.request("resume", uid=outcome["uid"])
    assert outcome["output"] == again["output"] == "first"


async def test_id_of_a_request_under_way_cannot_be_used_again(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        call = gate.send("govern", tool="search", args={})
        run = await gate.runs.get()
        identifier = call.identifier  # type: ignore[attr-defined]
        gate._waiting.pop(identifier)
        gate.transport.feed(messages.request(identifier, "ping", {}))
        answer = await gate.unmatched.get()
        gate.answer(run, 1)
        outcome = await gate.unmatched.get()
    assert answer["error"]["code"] == -32600
    assert outcome["result"]["output"] == 1


async def test_integers_keep_their_precision_from_client_to_body_and_back(tmp_path: Path) -> None:
    number = 2**80 + 1
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: args["n"])
        outcome = await gate.govern("search", {"n": number})
    assert outcome["output"] == number


async def test_cancel_of_nothing_or_without_an_id_is_ignored(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        gate.transport.feed(messages.notification("cancel", {"id": 12345}))
        gate.transport.feed(messages.notification("cancel", {}))
        gate.transport.feed(messages.notification("unheard_of", {}))
        assert await gate.request("ping") == {}


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=60), max_size=20))
def test_random_bytes_never_end_the_gate(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]
) -> None:
    import asyncio

    async def survive() -> None:
        folder = tmp_path_factory.mktemp("gate")
        async with Driver(folder, config(journal="memory:")) as gate:
            for piece in pieces:
                gate.transport.feed(piece)
            gate.transport.feed(b"\n")
            assert await gate.request("ping") == {}

    asyncio.run(asyncio.wait_for(survive(), 10))


async def test_shutdown_that_is_a_notification_ends_the_gate_without_an_answer(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        gate.transport.feed(messages.notification("shutdown", {}))
        await gate.serving
    assert gate.unmatched.empty()


@pytest.mark.parametrize("method", ["state", "holds", "events", "ping"])
async def test_what_comes_when_the_journal_is_closed_already_is_refused(
    tmp_path: Path, method: str
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.request("shutdown")
        with pytest.raises(RPCError, match="shut down") as caught:
            await gate.request(method)
    assert caught.value.code == -32002
