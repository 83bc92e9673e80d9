"""The public functions, without LangChain: importing this package costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, get_args

from toolgate_client._adapting.options import OnDenied, check_options
from toolgate_langgraph._options import HoldMode

if TYPE_CHECKING:
    from langchain_core.tools import BaseTool

    from toolgate_client import GateClient


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
    - ``wait``: the call waits, in its thread, for at most ``hold_timeout`` seconds (``None``: as
      long as it takes), and is then taken back: a later approval runs nothing.
    - ``return``: the model is told that the call waits; ``gate.resume(uid)`` runs it later, if the
      tool takes no injected arguments.

    ``on_denied`` says what becomes of a call without a result (denied, not approved in time, timed
    out, no gate). By default it becomes an error ``ToolMessage`` with the reason and its kind; its
    artifact has the same for programs. A function gets the error and returns the message's text;
    ``"raise"`` raises it, which ends most graphs. What a body raises is raised as it is.

    Raises ``ValueError`` for two tools of one name, arguments without a JSON Schema, and a tool
    that another gate governs; ``TypeError`` for what is no tool; ``ProtocolError`` when the gate
    refuses a tool; ``GateClosed`` when there is no gate.
    """
    check_options(get_args(HoldMode), hold, on_denied)
    from toolgate_langgraph._tools import govern

    return govern(gate, tools, hold=hold, hold_timeout=hold_timeout, on_denied=on_denied)


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
    check_options(get_args(HoldMode), hold)
    from toolgate_client._adapting.calls import NoResult
    from toolgate_langgraph._calls import GraphCall
    from toolgate_langgraph._place import current_place

    place = current_place()
    call = GraphCall(
        gate, name, dict(args), body, hold=hold, hold_timeout=hold_timeout, place=place
    )
    try:
        return call.run()
    except NoResult as none:
        raise none.error from none.error.__cause__
