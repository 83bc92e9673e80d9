"""An approver's signature takes a label away: what was brought until then, once."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.people import ALICE, BOB, MALLORY, Person, config
from support.plans import events
from toolgate import clock
from toolgate.approvals import unlabelling
from toolgate.approvals.tally import CLOCK_SKEW
from toolgate.approvals.unlabelling import Labelled
from toolgate.errors import ApprovalError
from toolgate.journal.names import removals_name
from toolgate.journal.opening import inspect_journal
from toolgate.journal.verify import verify
from toolgate.labels import Labels, LabelView
from toolgate.wire.messages import RPCError

DB = ".toolgate/journal.db"


def wary(**changes: Any) -> dict[str, Any]:
    """Return a config in which mail is held once its session has read untrusted content."""
    value = config(session="s")
    value["tools"] |= {
        "read_page": {"level": 1, "emits": ["untrusted", "web"]},
        "send_mail": {"level": 3},
    }
    value["policy"] = {
        "allow_up_to": 3,
        "rules": [
            {
                "id": "after-untrusted-content",
                "tools": ["send_mail"],
                "when": '"untrusted" in session.labels',
                "effect": "hold",
            },
            {
                "id": "web",
                "tools": ["search"],
                "when": '"web" in session.labels',
                "effect": "deny",
            },
            *value["policy"]["rules"],
        ],
    }
    value.update(changes)
    return value


async def tools(gate: Driver) -> None:
    """Register the tools."""
    for name in ("read_page", "send_mail", "search"):
        await gate.tool(name, lambda args: "done")


def remove(
    gate: Driver, folder: Path, label: str = "untrusted", person: Person = ALICE
) -> list[LabelView]:
    """Take a label away as the command does."""
    labels = Labels(gate.config)
    try:
        return labels.remove("s", label, person.id, person.key_file(folder), "it is our own page")
    finally:
        labels.close()


def shown(gate: Driver) -> list[LabelView]:
    """Return the session's labels as the command shows them."""
    labels = Labels(gate.config)
    try:
        return labels.of("s")
    finally:
        labels.close()


def names(gate: Driver) -> list[str]:
    """Return the names of the session's labels."""
    return [view.labelled.label for view in shown(gate)]


def told(gate: Driver, kind: str) -> list[dict[str, Any]]:
    """Return the data of the events of a kind."""
    return [json.loads(event.data) for event in events(gate) if event.kind == kind]


def write(folder: Path, sql: str, *values: Any) -> None:
    """Change the store behind the gate's back."""
    with sqlite3.connect(folder / DB) as db:
        db.execute(sql, values)
    db.close()


def rows(folder: Path) -> list[Any]:
    """Return the rows of labels as they are stored."""
    with sqlite3.connect(folder / DB) as db:
        found = db.execute("SELECT * FROM label ORDER BY label").fetchall()
    db.close()
    return found


def put_back(folder: Path, row: Any) -> None:
    """Put a genuine row back that was there before."""
    write(folder, "INSERT OR REPLACE INTO label VALUES (?, ?, ?, ?, ?)", *row)


def problem(folder: Path) -> str | None:
    """Verify the journal in a folder and return what is wrong."""
    journal = inspect_journal(Driver(folder, wary()).config)
    report = verify(journal.store, journal.key, lambda seen: None)
    journal.store.close()
    return report.problem


async def test_call_is_no_longer_held_for_a_label_that_an_approver_has_taken_away(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, wary()) as gate:
        await tools(gate)
        await gate.govern("read_page")
        before = await gate.govern("send_mail", {"to": "a"})
        [untrusted, web] = remove(gate, tmp_path)
        after = await gate.govern("send_mail", {"to": "b"})
        left = names(gate)
        denied = await gate.govern("search")
        [removed] = told(gate, "label.removed")
    assert before["status"] == "held"
    assert (untrusted.removed_by, web.removed_by) == ("alice", None)
    assert after["status"] == "succeeded"
    assert left == ["web"]
    assert denied["error"]["kind"] == "policy_denied"
    assert (removed["label"], removed["removed_by"]) == ("untrusted", "alice")
    assert removed["reason"] == "it is our own page"
    assert "envelope" in removed
    assert problem(tmp_path) is None


