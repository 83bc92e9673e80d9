"""The protocol core, driven without pipes or threads."""

from __future__ import annotations

import hashlib
import json
import math
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolgate_client import ProtocolError
from toolgate_client._protocol import Core, Mailbox, Run


class Box(Mailbox):
    """A mailbox that counts how often its owner was woken."""

    __slots__ = ("woken",)

    def __init__(self) -> None:
        super().__init__()
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def sent(core: Core) -> list[dict[str, Any]]:
    messages = [json.loads(message.data) for message in core.outbox]
    core.outbox.clear()
    return messages


def give(core: Core, message: Any) -> None:
    core.feed(json.dumps(message).encode() + b"\n")
    core.pump()


def asked(core: Core, method: str = "govern", **params: Any) -> Box:
    box = Box()
    core.request(box, method, params, "the request")
    return box


def run_tool(id: int, call: int, **more: Any) -> dict[str, Any]:
    params = {"call": call, "tool": "t", "args": {"x": 1}, "uid": "u", "attempt": 1, **more}
    return {"jsonrpc": "2.0", "id": id, "method": "run_tool", "params": params}


def taken(box: Box) -> Run:
    run = box.take()
    assert run is not None
    return run


def digest(data: bytes) -> dict[str, Any]:
    return {"digest": f"sha256:{hashlib.sha256(data).hexdigest()}", "length": len(data)}


def stand_in(written: bytes) -> dict[str, Any]:
    return {"omitted": "the result is too large to be recorded", **digest(written)}


class TestRequests:
    def test_a_request_is_one_line_of_json_rpc(self) -> None:
        core = Core()
        core.request(Box(), "govern", {"tool": "naïve\n", "args": {}}, "the call")
        (message,) = core.outbox
        assert message.data.endswith(b"}\n")
        assert message.data.count(b"\n") == 1
        assert "naïve".encode() in message.data
        assert json.loads(message.data) == {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "govern",
            "params": {"tool": "naïve\n", "args": {}},
        }

    def test_every_request_has_an_id_of_its_own(self) -> None:
        core = Core()
        boxes = [asked(core) for _ in range(3)]
        assert [message["id"] for message in sent(core)] == [box.id for box in boxes] == [1, 2, 3]

    @pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1), (2, 1, 0)])
    def test_replies_reach_their_callers_in_any_order(self, order: tuple[int, ...]) -> None:
        core = Core()
        boxes = [asked(core) for _ in range(3)]
        for index in order:
            give(core, {"jsonrpc": "2.0", "id": boxes[index].id, "result": index})
        assert [box.response and box.response["result"] for box in boxes] == [0, 1, 2]
        assert [box.woken for box in boxes] == [1, 1, 1]

    @pytest.mark.parametrize(
        ("value", "error", "words"),
        [
            (math.nan, ValueError, "JSON"),
            (math.inf, ValueError, "JSON"),
            ({"a": ["\ud800"]}, ValueError, "lone surrogate"),
            ({"\udfff": 1}, ValueError, "lone surrogate"),
            (object(), TypeError, "object"),
            (b"bytes", TypeError, "bytes"),
            ({1: "a", "1": "b"}, TypeError, "the key 1 is not a string"),
            ({"a": [{None: 1}]}, TypeError, "the key None is not a string"),
            pytest.param(10**5000, ValueError, "the request", id="a huge integer"),
        ],
    )
    def test_what_is_not_json_is_refused_before_anything_is_sent(
        self, value: Any, error: type[Exception], words: str
    ) -> None:
        core = Core()
        box = Box()
        with pytest.raises(error, match=words) as caught:
            core.request(box, "govern", {"args": value}, "the request")
        assert "the request" in str(caught.value)
        assert not core.outbox
        assert not core._pending

    def test_a_value_inside_itself_is_refused(self) -> None:
        loop: list[Any] = []
        loop.append(loop)
        with pytest.raises(ValueError, match="inside itself"):
            asked(Core(), args=loop)

    @pytest.mark.parametrize(("levels", "fits"), [(180, True), (195, False), (100_000, False)])
    def test_nesting_that_no_gate_reads_is_refused(self, levels: int, fits: bool) -> None:
        value: Any = 1
        for _ in range(levels):
            value = [value]
        core = Core()
        if fits:
            asked(core, args=value)
        else:
            with pytest.raises(ValueError, match="nested deeper than 190"):
                asked(core, args=value)
        assert len(core.outbox) == fits

    def test_a_message_over_the_gates_limit_is_refused_before_it_is_sent(self) -> None:
        core = Core()
        core.max_message_bytes = 1000
        with pytest.raises(ProtocolError, match=r"at most 1000 .*max_message_bytes") as refused:
            asked(core, args="x" * 1000)
        assert refused.value.code == -32001
        assert not core.outbox
        asked(core, args="x" * 800)


