"""The approver's side: look at holds, sign an answer, put it beside its hold.

An answer is judged here by the very rules the gate judges it by at release, so that an approver
learns at once when it would not count. The gate judges again: what lies in the store is not
trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from toolgate import clock
from toolgate.approvals import statement
from toolgate.approvals.statement import Answer
from toolgate.config import GateConfig
from toolgate.deployment import pinned_keys
from toolgate.errors import ApprovalError, JournalTampered
from toolgate.journal.events import Event
from toolgate.journal.opening import inspect_journal
from toolgate.journal.records import ApprovalRow
from toolgate.kernel.holds import HoldView, view_hold
from toolgate.kernel.plan_list import ProposalView, view_proposal
from toolgate.kernel.plan_view import PlanView, view_plan
from toolgate.kernel.records import count
from toolgate.signatures.keys import load_private_key, public_key_text

PAGE = 200


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that was put beside its hold, and how the hold stands now."""

    view: HoldView
    verdict: Answer
    approver: str


class Desk:
    """One project's holds, for the people who answer them, and the proposals they belong to."""

    def __init__(self, config: GateConfig) -> None:
        """Open the deployment's journal; raises :class:`~toolgate.errors.JournalError`."""
        self._config = config
        self._journal = inspect_journal(config)
        self._pinned = pinned_keys(config)

    def close(self) -> None:
        """Close the journal."""
        self._journal.store.close()

    def holds(self, status: str | None = "pending") -> Iterator[HoldView | JournalTampered]:
        """Iterate over the holds that have ``status`` now (``None``: all), oldest first.

        Where one does not verify there is what is wrong with it.
        """
        # What people have said since a gate last looked shows here, though no row says so yet; a
        # row that says something final says it for good.
        recorded = {None} if status is None else {"pending", status}
        for wanted in sorted(recorded, key=str):
            after: str | None = None
            while records := self._journal.reader.holds(wanted, PAGE, after):
                for _, record in records:
                    try:
                        view = view_hold(self._journal.reader, record, self._pinned, clock.now())
                    except JournalTampered as error:
                        yield error
                        continue
                    if view.project == self._config.project and status in (None, view.status):
                        yield view
                after = records[-1][0]

    def find(self, name: str) -> HoldView:
        """Return a hold by its id or by its action's uid; raises :class:`ApprovalError`."""
        reader = self._journal.reader
        record = reader.hold(name)
        if record is None:
            action = reader.action(name)
            record = None if action is None or action.hold is None else reader.hold(action.hold)
        if record is None:
            self._refuse_proposal(name)
        view = None if record is None else view_hold(reader, record, self._pinned, clock.now())
        if view is None or view.project != self._config.project:
            raise ApprovalError(
                f"the project {self._config.project} has no hold, and no held action, that is "
                f"named {name!r}"
            )
        return view

    def _refuse_proposal(self, name: str) -> None:
        """Say which holds a proposal has: an answer is to one of them."""
        reader = self._journal.reader
        record = reader.proposal(name)
        if record is None or record.project != self._config.project:
            return
        held = [reader.action(uid) for uid in view_proposal(reader, record).held]
        told = ", ".join(
            f"{action.hold} ({action.tool}, action {action.uid})" for action in held if action
        )
        raise ApprovalError(
            f"{name} is a proposal ({record.proposal_id}), and an answer is to one hold: "
            f"{f'name one of its own, {told}' if told else 'it has none at this moment'}"
        )

    def proposals(self, status: str | None = None) -> Iterator[ProposalView | JournalTampered]:
        """Iterate over the proposals of one status (``None``: of all), in the order they came.

        Where one does not verify there is what is wrong with it.
        """
        reader, after = self._journal.reader, None
        while records := reader.proposals(status, PAGE, after):
            for _, record in records:
                try:
                    view = view_proposal(reader, record)
                except JournalTampered as error:
                    yield error
                    continue
                if view.project == self._config.project:
                    yield view
            after = records[-1][0]

    def plan(self, view: HoldView) -> PlanView | None:
        """Return the proposal that a held action belongs to; a single call has none.

        Raises :class:`~toolgate.errors.JournalTampered`.
        """
        store = self._journal.store
        store.snapshot()
        try:
            return view_plan(self._journal.reader, view)
        finally:
            store.rollback()

    def timeline(self, session: str) -> Iterator[Event]:
        """Iterate over a session's events, in order."""
        return self._journal.store.events(session=session)

    def genuine(self, event: Event) -> bool:
        """Tell whether an event was written with the journal key, and not changed since."""
        return self._journal.reader.genuine(event)

    def answer(
        self, name: str, verdict: Answer, approver: str, key_file: Path, reason: str | None = None
    ) -> Answered:
        """Sign ``approver``'s answer to a hold and put it beside it, durably.

        Raises :class:`ApprovalError` when it would not count, saying why; then nothing is written.
        """
        view = self.find(name)
        hold = view.hold
        if view.status != "pending":
            raise ApprovalError(
                f"the hold {hold.hold_id} is {view.status}; nobody is asked any more"
            )
        key = load_private_key(key_file)
        pinned = self._pinned.get(approver)
        if pinned is None:
            raise ApprovalError(
                f"no approver named {approver!r} is in the config (approvals.approvers)"
            )
        if public_key_text(pinned) != public_key_text(key.public_key()):
            raise ApprovalError(f"{key_file} is not the key that the config pins for {approver}")
        now = clock.now()
        envelope = statement.sign(hold, verdict, approver, key, now, reason)
        refused = self._would_refuse(view, envelope, now)
        if refused is not None:
            raise ApprovalError(refused)
        self._journal.store.add_approval(hold.hold_id, envelope, now)
        return Answered(self.find(hold.hold_id), verdict, approver)

    def _would_refuse(self, view: HoldView, envelope: bytes, now: int) -> str | None:
        rows = self._journal.reader.approvals(view.hold.hold_id)
        mine = max((row.seq for row in rows), default=0) + 1
        said = count(
            view.hold, [*rows, ApprovalRow(mine, view.hold.hold_id, envelope, now)], self._pinned
        )
        return next((r.reason for r in said.refused if r.seq == mine), None)
