"""A journal with proposals, state and limits in it: what verification finds, and what is shown."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from support.driver import Driver
from support.people import ALICE, config
from toolgate.cli.app import app
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Transaction
from toolgate.journal.names import removals_name
from toolgate.journal.opening import inspect_journal, open_journal
from toolgate.journal.records import (
    ActionRecord,
    CheckpointRecord,
    LabelRecord,
    ProposalRecord,
    ResultRecord,
    SessionRecord,
    StateRecord,
    UsageRecord,
)
from toolgate.journal.verify import verify

SESSION = "s"
Step = Callable[[Transaction], object]


def said(
    tx: Transaction, kind: EventKind, about: str | None = None, session: str = SESSION, **data: Any
) -> int:
    """Append an event of a session."""
    return tx.append(kind, data, session=session, action=about)


def ran(tx: Transaction, uid: str, session: str = SESSION) -> int:
    """Journal an action that was proposed, ran and succeeded; return its last event's place."""
    said(tx, EventKind.ACTION_PROPOSED, uid, session, tool="t", args={})
    said(tx, EventKind.ACTION_EXECUTING, uid, session, attempt=1, timeout_ms=1000)
    seq = said(tx, EventKind.ACTION_SUCCEEDED, uid, session, status="succeeded", output=uid)
    action = ("p", "a", session, "t", b"{}", "c", None, "succeeded", None, "r", 1, None, 1, seq)
    tx.insert(ActionRecord(uid, *action))
    return seq


def opened(tx: Transaction, session: str = SESSION) -> None:
    """Open a session."""
    seq = said(tx, EventKind.SESSION_OPENED, None, session, project="p", agent="a")
    tx.insert(SessionRecord(session, "p", "a", 1, seq))


def changed(tx: Transaction, key: str, value: bytes | None, about: str | None = None) -> None:
    """Write a key of the session's state."""
    seq = said(tx, EventKind.STATE_CHANGED, about, changes=[{"key": key}])
    tx.put(StateRecord(SESSION, key, value, seq, seq))


def unlabelled(tx: Transaction, label: str, added: int) -> None:
    """Say that a label was taken away, which was added at a place in the log."""
    said(tx, EventKind.LABEL_REMOVED, removals_name(SESSION), label=label, added=added)


def history(tx: Transaction) -> None:
    """Write everything a proposal of two actions leaves behind."""
    opened(tx)
    changed(tx, "ready", b"true")
    seq = said(tx, EventKind.PROPOSAL_RECEIVED, "plan1", proposal="mine")
    plan = ProposalRecord("plan1", "p", "a", SESSION, "mine", b"{}", "key", "running", "r", 1, seq)
    tx.insert(plan)
    for uid in ("plan1-2", "plan1-10", "plan1-10c", "single"):
        changed(tx, "count", uid.encode(), uid)
        seq = ran(tx, uid)
    tx.put(ResultRecord(SESSION, "c", "single", 1, seq))
    tx.put(UsageRecord("rate:t", b"1", tx.seq))
    last = said(tx, EventKind.PROPOSAL_COMPLETED, "plan1")
    tx.update(plan._replace(status="completed", run=None, last_seq=last), plan.last_seq)
    saved = said(tx, EventKind.CHECKPOINT_SAVED, name="before")
    tx.insert(CheckpointRecord("c1", SESSION, "before", b"{}", 1, saved))
    added = said(tx, EventKind.LABEL_ADDED, label="untrusted")
    tx.insert(LabelRecord(SESSION, "untrusted", 1, added))


def journal_of(folder: Path, *steps: Step) -> None:
    """Write a journal in a folder, one transaction for each step."""
    journal = open_journal(Driver(folder, config()).config)
    journal.start("test")
    for step in steps:
        journal.write_now(step)
    journal.end("done")


def problem(folder: Path) -> str | None:
    """Verify the journal in a folder and return what is wrong."""
    journal = inspect_journal(Driver(folder, config()).config)
    report = verify(journal.store, journal.key, lambda seen: None)
    journal.store.close()
    return report.problem


def run_sql(folder: Path, script: str) -> None:
    """Change the store behind everybody's back."""
    with sqlite3.connect(folder / ".toolgate/journal.db") as db:
        db.executescript(script)
    db.close()


def test_untouched_journal_with_a_proposal_verifies_and_counts_every_row(tmp_path: Path) -> None:
    journal_of(tmp_path, history)
    journal = inspect_journal(Driver(tmp_path, config()).config)
    report = verify(journal.store, journal.key, lambda seen: None)
    journal.store.close()
    assert report.problem is None
    assert report.rows == 1 + 1 + 4 + 2 + 1 + 1 + 1 + 1


