"""Proposals: who runs the bodies, what comes back, and what happens when something goes wrong."""

from __future__ import annotations

import asyncio
import contextvars
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest

from support.client_gates import PATIENCE, Background, fake_gate, received, workers_end
from toolgate_client import (
    ActionResult,
    Compensated,
    Cost,
    ErrorInfo,
    ExternalEffect,
    GateClient,
    GateClosed,
    GateError,
    ProposalResult,
    ProtocolError,
    Rollback,
)


@pytest.fixture
def gate() -> Iterator[GateClient]:
    with fake_gate() as gate:
        yield gate
    assert workers_end()


def plan(*tools: str, **context: Any) -> dict[str, Any]:
    """A proposal of one action for each tool, with the ids a1, a2 …."""
    actions = [
        {"id": f"a{number}", "type": "tool_call", "tool": tool, "parameters": {"n": number}}
        for number, tool in enumerate(tools, 1)
    ]
    return {"id": "plan", "actions": actions, "context": context}


class Meeting:
    """A body whose callers wait for each other: it proves that they run at the same time."""

    def __init__(self, parties: int) -> None:
        self.barrier = threading.Barrier(parties)
        self.threads: list[int] = []

    def __call__(self, args: dict[str, Any]) -> int:
        self.threads.append(threading.get_ident())
        self.barrier.wait(PATIENCE)
        return int(args["n"])


