"""A call without a result becomes an error message that a model can plan around."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import ToolMessage
from langchain_core.tools import StructuredTool, tool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode

from support.langgraph_world import ALLOW, DENY, World
from support.scripted_model import calls, script, tool_call
from toolgate_client import (
    ActionDenied,
    ActionFailed,
    GateClient,
    GateClosed,
    GateError,
    ProtocolError,
)
from toolgate_langgraph import govern_tools


@tool
def shell(command: str) -> str:
    """Run a command."""
    raise AssertionError("a denied body ran")


@tool(response_format="content_and_artifact")
def export(table: str) -> tuple[str, bytes]:
    """Export a table."""
    raise AssertionError("a denied body ran")


@tool(return_direct=True)
def direct(a: int) -> str:
    """Answer directly."""
    raise AssertionError("a denied body ran")


def test_the_model_is_told_what_was_denied_why_and_what_to_do(denying: GateClient) -> None:
    [governed] = govern_tools(denying, [shell])
    message = governed.invoke(tool_call("shell", {"command": "rm"}, "c-7"))
    assert isinstance(message, ToolMessage)
    assert (message.status, message.name, message.tool_call_id) == ("error", "shell", "c-7")
    assert message.content == (
        "shell did not run, because policy denies it: the rule says no. "
        "Do not repeat this call; choose another way or tell the user. [policy_denied]"
    )
    facts = message.artifact["toolgate"]
    assert facts["kind"] == "policy_denied"
    assert facts["reason"] == "the rule says no"
    assert facts["rules"] == ["none"]
    assert facts["status"] == "rejected"
    assert facts["uid"]


def test_a_denied_tool_with_artifacts_gives_the_same_kind_of_message(denying: GateClient) -> None:
    [governed] = govern_tools(denying, [export])
    message = governed.invoke(tool_call("export", {"table": "users"}))
    assert isinstance(message, ToolMessage)
    assert message.status == "error"
    assert "the rule says no" in message.text


def test_a_direct_call_gets_an_error_message_and_no_text_to_take_for_data(
    denying: GateClient,
) -> None:
    [governed] = govern_tools(denying, [shell])
    result = governed.invoke({"command": "rm"})
    assert isinstance(result, ToolMessage)
    assert result.status == "error"


def test_an_agent_goes_on_after_a_denial(denying: GateClient) -> None:
    model = script(tool_call("shell", {"command": "rm"}), answer="I was not allowed to.")
    agent = create_agent(model, govern_tools(denying, [shell]))
    messages = agent.invoke({"messages": [("user", "clean up")]})["messages"]
    assert messages[-1].content == "I was not allowed to."
    assert "the rule says no" in model.heard[1][-1].text


def test_a_denied_call_of_several_leaves_the_others_alone(tmp_path: Path) -> None:
    @tool
    def read(a: int) -> str:
        """Read."""
        return f"read {a}"

    rules = ({**ALLOW, "tools": ["read"]}, {**DENY, "tools": ["shell"]})
    with World(tmp_path, *rules).gate() as gate:
        node = ToolNode(govern_tools(gate, [read, shell]))
        made = calls(
            tool_call("read", {"a": 1}, "1"),
            tool_call("shell", {"command": "rm"}, "2"),
            tool_call("read", {"a": 3}, "3"),
        )
        statuses = [message.status for message in run_node(node, made)]
    assert statuses == ["success", "error", "success"]


def run_node(node: ToolNode, message: Any) -> list[ToolMessage]:
    """Run a tool node in a graph of its own."""
    builder = StateGraph(MessagesState)
    builder.add_node("tools", node)
    builder.add_edge(START, "tools")
    builder.add_edge("tools", END)
    state = builder.compile().invoke({"messages": [message]})
    return [message for message in state["messages"] if isinstance(message, ToolMessage)]


def test_return_direct_stays_return_direct(denying: GateClient) -> None:
    [governed] = govern_tools(denying, [direct])
    assert governed.return_direct
    agent = create_agent(script(tool_call("direct", {"a": 1})), [governed])
    last = agent.invoke({"messages": [("user", "go")]})["messages"][-1]
    assert isinstance(last, ToolMessage)
    assert last.status == "error"


def test_on_denied_raise_raises_the_denial(denying: GateClient) -> None:
    [governed] = govern_tools(denying, [shell], on_denied="raise")
    with pytest.raises(ActionDenied, match="the rule says no") as raised:
        governed.invoke({"command": "rm"})
    assert raised.value.kind == "policy_denied"
    assert raised.value.uid
    assert raised.value.outcome is not None


def test_on_denied_takes_a_function_that_words_the_message(denying: GateClient) -> None:
    def words(error: GateError) -> str:
        assert isinstance(error, ActionDenied)
        return f"Sorry: {error.reason} ({error.kind})"

    [governed] = govern_tools(denying, [shell], on_denied=words)
    message = governed.invoke(tool_call("shell", {"command": "rm"}))
    assert message.content == "Sorry: the rule says no (policy_denied)"
    assert message.status == "error"


def test_arguments_the_operators_schema_refuses_name_what_is_wrong(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"command": {"maxLength": 3}}}
    with World(tmp_path, ALLOW, tools={"shell": {"parameters": schema}}).gate() as gate:
        [governed] = govern_tools(gate, [shell])
        message = governed.invoke(tool_call("shell", {"command": "too long"}))
    assert message.artifact["toolgate"]["kind"] == "invalid_arguments"
    assert "/command" in message.content
    assert "Correct the arguments" in message.content


@pytest.mark.parametrize("value", [object(), "\ud800", {1: object()}])
def test_arguments_without_a_json_form_are_denied(allowing: GateClient, value: Any) -> None:
    def opaque(anything: Any) -> str:
        """Take anything."""
        raise AssertionError("the gate never saw this")

    [governed] = govern_tools(allowing, [opaque])
    message = governed.invoke(tool_call("opaque", {"anything": value}))
    assert message.artifact["toolgate"]["kind"] == "invalid_arguments"
    assert message.status == "error"


# --- no gate


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "closed"])
def test_without_a_gate_no_tool_runs_and_the_model_is_told(world: World, killed: bool) -> None:
    with world.recorded_gate() as gate:
        governed = govern_tools(gate, [shell, export])
        if killed:
            world.kill()
        else:
            gate.close()
        for each in governed:
            args = dict.fromkeys(each.args, "x")
            message = each.invoke(tool_call(each.name, args))
            assert message.status == "error"
            assert message.artifact["toolgate"]["kind"] == "gate_unavailable"
            assert "did not run" in message.content


def test_without_a_gate_on_denied_raise_raises(world: World) -> None:
    with world.gate() as gate:
        [governed] = govern_tools(gate, [shell], on_denied="raise")
        gate.close()
        with pytest.raises(GateClosed):
            governed.invoke({"command": "ls"})


def test_a_gate_that_dies_under_a_body_leaves_the_call_in_doubt(world: World) -> None:
    ran = []
    with world.recorded_gate() as gate:

        @tool
        def act(a: int) -> str:
            """Act."""
            ran.append(a)
            kill_and_see(world, gate)
            return "done"

        [governed] = govern_tools(gate, [act])
        message = governed.invoke(tool_call("act", {"a": 1}))
    assert ran == [1]
    assert message.artifact["toolgate"]["kind"] == "in_doubt"
    assert "may or may not have taken effect" in message.content
    assert "did not run" not in message.content


def test_on_denied_raise_raises_such_a_doubt_as_a_failure(world: World) -> None:
    with world.recorded_gate() as gate:

        @tool
        def act(a: int) -> str:
            """Act."""
            kill_and_see(world, gate)
            return "done"

        [governed] = govern_tools(gate, [act], on_denied="raise")
        with pytest.raises(ActionFailed) as raised:
            governed.invoke({"a": 1})
    assert raised.value.kind == "in_doubt"
    assert isinstance(raised.value.__cause__, GateClosed)


def kill_and_see(world: World, gate: GateClient) -> None:
    """Kill the gate and return when the client has noticed."""
    world.kill()
    for _ in range(100_000):
        try:
            gate.ping()
        except GateError:
            return
    raise AssertionError("the gate still answers")


def test_a_tool_the_gate_refuses_is_refused_when_it_is_governed(gate: GateClient) -> None:
    def search(query: str) -> str:
        """Search."""
        return query

    other = StructuredTool.from_function(
        lambda text: text, name="search", description="d", args_schema={"type": "string"}
    )
    govern_tools(gate, [search])
    with pytest.raises(ProtocolError, match="search"):
        govern_tools(gate, [other])


def test_a_body_that_runs_out_of_time_is_in_doubt_and_its_late_result_is_not_given(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, ALLOW, tools={"slow": {"timeout": "50ms"}})
    with world.gate() as gate:

        @tool
        def slow(a: int) -> str:
            """Take time."""
            for _ in range(100_000):
                gate.ping()
                if world.events("action.in_doubt"):
                    return "late"
            raise AssertionError("the gate never gave up")

        [governed] = govern_tools(gate, [slow])
        message = governed.invoke(tool_call("slow", {"a": 1}))
    assert message.artifact["toolgate"]["kind"] == "execution_timeout"
    assert "may or may not" in message.content