async def test_what_is_read_later_labels_the_session_again_and_the_old_signature_does_nothing(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, wary()) as gate:
        await tools(gate)
        await gate.govern("read_page")
        remove(gate, tmp_path)
        await gate.govern("send_mail", {"to": "a"})
        await gate.govern("read_page")
        write(tmp_path, "INSERT INTO approval SELECT seq + 1, hold, envelope, at FROM approval")
        again = await gate.govern("send_mail", {"to": "b"})
        await gate.govern("send_mail", {"to": "c"})
        [refused] = told(gate, "approval.refused")
        added = told(gate, "label.added")
    assert again["status"] == "held"
    assert "not about this, as it stands now" in refused["reason"]
    assert [item["label"] for item in added] == ["untrusted", "web"] * 2
    assert problem(tmp_path) is None


async def test_removal_is_void_when_something_has_brought_the_label_since_it_was_signed(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, wary()) as gate:
        await tools(gate)
        await gate.govern("read_page")
        remove(gate, tmp_path)
        await gate.request("observe", text="a mail from outside", source="mail")
        after = await gate.govern("send_mail", {"to": "b"})
        remove(gate, tmp_path, person=BOB)
        signed_again = await gate.govern("send_mail", {"to": "c"})
    assert after["status"] == "held"
    assert signed_again["status"] == "succeeded"
    assert problem(tmp_path) is None


async def test_removal_holds_after_a_restart_and_for_every_gate_of_the_session(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, wary()) as one, Driver(tmp_path, wary()) as two:
        await tools(one)
        await tools(two)
        await one.govern("read_page")
        remove(one, tmp_path)
        statuses = [(await gate.govern("send_mail", {"n": 1}))["status"] for gate in (two, one)]
        [_] = told(one, "label.removed")
    async with Driver(tmp_path, wary()) as later:
        await tools(later)
        statuses.append((await later.govern("send_mail", {"n": 3}))["status"])
    assert statuses == ["succeeded"] * 3
    assert problem(tmp_path) is None


async def test_nobody_without_a_pinned_key_takes_a_label_away(tmp_path: Path) -> None:
    async with Driver(tmp_path, wary()) as gate:
        await tools(gate)
        await gate.govern("read_page")
        [labelled, _] = [view.labelled for view in shown(gate)]
        at = clock.now()
        store = gate.gate.runtime._journal.reader.store
        forged = [
            unlabelling.sign(labelled, "alice", MALLORY.key, at),
            unlabelling.sign(labelled, "mallory", MALLORY.key, at),
            unlabelling.sign(Labelled("t", "untrusted", 1, 1), "alice", ALICE.key, at),
            unlabelling.sign(labelled, "alice", ALICE.key, at + 3 * CLOCK_SKEW),
            b"rubbish",
        ]
        for envelope in forged:
            store.add_approval(removals_name("s"), envelope, at)
        for number in range(2):
            outcome = await gate.govern("send_mail", {"n": number})
            assert outcome["status"] == "held"
        refused = told(gate, "approval.refused")
        with pytest.raises(ApprovalError, match="not the key that the config pins"):
            Labels(gate.config).remove("s", "web", "bob", MALLORY.key_file(tmp_path))
    assert len(refused) == len(forged)
    assert problem(tmp_path) is None


async def test_what_cannot_be_taken_away_says_so_and_writes_nothing(tmp_path: Path) -> None:
    async with Driver(tmp_path, wary()) as gate:
        await tools(gate)
        await gate.govern("read_page")
        labels, key = Labels(gate.config), ALICE.key_file(tmp_path)
        with pytest.raises(ApprovalError, match="does not have the label 'secret'"):
            labels.remove("s", "secret", "alice", key)
        with pytest.raises(ApprovalError, match="has no session 'elsewhere'"):
            labels.remove("elsewhere", "untrusted", "alice", key)
        with pytest.raises(ApprovalError, match="no approver named 'carol'"):
            labels.remove("s", "untrusted", "carol", key)
        labels.remove("s", "untrusted", "alice", key)
        with pytest.raises(ApprovalError, match="alice has taken the label 'untrusted' away"):
            labels.remove("s", "untrusted", "bob", BOB.key_file(tmp_path))
        labels.close()
        with sqlite3.connect(tmp_path / DB) as db:
            assert db.execute("SELECT count(*) FROM approval").fetchone() == (1,)
        db.close()


