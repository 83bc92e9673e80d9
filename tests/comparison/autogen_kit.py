"""What the cases of AutoGen are made of: agents, tools and a workbench."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from autogen_agentchat.base import TaskResult
from autogen_agentchat.messages import ToolCallExecutionEvent
from autogen_core import CancellationToken, Image
from autogen_core.tools import (
    BaseTool,
    FunctionTool,
    ImageResultContent,
    StaticWorkbench,
    ToolResult,
)
from pydantic import BaseModel

from comparison.cases import short
from comparison.hooks import PATIENCE
from support.autogen_teams import agent

where: contextvars.ContextVar[str] = contextvars.ContextVar("where", default="nowhere")


def told(tools: list[Any], *calls: tuple[str, dict[str, Any]], **options: Any) -> str:
    """Return what an agent's model is told of the calls that it makes in one turn."""

    async def go() -> str:
        made = agent(list(calls), tools=tools, **options)
        result: TaskResult = await asyncio.wait_for(made.run(task="go"), PATIENCE)
        return shown(result.messages)

    return asyncio.run(go())


def shown(messages: Any) -> str:
    """Return what models were told of their calls."""
    return ", ".join(
        f"{'error' if each.is_error else 'success'}: {short(str(each.content))}"
        for message in messages
        if isinstance(message, ToolCallExecutionEvent)
        for each in message.content
    )


def tool_of(body: Callable[..., Any], name: str = "") -> BaseTool[Any, Any]:
    """Return a tool of a function."""
    return FunctionTool(body, description="Look something up.", name=name or body.__name__)


class Item(BaseModel):
    """What is asked for."""

    item: str


class Found(BaseModel):
    """What was found."""

    item: str
    price: float = 9.5


class Search(BaseTool[Item, Found]):
    """A tool with a class, attributes and words of its own."""

    def __init__(self, name: str = "search") -> None:
        super().__init__(Item, Found, name, "Look something up.", strict=True)
        self.found: list[str] = []

    async def run(self, args: Item, cancellation_token: CancellationToken) -> Found:
        self.found.append(args.item)
        return Found(item=args.item)

    def return_value_as_string(self, value: Any) -> str:
        return f"{value.item} for {value.price}"


PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)


class Camera(StaticWorkbench):
    """A workbench whose results are images."""

    async def call_tool(self, name: str, *args: Any, **options: Any) -> ToolResult:
        image = ImageResultContent(content=Image.from_base64(PIXEL))
        return ToolResult(name=name, result=[image])


def payment(name: str, done: list[Any]) -> BaseTool[Any, Any]:
    """Return a tool that has an effect."""

    async def pay(item: str, amount: int = 10) -> str:
        done.append(amount)
        return f"paid {amount}"

    return tool_of(pay, name)


LAMP = {"item": "lamp"}
