"""Runs `toolgate` as a client's launcher; leaves its process id and all it is sent in files.

Usage: python langgraph_launcher.py FOLDER serve --config FILE
"""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

from toolgate.cli import main

PID, SENT = "gate.pid", "sent.jsonl"


def record(source: int, sink: int, sent: Path) -> None:
    """Copy all that arrives, until its end."""
    with sent.open("ab", buffering=0) as log:
        while data := os.read(source, 65536):
            log.write(data)
            view = memoryview(data)
            while view:
                view = view[os.write(sink, view) :]
    os.close(sink)


if __name__ == "__main__":
    folder = Path(sys.argv.pop(1))
    (folder / PID).write_text(str(os.getpid()))
    source = os.dup(0)
    reader, writer = os.pipe()
    os.dup2(reader, 0)
    threading.Thread(
        target=record, args=(source, writer, folder / SENT), name="record", daemon=True
    ).start()
    main()
