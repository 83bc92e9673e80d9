"""How one gate knows that another is gone: a lock on a file per run, which dies with its holder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from toolgate.errors import JournalUnavailable
from toolgate.journal.database import make_folder


class Liveness:
    """Locks in one folder, one file a run. A run whose file nobody locks is gone."""

    def __init__(self, folder: Path | None) -> None:
        """``folder`` is made when missing; ``None`` is for a journal in memory, unshared."""
        self._folder = folder
        self._own: tuple[Path, int] | None = None

    def hold(self, run: str) -> None:
        """Take ``run``'s lock for the life of this process; raises :class:`JournalUnavailable`."""
        if self._folder is None:
            return
        path = self._folder / f"{run}.lock"
        try:
            make_folder(self._folder)
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            os.fchmod(fd, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise JournalUnavailable(f"cannot lock {path}: {error.strerror}") from None
        self._own = (path, fd)

    def alive(self, run: str) -> bool:
        """Tell whether the process of ``run`` still lives."""
        if self._folder is None:
            return False
        path = self._folder / f"{run}.lock"
        if self._own is not None and self._own[0] == path:
            return True
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
        finally:
            os.close(fd)
        path.unlink(missing_ok=True)
        return False

    def living(self) -> list[str]:
        """Return the runs whose processes still live."""
        found = [] if self._folder is None else sorted(self._folder.glob("*.lock"))
        return [path.stem for path in found if self.alive(path.stem)]

    def release(self) -> None:
        """Give up this process's own lock and remove its file."""
        if self._own is not None:
            path, fd = self._own
            self._own = None
            path.unlink(missing_ok=True)
            os.close(fd)
