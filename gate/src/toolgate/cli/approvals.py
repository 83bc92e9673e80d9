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
    print_table,
    printable,
    reported,
)
from toolgate.desk import Answered, Desk
from toolgate.ir import ActionStatus, ActionType
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.holds import HoldView
from toolgate.kernel.plan_view import PlanView

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
    planned = any(view.place is not None for view in views)
    table.add_column("opened", overflow="fold")
    table.add_column("tool", overflow="fold")
    if planned:
        # What begins with a proposal's uid: it may be wrapped after it, not within.
        table.add_column("of proposal", overflow="fold", min_width=ID_WIDTH)
    for name in ("status", "approved", "reason"):
        table.add_column(name, overflow="fold")
    for view in views:
        place = view.place
        named = ""
        if place is not None:
            named = f"{place.proposal} {_name(place.action_id, compensates=place.compensates)}"
        table.add_row(
            view.hold.hold_id,
            clock.to_text(view.hold.opened_at)[:19].replace("T", " "),
            Text(one_line(view.hold.tool)),
            *([Text(named)] * planned),
            view.status,
            f"{len(view.tally.approved_by)} of {view.hold.quorum}",
            Text(one_line(view.hold.reason)),
        )
    print_table(table)


@app.command()
def show(config: ConfigOption, hold: HoldArgument, as_json: JSONOption = False) -> None:
    """Show exactly what would run, why it is held, who may answer, and what led to it.

    For an action of a proposal also what it writes to the session's state, what would compensate
    it, what was done before it, and what waits for it.
    """
    with reported():
        desk = Desk(config_of(config))
        view = desk.find(hold)
        plan = desk.plan(view)
        events = list(desk.timeline(view.hold.session))[-TIMELINE:]
    if as_json:
        print_json(hold_json(view, plan))
        return
    print_table(hold_panel(view, plan))
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
        desk = Desk(config_of(config))
        answered = desk.answer(hold, verdict, approver, key, reason)
        plan = desk.plan(answered.view)
    if as_json:
        print_json(hold_json(answered.view, plan))
        return
    print_table(hold_panel(answered.view, plan))
    style = "green" if verdict == "approve" else "red"
    console.print(Text(_told(answered), style=style), soft_wrap=True)


def _told(answered: Answered) -> str:
    view = answered.view
    if answered.verdict == "deny":
        return f"{answered.approver} denied it: it will not run"
    if view.status == "released":
        return f"{answered.approver} approved it: it runs, once, when the agent resumes it"
    missing = view.hold.quorum - len(view.tally.approved_by)
    return f"{answered.approver} approved it; {missing} more must"


STATUSES = ("pending", "released", "denied", "expired", "withdrawn")


def hold_json(view: HoldView, plan: PlanView | None) -> dict[str, JSONValue]:
    """Return a hold as the commands print it for machines: with its proposal, if it has one."""
    return view.to_json() if plan is None else {**view.to_json(), "plan": plan.to_json()}


def hold_panel(view: HoldView, plan: PlanView | None = None) -> Panel:
    """Return a hold as people see it: what would run first, in full."""
    hold = view.hold
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    deadline = "never" if hold.deadline is None else clock.to_text(hold.deadline)
    rows = {
        **_place_rows(view, plan),
        "tool": one_line(hold.tool),
        "arguments": pretty(hold.args),
        **_consequence_rows(view, plan),
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


def _place_rows(view: HoldView, plan: PlanView | None) -> dict[str, str]:
    """Return what is said of the place of an action in its proposal."""
    place = view.place
    if place is None:
        return {}
    named = f" ({one_line(plan.proposal_id)}, of {one_line(plan.source)})" if plan else ""
    return {
        "proposal": f"{place.proposal}{named}",
        "action id": _name(place.action_id, compensates=place.compensates),
        "type": place.type.value,
    }


def _consequence_rows(view: HoldView, plan: PlanView | None) -> dict[str, str]:
    """Return what else an approval covers: nothing, for a single call."""
    hold = view.hold
    if view.place is None:
        return {}
    compensation = "none" if hold.compensation is None else pretty(hold.compensation)
    if plan is not None and plan.compensation is not None:
        action = plan.compensation
        compensation = f"{_what(action.type, action.tool)} {pretty(action.parameters)}"
        if action.expected_effects:
            compensation += f"\nwhich writes {pretty(action.expected_effects)}"
        if isinstance(hold.compensation, dict) and "action_id" in hold.compensation:
            compensation = f"action {one_line(hold.compensation['action_id'])}: {compensation}"
    return {
        "expected effects": pretty(hold.expected_effects) if hold.expected_effects else "none",
        "compensation": compensation,
        "attempts": f"1, and {hold.retries} more if it fails" if hold.retries else "1",
    }


def plan_table(plan: PlanView, view: HoldView) -> Table:
    """Return a proposal as people see it: what has become of each action, and what waits."""
    table = Table(box=None, pad_edge=False)
    for name in ("action", "what", "status", ""):
        table.add_column(name, overflow="fold")
    for action in plan.actions:
        note = ""
        if action.uid == view.hold.uid:
            note = "this action"
        elif action.waits:
            note = "waits for this action"
        elif action.reserved:
            note = "runs only as a compensation"
        table.add_row(
            Text(_name(action.action_id, compensates=action.compensates)),
            Text(_what(action.type, action.tool)),
            "not started" if action.status is ActionStatus.PROPOSED else action.status.value,
            note,
        )
    return table


def _name(action_id: str, *, compensates: bool) -> str:
    return f"{'compensation of ' if compensates else ''}{one_line(action_id)}"


def _what(kind: ActionType, tool: str | None) -> str:
    return kind.value if tool is None or kind is not ActionType.TOOL_CALL else one_line(tool)
