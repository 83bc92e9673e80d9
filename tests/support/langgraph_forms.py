"""The ways in which LangChain's tools are used, raw and governed, for LangGraph's matrix.

It knows nothing of pytest, and runs with the oldest LangGraph, too.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.store.memory import InMemoryStore

from support.scripted_model import ScriptedModel, calls, tool_call
from toolgate_client import GateClient
from toolgate_langgraph import GateMiddleware, govern_tools, tool_call_wrappers

PATIENCE = 20.0
RAW, BY_TOOL, BY_CALL = "raw", "by tool", "by call"
"""Not governed; by ``govern_tools``; by ``tool_call_wrappers`` and ``GateMiddleware``."""

ran: list[Any] = []
"""What bodies have been given."""


class Counting(GateClient):
    """A gate's client that counts the calls it is asked about; one that is asked again is one."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.keys: set[str] = set()
        self.keyless = 0
        self.waits = 0
        """How often a task has begun to wait for people."""

    @property
    def proposals(self) -> int:
        """How many calls there were."""
        return len(self.keys) + self.keyless

    def _count(self, options: dict[str, Any]) -> None:
        if key := options.get("idempotency_key"):
            self.keys.add(key)
        else:
            self.keyless += 1

    def govern(self, *args: Any, **options: Any) -> Any:
        self._count(options)
        return super().govern(*args, **options)

    async def agovern(self, *args: Any, **options: Any) -> Any:
        self._count(options)
        return await super().agovern(*args, **options)

    async def aresume(self, *args: Any, **options: Any) -> Any:
        self.waits += 1
        return await super().aresume(*args, **options)


class State(MessagesState):
    """A graph's state, with something that tools are given."""

    user: str


@dataclass
class Form:
    """How a case's tools are governed, and whether by threads or tasks they are called."""

    gate: Counting
    name: str
    is_async: bool
    used: set[str] = field(default_factory=set)
    """By which of its ways the case has governed."""
    made: int = 0

    @property
    def raw(self) -> bool:
        """Whether nothing is governed."""
        return self.name == RAW

    def fresh(self, item: str) -> dict[str, Any]:
        """Return arguments that no other call has: a gate remembers what people have denied."""
        self.made += 1
        return {"item": f"{item}#{self.name} {self.is_async} {self.made} {time.monotonic_ns()}#"}

    def tools(self, tools: Sequence[Any], **options: Any) -> list[Any]:
        """Return tools to be called directly."""
        self.used.add(BY_TOOL)
        return list(tools) if self.raw else govern_tools(self.gate, tools, **options)

    def node(self, tools: Sequence[Any], node: dict[str, Any] | None = None, **options: Any) -> Any:
        """Return a graph of one node, which calls tools."""
        self.used |= {BY_TOOL, BY_CALL}
        more = dict(node or {})
        if self.name == BY_TOOL:
            tools = govern_tools(self.gate, tools, **options)
        elif self.name == BY_CALL:
            more |= tool_call_wrappers(self.gate, **options)
        builder = StateGraph(State)
        builder.add_node("tools", ToolNode(tools, **more))
        builder.add_edge(START, "tools")
        return builder.compile(store=InMemoryStore())

    def agent(self, model: Any, tools: Sequence[Any], **more: Any) -> Any:
        """Return an agent; ``options`` among ``more`` are for the gate."""
        self.used |= {BY_TOOL, BY_CALL}
        options = more.pop("options", {})
        middleware = list(more.pop("middleware", ()))
        if self.name == BY_TOOL:
            tools = govern_tools(self.gate, tools, **options)
        elif self.name == BY_CALL:
            middleware.append(GateMiddleware(self.gate, **options))
        return create_agent(model, list(tools), middleware=middleware, **more)

    def run(self, runnable: Any, given: Any, config: Any = None, **more: Any) -> Any:
        """Invoke, in this thread or in a task; what is raised is told by its name."""
        if not self.is_async:
            return _told(lambda: runnable.invoke(given, config, **more))
        return _told(lambda: asyncio.run(runnable.ainvoke(given, config, **more)))

    def batch(self, runnable: Any, given: list[Any]) -> Any:
        """Invoke once for each of ``given``."""
        if not self.is_async:
            return runnable.batch(given)

        async def batched() -> Any:
            return await runnable.abatch(given)

        return asyncio.run(batched())

    def call(self, tools: Sequence[Any], *made: tuple[str, dict[str, Any]], **options: Any) -> Any:
        """Have a node of a graph make calls, as a model asked for; return the messages about them.

        ``options`` are for the gate, but ``node``: for the node.
        """
        graph = self.node(tools, **options)
        asked = [tool_call(name, args, f"c{number}") for number, (name, args) in enumerate(made)]
        config = {"configurable": {"region": "eu"}}
        said = self.run(graph, {"messages": [calls(*asked)], "user": "ada"}, config)
        return said if isinstance(said, str) else told(said)

    def ask(self, tools: Sequence[Any], *made: tuple[str, dict[str, Any]], **more: Any) -> Any:
        """Have an agent make calls, a turn each, and return what it was told and said."""
        turns = [
            calls(tool_call(name, args, f"c{number}")) for number, (name, args) in enumerate(made)
        ]
        model = ScriptedModel(script=[*turns, AIMessage("done")])
        said = self.run(self.agent(model, tools, **more), {"messages": [HumanMessage("go")]})
        return said if isinstance(said, str) else told(said)


def _told(call: Callable[[], Any]) -> Any:
    try:
        return call()
    except Exception as error:  # noqa: BLE001 - what a case ends with is what is looked at
        return f"{type(error).__name__}: {plain(error)}"


def told(result: dict[str, Any]) -> list[Any]:
    """Return what is in the messages of a graph's result, but what a person said and was asked."""
    return [
        shown(message)
        for message in result["messages"]
        if not isinstance(message, HumanMessage) and not getattr(message, "tool_calls", None)
    ]


def shown(value: Any) -> Any:
    """Return a value as JSON."""
    if isinstance(value, ToolMessage):
        facts = {"artifact": value.artifact, "name": value.name, "call": value.tool_call_id}
        kept = {name: shown(fact) for name, fact in facts.items() if fact is not None}
        return {"content": shown(value.content), "status": value.status, **kept}
    if isinstance(value, BaseMessage):
        return shown(value.content)
    if isinstance(value, (list, tuple)):
        return [shown(each) for each in value]
    if isinstance(value, dict):
        return {str(key): shown(each) for key, each in value.items()}
    return value if isinstance(value, (int, float, bool, type(None))) else plain(value)


def plain(value: Any) -> str:
    """Return a text without what is another one each time."""
    text = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{24,32}", "UID", str(value))
    return re.sub(r"#[^#]*#|0x[0-9a-f]+", "", text)


def as_json(value: Any) -> Any:
    """Return what a case has seen as it is printed."""
    return json.loads(json.dumps(shown(value)))
