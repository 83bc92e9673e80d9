"""AutoGen's tools, raw and governed: the cases of the matrix, and what is promised of each.

Run as ``python autogen_cases.py CONFIG LAUNCHER [CASE…]``; LAUNCHER is a gate's argv as JSON.
Prints one line of JSON for each case: what was seen raw and governed. It knows nothing of pytest.
The config denies ``forbidden*`` and holds ``pay*``, which somebody else answers: ``pay`` and
``pay_async`` are approved, ``pay_no`` is denied, ``pay_less`` approved with an amount of 5,
``pay_late*`` never answered; everything else is allowed.
"""

from __future__ import annotations

import asyncio
import copy
import functools
import json
import pickle
import sys
import threading
import time
import uuid
import warnings
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat
from autogen_agentchat.tools import AgentTool, TeamTool
from autogen_core import (
    AgentId,
    CancellationToken,
    FunctionCall,
    SingleThreadedAgentRuntime,
)
from autogen_core.tool_agent import ToolAgent
from autogen_core.tools import (
    BaseTool,
    FunctionTool,
    StaticStreamWorkbench,
    StaticWorkbench,
    StreamTool,
    ToolOverride,
    ToolResult,
)
from pydantic import BaseModel, Field, field_validator

from support.autogen_teams import (
    KINDS,
    PATIENCE,
    AgentBench,
    Bench,
    Counter,
    Counting,
    Item,
    Narrator,
    Order,
    OwnBench,
    Receipt,
    StreamBench,
    agent,
    coroutine,
    function,
    named,
    of_kind,
    plain,
    ran,
    run,
    where,
)
from toolgate_autogen import (
    GovernedStreamTool,
    GovernedTool,
    HoldTermination,
    agoverned_call,
    bind,
    govern_tools,
    governed_call,
    run_approved,
)
from toolgate_client import ActionDenied, ActionHeld, Document, GateError, Result, ToolSuspended

warnings.simplefilter("ignore")

Govern = Callable[..., Any]
Case = Callable[[Govern], Awaitable[Any]]
cases: dict[str, tuple[str, Case]] = {}

TOO_LARGE = 80_000
"""More bytes than the gate takes in a message."""

LAMP = {"item": "lamp"}
ORDER = {"item": "lamp", "day": "2024-02-29", "count": "2", "from": "here"}


def case(name: str, promise: str = "same") -> Any:
    """Add a case; ``promise`` says what differs when it is governed."""

    def add(made: Case) -> None:
        cases[name] = (promise, made)

    return add


def in_kinds(name: str, promise: str = "same", autogens: str | None = None) -> Any:
    """Add a case that is given ``kind``, once for each kind of what an agent takes.

    ``autogens`` is what is promised of AutoGen's own workbenches, if it is something else.
    """

    def add(made: Any) -> None:
        for kind in KINDS:
            own = autogens is not None and kind in {"workbench", "stream workbench"}
            says = str(autogens) if own else promise
            case(f"{name}, {kind}", says)(functools.partial(made, kind=kind))

    return add


async def once(govern: Govern, kind: str, name: str, **options: Any) -> Any:
    """Have an agent call one tool once."""
    return await run(agent([(named(name, kind), LAMP)], **of_kind(kind, name, govern, **options)))


@in_kinds("allowed")
async def _(govern: Govern, kind: str) -> Any:
    return await once(govern, kind, "search")


@case("plain functions: one, a coroutine, a partial, one that takes the token")
async def _(govern: Govern) -> Any:
    def first(item: str) -> str:
        """Order an item."""
        ran.append(item)
        return f"first {item}"

    async def second(item: str, count: int = 1) -> int:
        """Count."""
        ran.append([item, count])
        return count

    def third(kind: str, item: str) -> dict[str, str]:
        """Order an item."""
        ran.append([kind, item])
        return {kind: item}

    async def fourth(item: str, cancellation_token: CancellationToken) -> None:
        """Order an item."""
        ran.append([item, type(cancellation_token).__name__])

    tools = [first, second, functools.partial(third, "kind"), fourth]
    calls = [("first", LAMP), ("second", {"item": "a", "count": "3"}), ("fourth", LAMP)]
    made = agent(calls, [("third", LAMP)], tools=govern(tools))
    return await run(made)


@case("a class's tool: coercion, defaults, aliases, enums, nested models, its own words")
async def _(govern: Govern) -> Any:
    args = {**ORDER, "address": {"street": "s", "zip": "1"}}
    return await run(agent([("place_order", args)], tools=govern([Order()])))


@case("arguments: absent, invalid, unknown, no object, no JSON")
async def _(govern: Govern) -> Any:
    wrong = [
        {},
        {**ORDER, "day": "never"},
        {**ORDER, "other": 1},
        [1],
        "text",
        None,
    ]
    return await run(agent([("place_order", each) for each in wrong], tools=govern([Order()])))


