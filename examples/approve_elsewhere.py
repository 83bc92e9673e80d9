"""An agent is held in one process, approved from another terminal, and resumed by a third process.

    .venv/bin/python examples/approve_elsewhere.py start    (`make quickstart` makes .venv)
    toolgate approvals approve …                            (the first prints the whole command)
    .venv/bin/python examples/approve_elsewhere.py resume FOLDER

No process waits for the person: the hold is in the gate's journal, the graph in its checkpoints.
The agent is a real LangGraph agent with a scripted model; the gate has configs/quickstart.yaml.
"""

from __future__ import annotations

import shlex
import shutil
import sqlite3
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.types import Command

from toolgate.signatures.keys import new_private_key, public_key_text
from toolgate_client import GateClient
from toolgate_langgraph import govern_tools

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
THREAD: Any = {"configurable": {"thread_id": "support-1042"}}
WAITING = 3
"""Exit code of `resume` when nobody has decided yet."""


class ScriptedModel(BaseChatModel):
    """Stands for a model: it refunds an order, and passes on what it is told."""

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def bind_tools(self, tools: Sequence[Any], **options: Any) -> BaseChatModel:
        """Take the tools; the script knows them."""
        return self

    def _generate(self, messages: list[BaseMessage], *args: Any, **options: Any) -> ChatResult:
        if isinstance(messages[-1], ToolMessage):
            said = AIMessage(f"About your refund: {messages[-1].text}")
        else:
            refund = {"order": "1042", "amount": 120}
            call = {"name": "issue_refund", "args": refund, "id": "call-1", "type": "tool_call"}
            said = AIMessage("", tool_calls=[call])
        return ChatResult(generations=[ChatGeneration(message=said)])


def run(folder: Path, given: Any) -> dict[str, Any]:
    """Run the agent until it ends or is held. The folder has all that outlives this process."""

    def issue_refund(order: str, amount: float) -> str:
        """Pay money back to the customer of an order."""
        with (folder / "refunds.txt").open("a") as refunds:
            refunds.write(f"{amount:.2f} for order {order}\n")
        return f"refunded {amount:.2f} for order {order}"

    database = sqlite3.connect(folder / "checkpoints.db", check_same_thread=False)
    with closing(database), GateClient(folder / "quickstart.yaml") as gate:
        tools = govern_tools(gate, [issue_refund])
        agent = create_agent(ScriptedModel(), tools, checkpointer=SqliteSaver(database))
        result: dict[str, Any] = agent.invoke(given, THREAD)
        return result


def start() -> int:
    """Run the agent until its refund is held, and say how to go on."""
    folder = Path(tempfile.mkdtemp(prefix="toolgate-"))
    shutil.copytree(CONFIGS, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*"))
    config, key = folder / "quickstart.yaml", folder / "alice.key"
    public = public_key_text(new_private_key(key).public_key())
    config.write_text(config.read_text().replace("${TOOLGATE_APPROVER_KEY}", public))

    result = run(folder, {"messages": [("user", "Order 1042 arrived broken. Refund it.")]})
    [interrupt] = result["__interrupt__"]
    print(interrupt.value["description"])
    print("\nThis process ends now; nothing has run. In another terminal, as alice:\n")
    for verb, rest in (("show", ""), ("approve", f" --as alice --key {shlex.quote(str(key))}")):
        hold = interrupt.value["hold"]["hold_id"]
        print(f"  {program()} approvals {verb} {hold}{rest} --config {shlex.quote(str(config))}")
    print("\nThen, in any process:\n")
    print(f"  {shlex.join([sys.executable, sys.argv[0], 'resume', str(folder)])}")
    return 0


def resume(folder: Path) -> int:
    """Go on where the agent was held: it asks its gate again, which knows what alice said."""
    result = run(folder, Command(resume=True))
    refunds = folder / "refunds.txt"
    print(f"refunds paid: {refunds.read_text().strip() if refunds.exists() else 'none'}")
    if waiting := result.get("__interrupt__"):
        print(f"still waiting: {waiting[0].value['hold']['reason']}")
        return WAITING
    print(f"agent: {result['messages'][-1].text}")
    return 0


def program() -> str:
    """Return how to call `toolgate` from another terminal."""
    beside = Path(sys.executable).with_name("toolgate")
    return shlex.quote(str(beside)) if beside.exists() else "toolgate"


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["start"]:
            sys.exit(start())
        case ["resume", folder] if not (Path(folder) / "checkpoints.db").exists():
            sys.exit(f"{folder} is no folder that `start` has made")
        case ["resume", folder]:
            sys.exit(resume(Path(folder)))
        case _:
            sys.exit("usage: approve_elsewhere.py start | resume FOLDER")
