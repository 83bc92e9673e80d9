"""Bodies of tools: how one is run in this thread, and which of them runs in this context."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextvars import ContextVar
from types import CoroutineType

from toolgate_client._errors import GateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from asyncio import AbstractEventLoop
    from typing import Any

    from toolgate_client._mailbox import Run

    Body = Callable[[dict[str, Any]], Any]


class Running:
    """A body that runs for a gate's call, and the one whose body made that call."""

    __slots__ = ("call", "gate", "hired", "outer", "uid")

    def __init__(self, gate: object, call: int, uid: str, outer: Running | None) -> None:
        self.gate = gate
        self.call = call
        self.uid = uid
        self.outer = outer
        self.hired: bool = outer is not None and outer.hired
        """It, or one that waits for it, occupies a thread of a loop's workers."""


running: ContextVar[Running | None] = ContextVar("toolgate_running", default=None)
"""The body that runs in this context."""


def execute(run: Run, body: Body, as_: Running, *, complete: bool = True) -> None:
    """Run a body to its end; ``run`` knows then what it returned or raised.

    A coroutine that it returned is run to its end, too, unless ``complete`` is false.
    """
    token = running.set(as_)
    try:
        # One operation of C code from the body's return to `returned`, so that an interrupt
        # cannot make a body that ran to its end look as if it had not.
        run.returned.extend(map(body, (run.args,)))
        if complete and run.returned and type(run.returned[0]) is CoroutineType:
            run.returned.extend(map(_complete, (run.returned.pop(),)))
        if not run.returned:
            run.raised = RuntimeError(f"the body of tool {run.tool!r} raised StopIteration")
    except BaseException as error:  # noqa: BLE001
        # An ordinary one fails the action; any other is raised when that is recorded.
        run.raised = error
    finally:
        running.reset(token)


def running_loop() -> AbstractEventLoop | None:
    """The event loop that runs in this thread, if one does."""
    # Without importing asyncio: where nobody did, no loop runs.
    get = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return None if get is None else get()


def loop_is_running() -> bool:
    """Whether an event loop runs in this thread."""
    return running_loop() is not None


def is_coroutine_function(body: Any) -> bool:
    """Whether calling ``body`` gives a coroutine, as far as can be told without calling it."""
    from inspect import iscoroutinefunction

    return iscoroutinefunction(body) or iscoroutinefunction(getattr(body, "__call__", None))  # noqa: B004


def text_of(error: BaseException) -> str:
    """The text of an exception, whatever its class."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - its __str__ is the user's code
        return "(its text cannot be had)"


def _complete(coroutine: CoroutineType[Any, Any, Any]) -> Any:
    if loop_is_running():
        coroutine.close()
        raise GateError(
            "the body returned a coroutine, and a synchronous call cannot await it on the event "
            "loop that runs in this thread"
        )
    import asyncio

    return asyncio.run(coroutine)
