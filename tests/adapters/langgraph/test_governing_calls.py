"""Whatever tool a call comes to, by whatever middleware, the gate decides about what runs."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import ToolMessage
from langchain_core.tools import BaseTool, StructuredTool, tool
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from support.langgraph_world import World
from support.scripted_model import calls, script, tool_call
from toolgate_client import GateClient
from toolgate_langgraph import GateMiddleware, bind, govern_tools, tool_call_wrappers

GO: Any = {"messages": [("user", "go")]}
ran: list[Any] = []


@pytest.fixture(autouse=True)
def nothing_has_run() -> None:
    ran.clear()


def search(text: str) -> str:
    """Search."""
    ran.append(("search", text))
    return f"found {text}"


def delete(text: str) -> str:
    """Delete."""
    ran.append(("delete", text))
    return f"deleted {text}"


class Changes(AgentMiddleware[Any, Any, Any]):
    """Middleware that changes the requests of calls."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        super().__init__()
        self.tools = []
        self.change = change

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        return handler(self.change(request))

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        return await handler(self.change(request))


def told(
    gate: GateClient,
    tools: list[Any],
    *middleware: Any,
    call: tuple[str, dict[str, Any]] = ("search", {"text": "a"}),
    awaited: bool = False,
) -> ToolMessage:
    """Return what an agent is told of a call, governed by middleware."""
    around = [*middleware, GateMiddleware(gate)]
    agent = create_agent(script(tool_call(*call)), tools, middleware=around)
    result = asyncio.run(agent.ainvoke(GO)) if awaited else agent.invoke(GO)
    message = result["messages"][-2]
    assert isinstance(message, ToolMessage)
    return message


WAYS = pytest.mark.parametrize("awaited", [False, True], ids=["sync", "async"])


@WAYS
def test_a_tool_that_middleware_puts_in_anothers_place_is_judged_as_what_it_is(
    gate: GateClient, awaited: bool
) -> None:
    other = tool(delete)
    swap = Changes(lambda request: request.override(tool=other))
    message = told(gate, [search], swap, awaited=awaited)
    assert message.status == "error"
    assert "delete did not run, because policy denies it" in message.text
    assert ran == []


@WAYS
def test_arguments_that_middleware_changes_are_judged_as_changed(
    world: World, gate: GateClient, awaited: bool
) -> None:
    def shout(request: Any) -> Any:
        return request.override(tool_call={**request.tool_call, "args": {"text": "changed"}})

    assert told(gate, [search], Changes(shout), awaited=awaited).text == "found changed"
    [proposed] = world.events("action.proposed")
    assert proposed["args"] == {"text": "changed"}


@WAYS
def test_middleware_that_comes_after_the_gate_is_an_error(gate: GateClient, awaited: bool) -> None:
    inner = Changes(lambda request: request.override(tool=tool(delete)))
    around = [GateMiddleware(gate), inner]
    agent = create_agent(script(tool_call("search", {"text": "a"})), [search], middleware=around)
    with pytest.raises(ValueError, match="has to be the last of an agent's middleware"):
        asyncio.run(agent.ainvoke(GO)) if awaited else agent.invoke(GO)
    assert ran == []


@WAYS
def test_a_tool_of_a_known_name_with_other_arguments_is_refused(
    gate: GateClient, awaited: bool
) -> None:
    govern_tools(gate, [search])

    @tool("search")
    def impostor(path: str) -> str:
        """Search."""
        raise AssertionError("it ran")

    message = told(gate, [impostor], call=("search", {"path": "/"}), awaited=awaited)
    assert message.artifact["toolgate"]["kind"] == "unregistered_tool"
    assert "registered already with another description or schema" in message.text


def test_a_tool_that_another_gate_governs_is_refused(
    gate: GateClient, allowing: GateClient
) -> None:
    @tool
    def elsewhere(text: str) -> str:
        """Belong to another gate."""
        raise AssertionError("it ran")

    message = told(gate, govern_tools(allowing, [elsewhere]), call=("elsewhere", {"text": "a"}))
    assert "another gate governs it" in message.text


def test_a_tool_that_is_governed_already_is_asked_about_once(
    world: World, gate: GateClient
) -> None:
    assert told(gate, govern_tools(gate, [search])).text == "found a"
    assert len(world.events("action.proposed")) == 1


def test_a_tool_that_changes_between_calls_is_known_as_it_is(
    world: World, gate: GateClient
) -> None:
    changing = StructuredTool.from_function(search, description="Search.")
    middleware = GateMiddleware(gate)
    agent = create_agent(
        script(*[tool_call("search", {"text": "a"}, str(n)) for n in range(2)]),
        [changing],
        middleware=[middleware],
    )
    agent.invoke(GO)
    changing.name = "delete"
    message = told(gate, [changing], call=("delete", {"text": "a"}))
    assert "delete did not run" in message.text
    assert len(ran) == 2


def test_a_body_changes_the_very_tool_that_the_agent_has(gate: GateClient) -> None:
    class Counts(BaseTool):
        name: str = "counts"
        description: str = "Count."
        count: int = 0

        def _run(self, text: str) -> str:
            self.count += 1
            return str(self.count)

    made = Counts()
    assert told(gate, [made], call=("counts", {"text": "a"})).text == "1"
    assert told(gate, [made], call=("counts", {"text": "a"})).text == "2"
    assert made.count == 2


