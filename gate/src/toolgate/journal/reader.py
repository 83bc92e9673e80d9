"""Verified reading: what comes out of the store is checked before anybody acts on it.

The rule: every record is built from its row and sealed again, and the row's MAC must be that of
these bytes under the journal key (the order they are in is told in
:mod:`toolgate.journal.records`). One row that does not verify makes the whole answer
:class:`~toolgate.errors.JournalTampered`, except where a method says that it leaves such rows out.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from typing import TypeVar

from toolgate.errors import JournalTampered
from toolgate.journal.chain import JournalKey, hash_of
from toolgate.journal.events import Event, EventKind
from toolgate.journal.records import (
    TABLES,
    ActionRecord,
    ApprovalRow,
    CheckpointRecord,
    HoldRecord,
    LabelRecord,
    ProposalRecord,
    ResultRecord,
    SessionRecord,
    StateRecord,
    UsageRecord,
)
from toolgate.journal.store import Row, Store

R = TypeVar(
    "R",
    ActionRecord,
    HoldRecord,
    SessionRecord,
    ProposalRecord,
    StateRecord,
    ResultRecord,
    UsageRecord,
    CheckpointRecord,
    LabelRecord,
)


class Reader:
    """Verified reading: every row is checked against its MAC before anybody sees it."""

    def __init__(self, store: Store, key: JournalKey) -> None:
        """``key`` must be the one the journal was made with (see :func:`check_key`)."""
        self.store = store
        self._mac = key.mac

    def action(self, uid: str) -> ActionRecord | None:
        """Return an action by its uid; raises :class:`JournalTampered`."""
        return self._get(ActionRecord, uid)

    def action_by_key(self, project: str, agent: str, key: str) -> ActionRecord | None:
        """Return the action an idempotency key names; raises :class:`JournalTampered`."""
        record = self._record(ActionRecord, self.store.action_by_key(project, agent, key))
        if record is not None and record.idempotency_key != key:
            raise JournalTampered(f"the action {record.uid} does not carry the key asked for")
        return record

    def actions_of(self, proposal: str) -> list[ActionRecord]:
        """Return a proposal's actions that have a row, by uid; raises :class:`JournalTampered`.

        They are those whose uids begin with its uid and a hyphen, compensations among them; the
        order is not the listed one (``-10`` comes before ``-2``).
        """
        return self._records(ActionRecord, self.store.actions_of(proposal))

    def action_by_content(self, session: str, content: str) -> ActionRecord | None:
        """Return a session's latest action of this content that is held, or a person denied."""
        return self._record(ActionRecord, self.store.action_by_content(session, content))

    def executing(self) -> Iterator[ActionRecord]:
        """Iterate over the actions that are executing; rows that do not verify are left out."""
        return self._genuine(ActionRecord, self.store.executing())

    def hold(self, hold_id: str) -> HoldRecord | None:
        """Return a hold; raises :class:`JournalTampered`."""
        return self._get(HoldRecord, hold_id)

    def holds(
        self, status: str | None, limit: int, after: str | None
    ) -> list[tuple[str, HoldRecord | JournalTampered]]:
        """Return holds, by id, in the order they were opened; one that does not verify says so."""
        return self._page(HoldRecord, self.store.holds(status, limit, after))

    def proposals(
        self, status: str | None, limit: int, after: str | None
    ) -> list[tuple[str, ProposalRecord | JournalTampered]]:
        """Return proposals, by uid, in the order they came; one that does not verify says so."""
        return self._page(ProposalRecord, self.store.proposals(status, limit, after))

    def session(self, session: str) -> SessionRecord | None:
        """Return a session; raises :class:`JournalTampered`."""
        return self._get(SessionRecord, session)

    def proposal(self, uid: str) -> ProposalRecord | None:
        """Return a proposal by its uid; raises :class:`JournalTampered`."""
        return self._get(ProposalRecord, uid)

    def proposal_by_key(self, project: str, agent: str, key: str) -> ProposalRecord | None:
        """Return the proposal an idempotency key names; raises :class:`JournalTampered`.

        Proposals' keys and single actions' keys do not meet: the same key may name one of each.
        """
        record = self._record(ProposalRecord, self.store.proposal_by_key(project, agent, key))
        if record is not None and record.idempotency_key != key:
            raise JournalTampered(f"the proposal {record.uid} does not carry the key asked for")
        return record

    def proposals_named(self, proposal_id: str) -> list[ProposalRecord]:
        """Return the proposals that have this id of their proposers', in the order they came.

        Nothing makes such an id unique. Raises :class:`JournalTampered`.
        """
        return self._records(ProposalRecord, self.store.proposals_named(proposal_id))

    def running_proposals(self) -> Iterator[ProposalRecord]:
        """Iterate over the proposals that are running; rows that do not verify are left out."""
        return self._genuine(ProposalRecord, self.store.running_proposals())

    def state(self, session: str, key: str) -> StateRecord | None:
        """Return one key of a session's state; raises :class:`JournalTampered`.

        ``None``: nobody has ever written it. A key that is absent *again* has a record without a
        value.
        """
        return self._get(StateRecord, session, key)

    def states(self, session: str) -> list[StateRecord]:
        """Return a session's state, in the order of the keys; raises :class:`JournalTampered`.

        Keys that are absent again are among them, without a value.
        """
        return self._records(StateRecord, self.store.states(session))

    def result(self, session: str, content: str) -> ResultRecord | None:
        """Return what a session remembers of a content; raises :class:`JournalTampered`."""
        return self._get(ResultRecord, session, content)

    def usage(self, name: str) -> UsageRecord | None:
        """Return what has been used of a limit; raises :class:`JournalTampered`."""
        return self._get(UsageRecord, name)

    def checkpoint(self, checkpoint: str) -> CheckpointRecord | None:
        """Return a checkpoint by its id; raises :class:`JournalTampered`."""
        return self._get(CheckpointRecord, checkpoint)

    def labels(self, session: str) -> list[LabelRecord]:
        """Return the labels of a session, in their order; raises :class:`JournalTampered`.

        So it does when the log tells of more of them: rows that are taken away are missed.
        """
        found = self._records(LabelRecord, self.store.labels(session))
        if len(found) < self.store.labels_added(session):
            raise JournalTampered(
                f"session {session} has fewer labels than its log tells of: rows of the table "
                "label are missing; nothing was done on their word"
            )
        return found

    def actions_since(self, session: str, uid: str) -> Iterator[ActionRecord]:
        """Iterate over a session's actions from a uid on; raises :class:`JournalTampered`."""
        return (self.verified(ActionRecord, row) for row in self.store.actions_since(session, uid))

    def approvals(self, hold: str) -> list[ApprovalRow]:
        """Return the envelopes received for a hold; nothing about them is verified here."""
        return self.store.approvals(hold)

    def last_seq_of(self, action: str) -> int:
        """Return the place of the last event about an action, 0 when there is none."""
        return self.store.last_seq_of(action)

    def event(self, seq: int) -> Event:
        """Return one event, verified; raises :class:`JournalTampered` when missing or wrong."""
        event = self.store.event(seq)
        if event is None:
            raise JournalTampered(f"the event {seq} is missing from the journal")
        return self._verified(event)

    def last_event(self, action: str, kind: EventKind) -> Event | None:
        """Return an action's last event of a kind, verified; raises :class:`JournalTampered`."""
        event = self.store.last_event(action, kind)
        return None if event is None else self._verified(event)

    def genuine(self, event: Event) -> bool:
        """Tell whether an event was written with the journal key, and not changed since."""
        try:
            return secrets.compare_digest(hash_of(event), event.hash) and (
                secrets.compare_digest(self._mac(event.hash), event.mac)
            )
        except TypeError:
            return False

    def _verified(self, event: Event) -> Event:
        if not self.genuine(event):
            raise JournalTampered(f"the event {event.seq} does not verify under the journal key")
        return event

    def verified(self, kind: type[R], row: Row) -> R:
        """Return the record of a row; raises :class:`JournalTampered` when its MAC is wrong."""
        record = kind(*row[:-1])
        try:
            genuine = secrets.compare_digest(self._mac(record.sealed()), row[-1])
        except TypeError:
            genuine = False
        if not genuine:
            raise JournalTampered(
                f"the row of {TABLES[kind]} {row[0]!r} does not verify under the journal key; "
                "nothing was done on its word (`toolgate journal verify` tells what else is wrong)"
            )
        return record

    def _get(self, kind: type[R], *key: str) -> R | None:
        record = self._record(kind, self.store.get(TABLES[kind], *key))
        if record is not None and record[: len(key)] != key:
            raise JournalTampered(
                f"the store answered {key!r} with the row of {record[: len(key)]!r}"
            )
        return record

    def _record(self, kind: type[R], row: Row | None) -> R | None:
        return None if row is None else self.verified(kind, row)

    def _records(self, kind: type[R], rows: Iterable[Row]) -> list[R]:
        return [self.verified(kind, row) for row in rows]

    def _page(self, kind: type[R], rows: Iterable[Row]) -> list[tuple[str, R | JournalTampered]]:
        found: list[tuple[str, R | JournalTampered]] = []
        for row in rows:
            try:
                found.append((row[0], self.verified(kind, row)))
            except JournalTampered as error:
                found.append((row[0], error))
        return found

    def _genuine(self, kind: type[R], rows: Iterable[Row]) -> Iterator[R]:
        for row in rows:
            try:
                yield self.verified(kind, row)
            except JournalTampered:
                continue
