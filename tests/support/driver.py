"""Drives the real gate through its in-memory transport: everything but the process is real."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from support.people import Person
from toolgate.config import parse_config
from toolgate.desk import Desk
from toolgate.gate import Gate
from toolgate.wire import messages
from toolgate.wire.memory import MemoryTransport
from toolgate.wire.messages import RPCError

Body = Callable[[dict[str, Any]], Any]


class Driver:
    """A client without a process; bodies given to :meth:`tool` answer ``run_tool`` alone."""

    def __init__(self, folder: Path, config: dict[str, Any]) -> None:
        """``folder`` is where the config's relative paths start."""
        self.config = parse_config(config, folder)
        self.ran: list[tuple[str, dict[str, Any]]] = []
        self.runs: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.notes: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.unmatched: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.transport = MemoryTransport()
        self._bodies: dict[str, Body | None] = {}
        self._ids = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._dead = False

    async def __aenter__(self) -> Self:
        self.gate = Gate(self.config, self.transport)
        self.transport.connect(self.gate.peer)
        self.serving = asyncio.ensure_future(self.gate.serve())
        self.ready = (await self.transport.sent.get())["params"]
        self._pump = asyncio.ensure_future(self._read())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._dead and not self.serving.done():
            self.transport.end()
            await self.serving
        self._pump.cancel()

    def die(self) -> None:
        """Stop as a killed process does: nothing more is written, locks fall."""
        self._dead = True
        self.serving.cancel()
        self._pump.cancel()
        for task in (*self.gate.peer.serving, *self.gate._tasks):
            task.cancel()
        self.gate.runtime._journal.close()

    async def tool(self, name: str, body: Body | None = None, **declared: Any) -> dict[str, Any]:
        """Register a tool. Without a body its runs go to :attr:`runs`, to be answered by hand."""
        self._bodies[name] = body
        result: dict[str, Any] = await self.request("register_tool", name=name, **declared)
        return result

    def send(self, method: str, **params: Any) -> asyncio.Future[Any]:
        """Send a request and return the future of its result."""
        identifier = next(self._ids)
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        future.identifier = identifier  # type: ignore[attr-defined]
        self._waiting[identifier] = future
        self.transport.feed(messages.request(identifier, method, params))
        return future

    async def request(self, method: str, **params: Any) -> Any:
        """Send a request and return its result; raises :class:`RPCError`."""
        return await self.send(method, **params)

    async def govern(self, tool: str, args: dict[str, Any] | None = None, **more: Any) -> Any:
        """Govern one call and return its outcome."""
        return await self.request("govern", tool=tool, args=args or {}, **more)

    def cancel(self, request: asyncio.Future[Any]) -> None:
        """Tell the gate that nobody waits for a request any more."""
        params = {"id": request.identifier}  # type: ignore[attr-defined]
        self.transport.feed(messages.notification("cancel", params))

    def answer(self, run: dict[str, Any], output: Any, **more: Any) -> None:
        """Answer a run by hand; ``more`` is what the reply says besides, such as documents."""
        self.transport.feed(messages.result(run["id"], {"output": output, **more}))

    def suspend(self, run: dict[str, Any], **more: Any) -> None:
        """Answer a run by hand: its body has stopped itself, to be entered again."""
        self.transport.feed(messages.result(run["id"], {"suspended": True, **more}))

    def fail(self, run: dict[str, Any], message: str, kind: str = "ValueError") -> None:
        """Answer a run by hand with an error."""
        error = RPCError(-32000, message, {"type": kind, "message": message})
        self.transport.feed(messages.error(run["id"], error))

    def approve(self, name: str, person: Person, folder: Path, verdict: Any = "approve") -> None:
        """Answer a hold as the command does."""
        desk = Desk(self.config)
        try:
            desk.answer(name, verdict, person.id, person.key_file(folder), "because")
        finally:
            desk.close()

    async def _read(self) -> None:
        while True:
            message = await self.transport.sent.get()
            if message.get("method") == "run_tool":
                self._run(message)
            elif "method" in message:
                self.notes.put_nowait(message)
            else:
                self._reply(message)

    def _run(self, message: dict[str, Any]) -> None:
        params = message["params"]
        body = self._bodies.get(params["tool"])
        self.ran.append((params["tool"], params["args"]))
        if body is None:
            self.runs.put_nowait(message)
        else:
            self.answer(message, body(params["args"]))

    def _reply(self, message: dict[str, Any]) -> None:
        future = self._waiting.pop(message["id"], None)
        if future is None:
            self.unmatched.put_nowait(message)
        elif "error" in message:
            error = message["error"]
            future.set_exception(RPCError(error["code"], error["message"], error.get("data")))
        else:
            future.set_result(message["result"])
