"""The command line, as a person and as a script use it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.driver import Driver
from support.people import ALICE, MALLORY, config


def toolgate(*arguments: str, folder: Path, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, as a user would."""
    return subprocess.run(
        [sys.executable, "-m", "toolgate", *arguments],
        cwd=folder,
        env={**os.environ, "COLUMNS": "200", **env},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def deployment(folder: Path, **changes: Any) -> Path:
    """Write a config file and return its path."""
    path = folder / "gate.yaml"
    path.write_text(yaml.safe_dump(config(**changes)))
    return path


async def held(folder: Path, args: dict[str, Any] | None = None) -> dict[str, Any]:
    """Leave a payment held in the folder's journal and return its outcome."""
    async with Driver(folder, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        outcome: dict[str, Any] = await gate.govern("pay", args or {"amount": 100})
    return outcome


def test_new_key_prints_what_to_put_into_the_config(tmp_path: Path) -> None:
    made = toolgate("keys", "new", "carol", "--json", folder=tmp_path)
    told = json.loads(made.stdout)
    assert made.returncode == 0
    assert told["id"] == "carol"
    assert (tmp_path / told["private_key_file"]).stat().st_mode & 0o777 == 0o600
    again = toolgate("keys", "new", "carol", folder=tmp_path)
    assert again.returncode == 2
    assert "never overwritten" in again.stderr


def test_config_line_of_a_new_key_is_yaml_that_a_config_accepts(tmp_path: Path) -> None:
    made = toolgate("keys", "new", "carol", folder=tmp_path)
    line = next(line for line in made.stdout.splitlines() if "public_key" in line)
    approvals = {"approvers": yaml.safe_load(line)}
    path = deployment(tmp_path, approvals=approvals, policy={"rules": []})
    assert toolgate("check", str(path), folder=tmp_path).returncode == 0


def test_id_that_yaml_takes_for_something_else_is_quoted(tmp_path: Path) -> None:
    made = toolgate("keys", "new", "on", folder=tmp_path)
    line = next(line for line in made.stdout.splitlines() if "public_key" in line)
    assert yaml.safe_load(line)[0]["id"] == "on"


def test_output_that_cannot_be_written_is_neither_yes_nor_no(tmp_path: Path) -> None:
    with open("/dev/full", "w") as full:
        told = subprocess.run(
            [sys.executable, "-m", "toolgate", "keys", "new", "carol", "--json"],
            cwd=tmp_path,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
            check=False,
        )
    assert told.returncode not in (0, 1)
    assert "Traceback" not in told.stderr


@pytest.mark.parametrize("limit", ["-1", "0", "99999999999999999999"])
async def test_limit_out_of_bounds_is_wrong_use(tmp_path: Path, limit: str) -> None:
    await held(tmp_path)
    path = str(deployment(tmp_path))
    shown = toolgate("journal", "show", "--config", path, "--limit", limit, folder=tmp_path)
    assert shown.returncode == 2
    assert "Traceback" not in shown.stderr


@pytest.mark.parametrize("name", ["../evil", "a/b", ".hidden", "", "a: b", "#x", "1", "a\nb"])
def test_key_is_never_written_outside_its_folder(tmp_path: Path, name: str) -> None:
    assert toolgate("keys", "new", name, folder=tmp_path).returncode == 2
    assert list(tmp_path.iterdir()) == []


async def test_hold_is_listed_shown_approved_and_gone_from_the_list(tmp_path: Path) -> None:
    outcome = await held(tmp_path)
    path = str(deployment(tmp_path))
    key = str(ALICE.key_file(tmp_path))
    hold = outcome["hold"]["hold_id"]
    listed = toolgate("approvals", "list", "--config", path, folder=tmp_path)
    assert hold in listed.stdout
    assert "a person looks at payments" in listed.stdout
    shown = toolgate("approvals", "show", hold, "--config", path, folder=tmp_path)
    for text in ("pay", '"amount": 100', "money", "alice", "action.proposed"):
        assert text in shown.stdout
    approved = toolgate(
        "approvals", "approve", hold, "--as", "alice", "--key", key, TOOLGATE_CONFIG=path,
        folder=tmp_path,
    )  # fmt: skip
    assert approved.returncode == 0, approved.stderr
    assert "it runs, once" in approved.stdout
    after = toolgate("approvals", "list", "--config", path, folder=tmp_path)
    released = toolgate(
        "approvals", "list", "--status", "released", "--json", "--config", path, folder=tmp_path
    )
    assert "no pending holds" in after.stdout
    assert [view["hold_id"] for view in json.loads(released.stdout)] == [hold]


async def test_denial_carries_its_reason_to_the_agent(tmp_path: Path) -> None:
    outcome = await held(tmp_path)
    path = str(deployment(tmp_path))
    denied = toolgate(
        "approvals", "deny", outcome["uid"], "--config", path, "--as", "alice",
        "--key", str(ALICE.key_file(tmp_path)), "--reason", "wrong account", folder=tmp_path,
    )  # fmt: skip
    assert denied.returncode == 0, denied.stderr
    async with Driver(tmp_path, config()) as gate:
        resumed = await gate.request("resume", uid=outcome["uid"])
    assert resumed["error"]["message"] == "denied by alice: wrong account"


async def test_answer_that_would_not_count_is_refused_and_says_why(tmp_path: Path) -> None:
    outcome = await held(tmp_path)
    path = str(deployment(tmp_path))
    key = str(MALLORY.key_file(tmp_path))
    for who, why in (("alice", "not the key"), ("mallory", "no approver named")):
        refused = toolgate(
            "approvals", "approve", outcome["uid"], "--config", path, "--as", who, "--key", key,
            folder=tmp_path,
        )  # fmt: skip
        assert refused.returncode == 2
        assert why in refused.stderr.replace("\n", " ")
    with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
        assert db.execute("SELECT count(*) FROM approval").fetchone() == (0,)
    db.close()


async def test_what_an_agent_wrote_cannot_act_on_the_approvers_terminal(tmp_path: Path) -> None:
    evil = "\x1b[2Jharmless\x9b1m\u202egnp.exe [bold]not markup[/bold]"
    outcome = await held(tmp_path, {"note": evil})
    path = str(deployment(tmp_path))
    for command in (("approvals", "show", outcome["uid"]), ("journal", "show")):
        shown = toolgate(*command, "--config", path, folder=tmp_path, FORCE_COLOR="1").stdout
        assert "\x1b[2J" not in shown
        assert "\x9b" not in shown
        assert "\u202e" not in shown
        assert "[bold]not markup[/bold]" in shown.replace("\n", "")


async def test_journal_is_shown_and_verified_and_a_broken_one_exits_with_one(
    tmp_path: Path,
) -> None:
    await held(tmp_path)
    path = str(deployment(tmp_path))
    shown = toolgate("journal", "show", "--config", path, "--json", folder=tmp_path)
    kinds = [json.loads(line)["kind"] for line in shown.stdout.splitlines()]
    assert kinds[0] == "run.started"
    assert kinds[-1] == "run.ended"
    fine = toolgate("journal", "verify", "--config", path, folder=tmp_path)
    assert (fine.returncode, fine.stdout[:14]) == (0, "chain verified")
    with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
        db.execute("UPDATE event SET data = '{}' WHERE kind = 'action.proposed'")
    db.close()
    broken = toolgate("journal", "verify", "--config", path, folder=tmp_path)
    assert broken.returncode == 1
    assert "NOT VERIFIED: event " in broken.stdout
    read = toolgate("journal", "show", "--config", path, folder=tmp_path)
    assert read.returncode == 0, read.stderr
    assert "NOT GENUINE: action.proposed" in read.stdout
    assert read.stdout.count("NOT GENUINE") == 1


async def test_hostile_log_is_shown_and_neither_traced_back_nor_obeyed(tmp_path: Path) -> None:
    outcome = await held(tmp_path)
    path = str(deployment(tmp_path))
    zeros = "hex(zeroblob(200))"
    changes = {
        3: "action = '[/b]' || char(27) || '[2J'",
        4: "at = 'noon [/b]' || char(27)",
        5: "action = x'ff00', session = x'ff'",
        6: "kind = x'00', data = x'ff'",
        7: "kind = 'action.executing', data = '{\"attempt\":1,\"timeout_ms\":1' || "
        + zeros
        + " || '}'",
    }
    with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
        for seq, change in changes.items():
            db.execute(f"UPDATE event SET {change} WHERE seq = ?", (seq,))
    db.close()
    for command in (
        ("journal", "show"),
        ("journal", "show", "--json"),
        ("journal", "verify"),
        ("approvals", "show", outcome["uid"]),
        ("approvals", "list"),
    ):
        shown = toolgate(*command, "--config", path, folder=tmp_path, FORCE_COLOR="1")
        assert "Traceback" not in shown.stderr, command
        assert "\x1b[2J" not in shown.stdout + shown.stderr


async def test_hold_that_does_not_verify_is_told_of_beside_the_others(tmp_path: Path) -> None:
    bad, good = await held(tmp_path), await held(tmp_path)
    path = str(deployment(tmp_path))
    with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
        db.execute("UPDATE hold SET reason = 'x' WHERE uid = ?", (bad["uid"],))
    db.close()
    listed = toolgate("approvals", "list", "--config", path, folder=tmp_path)
    assert listed.returncode == 1
    assert good["hold"]["hold_id"] in listed.stdout
    assert "does not verify" in listed.stderr.replace("\n", " ")


def test_looking_at_a_deployment_that_never_ran_says_so_and_creates_nothing(tmp_path: Path) -> None:
    path = str(deployment(tmp_path))
    for command in (("approvals", "list"), ("journal", "show"), ("journal", "verify")):
        looked = toolgate(*command, "--config", path, folder=tmp_path)
        assert looked.returncode == 2
        assert "no journal" in looked.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["gate.yaml"]


def test_two_approvers_with_one_key_are_refused_by_check_and_by_serve(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives import serialization

    pem = ALICE.key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    approvers = [ALICE.pinned, {"id": "bob", "public_key": pem.decode()}]
    path = str(deployment(tmp_path, approvals={"approvers": approvers}))
    for command in (("check", path), ("serve", "--config", path)):
        refused = toolgate(*command, folder=tmp_path)
        assert refused.returncode == 2
        assert "have the same key" in refused.stderr
        assert refused.stdout == ""


def test_gate_that_cannot_start_says_why_on_stderr_and_nothing_on_stdout(tmp_path: Path) -> None:
    cases = {
        "missing policy file": ({"file": "nowhere.yaml"}, "nowhere.yaml"),
        "undeclared name": (
            {"rules": [{"id": "r", "tools": ["a"], "when": "argz.x == 1", "effect": "deny"}]},
            "argz",
        ),
    }
    for policy, said in cases.values():
        path = deployment(tmp_path, policy=policy)
        started = toolgate("serve", "--config", str(path), folder=tmp_path)
        assert started.returncode == 2
        assert started.stdout == ""
        assert said in started.stderr
        assert "Traceback" not in started.stderr


async def test_terminal_that_knows_only_ascii_is_enough(tmp_path: Path) -> None:
    await held(tmp_path, {"note": "straße " * 60})
    path = str(deployment(tmp_path))
    shown = toolgate("journal", "show", "--config", path, folder=tmp_path, PYTHONIOENCODING="ascii")
    assert shown.returncode == 0, shown.stderr
    assert "stra\\xdfe" in shown.stdout


def test_version_and_help_work_everywhere(tmp_path: Path) -> None:
    assert toolgate("--version", folder=tmp_path).stdout.startswith("toolgate 0.")
    for command in ((), ("approvals",), ("journal",), ("keys",), ("check",), ("serve",)):
        assert "Usage" in toolgate(*command, "--help", folder=tmp_path).stdout


def test_check_takes_the_config_as_other_commands_do(tmp_path: Path) -> None:
    path = str(deployment(tmp_path))
    told = toolgate("check", path, folder=tmp_path)
    assert told.returncode == 0, told.stderr
    assert toolgate("check", "--config", path, folder=tmp_path).stdout == told.stdout
    assert toolgate("check", TOOLGATE_CONFIG=path, folder=tmp_path).stdout == told.stdout
    other = toolgate("check", path, TOOLGATE_CONFIG="nowhere.yaml", folder=tmp_path)
    assert other.stdout == told.stdout
    none = toolgate("check", folder=tmp_path)
    assert none.returncode == 2
    assert "TOOLGATE_CONFIG" in none.stderr


def test_check_says_of_each_tool_what_is_settled_and_what_else_decides(tmp_path: Path) -> None:
    rules = [
        {"id": "all", "tools": ["*"], "effect": "allow"},
        {"id": "two", "tools": ["*"], "when": "args.n > state.most", "effect": "deny"},
        {
            "id": "out",
            "tools": ["*"],
            "when": '"egress" in tool.labels && "untrusted" in session.labels',
            "effect": "hold",
        },
    ]
    tools = {"post": {"level": 3, "labels": ["egress"]}, "pay": {"level": 3}}
    path = str(deployment(tmp_path, tools=tools, policy={"rules": [rules[0], rules[2]]}))
    told = toolgate("check", path, folder=tmp_path).stdout
    [pay] = [row for row in told.split("\n") if row.startswith("│ pay ")]
    assert "allow: rule all allows pay" in pay
    [post] = [row for row in told.split("\n") if row.startswith("│ post ")]
    assert "depends on session.labels: hold where out matches; else allow: rule all allows" in post
    path = str(deployment(tmp_path, tools=tools, policy={"rules": rules}))
    told = toolgate("check", path, "--json", folder=tmp_path).stdout
    verdict = json.loads(told)["tools"]["post"]["verdict"]
    assert verdict["depends_on"] == ["args.n", "state.most", "session.labels"]
    assert [(item["effect"], item["rules"]) for item in verdict["outcomes"]] == [
        ("deny", ["two"]),
        ("hold", ["out"]),
        ("allow", ["all"]),
    ]


def test_explaining_a_tool_that_the_config_does_not_name_says_so(tmp_path: Path) -> None:
    path = str(deployment(tmp_path, tools={"pay": {"level": 3}}))
    note = "the config does not name this tool"
    for tool, noted in (("nope", True), ("pay", False)):
        said = toolgate("policy", "explain", "--config", path, "--tool", tool, folder=tmp_path)
        assert said.returncode == 0, said.stderr
        assert (note in said.stdout) is noted


def test_missing_policy_document_is_told_with_the_key_that_names_it(tmp_path: Path) -> None:
    path = deployment(tmp_path, policy={"file": "policies/none.yaml"})
    for command in (("check",), ("policy", "check"), ("serve",)):
        said = toolgate(*command, "--config", str(path), folder=tmp_path)
        assert said.returncode == 2
        assert f"named by policy.file of {path}, line " in said.stderr
    draft = toolgate("policy", "check", "drafts/none.yaml", "--config", str(path), folder=tmp_path)
    assert "named by" not in draft.stderr


def test_a_gate_that_serves_collects_its_garbage(tmp_path: Path) -> None:
    """It starts without the collector; left so, it would grow for as long as it lives."""
    program = (
        "import atexit, gc, sys; from toolgate.cli import main;"
        " atexit.register(lambda: sys.stderr.write(f'collects: {gc.isenabled()}')); main()"
    )
    command = [sys.executable, "-c", program, "serve", "--config", str(deployment(tmp_path))]
    served = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False
    )
    assert served.returncode == 0, served.stderr
    assert served.stderr.endswith("collects: True")
