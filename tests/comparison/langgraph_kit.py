"""What the cases of LangGraph are made of: agents, and tools."""

from __future__ import annotations

import contextvars
from typing import Any

from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import (
    BaseTool,
    StructuredTool,
)
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode
from langgraph.store.memory import InMemoryStore
from pydantic import BaseModel, Field

from comparison.cases import short
from comparison.hooks import Hook
from support.scripted_model import calls, script, tool_call

GO: Any = {"messages": [HumanMessage("go")]}
THREAD: Any = {"configurable": {"thread_id": "1"}}
SECRET = "a secret of the process"
where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")


def told(state: Any) -> str:
    """Return what tools have told a model."""
    messages = [each for each in state["messages"] if isinstance(each, ToolMessage)]
    return ", ".join(f"{each.status}: {short(each.text)}" for each in messages)


def agent(tools: list[Any], *made: Any, **options: Any) -> Any:
    """Return an agent whose model makes these calls, one turn each."""
    return create_agent(script(*made), tools, **options)


class Color(BaseModel):
    """A color."""

    name: str = "red"


class NoteArgs(BaseModel):
    """What is written down."""

    item: str


class Note(BaseTool):
    """A tool of a class of its own, with simple arguments."""

    name: str = "note"
    description: str = "Write something down."
    args_schema: type[BaseModel] = NoteArgs
    tags: list[str] | None = Field(default=["shop"])

    def _run(self, item: str) -> str:
        return f"noted {item}"


def payment(name: str, done: list[Any], *, later: bool = False) -> BaseTool:
    """Return a tool that has an effect."""

    def pay(item: str, amount: int = 10) -> str:
        done.append(amount)
        return f"paid {amount}"

    async def apay(item: str, amount: int = 10) -> str:
        return pay(item, amount)

    return StructuredTool.from_function(
        None if later else pay, apay if later else None, name=name, description="Pay."
    )


def in_node(hook: Hook, body: BaseTool, args: dict[str, Any] | None = None) -> Any:
    """Run a tool in a graph whose state has a secret; return the state at its end."""

    class State(MessagesState):
        secret: str

    store = InMemoryStore()
    store.put(("shop",), "open", {"says": SECRET})
    builder = StateGraph(State)
    builder.add_node("tools", ToolNode(hook.govern([body])))
    builder.add_edge(START, "tools")
    builder.add_edge("tools", END)
    made = calls(tool_call(body.name, args or {"item": "lamp"}, "call-7"))
    state = {"messages": [HumanMessage("go"), made], "secret": SECRET}
    config: Any = {"configurable": {"user": "ada"}}
    return builder.compile(store=store).invoke(state, config)
