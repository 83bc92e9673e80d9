"""The rows of every projection, held against the log.

1. each row's MAC is the journal key's;
2. each action's last event is the one that its row stands at, or its hold's row while it is held;
   each hold that has ended stands at an event of its action, after which nobody was asked on it
   again; each proposal's last event is the one that its row stands at; no action, hold or proposal
   lacks its row; each session was opened where its row says, and no other;
3. no idempotency key names two actions or two proposals, and each names the one that claimed it;
4. each key of a session's state was written where its row says, and nobody has written it since;
   no key that was written lacks its row;
5. each checkpoint was saved where its row says, and none lacks its row;
6. each session remembers the last result of each call that the log says is remembered, unless its
   proposal was rolled back since, and no other;
7. what was used of each limit was counted last where its row says, and none lacks its row;
8. each label of a session was added last where its row says, and not taken away since; none that
   was added, and not taken away, lacks its row.

What an older program wrote is silent about keys, limits and results (3, 6, 7): there the rows have
to stand at some event.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from toolgate import jsonvalue
from toolgate.errors import JournalTampered
from toolgate.ir import ActionStatus
from toolgate.journal.chain import JournalKey
from toolgate.journal.events import Event, EventKind
from toolgate.journal.evidence import REMEMBERED, Evidence
from toolgate.journal.heads import STATE_EVENTS, written
from toolgate.journal.names import key_name
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

_ASKED: Final = (
    EventKind.HOLD_OPENED,
    EventKind.HOLD_REOPENED,
    EventKind.HOLD_EDITED,
    EventKind.ACTION_SUSPENDED,
)
"""The events that write the row of an action that is held from then on."""


class Rows:
    """The rows of a store, and what its log said of them."""

    def __init__(self, store: Store, log: Evidence, key: JournalKey) -> None:
        self.count = 0
        """Rows checked so far."""
        self._store = store
        self._reader = Reader(store, key)
        self._log = log
        self._held: dict[str, int | None] = {}
        """Held actions, and where the log stands of them."""
        self._named: set[str] = set()
        """The idempotency keys of rows from before keys were claimed in the log."""
        self._remembered = {uid for uid, forgets in log.results if not forgets}
        self._contents: dict[str, tuple[str, str]] = {}
        """The session and the content of each action whose result was remembered."""

    def check(self) -> None:
        """Check all of them; raises :class:`JournalTampered` at the first that is wrong."""
        self._actions()
        self._holds()
        self._sessions()
        self._proposals()
        missing = self._log.unclaimed()
        if missing is not None:
            seq = self._log.last(missing)
            raise JournalTampered(
                f"the row of {self._called(missing)} is missing; event {seq} speaks of it"
            )
        self._states()
        self._checkpoints()
        self._labels()
        self._results()
        self._usage()

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
            seq = self._log.last(action.uid)
            if action.status == ActionStatus.HELD:
                # While it is held, an action's log goes on with its hold's.
                self._held[action.uid] = seq
                self._in_place(action.uid, action.last_seq, self._asked(action.uid))
            else:
                self._in_place(action.uid, action.last_seq, seq)
            if action.idempotency_key is not None:
                self._name(action, action.idempotency_key)
            if action.uid in self._remembered:
                self._contents[action.uid] = action.session, self._content(action)

    def _content(self, action: ActionRecord) -> str:
        """Return the digest of what ran: an approver may have edited the arguments."""
        edit = None
        if action.hold is not None:
            edit = self._store.last_event(action.uid, EventKind.HOLD_EDITED)
        content: str = action.content if edit is None else jsonvalue.parse(edit.data)["content"]
        return content

    def _asked(self, uid: str) -> int:
        """Return where people were asked last about a held action: there its row was written."""
        found = [self._store.last_event(uid, kind) for kind in _ASKED]
        return max((event.seq for event in found if event is not None), default=0)

    def _holds(self) -> None:
        for hold in self._all(HoldRecord):
            self._log.holds.discard(hold.hold_id)
            held = hold.uid in self._held
            if held != (hold.status == "pending"):
                raise JournalTampered(
                    f"the rows of hold {hold.hold_id} and action {hold.uid} do not agree: an old "
                    "row was put back"
                )
            if held:
                self._in_place(hold.uid, hold.last_seq, self._held.pop(hold.uid))
            else:
                self._ended(hold)
        for hold_id in self._log.holds:
            raise JournalTampered(f"the row of hold {hold_id} is missing")
        for uid in self._held:
            raise JournalTampered(f"action {uid} is held, and the row of its hold is missing")

    def _ended(self, hold: HoldRecord) -> None:
        """Check that a hold has ended where its row says, and was never opened again since."""
        what = f"the hold {hold.hold_id} of action {hold.uid}"
        event = self._event(what, hold.last_seq)
        asked = self._asked(hold.uid)
        if event.action != hold.uid or asked >= hold.last_seq:
            raise _put_back(what, hold.last_seq, asked)

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
            seq = self._log.last(proposal.uid)
            if proposal.uid not in self._log.proposals or seq is None:
                raise JournalTampered(
                    f"no event says that proposal {proposal.uid} was received: the log was cut"
                )
            self._in_place(proposal.uid, proposal.last_seq, seq)
            if proposal.idempotency_key is not None:
                self._name(proposal, proposal.idempotency_key)

    def _name(self, record: ActionRecord | ProposalRecord, key: str) -> None:
        name = key_name(type(record), record.project, record.agent, key)
        claims = [jsonvalue.parse(event.data)["uid"] for event in self._store.events(action=name)]
        if not claims and name not in self._named:
            self._named.add(name)
        elif claims != [record.uid]:
            raise JournalTampered(
                f"the idempotency key of {TABLES[type(record)]} {record.uid} names another one, too"
            )

    def _in_place(self, uid: str, stands: int, log: int | None) -> None:
        if log is None:
            raise JournalTampered(f"{self._called(uid)} has a row, and no event speaks of it")
        if stands != log:
            raise _put_back(self._called(uid), stands, log)

    def _called(self, uid: str) -> str:
        return f"{'proposal' if uid in self._log.proposals else 'action'} {uid}"

    def _states(self) -> None:
        for state in self._all(StateRecord):
            what = f"the state {state.key!r} of session {state.session}"
            event = self._of_session(what, state.last_seq, state.session)
            last = self._log.states.pop((state.session, state.key), 0)
            if event.kind not in STATE_EVENTS or state.last_seq < last:
                raise _put_back(what, state.last_seq, last)
            # What nobody had written before it was undone has no version.
            if state.version or state.value is not None:
                wrote = self._of_session(what, state.version, state.session)
                if wrote.kind not in STATE_EVENTS or state.key not in written(wrote):
                    raise JournalTampered(f"the event {state.version} did not write {what}")
            if state.last_seq != last:
                raise _put_back(what, state.last_seq, last)
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
            if added.get(label.session, {}).pop(label.label, None) != label.last_seq:
                raise JournalTampered(
                    f"no event says that session {label.session} was given the label "
                    f"{label.label!r} at {label.last_seq}: the log was cut"
                )
        for session, left in added.items():
            for name, seq in left.items():
                raise JournalTampered(
                    f"the row of the label {name!r} of session {session} is missing; event {seq} "
                    "added it"
                )

    def _results(self) -> None:
        expected = self._expected_results()
        for result in self._all(ResultRecord):
            what = f"what session {result.session} remembers of action {result.uid}"
            event = self._of_session(what, result.last_seq, result.session)
            uid = expected.pop((result.session, result.content), None)
            if self._store.get("action", result.uid) is None:
                raise JournalTampered(f"{what} is of no action: it has no row")
            silent = event.action == result.uid and not _remembered(event)
            if uid != result.uid and not (uid is None and silent):
                raise JournalTampered(
                    f"the log does not say {what}, but of {uid or 'nothing'}: an old row was put "
                    "back"
                )
        for (session, _), uid in expected.items():
            raise JournalTampered(
                f"the row of what session {session} remembers of action {uid} is missing"
            )

    def _expected_results(self) -> dict[tuple[str, str], str]:
        """Return the action whose result each session remembers of each content."""
        expected: dict[tuple[str, str], str] = {}
        of_proposal: dict[str, list[tuple[str, str]]] = {}
        for uid, forgets in self._log.results:
            if not forgets:
                expected[self._contents[uid]] = uid
                of_proposal.setdefault(_proposal_of(uid), []).append(self._contents[uid])
                continue
            for content in of_proposal.pop(uid, ()):
                if _proposal_of(expected.get(content, "")) == uid:
                    del expected[content]
        return expected

    def _usage(self) -> None:
        counted = self._log.counted
        for usage in self._all(UsageRecord):
            what = f"what is used of the limit {usage.name}"
            self._event(what, usage.last_seq)
            last = counted.pop(usage.name, usage.last_seq)
            if last != usage.last_seq:
                raise _put_back(what, usage.last_seq, last)
        for name, seq in counted.items():
            raise JournalTampered(
                f"the row of what is used of the limit {name} is missing; event {seq} counted it"
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


def _put_back(what: str, stands: int, log: int) -> JournalTampered:
    return JournalTampered(
        f"the row of {what} stands at event {stands}, the log at {log}: an old row was put back, "
        "or the log was cut"
    )


def _proposal_of(uid: str) -> str:
    return uid.partition("-")[0]


def _remembered(event: Event) -> bool:
    return bool(jsonvalue.parse(event.data).get(REMEMBERED))