class TestFraming:
    def test_a_message_may_arrive_byte_by_byte(self) -> None:
        core = Core()
        box = asked(core)
        line = json.dumps({"id": box.id, "result": "é"}, ensure_ascii=False).encode() + b"\n"
        for index in range(len(line)):
            assert box.response is None
            core.feed(line[index : index + 1])
            core.pump()
        assert box.response == {"id": box.id, "result": "é"}
        assert not core.fragments

    def test_one_read_may_hold_several_messages_and_a_part(self) -> None:
        core = Core()
        first, second, third = (asked(core) for _ in range(3))
        lines = [
            json.dumps({"id": box.id, "result": {}}).encode() for box in (first, second, third)
        ]
        core.feed(b"\n".join(lines)[:-5])
        core.pump()
        assert first.response
        assert second.response
        assert third.response is None
        core.feed(lines[2][-5:] + b"\n")
        core.pump()
        assert third.response

    def test_only_lf_ends_a_line(self) -> None:
        core = Core()
        box = asked(core)
        text = '"a\\r\\u2028\u2028\x85b"'
        core.feed(b'{"id":%d,"result":%s}\r\n' % (box.id, text.encode()))
        core.pump()
        assert box.response
        assert box.response["result"] == "a\r\u2028\u2028\x85b"

    def test_a_partial_line_is_kept_until_its_end_comes(self) -> None:
        core = Core()
        box = asked(core)
        big = json.dumps({"id": box.id, "result": "x" * 300_000}).encode() + b"\n"
        for start in range(0, len(big), 65536):
            core.feed(big[start : start + 65536])
            core.pump()
        assert box.response
        assert len(box.response["result"]) == 300_000


class TestWhatTheGateSays:
    @pytest.mark.parametrize(
        "line",
        [
            b"not json",
            b"",
            b"\xff\xfe",
            b"[]",
            b"17",
            b"null",
            b'{"id":1} trailing',
            b"[" * 100_000,
            b'{"id":1,"result":' + b"9" * 5000 + b"}",
        ],
    )
    def test_a_line_that_is_no_message_is_noted_and_ignored(self, line: bytes) -> None:
        core = Core()
        box = asked(core)
        core.feed(line + b"\n")
        core.pump()
        assert box.response is None
        ((name, level, text),) = core.notices
        assert name == "toolgate_client"
        assert level == "warning"
        assert len(text) < 1000
        give(core, {"id": box.id, "result": "still served"})
        assert box.response

    @pytest.mark.parametrize("id", [2, 0, -1, True, 1.0, "1", None, [1], {"a": 1}])
    def test_a_response_to_nothing_is_noted_and_ignored(self, id: Any) -> None:
        core = Core()
        box = asked(core)
        give(core, {"id": id, "result": "?"})
        assert box.response is None
        assert len(core.notices) == 1

    def test_a_request_the_client_does_not_know_is_refused(self) -> None:
        core = Core()
        give(core, {"id": 9, "method": "format_disk", "params": {}})
        (message,) = sent(core)
        assert message["id"] == 9
        assert message["error"]["code"] == -32601

    @pytest.mark.parametrize(
        "params",
        [None, [], {}, {"call": 1}, {"call": "1", "tool": "t", "args": {}, "uid": "u"}],
    )
    def test_a_malformed_run_is_refused(self, params: Any) -> None:
        core = Core()
        asked(core)
        sent(core)
        give(core, {"id": 9, "method": "run_tool", "params": params})
        (message,) = sent(core)
        assert message["error"]["code"] == -32602

    @pytest.mark.parametrize("method", ["cancel_tool", "event", "of the future", 7])
    def test_notifications_without_meaning_here_change_nothing(self, method: Any) -> None:
        core = Core()
        asked(core)
        sent(core)
        give(core, {"method": method, "params": {"uid": "u"}})
        assert not core.outbox
        assert not core.notices

    def test_what_the_gate_logs_is_noted_with_its_level(self) -> None:
        core = Core()
        give(core, {"method": "log", "params": {"level": "error", "message": "no space left"}})
        assert list(core.notices) == [("toolgate", "error", "no space left")]

    def test_the_greeting_reaches_who_expects_it_once(self) -> None:
        core = Core()
        box = Box()
        core.expect_greeting(box)
        give(core, {"method": "ready", "params": {"protocol": "1"}})
        give(core, {"method": "ready", "params": {"protocol": "7"}})
        assert box.response == {"result": {"protocol": "1"}}
        assert box.woken == 1


