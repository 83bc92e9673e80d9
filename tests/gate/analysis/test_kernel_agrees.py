"""What is foreseen of a plan is what the kernel does with it."""

from __future__ import annotations

import asyncio
from typing import Any

from hypothesis import given, settings

from support.proposals import plans, states
from toolgate.analysis import simulate, verify
from toolgate.embedding import Kernel
from toolgate.ir import ActionProposal, ActionStatus, ToolSchema
from toolgate.jsonvalue import equal

CONFIG: dict[str, Any] = {
    "project": "tests",
    "journal": "memory:",
    "limits": {"max_concurrency": 1},
    "policy": {
        "rules": [
            {"id": "tools", "tools": ["*"], "effect": "allow"},
            {
                "id": "state",
                "types": ["state_write", "state_read", "assertion"],
                "effect": "allow",
            },
        ]
    },
}


async def carried_out(
    proposal: ActionProposal, state: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, ActionStatus]]:
    """Return the state that the kernel leaves, and what each action came to."""

    async def execute(order: object) -> str:
        return "done"

    async with Kernel({**CONFIG, "state": state}, execute) as kernel:
        await kernel.register_tool(ToolSchema(name="t"))
        result = await asyncio.wait_for(kernel.propose(proposal), 20)
        return kernel.state(), {item.action_id: item.outcome.status for item in result.results}


@settings(max_examples=60, deadline=None)
@given(plans(foreseeable=True), states)
def test_kernel_leaves_the_simulated_state_and_the_simulated_statuses(
    proposal: ActionProposal, state: dict[str, Any]
) -> None:
    left, statuses = asyncio.run(carried_out(proposal, state))
    simulation = simulate(proposal, state)
    assert equal(left, simulation.state)
    for id, status in statuses.items():
        assert status is simulation.statuses.get(id, ActionStatus.SKIPPED), id


@settings(max_examples=60, deadline=None)
@given(plans(foreseeable=True), states)
def test_plan_in_which_nothing_is_wrong_succeeds(
    proposal: ActionProposal, state: dict[str, Any]
) -> None:
    issues = verify(proposal, None, state).issues
    if any(issue.severity == "error" for issue in issues):
        return
    _, statuses = asyncio.run(carried_out(proposal, state))
    assert set(statuses.values()) <= {ActionStatus.SUCCEEDED, ActionStatus.SKIPPED}
