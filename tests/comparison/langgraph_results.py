"""What LangChain's tools give."""

from __future__ import annotations

from typing import Any

from langchain_core.messages import ToolMessage
from langchain_core.tools import (
    tool,
)
from langgraph.types import Command

from comparison.cases import Cases, short
from comparison.hooks import Hook
from comparison.langgraph_kit import (
    GO,
    Color,
    agent,
    in_node,
    told,
)
from support.scripted_model import tool_call

cases = Cases()


@cases.allowed("content and artifact")
def _(hook: Hook) -> str:
    live = object()

    @tool(response_format="content_and_artifact")
    def draws(item: str) -> tuple[str, Any]:
        """Draw something."""
        return f"drew {item}", live

    (made,) = hook.govern([draws])
    message = made.invoke(tool_call("draws", {"item": "lamp"}))
    return f"{message.text}, artifact {'kept' if message.artifact is live else message.artifact}"


@cases.allowed("Command")
def _(hook: Hook) -> str:
    @tool
    def commands(item: str) -> Command[Any]:
        """Change the state."""
        message = ToolMessage("changed", tool_call_id="call-7")
        return Command(update={"messages": [message], "secret": "new"})

    state = in_node(hook, commands)
    return f"{told(state)}; state {'changed' if state['secret'] == 'new' else 'unchanged'}"


@cases.allowed("ToolMessage")
def _(hook: Hook) -> str:
    @tool
    def message(item: str) -> ToolMessage:
        """Answer."""
        return ToolMessage("fine", tool_call_id="call-7", artifact=[1])

    (made,) = hook.govern([message])
    result = made.invoke(tool_call("message", {"item": "lamp"}, "call-7"))
    return f"{short(str(result.content))} artifact {result.artifact}"


@cases.allowed("content blocks with an image")
def _(hook: Hook) -> str:
    @tool
    def image(item: str) -> list[Any]:
        """Draw."""
        return [{"type": "text", "text": "a lamp"}, {"type": "image", "url": "http://x"}]

    (made,) = hook.govern([image])
    content = made.invoke(tool_call("image", {"item": "lamp"})).content
    return str([block["type"] for block in content]) if isinstance(content, list) else "text"


@cases.allowed("a dict, given to own code")
def _(hook: Hook) -> str:
    @tool
    def gives_dict(item: str) -> dict[str, Any]:
        """Give a dict."""
        return {"item": item, "count": (1, 2)}

    (made,) = hook.govern([gives_dict])
    return str(made.invoke({"item": "lamp"}))


@cases.allowed("a live object, given to own code")
def _(hook: Hook) -> str:
    @tool
    def gives(item: str) -> Any:
        """Give an object."""
        return Color(name=item)

    (made,) = hook.govern([gives])
    return type(made.invoke({"item": "lamp"})).__name__


@cases.allowed("a result that is no JSON (NaN)")
def _(hook: Hook) -> str:
    @tool
    def gives_nan(item: str) -> float:
        """Give a number."""
        return float("nan")

    (made,) = hook.govern([gives_nan])
    return str(made.invoke({"item": "lamp"}))


@cases.allowed("an argument and a result of 5 MiB", gate=True)
def _(hook: Hook) -> str:
    @tool
    def long(item: str) -> str:
        """Give it back."""
        return item

    @tool
    def grows(count: int) -> str:
        """Grow."""
        return "x" * count

    size = 5 << 20
    ends = []
    first, second = hook.govern([long, grows])
    for made, args in ((first, {"item": "x" * size}), (second, {"count": size})):
        try:
            given = made.invoke(args)
            ends.append("fine" if given == "x" * size else f"a message, {given.status}")
        except Exception as error:  # noqa: BLE001 - it is what is looked at
            ends.append(f"raises {type(error).__name__}")
    return f"argument: {ends[0]}; result: {ends[1]}"


@cases.allowed("return_direct ends the agent's loop")
def _(hook: Hook) -> str:
    @tool(return_direct=True)
    def final(item: str) -> str:
        """Look something up."""
        return f"found {item}"

    state = agent(hook.govern([final]), tool_call("final", {"item": "lamp"})).invoke(GO)
    return f"last: {type(state['messages'][-1]).__name__}"
