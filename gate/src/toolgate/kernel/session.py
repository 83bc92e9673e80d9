"""Opening a session: a new one, or the one of that name that this journal knows."""

from __future__ import annotations

from collections.abc import Mapping

from toolgate.errors import ConfigError
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Transaction, new_id
from toolgate.journal.records import SessionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel import state

AUTO = "auto"


def open_session(
    tx: Transaction, name: str, project: str, agent: str, initial: Mapping[str, JSONValue]
) -> SessionRecord:
    """Return the session ``name``, continued or new; :data:`AUTO` is always a new one.

    A new one's state is ``initial``. Raises :class:`ConfigError` when another project or agent has
    a session of that name.
    """
    known = None if name == AUTO else tx.session(name)
    if known is not None:
        if (known.project, known.agent) != (project, agent):
            raise ConfigError(
                "session",
                [_foreign(known)],
            )
        return known
    session = new_id(tx.now) if name == AUTO else name
    record = SessionRecord(session, project, agent, opened_at=tx.now, last_seq=0)
    seq = tx.append(EventKind.SESSION_OPENED, {"project": project, "agent": agent}, session=session)
    record = record._replace(last_seq=seq)
    tx.insert(record)
    state.commit(tx, session, None, initial)
    return record


def _foreign(known: SessionRecord) -> str:
    return (
        f"the journal has a session {known.session!r} of project {known.project!r} and agent "
        f"{known.agent!r}; choose another name"
    )
