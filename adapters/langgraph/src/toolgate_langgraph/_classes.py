"""The classes of governed clones: subclasses of the tools' own, with the gate before the body.

LangChain reaches a body through ``_run`` or ``_arun``, after it has validated a call; both ask the
gate. So callbacks, validation, error handling and the form of results stay LangChain's. The body is
the tool's own ``_run`` or ``_arun``, run on a view: an object that shares the clone's state, and
whose methods and functions are not governed.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

from langchain_core.tools import BaseTool, StructuredTool, Tool
from pydantic import PrivateAttr

from toolgate_langgraph._governance import (
    CALL_ID,
    SAID,
    Governance,
    GovernedFunction,
    unbound,
)

T = TypeVar("T", bound=BaseTool)

GOVERNANCE = "_toolgate"
"""The private attribute of a clone that has its :class:`Governance`."""

FUNCTIONS = ("func", "coroutine")
"""The fields of LangChain's own classes that are bodies."""

_BEFORE = (
    "invoke",
    "ainvoke",
    "run",
    "arun",
    "batch",
    "abatch",
    "batch_as_completed",
    "abatch_as_completed",
    "stream",
    "astream",
    "transform",
    "atransform",
)
"""The methods by which a tool is called; LangChain's own come to ``_run`` or ``_arun``."""


def governance_of(tool: Any) -> Governance | None:
    """Return what a governed tool knows besides its tool; ``None``: it is not governed."""
    known: Governance | None = (getattr(tool, "__pydantic_private__", None) or {}).get(GOVERNANCE)
    if known is None and type(tool) in _governed_classes_known:
        return unbound(tool)  # made by its constructor: no gate has ever seen it
    return known


def clone_of(tool: BaseTool, governance: Governance, state: dict[str, Any]) -> BaseTool:
    """Return an object of the governed class that has the tool's state, and governance."""
    clone = _with_state(governed_class(type(tool)), tool, state)
    private = {**(tool.__pydantic_private__ or {}), GOVERNANCE: governance}
    object.__setattr__(clone, "__pydantic_private__", private)
    return clone


def view_of(tool: BaseTool) -> BaseTool:
    """Return a governed clone as its body knows it: the same state, and no gate."""
    governance = governance_of(tool)
    if governance is not None and governance.original is not None:
        return governance.original
    return _with_state(_view_class(type(tool).__mro__[1]), tool, tool.__dict__)


def check_reachable(tool: BaseTool) -> None:
    """Raise ``ValueError`` for a class whose own code would run before a gate could be asked."""
    for name in _BEFORE:
        method = getattr(type(tool), name)
        if not method.__module__.startswith("langchain_core."):
            raise ValueError(
                f"the class of the tool {tool.name!r} overrides {name}, which is called before a "
                "gate could be asked; have it override _run or _arun"
            )


def is_async_only(tool: BaseTool) -> bool:
    """Tell whether a governed clone has nothing to run but a coroutine."""
    cls: Any = type(tool).__mro__[1]
    langchains_own = cls._run in {StructuredTool._run, Tool._run}  # noqa: SLF001
    return langchains_own and getattr(tool, "func", None) is None


def governed_class(cls: type[T]) -> type[T]:
    """Return the class of governed clones of tools of a class."""
    return _derived(_governed_classes, cls, _make_governed_class)


def _with_state(cls: type[BaseTool], tool: BaseTool, state: dict[str, Any]) -> BaseTool:
    """Make an instance without its constructor: validators may do things that are done once."""
    made = cls.__new__(cls)
    object.__setattr__(made, "__dict__", state)
    for slot in ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__"):
        object.__setattr__(made, slot, getattr(tool, slot))
    return made


def _blank(cls: type[T]) -> T:
    """Return a governed clone without state, for ``pickle`` to fill."""
    derived = governed_class(cls)
    return derived.__new__(derived)


def _make_governed_class(cls: type[T]) -> type[T]:
    @functools.wraps(cls._run)
    def _run(self: T, *args: Any, **kwargs: Any) -> Any:
        body = view_of(self)._run  # noqa: SLF001
        if is_async_only(self):
            for name in (CALL_ID, SAID):
                kwargs.pop(name, None)
            return body(*args, **kwargs)  # LangChain's own refusal
        return _known(self).run(self, body, args, kwargs)

    # LangChain's own `_arun` runs `_run` in a thread: a call that waits must not occupy one. What
    # the body takes is said by the method that has it.
    @functools.wraps(cls._run if cls._arun is BaseTool._arun else cls._arun)  # noqa: SLF001
    async def _arun(self: T, *args: Any, **kwargs: Any) -> Any:
        return await _known(self).arun(self, view_of(self)._arun, args, kwargs)  # noqa: SLF001

    def _to_args_and_kwargs(
        self: T, tool_input: str | dict[str, Any], tool_call_id: str | None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        args, kwargs = cls._to_args_and_kwargs(self, tool_input, tool_call_id)
        return args, {**kwargs, CALL_ID: tool_call_id, SAID: kwargs}

    def __reduce_ex__(self: T, protocol: Any) -> Any:  # noqa: N807 - pickle's name
        return _blank, (cls,), self.__getstate__()

    namespace: dict[str, Any] = {
        "__module__": cls.__module__,
        "__qualname__": f"Governed{cls.__qualname__}",
        "__doc__": cls.__doc__,
        GOVERNANCE: PrivateAttr(default=None),
        "_run": _run,
        "_arun": _arun,
        "_to_args_and_kwargs": _to_args_and_kwargs,
        "__reduce_ex__": __reduce_ex__,
    }
    if cls.ainvoke in {StructuredTool.ainvoke, Tool.ainvoke}:
        # Of a tool without a coroutine, these run all of a call in a thread, its wait included.
        namespace["ainvoke"] = BaseTool.ainvoke
    made = _subclass(cls, f"Governed{cls.__name__}", namespace)
    _governed_classes_known.add(made)
    return made


def _known(tool: BaseTool) -> Governance:
    return governance_of(tool) or unbound(tool)


def _view_class(cls: type[T]) -> type[T]:
    if not any(name in cls.model_fields for name in FUNCTIONS):
        return cls
    return _derived(_view_classes, cls, _make_view_class)


def _make_view_class(cls: type[T]) -> type[T]:
    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    view = _subclass(cls, cls.__name__, names)
    for name in FUNCTIONS:
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
_governed_classes_known: weakref.WeakSet[type] = weakref.WeakSet()


def _derived(known: _Derived, cls: type[T], make: Callable[[type[T]], type[T]]) -> type[T]:
    reference = known.get(cls)
    derived = None if reference is None else reference()
    if derived is None:
        derived = make(cls)
        known[cls] = weakref.ref(derived)
    return derived
