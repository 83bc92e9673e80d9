"""A body that raises ``ToolSuspended`` is entered again; a real gate stands behind the client."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.people import ALICE, config
from support.processes import toolgate
from toolgate_client import ActionHeld, GateClient, ToolSuspended

DEPLOYMENT = config(journal="sqlite:///journal.db", tools={"slow": {"timeout": "10s"}})


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder of its own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def gate(folder: Path) -> Iterator[GateClient]:
    """Yield the client of a real gate."""
    with GateClient(DEPLOYMENT) as gate:
        yield gate


class Asking:
    """A body that stops itself until it has an answer."""

    def __init__(self) -> None:
        """Nobody has answered."""
        self.answer: str | None = None
        self.entered = 0

    def __call__(self, args: dict[str, Any]) -> str:
        self.entered += 1
        if self.answer is None:
            raise ToolSuspended("somebody has to answer first")
        return self.answer


def test_body_that_stops_itself_is_entered_again_by_resume(gate: GateClient) -> None:
    body = Asking()
    gate.register_tool("search", body)
    first = gate.govern("search", {"q": 1})
    again = gate.resume(first.uid, wait=None)
    body.answer = "yes"
    done = gate.resume(first.uid)
    assert (first.status, first.attempts, first.live) == ("proposed", 1, False)
    assert isinstance(first.exception, ToolSuspended)
    assert str(first.exception) == "somebody has to answer first"
    assert (again.status, again.attempts) == ("proposed", 2)
    assert (done.status, done.output, done.attempts, done.live) == ("succeeded", "yes", 3, True)
    assert body.entered == 3


def test_call_whose_body_stops_itself_raises_that_it_is_not_settled(gate: GateClient) -> None:
    gate.register_tool("search", Asking())
    with pytest.raises(ActionHeld, match="has stopped itself; resume") as caught:
        gate.call("search", {})
    assert caught.value.kind == "proposed"
    assert isinstance(caught.value.__cause__, ToolSuspended)


def test_approval_of_a_call_whose_body_stops_itself_stands(gate: GateClient, folder: Path) -> None:
    body = Asking()
    gate.register_tool("pay", body)
    uid = gate.govern("pay", {"amount": 1}).uid
    (folder / "gate.yaml").write_text(yaml.safe_dump(DEPLOYMENT))
    who = ("--config", "gate.yaml", "--as", "alice", "--key", str(ALICE.key_file(folder)))
    assert toolgate("approvals", "approve", uid, *who).returncode == 0
    stopped = gate.resume(uid)
    body.answer = "paid"
    done = gate.resume(uid)
    assert stopped.held
    assert stopped.hold is not None
    assert stopped.hold.approved_by == ("alice",)
    assert isinstance(stopped.exception, ToolSuspended)
    assert (done.output, done.attempts) == ("paid", 2)


def test_actions_of_a_plan_that_stop_themselves_side_by_side_are_entered_again(
    gate: GateClient,
) -> None:
    bodies = {"search": Asking(), "slow": Asking()}
    for name, body in bodies.items():
        gate.register_tool(name, body)
    plan = [
        {"id": name, "type": "tool_call", "tool": name, "failure_behavior": "skip"}
        for name in bodies
    ]
    first = gate.propose({"actions": plan})
    for name, body in bodies.items():
        body.answer = name
    done = gate.resume(first.uid).proposal
    assert first.suspended
    assert [item.status for item in first.results] == ["proposed", "proposed"]
    assert all(isinstance(item.exception, ToolSuspended) for item in first.results)
    assert done is not None
    assert done.succeeded
    assert [item.output for item in done.results] == ["search", "slow"]
