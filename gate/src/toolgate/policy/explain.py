"""Why a policy says what it says of one call: every rule, the floors, and what a hold would ask."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from toolgate.ir import ActionType
from toolgate.jsonvalue import JSONValue
from toolgate.policy.conditions import Condition, EvaluationError
from toolgate.policy.contracts import ALWAYS_DENIED, ALWAYS_HELD
from toolgate.policy.facts import CallFacts
from toolgate.policy.outlook import matches_all
from toolgate.policy.requirement import ApprovalRequirement, asks, listed
from toolgate.policy.trace import Answer, RuleTrace, trace
from toolgate.policy.untold import NOTHING, Gone, judge
from toolgate.policy.verdict import Call, Policy, Verdict, floor

_UNITS: Final = (("d", 86400), ("h", 3600), ("m", 60))


@dataclass(frozen=True, slots=True)
class Fact:
    """What a condition read: its name there, and its value; ``absent``: the call has none."""

    name: str
    value: JSONValue = None
    absent: bool = False

    def to_json(self) -> dict[str, JSONValue]:
        """Return the fact for machines."""
        return {"name": self.name} | ({"absent": True} if self.absent else {"value": self.value})


@dataclass(frozen=True, slots=True)
class Explanation:
    """One call with its verdict, how each rule came to its answer, and what the level means.

    ``gone`` are the arguments of which only digests are left. ``depends_on`` are the rules that
    the verdict depends on and that cannot be told of: while there is one, ``verdict`` is only what
    would be said without them, and is not to be told.
    """

    facts: CallFacts
    verdict: Verdict
    traces: Sequence[RuleTrace]
    policy: Policy
    call: Call | None
    gone: Gone = NOTHING
    depends_on: tuple[str, ...] = ()

    @property
    def about(self) -> list[RuleTrace]:
        """The rules about such calls: those that decided first, then the other matching ones."""
        found = [item for item in self.traces if item.about]
        return sorted(found, key=lambda item: (not self._first(item), item.matches is False))

    @property
    def why(self) -> list[RuleTrace]:
        """The rules to look at first: that decide or would, or else that could have allowed it.

        Where the verdict cannot be told, those that it depends on and those that match.
        """
        if self.depends_on:
            return [item for item in self.about if item.matches or self._first(item)]
        found = [item for item in self.about if self.decides(item) or self.would_decide(item)]
        missing = self.verdict.effect == "deny" and self.facts.contract.level < ALWAYS_HELD
        if not found and missing:
            return [item for item in self.about if item.rule.effect == "allow"]
        return found

    def decides(self, item: RuleTrace) -> bool:
        """Tell whether a rule is one of those that the verdict names."""
        if self.depends_on:
            return False
        return bool(item.matches) and item.rule.id in self.verdict.rules

    def _first(self, item: RuleTrace) -> bool:
        return self.decides(item) or item.rule.id in self.depends_on

    def observes(self, item: RuleTrace) -> bool:
        """Tell whether a rule decides nothing, and is only told of."""
        return not self.policy.counts(item.rule)

    def would_decide(self, item: RuleTrace) -> bool:
        """Tell whether a rule that only observes would decide if it were enforced."""
        would_be = None if self.depends_on else self.verdict.observed
        return self.observes(item) and would_be is not None and item.rule.id in would_be.rules

    @property
    def never(self) -> list[RuleTrace]:
        """The rules about such calls that can match no call of this tool, whatever it is."""
        call = self.policy.any_call(self.facts)
        return [t for t in self.about if t.matches is False and matches_all(t.rule, call) is False]

    def false_parts(self, condition: Condition) -> list[str]:
        """Return which parts of a conjunction make it false, as they are written."""
        found: list[str] = []
        if (call := self.call) is None:
            return found
        for part in self.policy.parts(condition):
            if self.gone.read_by(part):
                continue
            try:
                if not part.test(call.bound()):
                    found.append(part.source)
            except EvaluationError:
                continue  # One that is false hides it.
        return found

    def outcome(self, item: RuleTrace) -> str:
        """Say what came of a rule, for people."""
        if not item.about:
            return "is about other calls"
        erred = f"cannot be evaluated ({item.error})"
        if item.matches is None:
            observes = ", and only observes" if self.observes(item) else ""
            return f"cannot be told: it reads redacted arguments, which are gone{observes}"
        if not item.matches:
            if item.error is not None:
                return f"{erred}, so it does not apply"
            return f"does not apply ({'when is false' if item.when is False else 'unless is true'})"
        applies = "applies" if item.error is None else f"{erred}, so it applies, to be safe"
        if self.observes(item):
            would = self.would_decide(item)
            return f"{applies}, but only observes" + ("; it would decide" if would else "")
        if self.depends_on:
            return applies
        if self.decides(item):
            return f"{applies}, and decides"
        if not self.verdict.rules:
            return f"{applies}, but the level decides"
        return f"{applies}, but {self.verdict.effect} beats {item.rule.effect}"

    def read(self, condition: Condition) -> list[Fact]:
        """Return what a condition reads of the call, and of ``vars``, in the order it stands."""
        found: list[Fact] = []
        if (call := self.call) is None:
            return found
        for path in condition.paths:
            try:
                found.append(Fact(str(path), _plain(call.read(path))))
            except LookupError:
                found.append(Fact(str(path), absent=True))
        return found

    def summary(self, verdict: Verdict) -> str:
        """Say a verdict in one sentence: this one, or what it would be."""
        name = self.facts.contract.name
        if self.depends_on:
            read = "reads" if len(self.depends_on) == 1 else "read"
            return (
                f"what the policy says of {name} cannot be told: it depends on "
                f"{_rules(self.depends_on)}, which {read} redacted arguments that are gone"
            )
        rules = _rules(verdict.rules)
        if verdict.requirement is not None:
            return f"{name} {self._waits(verdict, verdict.requirement)}"
        if verdict.effect == "deny" and self.facts.contract.level >= ALWAYS_DENIED:
            said = f"{floor(self.facts.contract)}, whatever the rules say"
            return f"{said} ({rules} would deny it too)" if rules else said
        if rules:
            return f"{name} is {'denied' if verdict.effect == 'deny' else 'allowed'} by {rules}"
        lenient = self.policy.observing and verdict is self.verdict
        return self.policy.without_rules(self.facts.contract, lenient=lenient)[1]

    def _waits(self, verdict: Verdict, requirement: ApprovalRequirement) -> str:
        groups, limit = asks(requirement), requirement.expires
        if not all(group.approvers for group in groups):
            return "would wait for ever: approvals.approvers is empty, so it is rejected at once"
        long = "however long it takes," if limit is None else f"for at most {duration(limit)},"
        if len(groups) > 1:
            return f"waits {long} until {len(groups)} groups of people have approved"
        because = f"level {self.facts.contract.level}, whatever the rules say"
        if verdict.rules:
            because = _rules(verdict.rules).removeprefix("the ")
        have = "have" if groups[0].quorum > 1 else "has"
        return f"waits {long} until {groups[0]} {have} approved ({because})"

    def expiries(self, requirement: ApprovalRequirement) -> dict[str, float | None]:
        """Return after how many seconds each rule of a requirement expires, where they differ.

        None is never. The shortest counts.
        """
        asking = {group.rule for group in requirement.groups}
        found = {t.rule.id: t.rule.expires for t in self.traces if t.rule.id in asking}
        return found if len(set(found.values())) > 1 else {}

    @property
    def kind(self) -> str:
        """What is called: a tool, or a state action."""
        return "tool" if self.facts.action_type == ActionType.TOOL_CALL else "action"

    @property
    def level(self) -> str:
        """What the level of the tool, or of the state action, means."""
        level, most = self.facts.contract.level, self.policy.allow_up_to
        what = self.kind
        if level >= ALWAYS_DENIED:
            return f"level {level}: such a {what} is always denied, whatever the rules say"
        if level >= ALWAYS_HELD:
            return f"level {level}: such a {what} is at least held, whatever the rules say"
        if level <= most:
            return f"level {level}: allowed without a rule (allow_up_to is {most})"
        if self.policy.observing:
            return f"level {level}: allowed without a rule, because the gate is in mode observe"
        return f"level {level}: denied unless a rule allows or holds it (allow_up_to is {most})"

    def to_json(self) -> dict[str, JSONValue]:
        """Return the explanation for machines."""
        facts, verdict = self.facts, self.verdict
        contract = facts.contract
        return {
            "type": facts.action_type,
            "tool": contract.name,
            "args": facts.args,
            "contract": contract.public(),
            **self._verdict(verdict),
            "observed": self._observed(verdict),
            "redacted": list(self.gone.pointers),
            "depends_on": list(self.depends_on),
            "policy": verdict.policy,
            "digest": verdict.digest,
            "level": self.level,
            "trace": [self._rule(item) for item in self.traces],
        }

    def _observed(self, verdict: Verdict) -> JSONValue:
        if verdict.observed is None or self.depends_on:
            return None
        return self._verdict(verdict.observed)

    def _verdict(self, verdict: Verdict) -> dict[str, JSONValue]:
        if self.depends_on:
            said: dict[str, JSONValue] = {"effect": None, "summary": self.summary(verdict)}
            return {**said, "rules": [], "reason": None, "approval": None}
        requirement = verdict.requirement
        approval: dict[str, Any] | None = None
        if requirement is not None:
            approval = {**requirement.to_json(), "expiries": self.expiries(requirement)}
        return {
            "effect": verdict.effect,
            "summary": self.summary(verdict),
            "rules": list(verdict.rules),
            "reason": verdict.reason,
            "approval": approval,
        }

    def _rule(self, item: RuleTrace) -> dict[str, JSONValue]:
        rule = item.rule
        return {
            "rule": rule.id,
            "effect": rule.effect,
            "reason": rule.reason,
            "about": item.about,
            "matches": item.matches,
            "decides": self.decides(item),
            "observes": self.observes(item),
            "outcome": self.outcome(item),
            "when": self._condition(rule.when, item.when, item),
            "unless": self._condition(rule.unless, item.unless, item),
            "error": item.error,
        }

    def _condition(self, condition: Condition | None, answer: Answer, item: RuleTrace) -> JSONValue:
        if condition is None:
            return None
        read = self.read(condition) if item.about else []
        return {
            "source": condition.source,
            "result": answer,
            "facts": [fact.to_json() for fact in read],
        }


def explain(policy: Policy, facts: CallFacts, gone: Gone = NOTHING) -> Explanation:
    """Explain what a policy says of a call, of which some arguments may be ``gone``."""
    judged = judge(policy, facts, gone)
    return Explanation(
        facts,
        judged.verdict,
        trace(policy, facts, gone),
        policy,
        policy.call(facts),
        gone,
        tuple(rule.id for rule in judged.depends_on),
    )


def target(item: RuleTrace) -> str:
    """Return what calls a rule is about, as it is written."""
    parts = [] if item.rule.tools is None else [f"tools {', '.join(item.rule.tools)}"]
    if item.rule.types:
        parts.append(f"types {', '.join(sorted(item.rule.types))}")
    return "; ".join(parts)


def duration(seconds: float) -> str:
    """Return a time in the largest unit that it is a whole number of: ``4h``."""
    for unit, size in _UNITS:
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"


def _rules(names: Sequence[str]) -> str:
    if not names:
        return ""
    return f"the rule{'s' if len(names) > 1 else ''} {listed(names)}"


def _plain(value: object) -> JSONValue:
    """Return a value of a call as JSON has it; times as conditions write them."""
    if isinstance(value, datetime):
        return value.isoformat().replace("+00:00", "Z")
    if isinstance(value, timedelta):
        return f"{value.total_seconds():g}s"
    plain: Any = value
    return plain
