"""A held call in a graph with a checkpointer pauses it, and runs once, when it is approved."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, ToolMessage
from langchain_core.tools import InjectedToolCallId, tool
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from langgraph.types import Command, Interrupt, RetryPolicy, interrupt

from support.langgraph_world import World
from support.scripted_model import ScriptedModel, calls, script, tool_call
from toolgate_client import GateClient
from toolgate_langgraph import govern_tools

CONFIG: Any = {"configurable": {"thread_id": "thread-1"}}
GO: Any = {"messages": [HumanMessage("go")]}

Paid = list[tuple[str, int]]

BOUND = 20.0


@pytest.fixture
def paid() -> Paid:
    """What was paid."""
    return []


@pytest.fixture
def pay(paid: Paid) -> Any:
    """The tool that pays."""

    @tool
    def pay(to: str, amount: int = 10) -> str:
        """Pay somebody."""
        paid.append((to, amount))
        return f"paid {amount} to {to}"

    return pay


def with_agent(model: ScriptedModel, tools: list[Any], saver: BaseCheckpointSaver[Any]) -> Any:
    """Make an agent: LangChain gives each tool call a task of its own."""
    return create_agent(model, tools, checkpointer=saver)


def with_tool_node(model: ScriptedModel, tools: list[Any], saver: BaseCheckpointSaver[Any]) -> Any:
    """Make a graph of two nodes: all tool calls of a message run in one task."""

    def think(state: MessagesState) -> dict[str, list[AnyMessage]]:
        return {"messages": [model.invoke(state["messages"])]}

    builder = StateGraph(MessagesState)
    builder.add_node("model", think)
    builder.add_node("tools", ToolNode(tools))
    builder.add_edge(START, "model")
    builder.add_conditional_edges("model", tools_condition)
    builder.add_edge("tools", "model")
    return builder.compile(checkpointer=saver)


def with_subgraph(model: ScriptedModel, tools: list[Any], saver: BaseCheckpointSaver[Any]) -> Any:
    """Make a graph whose only node is an agent: the checkpointer is the parent's."""
    builder = StateGraph(MessagesState)
    builder.add_node("agent", create_agent(model, tools))
    builder.add_edge(START, "agent")
    builder.add_edge("agent", END)
    return builder.compile(checkpointer=saver)


GRAPHS = [with_agent, with_tool_node, with_subgraph]
Make = Callable[[ScriptedModel, list[Any], BaseCheckpointSaver[Any]], Any]


def shown(result: dict[str, Any]) -> list[Interrupt]:
    """Return the interrupts a run ended with."""
    return list(result.get("__interrupt__", []))


def tool_messages(result: dict[str, Any]) -> list[ToolMessage]:
    """Return the tool messages of a run."""
    return [message for message in result["messages"] if isinstance(message, ToolMessage)]


@pytest.mark.parametrize("make", GRAPHS)
def test_a_held_call_shows_langchains_approval_request(
    gate: GateClient, pay: Any, paid: Paid, make: Make
) -> None:
    call = tool_call("pay", {"to": "bob"}, "c-1")
    graph = make(script(call), govern_tools(gate, [pay]), InMemorySaver())
    [asked] = shown(graph.invoke(GO, CONFIG))
    assert paid == []
    value = asked.value
    assert json.loads(json.dumps(value)) == value
    assert value["type"] == "tool_approval"
    assert (value["name"], value["tool_call_id"]) == ("pay", "c-1")
    assert value["args"] == {"to": "bob", "amount": 10}
    assert "alice reads it first" in value["description"]
    [hold] = gate.holds("pending")
    assert value["uid"] == hold.uid
    assert value["hold"]["hold_id"] == hold.hold_id
    assert value["hold"]["approvers"] == ["alice"]
    assert value["hold"]["quorum"] == 1
    assert value["hold"]["missing"] == [{"approvers": ["alice"], "quorum": 1, "rules": ["ask"]}]
    assert value["hold"]["deadline"] == hold.deadline


