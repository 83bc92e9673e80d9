"""An allowed governed tool gives what the raw tool gives, whatever kind of tool it is."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import enum
import operator
import uuid
from collections.abc import Callable
from typing import Annotated, Any, Literal

import pytest
from langchain_core.callbacks import BaseCallbackHandler, CallbackManagerForToolRun
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
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
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import InjectedState, InjectedStore, ToolNode, ToolRuntime
from langgraph.store.base import BaseStore
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command
from pydantic import BaseModel, Field, SecretStr, ValidationError
from pydantic.v1 import BaseModel as BaseModelV1

from support.scripted_model import calls, tool_call
from toolgate_client import GateClient
from toolgate_langgraph import govern_tools

Made = BaseTool | Callable[..., Any]


class Color(enum.Enum):
    RED = "red"


class Point(BaseModel):
    x: int
    y: int = 7


class Typed(BaseModel):
    when: datetime.datetime
    day: datetime.date = datetime.date(2024, 2, 29)
    price: decimal.Decimal = decimal.Decimal("1.50")
    color: Color = Color.RED
    points: list[Point] = Field(default_factory=list)
    key: uuid.UUID = uuid.UUID(int=7)
    wait: datetime.timedelta = datetime.timedelta(minutes=5)
    mode: Literal["fast", "slow"] = "fast"
    secret: SecretStr = SecretStr("hush")
    raw: bytes = b"bytes"
    names: set[str] = {"a"}
    pair: tuple[int, str] = (1, "b")


class OldTyped(BaseModelV1):
    city: str
    days: int = 3


class Aliased(BaseModel):
    from_: str = Field(alias="from")
    to: str


class Loose(BaseModel, extra="allow"):
    known: int


def make_plain() -> Made:
    def plain_add(a: int, b: int = 2) -> int:
        """Add."""
        return a + b

    return plain_add


def make_decorated() -> Made:
    @tool
    def decorated_add(a: int, b: int = 2) -> str:
        """Add."""
        return f"{a}+{b}"

    return decorated_add


def make_subclass() -> Made:
    class Search(BaseTool):
        name: str = "subclass_search"
        description: str = "Search."
        depth: int = 1

        def _run(
            self, query: str, limit: int = 5, run_manager: CallbackManagerForToolRun | None = None
        ) -> str:
            assert run_manager is not None
            return f"{query}/{limit}/{self.depth}"

    return Search(depth=4)


def make_typed() -> Made:
    def typed(**kwargs: Any) -> str:
        return repr(
            sorted((key, type(value).__name__, repr(value)) for key, value in kwargs.items())
        )

    return StructuredTool.from_function(
        typed, name="typed_args", description="Typed.", args_schema=Typed
    )


def make_old_typed() -> Made:
    return StructuredTool.from_function(
        lambda city, days: f"{city}:{days!r}",
        name="old_typed",
        description="Old.",
        args_schema=OldTyped,
    )


def make_dict_schema() -> Made:
    schema = {
        "type": "object",
        "properties": {"path": {"type": "string"}, "deep": {"type": "boolean"}},
        "required": ["path"],
    }
    return StructuredTool.from_function(
        lambda **kwargs: repr(kwargs), name="dict_schema", description="Dict.", args_schema=schema
    )


def make_single_input() -> Made:
    return Tool(name="single_input", func=lambda text: text.upper(), description="Shout.")


def make_aliased() -> Made:
    return StructuredTool.from_function(
        lambda **kwargs: repr(sorted(kwargs.items())),
        name="aliased",
        description="Mail.",
        args_schema=Aliased,
    )


def make_loose() -> Made:
    return StructuredTool.from_function(
        lambda **kwargs: repr(sorted(kwargs.items())),
        name="loose",
        description="Loose.",
        args_schema=Loose,
    )


def make_config_reader() -> Made:
    @tool
    def config_reader(a: int, config: RunnableConfig) -> str:
        """Read the config."""
        return f"{a} {config['configurable']['user']}"

    return config_reader


def make_call_id_reader() -> Made:
    @tool
    def call_id_reader(a: int, call_id: Annotated[str, InjectedToolCallId]) -> ToolMessage:
        """Read the call's id."""
        return ToolMessage(f"{a} {call_id}", tool_call_id=call_id, artifact={"a": a})

    return call_id_reader


def make_injected() -> Made:
    @tool
    def injected_arg(a: int, token: Annotated[str, InjectedToolArg]) -> str:
        """Use a token."""
        return f"{a} {token}"

    return injected_arg


def make_artifact() -> Made:
    @tool(response_format="content_and_artifact")
    def with_artifact(a: int) -> tuple[str, Any]:
        """Give an artifact."""
        return f"got {a}", {"live": ARTIFACT}

    return with_artifact


def make_blocks() -> Made:
    @tool
    def blocks(a: int) -> list[Any]:
        """Give content blocks."""
        return [{"type": "text", "text": str(a)}, {"type": "image", "url": "x"}]

    return blocks


def make_object() -> Made:
    @tool
    def live_object(a: int) -> Any:
        """Give an object."""
        return Point(x=a)

    return live_object


