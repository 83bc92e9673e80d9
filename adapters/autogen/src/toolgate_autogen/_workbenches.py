"""Governed workbenches: every call of whatever tool they list asks the gate."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from functools import partial
from types import TracebackType
from typing import Any, Literal, TypeVar

from autogen_core import CancellationToken, Component, ComponentModel
from autogen_core.tools import (
    StaticStreamWorkbench,
    TextResultContent,
    ToolResult,
    ToolSchema,
    Workbench,
)
from autogen_core.tools._workbench import StreamWorkbench  # it is named nowhere else
from pydantic import BaseModel

from toolgate_autogen._governance import Governance, Refused
from toolgate_autogen._registry import note_body, note_workbench
from toolgate_autogen._results import Reported, checked, error_result, record, restore
from toolgate_autogen._streams import Emit, last_of, stream
from toolgate_client import ActionDenied, GateClient, GateError, ProtocolError
from toolgate_client._adapting.calls import not_json
from toolgate_client._adapting.jsonvalues import (
    canonical,
    check_sendable,
    same_json,
    without_formats,
)
from toolgate_client._adapting.messages import of_edit

W = TypeVar("W", bound="GovernedWorkbench")
Enter = Callable[[Any], Awaitable[ToolResult]]
Owners = dict[str, Workbench]
"""Of the workbenches that were governed together, which one's a tool of a name is."""

_BAD_PARAMETERS = -32602
_ANYTHING: dict[str, Any] = {"type": "object"}


class GovernedWorkbenchConfig(BaseModel):
    """A governed workbench's config: the original's, and the options.

    A function given as ``on_denied`` is not in it.
    """

    original: ComponentModel
    hold: Literal["wait", "return"] = "wait"
    hold_timeout: float | None = None


class GovernedWorkbench(Workbench, Component[GovernedWorkbenchConfig]):
    """A workbench that asks a gate before each call; made by :func:`govern_tools`.

    Tools are registered with the gate when they are listed, by the names they are listed with. A
    tool that is listed with another schema later is another tool, and denied. What is no tool (an
    MCP server's resources and prompts) is the original's: every public attribute that only the
    original has can be had here, and is not governed.

    A call without a result becomes an error result, never an exception. A workbench that was
    unpickled, or loaded from a component, denies every call until :meth:`bind` gives it a gate.
    """

    component_type = "workbench"
    component_provider_override = "toolgate_autogen.GovernedWorkbench"
    component_config_schema = GovernedWorkbenchConfig

    def __init__(self, original: Workbench, governance: Governance, owners: Owners) -> None:
        self._original = original
        self._governance = governance
        self._owners = owners
        self._known: dict[str, bytes] = {}
        self._refused: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"<governed {self._original!r}>"

    @property
    def gate(self) -> GateClient | None:
        """The gate that governs this workbench; ``None``: it denies every call."""
        return self._governance.gate

    def bind(self, gate: GateClient) -> None:
        """Ask this gate from now on. Raises ``ValueError`` when another one governs it."""
        if self._governance.gate not in {None, gate}:
            raise ValueError("the workbench is governed by another gate; govern the original")
        self._governance.gate = gate
        note_workbench(gate, self)

    # --- as the original does

    async def start(self) -> None:
        """Start the original."""
        await self._original.start()

    async def stop(self) -> None:
        """Stop the original."""
        await self._original.stop()

    async def reset(self) -> None:
        """Reset the original."""
        await self._original.reset()

    async def save_state(self) -> Mapping[str, Any]:
        """Return the original's state."""
        return await self._original.save_state()

    async def load_state(self, state: Mapping[str, Any]) -> None:
        """Give the original its state back."""
        await self._original.load_state(state)

    async def __aenter__(self: W) -> W:
        await self._original.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc_val: BaseException | None,
        exc_tb: TracebackType | None,
    ) -> None:
        await self._original.__aexit__(exc_type, exc_val, exc_tb)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "call_tool_stream":  # would not ask
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._original, name)

    # --- tools

    async def list_tools(self) -> list[ToolSchema]:
        """Return what the original lists, and register what is new with the gate."""
        listed = await self._original.list_tools()
        await self._register(listed)
        return listed

    async def _register(self, listed: list[ToolSchema]) -> None:
        gate = self._governance.gate
        names = [tool["name"] for tool in listed]
        for tool in listed if gate is not None else ():
            name = tool["name"]
            try:
                form = canonical([tool.get("description"), tool.get("parameters")])
                if names.count(name) > 1 or not self._owns(name):
                    raise ValueError("two tools have this name, and policy goes by name")
                if self._known.get(name) != form:
                    await self._register_one(gate, name, tool)
            except GateError as error:
                if isinstance(error, ProtocolError):
                    self._refused[name] = str(error)
            except (TypeError, ValueError) as error:
                self._refused[name] = str(error)
            else:
                self._known[name] = form
                self._refused.pop(name, None)

    def _owns(self, name: str) -> bool:
        return self._owners.setdefault(name, self._original) is self._original

    async def _register_one(self, gate: Any, name: str, tool: ToolSchema) -> None:
        parameters = without_formats(tool.get("parameters") or _ANYTHING)
        options = {"description": tool.get("description") or None}
        body = DetachedCall(self, name)
        try:
            await gate.aregister_tool(name, body, parameters=parameters, **options)
        except ProtocolError as error:
            if error.code != _BAD_PARAMETERS:
                raise
            # Some list schemas that refer to what they leave out; the original knows the whole.
            await gate.aregister_tool(name, body, parameters=_ANYTHING, **options)
        note_body(gate, name, body)

    # --- calls

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> ToolResult:
        """Ask the gate, and call the original with what it releases."""
        token = cancellation_token or CancellationToken()

        async def enter(given: Any) -> ToolResult:
            return await self._original.call_tool(name, given, cancellation_token, call_id)

        return await self._call(name, arguments, enter, token, call_id)

    async def _call(
        self,
        name: str,
        arguments: Any,
        enter: Enter,
        token: CancellationToken,
        call_id: str | None,
    ) -> ToolResult:
        try:
            proposed = await self._propose(name, arguments, call_id)

            async def body(released: dict[str, Any]) -> Any:
                same = same_json(released, proposed)
                # No arguments stay none: to some that is not the same as no argument.
                given = None if same and arguments is None else released
                return checked(await enter(given))

            result, outcome = await self._governance.call(
                name, proposed, body, token, call_id, record=record, restore=partial(restore, name)
            )
        except Reported as reported:
            return reported.result
        except Refused as refused:
            return error_result(name, refused.text)
        if outcome.edited_args is not None:
            note = TextResultContent(content=of_edit(outcome.edited_args))
            result = result.model_copy(update={"result": [*result.result, note]})
        given_back: ToolResult = result
        return given_back

    async def _propose(self, name: str, arguments: Any, call_id: str | None) -> dict[str, Any]:
        """Return a call's arguments as the gate judges them; raises :class:`Refused`."""
        if name not in self._known and name not in self._refused:
            await self.list_tools()
        if name in self._refused:
            why = f"it cannot be governed: {self._refused[name]}"
            error: GateError = ActionDenied(why, kind="unregistered_tool", reason=why)
            raise self._governance.refused(name, error, call_id)
        if not isinstance(arguments, Mapping | None):
            reason = f"its arguments are no object: {arguments!r}"
            error = ActionDenied(reason, kind="invalid_arguments", reason=reason)
            raise self._governance.refused(name, error, call_id)
        try:
            given = dict(arguments or {})
            check_sendable(given)
            proposed: dict[str, Any] = json.loads(canonical(given))
        except (TypeError, ValueError) as error:
            raise self._governance.refused(name, not_json(error), call_id) from None
        return proposed

    async def run_detached(self, name: str, released: dict[str, Any]) -> Any:
        """Run a tool for an action that nobody's call waits for; return what is recorded of it."""
        result = await self._original.call_tool(name, released, CancellationToken())
        try:
            return record(checked(result))
        except Reported as reported:
            raise GateError(reported.result.to_text(replace_image="[image]")) from None

    # --- as a component

    def _to_config(self) -> GovernedWorkbenchConfig:
        known = self._governance
        return GovernedWorkbenchConfig.model_validate(
            {
                "original": self._original.dump_component(),
                "hold": known.hold,
                "hold_timeout": known.hold_timeout,
            }
        )

    @classmethod
    def _from_config(cls: type[W], config: GovernedWorkbenchConfig) -> W:
        original = Workbench.load_component(config.original)
        governance = Governance(None, config.hold, config.hold_timeout, None)
        made: Any = class_for(original)(original, governance, {})
        restored: W = made
        return restored


