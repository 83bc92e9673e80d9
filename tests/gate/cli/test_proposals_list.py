"""`toolgate proposals list`: which plans there are, and how far each has come."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import yaml
from click.testing import Result
from typer.testing import CliRunner

from support.driver import Driver
from support.people import ALICE, config
from toolgate.cli.app import app

RULES = [
    {"id": "money", "tools": ["pay"], "effect": "hold"},
    {"id": "look", "tools": ["search"], "effect": "allow"},
    {"id": "undo", "tools": ["refund"], "effect": "hold"},
]
DEPLOYMENT = config(policy={"rules": RULES, "allow_up_to": 2})


def write(id: str, **fields: Any) -> dict[str, Any]:
    parameters = {"key": id, "value": 1}
    return {"id": id, "type": "state_write", "parameters": parameters, **fields}


def pay(id: str, **fields: Any) -> dict[str, Any]:
    return {"id": id, "type": "tool_call", "tool": "pay", **fields}


DONE = {"id": "done", "actions": [write("a"), write("b")]}
HELD = {"id": "held", "actions": [write("a"), pay("buy"), write("c")]}
FAILED = {
    "id": "failed",
    "actions": [
        write("a"),
        {"id": "no", "type": "assertion", "parameters": {"key": "k", "expected": 1}},
        write("c"),
    ],
}


async def propose(folder: Path, *plans: dict[str, Any]) -> list[dict[str, Any]]:
    async with Driver(folder, DEPLOYMENT) as gate:
        await gate.tool("pay", lambda args: "paid")
        return [await gate.request("propose", proposal=plan) for plan in plans]


def run(folder: Path, *arguments: str, code: int = 0, **changes: Any) -> Result:
    file = folder / "gate.yaml"
    file.write_text(yaml.safe_dump({**DEPLOYMENT, **changes}))
    done = CliRunner().invoke(app, [*arguments, "--config", str(file)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


async def test_each_proposal_is_a_row_and_the_newest_is_the_last(tmp_path: Path) -> None:
    done, held, failed = await propose(tmp_path, DONE, HELD, FAILED)
    buy = held["results"][1]["uid"]
    head, *rows = run(tmp_path, "proposals", "list").stdout.splitlines()
    assert head.split() == ["uid", "id", "status", "settled", "held", "opened", "session"]
    assert [row.split()[:6] for row in rows] == [
        [done["uid"], "done", "completed", "2", "of", "2"],
        [held["uid"], "held", "suspended", "1", "of", "3"],
        [failed["uid"], "failed", "aborted", "3", "of", "3"],
    ]
    assert buy in rows[1]


async def test_machines_are_told_the_same(tmp_path: Path) -> None:
    [held] = await propose(tmp_path, HELD)
    [told] = json.loads(run(tmp_path, "proposals", "list", "--json").stdout)
    assert told["opened_at"].endswith("Z")
    assert told.pop("session")
    assert told.pop("opened_at")
    assert told == {
        "uid": held["uid"],
        "proposal_id": "held",
        "agent": "agent",
        "status": "suspended",
        "actions": 3,
        "settled": 1,
        "held": [held["results"][1]["uid"]],
    }


async def test_list_can_be_about_one_status(tmp_path: Path) -> None:
    await propose(tmp_path, DONE, HELD)
    listed = run(tmp_path, "proposals", "list", "--status", "suspended", "--json")
    assert [view["proposal_id"] for view in json.loads(listed.stdout)] == ["held"]
    none = run(tmp_path, "proposals", "list", "--status", "running")
    assert none.stdout == "no running proposals\n"
    assert "is not one of" in run(tmp_path, "proposals", "list", "--status", "x", code=2).stderr


async def test_held_compensation_is_listed_with_its_aborted_proposal(tmp_path: Path) -> None:
    refund = {"type": "tool", "tool": "refund", "parameters": {}}
    plan = {
        "actions": [
            {
                "id": "look",
                "type": "tool_call",
                "tool": "search",
                "reversibility": "compensable",
                "compensation": refund,
            },
            FAILED["actions"][1],
        ]
    }
    async with Driver(tmp_path, DEPLOYMENT) as gate:
        await gate.tool("search", lambda args: "found")
        await gate.tool("refund", lambda args: "refunded")
        result = await gate.request("propose", proposal=plan)
    [view] = json.loads(run(tmp_path, "proposals", "list", "--json").stdout)
    assert (view["status"], view["held"]) == ("aborted", [f"{result['uid']}-1c"])


async def test_another_projects_proposals_are_not_listed(tmp_path: Path) -> None:
    await propose(tmp_path, DONE)
    assert run(tmp_path, "proposals", "list", project="other").stdout == "no proposals\n"


async def test_proposal_that_does_not_verify_is_told_of_beside_the_others(tmp_path: Path) -> None:
    bad, good = await propose(tmp_path, DONE, HELD)
    with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
        db.execute("UPDATE proposal SET status = 'aborted' WHERE uid = ?", (bad["uid"],))
    db.close()
    listed = run(tmp_path, "proposals", "list", "--json", code=1)
    assert [view["uid"] for view in json.loads(listed.stdout)] == [good["uid"]]
    assert f"{bad['uid']!r} does not verify" in listed.stderr


async def test_more_proposals_than_fit_on_a_page_are_all_listed(
    tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("toolgate.desk.PAGE", 2)
    results = await propose(tmp_path, *[DONE] * 5)
    listed = json.loads(run(tmp_path, "proposals", "list", "--json").stdout)
    assert [view["uid"] for view in listed] == [result["uid"] for result in results]


async def test_proposals_uid_in_a_holds_place_tells_which_holds_it_has(tmp_path: Path) -> None:
    done, held = await propose(tmp_path, DONE, HELD)
    buy = held["results"][1]
    key = ["--as", "alice", "--key", str(ALICE.key_file(tmp_path))]
    for command, options in (("show", []), ("approve", key), ("deny", key)):
        said = run(tmp_path, "approvals", command, held["uid"], *options, code=2).stderr
        assert f"{held['uid']} is a proposal (held)" in said
        assert f"{buy['hold']['hold_id']} (pay, action {buy['uid']})" in said
    said = run(tmp_path, "approvals", "show", done["uid"], code=2).stderr
    assert "it has none at this moment" in said


async def test_names_that_an_agent_gave_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    await propose(tmp_path, {**DONE, "id": "\x1b[2J[bold]x[/bold]\n"})
    listed = run(tmp_path, "proposals", "list").stdout
    assert "\x1b" not in listed
    assert "[bold]x[/bold]" in listed
