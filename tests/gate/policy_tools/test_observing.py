"""What the author's tools say of rules that only observe, and of a gate that does."""

from __future__ import annotations

from typing import Any

import pytest

from toolgate.policy.loading import OBSERVE_WARNING

DOCUMENT: dict[str, Any] = {
    "version": 1,
    "id": "mails",
    "rules": [
        {"id": "mail", "tools": ["send_email"], "effect": "allow"},
        {
            "id": "outside",
            "tools": ["send_email"],
            "when": "args.to != 'bob'",
            "effect": "hold",
            "reason": "a person reads it first",
            "mode": "observe",
        },
    ],
}
CONFIG: dict[str, Any] = {
    "project": "acme",
    "tools": {"send_email": {}, "vault": {"level": 4}},
    "policy": {"file": "policy.yaml"},
    "approvals": {"approvers": [{"id": "alice", "public_key": "A" * 43 + "="}]},
}


@pytest.fixture
def observing(author):
    """An author whose rule `outside` only observes."""
    author.write("policy.yaml", DOCUMENT)
    author.write("gate.yaml", CONFIG)
    return author


def explain(author, to: str, *options: str) -> Any:
    args = f'{{"to": "{to}"}}'
    call = ("--tool", "send_email", "--args", args)
    return author("policy", "explain", "--config", "gate.yaml", *call, *options)


def test_an_explanation_says_what_a_rule_that_observes_would_do(observing):
    told = explain(observing, "eve")
    assert told.code == 0, told.err
    assert (
        """
why
  mail (allow)
      without a condition, so it applies, and decides
  outside (hold): a person reads it first
      when args.to != 'bob'
          args.to = "eve"
      is true, so the rule applies, but only observes
"""
        in told.out
    )
    assert told.out.startswith(
        """\
ALLOWED: send_email is allowed by the rule mail.
OBSERVED ONLY, enforced it would be HELD: send_email waits for at most 15m, until alice has """
        "approved (rule outside).\n"
    )
    told = explain(observing, "eve", "--json").json
    assert (told["effect"], told["observed"]["effect"]) == ("allow", "hold")
    assert told["observed"]["rules"] == ["outside"]
    assert {item["rule"]: item["observes"] for item in told["trace"]} == {
        "mail": False,
        "outside": True,
    }


def test_an_explanation_says_nothing_of_what_would_change_nothing(observing):
    told = explain(observing, "bob")
    assert "OBSERVED" not in told.out
    assert explain(observing, "bob", "--json").json["observed"] is None


def test_an_explanation_in_a_gate_that_observes_is_of_that_gate(observing):
    observing.write("gate.yaml", {**CONFIG, "mode": "observe"})
    told = observing("policy", "explain", "--config", "gate.yaml", "--tool", "shell")
    assert "ALLOWED: the gate is in mode observe" in told.out
    assert "OBSERVED ONLY, enforced it would be DENIED: no rule allows shell" in told.out
    assert "level 3: allowed without a rule, because the gate is in mode observe" in told.out


def cases(*cases: dict[str, Any]) -> dict[str, Any]:
    return {"version": 1, "config": "gate.yaml", "cases": list(cases)}


def case(to: str, **expect: Any) -> dict[str, Any]:
    return {"name": to, "tool": "send_email", "args": {"to": to}, "expect": expect}


def test_a_case_may_expect_what_is_observed(observing):
    eve = case("eve", effect="allow", observed="hold", observed_rules=["outside"])
    bob = case("bob", effect="allow", observed="allow", rules=["mail"])
    observing.write("cases.yaml", cases(eve, bob))
    told = observing("policy", "test", "cases.yaml", "--full-coverage")
    assert told.code == 0, told.out
    assert "outside (observes)" in told.out
    results = observing("policy", "test", "cases.yaml", "--json").json["cases"]
    assert [result["observed"] for result in results] == ["hold", None]


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        ({"effect": "hold"}, "expected hold, got allow by mail"),
        ({"effect": "allow", "observed": "deny"}, "expected deny to be observed, got hold: a per"),
        ({"effect": "allow", "observed_rules": ["mail"]}, "expected mail to be observed, got out"),
    ],
)
def test_a_case_fails_when_something_else_is_observed(observing, expect, said):
    observing.write("cases.yaml", cases(case("eve", **expect)))
    told = observing("policy", "test", "cases.yaml")
    assert told.code == 1
    assert said in told.out


def test_a_rule_that_observes_and_errs_fails_a_case_that_does_not_expect_it(observing):
    wrong = {"name": "w", "tool": "send_email", "expect": {"effect": "allow"}}
    observing.write("cases.yaml", cases(wrong))
    told = observing("policy", "test", "cases.yaml")
    assert told.code == 1
    assert "rule outside could not be evaluated" in told.out
    wrong["expect"]["errors"] = ["outside"]
    observing.write("cases.yaml", cases(wrong))
    assert observing("policy", "test", "cases.yaml").code == 0


def test_a_document_is_tested_as_it_is_enforced_whatever_the_gates_mode(observing):
    shell = {"name": "s", "tool": "shell", "expect": "deny"}
    observing.write("cases.yaml", cases(shell))
    observing.write("gate.yaml", {**CONFIG, "mode": "observe"})
    assert observing("policy", "test", "cases.yaml").code == 0


def test_a_check_of_a_document_alone_names_the_rules_that_observe(observing):
    told = observing("policy", "check", "policy.yaml")
    assert told.code == 0
    assert "observed: rule outside decides nothing" in told.out
    assert observing("policy", "check", "policy.yaml", "--json").json["observed"] == ["outside"]


def test_a_check_with_a_config_warns_of_them_and_of_the_gates_mode(observing):
    observing.write("gate.yaml", {**CONFIG, "mode": "observe"})
    told = observing("policy", "check", "--config", "gate.yaml")
    assert f"warning: {OBSERVE_WARNING}" in told.out
    assert "warning: rule outside only observes: it would hold, and decides nothing" in told.out


def test_a_check_of_a_config_begins_with_its_observe_mode(observing):
    assert "OBSERVE MODE" not in observing("check", "gate.yaml").out
    observing.write("gate.yaml", {**CONFIG, "mode": "observe"})
    told = observing("check", "gate.yaml")
    assert told.code == 0
    assert told.out.startswith(OBSERVE_WARNING)
    report = observing("check", "gate.yaml", "--json").json
    assert report["mode"] == "observe"
    assert report["tools"]["vault"]["verdict"]["effect"] == "hold"
    assert report["state_actions"]["state_write"]["verdict"]["observed"]["effect"] == "deny"
    assert OBSERVE_WARNING in report["warnings"]


def test_rules_that_observe_do_so_in_the_schema_for_editors_too(observing):
    import jsonschema_rs

    schema = jsonschema_rs.validator_for(observing("schema", "policy").json)
    assert schema.is_valid(DOCUMENT)
    wrong = {**DOCUMENT, "rules": [{**DOCUMENT["rules"][0], "mode": "off"}]}
    assert not schema.is_valid(wrong)
