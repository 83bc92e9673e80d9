"""The page of the comparison has what a run shows, cell by cell; only times are not compared."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from comparison.page import PAGE, blocks
from comparison.running import PROGRAMS, Ran, run
from support.crewai_world import NEEDS_CREWAI, PYTHON

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

Running = dict[str, "Future[Ran]"]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """All programs that can run here, at once: they wait more than they work."""
    here = [name for name, program in PROGRAMS.items() if program.python.exists()]
    with ThreadPoolExecutor(len(here)) as pool:
        folder = tmp_path_factory.mktemp("comparison")
        yield {name: pool.submit(run, name, folder / name) for name in here}


@pytest.fixture(
    params=[pytest.param(name, marks=NEEDS_CREWAI if program.python == PYTHON else ())
            for name, program in PROGRAMS.items()],
)  # fmt: skip
def ran(request: pytest.FixtureRequest, running: Running) -> tuple[str, Ran]:
    """A program's name, and what it has seen."""
    return request.param, running[request.param].result()


def test_the_page_has_every_table_as_it_is_measured(ran: tuple[str, Ran]) -> None:
    text = PAGE.read_text()
    for name, block in blocks(*ran).items():
        shown = block.splitlines()
        _, _, after = text.partition(f"<!-- {name} -->\n")
        kept = after.partition("\n<!-- end -->")[0].splitlines()
        assert shown == kept, f"{PAGE.name} has another {name!r}; `make compare` writes it anew"


def test_no_case_is_there_twice_and_none_never_ends(ran: tuple[str, Ran]) -> None:
    _, seen = ran
    titles = [case["title"] for case in seen.cases]
    assert len(titles) == len(set(titles))
    assert not [case["title"] for case in seen.cases if "never ends" in case["seen"].values()]
