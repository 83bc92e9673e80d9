"""Agents and teams with a scripted model, and the tools that they are given, for AutoGen's matrix.

It knows nothing of pytest.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextvars import ContextVar
from datetime import date
from enum import Enum
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import TaskResult
from autogen_agentchat.messages import (
    BaseTextChatMessage,
    TextMessage,
    ToolCallExecutionEvent,
    ToolCallSummaryMessage,
)
from autogen_core import CancellationToken, Component, FunctionCall, Image
from autogen_core.models import (
    AssistantMessage,
    ChatCompletionClient,
    CreateResult,
    LLMMessage,
    ModelInfo,
    RequestUsage,
)
from autogen_core.tools import (
    BaseStreamTool,
    BaseTool,
    BaseToolWithState,
    FunctionTool,
    ImageResultContent,
    StaticStreamWorkbench,
    StaticWorkbench,
    TextResultContent,
    ToolResult,
    ToolSchema,
    Workbench,
)
from autogen_core.tools._workbench import StreamWorkbench
from pydantic import BaseModel, Field

from toolgate_client import GateClient

DONE = "I am done"
PATIENCE = 20.0
NOTHING = RequestUsage(prompt_tokens=0, completion_tokens=0)

ran: list[Any] = []
where: ContextVar[str] = ContextVar("where", default="nowhere")


class Counting(GateClient):
    """A gate's client that counts what it is asked."""

    proposals = 0

    def govern(self, *args: Any, **options: Any) -> Any:
        self.proposals += 1
        return super().govern(*args, **options)

    async def agovern(self, *args: Any, **options: Any) -> Any:
        self.proposals += 1
        return await super().agovern(*args, **options)


class ScriptConfig(BaseModel):
    """A scripted model as a component."""

    script: list[Any]


class Scripted(ChatCompletionClient, Component[ScriptConfig]):
    """Says the script's line whose number is that of the agent's turns so far, in any process.

    A line is a text, or the calls of one turn: a name, arguments, and if need be an id.
    """

    component_type = "model"
    component_config_schema = ScriptConfig
    component_provider_override = "support.autogen_teams.Scripted"

    def __init__(self, *script: Any) -> None:
        self.script = script
        self.seen: list[list[LLMMessage]] = []

    async def create(self, messages: Sequence[LLMMessage], **more: Any) -> CreateResult:
        await asyncio.sleep(0)
        self.seen.append(list(messages))
        turn = sum(isinstance(message, AssistantMessage) for message in messages)
        line = self.script[turn] if turn < len(self.script) else DONE
        if isinstance(line, str):
            return CreateResult(finish_reason="stop", content=line, usage=NOTHING, cached=False)
        calls = [
            FunctionCall(
                id=call[2] if len(call) > 2 else f"call-{turn}-{number}",
                name=call[0],
                arguments=json.dumps(call[1]),
            )
            for number, call in enumerate(line)
        ]
        return CreateResult(
            finish_reason="function_calls", content=calls, usage=NOTHING, cached=False
        )

    def create_stream(
        self, messages: Sequence[LLMMessage], **more: Any
    ) -> AsyncGenerator[str | CreateResult, None]:
        raise NotImplementedError

    async def close(self) -> None:
        """Close nothing."""

    def actual_usage(self) -> RequestUsage:
        return NOTHING

    def total_usage(self) -> RequestUsage:
        return NOTHING

    def count_tokens(self, messages: Sequence[LLMMessage], **more: Any) -> int:
        return 0

    def remaining_tokens(self, messages: Sequence[LLMMessage], **more: Any) -> int:
        return 1000

    @property
    def capabilities(self) -> Any:
        return self.model_info

    @property
    def model_info(self) -> ModelInfo:
        return ModelInfo(
            vision=True,
            function_calling=True,
            json_output=False,
            family="unknown",
            structured_output=False,
        )

    def _to_config(self) -> ScriptConfig:
        return ScriptConfig(script=list(self.script))

    @classmethod
    def _from_config(cls, config: ScriptConfig) -> Scripted:
        return cls(*config.script)


def agent(*turns: Any, name: str = "assistant", iterations: int = 5, **options: Any) -> Any:
    """Return an agent whose model makes these calls, a turn at a time, and then answers."""
    return AssistantAgent(name, Scripted(*turns), max_tool_iterations=iterations, **options)