@case("an unknown tool")
async def _(govern: Govern) -> Any:
    return await run(agent([("xyzzy", LAMP)], tools=govern([function("search")])))


@case("an unknown tool of AutoGen's workbenches")
async def _(govern: Govern) -> Any:
    benches = [StaticWorkbench([function("search")]), StaticStreamWorkbench([function("seek")])]
    return [(await each.call_tool("xyzzy", LAMP)).to_text() for each in govern(benches)]


@case("an unknown tool of an own workbench", "denied, not left to the workbench")
async def _(govern: Govern) -> Any:
    return (await govern(Bench("search")).call_tool("xyzzy", LAMP)).to_text()


@case("a body that raises")
async def _(govern: Govern) -> Any:
    async def broken(item: str) -> str:
        """Order an item."""
        ran.append(item)
        raise ValueError(f"no {item}")

    return await run(agent([("broken", LAMP)], tools=govern([broken])))


@case("results: pydantic, a number, a list, nothing; what own code gets")
async def _(govern: Govern) -> Any:
    def numbers(kind: str) -> Any:
        """Return something."""
        ran.append(kind)
        return {"model": Receipt(item="a", total=1), "number": 2.5, "list": [1, "b"]}.get(kind)

    (tool,) = govern([numbers])
    token = CancellationToken()
    values = [await tool.run_json({"kind": kind}, token) for kind in ("model", "number", "list")]
    calls = [("numbers", {"kind": kind}) for kind in ("model", "number", "list", "none")]
    said = await run(agent(calls, tools=[tool]))
    return [*map(repr, values), *(tool.return_value_as_string(value) for value in values), said]


@case("what a tool says of itself: name, schema, strictness, types, own methods")
async def _(govern: Govern) -> Any:
    tools = govern([Order(), function("search", strict=False), Narrator()])
    order = tools[0]
    await order.run_json(ORDER, CancellationToken())
    seen = [
        [
            each.name,
            each.description,
            json.dumps(each.schema),
            each.args_type().__name__,
            str(each.return_type()),
            str(each.state_type()),
            isinstance(each, StreamTool),
        ]
        for each in tools
    ]
    return [seen, order.describe(), order.orders]


@case("run, with a validated model")
async def _(govern: Govern) -> Any:
    (tool,) = govern([Counter()])
    value = await tool.run(Item(item="lamp"), CancellationToken())
    return repr(value)


@case("state that is saved and loaded")
async def _(govern: Govern) -> Any:
    (first,), (second,) = govern([Counter()]), govern([Counter()])
    await run(agent([("counter", LAMP)], tools=[first]))
    state = await first.save_state_json()
    await second.load_state_json(state)
    bench = StaticWorkbench([second])
    result = await bench.call_tool("counter", LAMP)
    return [state, str(first.state_type()), result.to_text(), await bench.save_state()]


@case("the task, the loop, the thread's context")
async def _(govern: Govern) -> Any:
    seen: dict[str, Any] = {}

    async def look(item: str) -> str:
        """Look."""
        ran.append(item)
        seen["task"] = asyncio.current_task()
        seen["where"] = where.get()
        where.set("inside")
        return item

    def look_too(item: str) -> str:
        """Look."""
        ran.append(item)
        seen["thread"] = threading.current_thread() is threading.main_thread()
        return item

    where.set("outside")
    first, second = govern([look, look_too])
    await first.run_json(LAMP, CancellationToken())
    await second.run_json(LAMP, CancellationToken())
    same = seen["task"] is asyncio.current_task()
    return [same, seen["where"], where.get(), seen["thread"]]


@case("a stream in its consumer's task and context, and its events as they come")
async def _(govern: Govern) -> Any:
    turns: list[Any] = []

    class Teller(Narrator):
        async def run_stream(
            self, args: Item, token: CancellationToken
        ) -> AsyncGenerator[Any, None]:
            turns.append([asyncio.current_task() is consumer, where.get()])
            async for value in super().run_stream(args, token):
                turns.append("made")
                yield value

    consumer = asyncio.current_task()
    where.set("outside")
    (tool,) = govern([Teller()])
    async for value in tool.run_json_stream(LAMP, CancellationToken(), call_id="c"):
        turns.append(type(value).__name__)
        await asyncio.sleep(0)
    return turns


@case("a stream that nobody hears to its end")
async def _(govern: Govern) -> Any:
    ends: list[str] = []

    class Teller(Narrator):
        async def run_stream(
            self, args: Item, token: CancellationToken
        ) -> AsyncGenerator[Any, None]:
            try:
                async for value in super().run_stream(args, token):
                    yield value
            finally:
                ends.append("closed")

    (tool,) = govern([Teller("half")])
    values = tool.run_json_stream(LAMP, CancellationToken())
    first = await anext(values)
    await values.aclose()
    await asyncio.sleep(0)
    return [first.content, ends]


