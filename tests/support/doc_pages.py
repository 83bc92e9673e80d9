"""The project's pages as tests see them: fenced blocks, headings, links and tables.

What a fenced block is for stands in its info string, which renderers show nothing of:

``python file=NAME``  the text of a file (any language); a file may be written again, in full
``python``            a program, run where it stands
``console``           commands after ``$``, each with its output; ``exit=N`` is the last one's code
``sh``                commands for people: not run (they install things, or need what tests lack)
``yaml``, ``json``    must be well-formed
``text``              anything else

In a page ``…`` stands for any text, also for lines left out. A name in capitals that ends in
``HOLD``, ``UID`` or ``PUBLIC_KEY`` stands for what a command prints in its place, from there on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *(ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")),
        *(ROOT / "docs").rglob("*.md"),
        *(ROOT / name / "README.md" for name in ("gate", "client")),
        *(ROOT / "adapters").glob("*/README.md"),
    ]
)
"""Every page that the project publishes."""

_FENCE = re.compile(r"^(?P<fence>`{3,})(?P<info>[^`\n]*)$")
_HEADING = re.compile(r"^#{1,6} +(.*?)\s*$")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_NOT_IN_ANCHORS = re.compile(r"[^\w\- ]")


@dataclass(frozen=True)
class Block:
    """One fenced block: where its first line stands, its language, its options and its text."""

    line: int
    language: str
    options: dict[str, str]
    text: str


def name_of(page: Path) -> str:
    """Return a page's path from the project's root."""
    return page.relative_to(ROOT).as_posix()


@cache
def _parts(page: Path) -> tuple[tuple[str, ...], tuple[Block, ...]]:
    """Split a page into its lines outside of fences, and its blocks."""
    prose: list[str] = []
    blocks: list[Block] = []
    fence, start, body = None, 0, list[str]()
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        match = _FENCE.match(line)
        if fence is None and match is None:
            prose.append(line)
        elif fence is None and match is not None:
            fence, start, body = match, number + 1, []
        elif fence is not None and line == fence["fence"]:
            language, *rest = fence["info"].split() or [""]
            options = dict(word.split("=", 1) for word in rest)
            blocks.append(Block(start, language, options, "".join(f"{row}\n" for row in body)))
            fence = None
        else:
            body.append(line)
    assert fence is None, f"{name_of(page)}: the block of line {start - 1} has no end"
    return tuple(prose), tuple(blocks)


def blocks(page: Path) -> tuple[Block, ...]:
    """Return a page's fenced blocks, in order."""
    return _parts(page)[1]


def links(page: Path) -> list[str]:
    """Return the targets of a page's links, in order."""
    return _LINK.findall("\n".join(_parts(page)[0]))


@cache
def anchors(page: Path) -> frozenset[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found: dict[str, int] = {}
    for line in _parts(page)[0]:
        heading = _HEADING.match(line)
        if heading:
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).lower()
            slug = _NOT_IN_ANCHORS.sub("", text).replace(" ", "-")
            count = found.get(slug, 0)
            found[slug] = count + 1
            if count:
                found[f"{slug}-{count}"] = 1
    return frozenset(found)


def table(page: Path, heading: str) -> list[dict[str, str]]:
    """Return the first table under a heading: a row's cells by the names of their columns."""
    lines = iter(_parts(page)[0])
    assert any((match := _HEADING.match(line)) and match[1] == heading for line in lines), (
        f"{name_of(page)} has no heading {heading!r}"
    )
    rows: list[list[str]] = []
    for line in lines:
        if line.startswith("|"):
            cells = re.split(r"(?<!\\)\|", line)[1:-1]
            rows.append([cell.strip().replace("\\|", "|") for cell in cells])
        elif rows or _HEADING.match(line):
            break
    assert len(rows) > 2, f"{name_of(page)}: no table under {heading!r}"
    columns, _, *body = rows
    return [dict(zip(columns, row, strict=True)) for row in body]


def code(cell: str) -> str:
    """Return the text of a cell that is one piece of code."""
    match = re.fullmatch(r"`([^`]+)`", cell)
    assert match, f"{cell!r} is not one piece of code"
    return match[1]
