"""Why a policy says what it says of one call: every rule, the floors, and what a hold would ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from toolgate.ir import ActionType
from toolgate.jsonvalue import JSONValue
from toolgate.policy.conditions import Condition
from toolgate.policy.contracts import ALWAYS_DENIED, ALWAYS_HELD
from toolgate.policy.facts import CallFacts
from toolgate.policy.trace import RuleTrace, trace
from toolgate.policy.verdict import Policy, Verdict


@dataclass(frozen=True, slots=True)
class Explanation:
    """One call with its verdict, how each rule came to its answer, and what the level means."""

    facts: CallFacts
    verdict: Verdict
    traces: Sequence[RuleTrace]
    level: str
    observed: frozenset[str]
    """The ids of the rules that decide nothing."""

    @property
    def about(self) -> list[RuleTrace]:
        """The rules about such calls: those that decided first, then the other matching ones."""
        found = [item for item in self.traces if item.about]
        return sorted(found, key=lambda item: (not self.decides(item), not item.matches))

    def decides(self, item: RuleTrace) -> bool:
        """Tell whether a rule is one of those that the verdict names."""
        return item.matches and item.rule.id in self.verdict.rules

    def observes(self, item: RuleTrace) -> bool:
        """Tell whether a rule decides nothing, and is only told of."""
        return item.rule.id in self.observed

    def outcome(self, item: RuleTrace) -> str:
        """Say what came of a rule, for people."""
        if not item.about:
            return "is about other calls"
        if item.error is not None:
            against = "so it matches" if item.matches else "so it does not match"
            return f"could not be evaluated, {against}"
        if not item.matches:
            return "does not match"
        if self.observes(item):
            would_be = self.verdict.observed
            would = would_be is not None and item.rule.id in would_be.rules
            return "matches, and only observes" + ("; it would decide" if would else "")
        if self.decides(item):
            return "matches, and decides"
        if not self.verdict.rules:
            return "matches; the level decides"
        return f"matches; {self.verdict.effect} beats {item.rule.effect}"

    def to_json(self) -> dict[str, JSONValue]:
        """Return the explanation for machines."""
        facts, verdict = self.facts, self.verdict
        contract = facts.contract
        requirement = verdict.requirement
        return {
            "type": facts.action_type,
            "tool": contract.name,
            "args": facts.args,
            "contract": contract.public(),
            "effect": verdict.effect,
            "rules": list(verdict.rules),
            "reason": verdict.reason,
            "approval": None if requirement is None else requirement.to_json(),
            "observed": _would_be(verdict.observed),
            "policy": verdict.policy,
            "digest": verdict.digest,
            "level": self.level,
            "trace": [self._rule(item) for item in self.traces],
        }

    def _rule(self, item: RuleTrace) -> dict[str, JSONValue]:
        rule = item.rule
        return {
            "rule": rule.id,
            "effect": rule.effect,
            "about": item.about,
            "matches": item.matches,
            "decides": self.decides(item),
            "observes": self.observes(item),
            "outcome": self.outcome(item),
            "when": _condition(rule.when, item.when),
            "unless": _condition(rule.unless, item.unless),
            "error": item.error,
        }


def _condition(condition: Condition | None, answer: JSONValue) -> JSONValue:
    return None if condition is None else {"source": condition.source, "result": answer}


def _would_be(verdict: Verdict | None) -> JSONValue:
    if verdict is None:
        return None
    requirement = verdict.requirement
    return {
        "effect": verdict.effect,
        "rules": list(verdict.rules),
        "reason": verdict.reason,
        "approval": None if requirement is None else requirement.to_json(),
    }


def explain(policy: Policy, facts: CallFacts) -> Explanation:
    """Explain what a policy says of a call."""
    verdict, traces = policy.decide(facts), trace(policy, facts)
    observed = frozenset(rule.id for rule in policy.rules if not policy.counts(rule))
    return Explanation(facts, verdict, traces, _level(policy, facts), observed)


def target(item: RuleTrace) -> str:
    """Return what calls a rule is about, as it is written."""
    parts = [] if item.rule.tools is None else [f"tools {', '.join(item.rule.tools)}"]
    if item.rule.types:
        parts.append(f"types {', '.join(sorted(item.rule.types))}")
    return "; ".join(parts)


def _level(policy: Policy, facts: CallFacts) -> str:
    level, most = facts.contract.level, policy.allow_up_to
    what = "tool" if facts.action_type == ActionType.TOOL_CALL else "action"
    if level >= ALWAYS_DENIED:
        return f"level {level}: such a {what} is always denied, whatever the rules say"
    if level >= ALWAYS_HELD:
        return f"level {level}: such a {what} is at least held, whatever the rules say"
    if level <= most:
        return f"level {level}: allowed without a rule (allow_up_to is {most})"
    if policy.observing:
        return f"level {level}: allowed without a rule, because the gate is in mode observe"
    return f"level {level}: denied unless a rule allows or holds it (allow_up_to is {most})"
