"""What teams stop at: calls that are held."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

from autogen_agentchat.base import TerminatedException, TerminationCondition
from autogen_agentchat.messages import (
    BaseAgentEvent,
    BaseChatMessage,
    StopMessage,
    ToolCallExecutionEvent,
)
from autogen_core import Component
from autogen_core.models import FunctionExecutionResult
from pydantic import BaseModel

from toolgate_client import ActionHeld

_KEPT = 1000
"""How many held calls of this process are known at a time."""

_held: OrderedDict[tuple[str, str], ActionHeld] = OrderedDict()
"""By a call's id and what its model was told of it: what a tool says by itself is no hold."""


def note_held(call_id: str | None, text: str, error: ActionHeld) -> None:
    """Note that a model was told with this text that its call is held."""
    if call_id is not None:
        _held[call_id, text] = error
        _held.move_to_end((call_id, text))
        while len(_held) > _KEPT:
            _held.popitem(last=False)


def _hold_of(result: FunctionExecutionResult) -> ActionHeld | None:
    return _held.get((result.call_id, result.content)) if result.is_error else None


class HoldTerminationConfig(BaseModel):
    """A condition's config, which has nothing."""


class HoldTermination(TerminationCondition, Component[HoldTerminationConfig]):
    """Stops a team after the turn in which a call of a governed tool was held.

    For tools governed with ``hold="return"``. The team's state can be saved then, and its process
    may end. :func:`run_approved` runs the call when it is approved, and makes the message that the
    team goes on with.

    Attributes:
        held: the calls that the team last stopped at: each has ``uid``, ``hold`` and ``reason``.
            They stay known when the condition is reset, which a team does by itself.
    """

    component_config_schema = HoldTerminationConfig
    component_provider_override = "toolgate_autogen.HoldTermination"

    def __init__(self) -> None:
        self._terminated = False
        self.held: list[ActionHeld] = []

    @property
    def terminated(self) -> bool:
        """Whether the condition has been reached."""
        return self._terminated

    async def __call__(
        self, messages: Sequence[BaseAgentEvent | BaseChatMessage]
    ) -> StopMessage | None:
        """Return a stop message when a call was held in these messages, and say which."""
        if self._terminated:
            raise TerminatedException("Termination condition has already been reached")
        results = [
            result
            for message in messages
            if isinstance(message, ToolCallExecutionEvent)
            for result in message.content
        ]
        held = {(each.name, hold.uid): hold for each in results if (hold := _hold_of(each))}
        if not held:
            return None
        self._terminated = True
        self.held = list(held.values())
        calls = ", ".join(f"{name} (uid {uid})" for name, uid in held)
        uids = " ".join(error.uid for error in self.held)
        return StopMessage(
            content=f"Held for a person's approval: {calls}",
            source="HoldTermination",
            metadata={"toolgate_uids": uids},
        )

    async def reset(self) -> None:
        """Make it ready for another run."""
        self._terminated = False

    def _to_config(self) -> HoldTerminationConfig:
        return HoldTerminationConfig()

    @classmethod
    def _from_config(cls, config: HoldTerminationConfig) -> Any:
        return cls()