@case("a stream that breaks off")
async def _(govern: Govern) -> Any:
    return await run(agent([("narrate", LAMP)], tools=govern([Narrator(breaks=True)])))


@case("AgentTool: its events reach the caller")
async def _(govern: Govern) -> Any:
    inner = agent([("search", LAMP)], name="inner", tools=govern([function("search")]))
    tool = govern([AgentTool(inner)])
    return await run(agent([("inner", {"task": "find a lamp"})], tools=tool))


@case("TeamTool: its events reach the caller")
async def _(govern: Govern) -> Any:
    inner = agent([("search", LAMP)], name="inner", tools=govern([function("search")]))
    team = RoundRobinGroupChat([inner], max_turns=1)
    tool = govern([TeamTool(team, "crew", "Ask the crew.", return_value_as_last_message=True)])
    return await run(agent([("crew", {"task": "find a lamp"})], tools=tool))


@case("AgentTool: the inner call is denied", "the inner agent is told, and the outer goes on")
async def _(govern: Govern) -> Any:
    inner = agent([("forbidden", LAMP)], name="inner", tools=govern([function("forbidden")]))
    return await run(agent([("inner", {"task": "t"})], tools=govern([AgentTool(inner)])))


@case("a team of two by turns")
async def _(govern: Govern) -> Any:
    first = agent([("search", LAMP)], name="first", tools=govern([function("search")]))
    second = agent([("order", LAMP)], name="second", tools=govern([coroutine("order")]))
    return await run(RoundRobinGroupChat([first, second], max_turns=2))


@case("a team of two by a selector")
async def _(govern: Govern) -> Any:
    first = agent([("search", LAMP)], name="first", tools=govern([function("search")]))
    second = agent([("order", LAMP)], name="second", tools=govern([coroutine("order")]))

    def choose(thread: Any) -> str:
        return "second" if thread[-1].source == "user" else "first"

    model = first._model_client
    team = SelectorGroupChat([first, second], model, max_turns=2, selector_func=choose)
    return await run(team)


@case("a team of two, one denied", "the one is told, the other goes on")
async def _(govern: Govern) -> Any:
    first = agent([("forbidden", LAMP)], name="first", tools=govern([function("forbidden")]))
    second = agent([("order", LAMP)], name="second", tools=govern([coroutine("order")]))
    return await run(RoundRobinGroupChat([first, second], max_turns=2))


@case("calls in parallel")
async def _(govern: Govern) -> Any:
    here = asyncio.Event()

    async def meet(item: str) -> str:
        """Meet the other call."""
        if item == "b":
            here.set()
        await asyncio.wait_for(here.wait(), PATIENCE)
        return f"met {item}"

    calls = [("meet", {"item": "a"}), ("meet", {"item": "b"})]
    seen = await run(agent(calls, tools=govern([meet])))
    ran.extend(sorted(text for text, _ in seen["told"]))
    return seen


@case("denied beside allowed calls in parallel", "those run, it does not")
async def _(govern: Govern) -> Any:
    calls = [("search", {"item": "a"}), ("forbidden", LAMP), ("search", {"item": "b"})]
    seen = await run(agent(calls, tools=govern([function("search"), function("forbidden")])))
    ran.sort()
    return seen


@case("two calls with one id, and the same ids in another run")
async def _(govern: Govern) -> Any:
    calls = [("search", {"item": "a"}, "same"), ("search", {"item": "b"}, "same")]
    tools = govern([function("search")])
    seen = [await run(agent(calls, tools=tools)), await run(agent(calls, tools=tools))]
    ran.sort()
    return seen


@case("a handoff beside a governed tool")
async def _(govern: Govern) -> Any:
    calls = [("search", LAMP), ("transfer_to_other", {})]
    return await run(agent(calls, tools=govern([function("search")]), handoffs=["other"]))


@case("reflect_on_tool_use, and one iteration")
async def _(govern: Govern) -> Any:
    tools = govern([function("search")])
    reflecting = agent([("search", LAMP)], iterations=1, tools=tools, reflect_on_tool_use=True)
    return [await run(reflecting), await run(agent([("search", LAMP)], iterations=1, tools=tools))]


@case("autogen_core's ToolAgent")
async def _(govern: Govern) -> Any:
    tools = govern([function("search")])
    runtime = SingleThreadedAgentRuntime()
    await ToolAgent.register(runtime, "tools", lambda: ToolAgent("Tools.", tools))
    runtime.start()
    call = FunctionCall(id="c", name="search", arguments=json.dumps(LAMP))
    result = await runtime.send_message(call, AgentId("tools", "default"))
    await runtime.stop_when_idle()
    return repr(result)


@case("a body that tells what it has read")
async def _(govern: Govern) -> Any:
    async def read(item: str) -> Any:
        """Read of an item."""
        ran.append(item)
        page = f"a page of {item}"
        return Result(page, [Document(page)]) if govern is governed else page

    return await run(agent([("read", LAMP)], tools=govern([read])))


