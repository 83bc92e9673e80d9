"""CrewAI's tools, raw and governed: the cases of the matrix, and what is promised of each.

Run as ``python crewai_cases.py CONFIG LAUNCHER [CASE…]`` in an environment that has CrewAI;
LAUNCHER is a gate's argv as JSON. Prints one line of JSON for each case: what was seen raw and
governed. It knows nothing of pytest. The config denies ``forbidden*`` and holds ``pay*``, which
somebody else answers: ``pay`` and ``pay_async`` are approved, ``pay_no`` is denied, ``pay_less``
approved with an amount of 5, ``pay_late*`` never answered; everything else is allowed.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from crewai import Agent, Crew, Task
from crewai.tools import tool
from pydantic import BaseModel

from support.crewai_crews import (
    PATIENCE,
    AsyncOrder,
    BadFormat,
    Both,
    Counting,
    Order,
    Report,
    Scripted,
    ToolFailure,
    bad_cache,
    crew,
    failing,
    function,
    named,
    order_args,
    ran,
    shown,
    structured,
    told,
)
from toolgate_client import ActionDenied, ActionHeld, Document, Result
from toolgate_crewai import agoverned_call, bind, fail_closed, govern_tools, governed_call

warnings.simplefilter("ignore")


# --- the matrix

TOO_LARGE = 80_000
"""More bytes than the gate takes in a message."""

Govern = Callable[..., list[Any]]
cases: dict[str, tuple[str, Callable[[Govern], Any]]] = {}


def case(name: str, promise: str = "same") -> Any:
    """Add a case; ``promise`` says what differs when it is governed."""

    def add(run: Callable[[Govern], Any]) -> None:
        cases[name] = (promise, run)

    return add


def in_loops(name: str, promise: str = "same", react: str | None = None) -> Any:
    """Add a case that is given ``native``, once for each way a model calls tools."""

    def add(run: Callable[[Govern, bool], Any]) -> None:
        case(f"{name}, native", promise)(lambda govern: run(govern, True))
        case(f"{name}, ReAct", react or promise)(lambda govern: run(govern, False))

    return add


@in_loops("a function's tool")
def _(govern: Govern, native: bool) -> Any:
    return crew(govern([named("search")]), [("search", {"item": "lamp"})], native=native)


@in_loops("a class's tool: coercion, defaults, aliases, enums, nested models")
def _(govern: Govern, native: bool) -> Any:
    args = order_args(address={"street": "s", "zip": "1"})
    return crew(govern([Order()]), [("place_order", args)], native=native)


@in_loops("a coroutine function's tool")
def _(govern: Govern, native: bool) -> Any:
    @tool("later")
    async def later(item: str) -> str:
        """Order an item."""
        await asyncio.sleep(0)
        ran.append(item)
        return f"later {item}"

    return crew(govern([later]), [("later", {"item": "lamp"})], native=native)


@in_loops("a class's tool with a coroutine as its body")
def _(govern: Govern, native: bool) -> Any:
    return crew(govern([AsyncOrder()]), [("slow", {"item": "lamp"})], native=native)


@in_loops("a result that is the answer")
def _(govern: Govern, native: bool) -> Any:
    made = govern([named("final", result_as_answer=True)])
    return crew(made, [("final", {"item": "lamp"})], native=native)


@in_loops("a usage limit")
def _(govern: Govern, native: bool) -> Any:
    calls = [[("twice", {"item": str(number)})] for number in range(3)]
    return crew(govern([named("twice", max_usage_count=2)]), *calls, native=native)


@in_loops("a result schema")
def _(govern: Govern, native: bool) -> Any:
    @tool("report")
    def report(total: int) -> Report:
        """Report a total."""
        ran.append(total)
        return Report(total=total)

    return crew(govern([report]), [("report", {"total": 3})], native=native)


@in_loops("invalid arguments")
def _(govern: Govern, native: bool) -> Any:
    args = order_args(day="never")
    return crew(govern([Order()]), [("place_order", args)], native=native)


@in_loops("an unknown tool")
def _(govern: Govern, native: bool) -> Any:
    return crew(govern([named("search")]), [("xyzzy", {"item": "lamp"})], native=native)


@in_loops("the same call twice in a row")
def _(govern: Govern, native: bool) -> Any:
    call = [("search", {"item": "lamp"})]
    return crew(govern([named("search")]), call, call, native=native)


@in_loops("a failure that the tool returns")
def _(govern: Govern, native: bool) -> Any:
    @tool("declares")
    def declares(item: str) -> Any:
        """Order an item."""
        ran.append(item)
        return ToolFailure(message="out of stock", code="stock") if ToolFailure else "out of stock"

    return crew(govern([declares]), [("declares", {"item": "lamp"})], native=native)


@case("calls in parallel, native")
def _(govern: Govern) -> Any:
    both = threading.Barrier(2, timeout=PATIENCE)

    @tool("meet")
    def meet(item: str) -> str:
        """Meet the other call."""
        both.wait()
        return f"met {item}"

    seen = crew(govern([meet]), [("meet", {"item": "a"}), ("meet", {"item": "b"})], native=True)
    ran.extend(sorted(seen["told"]))
    return seen


@in_loops("a body that tells what it has read")
def _(govern: Govern, native: bool) -> Any:
    @tool("read")
    def read(item: str) -> Any:
        """Read of an item."""
        ran.append(item)
        page = f"a page of {item}"
        return Result(page, [Document(page)]) if govern is governed else page

    return crew(govern([read]), [("read", {"item": "lamp"})], native=native)


@in_loops("a result too large for the gate")
def _(govern: Govern, native: bool) -> Any:
    @tool("grow")
    def grow(item: str) -> str:
        """Grow an item."""
        ran.append(item)
        return "x" * TOO_LARGE

    seen = crew(govern([grow]), [("grow", {"item": "lamp"})], native=native)
    return [[len(text) for text in seen["told"]], seen["answer"]]


@in_loops("an argument too large for the gate, denied", "nothing runs; the model is told why")
def _(govern: Govern, native: bool) -> Any:
    @tool("keep")
    def keep(item: str) -> str:
        """Keep an item."""
        ran.append(len(item))
        return f"kept {len(item)}"

    seen = crew(govern([keep]), [("keep", {"item": "x" * TOO_LARGE})], native=native)
    return {"told": seen["told"], "answer": seen["answer"]}


@in_loops("a crew that is awaited")
def _(govern: Govern, native: bool) -> Any:
    def kickoff(made: Crew) -> Any:
        return asyncio.run(made.kickoff_async())

    turn = [("search", {"item": "lamp"})]
    return crew(govern([named("search")]), turn, native=native, kickoff=kickoff)


@in_loops("a crew that is copied")
def _(govern: Govern, native: bool) -> Any:
    def kickoff(made: Crew) -> Any:
        (output,) = made.kickoff_for_each([{"topic": "lamps"}])
        return output

    turn = [("search", {"item": "lamp"})]
    return crew(govern([named("search")]), turn, native=native, kickoff=kickoff)


@in_loops("a crew that is awaited, natively async")
def _(govern: Govern, native: bool) -> Any:
    def kickoff(made: Crew) -> Any:
        return asyncio.run(made.akickoff())

    turn = [("search", {"item": "lamp"})]
    return crew(govern([named("search")]), turn, native=native, kickoff=kickoff)


@in_loops("an agent without a crew")
def _(govern: Govern, native: bool) -> Any:
    llm = Scripted(model="scripted", native=native, script=[[("search", {"item": "lamp"})]])
    made = govern([named("search")])
    agent = Agent(role="r", goal="g", backstory="b", llm=llm, tools=made)
    answer = str(agent.kickoff("order a lamp"))
    return {"answer": answer, "told": told(llm)}


@case("CrewStructuredTool and LangChain's", "governed, an agent takes them, as CrewAI's Tool")
def _(govern: Govern) -> Any:
    class LangChains:
        name = "langchains"
        description = "Order an item."
        func = staticmethod(function)

    made = govern([structured(), LangChains()])
    if govern is not governed:
        return [type(each).__name__ for each in made]
    turns = [[("structured", {"item": "a"})], [("langchains", {"item": "b"})]]
    return crew(made, *turns, native=True)


@case("run, arun, positional")
def _(govern: Govern) -> Any:
    (both,) = govern([Both()])
    return [both.run(item="a"), both.run("b"), asyncio.run(both.arun(item="c"))]


@case("a structured tool's invoke and ainvoke")
def _(govern: Govern) -> Any:
    async def both(made: Any) -> Any:
        return [await made.ainvoke({"item": "b"})]

    first, second = govern([named("one"), AsyncOrder()])
    made, slow = first.to_structured_tool(), second.to_structured_tool()
    return [made.invoke({"item": "a"}), *asyncio.run(both(made)), *asyncio.run(both(slow))]


@case("fields, class and own methods")
def _(govern: Govern) -> Any:
    raw = Order(result_as_answer=True, max_usage_count=7, current_usage_count=1)
    (made,) = govern([raw])
    made.run(**order_args())
    dumped = made.model_dump(exclude={"cache_function", "tool_type"})
    (caching,) = govern([Order()], cache=True)
    written = caching.model_dump(mode="json", exclude={"tool_type"})
    return [isinstance(made, Order), str(dumped), made.describe(), shown(made), str(written)]


@in_loops(
    "a body that raises",
    react="its body runs once, not six times; the model is told CrewAI's native words",
)
def _(govern: Govern, native: bool) -> Any:
    return crew(govern([failing()]), [("broken", {"item": "lamp"})], native=native)


@in_loops("a formatter that raises", "its body runs once; the result is shown by str")
def _(govern: Govern, native: bool) -> Any:
    return crew(govern([BadFormat()]), [("badly_shown", order_args())], native=native)


@in_loops("CrewAI's cache of results", "every call reaches the gate and runs")
def _(govern: Govern, native: bool) -> Any:
    turns = [[("search", {"item": item})] for item in ("lamp", "rug", "lamp")]
    return crew(govern([named("search")]), *turns, native=native, cache=True)


@in_loops("CrewAI's cache of results, cache=True")
def _(govern: Govern, native: bool) -> Any:
    turns = [[("search", {"item": item})] for item in ("lamp", "rug", "lamp")]
    return crew(govern([named("search")], cache=True), *turns, native=native, cache=True)


@in_loops("a cache_function that raises, cache=True", "its body runs once; nothing is cached")
def _(govern: Govern, native: bool) -> Any:
    made = govern([named("search", cache_function=bad_cache)], cache=True)
    return crew(made, [("search", {"item": "lamp"})], native=native, cache=True)


@in_loops("denied", "nothing runs; the model is told why")
def _(govern: Govern, native: bool) -> Any:
    made = govern([named("forbidden", result_as_answer=True)])
    return crew(made, [("forbidden", {"item": "lamp"})], native=native)


@case("denied beside an allowed call in parallel, native", "the one runs, the other does not")
def _(govern: Govern) -> Any:
    turn = [("forbidden", {"item": "lamp"}), ("search", {"item": "rug"})]
    seen = crew(govern([named("forbidden"), named("search")]), turn, native=True)
    ran.sort()
    return seen


@in_loops("denied, worded by on_denied", "nothing runs; the model is told so")
def _(govern: Govern, native: bool) -> Any:
    made = govern([named("forbidden")], on_denied=lambda error: f"No: {error.reason}.")
    return crew(made, [("forbidden", {"item": "lamp"})], native=native)


@in_loops("denied, on_denied raises", "nothing runs; the model is told why")
def _(govern: Govern, native: bool) -> Any:
    made = govern([named("forbidden")], on_denied="raise")
    return crew(made, [("forbidden", {"item": "lamp"})], native=native)


@case("denied, on_denied raises, called by own code", "ActionDenied is raised")
def _(govern: Govern) -> Any:
    (made,) = govern([named("forbidden")], on_denied="raise")
    try:
        return made.run(item="lamp")
    except ActionDenied as error:
        return error.kind


@in_loops("denied, tool_failure_policy raise", "nothing runs; the crew ends")
def _(govern: Govern, native: bool) -> Any:
    made = govern([named("forbidden", tool_failure_policy="raise")])
    return crew(made, [("forbidden", {"item": "lamp"})], native=native)


@in_loops("held and approved", "same, when it is approved")
def _(govern: Govern, native: bool) -> Any:
    return crew(govern([named("pay")]), [("pay", {"item": "lamp"})], native=native)


@in_loops("held and edited", "it runs with what was approved")
def _(govern: Govern, native: bool) -> Any:
    return crew(govern([named("pay_less")]), [("pay_less", {"item": "lamp"})], native=native)


@in_loops("held and denied", "nothing runs; the model is told why")
def _(govern: Govern, native: bool) -> Any:
    return crew(govern([named("pay_no")]), [("pay_no", {"item": "lamp"})], native=native)


@in_loops("held, nobody decides in time", "nothing runs, also later; the model is told")
def _(govern: Govern, native: bool) -> Any:
    made = govern([named("pay_late")], hold_timeout=0.05)
    seen = crew(made, [("pay_late", {"item": "lamp"})], native=native)
    return {**seen, "held": waiting("pay_late")}


@in_loops("held, returned", "nothing runs; the model is told that it is held, and its uid")
def _(govern: Govern, native: bool) -> Any:
    made = govern([named("pay_later")], hold="return")
    seen = crew(made, [("pay_later", {"item": f"lamp {native}"})], native=native)
    return {**seen, "held": waiting("pay_later")}


@case("held and returned to a flow's step", "a retryable failure has the hold; resumed, it runs")
def _(govern: Govern) -> Any:
    (made,) = govern([named("pay")], hold="return")
    result = made.run(item="lamp")
    if isinstance(result, str):
        return result
    outcome = gate.resume(result.details["uid"], wait=PATIENCE)
    return [result.retryable, result.code, sorted(result.details), outcome.output]


@case("held and cancelled, async", "it is taken back")
def _(govern: Govern) -> Any:
    (made,) = govern([AsyncPay()])

    async def leave() -> str:
        waits = asyncio.ensure_future(made.arun(item="lamp"))
        latest = time.monotonic() + PATIENCE
        while not (waits.done() or waiting("pay_late_too")):
            assert time.monotonic() < latest
            await asyncio.wait([waits], timeout=0.01)
        waits.cancel()
        try:
            return str(await waits)
        except asyncio.CancelledError:
            return "cancelled"

    return [asyncio.run(leave()), waiting("pay_late_too")]


class AsyncPay(Both):
    """A tool that is held."""

    name: str = "pay_late_too"


@case("twelve held at once, async", "same, when they are approved")
def _(govern: Govern) -> Any:
    (made,) = govern([AsyncPayment()])

    async def all_of_them() -> list[str]:
        calls = [made.arun(item=str(number)) for number in range(12)]
        return list(await asyncio.gather(*calls))

    results = asyncio.run(all_of_them())
    ran.sort()  # they are approved in any order
    return results


class AsyncPayment(Both):
    """A tool that is held and approved."""

    name: str = "pay_async"


def waiting(name: str) -> int:
    """Return how many calls of a tool are held at this moment."""
    return sum(hold.tool == name for hold in gate.holds("pending"))


@in_loops("fail_closed: a delegation tool", "it does not run; the model is told that it is blocked")
def _(govern: Govern, native: bool) -> Any:
    helper_llm = Scripted(model="scripted", native=native)
    helper = Agent(role="helper", goal="g", backstory="b", llm=helper_llm)
    call = {"coworker": "helper", "task": "t", "context": "c"}
    llm = Scripted(model="scripted", native=native, script=[[("delegate_work_to_coworker", call)]])
    boss = Agent(
        role="boss", goal="g", backstory="b", llm=llm, allow_delegation=True,
        tools=govern([named("search")]),
    )  # fmt: skip
    task = Task(description="d", expected_output="e", agent=boss)
    with closed(govern):
        answer = str(Crew(agents=[boss, helper], tasks=[task]).kickoff())
    ran.extend(["the helper"] * len(helper_llm.seen))
    return {"answer": answer, "told": told(llm)}


@in_loops("fail_closed: an MCP tool", "it does not run; the model is told that it is blocked")
def _(govern: Govern, native: bool) -> Any:
    from crewai.tools.mcp_tool_wrapper import MCPToolWrapper

    class Remote(MCPToolWrapper):
        def _run(self, **kwargs: Any) -> str:
            ran.append(kwargs)
            return "from afar"

    schema = {"type": "object", "properties": {"item": {"type": "string"}}, "required": ["item"]}
    remote = Remote(
        mcp_server_params={"url": "http://127.0.0.1:9"},
        tool_name="fetch",
        tool_schema={"description": "Fetch.", "args_schema": model_of(schema)},
        server_name="afar",
    )
    with closed(govern):
        made = [*govern([named("search")]), remote]
        return crew(made, [(remote.name, {"item": "lamp"})], native=native)


def model_of(schema: dict[str, Any]) -> type[BaseModel]:
    """Return a model for a JSON Schema, as CrewAI makes it."""
    from crewai.utilities.pydantic_schema_utils import create_model_from_schema

    return create_model_from_schema(schema)


@in_loops("fail_closed: a governed tool", "same")
def _(govern: Govern, native: bool) -> Any:
    with closed(govern):
        return crew(govern([named("search")]), [("search", {"item": "lamp"})], native=native)


@in_loops("fail_closed: an ungoverned tool of a governed one's name", "neither runs")
def _(govern: Govern, native: bool) -> Any:
    with closed(govern):
        made = [named("search"), *govern([named("Search")])]
        return crew(made, [("search", {"item": "lamp"})], native=native)


@in_loops("fail_closed: such a tool, and no crew", "neither runs")
def _(govern: Govern, native: bool) -> Any:
    script = [[("search", {"item": "lamp"})]]
    llm = Scripted(model="scripted", native=native, script=script)
    with closed(govern):
        made = [named("search"), *govern([named("Search")])]
        agent = Agent(role="r", goal="g", backstory="b", llm=llm, tools=made)
        return {"answer": str(agent.kickoff("order a lamp")), "told": told(llm)}


@in_loops("fail_closed: a governed tool that was given another function", "it does not run")
def _(govern: Govern, native: bool) -> Any:
    with closed(govern):
        (made,) = govern([named("search")])
        made.func = named("search").func
        return crew([made], [("search", {"item": "lamp"})], native=native)


def closed(govern: Govern) -> Any:
    """Return fail_closed where tools are governed."""
    return fail_closed(gate) if govern is governed else warnings.catch_warnings()


@case("a function, governed_call and agoverned_call", "they ask the gate")
def _(govern: Govern) -> Any:
    if govern is not governed:
        return [function("a"), function("b"), function("c")]
    (made,) = govern([function])

    async def later(args: dict[str, Any]) -> str:
        return function(**args)

    said = [
        made.run(item="a"),
        governed_call(gate, "function", {"item": "b"}),
        asyncio.run(agoverned_call(gate, "function", {"item": "c"}, body=later)),
    ]
    govern([named("forbidden"), named("pay_late")])
    for name, error in (("forbidden", ActionDenied), ("pay_late", ActionHeld)):
        try:
            governed_call(gate, name, {"item": "d"}, hold="return")
        except error as raised:
            said.append(raised.kind)
    return said


@case("governing twice, and what is refused", "errors say what is wrong")
def _(govern: Govern) -> Any:
    (made,) = govern([named("again")])
    (same,) = govern([made])
    said = [same is made]

    class Runs(Order):
        def run(self, *args: Any, **kwargs: Any) -> Any:
            return "ran"

    if govern is governed:
        wrong: list[Any] = [[named("a b"), named("a_b")], [Runs()], [42]]
        for tools in wrong:
            try:
                govern(tools)
            except (TypeError, ValueError) as error:
                said.append(str(error))
        try:
            type(govern([Order()])[0])()
        except TypeError as error:
            said.append(str(error))
    return said


@in_loops("a gate that has gone away", "nothing runs; the model is told")
def _(govern: Govern, native: bool) -> Any:
    with Counting(config, launcher=launcher) as other:
        made = govern_tools(other, [named("gone")]) if govern is governed else [named("gone")]
    return crew(made, [("gone", {"item": "lamp"})], native=native)


@in_loops("tools of a gate that has gone away, bound to another")
def _(govern: Govern, native: bool) -> Any:
    with Counting(config, launcher=launcher) as other:
        made = [named("moved"), named("also")]
        made = govern_tools(other, made) if govern is governed else made
        if govern is governed:
            refused = refusal(made[0])
            assert "another gate, which is open" in refused
    if govern is governed:
        bind(gate, made[0])
        bind(gate, made[1:])
        assert "is not governed" in refusal(named("raw"))
    return crew(made, [("moved", {"item": "lamp"})], [("also", {"item": "rug"})], native=native)


def refusal(made: Any) -> str:
    """Return why a tool cannot be bound."""
    try:
        bind(gate, made)
    except ValueError as error:
        return str(error)
    return ""


def raw(tools: list[Any], **options: Any) -> list[Any]:
    """Leave tools as they are."""
    return tools


def governed(tools: list[Any], **options: Any) -> list[Any]:
    """Govern tools."""
    return govern_tools(gate, tools, **options)


def observe(run: Callable[[Govern], Any], govern: Govern) -> dict[str, Any]:
    """Run a case."""
    ran.clear()
    before = gate.proposals
    try:
        seen = run(govern)
    except Exception as error:  # noqa: BLE001 - it is what was seen
        seen = {"error": repr(error)}
    return {"seen": seen, "ran": list(ran), "proposals": gate.proposals - before}


if __name__ == "__main__":
    config, launcher = Path(sys.argv[1]), json.loads(sys.argv[2])
    if sys.argv[3:]:
        cases = {name: cases[name] for name in sys.argv[3:]}
    with Counting(config, launcher=launcher) as gate:
        for name, (promise, run) in cases.items():
            line = {
                "case": name,
                "promise": promise,
                "raw": observe(run, raw),
                "governed": observe(run, governed),
            }
            print("CASE", json.dumps(line, default=str), flush=True)
