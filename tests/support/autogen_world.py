"""A deployment for AutoGen's processes, with the newest AutoGen and with the oldest supported."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from support.crewai_world import LAUNCHER, answering
from support.langgraph_world import World

CASES = Path(__file__).with_name("autogen_cases.py")
OLDEST = Path(sys.prefix, "autogen-oldest")
"""The oldest AutoGen that is supported, for the same environment."""
NEEDS_OLDEST = pytest.mark.skipif(
    not OLDEST.exists(), reason="`make test` installs the oldest AutoGen that is supported"
)


def _case_names() -> list[str]:
    from support.autogen_teams import KINDS

    names = []
    found = re.findall(r'^@(case|in_kinds)\(\s*"([^"]+)"', CASES.read_text(), re.MULTILINE)
    for kind, name in found:
        names += [name] if kind == "case" else [f"{name}, {each}" for each in KINDS]
    return names


CASE_NAMES = _case_names()
"""The names of all cases."""


def environment(folder: Path, libraries: Sequence[Path] = ()) -> dict[str, str]:
    """What a process of AutoGen's needs."""
    tests = Path(__file__).parents[1]
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(map(str, [*libraries, tests])),
        "HOME": str(folder),
        "TMPDIR": str(folder),
    }


def run_program(
    deployment: World,
    program: Path,
    *arguments: str,
    libraries: Sequence[Path] = (),
    bound: float = 200.0,
) -> list[str]:
    """Run a program of AutoGen's, while nobody answers; return the lines that it prints."""
    done = subprocess.run(
        [sys.executable, str(program), str(deployment.config), *arguments],
        env=environment(deployment.folder, libraries),
        cwd=deployment.folder,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=bound,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.splitlines()


def run_cases(
    deployment: World, *names: str, libraries: Sequence[Path] = ()
) -> list[dict[str, Any]]:
    """Run the matrix's cases (or those of these names), while somebody answers what is held."""
    with answering(deployment):
        lines = run_program(deployment, CASES, json.dumps(LAUNCHER), *names, libraries=libraries)
    return [json.loads(line[5:]) for line in lines if line.startswith("CASE ")]
