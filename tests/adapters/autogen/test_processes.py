"""A team that stopped at a hold goes on in another process, and the call runs once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support import autogen_process
from support.autogen_world import NEEDS_OLDEST, OLDEST, environment
from support.langgraph_world import ALLOW, HOLD, World

BOUND = 40.0

pytestmark = pytest.mark.slow


@pytest.fixture
def deployment(tmp_path: Path) -> World:
    """A deployment that holds payments."""
    hold = {**HOLD, "tools": ["pay"], "approval": {"approvers": ["alice"], "edit": True}}
    return World(tmp_path, hold, {**ALLOW, "tools": ["search"]})


def play(
    world: World, role: str, libraries: tuple[Path, ...] = (), code: int = 0
) -> dict[str, Any]:
    """Run a process to its end and return what it printed."""
    done = subprocess.run(
        [sys.executable, autogen_process.__file__, str(world.folder), role],
        env=environment(world.folder, libraries),
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return json.loads(done.stdout) if done.stdout else {}


def toolgate(world: World, *arguments: str) -> str:
    """Run a command of Toolgate's, as an approver does."""
    command = [sys.executable, "-m", "toolgate", *arguments, "--config", str(world.config)]
    done = subprocess.run(
        command, cwd=world.folder, capture_output=True, text=True, timeout=BOUND, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def approve(world: World, hold: str, *more: str) -> None:
    """Approve a hold as alice, on the command line."""
    key = ("--as", "alice", "--key", str(world.key))
    toolgate(world, "approvals", "approve", hold, *key, *more)


def effects(world: World) -> list[str]:
    """Return what was paid, by any process."""
    path = world.folder / "effects"
    return path.read_text().splitlines() if path.exists() else []


@pytest.mark.parametrize(
    "libraries", [(), pytest.param((OLDEST,), marks=NEEDS_OLDEST)], ids=["newest", "oldest"]
)
def test_a_team_saved_while_held_is_restored_elsewhere_approved_and_finished(
    deployment: World, libraries: tuple[Path, ...]
) -> None:
    stopped = play(deployment, "start", libraries)
    assert stopped["stop"] == "Held for a person's approval: pay (uid UID)"
    assert stopped["told"][0] == ["found bill", False]
    assert "waits" in play(deployment, "resume", libraries)
    assert effects(deployment) == []
    (hold,) = stopped["holds"]
    approve(deployment, hold)
    assert effects(deployment) == []
    done = play(deployment, "resume", libraries)
    assert done["said"] == ["pay was approved, and has run. Its result: paid 10 to bob"]
    said = [text for _, _, text in done["messages"]]
    assert said == [*done["said"], "I have read it", "all paid"]
    assert play(deployment, "resume", libraries)["said"] == done["said"]
    assert effects(deployment) == ["10 to bob"]


def test_a_process_that_dies_in_the_effect_leaves_it_in_doubt_and_never_repeats_it(
    deployment: World,
) -> None:
    (hold,) = play(deployment, "start")["holds"]
    approve(deployment, hold)
    play(deployment, "die", code=autogen_process.DIED)
    done = play(deployment, "resume")
    assert "may or may not have taken effect" in done["said"][0]
    assert effects(deployment) == ["10 to bob"]


def test_a_team_is_told_of_the_arguments_that_were_approved(deployment: World) -> None:
    (hold,) = play(deployment, "start")["holds"]
    edited = deployment.folder / "edited.json"
    edited.write_text(json.dumps({"to": "bob", "amount": 5}))
    approve(deployment, hold, "--edit", str(edited))
    (said,) = play(deployment, "resume")["said"]
    assert said.startswith("pay was approved, and has run. Its result: paid 5 to bob")
    assert 'It ran with: {"amount": 5, "to": "bob"}' in said
    assert effects(deployment) == ["5 to bob"]


def test_a_denial_is_told_to_the_team(deployment: World) -> None:
    (hold,) = play(deployment, "start")["holds"]
    key = ("--as", "alice", "--key", str(deployment.key))
    toolgate(deployment, "approvals", "deny", hold, *key, "--reason", "not bob")
    (said,) = play(deployment, "resume")["said"]
    assert said.startswith("pay did not run: denied by alice: not bob")
    assert effects(deployment) == []
