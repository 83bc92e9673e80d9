"""Turns the policy files of CAR (the Common Agent Runtime) into a document that means the same.

What CAR's rules mean is taken from its documentation of ``.car/policies/*.toml``:

``deny_tool``                 the tool is never called
``deny_keyword``              no parameter of any tool contains the text
``deny_tool_param``           one parameter of one tool does not contain a text
``deny_tool_param_matching``  one parameter of one tool does not match a regex, anywhere in it
``allow_tool_param``          one parameter of one tool is there, and is one of the listed values
``rate_limit_tool``           so many calls of a tool in so many seconds
``require_state``             no action runs unless a key of state has a value (CAR: by code only)

CAR allows what no rule denies; the document says so with a rule of its own. A rate limit belongs to
the tool's contract, in the config. What has no counterpart is reported, and so is every rule that
CAR itself would never have applied, because its target is missing.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from toolgate.errors import PolicyError
from toolgate.fields import Text
from toolgate.ir import ActionType
from toolgate.jsonvalue import JSONValue
from toolgate.policy.conditions import ConditionCompiler, ConditionError
from toolgate.sourcefile import dotted, message

_SEARCHED: Final = (
    "a parameter is searched when it is a text, a number or a boolean; a call whose parameter is a "
    "list, a mapping or null is denied, where CAR searches it written out as a text"
)
_SEARCHED_EVERYWHERE: Final = (
    "deny_keyword searches parameters, and what is directly in lists and mappings; a call with "
    "anything deeper is denied, where CAR searches it written out as a text"
)
_EVERY_ACTION = [kind.value for kind in ActionType]


class _CarRule(BaseModel):
    """What CAR's rules share; ``name`` is what one that was registered by code is called."""

    model_config = ConfigDict(extra="forbid", strict=True)
    name: Text | None = None


class _Tool(_CarRule):
    tool: Text


class _Param(_Tool):
    param: Text


class _Contains(_Param):
    contains: Annotated[str, Field(min_length=1)]


class _Matches(_Param):
    matches: Annotated[str, Field(min_length=1)]


class _Allow(_Param):
    allow: list[str | bool | int | float]


class _Keyword(_CarRule):
    keyword: Annotated[str, Field(min_length=1)]


class _RateLimit(_Tool):
    max_calls: Annotated[int, Field(ge=0)]
    interval_secs: Annotated[
        float,
        Field(gt=0, allow_inf_nan=False),
        BeforeValidator(lambda value: float(value) if type(value) is int else value),
    ]


class _RequireState(_CarRule):
    key: Text
    value: str | bool | int | float | None = None
    tool: Text | None = None


