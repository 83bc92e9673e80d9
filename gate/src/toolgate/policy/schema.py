"""JSON Schemas of the files an operator writes, for editors: made from the models that read them.

A schema accepts what the gate accepts. It refuses most of what the gate refuses, not all: what
depends on other values or on other files is for ``toolgate check`` and ``toolgate policy check``.
"""

from __future__ import annotations

import re
from typing import Any, Final, Literal

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from toolgate.config import GateConfig
from toolgate.policy.document import Document, Rule
from toolgate.policy.testing import TestFile

SchemaName = Literal["config", "policy", "policy-test"]

_DRAFT: Final = "https://json-schema.org/draft/2020-12/schema"
_ROLE: Final = re.compile(r":\w+:`~?([^`]*)`")


class _Generator(GenerateJsonSchema):
    """Leaves out titles, which repeat the keys, and defaults, which are no JSON in places."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False

    def default_schema(self, schema: Any) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])


def schema_of(name: SchemaName) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a kind of file."""
    match name:
        case "config":
            made = _generate(GateConfig, "Toolgate: a deployment's configuration")
            rule = _generate(Rule, "")
            made["$defs"] |= rule.pop("$defs", {})
            made["$defs"]["Rule"] = _exact_rule(rule)
            section = made["$defs"]["PolicySection"]["properties"]
            section["rules"]["anyOf"][0]["items"] = {"$ref": "#/$defs/Rule"}
        case "policy":
            made = _generate(Document, "Toolgate: a policy document")
            _exact_rule(made["$defs"]["Rule"])
        case _:
            made = _generate(TestFile, "Toolgate: tests of a policy")
    return made


def _generate(model: type[BaseModel], title: str) -> dict[str, Any]:
    made = model.model_json_schema(schema_generator=_Generator)
    _tidy(made)
    return {"$schema": _DRAFT, "title": title, **made}


def _exact_rule(rule: dict[str, Any]) -> dict[str, Any]:
    """Add what the model's validators say of a rule as a whole."""
    for key in ("$schema", "title"):
        rule.pop(key, None)
    rule["anyOf"] = [{"required": ["tools"]}, {"required": ["types"]}]
    rule["if"] = {"required": ["approval"], "properties": {"approval": {"type": "object"}}}
    rule["then"] = {"properties": {"effect": {"const": "hold"}}}
    return rule


def _tidy(value: Any) -> None:
    """Make descriptions fit for people who have not seen the code, and constraints be of arrays."""
    if isinstance(value, dict):
        text = value.get("description")
        if isinstance(text, str):
            first = " ".join(text.partition("\n\n")[0].split())
            value["description"] = _ROLE.sub(r"\1", first).replace("``", "`")
        for name, of_items in (("minLength", "minItems"), ("maxLength", "maxItems")):
            if value.get("type") == "array" and name in value:
                value[of_items] = value.pop(name)
        if isinstance(value.get("title"), str):
            del value["title"]
        for item in value.values():
            _tidy(item)
    elif isinstance(value, list):
        for item in value:
            _tidy(item)
