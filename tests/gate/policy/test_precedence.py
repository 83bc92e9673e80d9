"""Precedence, when several things are judged together and when many rules are asked together."""

from dataclasses import replace
from itertools import permutations
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolgate.policy import ApprovalRequirement, ApproverGroup, Policy, RuleError, Verdict
from toolgate.policy import verdict as verdicts
from toolgate.policy.verdict import combined

STRICTNESS = {"allow": 0, "hold": 1, "deny": 2}
EFFECTS = st.sampled_from(["allow", "hold", "deny"])

# --- several things judged together

GROUPS = st.builds(
    ApproverGroup,
    st.sampled_from([None, "a", "b", "c"]),
    st.just(("alice", "bob")),
    st.just(1),
)
REQUIREMENTS = st.builds(
    ApprovalRequirement,
    st.lists(GROUPS, min_size=1, max_size=3, unique=True).map(tuple),
    st.sampled_from([None, 60.0, 900.0]),
)


@st.composite
def made_verdicts(draw: st.DrawFn, effects: st.SearchStrategy[str] = EFFECTS) -> Verdict:
    effect: Any = draw(effects)
    ids = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=2, unique=True).map(tuple)
    return Verdict(
        effect,
        draw(ids),
        draw(st.sampled_from(["because", "for another reason"])),
        draw(REQUIREMENTS) if effect == "hold" else None,
        tuple(RuleError(rule, "erred") for rule in draw(ids)),
        "policy",
        "sha256:0",
    )


HELD = st.sampled_from(["hold", "hold", "hold", "allow", "deny"])
NAMES = st.sampled_from(["writes x", "writes y", "writes z"])
OTHERS = st.dictionaries(NAMES, made_verdicts())


def decided(verdict: Verdict) -> tuple[Any, ...]:
    """What a verdict decides, without the order of what it tells."""
    return (
        verdict.effect,
        frozenset(verdict.rules),
        verdict.requirement,
        frozenset(verdict.errors),
        frozenset(verdict.reason.split("; ")),
    )


@given(made_verdicts(), OTHERS)
def test_the_strictest_of_what_is_judged_together_wins(verdict, others):
    strictest = max((verdict, *others.values()), key=lambda item: STRICTNESS[item.effect])
    assert combined(verdict, others).effect == strictest.effect


@given(made_verdicts(), OTHERS)
def test_the_order_of_what_is_judged_together_decides_nothing(verdict, others):
    found = {decided(combined(verdict, dict(order))) for order in permutations(others.items())}
    assert len(found) == 1


@given(made_verdicts(), OTHERS, made_verdicts())
def test_one_more_thing_to_judge_never_allows_more(verdict, others, added):
    before = combined(verdict, others)
    after = combined(verdict, {**others, "writes more": added})
    assert STRICTNESS[after.effect] >= STRICTNESS[before.effect]
    if before.effect == after.effect == "hold":
        assert set(after.requirement.groups) >= set(before.requirement.groups)
        assert _limit(after) <= _limit(before)


@given(made_verdicts(HELD), st.dictionaries(NAMES, made_verdicts(HELD)))
def test_every_holds_requirement_must_be_met_and_a_deny_asks_nobody(verdict, others):
    found = combined(verdict, others)
    holds = [item for item in (verdict, *others.values()) if item.effect == "hold"]
    if found.effect != "hold":
        assert found.requirement is None
        return
    groups = {group for item in holds for group in item.requirement.groups}
    assert set(found.requirement.groups) == groups
    assert len(found.requirement.groups) == len(groups)
    assert _limit(found) == min(map(_limit, holds))


@given(made_verdicts(), OTHERS)
def test_what_decided_is_told_and_no_error_is_lost(verdict, others):
    found = combined(verdict, others)
    judged = (verdict, *others.values())
    assert set(found.errors) == {error for item in judged for error in item.errors}
    if found.effect == "allow":
        assert (found.rules, found.reason) == (verdict.rules, verdict.reason)
        return
    winning = [item for item in judged if item.effect == found.effect]
    assert set(found.rules) == {rule for item in winning for rule in item.rules}
    for phrase, item in others.items():
        assert (f"{phrase}: {item.reason}" in found.reason) == (item.effect == found.effect)


