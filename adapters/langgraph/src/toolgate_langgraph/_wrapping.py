"""Tools governed as they are called: whatever tool a call has come to, for that call."""

from __future__ import annotations

import weakref
from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.tools import BaseTool

from toolgate_client import ActionDenied, GateClient, GateError, ProtocolError
from toolgate_client._adapting.calls import Steps, atake, take
from toolgate_langgraph._arguments import ToolArguments
from toolgate_langgraph._classes import check_reachable, clone_of, governance_of
from toolgate_langgraph._governance import Governance, Options
from toolgate_langgraph._tools import registered


class ToolCalls:
    """Governs the calls of a ``ToolNode``, by their requests.

    In the place of a call's tool the node is given an object of its governed class that shares its
    state; the body runs on the tool itself. What the node does before and after stays the node's.
    """

    def __init__(self, gate: GateClient, options: Options) -> None:
        self._gate = gate
        self._options = options
        self._known: dict[int, tuple[weakref.ref[BaseTool], Any, ToolArguments]] = {}

    def wrap(self, request: Any, handler: Callable[[Any], Any]) -> Any:
        """Be the ``wrap_tool_call`` of a node."""
        try:
            governed = take(self._governed(request))
        except (GateError, ValueError) as error:
            return self._denied(request, error)
        return handler(governed)

    async def awrap(self, request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
        """Be the ``awrap_tool_call`` of a node."""
        try:
            governed = await atake(self._governed(request))
        except (GateError, ValueError) as error:
            return self._denied(request, error)
        return await handler(governed)

    def _governed(self, request: Any) -> Steps[Any]:
        tool = request.tool
        if tool is None:
            return request  # there is none of that name, as the node is about to say
        known = governance_of(tool)
        if known is not None:
            if known.gate is self._gate:
                return request
            raise ValueError("another gate governs it, or one that is gone")
        check_reachable(tool)
        arguments = self._arguments(tool)
        fresh = arguments is None
        arguments = arguments or ToolArguments(tool)
        governance = Governance(tool.name, self._options, self._gate, arguments, original=tool)
        clone = clone_of(tool, governance, tool.__dict__)
        if fresh:
            yield from registered(self._gate, clone, arguments)
            self._remember(tool, arguments)
        return request.override(tool=clone)

    def _denied(self, request: Any, error: GateError | ValueError) -> Any:
        if not isinstance(error, GateError) or isinstance(error, ProtocolError):
            error = ActionDenied(str(error), kind="unregistered_tool", reason=str(error))
        return self._options.denied(request.tool, request.tool_call["id"], error)

    # --- what the gate knows already

    def _arguments(self, tool: BaseTool) -> ToolArguments | None:
        reference, shape, arguments = self._known.get(id(tool), (None, None, None))
        same = reference is not None and reference() is tool and shape == _shape(tool)
        return arguments if same else None

    def _remember(self, tool: BaseTool, arguments: ToolArguments) -> None:
        key, known = id(tool), self._known
        reference = weakref.ref(tool, lambda _: known.pop(key, None))
        known[key] = (reference, _shape(tool), arguments)


def _shape(tool: BaseTool) -> tuple[Any, ...]:
    """Return what a tool's arguments depend on."""
    schema = tool.args_schema
    functions = [getattr(tool, name, None) for name in ("func", "coroutine")]
    return (tool.name, tool.description, id(schema), *map(id, functions))
