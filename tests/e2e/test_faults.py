"""Real processes, killed at the worst moments: the client, the gate, and what the journal knows."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.people import ALICE, config
from support.processes import PID_LAUNCHER, gate_pid, toolgate, verified
from toolgate_client import GateClient, GateClosed


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the config file of a deployment in a folder of its own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "gate.yaml"
    path.write_text(yaml.safe_dump(config()))
    return path


def approve(path: Path, uid: str) -> None:
    """Approve a hold from another process, as alice does."""
    key = ALICE.key_file(path.parent)
    done = toolgate(
        "approvals", "approve", uid, "--config", str(path), "--as", "alice", "--key", str(key)
    )
    assert done.returncode == 0, done.stderr


def test_hold_survives_kill_9_and_the_next_gate_runs_it_once(deployment: Path) -> None:
    ran: list[dict[str, Any]] = []
    with GateClient(deployment, launcher=PID_LAUNCHER) as gate:
        gate.register_tool("pay", lambda args: ran.append(args) or "paid")
        held = gate.govern("pay", {"amount": 7})
        os.kill(gate_pid(), signal.SIGKILL)
        with pytest.raises(GateClosed):
            gate.resume(held.uid, wait=None)
    assert held.status == "held"
    assert ran == []
    approve(deployment, held.uid)
    with GateClient(deployment) as later:
        later.register_tool("pay", lambda args: ran.append(args) or "paid")
        first = later.resume(held.uid)
        second = later.resume(held.uid)
    assert (first.status, first.output, first.replayed) == ("succeeded", "paid", False)
    assert (second.output, second.replayed) == ("paid", True)
    assert ran == [{"amount": 7}]
    assert verified(deployment)


def test_body_whose_gate_is_killed_under_it_is_in_doubt_and_not_run_again(
    deployment: Path,
) -> None:
    ran: list[str] = []

    def body(args: dict[str, Any]) -> str:
        ran.append("ran")
        os.kill(gate_pid(), signal.SIGKILL)
        return "done"

    with GateClient(deployment, launcher=PID_LAUNCHER) as gate:
        gate.register_tool("search", body)
        with pytest.raises(GateClosed) as closed:
            gate.govern("search", {"q": 1}, idempotency_key="once")
    with GateClient(deployment) as later:
        later.register_tool("search", lambda args: ran.append("again"))
        outcome = later.govern("search", {"q": 1}, idempotency_key="once")
    assert closed.value.exit_code == -signal.SIGKILL
    assert outcome.status == "failed"
    assert outcome.error is not None
    assert outcome.error.kind == "in_doubt"
    assert ran == ["ran"]
    assert verified(deployment)


AGENT = """
import os, sys
from toolgate_client import GateClient
with GateClient("gate.yaml") as gate:
    def body(args):
        with open("effects", "a") as file:
            file.write("ran\\n")
        os.kill(os.getpid(), 9)
    gate.register_tool("search", body)
    gate.govern("search", {}, idempotency_key="once")
