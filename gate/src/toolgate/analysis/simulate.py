"""The state that executing a proposal would leave, when every tool succeeds and policy allows it.

What the kernel does is done here, without tools and without a journal: actions run one after
another, those that are ready in listed order.

1. A proposal that is no plan changes nothing.
2. An action is rejected, and its effects left out, when it is malformed, something it requires did
   not succeed, a reference leads nowhere, or its keys or preconditions are not met.
3. An assertion that does not hold fails: with ``abort`` nothing further runs, the state is what it
   was at the beginning, and then the actions that compensate others have their effects, last to
   first; with ``retry`` it is failed and with ``skip`` skipped, and the plan goes on.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from toolgate.analysis.foresight import Foresight, with_parameters
from toolgate.analysis.order import listed_order
from toolgate.ir import (
    Action,
    ActionCompensation,
    ActionProposal,
    ActionStatus,
    FailureBehavior,
)
from toolgate.jsonvalue import JSONValue
from toolgate.plan import effects
from toolgate.plan.graph import PlanError, build
from toolgate.plan.references import UnresolvedReference


@dataclass(frozen=True, slots=True)
class Simulation:
    """The state that is left, and what each action would come to.

    A value that only a tool's output could tell is shown as the reference to it. An action that is
    not in ``statuses`` would not have started.
    """

    state: dict[str, JSONValue]
    statuses: Mapping[str, ActionStatus] = field(default_factory=dict)

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape."""
        return {"state": self.state}


def simulate(proposal: ActionProposal, state: Mapping[str, JSONValue]) -> Simulation:
    """Return what executing ``proposal`` from ``state`` would leave; ``state`` is not changed."""
    try:
        graph = build(proposal.actions)
    except PlanError:
        return Simulation(dict(state))
    actions = {action.id: action for action in proposal.actions}
    statuses: dict[str, ActionStatus] = {}
    foresight = Foresight(state)
    for id in listed_order(graph):
        action = actions[id]
        if all(statuses[other] is ActionStatus.SUCCEEDED for other in graph.required[id]):
            statuses[id] = _status(action, foresight)
        else:
            statuses[id] = ActionStatus.REJECTED
        aborts = action.failure_behavior is FailureBehavior.ABORT
        if statuses[id] is ActionStatus.FAILED and aborts:
            return Simulation(_undone(actions, statuses, state, foresight), statuses)
    return Simulation(foresight.state, statuses)


def _status(action: Action, foresight: Foresight) -> ActionStatus:
    """Carry out an action and return what it comes to."""
    try:
        parameters, _ = foresight.resolved(action.parameters)
    except UnresolvedReference:
        return ActionStatus.REJECTED
    resolved = with_parameters(action, parameters)
    if effects.malformed(resolved) is not None:
        return ActionStatus.REJECTED
    if foresight.missing_keys(action) or foresight.failures(action.preconditions):
        return ActionStatus.REJECTED
    if foresight.carry_out(action, parameters) is None:
        return ActionStatus.SUCCEEDED
    if action.failure_behavior is FailureBehavior.SKIP:
        return ActionStatus.SKIPPED
    return ActionStatus.FAILED


def _undone(
    actions: Mapping[str, Action],
    statuses: dict[str, ActionStatus],
    state: Mapping[str, JSONValue],
    foresight: Foresight,
) -> dict[str, JSONValue]:
    """Return the state after an abort: undone, then with what the compensations write."""
    foresight.restore(state)
    for id in reversed(statuses):
        compensation = actions[id].compensation
        if (
            statuses[id] is ActionStatus.SUCCEEDED
            and actions[id].reversibility != "irreversible"
            and isinstance(compensation, ActionCompensation)
        ):
            _status(actions[compensation.action_id], foresight)
    return foresight.state