async def test_questions_that_decide_nothing_leave_no_trace_of_a_removal(tmp_path: Path) -> None:
    async with Driver(tmp_path, wary()) as gate:
        await tools(gate)
        await gate.govern("read_page")
        remove(gate, tmp_path)
        plan = {"actions": [{"id": "a", "type": "tool_call", "tool": "send_mail"}]}
        found = await gate.request("verify", proposal=plan)
        removed = told(gate, "label.removed")
    assert removed == []
    assert [item for item in found["issues"] if item["code"] == "policy_hold"] == []


@pytest.mark.tampers
async def test_rows_of_labels_cannot_be_taken_out_or_put_back_unseen(tmp_path: Path) -> None:
    async with Driver(tmp_path, wary()) as gate:
        await tools(gate)
        await gate.govern("read_page")
        [untrusted, web] = rows(tmp_path)
        remove(gate, tmp_path)
        assert (await gate.govern("send_mail", {"n": 1}))["status"] == "succeeded"
        # In the place of the label that is there, the genuine row of the one that was taken away.
        write(tmp_path, "DELETE FROM label")
        put_back(tmp_path, untrusted)
        with pytest.raises(RPCError, match="are not those its log tells of"):
            await gate.govern("search", {"n": 1})
        assert problem(tmp_path) is not None
        write(tmp_path, "DELETE FROM label")
        with pytest.raises(RPCError, match="are not those its log tells of"):
            await gate.govern("search", {"n": 2})
        assert problem(tmp_path) is not None
        put_back(tmp_path, web)
        assert (await gate.govern("search", {"n": 3}))["status"] == "rejected"
        assert problem(tmp_path) is None
        # More labels than there are: nothing runs that would not, and the verification finds it.
        put_back(tmp_path, untrusted)
        assert (await gate.govern("send_mail", {"n": 4}))["status"] == "held"
    assert "untrusted" in str(problem(tmp_path))


@pytest.mark.tampers
async def test_older_row_of_a_label_that_was_brought_again_makes_no_removal_count(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, wary()) as gate:
        await tools(gate)
        await gate.govern("read_page")
        [untrusted, _] = rows(tmp_path)
        remove(gate, tmp_path)
        await gate.request("observe", text="a mail from outside", source="mail")
        [again, _] = rows(tmp_path)
        put_back(tmp_path, untrusted)
        found = problem(tmp_path)
    async with Driver(tmp_path, wary()) as later:
        await tools(later)
        with pytest.raises(RPCError, match="are not those its log tells of"):
            await later.govern("send_mail", {"n": 1})
        put_back(tmp_path, again)
        honest = await later.govern("send_mail", {"n": 2})
        added = told(later, "label.added")
    assert "untrusted" in str(found)
    assert honest["status"] == "held"
    assert [item["beside"].keys() for item in added] == [set(), {"untrusted"}, {"web"}]
    assert ("send_mail", {"n": 1}) not in later.ran


@pytest.mark.tampers
async def test_label_that_came_back_is_not_hidden_by_the_removal_of_the_first(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, wary()) as gate:
        await tools(gate)
        await gate.govern("read_page")
        [first, _] = rows(tmp_path)
        remove(gate, tmp_path)
        await gate.govern("send_mail", {"n": 1})
        await gate.govern("read_page")
        assert (await gate.govern("send_mail", {"n": 2}))["status"] == "held"
        write(tmp_path, "DELETE FROM label WHERE label = 'untrusted'")
        with pytest.raises(RPCError, match="are not those its log tells of"):
            await gate.govern("send_mail", {"n": 3})
        put_back(tmp_path, first)
        with pytest.raises(RPCError, match="are not those its log tells of"):
            await gate.govern("send_mail", {"n": 4})
    assert "untrusted" in str(problem(tmp_path))


@pytest.mark.tampers
async def test_event_of_a_removal_that_is_cut_out_of_the_log_is_missed(tmp_path: Path) -> None:
    async with Driver(tmp_path, wary()) as gate:
        await tools(gate)
        await gate.govern("read_page")
        remove(gate, tmp_path)
        await gate.govern("send_mail", {"n": 1})
        write(tmp_path, "UPDATE event SET data = '{}' WHERE kind = 'label.removed'")
        with pytest.raises(RPCError, match="does not verify"):
            await gate.govern("search", {"n": 1})
        write(tmp_path, "DELETE FROM event WHERE kind = 'label.removed'")
        with pytest.raises(RPCError, match="are not those its log tells of"):
            await gate.govern("search", {"n": 2})
    assert problem(tmp_path) is not None
