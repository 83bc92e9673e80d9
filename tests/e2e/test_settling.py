"""Real gates killed with -9 while a body runs, and the command that settles what they leave."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.people import ALICE, config
from support.processes import PID_LAUNCHER, gate_pid, toolgate, verified
from toolgate_client import GateClient, GateClosed, ToolSuspended


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the config file of a deployment in a folder of its own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    value = config()
    value["tools"]["look_up"] = {"level": 0, "idempotent": True}
    path = tmp_path / "gate.yaml"
    path.write_text(yaml.safe_dump(value))
    return path


def killed(tool: str, deployment: Path, ran: list[str]) -> str:
    """Kill the gate with -9 while a tool's body runs, and return the action's uid."""

    def body(args: dict[str, Any]) -> str:
        ran.append("ran")
        os.kill(gate_pid(), signal.SIGKILL)
        return "done"

    with GateClient(deployment, launcher=PID_LAUNCHER) as gate:
        gate.register_tool(tool, body)
        with pytest.raises(GateClosed):
            gate.govern(tool, {"q": 1}, idempotency_key="once")
    found = listed("--tool", tool)
    return str(found[0]["uid"])


def listed(*arguments: str) -> list[dict[str, Any]]:
    """Return what `actions list` prints for machines."""
    done = toolgate("actions", "list", "--config", "gate.yaml", "--json", *arguments)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["actions"]
    return found


def settled(uid: str, *outcome: str) -> Any:
    """Settle an action from another process, as alice does."""
    key = str(ALICE.key_file(Path.cwd()))
    who = ("--config", "gate.yaml", "--as", "alice", "--key", key)
    return toolgate("actions", "settle", uid, *outcome, *who)


def test_call_whose_gate_was_killed_runs_once_more_by_an_operators_signature(
    deployment: Path,
) -> None:
    ran: list[str] = []
    uid = killed("search", deployment, ran)
    [orphan] = listed("--status", "executing")
    too_early = settled(uid, "--retry")
    with GateClient(deployment) as gate:
        gate.register_tool("search", lambda args: ran.append("again") or "found")
        before = gate.govern("search", {"q": 1}, idempotency_key="once")
        [doubt] = listed("--status", "in_doubt")
        done = settled(uid, "--retry", "--reason", "the log of the search has nothing of it")
        outcome = gate.govern("search", {"q": 1}, idempotency_key="once")
        repeated = gate.govern("search", {"q": 1}, idempotency_key="once")
    assert orphan["gate_gone"] is True
    assert too_early.returncode == 2
    assert "is gone, and no gate has looked since" in too_early.stderr
    assert before.error is not None
    assert before.error.kind == "in_doubt"
    assert (doubt["uid"], doubt["attempts"]) == (uid, 1)
    assert done.returncode == 0, done.stderr
    assert (outcome.output, outcome.attempts, outcome.replayed) == ("found", 2, False)
    assert (repeated.output, repeated.replayed) == ("found", True)
    assert ran == ["ran", "again"]
    assert verified(deployment)


def test_call_whose_gate_was_killed_is_what_an_operator_says_it_came_to(deployment: Path) -> None:
    ran: list[str] = []
    uid = killed("search", deployment, ran)
    with GateClient(deployment) as gate:
        gate.register_tool("search", lambda args: ran.append("again"))
        done = settled(uid, "--succeeded", "--output", '{"hits": 2}')
        outcome = gate.resume(uid)
    assert done.returncode == 0, done.stderr
    assert outcome.output == {"hits": 2}
    assert ran == ["ran"]
    assert verified(deployment)


def test_idempotent_call_whose_gate_was_killed_runs_again_when_it_is_repeated(
    deployment: Path,
) -> None:
    ran: list[str] = []
    killed("look_up", deployment, ran)
    with GateClient(deployment) as gate:
        gate.register_tool("look_up", lambda args: ran.append("again") or "found")
        outcome = gate.govern("look_up", {"q": 1}, idempotency_key="once")
    assert (outcome.output, outcome.attempts) == ("found", 2)
    assert ran == ["ran", "again"]
    assert verified(deployment)


def test_gate_killed_in_a_retry_leaves_another_doubt_that_the_signature_does_not_settle(
    deployment: Path,
) -> None:
    ran: list[str] = []
    uid = killed("search", deployment, ran)
    with GateClient(deployment, launcher=PID_LAUNCHER) as gate:
        gate.register_tool("search", lambda args: os.kill(gate_pid(), signal.SIGKILL))
        assert settled(uid, "--retry").returncode == 0
        with pytest.raises(GateClosed):
            gate.resume(uid)
    with GateClient(deployment) as later:
        later.register_tool("search", lambda args: ran.append("thrice"))
        outcome = later.resume(uid)
    assert outcome.error is not None
    assert (outcome.error.kind, outcome.attempts) == ("in_doubt", 2)
    assert ran == ["ran"]
    assert verified(deployment)


def test_body_that_stopped_itself_is_entered_again_after_its_gate_was_killed(
    deployment: Path,
) -> None:
    entered: list[str] = []

    def stopping(args: dict[str, Any]) -> str:
        entered.append("stopped")
        raise ToolSuspended("somebody has to answer")

    with GateClient(deployment, launcher=PID_LAUNCHER) as gate:
        gate.register_tool("search", stopping)
        stopped = gate.govern("search", {"q": 1}, idempotency_key="once")
        os.kill(gate_pid(), signal.SIGKILL)
        with pytest.raises(GateClosed):
            gate.resume(stopped.uid)
    with GateClient(deployment) as later:
        later.register_tool("search", lambda args: entered.append("ended") or "found")
        outcome = later.govern("search", {"q": 1}, idempotency_key="once")
    assert stopped.status == "proposed"
    assert (outcome.status, outcome.output, outcome.attempts) == ("succeeded", "found", 2)
    assert entered == ["stopped", "ended"]
    assert verified(deployment)
