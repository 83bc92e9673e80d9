"""Which arguments of a tool the gate sees, as JSON, and how edited ones get back into the tool.

CrewAI validates a call by the tool's ``args_schema`` and gives the body the fields, dumped.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import to_jsonable_python

from toolgate_client._adapting.arguments import SchemaArguments
from toolgate_client._adapting.jsonvalues import without_formats


class ToolArguments:
    """The arguments of one tool, as its model, the gate and its body each know them.

    ``body`` is what runs for a call. Attributes:
        schema: the JSON Schema the gate judges arguments by.

    Raises ``ValueError`` at construction when the tool's arguments have no JSON Schema.
    """

    def __init__(self, tool: Any, body: Callable[..., Any]) -> None:
        self._model: Any = tool.args_schema
        try:
            self.schema: dict[str, Any] = without_formats(self._model.model_json_schema())
        except Exception as error:
            raise ValueError(
                f"the arguments of the tool {tool.name!r} have no JSON Schema, so no policy can "
                f"judge them: {error}"
            ) from error
        fields = dict(self._model.model_fields)
        shown = list(self.schema.get("properties") or ())
        self._by_schema = SchemaArguments(fields, shown, self._dump, _to_json)
        self._positional = _positional(body)

    def named(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, Any]:
        """Return all of a call's values by name."""
        named = dict(zip(self._positional, args, strict=False))
        if rest := args[len(self._positional) :]:
            named["args"] = list(rest)
        return {**named, **kwargs}

    def to_json(self, named: Mapping[str, Any]) -> dict[str, Any]:
        """Return a call's values as the JSON the gate judges.

        Raises ``ValueError`` or ``TypeError`` for a value that has no JSON form.
        """
        return self._by_schema.propose(named)

    def edited(
        self, args: Mapping[str, Any], proposed: Mapping[str, Any], named: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return arguments that a person edited as the body takes them, validated again.

        Raises ``ValueError`` when the tool's own schema refuses them.
        """
        return self.validated(self._by_schema.edited(args, proposed, named))

    def validated(self, args: Mapping[str, Any]) -> dict[str, Any]:
        """Return arguments as CrewAI gives them to the body, of JSON or of live values.

        Raises ``ValueError`` when the tool's own schema refuses them.
        """
        if not self._model.model_fields:
            return dict(args)  # as CrewAI does
        validated = self._model.model_validate(dict(args), by_alias=True, by_name=True)
        return dict(validated.model_dump())

    def _dump(self, values: dict[str, Any]) -> dict[str, Any]:
        """Dump through the tool's own model, which knows best how its fields are written.

        What is judged has to be what runs: a model that validates its own dump into something else
        is not asked to.
        """
        names = set(values)
        try:
            made = self._model.model_validate(values, by_alias=True, by_name=True)
            if made.model_dump(include=names) != values:
                made = self._model.model_construct(**values)
        except ValidationError:
            made = self._model.model_construct(**values)
        dumped = made.model_dump(mode="json", by_alias=True, include=names, warnings="none")
        return dict(dumped) if isinstance(dumped, dict) else {}


def _positional(body: Callable[..., Any]) -> list[str]:
    """Name what a tool is given without a name: arguments in order."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(body).parameters.values()
    except ValueError:  # some functions written in C do not say
        return []
    return [parameter.name for parameter in parameters if parameter.kind in kinds]


def _to_json(value: Any) -> Any:
    def refuse(unknown: Any) -> Any:
        raise TypeError(f"an argument of type {type(unknown).__qualname__} has no JSON form")

    return to_jsonable_python(value, by_alias=True, inf_nan_mode="strings", fallback=refuse)