CHANGES = {
    "proposal edited": ("UPDATE proposal SET document = x'5b5d'", "proposal plan1 was not"),
    "proposal deleted": ("DELETE FROM proposal", "proposal plan1 is missing"),
    "action deleted": ("DELETE FROM action WHERE uid = 'plan1-10c'", "action plan1-10c is missing"),
    "state edited": ("UPDATE state SET value = x'31' WHERE key = 'count'", "state s was not"),
    "state moved": ("UPDATE state SET key = 'other' WHERE key = 'count'", "state s was not"),
    "state deleted": ("DELETE FROM state WHERE key = 'ready'", "state 'ready' of session s"),
    "result edited": ("UPDATE result SET at = 2", "result s was not"),
    "usage edited": ("UPDATE usage SET data = x'30'", "usage rate:t was not"),
    "checkpoint edited": ("UPDATE checkpoint SET name = 'after'", "checkpoint c1 was not"),
    "checkpoint deleted": ("DELETE FROM checkpoint", "checkpoint is missing"),
    "label edited": ("UPDATE label SET label = 'x'", "label s was not"),
    "label moved": ("UPDATE label SET session = 'x'", "label x was not"),
    "label deleted": ("DELETE FROM label", "label 'untrusted' of session s is missing"),
}


@pytest.mark.parametrize(("script", "told"), CHANGES.values(), ids=CHANGES)
def test_changed_or_deleted_row_is_found(tmp_path: Path, script: str, told: str) -> None:
    journal_of(tmp_path, history)
    run_sql(tmp_path, script)
    assert told in (problem(tmp_path) or "")


STALE: dict[str, tuple[Step, str]] = {
    "proposal": (lambda tx: said(tx, EventKind.PROPOSAL_RESUMED, "plan1"), "proposal plan1 stands"),
    "action": (lambda tx: said(tx, EventKind.ACTION_SKIPPED, "plan1-2"), "action plan1-2 stands"),
    "state": (
        lambda tx: said(tx, EventKind.STATE_CHANGED, changes=[{"key": "ready"}]),
        "state 'ready' of session s stands",
    ),
    "restored state": (
        lambda tx: said(tx, EventKind.CHECKPOINT_RESTORED, changes=["ready"]),
        "state 'ready' of session s stands",
    ),
}


@pytest.mark.parametrize(("step", "told"), STALE.values(), ids=STALE)
def test_row_that_the_log_has_gone_on_from_is_found(tmp_path: Path, step: Step, told: str) -> None:
    journal_of(tmp_path, history, step)
    found = problem(tmp_path) or ""
    assert told in found
    assert "an old row was put back" in found


def state(version: int, seq: int, value: bytes | None = b"1") -> Step:
    """Return a step that puts a row of the key ``free``, which no event has written."""
    return lambda tx: tx.put(StateRecord(SESSION, "free", value, version, seq))


ASTRAY: dict[str, tuple[Step, str]] = {
    "state after the log's end": (state(3, 999), "999, which is missing"),
    "state written by no such event": (state(999, 3), "999, which is missing"),
    "state before the log": (state(0, 3), "event 0, which is missing"),
    "state written by a call": (state(7, 3), "did not write"),
    "state written with another key": (state(6, 3), "did not write"),
    "state standing at a call": (state(3, 7), "stands at event 7"),
    "state of another session": (
        lambda tx: (opened(tx, "other"), state(3, tx.seq)(tx)),
        "which is of another session",
    ),
    "result after the log's end": (
        lambda tx: tx.put(ResultRecord(SESSION, "d", "single", 1, 999)),
        "999, which is missing",
    ),
    "result of no action": (
        lambda tx: tx.put(ResultRecord(SESSION, "d", "nobody", 1, 3)),
        "is of no action",
    ),
    "usage after the log's end": (
        lambda tx: tx.put(UsageRecord("x", b"", 999)),
        "the limit x stands",
    ),
    "checkpoint that no event saved": (
        lambda tx: tx.insert(CheckpointRecord("c2", SESSION, "n", b"{}", 1, 3)),
        "checkpoint c2",
    ),
    "proposal that no event speaks of": (
        lambda tx: tx.insert(
            ProposalRecord("plan2", "p", "a", SESSION, "", b"", None, "running", None, 1, 3)
        ),
        "proposal plan2",
    ),
    "attempt executed twice": (
        lambda tx: said(tx, EventKind.ACTION_EXECUTING, "single", attempt=1, timeout_ms=1),
        "a second time",
    ),
    "proposal received twice": (
        lambda tx: said(tx, EventKind.PROPOSAL_RECEIVED, "plan1"),
        "a second time",
    ),
    "proposal without a row": (
        lambda tx: said(tx, EventKind.PROPOSAL_RECEIVED, "plan2"),
        "proposal plan2 is missing",
    ),
    "label that no event added": (
        lambda tx: tx.insert(LabelRecord(SESSION, "web", 1, tx.seq)),
        "no event says that session s was given the label 'web'",
    ),
    "label taken away that was never added": (
        lambda tx: unlabelled(tx, "web", 1),
        "takes away a label that is not there",
    ),
    "label taken away of another time": (
        lambda tx: unlabelled(tx, "untrusted", 1),
        "takes away a label that is not there",
    ),
    "label added twice": (
        lambda tx: said(tx, EventKind.LABEL_ADDED, label="untrusted"),
        "adds a label a second time",
    ),
    "uid of a proposal and an action": (lambda tx: ran(tx, "plan1"), "proposal plan1"),
}


