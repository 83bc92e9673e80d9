"""How the policy's tests make policies and calls."""

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from toolgate.config import ToolEntry, parse_config
from toolgate.policy import CallFacts, Policy, compile_policy, contract_for

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def make_policy(
    *rules: dict[str, Any],
    approvers: tuple[str, ...] = ("alice", "bob"),
    tools: dict[str, Any] | None = None,
    approvals: dict[str, Any] | None = None,
    **policy: Any,
) -> Policy:
    people = [{"id": name, "public_key": f"key of {name}"} for name in approvers]
    config = {
        "project": "tests",
        "tools": tools or {},
        "policy": {"rules": list(rules), **policy},
        "approvals": {"approvers": people, **(approvals or {})},
    }
    return compile_policy(parse_config(config, Path("/unused")))


def make_call(
    tool: str = "shell", args: dict[str, Any] | None = None, *, level: int = 3, **facts: Any
) -> CallFacts:
    values: dict[str, Any] = {
        "args": args or {},
        "contract": contract_for(tool, ToolEntry(level=level, labels=("egress", "money"))),
        "action_id": "0123456789ab",
        "action_type": "tool_call",
        "proposal_id": None,
        "agent_id": "assistant",
        "framework": None,
        "session_id": "monday",
        "session_age": 90.0,
        "now": NOW,
    }
    return CallFacts(**{**values, **facts})


@pytest.fixture(scope="session")
def policy_of() -> Callable[..., Policy]:
    """Compile inline rules; alice and bob are pinned."""
    return make_policy


@pytest.fixture(scope="session")
def call() -> Callable[..., CallFacts]:
    """Make the facts of one call."""
    return make_call
