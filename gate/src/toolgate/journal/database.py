"""An SQLite journal's database: made, opened, brought to this program's schema, and checked."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
import time
from contextlib import closing
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final

from toolgate import clock, faults
from toolgate.errors import JournalError, JournalTampered, JournalUnavailable
from toolgate.journal.schema import (
    MIGRATIONS,
    NOT_AUTHORIZED,
    SCHEMA,
    SCHEMA_VERSION,
    authorize,
    expected_schema,
)

CHECKPOINT_BYTES: Final = 16 << 20
"""The WAL is copied back into the database, and begun anew, once it is about this long."""
PAGE_BYTES: Final = 2048
"""A commit writes whole pages, a few hundred bytes on each: small ones make it cheaper."""
OPEN_PATIENCE: Final = 10.0
"""Seconds to wait for others who make or upgrade the same journal."""
OPEN_RETRY: Final = 0.01
"""Seconds between two tries to open it."""
CHECKPOINT_PATIENCE: Final = 0.02
"""Seconds that the end of a checkpoint may wait for a writer or make writers wait for a reader."""


class Translated:
    """Turns SQLite's errors into the journal's own; one instance serves every statement."""

    __slots__ = ("_doing",)

    def __init__(self, doing: str) -> None:
        self._doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            return
        if isinstance(error, sqlite3.DatabaseError) and str(error) == NOT_AUTHORIZED:
            raise JournalTampered(
                "the journal's database holds a trigger or a view that the journal never made: "
                "nothing is read or written through it"
            ) from error
        if isinstance(error, UnicodeEncodeError):
            raise JournalTampered(
                "the journal has a row that names another in text that is not UTF-8: no gate has "
                "written it"
            ) from error
        if isinstance(error, sqlite3.Error):
            text = f"the journal could not be {self._doing}: {error}"
            raise JournalUnavailable(text) from error


READING: Final = Translated("read")
WRITING: Final = Translated("written")


def open_database(path: Path | None, *, power: bool, create: bool) -> sqlite3.Connection:
    """Open the file, or a database in memory; what is refused is closed again.

    With ``create``, the file (mode 0600) and its tables are made when they are missing, and brought
    to this program's schema when an older one made them: in one transaction, under the write lock.

    Raises :class:`~toolgate.errors.JournalUnavailable` when it cannot be opened,
    :class:`~toolgate.errors.JournalTampered` when it holds anything but a journal, and
    :class:`~toolgate.errors.JournalError` when its schema is another program's.
    """
    if path is not None:
        _prepare_file(path, create=create)
    with Translated(f"opened at {path}" if path is not None else "opened"):
        patience = time.monotonic() + OPEN_PATIENCE
        while True:
            try:
                return _connect(path, power=power, create=create)
            except sqlite3.OperationalError as error:
                # SQLite does not wait for others who make the same new file a WAL database.
                busy = error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_BUSY
                if not busy or time.monotonic() > patience:
                    raise
                clock.pause(OPEN_RETRY)


def _connect(path: Path | None, *, power: bool, create: bool) -> sqlite3.Connection:
    db = sqlite3.connect(
        str(path) if path is not None else ":memory:",
        isolation_level=None,
        timeout=5.0,
        cached_statements=64,
        check_same_thread=False,
    )
    # Any bytes may stand where a text ought to be. What is not UTF-8 is read as lone surrogates,
    # which no text of the gate's has: such a row fails by its MAC like any other, and alone.
    db.text_factory = partial(str, encoding="utf-8", errors="surrogateescape")
    try:
        db.execute("PRAGMA trusted_schema = OFF")
        # What is redacted in a row is overwritten in its page, too.
        db.execute("PRAGMA secure_delete = ON")
        db.execute(f"PRAGMA synchronous = {'FULL' if power else 'NORMAL'}")
        db.execute("PRAGMA wal_autocheckpoint = 0")
        # A WAL that is begun anew is cut to just below the length at which it is looked at.
        db.execute(f"PRAGMA journal_size_limit = {CHECKPOINT_BYTES * 15 // 16}")
        if create:
            db.execute(f"PRAGMA page_size = {PAGE_BYTES}")
            db.execute("PRAGMA journal_mode = WAL")
        _migrate(db, path, create=create)
        db.set_authorizer(authorize)
        # From here on a lock that is held is waited for by the caller, never inside SQLite.
        db.execute("PRAGMA busy_timeout = 0")
    except BaseException:
        db.close()
        raise
    return db


def identity(path: str) -> tuple[int, int] | None:
    """Return which file lies at ``path`` (device and inode), ``None`` when there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino


