"""Agents of LangGraph that pause before a call in three ways, also in processes of their own.

LangChain's ``HumanInTheLoopMiddleware`` needs no gate. Lodestar's hook waits; for pauses its page
says what to write oneself: ``govern`` in a node, ``interrupt``, ``resume``. That is
:func:`lodestar_graph`, in two nodes, so that a node that runs again proposes nothing anew.
"""

from __future__ import annotations

import multiprocessing
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain.agents.middleware import HumanInTheLoopMiddleware
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from comparison.cases import runs
from comparison.hooks import LODESTAR, PATIENCE, RAW, TOOLGATE, Hook, People, three_hooks
from comparison.langgraph_kit import GO, THREAD, told
from support.scripted_model import ScriptedModel, script, tool_call

BATCHED, PER_CALL = "batched", "per_call"
LANGCHAINS = (BATCHED, PER_CALL)
"""LangChain's middleware, in its two modes."""
DIED = 9

Effect = Callable[[int], None]


def hooks(people: People, settings: dict[str, Any]) -> list[Hook]:
    """Return the ways to pause."""
    raw, *others = three_hooks(people, settings, "langgraph")
    return [replace(raw, name=BATCHED), replace(raw, name=PER_CALL), *others]


class Proposed(MessagesState):
    """What a graph that asks the gate by itself remembers of its calls."""

    asked: list[dict[str, Any]]


def lodestar_graph(client: Any, model: Any, death: str | None, saver: Any) -> Any:
    """Return an agent whose own nodes pause for what is held, as Lodestar's page says."""

    def think(state: Proposed) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    def propose(state: Proposed) -> dict[str, Any]:
        wanted = state["messages"][-1].tool_calls
        asked = [{**client.govern(call["name"], call["args"]), "call": call} for call in wanted]
        if death == "after-body" and all(each["phase"] == "completed" for each in asked):
            os._exit(DIED)
        return {"asked": asked}

    def finish(state: Proposed) -> dict[str, Any]:
        answered = []
        for asked in state["asked"]:
            result = asked
            while result["phase"] == "pending_approval":
                named = {key: asked[key] for key in ("action_id", "request_id")}
                interrupt(named)
                result = client.resume(**named)
                if death == "after-body" and result["phase"] == "completed":
                    os._exit(DIED)
            fine = result["phase"] == "completed"
            text = str(result["output"]) if fine else f"[{result['kind']}] {result['reason']}"
            status: Any = "success" if fine else "error"
            answered.append(ToolMessage(text, tool_call_id=asked["call"]["id"], status=status))
        return {"messages": answered}

    builder = StateGraph(Proposed)
    for name, node in (("think", think), ("propose", propose), ("finish", finish)):
        builder.add_node(name, node)
    builder.add_edge(START, "think")
    builder.add_conditional_edges(
        "think", lambda state: "propose" if state["messages"][-1].tool_calls else END
    )
    builder.add_edge("propose", "finish")
    builder.add_edge("finish", "think")
    return builder.compile(checkpointer=saver)


def paying(hook: Hook, name: str, effect: Effect, saver: Any, death: str | None = None) -> Any:
    """Return an agent that makes one call of a tool with an effect."""

    def pay(item: str, amount: int = 10) -> str:
        effect(amount)
        if death == "in-body":
            os._exit(DIED)
        return f"paid {amount}"

    tool = StructuredTool.from_function(pay, name=name, description="Pay.")
    return pausing(
        hook, [tool], script(tool_call(name, {"item": "lamp", "amount": 10})), saver, death
    )


def pausing(
    hook: Hook, tools: list[BaseTool], model: ScriptedModel, saver: Any, death: str | None = None
) -> Any:
    """Return an agent that pauses before its tools' calls as the hook has it."""
    governed = hook.govern(tools)
    if hook.name == LODESTAR:
        return lodestar_graph(hook.client, model, death, saver)
    middleware = []
    if hook.name in LANGCHAINS:
        held = {each.name: True for each in tools if each.name.startswith("pay")}
        mode: Any = hook.name
        middleware = [HumanInTheLoopMiddleware(interrupt_on=held, interrupt_mode=mode)]
    return create_agent(model, governed, middleware=middleware, checkpointer=saver)


