"""``toolgate serve``: the sidecar on stdio."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from toolgate.config import load_config
from toolgate.errors import ToolgateError
from toolgate.gate import Gate, log
from toolgate.wire.stdio import StdioTransport

CANNOT_START = 2


def serve(config: str) -> int:
    """Serve one client on stdin and stdout, and return the exit code.

    0 when the client ended it or a signal asked for the end; 2 when the gate cannot start, which is
    said on stderr, before anything is written to stdout. SIGHUP reloads the policy document.
    """
    try:
        return _runner()(_serve(config))
    except ToolgateError as error:
        log(f"cannot start: {error}")
        return CANNOT_START


async def _serve(path: str) -> int:
    config = load_config(path)
    transport = StdioTransport()
    gate = Gate(config, transport)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, gate.stop, signal.Signals(number).name)
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, gate.reload)
    # What the gate is made of lives as long as it does: the collector need not look at it again.
    gc.collect()
    gc.freeze()
    serving = asyncio.ensure_future(gate.serve())
    await transport.connect(gate.peer)
    await serving
    return 0


def _runner() -> Callable[[Coroutine[Any, Any, int]], int]:
    """Return what runs the event loop: uvloop's where it exists, which halves a call's latency."""
    try:
        import uvloop
    except ImportError:
        return asyncio.run
    return uvloop.run
