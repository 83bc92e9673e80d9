"""A deployment for the published clients of Lodestar, which start `toolgate runtime gate`."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lodestar_runtime_client import GateClient

from support.people import ALICE
from toolgate.approvals.statement import Answer
from toolgate.config import load_config
from toolgate.desk import Desk
from toolgate.errors import JournalError
from toolgate.kernel.holds import HoldView

LAUNCHER = [sys.executable, "-m", "toolgate"]
PATIENCE = 20.0
"""Seconds a test waits for what must happen, before it fails."""
LONG_PATIENCE = 40.0
"""The same for an agent that has to start first."""

CONFIG: dict[str, Any] = {
    "project": "acme",
    "journal": "sqlite:///journal.db",
    "journal_key": "file:journal.key",
    "tools": {
        "search": {"level": 1},
        "fetch": {"level": 1},
        "send": {"level": 2},
        "pay": {"level": 4},
        "shell": {"level": 3},
    },
    "policy": {
        "allow_up_to": 1,
        "rules": [
            {
                "id": "quiet",
                "tools": ["send"],
                "when": '"untrusted" in session.labels',
                "effect": "deny",
                "reason": "it has read what strangers wrote",
            },
            {"id": "mail", "tools": ["send"], "effect": "allow"},
            {"id": "no-shell", "tools": ["shell"], "effect": "deny", "reason": "no shell"},
        ],
    },
    "approvals": {"approvers": [ALICE.pinned]},
}


class World:
    """One deployment: pay is held for alice, shell is denied, the rest is allowed."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.config = folder / "gate.json"
        self.key = ALICE.key_file(folder)
        self.config.write_text(json.dumps(CONFIG | changes))

    @contextmanager
    def gate(self, launcher: list[str] = LAUNCHER) -> Iterator[GateClient]:
        """Start the published client, and close what it leaves open when it is done."""
        client = GateClient(str(self.config), launcher=launcher)
        try:
            with client:
                yield client
        finally:
            client._reader.join(PATIENCE)
            client._proc.wait(PATIENCE)
            for pipe in (client._proc.stdin, client._proc.stdout):
                close_pipe(pipe)
            gc.collect()

    def approve(self, hold: str) -> str:
        """Approve a hold with the command, as alice does; return what it says."""
        return self.toolgate(
            *("approvals", "approve", hold, "--as", "alice", "--key", str(self.key))
        )

    def answer(self, hold: str, verdict: Answer = "approve") -> None:
        """Answer a hold through the code of the command."""
        desk = Desk(load_config(self.config))
        try:
            desk.answer(hold, verdict, "alice", self.key)
        finally:
            desk.close()

    def toolgate(self, *arguments: str) -> str:
        """Run a command about this deployment and return what it prints."""
        done = subprocess.run(
            [*LAUNCHER, *arguments, "--config", str(self.config)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def pending(self) -> str:
        """Return the id of the one pending hold, once there is a journal and a hold in it."""
        deadline = time.monotonic() + LONG_PATIENCE
        pause = threading.Event()
        while time.monotonic() < deadline:
            for hold in self._pending():
                return hold
            pause.wait(0.05)
        raise AssertionError("nothing is held")

    def _pending(self) -> list[str]:
        try:
            desk = Desk(load_config(self.config))
        except JournalError:  # a gate is about to make its journal
            return []
        try:
            return [view.hold.hold_id for view in desk.holds() if isinstance(view, HoldView)]
        finally:
            desk.close()


def close_pipe(pipe: Any) -> None:
    """Close a pipe that the client has left open; what it could not write any more is lost."""
    try:
        pipe.close()
    except BrokenPipeError:
        pass