class TestRuns:
    def test_a_run_reaches_the_caller_it_names(self) -> None:
        core = Core()
        other, box = asked(core), asked(core)
        give(core, run_tool(1, box.id))
        assert other.take() is None
        run = taken(box)
        assert (run.id, run.tool, run.args, run.uid, run.attempt) == (1, "t", {"x": 1}, "u", 1)
        assert box.take() is None

    def test_a_run_is_answered_with_the_output(self) -> None:
        core = Core()
        box = asked(core)
        give(core, run_tool(5, box.id))
        sent(core)
        core.reply(taken(box), {"y": [1]})
        assert sent(core) == [{"jsonrpc": "2.0", "id": 5, "result": {"output": {"y": [1]}}}]

    def test_a_failed_body_is_answered_with_type_and_message(self) -> None:
        core = Core()
        box = asked(core)
        give(core, run_tool(5, box.id))
        sent(core)
        core.reply_failed(taken(box), "OSError", "no \ud800 disk")
        (message,) = sent(core)
        assert message["error"]["code"] == -32000
        assert message["error"]["data"] == {
            "type": "OSError",
            "message": "no \\ud800 disk",
            "retryable": False,
        }

    def test_a_failures_text_is_cut(self) -> None:
        core = Core()
        box = asked(core)
        give(core, run_tool(5, box.id))
        core.reply_failed(taken(box), "E", "x" * 10_000_000)
        assert len(core.outbox[-1].data) < 100_000

    def test_a_result_that_is_not_json_is_refused_and_leaves_the_run_open(self) -> None:
        core = Core()
        box = asked(core)
        give(core, run_tool(5, box.id))
        sent(core)
        run = taken(box)
        with pytest.raises(ValueError, match="result of tool 't'"):
            core.reply(run, math.nan)
        assert not run.answered
        assert not core.outbox

    def answer(self, limit: int, output: Any, *documents: dict[str, str]) -> Any:
        """Answer a run of a gate that takes messages of ``limit`` bytes; return what was sent."""
        core = Core()
        core.max_message_bytes = limit
        box = asked(core)
        give(core, run_tool(5, box.id))
        sent(core)
        core.reply(taken(box), output, documents)
        assert len(core.outbox[-1].data) <= limit
        (message,) = sent(core)
        return message["result"]

    def test_of_a_result_over_the_gates_limit_the_digest_is_sent(self) -> None:
        output = "x" * 1000
        written = json.dumps(output).encode()
        assert self.answer(1000, output) == {"output": stand_in(written), "omitted": True}

    def test_documents_over_the_limit_leave_their_texts_behind_and_keep_the_output(self) -> None:
        page = {"text": "é" * 1000, "trust": "untrusted", "source": "a page"}
        digested = {**digest("é".encode() * 1000), "trust": "untrusted", "source": "a page"}
        assert self.answer(1000, "out", page) == {"output": "out", "documents": [digested]}

    def test_when_output_and_documents_are_too_large_both_are_told_by_digest(self) -> None:
        page = {"text": "p" * 1000, "trust": "untrusted"}
        result = self.answer(1024, "x" * 1000, page)
        assert result["omitted"] is True
        assert result["documents"] == [{**digest(b"p" * 1000), "trust": "untrusted"}]

    @pytest.mark.parametrize("trust", ["trusted", "untrusted"])
    def test_more_documents_than_can_be_told_still_give_their_label(self, trust: str) -> None:
        pages = [{"text": f"{n}", "trust": "trusted", "source": "s" * 99} for n in range(99)]
        pages[50]["trust"] = trust
        text = "".join(page["text"] for page in pages).encode()
        result = self.answer(1024, "x" * 1000, *pages)
        assert result["documents"] == [{**digest(text), "trust": trust}]

    def test_a_gate_that_takes_not_even_that_is_told_nothing(self) -> None:
        with pytest.raises(ProtocolError, match="result of tool 't' cannot be sent") as refused:
            self.answer(100, "x" * 1000)
        assert refused.value.code == -32001

    def test_a_run_of_an_unknown_call_is_answered_without_a_body(self) -> None:
        core = Core()
        give(core, run_tool(5, 77))
        (message,) = sent(core)
        assert message["id"] == 5
        assert message["error"]["code"] == -32000
        assert message["error"]["data"]["type"] == "CallerGone"
        assert message["error"]["data"]["retryable"] is False

    @pytest.mark.parametrize(
        ("method", "params", "withdrawn"),
        [
            ("govern", {}, True),
            ("resume", {"wait_ms": None}, True),
            ("resume", {"wait_ms": 0}, False),
        ],
    )
    def test_a_hold_that_nobody_hears_of_any_more_is_taken_back(
        self, method: str, params: dict[str, Any], withdrawn: bool
    ) -> None:
        core = Core()
        box = asked(core, method, **params)
        core.leave(box)
        sent(core)
        held = {"status": "held", "uid": "u", "hold": {"hold_id": "h"}}
        give(core, {"jsonrpc": "2.0", "id": box.id, "result": held})
        asks = [(message["method"], message["params"]) for message in sent(core)]
        assert asks == ([("withdraw", {"uid": "u"})] if withdrawn else [])
        if withdrawn:
            give(core, {"jsonrpc": "2.0", "id": box.id + 1, "result": {"status": "skipped"}})
        assert not core.notices

    def test_a_caller_that_leaves_cancels_and_answers_its_runs(self) -> None:
        core = Core()
        box = asked(core)
        give(core, run_tool(5, box.id))
        give(core, run_tool(6, box.id))
        sent(core)
        taken(box)
        core.leave(box)
        messages = sent(core)
        assert messages[0]["method"] == "cancel"
        assert messages[0]["params"] == {"id": box.id}
        assert [message["id"] for message in messages[1:]] == [5, 6]
        assert {message["error"]["data"]["type"] for message in messages[1:]} == {"CallerGone"}
        give(core, run_tool(7, box.id))
        assert [message["id"] for message in sent(core)] == [7]

    def test_a_caller_that_has_its_response_leaves_in_silence(self) -> None:
        core = Core()
        box = asked(core)
        give(core, {"id": box.id, "result": {}})
        sent(core)
        core.leave(box)
        core.leave(box)
        assert not core.outbox
        assert not core._pending

    def test_leaving_twice_says_goodbye_once(self) -> None:
        core = Core()
        box = asked(core)
        give(core, run_tool(5, box.id))
        sent(core)
        core.leave(box)
        core.leave(box)
        assert len(sent(core)) == 2

    def test_after_the_end_nobody_is_told_goodbye(self) -> None:
        core = Core()
        box = asked(core)
        sent(core)
        core.end()
        assert box.woken == 1
        core.leave(box)
        assert not core.outbox


