"""Writing the anchor behind the journal's commits, and holding the journal against it at a start.

1. What a run has seen is written to the anchor at most every :data:`INTERVAL` seconds while there
   is something to write, in a thread, all of it at once; at an orderly end before the store closes.
2. The store is synced first, unless its every commit is: so the anchor is never ahead of what the
   journal is after a crash of any process, or of the machine. An anchor that is ahead tells of
   tampering.
3. The log's place in it moves only over events whose marks it has: those of other runs that may
   not have written theirs are seen first. And it moves on only from a place that the journal still
   holds: otherwise the log was cut.
4. While it cannot be written, or has not been for :data:`LATEST` seconds, no body begins
   (:meth:`Anchoring.check`): what would run could be forgotten. What is under way goes on and is
   recorded, and it is tried again.
5. What may not be forgotten even if the gate dies at this moment waits until it is written
   (:meth:`Anchoring.written`).
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, NamedTuple

from toolgate import faults, jsonvalue
from toolgate.errors import JournalError, JournalTampered, JournalUnavailable, Unanchored
from toolgate.journal.anchor import ANEW, Anchor, Log, another
from toolgate.journal.envelopes import LARGEST_SEQ
from toolgate.journal.events import EventKind
from toolgate.journal.evidence import ANCHORED
from toolgate.journal.marking import MOST, catch_up
from toolgate.journal.memory import Seen
from toolgate.journal.reader import Reader, set_back
from toolgate.journal.store import Store

INTERVAL: Final = 0.1
"""Seconds for which marks gather at least before they are written."""
LATEST: Final = 5.0
"""Seconds that a write may take before nothing new is begun, and that the end waits for one."""
_SHARE: Final = 10
"""So many times as long as the last write took is waited at least before the next one."""
_LONGEST: Final = 1.0
"""Seconds that are waited at most before marks are written, or tried to be written again."""
_TRIES: Final = 10
"""So often the end of a run moves the log's place, which others may move at the same moment."""


class _Work(NamedTuple):
    """What is written at once: ``log`` takes the place of ``after``."""

    anchor: Anchor
    marks: Mapping[Seen, int]
    log: Log
    after: Log | None
    waiters: list[asyncio.Future[None]]
    """They wait for these marks."""


