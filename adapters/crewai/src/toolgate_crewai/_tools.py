"""Governed clones of CrewAI tools: the same class and fields, with the gate before the body.

A clone is called after CrewAI has validated a call and counted it, so validation and limits stay
CrewAI's.
"""

from __future__ import annotations

import asyncio
import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from crewai.tools import BaseTool
from crewai.tools import tool as make_tool
from crewai.tools.base_tool import Tool
from crewai.tools.structured_tool import CrewStructuredTool
from crewai.utilities.string_utils import sanitize_tool_name

from toolgate_client import GateClient
from toolgate_client._adapting.options import OnDenied
from toolgate_crewai._arguments import ToolArguments
from toolgate_crewai._classes import (
    GOVERNANCE,
    goes_by_func,
    governance_of,
    governed_class,
    view_of,
    with_state,
)
from toolgate_crewai._failures import is_failure
from toolgate_crewai._governance import Governance, GovernedCoroutine, GovernedFunction


class GuardedCaching:
    """A tool's ``cache_function`` that raises nothing, and has no failure remembered."""

    def __init__(self, function: Callable[..., Any]) -> None:
        functools.update_wrapper(self, function)  # CrewAI writes it down by its name
        self._function = function

    def __call__(self, args: Any = None, result: Any = None) -> bool:
        """Say whether CrewAI may answer such a call with this result from now on."""
        if is_failure(result):
            return False
        try:
            return bool(self._function(args, result))
        except Exception as error:  # noqa: BLE001 - CrewAI would make the call again
            warnings.warn(f"cache_function raised {error!r}; nothing is cached", stacklevel=2)
            return False


def never_cached(args: Any = None, result: Any = None) -> bool:
    """Be the ``cache_function`` of a tool whose every call is to reach the gate."""
    return False


def govern(
    gate: GateClient,
    tools: Sequence[Any],
    *,
    hold: str,
    hold_timeout: float | None,
    on_denied: OnDenied,
    cache: bool,
) -> list[BaseTool]:
    """Do what :func:`toolgate_crewai.govern_tools` promises."""
    originals = [_as_tool(tool) for tool in tools]
    names = [sanitize_tool_name(tool.name) for tool in originals]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two tools are called {', '.join(map(repr, twice))}: policy goes by name")
    options = {"hold": hold, "hold_timeout": hold_timeout, "on_denied": on_denied}
    return [_governed(gate, tool, cache, options) for tool in originals]


def _governed(gate: GateClient, tool: BaseTool, cache: bool, options: dict[str, Any]) -> BaseTool:
    if (known := governance_of(tool)) is not None:
        if known.gate is not gate:
            raise ValueError(
                f"the tool {tool.name!r} is governed by another gate; govern the original tool, "
                "or bind this one when that gate is closed"
            )
        return tool
    for method in ("run", "arun"):
        if getattr(type(tool), method) not in {getattr(BaseTool, method), getattr(Tool, method)}:
            raise ValueError(
                f"the class of the tool {tool.name!r} overrides {method}, which CrewAI calls "
                "before a gate could be asked; have it override _run or _arun"
            )
    arguments = ToolArguments(tool, _body(tool))
    clone = _clone(tool, Governance(gate, tool.name, arguments, **options), cache)
    _register(gate, clone, arguments)
    return clone


def bind(gate: GateClient, tools: BaseTool | Iterable[BaseTool]) -> None:
    """Do what :func:`toolgate_crewai.bind` promises."""
    for tool in [tools] if isinstance(tools, BaseTool) else tools:
        if not isinstance(tool, BaseTool):
            raise TypeError(f"{tool!r} is no CrewAI tool: bind what govern_tools has returned")
        if (known := governance_of(tool)) is None:
            raise ValueError(f"the tool {tool.name!r} is not governed: pass it to govern_tools")
        if known.gate is not gate and not known.gate.closed:
            raise ValueError(f"the tool {tool.name!r} is governed by another gate, which is open")
        _register(gate, tool, known.arguments)
        governance = replace(known, gate=gate)
        if isinstance(function := tool.__dict__.get("func"), GovernedFunction):
            function.governance = governance
        private = {**(tool.__pydantic_private__ or {}), GOVERNANCE: governance}
        object.__setattr__(tool, "__pydantic_private__", private)


def _register(gate: GateClient, clone: BaseTool, arguments: ToolArguments) -> None:
    """Make a governed clone known to its gate, as what runs when nobody's call waits for it."""
    gate.register_tool(
        clone.name,
        functools.partial(_run_detached, clone, arguments),
        description=clone.description or None,
        parameters=arguments.schema,
    )


def _as_tool(tool: Any) -> BaseTool:
    if isinstance(tool, CrewStructuredTool):
        original = tool._original_tool  # noqa: SLF001
        if isinstance(original, BaseTool):
            return original
        made: BaseTool = Tool.from_langchain(tool)
        for field in ("result_as_answer", "max_usage_count", "tool_failure_policy"):
            if hasattr(tool, field):
                setattr(made, field, getattr(tool, field))
        made.current_usage_count = tool.current_usage_count
        if getattr(tool, "cache_function", None) is not None:
            made.cache_function = tool.cache_function
        return made
    if isinstance(tool, BaseTool):
        return tool
    if all(hasattr(tool, name) for name in ("name", "func", "description")):
        return Tool.from_langchain(tool)
    if callable(tool) and not isinstance(tool, type):
        named: BaseTool = make_tool(tool)
        return named
    raise TypeError(f"{tool!r} cannot be governed: it is no CrewAI tool and no function")


def _clone(tool: BaseTool, governance: Governance, cache: bool) -> BaseTool:
    clone = with_state(governed_class(type(tool)), tool, dict(tool.__dict__))
    if (function := clone.__dict__.get("func")) is not None:
        is_coroutine = asyncio.iscoroutinefunction(function)
        wrapper = GovernedCoroutine if is_coroutine else GovernedFunction
        clone.__dict__["func"] = wrapper(function, governance)
    caching = GuardedCaching(tool.cache_function) if cache else never_cached
    clone.__dict__["cache_function"] = caching
    private = {**(tool.__pydantic_private__ or {}), GOVERNANCE: governance}
    object.__setattr__(clone, "__pydantic_private__", private)
    return clone


def _body(tool: BaseTool) -> Callable[..., Any]:
    """Return what runs for a call of a tool that is not governed."""
    body: Callable[..., Any] = tool.func if goes_by_func(type(tool)) else tool._run  # noqa: SLF001
    return body


def _run_detached(tool: BaseTool, arguments: ToolArguments, args: dict[str, Any]) -> Any:
    """Run a tool for an action that nobody's call waits for, such as one resumed by its uid."""
    return _body(view_of(tool))(**arguments.validated(args))


def gate_of(tool: Any) -> GateClient | None:
    """Return the gate that governs a tool, or a structured tool made of one."""
    original = getattr(tool, "_original_tool", None)
    governance = governance_of(tool if original is None else original)
    return None if governance is None else governance.gate
