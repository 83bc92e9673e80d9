"""One governed call from proposal to result: run, replayed, denied, or held and waited for.

What is asked, and in which order, is said once, by generators that ask and never wait. A thread
drives them by blocking, a task by awaiting.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from types import CoroutineType
from typing import Any, TypeAlias, TypeVar

from toolgate_client import (
    ActionDenied,
    ActionFailed,
    ActionHeld,
    GateClient,
    GateError,
    Outcome,
    ProtocolError,
    Result,
    ToolSuspended,
)
from toolgate_client._adapting.edits import EditRefused
from toolgate_client._adapting.messages import recorded_output
from toolgate_client._protocol import TOO_LARGE

T = TypeVar("T")

_WAITING = ("held", "executing")


class NoResult(Exception):
    """A call gave no result, and not because its body raised. ``error`` is what to tell of it."""

    def __init__(self, error: GateError) -> None:
        super().__init__(str(error))
        self.error = error


class Ask:
    """A method to be called, or, by a task, its asynchronous twin: the same name after an a."""

    def __init__(self, who: Any, method: str, *args: Any, **options: Any) -> None:
        self.who = who
        self.method = method
        self.args = args
        self.options = options

    def __call__(self) -> Any:
        """Call the method."""
        return getattr(self.who, self.method)(*self.args, **self.options)

    async def acall(self) -> Any:
        """Await its twin."""
        return await getattr(self.who, f"a{self.method}")(*self.args, **self.options)


Steps: TypeAlias = Generator[Ask, Any, T]
"""What asks, is sent the answers (or thrown what was raised), and returns a ``T``."""


def take(steps: Steps[T]) -> T:
    """Answer all that is asked, in this thread, and return what is returned."""
    with contextlib.closing(steps):
        try:
            ask = next(steps)
            while True:
                try:
                    answer = ask()
                except BaseException as error:  # noqa: BLE001, PERF203 - who asked knows
                    ask = steps.throw(error)
                else:
                    ask = steps.send(answer)
        except StopIteration as end:
            returned: T = end.value
            return returned


async def atake(steps: Steps[T]) -> T:
    """Answer all that is asked, in this task, and return what is returned."""
    with contextlib.closing(steps):
        try:
            ask = next(steps)
            while True:
                try:
                    answer = await ask.acall()
                except BaseException as error:  # noqa: BLE001, PERF203 - who asked knows
                    ask = steps.throw(error)
                else:
                    ask = steps.send(answer)
        except StopIteration as end:
            returned: T = end.value
            return returned


@dataclass(frozen=True)
class Call:
    """What is asked of the gate.

    ``body`` takes the arguments the gate releases; without it the registered body runs. ``hold`` is
    ``wait`` or ``return`` (an adapter's subclass may know more); ``hold_timeout`` is in seconds.
    """

    gate: GateClient
    tool: str
    args: dict[str, Any]
    body: Callable[[dict[str, Any]], Any] | None
    hold: str = "wait"
    hold_timeout: float | None = None

    def run(self) -> Any:
        """Govern the call and return what its body returned, in this thread.

        Raises what the body raised, and else :class:`NoResult`: with ``ActionDenied`` when the call
        did not run (no message may hold its arguments, too), ``ActionHeld`` when it waits,
        ``ActionFailed`` when it ran and has no result, ``GateClosed`` or ``ProtocolError`` when the
        gate could not be asked.
        """
        return take(self._steps(None if self.body is None else Entered(self.body, self)))

    async def arun(self) -> Any:
        """Do what :meth:`run` does, in this task: a coroutine function as body is awaited in it.

        Cancelling the task takes a held call back, and cancels a body that runs.
        """
        body = None if self.body is None else _entered(self.body, self)
        return await atake(self._steps(body))

    # --- what a framework has its own way for

    def propose(self, body: Entered | None) -> Steps[Outcome]:
        """Propose the call; if it is allowed, its body runs."""
        outcome: Outcome = yield Ask(self.gate, "govern", self.tool, self.args, body=body)
        return outcome

    def settle(self, outcome: Outcome, body: Entered | None) -> Steps[Outcome]:
        """Say what becomes of a call that waits for people, or for another process."""
        return (yield from self.wait(outcome.uid, body)) if self.hold == "wait" else outcome

    def suspends(self, error: Exception) -> bool:
        """Tell whether a body that raises ``error`` has not failed: it is to be entered again."""
        return False

    def record(self, value: Any) -> Any:
        """Return what the gate is told of a result."""
        return value

    def restore(self, recorded: Any) -> Any:
        """Return a recorded result as the body returned it."""
        return recorded

    def deliver(self, outcome: Outcome, value: Any) -> Any:
        """Return what the framework gets of a call that succeeded with this value."""
        return value

    def raised(self, outcome: Outcome, error: Exception) -> Exception:
        """Return what the framework gets of a call whose body raised ``error``."""
        return error

    # --- pieces

    def wait(self, uid: str, body: Entered | None) -> Steps[Outcome]:
        """Wait for a held call, and run it when it is approved.

        Nobody having decided within ``hold_timeout``, it is taken back, and when who waits leaves:
        a cancelled task, an interrupted thread. Raises ``ActionDenied`` in the first case.
        """
        try:
            outcome: Outcome = yield Ask(
                self.gate, "resume", uid, wait=self.hold_timeout, body=body
            )
        except (Exception, GeneratorExit):
            raise
        except BaseException:
            with contextlib.suppress(GateError):
                yield Ask(self.gate, "withdraw", uid)
            raise
        if not outcome.held or self.hold_timeout is None or outcome.exception is not None:
            return outcome
        reason = f"nobody decided within {self.hold_timeout:g} s"
        with contextlib.suppress(GateError):  # a gate that has gone away runs nothing either
            outcome = yield Ask(self.gate, "withdraw", uid)
        if outcome.status not in {"held", "skipped"}:
            return outcome  # it was decided in the meantime
        raise ActionDenied(
            reason,
            kind="approval_timeout",
            reason=reason,
            uid=uid,
            hold=outcome.hold,
            outcome=outcome,
        )

    def _steps(self, body: Entered | None) -> Steps[Any]:
        try:
            outcome = yield from self.propose(body)
            if outcome.status in _WAITING and outcome.exception is None:
                outcome = yield from self.settle(outcome, body)
        except GateError as error:
            if body is None or not body.entered:
                raise NoResult(_too_large(error) or error) from error
            # The gate went away under a running body; nobody has recorded how it ended.
            reason = "the gate could not record how it ended"
            doubt = ActionFailed(reason, kind="in_doubt", reason=reason)
            doubt.__cause__ = error
            raise NoResult(doubt) from error
        return self._result(outcome, body)

    def _result(self, outcome: Outcome, body: Entered | None) -> Any:
        if outcome.succeeded:
            value = outcome.output
            if body is not None:
                value = body.value if outcome.live else self.restore(recorded_output(outcome))
            return self.deliver(outcome, value)
        exception = outcome.exception
        if body is not None and body.stopped is not None and isinstance(exception, ToolSuspended):
            raise body.stopped
        if isinstance(exception, EditRefused):
            raise NoResult(_refused(exception, outcome))
        if exception is not None:
            raise self.raised(outcome, exception)
        raise NoResult(error_of(outcome))


class Entered:
    """The body of one call as the client runs it, and what it left for the framework."""

    def __init__(self, enter: Callable[[dict[str, Any]], Any], call: Call) -> None:
        self._enter = enter
        self._call = call
        self.entered = False
        self.value: Any = None
        self.stopped: Exception | None = None
        """With what the body has stopped itself."""

    def __call__(self, args: dict[str, Any]) -> Any:
        """Run the body and return what the gate is told of its result."""
        with self._running():
            returned = self._enter(args)
        return self._awaited(returned) if type(returned) is CoroutineType else self._told(returned)

    async def _awaited(self, returned: Any) -> Any:
        with self._running():
            value = await returned
        return self._told(value)

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        self.entered, self.stopped = True, None
        try:
            yield
        except Exception as error:
            if not self._call.suspends(error):
                raise
            self.stopped = error
            raise ToolSuspended(str(error)) from error

    def _told(self, returned: Any) -> Any:
        if isinstance(returned, Result):
            self.value = returned.output
            return Result(self._call.record(returned.output), returned.documents)
        self.value = returned
        return self._call.record(returned)


class AsyncEntered(Entered):
    """A body that is a coroutine function."""

    async def __call__(self, args: dict[str, Any]) -> Any:
        """Await the body and return what the gate is told of its result."""
        return await self._awaited(self._enter(args))


def _entered(body: Callable[[dict[str, Any]], Any], call: Call) -> Entered:
    from inspect import iscoroutinefunction

    calls = getattr(body, "__call__", None)  # noqa: B004 - an object whose calls are coroutines
    known = iscoroutinefunction(body) or iscoroutinefunction(calls)
    return AsyncEntered(body, call) if known else Entered(body, call)


def error_of(outcome: Outcome) -> ActionDenied | ActionFailed | ActionHeld:
    """Return the exception that says why an outcome has no output."""
    if outcome.status in _WAITING:
        reason = outcome.hold.reason if outcome.hold else ""
        return ActionHeld(
            reason or outcome.status,
            kind=outcome.status,
            reason=reason,
            uid=outcome.uid,
            hold=outcome.hold,
            outcome=outcome,
        )
    kind = outcome.error.kind if outcome.error else outcome.status
    reason = outcome.error.message if outcome.error else ""
    cls = ActionFailed if outcome.status == "failed" else ActionDenied
    return cls(
        reason, kind=kind, reason=reason, uid=outcome.uid, hold=outcome.hold, outcome=outcome
    )


def _refused(refused: EditRefused, outcome: Outcome) -> ActionDenied:
    return ActionDenied(
        str(refused),
        kind="invalid_edit",
        reason=str(refused),
        uid=outcome.uid,
        hold=outcome.hold,
        outcome=outcome,
    )


def _too_large(error: GateError) -> ActionDenied | None:
    """Return the denial of a call that no message to the gate can hold, if it is one."""
    if not isinstance(error, ProtocolError) or error.code != TOO_LARGE:
        return None
    return ActionDenied(str(error), kind="invalid_arguments", reason=str(error))


def not_json(error: Exception) -> ActionDenied:
    """Return the denial of a call whose arguments cannot be shown to the gate."""
    reason = f"its arguments cannot be written as JSON: {error}"
    return ActionDenied(reason, kind="invalid_arguments", reason=reason)
