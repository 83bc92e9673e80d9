"""A chat model that says what a script says, in any process: the messages tell which line is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.callbacks import CallbackManagerForLLMRun
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import Field


class ScriptedModel(BaseChatModel):
    """Says the script's line whose number is that of the model's messages so far."""

    script: list[AIMessage]
    heard: list[list[BaseMessage]] = Field(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **kwargs: Any) -> ScriptedModel:  # type: ignore[override]
        """Take any tools."""
        return self

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> ChatResult:
        self.heard.append(list(messages))
        said = sum(isinstance(message, AIMessage) for message in messages)
        line = self.script[said].model_copy(deep=True)
        return ChatResult(generations=[ChatGeneration(message=line)])


def tool_call(name: str, args: dict[str, Any], call_id: str = "call-1") -> ToolCall:
    """Return a model's call to a tool."""
    return ToolCall(name=name, args=args, id=call_id, type="tool_call")


def calls(*made: ToolCall) -> AIMessage:
    """Return a model's message that makes tool calls."""
    return AIMessage("", tool_calls=list(made))


def script(*made: ToolCall, answer: str = "done") -> ScriptedModel:
    """Return a model that makes these calls, one turn each, and then answers."""
    return ScriptedModel(script=[*(calls(call) for call in made), AIMessage(answer)])
