"""Events as they come, for threads and tasks: each once, in order, and nobody else waits for it."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from support.client_gates import Background, fake_gate, received
from support.loops import LOOPS, run, soon
from toolgate_client import Event, GateClient, GateClosed, GateError, ProtocolError, Subscription
from toolgate_client._events import WINDOW

MANY = 3 * WINDOW + 5


@pytest.fixture
def gate() -> Iterator[GateClient]:
    with fake_gate(fake={"events": 3}) as gate:
        yield gate


def happen(gate: GateClient, times: int = 1) -> None:
    gate.govern("happens", {"times": times})


def take(subscription: Subscription, count: int) -> list[int]:
    return [next(subscription).seq for _ in range(count)]


async def atake(subscription: Subscription, count: int) -> list[int]:
    return [(await anext(subscription)).seq for _ in range(count)]


def core(gate: GateClient) -> Any:
    assert gate._gate is not None
    return gate._gate.core


def waits(gate: GateClient) -> bool:
    """Whether somebody waits for the gate to say something."""
    assert gate._gate is not None
    return "reader" in gate._gate.exchange._roles


class TestListing:
    def test_all_events_are_listed_page_by_page(self) -> None:
        with fake_gate(fake={"events": 2500}) as gate:
            assert [event.seq for event in gate.events()] == list(range(1, 2501))
            assert [event.seq for event in gate.events(after=2490, limit=3)] == [2491, 2492, 2493]
            assert [event.seq for event in gate.events(limit=1500)][-1] == 1500
            assert gate.events(limit=0) == []

    async def test_a_task_lists_the_same(self) -> None:
        async with fake_gate(fake={"events": 1200}) as gate:
            assert await gate.aevents(after=7, limit=1100) == gate.events(after=7, limit=1100)

    def test_an_event_has_what_the_journal_has(self, gate: GateClient) -> None:
        assert gate.events(limit=1, uid="u") == [
            Event(
                seq=1,
                kind="action.proposed",
                at="2026-01-01T00:00:00Z",
                session="s1",
                action="u1",
                data={"args": {}},
                run="r",
                n=1,
            )
        ]
        [asked] = received(gate, "events")
        assert asked["params"] == {"after": 0, "limit": 1, "action_id": "u"}


class TestThreads:
    def test_events_come_in_order_from_where_it_is_said(self, gate: GateClient) -> None:
        with gate.subscribe() as new, gate.subscribe(after=0) as all_there_are:
            happen(gate, 2)
            assert take(new, 2) == [4, 5]
            assert take(all_there_are, 5) == [1, 2, 3, 4, 5]

    def test_what_happens_before_the_first_look_is_not_lost(self, gate: GateClient) -> None:
        with gate.subscribe() as events:
            happen(gate, MANY)
            assert take(events, MANY) == list(range(4, MANY + 4))
        asked = [message["params"] for message in received(gate, "subscribe")]
        assert {each["limit"] for each in asked} == {WINDOW}
        assert [each.get("after") for each in asked] == [None, *range(3 + WINDOW, MANY, WINDOW)]

    def test_a_slow_one_keeps_no_call_waiting_and_piles_nothing_up(self, gate: GateClient) -> None:
        with gate.subscribe() as events:
            for _ in range(20):
                happen(gate, 1000)
                gate.ping()
                assert len(events._feed.events) <= WINDOW
            assert take(events, 20_000) == list(range(4, 20_004))

    def test_a_thread_waits_while_others_call(self, gate: GateClient) -> None:
        with gate.subscribe() as events:
            waiting = Background(lambda: take(events, 30))
            callers = [Background(lambda: [happen(gate) for _ in range(10)]) for _ in range(3)]
            for caller in callers:
                caller.result()
            assert waiting.result() == list(range(4, 34))

    def test_one_that_is_closed_is_over_and_the_gate_hears_of_it(self, gate: GateClient) -> None:
        events = gate.subscribe(after=0)
        assert take(events, 1) == [1]
        events.close()
        events.close()
        assert list(events) == []
        assert len(received(gate, "cancel")) == 1
        assert not core(gate)._pending

    def test_closing_from_another_thread_ends_the_wait(self, gate: GateClient) -> None:
        events = gate.subscribe()
        waiting = Background(lambda: list(events))
        while not waits(gate):
            pass
        events.close()
        assert waiting.result() == []
        gate.ping()
        assert not core(gate)._pending

    def test_closing_the_client_ends_it_after_the_last_events(self, gate: GateClient) -> None:
        events = gate.subscribe()
        waiting = Background(lambda: [event.seq for event in events])
        happen(gate, 2)
        gate.close()
        assert waiting.result() == [4, 5]
        assert list(events) == []

    def test_the_death_of_the_gate_is_raised_with_its_last_words(self, gate: GateClient) -> None:
        events = gate.subscribe()
        waiting = Background(lambda: take(events, 2))
        happen(gate)
        with pytest.raises(GateClosed):
            gate.govern("prints_and_dies", {})
        with pytest.raises(GateClosed) as caught:
            waiting.result()
        assert caught.value.stderr

    def test_only_one_waits_at_a_time(self, gate: GateClient) -> None:
        with gate.subscribe() as events:
            waiting = Background(lambda: take(events, 1))
            while not waits(gate):
                pass
            with pytest.raises(GateError, match="another thread or task"):
                next(events)
            happen(gate)
            assert waiting.result() == [4]

    def test_what_the_gate_refuses_is_raised(self, gate: GateClient) -> None:
        with gate.subscribe(after=99) as events, pytest.raises(ProtocolError, match="the log ends"):
            next(events)

    def test_what_is_no_event_is_raised(self) -> None:
        with fake_gate(fake={"events": 3, "no_event": 2}) as gate:
            events = gate.subscribe(after=0)
            assert take(events, 1) == [1]
            with pytest.raises(ProtocolError, match="none"):
                next(events)

    def test_one_that_is_dropped_is_cancelled(self, gate: GateClient) -> None:
        for event in gate.subscribe(after=0):
            assert event.seq == 1
            break
        gc.collect()
        assert len(received(gate, "cancel")) == 1
        assert not core(gate)._pending

    def test_a_client_that_is_closed_has_none(self, gate: GateClient) -> None:
        gate.close()
        with pytest.raises(GateClosed):
            gate.subscribe()

    def test_no_thread_is_started(self, gate: GateClient) -> None:
        before = threading.active_count()
        with gate.subscribe() as events:
            happen(gate)
            take(events, 1)
            assert threading.active_count() == before


class TestTasks:
    @pytest.mark.parametrize("kind", LOOPS)
    def test_every_sort_of_loop_is_told(self, kind: str, gate: GateClient) -> None:
        async def main() -> list[int]:
            async with gate.subscribe() as events:
                waiting = asyncio.create_task(atake(events, MANY))
                await gate.agovern("happens", {"times": MANY})
                return await waiting

        assert run(main(), LOOPS[kind]) == list(range(4, MANY + 4))

    async def test_tasks_call_while_another_waits(self, gate: GateClient) -> None:
        async with gate.subscribe() as events:
            waiting = asyncio.create_task(atake(events, 40))
            await asyncio.gather(*(gate.agovern("happens", {}) for _ in range(40)))
            assert await waiting == list(range(4, 44))

    async def test_a_wait_that_is_cancelled_loses_nothing(self, gate: GateClient) -> None:
        events = gate.subscribe()
        for expected in range(4, 14):
            waiting = asyncio.create_task(anext(events))  # type: ignore[arg-type]
            await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
            await gate.agovern("happens", {})
            assert (await anext(events)).seq == expected
        events.close()

    async def test_closing_ends_the_wait_of_another_task(self, gate: GateClient) -> None:
        events = gate.subscribe()

        async def follow() -> list[int]:
            return [event.seq async for event in events]

        waiting = asyncio.create_task(follow())
        await gate.agovern("happens", {})
        await soon(lambda: events._after == 4)
        await events.aclose()
        assert await waiting == [4]

    async def test_the_loop_watches_nothing_between_two_events(self, gate: GateClient) -> None:
        async with gate.subscribe(after=0) as events:
            await anext(events)
            await soon(lambda: not gate._gate.exchange.ports)  # type: ignore[union-attr]

    def test_one_loop_after_the_other_and_a_thread_may_follow_it(self, gate: GateClient) -> None:
        events = gate.subscribe(after=0)
        assert asyncio.run(atake(events, 1)) == [1]
        assert take(events, 1) == [2]
        happen(gate, WINDOW)
        assert asyncio.run(atake(events, WINDOW)) == list(range(3, WINDOW + 3))
        events.close()

    async def test_the_death_of_the_gate_is_raised(self, gate: GateClient) -> None:
        events = gate.subscribe()
        waiting = asyncio.create_task(anext(events))  # type: ignore[arg-type]
        with pytest.raises(GateClosed):
            await gate.agovern("die", {})
        with pytest.raises(GateClosed):
            await waiting

    async def test_closing_the_client_ends_it(self, gate: GateClient) -> None:
        events = gate.subscribe()

        async def follow() -> list[int]:
            return [event.seq async for event in events]

        waiting = asyncio.create_task(follow())
        await gate.agovern("happens", {})
        await gate.aclose()
        assert await waiting == [4]


class TestLog:
    def test_what_the_gate_says_is_logged_with_its_level(
        self, gate: GateClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG):
            gate.call("noisy", {}, body=lambda args: None)
        [record] = [record for record in caplog.records if record.name == "toolgate"]
        assert (record.levelname, record.getMessage()) == ("WARNING", "take care")

    def test_what_a_waiting_subscriber_reads_is_logged_too(
        self, gate: GateClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG), gate.subscribe() as events:
            waiting = Background(lambda: take(events, 1))
            gate.call("noisy", {}, body=lambda args: None)
            happen(gate)
            waiting.result()
        assert "take care" in caplog.messages

    def test_without_a_handler_it_is_on_stderr_once(
        self, gate: GateClient, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(logging.getLogger(), "handlers", [])
        gate.call("noisy", {}, body=lambda args: None)
        said = capfd.readouterr().err
        assert "not JSON" in said, "what the client itself notices is told by the last resort"
        assert "take care" not in said
