"""Single calls through the whole gate: admitted, refused, executed, ended."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.driver import Driver
from support.people import config
from toolgate.wire.messages import RPCError


async def test_allowed_call_runs_its_body_and_returns_the_output(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: {"hits": [args["query"]]})
        outcome = await gate.govern("search", {"query": "orders"})
    assert outcome["status"] == "succeeded"
    assert outcome["output"] == {"hits": ["orders"]}
    assert outcome["decision"]["effect"] == "allow"
    assert outcome["decision"]["rules"] == ["reads"]
    assert outcome["attempts"] == 1
    assert outcome["replayed"] is False
    assert gate.ran == [("search", {"query": "orders"})]


async def test_01_denied_call_never_reaches_the_body_and_says_why(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("shell", lambda args: "ran")
        denied = await gate.govern("shell", {"command": "rm -rf /"})
        allowed = await gate.govern("shell", {"command": "ls"})
    assert denied["status"] == "rejected"
    assert denied["error"] == {"kind": "policy_denied", "message": "nothing is removed by an agent"}
    assert "output" not in denied
    assert allowed["output"] == "ran"
    assert gate.ran == [("shell", {"command": "ls"})]


async def test_condition_that_errs_denies_and_names_the_rule(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("shell", lambda args: "ran")
        outcome = await gate.govern("shell", {"comand": "rm"})
    assert outcome["status"] == "rejected"
    assert outcome["decision"]["errors"][0]["rule"] == "no-rm"
    assert gate.ran == []


async def test_unregistered_tool_is_rejected_whatever_policy_says(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        outcome = await gate.govern("search", {})
    assert outcome["status"] == "rejected"
    assert outcome["error"]["kind"] == "unregistered_tool"
    assert "register it" in outcome["error"]["message"]


async def test_tool_without_a_rule_or_a_contract_is_denied(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        contract = (await gate.tool("unheard_of", lambda args: 1))["contract"]
        outcome = await gate.govern("unheard_of", {})
    assert (contract["level"], contract["reversibility"]) == (3, "irreversible")
    assert outcome["error"]["kind"] == "policy_denied"
    assert "no rule allows" in outcome["error"]["message"]
    assert gate.ran == []


async def test_level_five_is_denied_even_by_a_rule_that_allows_it(tmp_path: Path) -> None:
    rules = [{"id": "all", "tools": ["*"], "effect": "allow"}]
    async with Driver(tmp_path, config(policy={"rules": rules})) as gate:
        await gate.tool("nuke", lambda args: 1)
        outcome = await gate.govern("nuke", {})
    assert outcome["error"]["kind"] == "policy_denied"
    assert gate.ran == []


async def test_every_wrong_argument_is_reported_at_once_with_its_pointer(tmp_path: Path) -> None:
    schema = {
        "type": "object",
        "properties": {"to": {"type": "array", "items": {"type": "string"}}, "n": {"minimum": 1}},
    }
    operator = {"properties": {"to": {"maxItems": 1}}}
    tools = {"search": {"level": 0, "parameters": operator}}
    async with Driver(tmp_path, config(tools=tools)) as gate:
        await gate.tool("search", lambda args: 1, parameters=schema)
        outcome = await gate.govern("search", {"to": ["a", 2], "n": 0})
    assert outcome["error"]["kind"] == "invalid_arguments"
    pointers = [problem["pointer"] for problem in outcome["error"]["details"]["problems"]]
    assert sorted(pointers) == ["/n", "/to", "/to/1"]
    assert gate.ran == []


async def test_result_that_is_not_what_the_tool_declares_is_a_failure(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("typed", lambda args: {"n": "one"}, returns={"type": "integer"})
        outcome = await gate.govern("typed", {})
    assert outcome["status"] == "failed"
    assert outcome["error"]["kind"] == "invalid_result"
    assert gate.ran == [("typed", {})]


async def test_body_that_raises_fails_the_call_with_its_type_and_message(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        call = gate.send("govern", tool="search", args={})
        gate.fail(await gate.runs.get(), "no such index", "LookupError")
        outcome = await call
    assert outcome["status"] == "failed"
    assert outcome["error"]["kind"] == "execution_failed"
    assert outcome["error"]["message"] == "no such index"
    assert outcome["error"]["details"] == {"type": "LookupError"}


async def test_reply_to_run_tool_without_an_output_fails_the_run_it_answers(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        call = gate.send("govern", tool="search", args={})
        run = await gate.runs.get()
        gate.transport.feed(b'{"jsonrpc":"2.0","id":%d,"result":[]}\n' % run["id"])
        outcome = await call
    assert outcome["status"] == "failed"
    assert outcome["error"]["details"] == {"type": "ProtocolError"}


async def test_body_that_overruns_its_time_is_in_doubt_and_told_to_stop(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("slow")
        outcome = await gate.govern("slow", {})
        note = await gate.notes.get()
        again = await gate.request("resume", uid=outcome["uid"])
    assert outcome["status"] == "failed"
    assert outcome["error"]["kind"] == "execution_timeout"
    assert note["method"] == "cancel_tool"
    assert note["params"]["uid"] == outcome["uid"]
    assert again["error"]["kind"] == "execution_timeout"
    assert len(gate.ran) == 1


async def test_late_result_settles_an_action_that_ran_out_of_time(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("slow")
        call = gate.send("govern", tool="slow", args={})
        run = await gate.runs.get()
        outcome = await call
        gate.answer(run, "done after all")
        await gate.request("ping")
        settled = await gate.request("resume", uid=outcome["uid"])
    assert outcome["error"]["kind"] == "execution_timeout"
    assert settled["status"] == "succeeded"
    assert settled["output"] == "done after all"
    assert settled["replayed"] is True


async def test_callers_timeout_can_only_shorten_the_contracts(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("slow")
        call = gate.send("govern", tool="slow", args={}, timeout_ms=3_600_000)
        run = await gate.runs.get()
        await call
        await gate.tool("search")
        shorter = gate.send("govern", tool="search", args={}, timeout_ms=20)
        other = await gate.runs.get()
        await shorter
    assert run["params"]["timeout_ms"] == 50
    assert other["params"]["timeout_ms"] == 20


async def test_same_idempotency_key_returns_the_recorded_outcome(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: len(gate.ran))
        first = await gate.govern("search", {"q": 1}, idempotency_key="k")
        second = await gate.govern("search", {"q": 1}, idempotency_key="k")
    assert first["output"] == second["output"] == 1
    assert second["uid"] == first["uid"]
    assert second["replayed"] is True
    assert len(gate.ran) == 1


async def test_idempotency_key_outlives_the_gate_and_the_session(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "first")
        await gate.govern("search", {"q": 1}, idempotency_key="k")
    async with Driver(tmp_path, config()) as later:
        await later.tool("search", lambda args: "second")
        outcome = await later.govern("search", {"q": 1}, idempotency_key="k")
    assert outcome["output"] == "first"
    assert later.ran == []


async def test_key_names_one_call_so_other_arguments_are_an_error(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: 1)
        await gate.govern("search", {"q": 1}, idempotency_key="k")
        with pytest.raises(RPCError, match="one key is one call") as caught:
            await gate.govern("search", {"q": 2}, idempotency_key="k")
    assert caught.value.code == -32602
    assert len(gate.ran) == 1


async def test_key_of_another_agent_is_another_key(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "mine")
        await gate.govern("search", {}, idempotency_key="k")
    async with Driver(tmp_path, config(agent={"id": "other"})) as other:
        await other.tool("search", lambda args: "theirs")
        outcome = await other.govern("search", {}, idempotency_key="k")
    assert outcome["output"] == "theirs"


async def test_action_of_another_project_or_agent_is_unknown(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: 1)
        uid = (await gate.govern("search", {}))["uid"]
    async with Driver(tmp_path, config(project="elsewhere")) as other:
        outcome = await other.request("resume", uid=uid)
        nobody = await other.request("resume", uid="no-such-action")
    assert outcome["error"]["kind"] == nobody["error"]["kind"] == "unknown_action"


async def test_second_caller_of_a_running_key_gets_the_first_ones_outcome(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search")
        first = gate.send("govern", tool="search", args={}, idempotency_key="k")
        run = await gate.runs.get()
        second = gate.send("govern", tool="search", args={}, idempotency_key="k")
        await gate.request("ping")
        gate.answer(run, 42)
        outcomes = [await first, await second]
    assert [outcome["output"] for outcome in outcomes] == [42, 42]
    assert [outcome["replayed"] for outcome in outcomes] == [False, True]
    assert len(gate.ran) == 1


async def test_many_calls_at_once_all_reach_their_callers(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: args["n"])
        calls = [gate.send("govern", tool="search", args={"n": n}) for n in range(100)]
        outputs = [(await call)["output"] for call in calls]
    assert outputs == list(range(100))


async def test_too_many_calls_in_flight_are_refused_and_the_rest_go_on(tmp_path: Path) -> None:
    async with Driver(tmp_path, config(limits={"max_in_flight": 2})) as gate:
        await gate.tool("search")
        calls = [gate.send("govern", tool="search", args={"n": n}) for n in range(3)]
        with pytest.raises(RPCError, match="max_in_flight") as caught:
            await calls[2]
        for _ in range(2):
            run = await gate.runs.get()
            gate.answer(run, run["params"]["args"]["n"])
        outputs = [(await call)["output"] for call in calls[:2]]
    assert caught.value.code == -32003
    assert outputs == [0, 1]


async def test_registering_a_tool_again_changes_nothing_and_otherwise_conflicts(
    tmp_path: Path,
) -> None:
    async with Driver(tmp_path, config()) as gate:
        first = await gate.tool("search", description="finds")
        again = await gate.tool("search", description="finds")
        with pytest.raises(RPCError) as caught:
            await gate.tool("search", description="finds something else")
    assert first == again
    assert caught.value.code == -32004


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "strin"},
        {"$ref": "http://localhost:1/schema.json"},
        {"$ref": "file:///etc/passwd"},
        {"$schema": "urn:my-own-draft"},
        {"pattern": "("},
    ],
)
async def test_unusable_schema_is_refused_at_registration(
    tmp_path: Path, schema: dict[str, object]
) -> None:
    async with Driver(tmp_path, config()) as gate:
        with pytest.raises(RPCError, match="search") as caught:
            await gate.tool("search", parameters=schema)
        outcome = await gate.govern("search", {})
    assert caught.value.code == -32602
    assert outcome["error"]["kind"] == "unregistered_tool"


async def test_tool_names_are_data_whatever_they_are_called(tmp_path: Path) -> None:
    rules = [{"id": "odd", "tools": ["*"], "effect": "allow"}]
    async with Driver(tmp_path, config(policy={"rules": rules})) as gate:
        for name in ("state_write", "*", "a.b/c", "ünï", "'; DROP TABLE action; --"):
            await gate.tool(name, lambda args: "ok")
            assert (await gate.govern(name, {}))["output"] == "ok"


async def test_named_session_is_continued_and_auto_is_always_new(tmp_path: Path) -> None:
    async with Driver(tmp_path, config(session="daily")) as first:
        pass
    async with Driver(tmp_path, config(session="daily")) as second:
        pass
    async with Driver(tmp_path, config()) as third:
        pass
    assert first.ready["session"] == second.ready["session"] == "daily"
    assert third.ready["session"] not in ("daily", "auto")


async def test_call_cancelled_before_its_body_started_never_runs(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", lambda args: "found")
        call = gate.send("govern", tool="search", args={}, idempotency_key="k")
        gate.cancel(call)
        outcome = await call
        again = await gate.govern("search", {}, idempotency_key="k")
    assert (outcome["status"], outcome["error"]["kind"]) == ("skipped", "cancelled")
    assert again["error"]["kind"] == "cancelled"
    assert gate.ran == []


async def test_hold_opened_by_a_cancelled_call_is_withdrawn(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        call = gate.send("govern", tool="pay", args={})
        gate.cancel(call)
        outcome = await call
        pending = (await gate.request("holds", status="pending"))["holds"]
    assert (outcome["status"], outcome["error"]["kind"]) == ("skipped", "cancelled")
    assert pending == []


@pytest.mark.parametrize("parameters", [{"timeout_ms": 10**400}, {"timeout_ms": 0}])
async def test_time_out_of_all_bounds_is_a_bad_parameter(
    tmp_path: Path, parameters: dict[str, int]
) -> None:
    async with Driver(tmp_path, config()) as gate:
        with pytest.raises(RPCError, match="timeout_ms") as caught:
            await gate.govern("search", {}, **parameters)
    assert caught.value.code == -32602


async def test_error_about_a_huge_argument_does_not_quote_all_of_it(tmp_path: Path) -> None:
    async with Driver(tmp_path, config()) as gate:
        await gate.tool("search", parameters={"properties": {"q": {"type": "integer"}}})
        outcome = await gate.govern("search", {"q": "x" * 1_000_000})
    assert outcome["error"]["kind"] == "invalid_arguments"
    assert len(str(outcome)) < 5000