def make_handled_error() -> Made:
    def failing(a: int) -> str:
        raise ToolException(f"cannot {a}")

    return StructuredTool.from_function(
        failing, name="handled_error", description="Fail.", handle_tool_error=True
    )


def make_error_handler() -> Made:
    def failing(a: int) -> str:
        raise ToolException(f"cannot {a}")

    return StructuredTool.from_function(
        failing,
        name="error_handler",
        description="Fail.",
        handle_tool_error=lambda error: f"handled {error}",
    )


def make_handled_validation() -> Made:
    def strict(a: int) -> str:
        return str(a)

    return StructuredTool.from_function(
        strict, name="handled_validation", description="Strict.", handle_validation_error="bad args"
    )


ARTIFACT = object()

CASES: list[tuple[Callable[[], Made], dict[str, Any]]] = [
    (make_plain, {"a": 1}),
    (make_decorated, {"a": "3", "b": 4}),
    (make_subclass, {"query": "cats"}),
    (make_typed, {"when": "2024-05-01T10:00:00", "points": [{"x": "1"}], "price": 2}),
    (make_old_typed, {"city": "Bonn", "days": "4"}),
    (make_dict_schema, {"path": "/tmp", "deep": True}),
    (make_single_input, {"__arg1": "hey"}),
    (make_aliased, {"from": "a", "to": "b"}),
    (make_loose, {"known": 1, "extra": [1]}),
    (make_config_reader, {"a": 1}),
    (make_call_id_reader, {"a": 1}),
    (make_injected, {"a": 1, "token": "t"}),
    (make_artifact, {"a": 1}),
    (make_blocks, {"a": 1}),
    (make_object, {"a": 1}),
    (make_handled_error, {"a": 1}),
    (make_error_handler, {"a": 1}),
    (make_handled_validation, {"a": "no number"}),
]

NAMES = [make.__name__.removeprefix("make_") for make, _ in CASES]

CONFIG: RunnableConfig = {"configurable": {"user": "ada"}}


def pair(gate: GateClient, make: Callable[[], Made]) -> tuple[BaseTool, BaseTool]:
    """Return a raw tool and a governed twin."""
    made = make()
    raw = made if isinstance(made, BaseTool) else tool(made)
    [governed] = govern_tools(gate, [made])
    return raw, governed


@pytest.mark.parametrize(("make", "args"), CASES, ids=NAMES)
def test_a_models_call_gives_the_same_message(
    allowing: GateClient, make: Callable[[], Made], args: dict[str, Any]
) -> None:
    raw, governed = pair(allowing, make)
    call = tool_call(raw.name, args)
    expected, actual = raw.invoke(call, CONFIG), governed.invoke(call, CONFIG)
    assert isinstance(expected, ToolMessage)
    assert actual == expected
    assert type(actual) is type(expected)


@pytest.mark.parametrize(("make", "args"), CASES, ids=NAMES)
def test_a_models_call_gives_the_same_message_from_a_coroutine(
    allowing: GateClient, make: Callable[[], Made], args: dict[str, Any]
) -> None:
    raw, governed = pair(allowing, make)
    call = tool_call(raw.name, args)
    assert asyncio.run(governed.ainvoke(call, CONFIG)) == asyncio.run(raw.ainvoke(call, CONFIG))


@pytest.mark.parametrize(
    ("make", "args"),
    [case for case in CASES if case[0] is not make_call_id_reader],
    ids=[name for name in NAMES if name != "call_id_reader"],
)
def test_a_direct_call_gives_the_same_result(
    allowing: GateClient, make: Callable[[], Made], args: dict[str, Any]
) -> None:
    raw, governed = pair(allowing, make)
    assert governed.invoke(dict(args), CONFIG) == raw.invoke(dict(args), CONFIG)
    batched = [dict(args), dict(args)]
    assert governed.batch(batched, CONFIG) == raw.batch(batched, CONFIG)


def test_a_live_artifact_is_the_very_object(allowing: GateClient) -> None:
    _, governed = pair(allowing, make_artifact)
    message = governed.invoke(tool_call(governed.name, {"a": 1}))
    assert message.artifact["live"] is ARTIFACT


@pytest.mark.parametrize("text", ["hey", ""])
def test_a_text_as_input_reaches_a_tool_as_it_reaches_the_raw_one(
    allowing: GateClient, text: str
) -> None:
    for make in (make_single_input, make_subclass):
        raw, governed = pair(allowing, make)
        assert governed.invoke(text) == raw.invoke(text)


def test_what_a_body_raises_is_raised_as_it_is(allowing: GateClient) -> None:
    problem = KeyError("the very one")

    @tool
    def raising(a: int) -> str:
        """Raise."""
        raise problem

    [governed] = govern_tools(allowing, [raising])
    with pytest.raises(KeyError) as raised:
        governed.invoke({"a": 1})
    assert raised.value is problem


