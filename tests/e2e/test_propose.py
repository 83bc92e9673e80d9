"""Proposals through a real gate in a process of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.people import ALICE, config
from toolgate_client import GateClient, GateClosed

PATIENCE = 20.0
PID_LAUNCHER = ["sh", "-c", f'echo $$ > gate.pid; exec {sys.executable} -m toolgate "$@"', "gate"]


@pytest.fixture
def deployment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the config file of a deployment in a folder of its own, which is the current one."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "gate.yaml"
    content = config()
    content["policy"]["rules"].append({"id": "keys", "types": ["state_write"], "effect": "allow"})
    path.write_text(yaml.safe_dump(content))
    return path


@pytest.fixture
def gate(deployment: Path) -> Iterator[GateClient]:
    with GateClient(deployment) as gate:
        yield gate


def toolgate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in the current folder."""
    return subprocess.run(
        [sys.executable, "-m", "toolgate", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def approve(path: Path, uid: str) -> None:
    """Approve a hold from another process, as alice does."""
    key = ALICE.key_file(path.parent)
    done = toolgate(
        "approvals", "approve", uid, "--config", str(path), "--as", "alice", "--key", str(key)
    )
    assert done.returncode == 0, done.stderr


def verified(path: Path) -> bool:
    """Tell whether the journal verifies."""
    return toolgate("journal", "verify", "--config", str(path)).returncode == 0


def call(id: str, tool: str = "search", **more: Any) -> dict[str, Any]:
    """Make an action that calls a tool."""
    return {"id": id, "type": "tool_call", "tool": tool, **more}


def plan(*actions: dict[str, Any]) -> dict[str, Any]:
    """Make a proposal."""
    return {"id": "plan", "actions": list(actions)}


def test_independent_actions_run_at_once_and_what_needs_them_gets_their_outputs(
    gate: GateClient, deployment: Path
) -> None:
    both, seen = threading.Barrier(2), []

    def body(args: dict[str, Any]) -> Any:
        if "found" in args:
            return args["found"]
        both.wait(PATIENCE)
        seen.append(threading.get_ident())
        return {"items": [args["q"]]}

    gate.register_tool("search", body)
    result = gate.propose(
        plan(
            call("a", parameters={"q": 1}, failure_behavior="skip"),
            call("b", parameters={"q": 2}, failure_behavior="skip"),
            call("c", parameters={"found": ["$a.output.items.0", "$b.output"]}),
        )
    )
    assert result.succeeded
    assert result.result("c").output == [1, {"items": [2]}]
    assert len(set(seen)) == 2
    assert result.cost.tool_calls == 3
    assert verified(deployment)


def test_actions_that_abort_run_in_order_in_the_callers_thread(gate: GateClient) -> None:
    order: list[tuple[int, int]] = []
    gate.register_tool("search", lambda args: order.append((args["q"], threading.get_ident())))
    result = gate.propose(plan(*(call(f"a{n}", parameters={"q": n}) for n in range(20))))
    assert result.succeeded
    assert order == [(n, threading.get_ident()) for n in range(20)]


def test_a_held_action_suspends_what_comes_after_it_until_it_is_approved(
    gate: GateClient, deployment: Path
) -> None:
    ran: list[str] = []
    gate.register_tool("pay", lambda args: ran.append("pay") or object())
    gate.register_tool("search", lambda args: ran.append("search"))
    result = gate.propose(plan(call("pay", "pay"), call("receipt")))
    assert result.suspended
    assert ran == []
    (hold,) = result.holds
    assert hold.uid is not None
    approve(deployment, hold.uid)
    outcome = gate.resume(hold.uid, wait=PATIENCE)
    assert outcome.succeeded
    assert outcome.live
    assert outcome.proposal is not None
    assert outcome.proposal.succeeded
    assert ran == ["pay", "search"]
    again = gate.resume(result.uid)
    assert again.succeeded
    assert again.proposal is not None
    assert again.proposal.result("receipt").succeeded
    assert ran == ["pay", "search"]


def test_actions_approved_together_run_together_when_their_proposal_is_resumed(
    gate: GateClient, deployment: Path
) -> None:
    both = threading.Barrier(2)
    gate.register_tool("pay", lambda args: both.wait(PATIENCE) >= 0)
    result = gate.propose(
        plan(
            call("a", "pay", parameters={"n": 1}, failure_behavior="skip"),
            call("b", "pay", parameters={"n": 2}, failure_behavior="skip"),
        )
    )
    assert len(result.holds) == 2
    for hold in result.holds:
        assert hold.uid is not None
        approve(deployment, hold.uid)
    outcome = gate.resume(result.uid)
    assert outcome.succeeded
    assert outcome.proposal is not None
    assert [each.output for each in outcome.proposal.results] == [True, True]


def test_an_aborted_proposal_is_undone_and_compensated(gate: GateClient) -> None:
    ran: list[str] = []

    def body(args: dict[str, Any]) -> None:
        ran.append(args["q"])
        if args["q"] == "fail":
            raise OSError("disk full")

    gate.register_tool("search", body)
    undo = {"type": "tool", "tool": "search", "parameters": {"q": "undo"}}
    result = gate.propose(
        plan(
            {"id": "w", "type": "state_write", "parameters": {"key": "k", "value": 1}},
            call("do", parameters={"q": "do"}, reversibility="compensable", compensation=undo),
            call("fail", parameters={"q": "fail"}),
            call("after", parameters={"q": "after"}),
        )
    )
    assert result.aborted
    assert isinstance(result.result("fail").exception, OSError)
    assert result.result("after").status == "skipped"
    assert result.result("do").rolled_back
    assert result.result("w").rolled_back
    assert result.rollback is not None
    assert result.rollback.restored == ("k",)
    assert [each.status for each in result.rollback.compensations] == ["succeeded"]
    assert ran == ["do", "fail", "undo"]
    assert gate.state() == {}


def test_bodies_on_every_worker_make_calls_and_proposals_of_their_own(gate: GateClient) -> None:
    all_of_them = threading.Barrier(16)

    def body(args: dict[str, Any]) -> Any:
        if "leaf" in args:
            return args["leaf"]
        all_of_them.wait(PATIENCE)
        leaf = {"leaf": args["q"]}
        inner = gate.propose(plan(call("leaf", parameters=leaf)))
        return [gate.call("search", leaf), inner.result("leaf").output]

    gate.register_tool("search", body)
    result = gate.propose(
        plan(
            *(
                call(f"a{n}", parameters={"q": n}, failure_behavior="skip", max_retries=0)
                for n in range(16)
            )
        )
    )
    assert [each.output for each in result.results] == [[n, n] for n in range(16)]


def test_an_idempotency_key_runs_a_proposal_once(gate: GateClient) -> None:
    ran: list[int] = []
    gate.register_tool("search", lambda args: ran.append(1) or "found")
    first = gate.propose(plan(call("a")), idempotency_key="once")
    second = gate.propose(plan(call("a")), idempotency_key="once")
    assert (first.result("a").live, second.result("a").live) == (True, False)
    assert second.result("a").output == "found"
    assert second.uid == first.uid
    assert ran == [1]


def test_proposals_of_many_threads_do_not_mix(gate: GateClient, deployment: Path) -> None:
    gate.register_tool("search", lambda args: args["q"])
    outputs: dict[int, list[Any]] = {}

    def caller(index: int) -> None:
        actions = [
            call(f"a{n}", parameters={"q": [index, n]}, failure_behavior="skip") for n in range(4)
        ]
        outputs[index] = [each.output for each in gate.propose(plan(*actions)).results]

    threads = [threading.Thread(target=caller, args=(index,), daemon=True) for index in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE)
    assert outputs == {index: [[index, n] for n in range(4)] for index in range(16)}
    assert verified(deployment)


def test_bodies_whose_gate_is_killed_under_them_are_in_doubt_and_not_run_again(
    deployment: Path,
) -> None:
    ran: list[int] = []
    both = threading.Barrier(2)

    def body(args: dict[str, Any]) -> str:
        ran.append(args["q"])
        if both.wait(PATIENCE) == 0:
            os.kill(int(Path("gate.pid").read_text()), signal.SIGKILL)
        return "done"

    actions = [call(f"a{n}", parameters={"q": n}, failure_behavior="skip") for n in (1, 2)]
    with GateClient(deployment, launcher=PID_LAUNCHER) as gate:
        gate.register_tool("search", body)
        with pytest.raises(GateClosed):
            gate.propose(plan(*actions), idempotency_key="once")
    with GateClient(deployment) as later:
        later.register_tool("search", lambda args: ran.append(0))
        result = later.propose(plan(*actions), idempotency_key="once")
    errors = [each.error.kind for each in result.results if each.error is not None]
    assert "in_doubt" in errors
    assert sorted(ran) == [1, 2]
    assert verified(deployment)


INTERRUPTED = """
import os, signal, sys, threading
from toolgate_client import GateClient
both = threading.Barrier(2)
caller = threading.get_ident()
def body(args):
    both.wait(20)
    if threading.get_ident() == caller:
        signal.raise_signal(signal.SIGINT)
    return "reported"
actions = [
    {"id": f"a{n}", "type": "tool_call", "tool": "search", "parameters": {"q": n},
     "failure_behavior": "skip", "max_retries": 0}
    for n in (1, 2)
]
actions.append({"id": "after", "type": "tool_call", "tool": "search", "dependencies": ["a1", "a2"]})
with GateClient("gate.yaml") as gate:
    gate.register_tool("search", body)
    try:
        gate.propose({"actions": actions}, idempotency_key="once")
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_ctrl_c_in_a_body_ends_the_proposal_and_reports_the_other_bodies(deployment: Path) -> None:
    agent = subprocess.run(
        [sys.executable, "-c", INTERRUPTED],
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert (agent.stdout, agent.returncode) == ("interrupted\n", 0), agent.stderr
    events = toolgate("journal", "show", "--config", str(deployment), "--json").stdout
    assert events.count('"action.succeeded"') == 1
    assert events.count('"action.executing"') == 2
    assert verified(deployment)


class TestLooking:
    WRITE_THEN_READ: dict[str, Any] = plan(
        {"id": "w", "type": "state_write", "parameters": {"key": "k", "value": 1}},
        {"id": "r", "type": "state_read", "parameters": {"key": "k"}},
    )

    def test_verification_finds_what_would_be_wrong_and_runs_nothing(
        self, gate: GateClient
    ) -> None:
        found = gate.verify(plan(call("a", "unheard-of"), call("b", dependencies=["nobody"])))
        assert not found
        assert {issue.action_id for issue in found.issues if issue.severity == "error"} >= {"a"}
        fine = gate.verify(self.WRITE_THEN_READ)
        assert fine.valid
        assert fine.simulated_state == {"k": 1}
        assert fine.execution_levels == (("w",), ("r",))
        assert gate.state() == {}

    def test_simulation_and_equivalence_tell_what_would_be_left(self, gate: GateClient) -> None:
        assert gate.simulate(self.WRITE_THEN_READ, state={"other": 2}) == {"k": 1, "other": 2}
        assert gate.equivalent(self.WRITE_THEN_READ, self.WRITE_THEN_READ)
        different = gate.equivalent(self.WRITE_THEN_READ, plan(), states=[{"k": 0}])
        assert [(each.state, each.b) for each in different.differences] == [({"k": 0}, {"k": 0})]

    def test_an_optimized_proposal_can_be_proposed(self, gate: GateClient) -> None:
        proposal = plan(
            {"id": "a", "type": "state_write", "parameters": {"key": "k", "value": 1}},
            {
                "id": "b",
                "type": "state_read",
                "parameters": {"key": "k"},
                "dependencies": ["a"],
                "state_dependencies": ["k"],
            },
        )
        optimized = gate.optimize(proposal)
        assert gate.equivalent(proposal, optimized.proposal)
        assert gate.propose(optimized.proposal).succeeded

    def test_ranking_puts_what_cannot_work_last(self, gate: GateClient) -> None:
        ranking = gate.rank([plan(call("a", "unheard-of")), self.WRITE_THEN_READ])
        assert [each.index for each in ranking] == [1, 0]
        assert [each.valid for each in ranking] == [True, False]

    def test_a_checkpoint_brings_the_state_back(self, gate: GateClient) -> None:
        gate.propose(self.WRITE_THEN_READ)
        checkpoint = gate.checkpoint("before")
        gate.propose(
            plan({"id": "w", "type": "state_write", "parameters": {"key": "k", "value": 2}})
        )
        assert gate.state(["k", "unheard-of"]) == {"k": 2}
        restored = gate.restore(checkpoint)
        assert restored.succeeded, restored.error
        assert gate.state() == {"k": 1}
        refused = gate.restore("unheard-of")
        assert not refused.succeeded
        assert refused.error is not None


def test_body_that_fails_at_first_is_attempted_again(gate: GateClient) -> None:
    tries: list[int] = []

    def flaky(args: dict[str, Any]) -> str:
        tries.append(len(tries))
        if len(tries) < 3:
            raise OSError("not yet")
        return "there"

    gate.register_tool("search", flaky)
    result = gate.propose(plan(call("a", failure_behavior="retry", max_retries=3)))
    assert result.succeeded
    assert (result.results[0].attempts, len(tries)) == (3, 3)
    assert result.cost.retries == 2