@pytest.mark.parametrize("make", GRAPHS)
def test_an_approved_call_runs_once_when_the_graph_is_resumed(
    world: World, gate: GateClient, pay: Any, paid: Paid, make: Make
) -> None:
    model = script(tool_call("pay", {"to": "bob"}), answer="paid!")
    graph = make(model, govern_tools(gate, [pay]), InMemorySaver())
    [asked] = shown(graph.invoke(GO, CONFIG))
    world.answer(asked.value["uid"])
    assert paid == []
    result = graph.invoke(Command(resume="whatever"), CONFIG)
    assert paid == [("bob", 10)]
    assert [message.content for message in tool_messages(result)] == ["paid 10 to bob"]
    assert result["messages"][-1].content == "paid!"


RESUMES: dict[str, Callable[[Interrupt], Any]] = {
    "yes": lambda asked: Command(resume=True),
    "a decision": lambda asked: Command(resume={"type": "approve"}),
    "by id": lambda asked: Command(resume={asked.id: {"type": "approve"}}),
    "nothing": lambda asked: None,
}


@pytest.mark.parametrize("resume", RESUMES)
@pytest.mark.parametrize("make", GRAPHS)
def test_resuming_is_no_approval_however_often(
    gate: GateClient, pay: Any, paid: Paid, make: Make, resume: str
) -> None:
    call = tool_call("pay", {"to": "bob"})
    graph = make(script(call), govern_tools(gate, [pay]), InMemorySaver())
    [first] = asked = shown(graph.invoke(GO, CONFIG))
    for _ in range(3):
        asked = shown(graph.invoke(RESUMES[resume](asked[0]), CONFIG))
        assert [(each.id, each.value) for each in asked] == [(first.id, first.value)]
    assert paid == []
    assert len(gate.holds()) == 1


@pytest.mark.parametrize("resume", RESUMES)
def test_after_resumes_without_approval_an_approval_still_counts(
    world: World, gate: GateClient, pay: Any, paid: Paid, resume: str
) -> None:
    call = tool_call("pay", {"to": "bob"})
    graph = with_agent(script(call), govern_tools(gate, [pay]), InMemorySaver())
    [asked] = shown(graph.invoke(GO, CONFIG))
    for _ in range(2):
        graph.invoke(RESUMES[resume](asked), CONFIG)
    world.answer(asked.value["uid"])
    result = graph.invoke(RESUMES[resume](asked), CONFIG)
    assert paid == [("bob", 10)]
    assert result["messages"][-1].content == "done"


@pytest.mark.parametrize("make", GRAPHS)
def test_a_denied_hold_tells_the_model_who_said_what(
    world: World, gate: GateClient, pay: Any, paid: Paid, make: Make
) -> None:
    model = script(tool_call("pay", {"to": "bob"}), answer="not paid")
    graph = make(model, govern_tools(gate, [pay]), InMemorySaver())
    [asked] = shown(graph.invoke(GO, CONFIG))
    world.answer(asked.value["uid"], "deny", "bob is not a supplier")
    result = graph.invoke(Command(resume={"type": "approve"}), CONFIG)
    [message] = tool_messages(result)
    assert message.status == "error"
    assert message.artifact["toolgate"]["kind"] == "approval_denied"
    assert "bob is not a supplier" in message.text
    assert result["messages"][-1].content == "not paid"
    assert paid == []


def test_two_holds_of_one_message_are_shown_and_run_on_their_own(
    world: World, gate: GateClient, pay: Any, paid: Paid
) -> None:
    made = calls(tool_call("pay", {"to": "bob"}, "1"), tool_call("pay", {"to": "eve"}, "2"))
    model = ScriptedModel(script=[made, AIMessage("done")])
    graph = with_agent(model, govern_tools(gate, [pay]), InMemorySaver())
    asked = shown(graph.invoke(GO, CONFIG))
    bob, eve = sorted(asked, key=lambda interrupt: str(interrupt.value["args"]["to"]))
    assert (bob.value["args"]["to"], eve.value["args"]["to"]) == ("bob", "eve")
    world.answer(eve.value["uid"])
    [left] = shown(graph.invoke(Command(resume={bob.id: True, eve.id: True}), CONFIG))
    assert left.id == bob.id
    assert paid == [("eve", 10)]
    world.answer(bob.value["uid"])
    result = graph.invoke(Command(resume=True), CONFIG)
    assert paid == [("eve", 10), ("bob", 10)]
    texts = [message.content for message in tool_messages(result)]
    assert texts == ["paid 10 to bob", "paid 10 to eve"]


