"""Faults are asked for by the environment alone, told loudly, and cost nothing when nobody asks."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import toolgate
from support.driver import Driver
from support.people import config
from toolgate import faults
from toolgate.embedding import Kernel
from toolgate.faults import POINTS, VARIABLE, FaultError
from toolgate.wire.messages import RPCError

SOURCE = Path(toolgate.__file__).parent


@pytest.fixture
def arm() -> Iterator[Any]:
    """Arm faults in this process, until the test ends."""
    yield lambda text: faults.arm({VARIABLE: text})
    faults.arm({})


def calls(name: str) -> list[tuple[str, ast.Call]]:
    """Return where the program calls a function of :mod:`toolgate.faults`."""
    return [
        (str(path.relative_to(SOURCE)), node)
        for path in SOURCE.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == f"faults.{name}"
    ]


def serve(folder: Path, fault: str) -> subprocess.CompletedProcess[str]:
    """Start a gate with a fault asked for, whose client goes at once."""
    (folder / "gate.json").write_text(json.dumps(config()))
    return subprocess.run(
        [sys.executable, "-m", "toolgate", "serve", "--config", str(folder / "gate.json")],
        env={**os.environ, VARIABLE: fault},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_every_point_of_the_table_is_in_the_program_and_no_other() -> None:
    named = [call.args[0] for _, call in calls("hit")]
    assert all(isinstance(name, ast.Constant) for name in named)
    assert {name.value for name in named if isinstance(name, ast.Constant)} == set(POINTS)


def test_only_the_start_of_the_command_reads_what_is_asked_for() -> None:
    assert [place for place, _ in calls("arm")] == ["cli/__init__.py"]


def test_armed_gate_says_so_on_stderr_and_in_its_greeting(tmp_path: Path) -> None:
    served = serve(tmp_path, "request.read@7:kill")
    ready = json.loads(served.stdout.splitlines()[0])
    told = "a fault is armed (TOOLGATE_FAULT=request.read@7:kill)"
    assert served.returncode == 0
    assert any(told in warning for warning in ready["params"]["warnings"])
    assert f"toolgate: warning: {told}" in served.stderr


def test_gate_without_a_fault_warns_of_none(tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_text(json.dumps(config()))
    served = subprocess.run(
        [sys.executable, "-m", "toolgate", "serve", "--config", str(tmp_path / "gate.json")],
        env={name: value for name, value in os.environ.items() if name != VARIABLE},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert "fault" not in served.stdout + served.stderr


@pytest.mark.parametrize(
    "text",
    [
        "",
        "kill",
        "no.such.point:kill",
        "request.read",
        "request.read:",
        "request.read:explode",
        "request.read:pause",
        "request.read:kill=now",
        "request.read@0:kill",
        "request.read@-1:kill",
        "request.read@:kill=",
        "request.read@two:kill",
        "*:kill",
    ],
)
def test_what_does_not_name_a_point_and_an_action_is_refused(text: str, arm: Any) -> None:
    with pytest.raises(FaultError, match=VARIABLE):
        arm(text)
    assert faults.warnings() == []


def test_command_does_not_start_when_it_cannot_read_what_is_asked_for(tmp_path: Path) -> None:
    served = serve(tmp_path, "no.such.point:kill")
    assert served.returncode == 2
    assert served.stdout == ""
    assert "no point is called 'no.such.point'" in served.stderr
    assert not (tmp_path / ".toolgate").exists()


async def test_gate_inside_another_program_reads_no_variable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(VARIABLE, "*:tell")
    monkeypatch.chdir(tmp_path)
    async with Kernel(config(), lambda run: run.args) as kernel:  # type: ignore[arg-type]
        assert not any("fault" in warning for warning in kernel.warnings)
    assert "fault" not in capsys.readouterr().err


async def test_store_error_fails_the_call_it_meets_and_no_other(tmp_path: Path, arm: Any) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "found")
        arm("arguments.checked:error")
        with pytest.raises(RPCError, match="disk I/O error") as caught:
            await gate.govern("search")
        assert caught.value.code == -32005
        assert gate.ran == []
        assert (await gate.govern("search"))["output"] == "found"


async def test_full_store_stays_full(tmp_path: Path, arm: Any) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "found")
        arm("arguments.checked:full")
        for _ in range(3):
            with pytest.raises(RPCError, match="database or disk is full"):
                await gate.govern("search")
        assert gate.ran == []
        faults.arm({})
        assert (await gate.govern("search"))["output"] == "found"


async def test_locked_store_is_waited_for(tmp_path: Path, arm: Any) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "found")
        arm("arguments.checked:locked")
        assert (await gate.govern("search"))["output"] == "found"


def test_pause_whose_other_end_is_not_there_goes_on(
    tmp_path: Path, arm: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    arm(f"request.read:pause={tmp_path / 'nobody'}")
    faults.hit("request.read")
    assert "the pause at request.read has ended" in capsys.readouterr().err
