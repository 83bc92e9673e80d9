"""One governed call from proposal to result: run, replayed, denied, or held and waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from toolgate_client import (
    ActionDenied,
    ActionFailed,
    ActionHeld,
    GateClient,
    GateError,
    Outcome,
    Result,
)
from toolgate_client._adapting.threads import Caller

_WAITING = ("held", "executing")


class NoResult(Exception):
    """A call gave no result, and not because its body raised. ``error`` is what to tell of it."""

    def __init__(self, error: GateError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Call:
    """What is asked of the gate.

    ``body`` takes the arguments the gate releases; without it the registered body runs. ``hold`` is
    ``wait`` or ``return`` (an adapter's subclass may know more); ``hold_timeout`` is in seconds.
    ``caller`` is who waits, where that is another thread.
    """

    gate: GateClient
    tool: str
    args: dict[str, Any]
    body: Callable[[dict[str, Any]], Any] | None
    hold: str = "wait"
    hold_timeout: float | None = None
    caller: Caller = field(default_factory=Caller)

    def run(self) -> Any:
        """Govern the call and return what its body returned.

        Raises what the body raised, and else :class:`NoResult`: with ``ActionDenied`` when the call
        did not run, ``ActionHeld`` when it waits, ``ActionFailed`` when it ran and has no result,
        ``GateClosed`` or ``ProtocolError`` when the gate could not be asked.
        """
        body = None if self.body is None else Entered(self.body, self.record)
        try:
            outcome = self.propose(body)
            if outcome.status in _WAITING and outcome.exception is None:
                outcome = self.settle(outcome, body)
        except GateError as error:
            if body is None or not body.entered:
                raise NoResult(error) from error
            # The gate went away under a running body; nobody has recorded how it ended.
            reason = "the gate could not record how it ended"
            doubt = ActionFailed(reason, kind="in_doubt", reason=reason)
            doubt.__cause__ = error
            raise NoResult(doubt) from error
        return self._result(outcome, body)

    # --- what a framework has its own way for

    def propose(self, body: Entered | None) -> Outcome:
        """Propose the call; if it is allowed, its body runs."""
        return self.gate.govern(self.tool, self.args, body=body)

    def settle(self, outcome: Outcome, body: Entered | None) -> Outcome:
        """Say what becomes of a call that waits for people, or for another process."""
        return self.wait(outcome.uid, body) if self.hold == "wait" else outcome

    def record(self, value: Any) -> Any:
        """Return what the gate is told of a result."""
        return value

    def restore(self, recorded: Any) -> Any:
        """Return a recorded result as the body returned it."""
        return recorded

    # --- pieces

    def wait(self, uid: str, body: Entered | None) -> Outcome:
        """Wait for a held call, and run it when it is approved.

        Nobody having decided within ``hold_timeout``, it is taken back. Raises ``ActionDenied``
        then.
        """
        with self.caller.leaving(lambda: self._take_back(uid)):
            outcome = self.gate.resume(uid, wait=self.hold_timeout, body=body)
        if not outcome.held or self.hold_timeout is None:
            return outcome
        reason = f"nobody decided within {self.hold_timeout:g} s"
        outcome = self._take_back(uid) or outcome
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

    def _take_back(self, uid: str) -> Outcome | None:
        with contextlib.suppress(GateError):  # a gate that has gone away runs nothing either
            return self.gate.withdraw(uid)
        return None

    def _result(self, outcome: Outcome, body: Entered | None) -> Any:
        if outcome.succeeded:
            if body is None:
                return outcome.output
            return body.value if outcome.live else self.restore(outcome.output)
        if outcome.exception is not None:
            raise outcome.exception
        raise NoResult(error_of(outcome))


class Entered:
    """The body of one call as the client runs it, and what it left for the framework."""

    def __init__(
        self, enter: Callable[[dict[str, Any]], Any], record: Callable[[Any], Any]
    ) -> None:
        self._enter = enter
        self._record = record
        self.before: Callable[[], None] | None = None
        """Done when the body is entered, before it."""
        self.entered = False
        self.value: Any = None

    def __call__(self, args: dict[str, Any]) -> Any:
        """Run the body and return what the gate is told of its result."""
        self.entered = True
        if self.before is not None:
            self.before()
        returned = self._enter(args)
        if isinstance(returned, Result):
            self.value = returned.output
            return Result(self._record(returned.output), returned.documents)
        self.value = returned
        return self._record(returned)


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


def not_json(error: Exception) -> ActionDenied:
    """Return the denial of a call whose arguments cannot be shown to the gate."""
    reason = f"its arguments cannot be written as JSON: {error}"
    return ActionDenied(reason, kind="invalid_arguments", reason=reason)
