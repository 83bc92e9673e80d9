"""Opening a deployment's journal: its store, its key, and the folder of its runs' locks."""

from __future__ import annotations

from dataclasses import dataclass

from toolgate.config import (
    EnvKey,
    FileKey,
    GateConfig,
    JournalKeySource,
    MemoryJournal,
    SqliteJournal,
)
from toolgate.errors import JournalUnavailable
from toolgate.journal.chain import JournalKey
from toolgate.journal.journal import Journal, Reader, check_key
from toolgate.journal.key import key_from_env, key_from_file, random_key
from toolgate.journal.liveness import Liveness
from toolgate.journal.sqlite import SQLiteStore


def open_journal(config: GateConfig) -> Journal:
    """Open the journal for a gate, making store and key when there is no journal yet.

    Raises :class:`JournalUnavailable`, :class:`~toolgate.errors.JournalKeyError` or
    :class:`~toolgate.errors.JournalError`.
    """
    if isinstance(config.journal, MemoryJournal):
        store, liveness, key = SQLiteStore(None), Liveness(None), random_key()
    else:
        path = config.journal.path
        store = SQLiteStore(path, power=config.durability == "power")
        liveness = Liveness(path.with_name(f"{path.name}-runs"))
        key = _key(config.journal_key, create=store.meta("key_id") is None)
    return Journal(store, key, liveness)


@dataclass(frozen=True, slots=True)
class Inspection:
    """A journal opened by a command: verified reading, and the plain store beneath it."""

    reader: Reader
    store: SQLiteStore
    key: JournalKey


def inspect_journal(config: GateConfig) -> Inspection:
    """Open an existing journal for a command; nothing is created.

    Raises :class:`JournalUnavailable` when there is none, and
    :class:`~toolgate.errors.JournalKeyError`.
    """
    if not isinstance(config.journal, SqliteJournal):
        raise JournalUnavailable(
            "the config's journal is memory:, which nobody but its own gate can look at"
        )
    store = SQLiteStore(config.journal.path, create=False)
    key = _key(config.journal_key, create=False)
    check_key(store, key)
    return Inspection(Reader(store, key), store, key)


def _key(source: JournalKeySource, *, create: bool) -> JournalKey:
    match source:
        case FileKey(path):
            return key_from_file(path, create=create)
        case EnvKey(name):
            return key_from_env(name)
