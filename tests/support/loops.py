"""Event loops of every sort that the client has to do with, on every Python that it runs on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import uvloop

if sys.version_info >= (3, 11):
    Runner = asyncio.Runner
    timeout = asyncio.timeout
else:

    class Runner:
        """What tests need of ``asyncio.Runner``."""

        def __init__(self, *, loop_factory: Any = None) -> None:
            self._loop = (loop_factory or asyncio.new_event_loop)()

        def __enter__(self) -> Runner:
            return self

        def __exit__(self, *error: object) -> None:
            loop = self._loop
            try:
                left = asyncio.all_tasks(loop)
                for task in left:
                    task.cancel()
                loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
                loop.run_until_complete(loop.shutdown_asyncgens())
                loop.run_until_complete(loop.shutdown_default_executor())
            finally:
                asyncio.set_event_loop(None)
                loop.close()

        def get_loop(self) -> asyncio.AbstractEventLoop:
            return self._loop

        def run(self, main: Any) -> Any:
            asyncio.set_event_loop(self._loop)
            return self._loop.run_until_complete(main)

    @asynccontextmanager
    async def timeout(seconds: float) -> AsyncIterator[None]:
        """What tests need of ``asyncio.timeout``."""
        task, late = asyncio.current_task(), []

        def end() -> None:
            late.append(True)
            task.cancel()

        timer = asyncio.get_running_loop().call_later(seconds, end)
        try:
            yield
        except asyncio.CancelledError:
            if late:
                raise TimeoutError from None
            raise
        finally:
            timer.cancel()


def cancelling(task: asyncio.Task[Any]) -> int:
    """How many cancellations of a task nobody has taken back, where a task knows that."""
    return task.cancelling() if sys.version_info >= (3, 11) else 0


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
    with Runner(loop_factory=factory) as runner:
        return runner.run(main)


async def soon(condition: Callable[[], object], ping: Callable[[], Any] | None = None) -> None:
    """Let the loop turn until a condition holds, which the test's bound sees to."""
    while not condition():
        await (asyncio.sleep(0) if ping is None else ping())
