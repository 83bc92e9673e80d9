"""Governed tools look like the tools they govern, and the originals are left alone."""

from __future__ import annotations

import asyncio
import copy
import inspect
from typing import Any

import pytest
from langchain_core.tools import BaseTool, StructuredTool, Tool, tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, PrivateAttr

from support.scripted_model import tool_call
from toolgate_client import GateClient, GateClosed
from toolgate_langgraph import govern_tools


class Args(BaseModel):
    """What to search."""

    query: str
    limit: int = 5


def search(query: str, limit: int = 5) -> str:
    """Search for something."""
    return f"{query}/{limit}"


async def asearch(query: str, limit: int = 5) -> str:
    """Search for something."""
    return f"{query}/{limit}"


def handle(error: Any) -> str:
    return "handled"


class Search(BaseTool):
    name: str = "search_class"
    description: str = "Search."
    args_schema: Any = Args
    calls: int = 0
    _cache: dict[str, int] = PrivateAttr(default_factory=dict)

    def _run(self, query: str, limit: int) -> str:
        self.calls += 1
        self._cache[query] = limit
        return f"{query}/{limit}/{self.calls}"


def full() -> StructuredTool:
    """Return a tool that has all fields set."""
    return StructuredTool(
        name="full_search",
        description="Search the web.",
        args_schema=Args,
        func=search,
        coroutine=asearch,
        return_direct=True,
        verbose=True,
        callbacks=[],
        tags=["web"],
        metadata={"owner": "ada"},
        handle_tool_error=handle,
        handle_validation_error=handle,
        response_format="content",
        extras={"cache_control": {"type": "ephemeral"}},
    )


def test_class_and_fields_stay(allowing: GateClient) -> None:
    for raw in (full(), Search(calls=3), Tool("single_search", search, "Search.")):
        [governed] = govern_tools(allowing, [raw])
        assert isinstance(governed, type(raw))
        functions = {"func", "coroutine"}
        for name in type(raw).model_fields.keys() - functions:
            assert getattr(governed, name) is getattr(raw, name), name
        assert governed.model_fields_set == raw.model_fields_set
        assert convert_to_openai_tool(governed) == convert_to_openai_tool(raw)
        assert governed.args == raw.args
        assert governed.get_input_jsonschema() == raw.get_input_jsonschema()
        assert type(governed).__module__ == type(raw).__module__


def test_functions_look_like_the_functions_they_stand_for(allowing: GateClient) -> None:
    raw = full()
    [governed] = govern_tools(allowing, [raw])
    assert isinstance(governed, StructuredTool)
    for ours, theirs in ((governed.func, raw.func), (governed.coroutine, raw.coroutine)):
        assert ours is not theirs
        assert inspect.signature(ours) == inspect.signature(theirs)  # type: ignore[arg-type]
        assert ours.__name__ == theirs.__name__  # type: ignore[union-attr]
        assert ours.__doc__ == theirs.__doc__
        assert inspect.iscoroutinefunction(theirs) == asyncio.iscoroutinefunction(ours)


def test_the_original_is_untouched_and_not_governed(denying: GateClient) -> None:
    raw = full()
    before = dict(raw)
    [governed] = govern_tools(denying, [raw])
    assert dict(raw) == before
    assert type(raw) is StructuredTool
    assert raw.invoke({"query": "cats"}) == "cats/5"
    assert "did not run" in governed.invoke({"query": "cats"}).content


def test_what_a_body_changes_in_its_tool_stays_changed(allowing: GateClient) -> None:
    [governed] = govern_tools(allowing, [Search()])
    assert isinstance(governed, Search)
    assert [governed.invoke({"query": q, "limit": 1}) for q in "ab"] == ["a/1/1", "b/1/2"]
    assert governed.calls == 2
    assert governed._cache == {"a": 1, "b": 1}


