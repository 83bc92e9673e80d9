"""Calls to the gate from coroutines: they wait in a thread of their own, bodies run on the loop.

A thread for each call, not the loop's pool: calls that wait for people must not keep bodies that
need the pool from running.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any


class Caller:
    """Who waits for a call made in another thread, and may leave before it ends."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._left = False
        self._farewell: Callable[[], object] | None = None

    @contextlib.contextmanager
    def leaving(self, farewell: Callable[[], object]) -> Iterator[None]:
        """Do ``farewell`` if the caller leaves inside this block, or has left before it."""
        with self._lock:
            left = self._left
            self._farewell = None if left else farewell
        if left:
            farewell()
        try:
            yield
        finally:
            with self._lock:
                self._farewell = None

    def leave(self) -> None:
        """Give up the call: what it waits for is taken back, a body that runs is cancelled."""
        with self._lock:
            self._left = True
            farewell, self._farewell = self._farewell, None
        if farewell is not None:
            farewell()


async def in_thread(call: Callable[[], Any], caller: Caller) -> Any:
    """Await what ``call`` returns in a new thread that has this task's context variables.

    A cancelled task ends when its call has: taken back, or its body cancelled.
    """
    loop = asyncio.get_running_loop()
    done: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def settle(settler: Callable[[Any], None], result: Any) -> None:
        if not done.done():
            settler(result)

    def work() -> None:
        try:
            settler, result = done.set_result, context.run(call)
        except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's
            settler, result = done.set_exception, _settable(error)
        with contextlib.suppress(RuntimeError):  # the loop was closed: nobody waits
            loop.call_soon_threadsafe(settle, settler, result)

    threading.Thread(target=work, name="toolgate-call", daemon=True).start()
    try:
        return await asyncio.shield(done)
    except asyncio.CancelledError:
        caller.leave()
        await asyncio.wait([done])
        done.exception()  # seen: the cancellation is what is told
        raise


def _settable(error: BaseException) -> BaseException:
    """Return what a future can be ended with: any exception but one."""
    if not isinstance(error, StopIteration):
        return error
    other = RuntimeError("a governed call raised StopIteration")
    other.__cause__ = error
    return other


def on_loop(function: Callable[..., Awaitable[Any]], caller: Caller) -> Callable[..., Any]:
    """Return ``function`` as one that another thread can call: it runs as a task of this loop."""
    return functools.partial(_run_on, asyncio.get_running_loop(), function, caller)


def _run_on(
    loop: asyncio.AbstractEventLoop,
    function: Callable[..., Awaitable[Any]],
    caller: Caller,
    /,
    *args: Any,
    **kwargs: Any,
) -> Any:
    async def run() -> Any:
        return await function(*args, **kwargs)

    running = asyncio.run_coroutine_threadsafe(run(), loop)
    with caller.leaving(running.cancel):
        try:
            return running.result()
        except concurrent.futures.CancelledError:
            raise asyncio.CancelledError from None
