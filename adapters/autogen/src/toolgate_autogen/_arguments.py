"""Which arguments of a tool the gate sees, as JSON, and what the tool is then called with.

AutoGen's tools validate a call by their ``args_type``. So is it done here first: what is invalid
never reaches the gate, and what the gate judges is what the tool makes of the arguments.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autogen_core.tools import BaseStreamTool, BaseTool
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from toolgate_client._adapting.arguments import SchemaArguments
from toolgate_client._adapting.edits import EditRefused
from toolgate_client._adapting.jsonvalues import (
    canonical,
    check_sendable,
    same_json,
    without_formats,
)


class ToolArguments:
    """The arguments of one tool, as its model, the gate and its body each know them.

    Attributes:
        schema: the JSON Schema the gate judges arguments by.

    Raises ``ValueError`` at construction when the tool's arguments have no JSON Schema.
    """

    def __init__(self, tool: BaseTool[Any, Any]) -> None:
        # What BaseTool itself validates by, whatever a subclass says its type is.
        self.model: type[BaseModel] = getattr(tool, "_args_type", None) or tool.args_type()
        streams = getattr(type(tool), "run_json_stream", None)
        self.validates = type(tool).run_json is BaseTool.run_json and (
            streams is None or streams is BaseStreamTool.run_json_stream
        )
        """Whether the tool validates what it is given, as AutoGen's own methods do."""
        try:
            self.schema: dict[str, Any] = without_formats(self.model.model_json_schema())
        except Exception as error:
            raise ValueError(
                f"the arguments of the tool {tool.name!r} have no JSON Schema, so no policy can "
                f"judge them: {error}"
            ) from error
        self._shown = list(self.schema.get("properties") or ())

    def read(self, args: Any) -> Arguments:
        """Return the arguments of a call, as a model makes it.

        Raises pydantic's ``ValidationError`` when they are invalid, as the tool itself would, and
        ``ValueError`` or ``TypeError`` when they cannot be shown to the gate.
        """
        args = _snapshot(args)
        live = self.model.model_validate(args)
        proposed = self.to_json(live)
        given: Any = args
        if not self.validates:
            given = proposed  # it may look at what was not judged
        elif not same_json(self.to_json(self.model.model_validate(args)), proposed):
            given = live  # validated again it would be something else
        return Arguments(self, live, proposed, given)

    def of(self, live: BaseModel) -> Arguments:
        """Return the arguments of a call that own code makes, with a validated model.

        Raises ``ValueError`` or ``TypeError`` when they cannot be shown to the gate.
        """
        return Arguments(self, live, self.to_json(live), live)

    def to_json(self, live: BaseModel) -> dict[str, Any]:
        """Return validated arguments as the JSON that the gate judges."""
        proposed = self._by_schema(live).propose(_values(live))
        check_sendable(proposed)
        parsed: dict[str, Any] = json.loads(canonical(proposed))
        return parsed

    def edited(self, released: Mapping[str, Any], arguments: Arguments | None) -> dict[str, Any]:
        """Return arguments that a person edited, or that nobody's call has, as a tool takes them.

        Raises ``EditRefused`` when the tool's own schema does not take them.
        """
        if arguments is None:
            taken = self._by_schema(None).edited(released, {}, {})
        else:
            live = arguments.live
            taken = self._by_schema(live).edited(released, arguments.proposed, _values(live))
        try:
            self.model.model_validate(taken)
        except ValueError as error:
            raise EditRefused(error) from error
        return taken

    def _by_schema(self, live: BaseModel | None) -> SchemaArguments:
        def dump(values: dict[str, Any]) -> dict[str, Any]:
            if live is None:
                return {}
            dumped: Any = live.model_dump(mode="json", by_alias=True, warnings="none")
            return dict(dumped) if isinstance(dumped, dict) else {}

        return SchemaArguments(self.model.model_fields, self._shown, dump, _to_json)


@dataclass(frozen=True)
class Arguments:
    """The arguments of one call: live, as the gate was shown them, and as the tool is given them.

    ``given`` is what the original's ``run_json`` takes, unless a person has edited the call.
    """

    of: ToolArguments
    live: BaseModel
    proposed: dict[str, Any]
    given: Any

    def as_json(self, released: Mapping[str, Any]) -> Any:
        """Return what the gate released, for ``run_json``.

        Raises ``EditRefused`` for an edit that the tool's own schema does not take.
        """
        if same_json(released, self.proposed):
            return self.given
        return self.of.edited(released, self)

    def as_model(self, released: Mapping[str, Any]) -> BaseModel:
        """Return it for ``run``; raises the same."""
        if same_json(released, self.proposed):
            return self.live
        return self.of.model.model_validate(self.of.edited(released, self))


def _values(live: BaseModel) -> dict[str, Any]:
    return {**{name: getattr(live, name) for name in type(live).model_fields}, **_extra(live)}


def _extra(live: BaseModel) -> dict[str, Any]:
    return live.model_extra or {}


def _snapshot(args: Any) -> Any:
    """Return arguments that nobody changes while they are judged, if they are JSON."""
    try:
        return json.loads(canonical(args))
    except (TypeError, ValueError):
        return args


def _to_json(value: Any) -> Any:
    def refuse(unknown: Any) -> Any:
        raise TypeError(f"an argument of type {type(unknown).__qualname__} has no JSON form")

    return to_jsonable_python(value, by_alias=True, inf_nan_mode="strings", fallback=refuse)
