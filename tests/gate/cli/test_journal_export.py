"""What `journal export` writes can be verified by a program that knows nothing of Toolgate."""

from __future__ import annotations

import json
import os
import sqlite3
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from support.doc_pages import ROOT, blocks
from support.driver import Driver
from support.people import config
from toolgate.cli.app import app

GUIDE = ROOT / "docs" / "guides" / "journal.md"
DEPLOYMENT = config(session="s")


async def deployment(folder: Path) -> Path:
    """Leave a journal of two runs, with calls in two sessions; return its config."""
    for session in ("s", "other"):
        async with Driver(folder, config(session=session)) as gate:
            await gate.tool("search", lambda args: {"found": "ü \x1b[2J", "n": 2**70})
            await gate.govern("search", {"q": "ä\n"})
    path = folder / "gate.yaml"
    path.write_text(yaml.safe_dump(DEPLOYMENT))
    return path


def export(path: Path, *options: str, code: int = 0) -> Result:
    """Run the command, which must end with ``code``."""
    arguments = ["journal", "export", "--config", str(path), *options]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done


def lines(text: str) -> list[dict[str, Any]]:
    """Return an export's lines."""
    return [json.loads(line) for line in text.splitlines()]


def verified(folder: Path, exported: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the guide's recipe on an export."""
    (folder / "export.ndjson").write_text(exported)
    (recipe,) = [b.text for b in blocks(GUIDE) if b.options.get("file") == "verify_export.py"]
    (folder / "verify_export.py").write_text(recipe)
    return subprocess.run(
        [sys.executable, "-I", "verify_export.py", "export.ndjson", *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
        cwd=folder,
    )


async def test_export_has_every_event_exactly_between_a_first_and_a_last_line(
    tmp_path: Path,
) -> None:
    path = await deployment(tmp_path)
    first, *events, last = lines(export(path).stdout)
    with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
        stored = db.execute("SELECT * FROM event ORDER BY seq").fetchall()
        (key_id,) = db.execute("SELECT value FROM meta WHERE key = 'key_id'").fetchone()
    db.close()
    assert first == {
        "format": "toolgate-journal-export",
        "version": 1,
        "key_id": key_id,
        "after": 0,
        "until": len(stored),
        "session": None,
    }
    assert last["end"] is True
    assert last["events"] == len(stored)
    assert sum(last["runs"].values()) == len(stored)
    for event, row in zip(events, stored, strict=True):
        assert list(event.values()) == [
            *row[:7],
            row[7].decode(),
            *(value.hex() for value in row[8:]),
        ]


async def test_guides_recipe_verifies_an_export_with_and_without_the_key(tmp_path: Path) -> None:
    path = await deployment(tmp_path)
    exported = export(path).stdout
    without = verified(tmp_path, exported)
    assert without.returncode == 0, without.stderr
    assert "2 chains" in without.stdout
    key = verified(tmp_path, exported, ".toolgate/journal.key")
    assert key.returncode == 0, key.stderr
    (tmp_path / "another.key").write_text("QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=")
    assert verified(tmp_path, exported, "another.key").returncode == 1


CHANGES = {
    "an event edited": lambda ls: [*ls[:4], ls[4].replace("search", "shell!", 1), *ls[5:]],
    "an event deleted": lambda ls: [*ls[:4], *ls[5:]],
    "two swapped": lambda ls: [*ls[:4], ls[5], ls[4], *ls[6:]],
    "an event twice": lambda ls: [*ls[:4], ls[3], *ls[4:]],
    "the end cut off": lambda ls: ls[:-3],
    "the last event deleted": lambda ls: [*ls[:-2], ls[-1]],
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
async def test_guides_recipe_finds_what_was_changed_in_an_export(
    tmp_path: Path, change: Any
) -> None:
    exported = export(await deployment(tmp_path)).stdout.splitlines(keepends=True)
    changed = change(exported)
    assert changed != exported
    assert verified(tmp_path, "".join(changed)).returncode == 1


async def test_part_of_the_log_is_exported_and_verifies_as_far_as_it_goes(tmp_path: Path) -> None:
    path = await deployment(tmp_path)
    whole = lines(export(path).stdout)[1:-1]
    part = export(path, "--after", "3", "--until", "6").stdout
    assert lines(part)[1:-1] == whole[3:6]
    assert verified(tmp_path, part).returncode == 0
    session = export(path, "--session", "s").stdout
    assert lines(session)[1:-1] == [event for event in whole if event["session"] == "s"]
    assert verified(tmp_path, session).returncode == 0
    assert lines(export(path, "--until", "999999").stdout)[0]["until"] == len(whole)


async def test_file_is_made_for_its_owner_alone_and_never_replaces_one(tmp_path: Path) -> None:
    path = await deployment(tmp_path)
    out = tmp_path / "export.ndjson"
    before = os.umask(0)
    try:
        done = export(path, "--out", str(out))
    finally:
        os.umask(before)
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert done.stdout == ""
    assert out.read_text() == export(path).stdout
    again = export(path, "--out", str(out), code=2)
    assert "exists" in again.stderr
    nowhere = export(path, "--out", str(tmp_path / "no" / "folder"), code=2)
    assert "cannot write" in nowhere.stderr
    assert not [name for name in os.listdir(tmp_path) if name.startswith(".export")]


async def test_forged_event_is_exported_as_it_is_and_told_of(tmp_path: Path) -> None:
    path = await deployment(tmp_path)
    with sqlite3.connect(tmp_path / ".toolgate/journal.db") as db:
        db.execute("UPDATE event SET data = x'ff00' WHERE seq = 5")
    db.close()
    done = export(path, code=1)
    assert "event 5 is not genuine" in done.stderr
    assert lines(done.stdout)[5]["data"] == {"not_text": "ff00"}
    assert verified(tmp_path, done.stdout).returncode == 1


async def test_export_prints_nothing_that_acts_on_a_terminal(tmp_path: Path) -> None:
    text = export(await deployment(tmp_path)).stdout
    assert text.isascii()
    assert all(char.isprintable() or char == "\n" for char in text)
