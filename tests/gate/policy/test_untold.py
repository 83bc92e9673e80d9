"""What can still be told of a call whose redacted arguments are gone."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolgate.config import parse_config
from toolgate.policy import compile_policy
from toolgate.policy.conditions import ConditionCompiler
from toolgate.policy.situation import Setting, Situation
from toolgate.policy.untold import Gone, judge

DIGEST = "redacted:0123456789abcdef0123456789abcdef"
SECRETS = (1, 7, "x", DIGEST, [], {"b": 1}, None, True)


@pytest.mark.parametrize(
    ("source", "pointer", "read"),
    [
        ("args.a == 1", "/a", True),
        ("args.a.b == 1", "/a", True),
        ("args.a.exists(i, i == 1)", "/a/0", True),
        ("args.a[0] == 1", "/a/0", True),
        ("args.a[1] == 1", "/a/0", False),
        ("args['a/b'] == 1", "/a~1b", True),
        ("args[state.key] == 1", "/a", True),
        ("args.exists(k, k == 'a')", "/a", True),
        ("has(args.a)", "/a", True),
        ("args.ab == 1 && state.a == 1", "/a", False),
        ("args.b.a == 1", "/a", False),
    ],
)
def test_a_condition_reads_what_is_gone_where_it_reads_it_encloses_it_or_looks_into_it(
    source, pointer, read
):
    condition = ConditionCompiler({}).compile(source)
    assert Gone((pointer,)).read_by(condition) is read


CONDITIONS = st.sampled_from(
    [
        None,
        "args.a == 1",
        "args.a > 5 && args.n > 3",
        "args.n > 3 || args.a == 'x'",
        "'web' in tool.labels && args.a.b == 1",
        "args.n == 3",
        "args.missing == 1",
        "has(args.a.b)",
        "args.a",
    ]
)
RULES = st.lists(
    st.tuples(
        st.sampled_from(["allow", "hold", "deny"]),
        CONDITIONS,
        CONDITIONS,
        st.sampled_from(["enforce", "enforce", "observe"]),
    ),
    max_size=5,
)


@settings(deadline=None, max_examples=150)
@given(RULES, st.integers(2, 5), st.integers(0, 5), st.sampled_from(["enforce", "observe"]))
def test_what_is_told_is_so_whatever_the_arguments_were_and_else_they_could_matter(
    rules, n, level, mode
):
    written = []
    for number, (effect, when, unless, how) in enumerate(rules):
        rule = {"id": f"r{number}", "effect": effect, "tools": ["a"], "mode": how}
        rule |= {"when": when} if when else {}
        rule |= {"unless": unless} if unless else {}
        written.append(rule)
    config = parse_config(
        {
            "project": "p",
            "mode": mode,
            "tools": {"a": {"level": level}},
            "policy": {"rules": written, "allow_up_to": 1},
            "approvals": {"approvers": [{"id": "alice", "public_key": "key"}]},
        },
        ".",
    )
    policy = compile_policy(config)
    facts = Situation(tool="a", args={"a": DIGEST, "n": n}).facts(Setting.of(config))
    judged = judge(policy, facts, Gone(("/a",)))
    assert set(judged.depends_on) <= set(judged.untold)
    real = [policy.decide(facts._replace(args={"a": a, "n": n})) for a in SECRETS]
    if not judged.depends_on:
        assert {(v.effect, v.rules) for v in real} == {
            (judged.verdict.effect, judged.verdict.rules)
        }
    told = judged.verdict.observed
    if told is not None and not judged.depends_on:
        assert all(v.observed and v.observed.effect == told.effect for v in real)


def test_nothing_is_untold_of_a_call_whose_arguments_are_there():
    config = parse_config(
        {
            "project": "p",
            "policy": {"rules": [{"id": "r", "tools": ["a"], "when": "args.a", "effect": "deny"}]},
        },
        ".",
    )
    policy = compile_policy(config)
    facts = Situation(tool="a", args={"a": True}).facts(Setting.of(config))
    assert judge(policy, facts).verdict == policy.decide(facts)
    assert judge(policy, facts).untold == ()
    assert judge(policy, facts, Gone(("/a",))).depends_on == policy.rules
