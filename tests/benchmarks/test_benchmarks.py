"""The benchmarks still work. How fast anything is, is none of a test's business."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "benchmarks" / "run.py"
PATIENCE = 50.0
FIGURES = {
    "floors", "allowed", "async", "power", "denied", "held", "journal", "million", "rules",
    "throughput", "waiting", "chain", "fan", "verify", "start", "memory", "import",
}  # fmt: skip


def run(
    folder: Path, *arguments: str, interpret: tuple[str, ...] = ()
) -> subprocess.CompletedProcess[str]:
    """Run the program with temporary files in ``folder``."""
    return subprocess.run(
        [sys.executable, *interpret, str(PROGRAM), *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        env={**os.environ, "TMPDIR": str(folder)},
    )


@pytest.mark.slow
def test_every_figure_is_measured_in_its_states_and_nothing_is_left_behind(tmp_path: Path) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    written = tmp_path / "results.json"

    done = run(temporary, "--smoke", "--json", str(written))

    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "allowed call / durable floor" in done.stdout
    document = json.loads(written.read_text())
    results = document["results"]
    assert {result["figure"] for result in results} == FIGURES
    for figure in FIGURES:
        states = {result["state"] for result in results if result["figure"] == figure}
        assert states == ({"idle"} if figure in ("memory", "million") else {"idle", "busy"})
    for result in results:
        assert math.isfinite(result["subject"])
        if result["unit"] == "µs":
            assert result["subject"] > 0
        assert (result["target"] is None) == (result["ok"] is None)
    assert document["machine"]["packages"]["toolgate"]
    assert list(temporary.iterdir()) == []


def test_one_figure_can_be_asked_for(tmp_path: Path) -> None:
    written = tmp_path / "results.json"

    done = run(tmp_path, "--smoke", "--only", "floors", "--json", str(written))

    assert done.returncode == 0, done.stderr
    assert {result["figure"] for result in json.loads(written.read_text())["results"]} == {"floors"}


@pytest.mark.parametrize(
    "arguments",
    [("--only", "speed"), ("--fast",), ("--quick", "--smoke"), ("--json", "nowhere/results.json")],
)
def test_wrong_use_ends_with_2_and_says_why(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(tmp_path, *arguments)

    assert done.returncode == 2
    assert "error:" in done.stderr


def test_breakage_ends_with_1_and_leaves_nothing_behind(tmp_path: Path) -> None:
    done = run(tmp_path, "--smoke", "--only", "allowed", interpret=("-c", _WITHOUT_GATE))

    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
    assert list(tmp_path.iterdir()) == []


_WITHOUT_GATE = """
import runpy, sys
sys.argv = sys.argv[1:]
import toolgate_client
toolgate_client.GateClient.start = lambda self: 1 / 0
sys.path.insert(0, sys.argv[0].rpartition("/")[0])
runpy.run_path(sys.argv[0], run_name="__main__")
"""
