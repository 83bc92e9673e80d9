"""What a policy says of a tool before anybody calls it: what is settled, and what else decides.

Of a call only what all calls of the tool have in common is known: its contract, and ``vars``. A
condition that is true or false by these alone (``"egress" in tool.labels && …``) is so of every
call; what another one gives depends on the call. So a rule matches every call, none, or some, and
the outcomes are those that the verdict's rules of precedence leave.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from toolgate.ir import ActionType
from toolgate.jsonvalue import JSONValue
from toolgate.policy.conditions import KNOWN_OF_TOOL, EvaluationError
from toolgate.policy.contracts import ALWAYS_DENIED, ALWAYS_HELD, Contract
from toolgate.policy.document import Effect
from toolgate.policy.facts import CallFacts
from toolgate.policy.verdict import PRECEDENCE, Call, CompiledRule, Policy, floor


@dataclass(frozen=True, slots=True)
class Outcome:
    """What may become of a call: ``effect``, when one of ``rules`` matches it.

    ``depends_on`` is what their conditions read of the call. Without that it is certain of every
    call that no earlier outcome is for.
    """

    effect: Effect
    rules: tuple[str, ...]
    depends_on: tuple[str, ...]
    reason: str

    def to_json(self) -> dict[str, JSONValue]:
        """Return the outcome for machines."""
        return {
            "effect": self.effect,
            "rules": list(self.rules),
            "depends_on": list(self.depends_on),
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True)
class Outlook:
    """What may become of a tool's calls: the first outcome whose rules match; the last is certain.

    ``observed`` is what it would be if all that is only observed were enforced; None: the same.
    """

    outcomes: tuple[Outcome, ...]
    observed: Outlook | None = None

    @property
    def settled(self) -> Outcome | None:
        """The outcome of every call; None: that depends on the call."""
        return self.outcomes[0] if len(self.outcomes) == 1 else None

    @property
    def depends_on(self) -> tuple[str, ...]:
        """What the conditions that decide read of a call."""
        return tuple(dict.fromkeys(name for item in self.outcomes for name in item.depends_on))


def outlook(policy: Policy, kind: ActionType, contract: Contract) -> Outlook:
    """Tell what a policy says of the calls of a tool, or of state actions of a type."""
    facts = _any_call(kind, contract)
    call = policy.any_call(facts)
    rules = [rule for rule in policy.rules if rule.reaches(kind, contract.name)]
    answers = [(rule, matches_all(rule, call)) for rule in rules]
    all_count = Outlook(_outcomes(policy, contract, answers, lenient=False))
    counting = [(rule, answer) for rule, answer in answers if policy.counts(rule)]
    outcomes = _outcomes(policy, contract, counting, lenient=policy.observing)
    return Outlook(outcomes, None if outcomes == all_count.outcomes else all_count)


def _any_call(kind: ActionType, contract: Contract) -> CallFacts:
    """Return a call of which only type and contract are to be looked at."""
    return CallFacts(
        args={},
        contract=contract,
        action_id="",
        action_type=kind.value,
        proposal_id=None,
        agent_id="",
        framework=None,
        session_id="",
        session_age=0.0,
        now=datetime.fromtimestamp(0, UTC),
    )


def matches_all(rule: CompiledRule, call: Call) -> bool | None:
    """Tell whether a rule matches every call (true) or none; None: some, or nobody knows.

    ``call`` is what all of them have in common (:meth:`Policy.any_call`).
    """
    open_ = False
    for condition, wanted in ((rule.when, True), (rule.unless, False)):
        if condition is None:
            continue
        try:
            answer = condition.test(call.bound())
        except EvaluationError:
            if not open_ and not _of_the_call(condition.names):
                return rule.effect != "allow"  # It is an error in every call.
            open_ = True
            continue
        if answer is not wanted:
            # Where ``when`` fails to be evaluated, ``unless`` is not asked, and a deny matches.
            return None if open_ and rule.effect != "allow" else False
    return None if open_ else True


def _of_the_call(names: frozenset[str]) -> bool:
    return any(name not in KNOWN_OF_TOOL and not name.startswith("vars.") for name in names)


def _outcomes(
    policy: Policy,
    contract: Contract,
    answers: Sequence[tuple[CompiledRule, bool | None]],
    *,
    lenient: bool,
) -> tuple[Outcome, ...]:
    found: list[Outcome] = []
    last: Outcome | None = None
    for effect in PRECEDENCE:
        certain = [rule for rule, answer in answers if rule.effect == effect and answer]
        ids = tuple(rule.id for rule in certain)
        if effect == "deny" and contract.level >= ALWAYS_DENIED:
            last = Outcome(effect, ids, (), floor(contract))
        elif certain:
            said = dict.fromkeys(rule.says(contract.name) for rule in certain)
            last = Outcome(effect, ids, (), "; ".join(said))
        elif effect == "hold" and contract.level >= ALWAYS_HELD:
            last = Outcome(effect, (), (), floor(contract))
        if last is not None:
            break
        maybe = [rule for rule, answer in answers if rule.effect == effect and answer is None]
        if maybe:
            *some, end = ids = tuple(rule.id for rule in maybe)
            named = f"{', '.join(some)} or {end}" if some else end
            found.append(Outcome(effect, ids, _read(maybe), f"where {named} matches"))
    if last is None:
        effect, reason = policy.without_rules(contract, lenient=lenient)
        last = Outcome(effect, (), (), reason)
    if found and found[-1].effect == last.effect:
        found.pop()  # The same happens to the others.
    return (*found, last)


def _read(rules: Sequence[CompiledRule]) -> tuple[str, ...]:
    paths = (path for rule in rules for item in rule.conditions for path in item.paths)
    return tuple(dict.fromkeys(str(p) for p in paths if _of_the_call(frozenset({p.variable}))))