@pytest.mark.parametrize(("step", "told"), ASTRAY.values(), ids=ASTRAY)
def test_genuine_row_that_the_log_does_not_bear_out_is_found(
    tmp_path: Path, step: Step, told: str
) -> None:
    journal_of(tmp_path, history, step)
    assert told in (problem(tmp_path) or "")


def test_old_row_of_state_put_back_is_found(tmp_path: Path) -> None:
    journal_of(tmp_path, history)
    path = tmp_path / ".toolgate/journal.db"
    with sqlite3.connect(path) as db:
        old = db.execute("SELECT * FROM state WHERE key = 'ready'").fetchone()
    db.close()
    journal_of(tmp_path, lambda tx: changed(tx, "ready", b"false"))
    assert problem(tmp_path) is None
    with sqlite3.connect(path) as db:
        db.execute(f"REPLACE INTO state VALUES ({','.join('?' * len(old))})", old)
    db.close()
    assert "an old row was put back" in (problem(tmp_path) or "")


def planned(*actions: dict[str, Any]) -> dict[str, Any]:
    """Return a proposal of these actions."""
    return {"id": "mine", "source": "test", "actions": list(actions)}


def writes(name: str, key: str, value: Any) -> dict[str, Any]:
    """Return an action that writes state."""
    return {"id": name, "type": "state_write", "parameters": {"key": key, "value": value}}


def calls(name: str, tool: str, **more: Any) -> dict[str, Any]:
    """Return an action that calls a tool."""
    return {"id": name, "type": "tool_call", "tool": tool, **more}


async def test_everything_that_proposals_leave_behind_verifies(tmp_path: Path) -> None:
    deployment = config(
        state={"ready": True},
        budget={"session": {"max_tool_calls": 100}},
        tools={"search": {"rate_limit": {"max_calls": 100, "interval_secs": 1}}},
    )
    states = {"id": "states", "types": ["state_write", "assertion"], "effect": "allow"}
    deployment["policy"]["rules"].append(states)
    wrong = {"id": "d", "type": "assertion", "parameters": {"key": "a", "expected": 9}}
    statuses = []
    async with Driver(tmp_path, deployment) as gate:
        await gate.tool("search", lambda args: "found")
        await gate.tool("pay", lambda args: "paid")
        search = calls("s", "search", idempotent=True, expected_effects={"found": True})
        for proposal in (
            planned(writes("a", "a", 1), search),
            planned(
                writes("a", "a", 2), writes("b", "new", 3), search, wrong, calls("e", "search")
            ),
            planned(calls("a", "nothing"), calls("b", "search", dependencies=["a"])),
            planned(calls("a", "x", dependencies=["b"]), calls("b", "y", dependencies=["a"])),
            planned(writes("a", "a", 4), calls("p", "pay"), writes("b", "b", 5)),
        ):
            result = await gate.request("propose", proposal=proposal)
            statuses.append(result["status"])
        gate.approve(result["results"][1]["uid"], ALICE, tmp_path)
        saved = await gate.request("checkpoint", name="before")
        ended = await gate.request("resume", uid=result["results"][1]["uid"])
        await gate.request("restore", checkpoint_id=saved["checkpoint_id"])
    assert statuses == ["completed", "aborted", "completed", "aborted", "suspended"]
    assert ended["proposal"]["status"] == "completed"
    assert problem(tmp_path) is None


