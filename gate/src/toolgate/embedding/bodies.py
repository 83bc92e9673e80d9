"""Bodies under way in a program: each is a task of its own, and how it ends is its reply.

1. A body has its own copy of the arguments, and what it returns is copied: nothing that the kernel
   has judged or recorded changes afterwards.
2. A body ends when its task does, however that is: with JSON, with an error, or cancelled; also
   when it was cancelled before it began. A body that goes on although it was cancelled has not
   ended.
3. Once the kernel is closed, nobody listens to replies any more.
"""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Awaitable, Callable, Collection
from typing import Any, ParamSpec, TypeAlias, TypeVar

from toolgate.embedding.given import InvalidInput, own_document, own_json
from toolgate.errors import JSONError
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.engine import RequestId, ToolRun
from toolgate.kernel.past import Document
from toolgate.kernel.result import ToolError, ToolOutput, ToolReply, ToolSuspended

P = ParamSpec("P")
T = TypeVar("T")

Executor: TypeAlias = Callable[[ToolRun], Awaitable[JSONValue | ToolOutput | ToolSuspended]]
"""Runs one body and returns its output, which is JSON; what it raises is the body's failure.

With a :class:`~toolgate.kernel.result.ToolOutput` it tells, too, what content the body has read; a
:class:`~toolgate.kernel.result.ToolSuspended` says that the body has stopped itself, to be entered
again when its action is resumed.
"""


async def in_thread(function: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a blocking function in a thread, with the context variables of the call.

    A thread cannot be cancelled. So when the body that waits here is, it goes on waiting, and what
    the function comes to stands: a kernel that took the body for ended could run it again, while
    the first run still acts.
    """
    work = asyncio.ensure_future(asyncio.to_thread(function, *args, **kwargs))
    while not work.done():
        try:
            await asyncio.wait({work})
        except asyncio.CancelledError:
            continue
    return work.result()


@dataclasses.dataclass(frozen=True, slots=True)
class _Exited:
    error: SystemExit


@dataclasses.dataclass(slots=True)
class _Body:
    order: ToolRun
    task: asyncio.Task[JSONValue | ToolOutput | ToolSuspended | _Exited]
    cancelled: str | None = None
    """Why it was asked to stop, if it was."""


class Bodies:
    """Executes bodies in tasks of the running loop."""

    def __init__(self, execute: Executor) -> None:
        """``execute`` is the program's."""
        self._execute = execute
        self._under_way: dict[asyncio.Task[Any], _Body] = {}
        self._closed = False

    @property
    def tasks(self) -> Collection[asyncio.Task[Any]]:
        """The tasks of the bodies that have not ended, for as long as anybody listens."""
        return () if self._closed else self._under_way.keys()

    def run(self, order: ToolRun, on_reply: Callable[[ToolReply], None]) -> None:
        """Start a body; ``on_reply`` is called once, with how it ended."""
        own = order._replace(args=own_json(order.args))
        task = asyncio.ensure_future(self._body(own))
        body = self._under_way[task] = _Body(order, task)
        task.add_done_callback(lambda _: self._ended(body, on_reply))

    def cancel(self, uid: str, reason: str) -> None:
        """Cancel the task of a body; it may go on all the same."""
        for body in self._under_way.values():
            if body.order.uid == uid:
                _cancel(body, reason)

    def cancel_call(self, call: RequestId) -> None:
        """Cancel the bodies of a call whose caller has gone."""
        for body in self._under_way.values():
            if body.order.call == call:
                _cancel(body, "its caller has gone")

    def cancel_all(self) -> None:
        """Cancel every body: the kernel is being closed."""
        for body in self._under_way.values():
            _cancel(body, "the kernel was closed", again=True)

    def close(self) -> None:
        """Take no notice any more of how bodies end."""
        self._closed = True

    async def _body(self, order: ToolRun) -> JSONValue | ToolOutput | ToolSuspended | _Exited:
        try:
            # Here and not in run(): what a plain function raises is a body's failure too.
            return await self._execute(order)
        except SystemExit as error:
            # From a task it would end the loop at once, with everything under way in doubt.
            return _Exited(error)

    def _ended(self, body: _Body, on_reply: Callable[[ToolReply], None]) -> None:
        del self._under_way[body.task]
        reply = _reply(body)
        if not self._closed:
            on_reply(reply)


def _cancel(body: _Body, reason: str, *, again: bool = False) -> None:
    """Cancel a body's task; one that is clearing up already is left to it, unless ``again``."""
    if body.cancelled is None or again:
        body.cancelled = body.cancelled or reason
        body.task.cancel()


def _reply(body: _Body) -> ToolReply:
    task, tool = body.task, body.order.tool
    if task.cancelled():
        return ToolError(f"cancelled: {body.cancelled or 'by itself'}", "CancelledError")
    result, error = None, task.exception()
    if error is None:
        result = task.result()
    if isinstance(result, _Exited):
        error = result.error
    if error is not None:
        return ToolError(_said(error), type(error).__name__)
    documents: tuple[Document, ...] = ()
    omitted = False
    try:
        if isinstance(result, ToolSuspended):
            return ToolSuspended(tuple(map(own_document, result.documents)))
        if isinstance(result, ToolOutput):
            documents = tuple(map(own_document, result.documents))
            result, omitted = result.output, result.omitted is True
        # As deep in an array as the journal keeps it in an event: what passes can be recorded.
        (output,) = own_json([result])
        return ToolOutput(output, documents, omitted)
    except JSONError as wrong:
        # The body ran, and would return the same again.
        return ToolError(f"{tool} returned no JSON value: {wrong}", "TypeError", retryable=False)
    except (InvalidInput, TypeError) as wrong:
        return ToolError(f"{tool} returned wrong documents: {wrong}", "TypeError", retryable=False)


def _said(error: BaseException) -> str:
    """Return an error's message; it is the body's, and may be anything."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001 - then it has none
        return ""
    return text.encode("utf-8", "replace").decode()
