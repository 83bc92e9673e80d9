"""An AutoGen team whose tools a gate governs: one call allowed, one denied, one held.

    python examples/autogen_refund.py

The team stops at the held call and is saved. Alice approves it. A team of the same makeup, which
could be in another process, another week, is given the saved state, runs the call and finishes.

It needs an environment with AutoGen (`autogen-agentchat`, `autogen-ext`), `toolgate-client` and
`toolgate-autogen`, and the program `toolgate` on PATH. The agents are real ones with scripted
models, so no account is needed, and nothing is sent anywhere. All that is written is in a temporary
folder.
"""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import ToolCallExecutionEvent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import FunctionCall
from autogen_core.models import CreateResult, RequestUsage
from autogen_ext.models.replay import ReplayChatCompletionClient

from toolgate_autogen import HoldTermination, govern_tools, run_approved
from toolgate_client import GateClient

FOLDER = Path(tempfile.mkdtemp(prefix="toolgate-"))
CONFIG = FOLDER / "gate.yaml"
SAVED = FOLDER / "team.json"

refunds: list[str] = []


def search_orders(order: str) -> str:
    """Look up an order."""
    return f"order {order}: one lamp, 120.00"


async def issue_refund(order: str, amount: float) -> str:
    """Pay money back to the customer of an order."""
    refunds.append(order)
    return f"refunded {amount:.2f} for order {order}"


def delete_customer(customer: str) -> str:
    """Delete a customer's record."""
    raise AssertionError("never runs")


def model(*said: str | dict[str, dict[str, Any]]) -> ReplayChatCompletionClient:
    """Return what stands for a model: a text is an answer, a dictionary the calls of one turn."""
    results = [
        CreateResult(
            finish_reason="stop" if isinstance(each, str) else "function_calls",
            content=each
            if isinstance(each, str)
            else [
                FunctionCall(id=f"call-{name}", name=name, arguments=json.dumps(arguments))
                for name, arguments in each.items()
            ],
            usage=RequestUsage(prompt_tokens=0, completion_tokens=0),
            cached=False,
        )
        for each in said
    ]
    return ReplayChatCompletionClient(
        results,
        model_info={
            "vision": False,
            "function_calling": True,
            "json_output": False,
            "family": "unknown",
            "structured_output": False,
        },
    )


def build(
    gate: GateClient, clerk_says: ReplayChatCompletionClient, stop: HoldTermination
) -> RoundRobinGroupChat:
    """Return the team: a clerk with governed tools, and somebody who writes to the customer."""
    tools = govern_tools(gate, [search_orders, issue_refund, delete_customer], hold="return")
    clerk = AssistantAgent("clerk", clerk_says, tools=tools)
    writer = AssistantAgent("writer", model("Dear customer, your money is on its way."))
    return RoundRobinGroupChat([clerk, writer], termination_condition=stop, max_turns=2)


def show(messages: Any) -> None:
    """Print what the model was told of its calls."""
    for message in messages:
        if isinstance(message, ToolCallExecutionEvent):
            for result in message.content:
                print(f"    {result.name}: {'error: ' if result.is_error else ''}{result.content}")


def toolgate(*arguments: str) -> str:
    """Run a command of Toolgate's, as a person would in another terminal."""
    command = ["toolgate", *arguments]
    done = subprocess.run(command, cwd=FOLDER, check=True, capture_output=True, text=True)
    return done.stdout


def write_config() -> None:
    """Make alice a key pair, and a gate that knows her."""
    key = json.loads(toolgate("keys", "new", "alice", "--json"))
    config = {
        "project": "shop",
        "agent": {"id": "support", "framework": "autogen"},
        "tools": {
            "search_orders": {"level": 1},
            "issue_refund": {"level": 3},
            "delete_customer": {"level": 5},
        },
        "policy": {
            "allow_up_to": 1,
            "rules": [
                {
                    "id": "refunds",
                    "tools": ["issue_refund"],
                    "effect": "hold",
                    "reason": "a person reads refunds",
                }
            ],
        },
        "approvals": {"approvers": [{"id": "alice", "public_key": key["public_key"]}]},
    }
    CONFIG.write_text(json.dumps(config))


async def until_it_stops() -> str:
    """Run the team until it stops, and save it. Return the hold that it stopped at."""
    calls = {
        "search_orders": {"order": "1042"},
        "delete_customer": {"customer": "c-77"},
        "issue_refund": {"order": "1042", "amount": 120},
    }
    async with GateClient(CONFIG) as gate:
        stop = HoldTermination()
        team = build(gate, model(calls), stop)
        print("the clerk makes three calls at once, and is told:")
        result = await team.run(task="Order 1042 broke: refund it, and forget customer c-77.")
        show(result.messages)
        print(f"the team stops: {result.stop_reason}")
        (held,) = stop.held
        saved = {"team": await team.save_state(), "held": held.uid}
        SAVED.write_text(json.dumps(saved))
        assert held.hold is not None
        return held.hold.hold_id


async def go_on() -> None:
    """Give the saved state to another team, run the call, and finish."""
    saved = json.loads(SAVED.read_text())
    async with GateClient(CONFIG) as gate:
        team = build(
            gate, model("The refund is paid; the customer's record stays."), HoldTermination()
        )
        await team.load_state(saved["team"])
        message = await run_approved(gate, saved["held"])
        print(f"the team is told: {message.content}")
        result = await team.run(task=message)
        for said in result.messages[1:]:
            print(f"    {said.source}: {said.content}")


def main() -> None:
    logging.disable(logging.WARNING)  # the scripted model says that it cannot count tokens of calls
    write_config()
    hold = asyncio.run(until_it_stops())
    print(f"refunds paid: {', '.join(refunds) or 'none'}")

    approve = ("approvals", "approve", hold, "--as", "alice", "--key", "alice.key")
    print("\nalice, in another terminal:")
    print(f"    {toolgate(*approve, '--config', str(CONFIG)).splitlines()[-1]}\n")

    asyncio.run(go_on())
    print(f"refunds paid: {', '.join(refunds) or 'none'}")


if __name__ == "__main__":
    main()
