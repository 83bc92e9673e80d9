"""Random conditions over hostile arguments: CEL's binding must survive them and never say yes.

A binding in C++ fails by taking its process with it, so ``cel_fuzz.py`` runs in one of its own.
``TOOLGATE_FUZZ_SECONDS`` makes it longer, ``TOOLGATE_FUZZ_SEED`` different.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

FUZZ = Path(__file__).with_name("cel_fuzz.py")
SECONDS = float(os.environ.get("TOOLGATE_FUZZ_SECONDS", "12"))
SEED = os.environ.get("TOOLGATE_FUZZ_SEED", "0")
GRACE = 45.0
"""Seconds beyond its time after which a run hangs."""


def fuzzed(command: list[str], case: Path, seconds: float) -> dict[str, Any]:
    """Run a fuzzer; fails with the case it died, hung or complained of."""
    try:
        done = subprocess.run(command, timeout=seconds, capture_output=True, text=True, check=False)
    except subprocess.TimeoutExpired:
        pytest.fail(f"hangs, {case.read_text(errors='replace')}")
    if done.returncode:
        end = f"signal {-done.returncode}" if done.returncode < 0 else f"exit {done.returncode}"
        pytest.fail(f"{end}, {case.read_text(errors='replace')}\n{done.stderr[-4000:]}")
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.timeout(SECONDS + GRACE + 30)
def test_no_condition_and_no_argument_brings_the_binding_down_or_is_read_as_true(tmp_path):
    case = tmp_path / "case"
    command = [sys.executable, str(FUZZ), "--seconds", str(SECONDS), "--seed", SEED]
    counts = fuzzed([*command, "--case", str(case)], case, SECONDS + GRACE)
    print(json.dumps(counts))
    # A run that tried next to nothing would pass, too.
    for what in ("true", "false", "errors", "refused", "refused calls", "meanings", "verdicts"):
        assert counts[what] >= 10, what
    assert {"verdicts: deny", "verdicts: hold", "verdicts: allow"} <= counts.keys()


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import os; os.abort()", "signal 6, evaluating args.a"),
        ("raise SystemExit('wrong')", "exit 1, evaluating args.a\nwrong"),
        ("while True: pass", "hangs, evaluating args.a"),
    ],
)
def test_a_fuzz_run_that_dies_hangs_or_complains_is_told_with_its_case(tmp_path, program, said):
    case = tmp_path / "case"
    case.write_text("evaluating args.a")
    with pytest.raises(pytest.fail.Exception) as caught:
        fuzzed([sys.executable, "-c", program], case, 2.0)
    assert str(caught.value).strip() == said
