"""Notices that a policy document, or the signature beside it, has changed on disk.

What counts is content, not times. Still the files are read only when that may bring something new:

1. when what the file system tells of them is no longer what it was at the last look;
2. when the last change is so young that another one may have left the same time behind;
3. when the last look found something new: content is reported once two looks in a row have found
   the same, so that a file half written, or a document without its new signature, is not taken for
   what its author meant.

A file that is replaced by renaming, and one that is missing for a moment, are changes like others.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final, TypeAlias

from toolgate import clock
from toolgate.policy.signing import signature_file

YOUNG: Final = 3_000_000
"""Microseconds: no file system in use tells times apart less exactly than by two seconds."""

_Stamp: TypeAlias = tuple[int, int, int, int, int] | None


class DocumentWatch:
    """Looks at one policy document; make it before the document is read for the first time."""

    def __init__(self, document: Path) -> None:
        """What the files hold now counts as dealt with."""
        self._files = (document, signature_file(document))
        self._stamps = self._look()
        self._seen = self._dealt = self.content()

    def content(self) -> bytes:
        """Return a digest of what the files hold now."""
        found = hashlib.sha256()
        for file in self._files:
            try:
                text = file.read_bytes()
            except OSError as error:
                found.update(b"%d!" % (error.errno or 0))
            else:
                found.update(b"%d:%b" % (len(text), text))
        return found.digest()

    def changed(self) -> bool:
        """Tell whether there is content that has not been dealt with and has come to rest."""
        stamps = self._look()
        if stamps == self._stamps and self._seen == self._dealt and not _young(stamps):
            return False
        # The times were read first: a change that comes after them shows at the next look.
        found = self.content()
        at_rest = found == self._seen
        self._stamps, self._seen = stamps, found
        return at_rest and found != self._dealt

    def dealt_with(self, content: bytes) -> None:
        """Take note of content that has been loaded, or refused: it is not reported again."""
        self._dealt = content

    def _look(self) -> tuple[_Stamp, ...]:
        return tuple(map(_stamp, self._files))


def _stamp(file: Path) -> _Stamp:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _young(stamps: tuple[_Stamp, ...]) -> bool:
    newest = max((max(stamp[3:]) for stamp in stamps if stamp is not None), default=0)
    return clock.now() - newest // 1000 < YOUNG
