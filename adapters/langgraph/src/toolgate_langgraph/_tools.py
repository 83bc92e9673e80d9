"""Tools in, governed clones out: each of its own class, with all its fields, known to the gate."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from langchain_core.tools import BaseTool
from langchain_core.tools import tool as make_tool

from toolgate_client import GateClient
from toolgate_client._adapting.calls import Ask, Steps, take
from toolgate_langgraph._arguments import ToolArguments
from toolgate_langgraph._classes import (
    FUNCTIONS,
    GOVERNANCE,
    check_reachable,
    clone_of,
    governance_of,
    is_async_only,
    view_of,
)
from toolgate_langgraph._governance import (
    Governance,
    GovernedCoroutine,
    GovernedFunction,
    Options,
)
from toolgate_langgraph._results import record


def govern(
    gate: GateClient, tools: Sequence[BaseTool | Callable[..., Any]], options: Options
) -> list[BaseTool]:
    """Do what :func:`toolgate_langgraph.govern_tools` promises."""
    originals = [_as_tool(tool) for tool in tools]
    names = [tool.name for tool in originals]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two tools are called {', '.join(map(repr, twice))}: policy goes by name")
    return [_governed(gate, tool, options) for tool in originals]


def bind(gate: GateClient, tools: BaseTool | Iterable[BaseTool]) -> None:
    """Do what :func:`toolgate_langgraph.bind` promises."""
    for tool in [tools] if isinstance(tools, BaseTool) else tools:
        if not isinstance(tool, BaseTool):
            raise TypeError(f"{tool!r} is no LangChain tool: bind what govern_tools has returned")
        known = governance_of(tool)
        if known is None:
            raise ValueError(f"the tool {tool.name!r} is not governed: pass it to govern_tools")
        if known.gate is not None and known.gate is not gate and not known.gate.closed:
            raise ValueError(f"the tool {tool.name!r} is governed by another gate, which is open")
        arguments = ToolArguments(tool)
        take(registered(gate, tool, arguments))
        private = {
            **(tool.__pydantic_private__ or {}),
            GOVERNANCE: replace(known, gate=gate, arguments=arguments),
        }
        object.__setattr__(tool, "__pydantic_private__", private)


def registered(gate: GateClient, clone: BaseTool, arguments: ToolArguments) -> Steps[None]:
    """Make a governed clone known to its gate, as what runs when nobody's call waits for it."""
    yield Ask(
        gate,
        "register_tool",
        clone.name,
        functools.partial(_arun_detached if is_async_only(clone) else _run_detached, clone),
        description=clone.description or None,
        parameters=arguments.schema,
    )


def _governed(gate: GateClient, tool: BaseTool, options: Options) -> BaseTool:
    known = governance_of(tool)
    if known is not None:
        if known.gate is not gate:
            raise ValueError(
                f"the tool {tool.name!r} is governed by another gate, or by one that is gone; "
                "govern the original tool, or bind this one"
            )
        return tool
    check_reachable(tool)
    arguments = ToolArguments(tool)
    governance = Governance(tool.name, options, gate, arguments)
    clone = clone_of(tool, governance, dict(tool.__dict__))
    for field, wrapper in zip(FUNCTIONS, (GovernedFunction, GovernedCoroutine), strict=True):
        if (function := clone.__dict__.get(field)) is not None:
            clone.__dict__[field] = wrapper(function, clone)
    take(registered(gate, clone, arguments))
    return clone


def _as_tool(tool: Any) -> BaseTool:
    if isinstance(tool, BaseTool):
        return tool
    if callable(tool) and not isinstance(tool, type):
        made: BaseTool = make_tool(tool)
        return made
    raise TypeError(
        f"{tool!r} cannot be governed: it is no LangChain tool and no function. A tool that the "
        "model's provider runs never passes a gate in this process"
    )


def _run_detached(tool: BaseTool, args: dict[str, Any]) -> Any:
    """Run a tool for an action that nobody's call waits for, such as one resumed by its uid."""
    return record(view_of(tool).invoke(args))


async def _arun_detached(tool: BaseTool, args: dict[str, Any]) -> Any:
    """Do so for a tool that has only a coroutine."""
    return record(await view_of(tool).ainvoke(args))
