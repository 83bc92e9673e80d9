"""Runs tests that are coroutines, each on an event loop of its own, within a bound."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

BOUND = 30.0
"""Seconds that any awaited test may take."""


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run a coroutine function to its end."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments: dict[str, Any] = {name: pyfuncitem.funcargs[name] for name in names}

    async def bounded() -> None:
        async with asyncio.timeout(BOUND):
            await function(**arguments)

    asyncio.run(bounded())
    return True
