"""What CrewAI's tools are, what they give, and where their bodies run."""

from __future__ import annotations

import asyncio
import threading
from datetime import date
from typing import Any

from crewai import Crew
from crewai.tools import tool
from crewai.tools.tool_failure import ToolFailure

from comparison.cases import (
    Cases,
    asked,
    said,
)
from comparison.crewai_kit import in_loops, one, outcome, told_by, where
from comparison.hooks import PATIENCE, RAW, Hook
from support.crewai_crews import (
    Address,
    AsyncOrder,
    Both,
    Color,
    Order,
    Report,
    crew,
    failing,
    function,
    named,
    ran,
    shown,
    structured,
)

cases = Cases()


@cases.allowed("class, own methods")
def _(hook: Hook) -> str:
    (made,) = hook.govern([Order()])
    return f"its own, {made.describe()}" if isinstance(made, Order) else type(made).__name__


FIELDS = ["env_vars", "result_schema", "result_as_answer", "max_usage_count", "tool_failure_policy"]


@cases.allowed("fields")
def _(hook: Hook) -> str:
    raw = Order(result_as_answer=True, max_usage_count=7, tool_failure_policy="raise")
    (made,) = hook.govern([raw])
    lost = [name for name in FIELDS if getattr(made, name, None) != getattr(raw, name, None)]
    return f"lost: {', '.join(lost)}" if lost else "kept"


@cases.allowed("the description and schema that a model is shown")
def _(hook: Hook) -> str:
    lost = []
    for raw in (named("search"), Order(), AsyncOrder(), Both()):
        (made,) = hook.govern([raw])
        if shown(made) != shown(raw):
            lost.append(raw.name)
    return f"another for: {', '.join(lost)}" if lost else "kept"


def typed(hook: Hook, name: str, kind: Any, value: Any) -> str:
    """Return what a body gets for an argument of a type, after the model has sent a value."""
    ran.clear()

    def body(item: Any) -> str:
        """Look something up."""
        ran.append(item)
        return f"{type(item).__name__} {item!r}"

    body.__annotations__ = {"item": kind, "return": str}
    return one(hook, tool(name)(body), {"item": value}, native=True)


@cases.allowed("an argument that is coerced to a number")
def _(hook: Hook) -> str:
    return typed(hook, "counts", int, "3")


@cases.allowed("an argument that is a date")
def _(hook: Hook) -> str:
    return typed(hook, "dates", date, "2024-02-29")


@cases.allowed("an argument that is an enum")
def _(hook: Hook) -> str:
    return typed(hook, "colors", Color, "red")


@cases.allowed("an argument that is a Pydantic model with an alias")
def _(hook: Hook) -> str:
    return typed(hook, "addresses", Address, {"street": "s", "zip": "1"})


@in_loops(cases.allowed, "invalid arguments")
def _(hook: Hook, native: bool) -> str:
    name = f"strict_{'n' if native else 'r'}"

    @tool(name)
    def strict(count: int) -> str:
        """Count."""
        ran.append(count)
        return "ran"

    seen = one(hook, strict, {"count": "many"}, native)
    return f"{seen}; the gate is {'asked' if hook.proposed(name) else 'not asked'}"


@cases.allowed("CrewStructuredTool, a plain function")
def _(hook: Hook) -> str:
    if hook.name == RAW:
        return "governed, an agent takes them"
    taken = []
    for each in (structured(), function):
        try:
            made = hook.govern([each])
            ran.clear()
            seen = crew(made, [(made[0].name, {"item": "lamp"})], native=True)
            taken.append(bool(ran and "lamp" in seen["told"][-1]))
        except Exception as error:  # noqa: BLE001 - it is what is looked at
            return f"raises {said(error)}"
    return "governed, an agent takes them" if all(taken) else str(taken)


@in_loops(cases.allowed, "a call")
def _(hook: Hook, native: bool) -> str:
    return one(hook, named("search"), {"item": "lamp"}, native)


@in_loops(cases.allowed, "a result that is the crew's answer")
def _(hook: Hook, native: bool) -> str:
    ran.clear()
    made = hook.govern([named("final", result_as_answer=True)])
    return str(crew(made, [("final", {"item": "lamp"})], native=native)["answer"])


@in_loops(cases.allowed, "a result with a schema (a Pydantic model)")
def _(hook: Hook, native: bool) -> str:
    @tool("report")
    def report(total: int) -> Report:
        """Report a total."""
        ran.append(total)
        return Report(total=total)

    return one(hook, report, {"total": 3}, native)


@cases.allowed("a live object, given to own code")
def _(hook: Hook) -> str:
    live = object()

    @tool("gives")
    def gives(item: str) -> Any:
        """Give an object."""
        return live

    (made,) = hook.govern([gives])
    return "the very one" if made.run(item="lamp") is live else "another"


