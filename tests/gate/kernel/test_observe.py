"""Observe mode through the whole gate: calls pass, and everybody is told that they did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.people import ALICE, config
from toolgate import jsonvalue
from toolgate.policy.loading import OBSERVE_WARNING


def with_rule(*rules: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return the config with more rules."""
    value = config(**changes)
    value["policy"]["rules"] += rules
    return value


def watched(effect: str, tool: str = "search", **more: Any) -> dict[str, Any]:
    """Return a rule that observes."""
    return {"id": "new", "tools": [tool], "effect": effect, "mode": "observe", **more}


def events(gate: Driver, kind: str) -> list[dict[str, Any]]:
    """Return the data of the journal's events of a kind, without links to those before."""
    store = gate.gate.runtime._journal._store
    told = [jsonvalue.parse(event.data) for event in store.events() if event.kind == kind]
    return [{name: data[name] for name in data if name != "previous"} for data in told]


@pytest.mark.parametrize("effect", ["deny", "hold"])
async def test_what_a_rule_only_observes_runs_and_the_decision_says_so(
    tmp_path: Path, effect: str
) -> None:
    async with Driver(tmp_path, with_rule(watched(effect, reason="not now"))) as gate:
        await gate.tool("search", lambda args: "found")
        outcome = await gate.govern("search", {"q": 1})
        journaled = events(gate, "action.decided")
    decision = outcome["decision"]
    assert (outcome["status"], outcome["output"]) == ("succeeded", "found")
    assert (decision["effect"], decision["rules"], decision["mode"]) == (
        "allow",
        ["reads"],
        "observe",
    )
    assert decision["observed"] == {
        "effect": effect,
        "rules": ["new"],
        "reason": "not now",
        "errors": [],
    }
    assert journaled == [decision]


async def test_a_decision_that_no_observed_rule_would_change_is_an_enforced_one(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, with_rule(watched("deny", when="args.q == 2"))) as gate:
        await gate.tool("search", lambda args: "found")
        outcome = await gate.govern("search", {"q": 1})
    assert outcome["decision"]["mode"] == "enforce"
    assert "observed" not in outcome["decision"]


async def test_other_rules_are_enforced_beside_one_that_observes(tmp_path: Path) -> None:
    rule = watched("allow", "shell", when="args.command == 'rm'")
    async with Driver(tmp_path, with_rule(rule)) as gate:
        await gate.tool("shell", lambda args: "ran")
        await gate.tool("pay", lambda args: "paid")
        shell = await gate.govern("shell", {"command": "rm"})
        pay = await gate.govern("pay", {"amount": 1})
        loaded = events(gate, "policy.loaded")
    assert (shell["status"], shell["error"]["kind"]) == ("rejected", "policy_denied")
    assert pay["status"] == "held"
    assert gate.ran == []
    assert gate.ready["mode"] == "enforce"
    assert gate.ready["warnings"] == [
        "rule new only observes: it would allow, and decides nothing",
        *gate.ready["warnings"][1:],
    ]
    assert (loaded[0]["mode"], loaded[0]["observed"]) == ("enforce", ["new"])


async def test_a_gate_that_observes_says_so_in_ready_on_stderr_and_in_the_journal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Driver(tmp_path, config(mode="observe")) as gate:
        loaded = events(gate, "policy.loaded")
    assert gate.ready["mode"] == "observe"
    assert gate.ready["warnings"][0] == OBSERVE_WARNING
    assert f"toolgate: warning: {OBSERVE_WARNING}" in capsys.readouterr().err
    assert loaded[0]["mode"] == "observe"


@pytest.mark.parametrize(
    ("tool", "args", "effect", "rules"),
    [
        ("shell", {"command": "rm"}, "deny", ["no-rm"]),
        ("pay", {"amount": 7}, "hold", ["money"]),
        ("unheard_of", {}, "deny", []),
    ],
)
async def test_in_observe_mode_what_would_be_denied_or_held_runs(
    tmp_path: Path, tool: str, args: dict[str, Any], effect: str, rules: list[str]
) -> None:
    async with Driver(tmp_path, config(mode="observe")) as gate:
        await gate.tool(tool, lambda args: "ran")
        outcome = await gate.govern(tool, args)
        holds = (await gate.request("holds"))["holds"]
    decision = outcome["decision"]
    assert (outcome["output"], holds) == ("ran", [])
    assert (decision["effect"], decision["mode"]) == ("allow", "observe")
    assert decision["observed"]["effect"] == effect
    assert decision["observed"]["rules"] == rules