def test_two_holds_in_one_task_run_once_each_though_the_task_runs_again(
    world: World, gate: GateClient, pay: Any, paid: Paid
) -> None:
    made = calls(tool_call("pay", {"to": "bob"}, "1"), tool_call("pay", {"to": "eve"}, "2"))
    model = ScriptedModel(script=[made, AIMessage("done")])
    graph = with_tool_node(model, govern_tools(gate, [pay]), InMemorySaver())
    result = graph.invoke(GO, CONFIG)
    # LangGraph shows the first interrupt of a task, and may not even start the call after it.
    for _ in range(2):
        [asked] = shown(result)
        world.answer(asked.value["uid"])
        result = graph.invoke(Command(resume=True), CONFIG)
    assert sorted(paid) == [("bob", 10), ("eve", 10)]
    texts = [message.content for message in tool_messages(result)]
    assert texts == ["paid 10 to bob", "paid 10 to eve"]


def test_the_same_call_in_a_later_turn_is_asked_about_anew(
    world: World, gate: GateClient, pay: Any, paid: Paid
) -> None:
    model = script(tool_call("pay", {"to": "bob"}, "1"), tool_call("pay", {"to": "bob"}, "2"))
    graph = with_agent(model, govern_tools(gate, [pay]), InMemorySaver())
    [first] = shown(graph.invoke(GO, CONFIG))
    world.answer(first.value["uid"])
    [second] = shown(graph.invoke(Command(resume=True), CONFIG))
    assert paid == [("bob", 10)]
    assert second.value["uid"] != first.value["uid"]
    assert second.id != first.id


def test_the_same_call_in_another_thread_is_another_call(
    world: World, gate: GateClient, pay: Any, paid: Paid
) -> None:
    call = tool_call("pay", {"to": "bob"})
    graph = with_agent(script(call), govern_tools(gate, [pay]), InMemorySaver())
    other: Any = {"configurable": {"thread_id": "thread-2"}}
    [one] = shown(graph.invoke(GO, CONFIG))
    [two] = shown(graph.invoke(GO, other))
    assert one.value["uid"] != two.value["uid"]
    world.answer(one.value["uid"])
    assert shown(graph.invoke(Command(resume=True), other)) != []
    assert paid == []


def test_resuming_a_finished_graph_runs_nothing_again(
    world: World, gate: GateClient, pay: Any, paid: Paid
) -> None:
    call = tool_call("pay", {"to": "bob"})
    graph = with_agent(script(call), govern_tools(gate, [pay]), InMemorySaver())
    [asked] = shown(graph.invoke(GO, CONFIG))
    world.answer(asked.value["uid"])
    graph.invoke(Command(resume=True), CONFIG)
    graph.invoke(Command(resume=True), CONFIG)
    assert paid == [("bob", 10)]


def test_a_coroutine_run_pauses_and_resumes_alike(
    world: World, gate: GateClient, paid: Paid
) -> None:
    @tool
    async def pay(to: str) -> str:
        """Pay somebody."""
        paid.append((to, 0))
        return f"paid {to}"

    call = tool_call("pay", {"to": "bob"})
    graph = with_agent(script(call), govern_tools(gate, [pay]), InMemorySaver())
    [asked] = shown(asyncio.run(graph.ainvoke(GO, CONFIG)))
    assert [each.id for each in shown(asyncio.run(graph.ainvoke(None, CONFIG)))] == [asked.id]
    world.answer(asked.value["uid"])
    result = asyncio.run(graph.ainvoke(Command(resume=True), CONFIG))
    assert paid == [("bob", 0)]
    assert result["messages"][-1].content == "done"


