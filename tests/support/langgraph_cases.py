"""LangChain's tools, raw and governed: the cases of the matrix, and what is promised of each.

Run as ``python langgraph_cases.py CONFIG LAUNCHER [CASE…]``; LAUNCHER is a gate's argv as JSON.
Prints one line of JSON for each case: what was seen raw, governed by tool and governed by call. It
knows nothing of pytest. The config denies ``forbidden*`` and holds ``pay*``, which somebody else
answers: ``pay`` and ``pay_async`` are approved, ``pay_no`` is denied, ``pay_less`` approved with an
amount of 5, ``pay_late*`` never answered; everything else is allowed.
"""

from __future__ import annotations

import asyncio
import json
import pickle
import sys
import threading
import time
import warnings
from collections.abc import Callable
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from langchain.agents.middleware import AgentMiddleware, HumanInTheLoopMiddleware
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import HumanMessage
from langchain_core.tools import tool
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt

from support import langgraph_tools as made
from support.langgraph_forms import BY_CALL, BY_TOOL, PATIENCE, RAW, Counting, Form, as_json, ran
from support.langgraph_tools import ORDER, Shop, failing, later, named, ordering, remote
from support.scripted_model import calls, script, tool_call
from toolgate_client import ActionDenied, ActionHeld, Document, Result
from toolgate_langgraph import agoverned_call, bind, govern_tools, governed_call

warnings.simplefilter("ignore")

LAMP = {"item": "lamp"}

TOO_LARGE = 80_000
"""More bytes than the gate takes in a message."""

cases: dict[str, tuple[str, bool, Callable[[Form], Any]]] = {}


def statuses(messages: Any) -> list[tuple[str, str]]:
    """Return what a model was told of its calls, and as what."""
    return [(each["content"], each["status"]) for each in messages if "status" in each]


def case(name: str, promise: str = "same", *, is_async: bool = False) -> Any:
    """Add a case; ``promise`` says what differs when it is governed."""

    def add(run: Callable[[Form], Any]) -> None:
        cases[name] = (promise, is_async, run)

    return add


def in_ways(name: str, promise: str = "same") -> Any:
    """Add a case twice: called by threads, and by tasks."""

    def add(run: Callable[[Form], Any]) -> None:
        case(f"{name}, sync", promise)(run)
        case(f"{name}, async", promise, is_async=True)(run)

    return add


# --- tools of every kind


@in_ways("a function")
def _(form: Form) -> Any:
    def look_up(item: str, amount: int = 10) -> str:
        """Search."""
        ran.append([item, amount])
        return f"found {item} {amount}"

    return form.ask([look_up], ("look_up", LAMP))


@in_ways("a function's tool, called by its node, by its arguments, by a call")
def _(form: Form) -> Any:
    (direct,) = form.tools([named("search")])
    by_call = form.run(direct, tool_call("search", {**LAMP, "amount": "3"}))
    return [form.run(direct, dict(LAMP)), by_call, form.call([named("search")], ("search", LAMP))]


@in_ways("a tool with a function and a coroutine")
def _(form: Form) -> Any:
    return form.ask([named("both", both=True)], ("both", LAMP))


@in_ways("a tool with a coroutine only")
def _(form: Form) -> Any:
    return form.ask([later("later")], ("later", LAMP))


@in_ways("a class's tool, with state, private attributes and a run manager")
def _(form: Form) -> Any:
    (direct,) = form.tools([Shop(prefix="got", tags=["t"], metadata={"m": 1})])
    return [form.run(direct, dict(ORDER)) for _ in range(2)] + [direct.orders]


@in_ways("a class's tool, called by its node")
def _(form: Form) -> Any:
    return form.call([Shop()], ("shop", dict(ORDER)), ("shop", dict(ORDER)))


@in_ways("a class's tool with a coroutine")
def _(form: Form) -> Any:
    return form.ask([made.AsyncShop()], ("async_shop", dict(ORDER)))


@in_ways("a pydantic 2 schema: coercion, defaults, aliases, enums, nested models")
def _(form: Form) -> Any:
    return form.call([ordering(made.Order)], ("order_Order", dict(ORDER)))


@in_ways("a pydantic 1 schema")
def _(form: Form) -> Any:
    return form.call([ordering(made.OldOrder)], ("order_OldOrder", {**LAMP, "count": "2"}))


