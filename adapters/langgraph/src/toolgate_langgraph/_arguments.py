"""Which arguments of a tool the gate sees, as JSON, and how edited ones get back into the tool.

The gate sees what a model can choose. What a framework injects (state, store, runtime, call id,
config, callbacks, anything marked as injected) is hidden: it never leaves the process.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Collection, Mapping
from typing import Any, get_type_hints

from langchain_core.tools import BaseTool, Tool
from langchain_core.tools.base import (
    _DirectlyInjectedToolArg,
    _get_runnable_config_param,
    _is_injected_arg_type,
)
from langchain_core.utils.pydantic import get_fields, is_basemodel_subclass
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic.v1 import BaseModel as BaseModelV1
from pydantic_core import to_jsonable_python

from toolgate_client._adapting.arguments import SchemaArguments
from toolgate_client._adapting.jsonvalues import without_formats

_CALLBACKS = frozenset({"run_manager", "callbacks"})
_SINGLE_INPUT = "__arg1"  # the name LangChain shows models for a tool that takes one text


class ToolArguments:
    """The arguments of one tool, as its model, the gate and its body each know them.

    Attributes:
        schema: the JSON Schema the gate judges arguments by: the one the model is shown.

    Raises ``ValueError`` at construction when the tool's arguments have no JSON Schema.
    """

    def __init__(self, tool: BaseTool) -> None:
        body = getattr(tool, "func", None) or getattr(tool, "coroutine", None) or tool._run  # noqa: SLF001
        self.schema = _schema(tool)
        self._fields = _fields(tool)
        self._shown = list(self.schema.get("properties") or ())
        self._runtime = _runtime(tool, frozenset(self._shown))
        self._hidden = self._runtime | _injected(tool, body, self._fields)
        self._positional = _positional(tool, body)
        model = tool.args_schema
        self._model = model if isinstance(model, type) else None
        self._by_schema = SchemaArguments(self._fields, self._shown, self._dump, _to_json)

    def named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return all of a call's values by name."""
        named = dict(zip(self._positional, args, strict=False))
        if rest := args[len(self._positional) :]:
            named["args"] = list(rest)
        named.update(kwargs)
        return named

    def visible(self, named: Mapping[str, Any], made_up: Collection[str] = ()) -> dict[str, Any]:
        """Return what of a call the gate may see, as live values.

        ``made_up`` are names of what LangChain gives a body, under which this call has a value of
        whoever made it: an argument like any other.
        """
        hidden = self.hidden(named, made_up)
        visible = {name: value for name, value in named.items() if name not in hidden}
        if self._shown == [_SINGLE_INPUT] and len(visible) == 1:  # whatever its body calls it
            return {_SINGLE_INPUT: next(iter(visible.values()))}
        return visible

    def hidden(self, named: Mapping[str, Any], made_up: Collection[str] = ()) -> dict[str, Any]:
        """Return what of a call stays in this process: injected arguments, config, callbacks."""
        return {
            name: value
            for name, value in named.items()
            if self._is_hidden(name, value) and name not in self._runtime.intersection(made_up)
        }

    def injected(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """Return what of a call's hidden values the tool's own schema may know."""
        hidden = self.hidden(named)
        return {name: value for name, value in hidden.items() if name not in self._runtime}

    def config(self, kwargs: Mapping[str, Any], made_up: Collection[str] = ()) -> Any:
        """Return the run's config, where the body takes one."""
        names = self._runtime - _CALLBACKS - set(made_up)
        return next((kwargs[name] for name in names if name in kwargs), None)

    def to_json(self, visible: Mapping[str, Any]) -> dict[str, Any]:
        """Return the visible arguments as the JSON the gate judges.

        Raises ``ValueError`` or ``TypeError`` for a value that has no JSON form.
        """
        return self._by_schema.propose(visible)

    def edited(
        self, args: Mapping[str, Any], proposed: Mapping[str, Any], visible: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return arguments that a person edited as input for the tool's own schema."""
        return self._by_schema.edited(args, proposed, visible)

    def _is_hidden(self, name: str, value: Any) -> bool:
        return name in self._hidden or isinstance(value, _DirectlyInjectedToolArg)

    def _dump(self, values: dict[str, Any]) -> dict[str, Any]:
        """Dump through the tool's own model, which knows best how its fields are written."""
        model, names = self._model, set(values)
        if model is None:
            return {}
        if issubclass(model, BaseModelV1):
            text = model.construct(**values).json(by_alias=True, include=names)
            dumped = json.loads(text)
        else:
            made = model.model_construct(**values)
            dumped = made.model_dump(mode="json", by_alias=True, include=names, warnings="none")
        return dumped if isinstance(dumped, dict) else {}


def _schema(tool: BaseTool) -> dict[str, Any]:
    if isinstance(tool, Tool) and tool.args_schema is None:
        text = {"type": "string"}
        return {"type": "object", "properties": {_SINGLE_INPUT: text}, "required": [_SINGLE_INPUT]}
    shown: Any = tool.tool_call_schema
    if isinstance(shown, dict):
        return dict(shown)
    try:
        schema = shown.model_json_schema() if issubclass(shown, BaseModel) else shown.schema()
    except Exception as error:
        raise ValueError(
            f"the arguments of the tool {tool.name!r} have no JSON Schema, so no policy can judge "
            f"them: {error}"
        ) from error
    stripped: dict[str, Any] = without_formats(schema)
    return stripped


def _fields(tool: BaseTool) -> dict[str, FieldInfo | Any]:
    model = tool.args_schema
    if isinstance(model, type) and is_basemodel_subclass(model):
        return dict(get_fields(model))
    return {}


def _injected(tool: BaseTool, body: Any, fields: Mapping[str, Any]) -> frozenset[str]:
    # LangChain's own list knows more forms of annotations; older versions have none.
    injected = frozenset(getattr(tool, "_injected_args_keys", ())) | _annotated_as_injected(body)
    if not fields:
        return injected
    # The model is shown all fields but the injected ones.
    shown: Any = tool.tool_call_schema
    return injected | (fields.keys() - get_fields(shown).keys())


def _annotated_as_injected(body: Any) -> frozenset[str]:
    try:
        hints = get_type_hints(body, include_extras=True)
    except (NameError, TypeError):  # an annotation that only a type checker can resolve
        return frozenset()
    return frozenset(name for name, hint in hints.items() if _is_injected_arg_type(hint))


def _runtime(tool: BaseTool, shown: frozenset[str]) -> frozenset[str]:
    bodies = (tool._run, tool._arun, getattr(tool, "func", None), getattr(tool, "coroutine", None))  # noqa: SLF001
    known = [body for body in bodies if body is not None]
    configs = (_get_runnable_config_param(body) for body in known)
    # What LangChain gives a body it gives by name. A body that takes whatever comes gets of these
    # what a model made up, which is an argument like any other.
    given = {name for body in known for name in _CALLBACKS & _parameters(body).keys()}
    return frozenset((given - shown) | {name for name in configs if name is not None})


def _parameters(body: Any) -> Mapping[str, inspect.Parameter]:
    try:
        return inspect.signature(body).parameters
    except ValueError:  # some functions written in C do not say
        return {}


def _positional(tool: BaseTool, body: Any) -> list[str]:
    """Name what a tool is given without a name: a text, or arguments in order."""
    if isinstance(tool, Tool) and tool.args_schema is None:
        return [_SINGLE_INPUT]
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [name for name, parameter in _parameters(body).items() if parameter.kind in kinds]


def _to_json(value: Any) -> Any:
    def fallback(unknown: Any) -> Any:
        if isinstance(unknown, BaseModelV1):
            return json.loads(unknown.json(by_alias=True))
        raise TypeError(f"an argument of type {type(unknown).__qualname__} has no JSON form")

    return to_jsonable_python(value, by_alias=True, inf_nan_mode="strings", fallback=fallback)