"""


def test_client_killed_in_its_body_leaves_the_action_in_doubt_and_takes_its_gate_along(
    deployment: Path,
) -> None:
    agent = subprocess.run(
        [sys.executable, "-c", AGENT], timeout=30, check=False, stdin=subprocess.DEVNULL
    )
    with GateClient(deployment) as later:
        later.register_tool("search", lambda args: "again")
        outcome = later.govern("search", {}, idempotency_key="once", timeout=None)
    events = toolgate("journal", "show", "--config", str(deployment), "--json").stdout
    reasons = [
        json.loads(line)["data"]["reason"] for line in events.splitlines() if "run.ended" in line
    ]
    assert agent.returncode == -signal.SIGKILL
    assert outcome.error is not None
    assert outcome.error.kind == "in_doubt"
    assert Path("effects").read_text() == "ran\n"
    assert reasons[0] == "the client went away"
    assert verified(deployment)


def test_28_terminated_gate_gives_the_call_in_flight_its_end(deployment: Path) -> None:
    def body(args: dict[str, Any]) -> str:
        os.kill(gate_pid(), signal.SIGTERM)
        return "finished while the gate was draining"

    with GateClient(deployment, launcher=PID_LAUNCHER) as gate:
        gate.register_tool("search", body)
        outcome = gate.govern("search", {})
    assert outcome.output == "finished while the gate was draining"
    assert verified(deployment)


def test_gate_serves_a_file_as_well_as_a_pipe_and_ends_with_it(deployment: Path) -> None:
    requests = deployment.with_name("requests")
    requests.write_bytes(
        b'{"jsonrpc":"2.0","id":1,"method":"ping"}\nnonsense\n'
        b'{"jsonrpc":"2.0","id":2,"method":"shutdown"}\n'
    )
    with requests.open("rb") as stdin:
        served = subprocess.run(
            [sys.executable, "-m", "toolgate", "serve", "--config", str(deployment)],
            stdin=stdin,
            capture_output=True,
            timeout=30,
            check=False,
        )
    messages = [json.loads(line) for line in served.stdout.splitlines()]
    assert served.returncode == 0
    assert messages[0]["method"] == "ready"
    assert {message["id"] for message in messages[1:]} == {1, 2, None}


def test_gate_whose_input_is_closed_from_the_start_ends_by_itself(deployment: Path) -> None:
    served = subprocess.run(
        [sys.executable, "-m", "toolgate", "serve", "--config", str(deployment)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert served.returncode == 0
    assert verified(deployment)


def test_full_disk_refuses_calls_and_the_gate_lives_on(deployment: Path, tmp_path: Path) -> None:
    limited = ["sh", "-c", f'ulimit -f 1000; exec {sys.executable} -m toolgate "$@"', "gate"]
    ran = 0

    def body(args: dict[str, Any]) -> str:
        nonlocal ran
        ran += 1
        return "x" * 20_000

    refused: Exception | None = None
    with GateClient(deployment, launcher=limited) as gate:
        gate.register_tool("search", body)
        for n in range(100):
            try:
                gate.govern("search", {"n": n})
            except Exception as error:  # noqa: BLE001 - which one is what the test asks
                refused = error
                break
        gate.ping()
    assert getattr(refused, "code", None) == -32005
    assert "journal" in str(refused)
    assert 0 < ran < 100
    assert verified(deployment)


def test_file_that_is_no_journal_keeps_the_gate_from_starting_and_is_left_alone(
    deployment: Path,
) -> None:
    journal = deployment.parent / ".toolgate" / "journal.db"
    journal.parent.mkdir()
    journal.write_bytes(b"not a database" * 1000)
    started = toolgate("serve", "--config", str(deployment))
    assert started.returncode == 2
    assert "journal" in started.stderr
    assert "Traceback" not in started.stderr
    assert journal.read_bytes() == b"not a database" * 1000


def test_many_gates_started_at_once_on_nothing_share_one_journal_and_one_key(
    deployment: Path,
) -> None:
    command = [sys.executable, "-m", "toolgate", "serve", "--config", str(deployment)]
    gates = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in range(8)
    ]
    ready = [json.loads(gate.stdout.readline())["method"] for gate in gates if gate.stdout]
    for gate in gates:
        gate.communicate(timeout=30)
    assert ready == ["ready"] * 8
    assert [gate.returncode for gate in gates] == [0] * 8
    assert verified(deployment)


def test_gate_whose_stderr_nobody_reads_any_more_serves_on(deployment: Path) -> None:
    command = [sys.executable, "-m", "toolgate", "serve", "--config", str(deployment)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as gate:
        assert gate.stdin is not None
        assert gate.stdout is not None
        assert gate.stderr is not None
        assert json.loads(gate.stdout.readline())["method"] == "ready"
        gate.stderr.close()
        gate.stdin.write(b'nonsense\n{"jsonrpc":"2.0","id":1,"method":"ping"}\n')
        gate.stdin.flush()
        refused, answered = (json.loads(gate.stdout.readline()) for _ in range(2))
        gate.stdin.close()
        assert gate.wait(30) == 0
    assert refused["error"]["code"] == -32700
    assert answered == {"jsonrpc": "2.0", "id": 1, "result": {}}
