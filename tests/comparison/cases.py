"""What a case of the comparison is, and how it is run raw and under each hook.

It knows no framework. A process with cases of one framework ends with :func:`main`: it prints what
it has seen, and asks the process that started it for what approvers do.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import pickle
import re
import statistics
import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from comparison.hooks import LOOKS, PATIENCE, RAW, SETTLED, Hook, People

ENDLESS = 25.0
"""Seconds after which a case that has not ended is said to hang."""
WIDEST = 60
"""How much of what anybody says is shown."""

Run = Callable[[Hook], str]
Prepare = Callable[[Hook], Callable[[int], Any]]
"""Returns what makes one call, which is given a number that no call was given before."""


@dataclass(frozen=True)
class Case:
    """Something to look at, and under what heading.

    ``raw`` tells whether raw tools show it, ``gate`` whether the answer is the gate's, whatever
    the hook: then it is Toolgate's under either hook.
    """

    title: str
    section: str
    run: Run
    raw: bool
    gate: bool


ALLOWED, GOVERNED = "allowed", "governed"


Hooks = Callable[[People, dict[str, Any]], list[Hook]]
"""Makes the ways to have tools of what SETTINGS says; see :func:`main`."""


class Cases:
    """Cases, in the order of a table."""

    def __init__(self) -> None:
        self.all: list[Case] = []
        self.times: list[tuple[str, Prepare]] = []

    def timed(self, title: str) -> Callable[[Prepare], Prepare]:
        """Add a call whose time is measured."""

        def add(prepare: Prepare) -> Prepare:
            self.times.append((title, prepare))
            return prepare

        return add

    def allowed(self, title: str, *, gate: bool = False) -> Callable[[Run], Run]:
        """Add a case of calls that policy allows: a governed tool ought to do as the raw one."""
        return self._adder(title, ALLOWED, raw=True, gate=gate)

    def governed(self, title: str, *, gate: bool = False) -> Callable[[Run], Run]:
        """Add a case of what becomes of a call that policy does not simply allow."""
        return self._adder(title, GOVERNED, raw=False, gate=gate)

    def _adder(self, title: str, section: str, *, raw: bool, gate: bool) -> Callable[[Run], Run]:
        def add(run: Run) -> Run:
            self.all.append(Case(title, section, run, raw, gate))
            return run

        return add


def observe(run: Run, hook: Hook) -> str:
    """Run a case, and return what was seen in words that are the same each time."""
    seen: list[str] = []

    def look() -> None:
        try:
            seen.append(run(hook))
        except BaseException as error:  # noqa: BLE001 - it is what was seen
            seen.append(f"raises {said(error)}")

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(ENDLESS)
    return plain(seen[0]) if seen else "never ends"


def said(error: BaseException) -> str:
    """Return an exception as a cell shows it."""
    text = short(str(error))
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def short(text: str) -> str:
    """Return the beginning of a text, in one line."""
    text = " ".join(text.split())
    return text if len(text) <= WIDEST else f"{text[:WIDEST].rstrip()}…"


def runs(count: int) -> str:
    """Say how often a body ran."""
    return {0: "runs nothing", 1: "runs once", 2: "runs twice"}.get(count, f"runs {count} times")


def asked(count: int) -> str:
    """Say how often the gate was asked about a call."""
    return {0: "not proposed", 1: "proposed once"}.get(count, f"proposed {count} times")


def pickled(made: Any) -> Any:
    """Return a tool pickled and restored; ``None``: it cannot be."""
    try:
        return pickle.loads(pickle.dumps(made))
    except (AttributeError, TypeError, pickle.PicklingError):
        return None


async def until(is_so: Callable[[], object], seconds: float = PATIENCE) -> None:
    """Wait on a loop until something is so, for at most so long."""
    latest = time.monotonic() + seconds
    while not is_so() and time.monotonic() < latest:  # noqa: ASYNC110 - threads make it so
        await asyncio.sleep(LOOKS)


async def after_leaving(hook: Hook, tool: str, done: list[Any]) -> str:
    """Say what becomes of a held call whose caller has left, also when it is approved later."""
    loop, own = asyncio.get_running_loop(), ThreadPoolExecutor(1)
    latest = time.monotonic() + SETTLED  # it may be taken back a moment later
    while left := await loop.run_in_executor(own, hook.pending, tool):
        if time.monotonic() > latest:
            break
    if not left:
        return "it is withdrawn"
    await loop.run_in_executor(own, hook.answer, tool)
    await until(lambda: done, 5.0)
    return f"its hold stays open; approved, it {runs(len(done))}"


def held_at_once(count: int, threads: int, *, goes_on: bool) -> str:
    """Say what many calls that are held at once take."""
    other = "goes on" if goes_on else "stands still"
    return f"{count} reach a person; {threads} threads wait; the loop's executor {other}"


def call_of_a_twice_governed(
    hook: Hook, made: Callable[[], Any], call: Callable[[Any], Any]
) -> str:
    """Govern a tool twice, call it, and say what comes of it."""
    with hook.another() as other:
        (twice,) = other.govern(other.govern([made()]))
        thread = threading.Thread(target=call, args=(twice,), daemon=True)
        thread.start()
        thread.join(2.0)
        count = other.proposed(twice.name)
    return "one call is proposed again and again" if count > 3 else f"one call is {asked(count)}"


def plain(text: str) -> str:
    """Return a text without what is another one each time."""
    text = re.sub(r"\b[0-9a-f]{8}-[0-9a-f-]{27}\b|\b[0-9a-f]{24,}\b", "UID", text)
    return re.sub(r"0x[0-9a-f]+", "0x…", text)


def measure(prepare: Prepare, hooks: list[Hook], rounds: int = 40, calls: int = 10) -> Any:
    """Return what a call takes by each hook, in µs; the hooks take turns.

    It is the 10th percentile: a machine that is busy with something else only makes calls longer.
    """
    number = itertools.count()
    prepared = {hook.name: prepare(hook) for hook in hooks}
    times: dict[str, list[int]] = {name: [] for name in prepared}
    for turn in range(rounds + 1):
        for name, call in prepared.items():
            for _ in range(calls):
                started = time.perf_counter_ns()
                call(next(number))
                if turn:  # the first one warms up
                    times[name].append(time.perf_counter_ns() - started)
    tenths = {name: statistics.quantiles(each, n=10) for name, each in times.items()}
    return {name: round(each[0] / 1000) for name, each in tenths.items()}


def main(several: Sequence[Cases], hooks: Hooks, packages: Sequence[str]) -> None:
    """Run a program of cases: ``PROGRAM SETTINGS [TITLE…]``.

    SETTINGS is JSON: the deployments' ``configs`` by hook, a gate's argv (``launcher``), its
    ``recorder``, and whether times are to be measured (``time``) instead of cases run. ``packages``
    are those whose versions matter.
    """
    people = People(os.dup(1), os.dup(0))
    os.dup2(2, 1)  # what frameworks print is nobody's answer
    settings = json.loads(sys.argv[1])
    wanted = set(sys.argv[2:])
    made = hooks(people, settings)
    with ExitStack() as gates:
        for hook in made:
            gates.enter_context(hook.open(recorded=not settings["time"]))
        times = [timed for cases in several for timed in cases.times]
        for title, prepare in times if settings["time"] else ():
            people.tell("TIME", title=title, times=measure(prepare, made))
        for case in () if settings["time"] else [case for cases in several for case in cases.all]:
            if wanted and case.title not in wanted:
                continue
            among = [hook for hook in made if case.raw or hook.name != RAW]
            seen = {hook.name: observe(case.run, hook) for hook in among}
            people.tell("CASE", title=case.title, section=case.section, gate=case.gate, seen=seen)
        people.tell("DONE", versions={name: version(name) for name in packages})
        # A call that never ends would keep the interpreter from ending.
        os._exit(0)
