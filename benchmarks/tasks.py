"""The figures of the asynchronous client: calls of a task, and tasks that wait for people."""

from __future__ import annotations

import asyncio
import itertools
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import floors
import subjects
from measure import Plan, Turn, in_turns, p50, take_turn, turn_of
from reading import Prepared, Reading, Target, against, always
from states import State

from toolgate.config import load_config
from toolgate.desk import Desk
from toolgate_client import Outcome

_numbers = itertools.count()
"""Make each call one that was never made before."""


@contextmanager
def calls(plan: Plan, folder: Path) -> Iterator[Prepared]:
    """Prepare calls of one task, one after the other, whose bodies are awaited."""
    with (
        floors.durable(folder) as floor,
        subjects.gate(folder) as gate,
        asyncio.Runner() as runner,
    ):
        client = gate.client

        async def body(args: dict[str, Any]) -> dict[str, Any]:
            return {"hits": 3}

        async def call() -> None:
            args = {"q": "where is my order", "n": next(_numbers)}
            _check(await client.agovern("search", args, body=body), "succeeded")

        takers: dict[str, Callable[[], Turn]] = {
            "floor": partial(take_turn, floor.lane, plan.turn),
            "sync": partial(take_turn, subjects.call(gate, "search", "succeeded"), plan.turn),
            "async": lambda: runner.run(_take_turn(call, plan.turn)),
        }

        def measure() -> list[Reading]:
            turns = in_turns(takers, plan.rounds, plan.patience)
            limits: dict[State, Target] = {"idle": Target(2.5), "busy": Target(4.5)}
            what, floor_turns = "allowed call of a task", p50(turns["floor"])
            return [
                against(what, p50(turns["async"]), "durable floor", floor_turns, limits),
                against(what, p50(turns["async"]), "that of a thread", p50(turns["sync"])),
            ]

        yield Prepared(measure, (floor.process, gate.process))


@contextmanager
def waiting(plan: Plan, folder: Path) -> Iterator[Prepared]:
    """Prepare tasks that each wait for the approval of a call, which comes from elsewhere."""
    with subjects.gate(folder) as gate, asyncio.Runner() as runner:
        desk, key = Desk(load_config(folder / "gate.json")), folder / subjects.KEY
        try:

            def measure() -> list[Reading]:
                threads, released = runner.run(_wait(gate, desk, key, plan.waiting))
                who = f"{plan.waiting:,} tasks that wait"
                return [
                    Reading(f"{who}: threads", "", threads, targets=always(0, "value")),
                    Reading(f"{who}: released after", "ms", released, targets=always(100, "value")),
                ]

            yield Prepared(measure, (gate.process,))
        finally:
            desk.close()


async def _wait(gate: subjects.Gate, desk: Desk, key: Path, number: int) -> tuple[int, float]:
    """Return the threads that came, and the median time from approval to result, in ms."""
    client, released = gate.client, dict[str, float]()

    async def body(args: dict[str, Any]) -> dict[str, Any]:
        return {"hits": 3}

    async def wait(uid: str) -> None:
        _check(await client.aresume(uid, wait=None, body=body), "succeeded")
        released[uid] = time.perf_counter()

    before = threading.active_count()
    payments = [{"q": "pay this", "n": next(_numbers)} for _ in range(number)]
    held = await asyncio.gather(*(client.agovern("pay", args) for args in payments))
    tasks = [asyncio.create_task(wait(each.uid)) for each in held]
    await client.aping()
    threads = threading.active_count() - before
    approved = {}
    for each in held:
        await asyncio.to_thread(desk.answer, each.uid, "approve", "ada", key)
        approved[each.uid] = time.perf_counter()
    await asyncio.gather(*tasks)
    return threads, median(released[uid] - approved[uid] for uid in approved) * 1e3


async def _take_turn(lane: Callable[[], Awaitable[object]], seconds: float) -> Turn:
    clock, times = time.perf_counter, list[float]()
    now = clock()
    end = now + seconds
    while True:
        started = now
        await lane()
        now = clock()
        times.append(now - started)
        if now >= end:
            return turn_of(times)


def _check(outcome: Outcome, status: str) -> None:
    if outcome.status != status:
        raise RuntimeError(f"a call has {outcome.status}, not {status}: {outcome}")
