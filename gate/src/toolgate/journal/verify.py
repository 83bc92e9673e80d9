"""Recomputing a journal: every chain, every MAC, and that each row is where the log says it is.

What is checked, in this order:

1. the log's places are 1, 2, 3 … without a gap;
2. each run's chain starts with ``run.started`` at 1, without a gap, each event naming the hash
   before it;
3. each event's hash is that of its content, and its MAC is the journal key's;
4. each row's MAC is the journal key's;
5. each action's last event is the one that its row stands at, or its hold's row while it is held,
   each proposal's last event is the one that its row stands at; no action, hold or proposal lacks
   its row; each session was opened once, where its row says;
6. no attempt of an action was executed twice, and no idempotency key names two actions, or two
   proposals;
7. each key of a session's state was written where its row says, and nobody has written it since;
   no key that was written lacks its row;
8. each checkpoint was saved where its row says, and none lacks its row; what a session remembers,
   and what was used of a limit, stands at an event of the log;
9. each label of a session was added where its row says, and none that was added lacks its row.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from toolgate import jsonvalue
from toolgate.errors import JournalTampered
from toolgate.ir import ActionStatus
from toolgate.journal.chain import GENESIS, JournalKey, hash_of
from toolgate.journal.events import Event, EventKind
from toolgate.journal.reader import R, Reader
from toolgate.journal.records import (
    TABLES,
    ActionRecord,
    CheckpointRecord,
    HoldRecord,
    LabelRecord,
    ProposalRecord,
    ResultRecord,
    SessionRecord,
    StateRecord,
    UsageRecord,
)
from toolgate.journal.store import Store

EVERY = 4096
"""Events between two reports of progress."""

_STATE_EVENTS = frozenset(
    {
        EventKind.STATE_CHANGED,
        EventKind.STATE_ROLLED_BACK,
        EventKind.CHECKPOINT_RESTORED,
    }
)
"""The events that write a session's state."""


@dataclass(slots=True)
class Report:
    """What a verification found. ``problem`` is the first thing wrong; ``None``: all is well."""

    events: int = 0
    runs: int = 0
    rows: int = 0
    problem: str | None = None


@dataclass(slots=True)
class _Chain:
    """Where one run's chain stands."""

    n: int = 0
    head: bytes = GENESIS


@dataclass(slots=True)
class _Log:
    """What the log has said so far."""

    seq: int = 0
    chains: dict[str, _Chain] = field(default_factory=dict)
    last: dict[str, int] = field(default_factory=dict)
    opened: dict[str | None, int] = field(default_factory=dict)
    holds: set[str] = field(default_factory=set)
    attempts: dict[str, int] = field(default_factory=dict)
    proposals: dict[str | None, int] = field(default_factory=dict)
    states: dict[tuple[str | None, str], int] = field(default_factory=dict)
    checkpoints: dict[int, str | None] = field(default_factory=dict)
    labels: dict[tuple[str | None, str], int] = field(default_factory=dict)


def verify(store: Store, key: JournalKey, progress: Callable[[int], None]) -> Report:
    """Verify a journal; ``progress`` is called now and then with the number of events seen.

    The store must read a single view meanwhile (:meth:`SQLiteStore.snapshot`). Raises
    :class:`~toolgate.errors.JournalUnavailable` when it cannot be read.
    """
    report = Report()
    log = _Log()
    try:
        for event in store.events():
            _check_event(event, log, key)
            report.events += 1
            if report.events % EVERY == 0:
                progress(report.events)
        report.runs = len(log.chains)
        rows = _Rows(store, log, key)
        rows.check()
        report.rows = rows.count
    except JournalTampered as error:
        report.problem = str(error)
    report.runs = len(log.chains)
    progress(report.events)
    return report


def _check_event(event: Event, log: _Log, key: JournalKey) -> None:
    where = f"event {event.seq} ({event.kind}, run {event.run}, number {event.n})"
    if event.seq != log.seq + 1:
        raise JournalTampered(f"event {log.seq + 1} is missing: the log goes on with {where}")
    chain = log.chains.setdefault(event.run, _Chain())
    if event.n != chain.n + 1:
        raise JournalTampered(f"{where} is out of place: its run's chain stands at {chain.n}")
    if chain.n == 0 and event.kind != EventKind.RUN_STARTED:
        raise JournalTampered(f"{where} begins a chain that no run has started")
    if event.prev != chain.head:
        raise JournalTampered(f"{where} does not follow the event before it in its chain")
    try:
        digest = hash_of(event)
        if digest != event.hash:
            raise JournalTampered(f"{where} was changed: its hash is not that of its content")
        if not secrets.compare_digest(key.mac(event.hash), event.mac):
            raise JournalTampered(f"{where} was not written with the journal key")
    except TypeError:
        raise JournalTampered(f"{where} was changed: a field is of a wrong type") from None
    log.seq, chain.n, chain.head = event.seq, event.n, event.hash
    _take_down(event, where, log)


