"""Checkpoints: the whole state, to return to, as far as capabilities and policy let one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from support.driver import Driver
from support.plans import FAIL, call, events, plan_config, propose, read, sent, write


async def test_restore_makes_the_state_exactly_what_it_was(tmp_path: Path) -> None:
    async with Driver(
        tmp_path, plan_config(state={"same": 1, "changed": [1], "gone": None})
    ) as gate:
        saved = await gate.request("checkpoint", name="start")
        await propose(gate, write("a", "changed", 2), write("b", "new", 1), write("c", "same", 1.0))
        restored = await gate.request("restore", **saved)
        state = await gate.request("state")
        again = await gate.request("restore", **saved)
    assert restored == {"status": "succeeded", "state_changes": {"changed": [1], "new": None}}
    assert state == {"same": 1.0, "changed": [1], "gone": None}
    assert again["state_changes"] == {}


async def test_checkpoint_outlives_its_gate_and_belongs_to_its_session(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config(state={"k": 1})) as gate:
        saved = await gate.request("checkpoint", name="start")
        await propose(gate, write("a", "k", 2))
    async with Driver(tmp_path, plan_config(session="other", state={"k": 3})) as other:
        refused = await other.request("restore", **saved)
        unknown = await other.request("restore", checkpoint_id="nobody")
        untouched = await other.request("state")
    async with Driver(tmp_path, plan_config()) as later:
        restored = await later.request("restore", **saved)
        state = await later.request("state")
    assert refused["status"] == unknown["status"] == "rejected"
    assert refused["error"]["kind"] == unknown["error"]["kind"] == "unknown_action"
    assert untouched == {"k": 3}
    assert (restored["status"], state) == ("succeeded", {"k": 1})


async def test_restore_writes_nothing_that_a_write_could_not(tmp_path: Path) -> None:
    cases: list[tuple[str, dict[str, Any]]] = [
        ("policy_denied", {}),
        ("approval_required", {}),
        ("capability_denied", {"capabilities": {"state_keys": {"deny": ["free"]}}}),
    ]
    keys = ["locked", "asked", "free"]
    for (kind, changes), key in zip(cases, keys, strict=True):
        folder = tmp_path / key
        folder.mkdir()
        async with Driver(folder, plan_config(state={key: 1, "other": 1})) as gate:
            saved = await gate.request("checkpoint", name="start")
        loose = plan_config({"id": "any", "types": ["state_write"], "effect": "allow"})
        loose["policy"]["rules"] = [
            rule for rule in loose["policy"]["rules"] if rule["id"] not in ("locked", "asked")
        ]
        async with Driver(folder, loose) as gate:
            await propose(gate, write("a", key, 2), write("b", "other", 2))
        async with Driver(folder, plan_config(**changes)) as gate:
            refused = await gate.request("restore", **saved)
        async with Driver(folder, loose) as gate:
            state = await gate.request("state")
        assert (refused["status"], refused["error"]["kind"]) == ("rejected", kind)
        assert state == {key: 2, "other": 2}


async def test_restore_beside_a_plan_is_somebody_elses_write_to_it(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config(state={"k": 0, "l": 0})) as gate:
        await gate.tool("step")
        saved = await gate.request("checkpoint", name="start")
        proposed = sent(gate, write("a", "k", 1), call("b"), write("c", "l", 1), FAIL)
        run = await gate.runs.get()
        await gate.request("restore", **saved)
        gate.answer(run, None)
        result = await proposed
        state = await gate.request("state")
    assert state == {"k": 0, "l": 0}
    assert (result["rollback"]["restored"], result["rollback"]["kept"]) == (["l"], ["k"])


async def test_restored_values_can_be_read_and_undone_again(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        empty = await gate.request("checkpoint", name="empty")
        await propose(gate, write("a", "k", 1))
        full = await gate.request("checkpoint", name="full")
        await gate.request("restore", **empty)
        gone = await propose(gate, read("r", "k"), write("w", "k", 5), FAIL)
        after = await gate.request("state")
        await gate.request("restore", **full)
        back = await propose(gate, read("r", "k"))
        kinds = [event.kind for event in events(gate)]
    assert gone["results"][0]["output"] is None
    assert after == {}
    assert back["results"][0]["output"] == 1
    assert kinds.count("checkpoint.restored") == 2
