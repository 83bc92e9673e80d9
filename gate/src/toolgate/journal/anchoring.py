"""Writing the anchor behind the journal's commits, and holding the journal against it at a start.

1. What a run has seen is written to the anchor at most every :data:`INTERVAL` seconds while there
   is something to write, in a thread, all of it at once; at an orderly end before the store closes.
2. The store is synced first, unless its every commit is: so the anchor is never ahead of what the
   journal is after a crash of any process, or of the machine. An anchor that is ahead tells of
   tampering.
3. While it cannot be written, nothing new is to begin (:meth:`Anchoring.check`): what would run
   could be forgotten. What is under way goes on and is recorded, and it is tried again.
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
from toolgate.errors import JournalError, JournalTampered, JournalUnavailable
from toolgate.journal.anchor import ANEW, Anchor, Log, another
from toolgate.journal.events import EventKind
from toolgate.journal.evidence import ANCHORED
from toolgate.journal.marking import catch_up
from toolgate.journal.memory import Seen
from toolgate.journal.reader import Reader

INTERVAL: Final = 0.1
"""Seconds for which marks gather at least before they are written."""
_SHARE: Final = 10
"""So many times as long as the last write took is waited at least before the next one."""
_RETRY: Final = 1.0
"""Seconds until what could not be written is tried again."""


class _Work(NamedTuple):
    """What is written at once."""

    anchor: Anchor
    marks: Mapping[Seen, int]
    log: Log


class Anchoring:
    """One run's marks on their way to the anchor; ``None`` for an anchor keeps none.

    Its methods are called on the journal's thread.
    """

    def __init__(self, anchor: Anchor | None, reader: Reader, tell: Callable[[str], None]) -> None:
        """``reader`` is the run's, whose memory has the marks; ``tell`` reaches people."""
        self._anchor = anchor
        self._reader = reader
        self._tell = tell
        self._log: tuple[int, bytes] | None = None
        self._first: bytes | None = None
        self._pause = INTERVAL
        self._timer: asyncio.TimerHandle | None = None
        self._thread: threading.Thread | None = None
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
        catch_up(self._reader, 0 if log is None else log.seq)
        return "kept" if kept else "made"

    def check(self) -> None:
        """Refuse to begin anything while the anchor cannot be written.

        Raises :class:`~toolgate.errors.JournalUnavailable`.
        """
        if self._error is not None:
            raise JournalUnavailable(
                f"{self._error}; nothing new is begun, because a gate that is started later would "
                "not know of it"
            )

    def committed(self, seq: int, digest: bytes) -> None:
        """Take note that the run's events are committed up to a place, whose hash is given."""
        if self._anchor is None:
            return
        self._log = seq, digest
        if self._timer is None and self._thread is None:
            self._schedule()

    def flush(self) -> None:
        """Write everything now; raises :class:`~toolgate.errors.JournalError`."""
        self._rest()
        if (work := self._work()) is not None:
            self._write(*work)

    def close(self) -> None:
        """Stop, and close the anchor; nothing more is written."""
        self._rest()
        if self._anchor is not None:
            self._anchor.close()

    def _rest(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        if self._thread is not None:
            self._thread.join()
        self._timer = self._thread = None

    def _schedule(self) -> None:
        # Without a running loop it is the next commit's, or the end's.
        with suppress(RuntimeError):
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._pause, self._begin, loop)

    def _work(self) -> _Work | None:
        """Return what is to be written; raises :class:`~toolgate.errors.JournalError`."""
        if self._anchor is None or self._log is None:
            return None
        if self._first is None:
            self._first = self._reader.event(1).hash
        return _Work(self._anchor, self._reader.memory.unwritten(), Log(self._first, *self._log))

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        try:
            work = self._work()
        except JournalError as error:
            self._done(error)
            return
        if work is not None:
            thread = threading.Thread(
                target=self._behind, args=(work, loop), name="toolgate-anchor", daemon=True
            )
            self._thread = thread
            thread.start()

    def _behind(self, work: _Work, loop: asyncio.AbstractEventLoop) -> None:
        begun, failure = time.monotonic(), None
        try:
            self._write(*work)
        except JournalError as error:
            failure = error
        took = time.monotonic() - begun
        # Nobody waits for it on a loop that is closed: the end has written everything, or nothing.
        with suppress(RuntimeError):
            thread = threading.current_thread()
            loop.call_soon_threadsafe(self._written, thread, work, failure, took)

    def _write(self, anchor: Anchor, marks: Mapping[Seen, int], log: Log) -> None:
        self._reader.store.sync()
        anchor.write(marks.items(), log)

    def _written(
        self, thread: threading.Thread, work: _Work, failure: JournalError | None, took: float
    ) -> None:
        if thread is not self._thread:
            # Somebody has ended it all, and waited for this.
            return
        self._thread = None
        if failure is None:
            self._reader.memory.written(work.marks)
            self._pause = max(INTERVAL, _SHARE * took)
        self._done(failure, behind=failure is not None or self._log != work.log[1:])

    def _done(self, failure: JournalError | None, *, behind: bool = True) -> None:
        if failure is not None:
            self._pause = _RETRY
            if self._error is None:
                self._tell(f"{failure}; nothing new is begun until it can be written")
        elif self._error is not None:
            self._tell("the journal's anchor is written again")
        self._error = failure
        if behind:
            self._schedule()


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
