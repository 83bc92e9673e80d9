"""Stores that are full, read-only, torn or damaged, and clocks that step back."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.clock import MINUTE, Clock
from support.driver import Driver
from support.fault_runs import deployment
from support.people import ALICE
from toolgate.config import parse_config
from toolgate.errors import JournalError, ToolgateError
from toolgate.journal.opening import inspect_journal
from toolgate.journal.verify import verify
from toolgate.wire.messages import RPCError
from toolgate_client import GateClient, GateError, GateStartError

DAY = 24 * 60 * MINUTE
BOUND = 10.0


def journal_of(folder: Path) -> Path:
    """Return where a deployment's journal is."""
    return folder / ".toolgate" / "journal.db"


def config() -> dict[str, Any]:
    """Return the deployment of the matrix, in one session."""
    return {**deployment(), "session": "s"}


def problem_in(folder: Path) -> Any:
    """Return what `journal verify` finds wrong."""
    try:
        journal = inspect_journal(parse_config(config(), folder))
    except JournalError as error:
        return error
    try:
        return verify(journal.store, journal.key, lambda seen: None).problem
    except JournalError as error:
        return error
    finally:
        journal.store.close()


class World:
    """Counts bodies by what they were asked for, across gates and copies of journals."""

    def __init__(self) -> None:
        self.ran: Counter[int] = Counter()

    def body(self, args: dict[str, Any]) -> Any:
        self.ran[args["n"]] += 1
        return args["n"]

    async def equip(self, gate: Driver) -> None:
        for tool in ("search", "pay", "undo"):
            await gate.tool(tool, self.body)


# -- full and read-only ----------------------------------------------------------------------------


def test_calls_that_meet_a_full_disk_run_once_and_what_was_told_stands(tmp_path: Path) -> None:
    path = tmp_path / "gate.json"
    path.write_text(json.dumps(config()))
    limited = ["sh", "-c", f'ulimit -f 600; exec {sys.executable} -m toolgate "$@"', "gate"]
    ran: Counter[int] = Counter()
    told: dict[int, Any] = {}
    refused = 0

    def body(args: dict[str, Any]) -> str:
        ran[args["n"]] += 1
        return str(args["n"]) * 4000

    with GateClient(path, launcher=limited) as gate:
        gate.register_tool("search", body)
        for n in range(40):
            try:
                told[n] = gate.govern("search", {"n": n}, idempotency_key=str(n)).output
            except GateError:
                refused += 1
            if refused == 3:
                break
    assert told
    assert refused == 3
    with GateClient(path) as gate:
        gate.register_tool("search", body)
        for n in range(max(told) + 4):
            outcome = gate.govern("search", {"n": n}, idempotency_key=str(n))
            if n in told:
                assert outcome.output == told[n]
            elif not outcome.succeeded:
                assert outcome.error is not None
                assert outcome.error.kind == "in_doubt"
                assert ran[n] == 1
    assert set(ran.values()) == {1}


