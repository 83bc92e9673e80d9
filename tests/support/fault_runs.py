"""Plays one thing an agent asks for, with a fault at a named point, and finds out what came of it.

A real client and a real gate, each a process, meet the fault; then a fresh gate on the same journal
is asked for the same again, with the same idempotency key, until it has ended.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support import fault_agent, gate_nursery
from support.driver import Driver
from support.fault_agent import KEY, note
from support.people import ALICE
from toolgate.config import GateConfig, parse_config
from toolgate.desk import Desk
from toolgate.faults import VARIABLE
from toolgate.journal.opening import inspect_journal
from toolgate.journal.verify import verify

PATIENCE = 40.0
"""Seconds that one run of the agent may take; then it hangs."""
ENDED = ("succeeded", "failed", "rejected", "skipped")


def deployment() -> dict[str, Any]:
    """Return the config of every run: ``search`` and ``undo`` are allowed, ``pay`` is held."""
    return {
        "project": "p",
        "tools": {"search": {"level": 2}, "pay": {"level": 3}, "undo": {"level": 2}},
        "policy": {
            "rules": [
                {"id": "free", "tools": ["search", "undo"], "effect": "allow"},
                {"id": "state", "types": ["state_write", "assertion"], "effect": "allow"},
                {
                    "id": "money",
                    "tools": ["pay"],
                    "effect": "hold",
                    "approval": {"approvers": ["alice"], "expires": "never"},
                },
            ]
        },
        "approvals": {"approvers": [ALICE.pinned]},
        "limits": {"drain": "1s"},
    }


@dataclass
class Found:
    """What came of a run, and of what followed it."""

    stderr: str
    code: int
    paused: bool
    told: list[dict[str, Any]]
    effects: list[str]
    result: dict[str, Any]
    """The end, as the fresh gate told it: an outcome, or a proposal's result."""
    again: dict[str, Any]
    """The same, asked for once more."""
    problems: list[str] = field(default_factory=list)

    @property
    def outcomes(self) -> dict[str, dict[str, Any]]:
        """Every action's outcome in the end, by uid, as the agent notes them."""
        items = self.result.get("results", [self.result])
        return {item["uid"]: plain(item) for item in items}

    @property
    def in_doubt(self) -> int:
        """How many actions are in doubt in the end, compensations among them."""
        rollback = self.result.get("rollback") or {"compensations": []}
        kinds = [item["kind"] for item in self.outcomes.values()]
        kinds += [item.get("kind") for item in rollback["compensations"]]
        return kinds.count("in_doubt")


def plain(item: dict[str, Any]) -> dict[str, Any]:
    """Return an outcome of the wire as the agent notes what it was told."""
    error = item.get("error") or {}
    kind = item.get("kind") or (error.get("kind") if isinstance(error, dict) else None)
    return {
        "status": item["status"],
        "uid": item["uid"],
        "output": item.get("output"),
        "kind": kind,
    }


