"""Calls of tasks through a real gate in a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.loops import LOOPS, run
from support.people import ALICE, config
from toolgate.approvals.statement import Answer
from toolgate.config import load_config
from toolgate.desk import Desk
from toolgate_client import ActionHeld, GateClient, GateClosed, ToolSuspended

PATIENCE = 20.0


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the config file of a deployment in a folder of its own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "gate.yaml"
    path.write_text(yaml.safe_dump(config()))
    return path


@pytest.fixture
def gate(deployment: Path) -> Iterator[GateClient]:
    with GateClient(deployment) as gate:
        yield gate


class Approver:
    """Alice at her desk: she answers from outside the agent's process's client and gate."""

    def __init__(self, path: Path) -> None:
        self._desk = Desk(load_config(path))
        self._key = ALICE.key_file(path.parent)

    def __call__(self, uid: str, answer: Answer = "approve") -> None:
        self._desk.answer(uid, answer, "alice", self._key)

    def close(self) -> None:
        self._desk.close()


@pytest.fixture
def alice(deployment: Path, gate: GateClient) -> Iterator[Approver]:
    approver = Approver(deployment)
    yield approver
    approver.close()


def events(path: Path, kind: str) -> list[dict[str, Any]]:
    """The events of a kind that the journal has, which must verify."""
    shown = []
    for command in (["verify"], ["show", "--json", "--limit", "10000"]):
        done = subprocess.run(
            [sys.executable, "-m", "toolgate", "journal", *command, "--config", str(path)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        shown = done.stdout.splitlines()
    found: list[dict[str, Any]] = [json.loads(line) for line in shown]
    return [event for event in found if event["kind"] == kind]


async def pay(args: dict[str, Any]) -> Any:
    await asyncio.sleep(0)
    return args["n"], asyncio.current_task()


@pytest.mark.parametrize("kind", LOOPS)
def test_calls_are_governed_on_every_sort_of_loop(deployment: Path, kind: str) -> None:
    async def main() -> None:
        async with GateClient(deployment) as gate:
            await gate.aregister_tool("search", lambda args: args["q"])

            async def shell(args: dict[str, Any]) -> str:
                return str(await gate.acall("search", {"q": args["command"]}))

            await gate.aregister_tool("shell", shell)
            calls = [gate.acall("shell", {"command": f"ls {n}"}) for n in range(100)]
            assert await asyncio.gather(*calls) == [f"ls {n}" for n in range(100)]
            denied = await gate.agovern("shell", {"command": "rm -r /"})
            assert denied.status == "rejected"

    run(main(), LOOPS[kind])
    assert len(events(deployment, "action.succeeded")) == 200


async def test_a_held_call_is_approved_elsewhere_and_runs_in_the_task_that_waits(
    gate: GateClient, alice: Approver, deployment: Path
) -> None:
    await gate.aregister_tool("pay", pay)
    outcome = await gate.agovern("pay", {"n": 1})
    assert outcome.held
    waiting = asyncio.create_task(gate.aresume(outcome.uid, wait=None))
    await gate.aping()
    await asyncio.to_thread(alice, outcome.uid)
    result = await waiting
    assert result.output == (1, waiting)
    assert len(events(deployment, "action.succeeded")) == 1


async def test_a_task_that_is_cancelled_while_its_call_is_held_withdraws_it(
    gate: GateClient, alice: Approver, deployment: Path
) -> None:
    ran: list[int] = []
    await gate.aregister_tool("pay", lambda args: ran.append(1))
    outcome = await gate.agovern("pay", {"n": 1})
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await gate.aresume(outcome.uid, wait=None)
    while (later := await gate.aresume(outcome.uid)).held:
        pass
    assert later.status == "skipped"
    assert later.error is not None
    assert later.error.kind == "cancelled"
    with pytest.raises(Exception, match="withdrawn"):
        alice(outcome.uid)
    assert ran == []
    assert [hold.status for hold in await gate.aholds()] == ["withdrawn"]


async def test_the_timeout_of_a_tool_reaches_its_asynchronous_body(
    gate: GateClient, deployment: Path
) -> None:
    ended: list[str] = []

    async def slow(args: dict[str, Any]) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    await gate.aregister_tool("slow", slow)
    outcome = await gate.agovern("slow", {})
    assert outcome.error is not None
    assert outcome.error.kind == "execution_timeout"
    assert ended == ["cancelled"]
    task = asyncio.current_task()
    assert task is not None
    assert not task.cancelling()
    await gate.aping()
    assert len(events(deployment, "action.in_doubt")) == 1
    (settled,) = events(deployment, "action.settled")  # because its end was reported
    assert "was cancelled, as the gate asked" in json.dumps(settled)


async def test_a_task_that_is_cancelled_in_its_body_fails_the_action(
    gate: GateClient, deployment: Path
) -> None:
    begun = asyncio.Event()

    async def body(args: dict[str, Any]) -> None:
        begun.set()
        await asyncio.Event().wait()

    await gate.aregister_tool("search", body)
    call = asyncio.create_task(gate.agovern("search", {}))
    await begun.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    (failed,) = events(deployment, "action.failed")
    assert "CancelledError" in json.dumps(failed)


async def test_the_bodies_of_a_proposal_run_at_once_and_call_tools(
    gate: GateClient, deployment: Path
) -> None:
    together = asyncio.Barrier(16)

    async def body(args: dict[str, Any]) -> Any:
        if "leaf" in args:
            return args["leaf"]
        await together.wait()
        leaf = {"leaf": args["q"]}
        plan = {"actions": [{"id": "l", "type": "tool_call", "tool": "search", "parameters": leaf}]}
        inner = await gate.apropose(plan)
        return [await gate.acall("search", leaf), inner.result("l").output]

    await gate.aregister_tool("search", body)
    actions = [
        {
            "id": f"a{n}",
            "type": "tool_call",
            "tool": "search",
            "parameters": {"q": n},
            "failure_behavior": "skip",
            "max_retries": 0,
        }
        for n in range(16)
    ]
    result = await gate.apropose({"actions": actions})
    assert [each.output for each in result.results] == [[n, n] for n in range(16)]
    assert len(events(deployment, "action.succeeded")) == 48


async def test_a_cancelled_proposal_is_cancelled_at_the_gate(
    gate: GateClient, deployment: Path
) -> None:
    begun, ended = asyncio.Semaphore(0), []

    async def body(args: dict[str, Any]) -> None:
        begun.release()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(args["q"])

    await gate.aregister_tool("search", body)
    actions = [
        {"id": f"a{n}", "type": "tool_call", "tool": "search", "parameters": {"q": n},
         "failure_behavior": "skip", "max_retries": 0}
        for n in range(3)
    ]  # fmt: skip
    last = {"id": "z", "type": "tool_call", "tool": "search", "dependencies": ["a0"]}
    call = asyncio.create_task(gate.apropose({"actions": [*actions, last]}, idempotency_key="k"))
    for _ in actions:
        await begun.acquire()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert sorted(ended) == [0, 1, 2]
    await gate.aping()
    assert len(events(deployment, "action.executing")) == 3
    with pytest.raises(asyncio.TimeoutError):
        async with asyncio.timeout(0.05):
            await begun.acquire()


@pytest.mark.slow
async def test_a_thousand_held_calls_wait_without_threads_and_each_is_released(
    gate: GateClient, alice: Approver
) -> None:
    await gate.aregister_tool("pay", pay)
    await gate.aregister_tool("search", lambda args: "served")
    before = threading.active_count()
    held = await asyncio.gather(*(gate.agovern("pay", {"n": n}) for n in range(1000)))
    assert all(each.held for each in held)
    released: dict[str, float] = {}

    async def wait(uid: str) -> Any:
        outcome = await gate.aresume(uid, wait=None)
        released[uid] = time.perf_counter()
        return outcome.output

    tasks = [asyncio.create_task(wait(each.uid)) for each in held]
    await gate.aping()
    assert threading.active_count() <= before
    # More calls are waiting than the gate takes at once, and others are served all the same.
    assert await gate.acall("search", {}) == "served"
    approved: dict[str, float] = {}
    for each in held:
        await asyncio.to_thread(alice, each.uid)
        approved[each.uid] = time.perf_counter()
    outputs = await asyncio.wait_for(asyncio.gather(*tasks), PATIENCE)
    assert outputs == [(n, task) for n, task in enumerate(tasks)]
    took = statistics.median(released[uid] - approved[uid] for uid in approved)
    print(f"released after {took * 1e3:.1f} ms")
    assert took < 2.0


async def test_a_gate_that_is_killed_leaves_what_ran_in_doubt(deployment: Path) -> None:
    launcher = ["sh", "-c", f'echo $$ > gate.pid; exec {sys.executable} -m toolgate "$@"', "gate"]

    def process() -> int:
        return int(Path("gate.pid").read_text())

    async with GateClient(deployment, launcher=launcher) as gate:

        async def body(args: dict[str, Any]) -> None:
            os.kill(process(), signal.SIGKILL)

        await gate.aregister_tool("search", body)
        with pytest.raises(GateClosed, match="SIGKILL"):
            await gate.agovern("search", {}, idempotency_key="once")
    async with GateClient(deployment) as later:
        await later.aregister_tool("search", body)
        outcome = await later.agovern("search", {}, idempotency_key="once")
        assert outcome.error is not None
        assert outcome.error.kind == "in_doubt"


async def test_a_body_that_stops_itself_is_entered_again(gate: GateClient) -> None:
    entered: list[int] = []

    async def body(args: dict[str, Any]) -> str:
        entered.append(1)
        await asyncio.sleep(0)
        if len(entered) == 1:
            raise ToolSuspended("later")
        return "done"

    await gate.aregister_tool("search", body)
    with pytest.raises(ActionHeld) as caught:
        await gate.acall("search", {})
    assert isinstance(caught.value.__cause__, ToolSuspended)
    assert (await gate.aresume(caught.value.uid)).output == "done"
    assert len(entered) == 2