async def run(
    runner: Any, task: Any = "go", token: CancellationToken | None = None
) -> dict[str, Any]:
    """Run an agent or a team; what the model was told of its calls, and all that was said."""
    made = runner.run(task=task, cancellation_token=token)
    try:
        result: TaskResult = await asyncio.wait_for(made, PATIENCE)
    except Exception as error:  # noqa: BLE001 - how a run ends is what is looked at
        return {"told": [], "answer": plain(repr(error)), "messages": [], "stop": None}
    return {
        "told": told(result),
        "answer": plain(getattr(result.messages[-1], "content", "")),
        "messages": [
            [type(each).__name__, each.source, plain(text_of(each))] for each in result.messages
        ],
        "stop": plain(result.stop_reason) if result.stop_reason else None,
    }


def told(result: TaskResult) -> list[list[Any]]:
    """Return what models were told of their calls, and whether as an error."""
    return [
        [plain(each.content), bool(each.is_error)]
        for message in result.messages
        if isinstance(message, ToolCallExecutionEvent)
        for each in message.content
    ]


def text_of(message: Any) -> str:
    """Return what a message says."""
    if isinstance(message, BaseTextChatMessage | ToolCallSummaryMessage):
        return message.content
    return str(message.content)


def plain(text: Any) -> str:
    """Return a text without what is another one each time."""
    return re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\b[0-9a-f]{24}\b", "UID", str(text))


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


class Receipt(BaseModel):
    """A structured result."""

    item: str
    total: int


class Order(BaseTool[OrderArgs, Receipt]):
    """A tool with fields and methods of its own."""

    def __init__(self) -> None:
        super().__init__(OrderArgs, Receipt, "place_order", "Order something.")
        self.orders: list[str] = []

    def describe(self) -> str:
        """Say something."""
        return f"{self.name}: {len(self.orders)}"

    def return_value_as_string(self, value: Any) -> str:
        return f"<{value.item}: {value.total}>"

    async def run(self, args: OrderArgs, cancellation_token: CancellationToken) -> Receipt:
        ran.append([args.item, type(args.day).__name__, repr(args)])
        self.orders.append(args.item)
        return Receipt(item=args.item, total=args.count)


class Item(BaseModel):
    """What something is done with."""

    item: str
    amount: int = 10


class CounterState(BaseModel):
    """How often."""

    count: int = 0


class Counter(BaseToolWithState[Item, Receipt, CounterState]):
    """A tool that knows how often it was called."""

    def __init__(self) -> None:
        super().__init__(Item, Receipt, CounterState, "counter", "Count.")
        self.state = CounterState()

    async def run(self, args: Item, cancellation_token: CancellationToken) -> Receipt:
        self.state.count += 1
        ran.append(args.item)
        return Receipt(item=args.item, total=self.state.count)

    def save_state(self) -> CounterState:
        return self.state

    def load_state(self, state: CounterState) -> None:
        self.state = state


class Narrator(BaseStreamTool[Item, Any, Any]):
    """A tool that tells of its work as it goes."""

    def __init__(self, name: str = "narrate", breaks: bool = False) -> None:
        super().__init__(Item, TaskResult, name, "Do something, and tell of it.")  # type: ignore[arg-type]
        self.breaks = breaks

    async def run(self, args: Item, cancellation_token: CancellationToken) -> TaskResult:
        ran.append([args.item, args.amount])
        return TaskResult(messages=[TextMessage(content=f"{args.item} alone", source="narrator")])

    async def run_stream(
        self, args: Item, cancellation_token: CancellationToken
    ) -> AsyncGenerator[Any, None]:
        ran.append([args.item, args.amount])
        for word in ("once", "twice"):
            await asyncio.sleep(0)
            yield TextMessage(content=f"{word} {args.item}", source="narrator")
        if self.breaks:
            raise ValueError("lost its thread")
        last = TextMessage(content=f"told {args.item} {args.amount}", source="narrator")
        yield TaskResult(messages=[last])

    def return_value_as_string(self, value: Any) -> str:
        return str(value.messages[-1].content)


def function(name: str, **options: Any) -> FunctionTool:
    """Return a tool of a function: it orders an item."""

    def body(item: str, amount: int = 10) -> str:
        """Order an item."""
        ran.append([item, amount])
        return f"{name} {item} {amount}"

    return FunctionTool(body, description="Order an item.", name=name, **options)