class TestTurns:
    """Calls that the gate refused because it had too many of them."""

    REFUSAL: ClassVar[dict[str, Any]] = {"error": {"code": -32003, "message": "too many"}}

    def queued(self, core: Core) -> Box:
        box = Box()
        core.turns.line_up(box)
        return box

    def test_only_calls_without_a_response_are_under_way(self) -> None:
        core = Core()
        asked(core, "ping")
        assert len(core.under_way()) == 0
        call, resume = asked(core, "govern"), asked(core, "resume")
        assert len(core.under_way()) == 2
        give(core, {"id": call.id, "result": {}})
        assert len(core.under_way()) == 1
        core.leave(resume)
        assert len(core.under_way()) == 1  # the gate still has it
        give(core, {"id": resume.id, "result": {}})
        assert len(core.under_way()) == 0

    def test_each_response_to_a_call_gives_the_next_caller_room(self) -> None:
        core = Core()
        calls = [asked(core), asked(core, "resume")]
        first, second, third = (self.queued(core) for _ in range(3))
        for call in calls:
            give(core, {"id": call.id, "result": {}})
        assert [box.room for box in (first, second, third)] == [True, True, False]
        assert [box.woken for box in (first, second, third)] == [1, 1, 0]

    @pytest.mark.parametrize("method", ["ping", "holds", "register_tool"])
    def test_other_requests_give_no_room(self, method: str) -> None:
        core = Core()
        request, waiting = asked(core, method), self.queued(core)
        give(core, {"id": request.id, "result": {}})
        assert not waiting.room

    def test_a_refusal_gives_no_room(self) -> None:
        core = Core()
        call, waiting = asked(core), self.queued(core)
        give(core, {"id": call.id, **self.REFUSAL})
        assert not waiting.room

    def test_the_late_end_of_an_abandoned_call_gives_room(self) -> None:
        core = Core()
        call, waiting = asked(core), self.queued(core)
        core.leave(call)
        assert core.turns.may_wait(waiting, frozenset(), core.under_way())
        assert not waiting.room
        give(core, {"id": call.id, "result": {}})
        assert waiting.room

    def test_a_caller_that_leaves_with_its_room_unused_passes_it_on(self) -> None:
        core = Core()
        call, first, second = asked(core), self.queued(core), self.queued(core)
        give(core, {"id": call.id, "result": {}})
        sent(core)
        core.leave_queue(first)
        # Whose turn it is may be asleep in a read: it takes a message from the gate to wake it.
        (ping,) = sent(core)
        assert ping["method"] == "ping"
        assert not second.room
        give(core, {"id": ping["id"], "result": {}})
        assert second.room

    def test_a_caller_that_nobody_can_give_room_does_not_wait(self) -> None:
        core = Core()
        outer = asked(core)
        nested = self.queued(core)
        assert not core.turns.may_wait(nested, frozenset({outer.id}), core.under_way())
        core.leave_queue(nested)
        other = asked(core)
        nested = self.queued(core)
        assert core.turns.may_wait(nested, frozenset({outer.id}), core.under_way())
        for call in (outer, other):
            core.leave(call)

    def test_a_caller_that_gives_up_has_others_see_whether_they_should(self) -> None:
        core = Core()
        proposal = asked(core, "propose")
        above = frozenset({proposal.id})
        nested = asked(core)
        first, second = self.queued(core), self.queued(core)
        assert core.turns.may_wait(first, above, core.under_way())
        give(core, {"id": nested.id, **self.REFUSAL})
        assert not core.turns.may_wait(second, above, core.under_way())
        sent(core)
        core.leave_queue(second)
        (ping,) = sent(core)
        give(core, {"id": ping["id"], "result": {}})
        assert first.room
        core.leave_queue(first)
        assert not core.outbox

    def test_parallel_bodies_of_one_proposal_block_one_call(self) -> None:
        core = Core()
        proposal, other = asked(core, "propose"), asked(core)
        above = frozenset({proposal.id})
        for _ in range(3):
            assert core.turns.may_wait(self.queued(core), above, core.under_way())
        core.leave(other)

    def test_the_end_wakes_who_waits_for_a_turn(self) -> None:
        core = Core()
        waiting = self.queued(core)
        core.end()
        assert waiting.woken
        core.leave_queue(waiting)
        assert not core.outbox


