"""Whoever is asked, it is told what a proposal as it was sent has that nobody reads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.driver import Driver
from support.people import config
from toolgate.embedding import Kernel
from toolgate.ir import Action, ActionProposal, ToolSchema

SENT: dict[str, Any] = {
    "id": "p",
    "actions": [
        {"id": "a", "type": "tool_call", "tool": "t", "preconditons": [], "max_retries": 2}
    ],
}
FOUND = [("a", "unknown_field"), ("a", "idle_retries")]


async def test_gate_tells_what_was_sent_and_is_not_read(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("t")
        found = await gate.request("verify", proposal=SENT)
        ranking = (await gate.request("rank", candidates=[SENT]))["ranking"]
    assert [(issue["action_id"], issue["code"]) for issue in found["issues"]][:2] == FOUND
    assert found["valid"] is True
    assert ranking[0]["success_likelihood"] <= 0.5


async def test_kernel_tells_what_was_given_and_is_not_read() -> None:
    async def execute(order: object) -> None:
        raise AssertionError(order)

    settings = {"project": "tests", "journal": "memory:", "policy": {"allow_up_to": 3}}
    async with Kernel(settings, execute) as kernel:
        await kernel.register_tool(ToolSchema(name="t"))
        issues = kernel.verify(SENT).issues
        retried = Action(id="a", type="tool_call", tool="t", max_retries=2)  # type: ignore[arg-type]
        of_model = kernel.verify(ActionProposal(actions=(retried,))).issues
        plain = kernel.verify(
            ActionProposal(actions=(Action(id="a", type=retried.type, tool="t"),))
        )
    assert [(issue.action_id, issue.code) for issue in issues][:2] == FOUND
    assert of_model[0].code == "idle_retries"
    assert "idle_retries" not in {issue.code for issue in plain.issues}