@dataclass(slots=True)
class Imported:
    """What became of CAR's files.

    ``rules`` make the document, ``tools`` belong into the config. ``notes`` tell where the meaning
    is not quite CAR's, ``untranslated`` what is missing here.
    """

    rules: list[dict[str, JSONValue]] = field(default_factory=list)
    tools: dict[str, dict[str, JSONValue]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    untranslated: list[str] = field(default_factory=list)

    def document(self, name: str) -> dict[str, JSONValue]:
        """Return the policy document."""
        return {"version": 1, "id": name, "rules": list(self.rules)}

    def add(self, name: str, rule: dict[str, JSONValue]) -> None:
        """Add a rule under a name, or under one like it where that is taken."""
        taken = {item["id"] for item in self.rules}
        name = "".join(char if char.isprintable() else "_" for char in name)[:190]
        names = (name if number == 1 else f"{name}-{number}" for number in range(1, len(taken) + 2))
        identifier = next(item for item in names if item not in taken)
        self.rules.append({"id": identifier, **rule})

    def note(self, text: str) -> None:
        """Add a note, once."""
        if text not in self.notes:
            self.notes.append(text)


def import_car(paths: Sequence[Path], *, allow_rest: bool = True) -> Imported:
    """Translate CAR's policy files, as one set of rules; every one of them is read first.

    Without ``allow_rest`` what no rule is about is left to ``allow_up_to``. Raises
    :class:`PolicyError` for a file that cannot be read.
    """
    imported = Imported()
    for path, tables in [(path, _read(path)) for path in paths]:
        for kind, value in tables.items():
            for subject, item in _items(kind, value):
                problem = _translate(kind, item, imported)
                if problem is not None:
                    imported.untranslated.append(f"{path.name}: {subject}: {problem}")
    if allow_rest:
        imported.add("car-allows-the-rest", {"types": list(_EVERY_ACTION), "effect": "allow"})
        imported.note(
            "CAR allows what no rule denies, and so does car-allows-the-rest: once you know your "
            "tools, take it out and allow them by name"
        )
    return imported


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise PolicyError(str(path), [f"cannot be read: {error.strerror or error}"]) from None
    except (ValueError, RecursionError) as error:
        raise PolicyError(str(path), [f"is not TOML: {error}"]) from None


def _items(kind: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield each rule of one kind, with how messages name it."""
    if isinstance(value, list):
        yield from ((f"{kind}[{index}]", item) for index, item in enumerate(value))
    else:
        yield kind, value


def _translate(kind: str, item: object, imported: Imported) -> str | None:
    """Add what a rule means, or return why it cannot be translated."""
    translation = _KINDS.get(kind)
    if translation is None:
        return _UNKNOWN.get(kind, "is not a kind of rule that CAR documents")
    model, word, add = translation
    try:
        # `deny_tool = ["x"]` and `deny_keyword = ["x"]` are lists of texts.
        rule = model.model_validate({word: item} if word and isinstance(item, str) else item)
    except ValidationError as error:
        details = error.errors(include_url=False)
        return "; ".join(
            f"{dotted(detail['loc'])}: {message(detail)}".removeprefix(": ") for detail in details
        )
    return add(rule, imported)


def _deny_tool(rule: _Tool, imported: Imported) -> None:
    imported.add(rule.name or f"deny-{rule.tool}", _denial([rule.tool]))


def _deny_keyword(rule: _Keyword, imported: Imported) -> None:
    test = _containing(rule.keyword)
    condition = (
        "args.exists(a, args[a] != null && ("
        f"type(args[a]) == list ? args[a].exists(i, string(i){test})"
        f" : type(args[a]) == map ? args[a].exists(k, string(args[a][k]){test})"
        f" : string(args[a]){test}))"
    )
    imported.add(
        rule.name or f"deny-keyword-{rule.keyword}",
        {
            "tools": ["*"],
            "when": condition,
            "effect": "deny",
            "reason": "an argument contains a text that no argument may contain",
        },
    )
    imported.note(_SEARCHED_EVERYWHERE)


def _deny_tool_param(rule: _Contains, imported: Imported) -> None:
    imported.add(
        rule.name or f"deny-{rule.tool}-{rule.param}",
        _denial(
            [rule.tool],
            when=_given(rule.param, f"string({_arg(rule.param)}){_containing(rule.contains)}"),
            reason=f"{rule.param} contains a text that it may not contain",
        ),
    )
    imported.note(_SEARCHED)


def _deny_tool_param_matching(rule: _Matches, imported: Imported) -> str | None:
    test = f".matches({_literal(rule.matches)})"
    try:
        ConditionCompiler({}).compile(f"args.a{test}")
    except ConditionError as error:
        imported.add(
            rule.name or f"deny-{rule.tool}-{rule.param}-matching",
            _denial([rule.tool], reason=f"the pattern for {rule.param} cannot be used here"),
        )
        return (
            f"matches: {error.problems[0]}; until you write another pattern, {rule.tool} is "
            "denied, as CAR denies it for a pattern it cannot compile"
        )
    imported.add(
        rule.name or f"deny-{rule.tool}-{rule.param}-matching",
        _denial(
            [rule.tool],
            when=_given(rule.param, f"string({_arg(rule.param)}){test}"),
            reason=f"{rule.param} has a shape that it may not have",
        ),
    )
    imported.note(_SEARCHED)
    return None


def _allow_tool_param(rule: _Allow, imported: Imported) -> None:
    values = ", ".join(_literal(value) for value in rule.allow)
    imported.add(
        rule.name or f"only-{rule.tool}-{rule.param}",
        _denial(
            [rule.tool],
            unless=_given(rule.param, f"{_arg(rule.param)} in [{values}]") if values else None,
            reason=f"{rule.param} is not one of the values it may have",
        ),
    )


def _rate_limit_tool(rule: _RateLimit, imported: Imported) -> str | None:
    if rule.max_calls == 0:
        imported.add(rule.name or f"deny-{rule.tool}", _denial([rule.tool]))
        return None
    if rule.tool in imported.tools:
        return f"{rule.tool} has a rate limit already, and a contract has one"
    imported.tools[rule.tool] = {
        "rate_limit": {"max_calls": rule.max_calls, "interval_secs": rule.interval_secs}
    }
    imported.note(
        "rate limits belong into the config; here they are a token bucket that all sessions of a "
        "project share and that survives restarts, where CAR has a sliding window per connection"
    )
    return None


def _require_state(rule: _RequireState, imported: Imported) -> str | None:
    if rule.value is None:
        return "value: is required"
    key = _literal(rule.key)
    scope: dict[str, JSONValue] = (
        {"types": list(_EVERY_ACTION)} if rule.tool is None else {"tools": [_glob(rule.tool)]}
    )
    imported.add(
        rule.name or f"require-{rule.key}",
        {
            **scope,
            "unless": f"{key} in state && state[{key}] == {_literal(rule.value)}",
            "effect": "deny",
            "reason": f"the state {rule.key} is not yet what it must be",
        },
    )
    if rule.tool is None:
        imported.note(
            "require_state is about every action, writing state too: as in CAR, an agent cannot "
            "meet it by itself. Give the key its value under `state` in the config, or take "
            "state_write out of the rule and say who may write it"
        )
    return None


_KINDS: Final[dict[str, tuple[type[_CarRule], str, Callable[[Any, Imported], str | None]]]] = {
    "deny_tool": (_Tool, "tool", _deny_tool),
    "deny_keyword": (_Keyword, "keyword", _deny_keyword),
    "deny_tool_param": (_Contains, "", _deny_tool_param),
    "deny_tool_param_matching": (_Matches, "", _deny_tool_param_matching),
    "allow_tool_param": (_Allow, "", _allow_tool_param),
    "rate_limit_tool": (_RateLimit, "", _rate_limit_tool),
    "require_state": (_RequireState, "", _require_state),
}
"""For each kind of rule: its shape, what a mere text means in it, and what is made of it."""

_UNKNOWN: Final = {
    "deny_tool_callback": "runs code of the host; write its condition in CEL",
    "max_calls_per_tool": "counts the calls of a tool; give the tool a rate_limit in the config",
}
"""Kinds that CAR knows and that have no counterpart, and what to do instead."""


def _denial(
    tools: Sequence[str],
    *,
    when: str | None = None,
    unless: str | None = None,
    reason: str | None = None,
) -> dict[str, JSONValue]:
    rule: dict[str, JSONValue] = {"tools": [_glob(tool) for tool in tools]}
    rule |= {name: text for name, text in (("when", when), ("unless", unless)) if text is not None}
    rule["effect"] = "deny"
    return rule if reason is None else {**rule, "reason": reason}


def _glob(name: str) -> str:
    """Return the glob that matches exactly this name."""
    return "".join(f"[{char}]" if char in "*?[" else char for char in name)


def _literal(value: JSONValue) -> str:
    return json.dumps(value, ensure_ascii=False)


def _arg(name: str) -> str:
    return f"args[{_literal(name)}]"


def _given(name: str, condition: str) -> str:
    return f"{_literal(name)} in args && {condition}"


def _containing(text: str) -> str:
    return f".contains({_literal(text)})"
