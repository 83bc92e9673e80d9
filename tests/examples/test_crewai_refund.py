"""CrewAI's example, as its user runs it, in an environment that has CrewAI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from support.crewai_world import NEEDS_CREWAI, PYTHON, environment
from support.example_runs import EXAMPLES

pytestmark = [pytest.mark.slow, NEEDS_CREWAI]


def test_a_crews_call_is_held_approved_and_paid_once(tmp_path: Path) -> None:
    toolgate = Path(sys.executable).parent
    done = subprocess.run(
        [str(PYTHON), str(EXAMPLES / "crewai_refund.py")],
        env={**environment(tmp_path), "PATH": f"{toolgate}{os.pathsep}{os.environ['PATH']}"},
        cwd=tmp_path,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "order 1042: one lamp, 120.00" in said
    assert "delete_customer did not run" in said
    assert "issue_refund has not run, because it waits for a person's approval" in said
    before, after = said.split("alice, in another terminal:")
    assert "refunds paid: none" in before
    assert "alice approved it" in after
    assert "resumed: refunded 120.00 for order 1042" in after
    assert "refunds paid: 1042\n" in after
