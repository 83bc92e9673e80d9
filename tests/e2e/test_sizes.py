"""What is larger than a message to the gate may be (``limits.max_message_bytes``)."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.people import config
from toolgate_client import Document, GateClient, Outcome, ProtocolError, Result

LIMIT = 4096
LARGE = "x" * 2 * LIMIT
STAND_IN = {
    "omitted": "the result is too large to be recorded",
    "digest": "sha256:" + hashlib.sha256(f'"{LARGE}"'.encode()).hexdigest(),
    "length": len(LARGE) + 2,
}


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return the config of a deployment in a folder of its own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return config(limits={"max_message_bytes": LIMIT})


@pytest.fixture
def gate(deployment: dict[str, Any]) -> Iterator[GateClient]:
    with GateClient(deployment) as gate:
        gate.register_tool("search", lambda args: LARGE)
        yield gate


def govern(gate: GateClient, is_async: bool, args: dict[str, Any], body: Any = None) -> Outcome:
    """Make a call, from this thread or from a task."""
    if is_async:
        return asyncio.run(gate.agovern("search", args, body=body))
    return gate.govern("search", args, body=body)


WAYS = pytest.mark.parametrize("is_async", [False, True], ids=["thread", "task"])


@WAYS
def test_caller_has_a_result_that_the_record_has_only_the_digest_of(
    gate: GateClient, is_async: bool
) -> None:
    outcome = govern(gate, is_async, {})
    assert (outcome.status, outcome.live, outcome.omitted) == ("succeeded", True, True)
    assert outcome.output == LARGE
    again = gate.resume(outcome.uid)
    assert (again.replayed, again.omitted, again.output) == (True, True, STAND_IN)


def test_documents_that_are_too_large_label_the_session_all_the_same(gate: GateClient) -> None:
    page = Document(LARGE, source="https://evil.example")
    outcome = gate.govern("search", {}, body=lambda args: Result("short", [page]))
    assert (outcome.output, outcome.omitted) == ("short", False)
    assert gate.observe("", trust="trusted") == ["untrusted"]
    [observed] = [e.data for e in gate.events() if e.kind == "observation.recorded"][:1]
    digest = "sha256:" + hashlib.sha256(LARGE.encode()).hexdigest()
    assert observed == {
        "digest": digest,
        "length": len(LARGE),
        "source": "https://evil.example",
        "trust": "untrusted",
    }


def test_what_is_observed_may_be_too_large_to_be_sent(gate: GateClient) -> None:
    assert gate.observe(LARGE) == ["untrusted"]
    assert asyncio.run(gate.aobserve(LARGE, trust="trusted")) == ["untrusted"]


def test_answer_may_be_larger_than_any_message_to_the_gate(gate: GateClient) -> None:
    part = "y" * (LIMIT // 2)
    gate.register_tool("shell", lambda args: part)
    actions = [
        {"id": f"a{n}", "type": "tool_call", "tool": "shell", "parameters": {"command": "ls"}}
        for n in range(4)
    ]
    done = gate.propose({"actions": actions})
    assert done.succeeded
    again = gate.resume(done.uid)
    assert again.proposal is not None
    assert [each.output for each in again.proposal.results] == [part] * 4


@WAYS
def test_arguments_that_are_too_large_are_refused_and_nothing_is_proposed(
    gate: GateClient, is_async: bool
) -> None:
    ran: list[Any] = []
    with pytest.raises(ProtocolError, match=f"at most {LIMIT} .limits.max_message_bytes") as no:
        govern(gate, is_async, {"q": LARGE}, body=ran.append)
    assert no.value.code == -32001
    assert (ran, [e for e in gate.events() if e.kind == "action.proposed"]) == ([], [])
    assert gate.call("search", {}, body=lambda args: "the gate goes on") == "the gate goes on"
