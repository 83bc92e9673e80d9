"""Real gates, started by the real client, and the calls that are measured on them."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from measure import Lane

from toolgate.signatures.keys import public_key_text
from toolgate_client import GateClient, Outcome

CALLERS = 16
KEY = "ada.key"
"""The file, in a gate's folder, of the key of the one who approves."""
PAUSE = 0.01
"""Seconds that the body of ``pause`` takes."""
_EVENTS_OF_A_CALL = 4
PARAMETERS = {
    "type": "object",
    "properties": {"q": {"type": "string"}, "n": {"type": "integer"}},
    "required": ["q"],
}
_RULES: list[dict[str, Any]] = [
    {"id": "short", "tools": ["search"], "when": "args.q.size() < 100", "effect": "allow"},
    {
        "id": "no-shell",
        "tools": ["shell"],
        "when": "args.q.size() < 100",
        "effect": "deny",
        "reason": "agents run no commands",
    },
    {
        "id": "payments",
        "tools": ["pay"],
        "when": "args.q.size() < 100",
        "effect": "hold",
        "approval": {"approvers": ["ada"], "expires": "never"},
    },
    {"id": "pauses", "tools": ["pause"], "when": "args.q.size() < 100", "effect": "allow"},
]


def many_rules(total: int = 1000, of_the_tool: int = 20) -> list[dict[str, Any]]:
    """Return rules of which some are about ``search``: all of these are evaluated, the last allows.

    They deny, and deny is looked at first: no shorter way to the verdict exists.
    """
    others = [
        {"id": f"other-{i}", "tools": [f"tool_{i}"], "when": f"args.n > {i}", "effect": "deny"}
        for i in range(total - of_the_tool)
    ]
    denials = [
        {"id": f"limit-{i}", "tools": ["search"], "when": f"args.q.size() > {1000 + i}",
         "effect": "deny"}
        for i in range(of_the_tool - 1)
    ]  # fmt: skip
    return [*others, *denials, _RULES[0]]


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate with the tools search, shell, pay and pause: its client, and its process."""

    client: GateClient
    process: int


@contextmanager
def gate(
    folder: Path, *, durability: str = "process", rules: Sequence[dict[str, Any]] = _RULES
) -> Iterator[Gate]:
    """Start a gate whose journal is in ``folder``."""
    with GateClient(config_file(folder, durability=durability, rules=rules)) as client:
        for name in ("search", "shell", "pay"):
            client.register_tool(name, _body, parameters=PARAMETERS)
        client.register_tool("pause", _pause, parameters=PARAMETERS)
        yield Gate(client, _process_id(folder))


def config_file(
    folder: Path, *, durability: str = "process", rules: Sequence[dict[str, Any]] = _RULES
) -> Path:
    """Write a gate's config into ``folder``."""
    folder.mkdir(exist_ok=True)
    private = Ed25519PrivateKey.generate()
    (folder / KEY).touch(mode=0o600)
    (folder / KEY).write_bytes(
        private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    key = private.public_key()
    tools: dict[str, Any] = {name: {} for rule in rules for name in rule["tools"]}
    config = {
        "project": "benchmark",
        "durability": durability,
        "tools": {**tools, "search": {"level": 1}, "shell": {}, "pay": {}, "pause": {}},
        "policy": {"rules": list(rules)},
        "approvals": {
            "approvers": [{"id": "ada", "public_key": public_key_text(key)}],
            "max_pending": 1_000_000,  # nobody answers what is held to be timed
        },
    }
    path = folder / "gate.json"
    path.write_text(json.dumps(config))
    return path


def call(gate: Gate, tool: str, status: str) -> Callable[[], Outcome]:
    """Return a lane that makes a call never made before; each must end with ``status``."""
    client, numbers = gate.client, itertools.count()

    def once() -> Outcome:
        outcome = client.govern(tool, {"q": "where is my order", "n": next(numbers)})
        if outcome.status != status:
            raise RuntimeError(f"a call of {tool} has {outcome.status}, not {status}: {outcome}")
        return outcome

    return once


def propose(gate: Gate, make: Callable[[int], dict[str, Any]], actions: int) -> Lane:
    """Return a lane that proposes a plan of so many actions, which all must succeed."""
    client = gate.client

    def once() -> None:
        result = client.propose(make(actions))
        if not result.succeeded:
            failed = next((r for r in result.results if not r.succeeded), None)
            raise RuntimeError(f"a proposal is {result.status}, not all of it done: {failed}")

    return once


def verify(gate: Gate, proposal: dict[str, Any]) -> Lane:
    """Return a lane that has the gate verify a proposal; it must be valid."""
    client = gate.client

    def once() -> None:
        verification = client.verify(proposal)
        if not verification:
            raise RuntimeError(f"a plan that is one was found invalid: {verification.issues[:3]}")

    return once


def resume(gate: Gate, uids: Sequence[str], status: str) -> Lane:
    """Return a lane that resumes one of these actions, any of them; none of them moves on."""
    client, some = gate.client, random.Random(1)

    def once() -> None:
        outcome = client.resume(some.choice(uids))
        if outcome.status != status:
            raise RuntimeError(f"a resumed action is {outcome.status}, not {status}: {outcome}")

    return once


def at_once(pool: ThreadPoolExecutor, gate: Gate, calls: int) -> list[str]:
    """Make calls in :data:`CALLERS` threads; returns their actions' uids."""
    client, numbers = gate.client, iter(range(calls))

    def caller(_: int) -> list[str]:
        return [
            client.govern("search", {"q": "where is my order", "n": n}).uid
            for n in iter(lambda: next(numbers, None), None)
        ]

    return [uid for uids in pool.map(caller, range(CALLERS)) for uid in uids]


def calls_per_second(pool: ThreadPoolExecutor, gate: Gate, seconds: float) -> float:
    """Have :data:`CALLERS` threads make one call after the other, for about ``seconds``."""
    client = gate.client
    started = time.perf_counter()

    def caller(_: int) -> int:
        made = 0
        while made == 0 or time.perf_counter() - started < seconds:
            client.govern("search", {"q": "where is my order", "n": made})
            made += 1
        return made

    made = sum(pool.map(caller, range(CALLERS)))
    return made / (time.perf_counter() - started)


def fill(folder: Path, events: int) -> tuple[list[str], list[str]]:
    """Make a journal of at least so many events, by calls; returns settled and held actions."""
    with gate(folder) as filling, ThreadPoolExecutor(CALLERS) as pool:
        hold = call(filling, "pay", "held")
        held = [hold().uid for _ in range(10)]
        settled = at_once(pool, filling, -(-events // _EVENTS_OF_A_CALL))
    if length(folder) < events:
        raise RuntimeError(f"the journal has {length(folder)} events, not {events}")
    return settled, held


def length(folder: Path) -> int:
    """Return how many events the journal in ``folder`` has."""
    return int(_ask(folder, "SELECT max(seq) FROM event"))


def resident(pid: int) -> float:
    """Return a process's resident memory, in megabytes (10^6 bytes)."""
    status = Path(f"/proc/{pid}/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS:"))
        return int(line.split()[1]) * 1024 / 1e6
    output = subprocess.check_output(["ps", "-o", "rss=", "-p", str(pid)])  # noqa: S607
    return int(output) * 1024 / 1e6


def start_to_ready(config: Path) -> float:
    """Start a gate, and return the seconds until its first line."""
    return _to_first_line("-P", "-m", "toolgate", "serve", "--config", str(config))


def start_of_python() -> float:
    """Start an interpreter that says so at once, and return the seconds until it did."""
    return _to_first_line("-c", "print('ready', flush=True)")


def run_python(code: str) -> float:
    """Run a program in an interpreter of its own, and return the seconds to its end."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-I", "-c", code], check=True)
    return time.perf_counter() - started


def _to_first_line(*arguments: str) -> float:
    started = time.perf_counter()
    with subprocess.Popen(
        [sys.executable, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        took = time.perf_counter() - started
        process.stdin.close()
        process.stdout.read()
    if not line:
        raise RuntimeError(f"{' '.join(arguments)} ended before it was ready")
    return took


def _process_id(folder: Path) -> int:
    sql = "SELECT data FROM event WHERE kind = 'run.started' ORDER BY seq DESC LIMIT 1"
    return int(json.loads(_ask(folder, sql))["pid"])


def _ask(folder: Path, sql: str) -> Any:
    store = sqlite3.connect(folder / ".toolgate" / "journal.db")
    try:
        return store.execute(sql).fetchone()[0]
    finally:
        store.close()


def _body(args: dict[str, Any]) -> dict[str, Any]:
    return {"hits": 3}


def _pause(args: dict[str, Any]) -> dict[str, Any]:
    time.sleep(PAUSE)
    return {"hits": 3}
