"""The anchor: how far gates have seen a log, kept where writers of its store cannot reach.

The store is not trusted, and a gate that starts knows nothing else of what was before it. The
anchor is a small SQLite database beside the journal key that tells it:

1. the log's last place that was written down, with its hash, and the hash of the log's first event:
   a log that does not contain it was cut, set back, or is another one;
2. a *mark* for each thing that gates believe the store of: the newest place at which it was seen to
   stand. A row or a log that stands earlier is not believed.

A mark only grows, whichever gate writes it. The log's place moves only over events whose marks the
anchor has, and only on from a place that the journal still holds. What is written here must not be
lost by the store any more (:mod:`toolgate.journal.anchoring` sees to all of that): an anchor that
is ahead of its journal tells of tampering, never of a crash.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import stat
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

from toolgate.errors import AnchorDamaged, JournalError, JournalTampered, JournalUnavailable
from toolgate.journal.database import identity, make_folder

Mark: TypeAlias = tuple[str, str, str]
"""What a place is remembered of: a kind, and what names it."""

_VERSION: Final = 1
_TABLES: Final = f"""
    CREATE TABLE log (
        one INTEGER PRIMARY KEY CHECK (one = 1), first BLOB NOT NULL, seq INTEGER NOT NULL,
        hash BLOB NOT NULL);
    CREATE TABLE mark (
        kind TEXT NOT NULL, name TEXT NOT NULL, part TEXT NOT NULL, seq INTEGER NOT NULL,
        PRIMARY KEY (kind, name, part)) WITHOUT ROWID;
    PRAGMA user_version = {_VERSION};
"""
_LAST: Final = "SELECT seq FROM mark WHERE kind = ? AND name = ? AND part = ?"
_LOG: Final = "SELECT first, seq, hash FROM log"
_ROWS: Final = 64
"""Marks that one statement writes: each statement takes and gives up the interpreter's lock."""
_PATIENCE: Final = 5.0
"""Seconds to wait for another gate that writes the anchor."""
ANEW: Final = "`toolgate journal anchor` makes it anew from a journal that verifies"
"""What is to be done where an anchor is gone for good."""


class Log(NamedTuple):
    """How far a log has come: the hash of its first event, and the place and hash of a later one.

    The first is what tells one journal from another.
    """

    first: bytes
    seq: int
    hash: bytes


