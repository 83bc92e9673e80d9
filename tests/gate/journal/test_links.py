"""The log of an action or a proposal has no gap that a gate decides on, or that `verify` misses.

Whoever writes the store without its key hides an event in the middle of such a log, by a column
that it is looked up by, lets a gate decide, and puts the column back.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from support.doubts import doubted, settle
from support.driver import Driver
from support.people import config
from support.plans import call, sent, write
from toolgate.errors import JournalTampered
from toolgate.journal.chain import JournalKey
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Journal
from toolgate.journal.liveness import Liveness
from toolgate.journal.opening import inspect_journal
from toolgate.journal.sqlite import SQLiteStore
from toolgate.journal.verify import verify
from toolgate.wire.messages import RPCError

DB = ".toolgate/journal.db"
KEY = JournalKey(bytes(32))
TOOLS = ("send", "deploy", "plain", "slow")
RULES = [
    {"id": "writes", "types": ["state_write", "assertion"], "effect": "allow"},
    {
        "id": "tainted",
        "tools": ["send"],
        "when": '"untrusted" in session.labels',
        "effect": "deny",
    },
    {"id": "ready", "tools": ["deploy"], "when": 'state["ready"] == 1', "effect": "allow"},
    {"id": "rest", "tools": ["send", "plain", "slow"], "effect": "allow"},
]
REFUSED = r"does not verify|events are missing from it"
FAILS = {
    "id": "fails",
    "type": "assertion",
    "parameters": {"key": "nothing", "expected": 1},
    "dependencies": ["slow"],
}


def deployment(session: str = "s") -> dict[str, Any]:
    """Return a config whose rules ask for labels and state, without an anchor."""
    tools: dict[str, Any] = {name: {"level": 1} for name in TOOLS}
    tools["plain"]["emits"] = ["untrusted"]
    tools["slow"]["redact"] = ["/secret"]
    policy = {"allow_up_to": 0, "rules": RULES}
    value: dict[str, Any] = config(
        session=session, tools=tools, policy=policy, journal_anchor="none"
    )
    return value


async def tools(gate: Driver) -> None:
    """Register the tools; ``slow`` is answered by hand."""
    for name in TOOLS:
        await gate.tool(name, None if name == "slow" else lambda args: "done")


def sql(path: Path, statement: str, *values: Any) -> list[Any]:
    """Run a statement on a journal as whoever may write it, and return its rows."""
    with sqlite3.connect(path) as db:
        found = db.execute(statement, values).fetchall()
    db.close()
    return found


@contextmanager
def hidden(path: Path, where: str, column: str = "action") -> Iterator[None]:
    """Hide the events ``where`` from look-ups by a column; then put back what was there."""
    found = sql(path, f"SELECT {column}, seq FROM event WHERE {where}")
    assert found
    sql(path, f"UPDATE event SET {column} = '~' WHERE {where}")
    try:
        yield
    finally:
        for was, seq in found:
            sql(path, f"UPDATE event SET {column} = ? WHERE seq = ?", was, seq)


def problem(folder: Path) -> str:
    """Return what `verify` finds wrong, nothing when all is well."""
    journal = inspect_journal(Driver(folder, deployment()).config)
    found = verify(journal.store, journal.key, lambda seen: None).problem
    journal.store.close()
    return found or ""


@pytest.mark.parametrize("column", ["kind", "action"])
async def test_settlement_is_not_used_again_when_the_latest_doubt_is_hidden(
    tmp_path: Path, column: str
) -> None:
    uid = await doubted(tmp_path, deployment(), "slow")
    async with Driver(tmp_path, deployment()) as gate:
        await tools(gate)
        settle(gate, uid, "retry", tmp_path)
        gate.send("resume", uid=uid)
        assert (await gate.runs.get())["params"]["attempt"] == 2
        gate.die()
    async with Driver(tmp_path, deployment()):
        pass
    doubts = "SELECT max(seq) FROM event WHERE kind = 'action.in_doubt'"
    [(doubt,)] = sql(tmp_path / DB, doubts)
    planted = "INSERT INTO approval SELECT max(seq) + 1, ?, x'00', 1 FROM approval"
    sql(tmp_path / DB, planted, f"{uid}@{doubt}")
    async with Driver(tmp_path, deployment()) as gate:
        await tools(gate)
        # What was planted is refused, in an event that the row stands at from then on.
        assert (await gate.request("resume", uid=uid))["error"]["kind"] == "in_doubt"
    with hidden(tmp_path / DB, f"seq = {doubt}", column):
        async with Driver(tmp_path, deployment()) as later:
            await tools(later)
            with pytest.raises(RPCError, match=REFUSED):
                await asyncio.wait_for(later.request("resume", uid=uid), 5)
            assert later.runs.empty()
    assert problem(tmp_path) == ""


async def test_what_another_session_s_action_has_brought_is_not_told_without_its_labels(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, deployment()) as gate:
        await tools(gate)
        await gate.govern("plain", {"n": 1}, idempotency_key="k")
    brings = "kind IN ('action.executing', 'label.added')"
    async with Driver(tmp_path, deployment("t")) as other:
        await tools(other)
        with (
            hidden(tmp_path / DB, brings),
            pytest.raises(RPCError, match="events are missing from it"),
        ):
            await other.govern("plain", {"n": 1}, idempotency_key="k")
        await other.govern("plain", {"n": 1}, idempotency_key="k")
        assert (await other.govern("send"))["status"] == "rejected"
    assert problem(tmp_path) == ""


@pytest.mark.parametrize(
    ("where", "told"),
    [
        ("kind = 'state.changed'", "events are missing from it"),
        ("kind IN ('state.changed', 'action.succeeded')", "at which the row of"),
    ],
)
async def test_plan_is_not_aborted_without_undoing_a_change_that_is_hidden(
    tmp_path: Path, where: str, told: str
) -> None:
    async with Driver(tmp_path, deployment()) as gate:
        await tools(gate)
        waiting = call("slow", "slow", dependencies=["a"])
        result = sent(gate, write("a", "ready", 1), waiting, FAILS)
        run = await gate.runs.get()
        await gate.request("state")
        with hidden(tmp_path / DB, where):
            gate.fail(run, "no")
            with pytest.raises(RPCError, match=told):
                await asyncio.wait_for(result, 5)


def test_proposal_that_is_being_aborted_is_known_as_such_when_that_is_hidden(
    tmp_path: Path,
) -> None:
    journal = started(tmp_path / "j.db")
    log: list[int] = []

    def aborting(tx: Any) -> None:
        kinds = ("proposal.received", "state.rolled_back", "proposal.resumed")
        log.extend(tx.append(EventKind(kind), {}, session="s", action="p") for kind in kinds)

    journal.write_now(aborting)
    reader = journal.reader
    assert reader.last_event("p", EventKind.STATE_ROLLED_BACK, log[2]) is not None
    with (
        hidden(tmp_path / "j.db", f"seq = {log[1]}"),
        pytest.raises(JournalTampered, match=f"to {log[2]}, which follows {log[1]}"),
    ):
        reader.last_event("p", EventKind.STATE_ROLLED_BACK, log[2])
    with (
        hidden(tmp_path / "j.db", f"seq >= {log[1]}"),
        pytest.raises(JournalTampered, match=f"the event {log[2]}, at which the row of p stands"),
    ):
        reader.last_event("p", EventKind.STATE_ROLLED_BACK, log[2])
    journal.close()


async def test_redacted_arguments_do_not_stay_in_a_plan_s_row_when_its_beginning_is_hidden(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, deployment()) as gate:
        await tools(gate)
        result = sent(gate, call("slow", "slow", parameters={"secret": "HUNTER2"}))
        run = await gate.runs.get()
        with hidden(tmp_path / DB, "kind = 'proposal.received'", "kind"):
            gate.answer(run, 1)
            with pytest.raises(RPCError, match=REFUSED):
                await asyncio.wait_for(result, 5)
        [(uid, status)] = sql(tmp_path / DB, "SELECT uid, status FROM proposal")
        assert status == "running"
        gate.die()
    async with Driver(tmp_path, deployment()) as later:
        await tools(later)
        resumed = await later.request("resume", uid=uid)
    assert resumed["proposal"]["status"] == "completed"
    assert sql(tmp_path / DB, "SELECT instr(document, 'HUNTER2') FROM proposal") == [(0,)]
    assert problem(tmp_path) == ""


def started(path: Path) -> Journal:
    """Open a journal."""
    journal = Journal(SQLiteStore(path), KEY, Liveness(None))
    journal.start("test")
    return journal


def found(path: Path) -> str:
    """Return what `verify` finds wrong in a journal's log; it has no rows."""
    store = SQLiteStore(path)
    told = verify(store, KEY, lambda seen: None).problem
    store.close()
    return told or ""


