"""Actions left in doubt, and people who settle them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.driver import Driver
from support.people import ALICE, Person
from toolgate.actions import Actions, ActionStory
from toolgate.approvals.settlement import SettledAs


async def doubted(folder: Path, config: dict[str, Any], tool: str = "search", **more: Any) -> str:
    """Leave a call in doubt: its gate is gone while its body runs; return its uid."""
    async with Driver(folder, config) as gate:
        await gate.tool(tool)
        gate.send("govern", tool=tool, args={"n": 1}, **more)
        uid: str = (await gate.runs.get())["params"]["uid"]
        gate.die()
    async with Driver(folder, config):
        # The next gate finds it so.
        return uid


def settle(
    gate: Driver,
    uid: str,
    outcome: SettledAs,
    folder: Path,
    person: Person = ALICE,
    output: Any = None,
) -> ActionStory:
    """Settle an action as the command does."""
    actions = Actions(gate.config)
    try:
        key = person.key_file(folder)
        return actions.settle(uid, outcome, person.id, key, "looked at it", output)
    finally:
        actions.close()


def story(gate: Driver, uid: str) -> ActionStory:
    """Return an action as the command shows it."""
    actions = Actions(gate.config)
    try:
        return actions.find(uid)
    finally:
        actions.close()


def kinds_of(gate: Driver, uid: str) -> list[str]:
    """Return the kinds of an action's events, in order."""
    return [event.kind for event in gate.gate.runtime._journal.reader.store.events(action=uid)]
