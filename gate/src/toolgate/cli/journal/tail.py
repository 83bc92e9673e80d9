"""``toolgate journal tail``: the newest events, and from then on each as it is committed."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Annotated

import typer

from toolgate.cli.following import PLACE_POLL, POLL, ended_by_reader, pause
from toolgate.cli.journal.show import MOST
from toolgate.cli.journal.shown import event_json, event_line, known_kinds
from toolgate.cli.terminal import (
    ConfigOption,
    JSONOption,
    config_of,
    print_json,
    print_line,
    reported,
)
from toolgate.errors import JournalTampered
from toolgate.journal.events import Event
from toolgate.journal.opening import Inspection, inspect_journal


def tail_events(
    config: ConfigOption,
    last: Annotated[
        int,
        typer.Option("--last", "-n", min=0, max=MOST, help="Begin with the last so many."),
    ] = 10,
    action: Annotated[str | None, typer.Option(help="Only this action's events.")] = None,
    session: Annotated[str | None, typer.Option(help="Only this session's events.")] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(help="Only events of this kind, such as 'hold.*'; may be repeated."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, max=MOST, help="End after so many events.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.0, help="End after so many seconds; 0 waits for nothing.")
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Print the newest events, then each new one once it is committed, until Ctrl-C."""
    kinds = known_kinds(kind)
    with reported(), ended_by_reader():
        journal = inspect_journal(config_of(config))
        until = None if seconds is None else time.monotonic() + seconds
        shown = 0
        for event in _follow(journal, last, action, session, kinds, until):
            if event is None:
                sys.stdout.flush()
                continue
            genuine = journal.reader.genuine(event)
            if as_json:
                print_json({**event_json(event), "genuine": genuine})
            else:
                print_line(event_line(event, genuine))
            shown += 1
            if shown == limit:
                break
        sys.stdout.flush()


def _follow(
    journal: Inspection,
    last: int,
    action: str | None,
    session: str | None,
    kinds: tuple[str, ...] | None,
    until: float | None,
) -> Iterator[Event | None]:
    """Yield the last events and then what is committed; ``None`` where there is nothing more now.

    Raises :class:`~toolgate.errors.JournalTampered` when the log has become shorter.
    """
    store = journal.store
    version, seen = store.version(), 0
    with store.view():
        seen = store.last_seq()
        events = list(
            store.events(until=seen, action=action, session=session, kinds=kinds, last=last)
        )
    yield from events
    while True:
        yield None
        if until is not None and time.monotonic() >= until:
            return
        version = _changed(journal, version, until)
        with store.view():
            end = store.last_seq()
            if end < seen:
                raise JournalTampered(
                    f"the log ended at event {seen}, and ends at {end} now: events were taken away "
                    "(`toolgate journal verify` tells what else is wrong)"
                )
            events = list(
                store.events(after=seen, until=end, action=action, session=session, kinds=kinds)
            )
        seen = end
        yield from events


def _changed(journal: Inspection, version: int, until: float | None) -> int:
    """Wait until somebody has committed, or it is time to end; returns the store's version."""
    looks = 0
    while True:
        now = journal.store.version()
        if now != version or (until is not None and time.monotonic() >= until):
            return now
        looks += 1
        if looks % PLACE_POLL == 0:
            journal.store.check_place()
        pause(POLL if until is None else min(POLL, max(until - time.monotonic(), 0.0)))
