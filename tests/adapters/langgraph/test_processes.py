"""A hold outlives the process: another one resumes the graph, and the call runs once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support import langgraph_process
from support.langgraph_world import ALLOW, HOLD, World

BOUND = 30.0


@pytest.fixture
def held(tmp_path: Path) -> World:
    """A deployment that holds payments."""
    return World(tmp_path, {**HOLD, "tools": ["pay"]})


@pytest.fixture
def allowed(tmp_path: Path) -> World:
    """A deployment that allows payments."""
    return World(tmp_path, {**ALLOW, "tools": ["pay"]})


def run(world: World, role: str, *death: str) -> dict[str, Any]:
    """Run a process to its end and return what it printed."""
    command = [sys.executable, langgraph_process.__file__, str(world.folder), role, *death]
    done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False)
    expected = langgraph_process.DIED if death else 0
    assert done.returncode == expected, done.stderr
    return {} if death else json.loads(done.stdout)


def effects(world: World) -> list[str]:
    """Return what was paid, by any process."""
    path = world.folder / "effects"
    return path.read_text().splitlines() if path.exists() else []


def test_one_process_pauses_another_approves_a_third_runs_it_once(held: World) -> None:
    [asked] = run(held, "start")["asked"]
    [again] = run(held, "resume")["asked"]
    assert again == asked
    assert effects(held) == []
    held.answer(asked["uid"])
    assert effects(held) == []
    result = run(held, "resume")
    assert result["told"] == ["paid 10 to bob"]
    assert result["answer"] == "all paid"
    assert effects(held) == ["10 to bob"]


def test_a_process_that_dies_between_effect_and_checkpoint_is_replayed(held: World) -> None:
    [asked] = run(held, "start")["asked"]
    held.answer(asked["uid"])
    run(held, "resume", "after-body")
    assert effects(held) == ["10 to bob"]
    result = run(held, "resume")
    assert result["told"] == ["paid 10 to bob"]
    assert effects(held) == ["10 to bob"]


@pytest.mark.parametrize("policy", ["held", "allowed"])
def test_a_process_that_dies_inside_the_body_does_not_run_it_again(
    policy: str, request: pytest.FixtureRequest
) -> None:
    world: World = request.getfixturevalue(policy)
    role = "start"
    if policy == "held":
        [asked] = run(world, "start")["asked"]
        world.answer(asked["uid"])
        role = "resume"
    run(world, role, "in-body")
    result = run(world, "resume")
    for _ in range(20):
        if not result["asked"]:
            break
        # The dead process's gate has not seen yet that its client is gone.
        assert "by another process" in result["asked"][0]["description"]
        result = run(world, "resume")
    assert result["statuses"] == ["error"]
    assert "[in_doubt]" in result["told"][0]
    assert result["answer"] == "all paid"
    assert effects(world) == ["10 to bob"]
