"""``toolgate journal verify``: the proof that the journal is whole."""

from __future__ import annotations

import typer
from rich.text import Text

from toolgate.cli.journal.progress import progress
from toolgate.cli.journal.shown import counted
from toolgate.cli.terminal import (
    NO,
    ConfigOption,
    JSONOption,
    config_of,
    console,
    print_json,
    printable,
    reported,
)
from toolgate.journal.opening import inspect_journal, read_anchor
from toolgate.journal.verify import Report, verify


def verify_journal(config: ConfigOption, as_json: JSONOption = False) -> None:
    """Recompute every chain and every MAC, and hold the log against its anchor.

    Exit 1 at the first event or row that is wrong.
    """
    with reported():
        loaded = config_of(config)
        journal = inspect_journal(loaded)
        anchored = read_anchor(loaded, journal)
        journal.store.snapshot()
        total = journal.store.last_seq()
        with progress(total, "events", shown=not as_json) as tell:
            report = verify(journal.store, journal.key, tell, anchored)
    if as_json:
        print_json(
            {
                "ok": report.problem is None,
                "events": report.events,
                "runs": report.runs,
                "rows": report.rows,
                "anchor": report.anchor,
                "problem": report.problem,
            }
        )
    else:
        console.print(verdict_line(report), soft_wrap=True)
    if report.problem is not None:
        raise typer.Exit(NO)


def verdict_line(report: Report) -> Text:
    """Return a verification's result as one line for people."""
    if report.problem is not None:
        return Text(f"NOT VERIFIED: {printable(report.problem)}", style="bold red")
    known = "no anchor" if report.anchor is None else f"anchored up to event {report.anchor:,}"
    return Text(
        f"chain verified: {counted(report.events, 'event')} in {counted(report.runs, 'run')}, "
        f"{counted(report.rows, 'row')}, {known}",
        style="bold green",
    )
