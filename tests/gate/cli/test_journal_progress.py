"""How far a long command has come is shown to people at a terminal, and to nobody else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support.driver import Driver
from support.people import config

COMMANDS = (["verify"], ["export", "--out", "export.ndjson"])


def run(folder: Path, *command: str, stderr: int) -> subprocess.CompletedProcess[bytes]:
    """Run a command about the journal in a folder."""
    return subprocess.run(
        [sys.executable, "-m", "toolgate", "journal", *command, "--config", "gate.yaml"],
        check=True,
        timeout=20,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=stderr,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "120"},
    )


async def deployment(folder: Path) -> None:
    """Leave a journal."""
    (folder / "gate.yaml").write_text(yaml.safe_dump(config()))
    async with Driver(folder, config()) as gate:
        await gate.tool("search", lambda args: "found")
        await gate.govern("search")


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
async def test_terminal_is_shown_how_far_it_has_come(tmp_path: Path, command: list[str]) -> None:
    await deployment(tmp_path)
    ours, theirs = pty.openpty()
    done = run(tmp_path, *command, stderr=theirs)
    os.close(theirs)
    shown = os.read(ours, 65536).decode()
    os.close(ours)
    assert " of 9 events" in shown
    assert b" of 9 events" not in done.stdout


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command[0])
async def test_pipe_is_not(tmp_path: Path, command: list[str]) -> None:
    await deployment(tmp_path)
    done = run(tmp_path, *command, stderr=subprocess.PIPE)
    assert b" of 9 events" not in done.stdout + done.stderr
