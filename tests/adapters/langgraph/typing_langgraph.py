"""Never run: mypy and pyright check that the adapter has the types that users rely on."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Any

from langchain_core.tools import BaseTool
from typing_extensions import assert_type

from toolgate_client import GateClient, GateError
from toolgate_langgraph import govern_tools, governed_call


def add(a: int, b: int) -> int:
    """Add numbers."""
    return a + b


def tell(error: GateError) -> str:
    return str(error)


def governing(gate: GateClient, tool: BaseTool) -> None:
    assert_type(govern_tools(gate, [tool, add]), list[BaseTool])
    govern_tools(gate, (add,), hold="interrupt", hold_timeout=3, on_denied="raise")
    govern_tools(gate, [tool], hold="wait", on_denied=tell)
    govern_tools([tool], gate)  # type: ignore[arg-type]
    govern_tools(gate, [tool], hold="later")  # type: ignore[arg-type]
    govern_tools(gate, [tool], on_denied="ignore")  # type: ignore[arg-type]
    govern_tools(gate, [tool], "wait")  # type: ignore[call-arg]
    govern_tools(gate, [7])  # type: ignore[list-item]


def calling(gate: GateClient) -> None:
    assert_type(governed_call(gate, "add", {"a": 1, "b": 2}), Any)
    governed_call(gate, "add", {}, body=lambda args: args["a"], hold="return", hold_timeout=1.5)
    governed_call(gate, "add", [1])  # type: ignore[arg-type]
    governed_call(gate, "add")  # type: ignore[call-arg]
