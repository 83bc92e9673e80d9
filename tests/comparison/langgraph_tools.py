"""What LangChain's tools are, and what they are given."""

from __future__ import annotations

import datetime
import enum
import json
from typing import Annotated, Any

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import (
    BaseTool,
    InjectedToolArg,
    InjectedToolCallId,
    StructuredTool,
    Tool,
    tool,
)
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.prebuilt import InjectedState, InjectedStore, ToolRuntime
from langgraph.store.base import BaseStore
from pydantic import BaseModel, Field
from pydantic.v1 import BaseModel as BaseModelV1

from comparison.cases import Cases, said
from comparison.hooks import Hook
from comparison.langgraph_kit import (
    GO,
    SECRET,
    Color,
    agent,
    in_node,
    told,
)
from support.scripted_model import tool_call

cases = Cases()


class Size(enum.Enum):
    """A size."""

    SMALL = "small"


class OrderArgs(BaseModel):
    """What is ordered."""

    item: str = Field(description="what to order")
    day: datetime.date
    count: int = 2
    color: Color = Color()


class Order(BaseTool):
    """A tool with a class, state and methods of its own."""

    name: str = "order"
    description: str = "Order something."
    args_schema: type[BaseModel] = OrderArgs
    return_direct: bool = True
    tags: list[str] | None = Field(default=["shop"])
    metadata: dict[str, Any] | None = Field(default={"team": "sales"})
    handle_tool_error: bool = True
    handle_validation_error: bool = True
    extras: dict[str, Any] | None = Field(default={"cache_control": "ephemeral"})
    orders: list[str] = Field(default_factory=list)

    def _run(self, item: str, day: datetime.date, count: int, color: Color) -> str:
        kinds = [type(each).__name__ for each in (item, day, count, color)]
        self.orders.append(item)
        return " ".join(kinds)


ORDER = {"item": "lamp", "day": "2024-02-29"}


@cases.allowed("class")
def _(hook: Hook) -> str:
    (made,) = hook.govern([Order()])
    return "its own" if isinstance(made, Order) else f"{type(made).__name__}"


class Bare(BaseTool):
    """A tool whose arguments are those of its ``_run``."""

    name: str = "bare"
    description: str = "Write something down."

    def _run(self, item: str) -> str:
        return f"noted {item}"


FIELDS = ["return_direct", "tags", "metadata", "handle_tool_error", "extras", "orders"]


@cases.allowed("fields")
def _(hook: Hook) -> str:
    raw = Order(orders=["rug"])
    (made,) = hook.govern([raw])
    lost = [name for name in FIELDS if getattr(made, name, None) != getattr(raw, name)]
    return f"lost: {', '.join(lost)}" if lost else "kept"


@cases.allowed("the schema that a model is shown")
def _(hook: Hook) -> str:
    raw = [Order(), old_typed(), dict_typed(), injected()]
    lost = []
    for each, made in zip(raw, hook.govern(raw), strict=True):
        if convert_to_openai_tool(each) != convert_to_openai_tool(made):
            lost.append(each.name)
    return f"another for: {', '.join(lost)}" if lost else "kept"


@cases.allowed("a class that has no `args_schema`")
def _(hook: Hook) -> str:
    (made,) = hook.govern([Bare()])
    shown = list(convert_to_openai_tool(made)["function"]["parameters"]["properties"])
    try:
        return f"takes {shown}; {made.invoke({'item': 'lamp'})}"
    except Exception as error:  # noqa: BLE001 - it is what is looked at
        return f"takes {shown}; raises {said(error)}"


class OldTyped(BaseModelV1):
    """Arguments of Pydantic 1."""

    city: str
    days: int = 3


def old_typed() -> BaseTool:
    """Return a tool whose arguments are a model of Pydantic 1."""

    def forecast(city: str, days: int) -> str:
        return f"{city} {days!r}"

    return StructuredTool.from_function(
        forecast, name="pydantic_1", description="Tell the weather.", args_schema=OldTyped
    )


def dict_typed() -> BaseTool:
    """Return a tool whose arguments are a JSON Schema."""
    schema = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    return StructuredTool.from_function(
        lambda **args: json.dumps(args), name="json_schema", description="Read.", args_schema=schema
    )


def one_text() -> BaseTool:
    """Return a tool that takes one text."""
    return Tool(name="one_text", func=lambda text: text.upper(), description="Shout.")