def test_a_tool_exception_nobody_handles_is_raised(allowing: GateClient) -> None:
    @tool
    def unhandled(a: int) -> str:
        """Raise."""
        raise ToolException("no")

    [governed] = govern_tools(allowing, [unhandled])
    with pytest.raises(ToolException, match="no"):
        governed.invoke({"a": 1})


def test_invalid_arguments_are_the_frameworks_business_and_never_proposed(gate: GateClient) -> None:
    class Counting(BaseCallbackHandler):
        errors = 0

        def on_tool_error(self, error: BaseException, **kwargs: Any) -> None:
            self.errors += 1

    @tool
    def pay_strictly(a: int) -> str:
        """Pay."""
        return str(a)

    [governed] = govern_tools(gate, [pay_strictly])
    counting = Counting()
    with pytest.raises(ValidationError):
        governed.invoke({"a": "x"}, {"callbacks": [counting]})
    assert counting.errors == 1
    assert gate.holds() == []


def test_callbacks_tags_and_metadata_are_seen_as_with_the_raw_tool(allowing: GateClient) -> None:
    class Recording(BaseCallbackHandler):
        def __init__(self) -> None:
            self.seen: list[Any] = []

        def on_tool_start(self, serialized: Any, input_str: str, **kwargs: Any) -> None:
            self.seen.append((serialized, input_str, kwargs["tags"], kwargs["metadata"]))

        def on_tool_end(self, output: Any, **kwargs: Any) -> None:
            self.seen.append(output)

    def observed(a: int) -> int:
        """Be observed."""
        return a

    seen = []
    raw = StructuredTool.from_function(observed, tags=["t"], metadata={"m": 1})
    for each in (raw, *govern_tools(allowing, [raw])):
        recording = Recording()
        each.invoke(tool_call("observed", {"a": 1}), {"callbacks": [recording], "tags": ["run"]})
        seen.append(recording.seen)
    assert seen[0] == seen[1]
    assert len(seen[0]) == 2


# --- in a graph: state, store, runtime, commands, streaming


class State(MessagesState):
    user: str
    seen: Annotated[list[str], operator.add]


@tool
def state_reader(
    a: int,
    user: Annotated[str, InjectedState("user")],
    state: Annotated[dict[str, Any], InjectedState],
    store: Annotated[BaseStore, InjectedStore()],
) -> str:
    """Read the graph."""
    item = store.get(("users",), user)
    assert item is not None
    return f"{a} {user} {sorted(state)} {item.value}"


@tool
def runtime_reader(a: int, runtime: ToolRuntime) -> str:
    """Read the runtime."""
    runtime.stream_writer({"from": "runtime"})
    return f"{a} {runtime.state['user']} {runtime.tool_call_id} {runtime.store is not None}"


@tool
def commander(a: int, call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
    """Command the graph."""
    message = ToolMessage(f"commanded {a}", tool_call_id=call_id)
    return Command(update={"messages": [message], "seen": [f"saw {a}"]})


@tool
def several(a: int, call_id: Annotated[str, InjectedToolCallId]) -> list[Any]:
    """Give a command and a message."""
    return [Command(update={"seen": ["both"]}), ToolMessage(str(a), tool_call_id=call_id)]


@tool
def streaming(a: int) -> str:
    """Write to the stream."""
    get_stream_writer()({"wrote": a})
    return str(get_config()["configurable"]["user"])


GRAPH_TOOLS = [state_reader, runtime_reader, commander, several, streaming]


def run_graph(tools: list[Any]) -> tuple[Any, list[Any]]:
    """Run each tool once in a graph; return the final state and what was streamed."""
    store = InMemoryStore()
    store.put(("users",), "ada", {"age": 36})
    builder = StateGraph(State)
    builder.add_node("tools", ToolNode(tools))
    builder.add_edge(START, "tools")
    builder.add_edge("tools", END)
    graph = builder.compile(store=store)
    made = calls(*(tool_call(each.name, {"a": 1}, f"c-{each.name}") for each in GRAPH_TOOLS))
    state = {"messages": [HumanMessage("go", id="h"), made], "user": "ada", "seen": []}
    streamed = []
    final: Any = None
    for mode, chunk in graph.stream(state, CONFIG, stream_mode=["custom", "values"]):
        if mode == "custom":
            streamed.append(chunk)
        else:
            final = chunk
    return final, streamed


def without_ids(state: dict[str, Any]) -> dict[str, Any]:
    """Return a state without the ids LangGraph makes up for its messages."""
    messages = [message.model_copy(update={"id": None}) for message in state["messages"]]
    return {**state, "messages": messages}


def test_state_store_runtime_commands_and_streams_work_in_a_tool_node(allowing: GateClient) -> None:
    expected, expected_stream = run_graph(GRAPH_TOOLS)
    actual, actual_stream = run_graph(govern_tools(allowing, GRAPH_TOOLS))
    assert without_ids(actual) == without_ids(expected)
    assert sorted(map(str, actual_stream)) == sorted(map(str, expected_stream))
    assert len(expected_stream) == 2
    assert not any(isinstance(m, ToolMessage) and m.status == "error" for m in actual["messages"])
    assert isinstance(actual["messages"][1], AIMessage)
