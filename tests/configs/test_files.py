"""Every config that is shipped loads without a warning, and its policy tests cover every rule."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from support.deployments import CODING_AGENT, DATA_ANALYST, DEPLOYMENTS, Deployment
from support.example_runs import CONFIGS, run
from support.people import Person
from toolgate.config import load_config
from toolgate.policy import compile_policy
from toolgate.policy.documents import alone
from toolgate.policy.testing import read_cases, run_cases

TOOLGATE = (sys.executable, "-m", "toolgate")
EVERY = sorted([*CONFIGS.glob("*.yaml"), *CONFIGS.glob("*/gate.yaml")])
EACH = pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda item: item.name)


def test_every_folder_of_configs_with_a_gate_is_a_deployment_that_is_tested_here() -> None:
    assert {path.parent for path in CONFIGS.glob("*/gate.yaml")} == {d.folder for d in DEPLOYMENTS}


@pytest.mark.parametrize("config", EVERY, ids=lambda path: path.relative_to(CONFIGS).as_posix())
def test_every_config_passes_check_without_a_warning(
    config: Path, people: dict[str, Person], tmp_path: Path
) -> None:
    keys = {"TOOLGATE_APPROVER_KEY": people["alice"].pinned["public_key"]}
    for deployment in DEPLOYMENTS:
        keys |= deployment.environment(people)
    done = run([*TOOLGATE, "check", str(config), "--json"], tmp_path, **keys)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["warnings"] == []
    assert json.loads(done.stdout)["policy"]["allow_up_to"] <= 1


@EACH
def test_a_deployment_without_its_approvers_keys_does_not_load(
    deployment: Deployment, tmp_path: Path
) -> None:
    done = run([*TOOLGATE, "check", str(deployment.config)], tmp_path)
    assert done.returncode == 2
    for name in deployment.approvers:
        assert f"{name.upper()}_KEY is not set" in done.stderr


@EACH
def test_policy_tests_pass_with_every_rule_covered_and_need_no_keys(
    deployment: Deployment, tmp_path: Path
) -> None:
    command = [*TOOLGATE, "policy", "test", str(deployment.cases), "--full-coverage", "--json"]
    done = run(command, tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout)
    assert told["ok"]
    assert told["failed"] == 0
    attacks = [case for case in told["cases"] if case["name"].startswith("attack: ")]
    assert len(attacks) >= 15
    assert {case["effect"] for case in attacks} == {"deny", "hold"}


@EACH
def test_the_approvers_whom_the_rules_name_are_those_whose_keys_are_asked_for(
    deployment: Deployment,
) -> None:
    assumed = " ".join(alone(deployment.policy).assumed)
    for name in deployment.approvers:
        assert name in assumed


@pytest.mark.slow
@EACH
def test_no_rule_can_be_taken_out_without_a_test_noticing(
    deployment: Deployment, people: dict[str, Person], tmp_path: Path
) -> None:
    """Tests that pass without a rule do not test it."""
    config = load_config(deployment.config, deployment.environment(people))
    text, file = deployment.policy.read_text(), read_cases(deployment.cases)
    results = run_cases(file, config, {})
    unnoticed = []
    for rule in compile_policy(config).rules:
        head = f"  - id: {rule.id}\n"
        assert text.count(head) == 1, rule.id
        # It stays, so that cases may name it, and is about a tool that nobody calls.
        before, after = text.split(head)
        aim, rest = after.split("\n", 1)
        assert aim.startswith(("    tools: ", "    types: "))
        draft = tmp_path / "policy.yaml"
        draft.write_text(f"{before}{head}    tools: [nobody-calls-this]\n{rest}")
        section = config.policy.model_copy(update={"file": draft})
        without = config.model_copy(update={"policy": section})
        concerned = [
            placed
            for placed, result in zip(file.cases, results, strict=True)
            if any(item.matches for item in result.traces if item.rule.id == rule.id)
        ]
        if not any(r.problems for r in run_cases(replace(file, cases=concerned), without, {})):
            unnoticed.append(rule.id)
    assert unnoticed == []


@EACH
def test_no_tool_is_left_to_the_conservative_contract_or_without_a_schema(
    deployment: Deployment, people: dict[str, Person]
) -> None:
    """Of a tool that may be called, everything is said; and no argument comes in unseen."""
    config = load_config(deployment.config, deployment.environment(people))
    assert set(config.capabilities.tools.allow) <= set(config.tools)
    for name in config.capabilities.tools.allow:
        schema = config.tools[name].parameters
        assert schema is not None, name
        assert schema["type"] == "object", name
        assert schema["additionalProperties"] is False, name
    never = set(config.tools) - set(config.capabilities.tools.allow)
    assert all(config.tools[name].level == 5 for name in never)


@pytest.mark.parametrize("deployment", [CODING_AGENT, DATA_ANALYST], ids=lambda item: item.name)
def test_a_nul_that_would_hide_the_rest_of_an_argument_denies(
    deployment: Deployment, people: dict[str, Person], tmp_path: Path
) -> None:
    """A case file is YAML, which has no NUL; the wire's JSON has."""
    calls = {
        "coding-agent": ("shell", {"command": "ls\0rm -rf x"}),
        "data-analyst": ("run_query", {"sql": "SELECT 1\0; DROP TABLE x", "max_rows": 1}),
    }
    tool, args = calls[deployment.name]
    question = ["--tool", tool, "--args", json.dumps(args), "--json"]
    command = [*TOOLGATE, "policy", "explain", "--config", str(deployment.config), *question]
    done = run(command, tmp_path, **deployment.environment(people))
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["effect"] == "deny"
    assert "could not be evaluated" in told["reason"]
