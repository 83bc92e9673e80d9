"""Where the bodies of LangChain's tools run, and how they end."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.tools import (
    BaseTool,
    StructuredTool,
    ToolException,
    tool,
)
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.config import get_config, get_stream_writer
from langgraph.types import Command, interrupt

from comparison.cases import Cases, pickled, said
from comparison.hooks import PATIENCE, RAW, Hook
from comparison.langgraph_kit import GO, THREAD, Note, agent, told, where
from support.scripted_model import ScriptedModel, calls, script, tool_call

cases = Cases()


@cases.allowed("a body's thread and context variables")
def _(hook: Hook) -> str:
    places = []

    @tool
    def here(item: str) -> str:
        """Say where."""
        places.append(threading.current_thread())
        return where.get()

    (made,) = hook.govern([here])
    where.set("the caller's")
    variable = made.invoke({"item": "lamp"})
    thread = "the caller's" if places == [threading.current_thread()] else "another"
    return f"{thread}; {variable}"


@cases.allowed("a coroutine's loop and context variables")
def _(hook: Hook) -> str:
    loops = []

    @tool
    async def here_later(item: str) -> str:
        """Say where."""
        loops.append(asyncio.get_running_loop())
        return where.get()

    (made,) = hook.govern([here_later])

    async def go() -> str:
        where.set("the caller's")
        variable = await made.ainvoke({"item": "lamp"})
        loop = "the caller's" if loops == [asyncio.get_running_loop()] else "another"
        return f"{loop}; {variable}"

    return asyncio.run(go())


@cases.allowed("a function, awaited: its context variables")
def _(hook: Hook) -> str:
    @tool
    def here_awaited(item: str) -> str:
        """Say where."""
        return where.get()

    (made,) = hook.govern([here_awaited])
    where.set("the caller's")
    return str(asyncio.run(made.ainvoke({"item": "lamp"})))


@cases.allowed("stream_mode=messages: what a model called in a body says")
def _(hook: Hook) -> str:
    @tool
    def thinks(item: str) -> str:
        """Ask another model."""
        return script(answer=f"thought of {item}").invoke("think").text

    made = agent(hook.govern([thinks]), tool_call("thinks", {"item": "lamp"}))
    said = [chunk.text for chunk, _ in made.stream(GO, stream_mode="messages")]
    return f"streamed {[text for text in said if text]}"


@cases.allowed("a body that calls another governed tool")
def _(hook: Hook) -> str:
    @tool
    def inner(item: str) -> str:
        """Look something up."""
        return f"found {item}"

    (within,) = hook.govern([inner])

    @tool
    def outer(item: str) -> str:
        """Look something up, too."""
        return f"outer {within.invoke({'item': item})}"

    (made,) = hook.govern([outer])
    return str(made.invoke({"item": "lamp"}))


@cases.allowed("stream writer and get_config in a body")
def _(hook: Hook) -> str:
    @tool
    def streams(item: str) -> str:
        """Write to the stream."""
        get_stream_writer()({"half": item})
        return str(get_config()["configurable"]["thread_id"])

    made = agent(hook.govern([streams]), tool_call("streams", {"item": "lamp"}))
    chunks = list(made.stream(GO, THREAD, stream_mode="custom"))
    return f"streamed {chunks}"


@cases.allowed("a body that asks by interrupt()")
def _(hook: Hook) -> str:
    @tool
    def asks(item: str) -> str:
        """Ask the user."""
        return f"{item}: {interrupt('which color?')}"

    call = tool_call("asks", {"item": "lamp"})
    made = agent(hook.govern([asks]), call, checkpointer=InMemorySaver())
    paused = made.invoke(GO, THREAD)
    if "__interrupt__" not in paused:
        return told(paused)
    return f"pauses; {told(made.invoke(Command(resume='red'), THREAD))}"


@cases.allowed("callbacks: what a handler of the run sees")
def _(hook: Hook) -> str:
    class Handler(BaseCallbackHandler):
        seen: list[str] = []  # noqa: RUF012 - made anew for each run

        def on_tool_start(self, serialized: Any, text: str, **more: Any) -> None:
            tags = [each for each in more["tags"] if "step" not in each]
            self.seen.append(f"start {serialized['name']} tags {tags}")

        def on_tool_end(self, output: Any, **more: Any) -> None:
            self.seen.append("end")

    handler = Handler()
    handler.seen = []
    (made,) = hook.govern([Note(name="note_seen")])
    made.invoke({"item": "lamp"}, {"callbacks": [handler]})
    return ", ".join(handler.seen)


def failing(name: str, error: Exception, **fields: Any) -> BaseTool:
    """Return a tool whose body raises."""

    def body(item: str) -> str:
        raise error

    return StructuredTool.from_function(body, name=name, description="Fail.", **fields)


@cases.allowed("an exception of a body, to own code")
def _(hook: Hook) -> str:
    problem = KeyError("no such item")
    (made,) = hook.govern([failing("raises", problem)])
    try:
        return str(made.invoke({"item": "lamp"}))
    except Exception as error:  # noqa: BLE001 - it is what is looked at
        return f"{said(error)}{', the very one' if error is problem else ''}"


@cases.allowed("a ToolException that the tool handles itself")
def _(hook: Hook) -> str:
    made = hook.govern([failing("handles", ToolException("sold out"), handle_tool_error=True)])
    return told(agent(made, tool_call("handles", {"item": "lamp"})).invoke(GO))


@cases.allowed("a coroutine that is cancelled while it runs")
def _(hook: Hook) -> str:
    ends = []
    over = threading.Event()

    async def go() -> None:
        loop, started = asyncio.get_running_loop(), asyncio.Event()

        @tool
        async def slow(item: str) -> str:
            """Take a while."""
            loop.call_soon_threadsafe(started.set)
            try:
                await asyncio.sleep(0.5)
                ends.append("its body runs to its end")
            except asyncio.CancelledError:
                ends.append("its body is cancelled")
                raise
            finally:
                over.set()
            return "done"

        (made,) = hook.govern([slow])
        running = asyncio.ensure_future(made.ainvoke({"item": "lamp"}))
        await started.wait()
        running.cancel()
        await asyncio.wait([running])

    asyncio.run(go())
    over.wait(PATIENCE)
    return ends[0]


@cases.allowed("a tool with a coroutine and no function, invoked")
def _(hook: Hook) -> str:
    @tool
    async def only_later(item: str) -> str:
        """Look something up."""
        return f"found {item}"

    (made,) = hook.govern([only_later])
    return str(made.invoke({"item": "lamp"}))


@cases.allowed("40 coroutines while the loop's executor is busy")
def _(hook: Hook) -> str:
    @tool
    async def many(item: str) -> str:
        """Look something up."""
        await asyncio.sleep(0)
        return item

    (made,) = hook.govern([many])

    async def go() -> str:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        free = threading.Event()
        busy = loop.run_in_executor(None, free.wait, PATIENCE)
        waiting = [asyncio.ensure_future(made.ainvoke({"item": str(n)})) for n in range(40)]
        done, _ = await asyncio.wait(waiting, timeout=3.0)
        free.set()
        await busy
        await asyncio.wait(waiting)
        return f"{len(done)} do not wait for it"

    return asyncio.run(go())


@cases.allowed("300 calls at once, of threads")
def _(hook: Hook) -> str:
    @tool
    def crowded(item: str) -> str:
        """Look something up."""
        return item

    (made,) = hook.govern([crowded])

    def call(number: int) -> str:
        try:
            return "fine" if made.invoke({"item": str(number)}) == str(number) else "another's"
        except Exception as error:  # noqa: BLE001 - it is what is looked at
            return said(error)

    with ThreadPoolExecutor(300) as pool:
        ends = list(pool.map(call, range(300)))
    return "all get their results" if set(ends) == {"fine"} else str(sorted(set(ends)))


@cases.allowed("parallel calls of one message")
def _(hook: Hook) -> str:
    both = threading.Barrier(4, timeout=PATIENCE)

    @tool
    def meet(item: str) -> str:
        """Meet the others."""
        both.wait()
        return f"met {item}"

    turn = calls(*(tool_call("meet", {"item": n}, f"c-{n}") for n in "abcd"))
    model = ScriptedModel(script=[turn, *script().script])
    return told(create_agent(model, hook.govern([meet])).invoke(GO))


@cases.allowed("batch, abatch")
def _(hook: Hook) -> str:
    @tool
    def batched(item: str) -> str:
        """Look something up."""
        return item

    (made,) = hook.govern([batched])
    inputs = [{"item": n} for n in "abc"]
    return f"{made.batch(inputs)} {asyncio.run(made.abatch(inputs))}"


@cases.allowed("pickled, restored, used")
def _(hook: Hook) -> str:
    (made,) = hook.govern([Note(name="note_kept")])
    if (restored := pickled(made)) is None:
        return "cannot be pickled"
    if hook.binds is not None:
        hook.binds(hook.client, [restored])
    return told({"messages": [restored.invoke(tool_call("note_kept", {"item": "lamp"}))]})


@cases.allowed("a copy with another description")
def _(hook: Hook) -> str:
    (made,) = hook.govern([Note(name="note_copied")])
    changed = made.model_copy(update={"description": "Buy."})
    message = changed.invoke(tool_call("note_copied", {"item": "lamp"}))
    asked = hook.name == RAW or hook.proposed("note_copied")
    return f"{changed.description} {message.status}{'' if asked else ', not governed'}"