class GovernedStreamWorkbench(GovernedWorkbench, StreamWorkbench):
    """A governed workbench whose original streams: events come when they do, the result last."""

    component_provider_override = "toolgate_autogen.GovernedStreamWorkbench"
    component_config_schema = GovernedWorkbenchConfig

    _original: StreamWorkbench

    async def call_tool_stream(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> AsyncGenerator[Any, None]:
        """Ask the gate, and stream what the original does with what it releases."""
        token = cancellation_token or CancellationToken()

        async def work(emit: Emit) -> ToolResult:
            async def enter(given: Any) -> ToolResult:
                values = self._original.call_tool_stream(name, given, cancellation_token, call_id)
                result: ToolResult = await last_of(values, emit, ToolResult)
                return result

            return await self._call(name, arguments, enter, token, call_id)

        async with aclosing(stream(work)) as values:
            async for value in values:
                yield value


class GovernedAgentWorkbench(GovernedStreamWorkbench, StaticStreamWorkbench):  # type: ignore[misc]
    """One whose original an agent streams from: it does so from no other class."""

    component_config_schema = GovernedWorkbenchConfig  # type: ignore[assignment]


def class_for(original: Workbench) -> type[GovernedWorkbench]:
    """Return the class that governs such a workbench."""
    if isinstance(original, StaticStreamWorkbench):
        return GovernedAgentWorkbench
    return GovernedStreamWorkbench if isinstance(original, StreamWorkbench) else GovernedWorkbench


class DetachedCall:
    """The registered body of a tool of a workbench: runs it where nobody's call does."""

    def __init__(self, workbench: GovernedWorkbench, name: str) -> None:
        self._workbench = workbench
        self._name = name

    async def __call__(self, released: dict[str, Any]) -> Any:
        """Run the tool with what the gate releases."""
        return await self._workbench.run_detached(self._name, released)

    def shown(self, value: Any, live: bool) -> str:
        """Return the result of such an action as models are shown it."""
        return restore(self._name, value).to_text()
