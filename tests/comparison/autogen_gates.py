"""What becomes of the calls of AutoGen's tools that policy does not simply allow."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from autogen_agentchat.base import TaskResult
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken
from autogen_core.tools import (
    StaticWorkbench,
)

from comparison.autogen_kit import (
    LAMP,
    Camera,
    Search,
    payment,
    shown,
    told,
    tool_of,
)
from comparison.cases import (
    Cases,
    after_leaving,
    call_of_a_twice_governed,
    held_at_once,
    runs,
    said,
    short,
)
from comparison.hooks import PATIENCE, TOOLGATE, Hook
from support.autogen_teams import agent

cases = Cases()


@cases.governed("denied")
def _(hook: Hook) -> str:
    return told(hook.govern([payment("forbidden", [])]), ("forbidden", LAMP))


@cases.governed("denied, `on_denied` a function")
def _(hook: Hook) -> str:
    made = hook.govern([payment("forbidden_told", [])], on_denied=lambda e: f"No: {e.reason}")
    return told(made, ("forbidden_told", LAMP))


@cases.governed("denied beside an allowed call")
def _(hook: Hook) -> str:
    made = hook.govern([payment("forbidden_too", []), payment("buy", [])])
    return told(made, ("forbidden_too", LAMP), ("buy", LAMP))


@cases.governed("denied in a workbench of another class")
def _(hook: Hook) -> str:
    given: Any = Camera([Search("forbidden_photo")])
    made: Any = hook.govern(given)

    async def go() -> str:
        result = await agent([("forbidden_photo", LAMP)], workbench=made).run(task="go")
        return shown(result.messages)

    return asyncio.run(go())


@cases.governed("a rule about an argument that has its default (10 is denied)")
def _(hook: Hook) -> str:
    return told(hook.govern([payment("check_amount", [])]), ("check_amount", LAMP))


@cases.governed("held and approved while it waits", gate=True)
def _(hook: Hook) -> str:
    done: list[Any] = []
    with hook.answering("pay"):
        seen = told(hook.govern([payment("pay", done)]), ("pay", LAMP))
    return f"{seen}; {runs(len(done))}"


@cases.governed("held; the approver edits the amount to 5", gate=True)
def _(hook: Hook) -> str:
    with hook.answering("pay_less", amount=5):
        return told(hook.govern([payment("pay_less", [])]), ("pay_less", LAMP))


@cases.governed("held and denied while it waits", gate=True)
def _(hook: Hook) -> str:
    with hook.answering("pay_no", "deny"):
        return told(hook.govern([payment("pay_no", [])]), ("pay_no", LAMP))


@cases.governed("held, nobody decides in time")
def _(hook: Hook) -> str:
    seen = told(hook.govern([payment("pay_late", [])], patience=0.1), ("pay_late", LAMP))
    left = "its hold stays open" if hook.pending("pay_late") else "it is taken back"
    return f"{seen}; {left}"


@cases.governed("held, the run's token is cancelled: and if it is approved later?")
def _(hook: Hook) -> str:
    done: list[Any] = []

    async def go() -> str:
        loop, own = asyncio.get_running_loop(), ThreadPoolExecutor(1)
        workbench = StaticWorkbench(hook.govern([payment("pay_cancelled", done)], patience=6.0))
        token = CancellationToken()
        waiting = asyncio.ensure_future(workbench.call_tool("pay_cancelled", LAMP, token))
        await loop.run_in_executor(own, hook.held, "pay_cancelled")
        token.cancel()
        await asyncio.wait([waiting])
        return await after_leaving(hook, "pay_cancelled", done)

    return asyncio.run(go())


@cases.governed("40 calls held at once")
def _(hook: Hook) -> str:
    (made,) = hook.govern([payment("pay_many", [])], patience=PATIENCE)

    async def go() -> str:
        loop, own = asyncio.get_running_loop(), ThreadPoolExecutor(1)
        loop.set_default_executor(ThreadPoolExecutor(8))
        before = set(threading.enumerate())
        tokens = [CancellationToken() for _ in range(40)]
        calls = [made.run_json({"item": str(n)}, token) for n, token in enumerate(tokens)]
        waiting = [asyncio.ensure_future(call) for call in calls]
        count = await loop.run_in_executor(own, hook.all_held, "pay_many", 40)
        threads = len(set(threading.enumerate()) - before) - 1  # `own` has one
        served, _ = await asyncio.wait([loop.run_in_executor(None, int)], timeout=0.5)
        for token in tokens:
            token.cancel()
        await asyncio.wait(waiting)
        await loop.run_in_executor(own, hook.end, "pay_many")
        return held_at_once(count, threads, goes_on=bool(served))

    return asyncio.run(go())


@cases.governed("held and not waited for; the team saved, restored, approved, run again")
def _(hook: Hook) -> str:
    done: list[Any] = []
    ours = hook.name == TOOLGATE
    stop: Any = hold_termination() if ours else None

    def team() -> Any:
        made = hook.govern([payment("pay_saved", done)], patience=0)
        ends = MaxMessageTermination(6)
        return RoundRobinGroupChat(
            [agent([("pay_saved", LAMP)], tools=made)],
            termination_condition=ends | stop if ours else ends,
        )

    async def first() -> tuple[TaskResult, Any]:
        made = team()
        return await made.run(task="go"), await made.save_state()

    async def then(saved: Any) -> str:
        made = team()
        await made.load_state(saved)
        message = await run_approved(hook.client, stop.held[0].uid) if ours else None
        result = await made.run(task=message)
        return short(str(message.content if message else result.messages[-1].content))

    result, saved = asyncio.run(first())
    stopped = "stops at it" if ours and stop.held else "goes on without it"
    assert ours == ("Held for" in str(result.stop_reason))
    hook.answer("pay_saved")
    return f"the team {stopped}; {asyncio.run(then(saved))}; {runs(len(done))}"


def hold_termination() -> Any:
    """Return Toolgate's condition to stop a team at a hold."""
    from toolgate_autogen import HoldTermination

    return HoldTermination()


