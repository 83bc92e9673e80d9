"""Two gates, one journal, one thing to run: whoever comes first runs it, and nobody else."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.fault_runs import deployment
from support.people import ALICE
from toolgate.config import parse_config
from toolgate.desk import Desk
from toolgate.faults import VARIABLE
from toolgate.journal.opening import inspect_journal
from toolgate.journal.verify import verify
from toolgate_client import GateClient, GateClosed, Outcome

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]

RACES = 1000
HEAT = 100
"""Races between two rounds of approvals."""
PATIENCE = 30.0


class Racer(threading.Thread):
    """One of two clients, each with a gate of its own, that do the same at the same moment."""

    def __init__(self, gate: GateClient, line: threading.Barrier, asked: list[Any]) -> None:
        super().__init__(daemon=True)
        self.outcomes: list[Outcome] = []
        self._gate, self._line, self._asked = gate, line, asked

    def run(self) -> None:
        for ask in self._asked:
            self._line.wait(PATIENCE)
            self.outcomes.append(ask(self._gate))


def race(gates: tuple[GateClient, GateClient], asked: list[Any]) -> list[tuple[Outcome, Outcome]]:
    """Have both ask for each of these at once, in order, and return what they were told."""
    line = threading.Barrier(2)
    one, two = (Racer(gate, line, asked) for gate in gates)
    for racer in (one, two):
        racer.start()
    for racer in (one, two):
        racer.join(PATIENCE)
        assert not racer.is_alive()
    return list(zip(one.outcomes, two.outcomes, strict=True))


def test_of_two_gates_that_resume_one_hold_a_thousand_times_one_runs_it_each_time(
    tmp_path: Path,
) -> None:
    path = tmp_path / "gate.json"
    path.write_text(json.dumps(deployment()))
    config = parse_config(deployment(), tmp_path)
    key = ALICE.key_file(tmp_path)
    ran: Counter[int] = Counter()
    won: Counter[str] = Counter()

    def body_of(name: str) -> Any:
        def body(args: dict[str, Any]) -> Any:
            ran[args["n"]] += 1
            won[name] += 1
            return {"n": args["n"], "by": name}

        return body

    with GateClient(path) as one, GateClient(path) as two:
        one.register_tool("pay", body_of("one"))
        two.register_tool("pay", body_of("two"))
        for start in range(0, RACES, HEAT):
            numbers = range(start, start + HEAT)
            uids = [one.govern("pay", {"n": n}).uid for n in numbers]
            desk = Desk(config)
            for uid in uids:
                desk.answer(uid, "approve", "alice", key)
            desk.close()
            told = race((one, two), [lambda gate, uid=uid: gate.resume(uid) for uid in uids])
            for n, uid, outcomes in zip(numbers, uids, told, strict=True):
                known = one.resume(uid)
                assert known.status == "succeeded"
                assert known.output["n"] == n
                assert {outcome.status for outcome in outcomes} <= {"succeeded", "executing"}
                assert [outcome.output for outcome in outcomes if outcome.succeeded].count(
                    known.output
                ) == sum(outcome.succeeded for outcome in outcomes)
                assert sum(outcome.live for outcome in outcomes) == 1
    assert ran == dict.fromkeys(range(RACES), 1)
    # It was a race: both have won.
    assert min(won["one"], won["two"]) > 0
    journal = inspect_journal(config)
    assert verify(journal.store, journal.key, lambda seen: None).problem is None
    journal.store.close()


def test_of_two_gates_that_are_given_one_idempotency_key_one_runs_the_call(tmp_path: Path) -> None:
    path = tmp_path / "gate.json"
    path.write_text(json.dumps(deployment()))
    ran: Counter[int] = Counter()

    def body(args: dict[str, Any]) -> int:
        ran[args["n"]] += 1
        return int(args["n"])

    def ask(n: int) -> Any:
        return lambda gate: gate.govern("search", {"n": n}, idempotency_key=str(n))

    with GateClient(path) as one, GateClient(path) as two:
        for gate in (one, two):
            gate.register_tool("search", body)
        told = race((one, two), [ask(n) for n in range(200)])
    assert ran == dict.fromkeys(range(200), 1)
    assert all(a.uid == b.uid for a, b in told)
    assert {outcome.status for both in told for outcome in both} <= {"succeeded", "executing"}


def pid_of(gate: GateClient) -> int:
    """Return the process id of a client's gate."""
    assert gate._gate is not None
    return gate._gate.process._popen.pid


@contextmanager
def gate_that_stands_still(folder: Path, point: str) -> Iterator[tuple[GateClient, socket.socket]]:
    """Start a gate that stops at a point, and give its client and what it tells where it stands."""
    path = folder / "gate.json"
    path.write_text(json.dumps(deployment()))
    fault = f"{VARIABLE}={point}:pause={folder / 'pause'}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as told:
        told.bind(str(folder / "pause"))
        told.listen(1)
        told.settimeout(PATIENCE)
        launcher = ["env", fault, sys.executable, "-m", "toolgate"]
        with GateClient(path, launcher=launcher) as gate:
            yield gate, told


async def test_claim_of_a_gate_that_stands_still_is_its_own_until_it_dies(tmp_path: Path) -> None:
    ran: list[str] = []
    with gate_that_stands_still(tmp_path, "run_tool.unsent") as (gate, told):
        gate.register_tool("search", lambda args: ran.append("one"))
        call = asyncio.create_task(
            asyncio.to_thread(gate.govern, "search", {"n": 1}, idempotency_key="k")
        )
        standing, _ = await asyncio.to_thread(told.accept)
        async with Driver(tmp_path, deployment()) as other:
            await other.tool("search", lambda args: ran.append("two"))
            meanwhile = await other.govern("search", {"n": 1}, idempotency_key="k")
            os.kill(pid_of(gate), signal.SIGKILL)
            with pytest.raises(GateClosed):
                await call
            afterwards = await other.govern("search", {"n": 1}, idempotency_key="k")
        standing.close()
    assert meanwhile["status"] == "executing"
    assert afterwards["error"]["kind"] == "in_doubt"
    assert ran == []


async def test_resume_that_meets_another_in_the_middle_of_its_claim_waits_and_runs_nothing(
    tmp_path: Path,
) -> None:
    ran: list[str] = []
    with gate_that_stands_still(tmp_path, "hold.claimed") as (gate, told):
        gate.register_tool("pay", lambda args: ran.append("one") or "paid")
        uid = gate.govern("pay", {"n": 1}).uid
        async with Driver(tmp_path, deployment()) as other:
            await other.tool("pay", lambda args: ran.append("two") or "paid")
            other.approve(uid, ALICE, tmp_path)
            first = asyncio.create_task(asyncio.to_thread(gate.resume, uid))
            standing, _ = await asyncio.to_thread(told.accept)
            second = other.send("resume", uid=uid)
            await other.request("ping")
            assert not second.done()
            standing.close()
            outcomes = (await first).output, (await second)["status"]
            known = await other.request("resume", uid=uid)
    assert outcomes[0] == "paid"
    assert outcomes[1] in ("executing", "succeeded")
    assert (known["output"], known["replayed"]) == ("paid", True)
    assert ran == ["one"]