@in_loops(cases.allowed, "a failure that the body returns (ToolFailure)")
def _(hook: Hook, native: bool) -> str:
    @tool("declares")
    def declares(item: str) -> Any:
        """Order an item."""
        return ToolFailure(message="out of stock", code="stock")

    ran.clear()
    seen = crew(hook.govern([declares]), [("declares", {"item": "lamp"})], native=native)
    return f"{told_by(seen['told'][-1])}; {seen['failed']} recorded as failed"


@in_loops(cases.allowed, "a formatter of the tool's own")
def _(hook: Hook, native: bool) -> str:
    class Formatted(Both):
        name: str = "formatted"

        def format_output_for_agent(self, raw_result: Any) -> str:
            return f"formatted {raw_result}"

    return one(hook, Formatted(), {"item": "lamp"}, native)


@in_loops(cases.allowed, "a body that raises")
def _(hook: Hook, native: bool) -> str:
    name = f"broken_{'n' if native else 'r'}"
    seen = one(hook, failing(name), {"item": "lamp"}, native)
    count = hook.proposed(name)
    return seen + (f"; {asked(count)}" if count > 1 else "")


@in_loops(cases.allowed, "a usage limit of 2, and three calls")
def _(hook: Hook, native: bool) -> str:
    ran.clear()
    turns = [[("limited", {"item": str(number)})] for number in range(3)]
    made = hook.govern([named("limited", max_usage_count=2)])
    seen = crew(made, *turns, native=native)
    return f"{outcome(seen)}; counted {made[0].current_usage_count}"


@in_loops(cases.allowed, "the context variables of who starts the crew")
def _(hook: Hook, native: bool) -> str:
    @tool("here")
    def here(item: str) -> str:
        """Say where."""
        return where.get()

    where.set("the caller's")
    (told,) = crew(hook.govern([here]), [("here", {"item": "lamp"})], native=native)["told"]
    return str(told)


@cases.allowed("a body's thread and context variables, called by own code")
def _(hook: Hook) -> str:
    places: list[threading.Thread] = []

    @tool("here_too")
    def here_too(item: str) -> str:
        """Say where."""
        places.append(threading.current_thread())
        return where.get()

    (made,) = hook.govern([here_too])
    where.set("the caller's")
    variable = made.run(item="lamp")
    thread = "the caller's" if places == [threading.current_thread()] else "another"
    return f"{thread}; {variable}"


@cases.allowed("a coroutine's loop and context variables, awaited by own code")
def _(hook: Hook) -> str:
    loops: list[Any] = []

    class Here(Both):
        name: str = "here_later"

        async def _arun(self, item: str) -> str:
            loops.append(asyncio.get_running_loop())
            return where.get()

    (made,) = hook.govern([Here()])

    async def go() -> str:
        where.set("the caller's")
        result = await made.arun(item="lamp")
        if not loops:
            return f"{result}: the coroutine is not run"
        loop = "the caller's" if loops == [asyncio.get_running_loop()] else "another"
        return f"{loop}; {result}"

    return asyncio.run(go())


@in_loops(cases.allowed, "a coroutine function's tool")
def _(hook: Hook, native: bool) -> str:
    @tool("later")
    async def later(item: str) -> str:
        """Order an item."""
        await asyncio.sleep(0)
        ran.append(item)
        return f"later {item}"

    return one(hook, later, {"item": "lamp"}, native)


@in_loops(cases.allowed, "a class whose body is a coroutine")
def _(hook: Hook, native: bool) -> str:
    return one(hook, AsyncOrder(), {"item": "lamp"}, native)


@cases.allowed("a crew that is awaited (akickoff), native")
def _(hook: Hook) -> str:
    def kickoff(made: Crew) -> Any:
        return asyncio.run(made.akickoff())

    ran.clear()
    turn = [("both", {"item": "lamp"})]
    return outcome(crew(hook.govern([Both()]), turn, native=True, kickoff=kickoff))


@cases.allowed("a crew that is copied (kickoff_for_each), native")
def _(hook: Hook) -> str:
    def kickoff(made: Crew) -> Any:
        (output,) = made.kickoff_for_each([{"topic": "lamps"}])
        return output

    ran.clear()
    turn = [("search", {"item": "lamp"})]
    return outcome(crew(hook.govern([named("search")]), turn, native=True, kickoff=kickoff))


@cases.allowed("parallel calls of one message, native")
def _(hook: Hook) -> str:
    both = threading.Barrier(2, timeout=PATIENCE)

    @tool("meet")
    def meet(item: str) -> str:
        """Meet the other call."""
        both.wait()
        return f"met {item}"

    turn = [("meet", {"item": "a"}), ("meet", {"item": "b"})]
    return str(sorted(crew(hook.govern([meet]), turn, native=True)["told"]))


@cases.allowed("a copy with another description")
def _(hook: Hook) -> str:
    (made,) = hook.govern([Both(name="copied")])
    changed = made.model_copy(update={"description": "Buy."})
    result = changed.run(item="lamp")
    governed = hook.name == RAW or hook.proposed("copied")
    return f"{result}{'' if governed else ', not governed'}"
