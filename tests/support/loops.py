"""Event loops of every sort that the client has to do with."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import uvloop


class Watchless(asyncio.SelectorEventLoop):
    """A loop that cannot watch pipes, as Windows' Proactor loop cannot."""

    def add_reader(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
        raise NotImplementedError

    def add_writer(self, fd: Any, callback: Callable[..., Any], *args: Any) -> None:
        raise NotImplementedError


LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "uvloop": uvloop.new_event_loop,
    "watchless": Watchless,
}


def run(main: Any, factory: Callable[[], asyncio.AbstractEventLoop] | None = None) -> Any:
    """Run a coroutine on a new loop of a sort."""
    with asyncio.Runner(loop_factory=factory) as runner:
        return runner.run(main)


async def soon(condition: Callable[[], object], ping: Callable[[], Any] | None = None) -> None:
    """Let the loop turn until a condition holds, which the test's bound sees to."""
    while not condition():
        await (asyncio.sleep(0) if ping is None else ping())
