"""A support agent whose tool calls are governed: one allowed, one denied, one held for a person.

Run it with `make quickstart`, or `python examples/quickstart.py` where Toolgate is installed. The
agent is a real LangGraph agent; only its model follows a script, so that nothing needs a network.
The gate is a real one, with configs/quickstart.yaml. All that is written is in a temporary folder.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

if not sys.stdout.isatty():
    os.environ.setdefault("COLUMNS", "120")  # of tables, where no terminal says how wide it is
if isinstance(sys.stdout, io.TextIOWrapper):
    sys.stdout.reconfigure(errors="replace")  # of lines and dots, where the encoding has none

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, Interrupt
from rich.console import Console
from rich.markup import escape

from toolgate.cli.app import app as toolgate_command
from toolgate.signatures.keys import new_private_key, public_key_text
from toolgate_client import GateClient
from toolgate_langgraph import govern_tools

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
REQUEST = "Order 1042 arrived broken. Refund it, and delete the customer's old record."

T = TypeVar("T")

console = Console(highlight=False)

# --- the agent, as it would be without a gate ----------------------------------------------------

customers = {"c-77": "Ada"}
refunds: list[tuple[str, float]] = []


def search_orders(order: str) -> str:
    """Look up an order."""
    return f"order {order}: one lamp, 120.00, paid by customer c-77, delivered yesterday"


def delete_customer(customer: str) -> str:
    """Delete a customer's record."""
    del customers[customer]
    return f"deleted {customer}"


def issue_refund(order: str, amount: float) -> str:
    """Pay money back to the customer of an order."""
    refunds.append((order, amount))
    return f"refunded {amount:.2f} for order {order}"


class ScriptedModel(BaseChatModel):
    """Stands for a model: what it says next depends on what its tools have told it."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> BaseChatModel:
        """Take the tools; the script knows them."""
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **options: Any) -> ChatResult:
        told = [message for message in messages if isinstance(message, ToolMessage)]
        script = [
            ("search_orders", {"order": "1042"}),
            ("delete_customer", {"customer": "c-77"}),
            ("issue_refund", {"order": "1042", "amount": 120}),
        ]
        if len(told) < len(script):
            name, args_ = script[len(told)]
            call = {"name": name, "args": args_, "id": f"call-{len(told) + 1}", "type": "tool_call"}
            said = AIMessage("", tool_calls=[call])
        else:
            _, denied, refunded = told
            reason = denied.artifact["toolgate"]["reason"]
            said = AIMessage(f"I have {refunded.text}. I kept the customer's record: {reason}.")
        return ChatResult(generations=[ChatGeneration(message=said)])


# --- the same agent, governed --------------------------------------------------------------------


def main() -> None:
    """Tell the story, and fail if any part of it is not as promised."""
    with tempfile.TemporaryDirectory(prefix="toolgate-") as folder, contextlib.chdir(folder):
        config = deploy()
        with GateClient(config) as gate:
            tools = govern_tools(gate, [search_orders, delete_customer, issue_refund])
            agent = create_agent(ScriptedModel(), tools, checkpointer=InMemorySaver())

            title("The agent works until a person is needed")
            console.print(f"[bold]user[/]      {REQUEST}")
            held = promise(
                run(agent, {"messages": [("user", REQUEST)]}), "the large refund is held"
            )
            promise(customers == {"c-77": "Ada"}, "the customer is still there")
            promise(refunds == [], "no money has moved")

            title("An approver looks at it, and signs")
            hold = held.value["hold"]["hold_id"]
            command("approvals", "show", hold)
            command("approvals", "approve", hold, "--as", "alice", "--key", "alice.key")
            promise(refunds == [], "an approval alone moves nothing")

            title("The graph is resumed, and the refund runs once")
            promise(run(agent, Command(resume=True)) is None, "the agent has finished")
            promise(refunds == [("1042", 120)], "the refund ran")
            again = gate.resume(held.value["uid"])
            promise(again.replayed and len(refunds) == 1, "resumed again, it is not run again")
            console.print(f"[dim]resumed again: the recorded outcome, {again.output!r}[/]")

        title("What happened, as the journal tells it")
        command("journal", "show")
        command("journal", "verify")


def deploy() -> Path:
    """Put the config and its policy into this folder, and make alice a key pair."""
    shutil.copytree(CONFIGS, ".", dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
    key = new_private_key(Path("alice.key"))
    os.environ["TOOLGATE_APPROVER_KEY"] = public_key_text(key.public_key())
    os.environ["TOOLGATE_CONFIG"] = "quickstart.yaml"
    return Path("quickstart.yaml")


def run(agent: Any, given: Any) -> Interrupt | None:
    """Run the agent and tell what it does; return what it waits for, if it does."""
    thread = {"configurable": {"thread_id": "support-1042"}}
    for update in agent.stream(given, thread, stream_mode="updates"):
        for node, change in update.items():
            if node == "__interrupt__":
                interrupt: Interrupt = change[0]
                reason = escape(interrupt.value["hold"]["reason"])
                console.print(f"[bold yellow]held[/]      {interrupt.value['name']}: {reason}")
                return interrupt
            for message in change["messages"]:
                tell(message)
    return None


def tell(message: BaseMessage) -> None:
    """Print what the model says, or what a tool tells it."""
    if isinstance(message, ToolMessage):
        denied = message.status == "error"
        verdict = "[bold red]denied[/]   " if denied else "[bold green]allowed[/]  "
        console.print(f"{verdict} {escape(message.text)}")
    elif isinstance(message, AIMessage) and message.tool_calls:
        for call in message.tool_calls:
            args = ", ".join(f"{name}={value!r}" for name, value in call["args"].items())
            console.print(f"[bold]agent[/]     calls {escape(call['name'])}({escape(args)})")
    else:
        console.print(f"[bold]agent[/]     {escape(message.text)}")


def command(*words: str) -> None:
    """Run a `toolgate` command as a person would in this folder."""
    console.print(f"[bold cyan]$ toolgate {escape(' '.join(words))}[/]")
    code = toolgate_command(list(words), standalone_mode=False)
    promise(not code, f"toolgate {words[0]} {words[1]} ends well")
    console.print()


def title(text: str) -> None:
    """Print a heading."""
    console.print()
    console.rule(f"[bold]{text}", align="left", style="dim")


def promise(kept: T | None, what: str) -> T:
    """Return what was promised, or end the program when it is not so."""
    if not kept:
        raise SystemExit(f"not as promised: {what}")
    return kept


if __name__ == "__main__":
    main()
