"""``toolgate approvals``: see what is held, and answer it with a signature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from toolgate import clock
from toolgate.approvals.statement import Answer
from toolgate.cli.journal import event_table
from toolgate.cli.terminal import (
    NO,
    ConfigOption,
    JSONOption,
    config_of,
    console,
    errors,
    one_line,
    pretty,
    print_json,
    printable,
    reported,
)
from toolgate.desk import Answered, Desk
from toolgate.kernel.holds import HoldView

app = typer.Typer(help="Holds, and the answers of approvers.", no_args_is_help=True)

ID_WIDTH = 24
"""Characters of a hold's id: it is copied from the list, so it is never cut."""
TIMELINE = 20
"""How many of the session's latest events `show` prints."""

HoldArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="HOLD", help="A hold's id, or the uid of a held action.")
]
AsOption: TypeAlias = Annotated[str, typer.Option("--as", metavar="ID", help="Who is answering.")]
KeyOption: TypeAlias = Annotated[
    Path, typer.Option("--key", metavar="FILE", help="The private key of the one who answers.")
]
ReasonOption: TypeAlias = Annotated[
    str | None, typer.Option("--reason", help="Why; the agent is told it with a denial.")
]


@app.command("list")
def list_holds(
    config: ConfigOption,
    status: Annotated[
        str,
        typer.Option(help="pending, released, denied, expired, withdrawn, or all."),
    ] = "pending",
    as_json: JSONOption = False,
) -> None:
    """List holds, oldest first."""
    with reported():
        if status not in (*STATUSES, "all"):
            raise typer.BadParameter(f"{status!r} is none of {', '.join(STATUSES)} and all")
        desk = Desk(config_of(config))
        found = list(desk.holds(None if status == "all" else status))
    views = [view for view in found if isinstance(view, HoldView)]
    wrong = [str(error) for error in found if not isinstance(error, HoldView)]
    for problem in dict.fromkeys(wrong):
        errors.print(Text.assemble(("error: ", "bold red"), printable(problem)), soft_wrap=True)
    if as_json:
        print_json([view.to_json() for view in views])
    elif not wrong or views:
        _print_list(views, status)
    if wrong:
        raise typer.Exit(NO)


def _print_list(views: list[HoldView], status: str) -> None:
    if not views:
        console.print(f"no {'' if status == 'all' else status + ' '}holds", markup=False)
        return
    table = Table(box=None, pad_edge=False)
    table.add_column("hold", no_wrap=True, min_width=ID_WIDTH)
    for name in ("opened", "tool", "status", "approved", "reason"):
        table.add_column(name, overflow="fold")
    for view in views:
        table.add_row(
            view.hold.hold_id,
            clock.to_text(view.hold.opened_at)[:19].replace("T", " "),
            Text(one_line(view.hold.tool)),
            view.status,
            f"{len(view.tally.approved_by)} of {view.hold.quorum}",
            Text(one_line(view.hold.reason)),
        )
    console.print(table)


@app.command()
def show(config: ConfigOption, hold: HoldArgument, as_json: JSONOption = False) -> None:
    """Show exactly what would run, why it is held, who may answer, and what led to it."""
    with reported():
        desk = Desk(config_of(config))
        view = desk.find(hold)
        events = list(desk.timeline(view.hold.session))[-TIMELINE:]
    if as_json:
        print_json(view.to_json())
        return
    console.print(hold_panel(view))
    console.print(Text("\nthe session so far", style="bold"))
    console.print(event_table(events, desk.genuine))


@app.command()
def approve(
    config: ConfigOption,
    hold: HoldArgument,
    approver: AsOption,
    key: KeyOption,
    reason: ReasonOption = None,
    as_json: JSONOption = False,
) -> None:
    """Approve a held action: sign that exactly this may run, once."""
    _answer(config, hold, "approve", approver, key, reason, as_json)


@app.command()
def deny(
    config: ConfigOption,
    hold: HoldArgument,
    approver: AsOption,
    key: KeyOption,
    reason: ReasonOption = None,
    as_json: JSONOption = False,
) -> None:
    """Deny a held action: it will not run, and the agent is told why."""
    _answer(config, hold, "deny", approver, key, reason, as_json)


def _answer(
    config: Path,
    hold: str,
    verdict: Answer,
    approver: str,
    key: Path,
    reason: str | None,
    as_json: bool,
) -> None:
    with reported():
        answered = Desk(config_of(config)).answer(hold, verdict, approver, key, reason)
    if as_json:
        print_json(answered.view.to_json())
        return
    console.print(hold_panel(answered.view))
    console.print(Text(_told(answered), style="green" if verdict == "approve" else "red"))


def _told(answered: Answered) -> str:
    view = answered.view
    if answered.verdict == "deny":
        return f"{answered.approver} denied it: it will not run"
    if view.status == "released":
        return f"{answered.approver} approved it: it runs, once, when the agent resumes it"
    missing = view.hold.quorum - len(view.tally.approved_by)
    return f"{answered.approver} approved it; {missing} more must"


STATUSES = ("pending", "released", "denied", "expired", "withdrawn")


def hold_panel(view: HoldView) -> Panel:
    """Return a hold as people see it: what would run first, in full."""
    hold = view.hold
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    deadline = "never" if hold.deadline is None else clock.to_text(hold.deadline)
    rows = {
        "tool": one_line(hold.tool),
        "arguments": pretty(hold.args),
        "reason": one_line(hold.reason),
        "rules": ", ".join(hold.rules) or "(the tool's level)",
        "approvers": f"{', '.join(hold.approvers)} ({hold.quorum} must approve)",
        "approved by": ", ".join(view.tally.approved_by) or "nobody yet",
        "status": view.status,
        "expires": deadline,
        "action": hold.uid,
        "digest": hold.digest,
    }
    if view.tally.refused:
        rows["not counted"] = "\n".join(one_line(r.reason) for r in view.tally.refused)
    for name, text in rows.items():
        table.add_row(name, Text(text))
    return Panel(table, title=f"hold {hold.hold_id}", title_align="left", border_style="yellow")
