"""Runs tests that are coroutines, each on an event loop of its own, within a bound."""

from __future__ import annotations

import inspect
import signal
from typing import Any

import pytest

from support.loops import Runner, timeout

BOUND = 30.0
"""Seconds that any awaited test may take."""


if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what it runs in the background so, and the programs of the tests inherit it:
    # those about Ctrl-C would wait for an interrupt that never comes.
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine function to its end, on a loop of its ``loop_factory`` if it has one."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in names}

    async def bounded() -> None:
        async with timeout(BOUND):
            await function(**arguments)

    with Runner(loop_factory=arguments.get("loop_factory")) as runner:
        runner.run(bounded())
    return True