@case("a result too large for the gate")
async def _(govern: Govern) -> Any:
    async def grow(item: str) -> str:
        """Grow an item."""
        ran.append(item)
        return "x" * TOO_LARGE

    seen = await run(agent([("grow", LAMP)], tools=govern([grow])))
    return [[len(text), is_error] for text, is_error in seen["told"]]


@case(
    "an argument too large for the gate, denied",
    "nothing runs; the model is told why, as an error",
)
async def _(govern: Govern) -> Any:
    async def keep(item: str) -> str:
        """Keep an item."""
        ran.append(len(item))
        return f"kept {len(item)}"

    large = {"item": "x" * TOO_LARGE}
    own = await govern(StaticWorkbench([FunctionTool(keep, "Keep an item.")])).call_tool(
        "keep", large
    )
    seen = await run(agent([("keep", large)], tools=govern([keep])))
    return {"told": seen["told"], "of a workbench": [own.to_text(), own.is_error]}


@case("a default that is another one each time", "the body gets the one that was judged")
async def _(govern: Govern) -> Any:
    class Args(BaseModel):
        key: str = Field(default_factory=lambda: str(uuid.uuid4()))

    keys: list[str] = []

    class Keyed(BaseTool[Args, Any]):
        def __init__(self) -> None:
            super().__init__(Args, str, "keyed", "Make a key.")  # type: ignore[arg-type]

        async def run(self, args: Args, cancellation_token: CancellationToken) -> Any:
            keys.append(args.key)
            return "made"

    (tool,) = govern([Keyed()])
    await tool.run_json({}, CancellationToken())
    return [len(keys), judged[-1] == {"key": keys[0]} if govern is governed else None]


@case("a tool with a run_json of its own", "it gets what was judged, with defaults, and no more")
async def _(govern: Govern) -> Any:
    class Own(Counter):
        async def run_json(
            self, args: Mapping[str, Any], cancellation_token: Any, call_id: str | None = None
        ) -> Any:
            ran.append([dict(args), call_id])
            return Receipt(item="own", total=1)

    (tool,) = govern([Own()])
    value = await tool.run_json({"item": "lamp", "secret": 1}, CancellationToken(), "c")
    return repr(value)


@case("arguments that are changed while they are judged")
async def _(govern: Govern) -> Any:
    args: dict[str, Any] = {"item": "lamp", "amount": 10}
    (tool,) = govern([coroutine("pay")])
    call = asyncio.ensure_future(tool.run_json(args, CancellationToken()))
    await asyncio.sleep(0)
    if govern is governed:
        await held_or_done(call, "pay")
    args["amount"] = 1000
    return await call


# --- workbenches


@case("StaticWorkbench: overrides of names and descriptions")
async def _(govern: Govern) -> Any:
    overrides = {"search": ToolOverride(name="find", description="Find it.")}
    bench = govern(StaticWorkbench([function("search"), Counter()], overrides))
    tools = await bench.list_tools()
    calls = [("find", LAMP), ("counter", LAMP)]
    state = await bench.save_state()
    return [json.dumps(tools), await run(agent(calls, workbench=bench)), state]


@case("an overridden name is what policy knows", "it is denied by the name that is shown")
async def _(govern: Govern) -> Any:
    overrides = {"search": ToolOverride(name="forbidden_name")}
    bench = govern(StaticWorkbench([function("search")], overrides))
    return await run(agent([("forbidden_name", LAMP)], workbench=bench))


@case("a StaticStreamWorkbench with a way of its own")
async def _(govern: Govern) -> Any:
    bench = govern(OwnBench([Narrator("own_tale"), function("own_search")]))
    return await run(agent([("own_tale", LAMP), ("own_search", LAMP)], workbench=bench))


@case("an own workbench: texts, images, errors, no arguments, the call's id and token")
async def _(govern: Govern) -> Any:
    bench = govern(Bench("see", parameters={"type": "object", "properties": {}}))
    token = CancellationToken()
    results = [
        await bench.call_tool("see", {"item": item}, token, "c")
        for item in ("lamp", "picture", "nothing")
    ]
    results.append(await bench.call_tool("see"))
    calls = [("see", {"item": item}) for item in ("lamp", "picture", "nothing")]
    seen = await run(agent(calls, workbench=bench))
    ran.sort(key=str)
    return [*(each.model_dump_json() for each in results), seen]


@case("a workbench's life, state and whatever else it has")
async def _(govern: Govern) -> Any:
    raw = Bench("fetch")
    bench = govern(raw)
    async with bench as entered:
        await entered.call_tool("fetch", LAMP)
        await entered.reset()
        state = await entered.save_state()
        await entered.load_state({"used": 7})
    return [raw.life, state, bench.used, bench.resources(), type(await bench.list_tools()).__name__]


