"""Calls as the journal tells them: what policy knew of each, and what it decided.

Only events that were written with the journal key are believed. The state of a session, its labels
and its calls are followed event by event, so that each call has those it was judged by.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

from toolgate import clock, jsonvalue
from toolgate.config import GateConfig
from toolgate.errors import ApprovalError, JournalTampered
from toolgate.ir import ActionStatus, ActionType
from toolgate.journal.events import Event, EventKind
from toolgate.journal.opening import Inspection
from toolgate.journal.records import SessionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.past import HISTORY
from toolgate.kernel.places import planned
from toolgate.kernel.records import UNSETTLED, edited_args, redaction_of
from toolgate.kernel.redaction import Redaction
from toolgate.policy.facts import CallFacts
from toolgate.policy.replay import RecordedCall
from toolgate.policy.situation import Setting
from toolgate.policy.untold import NOTHING, Gone

EVERY: Final = 1024
"""Events between two reports of progress."""

_ABSENT: Final = object()


@dataclass(slots=True)
class _Session:
    """A session as far as the log has been read; ``state`` has each value with its version.

    ``calls`` are counted as the kernel counts them, ``last`` are the tool and status of the last
    ones by uid; ``tools`` are those of calls that have not been started.
    """

    record: SessionRecord
    state: dict[str, tuple[object, int]] = field(default_factory=dict)
    changes: dict[str, list[tuple[int, dict[str, Any]]]] = field(default_factory=dict)
    labels: set[str] = field(default_factory=set)
    calls: dict[str, int] = field(default_factory=dict)
    last: dict[str, tuple[str, str]] = field(default_factory=dict)
    tools: dict[str, str] = field(default_factory=dict)

    def values(self) -> dict[str, JSONValue]:
        """Return the state as it is now."""
        return {key: value for key, (value, _) in self.state.items() if value is not _ABSENT}

    def past(self, uid: str, kind: str, data: dict[str, Any]) -> None:
        """Take down what an event says of a call: that it was proposed, started, or has ended."""
        if kind == EventKind.ACTION_PROPOSED:
            if data.get("type", ActionType.TOOL_CALL) == ActionType.TOOL_CALL:
                self.tools[uid] = data["tool"]
        elif kind == EventKind.ACTION_EXECUTING:
            if (tool := self.tools.pop(uid, None)) is not None:
                self.calls[tool] = self.calls.get(tool, 0) + 1
                self.last[uid] = tool, ActionStatus.EXECUTING
                for old in list(self.last)[:-HISTORY]:
                    del self.last[old]
        elif "status" in data:
            self.tools.pop(uid, None)
            if uid in self.last:
                self.last[uid] = self.last[uid][0], data["status"]

    def change(self, event: Event, changes: list[dict[str, Any]]) -> None:
        """Take down what an event wrote."""
        for change in changes:
            self.state[change["key"]] = change["value"], event.seq
            if event.action is not None:
                proposal = event.action.partition("-")[0]
                self.changes.setdefault(proposal, []).append((event.seq, change))

    def undo(self, proposal: str, keys: set[str]) -> None:
        """Take back what a proposal's actions wrote, as the kernel does: latest first."""
        for version, change in reversed(self.changes.pop(proposal, [])):
            key = change["key"]
            if key in keys and self.state.get(key, (_ABSENT, 0))[1] == version:
                before = change.get("before", _ABSENT)
                self.state[key] = before, change.get("version_before", 0)


