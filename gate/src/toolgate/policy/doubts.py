"""What is odd about a policy in its deployment: conditions that can be true of no call, and such.

Nothing here is wrong, so nothing is refused: tools may be registered later. Each is told only where
the config knows it for certain, from what was compiled:

1. A label is compared with those of a session or a tool that no contract emits, or has.
   (``untrusted`` comes from documents, too.)
2. An argument is read that every tool the rule names refuses: the operator's schema has
   ``additionalProperties: false``, and not this one.
3. An argument is compared with a text that its ``enum``, in every tool the rule names, has not.
4. The calls of a tool are counted, or looked for in the history, that neither the config nor a rule
   names.
5. A field, or a status, is looked for in the history that no call there has.
6. A constant stands in ``policy.vars`` that no rule reads.

A rule names certain tools where all its ``tools`` are names that the config has. What a glob
matches besides, nobody knows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final, get_args

from toolgate.config import GateConfig
from toolgate.ir import ActionType
from toolgate.policy._syntax import EACH, Place
from toolgate.policy.conditions import Condition
from toolgate.policy.situation import PastCall, PastStatus
from toolgate.policy.verdict import CompiledRule, Policy

_GLOB: Final = frozenset("*?[")
_UNTRUSTED: Final = "untrusted"
_FIELDS: Final = tuple(PastCall.model_fields)
_STATUSES: Final = get_args(PastStatus)


def doubts(policy: Policy, config: GateConfig) -> list[str]:
    """Return what is odd about a deployment's policy, for people, rule by rule."""
    found: dict[str, None] = {}
    deployed = _Deployed(policy, config)
    for rule in policy.rules:
        for field, condition in (("when", rule.when), ("unless", rule.unless)):
            if condition is not None:
                for text in deployed.doubts(rule, condition):
                    found[f"rule {rule.id}: {field}: {text}"] = None
    read = {name for rule in policy.rules for item in rule.conditions for name in item.names}
    unread = [name for name in config.policy.vars if f"vars.{name}" not in read]
    return [*found, *(f"policy.vars.{name} is read by no rule" for name in unread)]


class _Deployed:
    """What a config knows, and what the rules name besides."""

    def __init__(self, policy: Policy, config: GateConfig) -> None:
        self._tools = config.tools
        contracts = config.tools.values()
        self._emitted = {_UNTRUSTED, *(label for tool in contracts for label in tool.emits)}
        self._labels = {label for tool in contracts for label in tool.labels}
        self._globs = [
            glob
            for rule in policy.rules
            for text, glob in zip(rule.tools or (), rule.globs or (), strict=True)
            if text != "*"
        ]

    def doubts(self, rule: CompiledRule, condition: Condition) -> Iterator[str]:
        """Find what is odd about one condition."""
        yield from self._of_history(condition)
        for path in condition.paths:
            if path.variable == "session.calls" and path.steps:
                yield from self._unknown_tool(str(path.steps[0]))
        for item in condition.comparisons:
            yield from self._of_labels(item.place, item.text)
        schemas = self._schemas(rule)
        if schemas:
            yield from _of_arguments(condition, schemas)

    def _of_history(self, condition: Condition) -> Iterator[str]:
        read = [path.steps for path in condition.paths if path.variable == "history"]
        items = [place.steps for place in condition.items if place.variable == "history"]
        for field in (steps[1] for steps in (*read, *items) if len(steps) > 1):
            if field not in _FIELDS:
                yield f"a call in history has no {field} (it has {', '.join(_FIELDS)})"
        for item in condition.comparisons:
            match item.place:
                case Place("history", (_, "tool")):
                    yield from self._unknown_tool(item.text)
                case Place("history", (_, "status")) if item.text not in _STATUSES:
                    known = ", ".join(_STATUSES)
                    yield f"no call in history has the status {item.text} (there are {known})"

    def _unknown_tool(self, name: str) -> Iterator[str]:
        if name not in self._tools and not any(glob.match(name) for glob in self._globs):
            yield f"neither the config nor a rule names the tool {name}"

    def _of_labels(self, place: Place, text: str) -> Iterator[str]:
        match place:
            case Place("session.labels", (_,)) if text not in self._emitted:
                yield f"no contract emits the label {text}, so no session has it"
            case Place("tool.labels", (_,)) | Place("history", (_, "labels", _)) if (
                text not in self._labels
            ):
                yield f"no contract has the label {text}"

    def _schemas(self, rule: CompiledRule) -> list[dict[str, Any]]:
        """Return the operator's schemas of all calls that a rule is about; empty: not known."""
        if rule.tools is None or rule.types - {ActionType.TOOL_CALL}:
            return []
        entries = [None if _GLOB & set(name) else self._tools.get(name) for name in rule.tools]
        found = [entry.parameters for entry in entries if entry is not None]
        known = [schema for schema in found if schema is not None]
        return known if len(known) == len(entries) else []


def _of_arguments(condition: Condition, schemas: Sequence[dict[str, Any]]) -> Iterator[str]:
    for path in condition.paths:
        if path.variable == "args" and all(_below(s, path.steps) is _REFUSED for s in schemas):
            yield f"no tool that the rule names takes {path}: their schemas refuse it"
    for item in condition.comparisons:
        steps, text = item.place.steps, item.text
        if item.place.variable == "args" and all(_lacks(_below(s, steps), text) for s in schemas):
            name = "".join("[…]" if step is EACH else f".{step}" for step in steps)
            yield f"args{name} is never {text!r}: it is not in the enum of the schema"


_REFUSED: Final = object()


def _below(schema: Any, steps: Sequence[str | int | None]) -> object:
    """Return the schema of what lies at a place; ``None``: nobody knows."""
    for step in steps:
        if not isinstance(schema, dict):
            return None
        if isinstance(step, str):
            properties = schema.get("properties", {})
            closed = schema.get("additionalProperties") is False
            if isinstance(properties, dict) and step in properties:
                schema = properties[step]
            elif closed and "patternProperties" not in schema:
                return _REFUSED
            else:
                return None
        elif "prefixItems" not in schema:
            schema = schema.get("items")
        else:
            return None
    return schema


def _lacks(schema: object, text: str) -> bool:
    if not isinstance(schema, dict):
        return False
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    return isinstance(values, list) and text not in values