async def run_approved(client: Any, uid: str) -> Any:
    """Run an approved call as Toolgate's adapter does; return the message for the team."""
    from toolgate_autogen import run_approved as run

    return await run(client, uid, wait=PATIENCE)


@cases.governed("the gate is gone")
def _(hook: Hook) -> str:
    with hook.another() as other:
        made = other.govern([payment("buy_late", [])])
    return told(made, ("buy_late", LAMP))


@cases.governed("two tools of one name")
def _(hook: Hook) -> str:
    one: list[Any] = []
    two: list[Any] = []
    try:
        first, _ = hook.govern([payment("same_name", one), payment("same_name", two)])
    except ValueError as error:
        return f"refused: {said(error)}"
    asyncio.run(first.run_json(LAMP, CancellationToken()))
    return "the first one's call runs the second one's body" if two else "each runs its own"


@cases.governed("governed twice")
def _(hook: Hook) -> str:
    def call(made: Any) -> None:
        try:
            asyncio.run(made.run_json(LAMP, CancellationToken()))
        except Exception:  # noqa: BLE001 - how often it is proposed is what is looked at
            pass

    return call_of_a_twice_governed(hook, lambda: payment("twice", []), call)


@cases.governed("a call of a tool that was never governed, by own code", gate=True)
def _(hook: Hook) -> str:
    try:
        return str(hook.call("never_governed", {}))
    except Exception as error:  # noqa: BLE001 - it is what is looked at
        return f"{type(error).__name__}, {getattr(error, 'kind', 'no kind')}"


@cases.timed("`run_json`")
def _(hook: Hook) -> Any:
    async def quick(item: str) -> str:
        return item

    (made,) = hook.govern([tool_of(quick)])
    loop = asyncio.new_event_loop()

    def call(number: int) -> Any:
        return loop.run_until_complete(made.run_json({"item": str(number)}, CancellationToken()))

    return call
