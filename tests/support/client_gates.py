"""Clients of the scripted gate, and threads whose results and errors are waited for."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolgate_client import GateClient

FAKE_GATE = Path(__file__).with_name("fake_gate.py")
LAUNCHER = [sys.executable, str(FAKE_GATE)]
CLIENT_SOURCE = Path(sys.modules["toolgate_client"].__file__ or "").parent.parent
PATIENCE = 20.0
"""How long a test waits for what must happen, in seconds, before it fails."""


def fake_gate(*, start_timeout: float = 30.0, encoder: Any = None, **config: Any) -> GateClient:
    """A client of the scripted gate; ``fake`` and everything else goes into its config."""
    return GateClient(config, launcher=LAUNCHER, start_timeout=start_timeout, encoder=encoder)


def received(gate: GateClient, method: str | None = None) -> list[dict[str, Any]]:
    """Every message the scripted gate has received, or those of one method."""
    messages: list[dict[str, Any]] = gate.govern("record", {}).output
    return [message for message in messages if method is None or message.get("method") == method]


class Background:
    """A function that runs in a thread of its own."""

    def __init__(self, function: Callable[[], Any]) -> None:
        self._function = function
        self._value: Any = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._value = self._function()
        except BaseException as error:  # noqa: BLE001 - the thread that asks raises it
            self._error = error

    def result(self) -> Any:
        """What the function returned; raises what it raised."""
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive(), "it has not ended in time"
        if self._error is not None:
            raise self._error
        return self._value


def workers_end() -> bool:
    """Whether the threads that ran bodies of proposals end, in time."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        workers = [each for each in threading.enumerate() if each.name.startswith("toolgate-body")]
        if not workers:
            return True
        for worker in workers:
            try:
                worker.join(0.1)
            except RuntimeError:
                os.sched_yield()  # it is just being started
    return False


def open_files() -> set[str]:
    """The descriptors this process has open."""
    return set(os.listdir("/proc/self/fd"))