def coroutine(name: str) -> FunctionTool:
    """Return a tool of a coroutine function."""

    async def body(item: str, amount: int = 10) -> str:
        """Order an item."""
        await asyncio.sleep(0)
        ran.append([item, amount])
        return f"{name} {item} {amount}"

    return FunctionTool(body, description="Order an item.", name=name)


PIXEL = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJg"
    "gg=="
)
ITEM_SCHEMA: Any = {
    "type": "object",
    "properties": {"item": {"type": "string"}, "amount": {"type": "integer"}},
    "required": ["item"],
    "additionalProperties": False,
}


class BenchConfig(BaseModel):
    """A workbench as a component."""

    names: list[str]


class Bench(Workbench, Component[BenchConfig]):
    """A workbench whose tools are somewhere else, as an MCP server's are."""

    component_config_schema = BenchConfig
    component_provider_override = "support.autogen_teams.Bench"

    def __init__(self, *names: str, parameters: Any = ITEM_SCHEMA) -> None:
        self.names = list(names)
        self.parameters = parameters
        self.life: list[str] = []
        self.used = 0

    def resources(self) -> str:
        """Say something that is no tool's."""
        return "a resource"

    async def list_tools(self) -> list[ToolSchema]:
        return [
            ToolSchema(name=name, description="From afar.", parameters=self.parameters)
            for name in self.names
        ]

    async def call_tool(
        self,
        name: str,
        arguments: Mapping[str, Any] | None = None,
        cancellation_token: CancellationToken | None = None,
        call_id: str | None = None,
    ) -> ToolResult:
        ran.append([name, arguments, call_id, type(cancellation_token).__name__])
        self.used += 1
        given = arguments or {}
        if given.get("item") == "picture":
            image = ImageResultContent(content=Image.from_base64(base64.b64encode(PIXEL).decode()))
            return ToolResult(name=name, result=[TextResultContent(content="look"), image])
        broken = given.get("item") == "nothing"
        text = "out of stock" if broken else f"{name} {given.get('item')} {given.get('amount')}"
        return ToolResult(name=name, result=[TextResultContent(content=text)], is_error=broken)

    async def start(self) -> None:
        self.life.append("start")

    async def stop(self) -> None:
        self.life.append("stop")

    async def reset(self) -> None:
        self.life.append("reset")

    async def save_state(self) -> Mapping[str, Any]:
        return {"used": self.used}

    async def load_state(self, state: Mapping[str, Any]) -> None:
        self.used = state["used"]

    def _to_config(self) -> BenchConfig:
        return BenchConfig(names=self.names)

    @classmethod
    def _from_config(cls, config: BenchConfig) -> Bench:
        return cls(*config.names)


async def _streamed(bench: Any, *call: Any) -> AsyncGenerator[Any, None]:
    yield TextMessage(content="on its way", source="bench")
    yield await bench.call_tool(*call)


class StreamBench(Bench, StreamWorkbench):
    """One that streams."""

    async def call_tool_stream(self, *call: Any, **named: Any) -> AsyncGenerator[Any, None]:
        values = [*call, *named.values()]
        async for value in _streamed(self, *values):
            yield value


class AgentBench(StreamBench, StaticStreamWorkbench):  # type: ignore[misc]
    """One that an agent streams from, and whose tools are none of its own."""


class OwnBench(StaticStreamWorkbench):
    """AutoGen's, with a way of its own around the tools."""

    async def call_tool_stream(self, *call: Any, **named: Any) -> AsyncGenerator[Any, None]:
        ran.append("its own way")
        async for value in super().call_tool_stream(*call, **named):
            yield value


KINDS = ("function", "coroutine", "stream tool", "workbench", "stream workbench", "own workbench")


def named(name: str, kind: str) -> str:
    """Return the name of a tool of a kind: one name is one tool to a gate."""
    return f"{name}_{'_'.join(word[0] for word in kind.split())}"


def of_kind(kind: str, name: str, govern: Any, **options: Any) -> dict[str, Any]:
    """Return what an agent takes that has a tool of this kind, which is named after it."""
    name = named(name, kind)
    tools: dict[str, Any] = {"function": function, "coroutine": coroutine, "stream tool": Narrator}
    if kind in tools:
        return {"tools": govern([tools[kind](name)], **options)}
    benches: dict[str, Any] = {
        "workbench": StaticWorkbench([function(name)]),
        "stream workbench": StaticStreamWorkbench([Narrator(name)]),
        "own workbench": Bench(name),
    }
    return {"workbench": govern(benches[kind], **options)}
