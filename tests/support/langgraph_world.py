"""A deployment in a folder: config, journal, a real gate process, and alice, who may approve."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from langgraph.checkpoint.sqlite import SqliteSaver

from support import langgraph_launcher
from support.people import ALICE
from toolgate import jsonvalue
from toolgate.approvals.statement import Answer
from toolgate.config import load_config
from toolgate.desk import Desk
from toolgate.journal.opening import inspect_journal
from toolgate_client import GateClient

ALLOW = {"id": "all", "tools": ["*"], "effect": "allow"}
DENY = {"id": "none", "tools": ["*"], "effect": "deny", "reason": "the rule says no"}
HOLD = {
    "id": "ask",
    "tools": ["*"],
    "effect": "hold",
    "reason": "alice reads it first",
    "approval": {"approvers": ["alice"], "expires": "15m"},
}


class World:
    """One deployment. ``rules`` are its policy."""

    def __init__(self, folder: Path, *rules: dict[str, Any], **changes: Any) -> None:
        self.folder = folder
        self.config = folder / "gate.yaml"
        self.key = ALICE.key_file(folder)
        value: dict[str, Any] = {
            "project": "acme",
            "agent": {"id": "assistant", "framework": "langgraph"},
            "journal": "sqlite:///journal.db",
            "journal_key": "file:journal.key",
            "policy": {"rules": list(rules)},
            "approvals": {"approvers": [ALICE.pinned]},
        }
        self.config.write_text(json.dumps(value | changes))

    def gate(self) -> GateClient:
        """Return a client whose gate is not started yet."""
        return GateClient(self.config)

    def recorded_gate(self) -> GateClient:
        """Return such a client; its gate can be killed, and what it is sent is kept."""
        launcher = [sys.executable, langgraph_launcher.__file__, str(self.folder)]
        return GateClient(self.config, launcher=launcher)

    def kill(self) -> None:
        """Kill the recorded gate's process."""
        os.kill(int((self.folder / langgraph_launcher.PID).read_text()), signal.SIGKILL)

    def sent(self) -> str:
        """Return all that the recorded gate was sent."""
        return (self.folder / langgraph_launcher.SENT).read_text()

    def answer(self, name: str, verdict: Answer = "approve", reason: str | None = None) -> None:
        """Answer a hold as alice does: signed, through the code of the command line."""
        desk = Desk(load_config(self.config))
        try:
            desk.answer(name, verdict, "alice", self.key, reason)
        finally:
            desk.close()

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """Return the data of the journal's events, oldest first, optionally of one kind."""
        journal = inspect_journal(load_config(self.config))
        try:
            return [
                jsonvalue.parse(event.data)
                for event in journal.store.events()
                if kind in {None, event.kind}
            ]
        finally:
            journal.store.close()

    @contextmanager
    def saver(self) -> Iterator[SqliteSaver]:
        """Open the checkpoints of this deployment's graphs."""
        connection = sqlite3.connect(self.folder / "checkpoints.db", check_same_thread=False)
        try:
            yield SqliteSaver(connection)
        finally:
            connection.close()