class TestInterrupts:
    """Handling a line again, after an interrupt before it was removed, changes nothing."""

    def test_a_line_that_is_handled_again_runs_nothing_again(self) -> None:
        core = Core()
        box = asked(core)
        line = json.dumps(run_tool(5, box.id)).encode() + b"\n"
        core.feed(line)
        core._handle(line)
        run = taken(box)
        core.pump()
        assert box.take() is None
        core.reply(run, 1)
        core._handle(line)
        assert box.take() is None
        assert not box.has_news()

    def test_a_response_that_is_handled_again_is_the_same_response(self) -> None:
        core = Core()
        box = asked(core)
        line = json.dumps({"id": box.id, "result": 1}).encode() + b"\n"
        core.feed(line)
        core._handle(line)
        core.pump()
        assert box.response == {"id": box.id, "result": 1}

    def test_a_message_is_kept_when_the_readers_own_stack_is_exhausted(self) -> None:
        core = Core()
        box = asked(core)
        core.feed(json.dumps({"id": box.id, "result": [[[1]]]}).encode() + b"\n")

        def deep() -> None:
            deep_or_pump()

        def deep_or_pump() -> None:
            try:
                deep()
            except RecursionError:
                core.pump()
                raise

        with pytest.raises(RecursionError):
            deep()
        core.pump()
        assert box.response == {"id": box.id, "result": [[[1]]]}


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 12) | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["call", "tool", "args", "uid", "x"]), inner, max_size=4)
    ),
    max_leaves=6,
)
_messages = st.fixed_dictionaries(
    {},
    optional={
        "id": _json,
        "method": st.sampled_from(["run_tool", "ready", "log", "cancel_tool", 7, None]),
        "params": _json
        | st.builds(lambda id, call: run_tool(id, call)["params"], st.just(1), st.integers(0, 4)),
        "result": _json,
        "error": _json | st.just({"code": -32003, "message": "many"}),
    },
).map(lambda message: json.dumps(message).encode() + b"\n")