def test_a_result_is_the_same_when_its_task_runs_again(
    world: World, gate: GateClient, pay: Any
) -> None:
    ran = []

    @tool
    def note(text: str, call_id: Annotated[str, InjectedToolCallId]) -> Command[Any]:
        """Note."""
        ran.append(text)
        message = ToolMessage(f"noted {text}", tool_call_id=call_id, artifact={"n": 1}, name="note")
        return Command(update={"messages": [message]})

    @tool(response_format="content_and_artifact")
    def look(text: str) -> tuple[str, dict[str, int]]:
        """Look."""
        ran.append(text)
        return f"saw {text}", {"n": 2}

    made = calls(
        tool_call("note", {"text": "a"}, "1"),
        tool_call("look", {"text": "b"}, "2"),
        tool_call("pay", {"to": "bob"}, "3"),
    )
    model = ScriptedModel(script=[made, AIMessage("done")])
    graph = with_tool_node(model, govern_tools(gate, [note, look, pay]), InMemorySaver())
    [asked] = shown(graph.invoke(GO, CONFIG))
    world.answer(asked.value["uid"])
    result = graph.invoke(Command(resume=True), CONFIG)
    assert sorted(ran) == ["a", "b"]
    noted, looked, paid_message = sorted(tool_messages(result), key=lambda m: m.tool_call_id)
    assert (noted.content, noted.artifact) == ("noted a", {"n": 1})
    assert (looked.content, looked.artifact) == ("saw b", {"n": 2})
    assert paid_message.content == "paid 10 to bob"


def test_a_call_that_succeeded_is_not_repeated_when_its_node_is_retried(
    gate: GateClient,
) -> None:
    sent, tries = [], []

    @tool
    def send(text: str) -> str:
        """Send."""
        sent.append(text)
        return "sent"

    @tool
    def flaky(text: str) -> str:
        """Fail twice."""
        tries.append(text)
        if len(tries) < 3:
            raise ConnectionError("no network")
        return "worked"

    made = calls(tool_call("send", {"text": "a"}, "1"), tool_call("flaky", {"text": "b"}, "2"))
    builder = StateGraph(MessagesState)
    policy = RetryPolicy(initial_interval=0.001, jitter=False)
    builder.add_node("tools", ToolNode(govern_tools(gate, [send, flaky])), retry_policy=policy)
    builder.add_edge(START, "tools")
    graph = builder.compile(checkpointer=InMemorySaver())
    result = graph.invoke({"messages": [made]}, CONFIG)
    assert [message.content for message in tool_messages(result)] == ["sent", "worked"]
    assert sent == ["a"]
    assert tries == ["b", "b", "b"]


def test_a_failed_body_runs_again_when_the_graph_is_run_again(gate: GateClient) -> None:
    tries = []

    @tool
    def flaky(text: str) -> str:
        """Fail once."""
        tries.append(text)
        if len(tries) == 1:
            raise ValueError("the first time")
        return "worked"

    call = tool_call("flaky", {"text": "b"})
    graph = with_agent(script(call), govern_tools(gate, [flaky]), InMemorySaver())
    with pytest.raises(ValueError, match="the first time"):
        graph.invoke(GO, CONFIG)
    result = graph.invoke(None, CONFIG)
    assert [message.content for message in tool_messages(result)] == ["worked"]
    assert len(tries) == 2


def test_an_approval_is_for_one_run_a_failed_body_is_asked_about_again(
    world: World, gate: GateClient
) -> None:
    tries = []

    @tool
    def pay(to: str) -> str:
        """Fail once."""
        tries.append(to)
        if len(tries) == 1:
            raise ValueError("the first time")
        return "worked"

    call = tool_call("pay", {"to": "bob"})
    graph = with_agent(script(call), govern_tools(gate, [pay]), InMemorySaver())
    [first] = shown(graph.invoke(GO, CONFIG))
    world.answer(first.value["uid"])
    with pytest.raises(ValueError, match="the first time"):
        graph.invoke(Command(resume=True), CONFIG)
    [second] = shown(graph.invoke(None, CONFIG))
    assert second.value["uid"] != first.value["uid"]
    assert tries == ["bob"]
    world.answer(second.value["uid"])
    result = graph.invoke(Command(resume=True), CONFIG)
    assert [message.content for message in tool_messages(result)] == ["worked"]