def resume(hook: Hook, graph: Any, decision: dict[str, Any], only: str = "") -> Any:
    """Resume with a decision as LangChain's middleware takes it; the others read none.

    Where several calls are paused, ``only`` that of one tool is decided about, if the hook can.
    """
    return graph.invoke(Command(resume=answer_to(hook, graph, decision, only)), THREAD)


def answer_to(hook: Hook, graph: Any, decision: dict[str, Any], only: str = "") -> dict[str, Any]:
    """Return what a graph is resumed with."""
    if hook.name == BATCHED:
        return {"decisions": [decision]}
    paused = graph.get_state(THREAD).interrupts
    chosen = [each for each in paused if each.value.get("name", "").startswith(only)]
    return {each.id: decision for each in chosen or paused}


APPROVE = {"type": "approve"}


def decide(hook: Hook, graph: Any, tool: str, decision: dict[str, Any], **signed: Any) -> Any:
    """Have a person decide, and resume the graph with it."""
    if hook.name not in LANGCHAINS:
        hook.answer(tool, **signed)
    return resume(hook, graph, decision, tool)


def role(made: tuple[Any, ...], tool: str, death: str | None, start: bool, sink: Any) -> None:
    """Be one process of an agent whose checkpoints are in a file; send how it ended."""
    name, config, launcher, recorder = made
    configs = dict.fromkeys((RAW, LODESTAR, TOOLGATE), config)
    settings = {"configs": configs, "launcher": launcher, "recorder": recorder}
    (hook,) = [each for each in hooks(NOBODY, settings) if each.name == name]
    folder = Path(config).parent

    def effect(amount: int) -> None:
        with (folder / f"{name}-{tool}.effects").open("a") as effects:
            effects.write(f"{amount}\n")

    class DieAfterTool(BaseCallbackHandler):
        run_inline = True

        def on_tool_end(self, output: Any, **more: Any) -> None:
            os._exit(DIED)

    connection = sqlite3.connect(folder / f"{name}-{tool}.checkpoints", check_same_thread=False)
    with closing(connection), hook.open(recorded=False):
        graph = paying(hook, tool, effect, SqliteSaver(connection), death)
        dying = death == "after-body" and name != LODESTAR
        given: Any = GO
        if not start:
            left = graph.get_state(THREAD)
            given = Command(resume=answer_to(hook, graph, APPROVE)) if left.interrupts else None
        config_: Any = {**THREAD, **({"callbacks": [DieAfterTool()]} if dying else {})}
        state = graph.invoke(given, config_, durability="sync")
    sink.send("paused" if "__interrupt__" in state else told(state))


NOBODY: Any = None
"""The people that such a process needs: none."""


class Processes:
    """The processes of one agent, one after the other."""

    def __init__(self, hook: Hook, tool: str) -> None:
        self._hook, self._tool = hook, tool
        self._made = (hook.name, str(hook.config), hook.launcher, str(hook.recorder))

    def run(self, *, start: bool = False, death: str | None = None) -> str:
        """Run a process to its end; return how it ended."""
        receiver, sender = CONTEXT.Pipe(duplex=False)
        process = CONTEXT.Process(target=role, args=(self._made, self._tool, death, start, sender))
        process.start()
        sender.close()
        try:
            said = receiver.recv() if receiver.poll(PATIENCE) else "never ends"
        except EOFError:
            said = "dies"
        process.join(PATIENCE)
        return str(said)

    def finish(self) -> str:
        """Resume until the agent is through: a dead process's gate may take a moment to go."""
        said = self.run()
        for _ in range(20):
            if said != "paused":
                break
            said = self.run()
        return f"{said}; {runs(self.effects())}"

    def effects(self) -> int:
        """Return how many effects there were."""
        path = self._hook.folder / f"{self._hook.name}-{self._tool}.effects"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def approve(self) -> None:
        """Have a person approve what is held."""
        if self._hook.name not in LANGCHAINS:
            self._hook.answer(self._tool)


CONTEXT = multiprocessing.get_context("forkserver")
