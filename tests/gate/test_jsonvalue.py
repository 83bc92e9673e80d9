"""JSON as the gate understands it."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolgate import jsonvalue
from toolgate.errors import JSONError

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text('abcé\x00"', max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(values)
def test_canonical_bytes_parse_back_to_an_equal_value(value: object) -> None:
    assert jsonvalue.equal(jsonvalue.parse(jsonvalue.canonical(value)), value)


@given(st.dictionaries(st.text(max_size=4), st.integers(), max_size=6))
def test_order_of_keys_changes_neither_the_bytes_nor_the_digest(value: dict[str, int]) -> None:
    turned = dict(reversed(value.items()))
    assert jsonvalue.canonical(turned) == jsonvalue.canonical(value)
    assert jsonvalue.digest(turned) == jsonvalue.digest(value)


@given(values)
def test_canonical_bytes_are_json_for_everybody_else(value: object) -> None:
    assert jsonvalue.equal(json.loads(jsonvalue.canonical(value)), value)


@given(values, values)
def test_equality_is_symmetric(left: object, right: object) -> None:
    assert jsonvalue.equal(left, right) == jsonvalue.equal(right, left)


@pytest.mark.parametrize(
    ("left", "right", "same"),
    [
        (1, 1.0, True),
        (True, 1, False),
        (False, 0, False),
        (None, False, False),
        ([1, 2], [2, 1], False),
        ({"a": 1, "b": [True]}, {"b": [True], "a": 1.0}, True),
        ({"a": 1}, {"a": True}, False),
        ({}, [], False),
        ("1", 1, False),
        (2**60 + 1, float(2**60), False),
    ],
)
def test_values_compare_as_json_does(left: object, right: object, same: bool) -> None:
    assert jsonvalue.equal(left, right) is same


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"1 2",
        b'{"a":1,"a":2}',
        b'{"o":{"a":1,"a":2}}',
        b"NaN",
        b"Infinity",
        b"1e400",
        b"-1e9999",
        b'{"a":[1,1e309]}',
        b'"\xff"',
        b'"\\ud800"',
        b"[" * 300 + b"]" * 300,
        b"9" * 5000,
    ],
)
def test_text_that_is_not_acceptable_json_is_refused(text: bytes) -> None:
    with pytest.raises(JSONError):
        jsonvalue.parse(text)


def test_large_exponents_that_fit_a_double_are_accepted() -> None:
    assert jsonvalue.parse(b'{"e10":[1e300,1e-400,"1e999"]}') == {"e10": [1e300, 0.0, "1e999"]}


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        [-math.inf],
        {"a": [math.nan, 2**70]},
        {1, 2},
        b"x",
        {1: 2},
        {"a": {None: 2**70}},
    ],
)
def test_what_is_not_json_has_no_canonical_bytes(value: object) -> None:
    with pytest.raises(JSONError):
        jsonvalue.canonical(value)


def test_integers_of_any_size_are_exact() -> None:
    number = 10**40 + 1
    assert jsonvalue.parse(jsonvalue.canonical({"n": number})) == {"n": number}
