"""``toolgate proposals``: the plans that the journal knows, and how far each has come."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from toolgate import clock
from toolgate.cli.terminal import (
    NO,
    ConfigOption,
    JSONOption,
    config_of,
    console,
    errors,
    one_line,
    print_json,
    print_table,
    printable,
    reported,
)
from toolgate.desk import Desk
from toolgate.ir import ProposalStatus
from toolgate.kernel.plan_list import ProposalView

app = typer.Typer(help="Proposals, and how far they have come.", no_args_is_help=True)

UID_WIDTH = 24
"""Characters of a proposal's uid: it is copied from the list, so it is never cut."""


@app.callback()
def proposals() -> None:
    """Show proposals, and how far they have come."""


@app.command("list")
def list_proposals(
    config: ConfigOption,
    status: Annotated[
        ProposalStatus | None,
        typer.Option(help="Only those that are running, suspended, completed or aborted."),
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """List the project's proposals, the newest last; exit 1 when one does not verify."""
    with reported():
        found = list(Desk(config_of(config)).proposals(status))
    views = [view for view in found if isinstance(view, ProposalView)]
    wrong = [str(error) for error in found if not isinstance(error, ProposalView)]
    for problem in dict.fromkeys(wrong):
        errors.print(Text.assemble(("error: ", "bold red"), printable(problem)), soft_wrap=True)
    if as_json:
        print_json([view.to_json() for view in views])
    elif views:
        print_table(_table(views))
    elif not wrong:
        console.print(f"no {'' if status is None else f'{status} '}proposals", markup=False)
    if wrong:
        raise typer.Exit(NO)


def _table(views: list[ProposalView]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("uid", no_wrap=True, min_width=UID_WIDTH)
    for name in ("id", "status", "settled"):
        table.add_column(name, overflow="fold")
    widest = max((len(uid) for view in views for uid in view.held), default=0)
    table.add_column("held", overflow="fold", min_width=widest)
    for name in ("opened", "session"):
        table.add_column(name, overflow="fold")
    for view in views:
        table.add_row(
            view.uid,
            Text(one_line(view.proposal_id)),
            view.status.value,
            f"{view.settled} of {view.actions}",
            " ".join(view.held),
            clock.to_text(view.opened_at)[:19].replace("T", " "),
            Text(one_line(view.session)),
        )
    return table
