"""What commands share that follow the journal: waiting for somebody to write, and ending well."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from toolgate import clock

POLL: Final = 0.1
"""Seconds between two looks whether anybody has committed: a look costs microseconds."""
PLACE_POLL: Final = 10
"""So many looks lie between two whether the journal still lies where it did."""


def pause(seconds: float) -> None:
    """Wait; raises :class:`BrokenPipeError` when nobody reads what is printed any more."""
    poll = select.poll()
    try:
        poll.register(sys.stdout.fileno(), select.POLLERR)
    except (OSError, ValueError):
        # What is printed goes into no file.
        clock.pause(seconds)
        return
    if any(state & select.POLLERR for _, state in poll.poll(seconds * 1000)):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


@contextmanager
def ended_by_reader() -> Iterator[None]:
    """End well on Ctrl-C, and when what is printed has no reader any more."""
    try:
        yield
    except KeyboardInterrupt:
        sys.stdout.flush()
    except BrokenPipeError:
        # What is still buffered has nowhere to go when the interpreter ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