def test_event_that_was_written_while_the_one_before_it_was_hidden_is_found_for_ever(
    tmp_path: Path,
) -> None:
    path = tmp_path / "j.db"
    one, two = started(path), started(path)
    place = one.write_now(lambda tx: tx.append(EventKind.ACTION_PROPOSED, {}, action="a"))
    with hidden(path, f"seq = {place}"):
        last = two.write_now(
            lambda tx: tx.append(EventKind.ACTION_REJECTED, {"status": "rejected"}, action="a")
        )
    with pytest.raises(JournalTampered, match=f"to {last}, which follows 0"):
        one.reader.log("a", last)
    one.close()
    two.close()
    assert f"event {last} (action.rejected" in found(path)
    assert f"follows event 0 of the log of a, and the log had gone on to {place}" in found(path)


def test_gates_that_write_about_one_action_in_turn_link_its_events(tmp_path: Path) -> None:
    one, two = started(tmp_path / "j.db"), started(tmp_path / "j.db")
    kind = EventKind.ACTION_RETRYING

    def write(gate: Journal) -> int:
        return gate.write_now(lambda tx: tx.append(kind, {}, action="a"))

    places = [0, *map(write, (one, two, one, one, two))]
    with pytest.raises(ValueError, match="undone"):
        one.write_now(undone)
    places.append(write(one))
    data = sql(tmp_path / "j.db", "SELECT data FROM event WHERE action = 'a' ORDER BY seq")
    assert [row[0] for row in data] == [b'{"previous":%d}' % place for place in places[:-1]]
    assert len(one.reader.log("a", places[-1])) == 6
    one.close()
    two.close()


