"""Results that are too large to be told: the call has succeeded, and its record says so."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.people import config
from toolgate import jsonvalue
from toolgate.journal.opening import inspect_journal
from toolgate.journal.verify import verify

STAND_IN = {"omitted": "the result is too large to be recorded", "digest": "sha256:0", "length": 9}


async def answered(gate: Driver, calling: asyncio.Future[Any], **more: Any) -> Any:
    """Answer the next run with a result that stands for another; return what the call got."""
    gate.answer(await asyncio.wait_for(gate.runs.get(), 5), STAND_IN, **{"omitted": True, **more})
    return await calling


async def test_call_has_succeeded_and_every_record_of_it_says_what_is_missing(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        first = await answered(gate, gate.send("govern", tool="search", args={}))
        again = await gate.request("resume", uid=first["uid"])
        store = gate.gate.runtime._journal._store
        [ended] = [e for e in store.events() if e.kind == "action.succeeded"]
    for outcome in (first, again):
        assert (outcome["status"], outcome["output"], outcome["omitted"]) == (
            "succeeded",
            STAND_IN,
            True,
        )
    assert jsonvalue.parse(ended.data)["omitted"] is True
    journal = inspect_journal(Driver(tmp_path, config()).config)
    assert verify(journal.store, journal.key, lambda seen: None).problem is None
    journal.store.close()


async def test_result_that_was_told_is_not_said_to_be_omitted(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        outcome = await answered(gate, gate.send("govern", tool="search", args={}), omitted=False)
    assert "omitted" not in outcome


async def test_nobody_can_check_it_against_what_its_tool_declares(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", returns={"type": "object"})
        outcome = await answered(gate, gate.send("govern", tool="search", args={}))
    assert (outcome["status"], outcome["error"]["kind"]) == ("failed", "invalid_result")
    assert "too large" in outcome["error"]["message"]


async def test_repeat_of_an_idempotent_call_runs_again(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", idempotent=True)
        await answered(gate, gate.send("govern", tool="search", args={}))
        calling = gate.send("govern", tool="search", args={})
        gate.answer(await asyncio.wait_for(gate.runs.get(), 5), "small")
        assert (await calling)["output"] == "small"
        third = await gate.govern("search")
    assert (third["output"], third["replayed"]) == ("small", True)


@pytest.mark.parametrize(
    ("parameters", "status"),
    [({"q": "$a.output"}, "rejected"), ({"q": "$a.output.length"}, "rejected"), ({}, "succeeded")],
    ids=["refers to it", "refers to a part", "only follows it"],
)
async def test_what_refers_to_it_in_a_plan_does_not_run(
    tmp_path: Path, parameters: dict[str, Any], status: str
) -> None:
    actions = [
        {"id": "a", "type": "tool_call", "tool": "search", "parameters": {}},
        {
            "id": "b",
            "type": "tool_call",
            "tool": "look",
            "parameters": parameters,
            "depends_on": ["a"],
            "failure_behavior": "skip",
        },
    ]
    value = config()
    value["policy"]["rules"] += [{"id": "look", "tools": ["look"], "effect": "allow"}]
    async with Driver(tmp_path, value) as gate:
        await gate.tool("search")
        await gate.tool("look", lambda args: "seen")
        plan = await answered(gate, gate.send("propose", proposal={"actions": actions}))
    [first, second] = plan["results"]
    assert (first["status"], first["omitted"]) == ("succeeded", True)
    assert second["status"] == status
    assert second.get("kind") == (None if status == "succeeded" else "dependency_failed")
