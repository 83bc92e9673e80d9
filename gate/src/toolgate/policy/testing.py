"""Tests of a policy: cases in a file, each a call and what must be said of it.

A case passes when

1. what becomes of it is what is expected: an effect, or ``invalid`` where its arguments are not
   valid under the operator's schema for the tool, so that policy is never asked;
2. so are rules, reason, approvers and quorum where it names them;
3. no rule failed to be evaluated that it does not name under ``errors``. A deny that happens
   because of an error looks like a deny that was meant.

A rule in mode ``observe`` decides nothing here either; what it would do is ``observed``. The mode
of the gate plays no part: a document is tested as it is enforced.

Coverage tells which rules no case matched, and which conditions no case saw both true and false.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias, get_args

from pydantic import (
    BeforeValidator,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from toolgate.config import GateConfig, ToolEntry
from toolgate.errors import PolicyError, SchemaError
from toolgate.fields import Name, Names, Section, Text
from toolgate.policy.document import Effect
from toolgate.policy.documents import enforced, read_document
from toolgate.policy.loading import compile_policy
from toolgate.policy.situation import Setting, Situation
from toolgate.policy.trace import RuleTrace, trace
from toolgate.policy.verdict import Policy, Verdict
from toolgate.sourcefile import Problems, SourceFile, dotted, message
from toolgate.validation import compile_schema

Outcome: TypeAlias = Literal[Effect, "invalid"]
"""What may become of a case."""

INVALID: Final = "invalid"


class Expectation(Section):
    """What must be said of a case; what is left out is not looked at, but for ``errors``.

    ``effect`` is policy's, or ``invalid``: the operator's schema refuses the arguments before
    policy is asked. Beside that there can be no more than ``reason``, a part of what is wrong.

    ``rules`` are all the rules that the verdict names, in any order; ``reason`` a part of its
    reason; ``approvers`` everybody who may approve; ``quorum`` how many must, in all; ``errors``
    the rules that cannot be evaluated; ``observed`` what the effect would be if the rules that only
    observe were enforced, and ``observed_rules`` the rules that the verdict would name then.
    """

    effect: Outcome
    rules: Names | None = None
    reason: Text | None = None
    approvers: Names | None = None
    quorum: Annotated[int, Field(ge=1)] | None = None
    errors: Names = ()
    observed: Effect | None = None
    observed_rules: Names | None = None

    @property
    def names(self) -> list[str]:
        """The rules it names."""
        return [*(self.rules or ()), *self.errors, *(self.observed_rules or ())]

    @model_validator(mode="after")
    def _only_a_hold_asks(self) -> Expectation:
        if self.effect != "hold" and (self.approvers is not None or self.quorum is not None):
            raise ValueError(f"{self.effect} asks no approvers")
        more = self.model_fields_set - {"effect", "reason"}
        if self.effect == INVALID and more:
            raise ValueError(f"invalid arguments never reach policy: leave out {', '.join(more)}")
        return self


def _short(value: object) -> object:
    return {"effect": value} if isinstance(value, str) else value


class _EffectAlone:
    """Tells the schema that an expectation may be written as its effect alone."""

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"anyOf": [{"enum": list(get_args(Outcome))}, handler(core)]}


_EFFECT_ALONE = _EffectAlone()


class Case(Situation):
    """One test: a situation, and what is expected of it."""

    name: Text
    expect: Annotated[Expectation, BeforeValidator(_short), _EFFECT_ALONE]


class _Head(Section):
    """A file of cases: the policy they are about, and the cases.

    ``config`` is the deployment whose policy is tested, with its contracts; ``environment`` stands
    in for environment variables it needs. ``policy`` is a document without one, to which ``vars``
    and ``allow_up_to`` belong. Paths are relative to the file. ``tools`` are contracts, beside or
    instead of the deployment's.
    """

    version: Literal[1]
    config: Text | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    policy: Text | None = None
    vars: dict[str, Any] | None = None
    allow_up_to: Annotated[int, Field(ge=0, le=3)] | None = None
    tools: dict[Name, ToolEntry] = Field(default_factory=dict)
    cases: Annotated[list[Any], Field(min_length=1)]

    @model_validator(mode="after")
    def _one_setting(self) -> _Head:
        if self.config is not None and self.policy is not None:
            raise ValueError("has both config and policy: name one of them")
        if self.policy is None and (self.vars is not None or self.allow_up_to is not None):
            raise ValueError("has vars or allow_up_to, which belong to policy, but no policy")
        if self.config is None and self.environment:
            raise ValueError("has environment, which belongs to config, but no config")
        return self


class TestFile(_Head):
    """Tests of a policy: calls, and what must be said of them.

    For its schema: :func:`read_cases` reads case by case.
    """

    __test__ = False
    cases: Annotated[list[Case], Field(min_length=1)]


@dataclass(frozen=True, slots=True)
class PlacedCase:
    """A well-formed case and the line it starts on (0: not known)."""

    case: Case
    line: int


@dataclass(frozen=True, slots=True)
class CaseFile:
    """A file of cases that was read."""

    path: Path
    head: _Head
    cases: Sequence[PlacedCase]

    def beside(self, name: str) -> Path:
        """Return the path of a file that this one names."""
        return self.path.absolute().parent / name


@dataclass(frozen=True, slots=True)
class CaseResult:
    """How a case went; ``problems`` are what was not as expected.

    ``invalid`` is why the operator's schema refuses the arguments. ``verdict`` is None then: policy
    is not asked, and no rule has been tried.
    """

    file: Path
    line: int
    name: str
    verdict: Verdict | None
    invalid: Sequence[str]
    problems: Sequence[str]
    traces: Sequence[RuleTrace]


@dataclass(slots=True)
class Coverage:
    """What the cases have seen of one rule: how often it matched, and its conditions' answers."""

    rule: str
    matched: int = 0
    when: set[bool] | None = None
    unless: set[bool] | None = None

    @property
    def gaps(self) -> list[str]:
        """What no case has shown, for people."""
        gaps = [] if self.matched else ["no case matches it"]
        for name, seen in (("when", self.when), ("unless", self.unless)):
            if seen is not None:
                gaps += [
                    f"{name} is never {str(v).lower()}" for v in (True, False) if v not in seen
                ]
        return gaps


