"""The release plan as its user runs it: aborted and undone when the smoke test fails, then done."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from support.example_runs import CONFIGS, EXAMPLES, run, run_example


def test_the_release_plan_is_undone_when_it_fails_and_done_when_it_does_not(
    tmp_path: Path,
) -> None:
    done = run_example("deploy", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    story = iter(lines)
    for part in (
        "verified 8 actions, nothing has run",
        "info deploy: policy would hold it for a person's approval: a person approves what goes",
        "suspended release-2.4.0",
        "succeeded migrate",
        "held deploy a person approves what goes live",
        "proposed smoke",
        "alice approved it",
        "aborted release-2.4.0: action 'smoke' failed: GET /checkout answers 500",
        "rolled back migrate",
        "rolled back deploy",
        "failed smoke GET /checkout answers 500",
        "skipped back ran only as the compensation of deploy",
        "state as it was: live, schema, tests_passed",
        "compensated: deploy (succeeded)",
        "compensated: migrate (succeeded)",
        "cannot be undone: tell (announce)",
        "suspended release-2.4.1",
        "alice approved it",
        "completed release-2.4.1",
        "succeeded smoke all pages answer",
        "skipped back nothing had to be compensated",
        "roll_back",
        "chain verified",
    ):
        assert any(part in line for line in story), f"{part!r}, in this order"
    assert sum("cannot be undone" in line for line in lines) == 1
    assert done.stderr == ""


def test_the_release_plan_leaves_nothing_behind(tmp_path: Path) -> None:
    configs_before = sorted(CONFIGS.rglob("*"))
    assert run_example("deploy", folder=tmp_path).returncode == 0
    assert list(tmp_path.iterdir()) == []
    assert sorted(CONFIGS.rglob("*")) == configs_before


def test_the_release_plan_needs_no_unicode_terminal(tmp_path: Path) -> None:
    done = run_example("deploy", folder=tmp_path, PYTHONIOENCODING="ascii")
    assert done.returncode == 0, done.stderr
    assert "chain verified" in done.stdout


@pytest.mark.parametrize(
    ("said", "instead"),
    [("tools: [deploy]", "tools: [ship]"), (", roll_back]", "]")],
    ids=["the deployment is not held", "nothing may be rolled back"],
)
def test_the_release_plan_fails_when_policy_does_not_do_what_it_promises(
    tmp_path: Path, said: str, instead: str
) -> None:
    """The example's own checks bite: it ends with an error, and says which promise is broken."""
    copy = tmp_path / "copy"
    for name in ("examples/deploy.py", "configs/deploy.yaml", "configs/policies/deploy.yaml"):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text((EXAMPLES.parent / name).read_text())
    policy = copy / "configs" / "policies" / "deploy.yaml"
    assert policy.read_text().count(said) == 1
    policy.write_text(policy.read_text().replace(said, instead))
    done = run([sys.executable, str(copy / "examples" / "deploy.py")], tmp_path)
    assert done.returncode != 0
    assert "not as promised" in done.stderr


def test_the_release_plans_config_is_valid_and_needs_its_key(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "toolgate", "check", str(CONFIGS / "deploy.yaml")]
    without = run(command, tmp_path)
    assert without.returncode == 2
    assert "TOOLGATE_APPROVER_KEY" in without.stderr
    made = run([sys.executable, "-m", "toolgate", "keys", "new", "alice", "--json"], tmp_path)
    key = json.loads(made.stdout)["public_key"]
    checked = run(command, tmp_path, TOOLGATE_APPROVER_KEY=key)
    assert checked.returncode == 0, checked.stderr
    assert "migrate_database" in checked.stdout