class TestResults:
    def test_results_are_in_listed_order_with_the_live_outputs(self, gate: GateClient) -> None:
        values = {1: object(), 2: object(), 3: object()}
        gate.register_tool("t", lambda args: values[args["n"]])
        result = gate.propose(plan("t", "t", "t"))
        assert result.status == "completed"
        assert result.succeeded
        assert not result.suspended
        assert not result.aborted
        assert [each.action_id for each in result.results] == ["a1", "a2", "a3"]
        assert [each.output for each in result.results] == list(values.values())
        assert all(each.live for each in result.results)
        assert result.proposal_id == "plan"
        assert result.cost == Cost(tool_calls=3, total_duration_ms=1.5)
        assert result.error is None
        assert result.rollback is None

    def test_a_result_is_found_by_the_actions_id(self, gate: GateClient) -> None:
        gate.register_tool("t", lambda args: args["n"])
        result = gate.propose(plan("t", "t"))
        found = result.result("a2")
        assert isinstance(found, ActionResult)
        assert (found.action_id, found.uid, found.output) == ("a2", f"{result.uid}-2", 2)
        assert found.timestamp == "2030-01-01T00:00:00Z"
        with pytest.raises(KeyError):
            result.result("a3")

    def test_a_body_that_fails_fails_its_action_and_is_kept(self, gate: GateClient) -> None:
        problem = OSError("disk full")

        def body(args: dict[str, Any]) -> int:
            if args["n"] == 2:
                raise problem
            return 1

        gate.register_tool("t", body)
        result = gate.propose(plan("t", "t", "t"))
        assert [each.status for each in result.results] == ["succeeded", "failed", "succeeded"]
        failed = result.result("a2")
        assert failed.exception is problem
        assert failed.error is not None
        assert (failed.error.kind, failed.error.message) == ("execution_failed", "disk full")
        assert failed.error.details["type"] == "OSError"
        assert not failed.live
        assert not result.succeeded

    def test_a_denied_action_tells_why_and_never_reaches_its_body(self, gate: GateClient) -> None:
        gate.register_tool("denied", lambda args: pytest.fail("the body must not run"))
        (denied,) = gate.propose(plan("denied")).results
        assert denied.status == "rejected"
        assert denied.error == ErrorInfo("policy_denied", "no", {"r": 1})

    def test_a_held_action_suspends_the_proposal(self, gate: GateClient) -> None:
        gate.register_tool("t", lambda args: args["n"])
        result = gate.propose(plan("t", "held"))
        assert result.suspended
        assert not result.succeeded
        assert result.result("a2").held
        (hold,) = result.holds
        assert (hold.hold_id, hold.reason, hold.uid) == ("h2", "money", f"{result.uid}-2")

    def test_a_proposal_refused_as_a_whole_says_why(self, gate: GateClient) -> None:
        error = {"kind": "invalid_action", "message": "a1 waits for itself", "details": {"ids": 1}}
        answer = {
            "proposal_id": "plan", "uid": "p", "status": "aborted", "results": [], "error": error
        }  # fmt: skip
        result = gate.propose(plan("t", answers=answer))
        assert result.aborted
        assert result.error == ErrorInfo("invalid_action", "a1 waits for itself", {"ids": 1})
        assert result.results == ()
        assert result.cost == Cost()

    def test_an_aborted_proposal_tells_what_was_undone(self, gate: GateClient) -> None:
        gate.register_tool("t", lambda args: 1)
        rollback = {
            "restored": ["k"],
            "kept": ["l"],
            "compensations": [
                {"action_id": "a1", "uid": "p-1c", "status": "succeeded"},
                {
                    "action_id": "a2", "uid": "p-2c", "status": "failed", "error": "no", "kind": "x"
                },
            ],
            "external_effects": [
                {"action_id": "a3", "uid": "p-3", "tool": "t", "status": "succeeded"}
            ],
        }  # fmt: skip
        result = gate.propose(plan("t", rollback=rollback))
        assert result.aborted
        assert result.rollback == Rollback(
            restored=("k",),
            kept=("l",),
            compensations=(
                Compensated("a1", "p-1c", "succeeded"),
                Compensated("a2", "p-2c", "failed", ErrorInfo("x", "no")),
            ),
            external_effects=(ExternalEffect("a3", "p-3", "t", "succeeded"),),
        )

    @pytest.mark.parametrize(
        ("status", "results", "succeeded"),
        [
            ("completed", [("succeeded", None), ("skipped", None)], True),
            ("completed", [("succeeded", None), ("skipped", "no more budget")], False),
            ("completed", [("rejected", "no")], False),
            ("aborted", [("succeeded", None)], False),
            ("suspended", [("succeeded", None)], False),
            ("completed", [], True),
        ],
    )
    def test_success_is_that_nothing_went_wrong(
        self, gate: GateClient, status: str, results: list[tuple[str, str | None]], succeeded: bool
    ) -> None:
        raw = [{"action_id": "a", "uid": "u", "status": s, "error": e} for s, e in results]
        answer = {"proposal_id": "plan", "uid": "p", "status": status, "results": raw}
        assert gate.propose(plan("t", answers=answer)).succeeded is succeeded

    @pytest.mark.parametrize(
        "answer", [[], "x", {"uid": "p"}, {"proposal_id": "p", "uid": "p", "status": "completed"}]
    )
    def test_an_answer_that_is_no_result_is_a_protocol_error(
        self, gate: GateClient, answer: Any
    ) -> None:
        with pytest.raises(ProtocolError, match="no result of a proposal"):
            gate.propose(plan("t", answers=answer))

    def test_results_survive_pickling(self, gate: GateClient) -> None:
        gate.register_tool("t", lambda args: 1)
        result = gate.propose(plan("t", "held"))
        assert pickle.loads(pickle.dumps(result)) == result
        with pytest.raises(AttributeError):
            result.status = "completed"  # type: ignore[misc]


