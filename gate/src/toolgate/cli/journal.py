"""``toolgate journal``: read the log, and prove that it is whole."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Annotated, Any

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
    in_terminal,
    one_line,
    print_json,
    print_table,
    printable,
    reported,
)
from toolgate.errors import JSONError
from toolgate.journal.events import Event, EventKind
from toolgate.journal.journal import Reader
from toolgate.journal.opening import inspect_journal
from toolgate.journal.store import Store
from toolgate.journal.verify import Report, verify
from toolgate.jsonvalue import JSONValue

app = typer.Typer(help="The journal: what happened, and the proof of it.", no_args_is_help=True)

_STYLES = {
    "action.succeeded": "green",
    "action.rejected": "red",
    "action.failed": "red",
    "action.in_doubt": "bold red",
    "action.deduplicated": "green",
    "proposal.completed": "green",
    "proposal.aborted": "red",
    "approval.recorded": "cyan",
    "approval.refused": "red",
    "journal.tampered": "bold red",
}
_ENDS = ("executed", "rejected", "skipped")
_LIMIT = 100
"""How many events are printed when nobody says."""
_MOST = 1 << 62
_ROOMY = 120
"""Columns of a terminal that has room for whole uids beside what happened."""


@app.command()
def show(
    config: ConfigOption,
    after: Annotated[
        int, typer.Option(min=0, max=_MOST, help="Begin after this place in the log.")
    ] = 0,
    limit: Annotated[
        int | None,
        typer.Option(min=1, max=_MOST, help=f"Print at most this many; {_LIMIT} by default."),
    ] = None,
    last: Annotated[
        int | None, typer.Option(min=1, max=_MOST, help="Print the last so many instead.")
    ] = None,
    action: Annotated[str | None, typer.Option(help="Only this action's events.")] = None,
    proposal: Annotated[
        str | None,
        typer.Option(
            help="Only the events of this proposal (its uid, or the proposer's own id) and of all "
            "its actions."
        ),
    ] = None,
    session: Annotated[str | None, typer.Option(help="Only this session's events.")] = None,
    as_json: JSONOption = False,
) -> None:
    """Print events, oldest first; exit 1 when there is nothing of what is asked for."""
    if limit is not None and last is not None:
        raise typer.BadParameter("--limit counts from the oldest, --last from the newest: name one")
    with reported():
        journal = inspect_journal(config_of(config))
        journal.store.snapshot()
        proposals = None if proposal is None else _uids(journal.reader, proposal)
        unknown = _unknown(journal.store, action, proposal, proposals, session)
        asked = _Asked(journal.store, after, action, proposals, session)
        total = 0 if unknown is not None else asked.count()
        events = [] if unknown is not None else asked.events(limit or _LIMIT, last)
    if unknown is not None:
        errors.print(Text(f"the journal knows no {unknown}"), soft_wrap=True)
        raise typer.Exit(NO)
    if as_json:
        for event in events:
            print_json({**event_json(event), "genuine": journal.reader.genuine(event)})
    else:
        print_table(event_table(events, journal.reader.genuine))
    if proposals is not None and len(proposals) > 1:
        name = one_line(proposal)
        told = f"{name} is the id of {len(proposals)} proposals, the newest last: "
        errors.print(Text(told + ", ".join(map(one_line, proposals))), soft_wrap=True)
    if total > len(events):
        errors.print(Text(_left_out(events, total, from_end=last is not None)), soft_wrap=True)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Which events are asked for; ``proposals`` are the uids of several, or ``None``: any."""

    store: Store
    after: int
    action: str | None
    proposals: Sequence[str] | None
    session: str | None

    def count(self) -> int:
        """Return how many there are."""
        return sum(self.store.count(**which) for which in self._each())

    def events(self, limit: int, last: int | None) -> list[Event]:
        """Return the first ``limit`` of them, or the ``last``, in the log's order."""
        parts = [self.store.events(**which, last=last) for which in self._each()]
        merged = merge(*parts, key=lambda event: event.seq)
        return list(islice(merged, limit) if last is None else deque(merged, last))

    def _each(self) -> list[dict[str, Any]]:
        which = {"after": self.after, "action": self.action, "session": self.session}
        return [{**which, "proposal": uid} for uid in self.proposals or (None,)]


