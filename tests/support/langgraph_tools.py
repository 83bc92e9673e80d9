"""The tools that LangGraph's matrix is about: all of them tell what they got."""

from __future__ import annotations

import asyncio
from datetime import date
from enum import Enum
from typing import Annotated, Any

from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import (
    BaseTool,
    InjectedToolArg,
    InjectedToolCallId,
    StructuredTool,
    Tool,
    ToolException,
    tool,
)
from langgraph.config import get_config, get_stream_writer
from langgraph.prebuilt import InjectedState, InjectedStore, ToolRuntime
from langgraph.store.base import BaseStore
from langgraph.types import Command
from pydantic import BaseModel, Field, PrivateAttr
from pydantic.v1 import BaseModel as BaseModelV1

from support.langgraph_forms import ran


class Color(Enum):
    """A color."""

    RED = "red"


class Address(BaseModel):
    """Where somebody lives."""

    street: str
    zip_code: str = Field(alias="zip")


class Order(BaseModel):
    """What is ordered."""

    item: str
    day: date
    count: int = 1
    color: Color = Color.RED
    address: Address | None = None


class OldOrder(BaseModelV1):
    """What is ordered, in the old way."""

    item: str
    count: int = 1


ORDER = {"item": "lamp", "day": "2024-02-29", "count": "2", "address": {"street": "s", "zip": "1"}}


def _note(name: str, given: dict[str, Any]) -> str:
    known = {key: f"{type(value).__name__} {value}" for key, value in sorted(given.items())}
    ran.append([name, known])
    return f"{name} {known}"


def named(name: str, both: bool = False, **fields: Any) -> StructuredTool:
    """Return a tool of a function: it orders an item. ``both``: it has a coroutine, too."""

    def body(item: str, amount: int = 10) -> str:
        """Order an item."""
        ran.append([item, amount])
        return f"{name} {item} {amount}"

    async def coroutine(item: str, amount: int = 10) -> str:
        """Order an item."""
        await asyncio.sleep(0)
        ran.append([item, amount])
        return f"{name} {item} {amount}"

    made = coroutine if both else None
    return StructuredTool.from_function(body, made, name=name, description="Order.", **fields)


def later(name: str) -> StructuredTool:
    """Return a tool that has a coroutine only."""
    made = named(name, both=True)
    return made.model_copy(update={"func": None})


def ordering(schema: Any) -> StructuredTool:
    """Return a tool with a schema of its own."""

    def order(**given: Any) -> str:
        return _note("order", given)

    name = f"order_{getattr(schema, '__name__', 'dict')}"
    return StructuredTool.from_function(
        order, name=name, description="Order.", args_schema=schema, infer_schema=False
    )


SCHEMA = {
    "type": "object",
    "properties": {"item": {"type": "string"}, "count": {"type": "integer"}},
    "required": ["item"],
}


class Shop(BaseTool):
    """A tool with state, fields and methods of its own."""

    name: str = "shop"
    description: str = "Order something."
    args_schema: Any = Order
    prefix: str = "ordered"
    orders: list[str] = Field(default_factory=list)
    _count: int = PrivateAttr(default=0)

    def _run(self, item: str, run_manager: Any = None, **rest: Any) -> str:
        self.orders.append(item)
        self._count += 1
        ran.append([item, self._count, type(run_manager).__name__, sorted(map(str, rest))])
        return f"{self.prefix} {item} {rest['count']}"


class AsyncShop(Shop):
    """One with a coroutine as well."""

    name: str = "async_shop"

    async def _arun(self, item: str, run_manager: Any = None, **rest: Any) -> str:
        await asyncio.sleep(0)
        return self._run(item, run_manager, **rest)


def single() -> Tool:
    """Return a tool that takes one text."""

    def upper(text: str) -> str:
        ran.append(text)
        return text.upper()

    return Tool("upper", upper, "Write in capitals.")


@tool
def nothing() -> str:
    """Take nothing."""
    ran.append("nothing")
    return "did nothing"


@tool
def with_state(item: str, user: Annotated[str, InjectedState("user")]) -> str:
    """Take a field of the state."""
    return _note("with_state", {"item": item, "user": user})