def _take_down(event: Event, where: str, log: _Log) -> None:
    """Keep what a genuine event says about the rows there must be."""
    if event.kind == EventKind.SESSION_OPENED:
        if event.session in log.opened:
            raise JournalTampered(f"{where} opens a session a second time")
        log.opened[event.session] = event.seq
    elif event.kind == EventKind.HOLD_OPENED:
        log.holds.add(jsonvalue.parse(event.data)["hold"])
    elif event.kind == EventKind.ACTION_EXECUTING and event.action is not None:
        attempt = jsonvalue.parse(event.data)["attempt"]
        if attempt <= log.attempts.get(event.action, 0):
            raise JournalTampered(f"{where} executes an attempt of an action a second time")
        log.attempts[event.action] = attempt
    elif event.kind == EventKind.PROPOSAL_RECEIVED:
        if event.action in log.proposals:
            raise JournalTampered(f"{where} receives a proposal a second time")
        log.proposals[event.action] = event.seq
    elif event.kind == EventKind.CHECKPOINT_SAVED:
        log.checkpoints[event.seq] = event.session
    elif event.kind == EventKind.LABEL_ADDED:
        label = event.session, jsonvalue.parse(event.data)["label"]
        if label in log.labels:
            raise JournalTampered(f"{where} adds a label a second time")
        log.labels[label] = event.seq
    elif event.kind in _STATE_EVENTS:
        for name in _written(event):
            log.states[event.session, name] = event.seq
    if event.action is not None:
        log.last[event.action] = event.seq


def _written(event: Event) -> Iterator[str]:
    """Yield the keys of state that an event says it wrote."""
    data = jsonvalue.parse(event.data)
    for change in (*data.get("changes", ()), *data.get("restored", ())):
        yield change if isinstance(change, str) else change["key"]


