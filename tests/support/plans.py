"""Proposals as a client sends them, and a gate's config in which they may do much."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

from support.driver import Driver
from support.people import config

STATE = ["state_write", "state_read", "assertion"]

RULES: list[dict[str, Any]] = [
    {"id": "state", "types": STATE, "effect": "allow"},
    {
        "id": "locked",
        "types": ["state_write"],
        "when": 'args.key.startsWith("locked")',
        "effect": "deny",
        "reason": "locked keys are nobody's to write",
    },
    {
        "id": "asked",
        "types": ["state_write"],
        "when": 'args.key.startsWith("asked")',
        "effect": "hold",
        "reason": "a person looks at this key",
        "approval": {"approvers": ["alice"], "expires": "15m"},
    },
    {"id": "steps", "tools": ["step*", "undo*", "peek"], "effect": "allow"},
]
"""State may be written but for ``locked…`` (denied) and ``asked…`` (held); ``step…`` may be run."""

TOOLS: dict[str, Any] = {"peek": {"level": 1}}


def plan_config(*rules: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the config of :func:`support.people.config`, in the session ``s``, and these rules."""
    value = config(session="s")
    value["policy"]["rules"] += [*RULES, *rules]
    value["tools"] |= TOOLS
    value["tools"] |= changes.pop("tools", {})
    value.update(changes)
    return value


def call(id: str, tool: str = "step", **more: Any) -> dict[str, Any]:
    """Return a tool call."""
    return {"id": id, "type": "tool_call", "tool": tool, **more}


def write(id: str, key: str, value: Any = None, **more: Any) -> dict[str, Any]:
    """Return a ``state_write``."""
    return {"id": id, "type": "state_write", "parameters": {"key": key, "value": value}, **more}


def read(id: str, key: str, **more: Any) -> dict[str, Any]:
    """Return a ``state_read``."""
    return {"id": id, "type": "state_read", "parameters": {"key": key}, **more}


def check(id: str, key: str, expected: Any = None, **more: Any) -> dict[str, Any]:
    """Return an ``assertion``."""
    parameters = {"key": key, "expected": expected}
    return {"id": id, "type": "assertion", "parameters": parameters, **more}


def needs(key: str, operator: str = "exists", value: Any = None) -> list[dict[str, Any]]:
    """Return preconditions: one."""
    return [{"key": key, "operator": operator, "value": value}]


FAIL = check("fail", "no such key", "nothing has this value")
"""An action that fails, and aborts its plan."""


class World:
    """What tools do outside: bodies that count, echo, and fail when they are told to."""

    def __init__(self) -> None:
        """Nothing has happened."""
        self.done: list[tuple[str, Any]] = []
        self._numbers = itertools.count(1)

    def body(self, name: str) -> Any:
        """Return a body that returns its arguments, and how many bodies have run with it."""

        def run(args: dict[str, Any]) -> Any:
            self.done.append((name, args))
            return {"args": args, "number": next(self._numbers)}

        return run

    async def equip(self, gate: Driver, *names: str, **declared: Any) -> None:
        """Register tools with these bodies."""
        for name in names:
            await gate.tool(name, self.body(name), **declared)


async def propose(gate: Driver, *actions: dict[str, Any], **more: Any) -> Any:
    """Propose a plan of these actions and return its result."""
    return await gate.request("propose", proposal={"id": "p", "actions": list(actions)}, **more)


def sent(gate: Driver, *actions: dict[str, Any], **more: Any) -> Any:
    """Propose a plan and return the future of its result."""
    return gate.send("propose", proposal={"id": "p", "actions": list(actions)}, **more)


def statuses(result: Any) -> list[str]:
    """Return the statuses of a result's actions, in listed order."""
    return [item["status"] for item in result["results"]]


def kinds(result: Any) -> list[str | None]:
    """Return the kinds of a result's actions, in listed order; ``None`` for a success."""
    return [item.get("kind") for item in result["results"]]


def of(result: Any, name: str) -> Any:
    """Return the result of one action."""
    return next(item for item in result["results"] if item["action_id"] == name)


def events(gate: Driver) -> list[Any]:
    """Return everything that the journal tells, in order."""
    return list(gate.gate.runtime._journal.reader.store.events())


def journals(folder: Path) -> list[Path]:
    """Return the folders that hold a journal, anywhere under ``folder``."""
    return [path.parent.parent for path in folder.rglob(".toolgate/journal.db")]


def timeless(result: Any) -> Any:
    """Return a result without when its actions came to stand so."""
    return {**result, "results": [{**item, "timestamp": None} for item in result["results"]]}