@in_ways("a JSON Schema as the schema")
def _(form: Form) -> Any:
    return form.call([ordering(made.SCHEMA)], ("order_dict", {**LAMP, "count": 2}))


@in_ways("a tool as MCP servers have them")
def _(form: Form) -> Any:
    return form.ask([remote()], ("remote", LAMP))


@in_ways("a tool that takes one text, given a text")
def _(form: Form) -> Any:
    (direct,) = form.tools([made.single()])
    return [form.run(direct, "lamp"), form.call([made.single()], ("upper", {"__arg1": "lamp"}))]


@in_ways("a text for a tool with one argument")
def _(form: Form) -> Any:
    (direct,) = form.tools([named("search")])
    return form.run(direct, "lamp")


@in_ways("a tool without arguments")
def _(form: Form) -> Any:
    return form.ask([made.nothing], ("nothing", {}))


@in_ways("batch")
def _(form: Form) -> Any:
    (direct,) = form.tools([named("search")])
    return form.batch(direct, [{"item": str(number)} for number in range(4)])


@in_ways("calls of one message, side by side")
def _(form: Form) -> Any:
    both = threading.Barrier(2, timeout=PATIENCE)

    @tool
    def meet(item: str) -> str:
        """Meet the other call."""
        both.wait()
        return f"met {item}"

    seen = form.call([meet], ("meet", {"item": "a"}), ("meet", {"item": "b"}))
    ran.extend(["a", "b"])
    return seen


@in_ways("invalid arguments")
def _(form: Form) -> Any:
    return form.call([ordering(made.Order)], ("order_Order", {**ORDER, "day": "never"}))


@in_ways("arguments that the schema does not know")
def _(form: Form) -> Any:
    return form.call([named("search")], ("search", {**LAMP, "more": 1}))


@in_ways("an unknown tool")
def _(form: Form) -> Any:
    return form.call([named("search")], ("xyzzy", LAMP))


# --- what a tool is


@case("class and fields")
def _(form: Form) -> Any:
    raw = named(
        "search",
        both=True,
        return_direct=True,
        callbacks=[],
        tags=["t"],
        metadata={"m": 1},
        handle_tool_error=True,
        handle_validation_error="wrong",
        extras={"e": 1},
    )
    seen = []
    for each in (raw, Shop(prefix="got"), made.single(), remote(), made.with_artifact):
        (direct,) = form.tools([each])
        kept = [name for name in type(each).model_fields if name not in {"func", "coroutine"}]
        same = [name for name in kept if getattr(direct, name) is getattr(each, name)]
        seen.append([isinstance(direct, type(each)), kept == same, convert_to_openai_tool(direct)])
    return seen


@in_ways("callbacks, tags and metadata")
def _(form: Form) -> Any:
    heard: list[Any] = []

    class Hear(BaseCallbackHandler):
        """Hears what tools do."""

        run_inline = True

        def on_tool_start(self, serialized: Any, input_str: str, **more: Any) -> None:
            heard.append([serialized, input_str, more["tags"], more["metadata"].get("m")])

        def on_tool_end(self, output: Any, **more: Any) -> None:
            heard.append(["end", output])

        def on_tool_error(self, error: BaseException, **more: Any) -> None:
            heard.append(["error", str(error)])

    options: dict[str, Any] = {"callbacks": [Hear()], "tags": ["t"], "metadata": {"m": 1}}
    form.call([named("search", **options)], ("search", LAMP))
    form.call([failing(ValueError("boom"), **options)], ("fail", LAMP))
    return heard


@in_ways("return_direct")
def _(form: Form) -> Any:
    return form.ask([named("final", return_direct=True)], ("final", LAMP))


@in_ways("handle_tool_error")
def _(form: Form) -> Any:
    handlers: list[Any] = [True, "wrong", str, False]
    failed = [failing(made.problem(), handle_tool_error=handler) for handler in handlers]
    return [form.call([each], ("fail", LAMP)) for each in failed]


@in_ways("handle_validation_error")
def _(form: Form) -> Any:
    tools = [named("search", handle_validation_error=handler) for handler in (True, "no", False)]
    return [form.call([each], ("search", {"amount": "many"})) for each in tools]