@case("a workbench whose tools come and go")
async def _(govern: Govern) -> Any:
    raw = Bench("one")
    bench = govern(raw)
    said = []
    for name in ("one", "two", "one"):
        raw.names = [name]
        said.append(await run(agent([(name, LAMP)], workbench=bench)))
    return said


@case("a tool that is listed with another schema later", "it is another tool, and denied")
async def _(govern: Govern) -> Any:
    raw = Bench("changing")
    bench = govern(raw)
    first = await run(agent([("changing", LAMP)], workbench=bench))
    raw.parameters = {"type": "object", "properties": {}}
    return [first, await run(agent([("changing", {"item": "all"})], workbench=bench))]


@case("a schema that refers to what it leaves out")
async def _(govern: Govern) -> Any:
    part = {"type": "object", "properties": {"item": {"$ref": "#/$defs/Item"}}}
    bench = govern(Bench("parts", parameters=part))
    return await run(agent([("parts", LAMP)], workbench=bench))


@case("workbenches that stream: AutoGen's agent hears of some")
async def _(govern: Govern) -> Any:
    seen = []
    for bench in (StreamBench("fetch"), AgentBench("fetch")):
        made = govern(bench)
        seen.append(await run(agent([("fetch", LAMP)], workbench=made)))
        values = made.call_tool_stream("fetch", LAMP, CancellationToken(), "c")
        seen.append([type(value).__name__ async for value in values])
    return seen


@case("several workbenches")
async def _(govern: Govern) -> Any:
    benches = govern([Bench("fetch"), StaticWorkbench([function("search")])])
    return await run(agent([("fetch", LAMP), ("search", LAMP)], workbench=benches))


@case("two workbenches with one tool's name", "the second one's is denied")
async def _(govern: Govern) -> Any:
    first, second = govern([Bench("fetch"), Bench("fetch")])
    await first.list_tools()
    results = [await each.call_tool("fetch", LAMP) for each in (first, second)]
    return [each.to_text() for each in results]


@case("a workbench's invalid arguments", "the gate refuses what the listed schema does not take")
async def _(govern: Govern) -> Any:
    bench = govern(Bench("fetch"))
    wrong: list[Any] = [{"item": 1}, {}]
    seen = [(await bench.call_tool("fetch", each)).is_error for each in wrong]
    if govern is governed:
        seen += [(await bench.call_tool("fetch", [1])).is_error]
    return seen


# --- denied


@in_kinds("denied", "nothing runs; the model is told why, as an error")
async def _(govern: Govern, kind: str) -> Any:
    return await once(govern, kind, "forbidden")


@in_kinds("denied, worded by on_denied", "nothing runs; the model is told so, as an error")
async def _(govern: Govern, kind: str) -> Any:
    return await once(govern, kind, "forbidden", on_denied=lambda error: f"No: {error.reason}.")


@case("denied, on_denied itself raises", "nothing runs; the model is told in the usual words")
async def _(govern: Govern) -> Any:
    return await once(govern, "own workbench", "forbidden", on_denied=lambda error: 1 / 0)


@case("denied, called by own code", "the error is raised")
async def _(govern: Govern) -> Any:
    said = []
    for on_denied in (None, "raise"):
        (tool,) = govern([coroutine("forbidden")], on_denied=on_denied)
        try:
            said.append(await tool.run_json(LAMP, CancellationToken()))
        except ActionDenied as error:
            said.append([error.kind, str(error)])
    return said


@case("denied, a stream that own code hears", "the error is raised")
async def _(govern: Govern) -> Any:
    (tool,) = govern([Narrator("forbidden_tale")])
    try:
        values = tool.run_json_stream(LAMP, CancellationToken())
        return [type(value).__name__ async for value in values]
    except ActionDenied as error:
        return error.kind


# --- held


@in_kinds("held and approved", "same, when it is approved")
async def _(govern: Govern, kind: str) -> Any:
    return await once(govern, kind, "pay")


@in_kinds("held and edited", "it runs with what was approved; the model is told")
async def _(govern: Govern, kind: str) -> Any:
    return await once(govern, kind, "pay_less")


@case("held and edited to what the tool does not take", "nothing runs; the model is told")
async def _(govern: Govern) -> Any:
    class Few(BaseModel):
        item: str
        amount: int = 1

        @field_validator("amount")
        @classmethod
        def few(cls, amount: int) -> int:
            if amount > 3:
                raise ValueError("too many")
            return amount

    class Tool(BaseTool[Few, Any]):
        def __init__(self) -> None:
            super().__init__(Few, str, "pay_less_few", "Order a few.")  # type: ignore[arg-type]

        async def run(self, args: Few, cancellation_token: CancellationToken) -> Any:
            ran.append([args.item, args.amount])
            return "ordered"

    return await run(agent([("pay_less_few", LAMP)], tools=govern([Tool()])))


@in_kinds("held and denied", "nothing runs; the model is told why, as an error")
async def _(govern: Govern, kind: str) -> Any:
    return await once(govern, kind, "pay_no")


