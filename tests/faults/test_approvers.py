"""The approver's command, killed while it writes: an answer is there whole, or not at all."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from support.driver import Driver
from support.people import ALICE, config
from toolgate.desk import Desk
from toolgate.faults import VARIABLE


def answer(folder: Path, uid: str, fault: str | None, verdict: str = "approve") -> str | int:
    """Run the approver's command with a fault; return its exit code, or what it complains of."""
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if fault is not None:
        environment[VARIABLE] = fault
    (folder / "gate.yaml").write_text(yaml.safe_dump(config()))
    arguments = ["approvals", verdict, uid, "--config", str(folder / "gate.yaml"), "--as", "alice"]
    done = subprocess.run(
        [sys.executable, "-m", "toolgate", *arguments, "--key", str(ALICE.key_file(folder))],
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    return done.returncode if done.returncode in (0, -signal.SIGKILL) else done.stderr


def said(gate: Driver, uid: str) -> list[str]:
    """Return who has approved so far, as the next to answer sees it."""
    desk = Desk(gate.config)
    try:
        return list(desk.find(uid).tally.approved_by)
    finally:
        desk.close()


async def test_approver_killed_before_writing_has_said_nothing_and_can_say_it_again(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        uid = (await gate.govern("pay"))["uid"]
        killed = answer(tmp_path, uid, "approval.signed:kill")
        assert killed == -signal.SIGKILL
        assert said(gate, uid) == []
        assert (await gate.request("resume", uid=uid, wait_ms=0))["status"] == "held"
        assert answer(tmp_path, uid, None) == 0
        assert (await gate.request("resume", uid=uid))["output"] == "paid"
    assert len(gate.ran) == 1


async def test_approver_killed_after_writing_has_said_it_and_cannot_say_it_twice(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        uid = (await gate.govern("pay"))["uid"]
        killed = answer(tmp_path, uid, "approval.written:kill")
        assert killed == -signal.SIGKILL
        assert said(gate, uid) == ["alice"]
        assert "nobody is asked any more" in str(answer(tmp_path, uid, None))
        assert (await gate.request("resume", uid=uid))["output"] == "paid"
        assert (await gate.request("resume", uid=uid))["replayed"] is True
    assert len(gate.ran) == 1


@pytest.mark.parametrize("verdict", ["approve", "deny"])
async def test_answer_that_cannot_be_written_is_told_to_the_approver_and_counts_for_nothing(
    tmp_path: Path, verdict: str
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        uid = (await gate.govern("pay"))["uid"]
        told = answer(tmp_path, uid, "approval.signed:full", verdict)
        assert "database or disk is full" in str(told)
        assert "Traceback" not in str(told)
        assert (await gate.request("resume", uid=uid, wait_ms=0))["status"] == "held"
    assert gate.ran == []
