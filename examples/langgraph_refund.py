"""A LangGraph agent that a gate governs: one call allowed, one denied, one approved from elsewhere.

    python examples/langgraph_refund.py

It needs `toolgate`, `toolgate-client`, `toolgate-langgraph[langchain]` and
`langgraph-checkpoint-sqlite`. The agent is a real one with a scripted model, so no account is
needed, and nothing is sent anywhere. All that is written is in a temporary folder.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.types import Command

from toolgate_client import GateClient
from toolgate_langgraph import GateMiddleware

FOLDER = Path(tempfile.mkdtemp(prefix="toolgate-"))
CONFIG = FOLDER / "gate.yaml"
THREAD: Any = {"configurable": {"thread_id": "order-1042"}}
SCRIPT: list[tuple[str, dict[str, Any]]] = [
    ("search_orders", {"order": "1042"}),
    ("delete_customer", {"customer": "c-77"}),
    ("issue_refund", {"order": "1042", "amount": 120}),
]
ANSWER = "The money is on its way; the customer's record stays."

refunds: list[str] = []


@tool
async def search_orders(order: str) -> str:
    """Look up an order."""
    return f"order {order}: one lamp, 120.00"


@tool
async def issue_refund(order: str, amount: float) -> str:
    """Pay money back to the customer of an order."""
    refunds.append(order)
    return f"refunded {amount:.2f} for order {order}"


@tool
async def delete_customer(customer: str) -> str:
    """Delete a customer's record."""
    raise AssertionError("never runs")


class ScriptedModel(BaseChatModel):
    """Stands for a model: it makes the script's calls, one after the other, and answers."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> BaseChatModel:
        """Take the tools; the script knows them."""
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **options: Any) -> ChatResult:
        told = [message for message in messages if isinstance(message, ToolMessage)]
        if told:
            print(f"    {told[-1].text}")
        said = AIMessage(ANSWER)
        if len(told) < len(SCRIPT):
            name, arguments = SCRIPT[len(told)]
            print(f"the model calls {name}({arguments})")
            call = {"name": name, "args": arguments, "id": f"c{len(told)}", "type": "tool_call"}
            said = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=said)])


def toolgate(*arguments: str) -> str:
    """Run a command of Toolgate's, as a person would in another terminal."""
    command = [sys.executable, "-m", "toolgate", *arguments]
    done = subprocess.run(command, cwd=FOLDER, check=True, capture_output=True, text=True)
    return done.stdout


def write_config() -> None:
    """Make alice a key pair, and a gate that knows her."""
    key = json.loads(toolgate("keys", "new", "alice", "--json"))
    refunds_are_read = {
        "id": "refunds",
        "tools": ["issue_refund"],
        "effect": "hold",
        "reason": "a person reads refunds",
    }
    config = {
        "project": "shop",
        "agent": {"id": "support", "framework": "langgraph"},
        "tools": {
            "search_orders": {"level": 1},
            "issue_refund": {"level": 3},
            "delete_customer": {"level": 5},
        },
        "policy": {"allow_up_to": 1, "rules": [refunds_are_read]},
        "approvals": {"approvers": [{"id": "alice", "public_key": key["public_key"]}]},
    }
    CONFIG.write_text(json.dumps(config))


async def approve(hold: str) -> None:
    """Sign, as alice does in another terminal."""
    words = ("approvals", "approve", hold, "--as", "alice", "--key", "alice.key")
    said = await asyncio.to_thread(toolgate, *words, "--config", str(CONFIG))
    print(f"\nalice, in another terminal:\n    {said.splitlines()[-1]}\n")


async def main() -> None:
    write_config()
    threads = AsyncSqliteSaver.from_conn_string(str(FOLDER / "threads.db"))
    async with GateClient(CONFIG) as gate, threads as saver:
        agent = create_agent(
            ScriptedModel(),
            [search_orders, issue_refund, delete_customer],
            middleware=[GateMiddleware(gate)],
            checkpointer=saver,
        )
        state = await agent.ainvoke({"messages": [("user", "Order 1042 broke.")]}, THREAD)
        (pause,) = state["__interrupt__"]
        print(f"paused: {pause.value['hold']['reason']}")

        state = await agent.ainvoke(Command(resume="go on"), THREAD)
        print(f"still paused: {'__interrupt__' in state}")
        print(f"refunds paid: {', '.join(refunds) or 'none'}")

        await approve(pause.value["hold"]["hold_id"])
        state = await agent.ainvoke(Command(resume="go on"), THREAD)
        print(f"the agent answers: {state['messages'][-1].text}")
        print(f"refunds paid: {', '.join(refunds) or 'none'}")


if __name__ == "__main__":
    asyncio.run(main())
