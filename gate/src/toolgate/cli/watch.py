"""``toolgate approvals watch``: what is held now, and from then on what becomes of holds.

A line tells of a hold that it is ``held``; then that it was ``approved`` by one more, ``edited`` or
``reopened``, while it still waits; and of its end that it is ``released`` (enough have approved),
``denied``, ``expired`` or ``withdrawn``.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from typing import Annotated, TypeAlias

import typer
from rich.text import Text

from toolgate import clock
from toolgate.cli.following import PLACE_POLL, POLL, ended_by_reader, pause
from toolgate.cli.terminal import (
    ConfigOption,
    JSONOption,
    config_of,
    errors,
    one_line,
    print_json,
    print_line,
    printable,
    reported,
)
from toolgate.desk import Desk
from toolgate.errors import ApprovalError, JournalTampered
from toolgate.journal.records import HoldRecord
from toolgate.kernel.holds import HoldView

_MOST = 1 << 62
_STYLES = {
    "held": "yellow",
    "released": "green",
    "denied": "red",
    "expired": "red",
    "withdrawn": "red",
}

Change: TypeAlias = tuple[str, HoldView]
"""What has become of a hold, and how it stands."""


def watch(
    config: ConfigOption,
    limit: Annotated[
        int | None, typer.Option(min=1, max=_MOST, help="End after so many lines.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(min=0.0, help="End after so many seconds; 0 waits for nothing.")
    ] = None,
    as_json: JSONOption = False,
) -> None:
    """Print what is held, then each new hold and what becomes of it, until Ctrl-C."""
    with reported(), ended_by_reader():
        follower = Follower(Desk(config_of(config)))
        until = None if seconds is None else time.monotonic() + seconds
        shown = 0
        for change in follower.changes(until):
            if change is None:
                sys.stdout.flush()
                continue
            _print(*change, as_json=as_json)
            shown += 1
            if shown == limit:
                break
        sys.stdout.flush()


class Follower:
    """Follows the holds of one desk's project."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self._rows: dict[str, HoldRecord | str] = {}
        """The pending holds as their rows were at the last look, or what was wrong with them."""
        self._views: dict[str, HoldView] = {}
        """Those of the project, as they stood."""
        self._answers = desk.last_answer()

    def changes(self, until: float | None) -> Iterator[Change | None]:
        """Yield what changes until a time of the monotonic clock; ``None``: nothing more now."""
        desk = self._desk
        while True:
            version = desk.version()
            yield from self._look()
            yield None
            if not self._wait(version, until):
                return

    def _wait(self, version: int, until: float | None) -> bool:
        """Wait until somebody has written or a deadline passes; tell whether there is time left."""
        looks = 0
        while until is None or time.monotonic() < until:
            pause(POLL if until is None else max(min(POLL, until - time.monotonic()), 0.0))
            looks += 1
            if looks % PLACE_POLL == 0:
                self._desk.check_place()
            if self._desk.version() != version or self._overdue():
                return True
        return False

    def _overdue(self) -> bool:
        now = clock.now()
        return any(
            view.status == "pending" and view.hold.deadline is not None and now > view.hold.deadline
            for view in self._views.values()
        )

    def _look(self) -> Iterator[Change]:
        """Yield what has become of each hold that has moved on since the last look."""
        before, answered = self._rows, set()
        for number, name in self._desk.answered_after(self._answers):
            self._answers = max(self._answers, number)
            answered.add(name)
        rows = {
            name: str(row) if isinstance(row, JournalTampered) else row
            for name, row in self._desk.pending().items()
        }
        self._rows = rows
        ended = [name for name in before if name not in rows]
        now = clock.now()
        for name in (*ended, *rows):
            view = self._views.get(name)
            deadline = None if view is None or view.status != "pending" else view.hold.deadline
            late = deadline is not None and now > deadline
            if name in answered or late or rows.get(name) != before.get(name):
                yield from self._looked_at(name, view)
        for name in ended:
            self._views.pop(name, None)

    def _looked_at(self, name: str, was: HoldView | None) -> Iterator[Change]:
        try:
            view = self._desk.find(name)
        except JournalTampered as error:
            told = Text.assemble(("error: ", "bold red"), printable(str(error)))
            errors.print(told, soft_wrap=True)
            self._views.pop(name, None)
            return
        except ApprovalError:
            return  # Another project's.
        self._views[name] = view
        what = _what(was, view)
        if what is not None:
            yield what, view


def _what(was: HoldView | None, view: HoldView) -> str | None:
    """Return what has become of a hold, or None when nothing has."""
    if was is None:
        return "held" if view.status == "pending" else view.status
    if view.status != was.status:
        return "held" if view.status == "pending" else view.status
    if view.status != "pending" or view == was:
        return None
    if view.hold.opened_at != was.hold.opened_at:
        return "reopened"
    if view.hold.digest != was.hold.digest:
        return "reopened" if view.edit is None else "edited"
    approved = view.tally.approved_by
    if approved == was.tally.approved_by:
        return None
    return "approved" if approved else "reopened"


def _print(what: str, view: HoldView, *, as_json: bool) -> None:
    if as_json:
        print_json({"event": what, **view.to_json()})
        return
    hold = view.shown
    line = Text(f"{clock.to_text(clock.now())[:19].replace('T', ' ')}  ")
    line.append(f"{what:<9}", style=_STYLES.get(what, ""))
    line.append(f"  {hold.hold_id}  {one_line(hold.tool)}  {one_line(_told(what, view))}")
    print_line(line)


def _told(what: str, view: HoldView) -> str:
    said = view.tally
    waits = f"waits for {view.waits_for}"
    match what:
        case "held" | "reopened":
            return f"{view.hold.reason} ({waits})"
        case "approved":
            return f"by {said.approved_by[-1]}; it {waits}"
        case "edited":
            return f"by {said.version.by}; it {waits}"
        case "released":
            return f"approved by {', '.join(said.approved_by) or 'nobody that counts now'}"
        case "denied" if said.denial is not None:
            why = f": {said.denial.reason}" if said.denial.reason else ""
            return f"by {said.denial.approver}{why}"
        case _:
            return view.hold.reason
