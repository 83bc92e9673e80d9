"""Governed clones of LangChain tools: the same class and fields, with the gate before the body.

A clone is an instance of a subclass of the tool's own class that overrides ``_run`` and ``_arun``.
LangChain calls these after it has validated a call, so callbacks, validation, error handling and
the form of results stay LangChain's. The body is the tool's own ``_run`` or ``_arun``, run on a
view: an object that shares the clone's state, and whose methods and functions are not governed.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import weakref
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, StructuredTool, Tool
from langchain_core.tools import tool as make_tool
from pydantic import PrivateAttr

from toolgate_client import GateClient, GateError
from toolgate_client._adapting.calls import NoResult, not_json
from toolgate_client._adapting.jsonvalues import canonical, same_json
from toolgate_client._adapting.messages import details_of, explain
from toolgate_client._adapting.options import OnDenied
from toolgate_client._adapting.threads import Caller, in_thread, on_loop
from toolgate_langgraph._arguments import ToolArguments
from toolgate_langgraph._calls import GraphCall
from toolgate_langgraph._options import HoldMode
from toolgate_langgraph._place import Place, current_place
from toolgate_langgraph._results import record

T = TypeVar("T", bound=BaseTool)

_CALL_ID = "toolgate_call_id"  # a keyword between a clone's own methods; no tool sees it
_GOVERNANCE = "_toolgate"  # the private attribute of a clone
_FUNCTIONS = ("func", "coroutine")


@dataclass(frozen=True)
class Governance:
    """What a governed clone knows besides its tool: its gate, its name there, its options."""

    gate: GateClient
    name: str
    arguments: ToolArguments
    hold: HoldMode
    hold_timeout: float | None
    on_denied: OnDenied

    def __deepcopy__(self, memo: dict[int, Any]) -> Governance:
        return self  # a copied tool is governed by the same gate

    def run(self, tool: BaseTool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Govern a call that LangChain has validated; the body is the tool's ``_run``."""
        call_id = kwargs.pop(_CALL_ID, None)
        body = view_of(tool)._run  # noqa: SLF001
        if _is_async_only(tool):
            return body(*args, **kwargs)  # LangChain's own refusal
        place = current_place(self.arguments.config(kwargs))
        return self._govern(tool, body, args, kwargs, call_id, place, Caller())

    async def arun(self, tool: BaseTool, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Govern such a call from a coroutine; the body is the tool's ``_arun``, on this loop."""
        call_id = kwargs.pop(_CALL_ID, None)
        place = current_place(self.arguments.config(kwargs))
        body = view_of(tool)._arun  # noqa: SLF001
        return await self._agovern(tool, body, args, kwargs, call_id, place)

    def run_function(
        self, tool: BaseTool, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        """Govern a direct call to a tool's ``func``, which nothing has validated."""
        return self._govern(tool, function, args, kwargs, None, current_place(), Caller())

    async def arun_function(
        self, tool: BaseTool, function: Callable[..., Any], args: tuple[Any, ...], kwargs: Any
    ) -> Any:
        """Govern a direct call to a tool's ``coroutine``, which nothing has validated."""
        return await self._agovern(tool, function, args, kwargs, None, current_place())

    async def _agovern(
        self,
        tool: BaseTool,
        body: Callable[..., Awaitable[Any]],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        call_id: str | None,
        place: Place | None,
    ) -> Any:
        caller = Caller()
        enter = on_loop(body, caller)
        govern = functools.partial(self._govern, tool, enter, args, kwargs, call_id, place, caller)
        return await in_thread(govern, caller)

    def _govern(
        self,
        tool: BaseTool,
        enter: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        call_id: str | None,
        place: Place | None,
        caller: Caller,
    ) -> Any:
        arguments = self.arguments
        named = arguments.named(args, kwargs)
        visible = arguments.visible(named)
        try:
            proposed = arguments.to_json(visible)
            canonical(proposed)
        except (TypeError, ValueError) as error:
            return self._denied(tool, call_id, not_json(error))

        def body(released: dict[str, Any]) -> Any:
            if same_json(released, proposed):
                return enter(*args, **kwargs)
            edited = arguments.edited(released, proposed, visible) | arguments.injected(named)
            new_args, new_kwargs = view_of(tool)._to_args_and_kwargs(edited, call_id or "")  # noqa: SLF001
            return enter(*new_args, **{**new_kwargs, **arguments.hidden(named)})

        call = GraphCall(
            gate=self.gate,
            tool=self.name,
            args=proposed,
            body=body,
            call_id=call_id,
            response_format=tool.response_format,
            hold=self.hold,
            hold_timeout=self.hold_timeout,
            caller=caller,
            place=place,
        )
        try:
            return call.run()
        except NoResult as none:
            return self._denied(tool, call_id, none.error)

    def _denied(self, tool: BaseTool, call_id: str | None, error: GateError) -> Any:
        """Return what the framework shows its model of a call that gave no result."""
        if self.on_denied == "raise":
            raise error from error.__cause__
        text = self.on_denied(error) if callable(self.on_denied) else explain(self.name, error)
        message = ToolMessage(
            content=text,
            artifact={"toolgate": details_of(error)},
            name=tool.name,
            tool_call_id=call_id or "",
            status="error",
        )
        return (message, None) if tool.response_format == "content_and_artifact" else message


class GovernedFunction:
    """A tool's ``func``, with the gate before it. It looks like the function it stands for."""

    def __init__(self, function: Callable[..., Any], tool: BaseTool) -> None:
        functools.update_wrapper(self, function)
        self.raw = function
        self._tool = tool

    def __repr__(self) -> str:
        return f"<governed {self.raw!r}>"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Govern the call; see :meth:`Governance.run_function`."""
        return _governance(self._tool).run_function(self._tool, self.raw, args, kwargs)


class GovernedCoroutine(GovernedFunction):
    """A tool's ``coroutine``, with the gate before it."""

    # How asyncio tells, before Python 3.12, that calling this gives a coroutine.
    _is_coroutine = getattr(asyncio.coroutines, "_is_coroutine", None)

    def __init__(self, function: Callable[..., Any], tool: BaseTool) -> None:
        super().__init__(function, tool)
        if mark := getattr(inspect, "markcoroutinefunction", None):
            mark(self)

    async def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Govern the call; see :meth:`Governance.arun_function`."""
        return await _governance(self._tool).arun_function(self._tool, self.raw, args, kwargs)


def govern(
    gate: GateClient,
    tools: Sequence[BaseTool | Callable[..., Any]],
    *,
    hold: HoldMode,
    hold_timeout: float | None,
    on_denied: OnDenied,
) -> list[BaseTool]:
    """Do what :func:`toolgate_langgraph.govern_tools` promises."""
    originals = [_as_tool(tool) for tool in tools]
    names = [tool.name for tool in originals]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"two tools are called {', '.join(map(repr, twice))}: policy goes by name")
    return [
        _governed(gate, tool, hold=hold, hold_timeout=hold_timeout, on_denied=on_denied)
        for tool in originals
    ]


def _governed(gate: GateClient, tool: BaseTool, **options: Any) -> BaseTool:
    known = (tool.__pydantic_private__ or {}).get(_GOVERNANCE)
    if known is not None:
        if known.gate is not gate:
            raise ValueError(
                f"the tool {tool.name!r} is governed by another gate; govern the original tool"
            )
        return tool
    arguments = ToolArguments(tool)
    clone = _clone(tool, Governance(gate, tool.name, arguments, **options))
    gate.register_tool(
        tool.name,
        functools.partial(_arun_detached if _is_async_only(clone) else _run_detached, clone),
        description=tool.description or None,
        parameters=arguments.schema,
    )
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


def _clone(tool: BaseTool, governance: Governance) -> BaseTool:
    clone = _with_state(_governed_class(type(tool)), tool, dict(tool.__dict__))
    for field, wrapper in (("func", GovernedFunction), ("coroutine", GovernedCoroutine)):
        if (function := clone.__dict__.get(field)) is not None:
            clone.__dict__[field] = wrapper(function, clone)
    private = {**(tool.__pydantic_private__ or {}), _GOVERNANCE: governance}
    object.__setattr__(clone, "__pydantic_private__", private)
    return clone


def view_of(tool: BaseTool) -> BaseTool:
    """Return a governed clone as its body knows it: the same state, and no gate."""
    return _with_state(_view_class(type(tool).__mro__[1]), tool, tool.__dict__)


def _with_state(cls: type[BaseTool], tool: BaseTool, state: dict[str, Any]) -> BaseTool:
    """Make an instance without its constructor: validators may do things that are done once."""
    made = cls.__new__(cls)
    object.__setattr__(made, "__dict__", state)
    for slot in ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        object.__setattr__(made, slot, getattr(tool, slot))
    return made


def _governance(tool: BaseTool) -> Governance:
    governance: Governance = (tool.__pydantic_private__ or {})[_GOVERNANCE]
    return governance


def _run_detached(tool: BaseTool, args: dict[str, Any]) -> Any:
    """Run a tool for an action that nobody's call waits for, such as one resumed by its uid."""
    return record(view_of(tool).invoke(args))


async def _arun_detached(tool: BaseTool, args: dict[str, Any]) -> Any:
    """Do so for a tool that has only a coroutine."""
    return record(await view_of(tool).ainvoke(args))


def _is_async_only(tool: BaseTool) -> bool:
    cls: Any = type(tool).__mro__[1]
    langchains_own = cls._run in {StructuredTool._run, Tool._run}  # noqa: SLF001
    return langchains_own and getattr(tool, "func", None) is None


# --- classes


def _governed_class(cls: type[T]) -> type[T]:
    return _derived(_governed_classes, cls, _make_governed_class)


def _view_class(cls: type[T]) -> type[T]:
    if not any(name in cls.model_fields for name in _FUNCTIONS):
        return cls
    return _derived(_view_classes, cls, _make_view_class)


def _make_governed_class(cls: type[T]) -> type[T]:
    @functools.wraps(cls._run)
    def _run(self: T, *args: Any, **kwargs: Any) -> Any:
        return _governance(self).run(self, args, kwargs)

    def _to_args_and_kwargs(
        self: T, tool_input: str | dict[str, Any], tool_call_id: str | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = cls._to_args_and_kwargs(self, tool_input, tool_call_id)
        return args, {**kwargs, _CALL_ID: tool_call_id}

    namespace: dict[str, Any] = {
        "__module__": cls.__module__,
        "__qualname__": f"Governed{cls.__qualname__}",
        "__doc__": cls.__doc__,
        _GOVERNANCE: PrivateAttr(default=None),
        "_run": _run,
        "_to_args_and_kwargs": _to_args_and_kwargs,
    }
    if cls._arun is not BaseTool._arun:  # noqa: SLF001 - LangChain's own runs `_run` in a thread

        @functools.wraps(cls._arun)
        async def _arun(self: T, *args: Any, **kwargs: Any) -> Any:
            return await _governance(self).arun(self, args, kwargs)

        namespace["_arun"] = _arun
    return _subclass(cls, f"Governed{cls.__name__}", namespace)


def _make_view_class(cls: type[T]) -> type[T]:
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    view = _subclass(cls, cls.__name__, names)
    for name in _FUNCTIONS:
        setattr(view, name, property(functools.partial(_ungoverned, name)))
    return view


def _subclass(cls: type[T], name: str, namespace: dict[str, Any]) -> type[T]:
    metaclass: Any = type(cls)
    subclass: type[T] = metaclass(name, (cls,), namespace)
    return subclass


def _ungoverned(name: str, tool: BaseTool) -> Any:
    function = tool.__dict__.get(name)
    return function.raw if isinstance(function, GovernedFunction) else function


# Derived classes live as long as somebody uses them.
_Derived = weakref.WeakKeyDictionary[type, "weakref.ref[type]"]
_governed_classes: _Derived = weakref.WeakKeyDictionary()
_view_classes: _Derived = weakref.WeakKeyDictionary()


def _derived(known: _Derived, cls: type[T], make: Callable[[type[T]], type[T]]) -> type[T]:
    reference = known.get(cls)
    derived = None if reference is None else reference()
    if derived is None:
        derived = make(cls)
        known[cls] = weakref.ref(derived)
    return derived
