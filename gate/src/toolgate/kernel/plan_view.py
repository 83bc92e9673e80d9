"""A proposal as the approver of one of its actions sees it: what was done, and what waits for it.

1. What compensates the held action is told in full: an approval covers it.
2. An action *waits* for the held one when it has not started and comes after it in the graph, or is
   listed after it and the held one's failure would abort the proposal; so does what comes after
   such an action. Nothing waits for a compensation.
3. The statuses are those of the journal's rows, verified; one that the log has gone on from is
   refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from toolgate.approvals.tally import HoldState
from toolgate.errors import JournalTampered
from toolgate.ir import (
    Action,
    ActionProposal,
    ActionStatus,
    ActionType,
    FailureBehavior,
    ProposalStatus,
)
from toolgate.journal.journal import Reader
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.holds import HoldView
from toolgate.kernel.places import (
    action_uid,
    compensation_of,
    compensation_uid,
    planned,
    read_proposal,
)
from toolgate.kernel.records import check_place
from toolgate.kernel.redaction import Redactor
from toolgate.plan.graph import Graph, build


@dataclass(frozen=True, slots=True)
class PlannedAction:
    """An action of the proposal, or (``compensates``) what compensates the one of that name.

    ``waits`` says that it waits for the held action, ``reserved`` that it runs for nothing but to
    compensate another.
    """

    action_id: str
    uid: str
    type: ActionType
    tool: str | None
    status: ActionStatus
    waits: bool = False
    reserved: bool = False
    compensates: bool = False

    def to_json(self) -> dict[str, JSONValue]:
        """Return it for machines: what does not apply is left out."""
        shape: dict[str, JSONValue] = {
            "action_id": self.action_id,
            "uid": self.uid,
            "type": self.type.value,
            "status": self.status.value,
            "waits": self.waits,
        }
        if self.tool is not None:
            shape["tool"] = self.tool
        if self.reserved:
            shape["reserved"] = True
        if self.compensates:
            shape["compensates"] = True
        return shape


@dataclass(frozen=True, slots=True)
class PlanView:
    """The proposal of a held action.

    ``proposal_id`` is the proposer's name for it, ``compensation`` what would be run to compensate
    the held action. ``actions`` are in listed order, then the compensations that were begun.
    """

    proposal: str
    proposal_id: str
    source: str
    status: ProposalStatus
    compensation: Action | None
    actions: tuple[PlannedAction, ...]

    def to_json(self) -> dict[str, JSONValue]:
        """Return it for machines."""
        action = self.compensation
        compensation: JSONValue = None
        if action is not None:
            compensation = {
                "type": action.type.value,
                "tool": action.tool,
                "parameters": action.parameters,
                "expected_effects": action.expected_effects,
            }
        return {
            "proposal": self.proposal,
            "proposal_id": self.proposal_id,
            "source": self.source,
            "status": self.status.value,
            "compensation": compensation,
            "actions": [action.to_json() for action in self.actions],
        }


def view_plan(reader: Reader, view: HoldView, redactor: Redactor) -> PlanView | None:
    """Return the proposal of a held action as ``reader`` has it; a single call has none.

    When nobody is asked any more, what would compensate it is told without what is redacted.
    Raises :class:`JournalTampered`. The reader must read one unchanging view meanwhile.
    """
    place, uid = view.place, view.hold.uid
    if place is None:
        return None
    record = reader.proposal(place.proposal)
    if record is None:
        raise JournalTampered(f"the proposal of action {uid} is missing from the journal")
    proposal = read_proposal(record)
    graph = build(proposal.actions)
    statuses: dict[str, ActionStatus] = {}
    for row in reader.actions_of(place.proposal):
        if row.status != ActionStatus.HELD:
            check_place(reader, row)
        statuses[row.uid] = ActionStatus(row.status)
    waiting = set() if place.compensates else _after(place.action_id, proposal, graph)
    actions: list[PlannedAction] = []
    begun: list[PlannedAction] = []
    for number, action in enumerate(proposal.actions):
        own = action_uid(place.proposal, number)
        started = own in statuses
        actions.append(
            PlannedAction(
                action.id,
                own,
                action.type,
                action.tool,
                statuses.get(own, ActionStatus.PROPOSED),
                waits=not started and action.id in waiting,
                reserved=action.id in graph.compensators,
            )
        )
        undo, undone_by = compensation_uid(own), compensation_of(action, proposal.actions)
        if undo in statuses and undone_by is not None:
            begun.append(
                PlannedAction(
                    action.id,
                    undo,
                    undone_by.type,
                    undone_by.tool,
                    statuses[undo],
                    compensates=True,
                )
            )
    undo_held = compensation_of(planned(reader, uid), proposal.actions)
    if undo_held is not None and view.status != HoldState.PENDING:
        hidden = redactor.unchecked(undo_held.tool or "", undo_held.parameters)
        if hidden is not None:
            undo_held = undo_held.model_copy(update={"parameters": hidden.args})
    return PlanView(
        place.proposal,
        proposal.id,
        proposal.source,
        ProposalStatus(record.status),
        undo_held,
        (*actions, *begun),
    )


def _after(name: str, proposal: ActionProposal, graph: Graph) -> set[str]:
    """Return the actions that cannot start before ``name`` has settled."""
    place = graph.index[name]
    pending = list(graph.after[name])
    if proposal.actions[place].failure_behavior is FailureBehavior.ABORT:
        pending += graph.ids[place + 1 :]
    after: set[str] = set()
    while pending:
        later = pending.pop()
        if later not in after and later not in graph.compensators:
            after.add(later)
            pending += graph.after[later]
    return after
