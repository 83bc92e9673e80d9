"""`toolgate actions` and `toolgate labels`, as a person and as a script use them."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from support.doubts import doubted
from support.driver import Driver
from support.people import ALICE, BOB, MALLORY, config
from toolgate.cli.app import app


def deployment(session: str = "s") -> dict[str, Any]:
    """Return a config in one session, in which pages are read and a secret is redacted."""
    value = config(session=session)
    value["tools"]["search"] = {"level": 1, "redact": ["/secret"]}
    value["tools"]["page"] = {"level": 0, "emits": ["untrusted"]}
    return value


def run(folder: Path, *arguments: str, code: int = 0) -> Result:
    """Run the command; it must end with ``code``."""
    file = folder / "gate.yaml"
    file.write_text(yaml.safe_dump(deployment()))
    runner = CliRunner(env={"COLUMNS": "240"})
    done = runner.invoke(app, [*arguments, "--config", str(file)], catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def settle(folder: Path, uid: str, *what: str, code: int = 0) -> Result:
    """Settle an action as alice."""
    who = ("--as", "alice", "--key", str(ALICE.key_file(folder)))
    return run(folder, "actions", "settle", uid, *who, *what, code=code)


async def calls(folder: Path, tool: str, count: int, session: str = "s") -> list[str]:
    """Make calls of a tool and return their uids, in order."""
    async with Driver(folder, deployment(session)) as gate:
        await gate.tool(tool, lambda args: "done")
        return [(await gate.govern(tool, {"n": n}))["uid"] for n in range(count)]


def uids(result: Result) -> list[str]:
    """Return the uids that a table lists."""
    return [line.split()[0] for line in result.stdout.splitlines()[1:]]


async def test_list_has_the_newest_first_and_every_filter_narrows_it(tmp_path: Path) -> None:
    in_doubt = await doubted(tmp_path, deployment())
    paged = await calls(tmp_path, "page", 2)
    other = await calls(tmp_path, "page", 1, session="other")
    listed = run(tmp_path, "actions", "list")
    assert uids(listed) == [*other, *reversed(paged), in_doubt]
    assert uids(run(tmp_path, "actions", "list", "--oldest")) == [in_doubt, *paged, *other]
    assert uids(run(tmp_path, "actions", "list", "--status", "in_doubt")) == [in_doubt]
    assert uids(run(tmp_path, "actions", "list", "--tool", "search")) == [in_doubt]
    assert uids(run(tmp_path, "actions", "list", "--session", "other")) == other
    assert "in_doubt" in listed.stdout
    assert run(tmp_path, "actions", "list", "--status", "held").stdout == "no held actions\n"
    run(tmp_path, "actions", "list", "--status", "odd", code=2)


@pytest.mark.parametrize("order", [(), ("--oldest",)])
async def test_pages_of_a_list_put_together_are_the_list(
    tmp_path: Path, order: tuple[str, ...]
) -> None:
    await calls(tmp_path, "page", 5)
    whole = uids(run(tmp_path, "actions", "list", *order))
    found: list[str] = []
    further: str | None = ""
    while further is not None:
        after = ("--after", further) if further else ()
        page = run(tmp_path, "actions", "list", *order, *after, "--limit", "2", "--json")
        answer = json.loads(page.stdout)
        found += [item["uid"] for item in answer["actions"]]
        further = answer["next"]
    assert found == whole
    told = run(tmp_path, "actions", "list", *order, "--limit", "2").stderr
    assert f"--after {whole[1]} goes on" in told


async def test_another_projects_actions_are_nobodys_here(tmp_path: Path) -> None:
    elsewhere = {**deployment(), "project": "elsewhere"}
    uid = await doubted(tmp_path, elsewhere)
    assert run(tmp_path, "actions", "list").stdout == "no actions\n"
    assert "has no action" in run(tmp_path, "actions", "show", uid, code=2).stderr
    assert "has no action" in settle(tmp_path, uid, "--failed", code=2).stderr


async def test_row_that_does_not_verify_is_told_of_and_the_others_are_listed(
    tmp_path: Path,
) -> None:
    good, bad = await calls(tmp_path, "page", 2)
    with sqlite3.connect(tmp_path / ".toolgate" / "journal.db") as db:
        db.execute("UPDATE action SET status = 'in_doubt' WHERE uid = ?", (bad,))
    db.close()
    listed = run(tmp_path, "actions", "list", code=1)
    assert uids(listed) == [good]
    assert "does not verify under the journal key" in listed.stderr
    assert "does not verify" in settle(tmp_path, bad, "--failed", code=2).stderr


async def test_show_has_the_whole_story_and_what_settles_it_and_no_secret(tmp_path: Path) -> None:
    async with Driver(tmp_path, deployment()) as gate:
        await gate.tool("search")
        gate.send("govern", tool="search", args={"q": "x", "secret": "hunter2"})
        uid = (await gate.runs.get())["params"]["uid"]
        gate.die()
    gone = run(tmp_path, "actions", "list").stdout
    async with Driver(tmp_path, deployment()):
        pass
    before = run(tmp_path, "actions", "show", uid)
    settle(tmp_path, uid, "--retry", "--reason", "the log\nhas nothing of it")
    after = run(tmp_path, "actions", "show", uid)
    machine = run(tmp_path, "actions", "show", uid, "--json")
    story = json.loads(machine.stdout)
    assert "executing (its gate is gone)" in gone
    assert "may settle it   alice, bob" in before.stdout
    assert "action.executing" in before.stdout
    assert "action.in_doubt" in before.stdout
    assert "retry by alice: the log\\nhas nothing of it; not taken in yet" in after.stdout
    assert (story["uid"], story["status"], story["attempts"]) == (uid, "in_doubt", 1)
    assert story["settlement"]["outcome"] == "retry"
    assert story["args"]["q"] == "x"
    assert [event["genuine"] for event in story["events"]] == [True] * len(story["events"])
    for printed in (before.stdout, after.stdout, machine.stdout):
        assert "hunter2" not in printed


async def test_settled_action_tells_who_settled_it_in_its_log(tmp_path: Path) -> None:
    uid = await doubted(tmp_path, deployment())
    settled = settle(tmp_path, uid, "--succeeded", "--output", '{"id": 1}', "--reason", "seen it")
    assert "alice settled it: it has succeeded" in settled.stdout
    async with Driver(tmp_path, deployment()) as gate:
        outcome = await gate.request("resume", uid=uid)
    assert outcome["output"] == {"id": 1}
    shown = run(tmp_path, "actions", "show", uid).stdout
    assert "succeeded by alice: seen it" in shown
    assert "in doubt since" not in shown


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ((), "--succeeded, --failed or --retry"),
        (("--failed", "--retry"), "--succeeded, --failed or --retry"),
        (("--failed", "--output", "1"), "only what --succeeded has an --output"),
        (("--succeeded", "--output", "{"), "--output is not JSON"),
        (("--succeeded", "--output", "@nowhere"), "cannot read nowhere"),
    ],
)
async def test_settlement_that_says_nothing_clear_is_wrong_use(
    tmp_path: Path, what: tuple[str, ...], why: str
) -> None:
    uid = await doubted(tmp_path, deployment())
    assert why in settle(tmp_path, uid, *what, code=2).stderr
    assert json.loads(run(tmp_path, "actions", "show", uid, "--json").stdout)["settlement"] is None


async def test_key_that_is_not_the_approvers_settles_nothing(tmp_path: Path) -> None:
    uid = await doubted(tmp_path, deployment())
    forged = ("actions", "settle", uid, "--retry", "--as", "alice", "--key")
    stolen = run(tmp_path, *forged, str(MALLORY.key_file(tmp_path)), code=2)
    assert "is not the key that the config pins for alice" in stolen.stderr
    done = await calls(tmp_path, "page", 1)
    assert "is succeeded, not in doubt" in settle(tmp_path, done[0], "--retry", code=2).stderr


async def test_labels_are_listed_and_taken_away_by_a_signature(tmp_path: Path) -> None:
    await calls(tmp_path, "page", 1)
    where = ("--session", "s")
    listed = json.loads(run(tmp_path, "labels", "list", *where, "--json").stdout)
    who = ("--as", "bob", "--key", str(BOB.key_file(tmp_path)))
    removed = run(tmp_path, "labels", "remove", "untrusted", *where, *who, "--reason", "ours")
    table = run(tmp_path, "labels", "list", *where).stdout
    assert [(item["label"], item["removed_by"]) for item in listed] == [("untrusted", None)]
    assert "bob took untrusted away" in removed.stdout
    assert table.splitlines()[1].endswith("bob")
    assert run(tmp_path, "labels", "list", "--session", "x", code=2).stderr != ""
    again = run(tmp_path, "labels", "remove", "untrusted", *where, *who, code=2)
    assert "bob has taken the label 'untrusted' away already" in again.stderr


async def test_session_without_labels_has_none(tmp_path: Path) -> None:
    async with Driver(tmp_path, deployment()):
        pass
    assert run(tmp_path, "labels", "list", "--session", "s").stdout == "no labels\n"
