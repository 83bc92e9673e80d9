"""The operator's side of actions: look at them, and settle those in doubt with a signature.

A settlement is judged here by the very rules the gate judges it by, so that whoever signs one
learns at once when it would not count. The gate judges again, when somebody resumes the action:
what lies in the store is not trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolgate import clock
from toolgate.approvals import settlement
from toolgate.approvals.settlement import Doubt, Judged, SettledAs
from toolgate.config import GateConfig, SqliteJournal
from toolgate.deployment import pinned_keys, signing_key
from toolgate.errors import ApprovalError, JournalTampered
from toolgate.ir import ActionStatus
from toolgate.journal.events import Event
from toolgate.journal.liveness import Liveness
from toolgate.journal.opening import inspect_journal, runs_folder
from toolgate.journal.records import ActionRecord, ApprovalRow
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.places import proposal_uid
from toolgate.kernel.records import shown_args
from toolgate.kernel.settling import doubt_of, judge


@dataclass(frozen=True, slots=True)
class ActionView:
    """One action as its row has it. ``gate_gone``: it is executing, and nobody runs it any more."""

    record: ActionRecord
    gate_gone: bool

    def to_json(self) -> dict[str, JSONValue]:
        """Return it for machines: never with its row's arguments, which may be secret."""
        record = self.record
        return {
            "uid": record.uid,
            "proposal": proposal_uid(record.uid),
            "tool": record.tool,
            "status": record.status,
            "kind": record.kind,
            "agent": record.agent,
            "session": record.session,
            "attempts": record.attempts,
            "hold": record.hold,
            "idempotency_key": record.idempotency_key,
            "run": record.run,
            "gate_gone": self.gate_gone,
            "created_at": clock.to_text(record.created_at),
        }


@dataclass(frozen=True, slots=True)
class ActionStory:
    """One action with all that the log tells of it.

    ``args`` are its arguments as the log shows them. ``doubt`` and ``judged`` are there while it is
    in doubt: what lies beside it and is not taken in yet.
    """

    view: ActionView
    args: dict[str, JSONValue]
    events: tuple[Event, ...]
    doubt: Doubt | None
    judged: Judged | None


class Actions:
    """One project's actions, for the people who answer for them."""

    def __init__(self, config: GateConfig) -> None:
        """Open the deployment's journal; raises :class:`~toolgate.errors.JournalError`."""
        self._config = config
        self._journal = inspect_journal(config, anchored=True)
        self._pinned = pinned_keys(config)
        journal = config.journal
        folder = runs_folder(journal.path) if isinstance(journal, SqliteJournal) else None
        self._liveness = Liveness(folder)

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def page(
        self,
        status: ActionStatus | None,
        tool: str | None,
        session: str | None,
        limit: int,
        after: str | None,
        *,
        newest_first: bool,
    ) -> tuple[list[ActionView], list[JournalTampered], str | None]:
        """Return a page of actions, what is wrong with those left out, and where the next begins.

        ``None`` for the next: there are no more.
        """
        found = self._journal.reader.actions(
            self._config.project,
            None if status is None else status.value,
            tool,
            session,
            limit,
            after,
            newest_first=newest_first,
        )
        views = [self._view(item) for _, item in found if isinstance(item, ActionRecord)]
        wrong = [item for _, item in found if isinstance(item, JournalTampered)]
        return views, wrong, found[-1][0] if len(found) == limit else None

    def find(self, uid: str) -> ActionStory:
        """Return an action with its story; raises :class:`ApprovalError` when there is none."""
        store, reader = self._journal.store, self._journal.reader
        with reader.view():
            record = reader.action(uid)
            if record is None or record.project != self._config.project:
                raise ApprovalError(f"the project {self._config.project} has no action {uid!r}")
            doubt = judged = None
            if record.status == ActionStatus.IN_DOUBT:
                doubt = doubt_of(reader, record, self._pinned)
                judged = judge(doubt, reader.approvals(doubt.subject), self._pinned)
            events = tuple(store.events(action=uid))
            return ActionStory(
                self._view(record), shown_args(reader, record), events, doubt, judged
            )

    def genuine(self, event: Event) -> bool:
        """Tell whether an event was written with the journal key, and not changed since."""
        return self._journal.reader.genuine(event)

    def settle(
        self,
        uid: str,
        outcome: SettledAs,
        approver: str,
        key_file: Path,
        reason: str | None = None,
        output: JSONValue = None,
    ) -> ActionStory:
        """Sign what became of an action in doubt, and put that beside it, durably.

        Raises :class:`ApprovalError` when it would not count, saying why; then nothing is written.
        """
        story = self.find(uid)
        doubt = story.doubt
        if doubt is None:
            raise ApprovalError(_not_in_doubt(story.view))
        key = signing_key(self._pinned, approver, key_file)
        now = clock.now()
        envelope = settlement.sign(doubt, outcome, approver, key, now, reason, output)
        rows = self._journal.reader.approvals(doubt.subject)
        mine = max((row.seq for row in rows), default=0) + 1
        judged = judge(doubt, [*rows, ApprovalRow(mine, "", envelope, now)], self._pinned)
        refused = next((r.reason for r in judged.refused if r.seq == mine), None)
        if refused is not None:
            raise ApprovalError(refused)
        self._journal.store.add_approval(doubt.subject, envelope, now)
        return self.find(uid)

    def _view(self, record: ActionRecord) -> ActionView:
        executing = record.status == ActionStatus.EXECUTING
        gone = executing and (record.run is None or not self._liveness.alive(record.run))
        return ActionView(record, gone)


def _not_in_doubt(view: ActionView) -> str:
    record = view.record
    if view.gate_gone:
        return (
            f"the gate that ran action {record.uid} is gone, and no gate has looked since: start "
            "one, or resume the action; then it is in doubt, and can be settled"
        )
    return f"the action {record.uid} is {record.status}, not in doubt: there is nothing to settle"
