"""The verdict: what policy says of one call. Pure: no I/O and no clock.

The rules of the decision, in order:

1. Deny beats hold beats allow, whatever the order of the rules. Every matching rule of the winning
   effect is reported.
2. Level 5 is always denied. Level 4 is at least held: by the rules that hold it, else by any one
   pinned approver. No rule lifts either.
3. When no rule matches, a level up to ``allow_up_to`` is allowed and everything else is denied.
4. A rule matches when its ``when`` is true and its ``unless`` is false. When either cannot be
   evaluated, an allow rule does not match, a deny or hold rule does, and the verdict says so.
5. A rule in mode ``observe`` does not count, as if it were not there. With the whole gate in that
   mode no deny and no hold rule counts, and what no rule allows is allowed. The floors of rule 2
   count always. What would be said if everything counted is told beside the verdict, where it
   differs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from toolgate.ir import ActionType
from toolgate.policy._syntax import Path
from toolgate.policy.conditions import (
    KNOWN_OF_TOOL,
    MAX_COMBINED,
    WITHOUT_ARGS,
    Clauses,
    Combination,
    Condition,
    ConditionCompiler,
    EvaluationError,
    Scope,
)
from toolgate.policy.contracts import ALWAYS_DENIED, ALWAYS_HELD, Contract
from toolgate.policy.document import Effect
from toolgate.policy.facts import CallFacts
from toolgate.policy.requirement import ANYBODY, ApprovalRequirement, ApproverGroup

__all__ = [
    "ANYBODY",
    "PRECEDENCE",
    "ApprovalRequirement",
    "ApproverGroup",
    "CallFacts",
    "CompiledRule",
    "Policy",
    "RuleError",
    "Verdict",
    "combined",
    "floor",
]

PRECEDENCE: Final[tuple[Effect, ...]] = ("deny", "hold", "allow")
"""The effects; each beats those that follow it."""

_MAX_REACHES = 4096
_MAX_VERDICTS = 64
_MAX_LESS = 64


@dataclass(frozen=True, slots=True)
class RuleError:
    """A rule whose condition could not be evaluated for this call, and why."""

    rule: str
    error: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What policy says of one call.

    ``rules`` are the ids of the matching rules of the winning effect, in the document's order; none
    when a floor or ``allow_up_to`` decided. ``reason`` is for the model: it can act on it;
    ``reasons`` are what each rule says of it, by the rule's id. ``requirement`` is what a hold asks
    of people. ``policy`` and ``digest`` name the document.
    ``observed`` is what the verdict would be if all that is only observed were enforced; ``None``:
    the same effect, by the same rules.
    """

    effect: Effect
    rules: tuple[str, ...]
    reason: str
    requirement: ApprovalRequirement | None
    errors: tuple[RuleError, ...]
    policy: str
    digest: str
    observed: Verdict | None = None
    reasons: Mapping[str, str] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """A rule ready to be asked: globs, conditions and approval terms resolved.

    ``globs`` are what it says of tool calls (None: nothing), ``types`` of actions by their type.
    ``tools`` are the globs as they are written. ``observed``: it is told of, and decides nothing.
    """

    id: str
    effect: Effect
    reason: str | None
    types: frozenset[ActionType]
    tools: tuple[str, ...] | None
    globs: tuple[re.Pattern[str], ...] | None
    when: Condition | None
    unless: Condition | None
    group: ApproverGroup
    expires: float | None
    observed: bool = False

    @property
    def conditions(self) -> list[Condition]:
        """The conditions it has, ``when`` before ``unless``."""
        return [condition for condition in (self.when, self.unless) if condition is not None]

    def reaches(self, action_type: str, tool: str) -> bool:
        """Tell whether the rule is about such calls, its conditions apart."""
        if action_type == ActionType.TOOL_CALL and self.globs is not None:
            return any(glob.match(tool) for glob in self.globs)
        return action_type in self.types

    def matches(self, call: Call) -> tuple[bool, str | None]:
        """Tell whether the rule matches the call, and the error if a condition had one."""
        try:
            if self.when is not None and not self.when.test(call.bound()):
                return False, None
            if self.unless is not None and self.unless.test(call.bound()):
                return False, None
        except EvaluationError as error:
            return self.effect != "allow", str(error)
        return True, None

    def says(self, tool: str) -> str:
        """Return its reason, or without one what it does to calls of ``tool``."""
        match self.effect:
            case "deny":
                said = f"rule {self.id} denies {tool}"
            case "hold":
                said = f"rule {self.id} holds {tool} for a person's approval"
            case _:
                said = f"rule {self.id} allows {tool}"
        return self.reason or said


