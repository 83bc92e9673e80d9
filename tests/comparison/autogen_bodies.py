"""Where the bodies of AutoGen's tools run, and how they end."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from autogen_core import CancellationToken
from autogen_core.tools import (
    BaseTool,
    StaticWorkbench,
)

from comparison.autogen_kit import (
    Found,
    Item,
    told,
    tool_of,
    where,
)
from comparison.cases import Cases, runs, until
from comparison.hooks import PATIENCE, Hook

cases = Cases()


@cases.allowed("a body's loop, task and context variables")
def _(hook: Hook) -> str:
    seen: list[Any] = []

    async def here(item: str) -> str:
        seen.extend([asyncio.get_running_loop(), asyncio.current_task()])
        return where.get()

    (made,) = hook.govern([tool_of(here)])

    async def go() -> str:
        where.set("the caller's")
        variable = await made.run_json({"item": "lamp"}, CancellationToken())
        loop = "the caller's" if seen[0] is asyncio.get_running_loop() else "another"
        task = "the caller's" if seen[1] is asyncio.current_task() else "another"
        return f"loop: {loop}; task: {task}; variables: {variable}"

    return asyncio.run(go())


class Tokens(BaseTool[Item, Found]):
    """A tool that keeps the tokens that it is given."""

    def __init__(self) -> None:
        super().__init__(Item, Found, "tokens", "Look something up.")
        self.given: list[CancellationToken] = []

    async def run(self, args: Item, cancellation_token: CancellationToken) -> Found:
        self.given.append(cancellation_token)
        return Found(item=args.item)


@cases.allowed("the cancellation token that a body gets")
def _(hook: Hook) -> str:
    raw, token = Tokens(), CancellationToken()
    (made,) = hook.govern([raw])
    asyncio.run(made.run_json({"item": "lamp"}, token))
    return "the caller's" if raw.given == [token] else "another"


@cases.allowed("a token that is cancelled while a body runs")
def _(hook: Hook) -> str:
    ends: list[str] = []
    over = threading.Event()

    async def go() -> None:
        loop, started = asyncio.get_running_loop(), asyncio.Event()

        async def slow(item: str) -> str:
            loop.call_soon_threadsafe(started.set)
            try:
                await asyncio.sleep(0.5)
                ends.append("its body runs to its end")
            except asyncio.CancelledError:
                ends.append("its body is cancelled")
                raise
            finally:
                over.set()
            return "done"

        workbench, token = StaticWorkbench(hook.govern([tool_of(slow)])), CancellationToken()
        running = asyncio.ensure_future(workbench.call_tool("slow", {"item": "lamp"}, token))
        await started.wait()
        token.cancel()
        await asyncio.wait([running])

    asyncio.run(go())
    over.wait(PATIENCE)
    return ends[0]


@cases.allowed("a token that is cancelled before the call")
def _(hook: Hook) -> str:
    ran: list[str] = []

    async def early(item: str) -> str:
        ran.append(item)
        return "done"

    token = CancellationToken()
    token.cancel()

    async def go() -> str:
        workbench = StaticWorkbench(hook.govern([tool_of(early)]))
        try:
            await workbench.call_tool("early", {"item": "lamp"}, token)
        except asyncio.CancelledError:
            return "CancelledError"
        return "no error"

    return f"{asyncio.run(go())}; {runs(len(ran))}"


@cases.allowed("40 calls while the loop's executor is busy")
def _(hook: Hook) -> str:
    async def many(item: str) -> str:
        await asyncio.sleep(0)
        return item

    (made,) = hook.govern([tool_of(many)])

    async def go() -> str:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        free = threading.Event()
        busy = loop.run_in_executor(None, free.wait, PATIENCE)
        calls = [made.run_json({"item": str(n)}, CancellationToken()) for n in range(40)]
        waiting = [asyncio.ensure_future(call) for call in calls]
        done, _ = await asyncio.wait(waiting, timeout=3.0)
        free.set()
        await busy
        await asyncio.wait(waiting)
        return f"{len(done)} do not wait for it"

    return asyncio.run(go())


@cases.allowed("parallel calls of one message")
def _(hook: Hook) -> str:
    together: list[str] = []

    async def meet(item: str) -> str:
        together.append(item)
        await until(lambda: len(together) == 4)
        return f"met {item}"

    return told(hook.govern([tool_of(meet)]), *(("meet", {"item": n}) for n in "abcd"))


def joined(item: str) -> str:
    """Look something up."""
    return f"found {item}"


@cases.allowed("a workbench with the tool, dumped as a component")
def _(hook: Hook) -> str:
    dumped = StaticWorkbench(hook.govern([tool_of(joined)])).dump_component()
    return f"has {len(dumped.config['tools'])} tool"