def test_undone_state_stands_at_the_event_that_undid_it(tmp_path: Path) -> None:
    def undo(tx: Transaction) -> None:
        ready = tx.state(SESSION, "ready")
        assert ready is not None
        seq = said(tx, EventKind.STATE_ROLLED_BACK, restored=["ready", "count"], kept=[])
        tx.put(ready._replace(last_seq=seq))
        tx.put(StateRecord(SESSION, "count", None, 0, seq))

    journal_of(tmp_path, history, undo)
    assert problem(tmp_path) is None


def test_each_attempt_of_an_action_is_executed_once(tmp_path: Path) -> None:
    def retried(tx: Transaction) -> None:
        for attempt in (1, 2, 3):
            said(tx, EventKind.ACTION_EXECUTING, "again", attempt=attempt, timeout_ms=1)
            said(tx, EventKind.ACTION_RETRYING, "again", attempt=attempt)
        action = ("p", "a", SESSION, "t", b"{}", "c", None, "failed", None, "r", 3, None, 1)
        tx.insert(ActionRecord("again", *action, tx.seq))

    journal_of(tmp_path, history, retried)
    assert problem(tmp_path) is None


def test_what_was_forgotten_is_not_missed(tmp_path: Path) -> None:
    journal_of(tmp_path, history, lambda tx: tx.forget(SESSION, "c"))
    assert problem(tmp_path) is None


def show(folder: Path, *options: str) -> Result:
    """Run ``toolgate journal show`` on a folder's deployment."""
    path = folder / "gate.yaml"
    path.write_text(yaml.safe_dump(config()))
    return CliRunner().invoke(app, ["journal", "show", "--config", str(path), *options])


def events(result: Result) -> list[tuple[str | None, str]]:
    """Return which events were shown: what each is about, and its kind."""
    shown = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["seq"] for event in shown] == sorted(event["seq"] for event in shown)
    return [(event["action"], event["kind"]) for event in shown]


def beside(tx: Transaction) -> None:
    """Write two proposals whose uids begin alike, their actions in turns."""
    history(tx)
    for uid in ("plan10", "plan1x"):
        seq = said(tx, EventKind.PROPOSAL_RECEIVED, uid)
        plan = ("p", "a", SESSION, uid, b"{}", None, "running", "r", 1, seq)
        tx.insert(ProposalRecord(uid, *plan))
        ran(tx, f"{uid}-1")


def test_proposal_is_shown_with_all_its_actions_in_order(tmp_path: Path) -> None:
    journal_of(tmp_path, beside)
    shown = events(show(tmp_path, "--proposal", "plan1", "--json"))
    assert [about for about, kind in shown if kind == "action.succeeded"] == [
        "plan1-2",
        "plan1-10",
        "plan1-10c",
    ]
    assert shown[0] == ("plan1", "proposal.received")
    assert shown[-1] == ("plan1", "proposal.completed")
    assert {about for about, _ in shown} == {"plan1", "plan1-2", "plan1-10", "plan1-10c"}
    assert len(events(show(tmp_path, "--proposal", "plan1", "--limit", "3", "--json"))) == 3
    assert "plan1-1" not in show(tmp_path, "--action", "plan1-10c", "--json").stdout.replace(
        "plan1-10c", ""
    )


@pytest.mark.parametrize("option", ["--action", "--proposal", "--session"])
@pytest.mark.parametrize("form", [[], ["--json"]], ids=["text", "json"])
def test_asking_for_what_the_journal_does_not_know_says_so(
    tmp_path: Path, option: str, form: list[str]
) -> None:
    journal_of(tmp_path, history)
    asked = show(tmp_path, option, "plan1-1\x1b[2J", *form)
    assert asked.exit_code == 1
    assert asked.stdout == ""
    assert f"knows no {option[2:]} plan1-1\\u{{1b}}[2J" in asked.stderr


def test_uid_of_an_action_is_not_a_proposals(tmp_path: Path) -> None:
    journal_of(tmp_path, history)
    assert show(tmp_path, "--proposal", "single").exit_code == 1
    assert show(tmp_path, "--proposal", "plan1-2").exit_code == 1
    assert show(tmp_path, "--action", "plan1").exit_code == 0


def test_known_action_without_later_events_is_an_empty_answer_and_no_error(tmp_path: Path) -> None:
    journal_of(tmp_path, history)
    asked = show(tmp_path, "--action", "single", "--after", "999", "--json")
    assert (asked.exit_code, asked.stdout) == (0, "")
