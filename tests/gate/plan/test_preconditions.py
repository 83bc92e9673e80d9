"""What preconditions hold of which state."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolgate.ir import Precondition
from toolgate.jsonvalue import equal
from toolgate.plan.preconditions import OPERATORS, failures, holds

KINDS: dict[str, Any] = {
    "null": None,
    "false": False,
    "true": True,
    "zero": 0,
    "one": 1,
    "one point zero": 1.0,
    "empty text": "",
    "text 1": "1",
    "empty array": [],
    "array": [1],
    "empty object": {},
    "object": {"a": 1},
}
"""One value of every JSON type, and those that languages other than JSON take for equal."""

EQUAL = {("one", "one point zero"), ("one point zero", "one")}
PAIRS = [(left, right) for left in KINDS for right in KINDS]
HUGE = 10**400


def number(name: str) -> bool:
    return name in ("zero", "one", "one point zero")


def found(operator: str, actual: Any, expected: Any) -> bool:
    return holds(operator, True, actual, expected)


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_eq_is_equality_of_json_and_neq_its_opposite(left: str, right: str) -> None:
    same = left == right or (left, right) in EQUAL
    assert found("eq", KINDS[left], KINDS[right]) is same
    assert found("neq", KINDS[left], KINDS[right]) is not same


@pytest.mark.parametrize(("left", "right"), PAIRS)
@pytest.mark.parametrize("operator", ["gt", "lt", "gte", "lte"])
def test_order_is_of_two_numbers_only(operator: str, left: str, right: str) -> None:
    expected = False
    if number(left) and number(right):
        low, high = left == "zero", right == "zero"
        expected = {
            "gt": high and not low,
            "lt": low and not high,
            "gte": high or not low,
            "lte": low or not high,
        }[operator]
    assert found(operator, KINDS[left], KINDS[right]) is expected


@pytest.mark.parametrize(("left", "right"), PAIRS)
def test_contains_looks_into_text_arrays_and_the_keys_of_objects(left: str, right: str) -> None:
    expected = (left, right) in {
        ("empty text", "empty text"),
        ("text 1", "empty text"),
        ("text 1", "text 1"),
        ("array", "one"),
        ("array", "one point zero"),
    }
    assert found("contains", KINDS[left], KINDS[right]) is expected


@pytest.mark.parametrize(
    ("actual", "expected", "contained"),
    [
        ("a long text", "long", True),
        ("a long text", "Long", False),
        ("12", 1, False),
        (["a", ["b"]], "b", False),
        (["a", ["b"]], ["b"], True),
        ([True], 1, False),
        ([{"a": 1}], {"a": 1.0}, True),
        ({"a": 1}, "a", True),
        ({"a": 1}, 1, False),
        ({"a": 1}, {"a": 1}, False),
        (121, 2, False),
        (None, None, False),
    ],
)
def test_contains_in_nested_and_mixed_values(actual: Any, expected: Any, contained: bool) -> None:
    assert found("contains", actual, expected) is contained


@pytest.mark.parametrize(
    ("actual", "expected", "same"),
    [
        (2**53, 2**53 + 1, False),
        (float(2**53), 2**53 + 1, False),
        (float(2**53), 2**53, True),
        (HUGE, HUGE, True),
        (HUGE, HUGE + 1, False),
        (0, -0.0, True),
        ({"a": [1, {"b": True}]}, {"a": [1.0, {"b": True}]}, True),
        ({"a": [1, {"b": True}]}, {"a": [1, {"b": 1}]}, False),
        ({"a": None}, {}, False),
        ([1, 2], [2, 1], False),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, True),
    ],
)
def test_eq_of_large_numbers_and_nested_values(actual: Any, expected: Any, same: bool) -> None:
    assert found("eq", actual, expected) is same


def test_order_of_integers_beyond_a_double_is_exact() -> None:
    assert found("gt", 2**53 + 1, float(2**53))
    assert found("lt", 1e308, HUGE)
    assert not found("gt", 2**53, 2**53)


@pytest.mark.parametrize("operator", [*sorted(OPERATORS), "matches", ""])
def test_nothing_holds_on_a_missing_key_but_not_exists(operator: str) -> None:
    assert holds(operator, False, None, None) is (operator == "not_exists")


@pytest.mark.parametrize("value", KINDS.values())
def test_key_exists_whatever_its_value(value: Any) -> None:
    assert found("exists", value, "anything")
    assert not found("not_exists", value, "anything")


@pytest.mark.parametrize("operator", ["EQ", "==", "matches", "in", ""])
def test_unknown_operator_never_holds_and_is_told_with_those_there_are(operator: str) -> None:
    assert not found(operator, 1, 1)
    (told,) = failures([Precondition(key="k", operator=operator, value=1)], {"k": 1})
    assert repr(operator) in told
    assert "not_exists" in told


def test_operator_is_eq_and_value_null_unless_said() -> None:
    assert not failures([Precondition(key="k")], {"k": None})
    assert failures([Precondition(key="k")], {"k": 0})
    assert failures([Precondition(key="k")], {})


def test_every_failure_is_told_with_key_value_and_description() -> None:
    state = {"balance": 5, "user": {"name": "ann"}}
    told = failures(
        [
            Precondition(key="balance", operator="gte", value=100, description="enough money"),
            Precondition(key="user", operator="contains", value="name"),
            Precondition(key="approved", value=True),
        ],
        state,
    )
    assert told == [
        "state key 'balance': gte 100 does not hold: it is 5 (enough money)",
        "state key 'approved': eq true does not hold: there is no such key",
    ]


def test_long_values_are_cut_in_what_is_told() -> None:
    (told,) = failures([Precondition(key="k", value="no")], {"k": "x" * 10_000})
    assert len(told) < 400


scalars = st.none() | st.booleans() | st.integers(-2, 2) | st.sampled_from([0.0, 1.0, 0.5, 2.0**53])
values = st.recursive(
    scalars | st.sampled_from(["", "1", "a"]) | st.sampled_from([2**53, 2**53 + 1]),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("ab"), inner),
    max_leaves=4,
)


@given(values, values, values)
def test_equality_of_json_is_an_equivalence(a: Any, b: Any, c: Any) -> None:
    assert equal(a, a)
    assert equal(a, b) is equal(b, a)
    if equal(a, b) and equal(b, c):
        assert equal(a, c)


@given(values, values)
def test_no_two_of_lt_eq_gt_hold_and_gte_lte_agree_with_them(a: Any, b: Any) -> None:
    less, same, more = (found(operator, a, b) for operator in ("lt", "eq", "gt"))
    assert less + same + more <= 1
    if found("gte", a, b) or found("lte", a, b):
        assert found("gte", a, b) is (more or same)
        assert found("lte", a, b) is (less or same)


@given(values, values, st.sampled_from(sorted(OPERATORS)))
def test_failures_and_holds_agree(actual: Any, expected: Any, operator: str) -> None:
    precondition = Precondition(key="k", operator=operator, value=expected)
    for state in ({"k": actual}, {}):
        holding = holds(operator, "k" in state, state.get("k"), expected)
        assert bool(failures([precondition], state)) is not holding
