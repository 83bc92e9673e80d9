"""A body that pauses the graph is entered again, and what ends a hold's pause is no answer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.types import Command, interrupt

from support.langgraph_world import World
from support.scripted_model import script, tool_call
from toolgate_client import ActionDenied, GateClient
from toolgate_langgraph import agoverned_call, govern_tools, governed_call

CONFIG: Any = {"configurable": {"thread_id": "t"}}
GO: Any = {"messages": [HumanMessage("go")]}
BOUND = 20.0

WAKES: dict[str, Any] = {"a value": Command(resume="wake up"), "nothing": None}


@pytest.fixture(params=["memory", "sqlite"])
def saver(request: pytest.FixtureRequest, world: World) -> Iterator[BaseCheckpointSaver[Any]]:
    """Where checkpoints are kept."""
    if request.param == "memory":
        yield InMemorySaver()
    else:
        with world.saver() as saver:
            yield saver


def asks(result: dict[str, Any]) -> Any:
    """Return the value of the one interrupt a run ended with."""
    [asked] = result["__interrupt__"]
    return asked.value


def told(result: dict[str, Any]) -> list[str]:
    """Return the texts of a run's tool messages."""
    return [each.text for each in result["messages"] if isinstance(each, ToolMessage)]


def paying(answers: list[Any], questions: int = 1) -> Any:
    """Return a tool that is held, and asks questions of its own before it pays."""

    @tool
    def pay(to: str) -> str:
        """Pay somebody."""
        given = [interrupt(f"question {number}") for number in range(questions)]
        answers.append(given)
        return f"paid {to} after {given}"

    return pay


@pytest.mark.parametrize("wake", WAKES)
def test_what_was_approved_stays_approved_while_the_body_asks(
    world: World, gate: GateClient, saver: BaseCheckpointSaver[Any], wake: str
) -> None:
    answers: list[Any] = []
    model = script(tool_call("pay", {"to": "bob"}))
    graph = create_agent(model, govern_tools(gate, [paying(answers, 2)]), checkpointer=saver)
    held = asks(graph.invoke(GO, CONFIG))
    assert asks(graph.invoke(WAKES[wake], CONFIG))["uid"] == held["uid"]
    world.answer(held["uid"])
    for given in (WAKES[wake], None):  # what woke it does not come back as an answer later
        assert asks(graph.invoke(given, CONFIG)) == "question 0"
    assert asks(graph.invoke(Command(resume="yes"), CONFIG)) == "question 1"
    result = graph.invoke(Command(resume="sure"), CONFIG)
    assert told(result) == ["paid bob after ['yes', 'sure']"]
    assert answers == [["yes", "sure"]]
    assert len(gate.holds()) == 1
    assert len(world.events("action.proposed")) == 1
    assert len(world.events("action.suspended")) == 3


def test_a_coroutine_body_asks_alike(world: World, gate: GateClient, tmp_path: Path) -> None:
    answers = []

    @tool
    async def pay(to: str) -> str:
        """Pay somebody."""
        answers.append(interrupt("which account?"))
        return f"paid {to} from {answers[-1]}"

    async def main() -> None:
        async with AsyncSqliteSaver.from_conn_string(str(tmp_path / "threads.db")) as saver:
            model = script(tool_call("pay", {"to": "bob"}))
            graph = create_agent(model, govern_tools(gate, [pay]), checkpointer=saver)
            held = asks(await graph.ainvoke(GO, CONFIG))
            assert asks(await graph.ainvoke(Command(resume="wake"), CONFIG))["uid"] == held["uid"]
            world.answer(held["uid"])
            assert asks(await graph.ainvoke(Command(resume="wake"), CONFIG)) == "which account?"
            assert asks(await graph.ainvoke(None, CONFIG)) == "which account?"
            result = await graph.ainvoke(Command(resume="savings"), CONFIG)
            assert told(result) == ["paid bob from savings"]

    asyncio.run(asyncio.wait_for(main(), BOUND))
    assert answers == ["savings"]


@pytest.mark.parametrize("wake", WAKES)
@pytest.mark.parametrize("verdict", ["approve", "deny"])
def test_what_ends_a_holds_pause_does_not_answer_the_nodes_next_question(
    world: World, gate: GateClient, saver: BaseCheckpointSaver[Any], wake: str, verdict: Any
) -> None:
    gate.register_tool("pay", lambda args: "paid")
    ends = []

    def node(state: MessagesState) -> dict[str, Any]:
        first = interrupt("before?")
        try:
            receipt = governed_call(gate, "pay", {"to": "bob"})
        except ActionDenied as error:
            receipt = error.kind
        ends.append((first, receipt, interrupt("delete everything?")))
        return {}

    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    graph = builder.compile(checkpointer=saver)
    assert asks(graph.invoke(GO, CONFIG)) == "before?"
    held = asks(graph.invoke(Command(resume="first"), CONFIG))
    assert held["name"] == "pay"
    world.answer(held["uid"], verdict)
    assert asks(graph.invoke(WAKES[wake], CONFIG)) == "delete everything?"
    assert asks(graph.invoke(None, CONFIG)) == "delete everything?"
    graph.invoke(Command(resume="no"), CONFIG)
    receipt = "paid" if verdict == "approve" else "approval_denied"
    assert ends == [("first", receipt, "no")]


