"""What a gate makes of actions whose gate, client or store failed while they ran."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from support.driver import Driver
from support.people import ALICE, config
from toolgate.errors import JournalUnavailable
from toolgate.journal.sqlite import SQLiteStore
from toolgate.kernel import recording
from toolgate.wire.messages import RPCError


async def test_action_that_ran_in_a_gate_that_died_is_in_doubt_and_never_runs_again(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        gate.send("govern", tool="search", args={}, idempotency_key="k")
        uid = (await gate.runs.get())["params"]["uid"]
        gate.die()
    async with Driver(tmp_path, config()) as later:
        await later.tool("search", lambda args: "again")
        resumed = await later.request("resume", uid=uid)
        repeated = await later.govern("search", {}, idempotency_key="k")
    assert resumed["status"] == "failed"
    assert resumed["error"]["kind"] == repeated["error"]["kind"] == "in_doubt"
    assert later.ran == []


async def test_21_approved_action_is_not_run_again_when_its_gate_dies_before_the_result(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay")
        uid = (await gate.govern("pay", {"amount": 1}))["uid"]
        gate.approve(uid, ALICE, tmp_path)
        gate.send("resume", uid=uid)
        await gate.runs.get()
        gate.die()
    async with Driver(tmp_path, config()) as later:
        await later.tool("pay", lambda args: "paid twice")
        outcome = await later.request("resume", uid=uid)
    assert outcome["error"]["kind"] == "in_doubt"
    assert later.ran == []


async def test_action_running_in_another_living_gate_is_executing(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as one, Driver(tmp_path, config()) as two:
        await one.tool("search")
        call = one.send("govern", tool="search", args={})
        run = await one.runs.get()
        seen = await two.request("resume", uid=run["params"]["uid"])
        one.answer(run, "found")
        await call
        after = await two.request("resume", uid=run["params"]["uid"])
    assert seen["status"] == "executing"
    assert after["output"] == "found"


async def test_28_client_that_goes_away_leaves_its_running_action_in_doubt(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        gate.send("govern", tool="search", args={})
        uid = (await gate.runs.get())["params"]["uid"]
    async with Driver(tmp_path, config()) as later:
        outcome = await later.request("resume", uid=uid)
    assert outcome["error"]["kind"] == "in_doubt"
    assert "client went away" in outcome["error"]["message"]


async def test_shutdown_waits_for_running_bodies_and_refuses_new_calls(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        call = gate.send("govern", tool="search", args={})
        run = await gate.runs.get()
        shutdown = gate.send("shutdown")
        await gate.request("ping")
        with pytest.raises(RPCError) as refused:
            await gate.govern("search")
        gate.answer(run, "finished")
        outcome = await call
        await shutdown
        await gate.serving
    assert refused.value.code == -32002
    assert outcome["output"] == "finished"


async def test_shutdown_gives_a_body_that_does_not_end_an_end_in_doubt(tmp_path: Path) -> None:
    async with Driver(tmp_path, config(limits={"drain": "20ms"})) as gate:
        await gate.tool("search")
        call = gate.send("govern", tool="search", args={})
        await gate.runs.get()
        await gate.request("shutdown")
        outcome = await call
        await gate.serving
    assert outcome["status"] == "failed"
    assert outcome["error"]["kind"] == "in_doubt"


async def test_23_store_that_cannot_be_written_refuses_new_calls_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: SQLiteStore) -> None:
        raise JournalUnavailable("the journal could not be written: disk full")

    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "found")
        with monkeypatch.context() as patched:
            patched.setattr(SQLiteStore, "commit", full)
            with pytest.raises(RPCError, match="disk full") as caught:
                await gate.govern("search")
        assert caught.value.code == -32005
        assert gate.ran == []
        assert (await gate.govern("search"))["output"] == "found"


async def test_result_that_could_not_be_recorded_at_first_is_recorded_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "RECORD_RETRIES", (0.001, 0.001))
    monkeypatch.setattr(recording, "RECORD_AGAIN", 0.001)
    failing = True
    commit = SQLiteStore.commit

    def sometimes(self: SQLiteStore) -> None:
        if failing:
            raise JournalUnavailable("the journal could not be written: disk full")
        commit(self)

    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        call = gate.send("govern", tool="search", args={}, idempotency_key="k")
        run = await gate.runs.get()
        monkeypatch.setattr(SQLiteStore, "commit", sometimes)
        gate.answer(run, "found")
        with pytest.raises(RPCError, match="ran, but how it ended") as caught:
            await call
        failing = False
        await next(iter(gate.gate.runtime.engine.recorder.under_way))
        outcome = await gate.govern("search", {}, idempotency_key="k")
    assert caught.value.code == -32005
    assert caught.value.data == {"uid": run["params"]["uid"], "ran": True}
    assert outcome["output"] == "found"
    assert len(gate.ran) == 1


@pytest.mark.parametrize("ends", ["shutdown", "its client leaves"])
async def test_result_that_could_not_be_recorded_is_tried_once_more_when_the_gate_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: str
) -> None:
    def full(self: SQLiteStore) -> None:
        raise JournalUnavailable("the journal could not be written: disk full")

    monkeypatch.setattr(recording, "RECORD_RETRIES", (0.001, 0.001))
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        call = gate.send("govern", tool="search", args={}, idempotency_key="k")
        run = await gate.runs.get()
        with monkeypatch.context() as patched:
            patched.setattr(SQLiteStore, "commit", full)
            gate.answer(run, "found")
            with pytest.raises(RPCError, match="ran, but how it ended"):
                await call
        if ends == "shutdown":
            await gate.request("shutdown")
    async with Driver(tmp_path, config()) as later:
        await later.tool("search", lambda args: "again")
        outcome = await later.govern("search", {}, idempotency_key="k")
    assert (outcome["output"], outcome["replayed"]) == ("found", True)
    assert later.ran == []


async def test_gate_taken_for_dead_settles_its_action_with_what_it_knows(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as one:
        await one.tool("search")
        call = one.send("govern", tool="search", args={})
        run = await one.runs.get()
        one.gate.runtime._journal.liveness.release()
        async with Driver(tmp_path, config()) as two:
            doubted = await two.request("resume", uid=run["params"]["uid"])
        one.answer(run, "found")
        outcome = await call
    assert doubted["error"]["kind"] == "in_doubt"
    assert outcome["output"] == "found"


async def test_start_puts_orphans_in_doubt_so_that_operators_see_them(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        gate.send("govern", tool="search", args={})
        uid = (await gate.runs.get())["params"]["uid"]
        gate.die()
    async with Driver(tmp_path, config()) as later:
        record = later.gate.runtime._journal.reader.action(uid)
    assert record is not None
    assert record.status == "in_doubt"


async def test_body_that_begins_while_the_gate_shuts_down_is_given_an_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolgate.gate._LAST_WORDS", 0.05)
    async with Driver(tmp_path, config(limits={"drain": "20ms"})) as gate:
        await gate.tool("search")
        call = gate.send("govern", tool="search", args={})
        shutdown = gate.send("shutdown")
        uid = (await gate.runs.get())["params"]["uid"]
        outcome = await call
        await shutdown
        await gate.serving
    async with Driver(tmp_path, config()) as later:
        recorded = await later.request("resume", uid=uid)
    assert outcome["error"]["kind"] == "in_doubt"
    assert "the gate was shut down while it ran" in recorded["error"]["message"]


async def test_body_for_which_the_client_is_asked_when_it_has_gone_is_in_doubt_at_once(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        gate.send("govern", tool="search", args={}, idempotency_key="k")
        gate.transport.end()
        async with asyncio.timeout(2):
            await gate.serving
    async with Driver(tmp_path, config()) as later:
        await later.tool("search")
        recorded = await later.govern("search", {}, idempotency_key="k")
    assert "the client went away" in recorded["error"]["message"]
