"""What is known of a tool's calls before there is one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolgate.config import parse_config
from toolgate.ir import ActionType
from toolgate.policy import compile_policy, contract_for
from toolgate.policy.outlook import outlook
from toolgate.policy.situation import Setting, Situation

MAIL = {
    "mail": {"level": 3, "labels": ["egress"]},
    "note": {"level": 2},
    "wipe": {"level": 5},
    "deploy": {"level": 4},
}
ALL = {"id": "all", "tools": ["*"], "effect": "allow"}
EGRESS = {
    "id": "egress",
    "tools": ["*"],
    "when": '"untrusted" in session.labels && "egress" in tool.labels',
    "effect": "hold",
}


def config_of(*rules, **policy):
    people = [{"id": "alice", "public_key": "key"}]
    section = {"rules": list(rules), "vars": {"strict": True}, **policy}
    return parse_config(
        {"project": "p", "tools": MAIL, "policy": section, "approvals": {"approvers": people}}, "."
    )


def told(*rules, tool="mail", mode="enforce", **policy):
    made = config_of(*rules, **policy).model_copy(update={"mode": mode})
    contract = contract_for(tool, made.tools.get(tool))
    return outlook(compile_policy(made), ActionType.TOOL_CALL, contract)


def outcomes(*rules, **settings):
    return [(item.effect, item.rules) for item in told(*rules, **settings).outcomes]


def test_a_rule_that_asks_for_another_label_never_holds_a_tool_without_it():
    assert outcomes(ALL, EGRESS, tool="note") == [("allow", ("all",))]
    found = told(ALL, EGRESS)
    assert [item.effect for item in found.outcomes] == ["hold", "allow"]
    assert found.depends_on == ("session.labels",)
    assert found.settled is None


@pytest.mark.parametrize(
    ("condition", "effects"),
    [
        ('"egress" in tool.labels', ["deny"]),
        ("tool.level >= 3 && vars.strict", ["deny"]),
        ('tool.name == "note" && args.x', ["allow"]),
        ('action.type == "tool_call" || args.x == 1', ["deny"]),
        ('agent.id == "a"', ["deny", "allow"]),
        ("args.x == 1 || true", ["deny"]),
        # It errs in every call, so it denies every call.
        ('tool.labels[7] == "x"', ["deny"]),
    ],
)
def test_what_a_contract_and_constants_settle_is_settled(condition, effects):
    found = told(ALL, {"id": "never", "tools": ["*"], "when": condition, "effect": "deny"})
    assert [item.effect for item in found.outcomes] == effects


def test_an_exception_that_holds_for_the_tool_takes_an_allow_rule_away():
    rule = {**ALL, "unless": '"egress" in tool.labels'}
    assert outcomes(rule) == [("deny", ())]
    assert outcomes(rule, tool="note") == [("allow", ("all",))]


def test_a_deny_whose_condition_may_err_is_not_taken_away_by_its_exception():
    rule = {**ALL, "id": "no", "effect": "deny", "when": "args.x == 1"}
    found = told(ALL, {**rule, "unless": '"egress" in tool.labels'})
    assert [item.effect for item in found.outcomes] == ["deny", "allow"]


def test_levels_that_no_rule_lifts_are_known_whatever_the_rules_say():
    maybe = {**ALL, "id": "maybe", "when": "args.x", "effect": "deny"}
    assert outcomes(ALL, maybe, tool="wipe") == [("deny", ())]
    assert outcomes(ALL, tool="deploy") == [("hold", ())]
    assert outcomes(ALL, maybe, tool="deploy") == [("deny", ("maybe",)), ("hold", ())]


def test_a_rule_that_would_deny_what_is_denied_anyway_changes_nothing():
    assert outcomes({**ALL, "when": "args.x", "effect": "deny"}) == [("deny", ())]


def test_what_is_only_observed_is_told_beside_what_is_decided():
    found = told(ALL, {**EGRESS, "mode": "observe"})
    assert [item.effect for item in found.outcomes] == ["allow"]
    assert [item.effect for item in found.observed.outcomes] == ["hold", "allow"]
    assert told(ALL, EGRESS).observed is None
    found = told(tool="mail", mode="observe")
    assert (found.settled.effect, found.observed.settled.effect) == ("allow", "deny")


CONDITIONS = st.sampled_from(
    [
        None,
        "args.n > 3",
        "args.missing == 1",
        "tool.level >= 3",
        '"egress" in tool.labels && args.n > 3',
        '"egress" in tool.labels || args.missing',
        "vars.strict",
        "tool.labels[0] == 'egress'",
        "args.n",
    ]
)
RULES = st.lists(
    st.tuples(
        st.sampled_from(["allow", "hold", "deny"]),
        CONDITIONS,
        CONDITIONS,
        st.sampled_from(["enforce", "observe"]),
    ),
    max_size=5,
)


@settings(deadline=None, max_examples=120)
@given(RULES, st.integers(0, 6), st.sampled_from([*MAIL, "other"]), st.integers(0, 3))
def test_no_call_gets_what_the_outlook_of_its_tool_does_not_have(rules, n, tool, most):
    written = []
    for number, (effect, when, unless, mode) in enumerate(rules):
        rule = {"id": f"r{number}", "effect": effect, "tools": ["*"], "mode": mode}
        rule |= {"when": when} if when else {}
        rule |= {"unless": unless} if unless else {}
        written.append(rule)
    made = config_of(*written, allow_up_to=most)
    policy = compile_policy(made)
    verdict = policy.decide(Situation(tool=tool, args={"n": n}).facts(Setting.of(made)))
    contract = contract_for(tool, made.tools.get(tool))
    found = outlook(policy, ActionType.TOOL_CALL, contract)
    assert verdict.effect in {item.effect for item in found.outcomes}
    would_be = found.observed or found
    effect = (verdict.observed or verdict).effect
    assert effect in {item.effect for item in would_be.outcomes}
