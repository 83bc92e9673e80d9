"""What a call costs does not depend on how many there were before, and memory does not grow.

Regression 30. Costs are counted, not timed: SQL statements, and steps of SQLite's virtual machine.
"""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, NamedTuple

from support.driver import Driver
from support.people import ALICE, config

MANY = 5000
ROOM = 1.05
"""By so much a cost may differ: a page that splits, a checkpoint that is looked for."""


class Cost(NamedTuple):
    """What the store was asked to do."""

    statements: int
    steps: int


async def cost(gate: Driver, work: Callable[[], Awaitable[Any]]) -> Cost:
    """Return what some work of the gate costs its store."""
    database = gate.gate.runtime._journal.reader.store._db
    statements: list[str] = []
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1

    database.set_trace_callback(statements.append)
    database.set_progress_handler(step, 1)
    try:
        await work()
    finally:
        database.set_trace_callback(None)
        database.set_progress_handler(None, 0)
    return Cost(len(statements), steps)


async def calls(gate: Driver, first: int, number: int) -> None:
    """Make so many calls, a hundred at once, one in ten of them with a key."""
    for n in range(first, first + number, 100):
        sent = [
            gate.send(
                "govern",
                tool="search",
                args={"q": i},
                **({"idempotency_key": f"k{i}"} if i % 10 == 0 else {}),
            )
            for i in range(n, min(n + 100, first + number))
        ]
        await asyncio.gather(*sent)
    gate.ran.clear()


async def test_30_the_five_thousandth_call_costs_what_the_tenth_cost(tmp_path: Path) -> None:
    async with Driver(tmp_path, config(session="s")) as gate:
        await gate.tool("search", lambda args: "found")
        await gate.tool("pay", lambda args: "paid")

        async def hold(n: int) -> str:
            return str((await gate.govern("pay", {"n": n}))["uid"])

        async def costs(n: int) -> dict[str, Cost]:
            uid = await hold(n)
            measured = {
                "call": await cost(gate, lambda: gate.govern("search", {"q": n})),
                "call with a key": await cost(
                    gate, lambda: gate.govern("search", {"q": n}, idempotency_key=f"new {n}")
                ),
                "repeat of a key": await cost(
                    gate, lambda: gate.govern("search", {"q": n}, idempotency_key=f"new {n}")
                ),
                "look at a hold": await cost(gate, lambda: gate.request("resume", uid=uid)),
                "wait for a hold": await cost(
                    gate, lambda: gate.request("resume", uid=uid, wait_ms=1)
                ),
                "hold": await cost(gate, lambda: hold(n + 1)),
                "pending holds": await cost(
                    gate, lambda: gate.request("holds", status="pending", limit=1)
                ),
            }
            gate.approve(uid, ALICE, tmp_path)
            measured["release"] = await cost(gate, lambda: gate.request("resume", uid=uid))
            return measured

        await calls(gate, 0, 100)
        early = await costs(1_000_000)
        await calls(gate, 100, MANY)
        late = await costs(2_000_000)
    for what, before in early.items():
        after = late[what]
        assert after.statements <= before.statements + 2, what
        assert after.steps <= before.steps * ROOM + 50, what


async def test_30_memory_does_not_grow_with_calls(tmp_path: Path) -> None:
    async with Driver(tmp_path, config(session="s")) as gate:
        await gate.tool("search", lambda args: "found")
        tracemalloc.start()
        try:
            await calls(gate, 0, 500)
            gc.collect()
            before = tracemalloc.get_traced_memory()[0]
            await calls(gate, 500, 1500)
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
    assert grown < 100_000
