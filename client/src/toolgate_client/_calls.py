"""One call as its caller makes it: ask, run what the gate wants run, hear how it ended.

The body of a tool runs here, in the thread that waits for the call, with its context variables.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextvars import ContextVar
from types import CoroutineType

from toolgate_client import _protocol
from toolgate_client._errors import GateClosed, GateError, ProtocolError
from toolgate_client._exchange import Exchange, Waiter
from toolgate_client._protocol import Core, Run, is_refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolgate_client._models import Outcome
    from toolgate_client._transport import GateProcess

    Body = Callable[[dict[str, Any]], Any]

_INTERRUPTED_WAIT = 5.0
"""How long a call whose body was interrupted waits for the gate to record that, in seconds."""
_DRAIN = 10.0
"""The gate's ``limits.drain`` when it does not tell, in seconds."""
_DRAIN_GRACE = 6.0
"""How much longer than it drains the gate may take to say that it has, in seconds."""
_RELEASE_GRACE = 2.0
"""How long a thread may take to notice that the gate has ended, in seconds. A descriptor that is
still read is left open rather than closed under its reader."""


class _Running:
    """A body that runs in this context, and the one whose body called it."""

    __slots__ = ("gate", "outer", "uid")

    def __init__(self, gate: Gate, uid: str, outer: _Running | None) -> None:
        self.gate = gate
        self.uid = uid
        self.outer = outer


