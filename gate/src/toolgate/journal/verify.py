"""Recomputing a journal: every chain, every MAC, and that each row is where the log says it is.

What is checked, in this order:

1. the store itself is whole (:meth:`~toolgate.journal.store.Store.damage`): what is looked up by
   index is what the tables hold;
2. the log's places are 1, 2, 3 … without a gap;
3. each run's chain starts with ``run.started`` at 1, without a gap, each event naming the hash
   before it;
4. each event's hash is that of its content, and its MAC is the journal key's;
5. no attempt of an action was executed twice; no session or proposal was begun twice;
6. a run made the anchor only when there had been none, and with an anchor: the log goes on from
   where it knows it to have been, beyond every mark, and no row stands earlier than its own;
7. what decisions stood on was so when they were made: see :mod:`toolgate.journal.grounds`;
8. the rows agree with the log: see :mod:`toolgate.journal.agreement`.

One pass over the log and one over the rows. Kept in memory is one entry for each action, proposal,
key of a session's state, label and checkpoint, never their contents: about 150 bytes an action.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass

from toolgate.errors import JournalTampered
from toolgate.journal.agreement import Rows
from toolgate.journal.anchoring import Anchored
from toolgate.journal.chain import GENESIS, JournalKey, hash_of
from toolgate.journal.events import Event, EventKind
from toolgate.journal.evidence import Evidence
from toolgate.journal.reader import Reader
from toolgate.journal.store import Store

EVERY = 4096
"""Events, or rows, between two reports of progress."""


@dataclass(slots=True)
class Report:
    """What a verification found. ``problem`` is the first thing wrong; ``None``: all is well.

    ``anchor`` is the place up to which an anchor knows the log.
    """

    events: int = 0
    runs: int = 0
    rows: int = 0
    anchor: int | None = None
    problem: str | None = None


class _Chain:
    """Where one run's chain stands."""

    __slots__ = ("head", "n")

    def __init__(self) -> None:
        self.n = 0
        self.head = GENESIS


def verify(
    store: Store,
    key: JournalKey,
    progress: Callable[[int], None],
    anchored: Anchored | None = None,
) -> Report:
    """Verify a journal; ``progress`` is called now and then with the number of events seen.

    ``anchored`` is what its anchor knows, read before the view begins. The store must read a single
    view meanwhile (:meth:`SQLiteStore.snapshot`). Raises
    :class:`~toolgate.errors.JournalUnavailable` when it or the anchor cannot be read.
    """
    report = Report()
    log = Evidence(store)
    chains: dict[str, _Chain] = {}
    try:
        if (damage := store.damage()) is not None:
            raise JournalTampered(f"the store is damaged: {damage}")
        for event in store.events():
            _check(event, report.events, chains, key)
            log.take(event)
            report.events += 1
            if report.events % EVERY == 0:
                progress(report.events)
        if anchored is not None:
            anchored.hold(Reader(store, key))
            report.anchor = None if anchored.log is None else anchored.log.seq
        rows = Rows(store, log, key)
        rows.check()
        report.rows = rows.count
        if anchored is not None:
            anchored.compare(store)
    except JournalTampered as error:
        report.problem = str(error)
    report.runs = len(chains)
    progress(report.events)
    return report


def _check(event: Event, seq: int, chains: dict[str, _Chain], key: JournalKey) -> None:
    """Check an event that follows the place ``seq``: its place, its chain, its hash, its MAC."""
    chain = chains.get(event.run)
    if chain is None:
        chain = chains[event.run] = _Chain()
    chain.n += 1
    try:
        genuine = (
            event.seq == seq + 1
            and event.n == chain.n
            and event.prev == chain.head
            and hash_of(event) == event.hash
            and secrets.compare_digest(key.mac(event.hash), event.mac)
            and (event.n > 1 or event.kind == EventKind.RUN_STARTED)
        )
    except TypeError:
        genuine = False
    if not genuine:
        raise JournalTampered(_what_is_wrong(event, seq, chain))
    chain.head = event.hash


def _what_is_wrong(event: Event, seq: int, chain: _Chain) -> str:
    where = f"event {event.seq} ({event.kind}, run {event.run}, number {event.n})"
    if event.seq != seq + 1:
        return f"event {seq + 1} is missing: the log goes on with {where}"
    if event.n != chain.n:
        return f"{where} is out of place: its run's chain stands at {chain.n - 1}"
    if event.n == 1 and event.kind != EventKind.RUN_STARTED:
        return f"{where} begins a chain that no run has started"
    if event.prev != chain.head:
        return f"{where} does not follow the event before it in its chain"
    try:
        if hash_of(event) != event.hash:
            return f"{where} was changed: its hash is not that of its content"
    except TypeError:
        return f"{where} was changed: a field is of a wrong type"
    return f"{where} was not written with the journal key"
