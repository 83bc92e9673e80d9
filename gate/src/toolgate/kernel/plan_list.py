"""A proposal on one line, as lists show it: how far it has come, and what it waits for."""

from __future__ import annotations

from dataclasses import dataclass

from toolgate import clock
from toolgate.errors import JournalTampered
from toolgate.ir import ActionStatus, ProposalStatus
from toolgate.journal.journal import Reader
from toolgate.journal.records import ProposalRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.places import action_uid, read_proposal

_OPEN = (
    ActionStatus.PROPOSED,
    ActionStatus.VALIDATED,
    ActionStatus.HELD,
    ActionStatus.EXECUTING,
)
_ENDED = (ProposalStatus.COMPLETED, ProposalStatus.ABORTED)


@dataclass(frozen=True, slots=True)
class ProposalView:
    """One proposal, as the journal's rows have it.

    ``proposal_id`` is the proposer's name for it. Of its ``actions`` so many are ``settled``: they
    have come to an end; of one that has ended itself, all are. ``held`` are the uids of the
    actions, and of the compensations, that were held when somebody last ran it: an answer counts
    once they are resumed. ``opened_at`` is in microseconds since the epoch.
    """

    uid: str
    proposal_id: str
    project: str
    agent: str
    session: str
    status: ProposalStatus
    actions: int
    settled: int
    held: tuple[str, ...]
    opened_at: int

    def to_json(self) -> dict[str, JSONValue]:
        """Return it for machines."""
        return {
            "uid": self.uid,
            "proposal_id": self.proposal_id,
            "agent": self.agent,
            "session": self.session,
            "status": self.status.value,
            "actions": self.actions,
            "settled": self.settled,
            "held": list(self.held),
            "opened_at": clock.to_text(self.opened_at),
        }


def view_proposal(reader: Reader, record: ProposalRecord | JournalTampered) -> ProposalView:
    """Return a proposal as it stands; raises :class:`JournalTampered`."""
    if isinstance(record, JournalTampered):
        raise record
    status, count = ProposalStatus(record.status), len(read_proposal(record).actions)
    statuses = {row.uid: ActionStatus(row.status) for row in reader.actions_of(record.uid)}
    places = {action_uid(record.uid, place): place for place in range(count)}
    settled = [uid for uid in places if statuses.get(uid, ActionStatus.PROPOSED) not in _OPEN]
    held = [uid for uid, stands in statuses.items() if stands is ActionStatus.HELD]
    return ProposalView(
        record.uid,
        record.proposal_id,
        record.project,
        record.agent,
        record.session,
        status,
        count,
        count if status in _ENDED else len(settled),
        tuple(sorted(held, key=lambda uid: places.get(uid.removesuffix("c"), count))),
        record.created_at,
    )