def checkpoint(path: Path) -> None:
    """Copy the WAL back into the database, so that the next writer begins it anew.

    Nearly all of it is copied without anybody waiting. What was committed meanwhile is copied under
    the write lock: of a gate that never pauses, the WAL would grow for ever.
    """
    # A file that was moved away is not made again.
    place = f"{path.absolute().as_uri()}?mode=rw"
    try:
        with closing(
            sqlite3.connect(place, uri=True, isolation_level=None, timeout=CHECKPOINT_PATIENCE)
        ) as db:
            busy, length, copied = db.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            if not busy and length == copied:
                # Nobody reads an older view, for which a part of the WAL would have to stay.
                db.execute("PRAGMA wal_checkpoint(FULL)")
    except sqlite3.Error:
        # Nothing is lost: the WAL stays as it is, and the next turn tries again.
        return


def _migrate(db: sqlite3.Connection, path: Path | None, *, create: bool) -> None:
    """Bring the database to this program's schema; without ``create``, it must have it."""
    version = _schema_version(db)
    if create and version < SCHEMA_VERSION:
        db.execute("BEGIN IMMEDIATE")
        # Whoever had the lock before may have done it.
        version = _schema_version(db)
        if version < SCHEMA_VERSION:
            _check_schema(db, path, version)
        for number in range(version + 1, SCHEMA_VERSION + 1):
            for statement in MIGRATIONS[number].split(";"):
                if statement.strip():
                    db.execute(statement)
            version = number
        db.execute(f"PRAGMA user_version = {version}")
        faults.hit("start.migrating")
        faults.fail_store()
        db.execute("COMMIT")
        faults.hit("start.migrated")
    if version > SCHEMA_VERSION:
        raise JournalError(
            f"the journal {path} has schema {version}, made by a newer Toolgate; this one "
            f"knows {SCHEMA_VERSION}: upgrade it"
        )
    if version < 1:
        raise JournalError(f"{path} is not a journal (schema {version})")
    if version < SCHEMA_VERSION:
        raise JournalError(
            f"the journal {path} has schema {version}, made by an older Toolgate; this "
            f"one needs {SCHEMA_VERSION}: start a gate on it once, which upgrades it"
        )
    _check_schema(db, path, version)


def _check_schema(db: sqlite3.Connection, path: Path | None, version: int) -> None:
    """Refuse a database that holds anything but the journal's own tables and indexes.

    A trigger or a view planted in it would make statements do other things than they say.
    """
    found = set(db.execute(SCHEMA).fetchall())
    strange = sorted(f"{kind} {name}" for kind, name, _ in found ^ expected_schema(version))
    if strange:
        raise JournalTampered(
            f"the database {path} is not a journal as this program makes it: {', '.join(strange)}"
        )


def _schema_version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _prepare_file(path: Path, *, create: bool) -> None:
    """Make the file with mode 0600 before SQLite would make it with the umask's.

    SQLite gives the files beside it (``-wal``, ``-shm``) the same mode.
    """
    try:
        if create:
            make_folder(path.parent)
            if not path.exists():
                _make_file(path)
        elif not path.exists():
            raise JournalUnavailable(
                f"there is no journal at {path}: has a gate run with this config?"
            )
        if not stat.S_ISREG(path.stat().st_mode):
            raise JournalUnavailable(f"cannot open the journal {path}: it is not a regular file")
    except OSError as error:
        raise JournalUnavailable(f"cannot open the journal {path}: {error.strerror}") from None


def make_folder(folder: Path) -> None:
    """Make a folder, and those above it that are missing, with mode 0700 whatever the umask."""
    if folder.is_dir():
        return
    make_folder(folder.parent)
    try:
        folder.mkdir(mode=0o700)
    except FileExistsError:
        return
    folder.chmod(0o700)


def _make_file(path: Path) -> None:
    # A file that is in use is never opened and closed here: closing it would take the locks away
    # that SQLite holds on it elsewhere in this process.
    fd, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        os.fchmod(fd, 0o600)
    finally:
        os.close(fd)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return
    finally:
        os.unlink(temporary)
