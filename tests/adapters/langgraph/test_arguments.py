"""The gate sees a call's arguments as JSON, coerced, with defaults, and nothing injected."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import pytest
from langchain_core.callbacks import CallbackManagerForToolRun
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import (
    BaseTool,
    InjectedToolArg,
    InjectedToolCallId,
    StructuredTool,
    Tool,
    tool,
)
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode, ToolRuntime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from pydantic import BaseModel, Field, SecretStr
from pydantic.v1 import BaseModel as BaseModelV1

from support.langgraph_world import ALLOW, World
from support.scripted_model import calls, tool_call
from toolgate_client import GateClient, Outcome
from toolgate_langgraph import govern_tools

SECRET = "never-leaves-this-process"


def proposed(world: World) -> list[Any]:
    """Return the arguments of every call that was proposed."""
    return [event["args"] for event in world.events("action.proposed")]


class Color(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    label: str = Field("none", alias="Label")


class Typed(BaseModel):
    when: datetime.datetime
    count: int = 3
    price: decimal.Decimal = decimal.Decimal("1.50")
    color: Color = Color.RED
    points: list[Point] = Field(default_factory=list)
    day: datetime.date | None = None
    secret: SecretStr = SecretStr(SECRET)
    token: Annotated[str, InjectedToolArg] = SECRET


class OldTyped(BaseModelV1):
    city: str
    days: int = 3


def test_the_gate_sees_coerced_json_with_defaults(world: World) -> None:
    typed = StructuredTool.from_function(
        lambda **kwargs: "ok", name="typed", description="d", args_schema=Typed
    )
    args = {"when": "2024-05-01T10:00:00", "count": "4", "points": [{"x": "1", "Label": "a"}]}
    with world.recorded_gate() as gate:
        [governed] = govern_tools(gate, [typed])
        assert governed.invoke(args) == "ok"
    assert proposed(world) == [
        {
            "when": "2024-05-01T10:00:00",
            "count": 4,
            "price": "1.50",
            "color": "red",
            "points": [{"x": 1, "Label": "a"}],
            "day": None,
            "secret": "**********",
        }
    ]
    assert SECRET not in world.sent()


def test_a_pydantic_1_model_is_coerced_too(world: World) -> None:
    old = StructuredTool.from_function(
        lambda **kwargs: "ok", name="old", description="d", args_schema=OldTyped
    )
    with world.gate() as gate:
        govern_tools(gate, [old])[0].invoke({"city": "Bonn", "days": "4"})
    assert proposed(world) == [{"city": "Bonn", "days": 4}]


def test_a_single_input_has_the_name_that_models_are_shown(world: World) -> None:
    single = Tool("single", lambda text: text, "d")
    with world.gate() as gate:
        [governed] = govern_tools(gate, [single])
        governed.invoke("a")
        governed.invoke(tool_call("single", {"__arg1": "b"}))
        governed.func("c")  # type: ignore[attr-defined]
    assert proposed(world) == [{"__arg1": "a"}, {"__arg1": "b"}, {"__arg1": "c"}]


class State(MessagesState):
    secret: str


class Searcher(BaseTool):
    name: str = "searcher"
    description: str = "Search."

    def _run(
        self,
        query: str,
        state: Annotated[Any, InjectedState],
        run_manager: CallbackManagerForToolRun | None = None,
    ) -> str:
        return f"{query} {state['secret']}"


@tool
def everything(
    a: int,
    whole: Annotated[Any, InjectedState],
    field: Annotated[str, InjectedState("secret")],
    store: Annotated[BaseStore, InjectedStore()],
    runtime: ToolRuntime,
    call_id: Annotated[str, InjectedToolCallId],
    config: RunnableConfig,
    callbacks: Any = None,
) -> str:
    """Take all there is."""
    assert whole["secret"] == field == runtime.state["secret"] == SECRET
    assert store.get(("s",), "s").value == {"secret": SECRET}  # type: ignore[union-attr]
    assert config["configurable"]["secret"] == SECRET
    return call_id


dict_schema = StructuredTool.from_function(
    lambda path, state, config: f"{path} {state['secret']} {config['configurable']['secret']}",
    name="dict_schema",
    description="d",
    args_schema={"type": "object", "properties": {"path": {"type": "string"}}},
)


def dict_schema_body(
    path: str, state: Annotated[Any, InjectedState], config: RunnableConfig
) -> str:
    return f"{path} {state['secret']} {config['configurable']['secret']}"


dict_schema.func = dict_schema_body


def test_nothing_injected_is_ever_sent(world: World) -> None:
    store = InMemoryStore()
    store.put(("s",), "s", {"secret": SECRET})
    made = calls(
        tool_call("everything", {"a": 1}, "c-1"),
        tool_call("searcher", {"query": "cats"}, "c-2"),
        tool_call("dict_schema", {"path": "/p"}, "c-3"),
    )
    with world.recorded_gate() as gate:
        builder = StateGraph(State)
        builder.add_node(
            "tools", ToolNode(govern_tools(gate, [everything, Searcher(), dict_schema]))
        )
        builder.add_edge(START, "tools")
        graph = builder.compile(store=store)
        state: Any = {"messages": [HumanMessage("go"), made], "secret": SECRET}
        result = graph.invoke(state, {"configurable": {"secret": SECRET}})
        bodies_results = [message.content for message in result["messages"][2:]]
    assert bodies_results == ["c-1", f"cats {SECRET}", f"/p {SECRET} {SECRET}"]
    sent = world.sent()
    # What a body returns is recorded; that part of what was sent is the body's own doing.
    calls_sent = [line for line in sent.splitlines() if '"result"' not in line]
    assert len(calls_sent) >= 6
    assert SECRET not in "\n".join(calls_sent)
    assert sorted(proposed(world), key=str) == [{"a": 1}, {"path": "/p"}, {"query": "cats"}]


def test_an_injected_argument_given_by_name_to_a_function_is_not_sent(world: World) -> None:
    @tool
    def use(a: int, token: Annotated[str, InjectedToolArg]) -> str:
        """Use a token."""
        assert token == SECRET
        return "used"

    with world.recorded_gate() as gate:
        [governed] = govern_tools(gate, [use])
        assert governed.func(1, SECRET) == "used"  # type: ignore[attr-defined]
        assert governed.func(a=1, token=SECRET) == "used"  # type: ignore[attr-defined]
        assert governed.invoke({"a": 1, "token": SECRET}) == "used"
    assert proposed(world) == [{"a": 1}, {"a": 1}, {"a": 1}]
    assert SECRET not in world.sent()


def test_arguments_beyond_the_schema_are_seen_if_the_body_gets_them(world: World) -> None:
    schema = {"type": "object", "properties": {"path": {"type": "string"}}}
    loose = StructuredTool.from_function(
        lambda **kwargs: "ok", name="loose", description="d", args_schema=schema
    )
    with world.gate() as gate:
        govern_tools(gate, [loose])[0].invoke({"path": "/p", "extra": [1]})
    assert proposed(world) == [{"path": "/p", "extra": [1]}]


def test_the_registered_schema_is_what_the_model_is_shown(world: World) -> None:
    with world.recorded_gate() as gate:
        govern_tools(gate, [everything])
    assert '"a":{' in world.sent()
    for name in ("whole", "field", "store", "runtime", "call_id", "config", "callbacks"):
        assert f'"{name}":' not in world.sent()


@pytest.mark.parametrize("value", ["2024-05-01T10:00:00", "2024-05-01T10:00:00Z"])
def test_what_pydantic_takes_for_a_time_is_one_to_the_gate(tmp_path: Path, value: str) -> None:
    with World(tmp_path, ALLOW).gate() as gate:
        typed = StructuredTool.from_function(
            lambda **kwargs: "ok", name="typed", description="d", args_schema=Typed
        )
        assert govern_tools(gate, [typed])[0].invoke({"when": value}) == "ok"


def test_a_tool_whose_arguments_have_no_schema_is_refused(gate: GateClient) -> None:
    def odd(callback: Callable[[int], int]) -> str:
        """Take a function."""
        return "x"

    with pytest.raises(ValueError, match="'odd' have no JSON Schema"):
        govern_tools(gate, [odd])


# --- arguments that a person edited before they were released


class EditingGate:
    """Stands for a gate whose approver edited the arguments."""

    def __init__(self, **edits: Any) -> None:
        self.edits = edits

    def register_tool(self, name: str, body: Any, **declared: Any) -> dict[str, Any]:
        return {}

    def govern(self, tool: str, args: dict[str, Any], *, body: Any, **options: Any) -> Outcome:
        try:
            output = body({**args, **self.edits})
        except Exception as error:  # noqa: BLE001 - as the client does
            return Outcome("failed", "u", "u", exception=error)
        return Outcome("succeeded", "u", "u", output=output, live=True)

    async def agovern(
        self, tool: str, args: dict[str, Any], *, body: Any, **options: Any
    ) -> Outcome:
        output = await body({**args, **self.edits})
        return Outcome("succeeded", "u", "u", output=output, live=True)


def edited(tool: Any, **edits: Any) -> BaseTool:
    """Return the tool governed by a gate that edits."""
    gate: Any = EditingGate(**edits)
    return govern_tools(gate, [tool])[0]


def test_edited_arguments_are_validated_and_meet_the_live_and_injected_ones() -> None:
    seen: dict[str, Any] = {}

    def typed(**kwargs: Any) -> str:
        seen.update(kwargs)
        return "ok"

    made = StructuredTool.from_function(typed, name="typed", description="d", args_schema=Typed)
    args = {"when": "2024-05-01T10:00:00", "token": "given"}
    assert edited(made, count="9", day="2024-02-29").invoke(args) == "ok"
    assert seen["count"] == 9
    assert seen["day"] == datetime.date(2024, 2, 29)
    assert seen["when"] == datetime.datetime(2024, 5, 1, 10)  # noqa: DTZ001
    assert seen["secret"].get_secret_value() == SECRET
    assert seen["token"] == "given"


def test_edited_arguments_that_the_tool_refuses_never_reach_its_body() -> None:
    @tool
    def strict(a: int) -> str:
        """Be strict."""
        raise AssertionError("the body ran")

    message = edited(strict, a="x").invoke(tool_call("strict", {"a": 1}))
    assert message.status == "error"
    assert message.artifact["toolgate"]["kind"] == "invalid_edit"
    assert "a person gave it arguments that it does not take" in message.content


def test_edited_arguments_reach_every_kind_of_body() -> None:
    @tool
    def plain(a: int, call_id: Annotated[str, InjectedToolCallId], config: RunnableConfig) -> str:
        """Be plain."""
        return f"{a} {call_id} {config['configurable']['user']}"

    @tool
    async def coroutine(a: int) -> str:
        """Be awaited."""
        return str(a)

    config: RunnableConfig = {"configurable": {"user": "ada"}}
    message = edited(plain, a=2).invoke(tool_call("plain", {"a": 1}, "c-1"), config)
    assert message.content == "2 c-1 ada"
    assert asyncio.run(edited(coroutine, a=2).ainvoke({"a": 1})) == "2"
    assert edited(Tool("single", str.upper, "d"), __arg1="b").invoke("a") == "B"
    old = StructuredTool.from_function(
        lambda city, days: f"{city}{days}", name="old", description="d", args_schema=OldTyped
    )
    assert edited(old, days="5").invoke({"city": "Bonn"}) == "Bonn5"
    assert edited(plain, a=2).func(1, "c", config) == "2 c ada"  # type: ignore[attr-defined]
