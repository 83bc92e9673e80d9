"""The two states of the machine: as it is, and with one core kept busy.

How long a sleeping process takes to wake up depends on how deeply its core sleeps, and that on what
else the machine does. So every figure is measured in both. Whether the two ends of a pipe share a
core makes a difference, too, and the scheduler decides it anew for every pair: where nothing else
runs, each end is given a core of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Final, Literal, TypeAlias

State: TypeAlias = Literal["idle", "busy"]
STATES: Final[tuple[State, ...]] = ("idle", "busy")

_SPIN = """
import os, sys
print(flush=True)
parent = int(sys.argv[1])
while os.getppid() == parent:  # it ends with its parent, however that dies
    for _ in range(100000):
        pass
"""


def state(name: State, others: Sequence[int]) -> AbstractContextManager[None]:
    """Bring the machine into a state, for as long as the context lasts.

    ``others`` are the processes that this one, from this thread, exchanges messages with.
    """
    return _one_core_busy() if name == "busy" else _apart(others)


@contextmanager
def _apart(others: Sequence[int]) -> Iterator[None]:
    if sys.platform != "linux" or not others:
        yield
        return
    cores = os.sched_getaffinity(0)
    mine, theirs = min(cores), max(cores)
    os.sched_setaffinity(0, {mine})
    for pid in others:
        os.sched_setaffinity(pid, {theirs})
    try:
        yield
    finally:
        for pid in (0, *others):
            os.sched_setaffinity(pid, cores)


@contextmanager
def _one_core_busy() -> Iterator[None]:
    command = [sys.executable, "-I", "-S", "-c", _SPIN, str(os.getpid())]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield
        finally:
            process.kill()
