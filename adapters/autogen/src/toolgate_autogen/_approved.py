"""Going on after a hold: what a team is told of a call that was held when it stopped."""

from __future__ import annotations

import json
from typing import Any

from autogen_agentchat.messages import TextMessage

from toolgate_autogen._registry import body_of
from toolgate_client import ActionDenied, ActionHeld, GateClient, Hold, Outcome
from toolgate_client._adapting.calls import error_of
from toolgate_client._adapting.messages import describe, of_edit, recorded_output


async def message_of(gate: GateClient, uid: str, wait: float | None, source: str) -> TextMessage:
    """Do what :func:`toolgate_autogen.run_approved` promises."""
    hold = await _hold_of(gate, uid)
    tool = (hold.tool if hold is not None else None) or "the call"
    body = await body_of(gate, tool)
    outcome = await gate.aresume(uid, wait=wait)
    if outcome.status in {"held", "executing", "proposed"}:
        raise _held(outcome)
    if outcome.error is not None and outcome.error.kind == "unknown_action":
        reason = outcome.error.message
        raise ActionDenied(reason, kind="unknown_action", reason=reason, uid=uid, outcome=outcome)
    if outcome.succeeded:
        output = outcome.output if outcome.live else recorded_output(outcome)
        shown = _text(output) if body is None else body.shown(output, outcome.live)
        approved = " was approved, and" if hold is not None else ""
        content = f"{tool}{approved} has run. Its result: {shown}"
    else:
        content = describe(tool, error_of(outcome))
    if outcome.edited_args is not None:
        content = f"{content}\n{of_edit(outcome.edited_args)}"
    told = {"toolgate_uid": uid, "toolgate_status": outcome.status}
    return TextMessage(content=content, source=source, metadata=told)


async def _hold_of(gate: GateClient, uid: str) -> Hold | None:
    for status in ("pending", None):
        for hold in await gate.aholds(status):
            if hold.uid == uid:
                return hold
    return None


def _held(outcome: Outcome) -> ActionHeld:
    hold, error = outcome.hold, outcome.error
    stopped = str(outcome.exception) if outcome.exception is not None else ""
    reason = (error.message if error else "") or stopped or (hold.reason if hold else "")
    return ActionHeld(
        reason or outcome.status,
        kind=outcome.status,
        reason=reason,
        uid=outcome.uid,
        hold=hold,
        outcome=outcome,
    )


def _text(output: Any) -> str:
    return output if isinstance(output, str) else json.dumps(output, ensure_ascii=False)
