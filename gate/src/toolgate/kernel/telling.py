"""What the client of a session is told of the journal's events. It decides, and writes nothing.

The rules:

1. A session is told its own events, whichever gate or person has caused them, and no others. What
   another session has brought to light comes by ``resume``, with the labels of what was read there.
2. An event is told as it was written, which is without what contracts redact, but for what no
   caller is told: what a decision stood on, the approvers' envelopes, and keys of the state that
   the agent could not read now (:meth:`~toolgate.kernel.judge.Judge.reader_of`).
3. An event that does not verify is left out, and reported.
4. So much is looked at in one go and no more (:data:`SCAN` events, :data:`LARGEST` bytes to tell):
   whoever wants more goes on from there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from toolgate import clock, jsonvalue
from toolgate.errors import JournalTampered, ToolgateError
from toolgate.journal.events import Event, EventKind
from toolgate.journal.grounds import STOOD_ON
from toolgate.journal.heads import SUMMARY
from toolgate.journal.journal import Reader
from toolgate.journal.links import PREVIOUS
from toolgate.journal.records import SessionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.judge import Judge

SCAN: Final = 2000
"""Events of all sessions that are looked through in one go."""
LARGEST: Final = 1 << 20
"""Bytes of data after which a page ends. One event may have more, and is a page then."""

_UNTOLD: Final = frozenset({STOOD_ON, SUMMARY, PREVIOUS, "envelope"})
_KEYS: Final[dict[str, tuple[str, ...]]] = {
    EventKind.STATE_CHANGED: ("changes",),
    EventKind.STATE_ROLLED_BACK: ("restored", "kept", "changes"),
    EventKind.CHECKPOINT_SAVED: ("keys",),
    EventKind.CHECKPOINT_RESTORED: ("changes",),
}
"""The members of an event's data that list keys of the state, or what became of them."""


class BeyondLog(ToolgateError):
    """Somebody wants to go on from an event that the log does not have."""

    def __init__(self, after: int, end: int) -> None:
        """``after`` is what was asked for, ``end`` the place of the log's last event."""
        super().__init__(f"the log ends at event {end}: there is no event {after} to go on from")


@dataclass(frozen=True, slots=True)
class Page:
    """Some events as they are told, in the log's order.

    ``after`` is the place to go on from: nothing up to it is left to be told. ``more``: there was
    more to look at. ``size`` is that of the events' data in bytes. ``wrong`` is what was left out.
    """

    events: list[dict[str, JSONValue]]
    after: int
    more: bool
    size: int = 0
    wrong: tuple[JournalTampered, ...] = ()


def page(
    reader: Reader,
    judge: Judge,
    session: SessionRecord,
    now: int,
    *,
    after: int,
    limit: int,
    about: str | None = None,
) -> Page:
    """Return the next events of a session after the place ``after``, at most ``limit``.

    ``about`` is the uid of an action, or of a proposal with its actions, to be told of it alone.
    Raises :class:`BeyondLog`, :class:`~toolgate.errors.JournalUnavailable` and
    :class:`JournalTampered`.
    """
    end = reader.store.last_seq()
    if after > end:
        raise BeyondLog(after, end)
    # Nothing of a session comes before it was opened.
    start = max(after, min(session.last_seq - 1, end))
    until = min(end, start + SCAN)
    if start == until:
        return Page([], start, more=False)
    found: list[Event] = []
    wrong: list[JournalTampered] = []
    size, last = 0, until
    for event in reader.store.events(
        after=start, until=until, proposal=about, session=session.session
    ):
        if not reader.genuine(event):
            what = f"the event {event.seq} does not verify under the journal key"
            wrong.append(JournalTampered(f"{what}; the session is not told of it"))
            continue
        found.append(event)
        size += len(event.data)
        if len(found) == limit or size >= LARGEST:
            last = event.seq
            break
    readable = judge.reader_of(reader, session, now)
    told = [_told(event, readable) for event in found]
    return Page(told, last, last < end, size, tuple(wrong))


def _told(event: Event, readable: Callable[[str], bool]) -> dict[str, JSONValue]:
    """Return a genuine event as the client of its session is told of it."""
    data = {
        name: value for name, value in jsonvalue.parse(event.data).items() if name not in _UNTOLD
    }
    for name in _KEYS.get(event.kind, ()):
        data[name] = [item for item in data.get(name, ()) if readable(_key(item))]
    about: dict[str, JSONValue] = {} if event.action is None else {"action": event.action}
    return {
        "seq": event.seq,
        "run": event.run,
        "n": event.n,
        "at": clock.to_text(event.at),
        "session": event.session,
        **about,
        "kind": event.kind,
        "data": data,
    }


def _key(item: JSONValue) -> str:
    key: str = item if isinstance(item, str) else item["key"]
    return key
