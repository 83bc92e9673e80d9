"""Recomputing a journal: every chain, every MAC, and that each row is where the log says it is.

What is checked, in this order:

1. the log's places are 1, 2, 3 … without a gap;
2. each run's chain starts with ``run.started`` at 1, without a gap, each event naming the hash
   before it;
3. each event's hash is that of its content, and its MAC is the journal key's;
4. each row's MAC is the journal key's;
5. each action's last event is the one that its row stands at, or its hold's row while it is held;
   no action and no hold lacks its row; each session was opened once, where its row says;
6. no action was executed twice, and no idempotency key names two actions.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from toolgate import jsonvalue
from toolgate.errors import JournalTampered
from toolgate.ir import ActionStatus
from toolgate.journal.chain import GENESIS, JournalKey, hash_of
from toolgate.journal.events import Event, EventKind
from toolgate.journal.records import ActionRecord, HoldRecord, SessionRecord
from toolgate.journal.store import Row, Store

EVERY = 4096
"""Events between two reports of progress."""


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
    executed: set[str] = field(default_factory=set)


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
        report.rows = _check_rows(store, log, key)
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
    if event.kind == EventKind.SESSION_OPENED:
        if event.session in log.opened:
            raise JournalTampered(f"{where} opens a session a second time")
        log.opened[event.session] = event.seq
    elif event.kind == EventKind.HOLD_OPENED:
        log.holds.add(jsonvalue.parse(event.data)["hold"])
    elif event.kind == EventKind.ACTION_EXECUTING and event.action is not None:
        if event.action in log.executed:
            raise JournalTampered(f"{where} executes an action a second time")
        log.executed.add(event.action)
    if event.action is not None:
        log.last[event.action] = event.seq


def _check_rows(store: Store, log: _Log, key: JournalKey) -> int:
    stands: dict[str, int] = {}
    held: set[str] = set()
    keys: set[tuple[str, str, str]] = set()
    rows = 0
    for row in store.rows("action"):
        action = ActionRecord(*row[:-1])
        _check_row(f"the row of action {action.uid}", action, row, key)
        stands[action.uid] = action.last_seq
        if action.status == ActionStatus.HELD:
            held.add(action.uid)
        if action.idempotency_key is not None:
            named = (action.project, action.agent, action.idempotency_key)
            if named in keys:
                raise JournalTampered(f"two actions carry the idempotency key of {action.uid}")
            keys.add(named)
        rows += 1
    for row in store.rows("hold"):
        hold = HoldRecord(*row[:-1])
        _check_row(f"the row of hold {hold.hold_id}", hold, row, key)
        log.holds.discard(hold.hold_id)
        if (hold.uid in held) != (hold.status == "pending"):
            raise JournalTampered(
                f"the rows of hold {hold.hold_id} and action {hold.uid} do not agree: an old row "
                "was put back"
            )
        if hold.uid in held:
            # While it is held, an action's log goes on with its hold's.
            stands[hold.uid] = hold.last_seq
        rows += 1
    for row in store.rows("session"):
        session = SessionRecord(*row[:-1])
        _check_row(f"the row of session {session.session}", session, row, key)
        if log.opened.pop(session.session, None) != session.last_seq:
            raise JournalTampered(
                f"no event says that session {session.session} was opened at {session.last_seq}: "
                "the log was cut"
            )
        rows += 1
    for hold_id in log.holds:
        raise JournalTampered(f"the row of hold {hold_id} is missing")
    for name, seq in log.opened.items():
        raise JournalTampered(f"the row of session {name} is missing; event {seq} speaks of it")
    _compare(stands, log.last.items())
    for uid in stands.keys() - log.last.keys():
        raise JournalTampered(f"action {uid} has a row, and no event speaks of it")
    return rows


def _check_row(
    what: str, record: ActionRecord | HoldRecord | SessionRecord, row: Row, key: JournalKey
) -> None:
    try:
        genuine = secrets.compare_digest(key.mac(record.sealed()), row[-1])
    except TypeError:
        genuine = False
    if not genuine:
        raise JournalTampered(f"{what} was not written with the journal key, or was changed since")


def _compare(stands: dict[str, int], last: Iterable[tuple[str, int]]) -> None:
    for uid, seq in last:
        if uid not in stands:
            raise JournalTampered(f"the row of action {uid} is missing; event {seq} speaks of it")
        if stands[uid] != seq:
            raise JournalTampered(
                f"the row of action {uid} stands at event {stands[uid]}, the log at {seq}: an old "
                "row was put back, or the log was cut"
            )
