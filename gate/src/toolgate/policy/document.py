"""The policy document: what a rule may say, and everything that can be wrong with one at load.

A document is read as a whole: all its problems are reported together, each with its line and the
rule it is in. A rule that could never match because its target is missing is an error, not a rule.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, ValidationError, model_validator

from toolgate.config import Mode
from toolgate.fields import Expiry, Globs, Name, Names, Section, as_tuple
from toolgate.ir import ActionType
from toolgate.jsonvalue import JSONValue
from toolgate.sourcefile import Location, Problems, dotted, message

Effect: TypeAlias = Literal["deny", "hold", "allow"]


class ApprovalTerms(Section):
    """Who must approve what a hold rule holds; what is left out comes from ``approvals``.

    ``approvers`` None: any pinned approver. ``expires`` None: the configured default; in seconds.
    With ``edit`` an approver may sign other arguments than those that were proposed.
    """

    approvers: Annotated[Names, Field(min_length=1)] | None = None
    quorum: Annotated[int, Field(ge=1)] = 1
    expires: Expiry | None = None
    edit: bool = False


class Rule(Section):
    """One rule: which calls it is about, under which condition, and what then happens.

    It is about the tool calls whose tool matches one of the globs in ``tools`` (every tool call
    when ``tools`` is left out and ``types`` names ``tool_call``), and about the state actions whose
    type is in ``types``. In mode ``observe`` it decides nothing: what it would do is told.
    """

    id: Name
    tools: Annotated[Globs, Field(min_length=1)] | None = None
    types: (
        Annotated[
            tuple[Annotated[ActionType, Field(strict=False)], ...],
            BeforeValidator(as_tuple),
            Field(min_length=1),
        ]
        | None
    ) = None
    when: str | None = None
    unless: str | None = None
    effect: Effect
    reason: Annotated[str, Field(min_length=1)] | None = None
    approval: ApprovalTerms | None = None
    mode: Mode = "enforce"

    @model_validator(mode="after")
    def _consistent(self) -> Rule:
        if self.tools is None and self.types is None:
            raise ValueError("names neither tools nor types, so it could never match")
        if self.approval is not None and self.effect != "hold":
            raise ValueError(
                f"has approval, which belongs to a hold, but its effect: {self.effect}"
            )
        return self


@dataclass(frozen=True, slots=True)
class PlacedRule:
    """A rule and where in its file it stands; ``subject`` is how messages name it."""

    rule: Rule
    location: Location
    subject: str


class _Head(Section):
    version: Literal[1]
    id: Name
    rules: Sequence[object]


class Document(_Head):
    """A policy document: rules that decide over what agents do.

    For its schema: :func:`read_document` reads rule by rule.
    """

    rules: tuple[Rule, ...]


def read_document(value: JSONValue, problems: Problems) -> tuple[str, list[PlacedRule]]:
    """Read a document; return its id and its rules, as :func:`read_rules` does."""
    try:
        head = _Head.model_validate(value)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            problems.add(detail["loc"], message(detail))
        found = value.get("rules") if isinstance(value, dict) else None
        return "", read_rules(found, ("rules",), problems) if isinstance(found, list) else []
    return head.id, read_rules(head.rules, ("rules",), problems)


def read_rules(values: Sequence[JSONValue], root: Location, problems: Problems) -> list[PlacedRule]:
    """Read the rules that stand at ``root``; what is wrong goes to ``problems``, rule by rule.

    Of a rule that is not well-formed the rest is returned as far as it goes, so that what is wrong
    with its conditions and approvers is found with it: where there are problems no rule is usable.
    """
    rules: list[PlacedRule] = []
    seen: dict[str, int] = {}
    for index, value in enumerate(values):
        location = (*root, index)
        name = value.get("id") if isinstance(value, dict) else None
        subject = f"rule {name}" if isinstance(name, str) and name else dotted(location)
        try:
            rule = Rule.model_validate(value)
        except ValidationError as error:
            details = error.errors(include_url=False)
            for detail in details:
                within = ": ".join(filter(None, (subject, dotted(detail["loc"]))))
                problems.add((*location, *detail["loc"]), message(detail), subject=within)
            rest = _rest(value, [detail["loc"] for detail in details], dotted(location))
            if rest is None:
                continue
            rule = rest
        placed = PlacedRule(rule, location, subject)
        first = seen.setdefault(placed.rule.id, index)
        if first != index:
            line = problems.line((*root, first))
            at = f" (line {line})" if line else ""
            text = f"this rule id is taken by {dotted((*root, first))}{at}"
            problems.add((*location, "id"), text, subject=placed.subject)
        rules.append(placed)
    return rules


def _rest(value: JSONValue, wrong: Sequence[Location], name: str) -> Rule | None:
    """Return what a rule says that is well-formed, made a rule of; ``None``: that is nothing."""
    if not isinstance(value, dict):
        return None
    terms = value.get("approval")
    if isinstance(terms, dict):
        bad = {place[1] for place in wrong if place[0:1] == ("approval",) and len(place) > 1}
        value = {**value, "approval": {key: terms[key] for key in terms if key not in bad}}
        wrong = [place for place in wrong if place[0:1] != ("approval",)]
    bad = {place[0] for place in wrong if place}
    rest = {"id": name, "effect": "deny", "tools": ["*"]}
    rest |= {key: item for key, item in value.items() if key not in bad}
    if "approval" in rest:
        rest["effect"] = "hold"
    try:
        return Rule.model_validate(rest)
    except ValidationError:
        return None
