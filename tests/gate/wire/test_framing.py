"""Bytes become lines the same way however they are cut, and an oversized line is dropped whole."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from toolgate.wire.framing import HEAD, LineSplitter, Oversized


def test_lines_are_split_at_line_feeds_and_empty_ones_left_out() -> None:
    assert list(LineSplitter(100).feed(b"one\n\n  \ntwo\nthr")) == [b"one", b"two"]


def test_unfinished_line_is_kept_until_it_ends() -> None:
    splitter = LineSplitter(100)
    assert list(splitter.feed(b'{"a"')) == []
    assert list(splitter.feed(b":1}\n")) == [b'{"a":1}']


def test_tail_of_an_oversized_line_is_never_a_message() -> None:
    splitter = LineSplitter(8)
    assert list(splitter.feed(b"x" * 9)) == [Oversized(b"x" * 9)]
    assert list(splitter.feed(b"xxx")) == []
    assert list(splitter.feed(b'{"a":1}\nnext\n')) == [b"next"]


def test_oversized_line_that_comes_in_one_piece_is_reported_once() -> None:
    assert list(LineSplitter(4).feed(b"12345\n1234\n")) == [Oversized(b"12345"), b"1234"]


def test_oversized_line_keeps_only_its_head() -> None:
    (oversized,) = LineSplitter(1000).feed(b"y" * 5000)
    assert oversized == Oversized(b"y" * HEAD)


def test_the_end_of_an_oversized_line_is_told_with_its_beginning_where_that_is_asked_for() -> None:
    splitter = LineSplitter(2000, tails=True)
    line = b"a" * 1500 + b"b" * 1500
    assert list(splitter.feed(line)) == []
    assert list(splitter.feed(b"cd")) == []
    assert list(splitter.feed(b"e\nnext\n")) == [
        Oversized(b"a" * HEAD, b"b" * (HEAD - 3) + b"cde"),
        b"next",
    ]
    assert list(splitter.feed(line + b"\n")) == [Oversized(b"a" * HEAD, b"b" * HEAD)]


@given(
    st.lists(st.binary(max_size=900).map(lambda line: line.replace(b"\n", b"")), max_size=4),
    st.lists(st.integers(0, 3600), max_size=8),
)
def test_how_the_stream_is_cut_changes_nothing_of_the_ends(
    lines: list[bytes], cuts: list[int]
) -> None:
    data = b"".join(line + b"\n" for line in lines)
    splitter = LineSplitter(300, tails=True)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    told = [line for a, b in pairwise(places) for line in splitter.feed(data[a:b])]
    assert told == [
        Oversized(line[:HEAD], line[-HEAD:]) if len(line) > 300 else line
        for line in lines
        if line.strip()
    ]


def sketch(lines: list[bytes | Oversized]) -> list[bytes | None]:
    """Return the lines, without the heads of those that were too long: they depend on the cuts."""
    return [None if isinstance(line, Oversized) else line for line in lines]


@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=8), st.integers(1, 40))
def test_how_the_stream_is_cut_changes_nothing(data: bytes, cuts: list[int], limit: int) -> None:
    whole = sketch(list(LineSplitter(limit).feed(data)))
    splitter = LineSplitter(limit)
    places = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    pieces = [data[a:b] for a, b in pairwise(places)]
    assert sketch([line for piece in pieces for line in splitter.feed(piece)]) == whole