def undone(tx: Any) -> None:
    """Write about an action in vain."""
    tx.append(EventKind.ACTION_RETRYING, {}, action="a")
    raise ValueError("undone")


def test_settlement_of_a_doubt_that_is_over_is_found(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = started(path)

    def twice(tx: Any) -> int:
        tx.append(EventKind.ACTION_PROPOSED, {}, action="a")
        doubt = tx.append(EventKind.ACTION_IN_DOUBT, {}, action="a")
        tx.append(EventKind.ACTION_SETTLED, {"doubt": doubt}, action="a")
        tx.append(EventKind.ACTION_IN_DOUBT, {}, action="a")
        tx.append(EventKind.ACTION_SETTLED, {"doubt": doubt}, action="a")
        return int(doubt)

    doubt = journal.write_now(twice)
    journal.close()
    assert f"settles the doubt of event {doubt}, and action a was in that" in found(path)
    assert "a settlement was used a second time" in found(path)


def test_log_of_an_older_program_is_read_and_verifies(tmp_path: Path) -> None:
    path = tmp_path / "j.db"
    journal = started(path)

    def older(tx: Any) -> None:
        tx.append(EventKind.ACTION_PROPOSED, {}, action="a")
        tx.append(EventKind.ACTION_DECIDED, {}, action="a")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("toolgate.journal.transaction.UNLINKED", tuple(EventKind))
        journal.write_now(older)
    last = journal.write_now(
        lambda tx: tx.append(EventKind.ACTION_REJECTED, {"status": "rejected"}, action="a")
    )
    data = sql(path, "SELECT data FROM event WHERE action = 'a' ORDER BY seq")
    assert [b"previous" in row[0] for row in data] == [False, False, True]
    assert len(journal.reader.log("a", last)) == 3
    journal.close()
    assert "follows" not in found(path)
