"""How threads share one gate: whoever waits does the reading, and writing never waits for reading.

There is no reader thread. Of the threads that wait for something, one holds the role ``reader``: it
reads the pipe, puts every message into the mailbox it belongs to and wakes that mailbox's owner.
When the reader has what it waited for, the role passes to another thread that still waits. So a
sequential caller pays no thread switch at all.

Writing is non-blocking. A thread whose message does not fit into the pipe reads meanwhile (or lets
the reader read), because a gate whose own output is not taken stops reading its input.

Event loops take part through their ports (:mod:`toolgate_client._port`). A loop that has callers
watches the pipe and reads what has come, if no thread holds the role at that moment: it never keeps
the role, so a thread can always take it, even the loop's own, in a call made by one of its tasks.

Both roles are entries of a dictionary, taken with ``setdefault`` in the name of the caller's
mailbox. So a caller can give back what it holds without knowing where it was interrupted:
:meth:`Exchange.leave` does, may be called again at any time, and must be called (twice, the first
call may itself be interrupted) by everybody who called ``send`` or ``wait``.
"""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO
from itertools import chain
from threading import Lock

from toolgate_client._bodies import running_loop
from toolgate_client._mailbox import Mailbox
from toolgate_client._protocol import Core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _thread import LockType
    from asyncio import AbstractEventLoop

    from toolgate_client._port import Port

_READ_SIZE = 1 << 16
"""Bytes a read asks for: what a pipe holds. Buffers over the allocator's threshold for mapping
(128 KiB) cost more than a whole message."""
_RETRY = 0.02
"""How long to rely on another thread that reads, or writes, what we wait for, while a message is
still in the outbox, in seconds. Looking again at once would keep that thread from its work."""
_LEAVE_RETRIES = 50
"""How often a caller that leaves looks for room for its goodbye. Later messages carry it along."""


class Waiter(Mailbox):
    """The mailbox of a thread.

    Whoever means to sleep calls ``listen``, then looks whether what it waits for is there already,
    then sleeps: a ``wake`` from ``listen`` on is not lost.
    """

    __slots__ = ()

    def listen(self) -> LockType:
        """Be ready to be woken; returns what to wait for."""
        bell: LockType | None = self.bell
        if bell is None:
            bell = Lock()
            bell.acquire()
            self.bell = bell
        return bell

    def wake(self) -> None:
        """End the present or the next :meth:`sleep`."""
        bell: LockType | None = self.bell
        if bell is not None and bell.locked():
            with suppress(RuntimeError):  # another thread woke it at the same time
                bell.release()

    def sleep(self, timeout: float | None = None) -> None:
        """Wait for :meth:`wake`, at most ``timeout`` seconds."""
        self.listen().acquire(timeout=-1 if timeout is None else max(0.0, timeout))


