"""`governed_call` makes one governed call from a node's own code."""

from __future__ import annotations

from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from typing_extensions import TypedDict

from support.langgraph_world import World
from toolgate_client import ActionDenied, ActionHeld, GateClient, GateClosed
from toolgate_langgraph import governed_call

CONFIG: Any = {"configurable": {"thread_id": "t"}}


class State(TypedDict, total=False):
    to: str
    receipt: str


def pay(args: dict[str, Any]) -> str:
    """Pay."""
    PAID.append(args["to"])
    return f"paid {args['to']}"


PAID: list[str] = []


@pytest.fixture(autouse=True)
def tools(gate: GateClient) -> None:
    """The gate knows two tools."""
    PAID.clear()
    gate.register_tool("pay", pay)
    gate.register_tool("look", lambda args: {"saw": args["at"]})


def test_it_returns_what_the_body_returns(gate: GateClient) -> None:
    assert governed_call(gate, "look", {"at": 1}) == {"saw": 1}
    live = object()
    assert governed_call(gate, "look", {"at": 1}, body=lambda args: live) is live


def test_it_raises_what_the_body_raises(gate: GateClient) -> None:
    problem = KeyError("the very one")

    def body(args: dict[str, Any]) -> None:
        raise problem

    with pytest.raises(KeyError) as raised:
        governed_call(gate, "look", {"at": 1}, body=body)
    assert raised.value is problem


def test_a_denial_is_raised(gate: GateClient) -> None:
    with pytest.raises(ActionDenied) as raised:
        governed_call(gate, "delete", {"at": 1})
    assert raised.value.kind == "unregistered_tool"


def test_a_dead_gate_is_raised(gate: GateClient) -> None:
    gate.close()
    with pytest.raises(GateClosed):
        governed_call(gate, "look", {"at": 1})


def test_a_hold_that_is_not_waited_for_is_raised(gate: GateClient) -> None:
    with pytest.raises(ActionHeld) as raised:
        governed_call(gate, "pay", {"to": "bob"}, hold="return")
    assert gate.withdraw(raised.value.uid).status == "skipped"
    with pytest.raises(ActionDenied) as late:
        governed_call(gate, "pay", {"to": "eve"}, hold_timeout=0.01)
    assert late.value.kind == "approval_timeout"
    assert PAID == []


def test_arguments_that_are_not_json_are_an_error(gate: GateClient) -> None:
    with pytest.raises(TypeError, match="JSON"):
        governed_call(gate, "look", {"at": object()})


def test_a_wrong_option_is_an_error(gate: GateClient) -> None:
    wrong: Any = "never"
    with pytest.raises(ValueError, match="hold is one of"):
        governed_call(gate, "look", {"at": 1}, hold=wrong)


def test_a_node_pauses_on_a_hold_and_goes_on_once(world: World, gate: GateClient) -> None:
    def node(state: State) -> State:
        before = governed_call(gate, "look", {"at": 1})
        receipt = governed_call(gate, "pay", {"to": state["to"]})
        return {"receipt": f"{before} {receipt}"}

    builder = StateGraph(State)
    builder.add_node("pay", node)
    builder.add_edge(START, "pay")
    graph = builder.compile(checkpointer=InMemorySaver())
    [asked] = graph.invoke({"to": "bob"}, CONFIG)["__interrupt__"]
    assert asked.value["name"] == "pay"
    [again] = graph.invoke(Command(resume=True), CONFIG)["__interrupt__"]
    assert again.id == asked.id
    world.answer(asked.value["uid"])
    assert graph.invoke(Command(resume=True), CONFIG)["receipt"] == "{'saw': 1} paid bob"
    assert PAID == ["bob"]


def test_the_functional_api_pauses_and_goes_on_alike(world: World, gate: GateClient) -> None:
    @task
    def pay_task(to: str) -> str:
        return str(governed_call(gate, "pay", {"to": to}))

    @entrypoint(checkpointer=InMemorySaver())
    def flow(to: str) -> str:
        receipt = pay_task(to).result()
        return f"{receipt}, {governed_call(gate, 'look', {'at': 2})}"

    [asked] = flow.invoke("bob", CONFIG)["__interrupt__"]
    world.answer(asked.value["uid"])
    assert flow.invoke(Command(resume=True), CONFIG) == "paid bob, {'saw': 2}"
    assert PAID == ["bob"]
