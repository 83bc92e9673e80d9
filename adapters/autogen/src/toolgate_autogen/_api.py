"""The public functions, without AutoGen: importing this package costs nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from toolgate_client._adapting.options import OnDenied, check_options

if TYPE_CHECKING:
    from autogen_agentchat.messages import TextMessage
    from autogen_core.tools import BaseTool, Workbench

    from toolgate_client import GateClient

HoldMode = Literal["wait", "return"]


@overload
def govern_tools(
    gate: GateClient,
    tools: Workbench,
    *,
    hold: HoldMode = "wait",
    hold_timeout: float | None = None,
    on_denied: OnDenied = None,
) -> Workbench: ...
@overload
def govern_tools(
    gate: GateClient,
    tools: Sequence[Workbench],
    *,
    hold: HoldMode = "wait",
    hold_timeout: float | None = None,
    on_denied: OnDenied = None,
) -> list[Workbench]: ...
@overload
def govern_tools(
    gate: GateClient,
    tools: Sequence[BaseTool[Any, Any] | Callable[..., Any]],
    *,
    hold: HoldMode = "wait",
    hold_timeout: float | None = None,
    on_denied: OnDenied = None,
) -> list[BaseTool[Any, Any] | Callable[..., Any]]: ...
@overload
def govern_tools(
    gate: GateClient,
    tools: BaseTool[Any, Any] | Callable[..., Any],
    *,
    hold: HoldMode = "wait",
    hold_timeout: float | None = None,
    on_denied: OnDenied = None,
) -> BaseTool[Any, Any]: ...
def govern_tools(
    gate: GateClient,
    tools: Any,
    *,
    hold: HoldMode = "wait",
    hold_timeout: float | None = None,
    on_denied: OnDenied = None,
) -> Any:
    """Return ``tools`` governed: the gate decides about each call before the tool's body runs.

    ``tools`` are what AutoGen takes: ``BaseTool`` instances, functions and coroutine functions, a
    ``Workbench``, or a sequence of them. One comes back as one, a sequence as a list, for the
    argument of ``AssistantAgent`` that it was meant for (``tools=`` or ``workbench=``). The
    originals are left as they are, and are not governed.

    - A tool becomes a :class:`GovernedTool`, or a :class:`GovernedStreamTool` if it streams, that
      asks the gate and then calls the original, with the same cancellation token and call id, in
      the same task. It is registered with the gate under its name.
    - AutoGen's own ``StaticWorkbench`` or ``StaticStreamWorkbench`` becomes a copy of it with
      governed tools. Any other becomes a :class:`GovernedWorkbench`, or a
      :class:`GovernedStreamWorkbench`: whatever it lists is registered when it is listed, and every
      call of it asks the gate. Policy knows tools by the names that models are shown, so by those
      of ``ToolOverride``.

    What is governed by this gate already comes back as it is.

    ``hold`` says what becomes of a call that waits for a person's decision:

    - ``wait``: its task waits, for at most ``hold_timeout`` seconds (``None``: as long as it
      takes), and the call is then taken back: a later approval runs nothing. No thread waits. When
      the run's cancellation token is cancelled, the call is taken back, too.
    - ``return``: the model is told that the call is held, and under which uid; with
      :class:`HoldTermination` the team stops, and :func:`run_approved` goes on later.

    ``on_denied`` says what becomes of a call without a result (denied, held, not approved in time,
    timed out, no gate). A tool raises the error, worded for a model, and AutoGen shows that as an
    error result. A workbench returns an error result: what it raised would keep its agent waiting
    for ever. A function gets the error and returns the words; ``"raise"`` raises the error as the
    client words it, for code of one's own, and is not for workbenches. What a body raises is raised
    as it is.

    Raises ``ValueError`` for two tools of one name, arguments without a JSON Schema, and a tool
    that another gate governs; ``TypeError`` for what is no tool; ``ProtocolError`` when the gate
    refuses a tool; ``GateClosed`` when there is no gate.
    """
    check_options(get_args(HoldMode), hold, on_denied)
    from toolgate_autogen._governing import govern

    return govern(gate, tools, hold=hold, hold_timeout=hold_timeout, on_denied=on_denied)


def bind(gate: GateClient, tools: Any) -> None:
    """Give a gate to governed tools that have none: unpickled ones, or loaded from a component.

    ``tools`` are governed tools and workbenches, or whatever has them: workbenches, agents, teams,
    and tools that run agents or teams; one of these, or several. A governed tool without a gate
    denies every call; here all that are found are registered with ``gate``, and ask it from now on.

    Raises ``ValueError`` when a thing has no governed tool, or one that another gate governs.
    """
    from toolgate_autogen._governing import bind_all

    bind_all(gate, tools)


def governed_call(
    gate: GateClient,
    name: str,
    args: Mapping[str, Any],
    *,
    body: Callable[[dict[str, Any]], Any] | None = None,
    hold: HoldMode = "wait",
    hold_timeout: float | None = None,
) -> Any:
    """Make one governed call from a thread, and return what its body returned.

    ``name`` is registered with the gate, by :func:`govern_tools` or ``gate.register_tool``;
    ``args`` are JSON. ``body`` replaces the registered body for this call. ``hold`` and
    ``hold_timeout`` are as for :func:`govern_tools`. On an event loop use :func:`agoverned_call`.

    Raises what the body raised; ``ActionDenied`` when the call did not run, ``ActionHeld`` when it
    waits (``hold="return"``), ``ActionFailed`` when it has no result for another reason,
    ``GateClosed`` and ``ProtocolError`` when the gate could not be asked, ``GateError`` on an event
    loop when the body is a coroutine function (a tool's is), and ``TypeError`` or ``ValueError``
    when ``args`` are not JSON.
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
    """Do what :func:`governed_call` does, from a task, such as an agent's own message handler.

    A ``body`` that is a coroutine function is awaited in this task; any other runs in a worker
    thread. Cancelling this takes back a held call, and cancels a coroutine that runs.
    """
    check_options(get_args(HoldMode), hold)
    from toolgate_client._adapting.calls import Call, NoResult

    call = Call(gate, name, dict(args), body, hold=hold, hold_timeout=hold_timeout)
    try:
        return await call.arun()
    except NoResult as none:
        raise none.error from none.error.__cause__


async def run_approved(
    gate: GateClient, uid: str, *, wait: float | None = 0.0, source: str = "toolgate"
) -> TextMessage:
    """Run a held call that was approved, and return what a team is to be told of it.

    For a team that stopped at a hold, in this process or in one that has ended: govern its tools
    with ``gate``, load its state, and run it with this message as its next task. The call runs
    once, whoever asks for it, with what was approved; asked again, the message is made of the
    recorded result. A call that was denied, has run out, or fails makes a message, too, that says
    why. The message's metadata has ``toolgate_uid`` and ``toolgate_status``; ``source`` is whom it
    is from.

    Waits for a decision for at most ``wait`` seconds (``None``: as long as it takes); then it
    raises ``ActionHeld``, and the hold stays as it is. Raises ``ActionHeld`` too when another
    process runs the call at this moment, when its body has stopped itself, and when no tool of its
    name is governed by ``gate`` in this process; ``ActionDenied`` for a uid that nobody knows.
    """
    from toolgate_autogen._approved import message_of

    return await message_of(gate, uid, wait, source)