class Anchoring:
    """One run's marks on their way to the anchor; ``None`` for an anchor keeps none.

    Its methods are called on the journal's thread.
    """

    def __init__(
        self, anchor: Anchor | None, reader: Reader, run: str, tell: Callable[[str], None]
    ) -> None:
        """``reader`` is that of ``run``, whose memory has the marks; ``tell`` reaches people."""
        self._anchor = anchor
        self._reader = reader
        self._run = run
        self._tell = tell
        self._seen = 0
        """Up to here all that the log tells beyond the anchor's place was seen."""
        self._end: tuple[int, bytes] | None = None
        """The run's last event, and its hash."""
        self._cut: JournalTampered | None = None
        self._first: bytes | None = None
        self._pause = INTERVAL
        self._timer: asyncio.Handle | None = None
        self._late: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
        self._waiters: list[asyncio.Future[None]] = []
        """They wait for marks to be written: the sooner the better."""
        self._error: JournalError | None = None

    def start(self) -> Literal["none", "made", "kept"]:
        """Hold the journal against its anchor, which is made when the journal never had one.

        What runs before have not written to it any more is seen then.

        Called under the store's write lock, before the run's first event. Raises
        :class:`~toolgate.errors.JournalTampered`, also for an anchor that is gone, and
        :class:`~toolgate.errors.JournalError` for one that cannot be used.
        """
        if self._anchor is None:
            return "none"
        kept = self._anchor.open()
        log = self._anchor.log()
        if kept:
            Anchored(self._anchor.path, log).hold(self._reader)
        elif seq := anchored_at(self._reader):
            raise missing(self._anchor, seq)
        else:
            self._anchor.make()
            faults.hit("anchor.made")
        self._seen = self._reader.store.last_seq()
        catch_up(self._reader, max(0, self._seen - MOST) if log is None else log.seq)
        return "kept" if kept else "made"

    def check(self) -> None:
        """Refuse to begin anything while the anchor cannot be written.

        Raises :class:`~toolgate.errors.Unanchored`.
        """
        if self._error is not None:
            raise Unanchored(
                f"{self._error}; nothing new is begun, because a gate that is started later would "
                "not know of it"
            )

    def committed(self, first: int, seq: int, digest: bytes) -> None:
        """Take note that the run's events ``first`` to ``seq``, whose hash is given, are durable.

        What stands before them, and was not seen, others have written.
        """
        if self._anchor is None:
            return
        if self._end is not None and first <= self._end[0]:
            self._cut = JournalTampered(
                f"the journal was cut while it was in use: event {first} was written again; "
                "restore the journal, and restart the gate"
            )
        if first == self._seen + 1:
            self._seen = seq
        self._end = seq, digest
        if self._timer is None and self._thread is None:
            self._schedule()

    def written(self) -> asyncio.Future[None]:
        """Write the marks of all that is committed at once; done when the anchor has them.

        The future raises :class:`~toolgate.errors.JournalError`. It holds no thread: who waits at
        the same time waits for the same write.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[None] = loop.create_future()
        if self._anchor is None:
            future.set_result(None)
        elif self._error is not None:
            future.set_exception(self._error)
        else:
            self._waiters.append(future)
            self._schedule()
        return future

    def flush(self) -> None:
        """Write everything now; raises :class:`~toolgate.errors.JournalError`."""
        self._rest()
        if self._thread is not None:
            raise JournalUnavailable(_stuck(self._anchor))
        for _ in range(_TRIES):
            if (work := self._work()) is None or self._write(work):
                return

    def close(self) -> None:
        """Stop, and close the anchor; nothing more is written."""
        self._rest()
        _answer(self._waiters, JournalUnavailable("the gate ends"))
        # What a thread is stuck in cannot be closed.
        if self._anchor is not None and self._thread is None:
            self._anchor.close()

    def _rest(self) -> None:
        for handle in (self._timer, self._late):
            if handle is not None:
                handle.cancel()
        if self._thread is not None and self._late is not None:
            self._thread.join(LATEST)
            if not self._thread.is_alive():
                self._thread = None
        self._timer = self._late = None

    def _schedule(self) -> None:
        """Write after a pause, or at once when somebody waits; no two threads write."""
        if self._thread is not None:
            return
        if self._timer is not None:
            self._timer.cancel()
        # Without a running loop it is the next commit's, or the end's.
        with suppress(RuntimeError):
            loop = asyncio.get_running_loop()
            if self._waiters and self._error is None:
                self._timer = loop.call_soon(self._begin, loop)
            else:
                self._timer = loop.call_later(self._pause, self._begin, loop)

    def _work(self) -> _Work | None:
        """Return what is to be written; raises :class:`~toolgate.errors.JournalError`.

        The journal must hold the place from which the anchor's is moved on; what others did beyond
        it, and may not have written, is seen before that place moves over it.
        """
        if self._anchor is None or self._end is None:
            return None
        if self._cut is not None:
            raise self._cut
        reader = self._reader
        if self._first is None:
            self._first = reader.event(1).hash
        after = self._anchor.log()
        Anchored(self._anchor.path, after).hold(reader)
        seen = max(self._seen, 0 if after is None else after.seq)
        seq, digest = self._end
        if seen < seq and (last := catch_up(reader, seen, self._run)) is not None:
            self._seen, seq, digest = last.seq, last.seq, last.hash
        waiters, self._waiters = self._waiters, []
        log = Log(self._first, seq, digest)
        return _Work(self._anchor, reader.memory.unwritten(), log, after, waiters)

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        begun = time.monotonic()
        try:
            work = self._work()
        except JournalError as error:
            self._done(error)
            return
        if work is not None:
            thread = threading.Thread(
                target=self._behind, args=(work, loop, begun), name="toolgate-anchor", daemon=True
            )
            self._thread = thread
            self._late = loop.call_later(LATEST, self._overdue, work)
            thread.start()

    def _overdue(self, work: _Work) -> None:
        """A write goes on and on: whatever it waits for, its marks are not in the anchor."""
        self._fail(JournalUnavailable(_stuck(work.anchor)), work.waiters)

    def _behind(self, work: _Work, loop: asyncio.AbstractEventLoop, begun: float) -> None:
        moved, failure = False, None
        try:
            moved = self._write(work)
        except JournalError as error:
            failure = error
        took = time.monotonic() - begun
        # Nobody waits for it on a loop that is closed: the end has written everything, or nothing.
        with suppress(RuntimeError):
            thread = threading.current_thread()
            loop.call_soon_threadsafe(self._written, thread, work, moved, failure, took)

    def _write(self, work: _Work) -> bool:
        """Write it, and return whether the log's place has moved on as well."""
        self._reader.store.sync()
        return work.anchor.write(work.marks.items(), work.log, work.after)

    def _written(
        self,
        thread: threading.Thread,
        work: _Work,
        moved: bool,
        failure: JournalError | None,
        took: float,
    ) -> None:
        if thread is not self._thread:
            # Somebody has ended it all, and waited for this.
            return
        self._thread = None
        if self._late is not None:
            self._late.cancel()
        if failure is None:
            self._reader.memory.written(work.marks)
            self._pause = min(max(INTERVAL, _SHARE * took), _LONGEST)
        _answer(work.waiters, failure)
        last = None if self._end is None else self._end[0]
        self._done(failure, behind=not moved or last != work.log.seq)

    def _done(self, failure: JournalError | None, *, behind: bool = True) -> None:
        if failure is not None:
            self._pause = _LONGEST
            self._fail(failure, self._waiters)
        elif self._error is not None:
            self._error = None
            self._tell("the journal's anchor is written again")
        if behind or self._waiters:
            self._schedule()

    def _fail(self, failure: JournalError, waiters: list[asyncio.Future[None]]) -> None:
        """Nothing new is begun from here on; the first time people are told."""
        told, self._error = self._error is not None, failure
        _answer(waiters, failure)
        if not told:
            self._tell(f"{failure}; nothing new is begun until it can be written")


