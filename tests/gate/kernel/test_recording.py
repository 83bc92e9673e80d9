"""An action whose body ran comes to an end, whatever keeps its own end from being written."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.people import config
from support.plans import call, propose, write
from toolgate.errors import JSONError
from toolgate.kernel.steps import Steps

DB = ".toolgate/journal.db"
DEPLOYMENT = config(
    session="s",
    policy={
        "rules": [
            {"id": "writes", "types": ["state_write"], "effect": "allow"},
            {"id": "reads", "tools": ["search"], "effect": "allow"},
        ]
    },
)


@pytest.mark.parametrize("error", [JSONError("too deep"), RuntimeError("a defect")], ids=str)
async def test_end_that_cannot_be_written_is_an_internal_error_and_the_body_is_not_run_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise error

    async with Driver(tmp_path, DEPLOYMENT) as gate:
        await gate.tool("search", lambda args: "found")
        with monkeypatch.context() as patched:
            patched.setattr(Steps, "end", fails)
            outcome = await gate.govern("search", {"n": 1}, idempotency_key="k")
        again = await gate.govern("search", {"n": 1}, idempotency_key="k")
        later = await gate.govern("search", {"n": 2})
    assert (outcome["status"], outcome["error"]["kind"]) == ("failed", "internal_error")
    assert str(error) in outcome["error"]["message"]
    assert (again["uid"], again["error"]) == (outcome["uid"], outcome["error"])
    assert later["status"] == "succeeded"
    assert len(gate.ran) == 2


@pytest.mark.tampers
async def test_effects_on_state_that_was_tampered_with_are_not_written_and_the_action_fails(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, DEPLOYMENT) as gate:
        await gate.tool("search")
        await propose(gate, write("a", "key", 1))
        plan = [call("s", "search", expected_effects={"key": 2})]
        running = gate.send("propose", proposal={"id": "p", "actions": plan})
        run = await gate.runs.get()
        with sqlite3.connect(tmp_path / DB) as db:
            db.execute("DELETE FROM state")
        db.close()
        gate.answer(run, "found")
        (result,) = (await running)["results"]
        store = gate.gate.runtime._journal.reader.store
        kinds = [event.kind for event in store.events()]
    assert (result["status"], result["kind"]) == ("failed", "internal_error")
    assert "state 'key' of session s is missing" in result["error"]
    assert "journal.tampered" in kinds
