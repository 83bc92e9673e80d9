"""The public functions, without LangChain: importing this package costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from toolgate_client._adapting.options import OnDenied, check_options
from toolgate_langgraph._options import HoldMode

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from toolgate_client import GateClient
    from toolgate_langgraph._calls import GraphCall


def govern_tools(
    gate: GateClient,
    tools: Sequence[BaseTool | Callable[..., Any]],
    *,
    hold: HoldMode = "auto",
    hold_timeout: float | None = None,
    on_denied: OnDenied = None,
) -> list[BaseTool]:
    """Return ``tools`` governed: the gate decides about each call before the tool's body runs.

    ``tools`` are what LangChain and LangGraph take: ``BaseTool`` instances (also made with
    ``@tool``) and plain functions. Each comes back as a clone of its own class with all its fields;
    the original is left as it is, and is not governed. All are registered with the gate, which sees
    their calls' arguments as JSON, without anything injected. Tools this gate governs already come
    back as they are.

    ``hold`` says what becomes of a call that waits for a person's decision:

    - ``auto``: ``interrupt`` in a graph with a checkpointer, else ``wait``.
    - ``interrupt``: the graph pauses with LangChain's approval request (``{"type": "tool_approval",
      "name", "args", "tool_call_id", "description"}``, and ``uid`` and ``hold``). Resuming the
      graph, with whatever value, only makes it ask the gate again: the gate's signed record
      decides, and the call runs once. Outside such a graph: as ``return``.
    - ``wait``: the call waits, in its thread or task, for at most ``hold_timeout`` seconds
      (``None``: as long as it takes), and is then taken back: a later approval runs nothing. A task
      that waits occupies no thread; cancelling it takes the call back.
    - ``return``: the model is told that the call waits; ``gate.resume(uid)`` runs it later, if the
      tool takes no injected arguments.

    ``on_denied`` says what becomes of a call without a result (denied, not approved in time, timed
    out, no gate). By default it becomes an error ``ToolMessage`` with the reason and its kind; its
    artifact has the same for programs. A function gets the error and returns the message's text;
    ``"raise"`` raises it, which ends most graphs. What a body raises is raised as it is.

    Raises ``ValueError`` for two tools of one name, arguments without a JSON Schema, a class that
    overrides ``invoke``, ``run`` or their like, and a tool that another gate governs; ``TypeError``
    for what is no tool; ``ProtocolError`` when the gate refuses a tool; ``GateClosed`` when there
    is no gate.
    """
    check_options(get_args(HoldMode), hold, on_denied)
    from toolgate_langgraph._governance import Options
    from toolgate_langgraph._tools import govern

    return govern(gate, tools, Options(hold, hold_timeout, on_denied))


def bind(gate: GateClient, tools: BaseTool | Iterable[BaseTool]) -> None:
    """Give governed tools that came from elsewhere, one or several, this process's gate.

    A governed tool that was unpickled, or whose gate has been closed, denies every call. ``bind``
    registers it with ``gate``, and from then on ``gate`` decides; its options stay as they were.

    Raises ``ValueError`` for a tool that is not governed, or whose gate is another, open one;
    ``TypeError`` for what is no tool; else as :func:`govern_tools`.
    """
    from toolgate_langgraph import _tools

    _tools.bind(gate, tools)


def tool_call_wrappers(
    gate: GateClient,
    *,
    hold: HoldMode = "auto",
    hold_timeout: float | None = None,
    on_denied: OnDenied = None,
) -> dict[str, Any]:
    """Return what makes LangGraph's ``ToolNode`` ask ``gate`` about every call it makes.

    >>> node = ToolNode(tools, **tool_call_wrappers(gate))  # doctest: +SKIP

    The node's tools stay as they are: each is registered with the gate when it is first called.
    The options are those of :func:`govern_tools`. Agents made by ``create_agent`` take
    ``GateMiddleware``, which does the same.
    """
    check_options(get_args(HoldMode), hold, on_denied)
    from toolgate_langgraph._governance import Options
    from toolgate_langgraph._wrapping import ToolCalls

    calls = ToolCalls(gate, Options(hold, hold_timeout, on_denied))
    return {"wrap_tool_call": calls.wrap, "awrap_tool_call": calls.awrap}


def governed_call(
    gate: GateClient,
    name: str,
    args: Mapping[str, Any],
    *,
    body: Callable[[dict[str, Any]], Any] | None = None,
    hold: HoldMode = "auto",
    hold_timeout: float | None = None,
) -> Any:
    """Make one governed call from a custom node, and return what its body returned.

    ``name`` is registered with the gate, by ``govern_tools`` or ``gate.register_tool``; ``args``
    are JSON. ``body`` replaces the registered body for this call. ``hold`` and ``hold_timeout`` are
    as for :func:`govern_tools`; a node that runs again after a pause gets the same call's result.

    Raises what the body raised; ``ActionDenied`` when the call did not run, ``ActionHeld`` when it
    waits (``hold="return"``), ``ActionFailed`` when it has no result for another reason,
    ``GateClosed`` and ``ProtocolError`` when the gate could not be asked, and ``TypeError`` or
    ``ValueError`` when ``args`` are not JSON.
    """
    from toolgate_client._adapting.calls import NoResult

    try:
        return _call(gate, name, args, body, hold, hold_timeout).run()
    except NoResult as none:
        raise none.error from none.error.__cause__


async def agoverned_call(
    gate: GateClient,
    name: str,
    args: Mapping[str, Any],
    *,
    body: Callable[[dict[str, Any]], Any] | None = None,
    hold: HoldMode = "auto",
    hold_timeout: float | None = None,
) -> Any:
    """Do what :func:`governed_call` does, from a coroutine, without holding up its event loop.

    A ``body`` that is a coroutine function is awaited in this task; any other runs in a thread.
    Cancelling this takes back a held call, and cancels a coroutine that runs.
    """
    from toolgate_client._adapting.calls import NoResult

    try:
        return await _call(gate, name, args, body, hold, hold_timeout).arun()
    except NoResult as none:
        raise none.error from none.error.__cause__


def _call(
    gate: GateClient,
    name: str,
    args: Mapping[str, Any],
    body: Callable[[dict[str, Any]], Any] | None,
    hold: HoldMode,
    hold_timeout: float | None,
) -> GraphCall:
    check_options(get_args(HoldMode), hold)
    from toolgate_langgraph._calls import GraphCall
    from toolgate_langgraph._place import current_place

    return GraphCall(
        gate, name, dict(args), body, hold=hold, hold_timeout=hold_timeout, place=current_place()
    )