def test_a_node_that_makes_the_same_call_twice_makes_two_and_replays_both(
    world: World, gate: GateClient, pay: Any, paid: Paid
) -> None:
    @tool
    def count(by: int) -> int:
        """Count."""
        counted.append(by)
        return len(counted)

    counted: list[int] = []
    counting, paying = govern_tools(gate, [count, pay])
    results = []

    def node(state: MessagesState) -> dict[str, Any]:
        made = [counting.invoke({"by": 1}), counting.invoke({"by": 1})]
        results.append(made)
        paying.invoke({"to": "bob"})
        return {"messages": [AIMessage("done")]}

    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    graph = builder.compile(checkpointer=InMemorySaver())
    [asked] = shown(graph.invoke(GO, CONFIG))
    world.answer(asked.value["uid"])
    graph.invoke(Command(resume=True), CONFIG)
    assert results == [[1, 2], [1, 2]]
    assert counted == [1, 1]
    assert paid == [("bob", 10)]


def test_calls_are_known_again_in_whatever_order_a_node_makes_them(
    world: World, gate: GateClient, pay: Any
) -> None:
    @tool
    def echo(text: str) -> str:
        """Count."""
        echoed.append(text)
        return f"{text} was number {len(echoed)}"

    echoed: list[str] = []
    echoing, paying = govern_tools(gate, [echo, pay])
    results: list[dict[str, str]] = []

    def node(state: MessagesState) -> dict[str, Any]:
        order = ["b", "a"] if results else ["a", "b"]
        results.append({text: echoing.invoke({"text": text}) for text in order})
        paying.invoke({"to": "bob"})
        return {"messages": [AIMessage("done")]}

    builder = StateGraph(MessagesState)
    builder.add_node("node", node)
    builder.add_edge(START, "node")
    graph = builder.compile(checkpointer=InMemorySaver())
    graph.invoke(GO, CONFIG)
    graph.invoke(Command(resume=True), CONFIG)
    assert results[0] == results[1] == {"a": "a was number 1", "b": "b was number 2"}
    assert echoed == ["a", "b"]


def test_a_withdrawn_call_is_not_asked_about_again(gate: GateClient, pay: Any, paid: Paid) -> None:
    call = tool_call("pay", {"to": "bob"})
    graph = with_agent(script(call), govern_tools(gate, [pay]), InMemorySaver())
    [asked] = shown(graph.invoke(GO, CONFIG))
    gate.withdraw(asked.value["uid"])
    [message] = tool_messages(graph.invoke(Command(resume=True), CONFIG))
    assert message.artifact["toolgate"]["kind"] == "cancelled"
    assert paid == []


def test_going_back_in_time_is_another_call(
    world: World, gate: GateClient, pay: Any, paid: Paid
) -> None:
    call = tool_call("pay", {"to": "bob"})
    graph = with_agent(script(call), govern_tools(gate, [pay]), InMemorySaver())
    [first] = shown(graph.invoke(GO, CONFIG))
    world.answer(first.value["uid"])
    graph.invoke(Command(resume=True), CONFIG)
    [before] = [state for state in graph.get_state_history(CONFIG) if state.next == ("tools",)]
    [again] = shown(graph.invoke(None, before.config))
    assert again.value["uid"] != first.value["uid"]
    assert paid == [("bob", 10)]


def test_streams_and_snapshots_show_the_pause(gate: GateClient, pay: Any) -> None:
    call = tool_call("pay", {"to": "bob"})
    graph = with_agent(script(call), govern_tools(gate, [pay]), InMemorySaver())
    *_, last = graph.stream(GO, CONFIG, stream_mode="updates")
    [asked] = last["__interrupt__"]
    snapshot = graph.get_state(CONFIG)
    assert snapshot.next == ("tools",)
    assert [interrupt.id for interrupt in snapshot.interrupts] == [asked.id]


@pytest.mark.parametrize("durability", ["exit", "async", "sync"])
def test_a_pause_is_kept_however_checkpoints_are_written(
    world: World, gate: GateClient, pay: Any, paid: Paid, durability: Any
) -> None:
    call = tool_call("pay", {"to": "bob"})
    with world.saver() as saver:
        graph = with_agent(script(call), govern_tools(gate, [pay]), saver)
        [asked] = shown(graph.invoke(GO, CONFIG, durability=durability))
        graph.invoke(Command(resume=True), CONFIG, durability=durability)
        world.answer(asked.value["uid"])
        graph.invoke(Command(resume=True), CONFIG, durability=durability)
    assert paid == [("bob", 10)]


