"""How the page of the comparison is written."""

from __future__ import annotations

import pytest

from comparison.page import cell, in_both_loops, put, summary

TEXT = "before\n<!-- a -->\nold\n<!-- end -->\nbetween\n<!-- b -->\nkept\n<!-- end -->\n"


def case(title: str, **seen: str) -> dict[str, object]:
    return {"title": title, "gate": False, "seen": seen}


def test_a_block_is_put_between_its_own_marks_and_nothing_else_changes() -> None:
    assert put(TEXT, "a", r"new \1") == TEXT.replace("old", r"new \1")
    with pytest.raises(ValueError, match="no marks <!-- c -->"):
        put(TEXT, "c", "new")


def test_a_cell_is_one_piece_of_code_whatever_was_seen() -> None:
    assert cell("a `b` | c\nd") == "`a 'b' / c d`"
    assert cell("same") == "same"


def test_cases_of_both_loops_are_one_row_where_the_same_was_seen() -> None:
    cases = [
        case("x, native", raw="1"),
        case("x, ReAct", raw="1"),
        case("y, native", raw="1"),
        case("y, ReAct", raw="2"),
    ]
    titles = [each["title"] for each in in_both_loops(cases)]
    assert titles == ["x, in both loops", "y, native", "y, ReAct"]


def test_the_summary_counts_what_is_the_same_and_names_what_toolgate_does_otherwise() -> None:
    cases = [
        case("a", raw="1", Lodestar="1", Toolgate="2"),
        case("b", raw="1", Lodestar="2", Toolgate="1"),
        case("c", raw="1", Lodestar="2", Toolgate="2"),
    ]
    counts, ours, theirs = summary(cases, {"crewai": "1.0"}).splitlines()
    assert "Of 3 cases" in counts
    assert "raw tool in 1, Toolgate's adapter in 1" in counts
    assert ours == "- Toolgate's differs in: a; c."
    assert theirs == "- Lodestar's does as the raw tool where Toolgate's does not in: a."
