"""The ways to have tools, raw or governed, and the people who answer what is held.

It knows no framework.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

PATIENCE = 20.0
"""Seconds that a case waits for what must happen."""
SETTLED = 1.5
"""Seconds without another call after which no more are expected."""
LOOKS = 0.02
"""Seconds between two looks at what is held."""
PAUSE = threading.Event()
"""Never set: something to wait for."""

RAW, LODESTAR, TOOLGATE = "raw", "Lodestar", "Toolgate"


class Governs(Protocol):
    """How a framework's tools are governed by a client, whoever's."""

    def __call__(self, client: Any, tools: list[Any], **options: Any) -> list[Any]:
        """Return the tools governed."""


class People:
    """The approvers, who are in the process that started this one."""

    def __init__(self, asked: int, answers: int) -> None:
        """``asked`` and ``answers`` are file descriptors."""
        self._asked = os.fdopen(asked, "w", encoding="utf-8")
        self._answers = os.fdopen(answers, encoding="utf-8")
        self._lock = threading.Lock()

    def tell(self, word: str, **what: Any) -> None:
        """Say something that nobody answers."""
        print(word, json.dumps(what), file=self._asked, flush=True)

    def ask(self, **what: Any) -> Any:
        """Have something done, and return what comes of it."""
        with self._lock:
            self.tell("DESK", **what)
            return json.loads(self._answers.readline())


@dataclass
class Hook:
    """A way to have tools: raw, or governed by somebody's hook on a deployment of its own."""

    name: str
    people: People
    config: Path
    launcher: list[str]
    recorder: Path
    connect: Callable[[Path, list[str]], Any] | None = None
    governs: Governs | None = None
    calls: Callable[..., Any] | None = None
    binds: Callable[..., Any] | None = None
    client: Any = field(default=None, init=False)

    @property
    def folder(self) -> Path:
        """Where the deployment is."""
        return self.config.parent

    @contextmanager
    def open(self, *, recorded: bool = True) -> Iterator[None]:
        """Start the gate; what it is sent is recorded unless its speed is what matters."""
        if self.connect is None:
            yield
            return
        python, *_ = self.launcher
        recording = [python, str(self.recorder), str(self.folder)]
        self.client = self.connect(self.config, recording if recorded else self.launcher)
        with self.client:
            yield

    @contextmanager
    def another(self) -> Iterator[Hook]:
        """Start another gate of the same policy, with a journal of its own."""
        folder = Path(tempfile.mkdtemp(dir=self.folder))
        config = Path(shutil.copy(self.config, folder))
        made = Hook(
            self.name, self.people, config, self.launcher, self.recorder, self.connect,
            self.governs, self.calls, self.binds,
        )  # fmt: skip
        with made.open():
            yield made

    def govern(
        self, tools: list[Any], *, patience: float | None = None, **options: Any
    ) -> list[Any]:
        """Return tools as this hook has them. ``patience`` bounds the wait for people (0: none)."""
        if self.governs is None:
            return tools
        if patience is not None:
            lodestars = {"hold_wait_ms": int(patience * 1000)}
            ours = {"hold_timeout": patience} if patience else {"hold": "return"}
            options |= lodestars if self.name == LODESTAR else ours
        return self.governs(self.client, tools, **options)

    def call(self, name: str, args: dict[str, Any]) -> Any:
        """Make one governed call, as own code does."""
        assert self.calls is not None
        return self.calls(self.client, name, args)

    # --- what the gate has been sent

    def sent(self) -> str:
        """Return all that the gate has been sent."""
        path = self.folder / "sent.jsonl"
        return path.read_text() if path.exists() else ""

    def proposed(self, tool: str) -> int:
        """Return how many calls of a tool the gate has been asked about."""
        calls = [json.loads(line) for line in self.sent().splitlines()]
        return sum(
            (each.get("type") == "govern" and each["tool"] == tool)
            or (each.get("method") == "govern" and each["params"]["tool"] == tool)
            for each in calls
        )

    # --- what people do

    def all_held(self, tool: str, count: int) -> int:
        """Wait until so many calls of a tool are held or no more come; return how many are."""
        before, since = -1, time.monotonic()
        while (now := self.pending(tool)) < count and time.monotonic() < since + SETTLED:
            if now != before:
                before, since = now, time.monotonic()
            PAUSE.wait(LOOKS)
        return now

    def pending(self, tool: str) -> int:
        """Return how many calls of a tool are held at this moment."""
        return int(self._people("pending", tool))

    def held(self, tool: str, count: int = 1, unless: Callable[[], bool] = bool) -> int:
        """Wait until so many calls of a tool are held; return how many are.

        It waits no longer than PATIENCE, and no longer once ``unless`` is true.
        """
        latest = time.monotonic() + PATIENCE
        while (now := self.pending(tool)) < count and time.monotonic() < latest and not unless():
            PAUSE.wait(LOOKS)
        return now

    def answer(
        self, tool: str, verdict: str = "approve", *, unless: Callable[[], bool] = bool, **more: Any
    ) -> str:
        """Wait until a call of a tool is held, and answer it; return what comes of that."""
        if not self.held(tool, unless=unless):
            return "nothing is held"
        return str(self._people("answer", tool, verdict=verdict, **more))

    def end(self, tool: str) -> None:
        """Deny all calls of a tool that are held at this moment."""
        self._people("answer", tool, verdict="deny")

    @contextmanager
    def answering(self, tool: str, verdict: str = "approve", **more: Any) -> Iterator[None]:
        """Have a tool's held call answered while something else goes on."""
        over = threading.Event()
        thread = threading.Thread(
            target=self.answer, args=(tool, verdict), kwargs={"unless": over.is_set, **more}
        )
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join(PATIENCE)

    def _people(self, does: str, tool: str, **what: Any) -> Any:
        return self.people.ask(config=str(self.config), does=does, tool=tool, **what)


def three_hooks(people: People, settings: dict[str, Any], framework: str) -> list[Hook]:
    """Return the three ways to have a framework's tools."""
    lodestars = import_module("lodestar_runtime_client").GateClient
    ours = import_module("toolgate_client").GateClient

    def connect(config: Path, launcher: list[str]) -> Any:
        return lodestars(str(config), launcher=launcher)

    def connect_ours(config: Path, launcher: list[str]) -> Any:
        return ours(config, launcher=launcher)

    def made(name: str, connects: Any = None, package: Any = None) -> Hook:
        return Hook(
            name,
            people,
            Path(settings["configs"][name]),
            settings["launcher"],
            Path(settings["recorder"]),
            connects,
            getattr(package, "govern_tools", None),
            getattr(package, "governed_call", None),
            getattr(package, "bind", None),
        )

    return [
        made(RAW),
        made(LODESTAR, connect, import_module(f"lodestar_{framework}")),
        made(TOOLGATE, connect_ours, import_module(f"toolgate_{framework}")),
    ]