@in_kinds("held, nobody decides in time", "nothing runs, also later; the model is told")
async def _(govern: Govern, kind: str) -> Any:
    seen = await once(govern, kind, "pay_late", hold_timeout=0.05)
    return {**seen, "held": waiting(named("pay_late", kind))}


@in_kinds("held, returned", "nothing runs; the model is told that it is held, and its uid")
async def _(govern: Govern, kind: str) -> Any:
    seen = await once(govern, kind, "pay_later", hold="return")
    return {**seen, "held": take_back(named("pay_later", kind))}


@in_kinds("held, and the run's token is cancelled", "it is taken back, and the run ends")
async def _(govern: Govern, kind: str) -> Any:
    token = CancellationToken()
    name = named("pay_late_too", kind)
    made = agent([(name, LAMP)], **of_kind(kind, "pay_late_too", govern))
    running = asyncio.ensure_future(run(made, token=token))
    await held_or_done(running, name)
    token.cancel()
    seen = await running
    return {**seen, "held": left(name)}


@case("held, and the token of a team's run is cancelled", "it is taken back, and the run ends")
async def _(govern: Govern) -> Any:
    token = CancellationToken()
    tools = govern([function("pay_late_too")])
    team = RoundRobinGroupChat([agent([("pay_late_too", LAMP)], tools=tools)], max_turns=1)

    async def ends() -> str:
        try:
            await asyncio.wait_for(team.run(task="go", cancellation_token=token), PATIENCE)
        except asyncio.CancelledError:
            return "cancelled"
        return "done"

    running = asyncio.ensure_future(ends())
    await held_or_done(running, "pay_late_too")
    token.cancel()
    return [await running, left("pay_late_too")]


@case("held, and the task is cancelled", "it is taken back")
async def _(govern: Govern) -> Any:
    (tool,) = govern([coroutine("pay_late_too")])
    running = asyncio.ensure_future(tool.run_json(LAMP, CancellationToken()))
    await held_or_done(running, "pay_late_too")
    running.cancel()
    try:
        ended = await running
    except asyncio.CancelledError:
        ended = "cancelled"
    return [ended, left("pay_late_too")]


@in_kinds("a token that was cancelled before", "nothing is asked, and nothing runs", "same")
async def _(govern: Govern, kind: str) -> Any:
    token = CancellationToken()
    token.cancel()
    takes = of_kind(kind, "search", govern)
    if "tools" in takes:
        call = takes["tools"][0].run_json(LAMP, token)
    else:
        call = takes["workbench"].call_tool(named("search", kind), LAMP, token)
    try:
        result = await call
        return str(result) if isinstance(result, str | ToolResult) else type(result).__name__
    except (ActionDenied, asyncio.CancelledError) as error:
        return [type(error).__name__, str(error)]


@case("a token that is cancelled while the body runs")
async def _(govern: Govern) -> Any:
    token = CancellationToken()

    async def slow(item: str) -> str:
        """Take long."""
        ran.append(item)
        token.cancel()
        await asyncio.sleep(0)
        return f"slow {item}"

    (tool,) = govern([slow])
    own = await tool.run_json(LAMP, token)
    token = CancellationToken()
    call = asyncio.ensure_future(StaticWorkbench([tool]).call_tool("slow", LAMP, token))
    await asyncio.wait([call])
    return [own, call.cancelled()]


@case("forty held at once", "same, when they are approved; no thread waits")
async def _(govern: Govern) -> Any:
    (tool,) = govern([coroutine("pay_async")])
    before = threading.active_count()
    calls = [
        asyncio.ensure_future(tool.run_json({"item": str(n)}, CancellationToken()))
        for n in range(40)
    ]
    await asyncio.sleep(0)
    if govern is governed:
        await held_or_done(calls[-1], "pay_async")
    more = threading.active_count() - before
    results = sorted(await asyncio.gather(*calls))
    ran.sort()
    return [results, more]


@case("forty held at once, of a synchronous function", "same, when they are approved")
async def _(govern: Govern) -> Any:
    (tool,) = govern([function("pay_async")])
    calls = [tool.run_json({"item": str(n)}, CancellationToken()) for n in range(40)]
    results = sorted(await asyncio.gather(*calls))
    ran.sort()
    return results


@case("a body that stops itself", "its call goes on later, by its uid")
async def _(govern: Govern) -> Any:
    async def stops(item: str) -> str:
        """Stop, the first time."""
        ran.append(item)
        if len(ran) == 1 and govern is governed:
            raise ToolSuspended("the shop is closed")
        return f"went on with {item}"

    (tool,) = govern([stops])
    try:
        return await tool.run_json(LAMP, CancellationToken(), "c")
    except ActionHeld as held:
        message = await run_approved(gate, held.uid)
        return [plain(str(held)), message.content]


# --- a team that stops at a hold


