"""The arguments of a tool as the body, the model and the gate know them, by its pydantic schema.

The body knows them by the fields' names, a model and the gate by the schema's, which may be
aliases. Nothing of pydantic is imported: its models say all that is asked of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from toolgate_client._adapting.jsonvalues import same_json


class SchemaArguments:
    """How live values become the JSON that the gate judges, and edited JSON becomes input again.

    ``fields`` are the fields of the tool's model by name, ``shown`` the names its JSON Schema has.
    ``dump`` writes values of the model, by field name, as JSON by their aliases; ``to_json`` any
    other value. Both raise ``TypeError`` or ``ValueError`` for what has no JSON form.
    """

    def __init__(
        self,
        fields: Mapping[str, Any],
        shown: list[str],
        dump: Callable[[dict[str, Any]], dict[str, Any]],
        to_json: Callable[[Any], Any],
    ) -> None:
        self._fields = fields
        self._shown = shown
        self._dump = dump
        self._to_json = to_json

    def propose(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Return live values as the arguments that the gate judges.

        Raises ``ValueError`` or ``TypeError`` for a value that has no JSON form.
        """
        known = {name: value for name, value in values.items() if name in self._fields}
        dumped = self._dump(known) if known else {}
        proposed: dict[str, Any] = {}
        for name, value in values.items():
            field = self._fields.get(name)
            key = (
                getattr(field, "serialization_alias", None) or getattr(field, "alias", None) or name
            )
            # A field its author excludes from dumps is an argument all the same.
            json_value = dumped[key] if key in dumped else self._to_json(value)
            proposed[self._json_name(name, field)] = json_value
        return proposed

    def edited(
        self, args: Mapping[str, Any], proposed: Mapping[str, Any], values: Mapping[str, Any]
    ) -> dict[str, Any]:
        """Return arguments that a person edited as input for the tool's own schema.

        What was not edited keeps its live value: its JSON may say less (a secret's is masked).
        """
        names = {self._json_name(name, field): name for name, field in self._fields.items()}
        taken: dict[str, Any] = {}
        for key, value in args.items():
            name = names.get(key, key)
            field = self._fields.get(name)
            alias = getattr(field, "validation_alias", None) or getattr(field, "alias", None)
            same = key in proposed and name in values and same_json(value, proposed[key])
            taken[alias if isinstance(alias, str) else name] = values[name] if same else value
        return taken

    def _json_name(self, name: str, field: Any) -> str:
        if name in self._shown:
            return name
        for alias in (getattr(field, "validation_alias", None), getattr(field, "alias", None)):
            if isinstance(alias, str) and alias in self._shown:
                return alias
        return name
