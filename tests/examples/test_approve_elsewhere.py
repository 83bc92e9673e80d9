"""The second example, as its user runs it: three processes, and commands copied from the first."""

from __future__ import annotations

import shlex
from pathlib import Path

from support.example_runs import EXAMPLES, run, run_example


def test_a_hold_is_approved_from_another_terminal_and_resumed_by_another_process(
    tmp_path: Path,
) -> None:
    begun = run_example("approve_elsewhere", "start", folder=tmp_path)
    assert begun.returncode == 0, begun.stderr
    assert "a person reads refunds above 50" in begun.stdout
    show, approve, resume = (
        shlex.split(line) for line in begun.stdout.splitlines() if is_command(line)
    )

    early = run(resume, tmp_path)
    assert early.returncode == 3, early.stderr
    assert "refunds paid: none" in early.stdout
    assert "still waiting: a person reads refunds above 50" in early.stdout

    shown = run(show, tmp_path, COLUMNS="120")
    assert shown.returncode == 0, shown.stderr
    assert '"amount": 120.0' in shown.stdout
    approved = run(approve, tmp_path, COLUMNS="120")
    assert approved.returncode == 0, approved.stderr
    assert "alice approved it" in approved.stdout

    for _ in range(2):
        done = run(resume, tmp_path)
        assert done.returncode == 0, done.stderr
        assert "refunds paid: 120.00 for order 1042\n" in done.stdout
        assert "agent: About your refund: refunded 120.00 for order 1042" in done.stdout


def is_command(line: str) -> bool:
    """Tell a command to copy from text to read."""
    return line.startswith("  ") and ("toolgate approvals" in line or ".py resume" in line)


def test_wrong_use_says_how_to_use_it(tmp_path: Path) -> None:
    done = run_example("approve_elsewhere", folder=tmp_path)
    assert done.returncode == 1
    assert "usage: approve_elsewhere.py start | resume FOLDER" in done.stderr


def test_every_example_has_a_test() -> None:
    tests = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert {path.stem for path in EXAMPLES.glob("*.py")} <= tests
