"""``toolgate journal show``: the events that are asked for, oldest first."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import islice
from typing import Annotated, Any

import typer
from rich.text import Text

from toolgate.cli.journal.shown import counted, event_json, event_table
from toolgate.cli.terminal import (
    NO,
    ConfigOption,
    JSONOption,
    config_of,
    errors,
    one_line,
    print_json,
    print_table,
    reported,
)
from toolgate.journal.events import Event, EventKind
from toolgate.journal.journal import Reader
from toolgate.journal.opening import inspect_journal
from toolgate.journal.store import Store

_LIMIT = 100
"""How many events are printed when nobody says."""
MOST = 1 << 62
"""The largest place, and the largest number, that may be asked for."""


def show_events(
    config: ConfigOption,
    after: Annotated[
        int, typer.Option(min=0, max=MOST, help="Begin after this place in the log.")
    ] = 0,
    limit: Annotated[
        int | None,
        typer.Option(min=1, max=MOST, help=f"Print at most this many; {_LIMIT} by default."),
    ] = None,
    last: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="Print the last so many instead.")
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
    left = counted(total - len(events), "more event")
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