class Call:
    """One call's facts, converted for conditions when the first one is evaluated."""

    __slots__ = ("_bound", "_facts", "_scope", "_unfit")

    def __init__(self, scope: Scope, facts: CallFacts) -> None:
        self._scope = scope
        self._facts = facts
        self._bound: Any = None
        self._unfit: str | None = None

    def bound(self) -> Any:
        """Return what :meth:`Condition.test` takes; raises :class:`EvaluationError`."""
        if self._unfit is not None:
            raise EvaluationError(self._unfit)
        if self._bound is None:
            try:
                self._bound = self._scope.bind(self._facts)
            except EvaluationError as error:
                # Found once, however many rules ask: the values may be large.
                self._unfit = str(error)
                raise
        return self._bound

    def read(self, path: Path) -> object:
        """Return what a condition finds under a path; raises :class:`LookupError` for nothing."""
        return self._scope.read(path, self._facts)


class _Batch:
    """Rules of one effect that are asked together, in one expression where that is possible."""

    __slots__ = ("_combination", "rules")

    def __init__(self, rules: Sequence[CompiledRule], combination: Combination | None) -> None:
        self.rules = rules
        self._combination = combination

    def matching(self, call: Any, errors: list[RuleError]) -> list[CompiledRule]:
        """Return the rules that match the call; what cannot be evaluated goes to ``errors``."""
        if self._combination is not None:
            met = self._met(self._combination, call)
            if met == 0:
                return []
            if met is not None:
                return [rule for bit, rule in enumerate(self.rules) if met >> bit & 1]
        matched = []
        for rule in self.rules:
            matches, error = rule.matches(call)
            if error is not None:
                errors.append(RuleError(rule.id, error))
            if matches:
                matched.append(rule)
        return matched

    @staticmethod
    def _met(combination: Combination, call: Any) -> int | None:
        try:
            return combination.met(call.bound())
        except EvaluationError:
            return None  # Each rule is to say so.


class _Reach:
    """The rules about one tool (or type of state action), by effect in order of precedence.

    ``enforced`` are those of them that count; ``None``: all do. A ``lenient`` one allows what no
    rule allows.
    """

    __slots__ = ("batches", "enforced", "lenient", "rules", "scope", "settled", "verdicts")

    def __init__(
        self,
        rules: Sequence[CompiledRule],
        compiler: ConditionCompiler,
        enforced: _Reach | None = None,
        *,
        lenient: bool = False,
    ) -> None:
        self.enforced = enforced
        self.lenient = lenient
        self.rules = [rule for effect in PRECEDENCE for rule in rules if rule.effect == effect]
        self.batches = [
            (effect, _batches([rule for rule in rules if rule.effect == effect], compiler))
            for effect in PRECEDENCE
        ]
        conditions = [condition for rule in rules for condition in rule.conditions]
        self.scope = compiler.scope(conditions) if conditions else None
        self.settled: Verdict | None = None
        self.verdicts: dict[tuple[Effect, tuple[str, ...]], Verdict] = {}


