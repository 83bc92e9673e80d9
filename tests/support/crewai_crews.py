"""Crews with a scripted model, and the tools that they are given, for CrewAI's matrix.

In an environment that has CrewAI; it knows nothing of pytest.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from datetime import date
from enum import Enum
from typing import Any

from crewai import Agent, BaseLLM, Crew, Task
from crewai.tools import BaseTool, tool
from crewai.tools.base_tool import EnvVar, Tool
from crewai.tools.structured_tool import CrewStructuredTool
from pydantic import BaseModel, Field

from toolgate_client import GateClient

try:
    from crewai.tools.tool_failure import ToolFailure
except ImportError:
    ToolFailure = None

DONE = "I am done"
PATIENCE = 20.0

Turn = list[tuple[str, dict[str, Any]]]
ran: list[Any] = []


class Counting(GateClient):
    """A gate's client that counts what it is asked."""

    proposals = 0

    def govern(self, *args: Any, **options: Any) -> Any:
        self.proposals += 1
        return super().govern(*args, **options)

    async def agovern(self, *args: Any, **options: Any) -> Any:
        self.proposals += 1
        return await super().agovern(*args, **options)


class Scripted(BaseLLM):
    """Makes the script's calls, a turn at a time, and then answers."""

    script: list[Any] = Field(default_factory=list)
    native: bool = False
    seen: list[Any] = Field(default_factory=list)

    def call(self, messages: Any, tools: Any = None, *rest: Any, **more: Any) -> Any:
        self.seen.append(json.loads(json.dumps(messages, default=str)))
        if not self.script:
            return DONE if self.native else f"Thought: I now know\nFinal Answer: {DONE}"
        turn = self.script.pop(0)
        if not self.native:
            ((name, args),) = turn
            return f"Thought: next\nAction: {name}\nAction Input: {json.dumps(args)}"
        return [
            {
                "id": f"call-{len(self.seen)}-{number}",
                "type": "function",
                "function": {"name": name, "arguments": json.dumps(args)},
            }
            for number, (name, args) in enumerate(turn)
        ]

    async def acall(self, *args: Any, **options: Any) -> Any:
        return self.call(*args, **options)

    def supports_function_calling(self) -> bool:
        return self.native


def crew(
    tools: list[Any],
    *turns: Turn,
    native: bool,
    cache: bool = False,
    kickoff: Callable[[Crew], Any] = Crew.kickoff,
    **options: Any,
) -> dict[str, Any]:
    """Run a crew of one agent; what the model saw, what it answered, what is recorded as failed."""
    llm = Scripted(model="scripted", script=list(turns), native=native)
    agent = Agent(role="r", goal="g", backstory="b", llm=llm, tools=tools, cache=cache, **options)
    task = Task(description="d", expected_output="e", agent=agent)
    try:
        output = kickoff(Crew(agents=[agent], tasks=[task], cache=cache))
        answer = str(output)
        failures = getattr(output.tasks_output[0], "tool_failures", [])
    except Exception as error:  # noqa: BLE001 - how a crew ends is what is looked at
        answer, failures = type(error).__name__, []
    return {
        "told": told(llm),
        "answer": plain(answer),
        "failed": len(failures),
        "transcript": [plain(json.dumps(each)) for each in llm.seen],
    }


def told(llm: Scripted) -> list[str]:
    """Return what the model was told of its calls."""
    last = llm.seen[-1]
    if llm.native:
        return [plain(each["content"]) for each in last if each["role"] == "tool"]
    said = "\n".join(str(each["content"]) for each in last if each["role"] == "assistant")
    return [
        plain(each.split("\n\nYou ONLY")[0])
        for each in said.split("Observation: ")[1:]
        if not each.startswith("the result of the action")
    ]


def plain(text: Any) -> str:
    """Return a text without what is another one each time."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|[0-9a-f]{24}", "UID", str(text))


# --- tools


class Color(Enum):
    """A color."""

    RED = "red"


class Address(BaseModel):
    """Where somebody lives."""

    street: str
    zip_code: str = Field(alias="zip")


class OrderArgs(BaseModel):
    """What is ordered."""

    item: str
    day: date
    count: int = 1
    color: Color = Color.RED
    address: Address | None = None
    from_: str = Field("shop", alias="from")


class Order(BaseTool):
    """A tool with state, fields and methods of its own."""

    name: str = "Place Order"
    description: str = "Order something."
    args_schema: type[BaseModel] = OrderArgs
    env_vars: list[EnvVar] = Field(default=[EnvVar(name="KEY", description="a key")])
    prefix: str = "ordered"
    orders: list[str] = Field(default_factory=list)

    def describe(self) -> str:
        """Say something."""
        return f"{self.name}: {len(self.orders)}"

    def _run(self, item: str, day: date, **rest: Any) -> str:
        ran.append([item, type(day).__name__, repr(sorted(rest.items(), key=str))])
        self.orders.append(item)
        return f"{self.prefix} {item} for {day}"


class AsyncOrder(BaseTool):
    """A tool whose body is a coroutine."""

    name: str = "slow"
    description: str = "Order slowly."

    async def _run(self, item: str) -> str:
        await asyncio.sleep(0)
        ran.append(item)
        return f"slow {item}"


class Both(BaseTool):
    """A tool with a body for each world."""

    name: str = "both"
    description: str = "Order either way."

    def _run(self, item: str) -> str:
        ran.append(f"sync {item}")
        return f"sync {item}"

    async def _arun(self, item: str) -> str:
        await asyncio.sleep(0)
        ran.append(f"async {item}")
        return f"async {item}"


class Report(BaseModel):
    """A structured result."""

    total: int


def named(name: str, **fields: Any) -> Tool:
    """Return a tool of a function: it orders an item."""

    def body(item: str, amount: int = 10) -> str:
        """Order an item."""
        ran.append([item, amount])
        return f"{name} {item} {amount}"

    made = tool(name)(body)
    return made.model_copy(update=fields)


def failing(name: str = "broken") -> Tool:
    """Return a tool whose body has an effect and raises."""

    @tool(name)
    def body(item: str) -> str:
        """Order an item."""
        ran.append(item)
        raise ValueError("boom")

    return body


class BadFormat(Order):
    """A tool whose result cannot be formatted."""

    name: str = "badly_shown"

    def format_output_for_agent(self, raw_result: Any) -> str:
        raise ValueError("no format")


def bad_cache(args: Any = None, result: Any = None) -> bool:
    """Raise, where a bool is wanted."""
    raise ValueError("no cache")


def structured() -> CrewStructuredTool:
    """Return a tool of CrewAI's other kind."""

    def body(item: str) -> str:
        """Order an item."""
        ran.append(item)
        return f"structured {item}"

    return CrewStructuredTool.from_function(body, name="structured")


def function(item: str) -> str:
    """Order an item."""
    ran.append(item)
    return f"function {item}"


def order_args(**more: Any) -> dict[str, Any]:
    """Return the arguments of an order, as a model writes them."""
    return {"item": "lamp", "day": "2024-02-29", "count": "2", "from": "here", **more}


def shown(made: BaseTool) -> str:
    """Return a tool as a model is shown it in a prompt."""
    return str(getattr(made, "formatted_description", made.description))
