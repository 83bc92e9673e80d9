"""Published failures of other gates that concern policy; the numbers are those of the design."""

import pytest

from toolgate.config import load_config, parse_config
from toolgate.errors import ConfigError, PolicyError
from toolgate.policy import compile_policy


def test_18_a_hold_never_weakens_a_deny_whatever_stands_first(policy_of, call):
    deny = {"id": "deny", "tools": ["*"], "effect": "deny"}
    hold = {"id": "hold", "tools": ["shell"], "effect": "hold"}
    for rules in ((deny, hold), (hold, deny)):
        verdict = policy_of(*rules).decide(call("shell"))
        assert (verdict.effect, verdict.rules, verdict.requirement) == ("deny", ("deny",), None)


def test_19_without_a_policy_a_call_is_denied_and_told_why(call):
    policy = compile_policy(parse_config({"project": "x"}, "/unused"))
    assert policy.id == "none"
    verdict = policy.decide(call("shell"))
    assert verdict.effect == "deny"
    assert verdict.reason == "no rule allows shell (level 3; allow_up_to is 0)"


@pytest.mark.parametrize("text", ["rules: [", "", "null", "version: 1", "\x00", "a: 1\na: 2"])
def test_19_an_unreadable_policy_starts_nothing(tmp_path, text):
    (tmp_path / "policy.yaml").write_text(text)
    (tmp_path / "gate.yaml").write_text("project: x\npolicy: {file: policy.yaml}")
    config = load_config(tmp_path / "gate.yaml")
    with pytest.raises(PolicyError):
        compile_policy(config)


def test_19_an_unreadable_config_starts_nothing(tmp_path):
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(tmp_path / "gate.yaml")


def test_19_a_missing_argument_denies_and_says_which(policy_of, call):
    policy = policy_of(
        {"id": "all", "tools": ["*"], "effect": "allow"},
        {"id": "amount", "tools": ["pay"], "when": "args.amount > 100", "effect": "deny"},
    )
    verdict = policy.decide(call("pay", {}))
    assert verdict.effect == "deny"
    assert verdict.reason == (
        'rule amount denies pay; rule amount could not be evaluated: Key not found in map: "amount"'
    )


@pytest.mark.parametrize(
    "condition", ["comand == 'rm'", "arg.command == 'rm'", "args.command.contain('rm')", "rm(args)"]
)
def test_20_a_rule_that_names_what_does_not_exist_is_an_error_at_load(policy_of, condition):
    with pytest.raises(PolicyError, match="rule typo: when: 1:"):
        policy_of({"id": "typo", "tools": ["shell"], "when": condition, "effect": "deny"})


@pytest.mark.parametrize(
    "rule",
    [
        {"id": "r", "effect": "deny"},
        {"id": "r", "effect": "deny", "tools": []},
        {"id": "r", "effect": "deny", "tools": [""]},
        {"id": "r", "effect": "deny", "tools": None},
        {"id": "r", "effect": "deny", "types": []},
        {"id": "r", "effect": "deny", "tool": "shell"},
        {"tools": ["shell"], "effect": "deny"},
        {"id": "r", "tools": ["shell"]},
    ],
)
def test_31_a_rule_without_its_target_or_key_is_an_error(policy_of, rule):
    with pytest.raises(PolicyError):
        policy_of(rule)