class Policy:
    """A compiled policy, ready to decide. Made by :func:`toolgate.policy.compile_policy`."""

    def __init__(
        self,
        policy_id: str,
        digest: str,
        rules: Sequence[CompiledRule],
        compiler: ConditionCompiler,
        *,
        allow_up_to: int,
        floor: ApprovalRequirement,
        warnings: Sequence[str],
        observing: bool = False,
    ) -> None:
        """``observing`` says that the whole gate is in mode ``observe``."""
        self.id = policy_id
        self.digest = digest
        self.warnings = tuple(warnings)
        self.rules = tuple(rules)
        self.allow_up_to = allow_up_to
        self.observing = observing
        self._compiler = compiler
        self._floor = floor
        self._reaches: dict[tuple[str, str, int], _Reach] = {}
        self._less: dict[frozenset[str], Policy] = {}

    def counts(self, rule: CompiledRule) -> bool:
        """Tell whether a rule decides; one that does not is observed."""
        return not rule.observed and (rule.effect == "allow" or not self.observing)

    def decide(self, facts: CallFacts) -> Verdict:
        """Return the verdict on one call; every call gets one, whatever its arguments hold."""
        contract = facts.contract
        reach = self._reach(facts.action_type, contract)
        if reach.settled is not None:
            return reach.settled
        scope = reach.scope
        return self._judge(contract, reach, None if scope is None else Call(scope, facts))

    def without_rules(self, contract: Contract, *, lenient: bool) -> tuple[Effect, str]:
        """Return what holds below level 4 when no rule matches, and why.

        ``lenient``: what is denied or held passes, because the whole gate is in mode ``observe``.
        """
        level, most = contract.level, self.allow_up_to
        if level <= most:
            return "allow", f"level {level} needs no rule (allow_up_to is {most})"
        if lenient:
            return "allow", "the gate is in mode observe: what policy denies or holds passes"
        return "deny", f"no rule allows {contract.name} (level {level}; allow_up_to is {most})"

    def call(self, facts: CallFacts) -> Call | None:
        """Return a call as the conditions about it see it; None when there are none."""
        scope = self._reach(facts.action_type, facts.contract).scope
        return None if scope is None else Call(scope, facts)

    def any_call(self, facts: CallFacts) -> Call:
        """Return what all calls of that tool have in common: no more than its contract is read."""
        return Call(self._compiler.scope(self._conditions(), known=KNOWN_OF_TOOL), facts)

    def without_args(self, facts: CallFacts) -> Call:
        """Return a call of which everything but its arguments is known."""
        return Call(self._compiler.scope(self._conditions(), known=WITHOUT_ARGS), facts)

    def parts(self, condition: Condition) -> list[Condition]:
        """Return the parts of a conjunction; of anything else, none."""
        return self._compiler.parts(condition)

    def less(self, rules: Sequence[CompiledRule]) -> Policy:
        """Return the same policy as if it did not have some of its rules."""
        names = frozenset(rule.id for rule in rules)
        found = self._less.get(names)
        if found is None:
            found = Policy(
                self.id,
                self.digest,
                [rule for rule in self.rules if rule.id not in names],
                self._compiler,
                allow_up_to=self.allow_up_to,
                floor=self._floor,
                warnings=self.warnings,
                observing=self.observing,
            )
            if len(self._less) >= _MAX_LESS:
                self._less.clear()
            self._less[names] = found
        return found

    def _conditions(self) -> list[Condition]:
        return [condition for rule in self.rules for condition in rule.conditions]

    def _reach(self, action_type: str, contract: Contract) -> _Reach:
        key = (action_type, contract.name, contract.level)
        reach = self._reaches.get(key)
        if reach is None:
            rules = [rule for rule in self.rules if rule.reaches(action_type, contract.name)]
            enforced = None
            counting = [rule for rule in rules if self.counts(rule)]
            if self.observing or len(counting) < len(rules):
                enforced = _Reach(counting, self._compiler, lenient=self.observing)
            reach = _Reach(rules, self._compiler, enforced)
            if reach.scope is None:
                reach.settled = self._judge(contract, reach, None)
            if len(self._reaches) >= _MAX_REACHES:
                self._reaches.clear()
            self._reaches[key] = reach
        return reach

    def _judge(self, contract: Contract, reach: _Reach, call: Any) -> Verdict:
        verdict = self._weigh(contract, reach, call)
        if reach.enforced is None:
            return verdict
        return _observing(self._weigh(contract, reach.enforced, call), verdict)

    def _weigh(self, contract: Contract, reach: _Reach, call: Any) -> Verdict:
        tool, level = contract.name, contract.level
        errors: list[RuleError] = []
        for effect, batches in reach.batches:
            matched: list[CompiledRule] = []
            for batch in batches:
                matched += batch.matching(call, errors)
            if effect == "deny" and level >= ALWAYS_DENIED:
                return self._verdict(reach, "deny", tool, matched, errors, floor(contract))
            if matched:
                return self._verdict(reach, effect, tool, matched, errors)
            if effect == "hold" and level >= ALWAYS_HELD:
                return self._verdict(reach, "hold", tool, (), errors, floor(contract))
        effect, reason = self.without_rules(contract, lenient=reach.lenient)
        return self._verdict(reach, effect, tool, (), errors, reason)

    def _verdict(
        self,
        reach: _Reach,
        effect: Effect,
        tool: str,
        matched: Sequence[CompiledRule],
        errors: Sequence[RuleError],
        *reasons: str,
    ) -> Verdict:
        ids = tuple([rule.id for rule in matched])
        # Without errors the same rules mean the same verdict, word for word.
        verdict = None if errors else reach.verdicts.get((effect, ids))
        if verdict is not None:
            return verdict
        by_rule = {rule.id: rule.says(tool) for rule in matched}
        said = [*reasons, *by_rule.values()]
        said += [f"rule {error.rule} could not be evaluated: {error.error}" for error in errors]
        requirement = None
        if effect == "hold":
            requirement = self._floor
            if matched:
                requirement = _requirement(matched, unsigned=self._floor.unsigned)
        reason = "; ".join(dict.fromkeys(said))
        verdict = Verdict(
            effect,
            ids,
            reason,
            requirement,
            tuple(errors),
            self.id,
            self.digest,
            reasons=by_rule,
        )
        if not errors and len(reach.verdicts) < _MAX_VERDICTS:
            reach.verdicts[effect, ids] = verdict
        return verdict


