"""A call as an author writes it down: the facts of a test case, or of a question.

What is left out has a fixed value, so that the same text always means the same call.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BeforeValidator, Field, field_validator, model_validator

from toolgate import clock, jsonvalue
from toolgate.config import GateConfig, ToolEntry
from toolgate.errors import JSONError
from toolgate.fields import Duration, Name, Names, Section, as_tuple
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


Moment: TypeAlias = Annotated[str, BeforeValidator(_moment)]
"""A time with its time zone, as text."""


PastStatus: TypeAlias = Literal["executing", "succeeded", "failed", "skipped", "in_doubt"]
"""What may have become of a call that stands in the history."""


class PastCall(Section):
    """A call that the session has made; ``labels`` are its tool's, where they are left out."""

    tool: Name
    status: PastStatus = "succeeded"
    labels: Names | None = None


class SessionFacts(Section):
    """The session a call is made in; ``age`` is in seconds.

    ``history`` are its last calls, oldest first. ``calls`` and ``total_calls`` are how often it has
    called each tool, and all of them; what is left out is counted from the others.
    """

    id: Name = "session"
    age: Duration = 0.0
    labels: Names = ()
    calls: dict[Name, Annotated[int, Field(ge=0, lt=1 << 63)]] | None = None
    total_calls: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    history: Annotated[tuple[PastCall, ...], BeforeValidator(as_tuple), Field(max_length=50)] = ()


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
    now: Moment = NOW
    proposal_id: str | None = None

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
        session, calls = self.session, self._calls(setting)
        total = sum(calls.values()) if session.total_calls is None else session.total_calls
        history = [setting.past_call(c.tool, c.status, c.labels) for c in session.history]
        return CallFacts(
            args=self.args,
            contract=setting.contract(self.type, self.tool),
            action_id=ACTION_ID,
            action_type=self.type.value,
            proposal_id=self.proposal_id,
            agent_id=self.agent.id or setting.agent,
            framework=self.agent.framework or setting.framework,
            session_id=session.id,
            session_age=session.age,
            now=datetime.fromisoformat(self.now),
            state=lambda: state,
            labels=lambda: sorted(session.labels),
            calls=lambda: calls,
            total_calls=lambda: total,
            history=lambda: history,
        )

    def assumed(self, names: Set[str]) -> list[str]:
        """Say what the facts of these ``names`` were taken to be that nobody has said."""
        said = self.session.model_fields_set
        counted = said & {"calls", "total_calls", "history"}
        session = [
            text
            for name, given, text in (
                ("session.id", "id" in said, f"id {self.session.id}"),
                ("session.age", "age" in said, "age 0s"),
                ("session.labels", "labels" in said, "no labels"),
                ("session.calls", bool(counted), "no calls"),
                ("session.total_calls", bool(counted), "no calls"),
                ("history", "history" in said, "no history"),
            )
            if name in names and not given
        ]
        found = []
        if "now" in names and "now" not in self.model_fields_set:
            found.append(f"now is {self.now}")
        if session:
            found.append(f"the session is a new one: {', '.join(dict.fromkeys(session))}")
        if "state" in names and "state" not in self.model_fields_set:
            found.append("the session's state is the one the config begins with")
        return found

    def _calls(self, setting: Setting) -> dict[str, int]:
        """Return how often each tool was called: 0 for those that a gate would know."""
        calls = dict.fromkeys(setting.tools, 0)
        if self.tool is not None:
            calls[self.tool] = 0
        if self.session.calls is not None:
            return calls | self.session.calls
        for call in self.session.history:
            calls[call.tool] = calls.get(call.tool, 0) + 1
        return calls


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

    def past_call(
        self, tool: str, status: str, labels: tuple[str, ...] | None = None
    ) -> dict[str, JSONValue]:
        """Return a call as a history has it; ``labels`` are the tool's unless given."""
        if labels is None:
            labels = self.contract(ActionType.TOOL_CALL, tool).labels
        return {"tool": tool, "status": status, "labels": list(labels)}
