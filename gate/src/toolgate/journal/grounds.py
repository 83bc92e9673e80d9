"""What decisions stood on, held against the log as it was when they were made.

Whoever writes the store can hide an event, or set a row back, while a gate decides, and put all of
it back afterwards. What the gate read then is in the log:

1. ``action.decided`` and ``checkpoint.restored`` say what was read of their session
   (:data:`STOOD_ON`): the labels in force, the last event that wrote state, the last one of the
   count of calls, and where the rows of the last calls stood; only what was asked for;
2. an event that writes state, gives a label or counts names the one before it of its kind
   (:data:`~toolgate.journal.heads.FOLLOWS`);
3. an event about an action, a proposal or removed labels names the one before it about the same
   (:data:`~toolgate.journal.links.PREVIOUS`);
4. a settlement names the doubt that the action was in, and ends it;
5. a count of calls that is made anew is that of the calls there were.

An older program's events say none of it, and are taken as they are.
"""

from __future__ import annotations

from typing import Any, Final

from toolgate import jsonvalue
from toolgate.errors import JournalTampered
from toolgate.journal.events import Event
from toolgate.journal.heads import FOLLOWS
from toolgate.journal.links import PREVIOUS, follows
from toolgate.journal.names import calls_name
from toolgate.journal.store import Store

STOOD_ON: Final = "stood_on"
"""The member of a decision that tells what was read of the session for it."""
DOUBT: Final = "doubt"
"""The member of ``action.settled`` that is the place of the doubt that somebody has settled."""
_MAY_FOLLOW: Final = f'"{PREVIOUS}":'.encode()
_MAY_STAND: Final = b'"stood_on":'
_WHILE_IT_STANDS: Final = ("hold.", "approval.")
"""What an action's log goes on with while its row stays where it is: it is held, or in doubt."""


class Grounds:
    """How the log stands, event by event; raises :class:`JournalTampered` for what did not."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._state: dict[str | None, int] = {}
        self._labelled: dict[str | None, int] = {}
        self._labels: dict[str | None, set[str]] = {}
        self._counted: dict[str | None, int] = {}
        self._calls: dict[str | None, int] = {}
        self._removed: dict[str | None, int] = {}
        self._doubts: dict[str | None, int] = {}

    def about(self, event: Event, last: int) -> None:
        """Check that an event about something names the last one about it."""
        if _MAY_FOLLOW in event.data:
            self._hold_link(event, follows(event, last), last, f"the log of {event.action}")

    def removals(self, event: Event) -> None:
        """Check that an event about a session's removed labels names the last one."""
        self.about(event, self._removed.get(event.action, 0))
        self._removed[event.action] = event.seq

    def doubted(self, event: Event) -> None:
        """Take down that nobody knows how an action ended."""
        self._doubts[event.action] = event.seq

    def settled(self, event: Event) -> None:
        """Check that somebody has settled the doubt that an action was in; it is over now."""
        doubt = self._doubts.pop(event.action, 0)
        named = jsonvalue.parse(event.data).get(DOUBT, doubt)
        if named != doubt:
            raise JournalTampered(
                f"{where(event)} settles the doubt of event {named}, and action {event.action} "
                f"was in that of event {doubt}: a settlement was used a second time"
            )

    def wrote_state(self, event: Event) -> None:
        """Take down that an event wrote its session's state."""
        self._link(event, self._state.get(event.session, 0), "state")
        self._state[event.session] = event.seq

    def labelled(self, event: Event, label: str) -> None:
        """Take down that an event gave its session a label."""
        self._link(event, self._labelled.get(event.session, 0), "labels")
        self._labelled[event.session] = event.seq
        self._labels.setdefault(event.session, set()).add(label)

    def unlabelled(self, event: Event, label: str) -> None:
        """Take down that a label was taken away from an event's session."""
        self._labels.get(event.session, set()).discard(label)

    def called(self, event: Event) -> None:
        """Take down that a call was started for the first time."""
        self._calls[event.session] = self._calls.get(event.session, 0) + 1

    def counted(self, event: Event) -> None:
        """Take down that something of a limit was used up."""
        name, last = event.action, self._counted.get(event.action)
        # Before the first event there may be what an older program counted without one.
        if last is not None:
            self._link(event, last, f"the limit {name}")
        else:
            self._made(event)
        self._counted[name] = event.seq

    def decided(self, event: Event, last: dict[str, int], attempt: int) -> None:
        """Check what a decision stood on; ``last`` are actions' last events, below ``attempt``."""
        if _MAY_STAND not in event.data:
            return
        said = jsonvalue.parse(event.data).get(STOOD_ON)
        if not isinstance(said, dict):
            return
        session = event.session
        if "labels" in said:
            there = sorted(self._labels.get(session, ()))
            _hold(event, "the session's labels", sorted(said["labels"]), there)
        if "state" in said:
            place = self._state.get(session, 0)
            _hold(event, "the session's state as of event", said["state"], place)
        if "calls" in said and session is not None:
            counted = self._counted.get(calls_name(session), said["calls"])
            _hold(event, "the count of the session's calls as of event", said["calls"], counted)
        for place in said.get("history", ()):
            self._stood(event, place, last, attempt)

    def _stood(self, decision: Event, place: int, last: dict[str, int], attempt: int) -> None:
        """Check that a row of an action stood where its log did."""
        stands = self._store.event(place)
        uid = None if stands is None else stands.action
        now = last.get(uid or "", 0) & ((1 << attempt) - 1)
        if uid is not None and now > place:
            later = self._store.events(action=uid, after=place, until=decision.seq - 1)
            if all(event.kind.startswith(_WHILE_IT_STANDS) for event in later):
                now = place
        _hold(decision, f"the row of action {uid} as of event", place, now)

    def _link(self, event: Event, last: int, what: str) -> None:
        self._hold_link(event, jsonvalue.parse(event.data).get(FOLLOWS, last), last, what)

    def _hold_link(self, event: Event, named: object, last: int, what: str) -> None:
        if named != last:
            raise JournalTampered(
                f"{where(event)} follows event {named} of {what}, and the log had gone on to "
                f"{last}: events were hidden from the gate, or an old row was put back, when it "
                "was written"
            )

    def _made(self, event: Event) -> None:
        """Check the first event of a count: a count of calls is that of the calls there were."""
        if event.session is None or event.action != calls_name(event.session):
            return
        data: dict[str, Any] = jsonvalue.parse(event.data)
        calls = self._calls.get(event.session, 0)
        if data.get(FOLLOWS) == 0 and data["used"]["calls"] != calls:
            raise JournalTampered(
                f"{where(event)} counts {data['used']['calls']} calls, and there had been {calls}: "
                "rows were missing when they were counted"
            )


def where(event: Event) -> str:
    """Return what an event is called when something is wrong with it."""
    return f"event {event.seq} ({event.kind}, run {event.run}, number {event.n})"


def _hold(decision: Event, what: str, said: object, there: object) -> None:
    if said != there:
        about = "" if decision.action is None else f" on action {decision.action}"
        raise JournalTampered(
            f"{where(decision)} decided{about} by {what} {said}, and the log stood at {there}: "
            "events were hidden from the gate, or an old row was put back, when it decided"
        )
