"""A team of AutoGen's in a process of its own: it stops at a hold, and goes on in another process.

Run as ``python autogen_process.py FOLDER ROLE``. ``start`` runs the team and saves it; ``resume``
restores it, runs what was approved, and goes on; ``die`` does so, and ends in the middle of the
effect. Prints one line of JSON.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core.tools import FunctionTool

from support.autogen_teams import agent, plain, run
from toolgate_autogen import HoldTermination, govern_tools, run_approved
from toolgate_client import ActionHeld, GateClient

DIED = 23


async def main(folder: Path, role: str) -> dict[str, Any]:
    """Play a role."""
    effects = folder / "effects"

    def pay(to: str, amount: int = 10) -> str:
        """Pay somebody."""
        with effects.open("a") as written:
            written.write(f"{amount} to {to}\n")
        if role == "die":
            os._exit(DIED)
        return f"paid {amount} to {to}"

    def search(item: str) -> str:
        """Look something up."""
        return f"found {item}"

    async with GateClient(folder / "gate.yaml") as gate:
        tools = [FunctionTool(each, description=each.__doc__ or "") for each in (pay, search)]
        stop = HoldTermination()
        clerk = agent(
            [("search", {"item": "bill"}), ("pay", {"to": "bob"})],
            "all paid",
            name="clerk",
            iterations=1,
            tools=govern_tools(gate, tools, hold="return"),
        )
        second = agent("I have read it", name="second")
        team = RoundRobinGroupChat([clerk, second], termination_condition=stop, max_turns=2)
        saved = folder / "team.json"
        if role == "start":
            result = await run(team)
            held = [error.uid for error in stop.held]
            saved.write_text(json.dumps({"team": await team.save_state(), "held": held}))
            holds = [error.hold.hold_id for error in stop.held if error.hold]
            return {**result, "holds": holds, "uids": held}
        state = json.loads(saved.read_text())
        await team.load_state(state["team"])
        try:
            messages: Any = [await run_approved(gate, uid) for uid in state["held"]]
        except ActionHeld as error:
            return {"waits": plain(error)}
        return {**await run(team, task=messages), "said": [each.content for each in messages]}


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))))
