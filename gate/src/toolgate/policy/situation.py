"""A call as an author writes it down: the facts of a test case, or of a question.

What is left out has a fixed value, so that the same text always means the same call.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema, field_validator, model_validator

from toolgate import clock, jsonvalue
from toolgate.config import NOT_SUPPORTED, GateConfig, ToolEntry
from toolgate.errors import JSONError
from toolgate.fields import Duration, Name, Section
from toolgate.ir import ActionType
from toolgate.jsonvalue import JSONValue
from toolgate.policy.contracts import Contract, contract_for, contract_for_state_action
from toolgate.policy.facts import CallFacts

NOW: Final = "2026-01-05T12:00:00Z"
"""When a situation takes place that does not say: a Monday at noon, UTC."""

ACTION_ID: Final = "0" * 23 + "1"
"""What ``action.id`` is."""


def _moment(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError("must be a time such as 2026-01-05T12:00:00Z")
    try:
        clock.from_text(value)
    except (ValueError, OverflowError):
        raise ValueError("must be a time with its time zone, such as 2026-01-05T12:00:00Z") from (
            None
        )
    return value


def _refuse(value: object) -> object:
    if value is not None:
        raise ValueError(NOT_SUPPORTED.partition(":")[0])
    return value


_NotYet = Annotated[Any, BeforeValidator(_refuse), WithJsonSchema({"type": "null"})]
"""A fact of a later version: nobody is to believe that it was looked at."""


class SessionFacts(Section):
    """The session a call is made in; ``age`` is in seconds."""

    id: Name = "session"
    age: Duration = 0.0
    labels: _NotYet = None
    calls: _NotYet = None
    total_calls: _NotYet = None


class AgentFacts(Section):
    """The agent that makes a call; what is left out is the configuration's."""

    id: Name | None = None
    framework: Name | None = None


class Situation(Section):
    """One call, and what was so when it was made.

    ``state`` is added to the state that the configuration gives a new session. ``now`` is a time
    with its time zone; ``proposal_id`` is of the proposal that the action belongs to.
    """

    tool: str | None = None
    type: Annotated[ActionType, Field(strict=False)] = ActionType.TOOL_CALL
    args: dict[str, Any] = Field(default_factory=dict)
    state: dict[str, Any] = Field(default_factory=dict)
    session: SessionFacts = SessionFacts()
    agent: AgentFacts = AgentFacts()
    now: Annotated[str, BeforeValidator(_moment)] = NOW
    proposal_id: str | None = None
    history: _NotYet = None

    @field_validator("args", "state")
    @classmethod
    def _is_json(cls, value: dict[str, Any]) -> dict[str, Any]:
        try:
            jsonvalue.canonical(value)
        except JSONError as error:
            raise ValueError(str(error)) from None
        return value

    @model_validator(mode="after")
    def _names_what_is_called(self) -> Situation:
        if self.type is ActionType.TOOL_CALL and self.tool is None:
            raise ValueError("names no tool")
        if self.type is not ActionType.TOOL_CALL and self.tool is not None:
            raise ValueError(f"names a tool, and type {self.type.value} calls none")
        return self

    def facts(self, setting: Setting) -> CallFacts:
        """Return the facts that a policy judges, in a given deployment."""
        state: Mapping[str, JSONValue] = {**setting.state, **self.state}
        return CallFacts(
            args=self.args,
            contract=setting.contract(self.type, self.tool),
            action_id=ACTION_ID,
            action_type=self.type.value,
            proposal_id=self.proposal_id,
            agent_id=self.agent.id or setting.agent,
            framework=self.agent.framework or setting.framework,
            session_id=self.session.id,
            session_age=self.session.age,
            now=datetime.fromisoformat(self.now),
            state=lambda: state,
        )


@dataclass(frozen=True, slots=True)
class Setting:
    """What a deployment adds to a situation: contracts, the agent, and the initial state."""

    tools: Mapping[str, ToolEntry] = field(default_factory=dict)
    agent: str = "agent"
    framework: str | None = None
    state: Mapping[str, JSONValue] = field(default_factory=dict)

    @classmethod
    def of(cls, config: GateConfig, tools: Mapping[str, ToolEntry] | None = None) -> Setting:
        """Return a configuration's; ``tools`` replace its contracts of the same name."""
        return cls(
            tools={**config.tools, **(tools or {})},
            agent=config.agent.id,
            framework=config.agent.framework,
            state=config.state,
        )

    def contract(self, kind: ActionType, tool: str | None) -> Contract:
        """Return the contract of a tool, or of a type of state action."""
        if kind is not ActionType.TOOL_CALL:
            return contract_for_state_action(kind)
        return contract_for(tool or "", self.tools.get(tool or ""))