def _left_out(events: Sequence[Event], total: int, *, from_end: bool) -> str:
    """Say how many events are not shown, and how to see them."""
    left = _count(total - len(events), "more event")
    if from_end:
        return f"{left} before these: --last {total} shows all"
    return f"{left} after these: --after {events[-1].seq} goes on, --last {_LIMIT} shows the newest"


def _uids(reader: Reader, proposal: str) -> list[str]:
    """Return the uids of the proposals that a uid, or a proposer's own id, names."""
    if reader.store.last_event(proposal, EventKind.PROPOSAL_RECEIVED) is not None:
        return [proposal]
    return [record.uid for record in reader.proposals_named(proposal)]


def _unknown(
    store: Store,
    action: str | None,
    proposal: str | None,
    proposals: Sequence[str] | None,
    session: str | None,
) -> str | None:
    """Return what of the things asked for nothing is known of, for people; ``None``: all is."""
    if action is not None and store.last_seq_of(action) == 0:
        return f"action {one_line(action)}"
    if proposals is not None and not proposals:
        return f"proposal {one_line(proposal)}"
    if session is not None and store.get("session", session) is None:
        return f"session {one_line(session)}"
    return None


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
        console.print(verdict_line(report), soft_wrap=True)
    if report.problem is not None:
        raise typer.Exit(NO)


def verdict_line(report: Report) -> Text:
    """Return a verification's result as one line for people."""
    if report.problem is not None:
        return Text(f"NOT VERIFIED: {printable(report.problem)}", style="bold red")
    return Text(
        f"chain verified: {_count(report.events, 'event')} in {_count(report.runs, 'run')}, "
        f"{_count(report.rows, 'row')}",
        style="bold green",
    )


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def event_table(events: Iterable[Event], genuine: Callable[[Event], bool]) -> Table:
    """Return events as a table for people; those that are not ``genuine`` say so.

    A terminal without room gets the ends of uids, and the beginnings of long texts.
    """
    width = console.width if in_terminal() else None
    shown = 0 if width is None or width >= _ROOMY else -6
    table = Table(box=None, pad_edge=False)
    for name in ("seq", "time", "event", "action"):
        table.add_column(name, no_wrap=True)
    table.add_column("what")
    for event in events:
        table.add_row(
            str(event.seq),
            Text(one_line(_time(event.at))[11:23]),
            _kind(event, genuine(event)),
            Text(one_line(event.action or "")[shown:]),
            Text(_gist(event, width), overflow="ellipsis", no_wrap=True),
        )
    return table


def _kind(event: Event, genuine: bool) -> Text:
    if not genuine:
        return Text(f"NOT GENUINE: {one_line(event.kind)}", style="bold red")
    return Text(event.kind, style=_STYLES.get(event.kind, ""))


def _time(at: int) -> str:
    try:
        return clock.to_text(at)
    except (TypeError, OverflowError, ValueError):
        return str(at)


def event_json(event: Event) -> dict[str, JSONValue]:
    """Return an event as the command prints it for machines."""
    return {
        "seq": event.seq,
        "run": _plain(event.run),
        "n": _plain(event.n),
        "at": _time(event.at),
        "session": _plain(event.session),
        "action": _plain(event.action),
        "kind": _plain(event.kind),
        "data": _data(event),
        "prev": _plain(event.prev),
        "hash": _plain(event.hash),
        "mac": _plain(event.mac),
    }


def _plain(value: object) -> JSONValue:
    """Return a column's value as JSON, whatever somebody has put there."""
    if isinstance(value, bytes):
        return value.hex()
    return value if value is None or isinstance(value, (int, str)) else str(value)


def _data(event: Event) -> JSONValue:
    try:
        return jsonvalue.parse(event.data)
    except (JSONError, TypeError):
        return str(event.data)


