"""Requests as threads make them: ask, run what the gate wants run, hear how it ended.

The body of a tool runs here, in the thread that waits for the call, with its context variables.
"""

from __future__ import annotations

from toolgate_client import _requests
from toolgate_client._bodies import running
from toolgate_client._calls import Call
from toolgate_client._conversation import attend, take_turns
from toolgate_client._crew import Crew
from toolgate_client._exchange import Waiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from toolgate_client._bodies import Running
    from toolgate_client._gate import Gate
    from toolgate_client._requests import Asked, Request

    T = TypeVar("T")


def do(gate: Gate, asked: Asked[T]) -> T:
    """Make a request in this thread, and return its result.

    When the gate has too many calls in flight, this waits for its turn.
    """
    request, reader = asked
    call = _converse(gate, request)
    if call.refused():
        call = _queue_up(gate, request)
    return _requests.read(request, reader, *gate.result(call))


def do_by(gate: Gate, asked: Asked[T], deadline: float) -> T:
    """Make a request in this thread, and return its result.

    Raises ``TimeoutError`` when there is no response at ``deadline`` (monotonic).
    """
    request, reader = asked
    call = _converse(gate, request, deadline)
    return _requests.read(request, reader, *gate.result(call))


# An interrupt where a loop jumps back is not seen by a `try` around the loop (CPython 3.12 and
# later): a loop that somebody has to clean up after is a function of its own. And one within the
# first import of a module may leave that locked for good: nothing is imported on the way.


def _converse(gate: Gate, request: Request, deadline: float | None = None) -> Call:
    context = running.get()
    call = (Crew if request.size else Call)(gate, request)
    call.deadline = deadline
    try:
        try:
            gate.core.request(call, request.method, request.params, request.what)
            _attend(call)
        finally:
            _leave(call, context)
    finally:
        if not call.gone:  # interrupted on its way out
            _leave(call, context)
    if gate.core.notices:
        gate.log()
    if call.interrupt is not None:
        raise call.interrupt
    return call


def _attend(call: Call) -> None:
    wait = call.gate.exchange.wait
    for run in attend(call):
        if run is None:
            wait(call, call.deadline)
        else:
            call.perform(run)


def _leave(call: Call, context: Running | None) -> None:
    if running.get() is not context:  # interrupted on its way out of a body
        running.set(context)
    call.dismiss()
    for run in list(call.runs):
        if run.returned and not run.answered and run.claim(call):
            call.gate.answer(run)
    call.gate.exchange.leave(call)


def _queue_up(gate: Gate, request: Request) -> Call:
    box = Waiter()
    try:
        try:
            return _take_turns(gate, request, box)
        finally:
            _leave_queue(gate, box)
    finally:
        if not box.gone:  # interrupted on its way out
            _leave_queue(gate, box)


def _take_turns(gate: Gate, request: Request, box: Waiter) -> Call:
    above = frozenset(each.call for each in gate.ancestors())
    # On an event loop that waits here, no call of that loop ends.
    turns = take_turns(gate, box, above | gate.exchange.calls_of_this_loop())
    step = next(turns)
    while True:
        if step is None:
            call = _converse(gate, request)
            try:
                step = turns.send(call)
            except StopIteration:
                return call
        else:
            gate.exchange.wait(box)
            step = next(turns)


def _leave_queue(gate: Gate, box: Waiter) -> None:
    gate.core.leave_queue(box)
    gate.exchange.leave(box)
