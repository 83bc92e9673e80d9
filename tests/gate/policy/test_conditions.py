"""Conditions: what they can name, what is refused at load, and what counts as an error."""

import math
import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolgate.policy.conditions import ConditionCompiler, ConditionError, EvaluationError
from toolgate.policy.facts import CallFacts

CONSTANTS = {"domain": "@acme.example", "limit": 100, "people": ["ann", "bob"], "strict": False}


@pytest.fixture(scope="session")
def compiler() -> ConditionCompiler:
    return ConditionCompiler(CONSTANTS)


@pytest.fixture(scope="session")
def evaluate(compiler, call):
    """Evaluate a condition against the arguments of one call."""

    def evaluate(source: str, args: dict[str, Any] | None = None, **facts: Any) -> bool:
        condition = compiler.compile(source)
        about: CallFacts = call(args=args, **facts)
        return condition.test(compiler.scope([condition]).bind(about))

    return evaluate


def problems(compiler: ConditionCompiler, source: str) -> tuple[str, ...]:
    with pytest.raises(ConditionError) as caught:
        compiler.compile(source)
    return caught.value.problems


@pytest.mark.parametrize(
    "source",
    [
        "args.to.all(a, a.endsWith(vars.domain))",
        "tool.name == 'shell' && tool.level == 3",
        "tool.labels.exists(l, l == 'egress') && 'money' in tool.labels",
        "tool.reversibility == 'irreversible' && tool.blast_radius == 'external'",
        "agent.id == 'assistant' && agent.framework == ''",
        "session.id == 'monday' && session.age == duration('90s')",
        "session.age > duration('1m') && session.age.getSeconds() == 90",
        "action.id == '0123456789ab' && action.type == 'tool_call' && action.proposal_id == ''",
        "vars.limit == 100 && 'ann' in vars.people && !vars.strict",
        "now == timestamp('2026-01-02T03:04:05Z') && now.getFullYear() == 2026",
        "now - session.age < now",
        "has(args.to) && !has(args.cc)",
        "args.text.split(' ')[0].lowerAscii() == 'rm'",
        "args.text.matches('RM +-[a-z]*r')",
        "args.nested.list[1].x == null",
        "state.tests_passed && state['key with space'] == 'x' && !has(state.absent)",
        "'tests_passed' in state && size(state) == 2 && state.exists(key, state[key] == 'x')",
        # One number type: JSON's.
        "args.n == 1 && args.n == 1.0 && args.n in [1] && type(args.flag) == bool",
        "args.to.exists(tool, tool.endsWith('example'))",
        "args.text.startsWith('RM') ||\n args.text.startsWith('rm') // either\n",
    ],
)
def test_a_condition_can_name_every_variable(evaluate, source):
    args = {
        "to": ["ann@acme.example"],
        "text": "RM -rf",
        "nested": {"list": [0, {"x": None}]},
        "n": 1,
        "flag": True,
    }
    state = {"tests_passed": True, "key with space": "x"}
    assert evaluate(source, args, state=lambda: state) is True


def test_what_an_agent_does_not_have_is_an_empty_string(evaluate):
    assert evaluate("agent.framework == 'langgraph'", framework="langgraph")
    assert not evaluate("agent.framework == 'langgraph'")
    assert evaluate("action.proposal_id == 'p1'", proposal_id="p1")


def test_the_time_is_compared_as_an_instant_in_any_zone(evaluate):
    noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    there = noon.astimezone(timezone(timedelta(hours=9)))
    for now in (noon, there):
        assert evaluate("now == timestamp('2026-01-01T12:00:00Z')", now=now)


