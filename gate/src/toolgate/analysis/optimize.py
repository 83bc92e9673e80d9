"""The same actions with fewer waits. It never changes what happens, also not when actions fail.

1. An entry of ``dependencies`` goes when it is there twice, when the parameters refer to the output
   of the same action, or when a chain of two or more dependencies and references leads from that
   action to this one. The chain rejects the action whenever the entry would have; an order that
   state keys alone make would not, so it justifies nothing.
2. An entry of ``state_dependencies`` goes when it is there twice, or when the state has the key and
   no action of the proposal writes it. Execution never removes a key, so it will be there.
3. An action that runs only as a compensation stays as it is, and so does a proposal that is no
   plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass
from typing import Literal

from toolgate.analysis.order import joined_indirectly, listed_order
from toolgate.ir import Action, ActionProposal
from toolgate.jsonvalue import JSONValue
from toolgate.plan.effects import written_keys
from toolgate.plan.graph import PlanError, build
from toolgate.plan.references import referenced


@dataclass(frozen=True, slots=True)
class Removed:
    """An entry that an action no longer has: an action's id, or a state key."""

    action_id: str
    kind: Literal["dependency", "state_dependency"]
    on: str

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape."""
        return {"action_id": self.action_id, "kind": self.kind, "on": self.on}


@dataclass(frozen=True, slots=True)
class Optimized:
    """The proposal without what it does not need, and what that was."""

    proposal: ActionProposal
    removed: tuple[Removed, ...]

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape."""
        return {
            "proposal": self.proposal.model_dump(mode="json"),
            "removed": [removed.to_json() for removed in self.removed],
        }


def optimize(proposal: ActionProposal, state: Mapping[str, JSONValue]) -> Optimized:
    """Take needless waits out of a proposal that is to run from ``state``, or one with its keys."""
    try:
        graph = build(proposal.actions)
    except PlanError:
        return Optimized(proposal, ())
    pairs = [
        (earlier, action.id)
        for action in proposal.actions
        if len(graph.required[action.id]) > 1
        for earlier in action.dependencies
    ]
    implied = joined_indirectly(listed_order(graph), graph.required, pairs) if pairs else set()
    written = frozenset().union(*map(written_keys, proposal.actions))
    settled = state.keys() - written

    actions: list[Action] = []
    removed: list[Removed] = []
    for action in proposal.actions:
        if action.id in graph.compensators:
            actions.append(action)
            continue
        known = referenced(action.parameters)
        known |= {earlier for earlier in action.dependencies if (earlier, action.id) in implied}
        dependencies, gone = _without(action.dependencies, known)
        removed += [Removed(action.id, "dependency", earlier) for earlier in gone]
        keys, gone = _without(action.state_dependencies, settled)
        removed += [Removed(action.id, "state_dependency", key) for key in gone]
        changes = {"dependencies": dependencies, "state_dependencies": keys}
        actions.append(action.model_copy(update=changes))
    if not removed:
        return Optimized(proposal, ())
    return Optimized(proposal.model_copy(update={"actions": tuple(actions)}), tuple(removed))


def _without(entries: tuple[str, ...], needless: Set[str]) -> tuple[tuple[str, ...], list[str]]:
    """Split entries into those that stay, each once, and those that go."""
    stay: dict[str, None] = {}
    gone = []
    for entry in entries:
        if entry in needless or entry in stay:
            gone.append(entry)
        else:
            stay[entry] = None
    return tuple(stay), gone
