"""Where the log says that each key of a session's state was written last.

A row of state is genuine when its MAC verifies, and current when it stands at the last event that
wrote its key. The log is asked by an index of the events that write state, which holds no others:

1. a session's state is read back from its last event to the latest one that tells where every key
   stood (its *summary*), and kept, for the sessions asked for last;
2. from then on only what was written since is read;
3. an event carries a summary when as many have gone by without one as there are keys, and
   :data:`EVERY` at least, so that reading back is short and writing summaries is rare.

4. an event names the session's event before it that writes state (:data:`FOLLOWS`), so that one
   that is hidden from the index is missed, and one that was seen may not be gone.

What an older program wrote carries neither: such a session is read back to its beginning, once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from toolgate import jsonvalue
from toolgate.errors import JournalTampered
from toolgate.journal.events import Event, EventKind
from toolgate.journal.memory import Memory
from toolgate.journal.store import Store
from toolgate.jsonvalue import JSONValue

EVERY: Final = 256
"""At least so many events that write a session's state lie between two summaries."""
SESSIONS: Final = 64
"""So many sessions' heads are kept in memory: where each of their keys was written, no values."""
SUMMARY: Final = "heads"
"""The member of an event's data that is its summary, without the keys that it writes itself."""
BESIDE: Final = "beside"
"""The member of an event that gives a label: the session's other labels, and where each was given.
"""
FOLLOWS: Final = "follows"
"""The member of an event's data that is the place of the one before it in its session that writes
state, too, or gives a label, or of the same limit; 0 for the first.
"""

STATE_EVENTS: Final = frozenset(
    {EventKind.STATE_CHANGED, EventKind.STATE_ROLLED_BACK, EventKind.CHECKPOINT_RESTORED}
)
"""The events that write a session's state."""


@dataclass(slots=True)
class _Known:
    """What is known of a session: up to which event, and how many came since a summary."""

    seq: int
    since: int
    heads: dict[str, int]


class Heads:
    """The heads of the sessions that were asked for last."""

    def __init__(self, store: Store, verified: Callable[[Event], Event], memory: Memory) -> None:
        """``verified`` returns a genuine event, and raises :class:`JournalTampered`."""
        self._store = store
        self._memory = memory
        self._verified = verified
        self._sessions: OrderedDict[str, _Known] = OrderedDict()

    def of(self, session: str) -> Mapping[str, int]:
        """Return the place of the last event that wrote each key of a session's state.

        Raises :class:`~toolgate.errors.JournalTampered`, also when the log was cut.
        """
        return self._current(session).heads

    def last(self, session: str) -> int:
        """Return the place of a session's last event when it was asked for; 0: there was none."""
        known = self._sessions.get(session)
        return 0 if known is None else known.seq

    def next(self, session: str) -> dict[str, JSONValue]:
        """Return what the session's next event has to carry: what it follows, perhaps a summary."""
        known = self._current(session)
        link: dict[str, JSONValue] = {FOLLOWS: known.seq}
        if known.since >= max(EVERY, len(known.heads)):
            link[SUMMARY] = dict(known.heads)
        return link

    def forget(self, after: int = 0) -> None:
        """Forget what stands after a place: it is not going to be committed."""
        for session in [name for name, known in self._sessions.items() if known.seq > after]:
            del self._sessions[session]

    def _current(self, session: str) -> _Known:
        known = self._sessions.get(session)
        seen = self._memory.last(("state", session, ""))
        last = self._store.last_state_event(session)
        if last < seen:
            raise _missing(session, f"ends at {last}, and went on to {seen}")
        if known is None:
            known = self._sessions[session] = self._read_back(session)
            while len(self._sessions) > SESSIONS:
                self._sessions.popitem(last=False)
        elif known.seq < last:
            for event in self._store.state_events(session, after=known.seq):
                _go_on(known, self._verified(event))
        self._sessions.move_to_end(session)
        if known.seq != last:
            raise _missing(session, f"ends at {last}, and went on to {known.seq}")
        if last > seen:
            self._memory.saw(("state", session, ""), last)
        return known

    def _read_back(self, session: str) -> _Known:
        events: list[Event] = []
        for event in self._store.state_events(session, newest_first=True):
            events.append(self._verified(event))
            if _summary(event) is not None:
                break
        known = _Known(0, 0, {})
        for event in reversed(events):
            _go_on(known, event)
        return known


def _go_on(known: _Known, event: Event) -> None:
    summary, follows = _summary(event), jsonvalue.parse(event.data).get(FOLLOWS, known.seq)
    if follows != known.seq and (summary is None or known.seq):
        what = f"goes on from {known.seq} to {event.seq}, which follows {follows}"
        raise _missing(event.session, what)
    if summary is not None:
        known.heads, known.since = summary, 0
    known.seq = event.seq
    known.since += 1
    for key in written(event):
        known.heads[key] = event.seq


def _summary(event: Event) -> dict[str, int] | None:
    found: dict[str, int] | None = jsonvalue.parse(event.data).get(SUMMARY)
    return found


def written(event: Event) -> Iterator[str]:
    """Yield the keys of state that an event of :data:`STATE_EVENTS` wrote."""
    data = jsonvalue.parse(event.data)
    for change in (*data.get("changes", ()), *data.get("restored", ())):
        yield change if isinstance(change, str) else change["key"]


def _missing(session: str | None, how: str) -> JournalTampered:
    return JournalTampered(
        f"the log of session {session} {how}: events that write its state are missing"
    )
