"""Runs LangGraph's matrix in a process of its own, with the newest libraries or the oldest."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.crewai_world import LAUNCHER, answering
from support.langgraph_world import World

CASES = Path(__file__).with_name("langgraph_cases.py")
OLDEST = Path(sys.prefix, "langgraph-oldest")
"""The oldest LangChain and LangGraph that are supported, over the same environment."""
NEEDS_OLDEST = pytest.mark.skipif(
    not OLDEST.exists(), reason="`make test` puts the oldest LangGraph beside the newest"
)


def _case_names() -> list[str]:
    names = []
    pattern = r'^@(case|in_ways)\(\s*"([^"]+)"'
    for kind, name in re.findall(pattern, CASES.read_text(), re.MULTILINE):
        names += [name] if kind == "case" else [f"{name}, sync", f"{name}, async"]
    return names


CASE_NAMES = _case_names()
"""The names of all cases."""


def environment(libraries: Path | None = None) -> dict[str, str]:
    """What a process needs to run with ``libraries`` before its own."""
    before = [] if libraries is None else [str(libraries)]
    path = os.pathsep.join([*before, str(CASES.parents[1])])
    return {**os.environ, "PYTHONPATH": path, "LANGSMITH_TRACING": "false"}


def run_cases(
    deployment: World, *names: str, libraries: Path | None = None, bound: float = 150.0
) -> dict[str, dict[str, Any]]:
    """Run the cases (or those of these names), while somebody answers what is held."""
    with answering(deployment):
        done = subprocess.run(
            [sys.executable, str(CASES), str(deployment.config), json.dumps(LAUNCHER), *names],
            env=environment(libraries),
            cwd=deployment.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=bound,
            check=False,
        )
    assert done.returncode == 0, done.stderr[-4000:]
    lines = done.stdout.splitlines()
    found = [json.loads(line[5:]) for line in lines if line.startswith("CASE ")]
    return {each["case"]: each for each in found}
