"""A CrewAI crew whose tools a gate governs: one call allowed, one denied, one held and approved.

    python examples/crewai_refund.py

It needs an environment with CrewAI, `toolgate-client` and `toolgate-crewai`, and the program
`toolgate` on PATH; CrewAI and the gate need not share an environment. The crew is a real one with a
scripted model, so no account is needed, and nothing is sent anywhere. All that is written is in a
temporary folder.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from pathlib import Path
from typing import Any

FOLDER = Path(tempfile.mkdtemp(prefix="toolgate-"))
os.environ.update(  # before CrewAI is imported: it reads them, and writes to HOME, when it is
    HOME=str(FOLDER),
    CREWAI_DISABLE_TELEMETRY="true",
    CREWAI_TRACING_ENABLED="false",
    CREWAI_DISABLE_VERSION_CHECK="true",
    CREWAI_TESTING="true",
    OTEL_SDK_DISABLED="true",
)

from crewai import Agent, BaseLLM, Crew, Task  # noqa: E402
from crewai.tools import tool  # noqa: E402

from toolgate_client import GateClient  # noqa: E402
from toolgate_crewai import fail_closed, govern_tools  # noqa: E402

CONFIG = FOLDER / "gate.yaml"
SCRIPT = [
    ("search_orders", {"order": "1042"}),
    ("delete_customer", {"customer": "c-77"}),
    ("issue_refund", {"order": "1042", "amount": 120}),
]
ANSWER = "The refund waits for a person; the customer's record stays."

refunds: list[str] = []


@tool("search_orders")
def search_orders(order: str) -> str:
    """Look up an order."""
    return f"order {order}: one lamp, 120.00"


@tool("issue_refund")
def issue_refund(order: str, amount: float) -> str:
    """Pay money back to the customer of an order."""
    refunds.append(order)
    return f"refunded {amount:.2f} for order {order}"


@tool("delete_customer")
def delete_customer(customer: str) -> str:
    """Delete a customer's record."""
    raise AssertionError("never runs")


class ScriptedModel(BaseLLM):
    """Stands for a model: it makes the script's calls, one after the other, and answers."""

    def call(self, messages: Any, *args: Any, **options: Any) -> Any:
        """Return the next call, in the form of OpenAI's interface, or the answer."""
        told = [message["content"] for message in messages if message["role"] == "tool"]
        if told:
            print(f"    {told[-1]}")
        if len(told) == len(SCRIPT):
            return ANSWER
        name, arguments = SCRIPT[len(told)]
        print(f"the model calls {name}({arguments})")
        function = {"name": name, "arguments": json.dumps(arguments)}
        return [{"id": f"call-{len(told)}", "type": "function", "function": function}]

    def supports_function_calling(self) -> bool:
        """Say that calls are made this way, not in text."""
        return True


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
        "agent": {"id": "support", "framework": "crewai"},
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


def main() -> None:
    write_config()
    with GateClient(CONFIG) as gate, fail_closed(gate):
        tools = govern_tools(gate, [search_orders, issue_refund, delete_customer], hold="return")
        agent = Agent(
            role="support",
            goal="help customers",
            backstory="You answer mail.",
            llm=ScriptedModel(model="scripted"),
            tools=tools,
        )
        task = Task(description="Order 1042 broke.", expected_output="an answer", agent=agent)
        answer = Crew(agents=[agent], tasks=[task]).kickoff()
        print(f"the crew answers: {answer}")
        print(f"refunds paid: {', '.join(refunds) or 'none'}")

        (hold,) = gate.holds("pending")
        approve = ("approvals", "approve", hold.hold_id, "--as", "alice", "--key", "alice.key")
        print("\nalice, in another terminal:")
        print(f"    {toolgate(*approve, '--config', str(CONFIG)).splitlines()[-1]}")
        outcome = gate.resume(str(hold.uid))
        print(f"resumed: {outcome.output}")
        print(f"refunds paid: {', '.join(refunds) or 'none'}")


if __name__ == "__main__":
    main()
