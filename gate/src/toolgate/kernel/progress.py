"""How far a proposal has come: what each of its actions came to, and what that means for the rest.

A fresh run and one that is continued, in another process perhaps, differ in nothing but what is
settled already.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

from toolgate import clock
from toolgate.ir import (
    Action,
    ActionProposal,
    ActionResult,
    ActionStatus,
    ActionType,
    Cost,
    FailureBehavior,
    Outcome,
    OutcomeError,
    OutcomeKind,
    ProposalResult,
    ProposalStatus,
    Rollback,
)
from toolgate.journal.records import ProposalRecord, SessionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.allowance import Usage
from toolgate.kernel.limits import Spent
from toolgate.kernel.places import action_uid, compensation_of
from toolgate.kernel.schedule import Schedule
from toolgate.plan.graph import Graph
from toolgate.plan.references import MOST, Room

_FAILED = (ActionStatus.FAILED, ActionStatus.IN_DOUBT)
_HELD = (ActionStatus.PROPOSED, ActionStatus.HELD, ActionStatus.EXECUTING)


class Progress:
    """One proposal while it is run. Names are its actions' local ids; times microseconds."""

    def __init__(
        self,
        record: ProposalRecord,
        proposal: ActionProposal,
        graph: Graph,
        session: SessionRecord,
        max_concurrency: int,
    ) -> None:
        """Nothing has started yet."""
        self.record = record
        self.proposal = proposal
        self.graph = graph
        self.session = session
        self.schedule = Schedule(proposal.actions, graph, max_concurrency)
        self.usage = Usage(Spent())
        self.actions = {action.id: action for action in proposal.actions}
        self.room = Room()
        self.outcomes: dict[str, Outcome] = {}
        self.proposed: set[str] = set()
        """The actions that the journal knows already."""
        self.cancelled = False
        self.rolled_back = False
        self._succeeded: set[str] = set()
        self._outputs: dict[str, JSONValue] = {}
        self._times: dict[str, int] = {}
        self.stopped = False
        """Whether a body has stopped itself since this run took the proposal up."""
        self._again: set[str] = set()
        self._failure: str | None = None
        self._exhausted: OutcomeError | None = None

    @property
    def uid(self) -> str:
        """The proposal's uid."""
        return self.record.uid

    def uid_of(self, name: str) -> str:
        """Return the uid of an action."""
        return action_uid(self.uid, self.graph.index[name])

    def note(self, name: str, outcome: Outcome, at: int) -> None:
        """Take note of what a running action came to: an end, or a hold."""
        self.outcomes.pop(name, None)  # the order is that in which they came to stand so
        self.outcomes[name] = outcome
        self.proposed.add(name)
        self._times[name] = at
        self._again.discard(name)
        if outcome.status in _HELD:
            self.schedule.hold(name)
            return
        if outcome.hold is not None:
            # It is over: an end is told as the journal tells it later.
            self.outcomes[name] = dataclasses.replace(outcome, hold=None)
        self.schedule.settle(name)
        if outcome.status is ActionStatus.SUCCEEDED:
            self._succeeded.add(name)
            if not outcome.omitted:
                self._outputs[name] = outcome.output
            if self.actions[name].type is not ActionType.TOOL_CALL:
                self.room.take(outcome.output)
        if outcome.error is not None and outcome.error.kind is OutcomeKind.BUDGET_EXCEEDED:
            self._exhausted = self._exhausted or outcome.error
        aborts = self.actions[name].failure_behavior is FailureBehavior.ABORT
        if aborts and outcome.status in _FAILED and self._failure is None:
            self._failure = name

    def again(self, name: str, outcome: Outcome, at: int) -> None:
        """Take note of an action in doubt, of which ``outcome`` tells, that is to run again."""
        self.outcomes[name] = outcome
        self.proposed.add(name)
        self._times[name] = at
        self._again.add(name)

    @property
    def held(self) -> list[str]:
        """The actions that wait for people, or to be entered again, or that another gate runs."""
        return [action.id for action in self.proposal.actions if self._stands(action.id, _HELD)]

    @property
    def executing(self) -> bool:
        """Whether an action runs that this run cannot see the end of."""
        return any(self._stands(name, (ActionStatus.EXECUTING,)) for name in self.outcomes)

    def outputs(self) -> dict[str, JSONValue]:
        """Return the outputs of the actions that have succeeded, but for the omitted ones."""
        return self._outputs

    def no_room(self, name: str) -> OutcomeError | None:
        """Return why an action cannot read more of the session's state into its proposal."""
        if self.room.left >= 0 or self.actions[name].type is ActionType.TOOL_CALL:
            return None
        return OutcomeError(
            OutcomeKind.BUDGET_EXCEEDED,
            f"what this proposal has read of the session's state is larger than {MOST} bytes: "
            "propose it in smaller parts",
        )

    def failed_requirement(self, name: str) -> OutcomeError | None:
        """Return why an action cannot run: something it depends on did not succeed."""
        missing = [
            other
            for other in sorted(self.graph.required[name], key=self.graph.index.__getitem__)
            if other not in self._succeeded
        ]
        if not missing:
            return None
        told = ", ".join(f"{other!r} ({self.outcomes[other].status.value})" for other in missing)
        return OutcomeError(
            OutcomeKind.DEPENDENCY_FAILED,
            f"it depends on what did not succeed: {told}",
            {"actions": list(missing)},
        )

    @property
    def aborting(self) -> bool:
        """Whether the proposal is to be undone: an action failed, or its caller has gone."""
        return self._failure is not None or self.cancelled or self.rolled_back

    @property
    def settled(self) -> bool:
        """Whether every action has come to an end that does not only compensate another."""
        return not (self.held or self._again) and all(
            action.id in self.graph.compensators for action in self.unstarted()
        )

    @property
    def finished(self) -> bool:
        """Whether only its end is left to be recorded: nothing to run, and nothing to undo."""
        return self.settled and not self.aborting

    @property
    def exhausted(self) -> OutcomeError | None:
        """Why nothing further starts, though nothing has failed."""
        return self._exhausted

    @property
    def ending(self) -> bool:
        """Whether nothing further starts."""
        return self.aborting or self._exhausted is not None

    def why_aborted(self) -> OutcomeError:
        """Return the reason for an abort, as its result tells it."""
        if self._failure is None:
            return OutcomeError(OutcomeKind.CANCELLED, "cancelled by the caller")
        error = self.outcomes[self._failure].error
        kind = OutcomeKind.EXECUTION_FAILED if error is None else error.kind
        told = "" if error is None else f": {error.message}"
        for name, outcome in self.outcomes.items():
            # A rejection aborts nothing, but what failed may have checked for what it lacks.
            if outcome.status is ActionStatus.REJECTED and outcome.error is not None:
                told += f"; before that {name!r} was rejected: {outcome.error.message}"
                break
        return OutcomeError(
            kind, f"action {self._failure!r} failed{told}", {"action_id": self._failure}
        )

    def tools_ahead(self) -> Iterator[str]:
        """Iterate over the tools that what is left of the plan may have to call.

        Those are the tools of actions that have not come to an end, and of what compensates those
        that have succeeded, or may yet.
        """
        for action in self.proposal.actions:
            waits = action.id in self._again or self._stands(action.id, _HELD)
            unsettled = waits or self.outcomes.get(action.id) is None
            if unsettled and not self.rolled_back and action.id not in self.graph.compensators:
                yield from _tool_of(action)
            compensation = compensation_of(action, self.proposal.actions)
            if compensation is None or action.reversibility == "irreversible":
                continue
            if unsettled or action.id in self._succeeded:
                yield from _tool_of(compensation)

    def unstarted(self) -> Iterator[Action]:
        """Iterate over the actions that were never started, in listed order."""
        return (action for action in self.proposal.actions if action.id not in self.proposed)

    def _stands(self, name: str, statuses: tuple[ActionStatus, ...]) -> bool:
        outcome = self.outcomes.get(name)
        return outcome is not None and outcome.status in statuses

    def to_undo(self) -> list[str]:
        """Return the actions that have succeeded, the last to succeed first."""
        return [name for name in reversed(self.outcomes) if name in self._succeeded]

    def result(self, status: ProposalStatus, rollback: Rollback | None = None) -> ProposalResult:
        """Return how the proposal stands, in listed order."""
        aborted = status is ProposalStatus.ABORTED or self.rolled_back
        error = self.why_aborted() if aborted else None
        results = []
        for action in self.proposal.actions:
            outcome = self.outcomes.get(action.id)
            if outcome is None:
                outcome = Outcome(ActionStatus.PROPOSED, self.uid_of(action.id))
            undone = aborted and action.id in self._succeeded
            at = self._times.get(action.id, self.record.created_at)
            results.append(ActionResult(action.id, outcome, undone, clock.to_text(at)))
        return ProposalResult(
            self.proposal.id,
            self.uid,
            status,
            tuple(results),
            cost_of(self.proposal.actions, results),
            error,
            rollback,
        )


def _tool_of(action: Action) -> Iterator[str]:
    if action.type is ActionType.TOOL_CALL and action.tool:
        yield action.tool


def cost_of(actions: tuple[Action, ...], results: list[ActionResult]) -> Cost:
    """Return what the results have cost."""
    statuses = [result.outcome.status for result in results]
    return Cost(
        tool_calls=sum(
            action.type is ActionType.TOOL_CALL and status is ActionStatus.SUCCEEDED
            for action, status in zip(actions, statuses, strict=True)
        ),
        actions_executed=sum(
            status is ActionStatus.SUCCEEDED or status in _FAILED for status in statuses
        ),
        actions_rejected=sum(status is ActionStatus.REJECTED for status in statuses),
        actions_skipped=sum(status is ActionStatus.SKIPPED for status in statuses),
        total_duration_ms=sum(result.outcome.duration_ms or 0.0 for result in results),
        retries=sum(max(result.outcome.attempts - 1, 0) for result in results),
    )
