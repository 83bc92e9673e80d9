"""What a gate notices reaches its people: all of it on stderr, so much of it by ``log``."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.driver import Driver
from support.people import config
from toolgate import notices
from toolgate.errors import JournalUnavailable
from toolgate.notices import AGAIN, BURST, LONGEST, ROOM, Notices
from toolgate.wire.messages import RPCError


class World:
    """Notices with a clock that is set by hand."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.stderr: list[str] = []
        self.sent: list[tuple[str, str]] = []
        self.now = 1000.0
        self.waiting = 0
        monkeypatch.setattr(notices, "log", self.stderr.append)
        self.notices = Notices(
            lambda level, text: self.sent.append((level, text)),
            lambda: self.waiting,
            lambda: self.now,
        )


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    return World(monkeypatch)


def test_a_notice_is_told_on_stderr_and_to_the_client(world: World) -> None:
    world.notices.tell("warning", "take care")
    assert world.stderr == ["take care"]
    assert world.sent == [("warning", "take care")]


def test_a_flood_reaches_stderr_and_not_the_client(world: World) -> None:
    for number in range(BURST + 7):
        world.notices.tell("info", f"notice {number}")
    assert len(world.stderr) == BURST + 7
    assert len(world.sent) == BURST
    world.now += 1
    world.notices.tell("info", "one more")
    assert world.sent[BURST:] == [
        ("info", "one more (7 notices before this are on the gate's stderr alone)")
    ]


def test_a_client_that_does_not_read_is_told_nothing(world: World) -> None:
    world.waiting = ROOM
    world.notices.tell("error", "unheard")
    world.waiting = 0
    world.notices.tell("error", "heard")
    assert [text for _, text in world.sent] == [
        "heard (1 notices before this are on the gate's stderr alone)"
    ]


def test_a_long_notice_is_cut_for_the_client(world: World) -> None:
    world.notices.tell("error", "x" * 10_000)
    [(_, text)] = world.sent
    assert len(text) < LONGEST + 100
    assert world.stderr == ["x" * 10_000]


def test_what_is_for_stderr_alone_stays_there(world: World) -> None:
    world.notices.tell("error", "internal error", more=": Traceback …")
    assert world.stderr == ["internal error: Traceback …"]
    assert world.sent == [("error", "internal error")]


def test_the_same_trouble_is_told_again_only_after_a_while(world: World) -> None:
    for _ in range(3):
        world.notices.trouble("disk full")
        world.now += AGAIN / 2 - 1
    world.notices.trouble("something else")
    assert world.stderr == ["disk full", "something else"]
    world.now += AGAIN
    world.notices.trouble("disk full")
    assert world.stderr[2:] == ["disk full"]


def test_the_memory_of_troubles_is_bounded(world: World) -> None:
    for number in range(1000):
        world.notices.trouble(f"trouble {number}")
    assert len(world.notices._troubles) <= 100


async def logged(gate: Driver) -> tuple[str, str]:
    note = await gate.notes.get()
    assert note["method"] == "log"
    return note["params"]["level"], note["params"]["message"]


async def test_a_policy_that_is_put_in_force_or_refused_is_told(tmp_path: Path) -> None:
    def write(*rules: dict[str, Any]) -> None:
        document = {"version": 1, "id": "doc", "rules": list(rules)}
        (tmp_path / "policy.yaml").write_text(yaml.safe_dump(document))

    write({"id": "s", "tools": ["search"], "effect": "allow"})
    async with Driver(tmp_path, config(policy={"file": "policy.yaml"})) as gate:
        write({"id": "s", "tools": ["search"], "effect": "deny"})
        gate.gate.reload()
        level, text = await logged(gate)
        assert (level, text.split(":")[0]) == ("info", "policy reloaded")
        write({"id": "s", "tools": ["search"], "effect": "deny", "when": "args.q ="})
        gate.gate.reload()
        level, text = await logged(gate)
        while "POLICY NOT RELOADED" not in text:
            level, text = await logged(gate)
    assert level == "error"


async def test_a_journal_that_cannot_be_written_is_told_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")

        def full(*_: Any) -> None:
            raise JournalUnavailable("the journal cannot be written: disk full")

        with monkeypatch.context() as patched:
            patched.setattr(type(gate.gate.runtime._journal._store), "append", full)
            for _ in range(3):
                with pytest.raises(RPCError, match="disk full"):
                    await gate.govern("search")
        level, text = await logged(gate)
        assert await gate.request("ping") == {}
        assert gate.notes.empty()
    assert level == "error"
    assert "disk full" in text


async def test_a_defect_is_told_without_its_details(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    async with Driver(tmp_path, config()) as gate:

        def broken(*_: Any) -> None:
            raise ZeroDivisionError("s3cret")

        monkeypatch.setattr(gate.gate.runtime, "state", broken)
        with pytest.raises(RPCError) as caught:
            await gate.request("state")
        level, text = await logged(gate)
    assert caught.value.code == -32603
    assert level == "error"
    assert "ZeroDivisionError" in text
    assert "s3cret" not in text
    assert "s3cret" in capsys.readouterr().err


async def test_lodestars_clients_are_told_nothing(tmp_path: Path) -> None:
    from support.lodestar_driver import LodestarDriver

    async with LodestarDriver(tmp_path, config()) as gate:
        gate.gate._notices.tell("error", "unheard")
        await asyncio.sleep(0)
        assert json.dumps(await gate.ask("register_tool", name="search")).count("unheard") == 0
