"""``toolgate actions``: see what became of actions, and settle those in doubt with a signature."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, TypeAlias

import typer
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from toolgate import clock, jsonvalue
from toolgate.actions import Actions, ActionStory, ActionView
from toolgate.approvals.settlement import SettledAs, Settlement
from toolgate.cli.journal import event_json, event_table
from toolgate.cli.terminal import (
    NO,
    AsOption,
    ConfigOption,
    JSONOption,
    KeyOption,
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
from toolgate.errors import ApprovalError, JSONError
from toolgate.ir import ActionStatus
from toolgate.jsonvalue import JSONValue

app = typer.Typer(help="Actions: what became of them, and what is in doubt.", no_args_is_help=True)

UID_WIDTH = 24
"""Characters of a call's uid: it is copied from the list, so it is never cut."""
_LIMIT = 50
"""How many actions are printed when nobody says."""
_MOST = 1000

UidArgument: TypeAlias = Annotated[str, typer.Argument(metavar="UID", help="An action's uid.")]


@app.command("list")
def list_actions(
    config: ConfigOption,
    status: Annotated[
        ActionStatus | None, typer.Option(help="Only those of this status, such as in_doubt.")
    ] = None,
    tool: Annotated[str | None, typer.Option(help="Only calls of this tool.")] = None,
    session: Annotated[str | None, typer.Option(help="Only this session's.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=_MOST, help="Print at most this many.")] = _LIMIT,
    after: Annotated[
        str | None, typer.Option(metavar="UID", help="Go on after this action.")
    ] = None,
    oldest: Annotated[bool, typer.Option("--oldest", help="The oldest first.")] = False,
    as_json: JSONOption = False,
) -> None:
    """List the project's actions, the newest first; exit 1 when one does not verify."""
    with reported():
        actions = Actions(config_of(config))
        views, wrong, further = actions.page(
            status, tool, session, limit, after, newest_first=not oldest
        )
    for problem in dict.fromkeys(map(str, wrong)):
        errors.print(Text.assemble(("error: ", "bold red"), printable(problem)), soft_wrap=True)
    if as_json:
        print_json({"actions": [view.to_json() for view in views], "next": further})
    elif views:
        print_table(_table(views))
    elif not wrong:
        console.print(f"no {'' if status is None else f'{status} '}actions", markup=False)
    if further is not None and not as_json:
        errors.print(Text(f"there may be more: --after {one_line(further)} goes on"))
    if wrong:
        raise typer.Exit(NO)


def _table(views: list[ActionView]) -> Table:
    table = Table(box=None, pad_edge=False)
    widest = max(UID_WIDTH, *(len(view.record.uid) for view in views))
    table.add_column("uid", no_wrap=True, min_width=widest)
    for name in ("proposed", "tool", "status", "attempts", "session"):
        table.add_column(name, overflow="fold")
    for view in views:
        record = view.record
        table.add_row(
            record.uid,
            clock.to_text(record.created_at)[:19].replace("T", " "),
            Text(one_line(record.tool)),
            Text(_status(view)),
            str(record.attempts),
            Text(one_line(record.session)),
        )
    return table


def _status(view: ActionView) -> str:
    record = view.record
    if view.gate_gone:
        return f"{record.status} (its gate is gone)"
    if record.kind is None or record.kind == record.status:
        return record.status
    return f"{record.status} ({record.kind})"


@app.command()
def show(config: ConfigOption, uid: UidArgument, as_json: JSONOption = False) -> None:
    """Show an action: what was asked, how it stands, what settles it, and its whole log."""
    with reported():
        actions = Actions(config_of(config))
        story = actions.find(uid)
    if as_json:
        events: list[JSONValue] = [
            {**event_json(event), "genuine": actions.genuine(event)} for event in story.events
        ]
        print_json({**_story_json(story), "events": events})
        return
    print_table(_panel(story))
    print_table(event_table(story.events, actions.genuine))


@app.command()
def settle(
    config: ConfigOption,
    uid: UidArgument,
    approver: AsOption,
    key: KeyOption,
    succeeded: Annotated[
        bool, typer.Option("--succeeded", help="It had its effect: it is not run again.")
    ] = False,
    failed: Annotated[
        bool, typer.Option("--failed", help="It did not have its effect, and is not run again.")
    ] = False,
    retry: Annotated[
        bool, typer.Option("--retry", help="It is to run once more, when the agent resumes it.")
    ] = False,
    output: Annotated[
        str | None,
        typer.Option(metavar="JSON", help="With --succeeded: what it returned, or @FILE."),
    ] = None,
    reason: Annotated[str | None, typer.Option(help="Why; the agent is told it.")] = None,
    as_json: JSONOption = False,
) -> None:
    """Settle an action in doubt: sign what became of it, once somebody has looked.

    It takes effect when the agent resumes the action, or repeats the call with its idempotency key.
    """
    with reported():
        outcome = _outcome(succeeded=succeeded, failed=failed, retry=retry)
        if output is not None and outcome != "succeeded":
            raise typer.BadParameter("only what --succeeded has an --output")
        value = None if output is None else _value(output)
        story = Actions(config_of(config)).settle(uid, outcome, approver, key, reason, value)
    if as_json:
        print_json(_story_json(story))
        return
    print_table(_panel(story))
    console.print(Text(_told(outcome, approver), style="green"), soft_wrap=True)


def _outcome(*, succeeded: bool, failed: bool, retry: bool) -> SettledAs:
    named: list[SettledAs] = []
    named += ["succeeded"] if succeeded else []
    named += ["failed"] if failed else []
    named += ["retry"] if retry else []
    if len(named) != 1:
        raise typer.BadParameter("say what became of it: --succeeded, --failed or --retry")
    return named[0]


def _value(text: str) -> JSONValue:
    try:
        data = Path(text[1:]).read_bytes() if text.startswith("@") else text.encode()
        return jsonvalue.parse(data)
    except OSError as error:
        raise ApprovalError(f"--output: cannot read {text[1:]}: {error.strerror}") from None
    except JSONError as error:
        raise ApprovalError(f"--output is not JSON: {error}") from None


def _told(outcome: SettledAs, approver: str) -> str:
    then = "when the agent resumes it"
    match outcome:
        case "succeeded":
            return f"{approver} settled it: it has succeeded, which is told {then}"
        case "failed":
            return f"{approver} settled it: it has failed, which is told {then}"
        case "retry":
            return f"{approver} settled it: it runs once more, {then}"


def _story_json(story: ActionStory) -> dict[str, JSONValue]:
    doubt: JSONValue = None
    if story.doubt is not None:
        doubt = {
            "digest": story.doubt.digest,
            "since": clock.to_text(story.doubt.since),
            "settlers": list(story.doubt.settlers),
            "cannot_retry": story.doubt.ended,
        }
    said = None if story.judged is None else story.judged.settlement
    return {
        **story.view.to_json(),
        "args": story.args,
        "doubt": doubt,
        "settlement": None if said is None else _settlement_json(said),
    }


def _settlement_json(said: Settlement) -> dict[str, JSONValue]:
    shape: dict[str, JSONValue] = {
        "outcome": said.outcome,
        "settled_by": said.approver,
        "at": clock.to_text(said.at),
        "reason": said.reason,
    }
    return {**shape, "output": said.output} if said.outcome == "succeeded" else shape


def _panel(story: ActionStory) -> Panel:
    """Return an action as people see it."""
    record, doubt, judged = story.view.record, story.doubt, story.judged
    rows = {
        "uid": record.uid,
        "tool": one_line(record.tool),
        "arguments": pretty(story.args),
        "status": _status(story.view),
        "attempts": str(record.attempts),
        "agent": one_line(record.agent),
        "session": one_line(record.session),
        "proposed": clock.to_text(record.created_at),
    }
    if record.hold is not None:
        rows["hold"] = record.hold
    if doubt is not None and judged is not None:
        rows["in doubt since"] = clock.to_text(doubt.since)
        rows["may settle it"] = one_line(", ".join(doubt.settlers)) or "nobody in the config"
        if doubt.ended is not None:
            rows["cannot retry"] = one_line(doubt.ended)
        said = judged.settlement
        if said is not None:
            why = f": {said.reason}" if said.reason else ""
            rows["settled as"] = one_line(
                f"{said.outcome} by {said.approver}{why}; not taken in yet: nobody has resumed it"
            )
        rows |= (
            {"not counted": "\n".join(one_line(r.reason) for r in judged.refused)}
            if (judged.refused)
            else {}
        )
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    for name, text in rows.items():
        table.add_row(name, Text(text))
    return Panel(table, title="action", title_align="left")
