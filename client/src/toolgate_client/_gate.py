"""A started gate as its callers see it: what they share, and what they do with its messages."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator

from toolgate_client import _protocol
from toolgate_client._bodies import (
    Running,
    execute,
    is_coroutine_function,
    loop_is_running,
    running,
    text_of,
)
from toolgate_client._errors import GateClosed, GateError, ProtocolError, ToolSuspended
from toolgate_client._exchange import Exchange, Waiter
from toolgate_client._protocol import Core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolgate_client._bodies import Body
    from toolgate_client._mailbox import Mailbox, Run
    from toolgate_client._models import Ran
    from toolgate_client._transport import GateProcess

_DRAIN = 10.0
"""The gate's ``limits.drain`` when it does not tell, in seconds."""
_CONCURRENCY = 16
"""The gate's ``limits.max_concurrency`` when it does not tell."""


class Gate:
    """A started gate as callers see it."""

    def __init__(self, process: GateProcess, encoder: Callable[[Any], Any]) -> None:
        self.process = process
        self.core = Core()
        self.exchange = Exchange(self.core, process.read_fd, process.write_fd, self._on_end)
        self.bodies: dict[str, Body] = {}
        self.exit_code: int | None = None
        self.closing = False
        self.drain = _DRAIN
        """How long calls in flight may take to end when the client is closed, in seconds."""
        self.concurrency = _CONCURRENCY
        """How many actions of one proposal the gate runs at once."""
        self._encoder = encoder
        # Not before there is a gate: dataclasses take most of the time of importing this package,
        # and the gate's process is busy starting meanwhile.
        from toolgate_client._answers import outcome_from_wire
        from toolgate_client._documents import Result

        self.read_outcome = outcome_from_wire
        self.undertaker = Waiter()
        """Keeps the roles of who reads and who writes when nobody may any more."""
        self._result_type = Result

    # --- what calls need to know

    def check_usable(self) -> None:
        """Raise what a caller should hear who uses this gate now."""
        if os.getpid() != self.process.owner:
            raise GateError(
                f"this gate belongs to process {self.process.owner}; a forked process needs a "
                "GateClient of its own"
            )
        if self.closing or self.core.ended:
            raise self.closed_error()

    def closed_error(self) -> GateClosed:
        """The error that says why nothing more can be asked."""
        if self.closing:
            return GateClosed("this gate client is closed", exit_code=self.exit_code)
        stderr = self.process.stderr.tail()
        return GateClosed(
            f"the gate ended ({how_it_ended(self.exit_code)})" + what_it_printed(stderr),
            exit_code=self.exit_code,
            stderr=stderr,
        )

    def check_body(self, tool: str, body: Body | None) -> None:
        """Refuse a coroutine function as the body of a synchronous call on a running loop."""
        if loop_is_running() and is_coroutine_function(body or self.bodies.get(tool)):
            raise GateError(
                f"the body of {tool!r} is a coroutine function, and a synchronous call cannot "
                "await it on the event loop that runs in this thread: await the call's twin, whose "
                "name begins with an a, or give it a synchronous body"
            )

    def parent(self) -> str | None:
        """The uid of the action of this gate whose body runs in this context."""
        return next((above.uid for above in self.ancestors()), None)

    def ancestors(self) -> Iterator[Running]:
        """This gate's actions whose bodies made this call, the nearest first."""
        inner = running.get()
        while inner is not None:
            if inner.gate is self:
                yield inner
            inner = inner.outer

    def result(self, call: Mailbox) -> tuple[Any, Ran]:
        """What the gate answered, and the bodies that ran for it.

        Raises :class:`GateClosed` or :class:`ProtocolError` when there is no result.
        """
        result = self._result(call)
        ran: Ran = {}
        for run in list(call.runs):
            raised = run.raised if isinstance(run.raised, Exception) else None
            ran[run.uid] = ([self._told(value)[0] for value in run.returned], raised)
            if run.answered:
                run.raised = None  # it refers, by its traceback, to what refers to this run
        return result, ran

    # --- bodies

    def body_of(self, run: Run, given: Body | None) -> Body | None:
        """The body of a run: the given one, or the registered one; without any, the run failed."""
        body = given or self.bodies.get(run.tool)
        if body is None:
            run.raised = LookupError(
                f"this client has no body for tool {run.tool!r}: register_tool it, or pass body="
            )
        return body

    def run(self, run: Run, call: int, given: Body | None) -> None:
        """Run the body of a run, which belongs to a call, in this thread and context."""
        body = self.body_of(run, given)
        if body is not None:
            execute(run, body, Running(self, call, run.uid, running.get()))

    def answer(self, run: Run) -> None:
        """Answer a run whose body has ended."""
        if run.returned:
            try:
                output, documents = self._told(run.returned[0])
                self.core.reply(run, self._encoder(output), documents)
            except Exception as error:  # noqa: BLE001 - an encoder is the user's code
                run.raised = error
                text = f"the body returned, but its result cannot be sent: {text_of(error)}"
                self.core.reply_failed(run, type(error).__name__, text)
        elif isinstance(run.raised, ToolSuspended):
            self.core.reply(run, _protocol.SUSPENDED)
        elif run.raised is not None:
            raised = run.raised
            self.core.reply_failed(
                run, type(raised).__name__, text_of(raised), retryable=_may_help_to_retry(raised)
            )

    # --- pieces

    def _told(self, returned: Any) -> tuple[Any, list[dict[str, str]]]:
        """What a body returned: the caller's output, and the documents that the gate is told of."""
        if not isinstance(returned, self._result_type):
            return returned, []
        return returned.output, [document.to_wire() for document in returned.documents]

    def _result(self, call: Mailbox) -> Any:
        response = call.response or {}
        if "result" in response:
            return response["result"]
        error = response.get("error")
        if not isinstance(error, dict):
            raise ProtocolError("the gate's response has neither a result nor an error")
        code, message = error.get("code"), str(error.get("message"))
        if code == _protocol.SHUTTING_DOWN:
            raise GateClosed(f"the gate is shutting down: {message}")
        raise ProtocolError(
            message,
            code=code if isinstance(code, int) else _protocol.INTERNAL_ERROR,
            data=error.get("data"),
        )

    def _on_end(self) -> None:
        self.exit_code = self.process.output_ended()

    def log(self) -> None:
        """Write the notices to the log. Not while reading: a log handler may call the gate."""
        import logging

        levels = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
        while self.core.notices:
            try:
                name, level, text = self.core.notices.popleft()
            except IndexError:
                return  # another thread wrote it
            logger = logging.getLogger(name)
            # What the gate says stands on stderr already, which is where the last resort writes.
            if name != _protocol.GATES_LOG or logger.hasHandlers():
                logger.log(levels.get(level, 20), "%s", text)


def how_it_ended(exit_code: int | None) -> str:
    """An exit code in words."""
    if exit_code is None:
        return "exit code unknown"
    if exit_code >= 0:
        return f"exit code {exit_code}"
    import signal

    try:
        return f"killed by {signal.Signals(-exit_code).name}"
    except ValueError:
        return f"killed by signal {-exit_code}"


def what_it_printed(stderr: str) -> str:
    """The end of an error message: what the gate printed."""
    return f"; the last it printed:\n{stderr}" if stderr else "; it printed nothing"


def _may_help_to_retry(error: BaseException) -> bool:
    """Tell whether a body that raised could do better: an interrupt, or its own word, says no."""
    try:
        return isinstance(error, Exception) and getattr(error, "retryable", True) is not False
    except Exception:  # noqa: BLE001 - an attribute of the user's exception is the user's code
        return True
