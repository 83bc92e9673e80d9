"""The page of the comparison: its tables as they are measured, between marks in its text."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from comparison.cases import ALLOWED, GOVERNED
from comparison.hooks import LODESTAR, RAW, TOOLGATE
from comparison.running import Ran
from support.doc_pages import ROOT

PAGE = ROOT / "docs" / "comparison.md"
SAME = "same"
LANGCHAIN = "LangChain's middleware"
NAMES = {"langgraph": "LangGraph", "crewai": "CrewAI", "autogen": "AutoGen"}


def blocks(which: str, ran: Ran) -> dict[str, str]:
    """Return what the page has of a program's cases, by the names of its marks."""
    if which == "pauses":
        return {which: table(map(_joined, ran.cases), (LANGCHAIN, LODESTAR, TOOLGATE))}
    allowed = [case for case in ran.cases if case["section"] == ALLOWED]
    governed = [case for case in ran.cases if case["section"] == GOVERNED]
    return {
        f"{which} summary": summary(allowed, ran.versions),
        f"{which} allowed": table(map(_compared, allowed), (RAW, LODESTAR, TOOLGATE)),
        f"{which} governed": table(governed, (LODESTAR, TOOLGATE)),
    }


def summary(allowed: list[dict[str, Any]], versions: Mapping[str, str]) -> str:
    """Return how often each hook does as the raw tool does, and where Toolgate does not."""
    same = {
        hook: [case for case in allowed if case["seen"][hook] == case["seen"][RAW]]
        for hook in (LODESTAR, TOOLGATE)
    }
    ours = [case["title"] for case in allowed if case not in same[TOOLGATE]]
    theirs = [case["title"] for case in same[LODESTAR] if case["title"] in ours]
    used = ", ".join(f"{name} {number}" for name, number in versions.items())
    counts = (
        f"With {used}. Of {len(allowed)} cases of calls that policy allows, Lodestar's hook does "
        f"as the raw tool in {len(same[LODESTAR])}, Toolgate's adapter in {len(same[TOOLGATE])}."
    )
    lines = [
        counts,
        "Toolgate's differs in: " + ("; ".join(ours) or "none") + ".",
        "Lodestar's does as the raw tool where Toolgate's does not in: "
        + ("; ".join(theirs) or "none")
        + ".",
    ]
    return "\n".join(f"- {line}" for line in lines)


LOOPS = (", native", ", ReAct")


def in_both_loops(cases: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return cases with one for two of which the same was seen in both of CrewAI's loops."""
    joined: list[dict[str, Any]] = []
    for case in cases:
        before = joined[-1] if joined else None
        native, react = LOOPS
        title = case["title"].removesuffix(react)
        if before and before["title"] == title + native and before["seen"] == case["seen"]:
            joined[-1] = {**before, "title": f"{title}, in both loops"}
        else:
            joined.append(case)
    return joined


def table(cases: Iterable[dict[str, Any]], columns: Iterable[str]) -> str:
    """Return a table of cases by hooks."""
    columns = list(columns)
    rows = [["case", *columns], ["---"] * (len(columns) + 1)]
    for case in in_both_loops(cases):
        mark = " †" if case["gate"] else ""
        rows.append([case["title"] + mark, *(cell(case["seen"][name]) for name in columns)])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def cell(seen: str) -> str:
    """Return what was seen as a cell has it."""
    if seen == SAME:
        return SAME
    text = seen.replace("`", "'").replace("|", "/").replace("\n", " ")
    return f"`{text}`"


def times(measured: Mapping[str, Ran]) -> str:
    """Return a table of what calls cost."""
    rows = [["framework", "call", RAW, LODESTAR, TOOLGATE, f"{LODESTAR} / {TOOLGATE}"]]
    rows.append(["---", "---", *["---:"] * 4])
    for which, ran in measured.items():
        for each in ran.times:
            taken = each["times"]
            ratio = taken[LODESTAR] / taken[TOOLGATE]
            shown = [f"{taken[name]:,} µs" for name in (RAW, LODESTAR, TOOLGATE)]
            rows.append([NAMES[which], each["title"], *shown, f"{ratio:.2f}"])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def put(text: str, name: str, block: str) -> str:
    """Return a page's text with another block between the marks of a name.

    Raises ``ValueError`` when the page has no such marks.
    """
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(\n<!-- end -->)", re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"{PAGE.name} has no marks <!-- {name} --> and <!-- end -->")
    return pattern.sub(lambda found: f"{found[1]}{block}{found[2]}", text)


def _compared(case: dict[str, Any]) -> dict[str, Any]:
    raw = case["seen"][RAW]
    seen = {name: SAME if each == raw else each for name, each in case["seen"].items()}
    return {**case, "seen": {**seen, RAW: raw}}


def _joined(case: dict[str, Any]) -> dict[str, Any]:
    """Return a case with both modes of LangChain's middleware as one."""
    seen = case["seen"]
    modes = [seen["batched"], seen["per_call"]]
    one = modes[0] if len(set(modes)) == 1 else f"{modes[0]}; in per_call mode: {modes[1]}"
    return {**case, "seen": {**seen, LANGCHAIN: one}}
