"""What is asked again and again while gates run is answered by an index, not by a scan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from toolgate.journal.sqlite import SQLiteStore

ASKED: dict[str, tuple[Callable[[SQLiteStore], object], str]] = {
    "held actions": (lambda s: s.held("p", "a", 10), "action_held"),
    "holds that are due": (lambda s: s.due((5, "h"), 10, 100), "hold_due"),
    "the next deadline": (lambda s: s.next_deadline((5, "h")), "hold_due"),
    "holds that moved on": (lambda s: s.moved_on(["a", "b"]), "sqlite_autoindex_hold_1"),
    "answers to a hold": (lambda s: s.approvals("h"), "approval_hold"),
    "answers that came since": (lambda s: s.approvals_after(5), "INTEGER PRIMARY KEY"),
    "the last answer": (lambda s: s.last_approval(), "INTEGER PRIMARY KEY"),
}


@pytest.mark.parametrize("what", ASKED)
def test_question_of_every_look_is_answered_by_an_index(tmp_path: Path, what: str) -> None:
    ask, index = ASKED[what]
    store = SQLiteStore(tmp_path / "journal.db")
    statements: list[str] = []
    store._db.set_trace_callback(statements.append)
    ask(store)
    store._db.set_trace_callback(None)
    (sql,) = statements
    plan = [row[3] for row in store._db.execute(f"EXPLAIN QUERY PLAN {sql}")]
    store.close()
    assert any(index in step for step in plan), plan
    assert not any("TEMP B-TREE" in step for step in plan), plan
