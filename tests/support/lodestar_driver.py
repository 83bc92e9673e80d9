"""Drives the real gate through the Lodestar dialect, without a process."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.people import Person
from toolgate.config import parse_config
from toolgate.desk import Desk
from toolgate.gate import Gate
from toolgate.wire.lodestar import Lodestar
from toolgate.wire.memory import MemoryTransport

Message = dict[str, Any]


class LodestarDriver:
    """A client that answers nothing by itself; :attr:`transport` has all that the gate sends."""

    def __init__(self, folder: Path, config: Message) -> None:
        """``folder`` is where the config's relative paths start."""
        self.config = parse_config(config, folder)
        self.transport = MemoryTransport()
        self._ids = itertools.count(1)

    async def __aenter__(self) -> Self:
        self.gate = Gate(self.config, self.transport, Lodestar("/logs"))
        self.transport.connect(self.gate.peer)
        self.serving = asyncio.ensure_future(self.gate.serve())
        self.ready = await self.next()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self.serving.done():
            self.transport.end()
            await self.serving

    def feed(self, line: bytes) -> None:
        """Send a line as it is."""
        self.transport.feed(line + b"\n")

    def send(self, kind: str, **keys: Any) -> int:
        """Send a message with the next id, last as the published clients write it."""
        id = next(self._ids)
        self.feed(json.dumps({"type": kind, **keys, "id": id}).encode())
        return id

    def answer(self, run: Message, output: Any, **more: Any) -> None:
        """Answer a run; ``more`` is what the message says besides."""
        result = {"type": "tool_result", "id": run["id"], "output": output, "documents": []}
        self.feed(json.dumps(result | more).encode())

    async def next(self) -> Message:
        """Return the next message of the gate."""
        return await self.transport.sent.get()

    async def ask(self, kind: str, **keys: Any) -> Message:
        """Send a request and return the next message."""
        id = self.send(kind, **keys)
        message = await self.next()
        assert message.get("id") == id or message["type"] == "run_tool", message
        return message

    async def govern(self, tool: str, args: Message | None = None) -> Message:
        """Propose a call and return the next message."""
        return await self.ask("govern", tool=tool, args=args or {})

    async def resume(self, held: Message, **keys: Any) -> Message:
        """Resume a held call and return the next message."""
        named = {"action_id": held["action_id"], "request_id": held["request_id"]}
        return await self.ask("resume", **named, **keys)

    def approve(self, name: str, person: Person, folder: Path, verdict: Any = "approve") -> None:
        """Answer a hold as the command does."""
        desk = Desk(self.config)
        try:
            desk.answer(name, verdict, person.id, person.key_file(folder), "because")
        finally:
            desk.close()
