"""One call as its caller makes it: ask, run what the gate wants run, hear how it ended.

The body of a tool runs here, in the thread that waits for the call, with its context variables.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping

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
from toolgate_client._protocol import Core, Run, is_refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from toolgate_client._bodies import Body
    from toolgate_client._models import Outcome, Ran
    from toolgate_client._transport import GateProcess

    T = TypeVar("T")

_INTERRUPTED_WAIT = 5.0
"""How long a call whose body was interrupted waits for the gate to record that, in seconds."""
_DRAIN = 10.0
"""The gate's ``limits.drain`` when it does not tell, in seconds."""
_CONCURRENCY = 16
"""The gate's ``limits.max_concurrency`` when it does not tell."""
_DRAIN_GRACE = 6.0
"""How much longer than it drains the gate may take to say that it has, in seconds."""
_RELEASE_GRACE = 2.0
"""How long a thread may take to notice that the gate has ended, in seconds. A descriptor that is
still read is left open rather than closed under its reader."""


class Call(Waiter):
    """A request under way, which the thread that made it waits for; ``what`` names it in errors.

    Bodies run in that thread, in its context; ``body``, if given, in the registered one's place.
    """

    __slots__ = ("body", "gate", "interrupts", "what")

    def __init__(self, gate: Gate, what: str, body: Body | None = None) -> None:
        super().__init__()
        self.gate = gate
        self.what = what
        self.body = body
        self.interrupts: list[BaseException] = []
        """What bodies raised that fails more than their action, such as ``KeyboardInterrupt``."""

    def refused(self) -> bool:
        """Whether the gate had too many calls in flight; the request may be made again."""
        return self.response is not None and is_refusal(self.response)

    def perform(self, run: Run) -> None:
        """Run a body for the gate, and answer."""
        self.gate.run(run, self.id, self.body)
        self.note_interrupt(run)
        self.gate.answer(run)

    def refuse(self, run: Run) -> None:
        """Answer for a body that is not begun, because another was interrupted."""
        self.gate.core.reply_failed(run, "CallerGone", "the caller was interrupted")

    def note_interrupt(self, run: Run) -> None:
        """See to it that the caller hears of what its body was ended by."""
        if run.raised is not None and not isinstance(run.raised, Exception):
            self.interrupts.append(run.raised)

    def stop(self) -> None:
        """A body was interrupted: the caller begins no other."""

    def dismiss(self) -> None:
        """The caller leaves: whoever works for it begins nothing any more."""


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
        from toolgate_client._documents import Result
        from toolgate_client._models import outcome_from_wire

        self._outcome = outcome_from_wire
        self._result_type = Result
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
        if loop_is_running() and is_coroutine_function(body or self.bodies.get(tool)):
            raise GateError(
                f"the body of tool {tool!r} is a coroutine function, and a synchronous call cannot "
                "await it on the event loop that runs in this thread: make the call from a worker "
                "thread (asyncio.to_thread), or give it a synchronous body"
            )

    def parent(self) -> str | None:
        """The uid of the action of this gate whose body runs in this context."""
        return next((above.uid for above in self._ancestors()), None)

    # --- calls

    def act(self, method: str, params: Mapping[str, Any], call: Callable[[], Call]) -> Outcome:
        """Make a request that settles an action; waits for its turn when the gate has too many."""
        return self.finish(self.make(method, params, call), self._outcome, "outcome")

    def make(self, method: str, params: Mapping[str, Any], call: Callable[[], Call]) -> Call:
        """Make a request that runs bodies, as a new ``call``; it has its response then."""
        made = self._converse(call(), method, params)
        return self._queue_up(method, params, call) if made.refused() else made

    def finish(self, call: Call, read: Callable[[Any, Ran], T], what: str) -> T:
        """What came of a call, as ``read`` makes it of the result and of the bodies that ran."""
        result = self._result(call)
        ran: Ran = {}
        for run in list(call.runs):
            raised = run.raised if isinstance(run.raised, Exception) else None
            ran[run.uid] = ([self._told(value)[0] for value in run.returned], raised)
            if run.answered:
                run.raised = None  # it refers, by its traceback, to what refers to this run
        try:
            return read(result, ran)
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            raise ProtocolError(f"the gate's answer is no {what}: {error!r}") from error

    def ask(
        self, method: str, params: Mapping[str, Any], what: str, deadline: float | None = None
    ) -> Any:
        """Make a request that runs nothing and return its result.

        Raises ``TimeoutError`` when there is no response at ``deadline`` (monotonic).
        """
        return self._result(self._converse(Call(self, what), method, params, deadline))

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

    # An interrupt where a loop jumps back is not seen by a `try` around the loop (CPython 3.12 and
    # later): a loop that somebody has to clean up after is a function of its own.

    def _queue_up(self, method: str, params: Mapping[str, Any], call: Callable[[], Call]) -> Call:
        box = Waiter()
        try:
            try:
                return self._take_turns(box, method, params, call)
            finally:
                self._leave_queue(box)
        finally:
            if not box.gone:  # interrupted on its way out
                self._leave_queue(box)

    def _take_turns(
        self, box: Waiter, method: str, params: Mapping[str, Any], call: Callable[[], Call]
    ) -> Call:
        core, turns = self.core, self.core.turns
        above = frozenset(each.call for each in self._ancestors())
        while True:
            turns.line_up(box)
            made = self._converse(call(), method, params)
            if not made.refused() or not turns.may_wait(box, above, core.under_way()):
                return made
            self.exchange.wait(box)
            self.check_usable()
            made = self._converse(call(), method, params)
            turns.served(box)
            if not made.refused():
                return made

    def _leave_queue(self, box: Waiter) -> None:
        self.core.leave_queue(box)
        self.exchange.leave(box)

    def _converse(
        self, call: Call, method: str, params: Mapping[str, Any], deadline: float | None = None
    ) -> Call:
        context = running.get()
        try:
            try:
                self.core.request(call, method, params, call.what)
                interrupt = self._attend(call, deadline)
            finally:
                self._leave(call, context)
        finally:
            if not call.gone:  # interrupted on its way out
                self._leave(call, context)
        if self.core.notices:
            self._log()
        if interrupt is not None:
            raise interrupt
        return call

    def _attend(self, call: Call, deadline: float | None) -> BaseException | None:
        """Run what the gate wants run until it responds; returns what interrupted a body."""
        core = self.core
        interrupt: BaseException | None = None
        while call.response is None:
            self.exchange.wait(call, deadline)
            run = self._next_run(call)
            if run is None:
                pass
            elif interrupt is None:
                call.perform(run)
            else:
                call.refuse(run)
            if call.interrupts:
                error = call.interrupts.pop()
                if interrupt is None:
                    interrupt, deadline = error, time.monotonic() + _INTERRUPTED_WAIT
                    call.stop()
            if run is None and call.response is None:
                if core.ended:
                    raise interrupt or self.closed_error()
                if deadline is not None and time.monotonic() >= deadline:
                    raise interrupt or TimeoutError(f"no answer to {call.what} in time")
        return interrupt

    def _next_run(self, call: Call) -> Run | None:
        # What the gate no longer waits for is not begun.
        return None if call.response is not None or self.core.ended else call.take()

    def _leave(self, call: Call, context: Running | None) -> None:
        if running.get() is not context:  # interrupted on its way out of a body
            running.set(context)
        call.dismiss()
        for run in list(call.runs):
            if run.returned and not run.answered and run.claim(call):
                self.answer(run)
        self.exchange.leave(call)

    # --- bodies

    def run(self, run: Run, call: int, body: Body | None) -> None:
        """Run the body of a run, which belongs to a call, in this thread and context."""
        body = body or self.bodies.get(run.tool)
        if body is None:
            run.raised = LookupError(
                f"this client has no body for tool {run.tool!r}: register_tool it, or pass body="
            )
            return
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

    def _ancestors(self) -> Iterator[Running]:
        """This gate's actions whose bodies made this call, the nearest first."""
        inner = running.get()
        while inner is not None:
            if inner.gate is self:
                yield inner
            inner = inner.outer

    def _told(self, returned: Any) -> tuple[Any, list[dict[str, str]]]:
        """What a body returned: the caller's output, and the documents that the gate is told of."""
        if not isinstance(returned, self._result_type):
            return returned, []
        return returned.output, [document.to_wire() for document in returned.documents]

    def _result(self, call: Call) -> Any:
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


def _may_help_to_retry(error: BaseException) -> bool:
    """Tell whether a body that raised could do better: an interrupt, or its own word, says no."""
    try:
        return isinstance(error, Exception) and getattr(error, "retryable", True) is not False
    except Exception:  # noqa: BLE001 - an attribute of the user's exception is the user's code
        return True
