"""What AutoGen's tools are, and what they give."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import date
from typing import Any

from autogen_agentchat.tools import AgentTool
from autogen_core import CancellationToken
from autogen_core.tools import (
    BaseStreamTool,
    BaseToolWithState,
    StaticStreamWorkbench,
    StaticWorkbench,
    ToolOverride,
)

from comparison.autogen_kit import (
    Camera,
    Found,
    Item,
    Search,
    shown,
    told,
    tool_of,
)
from comparison.cases import Cases, pickled, short
from comparison.hooks import Hook
from support.autogen_teams import agent

cases = Cases()


@cases.allowed("class, own attributes")
def _(hook: Hook) -> str:
    (made,) = hook.govern([Search()])
    own = "its own" if isinstance(made, Search) else type(made).__name__
    return f"{own}, {'has' if hasattr(made, 'found') else 'has not'} its attributes"


@cases.allowed("schema, strict, types of arguments and result")
def _(hook: Hook) -> str:
    def typed(item: str, day: date, count: int = 2) -> str:
        return item

    lost = []
    for raw in (Search(), tool_of(typed)):
        (made,) = hook.govern([raw])
        same = made.schema == raw.schema and made.args_type() is raw.args_type()
        if not (same and made.return_type() is raw.return_type()):
            lost.append(raw.name)
    return f"others for: {', '.join(lost)}" if lost else "kept"


@cases.allowed("functions and coroutine functions instead of tools")
def _(hook: Hook) -> str:
    def plain(item: str) -> str:
        """Look something up."""
        return f"found {item}"

    async def later(item: str) -> str:
        """Look something up."""
        return f"found {item} later"

    made = hook.govern([plain, later])
    return told(made, ("plain", {"item": "lamp"}), ("later", {"item": "rug"}))


@cases.allowed("a Workbench instead of tools")
def _(hook: Hook) -> str:
    given: Any = StaticWorkbench([Search("in_workbench")])
    made: Any = hook.govern(given)

    async def go() -> str:
        result = await agent([("in_workbench", {"item": "lamp"})], workbench=made).run(task="go")
        return shown(result.messages)

    return asyncio.run(go())


@cases.allowed("tools in a StaticWorkbench with a ToolOverride")
def _(hook: Hook) -> str:
    made = hook.govern([Search("overridden")])
    override = {"overridden": ToolOverride(name="lookup", description="Other words.")}

    async def go() -> str:
        workbench = StaticWorkbench(made, override)
        (schema,) = await workbench.list_tools()
        result = await workbench.call_tool("lookup", {"item": "lamp"})
        return f"{schema['name']}: {result.to_text()}"

    return asyncio.run(go())


@cases.allowed("arguments, as the body gets them: date, Pydantic model, defaults")
def _(hook: Hook) -> str:
    def orders(day: date, item: Item, count: int = 2) -> str:
        kinds = [type(each).__name__ for each in (day, item, count)]
        return " ".join(kinds)

    made = hook.govern([tool_of(orders)])
    return told(made, ("orders", {"day": "2024-02-29", "item": {"item": "lamp"}}))


@cases.allowed("invalid arguments")
def _(hook: Hook) -> str:
    def strict(count: int) -> str:
        return "ran"

    seen = told(hook.govern([tool_of(strict)]), ("strict", {"count": "many"}))
    return f"{seen}; the gate is {'asked' if hook.proposed('strict') else 'not asked'}"


@cases.allowed("a result that the tool shows in its own words")
def _(hook: Hook) -> str:
    return told(hook.govern([Search()]), ("search", {"item": "lamp"}))


@cases.allowed("a Pydantic model, a dict, a number, None")
def _(hook: Hook) -> str:
    def model(item: str) -> Found:
        return Found(item=item)

    def mapping(item: str) -> dict[str, Any]:
        return {"item": item, "sold": True}

    def number(item: str) -> float:
        return 2.0

    def nothing(item: str) -> None:
        return None

    made = hook.govern([tool_of(each) for each in (model, mapping, number, nothing)])
    return told(made, *((each.name, {"item": "lamp"}) for each in made))


@cases.allowed("a live object, given to own code")
def _(hook: Hook) -> str:
    (made,) = hook.govern([Search("searched")])
    result = asyncio.run(made.run_json({"item": "lamp"}, CancellationToken()))
    return type(result).__name__


@cases.allowed("a result that is no JSON (NaN)")
def _(hook: Hook) -> str:
    def gives_nan(item: str) -> float:
        return float("nan")

    return told(hook.govern([tool_of(gives_nan)]), ("gives_nan", {"item": "lamp"}))


@cases.allowed("a result of 5 MiB", gate=True)
def _(hook: Hook) -> str:
    def grows(count: int) -> str:
        return "x" * count

    return told(hook.govern([tool_of(grows)]), ("grows", {"count": 5 << 20}))


@cases.allowed("a workbench that gives images")
def _(hook: Hook) -> str:
    given: Any = Camera([Search("photo")])
    made: Any = hook.govern(given)

    async def go() -> str:
        result = await made.call_tool("photo", {"item": "lamp"}, CancellationToken())
        return " ".join(type(each).__name__ for each in result.result)

    return asyncio.run(go())


@cases.allowed("an exception of a body")
def _(hook: Hook) -> str:
    def fails(item: str) -> str:
        raise KeyError("no such item")

    return told(hook.govern([tool_of(fails)]), ("fails", {"item": "lamp"}))


class Counted(BaseToolWithState[Item, Found, Found]):
    """A tool that has a state to save."""

    def __init__(self) -> None:
        super().__init__(Item, Found, Found, "counted", "Count.")
        self.last = Found(item="nothing")

    async def run(self, args: Item, cancellation_token: CancellationToken) -> Found:
        self.last = Found(item=args.item)
        return self.last

    def save_state(self) -> Found:
        return self.last

    def load_state(self, state: Found) -> None:
        self.last = state


@cases.allowed("pickled, restored, used")
def _(hook: Hook) -> str:
    (made,) = hook.govern([Search("kept")])
    if (restored := pickled(made)) is None:
        return "cannot be pickled"
    if hook.binds is not None:
        hook.binds(hook.client, restored)
    return told([restored], ("kept", {"item": "lamp"}))


@cases.allowed("a tool's state, saved and loaded")
def _(hook: Hook) -> str:
    async def go() -> str:
        (made,) = hook.govern([Counted()])
        await made.run_json({"item": "lamp"}, CancellationToken())
        saved = await made.save_state_json()
        fresh = Counted()
        (other,) = hook.govern([fresh])
        await other.load_state_json(saved)
        return f"saved {dict(saved)}, loaded {fresh.last.item}"

    return asyncio.run(go())


class Steps(BaseStreamTool[Item, Found, Found]):
    """A tool that tells how it comes along."""

    def __init__(self) -> None:
        super().__init__(Item, Found, "steps", "Look something up, step by step.")

    async def run(self, args: Item, cancellation_token: CancellationToken) -> Found:
        return Found(item=args.item)

    async def run_stream(
        self, args: Item, cancellation_token: CancellationToken
    ) -> AsyncGenerator[Found, None]:
        for number in range(2):
            yield Found(item=f"step {number}")
        yield Found(item=args.item)


@cases.allowed("a StreamTool's stream")
def _(hook: Hook) -> str:
    workbench = StaticStreamWorkbench(hook.govern([Steps()]))

    async def go() -> str:
        stream = workbench.call_tool_stream("steps", {"item": "lamp"}, CancellationToken())
        parts = [each async for each in stream]
        return f"{len(parts) - 1} parts and {short(parts[-1].to_text())}"

    return asyncio.run(go())


@cases.allowed("an agent as a tool (AgentTool): its events in the outer stream")
def _(hook: Hook) -> str:
    async def go() -> str:
        helper = agent("from the helper", name="helper")
        made = hook.govern([AgentTool(helper)])
        outer = agent([("helper", {"task": "t"})], tools=made)
        sources = [getattr(each, "source", "") async for each in outer.run_stream(task="go")]
        return f"{sources.count('helper')} events of the inner agent"

    return asyncio.run(go())
