"""What has happened in a session, as rules may ask for it: its labels, its calls, its history.

A *call* is a tool call that a gate has claimed, whatever came of it: what was denied, is held, or
was given a recorded result is none, and neither is a state action. It is counted in the transaction
that claims it, so that nobody decides on a count that has moved on.

The calls of a session are counted from the first time that a rule asks for them: then the count is
made of the session's actions, and every gate of the session goes on with it from there.

A session is given labels by what comes into it: by tools whose contract says so (``emits``), and by
content that is not trusted (:data:`UNTRUSTED`). What it has been given it keeps, unless an
approver takes it away (:mod:`toolgate.kernel.unlabelling`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolgate import jsonvalue
from toolgate.errors import JournalTampered
from toolgate.ir import ActionType
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Reader, Transaction
from toolgate.journal.names import calls_name
from toolgate.journal.records import ActionRecord, SessionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel import unlabelling
from toolgate.kernel.records import content_digest, content_of, redacted
from toolgate.kernel.tools import ToolRegistry

UNTRUSTED: Final = "untrusted"
"""The label of a session that untrusted content has come into."""

HISTORY: Final = 50
"""So many of a session's last calls can rules look at."""

_CLOCKS_DIFFER: Final = 86_400_000_000
"""By how much a clock may have been set back since a session was opened, in microseconds."""

_STATE_ACTIONS: Final = frozenset(ActionType) - {ActionType.TOOL_CALL}


@dataclass(frozen=True, slots=True)
class Document:
    """Content that came into a session: from a tool, or from anywhere else, as ``source`` says."""

    text: str
    source: str | None = None
    trust: Literal["untrusted", "trusted"] = "untrusted"

    @property
    def digest(self) -> str:
        """The digest of the text's UTF-8, as the journal has it."""
        return "sha256:" + hashlib.sha256(self.text.encode()).hexdigest()

    @property
    def length(self) -> int:
        """The length of the text's UTF-8, in bytes."""
        return len(self.text.encode())


@dataclass(frozen=True, slots=True)
class DigestedDocument:
    """A document whose text stayed where it was read; ``digest`` and ``length`` are told of it."""

    digest: str
    length: int
    source: str | None = None
    trust: Literal["untrusted", "trusted"] = "untrusted"


Content: TypeAlias = Document | DigestedDocument


class Past:
    """One session's past, at the moment of a decision; nothing is read before it is asked for."""

    __slots__ = ("_approvers", "_reader", "_session", "_tools", "_tx", "stood_on")

    def __init__(
        self,
        reader: Reader,
        session: SessionRecord,
        tools: ToolRegistry,
        tx: Transaction | None = None,
        approvers: Mapping[str, Ed25519PublicKey] | None = None,
    ) -> None:
        """With ``tx``, which is the ``reader`` then, what is found out is kept in it.

        That is a count that is made, and labels that one of the ``approvers`` has taken away.
        """
        self._reader = reader
        self._session = session
        self._tools = tools
        self._tx = tx
        self._approvers = approvers or {}
        self.stood_on: dict[str, JSONValue] = {}
        """What was found of what was asked for, in few words: see wire.md, ``action.decided``."""

    def labels(self) -> list[str]:
        """Return the session's labels, sorted; those that were taken away are gone from here on."""
        labels = unlabelling.labels_left(
            self._reader, self._session.session, self._approvers, self._tx
        )
        self.stood_on["labels"] = [*labels]
        return labels

    def calls(self) -> dict[str, int]:
        """Return how often each tool was called; 0 for one that is known and was not."""
        return {**dict.fromkeys(self._tools.known, 0), **self._count()["calls"]}

    def total_calls(self) -> int:
        """Return how many calls there were."""
        return sum(self._count()["calls"].values())

    def history(self) -> list[dict[str, JSONValue]]:
        """Return the last calls, at most :data:`HISTORY`, oldest first.

        Raises :class:`JournalTampered`, also when the row of one of them is missing.
        """
        actions = [self._past_action(uid) for uid in self._count()["last"]]
        self.stood_on["history"] = [action.last_seq for action in actions]
        return [
            {
                "tool": action.tool,
                "status": action.status,
                "labels": list(self._tools.contract(action.tool).labels),
            }
            for action in actions
        ]

    def _past_action(self, uid: str) -> ActionRecord:
        action = self._reader.action(uid)
        if action is None:
            raise JournalTampered(
                f"the row of action {uid} is missing, which session {self._session.session} has "
                "called; nothing was decided"
            )
        return action

    def _count(self) -> dict[str, Any]:
        known = self._reader.usage(calls_name(self._session.session))
        if known is not None:
            self.stood_on["calls"] = known.last_seq
            data: dict[str, Any] = jsonvalue.parse(known.data)
            return data
        calls: dict[str, int] = {}
        started = sorted(_started(self._reader, self._session))
        for _, _, tool in started:
            calls[tool] = calls.get(tool, 0) + 1
        count = {"calls": calls, "last": [uid for _, uid, _ in started[-HISTORY:]]}
        if self._tx is not None:
            self.stood_on["calls"] = _keep(self._tx, self._session.session, count)
        return count


