"""``toolgate journal``: read the log, and prove that it is whole."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Annotated

import typer
from rich.progress import Progress, TextColumn
from rich.table import Table
from rich.text import Text

from toolgate import clock, jsonvalue
from toolgate.cli.terminal import (
    NO,
    ConfigOption,
    JSONOption,
    config_of,
    console,
    errors,
    print_json,
    printable,
    reported,
)
from toolgate.journal.events import Event
from toolgate.journal.opening import inspect_journal
from toolgate.journal.verify import Report, verify
from toolgate.jsonvalue import JSONValue

app = typer.Typer(help="The journal: what happened, and the proof of it.", no_args_is_help=True)

_STYLES = {
    "action.succeeded": "green",
    "action.rejected": "red",
    "action.failed": "red",
    "action.in_doubt": "bold red",
    "approval.recorded": "cyan",
    "approval.refused": "red",
    "journal.tampered": "bold red",
}
_WIDEST = 160


@app.command()
def show(
    config: ConfigOption,
    after: Annotated[int, typer.Option(help="Begin after this place in the log.")] = 0,
    limit: Annotated[int, typer.Option(help="Print at most this many events.")] = 100,
    action: Annotated[str | None, typer.Option(help="Only this action's events.")] = None,
    session: Annotated[str | None, typer.Option(help="Only this session's events.")] = None,
    as_json: JSONOption = False,
) -> None:
    """Print events, oldest first."""
    with reported():
        journal = inspect_journal(config_of(config))
        events = list(
            islice(journal.store.events(after=after, action=action, session=session), limit)
        )
    if as_json:
        for event in events:
            print_json(event_json(event))
        return
    console.print(event_table(events))


@app.command("verify")
def verify_journal(config: ConfigOption, as_json: JSONOption = False) -> None:
    """Recompute every chain and every MAC; exit 1 at the first event or row that is wrong."""
    with reported():
        journal = inspect_journal(config_of(config))
        journal.store.snapshot()
        total = journal.store.last_seq()
        with Progress(
            TextColumn("{task.completed:,.0f} of {task.total:,.0f} events"),
            console=errors,
            transient=True,
            disable=as_json or not errors.is_terminal,
        ) as progress:
            task = progress.add_task("", total=total)
            report = verify(
                journal.store, journal.key, lambda seen: progress.update(task, completed=seen)
            )
    if as_json:
        print_json(
            {
                "ok": report.problem is None,
                "events": report.events,
                "runs": report.runs,
                "rows": report.rows,
                "problem": report.problem,
            }
        )
    else:
        console.print(verdict_line(report))
    if report.problem is not None:
        raise typer.Exit(NO)


def verdict_line(report: Report) -> Text:
    """Return a verification's result as one line for people."""
    if report.problem is not None:
        return Text(f"NOT VERIFIED: {printable(report.problem)}", style="bold red")
    return Text(
        f"chain verified: {report.events:,} events in {report.runs} runs, {report.rows:,} rows",
        style="bold green",
    )


def event_table(events: Iterable[Event]) -> Table:
    """Return events as a table for people."""
    table = Table("seq", "time", "event", "action", "what", box=None, pad_edge=False)
    for event in events:
        table.add_row(
            str(event.seq),
            clock.to_text(event.at)[11:23],
            Text(event.kind, style=_STYLES.get(event.kind, "")),
            (event.action or "")[-6:],
            Text(_gist(event), overflow="ellipsis", no_wrap=True),
        )
    return table


def event_json(event: Event) -> dict[str, JSONValue]:
    """Return an event as the command prints it for machines."""
    return {
        "seq": event.seq,
        "run": event.run,
        "n": event.n,
        "at": clock.to_text(event.at),
        "session": event.session,
        "action": event.action,
        "kind": event.kind,
        "data": jsonvalue.parse(event.data),
        "prev": event.prev.hex(),
        "hash": event.hash.hex(),
        "mac": event.mac.hex(),
    }


def _gist(event: Event) -> str:
    """Return the part of an event's data that says most, safe to print."""
    data = jsonvalue.parse(event.data)
    match event.kind:
        case "action.proposed":
            text = f"{data['tool']} {jsonvalue.canonical(data['args']).decode()}"
        case "action.decided":
            rules = ", ".join(data["rules"])
            text = f"{data['effect']}{f' by {rules}' if rules else ''}: {data['reason']}"
        case "action.rejected" | "action.failed" | "action.cancelled" | "action.in_doubt":
            text = f"{data['error']['kind']}: {data['error']['message']}"
        case "action.succeeded":
            text = jsonvalue.canonical(data["output"]).decode()
        case "approval.recorded":
            text = f"{data['approver']}: {data['verdict']}"
        case _:
            text = jsonvalue.canonical(data).decode()
    text = printable(text.replace("\n", " "))
    return text if len(text) <= _WIDEST else text[: _WIDEST - 1] + "…"
