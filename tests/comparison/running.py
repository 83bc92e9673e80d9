"""Runs programs of cases in processes of their own, and does what approvers do in them."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comparison.hooks import LODESTAR, RAW, TOOLGATE
from support import langgraph_launcher
from support.crewai_world import LAUNCHER, PYTHON, ROOT, environment
from support.langgraph_world import ALLOW, DENY, HOLD, World
from support.people import ALICE, BOB
from toolgate.config import load_config
from toolgate.desk import Desk
from toolgate.errors import ApprovalError, JournalError
from toolgate.kernel.holds import HoldView

PEOPLE = {"alice": ALICE, "bob": BOB}


@dataclass(frozen=True)
class Program:
    """A program of cases, and the interpreter that has its framework."""

    module: str
    python: Path


PROGRAMS = {
    "langgraph": Program("comparison.langgraph_cases", Path(sys.executable)),
    "pauses": Program("comparison.pauses_cases", Path(sys.executable)),
    "crewai": Program("comparison.crewai_cases", PYTHON),
    "autogen": Program("comparison.autogen_cases", Path(sys.executable)),
}
ADAPTERS = ("langgraph", "crewai", "autogen")


def world(folder: Path) -> World:
    """A deployment that allows everything but what is forbidden, and what somebody has to pay."""
    folder.mkdir(parents=True)
    free = 'tool.name.startsWith("pay") || tool.name.startsWith("forbidden")'
    both = {"approvers": ["alice", "bob"], "quorum": 2}
    return World(
        folder,
        {**ALLOW, "unless": free},
        {**DENY, "tools": ["forbidden*"]},
        {**DENY, "id": "cap", "tools": ["pay_capped"], "when": "args.amount > 500"},
        {**HOLD, "tools": ["pay*"], "approval": {"approvers": ["alice"], "edit": True}},
        {**DENY, "id": "tens", "tools": ["check_amount"], "when": "args.amount == 10"},
        {**DENY, "id": "read", "tools": ["check_labels"], "when": '"untrusted" in session.labels'},
        {**HOLD, "id": "two", "tools": ["pay_two*"], "approval": both},
        {**HOLD, "id": "soon", "tools": ["pay_soon*"], "approval": {"expires": "200ms"}},
        approvals={"approvers": [ALICE.pinned, BOB.pinned]},
        agent={"id": "agent", "framework": "compared"},
    )


@dataclass(frozen=True)
class Ran:
    """What a process has seen: its cases, the times it measured (µs), the versions of what ran."""

    cases: list[dict[str, Any]]
    times: list[dict[str, Any]]
    versions: dict[str, str]


def run(which: str, folder: Path, *titles: str, time: bool = False, bound: float = 200.0) -> Ran:
    """Run the cases of a program (or those of these titles), or measure its times.

    Raises ``RuntimeError`` when it does not come to its end within ``bound`` seconds.
    """
    program = PROGRAMS[which]
    configs = {name: str(world(folder / name).config) for name in (RAW, LODESTAR, TOOLGATE)}
    settings = {
        "configs": configs,
        "launcher": LAUNCHER,
        "recorder": langgraph_launcher.__file__,
        "time": time,
    }
    errors = folder / "stderr"
    with errors.open("w") as stderr:
        process = subprocess.Popen(
            [str(program.python), "-m", program.module, json.dumps(settings), *titles],
            env=environment(folder, [ROOT / "adapters" / name / "src" for name in ADAPTERS]),
            cwd=folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
        )
    late = threading.Timer(bound, process.kill)
    late.start()
    try:
        ran = _attend(process)
    finally:
        late.cancel()
        process.kill()
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
    if ran is None:
        raise RuntimeError(
            f"{program.module} has not come to its end:\n{errors.read_text()[-4000:]}"
        )
    return ran


def _attend(process: subprocess.Popen[str]) -> Ran | None:
    """Answer a process until it is done; ``None``: it ended otherwise."""
    assert process.stdin is not None
    assert process.stdout is not None
    cases, times = [], []
    for line in process.stdout:
        word, _, text = line.partition(" ")
        told = json.loads(text)
        if word == "DONE":
            return Ran(cases, times, **told)
        if word == "DESK":
            process.stdin.write(json.dumps(_act(**told)) + "\n")
            process.stdin.flush()
        else:
            (cases if word == "CASE" else times).append(told)
    return None


def _act(config: str, does: str, tool: str, **answer: Any) -> Any:
    """Do what a case asks of its people."""
    held = _held(config, tool)
    if does == "pending":
        return len(held)
    try:
        for view in held:
            _answer(config, view, **answer)
    except ApprovalError as error:
        return f"refused: {error}"
    return "answered"


_config = functools.cache(load_config)


def _held(config: str, tool: str) -> Sequence[HoldView]:
    try:
        desk = Desk(_config(Path(config)))
    except JournalError:  # a gate is about to make its journal
        return []
    try:
        views = [view for view in desk.holds() if isinstance(view, HoldView)]
    finally:
        desk.close()
    return [view for view in views if view.hold.tool == tool]


def _answer(
    config: str, view: HoldView, verdict: Any, who: str = "alice", amount: int | None = None
) -> None:
    desk = Desk(_config(Path(config)))
    key = Path(config).parent / f"{who}.key"
    if not key.exists():
        PEOPLE[who].key_file(key.parent)
    edited = None if amount is None else {**view.hold.args, "amount": amount}
    try:
        desk.answer(view.hold.hold_id, verdict, who, key, "because", args=edited)
    finally:
        desk.close()