_running: ContextVar[_Running | None] = ContextVar("toolgate_running", default=None)


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
        self._encoder = encoder
        # Not before there is a gate: dataclasses take most of the time of importing this package,
        # and the gate's process is busy starting meanwhile.
        from toolgate_client._models import outcome_from_wire

        self._outcome = outcome_from_wire
        self._undertaker = Waiter()

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
        if _loop_is_running() and _is_coroutine_function(body or self.bodies.get(tool)):
            raise GateError(
                f"the body of tool {tool!r} is a coroutine function, and a synchronous call cannot "
                "await it on the event loop that runs in this thread: make the call from a worker "
                "thread (asyncio.to_thread), or give it a synchronous body"
            )

    def parent(self) -> str | None:
        """The uid of the action of this gate whose body runs in this context."""
        return next(self._ancestors(), None)

    # --- calls

    def act(
        self, method: str, params: Mapping[str, Any], what: str, body: Body | None = None
    ) -> Outcome:
        """Make a request that settles an action; waits for its turn when the gate has too many."""
        response, run = self._converse(method, params, what, body)
        if is_refusal(response):
            response, run = self._queue_up(method, params, what, body)
        result = self._result(response)
        try:
            if run is None or run.uid != result["uid"]:
                return self._outcome(result)
            raised = run.raised if isinstance(run.raised, Exception) else None
            run.raised = None  # it refers, by its traceback, to what refers to this run
            return self._outcome(result, returned=run.returned, exception=raised)
        except (KeyError, TypeError, AttributeError) as error:
            raise ProtocolError(f"the gate's answer is no outcome: {error!r}") from error

    def _queue_up(
        self, method: str, params: Mapping[str, Any], what: str, body: Body | None
    ) -> tuple[Mapping[str, Any], Run | None]:
        core, turns, box = self.core, self.core.turns, Waiter()
        depth = sum(1 for _ in self._ancestors())
        try:
            try:
                while True:
                    turns.line_up(box)
                    answer = self._converse(method, params, what, body)
                    if not is_refusal(answer[0]):
                        return answer
                    if not turns.may_wait(box, depth, core.under_way()):
                        return answer
                    self.exchange.wait(box)
                    self.check_usable()
                    answer = self._converse(method, params, what, body)
                    turns.served(box)
                    if not is_refusal(answer[0]):
                        return answer
            finally:
                core.leave_queue(box)
                self.exchange.leave(box)
        finally:
            if not box.gone:  # interrupted on its way out
                core.leave_queue(box)
                self.exchange.leave(box)

    def ask(
        self, method: str, params: Mapping[str, Any], what: str, deadline: float | None = None
    ) -> Any:
        """Make a request that runs nothing and return its result.

        Raises ``TimeoutError`` when there is no response at ``deadline`` (monotonic).
        """
        response, _ = self._converse(method, params, what, None, deadline)
        return self._result(response)

    def greeting(self, deadline: float) -> Mapping[str, Any] | None:
        """What the gate says when it is ready; ``None`` when it ended or is late."""
        box = Waiter()
        try:
            self.core.expect_greeting(box)
            self.exchange.wait(box, deadline)
        finally:
            self.exchange.leave(box)
        params = None if box.response is None else box.response["result"]
        return params if isinstance(params, dict) else None

    def _converse(
        self,
        method: str,
        params: Mapping[str, Any],
        what: str,
        body: Body | None,
        deadline: float | None = None,
    ) -> tuple[Mapping[str, Any], Run | None]:
        core, exchange = self.core, self.exchange
        box = Waiter()
        last: Run | None = None
        context = _running.get()
        interrupt: BaseException | None = None
        try:
            try:
                core.request(box, method, params, what)
                while box.response is None:
                    exchange.wait(box, deadline)
                    while (run := self._next_run(box)) is not None:
                        if interrupt is not None:
                            core.reply_failed(run, "CallerGone", "the caller was interrupted")
                            continue
                        last = run
                        self._run(run, body)
                        self._answer(run)
                        if run.raised is not None and not isinstance(run.raised, Exception):
                            interrupt = run.raised
                            deadline = time.monotonic() + _INTERRUPTED_WAIT
                    if box.response is None:
                        if core.ended:
                            raise interrupt or self.closed_error()
                        if deadline is not None and time.monotonic() >= deadline:
                            raise interrupt or TimeoutError(f"no answer to {what} in time")
            finally:
                self._leave(box, context)
        finally:
            if not box.gone:  # interrupted on its way out
                self._leave(box, context)
        if core.notices:
            self._log()
        if interrupt is not None:
            raise interrupt
        return box.response, last

    def _leave(self, box: Waiter, context: _Running | None) -> None:
        if _running.get() is not context:  # interrupted on its way out of a body
            _running.set(context)
        for run in box.runs[: box.taken]:
            if run.returned and not run.answered:
                self._answer(run)
        self.exchange.leave(box)

    # --- bodies

    def _next_run(self, box: Waiter) -> Run | None:
        # What the gate no longer waits for is not begun.
        return None if box.response is not None or self.core.ended else box.take()

    def _run(self, run: Run, body: Body | None) -> None:
        body = body or self.bodies.get(run.tool)
        if body is None:
            run.raised = LookupError(
                f"this client has no body for tool {run.tool!r}: register_tool it, or pass body="
            )
            return
        token = _running.set(_Running(self, run.uid, _running.get()))
        try:
            # One operation of C code from the body's return to `returned`, so that an interrupt
            # cannot make a body that ran to its end look as if it had not.
            run.returned.extend(map(body, (run.args,)))
            if run.returned and type(run.returned[0]) is CoroutineType:
                run.returned.extend(map(_complete, (run.returned.pop(),)))
            if not run.returned:
                run.raised = RuntimeError(f"the body of tool {run.tool!r} raised StopIteration")
        except BaseException as error:  # noqa: BLE001
            # An ordinary one fails the action; any other is raised when that is recorded.
            run.raised = error
        finally:
            _running.reset(token)

    def _answer(self, run: Run) -> None:
        if run.returned:
            try:
                self.core.reply(run, self._encoder(run.returned[0]))
            except Exception as error:  # noqa: BLE001 - an encoder is the user's code
                run.raised = error
                text = f"the body returned, but its result cannot be sent: {_text(error)}"
                self.core.reply_failed(run, type(error).__name__, text)
        elif run.raised is not None:
            self.core.reply_failed(run, type(run.raised).__name__, _text(run.raised))

    # --- pieces

    def _ancestors(self) -> Iterator[str]:
        """The uids of this gate's actions whose bodies made this call, the nearest first."""
        running = _running.get()
        while running is not None:
            if running.gate is self:
                yield running.uid
            running = running.outer

    def _result(self, response: Mapping[str, Any]) -> Any:
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

    def stop(self) -> None:
        """Ask the gate to shut down, let its calls end, and end it in any case."""
        self.closing = True
        try:
            if not self.core.ended:
                self.ask(
                    "shutdown", {}, "the shutdown", time.monotonic() + self.drain + _DRAIN_GRACE
                )
        except (GateError, TimeoutError):
            pass  # it is gone or does not answer: ended below all the same
        finally:
            self.exit_code = self.process.stop()
            self.core.end()
            self._release()

    def _release(self) -> None:
        """Close the pipes, once nobody reads or writes them any more."""
        box, deadline = self._undertaker, time.monotonic() + _RELEASE_GRACE
        if all(self.exchange.seize(role, box, deadline) for role in ("reader", "writer")):
            self.process.release()

    def _on_end(self) -> None:
        self.exit_code = self.process.output_ended()

    def _log(self) -> None:
        """Write the notices to the log. Not while reading: a log handler may call the gate."""
        import logging

        logger = logging.getLogger("toolgate_client")
        levels = {"debug": 10, "info": 20, "warning": 30, "error": 40, "critical": 50}
        while self.core.notices:
            try:
                level, text = self.core.notices.popleft()
            except IndexError:
                return  # another thread wrote it
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


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - its __str__ is the user's code
        return "(its text cannot be had)"


def _loop_is_running() -> bool:
    # Without importing asyncio: where nobody did, no loop runs.
    running = getattr(sys.modules.get("asyncio"), "_get_running_loop", None)
    return running is not None and running() is not None


def _is_coroutine_function(body: Any) -> bool:
    from inspect import iscoroutinefunction

    return iscoroutinefunction(body) or iscoroutinefunction(getattr(body, "__call__", None))  # noqa: B004


def _complete(coroutine: CoroutineType[Any, Any, Any]) -> Any:
    if _loop_is_running():
        coroutine.close()
        raise GateError(
            "the body returned a coroutine, and a synchronous call cannot await it on the event "
            "loop that runs in this thread"
        )
    import asyncio

    return asyncio.run(coroutine)