@dataclass(slots=True)
class Coverages:
    """The coverage of one policy, over all files of cases about it."""

    policy: Policy
    rules: dict[str, Coverage] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for rule in self.policy.rules:
            self.rules[rule.id] = Coverage(
                rule.id,
                when=None if rule.when is None else set(),
                unless=None if rule.unless is None else set(),
            )

    def count(self, traces: Iterable[RuleTrace]) -> None:
        """Add what one case has shown."""
        for item in traces:
            coverage = self.rules[item.rule.id]
            coverage.matched += item.matches is True
            for seen, answer in ((coverage.when, item.when), (coverage.unless, item.unless)):
                if seen is not None and isinstance(answer, bool):
                    seen.add(answer)


def read_cases(path: Path) -> CaseFile:
    """Read a file of cases.

    Raises :class:`PolicyError` with everything that is wrong with it, by line.
    """
    source = read_document(path)
    problems = Problems(source.lines)
    head = None
    try:
        head = _Head.model_validate(source.value)
    except ValidationError as error:
        for detail in error.errors(include_url=False):
            location = tuple(part for part in detail["loc"] if part != "[key]")
            problems.add(location, message(detail))
    cases = _cases(source, problems)
    if head is None or problems:
        raise PolicyError(source.name, list(problems))
    return CaseFile(path, head, cases)


def _cases(source: SourceFile, problems: Problems) -> list[PlacedCase]:
    values = source.value.get("cases") if isinstance(source.value, dict) else None
    cases: list[PlacedCase] = []
    seen: dict[str, int] = {}
    for index, value in enumerate(values if isinstance(values, list) else []):
        location = ("cases", index)
        name = value.get("name") if isinstance(value, dict) else None
        subject = f"case {name!r}" if isinstance(name, str) and name else dotted(location)
        try:
            placed = PlacedCase(Case.model_validate(value), source.line(location))
        except ValidationError as error:
            for detail in error.errors(include_url=False):
                within = ": ".join(filter(None, (subject, dotted(detail["loc"]))))
                problems.add((*location, *detail["loc"]), message(detail), subject=within)
            continue
        first = seen.setdefault(placed.case.name, index)
        if first != index:
            text = f"this name is taken by {dotted(('cases', first))}"
            problems.add((*location, "name"), text, subject=subject)
        cases.append(placed)
    return cases


def unknown_tools(file: CaseFile, config: GateConfig) -> list[str]:
    """Tell which cases call a tool that neither the deployment nor the file has a contract of."""
    known = {*config.tools, *file.head.tools}
    return [
        f"{f'line {placed.line}: ' if placed.line else ''}case {placed.case.name!r}: the config "
        f"does not name the tool {placed.case.tool}, so it has the conservative contract"
        for placed in file.cases
        if placed.case.tool is not None and placed.case.tool not in known
    ]


