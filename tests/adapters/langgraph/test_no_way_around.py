"""A denied call never reaches the body, by any path."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool, Tool, tool

from support.langgraph_world import ALLOW, DENY, World
from support.scripted_model import tool_call
from toolgate_client import GateClient
from toolgate_langgraph import govern_tools


class Bodies:
    """Counts the bodies that ran."""

    def __init__(self) -> None:
        self.ran = 0

    def run(self, path: str) -> str:
        """Delete."""
        self.ran += 1
        return f"deleted {path}"

    async def arun(self, path: str) -> str:
        """Delete."""
        self.ran += 1
        return f"deleted {path}"


class Eraser(BaseTool):
    name: str = "class_eraser"
    description: str = "Delete."
    bodies: Any

    def _run(self, path: str) -> str:
        return self.bodies.run(path)  # type: ignore[no-any-return]


class AsyncEraser(Eraser):
    name: str = "async_class_eraser"

    async def _arun(self, path: str) -> str:
        # A common shortcut, which must not be governed as a second call.
        return self._run(path)


def erasers(bodies: Bodies) -> dict[str, BaseTool]:
    """Return every kind of tool around the same bodies."""
    return {
        "function": StructuredTool.from_function(bodies.run, name="function_eraser"),
        "both": StructuredTool.from_function(bodies.run, bodies.arun, name="both_eraser"),
        "coroutine": StructuredTool.from_function(coroutine=bodies.arun, name="coroutine_eraser"),
        "single": Tool("single_eraser", bodies.run, "Delete.", coroutine=bodies.arun),
        "class": Eraser(bodies=bodies),
        "async class": AsyncEraser(bodies=bodies),
    }


KINDS = list(erasers(Bodies()))

Way = Callable[[BaseTool], Any]

ARGS = {"path": "/etc"}
SYNC: dict[str, Way] = {
    "invoke": lambda t: t.invoke(dict(ARGS)),
    "invoke with a call": lambda t: t.invoke(tool_call(t.name, dict(ARGS))),
    "invoke with a text": lambda t: t.invoke("/etc"),
    "run": lambda t: t.run(dict(ARGS)),
    "batch": lambda t: t.batch([dict(ARGS), dict(ARGS)]),
    "stream": lambda t: list(t.stream(dict(ARGS))),
    "a copy": lambda t: t.model_copy().invoke(dict(ARGS)),
    "a deep copy": lambda t: copy.deepcopy(t).invoke(dict(ARGS)),
    "bind": lambda t: t.bind().invoke(dict(ARGS)),
    "with_config": lambda t: t.with_config(tags=["x"]).invoke(dict(ARGS)),
    "_run": lambda t: t._run(**ARGS, **config_of(t)),
    "_run with positions": lambda t: t._run("/etc", **config_of(t)),
    "func": lambda t: t.func("/etc") if getattr(t, "func", None) else None,
    "func with names": lambda t: t.func(**ARGS) if getattr(t, "func", None) else None,
}
ASYNC: dict[str, Way] = {
    "ainvoke": lambda t: t.ainvoke(dict(ARGS)),
    "arun": lambda t: t.arun(dict(ARGS)),
    "abatch": lambda t: t.abatch([dict(ARGS), dict(ARGS)]),
    "_arun": lambda t: t._arun(**ARGS, **config_of(t)),
    "coroutine": lambda t: t.coroutine("/etc") if getattr(t, "coroutine", None) else nothing(),
}


def config_of(tool: BaseTool) -> dict[str, Any]:
    """Return the keywords that LangChain gives the `_run` of its own classes."""
    return {"config": {}} if isinstance(tool, (StructuredTool, Tool)) else {}


async def nothing() -> None:
    """Stand for a path that a kind of tool does not have."""


async def awaited(path: Way, tool: BaseTool) -> Any:
    return await path(tool)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", SYNC)
def test_no_synchronous_path_reaches_a_denied_body(
    denying: GateClient, kind: str, path: str
) -> None:
    bodies = Bodies()
    [governed] = govern_tools(denying, [erasers(bodies)[kind]])
    if kind == "coroutine" and not path.startswith("func"):
        with pytest.raises(NotImplementedError, match="does not support sync"):
            SYNC[path](governed)
    else:
        SYNC[path](governed)
    assert bodies.ran == 0


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ASYNC)
def test_no_asynchronous_path_reaches_a_denied_body(
    denying: GateClient, kind: str, path: str
) -> None:
    bodies = Bodies()
    [governed] = govern_tools(denying, [erasers(bodies)[kind]])
    asyncio.run(awaited(ASYNC[path], governed))
    assert bodies.ran == 0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "coroutine"])
@pytest.mark.parametrize("path", SYNC)
def test_every_synchronous_path_reaches_an_allowed_body_once_a_call(
    allowing: GateClient, kind: str, path: str
) -> None:
    bodies, plain = Bodies(), Bodies()
    [governed] = govern_tools(allowing, [erasers(bodies)[kind]])
    assert SYNC[path](governed) == SYNC[path](erasers(plain)[kind])
    assert bodies.ran == plain.ran


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("path", ASYNC)
def test_every_asynchronous_path_reaches_an_allowed_body_once_a_call(
    allowing: GateClient, kind: str, path: str
) -> None:
    bodies, plain = Bodies(), Bodies()
    [governed] = govern_tools(allowing, [erasers(bodies)[kind]])
    expected = asyncio.run(awaited(ASYNC[path], erasers(plain)[kind]))
    assert asyncio.run(awaited(ASYNC[path], governed)) == expected
    assert bodies.ran == plain.ran


def test_a_tool_made_of_a_governed_tools_fields_is_still_governed(denying: GateClient) -> None:
    bodies = Bodies()
    [governed] = govern_tools(denying, [erasers(bodies)["function"]])
    assert isinstance(governed, StructuredTool)
    rebuilt = StructuredTool(**dict(governed))
    assert isinstance(rebuilt.invoke(dict(ARGS)), ToolMessage)
    assert bodies.ran == 0


def test_a_body_that_calls_its_own_governed_tool_is_governed_again(tmp_path: Path) -> None:
    shallow = {**ALLOW, "when": "args.depth < 2"}
    deep = {**DENY, "when": "args.depth >= 2", "reason": "two is deep enough"}
    depths = []

    @tool
    def recurse(depth: int) -> str:
        """Recurse."""
        depths.append(depth)
        return str(governed.invoke({"depth": depth + 1}))

    with World(tmp_path, shallow, deep).gate() as gate:
        [governed] = govern_tools(gate, [recurse])
        assert "two is deep enough" in governed.invoke({"depth": 1})
    assert depths == [1]


class Forwarding(BaseTool):
    """LangChain gives its first method a config, and neither of them callbacks."""

    name: str = "forwarding"
    description: str = "Fetch."
    given: Any

    def _run(self, path: str, config: RunnableConfig | None = None, callbacks: Any = None) -> str:
        self.given.append(callbacks)
        return path

    async def _arun(self, path: str, **rest: Any) -> str:
        self.given.append(rest)
        return path


@pytest.mark.parametrize(
    ("name", "made_up", "way"),
    [
        ("config", {"method": "DELETE"}, "ainvoke"),
        ("callbacks", ["made up"], "ainvoke"),
        ("callbacks", ["made up"], "invoke"),
    ],
)
def test_what_a_call_says_in_the_place_of_what_langchain_gives_is_judged(
    tmp_path: Path, name: str, made_up: Any, way: str
) -> None:
    strict = {**DENY, "when": f"has(args.{name})", "reason": "who said that?"}
    bodies: list[Any] = []
    with World(tmp_path, ALLOW, strict).gate() as gate:
        schema = {"type": "object", "properties": {"path": {"type": "string"}}}
        [governed] = govern_tools(gate, [Forwarding(given=bodies, args_schema=schema)])

        def call(args: dict[str, Any]) -> Any:
            made = tool_call("forwarding", args)
            if way == "invoke":
                return governed.invoke(made)
            return asyncio.run(governed.ainvoke(made))

        assert "who said that?" in call({"path": "/a", name: made_up}).content
        assert bodies == []
        assert call({"path": "/a"}).content == "/a"
        assert len(bodies) == 1
