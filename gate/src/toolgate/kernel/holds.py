"""A hold with everything said on it, as lists of holds and approvers see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolgate import clock
from toolgate.approvals.hold import Hold
from toolgate.approvals.tally import HoldState, Tally
from toolgate.errors import JournalTampered
from toolgate.ir import ActionType
from toolgate.journal.journal import Reader
from toolgate.journal.records import HoldRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.places import call_of, compensates, planned
from toolgate.kernel.records import count, hold_of, hold_summary


@dataclass(frozen=True, slots=True)
class Place:
    """Where a held action stands in its proposal.

    ``proposal`` is the proposal's uid, ``action_id`` the action's name in it. What ``compensates``
    an action has that action's name, whatever runs.
    """

    proposal: str
    action_id: str
    type: ActionType
    compensates: bool

    def to_json(self) -> dict[str, JSONValue]:
        """Return the fields that the wire's shape of a hold has for it."""
        shape: dict[str, JSONValue] = {
            "proposal": self.proposal,
            "action_id": self.action_id,
            "type": self.type.value,
        }
        if self.compensates:
            shape["compensates"] = True
        return shape


@dataclass(frozen=True, slots=True)
class HoldView:
    """A hold with everything said on it, as lists of holds and approvers see it.

    One journal may serve several projects and agents: ``project`` and ``agent`` are the action's.
    ``place`` is its place in its proposal; a single call has none.
    """

    project: str
    agent: str
    hold: Hold
    status: str
    tally: Tally
    place: Place | None = None

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
            "retries": hold.retries,
            **({} if self.place is None else self.place.to_json()),
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
    call = call_of(reader, action)
    hold = hold_of(record, action, call)
    said = count(hold, reader.approvals(record.hold_id), pinned)
    status = record.status
    if status == HoldState.PENDING:
        status = said.state(hold, now).value
    place = None
    if call.proposal is not None:
        name = planned(reader, action.uid.removesuffix("c")).id
        place = Place(call.proposal, name, call.action.type, compensates(action.uid))
    return HoldView(action.project, action.agent, hold, status, said, place)
