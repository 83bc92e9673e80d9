"""What no gate of this kind can beat: the same messages between two processes, and nothing else.

Four messages cross a pipe for a governed call: the call, the order to run the body, its result, the
outcome. The raw floor is those four between two Python processes, unparsed. The durable floor adds
what the gate promises: one SQLite commit before each message that the other process sends. This
module is the other process's program, too.
"""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from measure import Lane

Synchronous: TypeAlias = Literal["NORMAL", "FULL"]

_CALL = b"c" * 200
_RESULT = b"r" * 100
_SIZE = 1 << 16


@dataclass(frozen=True, slots=True)
class Floor:
    """What makes the four hops, and the process at the other end."""

    lane: Lane
    process: int


@contextmanager
def raw() -> Iterator[Floor]:
    """Start the other process."""
    with _other_process() as floor:
        yield floor


@contextmanager
def durable(folder: Path, synchronous: Synchronous = "NORMAL") -> Iterator[Floor]:
    """Start the other process; it commits to a database in ``folder`` before each reply."""
    with _other_process(str(folder / f"floor-{synchronous}.db"), synchronous) as floor:
        yield floor


@contextmanager
def _other_process(*arguments: str) -> Iterator[Floor]:
    command = [sys.executable, __file__, *arguments]
    with subprocess.Popen(
        command, bufsize=0, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        to, back = process.stdin.fileno(), process.stdout.fileno()

        def four_hops() -> None:
            for message in (_CALL, _RESULT):
                os.write(to, message)
                if not os.read(back, _SIZE):
                    raise RuntimeError("the floor's process has ended")

        try:
            yield Floor(four_hops, process.pid)
        finally:
            # It ends with its input.
            process.stdin.close()


def _answer(database: str | None, synchronous: str) -> None:
    store = None
    if database is not None:
        store = sqlite3.connect(database, isolation_level=None)
        store.execute("PRAGMA journal_mode = WAL")
        store.execute(f"PRAGMA synchronous = {synchronous}")
        store.execute("CREATE TABLE message (seq INTEGER PRIMARY KEY, data BLOB NOT NULL)")
    while message := os.read(0, _SIZE):
        if store is not None:
            store.execute("BEGIN IMMEDIATE")
            store.execute("INSERT INTO message (data) VALUES (?)", (message,))
            store.execute("COMMIT")
        os.write(1, message)


if __name__ == "__main__":
    _answer(*(sys.argv[1:] or (None, "NORMAL")))
