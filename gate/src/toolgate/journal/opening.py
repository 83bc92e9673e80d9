"""Opening a deployment's journal: its store, its key, and the folder of its runs' locks."""

from __future__ import annotations

import logging
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from toolgate.config import (
    AnchorFile,
    EnvKey,
    FileKey,
    GateConfig,
    JournalKeySource,
    MemoryJournal,
    SqliteJournal,
)
from toolgate.errors import JournalTampered, JournalUnavailable
from toolgate.journal.anchor import Anchor
from toolgate.journal.anchoring import Anchored, anchored_at, missing
from toolgate.journal.chain import JournalKey
from toolgate.journal.journal import Journal, Reader, check_key
from toolgate.journal.key import key_from_env, key_from_file, random_key
from toolgate.journal.liveness import Liveness
from toolgate.journal.sqlite import SQLiteStore

_log = logging.getLogger("toolgate")


def open_journal(config: GateConfig, tell: Callable[[str], None] = _log.warning) -> Journal:
    """Open the journal for a gate, making store and key when there is no journal yet.

    ``tell`` is how people hear later of an anchor that cannot be written.

    Raises :class:`JournalUnavailable`, :class:`~toolgate.errors.JournalKeyError` or
    :class:`~toolgate.errors.JournalError`.
    """
    anchor = anchor_path(config)
    if isinstance(config.journal, MemoryJournal):
        store, liveness, key = SQLiteStore(None), Liveness(None), random_key()
    else:
        path = config.journal.path
        if anchor is None:
            _refuse_emptied(path)
        store = SQLiteStore(path, power=config.durability == "power")
        liveness = Liveness(runs_folder(path))
        new = store.meta("key_id") is None and store.last_seq() == 0
        key = _key(config.journal_key, create=new)
    return Journal(store, key, liveness, None if anchor is None else Anchor(anchor), tell)


def anchor_path(config: GateConfig) -> Path | None:
    """Return where a deployment's anchor is; ``None``: it has none.

    Where the config does not say, it is beside a key that is a file, by the journal's name: configs
    that share a folder share a key.
    """
    if isinstance(config.journal, MemoryJournal):
        return None
    match config.journal_anchor, config.journal_key:
        case AnchorFile(path), _:
            return path
        case None, FileKey(path):
            return path.with_name(f"{config.journal.path.name}.anchor")
    return None


def unanchored(config: GateConfig) -> str | None:
    """Return what the operator of a journal should know that has no anchor without saying so."""
    if config.journal_anchor is not None or anchor_path(config) is not None:
        return None
    return (
        "the journal has no anchor, because its key is no file: a gate that is started later "
        "cannot tell an older copy of the journal's rows from the newest; set journal_anchor to a "
        "file that nobody else can write, or to none"
    )


def exposures(journal: Path) -> list[str]:
    """Return who else may read a journal, or put another one in its place, for people."""
    found = []
    try:
        folder, file = journal.parent.stat(), journal.stat()
    except OSError:
        return []
    mode = stat.S_IMODE(file.st_mode)
    if mode & 0o077:
        found.append(
            f"the journal {journal} has mode {mode:04o}: others may read what the tools were given "
            "and returned; chmod 600 it"
        )
    if folder.st_mode & stat.S_IWOTH and not folder.st_mode & stat.S_ISVTX:
        found.append(
            f"anybody may write to {journal.parent}, and put another journal in the place of this "
            "one; chmod 700 it"
        )
    return found


def _refuse_emptied(path: Path) -> None:
    """Refuse a file that gates have run on, and that has nothing in it: it would forget them all.

    Raises :class:`~toolgate.errors.JournalTampered`.
    """
    # In this order: a gate that makes the journal at this moment makes the folder last, and one
    # that closes it fills the database before the WAL goes.
    runs = runs_folder(path)
    if runs.is_dir() and not _size(path.with_name(f"{path.name}-wal")) and _size(path) == 0:
        raise JournalTampered(
            f"the journal {path} is empty, and gates have run on it: restore it; or, to begin "
            f"anew, remove it and {runs}"
        )


def _size(path: Path) -> int | None:
    """Return a file's size in bytes, ``None`` when it is not there."""
    try:
        return path.stat().st_size
    except OSError:
        return None


def runs_folder(journal: Path) -> Path:
    """Return the folder of the locks by which the gates of a journal know that others live."""
    return journal.with_name(f"{journal.name}-runs")


@dataclass(frozen=True, slots=True)
class Inspection:
    """A journal opened by a command: verified reading, and the plain store beneath it."""

    reader: Reader
    store: SQLiteStore
    key: JournalKey
    anchor: Anchor | None = None

    def close(self) -> None:
        """Close what is open."""
        self.store.close()
        if self.anchor is not None:
            self.anchor.close()


def inspect_journal(config: GateConfig, *, anchored: bool = False) -> Inspection:
    """Open an existing journal for a command; nothing is created.

    With ``anchored``, what stands earlier than the anchor knows is not believed; where there is no
    anchor, every row that verifies is.

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
    path = anchor_path(config) if anchored else None
    anchor = None if path is None else Anchor(path, reads=True)
    if anchor is not None:
        anchor.open()
    return Inspection(Reader(store, key, anchor), store, key, anchor)


def read_anchor(config: GateConfig, journal: Inspection) -> Anchored | None:
    """Return what the anchor knows of a journal; ``None``: it has none.

    Raises :class:`~toolgate.errors.JournalTampered` for one that is gone, and
    :class:`~toolgate.errors.JournalError` for one that cannot be used.
    """
    path = anchor_path(config)
    if path is None:
        return None
    anchor = Anchor(path, reads=True)
    try:
        if anchor.open():
            return Anchored(path, anchor.log(), anchor.highest())
        if seq := anchored_at(journal.reader):
            raise missing(anchor, seq)
        return None
    finally:
        anchor.close()


def _key(source: JournalKeySource, *, create: bool) -> JournalKey:
    match source:
        case FileKey(path):
            return key_from_file(path, create=create)
        case EnvKey(name):
            return key_from_env(name)
