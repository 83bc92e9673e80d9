"""What becomes of the calls of CrewAI's tools that policy does not simply allow."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from crewai import Agent, Crew, Task
from crewai.tools import BaseTool

from comparison.cases import (
    Cases,
    Run,
    asked,
    call_of_a_twice_governed,
    held_at_once,
    runs,
    said,
    short,
)
from comparison.crewai_kit import in_loops, one, outcome
from comparison.hooks import PATIENCE, TOOLGATE, Hook
from support.crewai_crews import (
    Both,
    Scripted,
    crew,
    named,
    ran,
)

cases = Cases()


def gates(title: str) -> Callable[[Run], Run]:
    """Add a case in which the gate decides, whatever the hook."""
    return cases.governed(title, gate=True)


@in_loops(cases.governed, "the same call three times, CrewAI's cache being on")
def _(hook: Hook, native: bool) -> str:
    ran.clear()
    name = f"cached_{'n' if native else 'r'}"
    turns = [[(name, {"item": item})] for item in ("lamp", "rug", "lamp")]
    crew(hook.govern([named(name)]), *turns, native=native, cache=True)
    return f"the gate is asked {hook.proposed(name)} times"


@in_loops(cases.governed, "denied")
def _(hook: Hook, native: bool) -> str:
    name = f"forbidden_{'n' if native else 'r'}"
    made = hook.govern([named(name)])
    ran.clear()
    seen = crew(made, [(name, {"item": "lamp"})], native=native)
    failed = f"{seen['failed']} recorded as failed"
    return f"{outcome(seen)}; {asked(hook.proposed(name))}; {failed}"


@in_loops(cases.governed, "denied, `on_denied` a function")
def _(hook: Hook, native: bool) -> str:
    name = f"forbidden_told_{'n' if native else 'r'}"
    made = hook.govern([named(name)], on_denied=lambda error: f"No: {error.reason}")
    ran.clear()
    seen = crew(made, [(name, {"item": "lamp"})], native=native)
    failed = f"{seen['failed']} recorded as failed"
    return f"{outcome(seen)}; {asked(hook.proposed(name))}; {failed}"


@in_loops(cases.governed, "denied, of a tool whose result is the answer")
def _(hook: Hook, native: bool) -> str:
    name = f"forbidden_final_{'n' if native else 'r'}"
    ran.clear()
    made = hook.govern([named(name, result_as_answer=True)])
    return f"answer: {short(crew(made, [(name, {'item': 'lamp'})], native=native)['answer'])}"


@in_loops(gates, "held and approved while it waits")
def _(hook: Hook, native: bool) -> str:
    name = f"pay_{'n' if native else 'r'}"
    with hook.answering(name):
        return one(hook, named(name), {"item": "lamp"}, native)


@in_loops(gates, "held; the approver edits the amount to 5")
def _(hook: Hook, native: bool) -> str:
    name = f"pay_less_{'n' if native else 'r'}"
    with hook.answering(name, amount=5):
        return one(hook, named(name), {"item": "lamp"}, native)


@in_loops(cases.governed, "held and denied while it waits")
def _(hook: Hook, native: bool) -> str:
    name = f"pay_no_{'n' if native else 'r'}"
    with hook.answering(name, "deny"):
        seen = one(hook, named(name), {"item": "lamp"}, native)
    return f"{seen}; {asked(hook.proposed(name))}"


@in_loops(cases.governed, "held, nobody decides in time")
def _(hook: Hook, native: bool) -> str:
    name = f"pay_late_{'n' if native else 'r'}"
    seen = one(hook, named(name), {"item": "lamp"}, native, patience=0.1)
    left = "its hold stays open" if hook.pending(name) else "it is taken back"
    return f"{seen}; {asked(hook.proposed(name))}; {left}"


@cases.governed("held and not waited for, then approved", gate=True)
def _(hook: Hook) -> str:
    ran.clear()
    made = hook.govern([named("pay_resumed")], patience=0)
    crew(made, [("pay_resumed", {"item": "lamp"})], native=True)
    hook.answer("pay_resumed")
    before = len(ran)
    hook.client.govern("pay_resumed", {"item": "lamp", "amount": 10})
    again = "runs" if len(ran) == 1 else "does not run"
    return f"{runs(before)}; the same call after the approval {again}"


@cases.governed("held, the caller is cancelled (own code awaits)")
def _(hook: Hook) -> str:
    (made,) = hook.govern([Both(name="pay_cancelled")], patience=6.0)

    async def go() -> str:
        loop, own = asyncio.get_running_loop(), ThreadPoolExecutor(1)
        waiting = asyncio.ensure_future(made.arun(item="lamp"))
        await loop.run_in_executor(own, hook.held, "pay_cancelled", 1, waiting.done)
        waiting.cancel()
        await asyncio.wait([waiting])
        if not waiting.cancelled() and (error := waiting.exception()):
            return f"raises {said(error)}"
        open_ = await loop.run_in_executor(own, hook.pending, "pay_cancelled")
        return "its hold stays open" if open_ else "it is withdrawn"

    return asyncio.run(go())


@cases.governed("40 coroutines held at once (own code awaits)")
def _(hook: Hook) -> str:
    (made,) = hook.govern([Both(name="pay_many")], patience=PATIENCE)

    async def go() -> str:
        loop, own = asyncio.get_running_loop(), ThreadPoolExecutor(1)
        loop.set_default_executor(ThreadPoolExecutor(8))
        before = set(threading.enumerate())
        waiting = [asyncio.ensure_future(made.arun(item=str(n))) for n in range(40)]
        count = await loop.run_in_executor(own, hook.all_held, "pay_many", 40)
        threads = len(set(threading.enumerate()) - before) - 1  # `own` has one
        served, _ = await asyncio.wait([loop.run_in_executor(None, int)], timeout=0.5)
        for each in waiting:
            each.cancel()
        await asyncio.wait(waiting)
        await loop.run_in_executor(own, hook.end, "pay_many")
        errors = {type(e.exception()).__name__ for e in waiting if not e.cancelled()}
        if errors:
            return f"raises {', '.join(sorted(errors))}"
        return held_at_once(count, threads, goes_on=bool(served))

    return asyncio.run(go())


@cases.governed("the gate is gone, native")
def _(hook: Hook) -> str:
    ran.clear()
    with hook.another() as other:
        made = other.govern([named("buy")])
    return outcome(crew(made, [("buy", {"item": "lamp"})], native=True))


@cases.governed("two tools that a model knows by one name (`a b`, `a_b`)")
def _(hook: Hook) -> str:
    try:
        made = hook.govern([named("a b"), named("a_b")])
    except ValueError as error:
        return f"refused: {said(error)}"
    return f"taken: {[each.name for each in made]}"


@cases.governed("two tools of one name")
def _(hook: Hook) -> str:
    one_, two = named("same"), named("same")
    ran_by: list[str] = []
    one_.func, two.func = (lambda **args: ran_by.append("1")), (lambda **args: ran_by.append("2"))
    try:
        first, _ = hook.govern([one_, two])
    except ValueError as error:
        return f"refused: {said(error)}"
    first.run(item="lamp")
    return "the first one's call runs the second one's body" if ran_by == ["2"] else "its own"


@cases.governed("governed twice")
def _(hook: Hook) -> str:
    def call(made: BaseTool) -> None:
        try:
            made.run(item="lamp")
        except Exception:  # noqa: BLE001 - how often it is proposed is what is looked at
            pass

    return call_of_a_twice_governed(hook, lambda: named("twice"), call)


@in_loops(cases.governed, "a tool that CrewAI adds by itself (delegation)")
def _(hook: Hook, native: bool) -> str:
    from contextlib import nullcontext

    closed: Any = nullcontext()
    if hook.name == TOOLGATE:
        from toolgate_crewai import fail_closed

        closed = fail_closed(hook.client)
    helper_llm = Scripted(model="scripted", native=native)
    helper = Agent(role="helper", goal="g", backstory="b", llm=helper_llm)
    call = {"coworker": "helper", "task": "t", "context": "c"}
    llm = Scripted(model="scripted", native=native, script=[[("delegate_work_to_coworker", call)]])
    boss = Agent(
        role="boss", goal="g", backstory="b", llm=llm, allow_delegation=True,
        tools=hook.govern([named("search")]),
    )  # fmt: skip
    task = Task(description="d", expected_output="e", agent=boss)
    with closed:
        Crew(agents=[boss, helper], tasks=[task]).kickoff()
    if not helper_llm.seen:
        return "fail_closed stops it"
    return "runs, and no gate is asked"


@cases.timed("`run`")
def _(hook: Hook) -> Any:
    (made,) = hook.govern([named("quick")])
    return lambda number: made.run(item=str(number))
