"""What can still be told of a call of whose redacted arguments only digests are left. Pure.

1. A condition that reads none of them is asked as ever.
2. One that reads one, or what encloses it or lies in it, is asked without any arguments. What is
   true or false so is so whatever they were (``"egress" in tool.labels && …``); else nobody can
   tell.
3. So a rule matches, does not match, or cannot be told of.
4. What the others come to is the verdict, unless a rule that cannot be told of could change it: one
   of the same effect, of an effect that beats it, or any where no rule decided.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final, Literal, TypeAlias

from toolgate.jsonvalue import pointer_parts
from toolgate.policy._syntax import Path
from toolgate.policy.conditions import Condition, EvaluationError
from toolgate.policy.contracts import ALWAYS_HELD
from toolgate.policy.facts import CallFacts
from toolgate.policy.verdict import PRECEDENCE, Call, CompiledRule, Policy, Verdict

UNTOLD: Final = "untold"
Told: TypeAlias = bool | Literal["error", "untold"]
"""What a condition gives of a call; ``untold``: that depends on arguments that are gone."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict on a call, and the rules of which nobody can tell whether they match it.

    ``verdict`` is what holds where these do not match. ``depends_on`` are those of them that could
    change its effect or its rules: while there is one, the verdict is not to be told.
    """

    verdict: Verdict
    untold: tuple[CompiledRule, ...] = ()
    depends_on: tuple[CompiledRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Gone:
    """Arguments that are gone: the JSON ``pointers`` to them."""

    pointers: tuple[str, ...] = ()

    def among(self, parts: Iterable[str | int]) -> bool:
        """Tell whether one of them is at a place in the arguments, encloses it, or lies in it."""
        place = [str(part) for part in parts]
        names = (pointer_parts(pointer) for pointer in self.pointers)
        return any(all(a == b for a, b in zip(name, place, strict=False)) for name in names)

    def read_by(self, condition: Condition) -> bool:
        """Tell whether a condition reads one of them."""
        return any(self._has(path) for path in condition.paths)

    def _has(self, path: Path) -> bool:
        return path.variable == "args" and self.among(path.steps)

    def ask(self, condition: Condition, call: Call, without: Call) -> tuple[Told, str | None]:
        """Ask a condition of a call, or ``without`` its arguments; with the error, if it has one.

        Where it reads what is gone, it is untold unless it is so whatever that was.
        """
        read = self.read_by(condition)
        try:
            return condition.test((without if read else call).bound()), None
        except EvaluationError as error:
            return (UNTOLD, None) if read else ("error", str(error))

    def matches(self, rule: CompiledRule, call: Call, without: Call) -> bool | None:
        """Tell whether a rule about such calls matches one; ``None``: that cannot be told."""
        when: Told = True
        if rule.when is not None:
            when, _ = self.ask(rule.when, call, without)
        if rule.unless is not None and when in (True, UNTOLD):
            unless, _ = self.ask(rule.unless, call, without)
        else:
            unless = False
        return settled(rule, when, unless)


NOTHING: Final = Gone()
"""All arguments are there."""


def settled(rule: CompiledRule, when: Told, unless: Told) -> bool | None:
    """Tell whether a rule matches whose conditions gave this; ``None``: that cannot be told.

    Without a condition ``when`` is true and ``unless`` false.
    """
    errs = rule.effect != "allow"
    if when is False:
        return False
    if when == "error":
        return errs
    if unless is True:
        # Where ``when`` failed to be evaluated, ``unless`` was not asked, and a deny matched.
        return None if when == UNTOLD and errs else False
    if UNTOLD in (when, unless):
        return None
    return errs if unless == "error" else True


def judge(policy: Policy, facts: CallFacts, gone: Gone = NOTHING) -> Judged:
    """Return what a policy says of a call of which some arguments may be gone.

    What only observes is left out where what it would say cannot be told.
    """
    call = policy.call(facts)
    if not gone.pointers or call is None:
        return Judged(policy.decide(facts))
    without = policy.without_args(facts)
    untold = tuple(
        rule
        for rule in policy.rules
        if rule.reaches(facts.action_type, facts.contract.name)
        and gone.matches(rule, call, without) is None
    )
    if not untold:
        return Judged(policy.decide(facts))
    return weighed(policy, facts, policy.less(untold).decide(facts), untold)


def weighed(
    policy: Policy, facts: CallFacts, verdict: Verdict, untold: tuple[CompiledRule, ...]
) -> Judged:
    """Return a verdict with those of the ``untold`` rules that could change it."""
    would_be = verdict.observed or verdict
    if _changing(would_be, facts, untold):
        verdict = replace(verdict, observed=None)
    counting = tuple(rule for rule in untold if policy.counts(rule))
    return Judged(verdict, untold, _changing(verdict, facts, counting))


def _changing(
    verdict: Verdict, facts: CallFacts, untold: tuple[CompiledRule, ...]
) -> tuple[CompiledRule, ...]:
    least = PRECEDENCE.index(verdict.effect)
    if not verdict.rules and facts.contract.level < ALWAYS_HELD:
        least = len(PRECEDENCE)
    return tuple(rule for rule in untold if PRECEDENCE.index(rule.effect) <= least)
