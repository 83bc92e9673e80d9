"""``toolgate approvals``: see what is held, and answer it with a signature."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.table import Table
from rich.text import Text

from toolgate import clock, jsonvalue, sourcefile
from toolgate.approvals.statement import Answer
from toolgate.cli.holds_shown import hold_json, hold_panel, place_name, plan_table
from toolgate.cli.journal import event_table
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
    print_text,
    printable,
    reported,
)
from toolgate.cli.watch import watch
from toolgate.desk import Answered, Desk
from toolgate.errors import ApprovalError, JSONError
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.holds import HoldView
from toolgate.policy.loading import UNSIGNED_WARNING

app = typer.Typer(help="Holds, and the answers of approvers.", no_args_is_help=True)

app.command("watch")(watch)

STATUSES = ("pending", "released", "denied", "expired", "withdrawn")
ID_WIDTH = 24
"""Characters of a hold's id: it is copied from the list, so it is never cut."""
TIMELINE = 20
"""How many of the session's latest events `show` prints."""

HoldArgument: TypeAlias = Annotated[
    str, typer.Argument(metavar="HOLD", help="A hold's id, or the uid of a held action.")
]
AsOption: TypeAlias = Annotated[str, typer.Option("--as", metavar="ID", help="Who is answering.")]
KeyOption: TypeAlias = Annotated[
    Path | None,
    typer.Option(
        "--key",
        metavar="FILE",
        help="The private key of the one who answers; only approvals.allow_unsigned does without.",
    ),
]
DigestOption: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--digest", help="Answer only what has this digest: refuse what was edited since."
    ),
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
    planned = any(view.place is not None for view in views)
    waiting = any(view.status == "pending" for view in views)
    table.add_column("opened", overflow="fold")
    table.add_column("tool", overflow="fold")
    if planned:
        # What begins with a proposal's uid: it may be wrapped after it, not within.
        table.add_column("of proposal", overflow="fold", min_width=ID_WIDTH)
    table.add_column("status", overflow="fold")
    if waiting:
        table.add_column("waits for", overflow="fold")
    table.add_column("reason", overflow="fold")
    for view in views:
        place = view.place
        named = ""
        if place is not None:
            named = f"{place.proposal} {place_name(place.action_id, compensates=place.compensates)}"
        table.add_row(
            view.hold.hold_id,
            clock.to_text(view.hold.opened_at)[:19].replace("T", " "),
            Text(one_line(view.hold.tool)),
            *([Text(named)] * planned),
            view.status,
            *([Text(one_line(view.waits_for) if view.status == "pending" else "")] * waiting),
            Text(one_line(view.hold.reason)),
        )
    print_table(table)


@app.command()
def show(
    config: ConfigOption,
    hold: HoldArgument,
    args_only: Annotated[
        bool, typer.Option("--args", help="Print only the arguments, as JSON, to begin an edit.")
    ] = False,
    as_json: JSONOption = False,
) -> None:
    """Show exactly what would run, why it is held, who may answer, and what led to it.

    Where somebody has edited the arguments, they are shown against those that were proposed. For an
    action of a proposal also what it writes to the session's state, what would compensate it, what
    was done before it, and what waits for it.
    """
    with reported():
        desk = Desk(config_of(config))
        view = desk.find(hold)
        plan, decision = desk.plan(view), desk.decision(view)
        events = list(desk.timeline(view.hold.session))[-TIMELINE:]
    if args_only:
        print_text(json.dumps(view.shown.args, indent=2, sort_keys=True))
        return
    if as_json:
        print_json(hold_json(view, decision, plan))
        return
    print_table(hold_panel(view, decision, plan))
    if plan is not None:
        console.print(Text("\nthe proposal", style="bold"))
        print_table(plan_table(plan, view))
    console.print(Text("\nthe session so far", style="bold"))
    print_table(event_table(events, desk.genuine))


@app.command()
def approve(
    config: ConfigOption,
    hold: HoldArgument,
    approver: AsOption,
    key: KeyOption = None,
    reason: ReasonOption = None,
    edit: Annotated[
        Path | None,
        typer.Option(
            "--edit",
            metavar="FILE",
            help="Approve these arguments instead: all of them, as YAML or JSON; - reads stdin.",
        ),
    ] = None,
    digest: DigestOption = None,
    as_json: JSONOption = False,
) -> None:
    """Approve a held action: sign that exactly this may run, once.

    With --edit, sign other arguments in the place of those that are held. Whoever approved the
    others has to approve these.
    """
    with reported():
        args = None if edit is None else _arguments(edit)
        desk = Desk(config_of(config))
        answered = _answer(desk, hold, "approve", approver, key, reason, args, digest)
        _print_answered(desk, answered, as_json)


@app.command()
def deny(
    config: ConfigOption,
    hold: HoldArgument,
    approver: AsOption,
    key: KeyOption = None,
    reason: ReasonOption = None,
    digest: DigestOption = None,
    as_json: JSONOption = False,
) -> None:
    """Deny a held action: it will not run, and the agent is told why."""
    with reported():
        desk = Desk(config_of(config))
        answered = _answer(desk, hold, "deny", approver, key, reason, None, digest)
        _print_answered(desk, answered, as_json)


def _answer(
    desk: Desk,
    hold: str,
    verdict: Answer,
    approver: str,
    key: Path | None,
    reason: str | None,
    args: dict[str, JSONValue] | None,
    digest: str | None,
) -> Answered:
    answered = desk.answer(hold, verdict, approver, key, reason, args=args, digest=digest)
    if key is None:
        errors.print(Text(f"warning: nobody has signed this answer. {UNSIGNED_WARNING}"))
    return answered


def _arguments(path: Path) -> dict[str, JSONValue]:
    """Return the arguments that a file, or stdin, holds; raises :class:`ToolgateError`."""
    text = sys.stdin.buffer.read() if str(path) == "-" else sourcefile.load(path)
    try:
        value = jsonvalue.parse(text)
    except JSONError:
        try:
            value = sourcefile.parse(path, text).value
        except sourcefile.UnreadableSource as error:
            raise ApprovalError(f"the edited arguments ({path}): {error}") from None
    if not isinstance(value, dict):
        raise ApprovalError(f"the edited arguments ({path}) are not an object")
    return value


def _print_answered(desk: Desk, answered: Answered, as_json: bool) -> None:
    view = answered.view
    plan, decision = desk.plan(view), desk.decision(view)
    if as_json:
        print_json(hold_json(view, decision, plan))
        return
    print_table(hold_panel(view, decision, plan))
    style = "green" if answered.verdict == "approve" else "red"
    console.print(Text(_told(answered), style=style), soft_wrap=True)


def _told(answered: Answered) -> str:
    view, who = answered.view, one_line(answered.approver)
    if answered.verdict == "deny":
        return f"{who} denied it: it will not run"
    edited = view.hold.digest != answered.replaced
    did = f"{who} {'edited' if edited else 'approved'} it"
    if view.status == "released":
        return f"{did}: it runs, once, when the agent resumes it"
    if view.status != "pending":
        return f"{did}; it is {view.status}"
    waits = "the edited arguments wait" if edited else "it waits"
    return f"{did}; {waits} for {one_line(view.waits_for)}"
