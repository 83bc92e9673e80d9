"""``toolgate journal anchor``: what gates believe of a journal, made anew from all of it."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.text import Text

from toolgate.cli.journal.progress import progress
from toolgate.cli.journal.verify import verdict_line
from toolgate.cli.terminal import (
    NO,
    ConfigOption,
    config_of,
    console,
    reported,
)
from toolgate.config import GateConfig
from toolgate.errors import AnchorDamaged, JournalError, JournalTampered
from toolgate.journal.anchor import Anchor
from toolgate.journal.anchoring import Anchored
from toolgate.journal.journal import write_lock
from toolgate.journal.liveness import Liveness
from toolgate.journal.marking import mark_all
from toolgate.journal.opening import Inspection, anchor_path, inspect_journal, runs_folder
from toolgate.journal.verify import verify


def anchor_journal(
    config: ConfigOption,
    older: Annotated[
        bool,
        typer.Option(
            "--older",
            help="Take a journal that is older than its anchor, or another one, as it is.",
        ),
    ] = False,
) -> None:
    """Make the journal's anchor anew, from a journal that verifies; no gate may run on it.

    From then on gates take the journal for what it is now.
    """
    with reported():
        loaded = config_of(config)
        path = anchor_path(loaded)
        if path is None:
            raise JournalError("this journal has no anchor (journal_anchor)")
        journal = inspect_journal(loaded)
        _refuse_running(loaded, journal)
        write_lock(journal.store)
        try:
            done = _anew(Anchor(path), journal, older=older)
        finally:
            journal.store.rollback()
            journal.store.close()
    if not done:
        raise typer.Exit(NO)


def _refuse_running(config: GateConfig, journal: Inspection) -> None:
    path = journal.store.path
    running = [] if path is None else Liveness(runs_folder(path)).living()
    if running:
        raise JournalError(
            f"{len(running)} gate{'s run' if len(running) > 1 else ' runs'} on this journal: end "
            "them first"
        )


def _anew(anchor: Anchor, journal: Inspection, *, older: bool) -> bool:
    before = _known(anchor)
    with progress(journal.store.last_seq(), "events") as tell:
        report = verify(journal.store, journal.key, tell)
    console.print(verdict_line(report), soft_wrap=True)
    if report.problem is not None:
        console.print("the anchor is left as it is", markup=False)
        return False
    why = _behind(before, journal)
    if why is not None and not older:
        console.print(Text(f"{why}: say --older to do so", style="bold red"), soft_wrap=True)
        return False
    seq = mark_all(anchor, journal.reader)
    forgets = "" if why is None else "; whatever ran after it is forgotten, and may run again"
    told = f"anchor made: {anchor.path} takes the journal to end at event {seq:,}{forgets}"
    console.print(Text(told, style="green"), soft_wrap=True)
    return True


def _known(anchor: Anchor) -> Anchored | None:
    """Return what the anchor knows so far; ``None``: there is none, or it is damaged.

    Raises :class:`JournalError` for any other that cannot be read: what it knows is not given up.
    """
    why = "missing"
    try:
        if anchor.open():
            return Anchored(anchor.path, anchor.log(), anchor.highest())
    except AnchorDamaged:
        why = "damaged"
    finally:
        anchor.close()
    told = f"the anchor is {why}: that the journal is not older than it knew, nobody can tell"
    console.print(Text(told, style="yellow"), soft_wrap=True)
    return None


def _behind(before: Anchored | None, journal: Inspection) -> str | None:
    """Return why a journal is not the one, or not as new, as its anchor knew it to be."""
    try:
        if before is not None:
            before.hold(journal.reader)
    except JournalTampered as error:
        return str(error)
    return None
