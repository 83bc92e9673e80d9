"""What an approver is shown of an action of a proposal: all that the signature covers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from support.driver import Driver
from support.people import ALICE, config
from toolgate.cli.app import app

HOLDS = [
    *config()["policy"]["rules"],
    {"id": "undo", "tools": ["refund"], "effect": "hold"},
    {"id": "state", "types": ["state_write"], "effect": "hold", "when": 'args.key == "budget"'},
    {"id": "other-state", "types": ["state_write"], "effect": "allow"},
]


def toolgate(folder: Path, *arguments: str) -> str:
    """Run a command on the folder's deployment and return what it prints."""
    file = folder / "gate.yaml"
    file.write_text(yaml.safe_dump(deployment()))
    done = CliRunner().invoke(
        app, [*arguments, "--config", str(file)], env={"COLUMNS": "160"}, catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    return done.stdout


def deployment() -> dict[str, Any]:
    return config(policy={"rules": HOLDS})


def call(id: str, tool: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "type": "tool_call", "tool": tool, **fields}


ORDER = {
    "id": "order-7",
    "source": "planner",
    "actions": [
        call("look", "search", parameters={"q": "lamp"}),
        call(
            "buy",
            "pay",
            parameters={"amount": 12, "for": "$look.output"},
            expected_effects={"paid": True},
            reversibility="compensable",
            compensation={"type": "action_ref", "action_id": "undo"},
        ),
        call("tell", "search", parameters={"q": "tell"}),
        call("undo", "refund", parameters={"amount": 12}, expected_effects={"paid": False}),
    ],
}


async def propose(folder: Path, proposal: dict[str, Any], **bodies: Any) -> dict[str, Any]:
    async with Driver(folder, deployment()) as gate:
        for tool in ("search", "pay", "refund"):
            await gate.tool(tool, bodies.get(tool, lambda args: f"{len(args)} arguments"))
        result: dict[str, Any] = await gate.request("propose", proposal=proposal)
    return result


async def test_action_is_shown_with_everything_that_the_signature_covers(tmp_path: Path) -> None:
    result = await propose(tmp_path, ORDER)
    uid = result["results"][1]["uid"]
    shown = toolgate(tmp_path, "approvals", "show", uid)
    panel, _, rest = shown.partition("the proposal\n")
    lines = [" ".join(line.strip("│ ").split()) for line in panel.splitlines()]
    assert f"proposal {result['uid']} (order-7, of planner)" in lines
    assert "action id buy" in lines
    assert "type tool_call" in lines
    assert '"for": "1 arguments"' in lines
    assert lines[lines.index("expected effects {") + 1] == '"paid": true'
    compensation = lines.index("compensation action undo: refund {")
    assert lines[compensation + 1] == '"amount": 12'
    assert lines[compensation + 3 : compensation + 5] == ["which writes {", '"paid": false']
    table = [" ".join(line.split()) for line in rest.splitlines()]
    assert table[1:5] == [
        "look search succeeded",
        "buy pay held this action",
        "tell search not started waits for this action",
        "undo refund not started runs only as a compensation",
    ]


async def test_machines_are_told_the_same(tmp_path: Path) -> None:
    result = await propose(tmp_path, ORDER)
    uid = result["results"][1]["uid"]
    shown = json.loads(toolgate(tmp_path, "approvals", "show", uid, "--json"))
    place = {name: shown[name] for name in ("proposal", "action_id", "type")}
    assert place == {"proposal": result["uid"], "action_id": "buy", "type": "tool_call"}
    assert shown["expected_effects"] == {"paid": True}
    assert shown["compensation"] == {"type": "action_ref", "action_id": "undo"}
    plan = shown["plan"]
    assert (plan["proposal_id"], plan["source"], plan["status"]) == (
        "order-7",
        "planner",
        "suspended",
    )
    assert plan["compensation"] == {
        "type": "tool_call",
        "tool": "refund",
        "parameters": {"amount": 12},
        "expected_effects": {"paid": False},
    }
    told = [(item["action_id"], item["status"], item["waits"]) for item in plan["actions"]]
    assert told == [
        ("look", "succeeded", False),
        ("buy", "held", False),
        ("tell", "proposed", True),
        ("undo", "proposed", False),
    ]
    assert plan["actions"][3]["reserved"] is True
    listed = json.loads(toolgate(tmp_path, "approvals", "list", "--json"))
    assert [{name: hold[name] for name in place} for hold in listed] == [place]


async def test_list_names_the_action_and_its_proposal(tmp_path: Path) -> None:
    single = await _single(tmp_path)
    assert "of proposal" not in toolgate(tmp_path, "approvals", "list")
    result = await propose(tmp_path, ORDER)
    listed = toolgate(tmp_path, "approvals", "list")
    assert "of proposal" in listed
    assert f"{result['uid']} buy" in listed
    shown = json.loads(toolgate(tmp_path, "approvals", "show", single, "--json"))
    assert not shown.keys() & {"proposal", "action_id", "type", "plan"}


async def _single(folder: Path) -> str:
    async with Driver(folder, deployment()) as gate:
        await gate.tool("pay", lambda args: "paid")
        uid: str = (await gate.govern("pay", {"amount": 1}))["uid"]
    return uid


async def test_only_what_depends_on_it_waits_for_an_action_that_does_not_abort(
    tmp_path: Path,
) -> None:
    skip = {"failure_behavior": "skip"}
    result = await propose(
        tmp_path,
        {
            "actions": [
                call("buy", "pay", expected_effects={"paid": 1}, **skip),
                call("other", "search", **skip),
                call("reads", "search", state_dependencies=["paid"], **skip),
                call("later", "search", dependencies=["reads"], **skip),
            ]
        },
    )
    uid = result["results"][0]["uid"]
    actions = json.loads(toolgate(tmp_path, "approvals", "show", uid, "--json"))["plan"]["actions"]
    assert {item["action_id"]: (item["status"], item["waits"]) for item in actions} == {
        "buy": ("held", False),
        "other": ("succeeded", False),
        "reads": ("proposed", True),
        "later": ("proposed", True),
    }


async def test_held_write_of_the_state_is_shown_as_one(tmp_path: Path) -> None:
    write = {"id": "raise", "type": "state_write", "parameters": {"key": "budget", "value": 9}}
    result = await propose(tmp_path, {"actions": [write]})
    uid = result["results"][0]["uid"]
    shown = toolgate(tmp_path, "approvals", "show", uid)
    lines = [" ".join(line.strip("│ ").split()) for line in shown.splitlines()]
    assert "type state_write" in lines
    assert '"key": "budget",' in lines
    assert "expected effects none" in lines
    assert "compensation none" in lines


async def test_held_compensation_is_told_apart_from_its_action(tmp_path: Path) -> None:
    def fail(args: dict[str, Any]) -> Any:
        return None

    proposal = {
        "actions": [
            call(
                "get",
                "search",
                reversibility="compensable",
                compensation={"type": "tool", "tool": "refund", "parameters": {"n": 1}},
            ),
            {"id": "no", "type": "assertion", "parameters": {"key": "k", "expected": 1}},
        ]
    }
    result = await propose(tmp_path, proposal, search=fail)
    assert result["status"] == "aborted"
    held = result["rollback"]["compensations"][0]
    assert held["status"] == "held"
    shown = json.loads(toolgate(tmp_path, "approvals", "show", held["uid"], "--json"))
    assert (shown["action_id"], shown["compensates"], shown["tool"]) == ("get", True, "refund")
    text = toolgate(tmp_path, "approvals", "show", held["uid"])
    table = [" ".join(line.split()) for line in text.partition("the proposal\n")[2].splitlines()]
    assert table[1:4] == [
        "get search succeeded",
        "no assertion failed",
        "compensation of get refund held this action",
    ]
    assert not any("waits" in line for line in table)
    async with Driver(tmp_path, deployment()) as later:
        await later.tool("refund", lambda args: f"undone {args['n']}")
        later.approve(held["uid"], ALICE, tmp_path)
        outcome = await later.request("resume", uid=held["uid"])
    assert (outcome["status"], outcome["output"]) == ("succeeded", "undone 1")


@pytest.mark.parametrize("verdict", ["approve", "deny"])
async def test_answer_prints_what_was_answered_in_full(tmp_path: Path, verdict: str) -> None:
    result = await propose(tmp_path, ORDER)
    uid = result["results"][1]["uid"]
    key = str(ALICE.key_file(tmp_path))
    said = toolgate(tmp_path, "approvals", verdict, uid, "--as", "alice", "--key", key)
    assert "compensation" in said
    assert '"paid": true' in said


async def test_names_that_an_agent_gave_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    evil = "\x1b[2J[bold]x[/bold]\u202e\n"
    proposal = {
        "id": evil,
        "source": evil,
        "actions": [
            call(
                evil,
                "pay",
                expected_effects={evil: evil},
                compensation={"type": "action_ref", "action_id": f"u{evil}"},
            ),
            call(f"u{evil}", evil, parameters={evil: 1}),
            call(f"l{evil}", evil),
        ],
    }
    result = await propose(tmp_path, proposal)
    uid = result["results"][0]["uid"]
    for shown in (
        toolgate(tmp_path, "approvals", "show", uid),
        toolgate(tmp_path, "approvals", "list"),
    ):
        assert not {"\x1b", "\u202e"} & set(shown)
        assert "[bold]x[/bold]" in shown
