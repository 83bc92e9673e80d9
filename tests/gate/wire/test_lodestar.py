"""The gate in the words of Lodestar's clients: what each message means, and what is malformed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from support.lodestar_driver import LodestarDriver, Message
from support.people import ALICE, config
from toolgate.ir import OutcomeKind
from toolgate.wire.framing import Oversized
from toolgate.wire.lodestar import FAILED, REJECTED, Lodestar
from toolgate.wire.messages import Dropped, Invalid, Reply, Request

LABELLED = [
    {"id": "reads", "tools": ["search"], "effect": "allow"},
    {
        "id": "quiet",
        "tools": ["send"],
        "when": '"untrusted" in session.labels',
        "effect": "deny",
        "reason": "it has read what strangers wrote",
    },
    {"id": "mail", "tools": ["send"], "effect": "allow"},
]


async def run(gate: LodestarDriver, tool: str, output: Any, **more: Any) -> Message:
    """Have a call of an allowed tool run, and return how it ended."""
    order = await gate.govern(tool)
    assert order["type"] == "run_tool"
    gate.answer(order, output, **more)
    return await gate.next()


# --- what is said and told


async def test_ready_names_the_session_the_project_and_where_the_log_is(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config(session="night")) as gate:
        assert gate.ready == {
            "type": "ready",
            "session_id": "night",
            "project_id": "acme",
            "log_root": "/logs",
        }


async def test_registered_tool_has_the_level_of_the_operators_contract(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config(tools={"vault": {"level": 4}})) as gate:
        vault = await gate.ask("register_tool", name="vault")
        again = await gate.ask("register_tool", name="vault")
        unspoken = await gate.ask("register_tool", name="unspoken of")
    assert vault == {"type": "registered", "id": 1, "name": "vault", "required_level": 4}
    assert again == vault | {"id": 2}
    assert unspoken["required_level"] == 3


async def test_allowed_call_runs_in_the_client_and_its_output_completes_it(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        await gate.ask("register_tool", name="search")
        order = await gate.govern("search", {"q": 1})
        gate.answer(order, {"hits": 3})
        done = await gate.next()
    uid = order["action_id"]
    assert order == {
        "type": "run_tool",
        "id": 1,
        "tool": "search",
        "args": {"q": 1},
        "action_id": uid,
    }
    assert done == {
        "type": "govern_result",
        "id": 2,
        "phase": "completed",
        "action_id": uid,
        "output": {"hits": 3},
    }


async def test_body_that_fails_fails_its_call_with_its_words(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        await gate.ask("register_tool", name="search")
        order = await gate.govern("search")
        failed = {"type": "tool_error", "id": order["id"], "message": "no such index"}
        gate.feed(json.dumps(failed).encode())
        result = await gate.next()
    assert (result["phase"], result["kind"]) == ("failed", "execution_failed")
    assert result["reason"] == "no such index"


@pytest.mark.parametrize(
    ("tool", "args", "kind"),
    [
        ("shell", {"command": "rm -r /"}, "policy_denied"),
        ("nuke", {}, "policy_denied"),
        ("never registered", {}, "unregistered_tool"),
        ("typed", {"n": "x"}, "precondition_failed"),
    ],
)
async def test_refused_call_is_rejected_with_a_kind_and_a_reason(
    tmp_path: Path, tool: str, args: Message, kind: str
) -> None:
    typed = {"typed": {"parameters": {"properties": {"n": {"type": "integer"}}}}}
    async with LodestarDriver(tmp_path, config(tools={"nuke": {"level": 5}, **typed})) as gate:
        for name in ("shell", "nuke", "typed"):
            await gate.ask("register_tool", name=name)
        result = await gate.govern(tool, args)
    assert (result["phase"], result["kind"]) == ("rejected", kind)
    assert result["reason"]
    assert result["action_id"]
    assert "request_id" not in result


async def test_held_call_names_its_hold_and_runs_once_when_it_is_approved(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        await gate.ask("register_tool", name="pay")
        held = await gate.govern("pay", {"amount": 7})
        looked = await gate.resume(held)
        gate.approve(held["request_id"], ALICE, tmp_path)
        order = await gate.resume(held)
        gate.answer(order, "paid")
        paid = await gate.next()
        again = await gate.resume(held)
    assert held["phase"] == "pending_approval"
    assert held["reason"] == "a person looks at payments"
    assert held["deadline"].endswith("Z")
    assert "kind" not in held
    assert looked == held | {"id": looked["id"]}
    assert (order["type"], order["args"]) == ("run_tool", {"amount": 7})
    assert (paid["phase"], paid["output"]) == ("completed", "paid")
    assert again == paid | {"id": again["id"]}


async def test_hold_that_never_expires_has_no_deadline(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        await gate.ask("register_tool", name="wire_money")
        held = await gate.govern("wire_money")
    assert held["request_id"]
    assert "deadline" not in held


async def test_denied_hold_is_rejected_as_such(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        await gate.ask("register_tool", name="pay")
        held = await gate.govern("pay")
        gate.approve(held["request_id"], ALICE, tmp_path, "deny")
        denied = await gate.resume(held)
    assert (denied["phase"], denied["kind"]) == ("rejected", "approval_denied")


async def test_hold_that_needs_somebody_nobody_has_named_is_rejected(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config(approvals={}, policy={})) as gate:
        await gate.ask("register_tool", name="vault")
        result = await gate.govern("vault")
    assert (result["phase"], result["kind"]) == ("rejected", "approval_required")


async def test_resume_waits_as_long_as_it_says_and_no_longer(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        await gate.ask("register_tool", name="pay")
        held = await gate.govern("pay")
        waited = await gate.resume(held, wait_ms=20.0)
        waiting = gate.send(
            "resume",
            action_id=held["action_id"],
            request_id=held["request_id"],
            wait_ms=20_000,
        )
        gate.approve(held["request_id"], ALICE, tmp_path)
        order = await gate.next()
        gate.answer(order, "paid")
        done = await gate.next()
    assert waited["phase"] == "pending_approval"
    assert (done["id"], done["phase"]) == (waiting, "completed")


async def test_hold_that_expires_while_somebody_waits_has_timed_out(tmp_path: Path) -> None:
    rule = {"id": "soon", "tools": ["pay"], "effect": "hold", "approval": {"expires": "50ms"}}
    async with LodestarDriver(tmp_path, config(policy={"rules": [rule]})) as gate:
        await gate.ask("register_tool", name="pay")
        held = await gate.govern("pay")
        result = await gate.resume(held, wait_ms=20_000)
    assert (result["phase"], result["kind"]) == ("rejected", "approval_timeout")


async def test_unknown_action_cannot_be_resumed(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        result = await gate.ask("resume", action_id="nobody's", request_id="h")
    assert (result["phase"], result["kind"]) == ("rejected", "unknown_action")
    assert result["action_id"] == "nobody's"


async def test_approved_call_waits_for_a_client_that_has_its_tool(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config()) as first:
        await first.ask("register_tool", name="pay")
        held = await first.govern("pay")
    async with LodestarDriver(tmp_path, config()) as second:
        second.approve(held["request_id"], ALICE, tmp_path)
        waits = await second.resume(held)
        await second.ask("register_tool", name="pay")
        order = await second.resume(held)
        second.answer(order, "paid")
        paid = await second.next()
    assert (waits["phase"], waits["kind"]) == ("pending_approval", "unregistered_tool")
    assert (paid["phase"], paid["output"]) == ("completed", "paid")


async def test_documents_of_a_result_make_the_session_untrusted(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config(policy={"rules": LABELLED})) as gate:
        for name in ("search", "send"):
            await gate.ask("register_tool", name=name)
        before = await run(gate, "send", "sent")
        await run(gate, "search", 1, documents=[{"text": "do as I say", "source": "mail"}])
        after = await gate.govern("send")
    assert before["phase"] == "completed"
    assert (after["phase"], after["kind"]) == ("rejected", "policy_denied")
    assert "strangers" in after["reason"]


async def test_answers_come_in_any_order_each_with_the_id_of_its_request(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        await gate.ask("register_tool", name="search")
        calls = {gate.send("govern", tool="search", args={"n": n}): n for n in range(8)}
        orders = [await gate.next() for _ in calls]
        for order in reversed(orders):
            gate.answer(order, order["args"]["n"])
        results = [await gate.next() for _ in calls]
    assert {result["id"]: result["output"] for result in results} == calls
    assert len({order["id"] for order in orders}) == len(calls)


async def test_call_that_another_gate_runs_at_this_moment_is_to_be_resumed_later(
    tmp_path: Path,
) -> None:
    async with (
        LodestarDriver(tmp_path, config()) as first,
        LodestarDriver(tmp_path, config()) as second,
    ):
        for gate in (first, second):
            await gate.ask("register_tool", name="pay")
        held = await first.govern("pay")
        first.approve(held["request_id"], ALICE, tmp_path)
        order = await first.resume(held)
        elsewhere = await second.resume(held)
        first.answer(order, "paid")
        await first.next()
        paid = await second.resume(held)
    assert (elsewhere["phase"], elsewhere["reason"]) == ("pending_approval", "it is executing")
    assert (paid["phase"], paid["output"]) == ("completed", "paid")


async def test_what_the_gate_writes_is_ascii_whatever_the_clients_locale(tmp_path: Path) -> None:
    codec = Lodestar("/protokolle/für")
    told = codec.notification("ready", {"session": "s", "project": "Zürich"})
    assert told.isascii()
    assert json.loads(told)["project_id"] == "Zürich"


def test_every_kind_of_outcome_has_a_phase_and_a_kind_there() -> None:
    assert {*REJECTED, *FAILED} == set(OutcomeKind)
    assert not REJECTED.keys() & FAILED.keys()
    assert {*REJECTED.values(), *FAILED.values()} == {
        "policy_denied",
        "approval_required",
        "approval_denied",
        "approval_timeout",
        "unregistered_tool",
        "precondition_failed",
        "execution_failed",
        "unknown_action",
        "internal_error",
    }


# --- shutting down


async def test_shutdown_ends_the_gate_without_an_answer(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        gate.feed(b'{"type": "shutdown"}')
        gate.feed(b'{"type": "shutdown"}')
        await gate.serving
    assert gate.transport.sent.empty()


async def test_shutdown_leaves_clients_that_kill_the_gate_the_time_to_see_it_end(
    tmp_path: Path,
) -> None:
    async with LodestarDriver(tmp_path, config(limits={"drain": "1h"})) as gate:
        await gate.ask("register_tool", name="search")
        order = await gate.govern("search")
        begun = asyncio.get_running_loop().time()
        gate.feed(b'{"type": "shutdown"}')
        result = await gate.next()
        await gate.serving
        took = asyncio.get_running_loop().time() - begun
    assert order["type"] == "run_tool"
    assert (result["phase"], result["kind"]) == ("failed", "execution_failed")
    assert took < 5


async def test_call_after_the_shutdown_is_refused(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        await gate.ask("register_tool", name="search")
        order = await gate.govern("search")
        gate.feed(b'{"type": "shutdown"}')
        late = await gate.govern("search")
        gate.answer(order, 1)
        done = await gate.next()
        await gate.serving
    assert late["type"] == "error"
    assert "shutting down" in late["message"]
    assert done["phase"] == "completed"


async def test_journal_that_fails_under_a_known_action_is_an_internal_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        await gate.ask("register_tool", name="pay")
        held = await gate.govern("pay")

        async def broken(*args: Any, **more: Any) -> Any:
            raise RuntimeError("a defect")

        monkeypatch.setattr(gate.gate.runtime, "resume", broken)
        monkeypatch.setattr(gate.gate.runtime, "govern", broken)
        resumed = await gate.resume(held)
        governed = await gate.govern("pay")
    assert (resumed["phase"], resumed["kind"]) == ("failed", "internal_error")
    assert resumed["action_id"] == held["action_id"]
    assert governed == {"type": "error", "id": 4, "message": "internal error of the gate"}


# --- malformed messages

REQUESTS = {
    "no tool": b'{"type":"govern","id":77,"args":{}}',
    "empty tool": b'{"type":"govern","id":77,"tool":"","args":{}}',
    "args are a list": b'{"type":"govern","id":77,"tool":"search","args":[]}',
    "unknown key": b'{"type":"govern","id":77,"tool":"search","args":{},"level":1}',
    "key of our own wire": b'{"type":"govern","id":77,"tool":"t","args":{},"idempotency_key":"k"}',
    "registration with a level": b'{"type":"register_tool","id":77,"name":"t","level":1}',
    "name is a number": b'{"type":"register_tool","id":77,"name":1}',
    "resume of nothing": b'{"type":"resume","id":77}',
    "resume without its hold": b'{"type":"resume","id":77,"action_id":"a"}',
    "empty hold": b'{"type":"resume","id":77,"action_id":"a","request_id":""}',
    "negative wait": b'{"type":"resume","id":77,"action_id":"a","request_id":"h","wait_ms":-1}',
    "half of one": b'{"type":"resume","id":77,"action_id":"a","request_id":"h","wait_ms":0.5}',
    "wait is a text": b'{"type":"resume","id":77,"action_id":"a","request_id":"h","wait_ms":"9"}',
    "endless wait": b'{"type":"resume","id":77,"action_id":"a","request_id":"h","wait_ms":null}',
    "shutdown with an id": b'{"type":"shutdown","id":77}',
    "unknown type": b'{"type":"propose","id":77,"proposal":{}}',
    "type is a list": b'{"type":[],"id":77}',
    "no type": b'{"id":77}',
    "JSON-RPC": b'{"jsonrpc":"2.0","id":77,"method":"ping"}',
    "key twice": b'{"type":"govern","tool":"search","args":{"a":1,"a":2},"id":77}',
    "lone surrogate": b'{"type":"govern","tool":"search","args":{"a":"\\ud800"},"id":77}',
    "digits without end": b'{"type":"govern","tool":"search","args":{"a":%s},"id":77}'
    % (b"9" * 9000),
    "number too large": b'{"type":"govern","tool":"search","args":{"a":1e999},"id":77}',
    "nested too deep": b'{"type":"govern","tool":"search","args":{"a":%s},"id":77}'
    % (b"[" * 300 + b"]" * 300),
    "nested much too deep": b'{"type": "govern", "tool": "search", "args": {"a": %s}, "id": 77}'
    % (b"[" * 50_000 + b"]" * 50_000),
}


@pytest.mark.parametrize("line", REQUESTS.values(), ids=REQUESTS)
async def test_malformed_request_is_answered_with_its_id_and_the_next_line_is_served(
    tmp_path: Path, line: bytes
) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        gate.feed(line)
        error = await gate.next()
        registered = await gate.ask("register_tool", name="search")
    assert error.keys() == {"type", "id", "message"}
    assert (error["type"], error["id"]) == ("error", 77)
    assert error["message"].startswith("malformed ")
    assert "Traceback" not in error["message"]
    assert registered["type"] == "registered"


@pytest.mark.parametrize(
    "line",
    [
        b"42",
        b"null",
        b'[{"type":"govern","id":77,"tool":"search"}]',
        b'{"type":"govern","tool":"search","args":{}}',
        b'{"type":"govern","id":"77","tool":"search","args":{}}',
        b'{"type":"govern","id":true,"tool":"search","args":{}}',
        b'{"type":"tool_result","output":1,"documents":[]}',
        b'{"type":"tool_error","id":null,"message":"m"}',
    ],
)
async def test_malformed_message_without_an_id_gets_an_error_without_one(
    tmp_path: Path, line: bytes
) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        gate.feed(line)
        error = await gate.next()
        assert (await gate.ask("register_tool", name="search"))["type"] == "registered"
    assert error.keys() == {"type", "message"}


NOT_JSON = {
    "text": b"hello",
    "torn": b'{"type":"govern","id":77,"tool":"search","ar',
    "not utf-8": b'{"type":"govern","id":77,"tool":"\xff","args":{}}',
    "nan": b'{"type":"govern","id":77,"tool":"search","args":{"a":NaN}}',
    "two on a line": b'{"type":"shutdown"}{"type":"shutdown"}',
}


@pytest.mark.parametrize("line", NOT_JSON.values(), ids=NOT_JSON)
async def test_line_that_is_not_json_is_dropped(
    tmp_path: Path, line: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        gate.feed(line)
        assert (await gate.ask("register_tool", name="search"))["type"] == "registered"
    assert "a line that is not JSON is dropped" in capsys.readouterr().err


ANSWERS = {
    "documents are no list": b'{"type":"tool_result","id":1,"output":1,"documents":"x"}',
    "document without text": b'{"type":"tool_result","id":1,"output":1,"documents":[{}]}',
    "document that trusts itself": (
        b'{"type":"tool_result","id":1,"output":1,"documents":[{"text":"t","trust":"trusted"}]}'
    ),
    "no output": b'{"type":"tool_result","id":1,"documents":[]}',
    "unknown key of a result": b'{"type":"tool_result","id":1,"output":1,"documents":[],"x":1}',
    "document with another key": (
        b'{"type":"tool_result","id":1,"output":1,"documents":[{"text":"t","page":1}]}'
    ),
    "no message": b'{"type":"tool_error","id":1}',
    "unknown key of an error": b'{"type":"tool_error","id":1,"message":"m","retryable":true}',
    "lone surrogate": b'{"type":"tool_result","id":1,"output":"\\udfff","documents":[]}',
}


@pytest.mark.parametrize("line", ANSWERS.values(), ids=ANSWERS)
async def test_malformed_answer_fails_its_run_and_its_error_has_no_id(
    tmp_path: Path, line: bytes
) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        # The id of a request that waits is the run's, too: the error must not be taken for its.
        waiting = gate.send("register_tool", name="search")
        assert (await gate.next())["id"] == waiting == 1
        order = await gate.govern("search")
        assert order["id"] == 1
        gate.feed(line)
        told = [await gate.next(), await gate.next()]
    [error] = [message for message in told if message["type"] == "error"]
    [result] = [message for message in told if message["type"] == "govern_result"]
    assert "id" not in error
    assert (result["id"], result["phase"], result["kind"]) == (2, "failed", "execution_failed")
    assert "malformed tool_" in result["reason"]


async def test_answer_that_nobody_waits_for_changes_nothing(tmp_path: Path) -> None:
    async with LodestarDriver(tmp_path, config()) as gate:
        await gate.ask("register_tool", name="search")
        order = await gate.govern("search")
        gate.answer({"id": 99}, "forged")
        gate.answer(order, "first")
        gate.answer(order, "second")
        result = await gate.next()
        assert (await gate.ask("register_tool", name="search"))["type"] == "registered"
    assert result["output"] == "first"


async def test_oversized_messages_are_answered_as_what_they_would_have_been(
    tmp_path: Path,
) -> None:
    async with LodestarDriver(tmp_path, config(limits={"max_message_bytes": 2000})) as gate:
        await gate.ask("register_tool", name="search")
        large = gate.send("govern", tool="search", args={"q": "x" * 5000})
        refused = await gate.next()
        order = await gate.govern("search")
        gate.answer(order, "x" * 5000)
        told = [await gate.next(), await gate.next()]
    assert (refused["type"], refused["id"]) == ("error", large)
    assert "limits.max_message_bytes" in refused["message"]
    [error] = [message for message in told if message["type"] == "error"]
    [result] = [message for message in told if message["type"] == "govern_result"]
    assert "id" not in error
    assert (result["phase"], result["kind"]) == ("failed", "execution_failed")


@pytest.mark.parametrize(
    ("head", "tail", "read"),
    [
        (b'{"type": "govern", "tool": "t", "args": {"a": "', b'xx"}, "id": 5}', Invalid),
        (b'{"type": "tool_error", "id": 5, "message": "', b'xxx"}', Reply),
        (b'{"id": 5, "type": "govern", "args": {"a": "', b'xx"}}', Invalid),
        (b"xxxxxxxx", b'xx, "id": 5}', Invalid),
    ],
)
def test_the_ends_of_an_oversized_line_tell_whom_to_answer(
    head: bytes, tail: bytes, read: type
) -> None:
    first, *rest = Lodestar("").oversized(Oversized(head, tail), "too large")
    assert isinstance(first, read)
    assert first.id == (5 if head.startswith(b'{"type"') else None)
    assert bool(rest) == (read is Reply)


def test_args_may_be_left_out_and_documents_too() -> None:
    codec = Lodestar("")
    assert codec.read(b'{"type":"govern","id":1,"tool":"t"}') == (
        Request(1, "govern", {"tool": "t", "args": {}}),
    )
    assert codec.read(b'{"type":"tool_result","id":1,"output":null}') == (
        Reply(1, {"output": None, "documents": []}, None),
    )
    assert isinstance(codec.read(b"x")[0], Dropped)
