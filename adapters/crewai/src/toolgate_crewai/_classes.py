"""The classes of governed clones: subclasses of the tools' own, with the gate before the body.

CrewAI reaches a body through ``_run``, ``_arun`` or, of a ``Tool``, ``func``; each of these asks
the gate. The body runs on a view: an object that shares the clone's state, and whose methods are
not governed.
"""

from __future__ import annotations

import asyncio
import functools
import warnings
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from crewai.tools import BaseTool
from crewai.tools.base_tool import Tool
from crewai.tools.structured_tool import CrewStructuredTool
from pydantic import PrivateAttr

from toolgate_client import GateError
from toolgate_crewai._failures import FailureText
from toolgate_crewai._governance import RETURNS, Governance, GovernedFunction

T = TypeVar("T", bound=BaseTool)

GOVERNANCE = "_toolgate"
"""The private attribute of a clone that has its :class:`Governance`."""


def goes_by_func(cls: type[BaseTool]) -> bool:
    """Tell whether the body of such a tool is its ``func``."""
    return cls._run is Tool._run  # noqa: SLF001


def view_of(tool: BaseTool) -> BaseTool:
    """Return a governed clone as its body knows it: the same state, and no gate."""
    state = tool.__dict__
    if isinstance(function := state.get("func"), GovernedFunction):
        state = {**state, "func": function.raw}
    return with_state(type(tool).__mro__[1], tool, state)


def with_state(cls: type[BaseTool], tool: BaseTool, state: dict[str, Any]) -> BaseTool:
    """Make an instance without its constructor: validators may do things that are done once."""
    made: Any = object.__new__(cls)
    object.__setattr__(made, "__dict__", state)
    for slot in ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        object.__setattr__(made, slot, getattr(tool, slot))
    return made


def governance_of(tool: Any) -> Governance | None:
    """Return what a governed tool knows besides its tool; ``None``: it is not governed."""
    function = getattr(tool, "func", None)
    if function is not None:  # CrewAI calls it directly: a clone that was given another is not
        return function.governance if isinstance(function, GovernedFunction) else None
    return (getattr(tool, "__pydantic_private__", None) or {}).get(GOVERNANCE)


# Derived classes live as long as somebody uses them.
_governed_classes: weakref.WeakKeyDictionary[type, weakref.ref[type]]
_governed_classes = weakref.WeakKeyDictionary()


def governed_class(cls: type[T]) -> type[T]:
    """Return the class of governed clones of tools of a class."""
    reference = _governed_classes.get(cls)
    derived = None if reference is None else reference()
    if derived is None:
        derived = _make_governed_class(cls)
        _governed_classes[cls] = weakref.ref(derived)
    return derived


def _make_governed_class(cls: type[T]) -> type[T]:
    namespace: dict[str, Any] = {
        "__module__": cls.__module__,
        "__qualname__": f"Governed{cls.__qualname__}",
        "__doc__": cls.__doc__,
        GOVERNANCE: PrivateAttr(default=None),
        "model_post_init": _refuse_to_be_made,
        "to_structured_tool": _to_structured_tool(cls),
        "format_output_for_agent": _format_output_for_agent(cls),
    }
    if not goes_by_func(cls):
        namespace["_run"] = _method(cls._run)
    if cls._arun not in {BaseTool._arun, Tool._arun}:  # noqa: SLF001
        namespace["_arun"] = _coroutine_method(cls._arun)
    metaclass: Any = type(cls)
    derived: type[T] = metaclass(f"Governed{cls.__name__}", (cls,), namespace)
    return derived


def _method(method: Any) -> Any:
    """Return a governed ``_run``, a coroutine function if the tool's own is one."""
    if asyncio.iscoroutinefunction(method):
        return _coroutine_method(method)

    @functools.wraps(method)
    def called(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        return _bound(self).run(functools.partial(method, view_of(self)), args, kwargs)

    return called


def _coroutine_method(method: Any) -> Any:
    @functools.wraps(method)
    async def called(self: BaseTool, *args: Any, **kwargs: Any) -> Any:
        return await _bound(self).arun(functools.partial(method, view_of(self)), args, kwargs)

    return called


def _bound(tool: BaseTool) -> Governance:
    governance = governance_of(tool)
    if governance is None:
        raise GateError(f"no gate governs the tool {tool.name!r}; pass it to govern_tools")
    return governance


def _refuse_to_be_made(self: BaseTool, context: Any) -> None:
    raise TypeError(
        f"a {type(self).__qualname__} without a gate cannot be made or restored: make the tool "
        "from its own class and pass it to govern_tools"
    )


def _to_structured_tool(cls: type[BaseTool]) -> Any:
    @functools.wraps(cls.to_structured_tool)
    def to_structured_tool(self: BaseTool) -> CrewStructuredTool:
        structured = cls.to_structured_tool(self)
        governance = governance_of(self)
        if governance is not None and governance.on_denied == "raise":
            structured.func = _returning(structured.func)
        return structured

    return to_structured_tool


def _returning(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function of a tool as a ReAct agent may call it: a denial is not raised."""
    if asyncio.iscoroutinefunction(function):

        @functools.wraps(function)
        async def acalled(*args: Any, **kwargs: Any) -> Any:
            return await function(*args, **kwargs, **{RETURNS: True})

        return acalled

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs, **{RETURNS: True})

    return called


def _format_output_for_agent(cls: Any) -> Any:
    """Return the tool's own formatter as one that raises nothing after the call has had its effect.

    A ReAct agent makes the call again when the formatter raises.
    """
    formatter = getattr(cls, "format_output_for_agent", None)

    def format_output_for_agent(self: BaseTool, raw_result: Any) -> str:
        """Format a raw tool result into the string representation sent to an agent."""
        if formatter is None or isinstance(raw_result, FailureText):
            return str(raw_result)
        try:
            return str(formatter(self, raw_result))
        except Exception as error:  # noqa: BLE001 - it is the tool's own code
            warnings.warn(f"the result of {self.name!r} was not formatted: {error!r}", stacklevel=2)
            return _text(raw_result)

    return format_output_for_agent


def _text(result: Any) -> str:
    try:
        return str(result)
    except Exception:  # noqa: BLE001 - its __str__ is the tool's own code
        return f"<a {type(result).__qualname__}>"
