"""Attempts: how often a body is tried, when it may not be, and what a timeout leaves open."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.people import ALICE
from support.plans import World, call, events, kinds, of, plan_config, propose, sent, statuses
from toolgate import jsonvalue
from toolgate.wire import messages
from toolgate.wire.messages import RPCError

RETRY: dict[str, Any] = {"failure_behavior": "retry"}


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have further attempts start at once."""
    monkeypatch.setattr("toolgate.kernel.attempts.FIRST_WAIT", 0.0)


def kinds_of(gate: Driver, uid: str) -> list[str]:
    """Return what the log tells of an action from its first attempt on."""
    told = [str(event.kind) for event in events(gate) if event.action == uid]
    return told[told.index("action.executing") :]


async def failing(gate: Driver, times: int, proposed: Any) -> Any:
    """Fail so many runs, let the next succeed, and return the result."""
    for _ in range(times):
        gate.fail(await gate.runs.get(), "not yet")
    gate.answer(await gate.runs.get(), "now")
    return await proposed


async def test_retry_makes_as_many_attempts_as_it_takes_up_to_its_retries(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        result = await failing(gate, 3, sent(gate, call("a", **RETRY)))
        log = kinds_of(gate, of(result, "a")["uid"])
    assert of(result, "a")["output"] == "now"
    assert of(result, "a")["attempts"] == 4
    assert result["cost"]["retries"] == 3
    assert log == ["action.executing", "action.retrying"] * 3 + [
        "action.executing",
        "action.succeeded",
    ]


@pytest.mark.parametrize(
    ("action", "entry", "attempts"),
    [
        ({"failure_behavior": "retry"}, {}, 4),
        ({"failure_behavior": "retry", "max_retries": 0}, {}, 1),
        ({"failure_behavior": "retry", "max_retries": 2}, {"retries": 1}, 2),
        ({"failure_behavior": "retry", "max_retries": 1}, {"retries": 5}, 2),
        ({"failure_behavior": "abort", "max_retries": 5}, {}, 1),
        ({"failure_behavior": "abort", "max_retries": 5}, {"retries": 2}, 3),
        ({"failure_behavior": "skip"}, {"retries": 1}, 2),
    ],
)
async def test_number_of_attempts_is_what_plan_and_operator_allow(
    tmp_path: Path, action: dict[str, Any], entry: dict[str, Any], attempts: int
) -> None:
    async with Driver(tmp_path, plan_config(tools={"step": entry})) as gate:
        await gate.tool("step")
        proposed = sent(gate, call("a", **action), call("b", "step-other"))
        for _ in range(attempts):
            gate.fail(await gate.runs.get(), "no")
        result = await proposed
    assert of(result, "a")["attempts"] == attempts == len(gate.ran)
    expected = {"retry": "failed", "abort": "failed", "skip": "skipped"}
    assert of(result, "a")["status"] == expected[action["failure_behavior"]]


async def test_backoff_doubles_up_to_its_longest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolgate.kernel.attempts.FIRST_WAIT", 0.002)
    monkeypatch.setattr("toolgate.kernel.attempts.LONGEST_WAIT", 0.006)
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        proposed = sent(gate, call("a", failure_behavior="retry", max_retries=5))
        await failing(gate, 5, proposed)
        waits = [
            jsonvalue.parse(event.data) for event in events(gate) if event.kind == "action.retrying"
        ]
    found = [wait["wait_ms"] for wait in waits]
    assert found[0] == 2
    assert found[1] in (3, 4, 5)
    assert found[2:] == [6, 6, 6]


async def test_failure_the_client_calls_final_is_not_tried_again(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        proposed = sent(gate, call("a", **RETRY))
        run = await gate.runs.get()
        data = {"type": "ValueError", "message": "no", "retryable": False}
        gate.transport.feed(messages.error(run["id"], RPCError(-32000, "no", data)))
        result = await proposed
    assert (of(result, "a")["status"], of(result, "a")["attempts"]) == ("failed", 1)


async def test_what_was_rejected_is_never_tried_again(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step")
        result = await propose(gate, call("a", expected_effects={"locked": 1}, **RETRY))
    assert (of(result, "a")["status"], of(result, "a")["attempts"]) == ("rejected", 0)


@pytest.mark.parametrize("idempotent", [True, False])
async def test_invalid_result_is_tried_again_only_on_the_operators_word(
    tmp_path: Path, idempotent: bool
) -> None:
    tools = {"step": {"idempotent": idempotent}}
    async with Driver(tmp_path, plan_config(tools=tools)) as gate:
        await gate.tool("step", lambda args: 1, returns={"type": "string"}, idempotent=True)
        action = call("a", failure_behavior="retry", max_retries=2, idempotent=True)
        result = await propose(gate, action)
    assert kinds(result) == ["invalid_result"]
    assert of(result, "a")["attempts"] == (3 if idempotent else 1)


async def test_timeout_of_what_is_not_idempotent_is_in_doubt_and_settled_late(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("step")
        await World().equip(gate, "step-after")
        action = call("a", timeout_ms=5, idempotent=True, expected_effects={"k": 1}, **RETRY)
        result = await propose(gate, action, call("b", "step-after", dependencies=["a"]))
        note = await gate.notes.get()
        gate.answer(await gate.runs.get(), "late")
        await gate.request("ping")
        await gate.request("ping")
        late = await gate.request("resume", uid=of(result, "a")["uid"])
        state = await gate.request("state")
    assert (note["method"], note["params"]["reason"]) == ("cancel_tool", "timeout")
    assert kinds(result) == ["execution_timeout", "dependency_failed"]
    assert of(result, "a")["attempts"] == 1
    assert (late["status"], late["output"]) == ("succeeded", "late")
    assert state == {}


async def test_idempotent_body_that_ended_when_told_to_is_tried_again(tmp_path: Path) -> None:
    tools = {"step": {"idempotent": True}}
    async with Driver(tmp_path, plan_config(tools=tools)) as gate:
        await gate.tool("step")
        proposed = sent(gate, call("a", timeout_ms=5, **RETRY))
        first = await gate.runs.get()
        note = await gate.notes.get()
        gate.fail(first, "cancelled", "CancelledError")
        second = await gate.runs.get()
        gate.answer(second, "in time")
        result = await proposed
    assert note["params"]["uid"] == of(result, "a")["uid"]
    assert [run["params"]["attempt"] for run in (first, second)] == [1, 2]
    assert of(result, "a")["output"] == "in time"


async def test_idempotent_body_that_ends_by_itself_in_its_grace_has_succeeded(
    tmp_path: Path,
) -> None:
    tools = {"step": {"idempotent": True}}
    async with Driver(tmp_path, plan_config(tools=tools)) as gate:
        await gate.tool("step")
        proposed = sent(gate, call("a", timeout_ms=5, **RETRY))
        run = await gate.runs.get()
        await gate.notes.get()
        gate.answer(run, "just about")
        result = await proposed
    assert of(result, "a")["output"] == "just about"
    assert of(result, "a")["attempts"] == 1


async def test_idempotent_body_that_does_not_end_is_in_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolgate.kernel.engine.CANCEL_GRACE", 0.005)
    tools = {"step": {"idempotent": True}}
    async with Driver(tmp_path, plan_config(tools=tools)) as gate:
        await gate.tool("step")
        result = await propose(gate, call("a", timeout_ms=5, **RETRY))
    assert kinds(result) == ["execution_timeout"]
    assert of(result, "a")["attempts"] == 1


async def test_timeouts_that_ended_use_up_the_attempts(tmp_path: Path) -> None:
    tools = {"step": {"idempotent": True}}
    async with Driver(tmp_path, plan_config(tools=tools)) as gate:
        await gate.tool("step")
        proposed = sent(gate, call("a", timeout_ms=5, failure_behavior="retry", max_retries=1))
        for _ in range(2):
            await gate.notes.get()
            gate.fail(await gate.runs.get(), "cancelled")
        result = await proposed
    assert kinds(result) == ["execution_timeout"]
    assert (of(result, "a")["status"], of(result, "a")["attempts"]) == ("failed", 2)


async def test_plan_may_only_shorten_the_operators_timeout(tmp_path: Path) -> None:
    tools = {"step": {"timeout": "2s"}}
    async with Driver(tmp_path, plan_config(tools=tools)) as gate:
        await gate.tool("step")
        proposed = sent(gate, call("a", timeout_ms=100_000), call("b", timeout_ms=500))
        timeouts = []
        for _ in range(2):
            run = await gate.runs.get()
            timeouts.append(run["params"]["timeout_ms"])
            gate.answer(run, None)
        await proposed
    assert timeouts == [2000, 500]


async def test_retries_wait_for_their_tokens(tmp_path: Path) -> None:
    tools = {"step": {"rate_limit": {"max_calls": 1, "interval_secs": 0.02}}}
    async with Driver(tmp_path, plan_config(tools=tools)) as gate:
        await gate.tool("step")
        result = await failing(gate, 2, sent(gate, call("a", **RETRY)))
    assert of(result, "a")["attempts"] == 3


async def test_held_action_retries_as_any_other(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await gate.tool("pay")
        held = await propose(gate, call("a", "pay", **RETRY))
        gate.approve(of(held, "a")["uid"], ALICE, tmp_path)
        resumed = await failing(gate, 2, gate.send("resume", uid=held["uid"]))
    assert statuses(resumed["proposal"]) == ["succeeded"]
    assert of(resumed["proposal"], "a")["attempts"] == 3