def test_a_time_without_its_zone_is_an_error(evaluate):
    with pytest.raises(EvaluationError, match="no time zone"):
        evaluate("now > timestamp('2020-01-01T00:00:00Z')", now=datetime(2026, 1, 1))  # noqa: DTZ001


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("foo == 1", "1:1: unknown name foo"),
        ("true &&\n  foo", "2:3: unknown name foo"),
        ("'é😀' == 'é' && foo", "1:16: unknown name foo"),
        ("tool.lables == []", "1:5: tool has no field lables (it has blast_radius, labels, level,"),
        ("tool == 1", "1:1: name a field of tool (it has"),
        ("agent['id'] == 'x'", "1:1: name a field of agent (it has framework, id)"),
        ("vars.domian == ''", "1:5: policy.vars have no domian (they have domain, limit,"),
        ("vars.size() == 0", "1:1: name one of policy.vars: vars.NAME"),
        ("nofn(args)", "1:5: there is no function nofn"),
        ("args.to.nofn()", "1:13: there is no function nofn"),
        ("3 in session.labels", "1:3: found no matching overload for '@in'"),
        ("session.calls.shell > '3'", "1:21: found no matching overload"),
        ("session.total_call > 3", "1:8: session has no field total_call (it has age, calls, id,"),
        ("history > 3", "1:9: found no matching overload"),
        ("args.x ==", "1:10: Syntax error: mismatched input '<EOF>'"),
        ("", "1:1: Syntax error"),
        ("tool.level == '3'", "1:12: found no matching overload for '_==_'"),
        ("session.age > 60", "1:13: found no matching overload"),
        ("vars.limit == 'x'", "1:12: found no matching overload"),
        ("1 + 1", "1:1: the result is of type INT, not true or false"),
        ("args.to.map(a, a)", "1:1: the result is of type LIST"),
        ("true ? null : null", "1:1: the result is of type NULL"),
        ("args.c.matches('(')", "1:16: invalid regular expression: missing ): ("),
        ("matches(args.c, '[a')", "1:17: invalid regular expression: missing ]: [a"),
        ("true &&\n args.c.matches('(?=x)')", "2:17: invalid regular expression: invalid perl"),
        ("args.l.all(x, [{'k': x.matches('*')}] != [])", "1:32: invalid regular expression"),
        ("args.a.matches(args.b) ? true : 'x'.matches('a**')", "1:45: invalid regular expression"),
        ("has(tool.name)", "1:1: tool.name is always there: leave out has()"),
        ("true || has( (vars) . strict )", "1:9: vars.strict is always there"),
        ("a" * 100_001, "expression size exceeds codepoint limit"),
        ("args" + ".a" * 100 + " == 1", "Exceeded max recursion depth"),
        ("true // \0 && false", "a string may not contain a NUL character"),
        ("true // \ud800", "half of a surrogate pair"),
    ],
)
def test_what_cannot_work_is_an_error_at_load(compiler, source, problem):
    assert any(problem in found for found in problems(compiler, source))


def test_every_compile_error_of_a_condition_is_reported(compiler):
    assert len(problems(compiler, "foo == 1 && bar == 2")) == 2


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("args.c.matches(vars.bad)", "1:16: invalid regular expression: missing ): (x (of vars"),
        ("matches(args.c, '^' + vars.bad + '$')", "1:17: invalid regular expression"),
        ("args.c.matches(vars.all[1])", "missing ]: [y (of vars.all[1])"),
        ("true &&\n args.c.matches(vars.all.map(p, p + ')').join('|'))", "2:17: invalid regular"),
        ("args.c.matches(true ? vars.bad : 'x')", "(of vars.bad)"),
        ("args.l.exists(a, a.matches(vars.bad))", "1:28: invalid regular expression"),
    ],
)  # fmt: skip
def test_a_regex_of_constants_that_does_not_compile_is_an_error_at_load(source, said):
    compiler = ConditionCompiler({"bad": "(x", "all": ["x", "[y"]})
    with pytest.raises(ConditionError) as caught:
        compiler.compile(source)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "source",
    [
        "args.c.matches(vars.good)",
        "args.c.matches(vars.all[7])",
        "args.c.matches(vars.bad + args.x)",
        "vars.all.exists(p, args.c.matches(p))",
        "args.c.matches(vars.nothing)",
        "args.c.matches(vars.all.join('|'))",
    ],
)
def test_a_regex_that_no_load_can_know_or_that_compiles_is_left_to_the_call(source):
    vars_ = {"good": "^x$", "bad": "(x", "all": ["x", "y"], "nothing": None}
    ConditionCompiler(vars_).compile(source)