@in_ways("a body that raises, in an agent and in a node that tells the model")
def _(form: Form) -> Any:
    broken = [failing(ValueError("boom"))]
    handled = form.call(broken, ("fail", LAMP), node={"handle_tool_errors": True})
    return [form.ask(broken, ("fail", LAMP)), handled]


# --- what a body is given


@in_ways("injected: state, store, runtime, call id, config, a secret")
def _(form: Form) -> Any:
    tools = [*made.INJECTED]
    return form.call(tools, *((each.name, LAMP) for each in tools))


@in_ways("injected arguments that a model forges")
def _(form: Form) -> Any:
    forged = {**LAMP, "user": "eve", "state": {}, "secret": "mine", "call": "x"}
    tools = [made.with_state, made.with_whole_state, made.with_secret, made.with_call_id]
    return form.call(tools, *((each.name, forged) for each in tools))


@case("the stream writer")
def _(form: Form) -> Any:
    graph = form.node([made.with_writer])
    given = {"messages": [calls(tool_call("with_writer", LAMP))], "user": "ada"}
    return list(graph.stream(given, stream_mode="custom"))


WHO: ContextVar[str] = ContextVar("who", default="nobody")


@case("context variables, threads and tasks, sync")
def _(form: Form) -> Any:
    @tool
    def where(item: str) -> str:
        """Say where."""
        ran.append(item)
        return f"{WHO.get()} {threading.get_ident() == here}"

    here = threading.get_ident()
    WHO.set("ada")
    (direct,) = form.tools([where])
    return form.run(direct, dict(LAMP))


@case("context variables, threads and tasks, async", is_async=True)
def _(form: Form) -> Any:
    @tool
    async def where(item: str) -> list[Any]:
        """Say where."""
        ran.append(item)
        WHO.set(f"{WHO.get()}, and {item}")
        return [WHO.get(), threading.get_ident() == here]

    here = threading.get_ident()
    WHO.set("ada")
    (direct,) = form.tools([where])
    return form.run(direct, dict(LAMP))


@in_ways("a body that tells what it has read")
def _(form: Form) -> Any:
    @tool
    def read(item: str) -> Any:
        """Read of an item."""
        ran.append(item)
        page = f"a page of {item}"
        return page if form.raw else Result(page, [Document(page)])

    return form.ask([read], ("read", LAMP))


@in_ways("an argument too large for the gate, denied", "it does not run; the model is told why")
def _(form: Form) -> Any:
    @tool
    def keep(item: str) -> str:
        """Keep an item."""
        ran.append(len(item))
        return f"kept {len(item)}"

    ((said, status), *_) = statuses(form.ask([keep], ("keep", {"item": "x" * TOO_LARGE})))
    return [said, status]


# --- what a body returns


@in_ways("a result too large for the gate")
def _(form: Form) -> Any:
    @tool
    def grow(item: str) -> str:
        """Grow an item."""
        ran.append(item)
        return "x" * TOO_LARGE

    ((said, status), *_) = statuses(form.ask([grow], ("grow", LAMP)))
    return [len(said), status]


@in_ways("results: artifacts, blocks, lists, objects, messages, commands")
def _(form: Form) -> Any:
    return [form.call([each], (each.name, LAMP)) for each in made.RESULTS]


@in_ways("results, called by own code")
def _(form: Form) -> Any:
    simple = [made.with_artifact, made.with_blocks, made.with_list, made.with_model]
    return [form.run(each, dict(LAMP)) for each in form.tools(simple)]


@in_ways("a tool that asks by itself")
def _(form: Form) -> Any:
    @tool
    def ask(item: str) -> str:
        """Ask."""
        answer = interrupt(f"which {item}?")
        ran.append(answer)
        return f"answered {answer}"

    model = script(tool_call("ask", LAMP))
    agent = form.agent(model, [ask], checkpointer=InMemorySaver())
    return paused_and_answered(form, agent, "the red one")


def paused_and_answered(form: Form, agent: Any, answer: Any) -> Any:
    """Return what a graph asks, and how it ends when it is answered."""
    config = {"configurable": {"thread_id": "t"}}
    asked = form.run(agent, {"messages": [HumanMessage("go")]}, config)["__interrupt__"]
    ends = form.run(agent, Command(resume=answer), config)
    return [[each.value for each in asked], ends["messages"][-2], ends["messages"][-1].text]


