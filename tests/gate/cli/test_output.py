"""What goes into a pipe is whole, a row a line; what goes to a terminal is fitted into it."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.driver import Driver
from support.people import config

LONG = "a person reads " + "every word of this " * 20 + "and the end"
LONG_CONFIG = config(
    policy={
        "rules": [{"id": "money", "tools": ["pay"], "effect": "hold", "reason": LONG.strip()}],
    }
)
PLAN = {"id": "order", "actions": [{"id": "buy", "type": "tool_call", "tool": "pay"}]}


async def hold(folder: Path) -> dict[str, Any]:
    """Leave a plan held in the folder's journal, for a reason that takes many words."""
    (folder / "gate.yaml").write_text(yaml.safe_dump(LONG_CONFIG))
    async with Driver(folder, LONG_CONFIG) as gate:
        await gate.tool("pay", lambda args: "paid")
        result: dict[str, Any] = await gate.request("propose", proposal=PLAN)
    return result


def piped(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command whose output goes into a pipe, of which nobody has said how wide it is."""
    return subprocess.run(
        [sys.executable, "-m", "toolgate", *arguments, "--config", "gate.yaml"],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "COLUMNS"} | env,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def in_terminal(folder: Path, columns: int, *arguments: str) -> str:
    """Run a command in a terminal of so many columns and return what stands there then."""
    outside, inside = pty.openpty()
    running = subprocess.Popen(
        [sys.executable, "-m", "toolgate", *arguments, "--config", "gate.yaml"],
        cwd=folder,
        env={**os.environ, "COLUMNS": str(columns), "TERM": "xterm", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=inside,
        stderr=inside,
    )
    os.close(inside)
    shown = b""
    try:
        # Its end, or the bound on it, closes the other side.
        while part := _read(outside):
            shown += part
        assert running.wait(30) == 0, shown
    finally:
        running.kill()
        running.wait()
        os.close(outside)
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode()).replace("\r\n", "\n")


def test_explanation_is_fitted_into_a_terminal_and_whole_in_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "gate.yaml").write_text(yaml.safe_dump(LONG_CONFIG))
    ask = ("policy", "explain", "--tool", "pay", "--args", '{"to": "' + "word " * 40 + '"}')
    rows = in_terminal(tmp_path, 80, *ask).split("\n")
    assert max(map(len, rows)) <= 80
    start = next(at for at, row in enumerate(rows) if row.startswith("  money (hold): a person"))
    assert rows[start + 1].startswith("        ")
    assert "and the end" in " ".join(" ".join(rows[start : start + 8]).split())
    told = piped(tmp_path, *ask).stdout.split("\n")
    assert f"  money (hold): {LONG.strip()}" in told


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # how a terminal says that nobody writes to it any more
        return b""


async def test_row_of_a_table_is_one_whole_line_in_a_pipe(tmp_path: Path) -> None:
    held = await hold(tmp_path)
    action = held["results"][0]
    head, row = piped(tmp_path, "approvals", "list").stdout.splitlines()
    assert row.startswith(action["hold"]["hold_id"])
    assert f"{held['uid']} buy" in row
    assert row.endswith(LONG)
    assert head.split()[0] == "hold"


async def test_events_are_whole_in_a_pipe_and_so_are_their_uids(tmp_path: Path) -> None:
    held = await hold(tmp_path)
    lines = piped(tmp_path, "journal", "show").stdout.splitlines()
    [opened] = [line for line in lines if "hold.opened" in line]
    assert opened.split()[3] == held["results"][0]["uid"]
    assert LONG in opened
    assert [line.split()[0] for line in lines] == ["seq", *map(str, range(1, len(lines)))]
    assert not any(line.endswith(" ") for line in lines)


async def test_hold_is_shown_in_a_pipe_with_no_value_wrapped(tmp_path: Path) -> None:
    held = await hold(tmp_path)
    action = held["results"][0]
    shown = piped(tmp_path, "approvals", "show", action["uid"]).stdout
    [reason] = [line for line in shown.splitlines() if line.startswith("│ reason")]
    assert LONG in reason
    assert any(f"{held['uid']} (order, of unknown)" in line for line in shown.splitlines())


@pytest.mark.parametrize("command", [("approvals", "list"), ("journal", "show")])
async def test_pipe_gets_no_colours_even_of_tables(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    await hold(tmp_path)
    assert "\x1b" not in piped(tmp_path, *command, FORCE_COLOR="1").stdout


@pytest.mark.parametrize("columns", [100, 160])
async def test_terminal_wraps_texts_and_never_a_uid(tmp_path: Path, columns: int) -> None:
    held = await hold(tmp_path)
    action = held["results"][0]
    listed = in_terminal(tmp_path, columns, "approvals", "list")
    assert action["hold"]["hold_id"] in listed
    assert held["uid"] in listed
    assert LONG not in listed
    plans = in_terminal(tmp_path, columns, "proposals", "list")
    assert held["uid"] in plans
    assert action["uid"] in plans
    events = in_terminal(tmp_path, columns, "journal", "show")
    assert all(
        len(line) <= columns for text in (listed, plans, events) for line in text.split("\n")
    )
    assert "…" in events
    [proposed] = [line for line in events.split("\n") if "action.proposed" in line]
    assert (action["uid"] in proposed) == (columns == 160)
