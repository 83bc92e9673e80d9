"""The journal's files: whose they are, and what happens when they cannot be used."""

from __future__ import annotations

import os
import resource
import sqlite3
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.people import config
from toolgate.errors import JournalError
from toolgate.journal.chain import JournalKey
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Journal
from toolgate.journal.liveness import Liveness
from toolgate.journal.opening import inspect_journal
from toolgate.journal.schema import MIGRATIONS, SCHEMA_VERSION
from toolgate.journal.sqlite import SQLiteStore
from toolgate.journal.verify import verify
from toolgate.kernel import recording
from toolgate.wire.messages import RPCError

DB = ".toolgate/journal.db"
KEY = JournalKey(bytes(range(32)))


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Set the umask meanwhile."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)


def modes(folder: Path) -> dict[str, int]:
    """Return the mode of everything under a folder."""
    return {
        path.relative_to(folder).as_posix(): stat.S_IMODE(path.stat().st_mode)
        for path in folder.rglob("*")
    }


def problem(folder: Path) -> str | None:
    """Return what `verify` finds wrong."""
    journal = inspect_journal(Driver(folder, config()).config)
    try:
        return verify(journal.store, journal.key, lambda seen: None).problem
    finally:
        journal.store.close()


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o277])
async def test_files_are_their_owners_alone_whatever_the_umask(tmp_path: Path, mask: int) -> None:
    deep = tmp_path / "a" / "b"
    tmp_path.joinpath("gate").mkdir()
    with umask(mask):
        gate = Driver(tmp_path / "gate", config(journal=f"sqlite:///{deep}/journal.db"))
        async with gate:
            await gate.tool("search", lambda args: "found")
            await gate.govern("search")
            found = modes(tmp_path / "a")
    files = {name: mode for name, mode in found.items() if "." in name and "-runs" not in name}
    assert set(files) >= {"b/journal.db", "b/journal.db-wal", "b/journal.db-shm"}
    assert set(files.values()) == {0o600}
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700
    assert found["b"] == found["b/journal.db-runs"] == 0o700
    (lock,) = [mode for name, mode in found.items() if name.endswith(".lock")]
    assert lock == 0o600


