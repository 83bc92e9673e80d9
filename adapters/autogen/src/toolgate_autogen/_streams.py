"""A coroutine that tells of its work as it goes, as an asynchronous generator in the same task.

A queue between two tasks would do it, too; but a body runs in its caller's task and context.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, Generator
from typing import Any

Emit = Callable[[Any], Awaitable[None]]


class _Event:
    """What a coroutine awaits to have a value yielded."""

    def __init__(self, value: Any) -> None:
        self.value = value

    def __await__(self) -> Generator[Any, None, None]:
        yield self


class _Passed:
    """What the task is to wait for in the coroutine's place."""

    def __init__(self, awaited: Any) -> None:
        self._awaited = awaited

    def __await__(self) -> Generator[Any, Any, Any]:
        return (yield self._awaited)


async def stream(work: Callable[[Emit], Coroutine[Any, Any, Any]]) -> AsyncGenerator[Any, None]:
    """Yield what ``work`` emits, when it does, and at last what it returns.

    When nobody wants more (``aclose``), the work is cancelled, and ends before this does.
    """
    coroutine = work(_Event)
    step: Callable[[Any], Any] = coroutine.send
    value: Any = None
    closing = False
    while True:
        try:
            yielded = step(value)
        except StopIteration as stop:
            if not closing:
                yield stop.value
            return
        except asyncio.CancelledError:
            if closing:
                return
            raise
        step, value = coroutine.send, None
        try:
            if not isinstance(yielded, _Event):
                value = await _Passed(yielded)
            elif closing:
                raise asyncio.CancelledError
            else:
                yield yielded.value
        except GeneratorExit:
            closing = True
            step, value = coroutine.throw, asyncio.CancelledError()
        except BaseException as error:  # noqa: BLE001 - it is the coroutine's to hear
            step, value = coroutine.throw, error


async def last_of(values: AsyncIterator[Any], emit: Emit, result: Any) -> Any:
    """Emit values as they come and return the last one: only what may be the result is kept back.

    ``result`` is the type of the last. Raises ``AssertionError`` when nothing comes, as AutoGen.
    """
    last: list[Any] = []
    try:
        async for value in values:
            if last:
                await emit(last.pop())
            if _may_be(value, result):
                last.append(value)
            else:
                await emit(value)
    except Exception:
        if last:
            await emit(last.pop())
        raise
    finally:
        close = getattr(values, "aclose", None)
        if close is not None:
            await close()
    if not last:
        raise AssertionError("The tool must yield a final return value at the end of the stream.")
    return last.pop()


def _may_be(value: Any, result: Any) -> bool:
    try:
        return isinstance(value, result)
    except TypeError:
        return True
