"""A result that the gate has recorded is given again, as the model was shown it the first time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from autogen_core import CancellationToken
from autogen_core.tools import StaticStreamWorkbench

from support.autogen_teams import Bench, Counter, Narrator, Order, function, ran
from support.langgraph_world import ALLOW, World
from toolgate_autogen import govern_tools
from toolgate_client import GateClient

ORDER = {"item": "lamp", "day": "2024-02-29"}


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[GateClient]:
    """A gate that does not have a call made again that has succeeded."""
    names = ("counter", "narrate", "place_order", "search", "fetch")
    tools = {name: {"level": 1, "idempotent": True} for name in names}
    ran.clear()
    with World(tmp_path, ALLOW, tools=tools).gate() as gate:
        yield gate


async def shown_twice(workbench: Any, name: str, args: dict[str, Any]) -> list[str]:
    """Make a call twice; return what a model is shown of each."""
    results = [await workbench.call_tool(name, args, CancellationToken()) for _ in range(2)]
    assert [result.is_error for result in results] == [False, False]
    assert len(ran) == 1
    return [result.to_text() for result in results]


@pytest.mark.parametrize(
    ("tool", "args", "shown"),
    [
        (Order(), ORDER, "<lamp: 1>"),
        (Counter(), {"item": "lamp"}, '{"item": "lamp", "total": 1}'),
        (function("search"), {"item": "lamp"}, "search lamp 10"),
    ],
)
async def test_a_tools_recorded_result_is_a_value_of_its_type(
    gate: GateClient, tool: Any, args: dict[str, Any], shown: str
) -> None:
    (governed,) = govern_tools(gate, [tool])
    first = await governed.run_json(args, CancellationToken())  # type: ignore[union-attr]
    again = await governed.run_json(args, CancellationToken())  # type: ignore[union-attr]
    assert again == first
    assert type(again) is type(first)
    assert len(ran) == 1
    assert governed.return_value_as_string(again) == shown  # type: ignore[union-attr]


async def test_a_stream_tools_recorded_result_is_its_text(gate: GateClient) -> None:
    bench = govern_tools(gate, StaticStreamWorkbench([Narrator()]))
    assert await shown_twice(bench, "narrate", {"item": "lamp"}) == ["lamp alone", "lamp alone"]
    events = [
        type(value).__name__
        async for value in bench.call_tool_stream("narrate", {"item": "lamp"})  # type: ignore[attr-defined]
    ]
    assert events == ["ToolResult"]


async def test_a_workbenchs_recorded_result_has_its_texts_and_digests_of_images(
    gate: GateClient,
) -> None:
    bench = govern_tools(gate, Bench("fetch"))
    first, again = await shown_twice(bench, "fetch", {"item": "picture"})
    assert first.startswith("look\n[Image: ")
    assert again.startswith("look\n[image sha256:")
