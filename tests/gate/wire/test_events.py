"""What a client is told of the journal: its session's events, as they were and as they come."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from support.driver import Driver
from support.logged import DB
from support.loops import soon
from support.people import ALICE, config
from toolgate import subscriptions
from toolgate.kernel import telling
from toolgate.wire.messages import RPCError


async def told(gate: Driver, count: int) -> list[dict[str, Any]]:
    """Return the next so many events that the gate sends by itself."""
    events = []
    while len(events) < count:
        note = await gate.notes.get()
        assert note["method"] == "event", note
        events.append(note["params"])
    return events


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["kind"] for event in events]


async def everything(gate: Driver, **asked: Any) -> list[dict[str, Any]]:
    """Return all events, page by page."""
    found: list[dict[str, Any]] = []
    after: int | None = 0
    while after is not None:
        page = await gate.request("events", after=after, **asked)
        found += page["events"]
        after = page["next"]
    return found


def write(folder: Path, sql: str, *values: Any) -> None:
    """Change the store behind the gate's back."""
    with sqlite3.connect(folder / DB) as db:
        db.execute(sql, values)
    db.close()


CALL = ["action.proposed", "action.decided", "action.executing", "action.succeeded"]


class TestEvents:
    async def test_they_are_the_sessions_own_in_the_logs_order(self, tmp_path: Path) -> None:
        async with Driver(tmp_path, config()) as gate:
            await gate.tool("search", lambda args: "found")
            outcome = await gate.govern("search", {"q": "x"})
            events = await everything(gate)
            own = await everything(gate, action_id=outcome["uid"])
        assert kinds(events) == ["session.opened", "policy.loaded", "tool.registered", *CALL]
        assert kinds(own) == CALL
        assert [event["seq"] for event in events] == sorted(event["seq"] for event in events)
        assert own[0]["data"] == {"tool": "search", "args": {"q": "x"}}
        assert {event["session"] for event in events} == {gate.ready["session"]}
        assert {event.get("action") for event in own} == {outcome["uid"]}
        assert own[0]["at"].endswith("Z")

    async def test_a_page_says_where_the_next_begins(self, tmp_path: Path) -> None:
        async with Driver(tmp_path, config()) as gate:
            await gate.tool("search", lambda args: 1)
            await gate.govern("search")
            whole = await gate.request("events")
            paged = await everything(gate, limit=2)
            first = await gate.request("events", limit=2)
        assert whole["next"] is None
        assert paged == whole["events"]
        assert first["next"] == first["events"][-1]["seq"]

    async def test_those_of_other_sessions_are_not_told(self, tmp_path: Path) -> None:
        async with Driver(tmp_path, config()) as one, Driver(tmp_path, config()) as other:
            await one.tool("search", lambda args: "theirs")
            outcome = await one.govern("search")
            seen = await everything(other)
            about = await everything(other, action_id=outcome["uid"])
        assert kinds(seen) == ["session.opened", "policy.loaded"]
        assert about == []

    async def test_those_of_other_gates_of_the_session_are(self, tmp_path: Path) -> None:
        settings = config(session="shared")
        async with Driver(tmp_path, settings) as one, Driver(tmp_path, settings) as other:
            await one.tool("search", lambda args: "found")
            outcome = await one.govern("search")
            assert kinds(await everything(other, action_id=outcome["uid"])) == CALL

    async def test_a_proposal_is_told_with_its_actions(self, tmp_path: Path) -> None:
        write = {"type": "state_write", "parameters": {"key": "k", "value": 1}}
        async with Driver(tmp_path, config(policy={"allow_up_to": 2})) as gate:
            await gate.request("propose", proposal={"actions": [write]})
            result = await gate.request("propose", proposal={"actions": [write]})
            events = await everything(gate, action_id=result["uid"])
        assert kinds(events)[0] == "proposal.received"
        assert kinds(events)[-1] == "proposal.completed"
        assert {event["action"] for event in events} == {result["uid"], f"{result['uid']}-1"}

    async def test_what_contracts_redact_stays_hidden(self, tmp_path: Path) -> None:
        tools = {"search": {"redact": ["/token"]}}
        async with Driver(tmp_path, config(tools=tools)) as gate:
            await gate.tool("search", lambda args: 1)
            await gate.govern("search", {"token": "s3cret", "q": "x"})
            text = json.dumps(await everything(gate))
        assert "s3cret" not in text
        assert '"q": "x"' in text

    async def test_neither_envelopes_nor_what_a_decision_stood_on_are_told(
        self, tmp_path: Path
    ) -> None:
        settings = config()
        settings["policy"]["rules"][3]["when"] = "size(state) == 0"
        async with Driver(tmp_path, settings) as gate:
            await gate.tool("pay", lambda args: "paid")
            held = await gate.govern("pay", {"amount": 1})
            gate.approve(held["uid"], ALICE, tmp_path)
            await gate.request("resume", uid=held["uid"])
            events = await everything(gate, action_id=held["uid"])
        [approval] = [event for event in events if event["kind"] == "approval.recorded"]
        assert approval["data"]["approver"] == "alice"
        assert "envelope" not in approval["data"]
        assert all("stood_on" not in event["data"] for event in events)
        with sqlite3.connect(tmp_path / DB) as db:
            logged = str(db.execute("SELECT group_concat(data) FROM event").fetchone()[0])
        db.close()
        assert '"stood_on"' in logged
        assert '"envelope"' in logged

    async def test_keys_of_the_state_that_cannot_be_read_are_not_shown(
        self, tmp_path: Path
    ) -> None:
        keys = {"state_keys": {"allow": ["open"]}}
        state = {"open": 1, "closed": "hidden value"}
        settings = config(state=state, capabilities=keys)
        async with Driver(tmp_path, settings) as gate:
            await gate.request("checkpoint", name="first")
            events = await everything(gate)
            seen = await gate.request("state")
        [changed] = [event for event in events if event["kind"] == "state.changed"]
        [saved] = [event for event in events if event["kind"] == "checkpoint.saved"]
        assert seen == {"open": 1}
        assert changed["data"]["changes"] == [{"key": "open", "value": 1}]
        assert saved["data"]["keys"] == ["open"]
        assert "closed" not in json.dumps(events)

    async def test_a_page_is_bounded_in_bytes(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(telling, "LARGEST", 100)
        async with Driver(tmp_path, config()) as gate:
            await gate.tool("search", lambda args: 1)
            await gate.govern("search", {"q": "x" * 200})
            page = await gate.request("events", after=0)
            assert len(page["events"]) < 4
            assert kinds(await everything(gate))[-4:] == CALL

    async def test_a_look_through_a_long_log_of_others_ends_and_goes_on(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(telling, "SCAN", 3)
        async with Driver(tmp_path, config()) as one, Driver(tmp_path, config()) as other:
            await other.tool("search", lambda args: 1)
            await one.tool("search", lambda args: 1)
            for _ in range(5):
                await other.govern("search")
            outcome = await one.govern("search")
            pages = [await one.request("events", after=0)]
            while pages[-1]["next"] is not None:
                pages.append(await one.request("events", after=pages[-1]["next"]))
        told = [event for page in pages for event in page["events"]]
        assert [] in [page["events"] for page in pages]
        assert kinds([e for e in told if e.get("action") == outcome["uid"]]) == CALL

    @pytest.mark.parametrize("method", ["events", "subscribe"])
    async def test_an_event_that_the_log_does_not_have_is_nothing_to_go_on_from(
        self, tmp_path: Path, method: str
    ) -> None:
        async with Driver(tmp_path, config()) as gate:
            with pytest.raises(RPCError, match="after: the log ends at event 3") as caught:
                await gate.request(method, after=99)
        assert caught.value.code == -32602

    @pytest.mark.parametrize(
        "wrong",
        [{"after": -1}, {"after": "1"}, {"after": 1 << 63}, {"limit": 0}, {"action_id": 7}],
        ids=str,
    )
    @pytest.mark.parametrize("method", ["events", "subscribe"])
    async def test_wrong_parameters_are_refused(
        self, tmp_path: Path, method: str, wrong: dict[str, Any]
    ) -> None:
        async with Driver(tmp_path, config()) as gate:
            with pytest.raises(RPCError, match=next(iter(wrong))) as caught:
                await gate.request(method, **wrong)
        assert caught.value.code == -32602

    async def test_an_event_that_does_not_verify_is_left_out_and_reported(
        self, tmp_path: Path
    ) -> None:
        async with Driver(tmp_path, config()) as gate:
            await gate.tool("search", lambda args: 1)
            await gate.govern("search", {"q": "x"})
            write(tmp_path, "UPDATE event SET data = '{}' WHERE kind = 'tool.registered'")
            events = await everything(gate)
            note = await gate.notes.get()
        assert "tool.registered" not in kinds(events)
        assert kinds(events)[-4:] == CALL
        assert note["method"] == "log"
        assert note["params"]["level"] == "error"
        assert "TAMPERED JOURNAL: the event" in note["params"]["message"]


class TestSubscriptions:
    async def test_events_are_told_as_they_come_from_now_on(self, tmp_path: Path) -> None:
        async with Driver(tmp_path, config()) as gate:
            await gate.tool("search", lambda args: 1)
            subscribed = gate.send("subscribe")
            await gate.govern("search")
            events = await told(gate, 4)
            gate.cancel(subscribed)
            answer = await subscribed
        assert kinds([event["event"] for event in events]) == CALL
        assert {event["subscription"] for event in events} == {subscribed.identifier}  # type: ignore[attr-defined]
        assert answer == {"after": events[-1]["event"]["seq"]}

    async def test_what_others_write_is_told_too(self, tmp_path: Path) -> None:
        async with Driver(tmp_path, config()) as gate:
            await gate.tool("pay")
            held = await gate.govern("pay", {"amount": 1})
            gate.send("subscribe", action_id=held["uid"])
            async with Driver(tmp_path, config()) as other:
                await other.tool("pay", lambda args: "paid")
                gate.approve(held["uid"], ALICE, tmp_path)
                await other.request("resume", uid=held["uid"])
            events = await told(gate, 5)
        assert kinds([event["event"] for event in events])[-2:] == CALL[-2:]

    async def test_it_goes_on_where_another_ended_and_nothing_is_lost(self, tmp_path: Path) -> None:
        async with Driver(tmp_path, config()) as gate:
            await gate.tool("search", lambda args: 1)
            for _ in range(3):
                await gate.govern("search")
            after, seen = 0, []
            for _ in range(5):
                answer = await gate.request("subscribe", after=after, limit=3)
                after = answer["after"]
                seen += [params["event"] for params in await told(gate, 3)]
            assert seen == (await everything(gate))[:15]

    async def test_it_ends_early_when_what_it_has_told_is_large(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subscriptions, "LARGEST", 1)
        async with Driver(tmp_path, config()) as gate:
            await gate.request("subscribe", after=0, limit=100)
            assert gate.notes.qsize() == 2

    async def test_nothing_is_sent_to_a_client_that_does_not_read_and_nothing_is_lost(
        self, tmp_path: Path
    ) -> None:
        async with Driver(tmp_path, config()) as gate:
            await gate.tool("search", lambda args: 1)
            gate.transport.waiting = subscriptions.ROOM
            looks: list[int] = []
            following = gate.gate._subscriptions
            following._waiting = lambda: looks.append(1) or gate.transport.waiting  # type: ignore[func-returns-value]
            gate.send("subscribe", after=0, limit=7)
            for _ in range(3):
                await gate.govern("search")
            await soon(lambda: len(looks) > 2)
            assert gate.notes.empty()
            gate.transport.waiting = 0
            events = await told(gate, 7)
        assert kinds([event["event"] for event in events])[-4:] == CALL

    async def test_calls_are_answered_while_a_long_history_is_told(self, tmp_path: Path) -> None:
        async with Driver(tmp_path, config()) as gate:
            await gate.tool("search", lambda args: 1)
            for _ in range(60):
                await gate.govern("search")
            gate.send("subscribe", after=0)
            await gate.request("ping")
            assert gate.notes.qsize() <= 2 * subscriptions.TURN
            await told(gate, 3 + 4 * 60)

    async def test_shutdown_tells_what_was_written_before_it_and_answers(
        self, tmp_path: Path
    ) -> None:
        async with Driver(tmp_path, config()) as gate:
            await gate.tool("search")
            subscribed = gate.send("subscribe")
            call = gate.send("govern", tool="search", args={})
            run = await gate.runs.get()
            ended = gate.send("shutdown")
            await asyncio.sleep(0)
            gate.answer(run, 1)
            await asyncio.gather(call, ended)
            events = await told(gate, 4)
            answer = await subscribed
        assert kinds([event["event"] for event in events]) == CALL
        assert answer == {"after": events[-1]["event"]["seq"]}

    async def test_shutdown_does_not_wait_for_a_client_that_does_not_read(
        self, tmp_path: Path
    ) -> None:
        async with Driver(tmp_path, config()) as gate:
            gate.transport.waiting = subscriptions.ROOM
            subscribed = gate.send("subscribe", after=0)
            await gate.request("shutdown")
            assert await subscribed == {"after": 0}

    async def test_after_shutdown_nobody_subscribes(self, tmp_path: Path) -> None:
        async with Driver(tmp_path, config()) as gate:
            ended = gate.send("shutdown")
            with pytest.raises(RPCError) as caught:
                await gate.request("subscribe")
            await ended
        assert caught.value.code == -32002

    async def test_a_cancel_that_comes_at_once_ends_it(self, tmp_path: Path) -> None:
        async with Driver(tmp_path, config()) as gate:
            subscribed = gate.send("subscribe", after=0)
            gate.cancel(subscribed)
            assert await subscribed == {"after": 0}
            assert gate.notes.empty()

    async def test_there_are_only_so_many(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(subscriptions, "MOST", 2)
        async with Driver(tmp_path, config()) as gate:
            one, _ = gate.send("subscribe"), gate.send("subscribe")
            with pytest.raises(RPCError, match="cancel one") as caught:
                await gate.request("subscribe")
            gate.cancel(one)
            await one
            three = gate.send("subscribe")
            gate.cancel(three)
            await three
        assert caught.value.code == -32003

    async def test_they_take_no_room_from_calls(self, tmp_path: Path) -> None:
        limits = {"max_in_flight": 1, "max_waiting": 1}
        async with Driver(tmp_path, config(limits=limits)) as gate:
            await gate.tool("search", lambda args: 1)
            for _ in range(5):
                gate.send("subscribe")
            assert (await gate.govern("search"))["status"] == "succeeded"

    async def test_a_log_that_was_cut_ends_it_with_an_error(self, tmp_path: Path) -> None:
        async with Driver(tmp_path, config()) as gate:
            subscribed = gate.send("subscribe")
            await gate.request("ping")
            write(tmp_path, "DELETE FROM event WHERE seq > 1")
            with pytest.raises(RPCError, match="the log ends at event 1"):
                await subscribed
            gate._dead = True

    async def test_lodestars_clients_hear_none_of_it(self, tmp_path: Path) -> None:
        from support.lodestar_driver import LodestarDriver

        async with LodestarDriver(tmp_path, config()) as gate:
            gate.gate.peer.notify("log", {"level": "error", "message": "x"})
            gate.gate.peer.notify("event", {"subscription": 1, "event": {}})
            assert (await gate.ask("register_tool", name="search"))["type"] == "registered"