def bound_by_permissions() -> list[str]:
    """Return what to start a command with so that a file's mode holds for it."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    dropped = ["--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"]
    if setpriv is None:
        pytest.skip("root may write every file, and there is no setpriv to take that away")
    return [setpriv, *dropped]


@pytest.mark.parametrize("what", ["the journal", "its folder"])
def test_gate_does_not_start_on_a_journal_that_it_may_not_write(tmp_path: Path, what: str) -> None:
    (tmp_path / "gate.json").write_text(json.dumps(config()))
    with GateClient(tmp_path / "gate.json") as gate:
        gate.register_tool("search", lambda args: "found")
        gate.govern("search", {"n": 1}, idempotency_key="k")
    journal = journal_of(tmp_path)
    place = journal if what == "the journal" else journal.parent
    mode = place.stat().st_mode
    place.chmod(0o400 if place == journal else 0o500)
    before = journal.read_bytes()
    command = [sys.executable, "-m", "toolgate", "serve"]
    try:
        served = subprocess.run(
            [*bound_by_permissions(), *command, "--config", str(tmp_path / "gate.json")],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        place.chmod(mode)
    assert served.returncode == 2
    assert served.stdout == ""
    assert "toolgate: cannot start" in served.stderr
    assert "journal" in served.stderr
    assert "Traceback" not in served.stderr
    assert journal.read_bytes() == before


# -- torn and damaged ------------------------------------------------------------------------------


async def image_of_a_kill(tmp_path: Path, world: World) -> tuple[Path, int, int]:
    """Return a journal as a kill leaves it, and how long its WAL was around the claim of a call.

    The claim of the call 2 is the last thing in it; before it 1 has succeeded.
    """
    async with Driver(tmp_path / "first", config()) as gate:
        await gate.tool("search", world.body)
        await gate.tool("undo")
        await gate.govern("search", {"n": 1}, idempotency_key="1")
        wal = journal_of(tmp_path / "first").with_name("journal.db-wal")
        before = wal.stat().st_size
        gate.send("govern", tool="undo", args={"n": 2}, idempotency_key="2")
        await gate.runs.get()
        after = wal.stat().st_size
        shutil.copytree(tmp_path / "first" / ".toolgate", tmp_path / "image")
        gate.die()
    return tmp_path / "image", before, after


@pytest.mark.parametrize("how", ["cut", "zeroed", "garbled"])
async def test_transaction_that_a_kill_has_torn_never_happened_and_the_call_runs_once(
    tmp_path: Path, how: str
) -> None:
    image, before, after = await image_of_a_kill(tmp_path, world := World())
    assert before < after
    for place, length in enumerate(range(before, after, 509)):
        folder = tmp_path / f"{how}{place}"
        shutil.copytree(image, folder / ".toolgate")
        wal = journal_of(folder).with_name("journal.db-wal")
        whole = wal.read_bytes()
        rest = {"cut": b"", "zeroed": bytes(after - length), "garbled": os.urandom(after - length)}
        wal.write_bytes(whole[:length] + rest[how])
        later = World()
        async with Driver(folder, config()) as gate:
            await later.equip(gate)
            first = await gate.govern("search", {"n": 1}, idempotency_key="1")
            second = await gate.govern("undo", {"n": 2}, idempotency_key="2")
            again = await gate.govern("undo", {"n": 2}, idempotency_key="2")
            assert problem_in(folder) is None
        assert (first["output"], first["replayed"]) == (1, True)
        assert (second["output"], again["output"], later.ran) == (2, 2, {2: 1})
    assert world.ran == {1: 1}


async def test_whole_claim_that_a_kill_has_left_is_in_doubt(tmp_path: Path) -> None:
    image, _, _ = await image_of_a_kill(tmp_path, World())
    shutil.copytree(image, tmp_path / "whole" / ".toolgate")
    async with Driver(tmp_path / "whole", config()) as gate:
        await gate.tool("undo", lambda args: "again")
        outcome = await gate.govern("undo", {"n": 2}, idempotency_key="2")
    assert outcome["error"]["kind"] == "in_doubt"
    assert gate.ran == []


async def settled(tmp_path: Path, world: World) -> Path:
    """Return a deployment in which 1 has succeeded, 2 is approved, and 3 is held."""
    folder = tmp_path / "whole"
    async with Driver(folder, config()) as gate:
        await world.equip(gate)
        await gate.govern("search", {"n": 1}, idempotency_key="1")
        for n in (2, 3):
            held = await gate.govern("pay", {"n": n}, idempotency_key=str(n))
            if n == 2:
                gate.approve(held["uid"], ALICE, tmp_path)
    return folder


async def use(folder: Path, world: World) -> list[str]:
    """Use a journal as an agent would, twice over; return what was refused."""
    refused: list[str] = []
    for _ in range(2):
        try:
            async with asyncio.timeout(BOUND), Driver(folder, config()) as gate:
                await world.equip(gate)
                for tool, n in (("search", 1), ("pay", 2), ("pay", 3)):
                    try:
                        await gate.govern(tool, {"n": n}, idempotency_key=str(n))
                    except RPCError as error:
                        refused.append(f"{error.code} {error}")
        except (ToolgateError, RPCError) as error:
            refused.append(str(error))
    return refused


@dataclass
class Damage:
    """What came of a journal that was damaged in many ways."""

    ways: int = 0
    refused: int = 0
    """How often a gate that used it noticed."""


async def damaged(tmp_path: Path, damage: Any) -> Damage:
    """Damage a copy of a journal in each of many ways, and use it.

    Nothing unapproved may run, and what was approved or recorded not twice; whatever the damage,
    `journal verify` finds it.
    """
    whole = await settled(tmp_path, first := World())
    content = journal_of(whole).read_bytes()
    found = Damage()
    for broken in damage(content):
        folder = tmp_path / str(found.ways)
        shutil.copytree(whole, folder)
        journal_of(folder).write_bytes(broken)
        assert problem_in(folder) is not None, found.ways
        world = World()
        world.ran.update(first.ran)
        refused = await use(folder, world)
        assert not any(told.startswith("-") and "-32005" not in told for told in refused), refused
        found.refused += bool(refused)
        assert world.ran[1] == 1
        assert world.ran[2] <= 1
        assert world.ran[3] == 0
        shutil.rmtree(folder)
        found.ways += 1
    return found


async def test_database_that_is_cut_short_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    def cut(content: bytes) -> Any:
        for length in [*range(0, len(content), 2048), 100, 1000, len(content) - 1500]:
            yield content[:length]

    found = await damaged(tmp_path, cut)
    assert found.ways > 30
    assert found.refused == found.ways


async def test_database_with_a_lost_page_runs_nothing_twice_and_does_not_verify(
    tmp_path: Path,
) -> None:
    def lose(content: bytes) -> Any:
        for start in range(0, len(content), 2048):
            yield content[:start] + bytes(2048) + content[start + 2048 :]

    found = await damaged(tmp_path, lose)
    # A gate does not look at pages that it does not need for what it is asked.
    assert found.ways // 2 < found.refused <= found.ways


# -- the clock -------------------------------------------------------------------------------------


async def test_clock_that_steps_back_neither_ends_a_hold_nor_keeps_it_open_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = Clock(monkeypatch)
    changed = config()
    changed["policy"]["rules"][2]["approval"]["expires"] = "15m"
    async with Driver(tmp_path, changed) as gate:
        await gate.tool("pay", lambda args: "paid")
        first = await gate.govern("pay", {"n": 1})
        wall.forward(-DAY)
        second = await gate.govern("pay", {"n": 2})
        states = [
            await gate.request("resume", uid=uid["uid"], wait_ms=0) for uid in (first, second)
        ]
        # The gate's own time stands still until the clock has caught up with it.
        wall.forward(DAY + 14 * MINUTE)
        gate.approve(first["uid"], ALICE, tmp_path)
        paid = await gate.request("resume", uid=first["uid"])
        wall.forward(2 * MINUTE)
        expired = await gate.request("resume", uid=second["uid"], wait_ms=0)
        assert problem_in(tmp_path) is None
    assert [state["status"] for state in states] == ["held", "held"]
    assert second["hold"]["deadline"] >= first["hold"]["deadline"]
    assert paid["output"] == "paid"
    assert expired["error"]["kind"] == "approval_timeout"


async def test_gate_started_after_the_clock_stepped_back_gives_new_ids_and_honours_old_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wall = Clock(monkeypatch)
    uids: list[str] = []
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: args["n"])
        uids += [
            (await gate.govern("search", {"n": n}, idempotency_key=str(n)))["uid"] for n in "ab"
        ]
    wall.forward(-DAY)
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: args["n"])
        again = [(await gate.govern("search", {"n": n}, idempotency_key=str(n))) for n in "ab"]
        uids += [(await gate.govern("search", {"n": n}))["uid"] for n in "cdef"]
        assert problem_in(tmp_path) is None
    assert [outcome["uid"] for outcome in again] == uids[:2]
    assert all(outcome["replayed"] for outcome in again)
    assert len(set(uids)) == len(uids)
    assert [args["n"] for _, args in gate.ran] == list("cdef")


def test_gate_that_cannot_start_for_its_store_tells_the_client_why(tmp_path: Path) -> None:
    (tmp_path / "gate.json").write_text(json.dumps(config()))
    journal = journal_of(tmp_path)
    journal.parent.mkdir(mode=0o700)
    journal.mkdir()
    with pytest.raises(GateStartError, match="journal") as caught:
        GateClient(tmp_path / "gate.json").__enter__()
    assert caught.value.exit_code == 2
