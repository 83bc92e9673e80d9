"""A hold with everything said on it, as lists of holds and approvers see it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolgate import clock, jsonvalue
from toolgate.approvals.hold import Hold
from toolgate.approvals.tally import HoldState, Tally
from toolgate.errors import JournalTampered
from toolgate.ir import ActionType
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Reader
from toolgate.journal.records import HoldRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.answers import answers
from toolgate.kernel.edits import edited_or_not
from toolgate.kernel.places import call_of, compensates, planned
from toolgate.kernel.records import Call, edit_of, hold_of, hold_summary, proposed_args
from toolgate.kernel.redaction import Redactor
from toolgate.policy.requirement import in_words


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
class Edit:
    """Whose edit the arguments in force are, and which were ``proposed`` before.

    ``shown`` is what everybody may see of these.
    """

    by: str
    proposed: dict[str, JSONValue]
    shown: dict[str, JSONValue]


@dataclass(frozen=True, slots=True)
class HoldView:
    """A hold with everything said on it, as lists of holds and approvers see it.

    ``hold`` is what an approver decides on, with the arguments in force; ``shown`` what others may
    see of it: without what the contracts of its tools redact. ``base`` is the hold as it was
    opened, which statements are judged by.
    One journal may serve several projects and agents: ``project`` and ``agent`` are the action's.
    ``place`` is its place in its proposal; a single call has none. ``edit`` tells of the arguments
    in force that they are an approver's.
    """

    project: str
    agent: str
    hold: Hold
    shown: Hold
    base: Hold
    status: str
    tally: Tally
    place: Place | None = None
    edit: Edit | None = None

    @property
    def waits_for(self) -> str:
        """Whose approval it waits for, in words."""
        return in_words(self.tally.missing(self.hold))

    @property
    def revealed(self) -> bool:
        """Whether its approvers see all of it: for as long as they are asked."""
        return self.status == HoldState.PENDING

    @property
    def seen(self) -> Hold:
        """The hold as its approvers see it."""
        return self.hold if self.revealed else self.shown

    def to_json(self, *, reveal: bool = False) -> dict[str, JSONValue]:
        """Return the wire's shape of a hold in a list; ``reveal`` it as its approvers see it."""
        hold = self.seen if reveal else self.shown
        return {
            **hold_summary(hold, self.tally),
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
            **({} if self.edit is None else self._edited(self.edit, reveal and self.revealed)),
            **({} if self.place is None else self.place.to_json()),
        }

    def _edited(self, edit: Edit, reveal: bool) -> dict[str, JSONValue]:
        versions: list[JSONValue] = [
            {
                "digest": version.digest,
                "edited_by": version.by,
                "approved_by": list(version.approved_by),
            }
            for version in self.tally.versions
        ]
        return {
            "edited_by": edit.by,
            "proposed_args": edit.proposed if reveal else edit.shown,
            "versions": versions,
        }


def view_hold(
    reader: Reader,
    record: HoldRecord | JournalTampered,
    pinned: Mapping[str, Ed25519PublicKey],
    redactor: Redactor,
    now: int,
    *,
    unsigned: bool,
) -> HoldView:
    """Return a hold as it stands at ``now``: a deadline that has passed shows by itself.

    ``unsigned`` is that of :func:`~toolgate.approvals.tally.tally`. Raises
    :class:`JournalTampered`.
    """
    if isinstance(record, JournalTampered):
        raise record
    action = reader.action(record.uid)
    if action is None:
        raise JournalTampered(f"the action {record.uid} of hold {record.hold_id} is missing")
    proposed = call_of(reader, action)
    base = hold_of(reader, record, action, proposed)
    _, said = answers(reader, base, pinned, unsigned=unsigned)
    status = record.status
    if status == HoldState.PENDING:
        status = said.state(base, now).value
    elif status == HoldState.RELEASED:
        said = _as_released(reader, record, said)
    call = edited_or_not(proposed, said.version)
    place = None
    if call.proposal is not None:
        name = planned(reader, action.uid.removesuffix("c")).id
        place = Place(call.proposal, name, call.action.type, compensates(action.uid))
    hold = replace(base, args=call.args, digest=said.version.digest)
    shown = replace(
        hold,
        args=_shown(call, redactor),
        compensation=redactor.compensation(base.compensation),
    )
    edit, made = None, edit_of(reader, action)
    if made is not None:
        before = proposed_args(reader, action)
        edit = Edit(said.version.by or made["by"], before, before)
    elif said.version.by is not None:
        edit = Edit(said.version.by, base.args, _shown(proposed, redactor))
    return HoldView(action.project, action.agent, hold, shown, base, status, said, place, edit)


def _as_released(reader: Reader, record: HoldRecord, said: Tally) -> Tally:
    """Return who released a hold by the log's word: what lies beside it may be gone since."""
    event = reader.last_event(record.uid, EventKind.HOLD_RELEASED, record.last_seq)
    if event is None:
        return said
    data = jsonvalue.parse(event.data)
    approved, unsigned = tuple(data["approved_by"]), tuple(data.get("unsigned", ()))
    last = replace(said.version, approved_by=approved, unsigned=unsigned)
    return replace(said, versions=(*said.versions[:-1], last))


def _shown(call: Call, redactor: Redactor) -> dict[str, JSONValue]:
    """Return a call's arguments as everybody may see them."""
    redaction = call.redaction or redactor.checked(call.tool, call.args)
    return call.args if redaction is None else redaction.args
