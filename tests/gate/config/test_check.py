"""``toolgate check``: what it accepts, what it shows, and what it says is wrong."""

import base64
import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from toolgate.cli.check import check

KEYS = [base64.b64encode(bytes([n]) * 32).decode() for n in (1, 2)]
CONFIG = f"""
project: acme
tools:
  search_web: {{level: 1, labels: ["[red]x"]}}
  send_email: {{timeout: 30s, parameters: {{type: object}}}}
  wire_money: {{level: 4}}
  shell: {{level: 5}}
  poll: {{level: 1, rate_limit: {{max_calls: 10, interval_secs: 60}}, cache_ttl: 5m, retries: 2}}
  fetch: {{level: 1, cache_ttl: 0s}}
  hidden_tool: {{level: 0}}
capabilities: {{tools: {{deny: ["hidden_*"]}}}}
policy: {{file: policy.yaml, allow_up_to: 1}}
approvals:
  approvers:
    - {{id: alice, public_key: "{KEYS[0]}"}}
"""
POLICY = """
version: 1
id: acme-agents
rules:
  - {id: mail, tools: [send_email], when: size(args.to) > 1, effect: hold}
  - {id: later, tools: ["later_*"], effect: allow}
"""


@pytest.fixture
def run(tmp_path: Path):
    """Run the command on a config and policy, given their texts."""
    app = typer.Typer()
    app.command()(check)

    def run(config: str, policy: str = POLICY, *options: str):
        (tmp_path / "policy.yaml").write_text(policy)
        (tmp_path / "gate.yaml").write_text(config)
        return CliRunner().invoke(app, [str(tmp_path / "gate.yaml"), *options])

    return run


def test_json_tells_the_effective_contract_and_verdict_of_every_tool(run, tmp_path):
    result = run(CONFIG, POLICY, "--json")
    assert result.exit_code == 0
    report = json.loads(result.stdout)
    assert report["file"] == str(tmp_path / "gate.yaml")
    assert report["policy"]["id"] == "acme-agents"
    assert report["policy"]["digest"].startswith("sha256:")
    assert report["approvers"] == ["alice"]
    assert {name: tool["verdict"]["effect"] for name, tool in report["tools"].items()} == {
        "search_web": "allow",
        "send_email": "depends",
        "wire_money": "hold",
        "shell": "deny",
        "poll": "allow",
        "fetch": "allow",
        "hidden_tool": "deny",
    }
    email = report["tools"]["send_email"]
    assert (email["level"], email["timeout_ms"], email["reversibility"]) == (
        3,
        30000,
        "irreversible",
    )
    assert "mail" in email["verdict"]["reason"]
    assert "capabilities.tools.deny" in report["tools"]["hidden_tool"]["verdict"]["reason"]
    poll = report["tools"]["poll"]
    assert poll["rate_limit"] == {"max_calls": 10, "interval_secs": 60.0}
    assert (poll["cache_ttl_secs"], poll["retries"]) == (300.0, 2)
    assert not email.keys() & {"rate_limit", "cache_ttl_secs", "retries"}
    assert {
        kind: (action["level"], action["verdict"]["effect"])
        for kind, action in report["state_actions"].items()
    } == {"state_write": (2, "deny"), "state_read": (0, "allow"), "assertion": (0, "allow")}
    assert report["warnings"] == ["line 6: rule later: later_* matches no configured tool"]


def test_people_see_the_same_and_markup_in_a_config_is_only_text(run):
    result = run(CONFIG)
    assert result.exit_code == 0
    for shown in ("acme-agents", "alice", "wire_money", "[red]x", "warning: line 6", "sha256:"):
        assert shown in result.stdout
    assert "state_write (level 2): deny: " in result.stdout


def test_people_see_limits_in_words(run, monkeypatch):
    monkeypatch.setattr("toolgate.cli.check.console.width", 200)
    shown = run(CONFIG).stdout
    assert "120 s, at most 2 retries, 10 calls in 60 s, results kept 300 s" in shown
    assert "120 s, results not kept" in shown


def test_rules_about_state_actions_are_shown_too(run):
    rules = (
        POLICY
        + """\
  - {id: plain, types: [state_read], effect: deny}
  - {id: keys, types: [state_write], when: args.key != 'approved', effect: allow}
"""
    )
    shown = json.loads(run(CONFIG, rules, "--json").stdout)["state_actions"]
    assert shown["state_read"]["verdict"]["effect"] == "deny"
    verdict = shown["state_write"]["verdict"]
    assert (verdict["effect"], verdict["depends_on"]) == ("depends", ["args.key"])
    assert verdict["reason"].startswith("allow where keys matches; else deny: no rule allows")


def test_a_config_without_tools_says_what_they_get(run):
    result = run("project: x")
    assert result.exit_code == 0
    assert "conservative contract" in result.stdout


def test_everything_wrong_with_config_and_policy_is_told_at_once(run):
    config = CONFIG.replace("type: object", "type: objec").replace(KEYS[0], "AAAA")
    result = run(config, POLICY.replace("args.to", "arg.to"))
    assert result.exit_code == 2
    assert result.stdout == ""
    said = "".join(result.stderr.split("\n"))
    assert "line 5: tools.send_email.parameters: " in said
    assert "line 15: approvals.approvers[0].public_key: " in said
    assert "line 5: rule mail: when: 1:9: unknown name arg " in said


def test_two_approvers_with_one_key_in_two_forms_are_told(run):
    pem = (
        "-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEA"
        + base64.b64encode(bytes([1]) * 32).decode()
        + "\\n-----END PUBLIC KEY-----"
    )
    other = f'    - {{id: bob, public_key: "{pem}"}}\n'
    result = run(CONFIG + other)
    assert result.exit_code == 2
    assert "alice and bob have the same key" in result.stderr


def test_a_schema_that_refers_outside_itself_is_told(run):
    config = CONFIG.replace("type: object", '$ref: "http://example.com/schema.json"')
    result = run(config)
    assert result.exit_code == 2
    assert "tools.send_email.parameters" in result.stderr


def test_a_broken_config_is_told(run):
    result = run("project: [", POLICY, "--json")
    assert result.exit_code == 2
    assert "line 2, column 1: " in result.stderr
