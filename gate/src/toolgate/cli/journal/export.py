"""``toolgate journal export``: the log as lines of JSON, whole enough to be verified elsewhere.

The format is told in the guide (docs/guides/journal.md): a line that begins it, a line an event,
and a line that ends it, by which one that was cut short is told from a whole one.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Annotated, Final

import typer
from rich.text import Text

from toolgate.cli.journal.progress import progress
from toolgate.cli.journal.show import MOST
from toolgate.cli.journal.shown import counted, plain
from toolgate.cli.terminal import (
    NO,
    ConfigOption,
    config_of,
    errors,
    one_line,
    reported,
)
from toolgate.errors import ToolgateError
from toolgate.journal.events import Event
from toolgate.journal.opening import Inspection, inspect_journal
from toolgate.jsonvalue import JSONValue

FORMAT: Final = "toolgate-journal-export"
VERSION: Final = 1
EVERY: Final = 4096
"""Events between two reports of progress."""


class ExportError(ToolgateError):
    """The export cannot be written where it should be."""


def export_events(
    config: ConfigOption,
    after: Annotated[
        int, typer.Option(min=0, max=MOST, help="Begin after this place in the log.")
    ] = 0,
    until: Annotated[
        int | None, typer.Option(min=0, max=MOST, help="End with this place in the log.")
    ] = None,
    session: Annotated[str | None, typer.Option(help="Only this session's events.")] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Write there (a new file, mode 0600) instead of printing.", metavar="FILE"
        ),
    ] = None,
) -> None:
    """Print all events as lines of JSON that can be verified without Toolgate.

    Exit 1 when one of them was not written with the journal key, or was changed: it is exported as
    it is, and told on stderr.
    """
    with reported():
        journal = inspect_journal(config_of(config))
        journal.store.snapshot()
        end = journal.store.last_seq()
        end = end if until is None else min(end, until)
        with _target(out) as file:
            total, forged = _export(journal, file, after, end, session)
        told = (
            f"the journal's event {forged} is not genuine, and maybe others: see `journal verify`"
        )
        if out is not None:
            errors.print(Text(f"{counted(total, 'event')} in {one_line(out)}"), soft_wrap=True)
    if forged is not None:
        errors.print(Text(told, style="bold red"), soft_wrap=True)
        raise typer.Exit(NO)


def _export(
    journal: Inspection, file: IO[str], after: int, end: int, session: str | None
) -> tuple[int, int | None]:
    """Write an export; returns how many events, and the place of the first that is not genuine."""
    store, total, forged = journal.store, 0, None
    ends: dict[str, int] = {}
    begin: dict[str, JSONValue] = {
        "format": FORMAT,
        "version": VERSION,
        "key_id": store.meta("key_id"),
        "after": after,
        "until": end,
        "session": session,
    }
    with progress(store.count(after=after, until=end, session=session), "events") as tell:
        _write(file, begin)
        for event in store.events(after=after, until=end, session=session):
            _write(file, exported(event))
            if forged is None and not journal.reader.genuine(event):
                forged = event.seq
            ends[str(event.run)] = event.n
            total += 1
            if total % EVERY == 0:
                tell(total)
        _write(file, {"end": True, "events": total, "runs": ends})
        tell(total)
    return total, forged


def exported(event: Event) -> dict[str, JSONValue]:
    """Return an event's line: everything that its hash covers, exactly, and the hashes as hex."""
    data: JSONValue
    try:
        data = event.data.decode()
    except (AttributeError, UnicodeDecodeError):
        # Somebody has written into the log; nothing that the gate wrote comes here.
        data = {"not_text": plain(event.data)}
    return {
        "seq": event.seq,
        "run": plain(event.run),
        "n": plain(event.n),
        "at": plain(event.at),
        "session": plain(event.session),
        "action": plain(event.action),
        "kind": plain(event.kind),
        "data": data,
        "prev": plain(event.prev),
        "hash": plain(event.hash),
        "mac": plain(event.mac),
    }


def _write(file: IO[str], line: dict[str, JSONValue]) -> None:
    # In ASCII: nothing in it acts on a terminal, and no locale changes it.
    file.write(json.dumps(line, separators=(",", ":")) + "\n")


@contextmanager
def _target(path: Path | None) -> Iterator[IO[str]]:
    """Open what is written to; a file is there whole, or not at all."""
    if path is None:
        yield sys.stdout
        sys.stdout.flush()
        return
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.exists() or path.is_symlink():
            raise ExportError(f"{path} exists: name another file, or remove it")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "w", encoding="ascii", newline="\n") as file:
                yield file
                file.flush()
                os.fsync(fd)
            # A link, unlike a move, never replaces what has come there meanwhile.
            os.link(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ExportError(f"cannot write {path}: {error.strerror}") from None
