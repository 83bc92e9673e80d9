"""The default projection of results: any value becomes JSON that a gate can read."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import json
import math
import pathlib
import types
import uuid
from collections import OrderedDict, UserDict, namedtuple
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolgate_client import default_encoder
from toolgate_client._encode import to_wire


@dataclasses.dataclass
class Receipt:
    number: int
    lines: list[Any]
    note: str = dataclasses.field(init=False)


class Colour(enum.Enum):
    RED = "red"


class Rank(enum.IntEnum):
    HIGH = 3


class Model:
    """As pydantic's look from outside."""

    def model_dump(self, *, mode: str) -> dict[str, Any]:
        assert mode == "json"
        return {"x": math.nan}


class OtherModel:
    def model_dump(self) -> None:
        raise AssertionError("not the method it looks like")

    def __str__(self) -> str:
        return "other"


class Unprintable:
    def __str__(self) -> str:
        raise OSError


class Array:
    def tolist(self) -> list[Any]:
        return [1.5, math.inf]


Point = namedtuple("Point", "x y")


@pytest.mark.parametrize(
    ("value", "projection"),
    [
        (None, None),
        (True, True),
        (7, 7),
        (2**100, 2**100),
        (1.5, 1.5),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        ("é", "é"),
        ("\ud83d\ude00 \ud800", "😀 \ufffd"),
        ([1, (2, [3])], [1, [2, [3]]]),
        ({"a": {"b": None}}, {"a": {"b": None}}),
        ({1: "a", None: "b", 2.5: "c"}, {"1": "a", "None": "b", "2.5": "c"}),
        (OrderedDict(a=1), {"a": 1}),
        (UserDict(a=math.nan), {"a": "NaN"}),
        (types.MappingProxyType({"a": 1}), {"a": 1}),
        ({"b", "a", "c"}, ["a", "b", "c"]),
        (frozenset({3, 1}), [1, 3]),
        (Point(1, [2]), [1, [2]]),
        (Receipt(1, [Colour.RED]), {"number": 1, "lines": ["red"]}),
        (Receipt, repr(Receipt)),
        (Colour.RED, "red"),
        (Rank.HIGH, 3),
        (Model(), {"x": "NaN"}),
        (OtherModel(), "other"),
        (b"\x00\xff", "AP8="),
        (bytearray(b"a"), "YQ=="),
        (memoryview(b"a"), "YQ=="),
        (datetime.date(2030, 1, 2), "2030-01-02"),
        (
            datetime.datetime(2030, 1, 2, 3, 4, tzinfo=datetime.timezone.utc),
            "2030-01-02T03:04:00+00:00",
        ),
        (datetime.timedelta(seconds=90), "0:01:30"),
        (pathlib.PurePosixPath("/tmp/x"), "/tmp/x"),
        (decimal.Decimal("1.10"), "1.10"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (ValueError("no"), "no"),
        (Array(), [1.5, "Infinity"]),
        (Unprintable(), f"<{__name__}.Unprintable>"),
    ],
)
def test_a_value_has_the_documented_projection(value: Any, projection: Any) -> None:
    encoded = default_encoder(value)
    assert encoded == projection
    assert type(encoded) is type(projection)
    assert json.loads(to_wire(encoded, "it")) == projection


def test_a_huge_integer_becomes_text() -> None:
    assert default_encoder(16**5000) == hex(16**5000)


def test_a_value_inside_itself_ends() -> None:
    loop: dict[str, Any] = {"again": []}
    loop["again"].append(loop)
    assert default_encoder(loop) == {"again": ["<circular>"]}


def test_the_same_value_twice_is_not_circular() -> None:
    shared = [1]
    assert default_encoder([shared, shared]) == [[1], [1]]


def test_deep_nesting_ends_at_a_depth_a_gate_reads() -> None:
    value: Any = 1
    for _ in range(10_000):
        value = [value]
    encoded = to_wire({"output": default_encoder(value)}, "it")
    assert b"<nested too deeply>" in encoded


def test_an_object_that_unfolds_for_ever_ends() -> None:
    class Endless:
        def tolist(self) -> list[Endless]:
            return [Endless()]

    assert b"<nested too deeply>" in to_wire(default_encoder(Endless()), "it")


_anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters())
    | st.binary()
    | st.datetimes()
    | st.decimals()
    | st.uuids(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text() | st.integers() | st.none(), inner)
        | st.frozensets(st.integers() | st.text() | st.floats())
    ),
    max_leaves=20,
)


@given(_anything)
def test_every_projection_can_be_sent(value: Any) -> None:
    text = to_wire({"output": default_encoder(value)}, "it")
    json.loads(text, parse_constant=pytest.fail)


_plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(_plain)
def test_what_is_json_already_is_its_own_projection(value: Any) -> None:
    assert default_encoder(value) == value
    assert json.loads(to_wire(value, "it")) == value
