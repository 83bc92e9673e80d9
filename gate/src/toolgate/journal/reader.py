"""Verified reading: what comes out of the store is checked before anybody acts on it.

The rule: every record is built from its row and sealed again, and the row's MAC must be that of
these bytes under the journal key (the order they are in is told in
:mod:`toolgate.journal.records`). One row that does not verify makes the whole answer
:class:`~toolgate.errors.JournalTampered`, except where a method says that it leaves such rows out.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from toolgate import jsonvalue
from toolgate.errors import JournalTampered
from toolgate.journal import links
from toolgate.journal.chain import JournalKey, hash_of
from toolgate.journal.events import Event, EventKind
from toolgate.journal.heads import BESIDE, FOLLOWS, Heads
from toolgate.journal.memory import Marks, Memory, Seen
from toolgate.journal.names import key_name, removals_name
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

LASTING: Final = (ActionRecord, HoldRecord, ProposalRecord, SessionRecord, UsageRecord)
"""The records whose rows only move on, and are never deleted; the first column names each.

None of them is believed where it stands earlier than it was seen to stand, or is gone.
"""

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

N = TypeVar("N", ActionRecord, ProposalRecord)


class Reader:
    """Verified reading: every row is checked against its MAC before anybody sees it."""

    def __init__(self, store: Store, key: JournalKey, anchor: Marks | None = None) -> None:
        """``key`` must be the one the journal was made with (see :func:`check_key`).

        ``anchor`` remembers what others have seen.
        """
        self.store = store
        self._mac = key.mac
        self.redacting = key.derived("redaction").mac
        """HMAC-SHA256 under the key for what is shown in place of secrets."""
        self.memory = Memory(anchor)
        """What was seen of the log, and may not be gone."""
        self.heads = Heads(store, self.verified_event, self.memory)
        """Where the log says that a session's state was written."""

    @contextmanager
    def view(self) -> Iterator[None]:
        """Read one unchanging view of the journal inside."""
        with self.memory.view(), self.store.view():
            yield

    def action(self, uid: str) -> ActionRecord | None:
        """Return an action by its uid; raises :class:`JournalTampered`."""
        return self._get(ActionRecord, uid)

    def action_by_key(self, project: str, agent: str, key: str) -> ActionRecord | None:
        """Return the action an idempotency key names; raises :class:`JournalTampered`."""
        return self._named(ActionRecord, self.store.action_by_key, project, agent, key)

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

    def actions(
        self,
        project: str,
        status: str | None,
        tool: str | None,
        session: str | None,
        limit: int,
        after: str | None,
        *,
        newest_first: bool,
    ) -> list[tuple[str, ActionRecord | JournalTampered]]:
        """Return a project's actions, by uid; one that does not verify says so."""
        rows = self.store.actions(
            project, status, tool, session, limit, after, newest_first=newest_first
        )
        return self._page(ActionRecord, rows)

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
        return self._named(ProposalRecord, self.store.proposal_by_key, project, agent, key)

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
        with self.store.view():
            log = self.heads.of(session).get(key, 0)
            record = self._get(StateRecord, session, key)
        stands = 0 if record is None else record.last_seq
        if stands != log:
            raise set_back(f"the state {key!r} of session {session}", stands, log)
        return record

    def states(self, session: str) -> list[StateRecord]:
        """Return a session's state, in the order of the keys; raises :class:`JournalTampered`.

        Keys that are absent again are among them, without a value.
        """
        with self.store.view():
            log = self.heads.of(session)
            found = self._records(StateRecord, self.store.states(session))
        stand = {record.key: record.last_seq for record in found}
        if stand != log:
            key = next(key for key in sorted({*stand, *log}) if stand.get(key) != log.get(key))
            what = f"the state {key!r} of session {session}"
            raise set_back(what, stand.get(key, 0), log.get(key, 0))
        return found

    def result(self, session: str, content: str) -> ResultRecord | None:
        """Return what a session remembers of a content; raises :class:`JournalTampered`."""
        what: Seen = "result", session, content
        seen, gone = self.memory.last(what), self.memory.noted(("forgotten", session, content))
        record = self._get(ResultRecord, session, content)
        stands = 0 if record is None else record.last_seq
        if seen > gone and not stands and self._rolled_back_since(seen):
            return None
        if (stands < seen and (stands or seen > gone)) or 0 < stands <= gone:
            raise set_back(f"what session {session} remembers of a call", stands, max(seen, gone))
        if stands > seen:
            self.memory.saw(what, stands)
        return record

    def _rolled_back_since(self, seq: int) -> bool:
        """Tell whether the proposal was rolled back whose action ended at ``seq``.

        Its results are forgotten then. The one who did that may not have written it down yet.
        """
        ended = self.store.event(seq)
        if ended is None or ended.action is None or not self.genuine(ended):
            return False
        proposal = self.proposal(ended.action.partition("-")[0])
        if proposal is None:
            return False
        done = self.last_event(proposal.uid, EventKind.STATE_ROLLED_BACK, proposal.last_seq)
        return done is not None and done.seq > seq

    def usage(self, name: str) -> UsageRecord | None:
        """Return what has been used of a limit; raises :class:`JournalTampered`."""
        with self.store.view():
            record = self._get(UsageRecord, name)
            log = self.store.last_seq_of(name)
        # An older program counted without an event: of what it wrote the log says nothing.
        if log and (record is None or record.last_seq != log):
            raise set_back(_called(UsageRecord, name), _place(record), log)
        return record

    def checkpoint(self, checkpoint: str) -> CheckpointRecord | None:
        """Return a checkpoint by its id; raises :class:`JournalTampered`."""
        return self._get(CheckpointRecord, checkpoint)

    def labels(self, session: str) -> list[LabelRecord]:
        """Return the labels of a session, in their order; raises :class:`JournalTampered`.

        The last event that gave it one tells where each was given last, and each row stands there,
        but for those that an approver has taken away. So rows that are taken out of the store are
        missed, and so are older ones put back in their place, and events that are not there any
        more.
        """
        with self.store.view():
            told = self._labels_told(session)
            found = self._records(LabelRecord, self.store.labels(session))
            stand = {record.label: record.last_seq for record in found}
            if stand != told:
                removed = self.removed_labels(session)
                told = {label: seq for label, seq in told.items() if seq not in removed}
        if stand != told:
            raise JournalTampered(
                f"the labels of session {session} are not those its log tells of: rows of the "
                "table label are missing, or were put back; nothing was done on their word"
            )
        return found

    def _labels_told(self, session: str) -> dict[str, int]:
        """Return where a session was given each label last, those besides that it has lost since.

        Raises :class:`JournalTampered`.
        """
        # Asked first: what others do meanwhile moves the log on, never back.
        what = ("label", session, "")
        seen = self.memory.last(what)
        last = self.store.last_label_event(session)
        if last < seen:
            raise _labels_hidden(session)
        if not last:
            return {}
        if last > seen:
            self.memory.saw(what, last)
        told = jsonvalue.parse(self.event(last).data)
        if BESIDE in told:
            return {**told[BESIDE], told["label"]: last}
        # An older program told of no others.
        places: dict[str, int] = {}
        before = 0
        for seq in self.store.labels_added(session):
            told = jsonvalue.parse(self.event(seq).data)
            if told.get(FOLLOWS, before) != before:
                raise _labels_hidden(session)
            places[told["label"]] = before = seq
        return places

    def removed_labels(self, session: str) -> dict[int, str]:
        """Return the labels that were taken away from a session, by the places they were added at.

        Raises :class:`JournalTampered`.
        """
        told = [e for e in self.log(removals_name(session), 0) if e.kind == EventKind.LABEL_REMOVED]
        data = [jsonvalue.parse(event.data) for event in told]
        return {item["added"]: item["label"] for item in data}

    def actions_since(self, session: str, uid: str) -> Iterator[ActionRecord]:
        """Iterate over a session's actions from a uid on; raises :class:`JournalTampered`."""
        return (self._believed(ActionRecord, row) for row in self.store.actions_since(session, uid))

    def approvals(self, hold: str) -> list[ApprovalRow]:
        """Return the envelopes received for a hold; nothing about them is verified here."""
        return self.store.approvals(hold)

    def last_approval(self) -> int:
        """Return the number of the last approval received, 0 when there is none."""
        return self.store.last_approval()

    def held(self, project: str, agent: str, most: int) -> int:
        """Return how many actions of an agent are held, counted up to ``most``.

        Nothing about them is verified: whoever can write the store can keep an agent from asking.
        """
        return self.store.held(project, agent, most)

    def last_seq_of(self, action: str) -> int:
        """Return the place of the last event about an action, 0 when there is none."""
        return self.store.last_seq_of(action)

    def event(self, seq: int) -> Event:
        """Return one event, verified; raises :class:`JournalTampered` when missing or wrong."""
        event = self.store.event(seq)
        if event is None:
            raise JournalTampered(f"the event {seq} is missing from the journal")
        return self.verified_event(event)

    def log(self, name: str, stands: int) -> list[Event]:
        """Return all events about an action or a proposal, in order, verified.

        ``stands`` is the place at which its row stands, or its hold's: the log goes that far. 0 for
        what has no row, where nothing tells that the newest are missing. Raises
        :class:`JournalTampered`, also for a gap (:mod:`toolgate.journal.links`).
        """
        # All of it is read first: an error amid a look-up would leave it open, and the lock taken.
        events = [self.verified_event(event) for event in list(self.store.events(action=name))]
        links.check(name, events, stands)
        return events

    def last_event(self, name: str, kind: EventKind, stands: int) -> Event | None:
        """Return the last event of a kind in a :meth:`log`; raises :class:`JournalTampered`."""
        events = [event for event in self.log(name, stands) if event.kind == kind]
        return events[-1] if events else None

    def genuine(self, event: Event) -> bool:
        """Tell whether an event was written with the journal key, and not changed since."""
        try:
            return secrets.compare_digest(hash_of(event), event.hash) and (
                secrets.compare_digest(self._mac(event.hash), event.mac)
            )
        except TypeError:
            return False

    def verified_event(self, event: Event) -> Event:
        """Return an event of the store that is genuine; raises :class:`JournalTampered`."""
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
        # Asked first: what others do meanwhile moves a row on, never back.
        seen = self._seen(kind, key[0])
        record = self._checked(kind, self.store.get(TABLES[kind], *key))
        if record is not None and record[: len(key)] != key:
            raise JournalTampered(
                f"the store answered {key!r} with the row of {record[: len(key)]!r}"
            )
        stands = _place(record)
        if stands < seen:
            raise set_back(_called(kind, key[0]), stands, seen)
        if kind in LASTING and stands > seen:
            self.memory.saw((TABLES[kind], key[0], ""), stands)
        return record

    def _seen(self, kind: type[Any], name: str) -> int:
        return self.memory.last((TABLES[kind], name, "")) if kind in LASTING else 0

    def _named(
        self, kind: type[N], find: Callable[[str, str, str], Row | None], *named: str
    ) -> N | None:
        name = key_name(kind, *named)
        with self.store.view():
            seen = self.memory.last(("key", name, ""))
            record = self._record(kind, find(*named))
            claimed = record is None and max(self.store.last_seq_of(name), seen)
        if claimed:
            raise JournalTampered(
                f"the idempotency key {named[-1]!r} is taken since event {claimed}, and the row of "
                f"the {TABLES[kind]} that it names is missing: nothing is run under it again"
            )
        if record is not None and (record.project, record.agent, record.idempotency_key) != named:
            raise JournalTampered(
                f"the {TABLES[kind]} {record.uid} does not carry the key asked for"
            )
        if record is not None and not seen:
            self.memory.saw(("key", name, ""), record.last_seq)
        return record

    def _checked(self, kind: type[R], row: Row | None) -> R | None:
        return None if row is None else self.verified(kind, row)

    def _record(self, kind: type[R], row: Row | None) -> R | None:
        return None if row is None else self._believed(kind, row)

    def _records(self, kind: type[R], rows: Iterable[Row]) -> list[R]:
        return [self._believed(kind, row) for row in rows]

    def _believed(self, kind: type[R], row: Row) -> R:
        """Return the record of a row that was found by something else than its key."""
        record = self.verified(kind, row)
        if record.last_seq < self._seen(kind, row[0]):
            # The anchor was asked last: another gate may have moved the row on since it was read.
            record = self._get(kind, row[0]) or record
        return record

    def _page(self, kind: type[R], rows: Iterable[Row]) -> list[tuple[str, R | JournalTampered]]:
        found: list[tuple[str, R | JournalTampered]] = []
        for row in rows:
            try:
                found.append((row[0], self._believed(kind, row)))
            except JournalTampered as error:
                found.append((row[0], error))
        return found

    def _genuine(self, kind: type[R], rows: Iterable[Row]) -> Iterator[R]:
        for row in rows:
            try:
                yield self._believed(kind, row)
            except JournalTampered:
                continue


def _labels_hidden(session: str) -> JournalTampered:
    return JournalTampered(
        f"events that gave session {session} a label are missing from the log: what it was given "
        "nobody knows any more, and nothing is decided"
    )


def _place(record: Any) -> int:
    return 0 if record is None else int(record.last_seq)


def _called(kind: type[Any], name: str) -> str:
    if kind is UsageRecord:
        return f"what is used of the limit {name}"
    return f"the {TABLES[kind]} {name!r}"


def set_back(what: str, stands: int, log: int) -> JournalTampered:
    """Return the refusal of what stands earlier (0: nowhere) than the log says."""
    how = f"stands at event {stands}" if stands else "is missing"
    return JournalTampered(
        f"the row of {what} {how}, and the log at {log}: an old row was put back, a row was taken "
        "away, or the log was cut; nothing was done on its word"
    )
