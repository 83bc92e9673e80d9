"""A deployment for CrewAI's processes, which have an environment of their own, and who answers."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from support.langgraph_world import ALLOW, DENY, HOLD, World
from toolgate.config import load_config
from toolgate.desk import Desk
from toolgate.errors import ApprovalError, JournalError
from toolgate.kernel.holds import HoldView

ROOT = Path(__file__).resolve().parents[2]
PYTHON = Path(sys.prefix, "crewai", "bin", "python")
CASES = Path(__file__).with_name("crewai_cases.py")
OLDEST = PYTHON.parents[1] / "oldest"
"""The oldest CrewAI that is supported, over the same environment."""
LAUNCHER = [sys.executable, "-m", "toolgate"]
SOURCES = [ROOT / "client" / "src", ROOT / "adapters" / "crewai" / "src", ROOT / "tests"]
NEEDS_CREWAI = pytest.mark.skipif(
    not (PYTHON.exists() and OLDEST.exists()),
    reason="CrewAI cannot be installed beside the packages of constraints.txt; `make test` gives "
    "it an environment of its own",
)
LOOKS = 0.02
"""How long an approver does something else before the next look, in seconds."""


def world(folder: Path, framework: str = "crewai") -> World:
    """A deployment that holds payments, denies what is forbidden, and allows the rest.

    Its gate takes messages of 64 KiB.
    """
    free = 'tool.name.startsWith("pay") || tool.name.startsWith("forbidden")'
    return World(
        folder,
        {**ALLOW, "unless": free},
        {**DENY, "tools": ["forbidden*"]},
        {**HOLD, "tools": ["pay*"], "approval": {"approvers": ["alice"], "edit": True}},
        agent={"id": "crew", "framework": framework},
        limits={"max_message_bytes": 65_536},
    )


def _case_names() -> list[str]:
    names = []
    for kind, name in re.findall(
        r'^@(case|in_loops)\(\s*"([^"]+)"', CASES.read_text(), re.MULTILINE
    ):
        names += [name] if kind == "case" else [f"{name}, native", f"{name}, ReAct"]
    return names


CASE_NAMES = _case_names()
"""The names of all cases, read without CrewAI."""


def environment(folder: Path, libraries: Sequence[Path] = ()) -> dict[str, str]:
    """What a CrewAI process needs, so that it talks to nobody and writes into ``folder`` only."""
    nowhere = "http://127.0.0.1:9"
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(map(str, [*libraries, *SOURCES])),
        "HOME": str(folder),
        "TMPDIR": str(folder),
        "CREWAI_DISABLE_TELEMETRY": "true",
        "CREWAI_DISABLE_TRACKING": "true",
        "CREWAI_DISABLE_VERSION_CHECK": "true",
        "CREWAI_TESTING": "true",
        "CREWAI_TRACING_ENABLED": "false",
        "OTEL_SDK_DISABLED": "true",
        "HTTP_PROXY": nowhere,
        "HTTPS_PROXY": nowhere,
    }


def run_cases(
    deployment: World, *names: str, libraries: Sequence[Path] = (), bound: float = 200.0
) -> list[dict[str, Any]]:
    """Run the matrix's cases (or those of these names), while somebody answers what is held."""
    with answering(deployment):
        done = subprocess.run(
            [str(PYTHON), str(CASES), str(deployment.config), json.dumps(LAUNCHER), *names],
            env=environment(deployment.folder, libraries),
            cwd=deployment.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=bound,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    lines = done.stdout.splitlines()
    return [json.loads(line[5:]) for line in lines if line.startswith("CASE ")]


@contextmanager
def answering(deployment: World) -> Iterator[None]:
    """Answer holds as alice does: by the tool's name."""
    over = threading.Event()

    def answer() -> None:
        while not over.wait(LOOKS):
            try:
                desk = Desk(load_config(deployment.config))
            except JournalError:  # a gate is about to make its journal
                continue
            try:
                for view in list(desk.holds()):
                    # One that was answered before may be released since it was listed.
                    with suppress(ApprovalError):
                        if isinstance(view, HoldView):
                            _decide(desk, view, deployment.key)
            finally:
                desk.close()

    approver = threading.Thread(target=answer, daemon=True)
    approver.start()
    try:
        yield
    finally:
        over.set()
        approver.join(20.0)


def _decide(desk: Desk, view: HoldView, key: Path) -> None:
    hold = view.hold
    if hold.tool.startswith("pay_no"):
        desk.answer(hold.hold_id, "deny", "alice", key, "too much")
    elif hold.tool.startswith("pay_less"):
        desk.answer(hold.hold_id, "approve", "alice", key, args={**hold.args, "amount": 5})
    elif not hold.tool.startswith("pay_late"):
        desk.answer(hold.hold_id, "approve", "alice", key)
