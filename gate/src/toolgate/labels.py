"""The operator's side of a session's labels: see them, and take one away with a signature.

A removal is judged here by the very rules the gate judges it by. The gate judges again, when a rule
asks for the session's labels: what lies in the store is not trusted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from toolgate import clock
from toolgate.approvals import unlabelling
from toolgate.approvals.tally import Received
from toolgate.approvals.unlabelling import Labelled
from toolgate.config import GateConfig
from toolgate.deployment import pinned_keys, signing_key
from toolgate.errors import ApprovalError
from toolgate.journal.names import removals_name
from toolgate.journal.opening import inspect_journal
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.unlabelling import labelled, unheard


@dataclass(frozen=True, slots=True)
class LabelView:
    """A session's label. ``removed_by``: an approver has taken it away, which is not taken in."""

    labelled: Labelled
    removed_by: str | None

    def to_json(self) -> dict[str, JSONValue]:
        """Return it for machines; ``added`` is a place in the log."""
        return {**self.labelled.fields(), "removed_by": self.removed_by}


class Labels:
    """The labels of one project's sessions, for the people who answer for them."""

    def __init__(self, config: GateConfig) -> None:
        """Open the deployment's journal; raises :class:`~toolgate.errors.JournalError`."""
        self._config = config
        self._journal = inspect_journal(config, anchored=True)
        self._pinned = pinned_keys(config)

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def of(self, session: str) -> list[LabelView]:
        """Return a session's labels, sorted; raises :class:`ApprovalError` for an unknown one."""
        reader = self._journal.reader
        record = reader.session(session)
        if record is None or record.project != self._config.project:
            raise ApprovalError(f"the project {self._config.project} has no session {session!r}")
        labels = [labelled(row) for row in reader.labels(session)]
        rows = unheard(reader, session)
        said = [Received(row.seq, row.envelope, row.at) for row in rows]
        removals = unlabelling.judge(labels, said, self._pinned).removals
        gone = {removal.labelled.label: removal.approver for removal in removals}
        return [LabelView(label, gone.get(label.label)) for label in labels]

    def remove(
        self, session: str, label: str, approver: str, key_file: Path, reason: str | None = None
    ) -> list[LabelView]:
        """Sign that a session's label goes, put that into the store, and return its labels.

        Raises :class:`ApprovalError` when it would not count; then nothing is written.
        """
        found = next((view for view in self.of(session) if view.labelled.label == label), None)
        if found is None:
            raise ApprovalError(f"the session {session} does not have the label {label!r}")
        if found.removed_by is not None:
            raise ApprovalError(
                f"{found.removed_by} has taken the label {label!r} away already: it goes when a "
                "rule asks for the session's labels next"
            )
        key = signing_key(self._pinned, approver, key_file)
        now = clock.now()
        envelope = unlabelling.sign(found.labelled, approver, key, now, reason)
        mine = unlabelling.judge([found.labelled], [Received(1, envelope, now)], self._pinned)
        if mine.refused:
            raise ApprovalError(mine.refused[0].reason)
        self._journal.store.add_approval(removals_name(session), envelope, now)
        return self.of(session)
