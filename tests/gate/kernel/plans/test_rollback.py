"""Aborts: what is undone, what is made good, and what nobody can undo."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.driver import Driver
from support.people import ALICE
from support.plans import (
    FAIL,
    World,
    call,
    events,
    kinds,
    needs,
    of,
    plan_config,
    propose,
    read,
    sent,
    statuses,
    write,
)


def undo(tool: str = "undo", **parameters: Any) -> dict[str, Any]:
    """Return what makes an action compensable by a tool."""
    compensation = {"type": "tool", "tool": tool, "parameters": parameters}
    return {"reversibility": "compensable", "compensation": compensation}


def undone_by(name: str) -> dict[str, Any]:
    """Return what makes an action compensable by another."""
    compensation = {"type": "action_ref", "action_id": name}
    return {"reversibility": "compensable", "compensation": compensation}


async def test_abort_undoes_state_marks_what_succeeded_and_names_why(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config(state={"old": 1, "null": None})) as gate:
        await World().equip(gate, "step")
        result = await propose(
            gate,
            write("a", "new", 1),
            write("b", "old", 2),
            write("c", "null", 3),
            call("d", expected_effects={"old": 3, "effect": 1}),
            FAIL,
            write("never", "new", 2),
        )
        state = await gate.request("state")
        again = await gate.request("resume", uid=result["uid"])
    assert result["status"] == "aborted"
    assert state == {"old": 1, "null": None}
    assert [item["rolled_back"] for item in result["results"]] == [True] * 4 + [False] * 2
    assert result["rollback"]["restored"] == ["effect", "new", "null", "old"]
    assert result["rollback"]["kept"] == []
    assert result["error"]["kind"] == "execution_failed"
    assert result["error"]["details"] == {"action_id": "fail"}
    assert again["proposal"]["rollback"] == result["rollback"]
    assert again["proposal"]["error"] == result["error"]


async def test_key_that_somebody_else_has_written_since_stays(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as one, Driver(tmp_path, plan_config()) as two:
        await one.tool("step")
        proposed = sent(
            one,
            write("a", "mine", 1),
            write("b", "theirs", 1),
            write("c", "between", 1),
            call("d", parameters={"n": 1}),
            write("e", "between", 3),
            write("f", "again", 1),
            call("g", parameters={"n": 2}),
            FAIL,
        )
        run = await one.runs.get()
        await propose(two, write("x", "theirs", 2), write("y", "between", 2))
        one.answer(run, None)
        run = await one.runs.get()
        await propose(two, write("z", "again", 1))
        one.answer(run, None)
        result = await proposed
        state = await two.request("state")
    assert state == {"theirs": 2, "between": 2, "again": 1}
    assert result["rollback"]["restored"] == ["mine"]
    assert result["rollback"]["kept"] == ["again", "between", "theirs"]


ops = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from([None, 0, 1, "x"]), st.booleans()),
    max_size=6,
)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    initial=st.dictionaries(st.sampled_from("abc"), st.sampled_from([None, 1]), max_size=3),
    before=ops,
    changes=ops,
    behavior=st.sampled_from(["abort", "skip"]),
    checkpointed=st.booleans(),
)
def test_state_after_an_abort_is_what_it_was(
    tmp_path: Path,
    initial: dict[str, Any],
    before: Any,
    changes: Any,
    behavior: str,
    checkpointed: bool,
) -> None:
    def actions(described: Any) -> list[dict[str, Any]]:
        return [
            read(f"a{n}", "k", expected_effects={key: value}, failure_behavior=behavior)
            if effect
            else write(f"a{n}", key, value, failure_behavior=behavior)
            for n, (key, value, effect) in enumerate(described)
        ]

    async def run() -> tuple[Any, Any, Any]:
        folder = Path(tempfile.mkdtemp(dir=tmp_path))
        async with Driver(folder, plan_config(state=initial)) as gate:
            checkpoint = await gate.request("checkpoint", name="start")
            await propose(gate, *actions(before))
            if checkpointed:
                await gate.request("restore", **checkpoint)
            was = await gate.request("state")
            result = await propose(gate, *actions(changes), FAIL)
            return was, result, await gate.request("state")

    was, result, state = asyncio.run(asyncio.wait_for(run(), 20))
    assert result["status"] == "aborted"
    assert state == was
    assert result["rollback"]["restored"] == sorted({key for key, _, _ in changes})


async def test_compensable_actions_are_compensated_last_to_first(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", "undo")
        result = await propose(
            gate,
            call("a", parameters={"n": 1}, **undo(n="$a.output.number")),
            call("b", parameters={"n": 2}, **undo(n="$b.output.number")),
            call("c", parameters={"n": 3}),
            FAIL,
            call("never", **undo()),
        )
        log = [event.kind for event in events(gate) if event.action == result["uid"]]
        each = [
            await gate.request("resume", uid=item["uid"])
            for item in result["rollback"]["compensations"]
        ]
    assert [args for name, args in gate.ran if name == "undo"] == [{"n": 2}, {"n": 1}]
    assert result["rollback"]["compensations"] == [
        {"action_id": "b", "uid": f"{of(result, 'b')['uid']}c", "status": "succeeded"},
        {"action_id": "a", "uid": f"{of(result, 'a')['uid']}c", "status": "succeeded"},
    ]
    effects = [item["action_id"] for item in result["rollback"]["external_effects"]]
    assert effects == ["c"]
    assert log.count("action.compensated") == 2
    assert [outcome["output"]["args"] for outcome in each] == [{"n": 2}, {"n": 1}]


async def test_only_what_compensates_runs_as_a_compensation(tmp_path: Path) -> None:
    plan = [
        call("book", parameters={"n": 1}, **undone_by("cancel")),
        call("cancel", "undo", parameters={"of": "$book.output.number"}),
    ]
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", "undo")
        fine = await propose(gate, *plan)
        ran = list(gate.ran)
        aborted = await propose(gate, *plan, FAIL)
    assert fine["status"] == "completed"
    assert statuses(fine) == ["succeeded", "skipped"]
    assert [name for name, _ in ran] == ["step"]
    assert gate.ran[-1] == ("undo", {"of": 2})
    assert aborted["rollback"]["compensations"][0]["status"] == "succeeded"
    assert aborted["rollback"]["external_effects"] == []


async def test_compensation_is_governed_like_any_call(tmp_path: Path) -> None:
    deny = {"id": "no", "tools": ["undo-denied"], "effect": "deny", "reason": "not this"}
    ask = {"id": "ask", "tools": ["undo-asked"], "effect": "hold", "approval": {}}
    async with Driver(tmp_path, plan_config(deny, ask)) as gate:
        await World().equip(gate, "step", "undo", "undo-denied", "undo-asked")
        await gate.tool("undo-fails", lambda args: 1, returns={"type": "string"})
        result = await propose(
            gate,
            call("fine", parameters={"n": 1}, **undo()),
            call("denied", parameters={"n": 2}, **undo("undo-denied")),
            call("asked", parameters={"n": 3}, **undo("undo-asked")),
            call("fails", parameters={"n": 4}, **undo("undo-fails")),
            call("unknown", parameters={"n": 5}, **undo("undo-unknown")),
            call("unresolved", parameters={"n": 6}, **undo(x="$unresolved.output.nothing")),
            FAIL,
        )
        made_good = {item["action_id"]: item for item in result["rollback"]["compensations"]}
        gate.approve(made_good["asked"]["uid"], ALICE, tmp_path)
        released = await gate.request("resume", uid=made_good["asked"]["uid"])
        unresolved = await gate.request("resume", uid=made_good["unresolved"]["uid"])
        again = await gate.request("resume", uid=result["uid"])
    assert result["status"] == "aborted"
    assert {name: (item["status"], item.get("kind")) for name, item in made_good.items()} == {
        "fine": ("succeeded", None),
        "denied": ("rejected", "policy_denied"),
        "asked": ("held", None),
        "fails": ("failed", "invalid_result"),
        "unknown": ("rejected", "unregistered_tool"),
        "unresolved": ("rejected", "dependency_failed"),
    }
    left = {item["action_id"] for item in result["rollback"]["external_effects"]}
    assert left == {"denied", "asked", "fails", "unknown", "unresolved"}
    assert released["status"] == "succeeded"
    assert unresolved["error"]["kind"] == "dependency_failed"
    assert again["proposal"]["status"] == "aborted"


async def test_external_effects_are_named_and_never_claimed_undone(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", "peek")
        await gate.tool("step-fails", lambda args: 1, returns={"type": "string"})
        await gate.tool("step-hangs")
        result = await propose(
            gate,
            call("ran"),
            call("read-only", "peek"),
            write("state", "k", 1),
            call("rejected", preconditions=needs("missing")),
            call("failed", "step-fails", failure_behavior="skip"),
            call("in-doubt", "step-hangs", timeout_ms=5, failure_behavior="retry"),
            FAIL,
            call("never"),
        )
    assert [
        (item["action_id"], item["status"]) for item in result["rollback"]["external_effects"]
    ] == [("ran", "succeeded"), ("failed", "skipped"), ("in-doubt", "in_doubt")]


async def test_compensation_of_what_did_not_succeed_does_not_run(tmp_path: Path) -> None:
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "undo")
        await gate.tool("step-fails", lambda args: 1, returns={"type": "string"})
        result = await propose(gate, call("a", "step-fails", **undo()))
    assert result["rollback"]["compensations"] == []
    assert [name for name, _ in gate.ran] == ["step-fails"]


async def test_irreversible_action_is_not_compensated(tmp_path: Path) -> None:
    action = {**call("a"), **undo(), "reversibility": "irreversible"}
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step", "undo")
        result = await propose(gate, action, FAIL)
    assert result["rollback"]["compensations"] == []
    assert [item["action_id"] for item in result["rollback"]["external_effects"]] == ["a"]


async def test_compensation_writes_state_that_stays(tmp_path: Path) -> None:
    plan = [
        call("book", expected_effects={"booked": True}, **undone_by("note")),
        write("note", "cancelled", True, expected_effects={"locked": 1}),
    ]
    fine = [plan[0], write("note", "cancelled", True)]
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step")
        denied = await propose(gate, *plan, FAIL)
        result = await propose(gate, *fine, FAIL)
        state = await gate.request("state")
    assert denied["rollback"]["compensations"][0]["kind"] == "policy_denied"
    assert result["rollback"]["compensations"][0]["status"] == "succeeded"
    assert state == {"cancelled": True}


@pytest.mark.parametrize("phase", ["first", "second"])
async def test_gate_killed_while_it_compensates_is_followed_by_one_that_goes_on(
    tmp_path: Path, phase: str
) -> None:
    plan = [
        write("w", "k", 1),
        call("a", parameters={"n": 1}, **undo(of="a")),
        call("b", parameters={"n": 2}, **undo(of="b")),
        FAIL,
    ]
    async with Driver(tmp_path, plan_config()) as gate:
        await World().equip(gate, "step")
        await gate.tool("undo")
        sent(gate, *plan, idempotency_key="k")
        run = await gate.runs.get()
        if phase == "second":
            gate.answer(run, None)
            await gate.runs.get()
        gate.die()
    async with Driver(tmp_path, plan_config()) as later:
        await World().equip(later, "step", "undo")
        result = await propose(later, *plan, idempotency_key="k")
        state = await later.request("state")
    found = {item["action_id"]: item["status"] for item in result["rollback"]["compensations"]}
    assert result["status"] == "aborted"
    assert state == {}
    assert kinds(result) == [None, None, None, "execution_failed"]
    if phase == "first":
        assert found == {"b": "failed", "a": "succeeded"}
        assert later.ran == [("undo", {"of": "a"})]
    else:
        assert found == {"b": "succeeded", "a": "failed"}
        assert later.ran == []