class _Rows:
    """The rows of every projection, held against the log."""

    def __init__(self, store: Store, log: _Log, key: JournalKey) -> None:
        self.count = 0
        self._store = store
        self._reader = Reader(store, key)
        self._log = log
        self._stands: dict[str, int] = {}
        self._held: set[str] = set()
        self._named: set[tuple[str, str, str, str]] = set()

    def check(self) -> None:
        """Check all of them; raises :class:`JournalTampered` at the first that is wrong."""
        self._actions()
        self._holds()
        self._sessions()
        self._proposals()
        for uid, seq in self._log.last.items():
            self._in_place(uid, seq)
        for uid in self._stands.keys() - self._log.last.keys():
            raise JournalTampered(f"{self._called(uid)} has a row, and no event speaks of it")
        self._states()
        self._checkpoints()
        self._labels()
        for result in self._all(ResultRecord):
            what = f"what session {result.session} remembers of action {result.uid}"
            self._of_session(what, result.last_seq, result.session)
            if result.uid not in self._stands:
                raise JournalTampered(f"{what} is of no action: it has no row")
        for usage in self._all(UsageRecord):
            self._event(f"the usage of {usage.name}", usage.last_seq)

    def _all(self, kind: type[R]) -> Iterator[R]:
        for row in self._store.rows(TABLES[kind]):
            try:
                yield self._reader.verified(kind, row)
            except JournalTampered:
                raise JournalTampered(
                    f"the row of {TABLES[kind]} {row[0]} was not written with the journal key, or "
                    "was changed since"
                ) from None
            self.count += 1

    def _actions(self) -> None:
        for action in self._all(ActionRecord):
            self._stands[action.uid] = action.last_seq
            if action.status == ActionStatus.HELD:
                self._held.add(action.uid)
            self._name(action)

    def _holds(self) -> None:
        for hold in self._all(HoldRecord):
            self._log.holds.discard(hold.hold_id)
            if (hold.uid in self._held) != (hold.status == "pending"):
                raise JournalTampered(
                    f"the rows of hold {hold.hold_id} and action {hold.uid} do not agree: an old "
                    "row was put back"
                )
            if hold.uid in self._held:
                # While it is held, an action's log goes on with its hold's.
                self._stands[hold.uid] = hold.last_seq
        for hold_id in self._log.holds:
            raise JournalTampered(f"the row of hold {hold_id} is missing")

    def _sessions(self) -> None:
        for session in self._all(SessionRecord):
            if self._log.opened.pop(session.session, None) != session.last_seq:
                raise JournalTampered(
                    f"no event says that session {session.session} was opened at "
                    f"{session.last_seq}: the log was cut"
                )
        for name, seq in self._log.opened.items():
            raise JournalTampered(f"the row of session {name} is missing; event {seq} speaks of it")

    def _proposals(self) -> None:
        for proposal in self._all(ProposalRecord):
            if proposal.uid not in self._log.proposals or proposal.uid in self._stands:
                raise JournalTampered(
                    f"no event says that proposal {proposal.uid} was received: the log was cut"
                )
            self._stands[proposal.uid] = proposal.last_seq
            self._name(proposal)

    def _name(self, record: ActionRecord | ProposalRecord) -> None:
        key = record.idempotency_key
        if key is not None:
            table = TABLES[type(record)]
            named = (table, record.project, record.agent, key)
            if named in self._named:
                raise JournalTampered(f"two {table}s carry the idempotency key of {record.uid}")
            self._named.add(named)

    def _in_place(self, uid: str, seq: int) -> None:
        stands = self._stands.get(uid)
        if stands is None:
            raise JournalTampered(
                f"the row of {self._called(uid)} is missing; event {seq} speaks of it"
            )
        if stands != seq:
            raise JournalTampered(
                f"the row of {self._called(uid)} stands at event {stands}, the log at {seq}: an "
                "old row was put back, or the log was cut"
            )

    def _called(self, uid: str) -> str:
        return f"{'proposal' if uid in self._log.proposals else 'action'} {uid}"

    def _states(self) -> None:
        for state in self._all(StateRecord):
            what = f"the state {state.key!r} of session {state.session}"
            event = self._of_session(what, state.last_seq, state.session)
            last = self._log.states.pop((state.session, state.key), 0)
            if event.kind not in _STATE_EVENTS or state.last_seq < last:
                raise JournalTampered(
                    f"the row of {what} stands at event {state.last_seq}, the log at {last}: an "
                    "old row was put back, or the log was cut"
                )
            if state.version == 0 and state.value is None:
                # Nobody had written it before what was undone.
                continue
            written = self._of_session(what, state.version, state.session)
            if written.kind not in _STATE_EVENTS or state.key not in _written(written):
                raise JournalTampered(f"the event {state.version} did not write {what}")
        for (session, name), seq in self._log.states.items():
            raise JournalTampered(
                f"the row of the state {name!r} of session {session} is missing; event {seq} "
                "wrote it"
            )

    def _checkpoints(self) -> None:
        saved = self._log.checkpoints
        for checkpoint in self._all(CheckpointRecord):
            if saved.pop(checkpoint.last_seq, None) != checkpoint.session:
                raise JournalTampered(
                    f"no event says that checkpoint {checkpoint.checkpoint} was saved at "
                    f"{checkpoint.last_seq}: the log was cut"
                )
        for seq in saved:
            raise JournalTampered(f"the row of a checkpoint is missing; event {seq} saved it")

    def _labels(self) -> None:
        added = self._log.labels
        for label in self._all(LabelRecord):
            if added.pop((label.session, label.label), None) != label.last_seq:
                raise JournalTampered(
                    f"no event says that session {label.session} was given the label "
                    f"{label.label!r} at {label.last_seq}: the log was cut"
                )
        for (session, name), seq in added.items():
            raise JournalTampered(
                f"the row of the label {name!r} of session {session} is missing; event {seq} "
                "added it"
            )

    def _event(self, what: str, seq: int) -> Event:
        event = self._store.event(seq) if 1 <= seq <= self._log.seq else None
        if event is None:
            raise JournalTampered(
                f"{what} stands at event {seq}, which is missing: the log was cut"
            )
        return event

    def _of_session(self, what: str, seq: int, session: str) -> Event:
        event = self._event(what, seq)
        if event.session != session:
            raise JournalTampered(f"{what} stands at event {seq}, which is of another session")
        return event
