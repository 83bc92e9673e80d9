"""Which events `journal show` prints, and what it says of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from support.driver import Driver
from support.people import config
from toolgate.cli.app import app

WRITE = {"type": "state_write", "parameters": {"key": "k", "value": 1}}
DEPLOYMENT = config(policy={"rules": [], "allow_up_to": 2})


def show(folder: Path, *options: str, code: int = 0) -> Result:
    """Run `journal show` and return what it printed; it must end with ``code``."""
    file = folder / "gate.yaml"
    file.write_text(yaml.safe_dump(DEPLOYMENT))
    arguments = ["journal", "show", *options, "--config", str(file)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def seqs(result: Result) -> list[int]:
    """Return the places of the events that a table shows."""
    return [int(line.split()[0]) for line in result.stdout.splitlines()[1:]]


async def propose(folder: Path, *names: str) -> list[dict[str, Any]]:
    """Run a plan of one write for each name, and return the results."""
    async with Driver(folder, DEPLOYMENT) as gate:
        return [
            await gate.request("propose", proposal={"id": name, "actions": [WRITE]})
            for name in names
        ]


async def test_events_that_are_left_out_are_told_of_with_the_way_to_see_them(
    tmp_path: Path,
) -> None:
    await propose(tmp_path, "a", "b")
    everything = show(tmp_path)
    assert everything.stderr == ""
    total = len(seqs(everything))
    first = show(tmp_path, "--limit", "4")
    assert seqs(first) == [1, 2, 3, 4]
    assert first.stderr == (
        f"{total - 4} more events after these: --after 4 goes on, --last 100 shows the newest\n"
    )
    machines = show(tmp_path, "--limit", "4", "--json")
    assert len(machines.stdout.splitlines()) == 4
    assert machines.stderr == first.stderr
    rest = show(tmp_path, "--after", "4")
    assert seqs(rest) == list(range(5, total + 1))
    assert rest.stderr == ""


async def test_by_default_a_hundred_events_are_shown(tmp_path: Path) -> None:
    await propose(tmp_path, *(f"plan-{n}" for n in range(20)))
    shown = show(tmp_path)
    assert seqs(shown) == list(range(1, 101))
    assert "more events after these: --after 100 goes on" in shown.stderr


async def test_last_events_are_shown_in_the_logs_order(tmp_path: Path) -> None:
    await propose(tmp_path, "a")
    total = len(seqs(show(tmp_path)))
    last = show(tmp_path, "--last", "3")
    assert seqs(last) == [total - 2, total - 1, total]
    assert last.stderr == f"{total - 3} more events before these: --last {total} shows all\n"
    assert seqs(show(tmp_path, "--last", str(total + 5))) == list(range(1, total + 1))
    both = show(tmp_path, "--last", "3", "--limit", "3", code=2)
    assert "--last from the newest" in " ".join(both.stderr.split())


async def test_last_events_of_an_action_are_its_own(tmp_path: Path) -> None:
    first, _ = await propose(tmp_path, "a", "b")
    uid = first["results"][0]["uid"]
    every = show(tmp_path, "--action", uid)
    last = show(tmp_path, "--action", uid, "--last", "2")
    assert seqs(last) == seqs(every)[-2:]
    assert f"{len(seqs(every)) - 2} more event" in last.stderr


async def test_proposal_is_found_by_the_id_that_its_proposer_gave_it(tmp_path: Path) -> None:
    first, _ = await propose(tmp_path, "order", "other")
    by_uid = show(tmp_path, "--proposal", first["uid"])
    by_id = show(tmp_path, "--proposal", "order")
    assert by_id.stdout == by_uid.stdout
    assert by_id.stderr == ""


async def test_several_proposals_of_one_id_are_all_shown_and_named(tmp_path: Path) -> None:
    first, _, second = await propose(tmp_path, "order", "other", "order")
    shown = show(tmp_path, "--proposal", "order", "--json")
    actions = [json.loads(line)["action"] for line in shown.stdout.splitlines()]
    of_proposals = list(dict.fromkeys(action.partition("-")[0] for action in actions))
    assert of_proposals == [first["uid"], second["uid"]]
    assert shown.stderr == (
        f"order is the id of 2 proposals, the newest last: {first['uid']}, {second['uid']}\n"
    )
    last = show(tmp_path, "--proposal", "order", "--last", "1", "--json")
    assert json.loads(last.stdout)["action"].startswith(second["uid"])
    assert f"{len(actions) - 1} more events before these" in last.stderr
    limited = show(tmp_path, "--proposal", "order", "--limit", "1", "--json")
    assert json.loads(limited.stdout)["action"] == first["uid"]


@pytest.mark.parametrize("name", ["nothing", "", "0" * 24])
async def test_proposal_that_is_not_known_is_a_no(tmp_path: Path, name: str) -> None:
    await propose(tmp_path, "order")
    assert (
        f"the journal knows no proposal {name}" in show(tmp_path, "--proposal", name, code=1).stderr
    )
