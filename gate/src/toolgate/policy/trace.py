"""How each rule of a policy came to its answer on one call: what testing and explaining show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from toolgate.policy.conditions import Condition, EvaluationError
from toolgate.policy.facts import CallFacts
from toolgate.policy.verdict import Call, CompiledRule, Policy

Answer = bool | Literal["error"] | None
"""What a condition gave; None: there is none, or it was not asked."""


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """One rule on one call.

    ``about`` tells whether the rule is about such calls at all; only then its conditions are asked,
    ``unless`` only when ``when`` does not settle it. ``error`` is why one gave no answer.
    """

    rule: CompiledRule
    about: bool
    matches: bool = False
    when: Answer = None
    unless: Answer = None
    error: str | None = None


def trace(policy: Policy, facts: CallFacts) -> Sequence[RuleTrace]:
    """Ask every rule of the policy about a call, in the document's order.

    It is the same question, in the same way, that :meth:`Policy.decide` asks.
    """
    call = policy.call(facts)
    return [_asked(rule, facts, call) for rule in policy.rules]


def _asked(rule: CompiledRule, facts: CallFacts, call: Call | None) -> RuleTrace:
    if not rule.reaches(facts.action_type, facts.contract.name):
        return RuleTrace(rule, about=False)
    when = unless = None
    error: str | None = None
    if rule.when is not None:
        when, error = _answer(rule.when, call)
    if rule.unless is not None and when in (None, True):
        unless, error = _answer(rule.unless, call)
    matches, _ = (True, None) if call is None else rule.matches(call)
    return RuleTrace(rule, True, matches, when, unless, error)


def _answer(condition: Condition, call: Call | None) -> tuple[Answer, str | None]:
    if call is None:
        raise ValueError("a rule with a condition needs a call")
    try:
        return condition.test(call.bound()), None
    except EvaluationError as error:
        return "error", str(error)
