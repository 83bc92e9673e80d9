"""lodestar-runtime-client, as it is published, with this gate as its launcher."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from lodestar_runtime_client import GateClient, GateError

from support.lodestar_world import LAUNCHER, PATIENCE, World

Result = dict[str, Any]


def echo(args: Result) -> Result:
    return {"output": {"echo": args}}


def named(held: Result) -> tuple[str, str]:
    return held["action_id"], held["request_id"]


def test_a_tool_is_registered_with_the_level_of_the_operators_contract(shared: GateClient) -> None:
    levels = {
        name: shared.register_tool(name, echo)["required_level"]
        for name in ("search", "send", "pay", "unspoken of")
    }
    assert levels == {"search": 1, "send": 2, "pay": 4, "unspoken of": 3}
    assert shared.project_id == "acme"
    assert shared.session_id


def test_an_allowed_call_runs_once_and_gives_what_its_body_returned(shared: GateClient) -> None:
    ran: list[Result] = []
    shared.register_tool("search", lambda args: ran.append(args) or {"output": {"für": args["q"]}})
    result = shared.govern("search", {"q": "Zürich 🚂"})
    assert (result["phase"], result["output"]) == ("completed", {"für": "Zürich 🚂"})
    assert ran == [{"q": "Zürich 🚂"}]


def test_a_denied_call_never_reaches_its_body(shared: GateClient) -> None:
    ran: list[Result] = []
    shared.register_tool("shell", lambda args: ran.append(args) or {"output": 1})
    result = shared.govern("shell", {"command": "rm"})
    assert (result["phase"], result["kind"]) == ("rejected", "policy_denied")
    assert "no shell" in result["reason"]
    assert ran == []


def test_an_unregistered_tool_is_rejected(gate: GateClient) -> None:
    result = gate.govern("search", {})
    assert (result["phase"], result["kind"]) == ("rejected", "unregistered_tool")


def test_a_held_call_is_approved_with_the_command_and_runs_once_however_often_it_is_resumed(
    world: World, gate: GateClient
) -> None:
    ran: list[Result] = []
    gate.register_tool("pay", lambda args: ran.append(args) or {"output": "paid"})
    held = gate.govern("pay", {"amount": 7})
    looked = gate.resume(*named(held))
    waited = gate.resume(*named(held), wait_ms=50)
    assert "alice approved it" in world.approve(held["request_id"])
    first = gate.resume(*named(held))
    again = gate.resume(*named(held), wait_ms=1000)
    assert [each["phase"] for each in (held, looked, waited)] == ["pending_approval"] * 3
    assert held["deadline"] == waited["deadline"]
    assert (first["phase"], first["output"], first["action_id"]) == (
        "completed",
        "paid",
        *named(held)[:1],
    )
    assert again == first | {"id": again["id"]}
    assert ran == [{"amount": 7}]


def test_two_resumes_at_once_run_the_call_once_and_both_are_told(
    world: World, gate: GateClient
) -> None:
    ran: list[Result] = []
    gate.register_tool("pay", lambda args: ran.append(args) or {"output": "paid"})
    held = gate.govern("pay", {})
    with ThreadPoolExecutor() as pool:
        waiting = [pool.submit(gate.resume, *named(held), wait_ms=20_000) for _ in range(4)]
        world.answer(held["request_id"])
        results = [each.result(PATIENCE) for each in waiting]
    assert {(r["phase"], r["output"]) for r in results} == {("completed", "paid")}
    assert len(ran) == 1


def test_a_denied_hold_says_so_and_nothing_runs(world: World, gate: GateClient) -> None:
    ran: list[Result] = []
    gate.register_tool("pay", lambda args: ran.append(args) or {"output": 1})
    held = gate.govern("pay", {})
    world.answer(held["request_id"], "deny")
    denied = gate.resume(*named(held), wait_ms=20_000)
    assert (denied["phase"], denied["kind"]) == ("rejected", "approval_denied")
    assert ran == []


def test_a_hold_nobody_answers_times_out(tmp_path: Path) -> None:
    world = World(tmp_path, policy={"rules": [HOLD_BRIEFLY]})
    with world.gate() as gate:
        gate.register_tool("search", echo)
        held = gate.govern("search", {})
        result = gate.resume(*named(held), wait_ms=20_000)
    assert held["phase"] == "pending_approval"
    assert (result["phase"], result["kind"]) == ("rejected", "approval_timeout")


HOLD_BRIEFLY = {
    "id": "briefly",
    "tools": ["search"],
    "effect": "hold",
    "approval": {"approvers": ["alice"], "expires": "100ms"},
}


def test_arguments_that_are_no_json_are_refused_by_the_client_and_the_next_call_is_served(
    shared: GateClient,
) -> None:
    shared.register_tool("search", echo)
    with pytest.raises(GateError, match="non-finite"):
        shared.govern("search", {"q": float("nan")})
    assert shared.govern("search", {"q": 1})["phase"] == "completed"


def test_arguments_that_this_gate_does_not_take_are_answered(shared: GateClient) -> None:
    shared.register_tool("search", echo)
    deep: Any = 0
    for _ in range(400):
        deep = [deep]
    for bad in ("\ud800", deep, "x" * (5 << 20)):
        with pytest.raises(GateError, match="malformed govern"):
            shared.govern("search", {"q": bad})
    assert shared.govern("search", {"q": 10**30})["output"] == {"echo": {"q": 10**30}}


@pytest.mark.parametrize(
    ("returned", "reason"),
    [
        ({"output": float("nan")}, "non-finite"),
        ({"output": 1, "documents": "all of it"}, "documents"),
        ({"output": 1, "documents": [{"source": "mail"}]}, "documents.0.text"),
        (
            {"output": 1, "documents": [{"text": "t", "trust": "trusted"}]},
            "documents.0: has an unknown key",
        ),
        ({"output": "\ud800"}, "malformed tool_result"),
        ({"output": "x" * (5 << 20)}, "limits.max_message_bytes"),
        ("no object", "has no attribute 'get'"),
    ],
)
def test_a_body_that_answers_badly_fails_its_call_and_the_next_is_served(
    shared: GateClient, returned: Any, reason: str
) -> None:
    shared.register_tool("search", lambda args: returned)
    shared.register_tool("fetch", echo)
    result = shared.govern("search", {})
    assert (result["phase"], result["kind"]) == ("failed", "execution_failed")
    assert reason in result["reason"]
    assert shared.govern("fetch", {})["phase"] == "completed"


def test_a_body_that_raises_fails_its_call_with_its_words(shared: GateClient) -> None:
    def body(args: Result) -> Result:
        raise ValueError("no such index")

    shared.register_tool("search", body)
    result = shared.govern("search", {})
    assert (result["phase"], result["reason"]) == ("failed", "no such index")


def test_what_a_body_has_read_makes_the_session_untrusted(gate: GateClient) -> None:
    gate.register_tool("send", echo)
    gate.register_tool("fetch", lambda args: {"output": 1, "documents": [{"text": "obey"}]})
    before = gate.govern("send", {"n": 1})
    gate.govern("fetch", {})
    after = gate.govern("send", {"n": 2})
    assert before["phase"] == "completed"
    assert (after["phase"], after["kind"]) == ("rejected", "policy_denied")


def test_concurrent_calls_each_get_their_own_result(shared: GateClient) -> None:
    together = threading.Barrier(16)

    def body(args: Result) -> Result:
        together.wait(PATIENCE)
        return {"output": args["n"]}

    shared.register_tool("search", body)
    with ThreadPoolExecutor(64) as pool:
        results = list(pool.map(lambda n: shared.govern("search", {"n": n}), range(64)))
    assert [result["output"] for result in results] == list(range(64))


def test_a_call_within_a_body_is_governed_like_any_other(shared: GateClient) -> None:
    shared.register_tool("fetch", echo)
    shared.register_tool("search", lambda args: {"output": shared.govern("fetch", args)["phase"]})
    assert shared.govern("search", {"n": 1})["output"] == "completed"


def test_a_hold_outlives_its_gate_and_runs_in_the_next_of_the_same_session(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, session="night")
    ran: list[Result] = []

    def body(args: Result) -> Result:
        ran.append(args)
        return {"output": "paid"}

    with world.gate() as first:
        first.register_tool("pay", body)
        held = first.govern("pay", {"amount": 7})
    world.approve(held["request_id"])
    with world.gate() as second:
        second.register_tool("pay", body)
        paid = second.resume(*named(held))
    with world.gate() as third:
        third.register_tool("pay", body)
        again = third.resume(*named(held))
    assert {first.session_id, second.session_id, third.session_id} == {"night"}
    assert (paid["phase"], paid["output"]) == ("completed", "paid")
    assert again == paid | {"id": again["id"]}
    assert ran == [{"amount": 7}]
    assert "chain verified" in world.toolgate("journal", "verify")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_gate_that_is_killed_under_a_body_releases_its_caller_and_runs_nothing_again(
    world: World,
) -> None:
    ran: list[threading.Thread] = []
    doomed: list[GateClient] = []

    def body(args: Result) -> Result:
        ran.append(threading.current_thread())
        os.kill(doomed[0]._proc.pid, signal.SIGKILL)
        return {"output": "too late"}

    with world.gate() as first:
        doomed.append(first)
        first.register_tool("pay", body)
        held = first.govern("pay", {})
        world.answer(held["request_id"])
        with pytest.raises(GateError, match="closed the connection"):
            first.resume(*named(held))
        # The client tries to answer a gate that is gone.
        ran[0].join(PATIENCE)
    with world.gate() as second:
        second.register_tool("pay", body)
        result = second.resume(*named(held))
    assert (result["phase"], result["kind"]) == ("failed", "execution_failed")
    assert "may or may not have run" in result["reason"]
    assert len(ran) == 1


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_closing_the_client_ends_the_gate_by_itself_also_while_a_body_runs(world: World) -> None:
    entered, leave = threading.Event(), threading.Event()
    bodies: list[threading.Thread] = []

    def body(args: Result) -> Result:
        bodies.append(threading.current_thread())
        entered.set()
        leave.wait(PATIENCE)
        return {"output": 1}

    with world.gate() as gate, ThreadPoolExecutor() as pool:
        gate.register_tool("search", body)
        call = pool.submit(gate.govern, "search", {})
        assert entered.wait(PATIENCE)
        gate.close()
        # A gate that its client had to kill would have ended with a signal.
        assert gate._proc.returncode == 0
        result = call.result(PATIENCE)
        leave.set()
        bodies[0].join(PATIENCE)
    assert (result["phase"], result["kind"]) == ("failed", "execution_failed")


def their_config(folder: Path) -> dict[str, Any]:
    return {
        "project_id": "acme",
        "actor_id": "agent",
        "session_id": "auto",
        "tool_defaults": {"search": {"required_trust_level": 1}},
    }


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(
    ("config", "said"),
    [
        (lambda folder: {}, "project: is required"),
        (lambda folder: {"project": "p", "policy": {"file": "none.yaml"}}, "none.yaml"),
        (their_config, "docs/guides/lodestar.md"),
    ],
)
def test_a_gate_that_cannot_start_says_so_at_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], config: Callable[[Path], Any], said: str
) -> None:
    path = tmp_path / "gate.json"
    path.write_text(json.dumps(config(tmp_path)))
    begun = time.monotonic()
    with pytest.raises(GateError, match=r"before signalling ready \(exit code 2\)"):
        GateClient(str(path), launcher=LAUNCHER)
    assert time.monotonic() - begun < 10
    assert said in capfd.readouterr().err
    # The client leaves its pipes to the collector.
    gc.collect()


def test_a_person_can_start_the_gate_as_with_any_other_command(world: World) -> None:
    done = subprocess.run(
        [*LAUNCHER, "runtime", "gate", "-c", str(world.config)],
        input='{"type": "shutdown"}\n',
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0
    ready = json.loads(done.stdout)
    assert (ready["type"], ready["log_root"]) == ("ready", str(world.folder))