def test_a_call_that_another_process_is_running_is_not_run_here(
    world: World, gate: GateClient, paid: Paid
) -> None:
    started, finish = threading.Event(), threading.Event()

    @tool
    def pay(to: str) -> str:
        """Pay, slowly."""
        paid.append((to, 0))
        started.set()
        assert finish.wait(BOUND)
        return "paid"

    saver = InMemorySaver()
    model = script(tool_call("pay", {"to": "bob"}))
    with world.gate() as other, ThreadPoolExecutor() as pool:
        here = with_agent(model, govern_tools(gate, [pay]), saver)
        there = with_agent(model, govern_tools(other, [pay]), saver)
        [asked] = shown(here.invoke(GO, CONFIG))
        world.answer(asked.value["uid"])
        running = pool.submit(here.invoke, Command(resume=True), CONFIG)
        assert started.wait(BOUND)
        [busy] = shown(there.invoke(None, CONFIG))
        assert busy.value["uid"] == asked.value["uid"]
        assert busy.value["hold"] is None
        assert "by another process" in busy.value["description"]
        finish.set()
        assert running.result(BOUND)["messages"][-1].content == "done"
    assert paid == [("bob", 0)]


def test_a_sub_agents_hold_comes_back_to_the_call_that_opened_it(
    world: World, gate: GateClient, pay: Any, paid: Paid
) -> None:
    inner_model = script(tool_call("pay", {"to": "bob"}, "inner"), answer="the sub-agent paid")
    inner = create_agent(inner_model, govern_tools(gate, [pay]))

    @tool
    def delegate(what: str) -> str:
        """Ask another agent."""
        return str(inner.invoke({"messages": [("user", what)]})["messages"][-1].text)

    model = script(tool_call("delegate", {"what": "pay bob"}, "outer"))
    graph = with_agent(model, govern_tools(gate, [delegate]), InMemorySaver())
    [asked] = shown(graph.invoke(GO, CONFIG))
    assert (asked.value["name"], asked.value["tool_call_id"]) == ("pay", "inner")
    [again] = shown(graph.invoke(Command(resume=True), CONFIG))
    assert again.id == asked.id
    world.answer(asked.value["uid"])
    result = graph.invoke(Command(resume=True), CONFIG)
    assert [message.content for message in tool_messages(result)] == ["the sub-agent paid"]
    assert paid == [("bob", 10)]


# --- tools that interrupt by themselves


@pytest.fixture
def confirm() -> Iterator[tuple[Any, list[Any]]]:
    """A tool that asks a question of its own, and the answers it got."""
    answers: list[Any] = []

    @tool
    def pay_after_asking(to: str) -> str:
        """Ask, then pay."""
        answers.append(interrupt({"question": f"pay {to}?"}))
        return f"answered {answers[-1]}"

    return pay_after_asking, answers


def test_a_tool_that_asks_by_itself_gets_its_answer(gate: GateClient) -> None:
    answers = []

    @tool
    def ask(what: str) -> str:
        """Ask."""
        answers.append(interrupt({"question": what}))
        return f"answered {answers[-1]}"

    call = tool_call("ask", {"what": "sure?"})
    graph = with_agent(script(call), govern_tools(gate, [ask]), InMemorySaver())
    [asked] = shown(graph.invoke(GO, CONFIG))
    assert asked.value == {"question": "sure?"}
    result = graph.invoke(Command(resume="yes"), CONFIG)
    assert [message.content for message in tool_messages(result)] == ["answered yes"]
    assert answers == ["yes"]


@pytest.mark.parametrize("resume", RESUMES)
def test_what_wakes_a_held_call_is_never_the_answer_to_its_bodys_own_question(
    world: World, gate: GateClient, confirm: tuple[Any, list[Any]], resume: str
) -> None:
    asking, answers = confirm
    call = tool_call("pay_after_asking", {"to": "bob"})
    graph = with_agent(script(call), govern_tools(gate, [asking]), InMemorySaver())
    [held] = shown(graph.invoke(GO, CONFIG))
    assert held.value["type"] == "tool_approval"
    graph.invoke(RESUMES[resume](held), CONFIG)
    world.answer(held.value["uid"])
    [asked] = shown(graph.invoke(RESUMES[resume](held), CONFIG))
    assert asked.value == {"question": "pay bob?"}
    assert answers == []
