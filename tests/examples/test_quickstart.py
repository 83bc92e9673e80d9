"""`make quickstart` shows a call allowed, one denied, one held, approved and resumed."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.example_runs import CONFIGS, EXAMPLES, run, run_example


def test_the_quickstart_shows_what_it_promises(tmp_path: Path) -> None:
    began = time.monotonic()
    done = run_example("quickstart", folder=tmp_path)
    took = time.monotonic() - began
    assert done.returncode == 0, done.stderr
    story = " ".join(done.stdout.split())
    for part in (
        "allowed order 1042: one lamp",
        "denied delete_customer did not run, because policy denies it: customer records are never",
        "held issue_refund: a person reads refunds above 50",
        "$ toolgate approvals show",
        "alice (1 must approve)",
        "$ toolgate approvals approve",
        "alice approved it",
        "allowed refunded 120.00 for order 1042",
        "agent I have refunded 120.00 for order 1042. I kept the customer's record: customer",
        "resumed again: the recorded outcome",
        "hold.opened",
        "approval.recorded",
        "chain verified",
    ):
        assert part in story, part
    assert story.index("held issue_refund") < story.index("alice approved it")
    assert story.index("alice approved it") < story.index("allowed refunded")
    assert story.count("allowed refunded") == 1
    assert "Traceback" not in done.stderr
    assert took < 10


def test_the_quickstart_leaves_nothing_behind(tmp_path: Path) -> None:
    configs_before = sorted(CONFIGS.rglob("*"))
    assert run_example("quickstart", folder=tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == []
    assert sorted(CONFIGS.rglob("*")) == configs_before


def test_the_quickstart_needs_no_unicode_terminal_and_colours_none_without_one(
    tmp_path: Path,
) -> None:
    done = run_example("quickstart", folder=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "chain verified" in done.stdout
    assert "\x1b[" not in done.stdout


def test_the_quickstart_has_colour_on_a_terminal(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {
        **os.environ,
        "TMPDIR": str(tmp_path),
        "TERM": "xterm-256color",
        "COLUMNS": "100",
    }
    environment.pop("NO_COLOR", None)
    with subprocess.Popen(
        [sys.executable, str(EXAMPLES / "quickstart.py")],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    ) as program:
        os.close(theirs)
        shown = read_all(ours)
        assert program.wait(timeout=30) == 0
    assert b"\x1b[" in shown
    assert b"chain verified" in shown


def read_all(terminal: int) -> bytes:
    """Read what a program shows until it ends."""
    shown = b""
    try:
        while data := os.read(terminal, 65536):
            shown += data
    except OSError:  # how Linux tells that the other side is closed
        pass
    finally:
        os.close(terminal)
    return shown


@pytest.mark.parametrize("broken", ["large-refunds", "keep-customers"])
def test_the_quickstart_fails_when_policy_does_not_do_what_it_promises(
    tmp_path: Path, broken: str
) -> None:
    """The example's own checks bite: it ends with an error, and says which promise is broken."""
    copy = tmp_path / "copy"
    policies = copy / "configs" / "policies"
    policies.mkdir(parents=True)
    (copy / "examples").mkdir()
    (copy / "examples" / "quickstart.py").write_text((EXAMPLES / "quickstart.py").read_text())
    (copy / "configs" / "quickstart.yaml").write_text((CONFIGS / "quickstart.yaml").read_text())
    policy = (CONFIGS / "policies" / "quickstart.yaml").read_text()
    rules = [rule for rule in policy.split("\n\n") if f"id: {broken}" not in rule]
    weaker = "\n\n".join(rules) + '\n\n  - {id: all, tools: ["*"], effect: allow}\n'
    (policies / "quickstart.yaml").write_text(weaker)
    done = run([sys.executable, str(copy / "examples" / "quickstart.py")], tmp_path)
    assert done.returncode != 0
    assert "not as promised" in done.stderr


def test_the_quickstarts_config_is_valid_and_needs_its_key(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "toolgate", "check", str(CONFIGS / "quickstart.yaml")]
    without = run(command, tmp_path)
    assert without.returncode == 2
    assert "TOOLGATE_APPROVER_KEY" in without.stderr
    made = run([sys.executable, "-m", "toolgate", "keys", "new", "alice", "--json"], tmp_path)
    key = json.loads(made.stdout)["public_key"]
    checked = run(command, tmp_path, TOOLGATE_APPROVER_KEY=key)
    assert checked.returncode == 0, checked.stderr
    assert "issue_refund" in checked.stdout
