"""AutoGen's example, as its user runs it."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from support.example_runs import run_example

pytestmark = pytest.mark.slow


def test_a_teams_call_is_held_approved_and_paid_once(tmp_path: Path) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = run_example("autogen_refund", folder=tmp_path, PATH=path)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "search_orders: order 1042: one lamp, 120.00" in said
    assert "delete_customer: error: delete_customer did not run" in said
    assert "issue_refund has not run, because it waits for a person's approval" in said
    assert "the team stops: Held for a person's approval: issue_refund" in said
    before, after = said.split("alice, in another terminal:")
    assert "refunds paid: none" in before
    assert "alice approved it" in after
    assert "the team is told: issue_refund was approved, and has run" in after
    assert "writer: Dear customer" in after
    assert "refunds paid: 1042\n" in after
