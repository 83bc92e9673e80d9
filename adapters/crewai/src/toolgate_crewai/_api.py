"""The public functions, without CrewAI: importing this package costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

from toolgate_client._adapting.options import OnDenied, check_options

if TYPE_CHECKING:
    from crewai.tools import BaseTool

    from toolgate_client import GateClient
    from toolgate_crewai._hooks import FailClosed

HoldMode = Literal["wait", "return"]


def govern_tools(
    gate: GateClient,
    tools: Sequence[BaseTool | Callable[..., Any]],
    *,
    hold: HoldMode = "wait",
    hold_timeout: float | None = None,
    on_denied: OnDenied = None,
    cache: bool = False,
) -> list[BaseTool]:
    """Return ``tools`` governed: the gate decides about each call before the tool's body runs.

    ``tools`` are what CrewAI takes: ``BaseTool`` instances (also made with ``@tool``),
    ``CrewStructuredTool``, LangChain's tools, and functions. Each ``BaseTool`` comes back as a
    clone of its own class with all its fields, what else there is as CrewAI's ``Tool``; the
    original is left as it is, and is not governed. All are registered with the gate by their names,
    and it sees their calls' arguments as JSON. Tools this gate governs already come back as they
    are.

    Whatever happens, a call is proposed once and its body runs at most once: what CrewAI would
    answer by making the call again (an exception of the body, in ReAct mode) is returned to it, as
    ``ToolFailure`` where CrewAI has that (1.15.30 does, 1.15.0 does not), else as text.

    ``hold`` says what becomes of a call that waits for a person's decision:

    - ``wait``: the call waits, in the thread that CrewAI called it in, for at most ``hold_timeout``
      seconds (``None``: as long as it takes), and is then taken back: a later approval runs
      nothing. A coroutine waits without holding up its event loop; cancelling it takes the call
      back.
    - ``return``: the model is told that the call is held, and under which uid. The failure is
      retryable and its details have the hold; ``gate.resume(uid)`` runs the call later.

    ``on_denied`` says what becomes of a call without a result (denied, held, not approved in time,
    timed out, no gate). By default it becomes a ``ToolFailure`` with the reason; its code is the
    kind, its details have the same for programs. A function gets the error and returns the message.
    ``"raise"`` raises it, except into a ReAct agent, which would make the call again.

    ``cache=True`` leaves CrewAI's cache of results on, as far as the tool's ``cache_function`` lets
    it: it answers a repeated call before the gate is asked.

    Raises ``ValueError`` for two tools of one name (as models are shown it), arguments without a
    JSON Schema, a class that overrides ``run`` or ``arun``, and a tool that another gate governs;
    ``TypeError`` for what is no tool; ``ProtocolError`` when the gate refuses a tool;
    ``GateClosed`` when there is no gate.
    """
    check_options(get_args(HoldMode), hold, on_denied)
    from toolgate_crewai._tools import govern

    return govern(
        gate, tools, hold=hold, hold_timeout=hold_timeout, on_denied=on_denied, cache=cache
    )


def bind(gate: GateClient, tools: BaseTool | Iterable[BaseTool]) -> None:
    """Give governed tools whose gate was closed, one or several, this gate.

    Such a tool denies every call. ``bind`` registers it with ``gate``, and from then on ``gate``
    decides; its options stay as they were.

    Raises ``ValueError`` for a tool that is not governed, or whose gate is another, open one;
    ``TypeError`` for what is no tool; else as :func:`govern_tools`.
    """
    from toolgate_crewai import _tools

    _tools.bind(gate, tools)


def fail_closed(gate: GateClient) -> FailClosed:
    """Stop every call of a tool that ``gate`` does not govern, in all crews of this process.

    CrewAI adds tools of its own to agents (delegation, MCP, memory, files), which never passed
    :func:`govern_tools`. From now on a call of such a tool does not run, and the model is told that
    a hook has blocked it. What this returns is a context manager; leaving it, or its ``close()``,
    ends this.
    """
    from toolgate_crewai._hooks import FailClosed

    return FailClosed(gate)


def governed_call(
    gate: GateClient,
    name: str,
    args: Mapping[str, Any],
    *,
    body: Callable[[dict[str, Any]], Any] | None = None,
    hold: HoldMode = "wait",
    hold_timeout: float | None = None,
) -> Any:
    """Make one governed call from a step of a flow, and return what its body returned.

    ``name`` is registered with the gate, by ``govern_tools`` or ``gate.register_tool``; ``args``
    are JSON. ``body`` replaces the registered body for this call. ``hold`` and ``hold_timeout`` are
    as for :func:`govern_tools`.

    Raises what the body raised; ``ActionDenied`` when the call did not run, ``ActionHeld`` when it
    waits (``hold="return"``), ``ActionFailed`` when it has no result for another reason,
    ``GateClosed`` and ``ProtocolError`` when the gate could not be asked, and ``TypeError`` or
    ``ValueError`` when ``args`` are not JSON.
    """
    check_options(get_args(HoldMode), hold)
    from toolgate_client._adapting.calls import Call, NoResult

    call = Call(gate, name, dict(args), body, hold=hold, hold_timeout=hold_timeout)
    try:
        return call.run()
    except NoResult as none:
        raise none.error from none.error.__cause__


async def agoverned_call(
    gate: GateClient,
    name: str,
    args: Mapping[str, Any],
    *,
    body: Callable[[dict[str, Any]], Any] | None = None,
    hold: HoldMode = "wait",
    hold_timeout: float | None = None,
) -> Any:
    """Do what :func:`governed_call` does, from a coroutine, without holding up its event loop.

    A ``body`` that is a coroutine function is awaited in this task; any other runs in a thread.
    Cancelling this takes back a held call, and cancels a coroutine that runs.
    """
    check_options(get_args(HoldMode), hold)
    from toolgate_client._adapting.calls import Call, NoResult

    call = Call(gate, name, dict(args), body, hold=hold, hold_timeout=hold_timeout)
    try:
        return await call.arun()
    except NoResult as none:
        raise none.error from none.error.__cause__
