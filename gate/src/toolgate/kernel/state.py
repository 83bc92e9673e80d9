"""The session's state: what a transaction reads of it, commits to it, and undoes.

Every value carries the version it was written under: the place in the log of the event that wrote
it. Undoing a change puts back the value and its version, but only where the key still has the
version that the change gave it; what somebody else has written since stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from toolgate import jsonvalue
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Reader, Transaction
from toolgate.journal.records import StateRecord
from toolgate.jsonvalue import JSONValue


class StateView(Mapping[str, JSONValue]):
    """A session's state, read key by key when it is asked for, and verified."""

    def __init__(self, reader: Reader, session: str) -> None:
        """What is read through a transaction cannot change before that ends."""
        self._reader = reader
        self._session = session
        self.stood_on: dict[str, JSONValue] = {}
        """The place of the last event that wrote state, once any was asked for; 0: nobody has."""

    def __getitem__(self, key: str) -> JSONValue:
        record = self._record(key)
        if record is None or record.value is None:
            raise KeyError(key)
        return jsonvalue.parse(record.value)

    def __contains__(self, key: object) -> bool:
        record = self._record(key) if isinstance(key, str) else None
        return record is not None and record.value is not None

    def __iter__(self) -> Iterator[str]:
        return (record.key for record in self._present())

    def __len__(self) -> int:
        return sum(1 for _ in self._present())

    def everything(self) -> dict[str, JSONValue]:
        """Return all of it, read at once."""
        return {
            record.key: jsonvalue.parse(record.value)
            for record in self._present()
            if record.value is not None
        }

    def _record(self, key: str) -> StateRecord | None:
        record = self._reader.state(self._session, key)
        self._note()
        return record

    def _note(self) -> None:
        self.stood_on["state"] = self._reader.heads.last(self._session)

    def _present(self) -> Iterator[StateRecord]:
        records = self._reader.states(self._session)
        self._note()
        return (record for record in records if record.value is not None)


def commit(
    tx: Transaction, session: str, action: str | None, changes: Mapping[str, JSONValue]
) -> None:
    """Write keys, as the action ``action`` did (``None``: the session's beginning)."""
    if not changes:
        return
    before = {key: tx.state(session, key) for key in changes}
    described: list[JSONValue] = []
    for key, value in changes.items():
        was = before[key]
        change: dict[str, JSONValue] = {"key": key, "value": value}
        if was is not None:
            change["version_before"] = was.version
            if was.value is not None:
                change["before"] = jsonvalue.parse(was.value)
        described.append(change)
    data: dict[str, JSONValue] = {"changes": described}
    seq = tx.append_state(EventKind.STATE_CHANGED, data, session=session, action=action)
    for key, value in changes.items():
        tx.put(StateRecord(session, key, jsonvalue.canonical(value), seq, seq))


def replace(
    tx: Transaction, session: str, values: Mapping[str, JSONValue], kind: EventKind, **data: Any
) -> dict[str, JSONValue]:
    """Make the state exactly ``values``; returns what changed, ``None`` for a key that went."""
    changes: dict[str, JSONValue] = difference(tx, session, values)
    seq = tx.append_state(kind, {**data, "changes": sorted(changes)}, session=session)
    for key in changes:
        value = jsonvalue.canonical(values[key]) if key in values else None
        tx.put(StateRecord(session, key, value, seq, seq))
    return changes


def difference(
    reader: Reader, session: str, values: Mapping[str, JSONValue]
) -> dict[str, JSONValue]:
    """Return what would change if the state became ``values``; ``None`` for a key that would go."""
    now = StateView(reader, session).everything()
    changed = {
        key: value
        for key, value in values.items()
        if key not in now or not jsonvalue.equal(now[key], value)
    }
    return {**changed, **{key: None for key in now if key not in values}}


def undo(
    tx: Transaction, session: str, proposal: str, actions: Iterable[str]
) -> tuple[list[str], list[str]]:
    """Undo what a proposal's actions changed, latest first.

    Returns the keys that are as they were before, and those that somebody else has written since.
    Raises :class:`~toolgate.errors.JournalTampered`.
    """
    rows = [row for row in map(tx.action, actions) if row is not None]
    events = [tx.last_event(row.uid, EventKind.STATE_CHANGED, row.last_seq) for row in rows]
    changes = [
        (event.seq, change)
        for event in sorted((event for event in events if event), key=lambda e: e.seq, reverse=True)
        for change in jsonvalue.parse(event.data)["changes"]
    ]
    current: dict[str, StateRecord | None] = {}
    kept: dict[str, None] = {}
    undone: dict[str, None] = {}
    for version, change in changes:
        key = change["key"]
        if key not in current:
            current[key] = tx.state(session, key)
        record = current[key]
        if record is None or record.version != version:
            kept[key] = None
            continue
        before = jsonvalue.canonical(change["before"]) if "before" in change else None
        current[key] = record._replace(value=before, version=change.get("version_before", 0))
        undone[key] = None
    restored = sorted(key for key in undone if key not in kept)
    data: dict[str, JSONValue] = {
        "restored": list(restored),
        "kept": sorted(kept),
        "changes": sorted(undone),
    }
    seq = tx.append_state(EventKind.STATE_ROLLED_BACK, data, session=session, action=proposal)
    for key in undone:
        if (record := current[key]) is not None:
            tx.put(record._replace(last_seq=seq))
    return restored, sorted(kept)
