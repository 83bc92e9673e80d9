"""A small agent, run as a program: it asks for one thing, and asks again as a user would.

Its arguments are the folder of its deployment, what it asks for as JSON (``tool`` and ``args``, or
``proposal``; the ``tools`` it has; ``resumes`` when it resumes what is held, and does not ask for
it again; ``dies`` who dies in which body: ``client`` or ``gate``, and the body's ``n``) and the
socket of a nursery of gates. It says ``held UID…`` on stdout and goes on when it reads a line; what
its bodies do and what it was told it leaves in files. It ends with 0 when it was told an end, and
with 3 when it was not.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from toolgate_client import GateClient, GateError, GateStartError

TRIES = 4
KEY = "the one"
NURSERY = Path(__file__).with_name("gate_nursery.py")


def note(file: str, line: str) -> None:
    """Add a line to a file that others write too."""
    fd = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    os.write(fd, f"{line}\n".encode())
    os.close(fd)


def body_of(tool: str, dies: list[Any] | None) -> Any:
    """Return a body that leaves a trace before and after it has done what it does."""

    def body(args: dict[str, Any]) -> Any:
        note("effects", f"begin {tool} {args['n']}")
        if dies == ["client", args["n"]]:
            os.kill(os.getpid(), signal.SIGKILL)
        if dies == ["gate", args["n"]]:
            os.kill(int(Path("gate.pid").read_text()), signal.SIGKILL)
        note("effects", f"end {tool} {args['n']}")
        return {"tool": tool, "n": args["n"]}

    return body


def plainly(status: str, uid: str, output: Any, error: Any) -> dict[str, Any]:
    """Return what is to be the same whenever it is told again."""
    return {"status": status, "uid": uid, "output": output, "kind": error and error.kind}


def ask(gate: GateClient, asked: dict[str, Any], uid: str | None) -> tuple[bool, str, list[str]]:
    """Ask once, and tell what came of it.

    Returns whether it has ended, its uid, and what is held.
    """
    if "tool" in asked:
        key = {"idempotency_key": KEY}
        found = gate.resume(uid) if uid else gate.govern(asked["tool"], asked["args"], **key)
        items: Any = [found]
        ended = found.status not in ("held", "executing")
    else:
        result = gate.resume(uid).proposal if uid else None
        found = result or gate.propose(asked["proposal"], idempotency_key=KEY)
        items = found.results
        ended = found.status in ("completed", "aborted")
    for item in items:
        note("told", json.dumps(plainly(item.status, item.uid, item.output, item.error)))
    return ended, found.uid, [item.uid for item in items if item.status == "held"]


def main() -> int:
    """Ask until there is an end, the gate is gone, or it has refused often enough."""
    os.chdir(sys.argv[1])
    asked = json.loads(sys.argv[2])
    started = f"{sys.executable} -I -S {NURSERY} {sys.argv[3]}"
    # Where the client is to be killed, nobody reads the gate's stderr any more.
    stderr = "" if ":pause" in os.environ.get("TOOLGATE_FAULT", "") else "2>>gate.err"
    launcher = ["sh", "-c", f'exec {started} "$@" {stderr}', "gate"]
    try:
        with GateClient("gate.json", launcher=launcher) as gate:
            for tool in asked["tools"]:
                retry(lambda tool=tool: gate.register_tool(tool, body_of(tool, asked.get("dies"))))
            uid = None
            for _ in range(TRIES):
                found = retry(lambda uid=uid: ask(gate, asked, uid))
                if found is None:
                    return 3
                ended, known, held = found
                uid = known if asked.get("resumes") else None
                if ended:
                    return 0
                print("held", *held, flush=True)
                sys.stdin.readline()
    except GateStartError:
        return 3
    return 3


def retry(step: Any) -> Any:
    """Do a step, again when the gate refuses for its journal; ``None`` when that does not help."""
    for _ in range(TRIES):
        try:
            return step() or True
        except GateError as error:
            note("told", json.dumps({"refused": getattr(error, "code", None), "why": str(error)}))
            if getattr(error, "code", None) != -32005:
                return None
    return None


if __name__ == "__main__":
    sys.exit(main())