def test_a_changed_copy_of_a_governed_tool_is_governed_and_changed(allowing: GateClient) -> None:
    [governed] = govern_tools(allowing, [Search(name="copied_search")])
    for copied in (governed.model_copy(update={"calls": 7}), copy.deepcopy(governed)):
        assert isinstance(copied, Search)
        before = copied.calls
        assert copied.invoke({"query": "a", "limit": 1}) == f"a/1/{before + 1}"
    assert isinstance(governed, Search)
    assert governed.calls == 0


def test_plain_functions_become_tools_as_langchain_makes_them(allowing: GateClient) -> None:
    [governed] = govern_tools(allowing, [search])
    raw = tool(search)
    assert isinstance(governed, StructuredTool)
    assert (governed.name, governed.description) == (raw.name, raw.description)
    assert governed.args == raw.args


def test_governing_twice_changes_nothing(allowing: GateClient) -> None:
    once = govern_tools(allowing, [full()])
    twice = govern_tools(allowing, once)
    assert twice[0] is once[0]


def test_a_tool_of_another_gate_is_refused(allowing: GateClient, denying: GateClient) -> None:
    governed = govern_tools(allowing, [full()])
    with pytest.raises(ValueError, match="'full_search' is governed by another gate"):
        govern_tools(denying, governed)


def test_two_tools_of_one_name_are_an_error(allowing: GateClient) -> None:
    with pytest.raises(ValueError, match="two tools are called 'search'"):
        govern_tools(allowing, [search, tool(search)])


def test_new_tools_of_a_known_name_and_schema_may_replace_old_ones(allowing: GateClient) -> None:
    def maker(user: str) -> Any:
        @tool
        def made_for(text: str) -> str:
            """Say who."""
            return f"{user}: {text}"

        return made_for

    [ada] = govern_tools(allowing, [maker("ada")])
    [bob] = govern_tools(allowing, [maker("bob")])
    assert ada.invoke({"text": "x"}) == "ada: x"
    assert bob.invoke({"text": "x"}) == "bob: x"


@pytest.mark.parametrize("thing", [{"type": "web_search"}, "search", Args, None])
def test_what_is_no_tool_is_refused(allowing: GateClient, thing: Any) -> None:
    with pytest.raises(TypeError, match="cannot be governed"):
        govern_tools(allowing, [thing])


def test_wrong_options_are_refused(allowing: GateClient) -> None:
    wrong: Any = "sometimes"
    with pytest.raises(ValueError, match="hold is one of auto, interrupt, wait, return"):
        govern_tools(allowing, [search], hold=wrong)
    with pytest.raises(TypeError, match="on_denied"):
        govern_tools(allowing, [search], on_denied=wrong)


def test_a_closed_gate_governs_nothing(world: Any) -> None:
    gate = world.gate()
    with gate:
        pass
    with pytest.raises(GateClosed):
        govern_tools(gate, [search])


def test_a_tool_runs_without_a_caller_when_its_action_is_resumed(gate: GateClient) -> None:
    outcome = gate.govern("search", {"query": "cats"})
    assert outcome.status == "rejected"
    govern_tools(gate, [search, StructuredTool.from_function(coroutine=asearch)])
    assert gate.call("search", {"query": "cats", "limit": 2}) == "cats/2"
    assert gate.call("asearch", {"query": "dogs"}) == "dogs/5"


def test_nested_governed_calls_name_their_parent(world: Any, gate: GateClient) -> None:
    @tool
    def inner(a: int) -> str:
        """Be called."""
        return f"inner {a}"

    @tool
    def outer(a: int) -> str:
        """Call another."""
        return f"outer {inner_governed.invoke({'a': a})}"

    inner_governed, outer_governed = govern_tools(gate, [inner, outer])
    assert outer_governed.invoke(tool_call("outer", {"a": 1})).content == "outer inner 1"
    first, second = world.events("action.proposed")
    assert "parent" not in first
    assert second["parent"]
