"""The wire between processes: clients that do not read, many threads, events as they come."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.client_gates import Background
from support.people import ALICE, config
from support.processes import PID_LAUNCHER, gate_pid, largest, verified
from toolgate.config import load_config
from toolgate.desk import Desk
from toolgate_client import GateClient, GateClosed

CALL = ["action.proposed", "action.decided", "action.executing", "action.succeeded"]
LARGE = "x" * 100_000


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the config file of a deployment in a folder of its own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "gate.yaml"
    path.write_text(yaml.safe_dump(config(session="s1", state={"large": LARGE})))
    return path


@pytest.fixture
def gate(deployment: Path) -> Iterator[GateClient]:
    with GateClient(deployment, launcher=PID_LAUNCHER) as gate:
        gate.register_tool("search", lambda args: args.get("n"))
        yield gate


def line(**message: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"


@contextmanager
def raw(deployment: Path) -> Iterator[tuple[int, Any, Any]]:
    """A gate's process, its input and its output, past ``ready``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "toolgate", "serve", "--config", str(deployment)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        assert json.loads(process.stdout.readline())["method"] == "ready"
        yield process.pid, process.stdin, process.stdout
        process.stdin.close()
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@pytest.mark.skipif(sys.platform != "linux", reason="reads the size of a process from /proc")
def test_client_that_asks_and_does_not_read_makes_nothing_grow_and_is_answered_later(
    deployment: Path,
) -> None:
    many = 300
    with raw(deployment) as (pid, stdin, stdout):
        before = largest(pid)
        # All of it is in the pipe before the first answer is read; together they are 30 MB.
        stdin.write(b"".join(line(id=n, method="state", params={}) for n in range(many)))
        stdin.flush()
        answers = [json.loads(stdout.readline()) for _ in range(many)]
        assert largest(pid) - before < 16 * 1024
    assert sorted(answer["id"] for answer in answers) == list(range(many))
    assert all(answer["result"] == {"large": LARGE} for answer in answers)


@pytest.mark.skipif(sys.platform != "linux", reason="reads the size of a process from /proc")
def test_lists_of_events_that_nobody_reads_are_made_one_at_a_time(
    deployment: Path, gate: GateClient
) -> None:
    for n in range(24):
        gate.call("search", {"n": n, "text": LARGE[:70_000]})
    many = 60
    with raw(deployment) as (pid, stdin, stdout):
        before = largest(pid)
        asked = {"after": 0, "limit": 1000}
        stdin.write(b"".join(line(id=n, method="events", params=asked) for n in range(many)))
        stdin.flush()
        answers = [json.loads(stdout.readline()) for _ in range(many)]
        assert largest(pid) - before < 30 * 1024, "of 80 MB"
    assert sorted(answer["id"] for answer in answers) == list(range(many))


@pytest.mark.skipif(sys.platform != "linux", reason="reads the size of a process from /proc")
def test_subscriber_that_does_not_read_makes_nothing_grow_and_misses_nothing(
    deployment: Path, gate: GateClient
) -> None:
    for n in range(200):
        gate.call("search", {"n": n, "text": LARGE})
    with raw(deployment) as (pid, stdin, stdout):
        before = largest(pid)
        stdin.write(line(id=1, method="subscribe", params={"after": 0}))
        stdin.write(line(id=2, method="ping"))
        stdin.flush()
        seen, messages = [], iter(stdout.readline, b"")
        while len(seen) < 200:
            message = json.loads(next(messages))
            if message.get("method") == "event":
                event = message["params"]["event"]
                if event["kind"] == "action.proposed":
                    seen.append(event["data"]["args"]["n"])
        assert largest(pid) - before < 12 * 1024, "of 20 MB"
    assert seen == list(range(200))


def test_64_threads_get_their_own_replies_while_a_subscriber_is_told_of_all(
    gate: GateClient, deployment: Path
) -> None:
    barrier = threading.Barrier(64)
    seen: list[Any] = []

    def call(index: int) -> list[Any]:
        barrier.wait(20)
        return [gate.call("search", {"n": [index, n]}) for n in range(5)]

    def follow() -> None:
        with gate.subscribe() as events:
            following.set()
            for event in events:
                if event.kind == "action.proposed":
                    seen.append(tuple(event.data["args"]["n"]))
                if len(seen) == 64 * 5:
                    return

    following = threading.Event()
    follower = Background(follow)
    assert following.wait(20)
    callers = [Background(lambda index=index: call(index)) for index in range(64)]
    for index, caller in enumerate(callers):
        assert caller.result() == [[index, n] for n in range(5)]
    follower.result()
    assert sorted(seen) == [(index, n) for index in range(64) for n in range(5)]
    gate.close()
    assert verified(deployment)


async def test_a_task_follows_a_hold_that_somebody_approves_elsewhere(deployment: Path) -> None:
    async with GateClient(deployment) as gate:
        await gate.aregister_tool("pay", lambda args: "paid")
        held = await gate.agovern("pay", {"amount": 1})
        kinds = []

        async def follow() -> None:
            async with gate.subscribe(after=0, uid=held.uid) as events:
                async for event in events:
                    kinds.append(event.kind)
                    if event.kind == "action.succeeded":
                        return

        following = asyncio.create_task(follow())
        waiting = asyncio.create_task(gate.aresume(held.uid, wait=20))
        desk = Desk(load_config(deployment))
        desk.answer(held.uid, "approve", "alice", ALICE.key_file(deployment.parent))
        desk.close()
        assert (await waiting).output == "paid"
        await following
        listed = await gate.aevents(uid=held.uid)
    assert kinds == [event.kind for event in listed]
    assert {"hold.opened", "approval.recorded", "hold.released"} < set(kinds)


def test_events_of_a_session_outlive_its_gate(deployment: Path, gate: GateClient) -> None:
    gate.call("search", {"n": 1})
    last = gate.events()[-1]
    gate.close()
    with GateClient(deployment) as again:
        again.register_tool("search", lambda args: 2)
        with again.subscribe(after=last.seq) as events:
            again.call("search", {"n": 2})
            told = [next(events).kind for _ in range(6)]
    assert last.kind == "action.succeeded"
    assert told == ["policy.loaded", "tool.registered", *CALL]


def test_a_gate_that_is_killed_ends_the_wait_for_events(gate: GateClient) -> None:
    events = gate.subscribe()
    waiting = Background(lambda: next(events))
    gate.ping()
    os.kill(gate_pid(), signal.SIGKILL)
    with pytest.raises(GateClosed, match="SIGKILL"):
        waiting.result()


def test_what_the_gate_notices_of_its_journal_is_logged_in_the_client(
    deployment: Path, gate: GateClient, caplog: pytest.LogCaptureFixture
) -> None:
    gate.call("search", {"n": 1})
    with sqlite3.connect(deployment.parent / ".toolgate" / "journal.db") as db:
        db.execute("UPDATE event SET data = '{}' WHERE kind = 'action.proposed'")
    db.close()
    assert [event.kind for event in gate.events()][-3:] == CALL[1:]
    gate.ping()
    [record] = [record for record in caplog.records if record.name == "toolgate"]
    assert record.levelname == "ERROR"
    assert "TAMPERED JOURNAL: the event" in record.getMessage()
