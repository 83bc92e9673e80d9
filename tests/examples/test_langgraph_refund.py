"""LangGraph's example, as its user runs it."""

from __future__ import annotations

from pathlib import Path

from support.example_runs import run_example


def test_an_agents_call_is_held_approved_and_paid_once(tmp_path: Path) -> None:
    done = run_example("langgraph_refund", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    before, after = done.stdout.split("alice, in another terminal:")
    assert "order 1042: one lamp, 120.00" in before
    assert "delete_customer did not run, because policy denies it" in before
    assert "paused: a person reads refunds" in before
    assert "still paused: True\nrefunds paid: none" in before
    assert "alice approved it" in after
    assert "refunded 120.00 for order 1042" in after
    assert "the agent answers: The money is on its way" in after
    assert "refunds paid: 1042\n" in after