@dataclass(slots=True)
class Recording:
    """The calls of one project in a journal; the counts are of what has been read so far.

    ``undecided`` calls ended before policy was asked, ``unreadable`` events were not written with
    the journal key.
    """

    journal: Inspection
    config: GateConfig
    undecided: int = 0
    unreadable: int = 0
    _setting: Setting = field(init=False)
    _sessions: dict[str, _Session] = field(default_factory=dict)
    _proposed: dict[str, tuple[Event, dict[str, Any]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._setting = Setting.of(self.config)

    def calls(
        self,
        progress: Callable[[int], None] | None = None,
        *,
        session: str | None = None,
        uid: str | None = None,
    ) -> Iterator[RecordedCall]:
        """Iterate over calls in the order they were decided, each by its first decision.

        ``session`` reads only that session's events, ``uid`` yields only that action's call.
        """
        for number, event in enumerate(self.journal.store.events(session=session), start=1):
            if progress is not None and number % EVERY == 0:
                progress(number)
            if not self.journal.reader.genuine(event):
                self.unreadable += 1
                continue
            if event.session is None:
                continue
            call = self._read(event, event.session, jsonvalue.parse(event.data))
            if call is not None and uid in (None, call.facts.action_id):
                yield call
        self.undecided += len(self._proposed)

    def _read(self, event: Event, name: str, data: Any) -> RecordedCall | None:
        session = self._sessions.get(name)
        if session is not None and event.action is not None:
            session.past(event.action, event.kind, data)
        if event.kind == EventKind.SESSION_OPENED and data["project"] == self.config.project:
            record = SessionRecord(name, data["project"], data["agent"], event.at, event.seq)
            self._sessions[name] = _Session(record)
        elif session is None:
            # Another project's, or its beginning was not genuine.
            return None
        elif event.kind == EventKind.LABEL_ADDED:
            session.labels.add(data["label"])
        elif event.kind == EventKind.TOOL_REGISTERED:
            session.calls.setdefault(data["name"], 0)
        elif event.kind == EventKind.STATE_CHANGED:
            session.change(event, data["changes"])
        elif event.kind == EventKind.STATE_ROLLED_BACK and event.action is not None:
            session.undo(event.action, {*data["restored"], *data["kept"]})
        elif event.kind == EventKind.CHECKPOINT_RESTORED:
            saved = self.journal.reader.checkpoint(data["checkpoint"])
            content = {} if saved is None else jsonvalue.parse(saved.state)
            session.state = {key: (value, event.seq) for key, value in content.items()}
        elif event.kind == EventKind.ACTION_PROPOSED and event.action is not None:
            self._proposed[event.action] = event, data
        elif event.kind == EventKind.ACTION_DECIDED and event.action in self._proposed:
            return self._decided(event, data, session, *self._proposed.pop(event.action))
        return None

    def _decided(
        self,
        event: Event,
        decision: dict[str, Any],
        session: _Session,
        proposed: Event,
        call: dict[str, Any],
    ) -> RecordedCall:
        uid = proposed.action or ""
        kind = ActionType(call.get("type", ActionType.TOOL_CALL))
        state, labels = session.values(), sorted(session.labels)
        calls = {**dict.fromkeys(self._setting.tools, 0), **session.calls}
        history = [self._setting.past_call(*call) for call in session.last.values()]
        facts = CallFacts(
            args=call["args"],
            contract=self._setting.contract(kind, call["tool"]),
            action_id=uid,
            action_type=kind.value,
            proposal_id=call.get("proposal"),
            agent_id=session.record.agent,
            framework=self.config.agent.framework,
            session_id=session.record.session,
            session_age=(event.at - session.record.opened_at) / 1e6,
            now=clock.to_datetime(event.at),
            state=lambda: state,
            labels=lambda: labels,
            calls=lambda: calls,
            total_calls=lambda: sum(calls.values()),
            history=lambda: history,
        )
        return RecordedCall(
            facts=facts,
            effects=self._effects(uid, call),
            at=clock.to_text(event.at),
            effect=decision["effect"],
            rules=tuple(decision["rules"]),
            reason=decision["reason"],
            gone=Gone(tuple(filter(partial(_there, call["args"]), call.get("redacted", ())))),
        )

    def _effects(self, uid: str, call: dict[str, Any]) -> dict[str, JSONValue]:
        if call.get("proposal") is None:
            return {}
        return planned(self.journal.reader, uid).expected_effects


def find(
    journal: Inspection, config: GateConfig, uid: str
) -> tuple[RecordedCall, Redaction | None]:
    """Return one recorded call, as :func:`restored` does.

    Raises :class:`ApprovalError` when the project has none, and :class:`JournalTampered`.
    """
    record = journal.reader.action(uid)
    if record is None or record.project != config.project:
        raise ApprovalError(f"the project {config.project} has no action {uid!r}")
    recording = Recording(journal, config)
    call = next(recording.calls(session=record.session, uid=uid), None)
    if recording.unreadable:
        raise JournalTampered(
            f"an event of session {record.session} does not verify, so nobody knows what was so "
            f"when {uid} was decided"
        )
    if call is None:
        raise ApprovalError(f"the action {uid} ended before policy was asked: see its events")
    return restored(journal, call)


def restored(journal: Inspection, call: RecordedCall) -> tuple[RecordedCall, Redaction | None]:
    """Return a recorded call with the arguments that its (verified) row holds.

    Until it has ended, that is all of them: the redaction says what may be told of them. There is
    none where only digests are left.

    Raises :class:`JournalTampered`.
    """
    uid = call.facts.action_id
    record = journal.reader.action(uid)
    if record is None:
        raise JournalTampered(f"the row of action {uid} is missing")
    if edited_args(journal.reader, record) is not None:
        # Policy was asked of what was proposed; an approver has put other arguments in its place.
        return call, None
    args = jsonvalue.parse(record.args)
    redaction = redaction_of(journal.reader, record, args)
    shown = args if redaction is None else redaction.args
    if jsonvalue.canonical(call.facts.args) != jsonvalue.canonical(shown):
        raise JournalTampered(f"the row of action {uid} and the log do not agree on its arguments")
    if record.status not in UNSETTLED:
        return call, None
    return replace(call, facts=call.facts._replace(args=args), gone=NOTHING), redaction


def _there(args: dict[str, JSONValue], pointer: str) -> bool:
    """Tell whether a pointer leads to anything: nothing is in the place of what was not there."""
    return jsonvalue.value_at(args, pointer) is not None
