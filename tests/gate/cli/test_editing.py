"""Editing and following holds on the command line."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from support.driver import Driver
from support.people import ALICE, BOB, config
from toolgate.cli.app import app

ENDINGS = (".yaml", ".json", ".key")
PAY = {"amount": 900, "to": "supplier"}
LESS = {"amount": 90, "to": "supplier"}
MONEY = {
    "id": "money",
    "tools": ["pay"],
    "effect": "hold",
    "reason": "a person looks at payments",
    "approval": {"approvers": ["alice", "bob"], "quorum": 2, "edit": True},
}


def settings(**changes: Any) -> dict[str, Any]:
    """Return a config whose payments two people approve, and may edit."""
    return config(**{"policy": {"rules": [MONEY]}, **changes})


def command(*arguments: str) -> list[str]:
    """Return the command line."""
    return [sys.executable, "-m", "toolgate", *arguments]


def toolgate(folder: Path, *arguments: str, stdin: str = "") -> Result:
    """Run the command with the folder's config."""
    files = [str(folder / name) if name.endswith(ENDINGS) else name for name in arguments]
    return CliRunner().invoke(app, [*files, "--config", str(folder / "gate.yaml")], input=stdin)


def follow(folder: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `approvals watch` in a folder with a config."""
    return subprocess.Popen(
        command("approvals", "watch", *arguments, "--config", "gate.yaml"),
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


async def held(folder: Path, value: dict[str, Any], args: dict[str, Any] = PAY) -> str:
    """Leave a payment held in a folder with this config, and return its hold's id."""
    (folder / "gate.yaml").write_text(yaml.safe_dump(value))
    for person in (ALICE, BOB):
        person.key_file(folder)
    async with Driver(folder, value) as gate:
        await gate.tool("pay", lambda args: "paid")
        outcome = await gate.govern("pay", args)
    hold: str = outcome["hold"]["hold_id"]
    return hold


async def test_edit_shows_what_was_proposed_against_what_would_run(tmp_path: Path) -> None:
    hold = await held(tmp_path, settings())
    (tmp_path / "edited.yaml").write_text("amount: 90\nto: supplier\n")
    toolgate(tmp_path, "approvals", "approve", hold, "--as", "bob", "--key", "bob.key")
    edited = toolgate(
        tmp_path, "approvals", "approve", hold, "--as", "alice", "--key", "alice.key",
        "--edit", "edited.yaml",
    )  # fmt: skip
    shown = toolgate(tmp_path, "approvals", "show", hold).stdout
    told = json.loads(toolgate(tmp_path, "approvals", "show", hold, "--json").stdout)
    assert edited.exit_code == 0, edited.stderr
    assert "alice edited it; the edited arguments wait for bob" in edited.stdout
    assert told["digest"] in edited.stdout
    for line in (
        "edited by alice",
        '-   "amount": 900,',
        '+   "amount": 90,',
        '    "to": "supplier"',
        "as it was held: bob, which is void",
        "edited by alice: alice",
    ):
        assert line in shown
    assert (told["args"], told["proposed_args"], told["edited_by"]) == (LESS, PAY, "alice")
    assert [version["approved_by"] for version in told["versions"]] == [["bob"], ["alice"]]


async def test_edit_begins_with_what_show_prints_and_may_come_from_a_pipe(tmp_path: Path) -> None:
    hold = await held(tmp_path, settings())
    printed = json.loads(toolgate(tmp_path, "approvals", "show", hold, "--args").stdout)
    edited = toolgate(
        tmp_path, "approvals", "approve", hold, "--as", "alice", "--key", "alice.key",
        "--edit", "-", "--json", stdin=json.dumps({**printed, "to": "\U0001f600"}),
    )  # fmt: skip
    assert printed == PAY
    assert json.loads(edited.stdout)["args"] == {**PAY, "to": "\U0001f600"}


@pytest.mark.parametrize(
    ("name", "text", "why"),
    [
        ("e.yaml", "- 1\n", "not an object"),
        ("e.json", '{"a": 1, "a": 2}', "Detected duplicate key"),
        ("e.yaml", "a: [", "line"),
        ("e.yaml", "a: .inf", "not a finite number"),
        ("none.yaml", None, "cannot be read"),
    ],
)
async def test_file_that_holds_no_arguments_is_refused_and_nothing_is_signed(
    tmp_path: Path, name: str, text: str | None, why: str
) -> None:
    hold = await held(tmp_path, settings())
    if text is not None:
        (tmp_path / name).write_text(text)
    refused = toolgate(
        tmp_path, "approvals", "approve", hold, "--as", "alice", "--key", "alice.key",
        "--edit", name,
    )  # fmt: skip
    assert refused.exit_code == 2
    assert why in refused.stderr
    shown = json.loads(toolgate(tmp_path, "approvals", "show", hold, "--json").stdout)
    assert shown["approved_by"] == []


async def test_answer_insists_on_a_version(tmp_path: Path) -> None:
    hold = await held(tmp_path, settings())
    digest = json.loads(toolgate(tmp_path, "approvals", "show", hold, "--json").stdout)["digest"]
    toolgate(
        tmp_path, "approvals", "approve", hold, "--as", "alice", "--key", "alice.key",
        "--edit", "-", stdin=json.dumps(LESS),
    )  # fmt: skip
    for verdict in ("approve", "deny"):
        refused = toolgate(
            tmp_path, "approvals", verdict, hold, "--as", "bob", "--key", "bob.key",
            "--digest", digest,
        )  # fmt: skip
        assert refused.exit_code == 2
        assert "edited or reopened since" in refused.stderr


async def test_without_a_key_nobody_answers_where_answers_are_signed(tmp_path: Path) -> None:
    hold = await held(tmp_path, settings())
    refused = toolgate(tmp_path, "approvals", "approve", hold, "--as", "alice")
    assert refused.exit_code == 2
    assert "--key" in refused.stderr


async def test_unsigned_answers_are_told_as_such(tmp_path: Path) -> None:
    rule = {"id": "money", "tools": ["pay"], "effect": "hold"}
    value = config(policy={"rules": [rule]}, approvals={"allow_unsigned": True})
    hold = await held(tmp_path, value)
    approved = toolgate(tmp_path, "approvals", "approve", hold, "--as", "me")
    async with Driver(tmp_path, value) as gate:
        await gate.tool("pay", lambda args: "paid")
        uid = json.loads(toolgate(tmp_path, "approvals", "show", hold, "--json").stdout)["uid"]
        await gate.request("resume", uid=uid)
    log = toolgate(tmp_path, "journal", "show", "--last", "100").stdout
    checked = toolgate(tmp_path, "check")
    assert approved.exit_code == 0, approved.stderr
    assert "nobody has signed this answer" in approved.stderr
    assert "anybody (1 must approve)" in approved.stdout
    assert "me (UNSIGNED)" in approved.stdout
    assert "UNSIGNED APPROVALS" in approved.stdout
    assert "approved by me; UNSIGNED" in log
    assert "UNSIGNED APPROVALS" in checked.stdout


async def test_watch_tells_of_each_hold_and_of_its_end(tmp_path: Path) -> None:
    value = settings()
    hold = await held(tmp_path, value)
    with follow(tmp_path, "--json", "--limit", "7", "--seconds", "60") as watching:
        assert watching.stdout is not None
        lines = [json.loads(watching.stdout.readline())]
        for who, more, stdin in (
            ("alice", (), ""),
            ("bob", ("--edit", "-"), json.dumps(LESS)),
            ("alice", (), ""),
        ):
            toolgate(
                tmp_path, "approvals", "approve", hold, "--as", who, "--key", f"{who}.key", *more,
                stdin=stdin,
            )  # fmt: skip
            lines.append(json.loads(watching.stdout.readline()))
        async with Driver(tmp_path, value) as gate:
            await gate.tool("pay", lambda args: "paid")
            await gate.request("resume", uid=lines[0]["uid"])
            other = await gate.govern("pay", LESS)
            lines.append(json.loads(watching.stdout.readline()))
            await gate.request("withdraw", uid=other["uid"])
            lines.append(json.loads(watching.stdout.readline()))
            last = await gate.govern("pay", {"amount": 1})
        lines.append(json.loads(watching.stdout.readline()))
        assert watching.wait(timeout=30) == 0
    assert [line["event"] for line in lines] == [
        "held",
        "approved",
        "edited",
        "released",
        "held",
        "withdrawn",
        "held",
    ]
    assert lines[3]["args"] == LESS
    assert lines[6]["uid"] == last["uid"]


async def test_watch_tells_of_a_hold_that_expires_by_itself(tmp_path: Path) -> None:
    rule = {**MONEY, "approval": {"approvers": ["alice"], "expires": "1s"}}
    await held(tmp_path, settings(policy={"rules": [rule]}))
    watching = follow(tmp_path, "--seconds", "3")
    out, _ = watching.communicate(timeout=60)
    told = [line.split()[2] for line in out.splitlines()]
    assert told in (["held", "expired"], ["expired"]), out


async def test_watch_ends_by_its_time_and_tells_what_is_held(tmp_path: Path) -> None:
    hold = await held(tmp_path, settings())
    watched = toolgate(tmp_path, "approvals", "watch", "--seconds", "0")
    assert watched.exit_code == 0
    assert f"held       {hold}  pay  a person looks at payments" in watched.stdout


async def test_watch_ends_well_on_interrupt(tmp_path: Path) -> None:
    await held(tmp_path, settings())
    watching = follow(tmp_path)
    assert watching.stdout is not None
    assert "held" in watching.stdout.readline()
    watching.send_signal(signal.SIGINT)
    _, error = watching.communicate(timeout=30)
    assert (watching.returncode, error) == (0, "")


async def test_watch_ends_well_when_nobody_reads_it(tmp_path: Path) -> None:
    await held(tmp_path, settings())
    watching = follow(tmp_path)
    assert watching.stdout is not None
    assert watching.stderr is not None
    assert "held" in watching.stdout.readline()
    watching.stdout.close()
    assert watching.wait(timeout=30) == 0
    assert watching.stderr.read() == ""
    watching.stderr.close()
