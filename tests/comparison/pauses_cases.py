"""A person decides about a call of a LangGraph agent, by three ways to pause it."""

from __future__ import annotations

import threading
import time
from typing import Any

from langchain_core.tools import BaseTool, StructuredTool
from langgraph.checkpoint.memory import InMemorySaver

from comparison import paused_agents
from comparison.cases import Cases, main, runs
from comparison.hooks import PATIENCE, Hook
from comparison.langgraph_kit import GO, THREAD, told
from comparison.paused_agents import (
    APPROVE,
    CONTEXT,
    LANGCHAINS,
    Processes,
    decide,
    hooks,
    pausing,
    paying,
    resume,
)
from support.scripted_model import ScriptedModel, calls, script, tool_call

cases = Cases()


def state_of(state: Any, done: list[int]) -> str:
    """Say where a run stands."""
    paused = "__interrupt__" in state
    return f"{'stays paused' if paused else told(state)}; {runs(len(done))}"


@cases.governed("paused, approved, resumed")
def _(hook: Hook) -> str:
    done: list[int] = []
    graph = paying(hook, "pay", done.append, InMemorySaver())
    paused = "__interrupt__" in graph.invoke(GO, THREAD)
    state = decide(hook, graph, "pay", APPROVE)
    return f"{'pauses' if paused else 'does not pause'}; {state_of(state, done)}"


@cases.governed(
    "resumed with `approve` by the agent's own process, nobody having decided", gate=True
)
def _(hook: Hook) -> str:
    done: list[int] = []
    graph = paying(hook, "pay_forged", done.append, InMemorySaver())
    graph.invoke(GO, THREAD)
    return state_of(resume(hook, graph, APPROVE), done)


@cases.governed("resumed twice more after it has run", gate=True)
def _(hook: Hook) -> str:
    done: list[int] = []
    graph = paying(hook, "pay_again", done.append, InMemorySaver())
    graph.invoke(GO, THREAD)
    decide(hook, graph, "pay_again", APPROVE)
    resume(hook, graph, APPROVE)
    resume(hook, graph, APPROVE)
    return runs(len(done))


@cases.governed("denied with a reason", gate=True)
def _(hook: Hook) -> str:
    done: list[int] = []
    graph = paying(hook, "pay_no", done.append, InMemorySaver())
    graph.invoke(GO, THREAD)
    reject = {"type": "reject", "message": "because"}
    return state_of(decide(hook, graph, "pay_no", reject, verdict="deny"), done)


def edit(name: str, amount: int) -> dict[str, Any]:
    """Return a decision to run the call with another amount."""
    action = {"name": name, "args": {"item": "lamp", "amount": amount}}
    return {"type": "edit", "edited_action": action}


@cases.governed("edited: the amount is 5", gate=True)
def _(hook: Hook) -> str:
    done: list[int] = []
    graph = paying(hook, "pay_less", done.append, InMemorySaver())
    graph.invoke(GO, THREAD)
    decide(hook, graph, "pay_less", edit("pay_less", 5), amount=5)
    return f"pays {done}"


@cases.governed("edited to what policy denies (more than 500)", gate=True)
def _(hook: Hook) -> str:
    done: list[int] = []
    graph = paying(hook, "pay_capped", done.append, InMemorySaver())
    graph.invoke(GO, THREAD)
    signs = hook.name not in LANGCHAINS
    if signs and hook.answer("pay_capped", amount=900).startswith("refused"):
        return f"the edit is refused; {runs(len(done))}"
    resume(hook, graph, edit("pay_capped", 900))
    return f"pays {done}; there is no policy" if hook.name in LANGCHAINS else f"pays {done}"


@cases.governed("a person answers in the tool's place", gate=True)
def _(hook: Hook) -> str:
    done: list[int] = []
    graph = paying(hook, "pay_answered", done.append, InMemorySaver())
    graph.invoke(GO, THREAD)
    signs = hook.name not in LANGCHAINS
    if signs and hook.answer("pay_answered", "respond").startswith("refused"):
        return "there is no such answer"
    answer = {"type": "respond", "message": "take the credit"}
    return state_of(resume(hook, graph, answer), done)


@cases.governed("two people must approve: after one has", gate=True)
def _(hook: Hook) -> str:
    done: list[int] = []
    graph = paying(hook, "pay_two", done.append, InMemorySaver())
    graph.invoke(GO, THREAD)
    first = state_of(decide(hook, graph, "pay_two", APPROVE), done)
    if hook.name in LANGCHAINS:
        return f"{first}: one decision is all there is"
    second = state_of(decide(hook, graph, "pay_two", APPROVE, who="bob"), done)
    return f"{first}; after the second: {second}"


@cases.governed("answered after its time (200 ms) has run out", gate=True)
def _(hook: Hook) -> str:
    done: list[int] = []
    graph = paying(hook, "pay_soon", done.append, InMemorySaver())
    graph.invoke(GO, THREAD)
    latest = time.monotonic() + PATIENCE
    pause = threading.Event()
    while hook.name not in LANGCHAINS and hook.pending("pay_soon") and time.monotonic() < latest:
        pause.wait(0.05)
    state = state_of(resume(hook, graph, APPROVE), done)
    return f"{state}: a pause has no time limit" if hook.name in LANGCHAINS else state


@cases.governed("two calls of one message, only one approved")
def _(hook: Hook) -> str:
    done: list[Any] = []

    def tool(name: str) -> BaseTool:
        def pay(item: str) -> str:
            done.append(name)
            return f"paid {name}"

        return StructuredTool.from_function(pay, name=name, description="Pay.")

    turn = calls(
        tool_call("pay_first", {"item": "a"}, "1"), tool_call("pay_second", {"item": "b"}, "2")
    )
    model = ScriptedModel(script=[turn, *script().script])
    graph = pausing(hook, [tool("pay_first"), tool("pay_second")], model, InMemorySaver())
    graph.invoke(GO, THREAD)
    state = decide(hook, graph, "pay_first", APPROVE)
    other = "the other waits" if "__interrupt__" in state else "the other does not wait"
    return f"{', '.join(done) or 'nothing'} runs, {other}"


@cases.governed("held in one process, resumed in another", gate=True)
def _(hook: Hook) -> str:
    agent = Processes(hook, "pay_later")
    first = agent.run(start=True)
    agent.approve()
    return f"{first}; {agent.finish()}"


@cases.governed("killed after the approved effect, before the checkpoint; run again", gate=True)
def _(hook: Hook) -> str:
    agent = Processes(hook, "pay_killed")
    agent.run(start=True)
    agent.approve()
    agent.run(death="after-body")
    return agent.finish()


@cases.governed("killed in the approved body, after its effect; run again", gate=True)
def _(hook: Hook) -> str:
    agent = Processes(hook, "pay_shot")
    agent.run(start=True)
    agent.approve()
    agent.run(death="in-body")
    return agent.finish()


@cases.governed(
    "a call that is not held: killed after its effect, before the checkpoint; run again"
)
def _(hook: Hook) -> str:
    agent = Processes(hook, "buy")
    agent.run(start=True, death="after-body")
    return agent.finish()


if __name__ == "__main__":
    CONTEXT.set_forkserver_preload([paused_agents.__name__])
    packages = ("langgraph", "langchain", "langgraph-checkpoint-sqlite", "lodestar-langgraph")
    main([cases], hooks, packages)