class Anchor:
    """The anchor in one file. Every method raises :class:`JournalUnavailable` when that fails."""

    def __init__(self, path: Path, *, reads: bool = False) -> None:
        """``path`` is where it is, or will be; nothing is opened or made yet.

        Who only ``reads`` it can do so where nobody can write, and nothing is to be read of a
        write-ahead log.
        """
        self.path = path
        self._reads = reads
        self._reading: sqlite3.Connection | None = None
        self._writing: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None

    def open(self) -> bool:
        """Open the file, and tell whether there is one.

        Raises :class:`~toolgate.errors.JournalError` for one that others may read or write, or that
        a newer program made, and :class:`~toolgate.errors.AnchorDamaged`.
        """
        try:
            mode = stat.S_IMODE(self.path.stat().st_mode)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise JournalUnavailable(
                f"cannot read the journal's anchor {self.path}: {error.strerror}"
            ) from None
        if mode & 0o077:
            raise JournalError(
                f"the journal's anchor {self.path} has mode {mode:04o}: others may read or change "
                "it; chmod 600 it"
            )
        self._file = identity(str(self.path))
        self._reading = self._connect()
        with self._translated("read"):
            version = self._reading.execute("PRAGMA user_version").fetchone()[0]
            if version == _VERSION:
                self._reading.execute("SELECT 1 FROM log, mark LIMIT 1").fetchone()
        if version > _VERSION:
            raise JournalError(
                f"the journal's anchor {self.path} has version {version}, made by a newer "
                f"Toolgate; this one knows {_VERSION}: upgrade it"
            )
        if version != _VERSION:
            raise AnchorDamaged(f"{self.path} is not a journal's anchor: {ANEW}")
        return True

    def make(self, marks: Iterable[tuple[Mark, int]] = (), log: Log | None = None) -> None:
        """Make the file (mode 0600) with these marks and no others, in the place of any there is.

        It is there for good when this returns, also if the machine loses power. Nobody else may use
        it meanwhile.
        """
        self.close()
        temporary = self.path.with_name(f".{self.path.name}.{secrets.token_hex(4)}")
        with self._translated("written"):
            make_folder(self.path.parent)
            try:
                os.close(os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
                with closing(sqlite3.connect(temporary, isolation_level=None)) as db:
                    db.executescript(_TABLES)
                    db.execute("BEGIN")
                    _put(db, marks, log)
                    db.execute("COMMIT")
                    db.execute("PRAGMA journal_mode = WAL")
                # A log of changes to another file would be taken for this one's.
                for beside in ("-wal", "-shm"):
                    self.path.with_name(self.path.name + beside).unlink(missing_ok=True)
                _sync(temporary)
                temporary.replace(self.path)
                _sync(self.path.parent)
            finally:
                temporary.unlink(missing_ok=True)
        self.open()

    def last(self, mark: Mark) -> int:
        """Return the newest place at which a thing was seen to stand, 0 when it never was."""
        if self._reading is None:
            return 0
        try:
            row = self._reading.execute(_LAST, mark).fetchone()
        except sqlite3.Error as error:
            raise self._failed("read", error) from error
        return 0 if row is None else int(row[0])

    def log(self) -> Log | None:
        """Return how far the log has come; ``None``: nothing was written down yet."""
        if self._reading is None:
            return None
        with self._translated("read"):
            row = self._reading.execute(_LOG).fetchone()
        return None if row is None else Log(*row)

    def highest(self) -> int:
        """Return the highest place of any mark: looks at all of them."""
        if self._reading is None:
            return 0
        with self._translated("read"):
            return int(self._reading.execute("SELECT ifnull(max(seq), 0) FROM mark").fetchone()[0])

    def marks(self) -> Iterator[tuple[Mark, int]]:
        """Iterate over all marks, with their places."""
        if self._reading is None:
            return
        with self._translated("read"):
            for kind, name, part, seq in self._reading.execute("SELECT * FROM mark"):
                yield (kind, name, part), seq

    @contextmanager
    def view(self) -> Iterator[None]:
        """Read one unchanging view of the marks inside."""
        db = self._reading
        if db is None or db.in_transaction:
            yield
            return
        with self._translated("read"):
            db.execute("BEGIN")
            db.execute("SELECT 1 FROM log").fetchone()
        try:
            yield
        finally:
            db.execute("ROLLBACK")

    def write(self, marks: Iterable[tuple[Mark, int]], log: Log, after: Log | None) -> bool:
        """Keep the newer of each place; may run in another thread than the methods that read.

        The log's place moves from ``after``, which the journal was found to hold, and from no other
        that another gate has written meanwhile. Returns whether it is at ``log`` now, or beyond.
        Raises :class:`JournalTampered` when it is another journal's by now.
        """
        if identity(str(self.path)) != self._file:
            raise JournalUnavailable(
                f"the journal's anchor {self.path} was moved, removed or replaced while it was in "
                "use; restart the gate"
            )
        with self._translated("written"):
            if self._writing is None:
                self._writing = self._connect()
            db = self._writing
            db.execute("BEGIN IMMEDIATE")
            try:
                row = db.execute(_LOG).fetchone()
                now = None if row is None else Log(*row)
                if now is not None and now.first != log.first:
                    raise JournalTampered(another(self.path))
                behind = now is None or now.seq < log.seq
                _put(db, marks, log if behind and now == after else None)
                db.execute("COMMIT")
            except BaseException:
                # A full disk has undone it already.
                with suppress(sqlite3.Error):
                    db.execute("ROLLBACK")
                raise
        return now == after or not behind

    def close(self) -> None:
        """Close the file."""
        for db in (self._reading, self._writing):
            if db is not None:
                db.close()
        self._reading = self._writing = None

    def _connect(self) -> sqlite3.Connection:
        with self._translated("opened"):
            # It is never made here: a missing anchor is a matter of its own.
            place = f"{self.path.absolute().as_uri()}?mode=rw"
            if self._reads and not os.access(self.path.parent, os.W_OK) and self._is_whole():
                place = f"{self.path.absolute().as_uri()}?immutable=1"
            db = sqlite3.connect(
                place,
                uri=True,
                isolation_level=None,
                timeout=_PATIENCE,
                check_same_thread=False,
            )
            db.execute("PRAGMA trusted_schema = OFF")
            # The journal may be ahead of its anchor: the last marks may be lost with the power.
            db.execute("PRAGMA synchronous = NORMAL")
        return db

    def _is_whole(self) -> bool:
        """Tell whether all of it is in its file: nothing waits in its write-ahead log."""
        try:
            return self.path.with_name(f"{self.path.name}-wal").stat().st_size == 0
        except FileNotFoundError:
            return True

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            raise self._failed(doing, error) from error

    def _failed(self, doing: str, error: sqlite3.Error | OSError) -> JournalError:
        named = f"the journal's anchor {self.path}"
        if isinstance(error, OSError):
            return JournalUnavailable(f"{named} could not be {doing}: {error.strerror}")
        if isinstance(error, sqlite3.OperationalError):
            return JournalUnavailable(f"{named} could not be {doing}: {error}")
        return AnchorDamaged(f"{named} is damaged ({error}): {ANEW}")


def another(path: Path) -> str:
    """Return what is said of an anchor that is not the journal's."""
    return (
        f"the anchor {path} is another journal's, or this one was begun anew: restore the journal; "
        f"give each journal an anchor of its own (journal_anchor); or, to begin anew, remove {path}"
    )


def _put(db: sqlite3.Connection, marks: Iterable[tuple[Mark, int]], log: Log | None) -> None:
    rest = iter(marks)
    while some := list(islice(rest, _ROWS)):
        values = ", ".join(["(?, ?, ?, ?)"] * len(some))
        db.execute(
            f"INSERT INTO mark VALUES {values} ON CONFLICT (kind, name, part)"
            " DO UPDATE SET seq = excluded.seq WHERE excluded.seq > mark.seq",
            [value for mark, seq in some for value in (*mark, seq)],
        )
    if log is not None:
        db.execute(
            "INSERT INTO log VALUES (1, ?, ?, ?) ON CONFLICT (one) DO UPDATE"
            " SET seq = excluded.seq, hash = excluded.hash",
            log,
        )


def _sync(path: Path) -> None:
    """Have the disk keep a file, or a folder's names."""
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