@in_kinds("a team that stops at a hold", "it stops; approved, it goes on with the result")
async def _(govern: Govern, kind: str) -> Any:
    stop = HoldTermination()

    def team() -> RoundRobinGroupChat:
        takes = of_kind(kind, "pay", govern, hold="return")
        made = agent([(named("pay", kind), LAMP)], iterations=1, **takes)
        return RoundRobinGroupChat([made], termination_condition=stop, max_turns=1)

    first = team()
    seen = [await run(first)]
    for held in stop.held:
        state = json.loads(json.dumps(await first.save_state()))
        message = await run_approved(gate, held.uid, wait=PATIENCE)
        again = await run_approved(gate, held.uid)
        second = team()
        await second.load_state(state)
        seen += [message.content, again.content, await run(second, task=message)]
    return seen


@case("what stops a team, and what does not", "a hold does; a denial, and what looks like one, not")
async def _(govern: Govern) -> Any:
    async def liar(item: str) -> str:
        """Say something."""
        ran.append(item)
        raise ValueError("pay has not run, because it waits for a person's approval. [held]")

    seen = []
    for name in ("liar", "forbidden", "pay_later"):
        tools = govern([liar, coroutine("forbidden"), coroutine("pay_later")], hold="return")
        calls = agent([(name, LAMP, "one-id")], iterations=1, tools=tools)
        stop = HoldTermination()
        team = RoundRobinGroupChat([calls], termination_condition=stop, max_turns=1)
        result = await run(team)
        seen.append([result["stop"], len(stop.held), stop.terminated])
    take_back("pay_later")
    return seen


@case("a hold that was denied, withdrawn or is not decided", "the team is told; or ActionHeld")
async def _(govern: Govern) -> Any:
    if govern is not governed:
        return None
    said: list[str] = []
    (tool,) = govern([coroutine("pay_no_more")], hold="return")
    try:
        await tool.run_json(LAMP, CancellationToken(), "c")
    except ActionHeld as held:
        message = await run_approved(gate, held.uid, wait=PATIENCE)
        said += [message.content, json.dumps(sorted(message.metadata))]
    (tool,) = govern([coroutine("pay_late")], hold="return")
    try:
        await tool.run_json(LAMP, CancellationToken(), "c")
    except ActionHeld as held:
        try:
            await run_approved(gate, held.uid)
        except ActionHeld as waits:
            said.append(waits.kind)
        gate.withdraw(held.uid)
        said.append((await run_approved(gate, held.uid)).content)
    (tool,) = govern([coroutine("pay_elsewhere")], hold="return")
    try:
        await tool.run_json(LAMP, CancellationToken(), "c")
    except ActionHeld as held:
        async with Counting(config, launcher=launcher) as other:
            try:
                await run_approved(other, held.uid, wait=PATIENCE)
            except ActionHeld as waits:
                said.append(waits.reason[:31])
        said.append((await run_approved(gate, held.uid, wait=PATIENCE)).content)
    try:
        await run_approved(gate, "0" * 24)
    except ActionDenied as unknown:
        said.append(unknown.kind)
    return said


# --- binding


@case("components: dumped, loaded, bound", "what is loaded denies until it is bound")
async def _(govern: Govern) -> Any:
    made = agent(
        [("fetch", LAMP)], workbench=govern([Bench("fetch"), StaticWorkbench([function("search")])])
    )
    again = AssistantAgent.load_component(json.loads(made.dump_component().model_dump_json()))
    seen = [await run(again)]
    if govern is governed:
        bind(gate, again)
        restored = AssistantAgent.load_component(made.dump_component())
        bind(gate, [RoundRobinGroupChat([restored])])
        seen += [await run(restored)]
    return seen


@case("pickled and copied tools", "a copy asks the same gate; unpickled it denies until bound")
async def _(govern: Govern) -> Any:
    (tool,) = govern([Counter()])
    seen = []
    for copied in (copy.copy(tool), copy.deepcopy(tool), pickle.loads(pickle.dumps(tool))):
        seen.append(await run(agent([("counter", LAMP)], tools=[copied])))
    if govern is governed:
        bind(gate, copied)
        seen.append(await run(agent([("counter", LAMP)], tools=[copied])))
    return seen


@case("a gate that has gone away", "nothing runs; the model is told")
async def _(govern: Govern) -> Any:
    tools: list[Any] = [function("gone")]
    bench: Any = Bench("gone")
    with Counting(config, launcher=launcher) as other:
        if govern is governed:
            tools, bench = govern_tools(other, tools), govern_tools(other, bench)
    by_tool = await run(agent([("gone", LAMP)], tools=tools))
    return [by_tool, await run(agent([("gone", LAMP)], workbench=bench))]