@given(made_verdicts())
def test_a_verdict_judged_with_nothing_else_is_itself(verdict):
    found = combined(verdict, {})
    assert decided(found) == decided(replace(verdict, requirement=found.requirement))
    if verdict.requirement is not None:
        assert set(found.requirement.groups) == set(verdict.requirement.groups)
        assert found.requirement.expires == verdict.requirement.expires


def _limit(verdict: Verdict) -> float:
    expires = verdict.requirement.expires
    return float("inf") if expires is None else expires


@pytest.mark.parametrize("level", [4, 5])
def test_18_nothing_judged_with_a_floor_weakens_it(policy_of, call, level):
    policy = policy_of(
        {"id": "all", "types": ["tool_call", "state_write"], "effect": "allow"},
        {"id": "ask", "types": ["state_write"], "when": "args.key == 'x'", "effect": "hold"},
    )
    floor = policy.decide(call(level=level))
    for key in ("x", "y"):
        write = policy.decide(call(args={"key": key}, level=2, action_type="state_write"))
        found = combined(floor, {f"writes {key}": write})
        assert found.effect == {4: "hold", 5: "deny"}[level]
        if level == 4:
            assert set(floor.requirement.groups) <= set(found.requirement.groups)


# --- many rules asked together

CONDITIONS = [
    "true",
    "false",
    "args.n > 1",
    "args.missing == 1",
    "args.n",
    "!args.n",
    "args.n == 1 || args.missing",
    "args.missing && false",
    "tool.level >= 3 // so much",
    "args.l.all(x, x >= 0)",
    "args.l.all(x, args.l.exists(y, x == y))",
    "state.n == args.n",
    "args.s.matches(args.s)",
    "args.missing ? true : true",
    "has(args.n) ? args.n : false",
    "dyn(1) == 1 ? dyn(null) : true",
    "(" * 30 + "args.n" + ")" * 30,
    "args.n" + " == args.n" * 3,
]
ARGUMENTS = st.sampled_from(
    [
        {},
        {"n": 1},
        {"n": 2, "l": [1, 2], "s": "a"},
        {"n": True, "l": [], "s": "("},
        {"n": False, "l": [1], "s": "a"},
        {"n": None},
        {"n": "x", "l": list(range(200))},
        {"n": 2, "l": list(range(9000))},
        {"n": "\0"},
        {"n": 2**70},
        {"n": float("nan")},
    ]
)


@st.composite
def documents(draw: st.DrawFn) -> list[dict[str, Any]]:
    # All of them, or few that are likely to answer.
    conditions = st.sampled_from(draw(st.sampled_from([CONDITIONS, CONDITIONS[:3]])))
    rule = st.fixed_dictionaries(
        {"effect": EFFECTS, "tools": st.sampled_from([["*"], ["shell"], ["mail"]])},
        optional={"when": conditions, "unless": conditions},
    )
    found = draw(st.lists(rule, max_size=draw(st.sampled_from([3, 10, 90]))))
    return [{**rule, "id": f"r{index}"} for index, rule in enumerate(found)]


def singly(policy: Policy, facts: Any) -> Verdict:
    """Decide with every rule asked by itself."""
    with patch.object(verdicts, "MAX_COMBINED", 0):
        return policy.decide(facts)


@settings(max_examples=150)
@given(documents(), ARGUMENTS, st.integers(0, 5))
def test_rules_asked_together_give_the_verdict_they_give_singly(
    policy_of, call, document, args, level
):
    facts = call(args=args, level=level, state=lambda: {"n": 2})
    assert policy_of(*document).decide(facts) == singly(policy_of(*document), facts)