class TestRequest:
    def test_every_option_reaches_the_gate(self, gate: GateClient) -> None:
        gate.register_tool("t", lambda args: None)
        proposal = plan("t")
        gate.propose(proposal, idempotency_key="k", max_workers=3)
        (request,) = received(gate, "propose")
        assert request["params"] == {"proposal": proposal, "idempotency_key": "k"}

    @pytest.mark.parametrize(
        ("proposal", "error"),
        [
            ([], TypeError),
            ({"actions": [{"parameters": {"x": float("nan")}}]}, ValueError),
            ({"actions": [object()]}, TypeError),
            ({"id": "\ud800", "actions": []}, ValueError),
        ],
    )
    def test_what_is_not_json_is_not_proposed(
        self, gate: GateClient, proposal: Any, error: type[Exception]
    ) -> None:
        with pytest.raises(error, match="proposal"):
            gate.propose(proposal)
        assert not received(gate, "propose")

    @pytest.mark.parametrize("max_workers", [0, -1])
    def test_somebody_has_to_do_the_work(self, gate: GateClient, max_workers: int) -> None:
        with pytest.raises(ValueError, match="max_workers"):
            gate.propose(plan("t"), max_workers=max_workers)
        with pytest.raises(ValueError, match="max_workers"):
            gate.resume("u1", max_workers=max_workers)
        assert not received(gate, "propose")

    def test_tools_are_registered_with_their_cache_and_rate(self, gate: GateClient) -> None:
        rate = {"max_calls": 3, "interval_secs": 1.5}
        gate.register_tool("t", lambda args: None, cache_ttl=60, rate_limit=rate)
        (request,) = received(gate, "register_tool")
        expected = {"name": "t", "idempotent": False, "cache_ttl_secs": 60, "rate_limit": rate}
        assert request["params"] == expected