def _gist(event: Event, width: int | None) -> str:
    """Return the part of an event's data that says most, safe to print and not wider."""
    try:
        text = _told(event, jsonvalue.parse(event.data))
    except (JSONError, LookupError, TypeError, AttributeError, ValueError, OverflowError):
        # Somebody has written into the log: show it as it is.
        text = str(event.data)
    text = one_line(text.replace("\n", " "))
    return text if width is None or len(text) <= width else text[: width - 1] + "…"


def _decided(data: Any) -> str:
    rules = ", ".join(data["rules"])
    return f"{data['effect']}{f' by {rules}' if rules else ''}: {data['reason']}"


def _told(event: Event, data: Any) -> str:
    match event.kind:
        case "session.opened":
            return f"{event.session} of {data['project']}, agent {data['agent']}"
        case "policy.loaded":
            mode = "; OBSERVE MODE" if data.get("mode") == "observe" else ""
            return f"{data['policy']} {data['digest']}{mode}"
        case "policy.refused":
            return f"{data['in_force']} stays in force: {'; '.join(data['problems'])}"
        case "tool.registered":
            return f"{data['name']}, level {data['contract']['level']}"
        case "action.proposed":
            return f"{data['tool']} {jsonvalue.canonical(data['args']).decode()}"
        case "action.decided":
            would = data.get("observed")
            observed = "" if would is None else f"; OBSERVED, would be {_decided(would)}"
            return _decided(data) + observed
        case "action.rejected" | "action.failed" | "action.cancelled" | "action.in_doubt":
            return f"{data['error']['kind']}: {data['error']['message']}"
        case "action.executing":
            return f"attempt {data['attempt']}, at most {data['timeout_ms'] / 1000:g} s"
        case "action.succeeded":
            return jsonvalue.canonical(data["output"]).decode()
        case "hold.opened" | "hold.reopened":
            return f"{data['reason']} (expires {data['deadline'] or 'never'})"
        case "hold.released":
            return f"approved by {', '.join(data['approved_by'])}"
        case "approval.recorded":
            return f"{data['approver']}: {data['verdict']}"
        case "approval.refused" | "run.ended":
            return str(data["reason"])
        case "run.started":
            return f"toolgate {data['version']}, run {event.run}"
        case _:
            return _told_of_more(event, data)


def _told_of_more(event: Event, data: Any) -> str:
    match event.kind:
        case "proposal.received":
            proposal = data["proposal"]
            return f"{proposal['id']} of {_count(len(proposal['actions']), 'action')}"
        case "proposal.suspended":
            return f"held: {', '.join(data['held'])}"
        case "proposal.completed":
            cost = data["cost"]
            return ", ".join(f"{cost[f'actions_{end}']} {end}" for end in _ENDS)
        case "proposal.aborted":
            return f"{data['error']['kind']}: {data['error']['message']}"
        case "action.retrying":
            error = data["error"]
            wait = data["wait_ms"] / 1000
            return f"{error['kind']}: {error['message']}; again in {wait:g} s"
        case "action.skipped":
            return f"{data['error']['kind']}: {data['error']['message']}"
        case "action.deduplicated":
            return f"as {data['of']}: {jsonvalue.canonical(data['output']).decode()}"
        case "label.added":
            return f"{data['label']}, by {' '.join(*data['source'].items())}"
        case "observation.recorded":
            return f"{data['trust']}, {data['length']} bytes from {data.get('source', 'somewhere')}"
        case "state.changed":
            changes = {change["key"]: change["value"] for change in data["changes"]}
            return jsonvalue.canonical(changes).decode()
        case "state.rolled_back":
            kept = f"; written since by others: {', '.join(data['kept'])}" if data["kept"] else ""
            return f"as before: {', '.join(data['restored']) or 'nothing'}{kept}"
        case "checkpoint.saved":
            return f"{data['name']} ({data['checkpoint']})"
        case _:
            return jsonvalue.canonical(data).decode()