@tool
def with_whole_state(item: str, state: Annotated[dict[str, Any], InjectedState]) -> str:
    """Take the state."""
    return _note("with_whole_state", {"item": item, "keys": sorted(state)})


@tool
def with_store(item: str, store: Annotated[BaseStore, InjectedStore()]) -> str:
    """Take the store."""
    store.put(("items",), item, {"seen": True})
    found = store.get(("items",), item)
    return _note("with_store", {"item": item, "found": found is not None and found.value})


@tool
def with_runtime(item: str, runtime: ToolRuntime) -> str:
    """Take the runtime."""
    known = {"call": runtime.tool_call_id, "user": runtime.state["user"]}
    return _note("with_runtime", {"item": item, **known, "store": runtime.store is not None})


@tool
def with_call_id(item: str, call: Annotated[str, InjectedToolCallId]) -> str:
    """Take the call's id."""
    return _note("with_call_id", {"item": item, "call": call})


@tool
def with_secret(item: str, secret: Annotated[str, InjectedToolArg] = "none") -> str:
    """Take what no model may say."""
    return _note("with_secret", {"item": item, "secret": secret})


@tool
def with_config(item: str, config: RunnableConfig) -> str:
    """Take the run's config."""
    same = get_config()["configurable"]["region"]
    return _note("with_config", {"item": item, "region": config["configurable"]["region"] + same})


@tool
def with_writer(item: str) -> str:
    """Write to the stream."""
    get_stream_writer()({"progress": item})
    return _note("with_writer", {"item": item})


INJECTED = [
    with_state,
    with_whole_state,
    with_store,
    with_runtime,
    with_call_id,
    with_secret,
    with_config,
]


@tool(response_format="content_and_artifact")
def with_artifact(item: str) -> tuple[str, Any]:
    """Return an artifact."""
    ran.append(item)
    return f"seen {item}", Address(street=item, zip="1")


@tool
def with_blocks(item: str) -> list[dict[str, Any]]:
    """Return content blocks."""
    ran.append(item)
    image = {"type": "image", "base64": "aGk=", "mime_type": "image/png"}
    return [{"type": "text", "text": item}, image]


@tool
def with_list(item: str) -> list[Any]:
    """Return a list."""
    ran.append(item)
    return [item, 1, {"a": None}]


@tool
def with_model(item: str) -> Address:
    """Return an object."""
    ran.append(item)
    return Address(street=item, zip="1")


@tool
def with_message(item: str, call: Annotated[str, InjectedToolCallId]) -> ToolMessage:
    """Return a message."""
    ran.append(item)
    return ToolMessage(f"message {item}", tool_call_id=call, artifact={"kept": 1})


@tool
def with_command(item: str, call: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Return a command."""
    ran.append(item)
    message = ToolMessage(f"command {item}", tool_call_id=call)
    return Command(update={"messages": [message], "user": "eve"})


@tool
def with_commands(item: str, call: Annotated[str, InjectedToolCallId]) -> list[Any]:
    """Return a command and a message."""
    ran.append(item)
    return [Command(update={"user": "eve"}), ToolMessage(item, tool_call_id=call)]


RESULTS = [
    with_artifact,
    with_blocks,
    with_list,
    with_model,
    with_message,
    with_command,
    with_commands,
]


def failing(error: Exception, **fields: Any) -> StructuredTool:
    """Return a tool whose body has an effect and raises."""

    def fail(item: str) -> str:
        ran.append(item)
        raise error

    return StructuredTool.from_function(fail, name="fail", description="Fail.", **fields)


def problem() -> Exception:
    """Return what a tool raises to tell its model that it failed."""
    return ToolException("out of stock")


async def _read(item: str) -> tuple[str, dict[str, Any]]:
    ran.append(item)
    return f"from afar: {item}", {"structured": {"item": item}}


def remote(name: str = "remote") -> StructuredTool:
    """Return a tool as those of MCP servers are: a schema, a coroutine, and an artifact."""
    return StructuredTool(
        name=name,
        description="Read of an item.",
        args_schema={**SCHEMA, "additionalProperties": False},
        coroutine=_read,
        response_format="content_and_artifact",
        metadata={"readOnlyHint": True},
    )