def floor(contract: Contract) -> str:
    """Say what level 4 or 5 means, which no rule lifts."""
    if contract.level >= ALWAYS_DENIED:
        return f"level {contract.level}: {contract.name} never runs"
    return f"level {contract.level}: {contract.name} always waits for a person's approval"


def combined(verdict: Verdict, others: Mapping[str, Verdict]) -> Verdict:
    """Return the verdict on an action of which several things are judged together.

    ``others`` are the verdicts on what else it would do, by a phrase that names that. Deny beats
    hold beats allow; every hold's requirement must be met, so the shortest expiry counts. What
    would be said if everything observed were enforced is combined in the same way.
    """
    found = _combined(verdict, others)
    if all(item.observed is None for item in (verdict, *others.values())):
        return found
    others = {phrase: item.observed or item for phrase, item in others.items()}
    return _observing(found, _combined(verdict.observed or verdict, others))


def _observing(verdict: Verdict, would_be: Verdict) -> Verdict:
    """Return a verdict with what it would be beside it, where that differs."""
    same = (verdict.effect, verdict.rules, verdict.errors) == (
        would_be.effect,
        would_be.rules,
        would_be.errors,
    )
    return replace(verdict, observed=None if same else would_be)


def _combined(verdict: Verdict, others: Mapping[str, Verdict]) -> Verdict:
    judged = {"": verdict, **others}
    effect = min((item.effect for item in judged.values()), key=PRECEDENCE.index)
    winning = {phrase: item for phrase, item in judged.items() if item.effect == effect}
    if effect == verdict.effect == "allow":
        winning = {"": verdict}
    reasons = [_said_of(phrase, item.reason) for phrase, item in winning.items()]
    by_rule: dict[str, str] = {}
    for phrase, item in winning.items():
        for rule, reason in item.reasons.items():
            by_rule.setdefault(rule, _said_of(phrase, reason))
    requirements = [v.requirement for v in winning.values() if v.requirement is not None]
    requirement = None
    if effect == "hold" and requirements:
        groups = dict.fromkeys(group for item in requirements for group in item.groups)
        limits = [item.expires for item in requirements if item.expires is not None]
        requirement = ApprovalRequirement(
            tuple(sorted(groups, key=lambda group: group.rule or "")),
            min(limits, default=None),
            all(item.unsigned for item in requirements),
        )
    return replace(
        verdict,
        effect=effect,
        rules=tuple(dict.fromkeys(rule for item in winning.values() for rule in item.rules)),
        reason="; ".join(dict.fromkeys(reasons)),
        requirement=requirement,
        errors=tuple(dict.fromkeys(error for item in judged.values() for error in item.errors)),
        reasons=by_rule,
    )


def _said_of(phrase: str, reason: str) -> str:
    return f"{phrase}: {reason}" if phrase else reason


def _batches(rules: Sequence[CompiledRule], compiler: ConditionCompiler) -> list[_Batch]:
    """Split rules of one effect, in their order, into what is asked together."""
    if not rules:
        return []
    if sum(1 for rule in rules if rule.conditions) < 2:
        return [_Batch(rules, None)]
    if len(rules) <= MAX_COMBINED:
        combination = compiler.combine([Clauses(rule.when, rule.unless) for rule in rules])
        if combination is not None:
            return [_Batch(rules, combination)]
    half = len(rules) // 2
    return [*_batches(rules[:half], compiler), *_batches(rules[half:], compiler)]


def _requirement(holds: Iterable[CompiledRule], *, unsigned: bool) -> ApprovalRequirement:
    """Every hold's requirement must be met, so the shortest expiry counts; order plays no part."""
    by_id = sorted(holds, key=lambda rule: rule.id)
    limits = [rule.expires for rule in by_id if rule.expires is not None]
    groups = tuple(rule.group for rule in by_id)
    return ApprovalRequirement(groups, min(limits, default=None), unsigned)
