"""The page of faults names every point and every action as the program's tables do."""

from __future__ import annotations

from support.doc_pages import ROOT, code, table
from toolgate.faults import ACTIONS, PAUSE_PATIENCE, POINTS, VARIABLE

PAGE = ROOT / "docs" / "reference" / "faults.md"


def test_points_are_those_of_the_program_in_its_order() -> None:
    rows = table(PAGE, "Points")
    said = {code(row["point"]): row["what is true there"] for row in rows}
    assert list(said.items()) == list(POINTS.items())


def test_actions_are_those_of_the_program_in_its_order() -> None:
    rows = table(PAGE, "Actions")
    said = {code(row["action"]): row["what happens at the point"] for row in rows}
    assert list(said.items()) == list(ACTIONS.items())


def test_page_names_the_variable_and_the_patience_of_a_pause() -> None:
    text = PAGE.read_text()
    assert f"`{VARIABLE}` is `POINT[@N]:ACTION`" in text
    assert f"at most {PAUSE_PATIENCE:.0f} seconds" in text
