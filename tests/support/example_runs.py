"""Runs a program of `examples/` as a user would: a process of its own, in a folder of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
CONFIGS = ROOT / "configs"


def run(
    command: Sequence[str], folder: Path, *, bound: float = 30.0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in ``folder``, which is also where it makes its temporary files."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("TOOLGATE_")}
    return subprocess.run(
        list(command),
        cwd=folder,
        env=kept | {"TMPDIR": str(folder), "PYTHONWARNINGS": "error"} | environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=bound,
        check=False,
    )


def run_example(
    name: str, *arguments: str, folder: Path, **environment: str
) -> subprocess.CompletedProcess[str]:
    """Run an example by its name."""
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    return run(command, folder, **environment)