def test_a_regex_that_is_fine_loads_and_an_empty_one_matches_all(evaluate):
    assert evaluate("args.c.matches('')", {"c": "x"})
    assert evaluate(r"args.c.matches('^\"\n\t\\d+é😀$')", {"c": '"\n\t12é😀'})


@pytest.mark.parametrize(
    ("constants", "problem"),
    [
        ({"a-b": 1}, "a-b: the name of a constant must consist of"),
        ({"a": "x\0y"}, "a: a string with a NUL character"),
        ({"a": {"b": [{"c\0": 1}]}}, "a.b.0: a string with a NUL character"),
        ({"a": math.nan}, "a: a number that is not finite"),
        ({"a": [2**64]}, "a.0: an integer beyond 64 bits"),
    ],
)
def test_a_constant_that_conditions_could_not_read_is_an_error_at_load(constants, problem):
    with pytest.raises(ConditionError) as caught:
        ConditionCompiler(constants)
    assert caught.value.problems[0].startswith(problem)


# What the binding would cut, round or refuse.


def test_the_binding_really_cuts_strings_at_a_nul_so_the_guard_is_needed():
    from cel_expr_python import cel

    env = cel.NewEnv(variables={"s": cel.Type.STRING})
    assert env.compile("size(s)").eval(data={"s": "a\0b"}).value() == 1


@pytest.mark.parametrize(
    ("args", "place"),
    [
        ({"command": "\0rm -rf /"}, "args.command"),
        ({"command": "ls", "env": {"a": ["x", "y\0"]}}, "args.env.a.1"),
        ({"command": "ls", "env": {"a": {"k\0": 1}}}, "args.env.a"),
        ({"command": "ls", "\0": 1}, "args"),
    ],
)
def test_a_nul_anywhere_in_the_arguments_or_the_state_is_an_error(evaluate, args, place):
    with pytest.raises(EvaluationError, match=f"^{place}: a string with a NUL character"):
        evaluate("args.command.startsWith('rm')", args)
    place = place.replace("args", "state")
    with pytest.raises(EvaluationError, match=f"^{place}: a string with a NUL character"):
        evaluate("state.command.startsWith('rm')", state=lambda: args)


@pytest.mark.parametrize(
    ("source", "facts"),
    [
        ("tool.name == 'shell'", {"tool": "shell\0"}),
        ("session.id == 'x'", {"session_id": "x\0y"}),
        ("agent.id == 'x'", {"agent_id": "x\0y"}),
        ("agent.framework == 'x'", {"framework": "x\0y"}),
        ("action.id == 'x'", {"action_id": "x\0y"}),
        ("action.proposal_id == 'x'", {"proposal_id": "x\0y"}),
    ],
)
def test_a_nul_in_any_other_fact_is_an_error(evaluate, source, facts):
    with pytest.raises(EvaluationError, match="NUL"):
        evaluate(source, **facts)


def test_a_nul_does_not_hide_a_command_from_a_deny_rule(policy_of, call):
    policy = policy_of(
        {"id": "any", "tools": ["*"], "effect": "allow"},
        {"id": "rm", "tools": ["*"], "when": "args.command.contains('rm')", "effect": "deny"},
    )
    assert policy.decide(call(args={"command": "ls"})).effect == "allow"
    assert policy.decide(call(args={"command": "rm -rf /"})).effect == "deny"
    hidden = policy.decide(call(args={"command": "ls\0; rm -rf /"}))
    assert hidden.effect == "deny"
    assert hidden.rules == ("rm",)
    assert "NUL" in hidden.errors[0].error


def test_a_nul_does_not_pass_an_allow_rule(policy_of, call):
    policy = policy_of(
        {"id": "ls", "tools": ["*"], "when": "args.command == 'ls'", "effect": "allow"}
    )
    assert policy.decide(call(args={"command": "ls"})).effect == "allow"
    assert policy.decide(call(args={"command": "ls\0; rm -rf /"})).effect == "deny"