class TestWhoRuns:
    def test_actions_one_after_another_all_run_in_the_callers_thread(
        self, gate: GateClient
    ) -> None:
        gate.register_tool("t", lambda args: threading.get_ident())
        result = gate.propose(plan(*["t"] * 200, together=False))
        assert {each.output for each in result.results} == {threading.get_ident()}

    def test_they_do_so_while_other_threads_propose(self, gate: GateClient) -> None:
        gate.register_tool("t", lambda args: threading.get_ident())

        def caller() -> set[int]:
            result = gate.propose(plan(*["t"] * 40, together=False))
            return {each.output for each in result.results} - {threading.get_ident()}

        callers = [Background(caller) for _ in range(8)]
        assert [caller.result() for caller in callers] == [set()] * 8

    def test_actions_at_the_same_time_run_at_the_same_time(self, gate: GateClient) -> None:
        meeting = Meeting(6)
        gate.register_tool("t", meeting)
        result = gate.propose(plan(*["t"] * 6))
        assert [each.output for each in result.results] == [1, 2, 3, 4, 5, 6]
        assert len(set(meeting.threads)) == 6
        assert threading.get_ident() in meeting.threads

    def test_no_more_bodies_run_at_once_than_workers_were_asked_for(self, gate: GateClient) -> None:
        lock, running, most, seen = threading.Lock(), 0, 0, set()
        before = threading.active_count()

        def body(args: dict[str, Any]) -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
                seen.add(threading.get_ident())
            gate.ping()
            assert threading.active_count() <= before + 3
            with lock:
                running -= 1

        gate.register_tool("t", body)
        result = gate.propose(plan(*["t"] * 100), max_workers=4)
        assert result.succeeded, [each.error for each in result.results]
        assert most <= 4

    def test_the_pool_is_of_sixteen_unless_said_otherwise(self, gate: GateClient) -> None:
        meeting = Meeting(16)
        gate.register_tool("t", meeting)
        assert gate.propose(plan(*["t"] * 48)).succeeded
        assert len(set(meeting.threads)) == 16

    def test_the_pool_is_as_large_as_what_the_gate_runs_at_once(self) -> None:
        meeting = Meeting(3)
        with fake_gate(limits={"max_concurrency": 3}) as gate:
            gate.register_tool("t", meeting)
            assert gate.propose(plan(*["t"] * 9)).succeeded
        assert len(set(meeting.threads)) == 3

    def test_with_one_worker_everything_runs_in_the_callers_thread(self, gate: GateClient) -> None:
        gate.register_tool("t", lambda args: (threading.get_ident(), threading.active_count()))
        before = threading.active_count()
        result = gate.propose(plan(*["t"] * 20), max_workers=1)
        assert {each.output for each in result.results} == {(threading.get_ident(), before)}

    def test_a_single_action_starts_no_thread(self, gate: GateClient) -> None:
        before = threading.active_count()
        gate.register_tool("t", lambda args: threading.active_count())
        assert gate.propose(plan("t")).result("a1").output == before

    def test_an_answer_is_sent_before_the_next_body_begins(self, gate: GateClient) -> None:
        answered: list[int] = []

        def body(args: dict[str, Any]) -> None:
            messages = gate.govern("record", {}).output
            answered.append(sum("result" in message for message in messages))

        gate.register_tool("t", body)
        gate.propose(plan("t", "t", "t"), max_workers=1)
        assert answered == [0, 1, 2]

    def test_workers_end_with_their_proposal(self, gate: GateClient) -> None:
        gate.register_tool("t", Meeting(8))
        for _ in range(3):
            assert gate.propose(plan(*["t"] * 8)).succeeded
        assert workers_end()

    def test_workers_are_daemons_if_their_caller_is(self, gate: GateClient) -> None:
        both = threading.Barrier(2)

        def body(args: dict[str, Any]) -> bool:
            both.wait(PATIENCE)
            return threading.current_thread().daemon

        gate.register_tool("t", body)

        def daemons() -> list[bool]:
            return [each.output for each in gate.propose(plan("t", "t")).results]

        assert daemons() == [False, False]
        assert Background(daemons).result() == [True, True]

    def test_without_threads_to_be_had_the_caller_does_all(
        self, gate: GateClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def start(self: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        gate.register_tool("t", lambda args: threading.get_ident())
        monkeypatch.setattr(threading.Thread, "start", start)
        result = gate.propose(plan("t", "t", "t"))
        assert [each.output for each in result.results] == [threading.get_ident()] * 3

    def test_64_threads_may_propose_at_once(self, gate: GateClient) -> None:
        gate.register_tool("t", lambda args: args["n"] * 10)
        barrier = threading.Barrier(64)

        def caller() -> list[int]:
            barrier.wait(PATIENCE)
            result = gate.propose(plan("t", "t", "t"), max_workers=3)
            return [each.output for each in result.results]

        callers = [Background(caller) for _ in range(64)]
        assert [caller.result() for caller in callers] == [[10, 20, 30]] * 64
        assert workers_end()

    def test_proposals_over_the_gates_limit_wait_for_their_turn(self) -> None:
        with fake_gate(fake={"max_in_flight": 2}) as gate:
            gate.register_tool("t", lambda args: args["n"])
            callers = [Background(lambda: gate.propose(plan("t", "t"))) for _ in range(12)]
            assert all(caller.result().succeeded for caller in callers)


class TestContext:
    def test_each_body_sees_the_callers_context_and_changes_its_own(self, gate: GateClient) -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
        variable.set("caller's")
        both = threading.Barrier(2)

        def body(args: dict[str, Any]) -> str:
            seen = variable.get()
            variable.set(f"body {args['n']}'s")
            both.wait(PATIENCE)
            assert variable.get() == f"body {args['n']}'s"
            return seen

        gate.register_tool("t", body)
        result = gate.propose(plan("t", "t", "t", "t"), max_workers=2)
        assert [each.output for each in result.results] == ["caller's"] * 4
        assert variable.get() == "caller's"

    def test_calls_of_bodies_name_their_own_action_as_the_parent(self, gate: GateClient) -> None:
        both = threading.Barrier(2)

        def body(args: dict[str, Any]) -> Any:
            both.wait(PATIENCE)
            return gate.call("inner", args, body=lambda args: threading.get_ident())

        meeting: list[int] = []
        gate.register_tool("t", lambda args: meeting.append(threading.get_ident()) or body(args))
        result = gate.propose(plan("t", "t"))
        assert {each.output for each in result.results} == set(meeting)
        parents = {
            call["params"]["args"]["n"]: call["params"]["parent"]
            for call in received(gate, "govern")
            if call["params"]["tool"] == "inner"
        }
        assert parents == {1: f"{result.uid}-1", 2: f"{result.uid}-2"}

    def test_a_proposal_in_a_body_runs_in_that_bodys_thread(self, gate: GateClient) -> None:
        both = threading.Barrier(2)

        def outer(args: dict[str, Any]) -> bool:
            both.wait(PATIENCE)
            inner = gate.propose(plan("inner", "inner", together=False))
            return [each.output for each in inner.results] == [threading.get_ident()] * 2

        gate.register_tool("inner", lambda args: threading.get_ident())
        gate.register_tool("outer", outer)
        result = gate.propose(plan("outer", "outer"))
        assert [each.output for each in result.results] == [True, True]
        proposed = [request["params"].get("parent") for request in received(gate, "propose")]
        assert set(proposed) == {None, f"{result.uid}-1", f"{result.uid}-2"}

    def test_bodies_on_every_worker_may_make_calls(self, gate: GateClient) -> None:
        meeting = Meeting(4)

        def body(args: dict[str, Any]) -> int:
            meeting(args)
            nested = plan("leaf", "leaf")
            leaves = gate.propose(nested, max_workers=4).results
            return sum(leaf.output for leaf in leaves) + gate.call("leaf", {"n": 10})

        gate.register_tool("leaf", lambda args: args["n"])
        gate.register_tool("t", body)
        result = gate.propose(plan("t", "t", "t", "t"), max_workers=4)
        assert [each.output for each in result.results] == [13] * 4

    def test_nested_calls_over_the_gates_limit_wait_while_another_can_end(self) -> None:
        meeting = Meeting(4)
        with fake_gate(fake={"max_in_flight": 2}) as gate:

            def body(args: dict[str, Any]) -> Any:
                meeting(args)
                return gate.call("leaf", args, body=lambda args: args["n"])

            gate.register_tool("t", body)
            result = gate.propose(plan("t", "t", "t", "t"))
            assert [each.output for each in result.results] == [1, 2, 3, 4]

    def test_nested_calls_that_nothing_can_make_room_for_fail(self) -> None:
        with fake_gate(fake={"max_in_flight": 1}) as gate:
            gate.register_tool("t", lambda args: gate.call("leaf", {}, body=lambda args: 1))
            result = gate.propose(plan("t", "t"))
            for each in result.results:
                assert isinstance(each.exception, ProtocolError)
                assert each.exception.code == -32003


class TestCoroutines:
    def test_coroutines_are_run_to_their_end_wherever_they_run(self, gate: GateClient) -> None:
        both = threading.Barrier(2)

        async def body(args: dict[str, Any]) -> int:
            await asyncio.to_thread(both.wait, PATIENCE)
            return int(args["n"])

        gate.register_tool("t", body)
        result = gate.propose(plan("t", "t"))
        assert [each.output for each in result.results] == [1, 2]

    @pytest.mark.parametrize("place", ["tool", "compensation"])
    def test_on_a_running_loop_nothing_is_proposed(self, gate: GateClient, place: str) -> None:
        async def body(args: dict[str, Any]) -> None: ...

        gate.register_tool("sync", lambda args: "fine")
        gate.register_tool("async", body)
        proposal = plan("sync")
        if place == "tool":
            proposal["actions"] += plan("async")["actions"]
        else:
            proposal["actions"][0]["compensation"] = {"type": "tool", "tool": "async"}

        async def main() -> None:
            with pytest.raises(GateError, match="'async' is a coroutine function"):
                gate.propose(proposal)
            assert gate.propose(plan("sync")).result("a1").output == "fine"

        asyncio.run(main())
        assert len(received(gate, "propose")) == 1


class TestInterrupts:
    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
    @pytest.mark.parametrize("where", ["caller", "worker"])
    def test_an_interrupted_body_cancels_the_proposal_and_is_raised(
        self, gate: GateClient, kind: type[BaseException], where: str
    ) -> None:
        interrupt, both, caller = kind("stop"), threading.Barrier(2), threading.get_ident()

        def body(args: dict[str, Any]) -> None:
            both.wait(PATIENCE)
            if (threading.get_ident() == caller) is (where == "caller"):
                raise interrupt

        gate.register_tool("t", body)
        with pytest.raises(kind) as caught:
            gate.propose(plan("t", "t", "silent"))
        assert caught.value is interrupt
        (cancel,) = received(gate, "cancel")
        (request,) = received(gate, "propose")
        assert cancel["params"] == {"id": request["id"]}
        errors = [message["error"]["data"]["type"] for message in received(gate)
                  if "error" in message]  # fmt: skip
        assert errors == [kind.__name__]
        assert gate.govern("state", {}).output == {"unanswered": [], "contradictions": []}

    def test_after_an_interrupt_no_other_body_is_begun(self, gate: GateClient) -> None:
        ran: list[int] = []

        def body(args: dict[str, Any]) -> None:
            ran.append(args["n"])
            raise KeyboardInterrupt

        gate.register_tool("t", body)
        with pytest.raises(KeyboardInterrupt):
            gate.propose(plan("t", "t", "t"), max_workers=1)
        assert ran == [1]
        with pytest.raises(KeyboardInterrupt):
            gate.propose(plan("t", "t", "t", together=False))
        assert ran == [1, 1]
        assert gate.govern("state", {}).output["unanswered"] == []

    def test_a_caller_interrupted_while_it_waits_leaves_running_bodies_to_report(
        self, gate: GateClient
    ) -> None:
        begun, end = threading.Event(), threading.Event()
        caller = threading.get_ident()
        ended: list[str] = []

        def body(args: dict[str, Any]) -> str:
            if threading.get_ident() == caller:
                assert begun.wait(PATIENCE)
                signalling.append(Background(interrupt_soon))
                return "caller's"
            begun.set()
            assert end.wait(PATIENCE)
            ended.append("worker's")
            return "worker's"

        def interrupt_soon() -> None:
            while sum("result" in message for message in received(gate)) < 1:
                pass
            signal.pthread_kill(caller, signal.SIGUSR2)

        def interrupt(number: int, frame: object) -> None:
            raise KeyboardInterrupt

        signalling: list[Background] = []
        gate.register_tool("t", body)
        handler = signal.signal(signal.SIGUSR2, interrupt)
        try:
            with pytest.raises(KeyboardInterrupt):
                gate.propose(plan("t", "t", "silent"))
        finally:
            signal.signal(signal.SIGUSR2, handler)
        signalling[0].result()
        assert ended == []
        assert len(received(gate, "cancel")) == 1
        end.set()
        assert workers_end()
        outputs = {m["result"]["output"] for m in received(gate) if "result" in m}
        assert outputs == {"caller's", "worker's"}
        assert gate.govern("state", {}).output == {"unanswered": [], "contradictions": []}
        gate.register_tool("t", lambda args: "as before")
        assert gate.propose(plan("t", "t")).succeeded


class TestOddGates:
    def test_a_run_that_is_sent_twice_runs_once(self, gate: GateClient) -> None:
        ran: list[int] = []
        gate.register_tool("t", lambda args: ran.append(args["n"]))
        assert gate.propose(plan("t", "t", "t", twice=True)).succeeded
        assert sorted(ran) == [1, 2, 3]

    def test_runs_of_no_request_are_refused(self, gate: GateClient) -> None:
        gate.register_tool("t", lambda args: args["n"])
        assert gate.propose(plan("t", "t", stray=True)).succeeded
        errors = [message for message in received(gate) if "error" in message]
        assert [error["error"]["data"]["type"] for error in errors] == ["CallerGone"] * 2

    def test_a_body_cancelled_before_it_begins_is_not_begun(self, gate: GateClient) -> None:
        ran: list[int] = []
        gate.register_tool("t", lambda args: ran.append(args["n"]))
        result = gate.propose(plan("t", "t", "t", cancelled=["a2"]), max_workers=1)
        assert ran == [1, 3]
        error = result.result("a2").error
        assert error is not None
        assert error.details["type"] == "NotBegun"

    def test_a_gate_that_dies_under_bodies_closes_every_caller(self) -> None:
        begun, end = threading.Barrier(5), threading.Event()
        ended: list[int] = []

        def body(args: dict[str, Any]) -> None:
            begun.wait(PATIENCE)
            assert end.wait(PATIENCE)
            ended.append(args["n"])

        with fake_gate() as gate:
            gate.register_tool("t", body)
            callers = [Background(lambda: gate.propose(plan("t", "t"))) for _ in range(2)]
            waiting = Background(lambda: gate.resume("never", wait=None))
            begun.wait(PATIENCE)
            os.kill(gate._gate.process._popen.pid, signal.SIGKILL)  # type: ignore[union-attr]
            with pytest.raises(GateClosed, match="SIGKILL"):
                waiting.result()
            end.set()
            for caller in callers:
                with pytest.raises(GateClosed, match="SIGKILL"):
                    caller.result()
        assert workers_end()
        assert sorted(ended) == [1, 1, 2, 2]

    def test_a_caller_that_only_waits_hears_of_the_gates_death_at_once(self) -> None:
        begun, end = threading.Event(), threading.Event()
        with fake_gate() as gate:
            caller_thread: list[int] = []

            def body(args: dict[str, Any]) -> None:
                if threading.get_ident() == caller_thread[0]:
                    assert begun.wait(PATIENCE)
                else:
                    begun.set()
                    end.wait(PATIENCE)

            def propose() -> ProposalResult:
                caller_thread.append(threading.get_ident())
                return gate.propose(plan("t", "t"))

            gate.register_tool("t", body)
            caller = Background(propose)
            while sum("result" in message for message in received(gate)) < 1:
                pass
            os.kill(gate._gate.process._popen.pid, signal.SIGKILL)  # type: ignore[union-attr]
            with pytest.raises(GateClosed, match="SIGKILL"):
                caller.result()
            end.set()

    def test_closing_ends_a_proposal_under_way(self) -> None:
        begun, end = threading.Barrier(3), threading.Event()

        def body(args: dict[str, Any]) -> None:
            begun.wait(PATIENCE)
            assert end.wait(PATIENCE)

        gate = fake_gate().start()
        gate.register_tool("t", body)
        caller = Background(lambda: gate.propose(plan("t", "t")))
        begun.wait(PATIENCE)
        gate.close()
        end.set()
        with pytest.raises(GateClosed, match="closed"):
            caller.result()
        assert workers_end()

    def test_a_closed_client_proposes_nothing(self) -> None:
        gate = fake_gate().start()
        gate.close()
        for use in (
            lambda: gate.propose(plan("t")),
            lambda: gate.verify(plan("t")),
            gate.state,
            lambda: gate.restore("c"),
        ):
            with pytest.raises(GateClosed):
                use()


class TestResume:
    def test_the_rest_of_a_resumed_proposal_runs_at_once(self, gate: GateClient) -> None:
        meeting = Meeting(3)
        gate.register_tool("held", meeting)
        result = gate.propose(plan("held", "held", "held"))
        assert result.suspended
        outcome = gate.resume(result.uid)
        assert outcome.succeeded
        assert outcome.uid == result.uid
        assert outcome.proposal is not None
        assert [each.output for each in outcome.proposal.results] == [1, 2, 3]
        assert all(each.live for each in outcome.proposal.results)
        assert len(set(meeting.threads)) == 3

    def test_resuming_an_action_gives_its_outcome_and_its_proposal(self, gate: GateClient) -> None:
        values = {1: object(), 2: object()}
        gate.register_tool("held", lambda args: values[args["n"]])
        result = gate.propose(plan("held", "held"))
        outcome = gate.resume(f"{result.uid}-2")
        assert (outcome.status, outcome.action_id) == ("succeeded", "a2")
        assert outcome.output is values[2]
        assert outcome.proposal is not None
        assert outcome.proposal.succeeded
        assert outcome.proposal.result("a1").output is values[1]

    def test_a_body_given_is_for_the_action_resumed_only(self, gate: GateClient) -> None:
        gate.register_tool("held", lambda args: "registered")
        result = gate.propose(plan("held", "held"))
        outcome = gate.resume(f"{result.uid}-2", body=lambda args: "given")
        assert outcome.proposal is not None
        assert [each.output for each in outcome.proposal.results] == ["registered", "given"]

    def test_resuming_a_single_call_starts_no_thread(self, gate: GateClient) -> None:
        before = threading.active_count()
        outcome = gate.resume("u7", body=lambda args: threading.active_count())
        assert outcome.output == before
        assert outcome.proposal is None

    def test_its_body_runs_in_the_callers_own_context(self, gate: GateClient) -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")
        gate.resume("u7", body=lambda args: variable.set("body's") and None)
        assert variable.get() == "body's"


class TestLooking:
    def test_verification_is_true_when_the_proposal_is_valid(self, gate: GateClient) -> None:
        found = gate.verify(plan("t"), state={"a": 1}, max_actions=3)
        assert not found
        assert found.valid is False
        (issue,) = found.issues
        assert (issue.action_id, issue.severity, issue.code) == (None, "error", "unknown_tool")
        assert (issue.message, issue.tier) == ("m", "heuristic")
        assert found.simulated_state == {"k": 1}
        assert found.execution_levels == (("a", "b"), ("c",))
        assert found.conflicts == (("a", "b", "k"),)
        (request,) = received(gate, "verify")
        assert request["params"] == {"proposal": plan("t"), "state": {"a": 1}, "max_actions": 3}

    def test_what_is_not_given_is_not_sent(self, gate: GateClient) -> None:
        gate.verify(plan("t"))
        gate.simulate(plan("t"))
        gate.state()
        for method in ("verify", "simulate"):
            assert received(gate, method)[0]["params"] == {"proposal": plan("t")}
        assert received(gate, "state")[0]["params"] == {}

    def test_simulation_gives_a_state(self, gate: GateClient) -> None:
        assert gate.simulate(plan("t"), state={}) == {"k": 1}
        assert received(gate, "simulate")[0]["params"]["state"] == {}

    def test_equivalence_is_true_when_there_is_no_difference(self, gate: GateClient) -> None:
        assert gate.equivalent(plan("t"), plan("t"), states=[{}])
        different = gate.equivalent(plan("t"), plan("u"))
        assert not different
        assert [(each.state, each.a, each.b) for each in different.differences] == [
            ({}, {"x": 1}, {})
        ]

    def test_optimizing_gives_a_proposal_and_what_went(self, gate: GateClient) -> None:
        optimized = gate.optimize(plan("t"), state={})
        assert optimized.proposal == plan("t")
        (removed,) = optimized.removed
        assert (removed.action_id, removed.kind, removed.on) == ("a", "dependency", "b")

    def test_ranking_is_a_list_the_best_first(self, gate: GateClient) -> None:
        (ranked,) = gate.rank([plan("t")], target={"cost_weight": 0.5})
        assert (ranked.index, ranked.proposal_id, ranked.score, ranked.valid) == (0, "p", 0.5, True)
        assert (ranked.success_likelihood, ranked.cost_efficiency) == (1.0, 0.25)
        params = received(gate, "rank")[0]["params"]
        assert params == {"candidates": [plan("t")], "target": {"cost_weight": 0.5}}

    def test_state_is_read_whole_or_by_keys(self, gate: GateClient) -> None:
        assert gate.state() == {"a": 1, "b": None}
        assert gate.state(["a", "unheard-of"]) == {"a": 1}
        assert gate.state(iter(())) == {}
        with pytest.raises(TypeError, match="several"):
            gate.state("ab")

    def test_checkpoints_are_saved_and_restored(self, gate: GateClient) -> None:
        checkpoint = gate.checkpoint("mine")
        assert checkpoint == "c-mine"
        restored = gate.restore(checkpoint)
        assert restored.succeeded
        assert restored.state_changes == {"a": 1}
        assert restored.error is None
        refused = gate.restore("c-other")
        assert not refused.succeeded
        assert refused.error == ErrorInfo("policy_denied", "not yours")

    def test_an_answer_that_is_none_is_a_protocol_error(
        self, gate: GateClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for answer in ([], {}, None, "x", {"ranking": [{}]}, {"issues": 1, "valid": True}):
            monkeypatch.setattr(gate._gate, "_result", lambda call, answer=answer: answer)
            looks = (
                partial(gate.verify, plan("t")),
                partial(gate.simulate, plan("t")),
                partial(gate.equivalent, plan("t"), plan("t")),
                partial(gate.optimize, plan("t")),
                partial(gate.rank, [plan("t")]),
                partial(gate.checkpoint, "c"),
                partial(gate.restore, "c"),
            )
            for look in looks:
                with pytest.raises(ProtocolError, match="the gate's answer to"):
                    look()