def test_so_it_is_in_a_node_that_is_a_coroutine(world: World, gate: GateClient) -> None:
    gate.register_tool("pay", lambda args: "paid")
    ends = []

    async def node(state: MessagesState) -> dict[str, Any]:
        receipt = await agoverned_call(gate, "pay", {"to": "bob"})
        ends.append((receipt, interrupt("delete everything?")))
        return {}

    async def main() -> None:
        builder = StateGraph(MessagesState)
        builder.add_node("node", node)
        builder.add_edge(START, "node")
        graph = builder.compile(checkpointer=InMemorySaver())
        held = asks(await graph.ainvoke(GO, CONFIG))
        world.answer(held["uid"])
        for given in (Command(resume=True), None):
            assert asks(await graph.ainvoke(given, CONFIG)) == "delete everything?"
        await graph.ainvoke(Command(resume="no"), CONFIG)

    asyncio.run(asyncio.wait_for(main(), BOUND))
    assert ends == [("paid", "no")]


def agent_as_a_tool(gate: GateClient, answers: list[Any], ran: list[str]) -> Any:
    """Return a tool that has an agent pay, and then asks a question of its own."""

    @tool
    def pay(to: str) -> str:
        """Pay somebody."""
        ran.append(to)
        return f"paid {to}"

    inner_model = script(tool_call("pay", {"to": "bob"}, "inner"), answer="the sub-agent is done")
    inner = create_agent(inner_model, govern_tools(gate, [pay]))

    @tool
    def pay_by_agent(what: str) -> str:
        """Ask another agent."""
        said = inner.invoke({"messages": [("user", what)]})["messages"][-1].text
        answers.append(interrupt("was it good?"))
        return f"{said}, and it was {answers[-1]}"

    return pay_by_agent


@pytest.mark.parametrize("verdict", ["approve", "deny"])
def test_an_agent_as_a_held_tool_with_a_held_tool_inside(
    world: World, gate: GateClient, saver: BaseCheckpointSaver[Any], verdict: Any
) -> None:
    answers: list[Any] = []
    ran: list[str] = []
    delegate = agent_as_a_tool(gate, answers, ran)
    model = script(tool_call("pay_by_agent", {"what": "pay bob"}, "outer"))
    graph = create_agent(model, govern_tools(gate, [delegate]), checkpointer=saver)
    outer = asks(graph.invoke(GO, CONFIG))
    assert outer["name"] == "pay_by_agent"
    world.answer(outer["uid"])
    inner = asks(graph.invoke(Command(resume=True), CONFIG))
    assert (inner["name"], inner["tool_call_id"]) == ("pay", "inner")
    assert asks(graph.invoke(Command(resume=True), CONFIG))["uid"] == inner["uid"]
    world.answer(inner["uid"], verdict)
    for given in (Command(resume=True), None):
        assert asks(graph.invoke(given, CONFIG)) == "was it good?"
    result = graph.invoke(Command(resume="fine"), CONFIG)
    assert told(result) == ["the sub-agent is done, and it was fine"]
    assert ran == (["bob"] if verdict == "approve" else [])
    assert answers == ["fine"]
    assert len(gate.holds()) == 2


def test_a_body_that_asks_and_fails_is_asked_about_again(world: World, gate: GateClient) -> None:
    tries = []

    @tool
    def pay(to: str) -> str:
        """Fail once."""
        tries.append(interrupt("sure?"))
        if len(tries) == 1:
            raise ValueError("the first time")
        return "paid"

    model = script(tool_call("pay", {"to": "bob"}))
    graph = create_agent(model, govern_tools(gate, [pay]), checkpointer=InMemorySaver())
    first = asks(graph.invoke(GO, CONFIG))
    world.answer(first["uid"])
    assert asks(graph.invoke(Command(resume=True), CONFIG)) == "sure?"
    with pytest.raises(ValueError, match="the first time"):
        graph.invoke(Command(resume="yes"), CONFIG)
    second = asks(graph.invoke(None, CONFIG))
    assert second["uid"] != first["uid"]


def test_a_graph_that_stops_asking_leaves_a_call_that_can_be_withdrawn(
    world: World, gate: GateClient
) -> None:
    answers: list[Any] = []
    model = script(tool_call("pay", {"to": "bob"}))
    graph = create_agent(model, govern_tools(gate, [paying(answers)]), checkpointer=InMemorySaver())
    held = asks(graph.invoke(GO, CONFIG))
    world.answer(held["uid"])
    assert asks(graph.invoke(Command(resume=True), CONFIG)) == "question 0"
    assert gate.withdraw(held["uid"]).status == "skipped"
    assert "[cancelled]" in told(graph.invoke(Command(resume="yes"), CONFIG))[0]
    assert answers == []