# --- tools that come later


class Adds(AgentMiddleware[Any, Any, Any]):
    """Middleware that adds a tool to an agent that was not made with it."""

    def __init__(self, tool: Any) -> None:
        super().__init__()
        self.tools = []
        self.tool = tool

    def wrap_model_call(self, request: Any, handler: Any) -> Any:
        return handler(request.override(tools=[*request.tools, self.tool]))

    async def awrap_model_call(self, request: Any, handler: Any) -> Any:
        return await handler(request.override(tools=[*request.tools, self.tool]))

    def wrap_tool_call(self, request: Any, handler: Any) -> Any:
        return handler(self._known(request))

    async def awrap_tool_call(self, request: Any, handler: Any) -> Any:
        return await handler(self._known(request))

    def _known(self, request: Any) -> Any:
        if request.tool_call["name"] == self.tool.name:
            return request.override(tool=self.tool)
        return request


def later_added(form: Form, added: Any) -> Any:
    """Have an agent call a tool that middleware adds, which only the call itself can govern."""
    if form.name == BY_TOOL:
        (added,) = govern_tools(form.gate, [added])
    return form.ask([named("search")], (added.name, LAMP), middleware=[Adds(added)])


@in_ways("a tool that middleware adds")
def _(form: Form) -> Any:
    return later_added(form, named("extra", both=True))


@in_ways("a tool that middleware adds, denied", "it does not run; the model is told why")
def _(form: Form) -> Any:
    return later_added(form, named("forbidden_extra", both=True))


@case("an MCP tool that middleware adds, denied", "it does not run", is_async=True)
def _(form: Form) -> Any:
    return later_added(form, remote("forbidden_remote"))


# --- denied


@in_ways("denied, in an agent", "it does not run; the model is told why")
def _(form: Form) -> Any:
    return form.ask([named("forbidden")], ("forbidden", LAMP))


@in_ways("denied beside an allowed call", "the one does not run, the other does")
def _(form: Form) -> Any:
    tools = [named("forbidden"), named("search")]
    return form.call(tools, ("forbidden", LAMP), ("search", {"item": "rug"}))


@in_ways("denied, worded by on_denied", "the model is told so")
def _(form: Form) -> Any:
    words = {"on_denied": lambda error: f"No: {error.reason}."}
    return form.ask([named("forbidden")], ("forbidden", LAMP), options=words)


@in_ways("denied, on_denied raises", "the error is raised")
def _(form: Form) -> Any:
    return form.ask([named("forbidden")], ("forbidden", LAMP), options={"on_denied": "raise"})


@in_ways("denied, a tool with an artifact", "it does not run; the model is told why")
def _(form: Form) -> Any:
    denied = made.with_artifact.model_copy(update={"name": "forbidden_artifact"})
    return form.call([denied], ("forbidden_artifact", LAMP))


# --- held


@in_ways("held and approved", "same, when it is approved")
def _(form: Form) -> Any:
    return form.ask([named("pay", both=True)], ("pay", LAMP))


@in_ways("held and denied", "it does not run; the model is told why")
def _(form: Form) -> Any:
    return form.ask([named("pay_no", both=True)], ("pay_no", form.fresh("lamp")))


@in_ways("held and edited", "it runs with what was approved; the model is told")
def _(form: Form) -> Any:
    return form.ask([named("pay_less", both=True)], ("pay_less", LAMP))


@in_ways("held, nobody decides in time", "it is taken back; the model is told")
def _(form: Form) -> Any:
    options = {"hold_timeout": 0.05}
    said = form.ask([named("pay_late", both=True)], ("pay_late", LAMP), options=options)
    return [said, waiting(form, "pay_late")]


@in_ways("held, returned", "it waits; the model is told")
def _(form: Form) -> Any:
    options = {"hold": "return"}
    said = form.ask([named("pay_late_back", both=True)], ("pay_late_back", LAMP), options=options)
    return [said, waiting(form, "pay_late_back") > 0]


@in_ways("held, with a checkpointer, and approved", "the graph pauses, then it runs once")
def _(form: Form) -> Any:
    return paused(form, "pay")


@in_ways("held, with a checkpointer, and edited", "the graph pauses; the model is told")
def _(form: Form) -> Any:
    return paused(form, "pay_less")