def test_the_text_backslash_u0000_is_not_a_nul(evaluate):
    assert evaluate(r"args.c == '\\u0000'", {"c": "\\u0000"})


@pytest.mark.parametrize(
    ("args", "error"),
    [
        ({"a": 2**64}, "an integer beyond 64 bits"),
        ({"a": -(2**63) - 1}, "an integer beyond 64 bits"),
        ({"a": 10**400}, "an integer beyond 64 bits"),
        ({"a": 1, "unread": 2**64}, "an integer beyond 64 bits"),
        ({"a": math.nan}, "args.a: a number that is not finite"),
        ({"a": [math.inf]}, "args.a.0: a number that is not finite"),
        ({"a": "\ud800"}, "nested too deeply or is not JSON"),
        ({"\udfff": 1}, "nested too deeply or is not JSON"),
        ({"a": (1, 2)}, "Non-CEL value type"),
        ({"a": object()}, "nested too deeply or is not JSON"),
        ({"a": list(range(10_001))}, "the condition walks more than 10000 items"),
    ],
)
def test_arguments_or_state_the_binding_cannot_represent_are_an_error(evaluate, args, error):
    with pytest.raises(EvaluationError, match=error):
        evaluate("args.a == 1 || args.a.all(x, x == x)", args)
    with pytest.raises(EvaluationError, match=error.replace("args", "state")):
        evaluate("state.a == 1 || state.a.all(x, x == x)", state=lambda: args)


def test_what_no_condition_names_may_hold_anything(evaluate):
    assert evaluate("args.a == 1", {"a": 1}, state=lambda: {"a": "\0"})
    assert evaluate("state.a == 1", {"a": "\0"}, state=lambda: {"a": 1})


def test_an_error_never_repeats_the_offending_value(evaluate):
    with pytest.raises(EvaluationError) as caught:
        evaluate("args.a == 1", {"a": 4242 * 2**70})
    assert "4242" not in str(caught.value)
    with pytest.raises(EvaluationError) as caught:
        evaluate("args.a.matches(args.a)", {"a": "(4242"})
    assert str(caught.value) == "invalid regular expression"


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63), 2**63, 2**64 - 1])
def test_integers_of_64_bits_are_exact(evaluate, number):
    literal = f"{number}u" if number >= 2**63 else str(number)
    assert evaluate(f"args.a == {literal}", {"a": number})
    assert not evaluate(f"args.a == {literal}", {"a": number - 1 if number > 0 else number + 1})


@pytest.mark.parametrize("depth", [200, 300, 100_000])
def test_deep_arguments_are_evaluated_or_refused_but_never_fatal(evaluate, depth):
    value: Any = True
    for _ in range(depth):
        value = [value]
    if depth <= 200:
        assert evaluate("size(args.a) == 1 && args == args", {"a": value})
    else:
        with pytest.raises(EvaluationError, match="nested too deeply"):
            evaluate("size(args.a) == 1", {"a": value})


def test_large_arguments_are_evaluated_in_linear_time(evaluate):
    assert not evaluate("args.s.matches('(a+)+b')", {"s": "a" * 1_000_000})


def test_walking_a_list_in_a_list_is_bounded(evaluate):
    with pytest.raises(EvaluationError, match="walks more than"):
        evaluate("args.l.all(x, args.l.all(y, x + y >= 0))", {"l": list(range(3000))})


@pytest.mark.parametrize("value", [None, 1, 0, 1.5, "true", "", [], {}, [True]])
def test_a_result_that_is_not_boolean_is_an_error(evaluate, value):
    with pytest.raises(EvaluationError, match="not true or false"):
        evaluate("args.a", {"a": value})


@pytest.mark.parametrize("value", [True, False])
def test_a_boolean_argument_can_be_the_whole_condition(evaluate, value):
    assert evaluate("args.a", {"a": value}) is value


def test_true_is_not_1(evaluate):
    assert not evaluate("args.a == 1", {"a": True})
    assert not evaluate("args.a == true", {"a": 1})


