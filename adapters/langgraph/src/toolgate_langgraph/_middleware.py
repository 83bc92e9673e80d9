"""The middleware of LangChain's agents."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, get_args

from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import ToolMessage
from langgraph.prebuilt.tool_node import ToolCallRequest
from langgraph.types import Command

from toolgate_client import GateClient
from toolgate_client._adapting.options import OnDenied, check_options
from toolgate_langgraph._governance import Options
from toolgate_langgraph._options import HoldMode
from toolgate_langgraph._wrapping import ToolCalls

_NODES = ("langgraph.prebuilt.tool_node", "langchain.tools.tool_node")

Reply = ToolMessage | Command[Any]


class GateMiddleware(AgentMiddleware[Any, Any, Any]):
    """Governs every tool that an agent made by ``create_agent`` calls in this process.

    >>> agent = create_agent(model, tools, middleware=[…, GateMiddleware(gate)])  # doctest: +SKIP

    Also those that are added later: by other middleware, from an MCP server, for one call. Each is
    registered with ``gate`` when it is first called. The options are those of
    :func:`toolgate_langgraph.govern_tools`, whose tools may be among the agent's.

    It has to be the last in the list, so that nothing comes between the gate and the tool: what the
    gate has judged is what runs. A call raises ``ValueError`` where it is not. Arguments that a
    person edits in ``HumanInTheLoopMiddleware`` are judged like any others. What another middleware
    runs by itself, or the model's provider, is no call of the agent's, and not governed.
    """

    def __init__(
        self,
        gate: GateClient,
        *,
        hold: HoldMode = "auto",
        hold_timeout: float | None = None,
        on_denied: OnDenied = None,
    ) -> None:
        check_options(get_args(HoldMode), hold, on_denied)
        super().__init__()
        self.tools = []
        self._calls = ToolCalls(gate, Options(hold, hold_timeout, on_denied))

    def wrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Reply]
    ) -> Reply:
        """Govern a call, in this thread."""
        _check_innermost(handler)
        reply: Reply = self._calls.wrap(request, handler)
        return reply

    async def awrap_tool_call(
        self, request: ToolCallRequest, handler: Callable[[ToolCallRequest], Awaitable[Reply]]
    ) -> Reply:
        """Govern a call, in this task."""
        _check_innermost(handler)
        reply: Reply = await self._calls.awrap(request, handler)
        return reply


def _check_innermost(handler: Any) -> None:
    if getattr(handler, "__module__", None) not in _NODES:
        raise ValueError(
            "GateMiddleware has to be the last of an agent's middleware: another one comes between "
            "it and the tool, and could change what the gate has judged"
        )