async def test_journal_that_others_may_read_or_replace_is_warned_of(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        assert not [w for w in gate.gate.runtime.warnings if "chmod" in w]
    (tmp_path / DB).chmod(0o644)
    (tmp_path / ".toolgate").chmod(0o777)
    async with Driver(tmp_path, config()) as later:
        told = " ".join(later.gate.runtime.warnings)
    assert "has mode 0644" in told
    assert "chmod 700" in told


def test_opening_a_journal_again_leaves_the_locks_of_its_other_users_alone(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    one = SQLiteStore(path)
    one.set_meta("a", "1")
    two = SQLiteStore(path)
    # Whoever is the last to use a journal takes its WAL away: nobody else may believe to be.
    script = (
        f"import sqlite3; db = sqlite3.connect({str(path)!r}); db.execute('select 1 from meta')"
    )
    subprocess.run([sys.executable, "-c", f"{script}; db.close()"], check=True, timeout=20)
    assert path.with_name("j.db-wal").exists()
    two.set_meta("a", "2")
    assert one.meta("a") == "2"
    one.close()
    two.close()


@contextmanager
def full_disk(folder: Path) -> Iterator[None]:
    """Let no file grow beyond what the journal's WAL is now."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    length = (folder / f"{DB}-wal").stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (length, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


async def test_result_of_a_body_that_ran_is_recorded_once_the_disk_has_room_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "RECORD_RETRIES", (0.01, 0.01))
    monkeypatch.setattr(recording, "RECORD_AGAIN", 0.01)
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        call = gate.send("govern", tool="search", args={}, idempotency_key="k")
        run = await gate.runs.get()
        with full_disk(tmp_path):
            with pytest.raises(RPCError) as refused:
                await gate.govern("search", {"n": 2})
            gate.answer(run, "x" * 10_000)
            with pytest.raises(RPCError) as told:
                await call
            assert await gate.request("ping") == {}
        uid = run["params"]["uid"]
        while (outcome := await gate.request("resume", uid=uid))["status"] == "executing":
            await gate.request("ping")
        again = await gate.govern("search", {}, idempotency_key="k")
    assert refused.value.code == told.value.code == -32005
    assert told.value.data["ran"] is True
    assert (outcome["status"], outcome["output"]) == ("succeeded", "x" * 10_000)
    assert (again["uid"], again["replayed"]) == (outcome["uid"], True)
    assert len(gate.ran) == 1
    assert problem(tmp_path) is None


OPEN = """
import os, sys
from pathlib import Path
from toolgate.errors import JournalUnavailable
from toolgate.journal.chain import JournalKey
from toolgate.journal.journal import Journal
from toolgate.journal.liveness import Liveness
from toolgate.journal.sqlite import SQLiteStore
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(65534), os.setuid(65534)
try:
    path = Path(sys.argv[1])
    journal = Journal(SQLiteStore(path), JournalKey(bytes(range(32))), Liveness(None))
    journal.start("test")
except JournalUnavailable as error:
    print(error)
"""


@pytest.mark.parametrize("what", ["file", "folder"])
def test_journal_that_is_read_only_keeps_a_gate_from_starting_and_says_so(what: str) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "j.db"
        Journal(SQLiteStore(path), KEY, Liveness(None)).close()
        # Root may write everywhere, so that this is another user's business.
        owner = 65534 if os.geteuid() == 0 else os.geteuid()
        for place, mode in ((path, 0o444 if what == "file" else 0o644), (Path(name), 0o555)):
            os.chown(place, owner, -1)
            place.chmod(mode)
        opened = subprocess.run(
            [sys.executable, "-c", OPEN, str(path)],
            check=False,
            capture_output=True,
            text=True,
            timeout=20,
        )
        Path(name).chmod(0o700)
    assert opened.returncode == 0, opened.stderr
    assert "the journal could not be" in opened.stdout
    assert "readonly" in opened.stdout or "unable to open" in opened.stdout


def filled(folder: Path) -> Path:
    """Leave a journal of some hundred events, some of them in the WAL alone."""
    path = folder / "j.db"
    journal = Journal(SQLiteStore(path), KEY, Liveness(None))
    journal.start("test")
    for number in range(100):
        data: dict[str, Any] = {"number": number, "text": "x" * 200}
        journal.write_now(lambda tx, data=data: tx.append(EventKind.TOOL_REGISTERED, data))
    for name in ("j.db", "j.db-wal"):
        (folder / f"crashed-{name}").write_bytes((folder / name).read_bytes())
    journal.close()
    return folder / "crashed-j.db"


@pytest.mark.parametrize("kept", [0, 20, 32, 1000, 50_000])
def test_wal_that_was_cut_short_loses_the_newest_commits_and_nothing_else(
    tmp_path: Path, kept: int
) -> None:
    path = filled(tmp_path)
    wal = path.with_name(f"{path.name}-wal")
    with wal.open("r+b") as file:
        file.truncate(kept)
    store = SQLiteStore(path)
    journal = Journal(store, KEY, Liveness(None))
    journal.start("again")
    journal.end("done")
    found = SQLiteStore(path, create=False)
    report = verify(found, KEY, lambda seen: None)
    found.close()
    assert report.problem is None
    assert report.events < 103


def refused(path: Path) -> str | None:
    """Return what is wrong with a journal: it cannot be opened or read, or does not verify."""
    try:
        store = SQLiteStore(path, create=False)
    except JournalError as error:
        return str(error)
    try:
        return verify(store, KEY, lambda seen: None).problem
    except JournalError as error:
        return str(error)
    finally:
        store.close()


@pytest.mark.parametrize(
    ("at", "length"), [(0, 16), (0, 100), (4096, 2048), (20_000, 3000)], ids=str
)
def test_database_that_was_overwritten_in_part_is_refused_or_found(
    tmp_path: Path, at: int, length: int
) -> None:
    path = filled(tmp_path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    with path.open("r+b") as file:
        file.seek(at)
        file.write(b"\xa5" * length)
    assert refused(path)


@pytest.mark.parametrize("length", [0, 100, 3000, 10_000])
def test_database_that_was_cut_short_is_refused_or_found(tmp_path: Path, length: int) -> None:
    path = filled(tmp_path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    os.truncate(path, length)
    assert refused(path)


def test_index_that_hides_what_the_log_says_is_found(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with sqlite3.connect(path) as db:
        db.execute("INSERT INTO meta VALUES ('x', 'y')")
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'hold_status'")
        db.execute("PRAGMA writable_schema = ON")
        db.execute("UPDATE sqlite_master SET rootpage = ? WHERE name = 'event_action'", root)
    db.close()
    store = SQLiteStore(path, create=False)
    report = verify(store, KEY, lambda seen: None)
    store.close()
    assert "the store is damaged" in (report.problem or "")


def test_newer_journal_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    path = filled(tmp_path)
    with sqlite3.connect(path) as db:
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    db.close()
    for create in (True, False):
        with pytest.raises(JournalError, match="newer Toolgate"):
            SQLiteStore(path, create=create)
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION + 1,)
        assert db.execute("SELECT count(*) FROM event").fetchone() == (101,)
    db.close()


def test_gates_that_upgrade_one_old_journal_at_once_lose_nothing(tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    with sqlite3.connect(path) as db:
        for number in range(1, SCHEMA_VERSION):
            db.executescript(MIGRATIONS[number])
        db.execute(f"PRAGMA user_version = {SCHEMA_VERSION - 1}")
    db.close()

    def start(_: int) -> None:
        journal = Journal(SQLiteStore(path), KEY, Liveness(None))
        journal.start("test")
        journal.end("done")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(start, range(8)))
    store = SQLiteStore(path, create=False)
    report = verify(store, KEY, lambda seen: None)
    store.close()
    assert (report.problem, report.events, report.runs) == (None, 16, 8)
