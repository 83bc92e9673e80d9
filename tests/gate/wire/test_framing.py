"""Bytes become lines the same way however they are cut, and an oversized line is dropped whole."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from toolgate.wire.framing import OVERSIZED, LineSplitter


def test_lines_are_split_at_line_feeds_and_empty_ones_left_out() -> None:
    assert list(LineSplitter(100).feed(b"one\n\n  \ntwo\nthr")) == [b"one", b"two"]


def test_unfinished_line_is_kept_until_it_ends() -> None:
    splitter = LineSplitter(100)
    assert list(splitter.feed(b'{"a"')) == []
    assert list(splitter.feed(b":1}\n")) == [b'{"a":1}']


def test_tail_of_an_oversized_line_is_never_a_message() -> None:
    splitter = LineSplitter(8)
    assert list(splitter.feed(b"x" * 9)) == [OVERSIZED]
    assert list(splitter.feed(b"xxx")) == []
    assert list(splitter.feed(b'{"a":1}\nnext\n')) == [b"next"]


def test_oversized_line_that_comes_in_one_piece_is_reported_once() -> None:
    assert list(LineSplitter(4).feed(b"12345\n1234\n")) == [OVERSIZED, b"1234"]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8), st.integers(1, 40))
def test_how_the_stream_is_cut_changes_nothing(data: bytes, cuts: list[int], limit: int) -> None:
    whole = list(LineSplitter(limit).feed(data))
    splitter = LineSplitter(limit)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(places)]
    assert [line for piece in pieces for line in splitter.feed(piece)] == whole
