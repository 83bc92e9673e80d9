"""What the log says about the rows there must be, taken down event by event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from toolgate import jsonvalue
from toolgate.errors import JournalTampered
from toolgate.journal.events import Event, EventKind
from toolgate.journal.grounds import Grounds, where
from toolgate.journal.heads import BESIDE, STATE_EVENTS, written
from toolgate.journal.names import is_name
from toolgate.journal.store import Store

_ATTEMPT: Final = 64
"""Bits below an action's attempts, for the place of its last event: one number takes less room."""
_PLACE: Final = (1 << _ATTEMPT) - 1
ANCHORED: Final = "anchor"
"""The member of ``run.started`` that tells of the run's anchor: ``none``, ``made`` or ``kept``."""
REMEMBERED: Final = "remembered"
"""The member of an end's data that says that its session remembers the result."""
_MAY_REMEMBER: Final = b'"remembered":true'


class Evidence:
    """What genuine events have said so far; raises :class:`JournalTampered` for what cannot be."""

    def __init__(self, store: Store) -> None:
        self.seq = 0
        self.grounds = Grounds(store)
        """What decisions stood on."""
        self._actions: dict[str, int] = {}
        self.opened: dict[str | None, int] = {}
        """Where each session was opened."""
        self.anchored = False
        """Whether a run has had an anchor."""
        self.holds: set[str] = set()
        self.proposals: set[str] = set()
        self.states: dict[tuple[str | None, str], int] = {}
        """Where each key of a session's state was written last."""
        self.checkpoints: dict[int, str | None] = {}
        """The session of each checkpoint, by where it was saved."""
        self.labels: dict[str | None, dict[str, int]] = {}
        """Where each label of a session was given last."""
        self.counted: dict[str, int] = {}
        """Where something of each limit was used up last, by its name."""
        self.results: list[tuple[str, bool]] = []
        """Actions whose results are remembered, and (true) proposals whose are forgotten."""

    def take(self, event: Event) -> None:
        """Take down what an event says."""
        self.seq = event.seq
        kind, action = event.kind, event.action
        if kind in _BESIDE:
            # Its ``action`` is the name of something that is none.
            if kind == EventKind.LIMIT_COUNTED:
                self.grounds.counted(event)
                self.counted[str(action)] = event.seq
            elif kind == EventKind.LABEL_REMOVED:
                self.grounds.removals(event)
                _unlabelled(self, event)
            return
        if kind == EventKind.APPROVAL_REFUSED and is_name(action):
            self.grounds.removals(event)
            return
        attempts = 0
        if action is not None:
            packed = self._actions.get(action, 0)
            self.grounds.about(event, packed & _PLACE)
            attempts = packed >> _ATTEMPT
            if kind == EventKind.ACTION_EXECUTING:
                if not attempts:
                    self.grounds.called(event)
                attempts = _attempt(event, attempts)
            self._actions[action] = attempts << _ATTEMPT | event.seq
        if kind in _DECIDES:
            self.grounds.decided(event, self._actions, _ATTEMPT)
        tell = _TELLS.get(kind)
        if tell is not None:
            tell(self, event)

    def last(self, uid: str) -> int | None:
        """Return, once, the place of the last event about an action or a proposal."""
        packed = self._actions.pop(uid, None)
        return None if packed is None else packed & _PLACE

    def unclaimed(self) -> str | None:
        """Return the uid of one whose last event nobody has asked for."""
        return next(iter(self._actions), None)


def _opened(log: Evidence, event: Event) -> None:
    if event.session in log.opened:
        raise JournalTampered(f"{where(event)} opens a session a second time")
    log.opened[event.session] = event.seq


def _started(log: Evidence, event: Event) -> None:
    told = jsonvalue.parse(event.data).get(ANCHORED, "none")
    if told == "made" and log.anchored:
        raise JournalTampered(
            f"{where(event)} made the journal's anchor, and an earlier run had one: what told of "
            "that was hidden from it"
        )
    log.anchored |= told != "none"


def _held(log: Evidence, event: Event) -> None:
    log.holds.add(jsonvalue.parse(event.data)["hold"])


def _received(log: Evidence, event: Event) -> None:
    if event.action is None or event.action in log.proposals:
        raise JournalTampered(f"{where(event)} receives a proposal a second time")
    log.proposals.add(event.action)


def _saved(log: Evidence, event: Event) -> None:
    log.checkpoints[event.seq] = event.session


def _labelled(log: Evidence, event: Event) -> None:
    data = jsonvalue.parse(event.data)
    label, there = data["label"], log.labels.setdefault(event.session, {})
    before = there.pop(label, None)
    # An older program told of no others, and of no label twice.
    if BESIDE not in data and before is not None:
        raise JournalTampered(f"{where(event)} adds a label a second time")
    if data.get(BESIDE, there) != there:
        raise JournalTampered(
            f"{where(event)} tells of other labels than its session had: rows were missing, or old "
            "ones put back, when it was written"
        )
    log.grounds.labelled(event, label)
    there[label] = event.seq


def _unlabelled(log: Evidence, event: Event) -> None:
    data = jsonvalue.parse(event.data)
    if log.labels.get(event.session, {}).pop(data["label"], None) != data["added"]:
        raise JournalTampered(f"{where(event)} takes away a label that is not there")
    log.grounds.unlabelled(event, data["label"])


def _wrote(log: Evidence, event: Event) -> None:
    log.grounds.wrote_state(event)
    for name in written(event):
        log.states[event.session, name] = event.seq
    if event.kind == EventKind.STATE_ROLLED_BACK and event.action is not None:
        log.results.append((event.action, True))


def _doubted(log: Evidence, event: Event) -> None:
    log.grounds.doubted(event)


def _settled(log: Evidence, event: Event) -> None:
    log.grounds.settled(event)
    _ended(log, event)


def _ended(log: Evidence, event: Event) -> None:
    if (
        event.action is not None
        and _MAY_REMEMBER in event.data
        and jsonvalue.parse(event.data).get(REMEMBERED)
    ):
        log.results.append((event.action, False))


_DECIDES: Final = frozenset({EventKind.ACTION_DECIDED, EventKind.CHECKPOINT_RESTORED})
_BESIDE: Final = frozenset(
    {EventKind.LIMIT_COUNTED, EventKind.KEY_CLAIMED, EventKind.LABEL_REMOVED}
)
_TELLS: Final[dict[str, Callable[[Evidence, Event], None]]] = {
    EventKind.RUN_STARTED: _started,
    EventKind.SESSION_OPENED: _opened,
    EventKind.HOLD_OPENED: _held,
    EventKind.PROPOSAL_RECEIVED: _received,
    EventKind.CHECKPOINT_SAVED: _saved,
    EventKind.LABEL_ADDED: _labelled,
    EventKind.ACTION_SUCCEEDED: _ended,
    EventKind.ACTION_IN_DOUBT: _doubted,
    EventKind.ACTION_SETTLED: _settled,
    **dict.fromkeys(STATE_EVENTS, _wrote),
}


def _attempt(event: Event, before: int) -> int:
    attempt: int = jsonvalue.parse(event.data)["attempt"]
    if attempt <= before:
        raise JournalTampered(f"{where(event)} executes an attempt of an action a second time")
    return attempt
