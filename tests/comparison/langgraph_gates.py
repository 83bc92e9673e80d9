"""What becomes of the calls of LangChain's tools that policy does not simply allow."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.tools import (
    BaseTool,
    tool,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.types import Command

from comparison.cases import (
    Cases,
    after_leaving,
    call_of_a_twice_governed,
    held_at_once,
    runs,
    said,
)
from comparison.hooks import LODESTAR, PATIENCE, TOOLGATE, Hook
from comparison.langgraph_kit import GO, THREAD, agent, payment, told
from support.scripted_model import ScriptedModel, calls, script, tool_call
from toolgate_client import Document, Result

cases = Cases()


@cases.governed("denied in create_agent, as it comes")
def _(hook: Hook) -> str:
    made = hook.govern([payment("forbidden", [])])
    state = agent(made, tool_call("forbidden", {"item": "lamp"})).invoke(GO)
    return f"the run goes on; {told(state)}"


@cases.governed("denied in create_agent, `on_denied` a function")
def _(hook: Hook) -> str:
    made = hook.govern([payment("forbidden_told", [])], on_denied=lambda e: f"No: {e.reason}")
    state = agent(made, tool_call("forbidden_told", {"item": "lamp"})).invoke(GO)
    return f"the run goes on; {told(state)}"


@cases.governed("denied in `ToolNode(handle_tool_errors=True)`")
def _(hook: Hook) -> str:
    node = ToolNode(hook.govern([payment("forbidden_node", [])]), handle_tool_errors=True)
    builder = StateGraph(MessagesState)
    builder.add_node("tools", node)
    builder.add_edge(START, "tools")
    builder.add_edge("tools", END)
    turn = calls(tool_call("forbidden_node", {"item": "lamp"}))
    return f"the run goes on; {told(builder.compile().invoke({'messages': [turn]}))}"


@cases.governed("denied beside an allowed call")
def _(hook: Hook) -> str:
    done: list[Any] = []
    made = hook.govern([payment("forbidden_too", []), payment("buy", done)])
    turn = calls(
        tool_call("forbidden_too", {"item": "a"}, "1"), tool_call("buy", {"item": "b"}, "2")
    )
    model = ScriptedModel(script=[turn, *script().script])
    try:
        state = create_agent(model, made).invoke(GO)
    except Exception as error:  # noqa: BLE001 - it is what is looked at
        return f"raises {type(error).__name__}; the allowed one's result is lost"
    return told(state)


@cases.governed("held and approved while it waits", gate=True)
def _(hook: Hook) -> str:
    done: list[Any] = []
    made = hook.govern([payment("pay", done)])
    with hook.answering("pay"):
        state = agent(made, tool_call("pay", {"item": "lamp"})).invoke(GO)
    return f"{told(state)}; {runs(len(done))}"


@cases.governed("held; the approver edits the amount to 5", gate=True)
def _(hook: Hook) -> str:
    done: list[Any] = []
    made = hook.govern([payment("pay_less", done)])
    with hook.answering("pay_less", amount=5):
        state = agent(made, tool_call("pay_less", {"item": "lamp"})).invoke(GO)
    return f"{told(state)}; paid {done}"


@cases.governed("held and denied while it waits, in create_agent")
def _(hook: Hook) -> str:
    made = hook.govern([payment("pay_no", [])])
    with hook.answering("pay_no", "deny"):
        state = agent(made, tool_call("pay_no", {"item": "lamp"})).invoke(GO)
    return told(state)


@cases.governed("held, nobody decides in time: and if it is approved later?")
def _(hook: Hook) -> str:
    done: list[Any] = []
    (made,) = hook.govern([payment("pay_late", done)], patience=0.1)
    try:
        result = f"{made.invoke(tool_call('pay_late', {'item': 'lamp'})).status} message"
    except Exception as error:  # noqa: BLE001 - it is what is looked at
        result = type(error).__name__
    left = "its hold stays open" if hook.pending("pay_late") else "it is taken back"
    return f"{result}; {left}"


@cases.governed("held, the caller is cancelled: and if it is approved later?")
def _(hook: Hook) -> str:
    done: list[Any] = []
    (made,) = hook.govern([payment("pay_cancelled", done, later=True)], patience=6.0)

    async def go() -> str:
        loop, own = asyncio.get_running_loop(), ThreadPoolExecutor(1)
        waiting = asyncio.ensure_future(made.ainvoke({"item": "lamp"}))
        await loop.run_in_executor(own, hook.held, "pay_cancelled")
        waiting.cancel()
        await asyncio.wait([waiting])
        return await after_leaving(hook, "pay_cancelled", done)

    return asyncio.run(go())


@cases.governed("40 coroutines held at once")
def _(hook: Hook) -> str:
    (made,) = hook.govern([payment("pay_many", [], later=True)], patience=PATIENCE)

    async def go() -> str:
        loop, own = asyncio.get_running_loop(), ThreadPoolExecutor(1)
        loop.set_default_executor(ThreadPoolExecutor(8))
        before = set(threading.enumerate())
        waiting = [asyncio.ensure_future(made.ainvoke({"item": str(n)})) for n in range(40)]
        count = await loop.run_in_executor(own, hook.all_held, "pay_many", 40)
        threads = len(set(threading.enumerate()) - before) - 1  # `own` has one
        served, _ = await asyncio.wait([loop.run_in_executor(None, int)], timeout=0.5)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
        await loop.run_in_executor(own, hook.end, "pay_many")
        return held_at_once(count, threads, goes_on=bool(served))

    return asyncio.run(go())


@cases.governed("held in a graph with a checkpointer, as it comes")
def _(hook: Hook) -> str:
    done: list[Any] = []
    made = hook.govern([payment("pay_paused", done)], patience=1.0)
    graph = agent(made, tool_call("pay_paused", {"item": "lamp"}), checkpointer=InMemorySaver())
    paused = graph.invoke(GO, THREAD)
    if "__interrupt__" not in paused:
        return told(paused)
    graph.invoke(Command(resume=True), THREAD)
    unapproved = runs(len(done))
    hook.answer("pay_paused")
    state = graph.invoke(Command(resume=True), THREAD)
    return f"pauses; resumed, unapproved: {unapproved}; approved: {told(state)}"


@cases.governed("a body tells what it has read; a rule denies what follows it", gate=True)
def _(hook: Hook) -> str:
    @tool
    def reads(item: str) -> Any:
        """Read a page."""
        page = f"a page of {item}"
        if hook.name == LODESTAR:
            return {"output": page, "_lodestar_documents": [{"text": page}]}
        return Result(page, [Document(page)])

    read, check = hook.govern(
        [reads, payment("check_labels", [])], on_denied=lambda error: error.reason
    )
    call = tool_call("check_labels", {"item": "lamp"})
    before = check.invoke(call).content
    page = read.invoke({"item": "lamp"})
    return f"before: {before}; gives {page!r}; after: {check.invoke(call).content}"


@cases.governed("the gate is gone")
def _(hook: Hook) -> str:
    with hook.another() as other:
        made = other.govern([payment("buy_late", [])])
    state = agent(made, tool_call("buy_late", {"item": "lamp"})).invoke(GO)
    return f"the run goes on; {told(state)}"


@cases.governed("a forbidden tool that a middleware adds to the agent")
def _(hook: Hook) -> str:
    done: list[Any] = []

    class Adds(AgentMiddleware[Any, Any]):
        tools = (payment("forbidden_added", done),)

    middleware: list[Any] = [Adds()]
    if hook.name == TOOLGATE:
        from toolgate_langgraph import GateMiddleware

        middleware.append(GateMiddleware(hook.client))
    made = hook.govern([payment("buy_beside", [])])
    call = tool_call("forbidden_added", {"item": "lamp"})
    return f"{told(agent(made, call, middleware=middleware).invoke(GO))}; {runs(len(done))}"


@cases.governed("two tools of one name")
def _(hook: Hook) -> str:
    one: list[Any] = []
    two: list[Any] = []
    try:
        first, _ = hook.govern([payment("same_name", one), payment("same_name", two)])
    except ValueError as error:
        return f"refused: {said(error)}"
    first.invoke({"item": "lamp"})
    return "the first one's call runs the second one's body" if two else "each runs its own"


@cases.governed("governed twice")
def _(hook: Hook) -> str:
    def call(made: BaseTool) -> None:
        try:
            made.invoke({"item": "lamp"})
        except Exception:  # noqa: BLE001 - how often it is proposed is what is looked at
            pass

    return call_of_a_twice_governed(hook, lambda: payment("twice", []), call)


@cases.governed("a call of a tool that was never governed, by own code", gate=True)
def _(hook: Hook) -> str:
    try:
        return str(hook.call("never_governed", {}))
    except Exception as error:  # noqa: BLE001 - it is what is looked at
        return f"{type(error).__name__}, {getattr(error, 'kind', 'no kind')}"


@cases.timed("`invoke`")
def _(hook: Hook) -> Any:
    @tool
    def quick(item: str) -> str:
        """Look something up."""
        return item

    (made,) = hook.govern([quick])
    return lambda number: made.invoke({"item": str(number)})


@cases.timed("`ainvoke` of a coroutine")
def _(hook: Hook) -> Any:
    @tool
    async def quick_later(item: str) -> str:
        """Look something up."""
        return item

    (made,) = hook.govern([quick_later])
    loop = asyncio.new_event_loop()
    return lambda number: loop.run_until_complete(made.ainvoke({"item": str(number)}))
