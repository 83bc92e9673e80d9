"""The figures of a journal of a million events: opening it, using it, verifying it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import history
import subjects
from measure import FULL, Plan, in_turns, lanes_in_turns, p50
from reading import Prepared, Reading, Target, against, always
from states import State

CONFIG: Final = "gate.json"
_SHORT: Final = 1000
"""Events of the journal that it is compared with."""
_PER_EVENT: Final = 200e-6
"""Megabytes of memory that verifying may take for each event, over what it takes for none."""


_VERIFY: Final = """
import sys, time
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from toolgate.cli.app import app

config = sys.argv[1]
sys.argv[1:] = ["journal", "verify", "--json", "--config", config]
started = time.perf_counter()
try:
    app()
except SystemExit as end:
    seconds, status = time.perf_counter() - started, Path("/proc/self/status")
    # What getrusage says begins, on Linux, with what the process was before it ran Python.
    most = getrusage(RUSAGE_SELF).ru_maxrss / 1e6
    if status.exists():
        most = int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024 / 1e6
    print(seconds, most, end.code, file=sys.stderr)
"""


@contextmanager
def million(plan: Plan, folder: Path) -> Iterator[Prepared]:
    """Prepare a journal of a million events, and one of a thousand that it must be as fast as."""
    long, short = folder / "long", folder / "short"
    many, held_many = history.journal(long, plan.million, cached=plan is FULL)
    few, held_few = history.journal(short, _SHORT)
    with subjects.gate(short) as new, subjects.gate(long) as old:
        what = f"{subjects.length(long):,} events"
        floor = f"{_SHORT:,} events"
        lanes = {
            "call": subjects.call(old, "search", "succeeded"),
            "short call": subjects.call(new, "search", "succeeded"),
            "settled": subjects.resume(old, many, "succeeded"),
            "short settled": subjects.resume(new, few, "succeeded"),
            "held": subjects.resume(old, held_many, "held"),
            "short held": subjects.resume(new, held_few, "held"),
            "holds": lambda: old.client.holds("pending"),
            "short holds": lambda: new.client.holds("pending"),
        }

        def measure() -> list[Reading]:
            starts = in_turns(
                {
                    "long": lambda: subjects.start_to_ready(long / CONFIG) * 1e3,
                    "short": lambda: subjects.start_to_ready(short / CONFIG) * 1e3,
                },
                plan.starts,
                plan.patience,
            )
            turns = {name: p50(taken) for name, taken in lanes_in_turns(lanes, plan).items()}
            named = {
                "call": "allowed call",
                "settled": "resume, settled",
                "held": "resume, held",
                "holds": "holds that are pending",
            }
            # An action that is any of 250,000 lies where nothing has been read lately.
            bound = always(1.15)
            return [
                against(f"start, {what}", starts["long"], floor, starts["short"], bound, "ms"),
                *(
                    against(
                        f"{called}, {what}",
                        turns[name],
                        floor,
                        turns[f"short {name}"],
                        bound,
                    )
                    for name, called in named.items()
                ),
                *_verifying(long, short),
            ]

        yield Prepared(measure, (new.process, old.process))


def _verifying(long: Path, short: Path) -> list[Reading]:
    seconds, megabytes = _verify(long)
    nothing, least = _verify(short)
    events = subjects.length(long)
    # What a verification takes that has nothing to verify is the program's start.
    spent = seconds - nothing if seconds > 2 * nothing else seconds
    rate: dict[State, Target] = {"idle": Target(100_000, "value", at_least=True)}
    what = f"journal verify, {events:,} events"
    return [
        Reading(what, "events/s", events / spent, targets=rate),
        Reading(
            f"{what}, memory over the least", "MB", megabytes - least,
            targets=always(max(events * _PER_EVENT, 10), "value"),
        ),
    ]  # fmt: skip


def _verify(folder: Path) -> tuple[float, float]:
    """Verify a journal in a process of its own; returns its seconds and megabytes, the most."""
    done = subprocess.run(
        [sys.executable, "-c", _VERIFY, str(folder / CONFIG)],
        capture_output=True,
        text=True,
        check=True,
    )
    seconds, used, ended = done.stderr.split()[-3:]
    if int(ended) != 0:
        raise RuntimeError(f"the journal does not verify: {done.stdout}{done.stderr}")
    return float(seconds), float(used)
