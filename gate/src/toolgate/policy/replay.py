"""What a policy would have decided on recorded calls, and how that differs from what was."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from toolgate.ir import ActionType
from toolgate.jsonvalue import JSONValue
from toolgate.policy.contracts import contract_for_state_action
from toolgate.policy.facts import CallFacts
from toolgate.policy.untold import NOTHING, Gone, Judged, judge, weighed
from toolgate.policy.verdict import Policy, Verdict, combined

NOT_RECORDED: Final = {
    "agent.framework": "agent.framework is not recorded: the config's is used",
}
"""What the journal does not tell of a call, by the name that conditions know it under."""


@dataclass(frozen=True, slots=True)
class RecordedCall:
    """A call of the journal: its facts as they were, and what was decided then.

    ``effects`` are what the action would have written besides, by state key. ``at`` is when it was
    decided, as text. ``gone`` are the arguments of which only digests are left.
    """

    facts: CallFacts
    effects: Mapping[str, JSONValue]
    at: str
    effect: str
    rules: tuple[str, ...]
    reason: str = ""
    gone: Gone = NOTHING


@dataclass(frozen=True, slots=True)
class Change:
    """A call on which the policy decides otherwise."""

    call: RecordedCall
    verdict: Verdict

    def to_json(self) -> dict[str, JSONValue]:
        """Return the change for machines; arguments stay in the journal."""
        facts = self.call.facts
        return {
            "action": facts.action_id,
            "session": facts.session_id,
            "at": self.call.at,
            "tool": facts.contract.name,
            "was": {"effect": self.call.effect, "rules": list(self.call.rules)},
            "would_be": {
                "effect": self.verdict.effect,
                "rules": list(self.verdict.rules),
                "reason": self.verdict.reason,
            },
        }


@dataclass(slots=True)
class RuleChange:
    """How often a rule decided then, and would now; ``gained`` and ``lost`` are single calls.

    ``untold`` are those of which nobody can tell whether it would decide them.
    """

    was: int = 0
    would: int = 0
    gained: int = 0
    lost: int = 0
    untold: int = 0


@dataclass(slots=True)
class Difference:
    """What a policy would have decided otherwise, counted; ``changes`` are the first ``limit``.

    ``untold`` calls are compared with nothing: what would be decided on them depends on redacted
    arguments, of which only digests are left. They are no changes, and only here are they counted.
    """

    limit: int
    calls: int = 0
    untold: int = 0
    effects: Counter[tuple[str, str]] = field(default_factory=Counter)
    rules: dict[str, RuleChange] = field(default_factory=dict)
    changed: int = 0
    changes: list[Change] = field(default_factory=list)

    def add(self, call: RecordedCall, judged: Judged) -> None:
        """Count one call."""
        self.calls += 1
        if judged.depends_on:
            self.untold += 1
            for open_ in judged.depends_on:
                self._rule(open_.id).untold += 1
            return
        verdict = judged.verdict
        self.effects[call.effect, verdict.effect] += 1
        was, would = set(call.rules), set(verdict.rules)
        for name in was | would:
            rule = self._rule(name)
            rule.was += name in was
            rule.would += name in would
            rule.gained += name in would - was
            rule.lost += name in was - would
        if (call.effect, was) != (verdict.effect, would):
            self.changed += 1
            if len(self.changes) < self.limit:
                self.changes.append(Change(call, verdict))

    def _rule(self, name: str) -> RuleChange:
        return self.rules.setdefault(name, RuleChange())

    def to_json(self) -> dict[str, JSONValue]:
        """Return the difference for machines."""
        return {
            "calls": self.calls,
            "changed": self.changed,
            "cannot_be_told": self.untold,
            "effects": [
                {"was": was, "would_be": would, "calls": count}
                for (was, would), count in sorted(self.effects.items())
            ],
            "rules": {
                name: {
                    "was": rule.was,
                    "would_be": rule.would,
                    "gained": rule.gained,
                    "lost": rule.lost,
                    "cannot_be_told": rule.untold,
                }
                for name, rule in sorted(self.rules.items())
            },
            "changes": [change.to_json() for change in self.changes],
        }


def decide_again(policy: Policy, call: RecordedCall) -> Judged:
    """Return what the policy says of a recorded call, as the kernel comes to it.

    What an action would write is judged as a ``state_write`` of that key; a denied one ends it.
    """
    writes = {
        f"its expected effect on state key {key!r}": policy.decide(_write(call.facts, key, value))
        for key, value in call.effects.items()
    }
    denied = next((verdict for verdict in writes.values() if verdict.effect == "deny"), None)
    if denied is not None:
        return Judged(denied)
    judged = judge(policy, call.facts, call.gone)
    if not writes:
        return judged
    return weighed(policy, call.facts, combined(judged.verdict, writes), judged.untold)


def unrecorded(policy: Policy) -> list[str]:
    """Tell which facts that the policy's conditions name the journal does not have."""
    names = {name for rule in policy.rules for item in rule.conditions for name in item.names}
    return [text for name, text in NOT_RECORDED.items() if name in names]


def _write(facts: CallFacts, key: str, value: JSONValue) -> CallFacts:
    return facts._replace(
        args={"key": key, "value": value},
        contract=contract_for_state_action(ActionType.STATE_WRITE),
        action_type=ActionType.STATE_WRITE.value,
    )
