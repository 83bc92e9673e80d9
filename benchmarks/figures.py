"""The figures: what is measured against what, and the target each one has.

A figure is a context manager: entered, it has its gates and floors running and yields what measures
once, in whatever state the machine is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Final

import floors
import millions
import plans
import subjects
import tasks
from measure import Plan, Turn, in_turns, lanes_in_turns, p50, p99
from reading import Figure, Prepared, Reading, Target, against, always
from states import State


@contextmanager
def _hops(plan: Plan, folder: Path) -> Iterator[Prepared]:
    with (
        floors.raw() as raw,
        floors.durable(folder) as durable,
        floors.durable(folder, "FULL") as full,
    ):
        lanes = {"raw": raw.lane, "durable": durable.lane, "full": full.lane}

        def measure() -> list[Reading]:
            turns = lanes_in_turns(lanes, plan)
            hops = p50(turns["raw"])
            return [
                Reading("raw pipe, 4 hops", "µs", median(hops)),
                against("durable floor", p50(turns["durable"]), "raw pipe", hops),
                against("durable floor, synchronous=FULL", p50(turns["full"]), "raw pipe", hops),
            ]

        yield Prepared(measure, (raw.process, durable.process, full.process))


@contextmanager
def _allowed(plan: Plan, folder: Path) -> Iterator[Prepared]:
    with floors.durable(folder) as floor, subjects.gate(folder) as gate:
        lanes = {"floor": floor.lane, "call": subjects.call(gate, "search", "succeeded")}

        def measure() -> list[Reading]:
            turns = lanes_in_turns(lanes, plan)
            calls = turns["call"]
            limits: dict[State, Target] = {"idle": Target(2.0), "busy": Target(3.5)}
            return [
                against("allowed call", p50(calls), "durable floor", p50(turns["floor"]), limits),
                against("allowed call, p99", p99(calls), "its own p50", p50(calls), always(3.0)),
            ]

        yield Prepared(measure, (floor.process, gate.process))


@contextmanager
def _power(plan: Plan, folder: Path) -> Iterator[Prepared]:
    with (
        floors.durable(folder, "FULL") as floor,
        subjects.gate(folder, durability="power") as gate,
    ):
        lanes = {"floor": floor.lane, "call": subjects.call(gate, "search", "succeeded")}

        def measure() -> list[Reading]:
            turns = lanes_in_turns(lanes, plan)
            what, floor_is = "allowed call, durability: power", "durable floor, FULL"
            return [against(what, p50(turns["call"]), floor_is, p50(turns["floor"]), always(2.2))]

        yield Prepared(measure, (floor.process, gate.process))


@contextmanager
def _denied(plan: Plan, folder: Path) -> Iterator[Prepared]:
    with subjects.gate(folder) as gate:
        lanes = {
            "allowed": subjects.call(gate, "search", "succeeded"),
            "denied": subjects.call(gate, "shell", "rejected"),
        }

        def measure() -> list[Reading]:
            turns = lanes_in_turns(lanes, plan)
            return [_against_call("denied call", turns["denied"], turns["allowed"], 0.7)]

        yield Prepared(measure, (gate.process,))


@contextmanager
def _held(plan: Plan, folder: Path) -> Iterator[Prepared]:
    with subjects.gate(folder) as gate:
        call = subjects.call(gate, "search", "succeeded")
        settled = [call().uid for _ in range(100)]
        lanes = {
            "call": call,
            "held": subjects.call(gate, "pay", "held"),
            "settled": subjects.resume(gate, settled, "succeeded"),
        }

        def measure() -> list[Reading]:
            turns = lanes_in_turns(lanes, plan)
            return [
                _against_call("held call", turns["held"], turns["call"], None),
                _against_call("resume, settled", turns["settled"], turns["call"], 1.5),
            ]

        yield Prepared(measure, (gate.process,))


@contextmanager
def _journal(plan: Plan, folder: Path) -> Iterator[Prepared]:
    long = folder / "long"
    settled, held = subjects.fill(long, plan.events)
    with subjects.gate(folder / "short") as new, subjects.gate(long) as old:
        events = f"{subjects.length(long):,} events"
        lanes = {
            "new": subjects.call(new, "search", "succeeded"),
            "old": subjects.call(old, "search", "succeeded"),
            "settled": subjects.resume(old, settled, "succeeded"),
            "held": subjects.resume(old, held, "held"),
        }

        def measure() -> list[Reading]:
            turns = lanes_in_turns(lanes, plan)
            calls, floor = p50(turns["old"]), p50(turns["new"])
            return [
                against(f"allowed call, {events}", calls, "new journal", floor, always(1.15)),
                _against_call(f"resume, settled, {events}", turns["settled"], turns["old"], 1.5),
                _against_call(f"resume, held, {events}", turns["held"], turns["old"], 1.5),
            ]

        yield Prepared(measure, (new.process, old.process))


@contextmanager
def _rules(plan: Plan, folder: Path) -> Iterator[Prepared]:
    with (
        subjects.gate(folder / "one", rules=subjects.many_rules(1, 1)) as one,
        subjects.gate(folder / "many", rules=subjects.many_rules()) as many,
    ):
        lanes = {
            "one": subjects.call(one, "search", "succeeded"),
            "many": subjects.call(many, "search", "succeeded"),
        }

        def measure() -> list[Reading]:
            turns = lanes_in_turns(lanes, plan)
            what, floor = "allowed call, 1,000 rules, 20 of the tool", p50(turns["one"])
            return [against(what, p50(turns["many"]), "1 rule", floor, always(1.5))]

        yield Prepared(measure, (one.process, many.process))


@contextmanager
def _throughput(plan: Plan, folder: Path) -> Iterator[Prepared]:
    with subjects.gate(folder) as gate, ThreadPoolExecutor(subjects.CALLERS) as pool:

        def measure() -> list[Reading]:
            def take() -> float:
                return subjects.calls_per_second(pool, gate, plan.turn * 2)

            rates = in_turns({"rate": take}, plan.rounds, plan.patience)["rate"]
            targets: dict[State, Target] = {"idle": Target(6000, "value", at_least=True)}
            what = f"throughput, {subjects.CALLERS} threads"
            return [Reading(what, "calls/s", median(rates), targets=targets)]

        yield Prepared(measure)


@contextmanager
def _start(plan: Plan, folder: Path) -> Iterator[Prepared]:
    config = subjects.config_file(folder)

    def measure() -> list[Reading]:
        takers = {
            "gate": lambda: subjects.start_to_ready(config) * 1e3,
            "python": lambda: subjects.start_of_python() * 1e3,
        }
        times = in_turns(takers, plan.starts, plan.patience)
        what, python, target = "gate, start to ready", "bare Python", always(250, "value")
        return [against(what, times["gate"], python, times["python"], target, "ms")]

    yield Prepared(measure)


@contextmanager
def _memory(plan: Plan, folder: Path) -> Iterator[Prepared]:
    with subjects.gate(folder) as gate, ThreadPoolExecutor(subjects.CALLERS) as pool:

        def measure() -> list[Reading]:
            pid = gate.process
            # SQLite's own cache is full after some thousand calls; what comes after is growth.
            subjects.at_once(pool, gate, min(5_000, plan.growth_calls))
            before = subjects.resident(pid)
            subjects.at_once(pool, gate, plan.growth_calls)
            growth = subjects.resident(pid) - before
            what = f"gate, growth over {plan.growth_calls:,} calls"
            return [
                Reading("gate, resident", "MB", before, targets=always(80, "value")),
                Reading(what, "MB", growth, targets=always(1, "value")),
            ]

        yield Prepared(measure)


@contextmanager
def _import(plan: Plan, folder: Path) -> Iterator[Prepared]:
    def measure() -> list[Reading]:
        takers = {
            "client": lambda: subjects.run_python("import toolgate_client") * 1e3,
            "python": lambda: subjects.run_python("pass") * 1e3,
        }
        times = in_turns(takers, plan.starts * 2, plan.patience)
        over = [one - other for one, other in zip(times["client"], times["python"], strict=True)]
        what, python = "client import, over bare Python", times["python"]
        return [against(what, over, "bare Python", python, always(30, "value"), "ms")]

    yield Prepared(measure)


def _against_call(
    what: str, subject: Sequence[Turn], call: Sequence[Turn], bound: float | None
) -> Reading:
    targets = None if bound is None else always(bound)
    return against(what, p50(subject), "allowed call", p50(call), targets)


FIGURES: Final[Mapping[str, Figure]] = {
    "floors": Figure(_hops),
    "allowed": Figure(_allowed),
    "async": Figure(tasks.calls),
    "power": Figure(_power),
    "denied": Figure(_denied),
    "held": Figure(_held),
    "journal": Figure(_journal),
    "million": Figure(millions.million, states=("idle",), long=True),
    "rules": Figure(_rules),
    "throughput": Figure(_throughput),
    "waiting": Figure(tasks.waiting),
    "chain": Figure(plans.chain),
    "fan": Figure(plans.fan),
    "verify": Figure(plans.verify),
    "start": Figure(_start),
    "memory": Figure(_memory, states=("idle",)),
    "import": Figure(_import),
}
"""By the name that the command line knows them by, in the order they are measured in."""