@case("governed_call and agoverned_call", "they ask the gate")
async def _(govern: Govern) -> Any:
    if govern is not governed:
        return None
    govern([coroutine(name) for name in ("search", "forbidden", "pay_late", "pay_less")])

    async def later(args: dict[str, Any]) -> str:
        return f"later {args['item']}"

    said: list[Any] = [
        await agoverned_call(gate, "search", LAMP),
        await agoverned_call(gate, "search", LAMP, body=later),
        await agoverned_call(gate, "search", LAMP, body=lambda args: args["item"]),
        await agoverned_call(gate, "pay_less", LAMP),
        await asyncio.to_thread(governed_call, gate, "search", LAMP),
    ]
    for name in ("forbidden", "pay_late"):
        try:
            await agoverned_call(gate, name, LAMP, hold="return")
        except (ActionDenied, ActionHeld) as error:
            said.append(error.kind)
    take_back("pay_late")
    try:
        governed_call(gate, "search", LAMP)
    except GateError as error:
        said.append(str(error)[:44])
    return said


@case("governing twice, and what is refused", "errors say what is wrong")
async def _(govern: Govern) -> Any:
    one, several = govern(function("again")), govern([function("again"), Narrator()])
    bench, static = govern(Bench("fetch")), govern(StaticStreamWorkbench([function("again")]))
    said: list[Any] = [
        govern(one) is one,
        [a is b for a, b in zip(govern(several), several, strict=True)],
        govern(bench) is bench,
        govern(static) is static,
        type(static).__name__,
    ]
    if govern is governed:
        said += [type(each) is GovernedStreamTool for each in several]
        wrong: list[Any] = [
            lambda: govern([function("a"), function("a")]),
            lambda: govern([StaticWorkbench([function("a")]), StaticWorkbench([function("a")])]),
            lambda: govern(42),
            lambda: govern([int]),
            lambda: govern(Bench("a"), on_denied="raise"),
            lambda: bind(gate, agent()),
            lambda: GovernedTool.load_component(one.dump_component()).bind(other),
            lambda: govern_tools(other, one),
        ]
        with Counting(config, launcher=launcher) as other:
            for attempt in wrong:
                try:
                    attempt()
                    said.append("nothing")
                except (TypeError, ValueError) as error:
                    said.append(plain(str(error)))
    return said


# --- running the cases


def waiting(name: str) -> int:
    """Return how many calls of a tool are held at this moment."""
    return sum(hold.tool == name for hold in gate.holds("pending"))


def left(name: str) -> int:
    """Return how many calls of a tool stay held, though nobody waits for them."""
    latest = time.monotonic() + PATIENCE
    while (held := waiting(name)) and time.monotonic() < latest:
        gate.ping()
    return held


def take_back(name: str) -> int:
    """Take back the held calls of a tool; return how many there were."""
    held = [str(hold.uid) for hold in gate.holds("pending") if hold.tool == name]
    for uid in held:
        gate.withdraw(uid)
    return len(held)


async def held_or_done(running: asyncio.Future[Any], name: str) -> None:
    """Wait until a call of a tool is held, or the run has ended."""
    latest = time.monotonic() + PATIENCE
    while not (running.done() or waiting(name)):
        assert time.monotonic() < latest
        await asyncio.wait([running], timeout=0.01)


judged: list[dict[str, Any]] = []


class Watched(Counting):
    """A gate's client that keeps what it was asked."""

    async def agovern(self, tool: str, args: Mapping[str, Any], **options: Any) -> Any:
        judged.append(dict(args))
        return await super().agovern(tool, args, **options)


def raw(tools: Any, **options: Any) -> Any:
    """Leave tools as they are, but for what an agent makes of functions."""
    one = not isinstance(tools, list)
    made = [
        FunctionTool(each, description=each.__doc__ or "") if callable(each) else each
        for each in ([tools] if one else tools)
    ]
    return made[0] if one else made


def governed(tools: Any, **options: Any) -> Any:
    """Govern tools."""
    return govern_tools(gate, tools, **options)


def observe(run_case: Case, govern: Govern) -> dict[str, Any]:
    """Run a case."""
    ran.clear()
    before = gate.proposals
    try:
        seen = asyncio.run(asyncio.wait_for(_awaited(run_case(govern)), 3 * PATIENCE))
    except Exception as error:  # noqa: BLE001 - it is what was seen
        seen = {"error": repr(error)}
    return {"seen": seen, "ran": list(ran), "proposals": gate.proposals - before}


async def _awaited(case_run: Awaitable[Any]) -> Any:
    return await case_run


if __name__ == "__main__":
    config, launcher = Path(sys.argv[1]), json.loads(sys.argv[2])
    if sys.argv[3:]:
        cases = {name: cases[name] for name in sys.argv[3:]}
    with Watched(config, launcher=launcher) as gate:
        for name, (promise, run_case) in cases.items():
            line = {
                "case": name,
                "promise": promise,
                "raw": observe(run_case, raw),
                "governed": observe(run_case, governed),
            }
            print("CASE", json.dumps(line, default=str), flush=True)