def injected() -> BaseTool:
    """Return a tool that is given what no model knows."""

    @tool("with_state")
    def body(item: str, state: Annotated[dict[str, Any], InjectedState]) -> str:
        """Look something up."""
        return f"{item} {state['messages'][0].content}"

    return body


def typed(hook: Hook, name: str, kind: Any, value: Any) -> str:
    """Return what a body gets for an argument of a type, after the model has sent a value."""

    def body(item: Any) -> str:
        return f"{type(item).__name__} {item!r}"

    body.__annotations__["item"] = kind
    raw = StructuredTool.from_function(body, name=name, description="Look something up.")
    (made,) = hook.govern([raw])
    return str(made.invoke(tool_call(name, {"item": value})).content)


@cases.allowed("an argument that is coerced to a number")
def _(hook: Hook) -> str:
    return typed(hook, "counts", int, "3")


@cases.allowed("an argument that is a date")
def _(hook: Hook) -> str:
    return typed(hook, "dates", datetime.date, "2024-02-29")


@cases.allowed("an argument that is an enum")
def _(hook: Hook) -> str:
    return typed(hook, "sizes", Size, "small")


@cases.allowed("an argument that is a Pydantic model")
def _(hook: Hook) -> str:
    return typed(hook, "colors", Color, {"name": "blue"})


@cases.allowed("arguments of Pydantic 1, of a JSON Schema")
def _(hook: Hook) -> str:
    made = hook.govern([old_typed(), dict_typed()])
    args = [{"city": "Bonn", "days": "4"}, {"path": "here"}]
    return ", ".join(str(each.invoke(given)) for each, given in zip(made, args, strict=True))


@cases.allowed("a tool that takes one text")
def _(hook: Hook) -> str:
    (made,) = hook.govern([one_text()])
    return f"{made.invoke('hey')}, {made.invoke({'__arg1': 'hey'})}"


@cases.allowed("a plain function instead of a tool")
def _(hook: Hook) -> str:
    def plain_search(item: str) -> str:
        """Look something up."""
        return f"found {item}"

    made = hook.govern([plain_search])
    return told(agent(made, tool_call("plain_search", {"item": "lamp"})).invoke(GO))


@cases.allowed("invalid arguments")
def _(hook: Hook) -> str:
    @tool
    def strict(count: int) -> str:
        """Count."""
        return "ran"

    made = hook.govern([strict])
    state = agent(made, tool_call("strict", {"count": "many"})).invoke(GO)
    asked = hook.proposed("strict")
    return f"{told(state)}; the gate is {'asked' if asked else 'not asked'}"


def kept(hook: Hook, said: str) -> str:
    """Return what was seen, and whether what was injected has left the process."""
    return said + ("; it was sent to the gate" if SECRET in hook.sent() else "")


@cases.allowed("InjectedState, InjectedStore")
def _(hook: Hook) -> str:
    @tool
    def reads_state(
        item: str,
        state: Annotated[dict[str, Any], InjectedState],
        secret: Annotated[str, InjectedState("secret")],
        store: Annotated[BaseStore, InjectedStore()],
    ) -> str:
        """Look something up."""
        shop = store.get(("shop",), "open")
        assert shop is not None
        return f"{secret == state['secret'] == shop.value['says'] == SECRET}"

    return kept(hook, told(in_node(hook, reads_state)))


@cases.allowed("ToolRuntime")
def _(hook: Hook) -> str:
    @tool
    def reads_runtime(item: str, runtime: ToolRuntime) -> str:
        """Look something up."""
        return f"{runtime.state['secret'] == SECRET} {runtime.tool_call_id}"

    return kept(hook, told(in_node(hook, reads_runtime)))


@cases.allowed("InjectedToolCallId, RunnableConfig")
def _(hook: Hook) -> str:
    @tool
    def reads_id(
        item: str, call_id: Annotated[str, InjectedToolCallId], config: RunnableConfig
    ) -> str:
        """Look something up."""
        return f"{call_id} {config['configurable'].get('user')}"

    return told(in_node(hook, reads_id))


@cases.allowed("InjectedToolArg, given by own code")
def _(hook: Hook) -> str:
    @tool
    def reads_token(item: str, token: Annotated[str, InjectedToolArg]) -> str:
        """Look something up."""
        return f"{token == SECRET + '!'}"

    (made,) = hook.govern([reads_token])
    result = str(made.invoke({"item": "lamp", "token": SECRET + "!"}))
    return result + ("; it was sent to the gate" if SECRET + "!" in hook.sent() else "")
