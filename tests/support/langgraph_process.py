"""An agent that pays, run by a process of its own, with its checkpoints in an SQLite file.

    python langgraph_process.py FOLDER start|resume [in-body|after-body]

Prints one line of JSON: what the graph shows or answers. With a second word the process dies, as if
killed, inside the tool's body, or when the tool has returned and nothing is checkpointed yet.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import ToolMessage
from langchain_core.tools import tool
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.scripted_model import script, tool_call
from toolgate_client import GateClient
from toolgate_langgraph import govern_tools

DIED = 9


class DieAfterTool(BaseCallbackHandler):
    """Ends the process when a tool has returned."""

    run_inline = True

    def on_tool_end(self, output: Any, **kwargs: Any) -> None:
        os._exit(DIED)


def main(folder: Path, role: str, death: str | None) -> None:
    @tool
    def pay(to: str, amount: int) -> str:
        """Pay somebody."""
        with (folder / "effects").open("a") as effects:
            effects.write(f"{amount} to {to}\n")
        if death == "in-body":
            os._exit(DIED)
        return f"paid {amount} to {to}"

    connection = sqlite3.connect(folder / "checkpoints.db", check_same_thread=False)
    with GateClient(folder / "gate.yaml") as gate:
        model = script(tool_call("pay", {"to": "bob", "amount": 10}), answer="all paid")
        agent = create_agent(model, govern_tools(gate, [pay]), checkpointer=SqliteSaver(connection))
        config: Any = {"configurable": {"thread_id": "t"}}
        if death == "after-body":
            config["callbacks"] = [DieAfterTool()]
        start: Any = {"messages": [("user", "pay bob")]}
        given = start if role == "start" else Command(resume=True)
        # By default LangGraph writes a checkpoint while the next node runs already. A process that
        # dies then has forgotten the call itself, and its model makes another.
        result = agent.invoke(given, config, durability="sync")
    connection.close()
    asked = [interrupt.value for interrupt in result.get("__interrupt__", [])]
    told = [message for message in result["messages"] if isinstance(message, ToolMessage)]
    print(
        json.dumps(
            {
                "asked": asked,
                "told": [message.content for message in told],
                "statuses": [message.status for message in told],
                "answer": result["messages"][-1].content,
            }
        )
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3] if len(sys.argv) > 3 else None)