@settings(max_examples=100)
@given(documents(), ARGUMENTS, st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_order_of_many_rules_decides_nothing(policy_of, call, document, args, level, random):
    shuffled = list(document)
    random.shuffle(shuffled)
    facts = call(args=args, level=level, state=lambda: {"n": 2})
    one, other = policy_of(*document).decide(facts), policy_of(*shuffled).decide(facts)
    assert decided(replace(one, reason="")) == decided(replace(other, reason=""))


def rules_of(count: int, condition: str, **more: Any) -> list[dict[str, Any]]:
    return [
        {"id": f"r{n}", "tools": ["*"], "when": condition.format(n), "effect": "deny", **more}
        for n in range(count)
    ]


def test_the_rules_about_a_tool_are_asked_in_one_expression(policy_of, call):
    policy = policy_of(
        *rules_of(20, "args.n == {}"), {"id": "a", "tools": ["*"], "effect": "allow"}
    )
    assert policy.decide(call(args={"n": 7})).rules == ("r7",)
    assert policy.decide(call(args={"n": 70})).rules == ("a",)
    reach = policy._reach("tool_call", call().contract)
    assert [len(batches) for _, batches in reach.batches] == [1, 0, 1]
    with patch.object(verdicts.CompiledRule, "matches", side_effect=AssertionError):
        assert policy.decide(call(args={"n": 19}, tool="shell")).rules == ("r19",)


@pytest.mark.parametrize("count", [2, 31, 32, 33, 64, 65, 200])
def test_every_one_of_many_rules_is_found_by_its_place(policy_of, call, count):
    policy = policy_of(*rules_of(count, "args.n == {0} || args.m == {0}"))
    for n in (0, 1, count // 2, count - 1):
        expected = tuple(dict.fromkeys((f"r{n}", f"r{count - 1}")))
        verdict = policy.decide(call(args={"n": n, "m": count - 1}))
        assert (verdict.rules, verdict.errors) == (expected, ())


def test_a_rule_that_errs_beside_others_that_match_is_reported_with_them(policy_of, call):
    policy = policy_of(
        {"id": "yes", "tools": ["*"], "when": "args.n == 1", "effect": "deny"},
        {"id": "errs", "tools": ["*"], "when": "args.missing == 1", "effect": "deny"},
        {"id": "no", "tools": ["*"], "when": "args.n == 2", "effect": "deny"},
    )
    verdict = policy.decide(call(args={"n": 1}))
    assert verdict.rules == ("yes", "errs")
    assert verdict.errors == (RuleError("errs", 'Key not found in map: "missing"'),)


def test_rules_that_together_walk_more_than_the_budget_are_asked_singly(policy_of, call):
    policy = policy_of(*rules_of(20, "args.l.exists(x, x == {})"))
    verdict = policy.decide(call(args={"l": [*range(100, 5000), 3]}))
    assert (verdict.rules, verdict.errors) == (("r3",), ())


def test_conditions_too_deep_to_be_asked_together_are_asked_all_the_same(policy_of, call):
    deep = "(" * 31 + "args.n == {}" + ")" * 31
    policy = policy_of(*rules_of(5, deep))
    assert policy.decide(call(args={"n": 3})).rules == ("r3",)
    assert policy.decide(call(args={"n": 5})).rules == ()


@pytest.mark.parametrize(
    "condition", ["args.n == 1 // 1)", "args.n == 1 //\n//", "args.s == ')//'"]
)
def test_a_comment_or_a_bracket_in_a_string_hides_no_other_rule(policy_of, call, condition):
    policy = policy_of(
        {"id": "first", "tools": ["*"], "when": condition, "effect": "deny"},
        {"id": "second", "tools": ["*"], "unless": condition, "effect": "deny"},
        {"id": "third", "tools": ["*"], "when": "args.m == 1", "effect": "deny"},
    )
    # Each has its brackets closed, or they would not be one expression.
    reach = policy._reach("tool_call", call().contract)
    assert [len(batches) for _, batches in reach.batches] == [1, 0, 0]
    assert policy.decide(call(args={"n": 0, "s": "", "m": 1})).rules == ("second", "third")
    assert policy.decide(call(args={"n": 1, "s": ")//", "m": 0})).rules == ("first",)


def test_a_call_no_condition_can_read_is_read_once_and_held_against_it_by_every_rule(
    policy_of, call
):
    policy = policy_of(*rules_of(40, "args.n == {} && state.n == 1"))
    asked = []

    def state() -> dict[str, Any]:
        asked.append(1)
        return {"n": "a\0b"}

    verdict = policy.decide(call(args={"n": 1}, state=state))
    assert len(verdict.rules) == len(verdict.errors) == 40
    assert {error.error for error in verdict.errors} == {
        "state.n: a string with a NUL character or half of a surrogate pair"
    }
    assert len(asked) == 1


def test_a_thousand_rules_about_every_tool_still_decide(policy_of, call):
    policy = policy_of(*rules_of(1000, "args.n == {}"))
    assert policy.decide(call(args={"n": 999})).rules == ("r999",)
    many = [f"tool {n}" for n in range(50)]
    assert {policy.decide(call(tool, {"n": 1})).rules for tool in many} == {("r1",)}
    # The same rules are put together once, whatever the tools are called.
    assert len(policy._compiler._combined) <= 64