@in_ways("held, with a checkpointer, and denied", "the graph pauses; it does not run")
def _(form: Form) -> Any:
    return paused(form, "pay_no")


@in_ways("held, with a checkpointer, resumed three times without approval", "it stays paused")
def _(form: Form) -> Any:
    return paused(form, "pay_late_asked", times=3)


def paused(form: Form, name: str, times: int | None = None) -> Any:
    """Resume an agent until it ends, or so many times; return its pauses and what it was told."""
    model = script(tool_call(name, form.fresh("lamp")))
    agent = form.agent(model, [named(name, both=True)], checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": f"{name} {form.name} {form.is_async} {times}"}}
    latest = time.monotonic() + PATIENCE
    given: Any = {"messages": [HumanMessage("go")]}
    asked, resumed = [], 0
    while True:
        said = form.run(agent, given, config)
        asked += said.get("__interrupt__", ())
        if "__interrupt__" not in said or resumed == times:
            break
        assert time.monotonic() < latest
        given, resumed = Command(resume={"type": "approve"}), resumed + 1
        threading.Event().wait(0.01)  # somebody answers
    fields = ("type", "name", "args", "tool_call_id")
    requests = [[each.id, *(each.value[field] for field in fields)] for each in asked]
    same = len({json.dumps(each) for each in requests}) <= 1
    told = [each for each in said["messages"] if each.type == "tool"]
    return [requests[:1], same, told, said["messages"][-1].text]


@in_ways("a person's edit in HumanInTheLoopMiddleware", "the gate judges the edited call")
def _(form: Form) -> Any:
    edits = HumanInTheLoopMiddleware(interrupt_on={"search": True})
    model = script(tool_call("search", LAMP))
    tools = [named("search"), named("forbidden_search")]
    agent = form.agent(model, tools, checkpointer=InMemorySaver(), middleware=[edits])
    edited = {"name": "forbidden_search", "args": {"item": "rug"}}
    answer = {"decisions": [{"type": "edit", "edited_action": edited}]}
    return paused_and_answered(form, agent, answer)


@case("twelve held at once", "same, when they are approved", is_async=True)
def _(form: Form) -> Any:
    (direct,) = form.tools([named("pay_async")])

    async def all_at_once() -> Any:
        return await asyncio.gather(*(direct.ainvoke({"item": str(n)}) for n in range(12)))

    return asyncio.run(all_at_once())


@case("forty held at once, of a tool without a coroutine", "no thread waits", is_async=True)
def _(form: Form) -> Any:
    (direct,) = form.tools([named("pay_late_many")])
    if form.raw:
        return [form.run(direct, {"item": "0"})]

    async def all_at_once() -> Any:
        loop: Any = asyncio.get_running_loop()
        before, already = threading.active_count(), form.gate.waits
        waits = [asyncio.ensure_future(direct.ainvoke({"item": str(n)})) for n in range(40)]
        latest = time.monotonic() + PATIENCE
        while form.gate.waits < already + 40:
            assert time.monotonic() < latest
            await asyncio.sleep(0)
        threads = threading.active_count() - before
        for each in waits:
            each.cancel()
        ends = await asyncio.gather(*waits, return_exceptions=True)
        return [loop._default_executor is None, threads, len(ends)]

    withdraw_all(form)
    return [*asyncio.run(all_at_once()), waiting(form, "pay_late_many")]


@case("held and cancelled", "it is taken back", is_async=True)
def _(form: Form) -> Any:
    (direct,) = form.tools([named("pay_late_too", both=True)])

    async def leave() -> str:
        waits = asyncio.ensure_future(direct.ainvoke(dict(LAMP)))
        latest = time.monotonic() + PATIENCE
        already = form.gate.waits
        while not (waits.done() or form.gate.waits > already):
            assert time.monotonic() < latest
            await asyncio.wait([waits], timeout=0.01)
        waits.cancel()
        try:
            return str(await waits)
        except asyncio.CancelledError:
            return "cancelled"

    withdraw_all(form)
    return [asyncio.run(leave()), waiting(form, "pay_late_too")]


def withdraw_all(form: Form) -> None:
    """Take back what other cases have left."""
    for hold in form.gate.holds("pending"):
        form.gate.withdraw(hold.uid or "")


def waiting(form: Form, name: str) -> int:
    """Return how many calls of a tool are held."""
    return sum(hold.tool == name for hold in form.gate.holds("pending"))


# --- own code, and tools without a gate


@in_ways("governed_call and agoverned_call", "they ask the gate")
def _(form: Form) -> Any:
    (direct,) = form.tools([named("search"), named("forbidden"), named("pay_late_own")])[:1]
    if form.raw:
        return [form.run(direct, {"item": str(number)}) for number in range(2)]
    names = ("search", "search", "forbidden", "pay_late_own")
    return [own_call(form, name, str(number)) for number, name in enumerate(names)]


def own_call(form: Form, name: str, item: str) -> Any:
    """Make a call from code of one's own."""

    def body(args: dict[str, Any]) -> str:
        ran.append([args["item"], 10])
        return f"search {args['item']} 10"

    async def coroutine(args: dict[str, Any]) -> str:
        await asyncio.sleep(0)
        return body(args)

    args, options = {"item": item}, {"hold": "return"}
    try:
        if not form.is_async:
            return governed_call(form.gate, name, args, body=body, **options)  # type: ignore[arg-type]
        given = coroutine if item == "0" else body
        call = agoverned_call(form.gate, name, args, body=given, **options)  # type: ignore[arg-type]
        return asyncio.run(call)
    except (ActionDenied, ActionHeld) as error:
        return error.kind


@in_ways("restored by pickle, without a gate and bound", "nothing runs before it is bound")
def _(form: Form) -> Any:
    (direct,) = form.tools([Shop(prefix="got")])
    restored = pickle.loads(pickle.dumps(direct))
    first = form.run(restored, dict(ORDER))
    if not form.raw:
        bind(form.gate, [restored])
    return [isinstance(restored, Shop), restored.prefix, first, form.run(restored, dict(ORDER))]


@in_ways("a gate that has gone away", "nothing runs; the model is told")
def _(form: Form) -> Any:
    gone = Form(Counting(form.gate._config, launcher=LAUNCHER), form.name, form.is_async)
    with gone.gate:
        agent = gone.agent(script(tool_call("gone", LAMP)), [named("gone", both=True)])
    form.used |= gone.used
    return gone.run(agent, {"messages": [HumanMessage("go")]})["messages"][1:][1:]


@case("governing twice, and two tools of one name", "errors say what is wrong")
def _(form: Form) -> Any:
    if form.raw:
        return [True]
    once = govern_tools(form.gate, [named("once")])
    seen: list[Any] = [govern_tools(form.gate, once)[0] is once[0]]
    for wrong in ([named("a"), named("a")], [42]):
        try:
            govern_tools(form.gate, wrong)
        except (TypeError, ValueError) as error:
            seen.append(str(error))
    both = Form(form.gate, BY_CALL, is_async=False)
    return [*seen, both.ask(once, ("once", LAMP))]


# --- running


def observed(name: str, gate: Counting, form: Form) -> dict[str, Any]:
    """Run a case in one form."""
    ran.clear()
    before = gate.proposals
    try:
        seen = as_json(cases[name][2](form))
    except Exception as error:  # noqa: BLE001 - a case that fails is told of, the others go on
        seen = {"error": f"{type(error).__name__}: {error}"}
    return {
        "seen": seen,
        "ran": as_json(sorted(ran, key=str)),
        "proposals": gate.proposals - before,
    }


def main(config: str, launcher: list[str], names: list[str]) -> None:
    """Run the cases of these names, or all."""
    with Counting(Path(config), launcher=launcher) as gate:
        for name in names or cases:
            promise, is_async, _ = cases[name]
            result: dict[str, Any] = {"case": name, "promise": promise}
            used: set[str] = set()
            for form_name in (RAW, BY_TOOL, BY_CALL):
                form = Form(gate, form_name, is_async)
                if form_name != BY_CALL or BY_CALL in used:
                    result[form_name] = observed(name, gate, form)
                    used |= form.used
            print(f"CASE {json.dumps(result)}", flush=True)


LAUNCHER: list[str] = []

if __name__ == "__main__":
    LAUNCHER += json.loads(sys.argv[2])
    main(sys.argv[1], LAUNCHER, sys.argv[3:])
