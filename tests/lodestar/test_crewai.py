"""lodestar-crewai, as it is published, under real CrewAI crews, in an environment of theirs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support import lodestar_world
from support.lodestar_world import LAUNCHER, World

PYTHON = Path(sys.prefix, "crewai", "bin", "python")
CREW = Path(lodestar_world.__file__).with_name("crewai_crew.py")
BOUND = 50.0

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not PYTHON.exists(),
        reason="CrewAI cannot be installed beside the packages of constraints.txt (it asks for "
        "aiosqlite<0.22, jiter<0.15 and rich<15); `make test` gives it an environment of its own",
    ),
]


def crew(world: World, *made: tuple[str, dict[str, Any]]) -> dict[str, Any]:
    """Run a crew whose model makes these calls; what it is told, did and answers."""
    nowhere = "http://127.0.0.1:9"
    done = subprocess.run(
        [str(PYTHON), str(CREW), str(world.config), json.dumps(LAUNCHER), json.dumps(made)],
        env={
            "PATH": os.environ["PATH"],
            "HOME": str(world.folder),
            "CREWAI_DISABLE_TELEMETRY": "true",
            "CREWAI_DISABLE_TRACKING": "true",
            "CREWAI_TRACING_ENABLED": "false",
            "OTEL_SDK_DISABLED": "true",
            "HTTP_PROXY": nowhere,
            "HTTPS_PROXY": nowhere,
        },
        cwd=world.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=BOUND,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return result


def test_a_crews_calls_are_allowed_denied_or_held_and_approved(world: World) -> None:
    script = [("search", {"q": "lamp"}), ("shell", {"command": "rm"}), ("pay", {"to": "bob"})]
    with ThreadPoolExecutor() as pool:
        running = pool.submit(crew, world, *script)
        world.approve(world.pending())
        result = running.result(BOUND)
    assert result["done"] == ["search lamp", "pay bob"]
    assert result["answer"] == "done"
    _, after_search, after_shell, after_pay = result["told"]
    assert "found lamp" in after_search
    assert "no shell" in after_shell
    assert "paid bob" in after_pay
    assert result["kinds"] == ["policy_denied", "unregistered_tool"]


def test_what_a_crews_async_tool_has_read_is_not_trusted(world: World) -> None:
    script = [("send", {"to": "bob"}), ("fetch", {"url": "x"}), ("send", {"to": "eve"})]
    result = crew(world, *script)
    assert result["done"] == ["send bob", "fetch x"]
    assert "a page" in result["told"][2]
    assert "what strangers wrote" in result["told"][3]