class Exchange:
    """One gate's pipes, shared by threads and event loops.

    ``read_fd`` blocks, ``write_fd`` does not. ``on_end`` is called once or more often, by a thread
    that reads, when the gate's output has ended and before anybody is told.
    """

    def __init__(self, core: Core, read_fd: int, write_fd: int, on_end: Callable[[], None]) -> None:
        self.core = core
        self.read_fd = read_fd
        self.write_fd = write_fd
        self.ports: dict[AbstractEventLoop, Port] = {}
        """The loops that have, or lately had, callers."""
        self._on_end = on_end
        self._roles: dict[str, object] = {}
        self._followers: dict[Waiter, None] = {}

    def send(self, box: object) -> bool:
        """Write what is in the outbox, unless another thread does; False when there is no room."""
        outbox, roles = self.core.outbox, self._roles
        # Whoever adds a message while we hold the role leaves it to us: look again afterwards.
        while outbox and roles.setdefault("writer", box) is box:
            room = self._write()
            del roles["writer"]
            if not room:
                return False
        return True

    def wait(self, box: Waiter, deadline: float | None = None) -> None:
        """Return when ``box`` has news, the gate has ended, or it is ``deadline`` (monotonic)."""
        self._wait(box, box.has_news, deadline)

    def flush(self, box: Waiter) -> None:
        """Return when nothing is left to be written, others write it, or the gate has ended."""
        if not self.send(box):
            self._wait(box, self._flushed, None)

    def _flushed(self) -> bool:
        return not self.core.outbox

    def _wait(self, box: Waiter, over: Callable[[], bool], deadline: float | None) -> None:
        core, roles, followers = self.core, self._roles, self._followers
        while not over() and not core.ended:
            room = not core.outbox or self.send(box)
            if roles.setdefault("reader", box) is box:
                self._read(box, over, deadline)
                del roles["reader"]
            elif not room:
                self._poll(select.POLLOUT, 0, _until(deadline, _RETRY))
            else:
                box.listen()
                followers[box] = None
                # A reader that leaves looks for followers after it has given up the role; so
                # either it sees us there, or we see here that the role is free.
                if "reader" in roles and not over() and not core.ended:
                    box.sleep(_until(deadline, _RETRY if core.outbox else None))
                followers.pop(box, None)
            if deadline is not None and time.monotonic() >= deadline:
                break
        # The role we had, or the wake-up that came when we had no more use for it.
        self._wake_follower()

    def read_now(self, box: object) -> bool:
        """Read what has come, unless somebody else does; False at the end of the gate's output."""
        if self._roles.setdefault("reader", box) is not box:
            return True
        more = True
        if self._poll(0, select.POLLIN, 0):
            more = self._take()
            self.core.pump()
        del self._roles["reader"]
        self._wake_follower()
        return more

    def give_back(self, box: object) -> None:
        """Give back every role that ``box`` holds, wherever it was interrupted."""
        for role in ("reader", "writer"):
            if self._roles.get(role) is box:
                del self._roles[role]
        self._wake_follower()

    def leave(self, box: Waiter) -> None:
        """Give back every role, say goodbye for what is open, and let others go on."""
        core, roles = self.core, self._roles
        self._followers.pop(box, None)
        self.give_back(box)
        core.leave(box)
        patience = _LEAVE_RETRIES
        while core.outbox and not core.ended and not self.send(box) and patience:
            patience -= 1
            if roles.setdefault("reader", box) is box:
                # Nobody else takes what the gate says, and until then it may not listen.
                if self._poll(select.POLLOUT, select.POLLIN, _RETRY):
                    self._take()
                    core.pump()
                del roles["reader"]
                self._wake_follower()
            else:
                self._poll(select.POLLOUT, 0, _RETRY)
        box.gone = True

    def calls_of_this_loop(self) -> frozenset[int]:
        """The ids of the calls that tasks of the event loop wait for that runs in this thread."""
        port = self.ports.get(running_loop()) if self.ports else None  # type: ignore[arg-type]
        return frozenset() if port is None else frozenset(box.id for box in list(port.callers))

    def close_ports(self, deadline: float) -> bool:
        """See to it that no loop watches the pipes; False when one does not hear of it in time."""
        bell = Waiter()
        bell.listen()
        for port in list(self.ports.values()):
            port.close()
        while any(port.watches() for port in list(self.ports.values())):
            if time.monotonic() >= deadline:
                return False
            bell.sleep(_RETRY)
        return True

    def seize(self, role: str, box: Waiter, deadline: float) -> bool:
        """Take ``role`` and keep it; False when its holder does not give it back in time."""
        box.listen()
        while self._roles.setdefault(role, box) is not box:
            if time.monotonic() >= deadline:
                return False
            box.sleep(_RETRY)
        return True

    def _read(self, box: Waiter, over: Callable[[], bool], deadline: float | None) -> None:
        """Read, as the reader, until it is over, the gate ended, or it is ``deadline``."""
        core = self.core
        while True:
            core.pump()
            room = not core.outbox or self.send(box)
            if over() or core.ended:
                return
            if core.outbox or deadline is not None:
                # Another thread writes our message, or we wait for room: look again.
                write = 0 if room else select.POLLOUT
                soon = _RETRY if core.outbox else None
                if not self._poll(write, select.POLLIN, _until(deadline, soon)):
                    if deadline is not None and time.monotonic() >= deadline:
                        return
                    continue
            if not self._take():
                self._on_end()
                core.end()
                return

    def _take(self) -> bool:
        """Read once, as the reader; False at the end of the gate's output."""
        fragments = self.core.fragments
        before = len(fragments)
        try:
            # One operation of C code, from the kernel into `fragments`, cut into lines on the way:
            # a signal handler runs before it or after it, and no byte is ever in between.
            fragments.extend(
                chain.from_iterable(map(BytesIO, map(os.read, (self.read_fd,), (_READ_SIZE,))))
            )
        except BlockingIOError:
            # A loop that begins to watch (uvloop's) makes the pipe non-blocking for a moment.
            self._poll(0, select.POLLIN, None)
            return True
        return len(fragments) > before

    def _write(self) -> bool:
        """Write, as the writer, until the outbox is empty (True) or the pipe is full (False)."""
        outbox, fd = self.core.outbox, self.write_fd
        try:
            while outbox:
                message = outbox[0]
                data, counts = message.data, message.counts
                done = sum(counts)
                if done < len(data):
                    rest = memoryview(data)[done:] if done else data
                    # As in _read: what was written and what is known about it never differ.
                    counts.extend(map(os.write, (fd,), (rest,)))
                    done = sum(counts)
                if done == len(data):
                    outbox.popleft()
        except BlockingIOError:
            return False
        except OSError:
            # The gate takes no more. Whoever reads finds out why when its output ends.
            outbox.clear()
        return True

    def _poll(self, write: int, read: int, timeout: float | None) -> bool:
        """Wait for room or for input; whether there is input, or its end."""
        poll = select.poll()
        if write:
            poll.register(self.write_fd, write)
        if read:
            poll.register(self.read_fd, read)
        ready = poll.poll(None if timeout is None else max(0.0, timeout) * 1000)
        return any(fd == self.read_fd for fd, _ in ready)

    def _wake_follower(self) -> None:
        if "reader" not in self._roles:
            for follower in list(self._followers)[:1]:
                follower.wake()


def _until(deadline: float | None, at_most: float | None = None) -> float | None:
    """Seconds until ``deadline``, or ``at_most``; ``None`` when nothing limits the wait."""
    if deadline is None:
        return at_most
    left = deadline - time.monotonic()
    return left if at_most is None else min(left, at_most)
