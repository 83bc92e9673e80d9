"""One call of a governed tool: what the gate is asked, what runs, what LangChain gets."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool
from pydantic import ValidationError
from pydantic.v1 import ValidationError as ValidationErrorV1

from toolgate_client import GateClient, GateClosed, GateError
from toolgate_client._adapting.calls import NoResult, not_json
from toolgate_client._adapting.edits import EditRefused
from toolgate_client._adapting.jsonvalues import check_sendable, same_json
from toolgate_client._adapting.messages import details_of, explain, own_words
from toolgate_client._adapting.options import OnDenied
from toolgate_langgraph._arguments import ToolArguments
from toolgate_langgraph._calls import GraphCall
from toolgate_langgraph._options import HoldMode
from toolgate_langgraph._place import Place, current_place

CALL_ID = "toolgate_call_id"
"""A keyword between a clone's own methods; no tool sees it."""
SAID = "toolgate_said"
"""Another one: what a call said by name, before LangChain put in what it gives a body."""

Given: TypeAlias = Callable[[dict[str, Any]], tuple[tuple[Any, ...], dict[str, Any]]]
"""What a body is given for the arguments that the gate has released."""


@dataclass(frozen=True)
class Options:
    """What governed tools are told once: see :func:`toolgate_langgraph.govern_tools`."""

    hold: HoldMode = "auto"
    hold_timeout: float | None = None
    on_denied: OnDenied = None

    def denied(self, tool: BaseTool, call_id: str | None, error: GateError) -> Any:
        """Return what the framework shows its model of a call that gave no result."""
        if self.on_denied == "raise":
            raise error from error.__cause__
        words = own_words(self.on_denied, error)
        return ToolMessage(
            content=explain(tool.name, error) if words is None else words,
            artifact={"toolgate": details_of(error)},
            name=tool.name,
            tool_call_id=call_id or "",
            status="error",
        )


@dataclass(frozen=True)
class Governance:
    """What a governed clone knows besides its tool: its gate, its name there, its options.

    Without ``gate`` and ``arguments`` it denies every call. ``original`` is the tool itself, where
    the clone stands for it during one call only.
    """

    name: str
    options: Options
    gate: GateClient | None = None
    arguments: ToolArguments | None = None
    original: BaseTool | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> Governance:
        return self  # a copied tool is governed by the same gate

    def __getstate__(self) -> dict[str, Any]:
        # No gate outlives its process.
        return {**vars(self), "gate": None, "arguments": None}

    def run(
        self,
        tool: BaseTool,
        body: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Govern a call, whose body runs in this thread."""
        call_id = kwargs.pop(CALL_ID, None)
        try:
            call, given = self._call(tool, args, kwargs, call_id)

            def enter(released: dict[str, Any]) -> Any:
                positional, named = given(released)
                return body(*positional, **named)

            return replace(call, body=enter).run()
        except NoResult as none:
            return self._denied(tool, call_id, none.error)

    async def arun(
        self,
        tool: BaseTool,
        body: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        """Govern a call, whose body is awaited in this task."""
        call_id = kwargs.pop(CALL_ID, None)
        try:
            call, given = self._call(tool, args, kwargs, call_id)

            async def enter(released: dict[str, Any]) -> Any:
                positional, named = given(released)
                return await body(*positional, **named)

            return await replace(call, body=enter).arun()
        except NoResult as none:
            return self._denied(tool, call_id, none.error)

    def _call(
        self, tool: BaseTool, args: tuple[Any, ...], kwargs: dict[str, Any], call_id: str | None
    ) -> tuple[GraphCall, Given]:
        """Return what to ask, without its body, and what the body is given."""
        gate, arguments = self.gate, self.arguments
        if gate is None or arguments is None:
            raise NoResult(
                GateClosed(
                    f"no gate governs the tool {self.name!r}: bind it, or govern the original tool"
                )
            )
        # LangChain puts what it gives a body in the place of what a call has under that name, but
        # not for every method.
        said = kwargs.pop(SAID, {})
        made_up = {name for name, value in said.items() if kwargs.get(name) is value}
        place: Place | None = current_place(arguments.config(kwargs, made_up))
        named = arguments.named(args, kwargs)
        visible = arguments.visible(named, made_up)
        try:
            proposed = arguments.to_json(visible)
            check_sendable(proposed)
        except (TypeError, ValueError) as error:
            raise NoResult(not_json(error)) from error

        def given(released: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            if same_json(released, proposed):
                return args, kwargs
            edited = arguments.edited(released, proposed, visible) | arguments.injected(named)
            own: Any = type(tool).__mro__[1]
            try:
                again, renamed = own._to_args_and_kwargs(tool, edited, call_id or "")  # noqa: SLF001
            except (ValidationError, ValidationErrorV1) as error:
                raise EditRefused(error) from error
            return again, {**renamed, **arguments.hidden(named, made_up)}

        call = GraphCall(
            gate=gate,
            tool=self.name,
            args=proposed,
            body=None,
            call_id=call_id,
            response_format=tool.response_format,
            hold=self.options.hold,
            hold_timeout=self.options.hold_timeout,
            place=place,
        )
        return call, given

    def _denied(self, tool: BaseTool, call_id: str | None, error: GateError) -> Any:
        message = self.options.denied(tool, call_id, error)
        return (message, None) if tool.response_format == "content_and_artifact" else message


def unbound(tool: BaseTool) -> Governance:
    """Return the governance of a tool that no gate has seen."""
    return Governance(tool.name, Options())


class GovernedFunction:
    """A tool's ``func``, with the gate before it. It looks like the function it stands for."""

    def __init__(self, function: Callable[..., Any], tool: BaseTool) -> None:
        functools.update_wrapper(self, function)
        self.raw = function
        self._tool = tool

    def __repr__(self) -> str:
        return f"<governed {self.raw!r}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Govern a direct call, which nothing has validated; see :meth:`Governance.run`."""
        return self._governance().run(self._tool, self.raw, args, kwargs)

    def _governance(self) -> Governance:
        from toolgate_langgraph._classes import governance_of

        return governance_of(self._tool) or unbound(self._tool)


class GovernedCoroutine(GovernedFunction):
    """A tool's ``coroutine``, with the gate before it."""

    # How asyncio tells, before Python 3.12, that calling this gives a coroutine.
    _is_coroutine = getattr(asyncio.coroutines, "_is_coroutine", None)

    def __init__(self, function: Callable[..., Any], tool: BaseTool) -> None:
        super().__init__(function, tool)
        if mark := getattr(inspect, "markcoroutinefunction", None):
            mark(self)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Govern a direct call, which nothing has validated; see :meth:`Governance.arun`."""
        return await self._governance().arun(self._tool, self.raw, args, kwargs)
