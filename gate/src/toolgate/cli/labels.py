"""``toolgate labels``: what a session has been given, and a signature that takes a label away."""

from __future__ import annotations

from typing import Annotated, TypeAlias

import typer
from rich.table import Table
from rich.text import Text

from toolgate import clock
from toolgate.cli.terminal import (
    AsOption,
    ConfigOption,
    JSONOption,
    KeyOption,
    config_of,
    console,
    one_line,
    print_json,
    print_table,
    reported,
)
from toolgate.labels import Labels, LabelView

app = typer.Typer(
    help="Labels of sessions: what agents have read, and what of it no longer counts.",
    no_args_is_help=True,
)

SessionOption: TypeAlias = Annotated[
    str, typer.Option("--session", metavar="ID", help="The session's id.")
]


@app.command("list")
def list_labels(config: ConfigOption, session: SessionOption, as_json: JSONOption = False) -> None:
    """List a session's labels."""
    with reported():
        views = Labels(config_of(config)).of(session)
    _print(views, as_json)


@app.command()
def remove(
    config: ConfigOption,
    label: Annotated[str, typer.Argument(metavar="LABEL", help="The label.")],
    session: SessionOption,
    approver: AsOption,
    key: KeyOption,
    reason: Annotated[str | None, typer.Option(help="Why; the journal keeps it.")] = None,
    as_json: JSONOption = False,
) -> None:
    """Take a label away from a session: sign that what brought it until now does not count.

    It takes effect when a rule asks for the session's labels next, unless something has brought the
    label again by then.
    """
    with reported():
        views = Labels(config_of(config)).remove(session, label, approver, key, reason)
    _print(views, as_json)
    if not as_json:
        told = f"{approver} took {one_line(label)} away: it goes with the session's next call"
        console.print(Text(told, style="green"), soft_wrap=True)


def _print(views: list[LabelView], as_json: bool) -> None:
    if as_json:
        print_json([view.to_json() for view in views])
        return
    if not views:
        console.print("no labels", markup=False)
        return
    table = Table(box=None, pad_edge=False)
    for name in ("label", "added at event", "last brought", "taken away by"):
        table.add_column(name, overflow="fold")
    for view in views:
        label = view.labelled
        table.add_row(
            Text(one_line(label.label)),
            str(label.added),
            clock.to_text(label.brought)[:19].replace("T", " "),
            Text(one_line(view.removed_by or "")),
        )
    print_table(table)