class Run:
    """One deployment in a folder of its own, and what happens in it."""

    def __init__(self, folder: Path, asked: dict[str, Any], nursery: Path) -> None:
        """``asked`` is what the agent asks for: see :mod:`support.fault_agent`."""
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.asked = asked
        self._nursery = nursery
        self._config = deployment()
        (folder / "gate.json").write_text(json.dumps(self._config))
        self._approved: set[str] = set()

    def agent(self, fault: str | None, dies: tuple[str, int] | None = None) -> tuple[int, bool]:
        """Run the agent with a fault armed; return its exit code, and whether it was paused."""
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        environment.pop(VARIABLE, None)
        pause = None
        if fault is not None and fault.endswith(":pause"):
            pause = _Pause(self.folder / "pause")
            fault = f"{fault}={pause.path}"
        if fault is not None:
            environment[VARIABLE] = fault
        asked = json.dumps({**self.asked, "dies": dies})
        process = subprocess.Popen(
            [sys.executable, fault_agent.__file__, str(self.folder), asked, str(self._nursery)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        if pause is not None:
            pause.kill_when_reached(process)
        alarm = threading.Timer(PATIENCE, process.kill)
        alarm.start()
        try:
            for line in process.stdout:
                self.approve(line.split()[1:])
                try:
                    process.stdin.write("\n")
                    process.stdin.flush()
                except OSError:
                    break
            code = process.wait(PATIENCE)
        finally:
            alarm.cancel()
            process.stdout.close()
            try:
                process.stdin.close()
            except OSError:
                pass
            paused = pause is not None and pause.close()
        self._wait_for_gate()
        return code, paused

    def approve(self, uids: list[str]) -> None:
        """Approve held actions as alice does, once each; effects show from when on it was so."""
        for uid in uids:
            if uid in self._approved:
                continue
            self._approved.add(uid)
            desk = Desk(self.config())
            try:
                view = desk.find(uid)
                note(
                    str(self.folder / "effects"), f"approved {view.hold.tool} {view.hold.args['n']}"
                )
                desk.answer(uid, "approve", "alice", ALICE.key_file(self.folder))
            finally:
                desk.close()

    def config(self) -> GateConfig:
        """Return the deployment's config."""
        return parse_config(self._config, self.folder)

    def finish(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Ask a fresh gate for the same until it has ended; return its answer, and another one."""
        return asyncio.run(self._finish(ends=True))

    def begin(self) -> None:
        """Ask a gate that then dies, once, and approve what it holds."""
        asyncio.run(self._finish(ends=False))

    async def _finish(self, *, ends: bool) -> Any:
        async with asyncio.timeout(PATIENCE), Driver(self.folder, self._config) as gate:
            for tool in self.asked["tools"]:
                await gate.tool(tool, self._body(tool))
            for _ in range(3):
                result = await self._ask(gate)
                held = [
                    item["uid"]
                    for item in result.get("results", [result])
                    if item["status"] == "held"
                ]
                self.approve(held)
                if not ends:
                    gate.die()
                    return None
                if not held:
                    return result, await self._ask(gate)
        raise AssertionError(f"it does not come to an end: {result}")

    async def _ask(self, gate: Driver) -> dict[str, Any]:
        if "tool" in self.asked:
            more = {"tool": self.asked["tool"], "args": self.asked["args"]}
            return await gate.request("govern", **more, idempotency_key=KEY)  # type: ignore[no-any-return]
        proposal = self.asked["proposal"]
        return await gate.request("propose", proposal=proposal, idempotency_key=KEY)  # type: ignore[no-any-return]

    def _body(self, tool: str) -> Any:
        def body(args: dict[str, Any]) -> Any:
            note(str(self.folder / "effects"), f"begin {tool} {args['n']}")
            note(str(self.folder / "effects"), f"end {tool} {args['n']}")
            return {"tool": tool, "n": args["n"]}

        return body

    def lines(self, name: str) -> list[str]:
        """Return the lines of a file of the run."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []

    def verifies(self) -> str | None:
        """Return what `journal verify` finds wrong."""
        journal = inspect_journal(self.config())
        try:
            problem = verify(journal.store, journal.key, lambda seen: None).problem
        finally:
            journal.store.close()
        return None if problem is None else str(problem)

    def _wait_for_gate(self) -> None:
        """Return when the gate's process has ended, which its client's death only asks for."""
        path = self.folder / "gate.pid"
        if not path.exists() or not path.read_text().strip():
            return
        try:
            fd = os.pidfd_open(int(path.read_text()))
        except ProcessLookupError:
            return
        try:
            assert select.select([fd], [], [], PATIENCE)[0], "the gate hangs"
        finally:
            os.close(fd)


@contextmanager
def nursery(folder: Path) -> Iterator[Path]:
    """Have gates started quickly, and return the socket that agents are told of."""
    path = folder / "nursery"
    process = subprocess.Popen(
        [sys.executable, gate_nursery.__file__, "serve-from", str(path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        yield path


class _Pause:
    """A socket that a paused gate tells where it stands; its client is killed, then it goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._reached = False
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(1)
        self._thread: threading.Thread | None = None

    def kill_when_reached(self, process: subprocess.Popen[str]) -> None:
        def wait() -> None:
            try:
                other, _ = self._listener.accept()
            except OSError:
                return
            with other:
                self._reached = bool(other.recv(100))
                process.kill()
                process.wait(PATIENCE)

        self._thread = threading.Thread(target=wait)
        self._thread.start()

    def close(self) -> bool:
        """Wait no longer, and tell whether the gate came there."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        if self._thread is not None:
            self._thread.join(PATIENCE)
        return self._reached


def play(
    folder: Path,
    asked: dict[str, Any],
    fault: str | None,
    nursery: Path,
    *,
    dies: tuple[str, int] | None = None,
    later: bool = False,
) -> Found:
    """Run the agent with a fault, ask a fresh gate for the end, and look for what went wrong.

    With ``later``, a gate before it was asked already, and what that held is approved.
    """
    run = Run(folder, asked, nursery)
    if later:
        run.begin()
    code, paused = run.agent(fault, dies)
    result, again = run.finish()
    found = Found(
        "\n".join(run.lines("gate.err")),
        code,
        paused,
        [json.loads(line) for line in run.lines("told")],
        run.lines("effects"),
        result,
        again,
    )
    found.problems = [*_wrong(found), *filter(None, [run.verifies()])]
    return found


def _wrong(found: Found) -> list[str]:
    """Return every promise that was broken."""
    wrong = []
    counted = Counter(found.effects)
    for line, times in counted.items():
        if times > 1:
            wrong.append(f"happened {times} times: {line}")
    for place, line in enumerate(found.effects):
        what = line.split()
        if what[:2] == ["begin", "pay"] and f"approved pay {what[2]}" not in found.effects[:place]:
            wrong.append(f"ran without an approval: {line}")
    outcomes = found.outcomes
    for told in found.told:
        # In doubt is not settled: what the body did may show later.
        if told.get("status") not in ENDED or told["kind"] == "in_doubt":
            continue
        if outcomes.get(told["uid"]) != told:
            wrong.append(f"told {told}, and later {outcomes.get(told['uid'])}")
    for uid, item in outcomes.items():
        if item["status"] not in ENDED:
            wrong.append(f"{uid} has no end: {item}")
        output = item["output"]
        if isinstance(output, dict) and "tool" in output:
            line = f"end {output['tool']} {output['n']}"
            if counted[line] != 1:
                wrong.append(f"{uid} succeeded, and its body ended {counted[line]} times")
    again = {item["uid"]: plain(item) for item in found.again.get("results", [found.again])}
    if again != outcomes:
        wrong.append(f"told {outcomes}, and asked again {again}")
    return wrong
