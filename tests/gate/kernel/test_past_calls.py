"""Rules that ask what a session has called: `session.calls`, `session.total_calls`, `history`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.people import ALICE, config
from support.plans import call, events, propose, statuses, write
from toolgate import clock
from toolgate.journal.opening import inspect_journal
from toolgate.journal.verify import verify
from toolgate.wire.messages import RPCError


def counting(
    when: str, tools: tuple[str, ...] = ("pay",), session: str = "s", **more: Any
) -> dict[str, Any]:
    """Return a config in which calls of ``tools`` are allowed where this is so, else denied."""
    value = config(session=session)
    value["tools"] |= {
        "read": {"level": 1, "labels": ["private"], "idempotent": True},
        "fetch": {"level": 1},
        "mail": {"level": 3, "labels": ["egress"]},
    }
    rule = {"id": "rule", "tools": list(tools), "when": when, "effect": "allow"}
    rules = [rule, *more.pop("rules", [])]
    value["policy"] = {"allow_up_to": 2, "rules": rules}
    value.update(more)
    return value


async def tools(gate: Driver, *by_hand: str) -> None:
    """Register the tools; those ``by_hand`` are answered by the test."""
    for name in ("pay", "read", "fetch", "mail"):
        await gate.tool(name, None if name in by_hand else lambda args: "done")


async def status(gate: Driver, tool: str, **args: Any) -> str:
    """Govern a call and return what it came to."""
    outcome = await gate.govern(tool, args)
    assert not outcome["decision"]["errors"]
    return str(outcome["status"])


def problem(folder: Path) -> str | None:
    """Verify the journal in a folder and return what is wrong."""
    journal = inspect_journal(Driver(folder, config()).config)
    report = verify(journal.store, journal.key, lambda seen: None)
    journal.store.close()
    return report.problem


ONCE = 'session.calls["pay"] == 0'


async def test_tool_may_be_called_once_in_a_session(tmp_path: Path) -> None:
    async with Driver(tmp_path, counting(ONCE)) as gate:
        await tools(gate)
        assert await status(gate, "pay", n=1) == "succeeded"
        assert await status(gate, "pay", n=2) == "rejected"
    async with Driver(tmp_path, counting(ONCE, session="other")) as other:
        await tools(other)
        assert await status(other, "pay", n=1) == "succeeded"
    assert problem(tmp_path) is None


async def test_count_survives_a_restart(tmp_path: Path) -> None:
    for expected in ("succeeded", "succeeded", "rejected"):
        async with Driver(tmp_path, counting('session.calls["pay"] < 2')) as gate:
            await tools(gate)
            assert await status(gate, "pay") == expected
    assert problem(tmp_path) is None


async def test_calls_from_before_any_rule_asked_are_counted(tmp_path: Path) -> None:
    async with Driver(tmp_path, counting("true")) as gate:
        await tools(gate)
        for n in range(3):
            await gate.govern("pay", {"n": n})
            await gate.govern("fetch", {"n": n})
    rule = 'session.calls["pay"] == 3 && session.total_calls == 6 && history[4].tool == "pay"'
    async with Driver(tmp_path, counting(rule)) as gate:
        await tools(gate)
        assert await status(gate, "pay") == "succeeded"
        assert await status(gate, "pay") == "rejected"
    assert problem(tmp_path) is None


async def test_calls_of_a_gate_whose_clock_was_set_back_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with Driver(tmp_path, counting("true")) as gate:
        await tools(gate)
    now = clock.now
    with monkeypatch.context() as patched:
        patched.setattr(clock, "now", lambda: now() - 3_600_000_000)
        async with Driver(tmp_path, counting("true")) as gate:
            await tools(gate)
            assert await status(gate, "pay") == "succeeded"
    async with Driver(tmp_path, counting(ONCE)) as gate:
        await tools(gate)
        assert await status(gate, "pay") == "rejected"


async def test_gate_whose_policy_does_not_ask_counts_for_one_whose_does(tmp_path: Path) -> None:
    async with (
        Driver(tmp_path, counting('session.calls["pay"] < 3')) as asking,
        Driver(tmp_path, counting("true")) as other,
    ):
        await tools(asking)
        await tools(other)
        assert await status(asking, "pay") == "succeeded"
        assert await status(other, "pay") == "succeeded"
        assert await status(other, "pay") == "succeeded"
        assert await status(asking, "pay") == "rejected"


async def test_two_gates_never_both_see_that_nothing_was_called(tmp_path: Path) -> None:
    for session in range(10):
        value = counting(ONCE, session=f"s{session}")
        async with Driver(tmp_path, value) as one, Driver(tmp_path, value) as two:
            for gate in (one, two):
                await tools(gate, "pay")
            # Neither body has ended, and both gates decide in one turn of the loop.
            sent = [
                gate.send("govern", tool="pay", args={"n": n})
                for n in (1, 2)
                for gate in (one, two)
            ]
            ended: set[asyncio.Future[Any]] = set()
            while len(ended) < 3:
                ended, _ = await asyncio.wait(sent, timeout=5, return_when="FIRST_COMPLETED")
                ended = {future for future in sent if future.done()}
            assert all(future.result()["status"] == "rejected" for future in ended)
            ran = one.runs if not one.runs.empty() else two.runs
            [winner] = [gate for gate in (one, two) if gate.ran]
            winner.answer(await asyncio.wait_for(ran.get(), 5), "paid")
            outcomes = [await future for future in sent]
            assert sorted(o["status"] for o in outcomes) == ["rejected"] * 3 + ["succeeded"]
    assert problem(tmp_path) is None


async def test_parallel_actions_of_a_plan_are_counted_one_by_one(tmp_path: Path) -> None:
    async with Driver(tmp_path, counting('session.calls["pay"] < 2')) as gate:
        await tools(gate)
        actions = [call(f"a{n}", "pay", failure_behavior="skip") for n in range(4)]
        result = await propose(gate, *actions)
    assert sorted(statuses(result)) == ["rejected", "rejected", "succeeded", "succeeded"]


async def test_what_never_started_is_no_call(tmp_path: Path) -> None:
    rule = 'session.total_calls == 0 && session.calls["pay"] == 0 && size(history) == 0'
    rules = [
        {"id": "no", "tools": ["fetch"], "when": "args.no", "effect": "deny"},
        {"id": "ask", "tools": ["mail"], "effect": "hold", "approval": {"approvers": ["alice"]}},
    ]
    value = counting(rule, rules=rules)
    async with Driver(tmp_path, value) as gate:
        await tools(gate)
        assert (await gate.govern("fetch", {"no": True}))["status"] == "rejected"
        held = await gate.govern("mail")
        assert held["status"] == "held"
        assert (await gate.govern("unheard_of"))["status"] == "rejected"
        await propose(gate, write("w", "key", 1))
        assert await status(gate, "pay") == "succeeded"
        # From here on the count is kept.
        assert (await gate.govern("fetch", {"no": True}))["status"] == "rejected"
        gate.approve(held["uid"], ALICE, tmp_path)
        assert (await gate.request("resume", uid=held["uid"]))["status"] == "succeeded"
    after = counting('session.total_calls == 2 && history.map(h, h.tool) == ["pay", "mail"]')
    async with Driver(tmp_path, after) as gate:
        await tools(gate)
        assert await status(gate, "pay") == "succeeded"
    assert problem(tmp_path) is None


async def test_recorded_result_is_no_call_and_a_failed_one_is(tmp_path: Path) -> None:
    rule = 'session.calls["read"] == 1 && session.calls["fetch"] == 1'
    async with Driver(tmp_path, counting(rule)) as gate:
        await tools(gate, "fetch")
        assert await status(gate, "pay") == "rejected"
        await gate.govern("read", {"q": 1})
        assert (await gate.govern("read", {"q": 1}))["replayed"] is True
        fetching = gate.send("govern", tool="fetch", args={})
        gate.fail(await asyncio.wait_for(gate.runs.get(), 5), "no")
        await fetching
        assert await status(gate, "pay") == "succeeded"


async def test_attempts_of_one_call_are_one_call(tmp_path: Path) -> None:
    flaky = {"level": 1, "idempotent": True, "retries": 2}
    value = counting('session.calls["fetch"] == 1 && size(history) == 1')
    value["tools"]["fetch"] = flaky
    async with Driver(tmp_path, value) as gate:
        await tools(gate, "fetch")
        await status(gate, "pay")
        fetching = gate.send("govern", tool="fetch", args={})
        gate.fail(await asyncio.wait_for(gate.runs.get(), 5), "not now")
        gate.answer(await asyncio.wait_for(gate.runs.get(), 5), "now")
        assert (await fetching)["attempts"] == 2
        assert await status(gate, "pay") == "succeeded"


async def test_every_known_tool_has_a_count_and_no_other_has(tmp_path: Path) -> None:
    known = 'session.calls["vault"] == 0 && session.calls["late"] == 0'
    async with Driver(tmp_path, counting(known)) as gate:
        await tools(gate)
        missing = await gate.govern("pay")
        assert missing["status"] == "rejected"
        [error] = missing["decision"]["errors"]
        assert (error["rule"], error["error"]) == ("rule", 'Key not found in map: "late"')
        await gate.tool("late")
        assert await status(gate, "pay") == "succeeded"


async def test_count_of_a_tool_nobody_knows_holds_against_the_call(tmp_path: Path) -> None:
    deny = {"id": "deny", "tools": ["pay"], "when": "session.calls.typo > 3", "effect": "deny"}
    async with Driver(tmp_path, counting("true", rules=[deny])) as gate:
        await tools(gate)
        outcome = await gate.govern("pay")
    assert outcome["status"] == "rejected"
    assert outcome["decision"]["rules"] == ["deny"]


async def test_history_tells_tool_status_and_labels_oldest_first(tmp_path: Path) -> None:
    rule = """
      history.map(h, h.tool) == ["fetch", "read"]
      && history[0].status == "failed" && history[1].status == "succeeded"
      && history.exists(h, "private" in h.labels) && size(history[0].labels) == 0
    """
    async with Driver(tmp_path, counting(rule)) as gate:
        await tools(gate, "fetch")
        assert await status(gate, "pay") == "rejected"
        fetching = gate.send("govern", tool="fetch", args={})
        gate.fail(await asyncio.wait_for(gate.runs.get(), 5), "no")
        await fetching
        await gate.govern("read", {"q": 1})
        assert await status(gate, "pay") == "succeeded"


async def test_history_shows_a_call_that_is_under_way(tmp_path: Path) -> None:
    async with Driver(tmp_path, counting('history[0].status == "executing"')) as gate:
        await tools(gate, "fetch")
        fetching = gate.send("govern", tool="fetch", args={})
        run = await asyncio.wait_for(gate.runs.get(), 5)
        assert await status(gate, "pay") == "succeeded"
        gate.answer(run, "done")
        await fetching


@pytest.mark.parametrize("asked_before", [True, False], ids=["kept", "made"])
async def test_history_has_the_last_fifty_calls(tmp_path: Path, asked_before: bool) -> None:
    rule = 'size(history) == 50 && session.total_calls >= 60 && history[49].tool == "read"'
    first = rule if asked_before else "false"
    async with Driver(tmp_path, counting(first)) as gate:
        await tools(gate)
        assert await status(gate, "pay") == "rejected"
        for n in range(59):
            await gate.govern("fetch", {"n": n})
        await gate.govern("read", {"q": 1})
    async with Driver(tmp_path, counting(rule)) as gate:
        await tools(gate)
        assert await status(gate, "pay") == "succeeded"
        assert await status(gate, "pay") == "rejected"
    assert problem(tmp_path) is None


async def test_tool_that_is_called_like_a_state_action_is_counted_as_a_tool(tmp_path: Path) -> None:
    value = counting('session.calls["state_write"] == 1 && session.total_calls == 1')
    value["tools"]["state_write"] = {"level": 1}
    async with Driver(tmp_path, value) as gate:
        await tools(gate)
        await gate.tool("state_write", lambda args: "done")
        await propose(gate, write("w", "key", 1))
        await gate.govern("state_write", {"key": "key"})
        assert await status(gate, "pay") == "succeeded"


async def test_nothing_is_counted_where_no_rule_has_asked(tmp_path: Path) -> None:
    async with Driver(tmp_path, counting(ONCE)) as gate:
        await tools(gate)
        await gate.govern("fetch")
        store = gate.gate.runtime._journal.reader.store
        assert list(store.rows("usage")) == []
        await gate.govern("pay")
        [row] = store.rows("usage")
    assert row[0] == '["calls","s"]'


TAMPERING = {
    "taken away": ("DELETE FROM usage", "is missing"),
    "changed": ("UPDATE usage SET data = x'7b7d'", "does not verify"),
}


@pytest.mark.tampers
@pytest.mark.parametrize(("sql", "told"), TAMPERING.values(), ids=TAMPERING)
async def test_count_that_somebody_has_tampered_with_is_not_believed(
    tmp_path: Path, sql: str, told: str
) -> None:
    async with Driver(tmp_path, counting(ONCE)) as gate, Driver(tmp_path, counting(ONCE)) as other:
        await tools(gate)
        await tools(other)
        assert await status(gate, "pay") == "succeeded"
        gate.gate.runtime._journal.reader.store._db.execute(sql)
        assert await status(gate, "pay") == "rejected"
        with pytest.raises(RPCError, match=told):
            await other.govern("pay")
        assert (len(gate.ran), other.ran) == (1, [])


async def test_verify_of_a_plan_judges_by_what_was_called(tmp_path: Path) -> None:
    deny = {"id": "once", "tools": ["fetch"], "when": "session.calls.fetch > 0", "effect": "deny"}
    async with Driver(tmp_path, counting("true", rules=[deny])) as gate:
        await tools(gate)
        plan = {"actions": [call("a", "fetch")]}
        fine = await gate.request("verify", proposal=plan)
        await gate.govern("fetch")
        denied = await gate.request("verify", proposal=plan)
        seen = len(events(gate))
        await gate.request("verify", proposal=plan)
        assert len(events(gate)) == seen
    assert [issue["code"] for issue in fine["issues"]] == []
    assert [issue["code"] for issue in denied["issues"]] == ["policy_denied"]
