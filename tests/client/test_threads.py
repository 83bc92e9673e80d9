"""Many threads on one gate: every message reaches its owner, nobody waits for nothing."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from support.client_gates import PATIENCE, Background, fake_gate, received
from toolgate_client import ActionFailed, GateClient, GateClosed, ProtocolError
from toolgate_client._exchange import Exchange

MEGABYTE = 1 << 20


@pytest.fixture
def gate() -> Iterator[GateClient]:
    with fake_gate() as gate:
        yield gate


def together(number: int, function: Any) -> list[Any]:
    """Call ``function(index)`` in as many threads, all starting at the same moment."""
    barrier = threading.Barrier(number)

    def start(index: int) -> Any:
        barrier.wait(PATIENCE)
        return function(index)

    running = [Background(partial(start, index)) for index in range(number)]
    return [thread.result() for thread in running]


def test_64_threads_each_get_their_own_replies(gate: GateClient) -> None:
    def caller(index: int) -> list[Any]:
        def body(args: dict[str, Any]) -> tuple[Any, int]:
            return args["n"], threading.get_ident()

        mine = [gate.call("t", {"n": [index, n]}, body=body) for n in range(10)]
        assert {thread for _, thread in mine} == {threading.get_ident()}
        return [n for n, _ in mine]

    assert together(64, caller) == [[[index, n] for n in range(10)] for index in range(64)]


def test_threads_that_wait_do_not_spin(gate: GateClient, monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[int] = []
    for name in ("_poll", "send"):
        look = getattr(Exchange, name)

        def counted(self: Exchange, *args: Any, look: Any = look) -> Any:
            looks.append(1)
            return look(self, *args)

        monkeypatch.setattr(Exchange, name, counted)

    def caller(index: int) -> None:
        for _ in range(50):
            gate.call("t", {}, body=lambda args: None)

    together(8, caller)
    assert len(looks) < 8 * 50 * 20


def test_no_thread_is_started_for_a_call(gate: GateClient) -> None:
    before = threading.active_count()
    seen = gate.call("t", {}, body=lambda args: threading.active_count())
    assert seen == before


def test_large_messages_both_ways_at_once_do_not_block(gate: GateClient) -> None:
    def caller(index: int) -> None:
        text = chr(97 + index) * (3 * MEGABYTE)
        result = gate.govern("t", {"text": text}, body=lambda args: args["text"] * 2)
        assert result.output == text * 2

    together(6, caller)


def test_a_gate_that_talks_before_it_listens_is_heard(gate: GateClient) -> None:
    def caller(index: int) -> Any:
        return gate.call("big_backlog", {"text": "x" * MEGABYTE}, body=lambda args: index)

    assert together(4, caller) == [0, 1, 2, 3]


def test_reading_passes_to_another_thread_that_waits(gate: GateClient) -> None:
    pid = gate._gate.process._popen.pid  # type: ignore[union-attr]

    def arrived() -> int:
        return [call["params"]["tool"] for call in received(gate, "govern")].count("silent")

    for turn in range(20):
        waiting = []
        for index in range(3):
            waiting.append(Background(partial(gate.govern, "silent", {"index": index})))
            while arrived() <= turn * 3 + index:
                pass
        # Nobody else reads or writes from here on: those who wait have to see to it themselves.
        for index, call in enumerate(waiting):
            os.kill(pid, signal.SIGUSR1)
            assert call.result().output == {"index": index}


def test_a_running_body_does_not_keep_others_from_reading(gate: GateClient) -> None:
    begun, end = threading.Event(), threading.Event()

    def body(args: dict[str, Any]) -> str:
        begun.set()
        assert end.wait(PATIENCE)
        return "done"

    running = Background(lambda: gate.call("t", {}, body=body))
    assert begun.wait(PATIENCE)
    assert gate.call("t", {}, body=lambda args: "meanwhile") == "meanwhile"
    end.set()
    assert running.result() == "done"


class TestLimitOfTheGate:
    def test_callers_over_it_wait_for_their_turn(self) -> None:
        lock, running, most = threading.Lock(), 0, 0

        with fake_gate(fake={"max_in_flight": 3}) as gate:

            def body(args: dict[str, Any]) -> Any:
                nonlocal running, most
                with lock:
                    running += 1
                    most = max(most, running)
                gate.ping()
                with lock:
                    running -= 1
                return args["index"]

            def caller(index: int) -> list[Any]:
                return [gate.call("t", {"index": index}, body=body) for _ in range(5)]

            assert together(24, caller) == [[index] * 5 for index in range(24)]
            assert most <= 3
            refused = len(received(gate, "govern")) - 24 * 5
            assert refused < 24 * 5 * 6  # waiting is not asking again and again

    def test_a_nested_call_that_nothing_can_make_room_for_fails(self) -> None:
        with fake_gate(fake={"max_in_flight": 1}) as gate:

            def body(args: dict[str, Any]) -> Any:
                return gate.call("inner", {}, body=lambda args: 1)

            with pytest.raises(ActionFailed) as caught:
                gate.call("outer", {}, body=body)
            assert isinstance(caught.value.__cause__, ProtocolError)
            assert caught.value.__cause__.code == -32003
            assert gate.call("t", {}, body=lambda args: "fine") == "fine"

    def test_nested_calls_that_wait_for_each_other_go_on_when_one_gives_up(self) -> None:
        both = threading.Barrier(2)

        with fake_gate(fake={"max_in_flight": 2}) as gate:

            def outer(args: dict[str, Any]) -> Any:
                both.wait(PATIENCE)
                return gate.call("inner", {}, body=lambda args: "inner")

            outcomes = together(2, lambda index: gate.govern("outer", {}, body=outer))
        assert sorted(outcome.status for outcome in outcomes) == ["failed", "succeeded"]

    def test_callers_that_wait_for_their_turn_hear_of_the_end(self) -> None:
        begun, end = threading.Event(), threading.Event()

        def body(args: dict[str, Any]) -> None:
            begun.set()
            end.wait(PATIENCE)

        with fake_gate(fake={"max_in_flight": 1}) as gate:
            running = Background(lambda: gate.govern("t", {}, body=body))
            assert begun.wait(PATIENCE)
            waiting = [Background(lambda: gate.govern("t", {}, body=body)) for _ in range(4)]
            while len(gate._gate.core.turns._asleep) < 4:  # type: ignore[union-attr]
                gate.ping()
            os.kill(gate._gate.process._popen.pid, signal.SIGKILL)  # type: ignore[union-attr]
            with pytest.raises(GateClosed):
                gate.ping()
            for call in waiting:
                with pytest.raises(GateClosed, match="SIGKILL"):
                    call.result()
            end.set()
            with pytest.raises(GateClosed):
                running.result()
