"""What a deployment's journal says, read from its file while gates work on it."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

DB = ".toolgate/journal.db"


def events(folder: Path, action: str | None = None) -> list[tuple[str, dict[str, Any]]]:
    """Return kind and data of every event, in order; with ``action``, of those about it.

    The data is without the link to the event before.
    """
    with sqlite3.connect(folder / DB) as db:
        rows = db.execute("SELECT kind, data, action FROM event ORDER BY seq").fetchall()
    db.close()
    told = [(kind, json.loads(data)) for kind, data, about in rows if action in (None, about)]
    for _, data in told:
        data.pop("previous", None)
    return told


def kinds(folder: Path, action: str | None = None) -> list[str]:
    """Return the kinds of :func:`events`."""
    return [kind for kind, _ in events(folder, action)]


async def journaled(folder: Path, kind: str, action: str | None = None, times: int = 1) -> None:
    """Return once the journal has so many events of a kind; the test's bound ends the wait."""
    while kinds(folder, action).count(kind) < times:  # noqa: ASYNC110 - a file tells nobody
        await asyncio.sleep(0.005)
