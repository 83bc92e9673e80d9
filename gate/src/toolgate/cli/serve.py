"""The sidecar on stdio: ``toolgate serve``, and what serves other clients as well."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Callable, Coroutine
from typing import Any

from toolgate.config import GateConfig, load_config
from toolgate.errors import ToolgateError
from toolgate.gate import Gate
from toolgate.notices import log
from toolgate.wire.codec import JSON_RPC, Codec
from toolgate.wire.stdio import StdioTransport

CANNOT_START = 2
_UNCOLLECTED = 10_000
"""Objects that may come into being, over those that go, before the collector looks at them.

A call leaves next to no garbage that only the collector finds, but some dozens of objects are alive
while it is under way: by default (700) sixteen calls at once make it look at all of them each time,
which takes a tenth of the gate's time."""


def serve(config: str, codec: Callable[[GateConfig], Codec] = lambda _: JSON_RPC) -> int:
    """Serve one client on stdin and stdout, and return the exit code.

    ``codec`` gives how the client writes its messages.

    0 when the client ended it or a signal asked for the end; 2 when the gate cannot start, which is
    said on stderr, before anything is written to stdout. SIGHUP reloads the policy document.
    """
    try:
        return _runner()(_serve(config, codec))
    except ToolgateError as error:
        log(f"cannot start: {error}")
        return CANNOT_START


async def _serve(path: str, codec: Callable[[GateConfig], Codec]) -> int:
    config = load_config(path)
    transport = StdioTransport()
    gate = Gate(config, transport, codec(config))
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, gate.stop, signal.Signals(number).name)
    if hasattr(signal, "SIGHUP"):
        loop.add_signal_handler(signal.SIGHUP, gate.reload)
    # What the gate is made of lives as long as it does: the collector need not look at it again.
    gc.freeze()
    gc.set_threshold(_UNCOLLECTED)
    gc.enable()
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
