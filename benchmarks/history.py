"""Long journals, written by the gate's own kernel: many calls in one transaction, and no bodies."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import shutil
import sqlite3
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import subjects

from toolgate import jsonvalue
from toolgate.config import load_config
from toolgate.ir import ActionStatus, ToolSchema
from toolgate.journal.schema import SCHEMA_VERSION
from toolgate.journal.transaction import Transaction
from toolgate.kernel.records import Call, content_digest
from toolgate.kernel.result import Ending
from toolgate.kernel.step import Claim
from toolgate.runtime import Runtime

_BATCH: Final = 500
"""Calls in one transaction."""
_HELD: Final = 10
_KEPT: Final = 1000
"""Of so many calls the uids are returned, evenly spread over the journal."""


def journal(folder: Path, events: int, *, cached: bool = False) -> tuple[list[str], list[str]]:
    """Make a deployment whose journal has at least so many events; see :func:`write`.

    With ``cached`` it is copied from where an earlier run, of the same schema, has left it in the
    folder for temporary files.
    """
    if not cached:
        return write(folder, events)
    schema = hashlib.sha256(f"{SCHEMA_VERSION} {Path(__file__).read_bytes()!r}".encode())
    name = f"toolgate-bench-history-{os.getuid()}-{events}-{schema.hexdigest()[:12]}"
    cache = Path(tempfile.gettempdir()) / name
    if not cache.exists():
        making = Path(tempfile.mkdtemp(prefix=f"{name}."))
        try:
            write(making, events)
            making.rename(cache)
        except BaseException:
            shutil.rmtree(making, ignore_errors=True)
            raise
    shutil.copytree(cache, folder, dirs_exist_ok=True)
    return _uids(folder)


def write(folder: Path, events: int) -> tuple[list[str], list[str]]:
    """Write a journal of at least so many events; returns settled and held actions' uids.

    All of it is decided and written as a gate would, but for the bodies, which have ended at once.
    """
    asyncio.run(_write(folder, events))
    return _uids(folder)


async def _write(folder: Path, events: int) -> None:
    config = load_config(subjects.config_file(folder))
    runtime = Runtime(config, _no_runner, lambda _: None)
    for name in ("search", "pay"):
        await runtime.register_tool(ToolSchema(name=name, parameters=subjects.PARAMETERS))
    numbers = itertools.count()
    hub = runtime._journal  # noqa: SLF001 - what a gate commits one by one is committed by many

    def some(tx: Transaction) -> None:
        for number in itertools.islice(numbers, _BATCH):
            _call(tx, runtime, "search", number)

    hub.write_now(lambda tx: [_call(tx, runtime, "pay", n) for n in range(_HELD)])
    while hub.write_now(lambda tx: tx.seq) < events:
        hub.write_now(some)
    runtime.close("the journal is long enough")


def _call(tx: Transaction, runtime: Runtime, tool: str, number: int) -> None:
    args: dict[str, Any] = {"q": "where is my order", "n": number}
    text = jsonvalue.canonical(args)
    steps = runtime.engine.steps
    call = Call(tool, args, text, content_digest(tool, text))
    step = steps.propose(tx, runtime.session, steps.judge.prepare(call))
    if isinstance(step, Claim):
        steps.end(tx, step, Ending(ActionStatus.SUCCEEDED, {"hits": 3}), 0.2)


def _uids(folder: Path) -> tuple[list[str], list[str]]:
    db = sqlite3.connect(folder / ".toolgate" / "journal.db")
    try:
        settled = [
            uid for (uid,) in db.execute("SELECT uid FROM action WHERE status = 'succeeded'")
        ]
        held = [uid for (uid,) in db.execute("SELECT uid FROM action WHERE status = 'held'")]
    finally:
        db.close()
    return settled[:: max(len(settled) // _KEPT, 1)], held


def _no_runner(*_: Any) -> Any:
    raise AssertionError("no body is run for a journal that is only written")


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]))
