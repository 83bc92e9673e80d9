"""How each rule of a policy came to its answer on one call: what testing and explaining show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from toolgate.policy.facts import CallFacts
from toolgate.policy.untold import NOTHING, UNTOLD, Gone, Told, settled
from toolgate.policy.verdict import Call, CompiledRule, Policy

Answer: TypeAlias = Told | None
"""What a condition gave; None: there is none, or it was not asked."""


@dataclass(frozen=True, slots=True)
class RuleTrace:
    """One rule on one call.

    ``about`` tells whether the rule is about such calls at all; only then its conditions are asked,
    ``unless`` only when ``when`` does not settle it. ``error`` is why one gave no answer.
    ``matches`` is None where that depends on arguments that are gone.
    """

    rule: CompiledRule
    about: bool
    matches: bool | None = False
    when: Answer = None
    unless: Answer = None
    error: str | None = None


def trace(policy: Policy, facts: CallFacts, gone: Gone = NOTHING) -> Sequence[RuleTrace]:
    """Ask every rule of the policy about a call, in the document's order.

    It is the same question, in the same way, that :meth:`Policy.decide` asks.
    """
    call = policy.call(facts)
    without = policy.without_args(facts)
    return [_asked(rule, facts, call, without, gone) for rule in policy.rules]


def _asked(
    rule: CompiledRule, facts: CallFacts, call: Call | None, without: Call, gone: Gone
) -> RuleTrace:
    if not rule.reaches(facts.action_type, facts.contract.name):
        return RuleTrace(rule, about=False)
    if call is None:
        return RuleTrace(rule, about=True, matches=True)
    when: Answer = None
    unless: Answer = None
    error: str | None = None
    if rule.when is not None:
        when, error = gone.ask(rule.when, call, without)
    if rule.unless is not None and when in (None, True, UNTOLD):
        unless, error = gone.ask(rule.unless, call, without)
    matches = settled(rule, True if when is None else when, False if unless is None else unless)
    return RuleTrace(rule, True, matches, when, unless, error)
