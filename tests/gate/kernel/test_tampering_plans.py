"""Plans in a store that somebody else writes to, who has no key."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from support.driver import Driver
from support.people import ALICE
from support.plans import World, call, of, plan_config, propose
from toolgate.wire.messages import RPCError

pytestmark = pytest.mark.tampers


def take_row(folder: Path, table: str, uid: str) -> None:
    """Delete a row from the store, as somebody who can write it does."""
    database = sqlite3.connect(next(folder.rglob("journal.db")))
    with database:
        assert database.execute(f"DELETE FROM {table} WHERE uid = ?", (uid,)).rowcount == 1
    database.close()


async def test_action_whose_row_was_taken_away_is_not_run_again(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", "pay")
        held = await propose(gate, call("a"), call("b", "pay"))
        gate.approve(of(held, "b")["uid"], ALICE, tmp_path)
    take_row(tmp_path, "action", of(held, "a")["uid"])
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", "pay")
        with pytest.raises(RPCError, match="missing"):
            await gate.request("resume", uid=held["uid"])
    assert ("step", {}) not in gate.ran
