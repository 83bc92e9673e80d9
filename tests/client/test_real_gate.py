"""A real gate behind the client, and people who use its command: also where that is another Python.

Nothing here imports the gate, so that these tests run on every Python that the client runs on.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from support.loops import run
from toolgate_client import ActionDenied, GateClient
from toolgate_client._launch import find_launcher


def command(folder: Path, *arguments: str) -> str:
    """Run the gate's command in a folder, and return what it prints."""
    started = subprocess.run(
        [*find_launcher(), *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return started.stdout


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write the config of a deployment where Alice is asked about payments; her key is there."""
    key = json.loads(command(tmp_path, "keys", "new", "alice", "--json"))
    path = tmp_path / "gate.yaml"
    hold = {"approvers": ["alice"]}
    rules = [
        {"id": "reads", "tools": ["search"], "effect": "allow"},
        {"id": "money", "tools": ["pay"], "effect": "hold", "approval": hold},
    ]
    approvers = [{"id": "alice", "public_key": key["public_key"]}]
    path.write_text(
        json.dumps(
            {
                "project": "acme",
                "tools": {"search": {"level": 3}, "pay": {"level": 3}},
                "policy": {"rules": rules},
                "approvals": {"approvers": approvers},
            }
        )
    )
    return path


@pytest.fixture
def gate(config: Path) -> Iterator[GateClient]:
    with GateClient(config) as gate:
        gate.register_tool("search", lambda args: [args["for"]])
        gate.register_tool("pay", lambda args: f"paid {args['amount']}")
        gate.register_tool("wipe", lambda args: os.abort())
        yield gate


def approve(config: Path, uid: str) -> None:
    signed = ["--as", "alice", "--key", "alice.key"]
    command(config.parent, "approvals", "approve", uid, "--config", str(config), *signed)


def test_calls_run_are_denied_and_wait_for_people(gate: GateClient, config: Path) -> None:
    assert gate.call("search", {"for": "é"}) == ["é"]
    with pytest.raises(ActionDenied):
        gate.call("wipe", {})
    held = gate.govern("pay", {"amount": 40})
    assert held.status == "held"
    assert gate.resume(held.uid).status == "held"
    approve(config, held.uid)
    assert gate.resume(held.uid, wait=20).output == "paid 40"
    assert gate.resume(held.uid).output == "paid 40"


def test_tasks_make_calls_that_wait_for_people(config: Path) -> None:
    async def search(args: dict[str, Any]) -> Any:
        return args["for"]

    async def main() -> None:
        async with GateClient(config) as gate:
            await gate.aregister_tool("search", search)
            await gate.aregister_tool("pay", lambda args: f"paid {args['amount']}")
            assert await gate.acall("search", {"for": 1}) == 1
            held = await gate.agovern("pay", {"amount": 40})
            approve(config, held.uid)
            assert (await gate.aresume(held.uid, wait=20)).output == "paid 40"

    run(main())


def test_a_plan_goes_on_once_its_held_action_is_approved(gate: GateClient, config: Path) -> None:
    pay = {"id": "a", "type": "tool_call", "tool": "pay", "parameters": {"amount": 40}}
    search = {"id": "b", "type": "tool_call", "tool": "search", "parameters": {"for": "$a.output"}}
    plan = gate.propose({"actions": [pay, search]})
    assert plan.suspended
    uid = plan.result("a").uid
    approve(config, uid)
    done = gate.resume(uid, wait=20).proposal
    assert done is not None
    assert done.result("b").output == ["paid 40"]