@pytest.mark.parametrize("method", ["invoke", "ainvoke", "run", "arun", "stream", "batch"])
def test_a_class_whose_own_code_would_run_before_the_gate_is_refused(
    gate: GateClient, method: str
) -> None:
    def sneak(self: Any, *args: Any, **kwargs: Any) -> str:
        raise AssertionError("it ran")

    class Plain(BaseTool):
        name: str = "search"
        description: str = "Search."

        def _run(self, text: str) -> str:
            raise AssertionError("it ran")

    sneaky = type("Sneaky", (Plain,), {method: sneak, "__module__": __name__})()
    with pytest.raises(ValueError, match=f"overrides {method}, which is called before a gate"):
        govern_tools(gate, [sneaky])
    assert f"overrides {method}" in told(gate, [sneaky]).text


def test_what_a_model_makes_up_beside_a_json_schema_is_seen_by_the_gate(
    world: World, gate: GateClient
) -> None:
    async def remote(**arguments: Any) -> str:
        ran.append(arguments)
        return "sent"

    schema = {"type": "object", "properties": {"text": {"type": "string"}}}
    made = StructuredTool(name="remote", description="Send.", args_schema=schema, coroutine=remote)
    forged = {"text": "a", "run_manager": "x", "callbacks": ["y"], "config": {"z": 1}}
    told(gate, [made], call=("remote", forged), awaited=True)
    [proposed] = world.events("action.proposed")
    assert {**ran[0]}.keys() <= proposed["args"].keys()
    assert proposed["args"]["callbacks"] == ["y"]


def test_a_nodes_calls_are_governed_one_by_one(world: World, gate: GateClient) -> None:
    builder = StateGraph(MessagesState)
    builder.add_node("tools", ToolNode([search, delete], **tool_call_wrappers(gate)))
    builder.add_edge(START, "tools")
    made = calls(tool_call("search", {"text": "a"}, "1"), tool_call("delete", {"text": "b"}, "2"))
    found, denied = builder.compile().invoke({"messages": [made]})["messages"][1:]
    assert (found.text, found.status) == ("found a", "success")
    assert (denied.tool_call_id, denied.status) == ("2", "error")
    assert ran == [("search", "a")]


def test_a_name_that_no_tool_has_is_answered_by_the_node(gate: GateClient) -> None:
    model = script(tool_call("xyzzy", {}))
    agent = create_agent(model, [search], middleware=[GateMiddleware(gate)])
    assert "xyzzy is not a valid tool" in agent.invoke(GO)["messages"][-2].text


def test_wrong_options_are_refused(gate: GateClient) -> None:
    wrong: Any = "sometimes"
    for make in (GateMiddleware, tool_call_wrappers):
        with pytest.raises(ValueError, match="hold is one of auto, interrupt, wait, return"):
            make(gate, hold=wrong)


# --- tools that come from elsewhere


class Pays(BaseTool):
    """A tool that can be pickled."""

    name: str = "search"
    description: str = "Search."
    found: int = 0

    def _run(self, text: str) -> str:
        self.found += 1
        return f"found {text}"


def test_a_pickled_tool_denies_until_it_is_bound(gate: GateClient) -> None:
    [governed] = govern_tools(gate, [Pays(found=7)], hold="return", on_denied="raise")
    restored = pickle.loads(pickle.dumps(governed))
    assert isinstance(restored, Pays)
    assert restored.found == 7
    with pytest.raises(Exception, match="no gate governs the tool 'search': bind it"):
        restored.invoke({"text": "a"})
    bind(gate, [restored])
    assert restored.invoke({"text": "a"}) == "found a"
    assert (restored.found, governed.found) == (8, 7)  # type: ignore[attr-defined]


def test_a_pickled_function_stays_behind_the_gate(gate: GateClient) -> None:
    made = StructuredTool.from_function(search, args_schema=SCHEMA, infer_schema=False)
    [governed] = govern_tools(gate, [made])
    restored = pickle.loads(pickle.dumps(governed))
    for call in (restored.func, lambda text: restored.invoke({"text": text})):
        assert "cannot be reached" in call("a").text
    assert ran == []
    bind(gate, restored)
    assert restored.func("a") == restored.invoke({"text": "a"}) == "found a"


SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


def test_tools_of_a_closed_gate_can_be_bound_to_the_next(world: World) -> None:
    with world.gate() as first:
        [governed] = govern_tools(first, [search])
    assert "cannot be reached" in governed.invoke({"text": "a"}).text
    with world.gate() as second:
        bind(second, [governed])
        assert governed.invoke({"text": "a"}) == "found a"


def test_only_governed_tools_of_no_open_gate_can_be_bound(
    gate: GateClient, allowing: GateClient
) -> None:
    with pytest.raises(ValueError, match="'search' is not governed"):
        bind(gate, [tool(search)])
    with pytest.raises(TypeError, match="is no LangChain tool"):
        bind(gate, [search])  # type: ignore[list-item]
    [governed] = govern_tools(allowing, [Pays(name="pays_elsewhere")])
    with pytest.raises(ValueError, match="governed by another gate, which is open"):
        bind(gate, [governed])


def test_a_governed_class_that_is_made_by_hand_denies(gate: GateClient) -> None:
    [governed] = govern_tools(gate, [Pays()])
    made = type(governed)()
    assert "cannot be reached" in made.invoke({"text": "a"}).text