def _answer(waiters: list[asyncio.Future[None]], failure: JournalError | None) -> None:
    for waiter in waiters:
        if waiter.done():
            continue
        if failure is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(failure)
    waiters.clear()


def _stuck(anchor: Anchor | None) -> str:
    path = None if anchor is None else anchor.path
    return f"the journal or its anchor {path} has not been written for {LATEST:.0f} s: see its disk"


@dataclass(frozen=True, slots=True)
class Anchored:
    """What the anchor at ``path`` knows of a journal; ``None`` for the log: nothing yet.

    ``highest`` is the highest place of any mark, 0 where nobody has looked.
    """

    path: Path
    log: Log | None
    highest: int = 0

    def hold(self, reader: Reader) -> None:
        """Refuse a log that is not as the anchor knows it; raises :class:`JournalTampered`."""
        if self.log is None:
            return
        first, last = reader.store.event(1), reader.store.event(self.log.seq)
        if first is not None and first.hash != self.log.first:
            raise JournalTampered(another(self.path))
        gone = last is None or reader.store.last_seq() < self.highest
        if last is None or gone or last.hash != self.log.hash or not reader.genuine(last):
            seq = max(self.log.seq, self.highest)
            raise JournalTampered(
                f"the journal was set back, cut or emptied: its anchor {self.path} knows event "
                f"{seq}, which is {'missing' if gone else 'another one now'}; restore the journal "
                "(`toolgate journal anchor --older` takes an older copy of it as it is, and "
                "forgets what ran since)"
            )

    def compare(self, store: Store) -> None:
        """Refuse a row, or a log of one thing, that stands earlier than its mark, or is gone.

        Rows and log must have been found to agree; ``store`` is one unchanging view. Raises
        :class:`JournalTampered`, and :class:`JournalError` for an anchor that cannot be read.
        """
        last, anchor = store.last_seq(), Anchor(self.path, reads=True)
        try:
            anchor.open()
            for (kind, name, part), seq in anchor.marks():
                # What was seen since the view began is not in it.
                if seq <= last and (stands := _place(store, kind, name, part)) < seq:
                    raise set_back(f"the {kind} {name!r}", stands, seq)
        finally:
            anchor.close()


def _place(store: Store, kind: str, name: str, part: str) -> int:
    """Return where a thing stands of which there is a mark, 0 when it is gone."""
    match kind:
        case "state":
            return store.last_state_event(name)
        case "label":
            return max(store.labels_added(name), default=0)
        case "key":
            # One from before keys were claimed in the log has no event.
            return store.last_seq_of(name) or LARGEST_SEQ
        case "result" | "forgotten":
            # What is forgotten has no row, and the log tells what is not: rows agree with it.
            row = store.get("result", name, part) if kind == "result" else None
            return LARGEST_SEQ if row is None else int(row[-2])
    row = store.get(kind, name)
    return 0 if row is None else int(row[-2])


def anchored_at(reader: Reader) -> int:
    """Return the place of a run's start that says that the journal has an anchor; 0: none does.

    It is asked when there is no anchor: reads the log backwards, to the last start of a run. Raises
    :class:`JournalTampered`.
    """
    if not reader.store.last_seq():
        return 0
    for event in reader.store.events(kinds=(EventKind.RUN_STARTED,), last=1):
        told = jsonvalue.parse(reader.event(event.seq).data)
        return 0 if told.get(ANCHORED, "none") == "none" else event.seq
    raise JournalTampered(
        "the journal has events, and none of them starts a run: its log was changed"
    )


def missing(anchor: Anchor, seq: int) -> JournalTampered:
    """Return the refusal of a journal whose anchor is gone, which it had by the event ``seq``."""
    return JournalTampered(
        f"the journal's anchor {anchor.path} is missing, and event {seq} says that there was one: "
        f"restore it; where it is gone for good, {ANEW}"
    )
