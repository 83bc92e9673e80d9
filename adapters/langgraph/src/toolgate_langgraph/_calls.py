"""A governed call of a LangGraph run: named across a resume, and able to pause the graph."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from toolgate_client import Hold, Outcome
from toolgate_client._adapting.calls import Ask, Call, Entered, Steps
from toolgate_client._adapting.messages import of_edit
from toolgate_langgraph._place import APPROVAL, Place
from toolgate_langgraph._results import ResponseFormat, is_langgraph, record, restore, with_note

_TRIED = "execution_failed"
"""How a body that raised is recorded. Who makes the call again wants another attempt: a retry
policy, or a rerun after an error."""


@dataclass(frozen=True)
class GraphCall(Call):
    """What is asked of the gate from a ``place`` in a graph, or from outside any.

    ``call_id`` is the model's id for this call, if a model made it. Running it raises
    ``GraphInterrupt`` to pause the graph, or because the body has.
    """

    place: Place | None = None
    call_id: str | None = None
    response_format: ResponseFormat = "content"

    def propose(self, body: Entered | None) -> Steps[Outcome]:
        """Propose the call under a key that it has again when the graph comes back to it."""
        if self.place is not None:
            yield from self.place.take_wake_up()
        for key in self._keys():
            outcome: Outcome = yield Ask(
                self.gate, "govern", self.tool, self.args, idempotency_key=key, body=body
            )
            if not (outcome.replayed and outcome.error and outcome.error.kind == _TRIED):
                return outcome
        raise AssertionError("there is always another key")

    def settle(self, outcome: Outcome, body: Entered | None) -> Steps[Outcome]:
        """Pause the graph, wait, or leave it held."""
        mode = self.hold
        if mode == "auto":
            mode = "wait" if self.place is None else "interrupt"
        if mode == "interrupt" and self.place is not None:
            self.place.interrupt(self._approval_request(outcome), uid=outcome.uid)
        return (yield from self.wait(outcome.uid, body)) if mode == "wait" else outcome

    def suspends(self, error: Exception) -> bool:
        """Tell whether a body has paused the graph, to be entered again when it goes on.

        Without a checkpointer nothing ever does.
        """
        return self.place is not None and is_langgraph(error, "GraphInterrupt")

    def record(self, value: Any) -> Any:
        """Return what the gate is told of a result."""
        return record(value, self.response_format)

    def restore(self, recorded: Any) -> Any:
        """Return a recorded result as the tool returned it."""
        return restore(recorded, self.response_format)

    def deliver(self, outcome: Outcome, value: Any) -> Any:
        """Return the result; a model is told if a person has edited its call."""
        if outcome.edited_args is None or self.call_id is None:
            return value
        note = of_edit(outcome.edited_args)
        return with_note(value, note, self.tool, self.call_id, self.response_format)

    def _keys(self) -> Iterable[str | None]:
        if self.place is None:
            return [None]
        return self.place.keys(self.call_id, self.tool, self.args)

    def _approval_request(self, outcome: Outcome) -> dict[str, Any]:
        """Return the interrupt's value: LangChain's approval request, the action and its hold."""
        hold = outcome.hold
        return {
            "type": APPROVAL,
            "name": self.tool,
            "args": self.args,
            "tool_call_id": self.call_id or "",
            "description": _describe(self.tool, self.args, hold),
            "uid": outcome.uid,
            "hold": None if hold is None else _hold_fields(hold),
        }


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
