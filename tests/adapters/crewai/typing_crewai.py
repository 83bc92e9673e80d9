"""Never run: mypy and pyright check that the adapter has the types that users rely on.

As far as that can be seen where CrewAI itself is not installed: its classes are unknown here.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Any

from typing_extensions import assert_type

from toolgate_client import GateClient, GateError
from toolgate_crewai import agoverned_call, fail_closed, govern_tools, governed_call


def add(a: int, b: int) -> int:
    """Add numbers."""
    return a + b


def tell(error: GateError) -> str:
    return str(error)


def governing(gate: GateClient) -> None:
    assert_type(len(govern_tools(gate, [add])), int)
    govern_tools(gate, (add,), hold="return", hold_timeout=3, on_denied="raise", cache=True)
    govern_tools(gate, [add], hold="wait", on_denied=tell)
    govern_tools([add], gate)  # type: ignore[arg-type]
    govern_tools(gate, [add], hold="later")  # type: ignore[arg-type]
    govern_tools(gate, [add], on_denied="ignore")  # type: ignore[arg-type]
    govern_tools(gate, [add], "wait")  # type: ignore[call-arg]
    with fail_closed(gate) as closed:
        closed.close()
    fail_closed()  # type: ignore[call-arg]


def calling(gate: GateClient) -> None:
    assert_type(governed_call(gate, "add", {"a": 1, "b": 2}), Any)
    governed_call(gate, "add", {}, body=lambda args: args["a"], hold="return", hold_timeout=1.5)
    governed_call(gate, "add", [1])  # type: ignore[arg-type]
    governed_call(gate, "add", {}, hold="interrupt")  # type: ignore[arg-type]


async def calling_from_a_coroutine(gate: GateClient) -> None:
    assert_type(await agoverned_call(gate, "add", {"a": 1, "b": 2}), Any)
    await agoverned_call(gate, "add", {}, hold="interrupt")  # type: ignore[arg-type]
