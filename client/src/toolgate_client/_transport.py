"""The gate's process: start it, hear what it prints, end it.

The gate gets a session (process group) of its own, so Ctrl-C in the terminal reaches the client
alone, which drains the gate. It lives no longer than the client: its standard input ends with this
process, however that dies. The forked children of this process give up their copies of the pipes.

What the gate prints to stderr goes on to this process's stderr once the gate is ready, and its last
lines stay available for errors. POSIX only for now: starting one elsewhere raises
:class:`GateStartError`, importing does not.
"""

from __future__ import annotations

import os
import signal
import weakref
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from threading import Event, Lock, Thread

from toolgate_client._errors import GateStartError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from subprocess import Popen

_TAIL_LINES = 50
_TAIL_BYTES = 16384
_EXIT_GRACE = 2.0
"""How long each step of ending the process may take, in seconds."""
_STDERR_GRACE = 0.5
"""How long to wait for the end of stderr after the process has ended, in seconds: something that
the gate started may still hold it."""


class GateProcess:
    """A gate that was started, and the client's ends of its pipes.

    Raises :class:`GateStartError` when the operating system cannot start it.
    """

    def __init__(self, command: Sequence[str]) -> None:
        if os.name != "posix":
            raise GateStartError("toolgate_client starts gates on POSIX systems only, for now")
        import subprocess

        pipes: list[int] = []
        try:
            for _ in range(3):
                pipes += os.pipe()
            gate_in, self.write_fd, self.read_fd, gate_out, stderr_fd, gate_err = pipes
            self._popen: Popen[bytes] = subprocess.Popen(
                command, stdin=gate_in, stdout=gate_out, stderr=gate_err, start_new_session=True
            )
        except BaseException as error:
            for fd in pipes:
                os.close(fd)
            if isinstance(error, (OSError, ValueError)):
                text = f"the gate cannot be started: {error} (command: {shown(command)})"
                raise GateStartError(text) from error
            raise
        for fd in (gate_in, gate_out, gate_err):
            os.close(fd)
        os.set_blocking(self.write_fd, False)
        self.owner = os.getpid()
        """The process whose gate this is: not its forks."""
        self.stderr = _Stderr(stderr_fd)
        self._close = weakref.finalize(self, _close, self.owner, self.write_fd, self.read_fd)
        _alive.add(self)

    def exit_code(self, timeout: float = 0.0) -> int | None:
        """The exit code, waiting at most ``timeout`` seconds for it; ``None``: it still runs."""
        import subprocess

        try:
            return self._popen.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def output_ended(self) -> int | None:
        """The gate's output has ended: see that its process has, too, and return its exit code.

        A process that lives on without its output cannot be asked anything; it is killed.
        """
        code = self.exit_code(_EXIT_GRACE)
        if code is None:
            self.signal(signal.SIGKILL)
            code = self.exit_code(_EXIT_GRACE)
        self.stderr.ended.wait(_STDERR_GRACE)
        return code

    def end_input(self) -> None:
        """Let the gate read the end of its input, which makes it drain and exit.

        The number of the descriptor stays taken, so no other thread writes to a foreign file.
        """
        null = os.open(os.devnull, os.O_WRONLY)
        try:
            os.dup2(null, self.write_fd, inheritable=False)
        finally:
            os.close(null)

    def signal(self, number: int) -> None:
        """Send a signal to the gate and what it started."""
        if self._popen.poll() is None:
            try:
                os.killpg(self._popen.pid, number)
            except (ProcessLookupError, PermissionError):
                self._popen.send_signal(number)

    def stop(self, grace: float = _EXIT_GRACE) -> int | None:
        """End the process, more firmly after every ``grace`` seconds; returns its exit code."""
        with suppress(OSError):  # no descriptor left to replace it with: the signals below do it
            self.end_input()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if self.exit_code(grace) is not None:
                break
            self.signal(number)
        code = self.exit_code(_EXIT_GRACE)
        self.stderr.ended.wait(_STDERR_GRACE)
        return code

    def release(self) -> None:
        """Close the pipes, once: nobody uses them any more. Being dropped does the same."""
        self._close()

    def forget_in_child(self) -> None:
        """This process is a fork: the gate belongs to the parent, so let go of its pipes."""
        if self._close.detach() is not None:
            _close(os.getpid(), self.write_fd, self.read_fd)
        self.stderr.forget_in_child()
        # Not a child of this process: nothing to wait for, nothing to warn about.
        self._popen.returncode = 0


class _Stderr:
    """Takes what the gate prints, in a thread, and keeps the last lines."""

    def __init__(self, fd: int) -> None:
        self.ended = Event()
        self._fd = fd
        self._lock = Lock()
        self._passing = False
        self._held_back: list[bytes] = []
        self._lines: deque[bytes] = deque(maxlen=_TAIL_LINES)
        Thread(target=self._drain, name="toolgate-stderr", daemon=True).start()

    def tail(self) -> str:
        """The last lines, as text."""
        return b"".join(list(self._lines))[-_TAIL_BYTES:].decode(errors="replace").strip()

    def pass_through(self) -> None:
        """From now on, and with what came so far, it goes to this process's stderr as well."""
        with self._lock:
            self._passing = True
            _print(b"".join(self._held_back))
            self._held_back.clear()

    def forget_in_child(self) -> None:
        """Close this process's copy of the pipe; the thread exists in the parent only."""
        if not self.ended.is_set():
            os.close(self._fd)

    def _drain(self) -> None:
        rest = b""
        while data := os.read(self._fd, 65536):
            *lines, rest = (rest + data).split(b"\n")
            self._lines.extend(line + b"\n" for line in lines)
            # A line without an end must not grow without one.
            if len(rest) > _TAIL_BYTES:
                self._lines.append(rest)
                rest = b""
            with self._lock:
                if self._passing:
                    _print(data)
                else:
                    self._held_back.append(data)
        if rest:
            self._lines.append(rest)
        os.close(self._fd)
        self.ended.set()


def _print(data: bytes) -> None:
    # Not sys.stderr: a thread that dies holding its lock at exit would take the process down.
    try:
        while data:
            data = data[os.write(2, data) :]
    except OSError:
        pass  # this process has no stderr; the last lines are kept for errors


def _close(owner: int, *fds: int) -> None:
    if os.getpid() == owner:
        for fd in fds:
            os.close(fd)


def shown(command: Sequence[str]) -> str:
    """A command as a person would type it."""
    import shlex

    return shlex.join(command)


_alive: weakref.WeakSet[GateProcess] = weakref.WeakSet()


def _after_fork() -> None:
    for process in list(_alive):
        process.forget_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
