"""Governing tools and workbenches, and giving restored ones a gate again."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, TypeGuard

from autogen_core.tools import (
    BaseTool,
    FunctionTool,
    StaticStreamWorkbench,
    StaticWorkbench,
    StreamTool,
    Workbench,
)

from toolgate_autogen._governance import Governance
from toolgate_autogen._tools import GovernedStreamTool, GovernedTool
from toolgate_autogen._workbenches import GovernedWorkbench, Owners, class_for
from toolgate_client import GateClient
from toolgate_client._adapting.options import OnDenied


def govern(
    gate: GateClient, tools: Any, *, hold: str, hold_timeout: float | None, on_denied: OnDenied
) -> Any:
    """Do what :func:`toolgate_autogen.govern_tools` promises."""
    one = not isinstance(tools, Sequence)
    originals = [_as_known(each) for each in ([tools] if one else tools)]
    names = [name for each in originals for name in _names(each)]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two tools are called {', '.join(map(repr, twice))}: policy goes by name")
    options: dict[str, Any] = {
        "hold": hold,
        "hold_timeout": hold_timeout,
        "on_denied": on_denied,
    }
    owners: Owners = {}
    governed = [_governed(gate, each, owners, options) for each in originals]
    return governed[0] if one else governed


def _as_known(thing: Any) -> BaseTool[Any, Any] | Workbench:
    if isinstance(thing, BaseTool | Workbench):
        return thing
    if callable(thing) and not isinstance(thing, type):
        return FunctionTool(thing, description=getattr(thing, "__doc__", None) or "")
    raise TypeError(f"{thing!r} cannot be governed: it is no AutoGen tool, workbench or function")


def _governed(
    gate: GateClient, thing: Any, owners: Owners, options: dict[str, Any]
) -> BaseTool[Any, Any] | Workbench:
    if isinstance(thing, Workbench):
        if options["on_denied"] == "raise":
            raise ValueError(
                'on_denied="raise" is not for workbenches: an agent whose workbench raises waits '
                "for ever"
            )
        if _is_autogens_own(thing):
            return _static(gate, thing, options)
        return _governed_workbench(gate, thing, owners, options)
    return _governed_tool(gate, thing, thing.name, options)


def _governed_tool(
    gate: GateClient, tool: BaseTool[Any, Any], name: str, options: dict[str, Any]
) -> GovernedTool:
    if isinstance(tool, GovernedTool):
        if tool.gate is not gate:
            tool.bind(gate)
        return tool
    cls = GovernedStreamTool if isinstance(tool, StreamTool) else GovernedTool
    governed = cls(tool, Governance(None, **options), name)
    governed.bind(gate)
    return governed


def _governed_workbench(
    gate: GateClient, workbench: Workbench, owners: Owners, options: dict[str, Any]
) -> GovernedWorkbench:
    if isinstance(workbench, GovernedWorkbench):
        if workbench.gate is not gate:
            workbench.bind(gate)
        return workbench
    governed = class_for(workbench)(workbench, Governance(None, **options), owners)
    governed.bind(gate)
    return governed


def _static(
    gate: GateClient, workbench: StaticWorkbench, options: dict[str, Any]
) -> StaticWorkbench:
    tools = workbench._tools  # noqa: SLF001 - it has no other way to tell
    if tools and all(isinstance(tool, GovernedTool) and tool.gate is gate for tool in tools):
        return workbench
    clone = copy.copy(workbench)
    clone._tools = [  # noqa: SLF001
        _governed_tool(gate, tool, name, options)
        for tool, name in zip(tools, _names(workbench), strict=True)
    ]
    return clone


def _is_autogens_own(workbench: Any) -> TypeGuard[StaticWorkbench]:
    """Tell whether all that a workbench calls are the tools it is known to have."""
    cls = type(workbench)
    if isinstance(workbench, GovernedWorkbench) or not isinstance(workbench, StaticWorkbench):
        return False
    if getattr(cls, "call_tool_stream", None) not in {None, StaticStreamWorkbench.call_tool_stream}:
        return False
    return cls.call_tool is StaticWorkbench.call_tool and (
        cls.list_tools is StaticWorkbench.list_tools
    )


def _names(thing: Any) -> list[str]:
    """Name the tools of a thing as models are shown them, as far as it is known before it runs."""
    if isinstance(thing, BaseTool):
        return [thing.name]
    if not _is_autogens_own(thing):
        return []
    overrides = thing._tool_overrides  # noqa: SLF001
    return [
        (overrides[tool.name].name if tool.name in overrides else None) or tool.name
        for tool in thing._tools  # noqa: SLF001
    ]


def bind_all(gate: GateClient, things: Any) -> None:
    """Do what :func:`toolgate_autogen.bind` promises."""
    for thing in things if isinstance(things, Iterable) else [things]:
        found = list(_governed_in(thing, set()))
        if not found:
            raise ValueError(f"{thing!r} has no governed tool or workbench to bind to a gate")
        for each in found:
            each.bind(gate)


_PARTS = ("_tools", "_workbench", "_participants", "_original", "_task_runner", "_inner_team")
"""Where AutoGen's workbenches, agents, teams and tools, and governed ones, have what they use."""


def _governed_in(thing: Any, seen: set[int]) -> Iterator[GovernedTool | GovernedWorkbench]:
    if id(thing) in seen:
        return
    seen.add(id(thing))
    if isinstance(thing, GovernedTool | GovernedWorkbench):
        yield thing
    known: dict[str, Any] = getattr(thing, "__dict__", {})
    for part in _PARTS:
        inside = known.get(part)
        if inside is None:
            continue
        for each in inside if isinstance(inside, list | tuple) else (inside,):
            yield from _governed_in(each, seen)