class TestAnyInput:
    """Whatever arrives: nothing is raised, nothing is left over, and calls are still answered."""

    @given(st.lists(_messages | st.binary(max_size=40).map(lambda b: b + b"\n"), max_size=12))
    def test_no_sequence_of_lines_breaks_the_core(self, lines: list[bytes]) -> None:
        core = Core()
        core.expect_greeting(Box())
        boxes = [asked(core), asked(core, "ping"), asked(core, "resume")]
        core.turns.line_up(Box())
        core.feed(b"".join(lines))
        core.pump()
        assert not core.fragments
        for box in boxes:
            while (run := box.take()) is not None:
                core.reply(run, None)
            core.leave(box)
        assert not core._pending
        for message in sent(core):
            assert message["jsonrpc"] == "2.0"

    @given(st.lists(_messages, max_size=6), st.data())
    def test_how_the_bytes_are_cut_makes_no_difference(
        self, lines: list[bytes], data: st.DataObject
    ) -> None:
        whole, cut = Core(), Core()
        stream = b"".join(lines)
        results = []
        for core in (whole, cut):
            box = asked(core)
            position = 0
            while position < len(stream):
                size = len(stream) if core is whole else data.draw(st.integers(1, len(stream)))
                core.feed(stream[position : position + size])
                core.pump()
                position += size
            results.append((repr(box.response), [run.id for run in box.runs], sent(core)))
        assert results[0] == results[1]
