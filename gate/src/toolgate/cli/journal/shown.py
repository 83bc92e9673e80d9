"""Events as the commands show them: as rows for people, as JSON for machines, safe to print."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import typer
from rich.table import Table
from rich.text import Text

from toolgate import clock, jsonvalue
from toolgate.cli.terminal import console, in_terminal, one_line
from toolgate.errors import JSONError
from toolgate.globs import compiled
from toolgate.journal.events import Event, EventKind
from toolgate.journal.names import is_name
from toolgate.jsonvalue import JSONValue

_STYLES = {
    "action.succeeded": "green",
    "action.rejected": "red",
    "action.failed": "red",
    "action.in_doubt": "bold red",
    "action.deduplicated": "green",
    "proposal.completed": "green",
    "proposal.aborted": "red",
    "action.settled": "cyan",
    "approval.recorded": "cyan",
    "approval.refused": "red",
    "journal.tampered": "bold red",
}
_ENDS = ("executed", "rejected", "skipped")
_ROOMY = 120
"""Columns of a terminal that has room for whole uids beside what happened."""
_WIDEST = max(map(len, EventKind))


def counted(number: int, noun: str) -> str:
    """Return a number with its noun, for people."""
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
            Text(_about(event)[shown:]),
            Text(_gist(event, width), overflow="ellipsis", no_wrap=True),
        )
    return table


def event_line(event: Event, genuine: bool) -> Text:
    """Return an event as one line, for people who watch: a terminal cuts it at its width."""
    width = console.width if in_terminal() else None
    shown = 0 if width is None or width >= _ROOMY else -6
    line = Text(f"{event.seq:>7}  {one_line(_time(event.at))[11:23]}  ")
    line.append_text(_kind(event, genuine))
    line.append(" " * max(_WIDEST - len(event.kind), 0))
    line.append(f"  {_about(event)[shown:]:<6}  {_gist(event, width)}")
    if width is not None:
        line.truncate(width, overflow="ellipsis")
    return line


def known_kinds(globs: list[str] | None) -> tuple[str, ...] | None:
    """Return the kinds of events that match one of some patterns; ``None``: all of them.

    Raises :class:`typer.BadParameter` for a pattern that no kind matches.
    """
    if not globs:
        return None
    patterns = [compiled(glob) for glob in globs]
    for glob, pattern in zip(globs, patterns, strict=True):
        if not any(map(pattern.match, EventKind)):
            raise typer.BadParameter(f"no kind of event is called {glob!r}", param_hint="--kind")
    return tuple(k.value for k in EventKind if any(pattern.match(k) for pattern in patterns))


def _kind(event: Event, genuine: bool) -> Text:
    if not genuine:
        return Text(f"NOT GENUINE: {one_line(event.kind)}", style="bold red")
    return Text(event.kind, style=_STYLES.get(event.kind, ""))


def _about(event: Event) -> str:
    """Return the uid that an event is about; the name of what is no action is told beside it."""
    action = one_line(event.action or "")
    return "" if is_name(action) else action


def _time(at: int) -> str:
    try:
        return clock.to_text(at)
    except (TypeError, OverflowError, ValueError):
        return str(at)


def event_json(event: Event) -> dict[str, JSONValue]:
    """Return an event as the command prints it for machines."""
    return {
        "seq": event.seq,
        "run": plain(event.run),
        "n": plain(event.n),
        "at": _time(event.at),
        "session": plain(event.session),
        "action": plain(event.action),
        "kind": plain(event.kind),
        "data": _data(event),
        "prev": plain(event.prev),
        "hash": plain(event.hash),
        "mac": plain(event.mac),
    }


def plain(value: object) -> JSONValue:
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
    if event.kind.startswith(("hold.", "approval.")):
        return _told_of_holds(event, data)
    if event.kind in ("action.suspended", "action.settled", "label.removed"):
        return _told_of_words(event, data)
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
        case "run.ended":
            return str(data["reason"])
        case "run.started":
            return f"toolgate {data['version']}, run {event.run}"
        case _:
            return _told_of_more(event, data)


def _told_of_holds(event: Event, data: Any) -> str:
    match event.kind:
        case "hold.opened" | "hold.reopened":
            unsigned = _unsigned(data["requirement"])
            return f"{data['reason']} (expires {data['deadline'] or 'never'}{unsigned})"
        case "hold.released":
            return f"approved by {', '.join(data['approved_by'])}{_unsigned(data)}"
        case "hold.edited":
            return f"by {data['by']}: {jsonvalue.canonical(data['args']).decode()}"
        case "approval.recorded":
            edited = ", edited" if data.get("edited") else ""
            return f"{data['approver']}: {data['verdict']}{edited}{_unsigned(data)}"
        case "approval.refused":
            return str(data["reason"])
        case _:
            return jsonvalue.canonical(data).decode()


def _told_of_words(event: Event, data: Any) -> str:
    """Return what a person, or a body itself, has said of an action or a label."""
    why = f": {data['reason']}" if data.get("reason") else ""
    match event.kind:
        case "action.suspended":
            return f"attempt {data['attempt']} has stopped itself, to be entered again"
        case "label.removed":
            return f"{data['label']}, by {data['removed_by']}{why}"
        case _ if "settled_by" in data:
            return f"{data['outcome']} by {data['settled_by']}{why}"
        case _:
            return f"{data['status']}, by a late result"


def _unsigned(data: Any) -> str:
    return "; UNSIGNED" if data.get("unsigned") else ""


def _told_of_more(event: Event, data: Any) -> str:
    match event.kind:
        case "proposal.received":
            proposal = data["proposal"]
            return f"{proposal['id']} of {counted(len(proposal['actions']), 'action')}"
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
        case "limit.counted":
            used = jsonvalue.canonical(data["used"]).decode()
            return f"{event.action}: {used}"
        case "key.claimed":
            return f"{event.action} is {data['uid']}"
        case "checkpoint.saved":
            return f"{data['name']} ({data['checkpoint']})"
        case _:
            return jsonvalue.canonical(data).decode()
