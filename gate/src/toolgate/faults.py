"""Faults at named points, for tests: the process dies there, or stands still, or its store fails.

One environment variable asks for one fault (:data:`VARIABLE`, ``POINT[@N]:ACTION``): when the
process comes to the point for the N-th time, the action happens. The rules:

1. It is read once, when the command starts (:func:`arm`), from the environment alone: no message,
   no config, no policy and nothing in the store can ask for a fault, or add one.
2. What does not name a point and an action keeps the command from starting.
3. An armed process says so on stderr, and a gate in the warnings of ``ready`` as well.
4. A fault only takes away: it ends or delays the process, or makes the store refuse. Nothing runs
   on its account that would not run without it.

Unarmed, a point costs one call of a function that looks at one variable.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import sys
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from toolgate.errors import ToolgateError

VARIABLE: Final = "TOOLGATE_FAULT"
"""The environment variable that asks for a fault."""
PAUSE_PATIENCE: Final = 30.0
"""Seconds that a paused process waits at most for the other end of its socket to close."""

POINTS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "start.migrating": "the store's tables are made or changed, not committed",
        "start.migrated": "the store has this program's schema",
        "anchor.made": "the journal's anchor is made, the journal does not know of it",
        "run.started": "`run.started` is written, not committed",
        "run.committed": "the run is in the journal",
        "request.read": "a request is read, nothing is done about it",
        "arguments.unchecked": "a call's arguments are about to be checked",
        "arguments.checked": "they are checked; the journal knows nothing of the call",
        "transaction.begun": "a transaction has the store's write lock, nothing is written",
        "transaction.written": "everything of a transaction is written, not committed",
        "transaction.committed": "a transaction is durable, nobody is told of it",
        "call.claimed": "the rows of an allowed call that is to run are written, not committed",
        "run_tool.unsent": "a body's claim is durable, the client is not asked to run it",
        "run_tool.sent": "`run_tool` is given to the transport",
        "result.read": "the body's result is read, nothing is written of it",
        "end.written": "how an action ended is written, not committed",
        "end.committed": "how an action ended is durable, its caller is not told",
        "reply.written": "a reply is given to the transport",
        "hold.opened": "a hold is written, not committed",
        "hold.committed": "a hold is durable, its caller is not told",
        "resume.read": "a resume is read, nothing is done about it",
        "hold.judged": "the answers to a hold are judged, nothing is written of it",
        "hold.claimed": "an approved action is claimed, not committed",
        "proposal.received": "a proposal is written, not committed",
        "proposal.started": "a proposal is durable, none of its actions has started",
        "proposal.between": "an action of a proposal has come to stand, the next has not started",
        "proposal.suspended": "the suspension of a proposal is written, not committed",
        "proposal.resumed": "a proposal that goes on is claimed, none of its actions has moved",
        "proposal.rolled_back": "an aborted proposal's state is undone, not committed",
        "proposal.compensated": "an action is compensated, the next one is not",
        "proposal.aborted": "the end of an aborted proposal is written, not committed",
        "proposal.completed": "the end of a completed proposal is written, not committed",
        "shutdown.begun": "the gate is to shut down; bodies may be under way",
        "shutdown.drained": "every body has its end, not every call is answered",
        "anchor.unwritten": "`run.ended` is durable, the last marks are not in the anchor",
        "shutdown.ended": "`run.ended` is durable, the gate's process has not ended",
        "approval.signed": "an approver's answer is signed, the store knows nothing of it",
        "approval.written": "an approver's answer is durable, the approver is not told",
    }
)
"""Every point, and what is true there."""

ACTIONS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "kill": "the process kills itself with SIGKILL",
        "error": "the store's next BEGIN, write to the log or COMMIT fails, once: `disk I/O error`",
        "locked": "the next of them finds the store locked by another process, once",
        "full": "from here on each of them fails: `database or disk is full`",
        "pause=SOCKET": "it tells the Unix socket which point it stands at, and waits for its end",
        "tell": "nothing but a line on stderr; the point `*` is every point, each time",
    }
)
"""Every action, as it is written, and what it does."""

_STORE_ERRORS: Final = {
    "error": (sqlite3.SQLITE_IOERR, "disk I/O error"),
    "locked": (sqlite3.SQLITE_BUSY, "database is locked"),
    "full": (sqlite3.SQLITE_FULL, "database or disk is full"),
}


class FaultError(ToolgateError):
    """What asks for a fault does not name a point and an action."""


@dataclass(slots=True)
class _Fault:
    """A fault that was asked for, and how far the process has come."""

    text: str
    point: str
    nth: int
    action: str
    socket: str
    seen: Counter[str] = field(default_factory=Counter)
    store_fails: str | None = None

    def hit(self, point: str) -> None:
        if self.point not in (point, "*"):
            return
        self.seen[point] += 1
        if self.action != "tell" and self.seen[point] != self.nth:
            return
        _say(f"fault: {self.action} at {point}@{self.seen[point]}")
        if self.action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.action == "pause":
            _pause(self.socket, point)
        elif self.action in _STORE_ERRORS:
            self.store_fails = self.action

    def fail_store(self) -> None:
        if self.store_fails is None:
            return
        code, text = _STORE_ERRORS[self.store_fails]
        if self.store_fails != "full":
            self.store_fails = None
        error = sqlite3.OperationalError(text)
        error.sqlite_errorcode = code
        raise error


_armed: _Fault | None = None


def arm(environment: Mapping[str, str]) -> None:
    """Take the fault that ``environment`` asks for, if any: once, when the command starts.

    Raises :class:`FaultError` for what does not name a point and an action.
    """
    global _armed  # noqa: PLW0603 - a process has one fault, or none
    text = environment.get(VARIABLE)
    _armed = None if text is None else _read(text)
    for warning in warnings():
        _say(f"warning: {warning}")


def warnings() -> list[str]:
    """Return what people must know while a fault is armed."""
    if _armed is None:
        return []
    return [f"a fault is armed ({VARIABLE}={_armed.text}): this process is under test"]


def hit(point: str) -> None:
    """Come to a point (one of :data:`POINTS`): what was asked for it happens."""
    if _armed is not None:
        _armed.hit(point)


def fail_store() -> None:
    """Come to where the store is written; raises the :class:`sqlite3.Error` that was asked for."""
    if _armed is not None:
        _armed.fail_store()


def _read(text: str) -> _Fault:
    place, _, asked = text.partition(":")
    point, at, number = place.partition("@")
    action, _, socket = asked.partition("=")
    known = {name.partition("=")[0]: "=" in name for name in ACTIONS}
    if point not in POINTS and (point, action) != ("*", "tell"):
        raise FaultError(f"{VARIABLE}={text}: no point is called {point!r}: {', '.join(POINTS)}")
    if known.get(action) is not bool(socket):
        told = ", ".join(ACTIONS)
        raise FaultError(f"{VARIABLE}={text}: {asked!r} is no action: it is one of {told}")
    if at and not (number.isascii() and number.isdigit() and int(number)):
        raise FaultError(f"{VARIABLE}={text}: {number!r} is no count: POINT@N counts from 1")
    return _Fault(text, point, int(number or 1), action, socket)


def _pause(path: str, point: str) -> None:
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as other:
        other.settimeout(PAUSE_PATIENCE)
        try:
            other.connect(path)
            other.sendall(f"{point}\n".encode())
            other.recv(1)
        except OSError as error:
            _say(f"fault: the pause at {point} has ended: {error}")


def _say(line: str) -> None:
    with suppress(OSError):
        sys.stderr.write(f"toolgate: {line}\n")
        sys.stderr.flush()