def run_cases(
    file: CaseFile, config: GateConfig, coverages: dict[str, Coverages]
) -> list[CaseResult]:
    """Run a file's cases against the policy of ``config``; ``coverages`` are by policy digest.

    Raises :class:`PolicyError` when the policy, or a name that a case expects, is wrong.
    """
    policy = compile_policy(enforced(config))
    coverage = coverages.setdefault(policy.digest, Coverages(policy))
    setting = Setting.of(config, file.head.tools)
    _check_names(file, coverage.rules.keys())
    refused = _schemas(setting.tools, file.path)
    results = []
    for placed in file.cases:
        case = placed.case
        verdict: Verdict | None = None
        traces: Sequence[RuleTrace] = ()
        if invalid := refused(case):
            problems = _refused_otherwise(case, invalid)
        else:
            facts = case.facts(setting)
            verdict, traces = policy.decide(facts), trace(policy, facts)
            coverage.count(traces)
            problems = _differences(case.expect, verdict)
        results.append(
            CaseResult(file.path, placed.line, case.name, verdict, invalid, problems, traces)
        )
    return results


def _refused_otherwise(case: Case, invalid: Sequence[str]) -> list[str]:
    """Tell how a refusal of the arguments differs from what the case expects."""
    expect, said = case.expect, "; ".join(invalid)
    if expect.effect != INVALID:
        never = f"{case.tool} never reaches policy with these arguments"
        return [f"expected {expect.effect}, got invalid: {never}: {said}"]
    if expect.reason is not None and expect.reason not in said:
        return [f"expected a reason with {expect.reason!r}, got {said!r}"]
    return []


def _check_names(file: CaseFile, rules: Iterable[str]) -> None:
    """Refuse a case that expects a rule which the policy does not have."""
    known = set(rules)
    unknown = [
        f"{f'line {placed.line}: ' if placed.line else ''}case {placed.case.name!r}: the policy "
        f"has no rule {name}"
        for placed in file.cases
        for name in placed.case.expect.names
        if name not in known
    ]
    if unknown:
        raise PolicyError(str(file.path), unknown)


def _schemas(tools: Mapping[str, ToolEntry], path: Path) -> Callable[[Case], list[str]]:
    """Return what tells why the operator's schema refuses a case's arguments."""
    schemas = {}
    for name, entry in tools.items():
        try:
            schemas[name] = compile_schema(entry.parameters or {})
        except SchemaError as error:
            raise PolicyError(str(path), [f"tools.{name}.parameters: {error}"]) from None

    def refused(case: Case) -> list[str]:
        schema = schemas.get(case.tool or "")
        found = [] if schema is None else schema.problems(case.args)
        return [f"{problem.pointer or '/'}: {problem.message}" for problem in found]

    return refused


def _differences(expect: Expectation, verdict: Verdict) -> list[str]:
    found = []
    if verdict.effect != expect.effect:
        # All else differs with it, and the reason tells of errors too.
        by = f" by {', '.join(verdict.rules)}" if verdict.rules else ""
        return [f"expected {expect.effect}, got {verdict.effect}{by}: {verdict.reason}"]
    if expect.rules is not None and set(expect.rules) != set(verdict.rules):
        found.append(f"expected the rules {_listed(expect.rules)}, got {_listed(verdict.rules)}")
    if expect.reason is not None and expect.reason not in verdict.reason:
        found.append(f"expected a reason with {expect.reason!r}, got {verdict.reason!r}")
    groups = verdict.requirement.groups if verdict.requirement else ()
    approvers = {name for group in groups for name in group.approvers}
    if expect.approvers is not None and set(expect.approvers) != approvers:
        found.append(
            f"expected the approvers {_listed(expect.approvers)}, got {_listed(sorted(approvers))}"
        )
    quorum = max((group.quorum for group in groups), default=0)
    if expect.quorum is not None and expect.quorum != quorum:
        found.append(f"expected a quorum of {expect.quorum}, got {quorum}")
    would_be = verdict.observed or verdict
    if expect.observed is not None and expect.observed != would_be.effect:
        found.append(
            f"expected {expect.observed} to be observed, got {would_be.effect}: {would_be.reason}"
        )
    elif expect.observed_rules is not None and set(expect.observed_rules) != set(would_be.rules):
        listed = _listed(expect.observed_rules)
        found.append(f"expected {listed} to be observed, got {_listed(would_be.rules)}")
    errors = dict.fromkeys((*verdict.errors, *would_be.errors))
    found += [
        f"rule {error.rule} could not be evaluated: {error.error}"
        for error in errors
        if error.rule not in expect.errors
    ]
    erred = {error.rule for error in errors}
    found += [f"rule {name} was evaluated" for name in expect.errors if name not in erred]
    return found


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "none"
