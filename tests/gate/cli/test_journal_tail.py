"""`journal tail` shows what is committed while it runs, and ends when it is told to."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from support.driver import Driver
from support.people import config
from toolgate.cli.app import app

PATIENCE = 20.0
"""Seconds that any wait may take."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the config of a deployment."""
    file = tmp_path / "gate.yaml"
    file.write_text(yaml.safe_dump(config(session="s")))
    return file


def gate_of(path: Path) -> Driver:
    """Return a gate of the deployment."""
    return Driver(path.parent, config(session="s"))


def tail(path: Path, *options: str, code: int = 0) -> Result:
    """Run the command to its end, which must be with ``code``."""
    arguments = ["journal", "tail", "--config", str(path), *options]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def kinds(result: Result) -> list[str]:
    """Return the kinds of the events that were printed as JSON."""
    return [json.loads(line)["kind"] for line in result.stdout.splitlines()]


class Tail:
    """The command, running; its lines as they come."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        """``process`` prints into a pipe."""
        self.process = process
        self._rest = b""

    def line(self) -> str:
        """Wait for a line and return it."""
        assert self.process.stdout is not None
        until = time.monotonic() + PATIENCE
        while b"\n" not in self._rest:
            wait = max(until - time.monotonic(), 0)
            assert select.select([self.process.stdout], [], [], wait)[0], "no line in time"
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, "it has ended"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def event(self) -> Any:
        """Wait for a line and return it as JSON."""
        return json.loads(self.line())


@contextmanager
def following(path: Path, *options: str) -> Iterator[Tail]:
    """Run the command as people do; it is ended with the block."""
    command = [sys.executable, "-m", "toolgate", "journal", "tail", "-c", str(path), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        yield Tail(process)
    finally:
        process.kill()
        process.communicate()


async def test_last_events_are_shown_and_then_each_that_is_committed(path: Path) -> None:
    async with gate_of(path) as gate:
        await gate.tool("search", lambda args: "found")
        with following(path, "-n", "1", "--json") as tailed:
            assert tailed.event()["kind"] == "tool.registered"
            for number in range(3):
                outcome = await gate.govern("search", {"n": number})
                events = [tailed.event() for _ in range(4)]
                assert [event["kind"] for event in events] == [
                    "action.proposed",
                    "action.decided",
                    "action.executing",
                    "action.succeeded",
                ]
                assert {event["action"] for event in events} == {outcome["uid"]}
                assert all(event["genuine"] for event in events)


async def test_only_what_is_asked_for_is_followed(path: Path) -> None:
    async with gate_of(path) as gate:
        await gate.tool("search", lambda args: "found")
        options = ("-n", "0", "--json", "--kind", "action.succeeded", "--kind", "label.*")
        with following(path, *options, "--limit", "2") as tailed:
            while tailed.process.poll() is None:
                await gate.govern("search", {"n": time.monotonic_ns()})
            assert [tailed.event()["kind"] for _ in range(2)] == ["action.succeeded"] * 2
        assert tailed.process.returncode == 0


async def test_it_ends_after_so_many_events_or_seconds(path: Path) -> None:
    async with gate_of(path) as gate:
        await gate.tool("search", lambda args: "found")
        uid = (await gate.govern("search"))["uid"]
    assert len(kinds(tail(path, "--seconds", "0", "--json"))) == 9
    assert len(kinds(tail(path, "--seconds", "0", "--json", "--limit", "2"))) == 2
    last = tail(path, "--seconds", "0.2", "--json", "-n", "2")
    assert kinds(last) == ["action.succeeded", "run.ended"]
    ours = tail(path, "--seconds", "0", "--json", "--action", uid, "-n", "99")
    assert kinds(ours)[0] == "action.proposed"
    assert len(kinds(ours)) == 4
    run = tail(path, "--seconds", "0", "--json", "--kind", "run.*")
    assert kinds(run) == ["run.started", "run.ended"]
    session = tail(path, "--seconds", "0", "--json", "--session", "other")
    assert session.stdout == ""


async def test_for_people_each_event_is_one_line(path: Path) -> None:
    async with gate_of(path) as gate:
        await gate.tool("search", lambda args: "one\ntwo \x1b[2J")
        await gate.govern("search", {"q": "x" * 500})
    shown = tail(path, "--seconds", "0", "-n", "99").stdout.splitlines()
    assert len(shown) == 9
    assert all("\x1b" not in line for line in shown)
    assert any("action.proposed" in line and "x" * 500 in line for line in shown)
    assert any("one\\ntwo" in line for line in shown)


@pytest.mark.parametrize("end", [signal.SIGINT, "closed"], ids=["Ctrl-C", "no reader"])
async def test_it_ends_well(path: Path, end: Any) -> None:
    async with gate_of(path):
        with following(path, "--json") as tailed:
            tailed.event()
            if end == "closed":
                assert tailed.process.stdout is not None
                tailed.process.stdout.close()
                tailed.process.stdout = None
            else:
                tailed.process.send_signal(end)
            assert tailed.process.wait(PATIENCE) == 0
            assert tailed.process.stderr is not None
            assert tailed.process.stderr.read() == b""


async def test_kind_that_there_is_not_is_wrong_use(path: Path) -> None:
    async with gate_of(path):
        pass
    assert "no kind of event" in " ".join(tail(path, "--kind", "nothing.*", code=2).stderr.split())


async def test_event_that_is_not_genuine_says_so(path: Path) -> None:
    async with gate_of(path) as gate:
        store = gate.gate.runtime._journal.reader.store
        store._db.execute("UPDATE event SET at = at + 1 WHERE seq = 1")
        shown = tail(path, "--seconds", "0", "--json").stdout.splitlines()
        people = tail(path, "--seconds", "0").stdout.splitlines()
    assert [json.loads(line)["genuine"] for line in shown] == [False, *[True] * (len(shown) - 1)]
    assert "NOT GENUINE" in people[0]


async def test_journal_that_is_moved_or_cut_under_it_ends_it_with_an_error(path: Path) -> None:
    async with gate_of(path) as gate:
        with following(path, "--json") as tailed:
            tailed.event()
            store = gate.gate.runtime._journal.reader.store
            store._db.execute("DELETE FROM event WHERE seq > 2")
            assert tailed.process.wait(PATIENCE) == 2
            assert tailed.process.stderr is not None
            assert b"events were taken away" in tailed.process.stderr.read()
    with following(path, "--json", "-n", "1") as tailed:
        tailed.event()
        (path.parent / ".toolgate/journal.db").rename(path.parent / "elsewhere.db")
        assert tailed.process.wait(PATIENCE) == 2
        assert tailed.process.stderr is not None
        assert b"was moved" in tailed.process.stderr.read()
