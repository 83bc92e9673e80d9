"""One governed call from proposal to result: replayed, run, denied, paused or waited for."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from toolgate_client import (
    ActionDenied,
    ActionFailed,
    ActionHeld,
    GateClient,
    GateError,
    Hold,
    Outcome,
)
from toolgate_langgraph._options import HoldMode
from toolgate_langgraph._place import Place
from toolgate_langgraph._results import ResponseFormat, record, restore
from toolgate_langgraph._threads import Caller

_TRIED = "execution_failed"
"""How a body that raised is recorded. Who makes the call again wants another attempt: a retry
policy, a rerun after an error, the resume of a body that interrupted itself."""


class NoResult(Exception):
    """A call gave no result, and not because its body raised. ``error`` is what to tell of it."""

    def __init__(self, error: GateError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class Call:
    """What is asked of the gate.

    ``body`` takes the arguments the gate releases; without it the registered body runs.
    ``call_id`` is the model's id for this call, if a model made it. ``hold_timeout`` is in seconds.
    ``caller`` is who waits, where that is another thread.
    """

    gate: GateClient
    tool: str
    args: dict[str, Any]
    body: Callable[[dict[str, Any]], Any] | None
    call_id: str | None = None
    response_format: ResponseFormat = "content"
    hold: HoldMode = "auto"
    hold_timeout: float | None = None
    caller: Caller = field(default_factory=Caller)

    def run(self, place: Place | None) -> Any:
        """Govern the call and return what its body returned.

        Raises what the body raised, ``GraphInterrupt`` to pause the graph, and else
        :class:`NoResult`: with ``ActionDenied`` when the call did not run, ``ActionHeld`` when it
        waits, ``ActionFailed`` when it ran and has no result, ``GateClosed`` or ``ProtocolError``
        when the gate could not be asked.
        """
        body = None if self.body is None else _Body(self.body, self.response_format)
        try:
            outcome = self._propose(place, body)
            if outcome.status in {"held", "executing"}:
                outcome = self._settle(outcome, place, body)
        except GateError as error:
            if body is None or not body.entered:
                raise NoResult(error) from error
            # The gate went away under a running body; nobody has recorded how it ended.
            reason = "the gate could not record how it ended"
            doubt = ActionFailed(reason, kind="in_doubt", reason=reason)
            doubt.__cause__ = error
            raise NoResult(doubt) from error
        return self._result(outcome, body)

    def _propose(self, place: Place | None, body: _Body | None) -> Outcome:
        for number, key in self._keys(place):
            if body is not None:
                # Nothing that came before a body's first run can be an answer to it.
                body.before = place.drop_resume_value if place and not number else None
            outcome = self.gate.govern(self.tool, self.args, idempotency_key=key, body=body)
            if not (outcome.replayed and outcome.error and outcome.error.kind == _TRIED):
                return outcome
        raise AssertionError("there is always another key")

    def _keys(self, place: Place | None) -> Iterator[tuple[int, str | None]]:
        if place is None:
            return iter([(0, None)])
        return place.keys(self.call_id, self.tool, self.args)

    def _settle(self, outcome: Outcome, place: Place | None, body: _Body | None) -> Outcome:
        mode = self.hold
        if mode == "auto":
            mode = "wait" if place is None else "interrupt"
        if mode == "interrupt" and place is not None:
            place.interrupt(self._approval_request(outcome), uid=outcome.uid)
        if mode != "wait":
            return outcome
        return self._wait(outcome.uid, body)

    def _wait(self, uid: str, body: _Body | None) -> Outcome:
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

    def _approval_request(self, outcome: Outcome) -> dict[str, Any]:
        """Return the interrupt's value: LangChain's approval request, the action and its hold."""
        hold = outcome.hold
        return {
            "type": "tool_approval",
            "name": self.tool,
            "args": self.args,
            "tool_call_id": self.call_id or "",
            "description": _describe(self.tool, self.args, hold),
            "uid": outcome.uid,
            "hold": None if hold is None else _hold_fields(hold),
        }

    def _result(self, outcome: Outcome, body: _Body | None) -> Any:
        if outcome.succeeded:
            if body is None:
                return outcome.output
            return body.value if outcome.live else restore(outcome.output, self.response_format)
        if outcome.exception is not None:
            raise outcome.exception
        raise NoResult(error_of(outcome))


class _Body:
    """The body of one call as the client runs it, and what it left for the framework."""

    def __init__(
        self, enter: Callable[[dict[str, Any]], Any], response_format: ResponseFormat
    ) -> None:
        self._enter = enter
        self._response_format = response_format
        self.before: Callable[[], None] | None = None
        self.entered = False
        self.value: Any = None

    def __call__(self, args: dict[str, Any]) -> Any:
        self.entered = True
        if self.before is not None:
            self.before()
        self.value = self._enter(args)
        return record(self.value, self._response_format)


def error_of(outcome: Outcome) -> ActionDenied | ActionFailed | ActionHeld:
    """Return the exception that says why an outcome has no output."""
    if outcome.status in {"held", "executing"}:
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


def _describe(tool: str, args: dict[str, Any], hold: Hold | None) -> str:
    if hold is None:
        return f"{tool} is being run by another process. Resume the graph later."
    lines = [f"{tool} needs an approval: {hold.reason or 'policy holds it for a person'}", ""]
    # As `repr`, so that nothing an agent wrote acts on the terminal of who reads it.
    lines += [f"  {repr(name)[1:-1]}: {value!r}" for name, value in args.items()]
    lines += [
        "",
        f"Approve or deny hold {hold.hold_id} with the toolgate command, then resume the graph.",
    ]
    return "\n".join(lines)


def _hold_fields(hold: Hold) -> dict[str, Any]:
    names = (
        "hold_id",
        "reason",
        "rule",
        "rules",
        "approvers",
        "quorum",
        "approved_by",
        "groups",
        "missing",
        "deadline",
    )
    known = asdict(hold)
    return {name: _plain(known[name]) for name in names}


def _plain(value: Any) -> Any:
    """Return a value of a hold as JSON has it: arrays are lists."""
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    return value