async def test_in_observe_mode_the_floors_hold(tmp_path: Path) -> None:
    async with Driver(tmp_path, config(mode="observe")) as gate:
        await gate.tool("vault", lambda args: "opened")
        await gate.tool("nuke", lambda args: "boom")
        vault, nuke = await gate.govern("vault"), await gate.govern("nuke")
        gate.approve(vault["uid"], ALICE, tmp_path)
        opened = await gate.request("resume", uid=vault["uid"])
    assert vault["status"] == "held"
    assert (nuke["status"], nuke["error"]["kind"]) == ("rejected", "policy_denied")
    assert opened["output"] == "opened"
    assert gate.ran == [("vault", {})]


async def test_in_observe_mode_what_is_not_policy_still_refuses(tmp_path: Path) -> None:
    tools = {
        "typed": {"parameters": {"type": "object", "required": ["q"]}},
        "search": {"rate_limit": {"max_calls": 1, "interval_secs": 3600}},
    }
    limits = {
        "capabilities": {"tools": {"deny": ["hidden"]}},
        "budget": {"session": {"max_tool_calls": 1}},
    }
    async with Driver(tmp_path, config(mode="observe", tools=tools, **limits)) as gate:
        for name in ("typed", "search", "hidden"):
            await gate.tool(name, lambda args: "ran")
        kinds = [
            (await gate.govern(name))["error"]["kind"] for name in ("typed", "hidden", "unknown")
        ]
        assert (await gate.govern("search"))["status"] == "succeeded"
        spent = await gate.govern("typed", {"q": 1})
        proposal = {
            "id": "p",
            "actions": [
                {
                    "id": "a",
                    "type": "tool_call",
                    "tool": "typed",
                    "parameters": {"q": 1},
                    "preconditions": [{"key": "ready", "operator": "eq", "value": True}],
                }
            ],
        }
        unmet = (await gate.request("propose", proposal=proposal))["results"][0]
    assert kinds == ["invalid_arguments", "capability_denied", "unregistered_tool"]
    assert spent["error"]["kind"] == "budget_exceeded"
    assert unmet["kind"] == "precondition_failed"


async def test_what_was_held_stays_held_when_the_gate_comes_back_observing(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        uid = (await gate.govern("pay", {"amount": 1}))["uid"]
    async with Driver(tmp_path, config(mode="observe")) as later:
        await later.tool("pay", lambda args: "paid")
        waiting = await later.request("resume", uid=uid)
        later.approve(uid, ALICE, tmp_path)
        released = await later.request("resume", uid=uid)
    assert waiting["status"] == "held"
    assert released["output"] == "paid"
    assert released["decision"]["observed"]["rules"] == ["money"]


async def test_what_a_plan_would_write_is_observed_with_its_action(tmp_path: Path) -> None:
    rule = {"id": "no-writes", "types": ["state_write"], "effect": "deny", "mode": "observe"}
    allow = {"id": "writes", "types": ["state_write"], "effect": "allow"}
    proposal = {
        "id": "p",
        "actions": [
            {
                "id": "a",
                "type": "tool_call",
                "tool": "search",
                "parameters": {},
                "expected_effects": {"found": True},
            }
        ],
    }
    async with Driver(tmp_path, with_rule(rule, allow)) as gate:
        await gate.tool("search", lambda args: "found")
        result = (await gate.request("propose", proposal=proposal))["results"][0]
    assert result["status"] == "succeeded"
    assert result["decision"]["observed"]["effect"] == "deny"
    assert result["decision"]["observed"]["rules"] == ["no-writes"]
    assert "its expected effect on state key 'found'" in result["decision"]["observed"]["reason"]
