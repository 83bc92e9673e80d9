"""Starts gates' processes in a few milliseconds: forks of one that has imported what a gate needs.

Run as a program with ``serve-from SOCKET`` it is that process; with ``SOCKET COMMAND…`` it is what
a client launches instead of ``toolgate COMMAND…``: it hands its own stdin, stdout, stderr and
environment on, leaves the gate's process id in ``gate.pid``, and ends as the gate does. Everything
that makes a gate what it is happens after the fork, in a process of its own.
"""

import json
import os
import signal
import socket
import sys

_MESSAGE = 1 << 16


def launch(path: str, command: list[str]) -> None:
    """Have a gate started with this process's stdin, stdout and stderr, and end as it does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as nursery:
        nursery.connect(path)
        asked = {"command": command, "folder": os.getcwd(), "environment": dict(os.environ)}
        socket.send_fds(nursery, [json.dumps(asked).encode()], [0, 1, 2])
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        status = int(nursery.recv(100) or b"1")
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        os.kill(os.getpid(), -code)
    sys.exit(code)


def serve(path: str) -> None:
    """Fork a gate for each that asks, until stdin ends."""
    import select

    import toolgate.cli.serve  # noqa: F401 - what takes the time

    try:
        import uvloop  # noqa: F401
    except ImportError:
        pass
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(path)
        listener.listen(64)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
        print("ready", flush=True)
        while sys.stdin not in select.select([listener, sys.stdin], [], [])[0]:
            asking, _ = listener.accept()
            with asking:
                if os.fork() == 0:
                    listener.close()
                    _nurse(asking)
                    return


def _nurse(asking: socket.socket) -> None:
    """Fork the gate, wait for its end and tell it; in the gate's process it is the gate."""
    message, fds, _, _ = socket.recv_fds(asking, _MESSAGE, 3)
    asked = json.loads(message)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if pid:
        for fd in fds:
            os.close(fd)
        _, status = os.waitpid(pid, 0)
        asking.sendall(str(status).encode())
        os._exit(0)
    asking.close()
    os.setsid()
    for place, fd in enumerate(fds):
        os.dup2(fd, place)
        os.close(fd)
    os.chdir(asked["folder"])
    os.environ.clear()
    os.environ.update(asked["environment"])
    with open("gate.pid", "w") as file:
        file.write(str(os.getpid()))
    sys.argv = ["toolgate", *asked["command"]]
    from toolgate.cli import main

    main()


if __name__ == "__main__":
    if sys.argv[1] == "serve-from":
        serve(sys.argv[2])
    else:
        launch(sys.argv[1], sys.argv[2:])