@pytest.mark.parametrize(
    "source",
    [
        "args.x == 1",
        "args.s > 1",
        "args.n / 0 == 1",
        "args.big + 1 > 0",
        "args.s[0] == 'x'",
        "args.l[7] == 1",
        "args.s.matches(args.bad)",
        "timestamp(args.s) < now",
        "int(args.s) == 1",
        "args.n.startsWith('1')",
        "args.n ? true : false",
        "!args.s",
        "args.s || false",
        "args.l.exists_one(x, x.y == 1)",
    ],
)
def test_an_error_value_is_never_read_as_true(evaluate, source):
    args = {"s": "text", "n": 1, "l": [1], "big": 2**63 - 1, "bad": "("}
    with pytest.raises(EvaluationError):
        evaluate(source, args)


def test_reading_null_results_does_not_wear_out_the_interpreter():
    # The binding drops a reference to None whenever a null value is read, which ends a process of
    # Python 3.11 after some thousand times: in a process of its own, it must survive that often.
    program = """
from datetime import datetime, UTC
from toolgate.policy.conditions import ConditionCompiler, EvaluationError
from toolgate.policy import CallFacts, contract_for
compiler = ConditionCompiler({})
condition = compiler.compile("args.a")
scope = compiler.scope([condition])
facts = CallFacts({"a": None}, contract_for("t", None), "i", "tool_call", None, "a", None, "s", 1.0,
                  datetime.now(UTC))
for _ in range(50_000):
    try:
        condition.test(scope.bind(facts))
    except EvaluationError:
        continue
    raise SystemExit("null was read as a boolean")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=50, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=20)
    | st.sampled_from(["rm", "(", "%s", "2026-01-01T00:00:00Z", "a\0b", "true"]),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "c\0"]), inner)
    ),
    max_leaves=12,
)
fuzzed = [
    "args.a",
    "args.a == args.b",
    "args.a != args.b",
    "args.a < args.b || args.a >= args.b",
    "args.a in args.b",
    "args.a.contains(args.b)",
    "args.a.matches(args.b)",
    "args.a.all(x, x == args.b)",
    "args.a.exists(x, x.startsWith('r'))",
    "args.a.filter(x, x > 1).size() > 0",
    "args.a.a == args.b['b']",
    "args.a[args.b]",
    "has(args.a) && has(args.a.b)",
    "size(args.a) > size(args.b)",
    "args.a + args.b == args.b + args.a",
    "args.a.format([args.b]) == ''",
    "args.a.replace(args.b, 'x') == args.b.split(args.a).join(args.a)",
    "timestamp(args.a) < now || duration(args.b) > session.age",
    "int(args.a) == int(uint(args.b)) || double(args.a) == 1.0",
    "string(args.a) == string(args.b)",
    "args.a ? args.b : args.a",
    "!args.a && (args.b || true)",
    "type(args.a) == type(args.b)",
    "args.a.reverse() == args.b.upperAscii() || args.a.charAt(args.b) == 'x'",
    "args.a.substring(args.b) == args.a.trim()",
]


@settings(max_examples=400)
@given(st.sampled_from(fuzzed), json_values, json_values)
def test_any_condition_over_any_arguments_gives_a_boolean_or_an_error(evaluate, source, a, b):
    try:
        result = evaluate(source, {"a": a, "b": b})
    except EvaluationError as error:
        said = str(error)
    else:
        said = "fine"
        assert result is True or result is False
        assert "\\x00" not in repr([a, b])
    assert said.isprintable()


@settings(max_examples=200)
@given(json_values, json_values)
def test_equality_agrees_with_json_equality(evaluate, a, b):
    from toolgate import jsonvalue

    try:
        equal = evaluate("args.a == args.b", {"a": a, "b": b})
    except EvaluationError:
        return
    # The binding compares an integer with a float as floats: beyond 2**53 they may round together.
    if equal != jsonvalue.equal(a, b):
        assert any(abs(number) > 2**53 for number in _numbers(a))


def _numbers(value: Any) -> list[float]:
    if isinstance(value, dict):
        return [number for item in value.values() for number in _numbers(item)]
    if isinstance(value, list):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, int | float) else []
