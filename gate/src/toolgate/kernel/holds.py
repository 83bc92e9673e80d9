"""A hold with everything said on it, as lists of holds and approvers see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolgate import clock
from toolgate.approvals.hold import Hold
from toolgate.approvals.tally import HoldState, Tally
from toolgate.errors import JournalTampered
from toolgate.journal.journal import Reader
from toolgate.journal.records import HoldRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.places import call_of
from toolgate.kernel.records import count, hold_of, hold_summary


@dataclass(frozen=True, slots=True)
class HoldView:
    """A hold with everything said on it, as lists of holds and approvers see it.

    One journal may serve several projects and agents: ``project`` and ``agent`` are the action's.
    """

    project: str
    agent: str
    hold: Hold
    status: str
    tally: Tally

    def to_json(self) -> dict[str, JSONValue]:
        """Return the wire's shape of a hold in a list."""
        hold = self.hold
        return {
            **hold_summary(hold, self.tally.approved_by),
            "uid": hold.uid,
            "session": hold.session,
            "tool": hold.tool,
            "args": hold.args,
            "status": self.status,
            "opened_at": clock.to_text(hold.opened_at),
            "digest": hold.digest,
            "policy_digest": hold.policy_digest,
            "expected_effects": hold.expected_effects,
            "compensation": hold.compensation,
        }


def view_hold(
    reader: Reader,
    record: HoldRecord | JournalTampered,
    pinned: Mapping[str, Ed25519PublicKey],
    now: int,
) -> HoldView:
    """Return a hold as it stands at ``now``: a deadline that has passed shows by itself.

    Raises :class:`JournalTampered`.
    """
    if isinstance(record, JournalTampered):
        raise record
    action = reader.action(record.uid)
    if action is None:
        raise JournalTampered(f"the action {record.uid} of hold {record.hold_id} is missing")
    hold = hold_of(record, action, call_of(reader, action))
    said = count(hold, reader.approvals(record.hold_id), pinned)
    status = record.status
    if status == HoldState.PENDING:
        status = said.state(hold, now).value
    return HoldView(action.project, action.agent, hold, status, said)
