"""What has become of a recorded call since policy was asked of it: its hold, and how it stands."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from toolgate import clock
from toolgate.config import GateConfig
from toolgate.deployment import pinned_keys
from toolgate.errors import JournalTampered
from toolgate.journal.opening import Inspection
from toolgate.journal.records import ActionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.holds import HoldView, view_hold
from toolgate.kernel.records import redactor_of


@dataclass(frozen=True, slots=True)
class Became:
    """How an action stands now; ``hold`` is that of one that was held."""

    record: ActionRecord
    hold: HoldView | None

    def sentences(self) -> Iterator[str]:
        """Say it for people."""
        if self.hold is not None:
            yield f"It was held as {self.hold.hold.hold_id}: {_hold(self.hold)}."
        record = self.record
        kind = "" if record.kind in (None, record.status) else f" ({record.kind})"
        yield f"The action is now {record.status}{kind}."

    def to_json(self) -> dict[str, JSONValue]:
        """Return it for machines."""
        return {
            "status": self.record.status,
            "kind": self.record.kind,
            "hold": None if self.hold is None else self.hold.to_json(),
        }


def became(journal: Inspection, config: GateConfig, uid: str) -> Became:
    """Return what has become of an action; raises :class:`JournalTampered`.

    Also raises :class:`~toolgate.errors.ConfigError` when a pinned key of the config is none.
    """
    reader = journal.reader
    record = reader.action(uid)
    if record is None:
        raise JournalTampered(f"the row of action {uid} is missing")
    if record.hold is None:
        return Became(record, None)
    held = reader.hold(record.hold)
    if held is None:
        raise JournalTampered(f"the hold {record.hold} of action {uid} is missing")
    view = view_hold(
        reader,
        held,
        pinned_keys(config),
        redactor_of(config, reader),
        clock.now(),
        unsigned=config.approvals.allow_unsigned,
    )
    return Became(record, view)


def _hold(view: HoldView) -> str:
    hold, said = view.hold, view.tally
    limit = "without a deadline"
    if hold.deadline is not None:
        limit = f"deadline {clock.to_text(hold.deadline)}"
    told = [f"{view.status}, {limit}"]
    told.append(f"approved by {', '.join(said.approved_by) or 'nobody'}")
    if (denial := said.denial) is not None:
        told.append(f"denied by {denial.approver}")
    return "; ".join(told)