def labels_of(reader: Reader, session: str) -> list[str]:
    """Return a session's labels, sorted."""
    return [record.label for record in reader.labels(session)]


def count_call(tx: Transaction, record: ActionRecord) -> None:
    """Count a call that has just been claimed, if anybody has ever asked for its session's."""
    known = tx.usage(calls_name(record.session))
    if known is None:
        return
    count: dict[str, Any] = jsonvalue.parse(known.data)
    calls = count["calls"]
    calls[record.tool] = calls.get(record.tool, 0) + 1
    count["last"] = [*count["last"], record.uid][-HISTORY:]
    _keep(tx, record.session, count)


def add_labels(
    tx: Transaction,
    session: str,
    labels: Iterable[str],
    source: dict[str, JSONValue],
    action: str | None = None,
) -> None:
    """Give a session labels; ``source`` tells where they come from.

    Those that it has are given once more: whoever takes one away has to know of this, too.

    ``action`` is the action that the events are about: its last event is written after this.
    """
    tx.add_labels(session, sorted(set(labels)), source, action)


def observe(tx: Transaction, session: str, document: Content, action: str | None = None) -> None:
    """Journal that content came into a session, by its digest; untrusted content labels it."""
    digest = document.digest
    data: dict[str, JSONValue] = {
        "digest": digest,
        "length": document.length,
        "trust": document.trust,
    }
    if document.source is not None:
        data["source"] = document.source
    tx.append(EventKind.OBSERVATION_RECORDED, data, session=session, action=action)
    if document.trust == "untrusted":
        add_labels(tx, session, (UNTRUSTED,), {"observation": digest}, action)


def take_in(
    tx: Transaction,
    record: ActionRecord,
    emits: Iterable[str],
    documents: Iterable[Content] = (),
) -> None:
    """Take what a body has brought into its session; the action's own last event comes after."""
    for document in documents:
        observe(tx, record.session, document, record.uid)
    if emits:
        add_labels(tx, record.session, emits, {"action": record.uid}, record.uid)


def take_over(tx: Transaction, session: str, uid: str) -> None:
    """Give a session what an action of another one has brought, as it is told its outcome.

    ``uid`` may be a proposal's; then it is told those of all its actions.
    """
    action = tx.action(uid)
    for record in tx.actions_of(uid) if action is None else [action]:
        add_labels(tx, session, brought_by(tx, record), {"action": record.uid})


def brought_by(tx: Transaction, record: ActionRecord) -> set[str]:
    """Return the labels that an action has brought, or could have, by its own log.

    Raises :class:`JournalTampered`.
    """
    labels: set[str] = set()
    for event in tx.log(record.uid, record.last_seq):
        data = jsonvalue.parse(event.data)
        labels.update(data.get("emits", ()))
        if event.kind == EventKind.OBSERVATION_RECORDED and data["trust"] == "untrusted":
            labels.add(UNTRUSTED)
    return labels


def emitted(tx: Transaction, record: ActionRecord) -> list[str]:
    """Return what the contract of an action's tool emitted when the action was last started.

    Raises :class:`JournalTampered`.
    """
    event = tx.last_event(record.uid, EventKind.ACTION_EXECUTING, record.last_seq)
    labels: list[str] = [] if event is None else jsonvalue.parse(event.data).get("emits", [])
    return labels


def _started(reader: Reader, session: SessionRecord) -> Iterator[tuple[int, str, str]]:
    """Yield the place, uid and tool of every call of a session."""
    # Uids sort by time, but for clocks that were set back since.
    first = f"{max(session.opened_at - _CLOCKS_DIFFER, 0) // 1000:011x}"
    for record in reader.actions_since(session.session, first):
        if record.attempts > 0 and _calls_tool(reader, record):
            event = reader.last_event(record.uid, EventKind.ACTION_EXECUTING, record.last_seq)
            yield record.last_seq if event is None else event.seq, record.uid, record.tool


def _calls_tool(reader: Reader, record: ActionRecord) -> bool:
    # A tool may have the name of a state action; then the digest tells which it is.
    return (
        record.tool not in _STATE_ACTIONS
        or redacted(record)
        or content_of(reader, record) == content_digest(record.tool, record.args)
    )


def _keep(tx: Transaction, session: str, count: dict[str, Any]) -> int:
    return tx.count(calls_name(session), count, {"calls": sum(count["calls"].values())}, session)
