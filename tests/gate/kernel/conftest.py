"""Every journal that a test of the kernel leaves behind must verify, unless the test changed it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from support.people import config
from support.plans import journals
from toolgate.config import parse_config
from toolgate.journal.opening import inspect_journal
from toolgate.journal.verify import verify


@pytest.fixture(autouse=True)
def every_journal_verifies(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[None]:
    """Verify what the test left in its folder; one that changes the store is marked ``tampers``."""
    yield
    if request.node.get_closest_marker("tampers"):
        return
    for folder in journals(tmp_path):
        journal = inspect_journal(parse_config(config(), folder))
        try:
            assert verify(journal.store, journal.key, lambda seen: None).problem is None
        finally:
            journal.store.close()
