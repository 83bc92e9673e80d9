"""The command as processes: gates that note their process ids, and what people type."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PID_LAUNCHER = ["sh", "-c", f'echo $$ > gate.pid; exec {sys.executable} -m toolgate "$@"', "gate"]
"""Starts a gate that leaves its process id in `gate.pid`, in the current folder."""


def gate_pid() -> int:
    """Return the process id of the gate started last by the launcher that notes it."""
    return int(Path("gate.pid").read_text())


def toolgate(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command line in the current folder."""
    return subprocess.run(
        [sys.executable, "-m", "toolgate", *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def verified(path: Path) -> bool:
    """Tell whether the journal verifies."""
    return toolgate("journal", "verify", "--config", str(path)).returncode == 0


def largest(process: int) -> int:
    """Return the most memory that a process has had, in KiB; Linux tells it."""
    rows = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(row.split()[1]) for row in rows if row.startswith("VmHWM"))
