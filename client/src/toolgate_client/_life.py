"""The beginning and the end of a started gate, as a thread lives through them."""

from __future__ import annotations

import time

from toolgate_client import _protocol, _requests, _threads
from toolgate_client._errors import GateError, GateStartError
from toolgate_client._exchange import Waiter
from toolgate_client._gate import how_it_ended, what_it_printed
from toolgate_client._transport import shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from toolgate_client._gate import Gate

_DRAIN_GRACE = 6.0
"""How much longer than it drains the gate may take to say that it has, in seconds."""
_RELEASE_GRACE = 2.0
"""How long a thread or a loop may take to notice that the gate has ended, in seconds. A descriptor
that is still read is left open rather than closed under its reader."""


def wait_until_ready(gate: Gate, command: Sequence[str], timeout: float) -> Mapping[str, Any]:
    """Return what the gate says when it is ready; ``timeout`` is in seconds.

    Raises :class:`GateStartError`, the gate being ended, when it does not say so.
    """
    greeting = _greeting(gate, time.monotonic() + timeout)
    if greeting is not None and greeting.get("protocol") == _protocol.PROTOCOL:
        limits = greeting.get("limits")
        if isinstance(limits, dict):
            gate.core.max_message_bytes = limits.get("max_message_bytes")
            gate.drain = limits.get("drain_ms", gate.drain * 1000) / 1000
            gate.concurrency = limits.get("max_concurrency", gate.concurrency)
        return greeting
    if greeting is not None:
        problem = (
            f"the gate speaks protocol {greeting.get('protocol')!r}, this client "
            f"{_protocol.PROTOCOL!r}: upgrade the older of toolgate and toolgate-client"
        )
    elif gate.core.ended:
        problem = f"the gate ended before it was ready ({how_it_ended(gate.exit_code)})"
    else:
        problem = f"the gate was not ready within {timeout:g} s"
    gate.process.stop(grace=0.0)
    stderr = gate.process.stderr.tail()
    strays = "".join(f"\n{text}" for _, _, text in gate.core.notices)
    raise GateStartError(
        f"{problem} (command: {shown(command)}){what_it_printed(stderr)}{strays}",
        exit_code=gate.exit_code,
        stderr=stderr,
    )


def stop(gate: Gate) -> None:
    """Ask the gate to shut down, let its calls end, and end it in any case. May be called again."""
    gate.closing = True
    try:
        if not gate.core.ended:
            deadline = time.monotonic() + gate.drain + _DRAIN_GRACE
            _threads.do_by(gate, _requests.shutdown(), deadline)
    except (GateError, TimeoutError):
        pass  # it is gone or does not answer: ended below all the same
    finally:
        gate.exit_code = gate.process.stop()
        gate.core.end()
        _release(gate)


def _greeting(gate: Gate, deadline: float) -> Mapping[str, Any] | None:
    box = Waiter()
    try:
        gate.core.expect_greeting(box)
        gate.exchange.wait(box, deadline)
    finally:
        gate.exchange.leave(box)
    params = None if box.response is None else box.response["result"]
    return params if isinstance(params, dict) else None


def _release(gate: Gate) -> None:
    """Close the pipes, once nobody reads or writes them any more."""
    exchange, deadline = gate.exchange, time.monotonic() + _RELEASE_GRACE
    idle = exchange.close_ports(deadline)
    roles = (exchange.seize(role, gate.undertaker, deadline) for role in ("reader", "writer"))
    if all(roles) and idle:
        gate.process.release()
