"""Which of several proposals to try first.

1. ``score`` = ``success_likelihood`` · (1 − w) + ``cost_efficiency`` · w, where w is the target's
   ``cost_weight``. All of them are from 0 to 1.
2. ``success_likelihood`` is the mean over the actions: 0 for one that policy or capabilities would
   deny, ½ for one that policy would hold or that a warning is about, 1 for any other. What is found
   of its compensation does not count.
3. ``cost_efficiency`` is the mean of three ratios of target to cost, each at most 1: of tool calls,
   of actions, and of duration. A call is taken to last as long as the target has for each of its
   calls, or until its timeout if that is sooner; the plan, as long as its longest chain of them.
   What costs nothing has the ratio 1.
4. A proposal that is invalid or has no actions scores 0 and comes last. Ties keep their order.

Actions that run only as compensations are neither counted nor judged.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from toolgate.analysis.order import listed_order
from toolgate.analysis.verify import Judge, Tools, Verification, verify
from toolgate.ir import Action, ActionProposal, ActionType, CostTarget
from toolgate.jsonvalue import JSONValue
from toolgate.plan.graph import Graph, build

_WEIGHTS: Mapping[str, float] = {"capability_denied": 0.0, "policy_denied": 0.0}


@dataclass(frozen=True, slots=True)
class Ranked:
    """One candidate: its place among those given, and what its score is made of."""

    index: int
    proposal_id: str
    score: float
    valid: bool
    success_likelihood: float
    cost_efficiency: float

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape."""
        return {
            "index": self.index,
            "proposal_id": self.proposal_id,
            "score": self.score,
            "valid": self.valid,
            "success_likelihood": self.success_likelihood,
            "cost_efficiency": self.cost_efficiency,
        }


def rank(
    candidates: Sequence[ActionProposal],
    target: CostTarget,
    tools: Tools | None,
    state: Mapping[str, JSONValue],
    *,
    judge: Judge | None = None,
    max_actions: int | None = None,
    sent: Sequence[Mapping[str, JSONValue]] | None = None,
) -> list[Ranked]:
    """Return the candidates, best first; what is asked of them is what :func:`verify` asks.

    ``sent`` is the JSON that each of them was read from.
    """
    ranked = []
    for index, candidate in enumerate(candidates):
        found = verify(
            candidate,
            tools,
            state,
            judge=judge,
            max_actions=max_actions,
            sent=None if sent is None else sent[index],
        )
        ranked.append(_ranked(index, candidate, found, target))
    last = [not item.valid or not candidates[item.index].actions for item in ranked]
    return sorted(ranked, key=lambda item: (last[item.index], -item.score))


def _ranked(
    index: int, candidate: ActionProposal, found: Verification, target: CostTarget
) -> Ranked:
    if not found.valid or not candidate.actions:
        return Ranked(index, candidate.id, 0.0, found.valid, 0.0, 0.0)
    graph = build(candidate.actions)
    actions = {a.id: a for a in candidate.actions if a.id not in graph.compensators}
    likelihood = _success_likelihood(actions, found)
    efficiency = _cost_efficiency(actions, graph, target)
    weight = target.cost_weight
    score = likelihood * (1 - weight) + efficiency * weight
    return Ranked(index, candidate.id, score, True, likelihood, efficiency)


def _success_likelihood(actions: Mapping[str, Action], found: Verification) -> float:
    weights = dict.fromkeys(actions, 1.0)
    for issue in found.issues:
        if issue.action_id in weights and not issue.compensating:
            weight = _WEIGHTS.get(issue.code, 0.5)
            weights[issue.action_id] = min(weights[issue.action_id], weight)
    return sum(weights.values()) / len(weights)


def _cost_efficiency(actions: Mapping[str, Action], graph: Graph, target: CostTarget) -> float:
    calls = sum(action.type is ActionType.TOOL_CALL for action in actions.values())
    share = target.target_duration_ms / target.target_tool_calls
    ends: dict[str, float] = {}
    for id in listed_order(graph):
        own = 0.0
        if actions[id].type is ActionType.TOOL_CALL:
            own = min(share, actions[id].timeout_ms or share)
        ends[id] = own + max((ends[earlier] for earlier in graph.before[id]), default=0.0)
    ratios = (
        _ratio(target.target_tool_calls, calls),
        _ratio(target.target_actions, len(actions)),
        _ratio(target.target_duration_ms, max(ends.values())),
    )
    return sum(ratios) / len(ratios)


def _ratio(target: float, cost: float) -> float:
    return min(1.0, target / cost) if cost else 1.0
