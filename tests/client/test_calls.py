"""Governed calls: outcomes, exceptions, bodies, live values."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import functools
import logging
import math
import pickle
import threading
from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import pytest

import toolgate_client
from support.client_gates import Background, fake_gate, received
from toolgate_client import (
    ActionDenied,
    ActionFailed,
    ActionHeld,
    Decision,
    ErrorInfo,
    GateClient,
    GateClosed,
    GateError,
    Hold,
    HoldGroup,
    Missing,
    ProtocolError,
)


@pytest.fixture(scope="module")
def shared() -> Iterator[GateClient]:
    with fake_gate() as gate:
        yield gate


@pytest.fixture
def gate() -> Iterator[GateClient]:
    with fake_gate() as gate:
        yield gate


def never(args: dict[str, Any]) -> None:
    pytest.fail("the body must not run")


class TestOutcomes:
    def test_an_allowed_call_runs_its_body_and_succeeds(self, shared: GateClient) -> None:
        outcome = shared.govern("echo", {"x": [1]}, body=lambda args: args["x"])
        assert outcome.succeeded
        assert not outcome.held
        assert outcome.output == [1]
        assert outcome.live
        assert not outcome.replayed
        assert outcome.attempts == 1
        assert outcome.uid == outcome.action_id
        assert outcome.exception is None

    def test_a_denied_call_is_an_outcome_with_the_rules_reason(self, shared: GateClient) -> None:
        outcome = shared.govern("denied", {}, body=never)
        assert outcome.status == "rejected"
        assert outcome.error == ErrorInfo("policy_denied", "rule no-x forbids it", {"r": 1})
        assert outcome.decision == Decision("deny", ("no-x",), "rule no-x forbids it")

    def test_a_denied_call_raises_from_call(self, shared: GateClient) -> None:
        with pytest.raises(
            ActionDenied, match=r"'denied' was denied .*rule no-x forbids"
        ) as caught:
            shared.call("denied", {}, body=never)
        error = caught.value
        assert (error.kind, error.reason) == ("policy_denied", "rule no-x forbids it")
        assert error.outcome is not None
        assert error.uid == error.outcome.uid
        assert error.hold is None

    def test_a_skipped_call_raises_as_denied(self, shared: GateClient) -> None:
        with pytest.raises(ActionDenied) as caught:
            shared.call("skipped", {}, body=never)
        assert caught.value.kind == "budget_exceeded"

    def test_a_held_call_tells_what_it_waits_for(self, shared: GateClient) -> None:
        outcome = shared.govern("held", {}, body=never)
        assert outcome.held
        assert outcome.hold == Hold(
            hold_id="h1",
            reason="money",
            rule="ask",
            rules=("ask",),
            approvers=("alice", "bob"),
            quorum=2,
            approved_by=("bob",),
            deadline="2030-01-01T00:00:00Z",
            groups=(HoldGroup("ask", ("alice", "bob"), 2, ("bob",)),),
            missing=(Missing(("alice",), 1, ("ask",)),),
        )

    def test_a_held_call_raises_from_call_and_names_the_uid(self, shared: GateClient) -> None:
        with pytest.raises(ActionHeld, match=r"held: money; resume\('u\d+'\)") as caught:
            shared.call("held", {}, body=never)
        assert caught.value.kind == "held"
        assert caught.value.hold is not None
        assert caught.value.hold.hold_id == "h1"

    def test_a_call_that_another_gate_runs_raises_as_held(self, shared: GateClient) -> None:
        with pytest.raises(ActionHeld, match="run by another gate") as caught:
            shared.call("executing", {}, body=never)
        assert caught.value.kind == "executing"

    def test_a_replayed_outcome_has_the_recorded_output(self, shared: GateClient) -> None:
        outcome = shared.govern("replayed", {}, body=never)
        assert outcome.output == {"recorded": True}
        assert outcome.replayed
        assert not outcome.live

    def test_call_returns_the_output(self, shared: GateClient) -> None:
        assert shared.call("replayed", {}) == {"recorded": True}

    def test_a_request_the_gate_refuses_is_a_protocol_error(self, shared: GateClient) -> None:
        with pytest.raises(ProtocolError, match="bad parameters") as caught:
            shared.govern("refused", {}, body=never)
        assert (caught.value.code, caught.value.data) == (-32602, ["/args"])

    def test_an_answer_that_is_no_outcome_is_a_protocol_error(self, shared: GateClient) -> None:
        with pytest.raises(ProtocolError, match="no outcome"):
            shared.govern("no_outcome", {}, body=never)

    def test_a_gate_that_shuts_down_is_closed(self, shared: GateClient) -> None:
        with pytest.raises(GateClosed, match="shutting down"):
            shared.govern("shutting_down", {}, body=never)

    def test_outcomes_are_frozen(self, shared: GateClient) -> None:
        outcome = shared.govern("denied", {})
        with pytest.raises(AttributeError):
            outcome.status = "succeeded"  # type: ignore[misc]

    def test_errors_survive_pickling(self, shared: GateClient) -> None:
        with pytest.raises(ActionDenied) as caught:
            shared.call("denied", {})
        again = pickle.loads(pickle.dumps(caught.value))
        assert type(again) is ActionDenied
        assert str(again) == str(caught.value)
        assert again.outcome == caught.value.outcome
        closed = pickle.loads(pickle.dumps(GateClosed("gone", exit_code=3, stderr="why")))
        assert (str(closed), closed.exit_code, closed.stderr) == ("gone", 3, "why")


class TestArguments:
    @pytest.mark.parametrize(
        ("args", "error"),
        [
            ({"x": math.nan}, ValueError),
            ({"x": "\ud800"}, ValueError),
            ({"x": object()}, TypeError),
            ({1: 2}, TypeError),
            ([], TypeError),
        ],
    )
    def test_arguments_that_are_not_json_propose_nothing(
        self, gate: GateClient, args: Any, error: type[Exception]
    ) -> None:
        with pytest.raises(error, match="'echo'"):
            gate.govern("echo", args, body=never)
        assert len(received(gate, "govern")) == 1  # that of `received` itself

    def test_any_mapping_will_do(self, shared: GateClient) -> None:
        outcome = shared.govern("echo", MappingProxyType({"x": 1}), body=lambda args: args)
        assert outcome.output == {"x": 1}
        assert type(outcome.output) is dict

    def test_every_option_reaches_the_gate(self, gate: GateClient) -> None:
        gate.govern(
            "echo",
            {"x": 1},
            idempotency_key="k",
            timeout=1.5,
            metadata={"m": 1},
            body=lambda args: None,
        )
        assert received(gate, "govern")[0]["params"] == {
            "tool": "echo",
            "args": {"x": 1},
            "idempotency_key": "k",
            "timeout_ms": 1500,
            "metadata": {"m": 1},
        }

    @pytest.mark.parametrize("timeout", [0, -1, math.nan, math.inf])
    def test_a_timeout_is_a_time(self, shared: GateClient, timeout: float) -> None:
        with pytest.raises(ValueError, match="timeout is in seconds"):
            shared.govern("echo", {}, timeout=timeout, body=never)

    def test_what_the_gate_does_not_need_to_know_is_not_sent(self, gate: GateClient) -> None:
        gate.govern("echo", {}, body=lambda args: None)
        assert received(gate, "govern")[0]["params"] == {"tool": "echo", "args": {}}


class TestBodies:
    def test_a_registered_body_runs(self, gate: GateClient) -> None:
        contract = gate.register_tool(
            "greet",
            lambda args: f"hello {args['name']}",
            description="Greets",
            parameters={"type": "object"},
            returns={"type": "string"},
            idempotent=True,
        )
        assert contract == {"level": 3, "idempotent": True}
        assert gate.call("greet", {"name": "ada"}) == "hello ada"
        assert received(gate, "register_tool")[0]["params"] == {
            "name": "greet",
            "description": "Greets",
            "parameters": {"type": "object"},
            "returns": {"type": "string"},
            "idempotent": True,
        }

    def test_registering_again_replaces_the_body(self, gate: GateClient) -> None:
        gate.register_tool("t", lambda args: 1)
        gate.register_tool("t", lambda args: 2)
        assert gate.call("t", {}) == 2

    def test_a_refused_registration_changes_nothing(self, gate: GateClient) -> None:
        with pytest.raises(ProtocolError) as caught:
            gate.register_tool("conflicting", never)
        assert caught.value.code == -32004
        with pytest.raises(ActionFailed, match="no body for tool 'conflicting'"):
            gate.call("conflicting", {})

    def test_a_body_that_cannot_be_called_is_refused(self, shared: GateClient) -> None:
        with pytest.raises(TypeError, match="not callable"):
            shared.register_tool("t", "body")  # type: ignore[arg-type]

    def test_a_body_given_with_a_call_is_for_that_call_only(self, gate: GateClient) -> None:
        gate.register_tool("t", lambda args: "registered")
        assert gate.call("t", {}, body=lambda args: "given") == "given"
        assert gate.call("t", {}) == "registered"

    def test_a_run_without_a_body_fails_and_says_what_to_do(self, shared: GateClient) -> None:
        outcome = shared.govern("unheard_of", {})
        assert outcome.status == "failed"
        assert outcome.error is not None
        assert "register_tool" in outcome.error.message
        assert outcome.error.details["type"] == "LookupError"

    def test_the_body_runs_in_the_callers_thread_and_context(self, shared: GateClient) -> None:
        variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
        variable.set("caller's")

        def body(args: dict[str, Any]) -> tuple[int, str]:
            seen = variable.get()
            variable.set("body's")
            return threading.get_ident(), seen

        assert shared.call("t", {}, body=body) == (threading.get_ident(), "caller's")
        assert variable.get() == "body's"

    def test_the_caller_gets_the_very_object_the_body_returned(self, shared: GateClient) -> None:
        value = object()
        assert shared.call("t", {}, body=lambda args: value) is value

    @pytest.mark.parametrize("value", [None, 0, "", [], False])
    def test_an_empty_result_is_live_as_well(self, shared: GateClient, value: Any) -> None:
        outcome = shared.govern("t", {}, body=lambda args: value)
        assert outcome.live
        assert outcome.output is value

    def test_the_gate_gets_the_projection(self, gate: GateClient) -> None:
        gate.call("t", {}, body=lambda args: {"n": math.nan, "s": {2, 1}})
        (reply,) = [message for message in received(gate) if "result" in message]
        assert reply["result"] == {"output": {"n": "NaN", "s": [1, 2]}}

    def test_an_encoder_replaces_the_projection(self) -> None:
        with fake_gate(encoder=lambda value: {"secret": "***"}) as gate:
            outcome = gate.govern("t", {}, body=lambda args: "hunter2")
            (reply,) = [message for message in received(gate) if "result" in message]
        assert outcome.output == "hunter2"
        assert reply["result"] == {"output": {"secret": "***"}}

    @pytest.mark.parametrize("encoder", [lambda value: math.nan, lambda value: {}[value]])
    def test_an_encoder_that_fails_fails_the_action(self, encoder: Any) -> None:
        with fake_gate(encoder=encoder) as gate:
            outcome = gate.govern("t", {}, body=lambda args: "x")
            assert outcome.status == "failed"
            assert outcome.error is not None
            assert "the body returned, but its result cannot be sent" in outcome.error.message
            assert outcome.exception is not None
            assert not outcome.live
            gate.ping()

    def test_a_result_too_large_for_the_gate_is_the_callers_all_the_same(self) -> None:
        with fake_gate(limits={"max_message_bytes": 10_000}) as gate:
            assert gate.call("t", {}, body=lambda args: "x" * 10_000) == "x" * 10_000

    def test_arguments_too_large_for_the_gate_are_refused(self) -> None:
        with fake_gate(limits={"max_message_bytes": 10_000}) as gate:
            with pytest.raises(ProtocolError, match="max_message_bytes") as refused:
                gate.govern("t", {"x": "x" * 10_000}, body=never)
            assert refused.value.code == -32001
            gate.ping()

    def test_a_second_attempt_runs_the_body_again(self, shared: GateClient) -> None:
        tries: list[int] = []

        def body(args: dict[str, Any]) -> str:
            tries.append(1)
            if len(tries) == 1:
                raise OSError("try again")
            return "done"

        outcome = shared.govern("retried", {}, body=body)
        assert outcome.output == "done"
        assert outcome.live
        assert outcome.exception is None
        assert len(tries) == 2

    def test_a_body_may_return_whatever_copying_survives(self, shared: GateClient) -> None:
        outcome = shared.govern("t", {}, body=lambda args: {"deep": [1]})
        assert copy.deepcopy(outcome) == outcome
        assert pickle.loads(pickle.dumps(outcome)) == outcome


class TestBodiesThatFail:
    def test_an_exception_fails_the_action_and_is_kept(self, shared: GateClient) -> None:
        problem = OSError("disk full")

        def body(args: dict[str, Any]) -> None:
            raise problem

        outcome = shared.govern("t", {}, body=body)
        assert outcome.status == "failed"
        assert outcome.exception is problem
        assert outcome.error is not None
        assert outcome.error.kind == "execution_failed"
        assert outcome.error.details == {
            "type": "OSError",
            "message": "disk full",
            "retryable": True,
        }

    def test_a_body_can_say_that_trying_again_is_of_no_use(self, shared: GateClient) -> None:
        class GoneForGood(Exception):
            retryable = False

        def body(args: dict[str, Any]) -> None:
            raise GoneForGood("it is closed")

        outcome = shared.govern("t", {}, body=body)
        assert outcome.error is not None
        assert outcome.error.details["retryable"] is False

    def test_call_raises_from_the_original_exception(self, shared: GateClient) -> None:
        problem = OSError("disk full")

        def body(args: dict[str, Any]) -> None:
            raise problem

        with pytest.raises(ActionFailed, match=r"failed \(execution_failed\): disk full") as caught:
            shared.call("t", {}, body=body)
        assert caught.value.__cause__ is problem

    def test_the_exception_does_not_make_outcomes_differ(self, shared: GateClient) -> None:
        outcome = shared.govern("t", {}, body=lambda args: 1 / 0)
        assert outcome.exception is not None
        assert outcome == pickle.loads(pickle.dumps(outcome))
        assert "exception" not in repr(outcome)

    def test_stop_iteration_fails_like_any_other(self, shared: GateClient) -> None:
        outcome = shared.govern("t", {}, body=lambda args: next(iter(())))
        assert outcome.status == "failed"
        assert outcome.error is not None
        assert "StopIteration" in outcome.error.message

    def test_an_exception_without_a_text_fails_like_any_other(self, shared: GateClient) -> None:
        class MuteError(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        def body(args: dict[str, Any]) -> None:
            raise MuteError

        outcome = shared.govern("t", {}, body=body)
        assert outcome.error is not None
        assert outcome.error.details["type"] == "MuteError"

    @pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, asyncio.CancelledError])
    def test_an_interrupt_is_recorded_and_then_raised(
        self, gate: GateClient, kind: type[BaseException]
    ) -> None:
        interrupt = kind("stop")

        def body(args: dict[str, Any]) -> None:
            raise interrupt

        with pytest.raises(kind) as caught:
            gate.govern("t", {}, body=body)
        assert caught.value is interrupt
        (reply,) = [message for message in received(gate) if "error" in message]
        assert reply["error"]["data"]["type"] == kind.__name__
        assert not received(gate, "cancel")

    def test_an_interrupted_body_is_not_tried_again(self, gate: GateClient) -> None:
        tries: list[int] = []

        def body(args: dict[str, Any]) -> None:
            tries.append(1)
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            gate.govern("retried", {}, body=body)
        assert len(tries) == 1
        gate.ping()

    def test_the_client_is_usable_after_any_of_them(self, shared: GateClient) -> None:
        for error in (OSError(), KeyboardInterrupt()):

            def body(args: dict[str, Any], error: BaseException = error) -> None:
                raise error

            with pytest.raises((ActionFailed, KeyboardInterrupt)):
                shared.call("t", {}, body=body)
            assert shared.call("t", {}, body=lambda args: "fine") == "fine"

    def test_a_body_in_doubt_is_not_begun_after_its_outcome(self, gate: GateClient) -> None:
        ran = threading.Event()
        outcome = gate.govern("too_late", {}, body=lambda args: ran.set())
        assert outcome.status == "failed"
        assert not ran.is_set()
        gate.ping()
        (reply,) = [message for message in received(gate) if "error" in message]
        assert reply["error"]["data"]["type"] == "CallerGone"

    def test_an_outcome_that_comes_while_the_body_runs_is_the_outcome(
        self, gate: GateClient
    ) -> None:
        def body(args: dict[str, Any]) -> str:
            Background(gate.ping).result()  # until the outcome has been read
            return "late"

        outcome = gate.govern("late", {}, body=body)
        assert outcome.error is not None
        assert outcome.error.kind == "execution_timeout"
        assert outcome.output is None
        (reply,) = [message for message in received(gate) if message.get("result")]
        assert reply["result"] == {"output": "late"}


class TestNestedCalls:
    def test_a_body_may_make_calls_that_name_their_parent(self, gate: GateClient) -> None:
        def outer(args: dict[str, Any]) -> Any:
            first = gate.call("inner", {}, body=lambda args: "a")
            return [first, gate.call("inner", {}, body=lambda args: "b")]

        outcome = gate.govern("outer", {}, body=outer)
        assert outcome.output == ["a", "b"]
        calls = [message["params"] for message in received(gate, "govern")]
        assert [(call["tool"], call.get("parent")) for call in calls] == [
            ("outer", None),
            ("inner", outcome.uid),
            ("inner", outcome.uid),
            ("record", None),
        ]

    def test_parents_are_those_of_the_same_gate(self, gate: GateClient) -> None:
        with fake_gate() as other:

            def outer(args: dict[str, Any]) -> Any:
                return other.call(
                    "other", {}, body=lambda args: gate.call("inner", {}, body=lambda args: 1)
                )

            outcome = gate.govern("outer", {}, body=outer)
            assert outcome.output == 1
            assert "parent" not in received(other, "govern")[0]["params"]
        assert received(gate, "govern")[1]["params"]["parent"] == outcome.uid

    def test_a_failed_body_is_nobodys_parent_afterwards(self, gate: GateClient) -> None:
        for error in (OSError(), KeyboardInterrupt()):

            def body(args: dict[str, Any], error: BaseException = error) -> None:
                raise error

            with pytest.raises((ActionFailed, KeyboardInterrupt)):
                gate.call("t", {}, body=body)
        gate.call("after", {}, body=lambda args: None)
        after = [m["params"] for m in received(gate, "govern") if m["params"]["tool"] == "after"]
        assert "parent" not in after[0]

    def test_calls_nest_deeply(self, shared: GateClient) -> None:
        def body(args: dict[str, Any]) -> int:
            level: int = args["level"]
            if level == 0:
                return 0
            inner: int = shared.call("t", {"level": level - 1}, body=body)
            return inner + 1

        assert shared.call("t", {"level": 20}, body=body) == 20


class TestCoroutines:
    async def _body(self, args: dict[str, Any]) -> str:
        await asyncio.sleep(0)
        return "awaited"

    def test_without_a_running_loop_a_coroutine_is_run_to_its_end(self, shared: GateClient) -> None:
        outcome = shared.govern("t", {}, body=self._body)
        assert outcome.output == "awaited"
        assert outcome.live

    @pytest.mark.parametrize("wrapped", [False, True])
    def test_on_a_running_loop_nothing_is_proposed(self, gate: GateClient, wrapped: bool) -> None:
        body = functools.partial(self._body) if wrapped else self._body
        gate.register_tool("registered", self._body)

        async def main() -> None:
            with pytest.raises(GateError, match="coroutine function"):
                gate.govern("t", {}, body=body)
            with pytest.raises(GateError, match="coroutine function"):
                gate.call("registered", {})
            assert gate.call("t", {}, body=lambda args: "sync is fine") == "sync is fine"

        asyncio.run(main())
        tools = [message["params"]["tool"] for message in received(gate, "govern")]
        assert tools == ["t", "record"]

    def test_an_object_with_an_async_call_is_a_coroutine_function(self, gate: GateClient) -> None:
        class Body:
            async def __call__(self, args: dict[str, Any]) -> None: ...

        async def main() -> None:
            with pytest.raises(GateError, match="coroutine function"):
                gate.govern("t", {}, body=Body())

        asyncio.run(main())

    def test_a_coroutine_out_of_the_blue_on_a_running_loop_fails_the_action(
        self, shared: GateClient
    ) -> None:
        async def main() -> None:
            outcome = shared.govern("t", {}, body=lambda args: self._body({**args}))
            assert outcome.error is not None
            assert "cannot await it" in outcome.error.message

        asyncio.run(main())


class TestHeldActions:
    def test_resume_runs_the_body_and_gives_the_outcome(self, gate: GateClient) -> None:
        gate.register_tool("echo", lambda args: args)
        outcome = gate.resume("u77")
        assert outcome.output == {"resumed": "u77", "wait_ms": 0}

    @pytest.mark.parametrize(("wait", "wait_ms"), [(0.0, 0), (1.5, 1500), (None, None)])
    def test_resume_waits_as_long_as_asked(
        self, shared: GateClient, wait: float | None, wait_ms: int | None
    ) -> None:
        outcome = shared.resume("u1", wait=wait, body=lambda args: args["wait_ms"])
        assert outcome.output == wait_ms

    def test_withdraw_tells_what_became_of_it(self, shared: GateClient) -> None:
        outcome = shared.withdraw("u5")
        assert (outcome.status, outcome.uid) == ("rejected", "u5")

    def test_holds_are_listed_to_the_last_page(self, shared: GateClient) -> None:
        holds = shared.holds("denied")
        assert [hold.hold_id for hold in holds] == ["h0", "h1", "h2"]
        assert {hold.status for hold in holds} == {"denied"}
        assert holds[0].approvers == ("alice",)


class TestOddMessages:
    def test_nothing_a_gate_says_breaks_a_call(
        self, gate: GateClient, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.DEBUG, "toolgate_client"):
            assert gate.call("noisy", {}, body=lambda args: "heard") == "heard"
            gate.ping()
        assert "take care" in caplog.messages
        assert any("not JSON" in message for message in caplog.messages)
        refused = {m["id"]: m["error"]["code"] for m in received(gate) if "error" in m}
        assert refused == {5000: -32601, 5001: -32602, 5002: -32602}


def test_a_client_that_was_not_started_says_so() -> None:
    gate = toolgate_client.GateClient({})
    for use in (gate.ping, lambda: gate.govern("t", {}), lambda: gate.session):
        with pytest.raises(GateError, match="start"):
            use()
    assert not gate.closed
    gate.close()
