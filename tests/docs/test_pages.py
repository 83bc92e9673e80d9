"""Every link of a page leads somewhere, and no page speaks of the machine it was written on."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from support.doc_pages import PAGES, ROOT, anchors, links, name_of

_MACHINE = re.compile(r"(?<![\w.~$}])/(?:home|root|Users|work|tmp|var|opt|mnt)/|file://|localhost")
_DECISIONS = ROOT / "docs" / "adr"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_within_the_project_leads_somewhere(page: Path) -> None:
    for target in links(page):
        if re.match(r"https?:", target):
            continue
        file, _, anchor = target.partition("#")
        found = (page.parent / file).resolve() if file else page
        assert found.is_relative_to(ROOT), f"{target} leads out of the project"
        assert found.exists(), f"{target} leads nowhere"
        assert not anchor or anchor in anchors(found), f"{target}: there is no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_page_names_a_path_of_a_machine(page: Path) -> None:
    for number, line in enumerate(page.read_text().splitlines(), start=1):
        assert not _MACHINE.search(line), f"{name_of(page)}:{number}: {line}"


def test_every_page_of_the_docs_is_reached_from_the_readme() -> None:
    reached, pending = set[Path](), [ROOT / "README.md"]
    while pending:
        page = pending.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        pending += [
            (page.parent / target.partition("#")[0]).resolve()
            for target in links(page)
            if not re.match(r"https?:|#", target)
        ]
    assert not set((ROOT / "docs").rglob("*.md")) - reached


def test_decisions_are_numbered_and_have_the_same_four_parts() -> None:
    files = sorted(_DECISIONS.glob("*.md"))
    assert [int(file.name[:4]) for file in files] == list(range(1, len(files) + 1))
    for file in files:
        text = file.read_text()
        assert text.startswith(f"# {int(file.name[:4])}. "), file.name
        parts = re.findall(r"^## (.+)$", text, re.MULTILINE)
        assert parts == ["Context", "Decision", "Consequences", "Rejected"], file.name
