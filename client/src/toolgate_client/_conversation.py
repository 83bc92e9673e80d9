"""One request from its making to its response, step by step: the same for threads and for tasks.

:func:`attend` and :func:`take_turns` say what comes next and never wait: a thread that drives them
blocks where they say so, a task awaits. There is nothing to clean up in them; whoever drives them
leaves the mailbox, however it ends.
"""

from __future__ import annotations

import time

from toolgate_client._mailbox import Mailbox
from toolgate_client._protocol import is_refusal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator

    from toolgate_client._gate import Gate
    from toolgate_client._mailbox import Run
    from toolgate_client._requests import Request

_INTERRUPTED_WAIT = 5.0
"""How long a call whose body was interrupted waits for the gate to record that, in seconds."""


class Conversation(Mailbox):
    """A request under way, and its caller's mailbox."""

    __slots__ = ("deadline", "gate", "interrupt", "interrupts", "request")

    def __init__(self, gate: Gate, request: Request) -> None:
        super().__init__()
        self.gate = gate
        self.request = request
        self.deadline: float | None = None
        """When the caller gives up (monotonic)."""
        self.interrupts: list[BaseException] = []
        """What bodies raised that fails more than their action, such as ``KeyboardInterrupt``."""
        self.interrupt: BaseException | None = None
        """The first of these: the caller raises it when the gate has recorded the failure."""

    def refused(self) -> bool:
        """Whether the gate had too many calls in flight; the request may be made again."""
        return self.response is not None and is_refusal(self.response)

    def refuse(self, run: Run) -> None:
        """Answer for a body that is not begun, because another was interrupted."""
        self.gate.core.reply_failed(run, "CallerGone", "the caller was interrupted")

    def note_interrupt(self, run: Run) -> None:
        """See to it that the caller hears of what its body was ended by."""
        if run.raised is not None and not isinstance(run.raised, Exception):
            self.interrupts.append(run.raised)

    def heed_interrupts(self) -> None:
        """If a body was interrupted, begin no other, and wait only so long for the response."""
        if self.interrupts:
            error = self.interrupts.pop()
            if self.interrupt is None:
                self.interrupt, self.deadline = error, time.monotonic() + _INTERRUPTED_WAIT
                self.stop()

    def stop(self) -> None:
        """A body was interrupted: the caller begins no other."""

    def next_run(self) -> Run | None:
        """The run that the caller should perform now; none that the gate no longer waits for."""
        return None if self.response is not None or self.gate.core.ended else self.take()


def attend(call: Conversation) -> Generator[Run | None, None, None]:
    """Say what the caller of a request that was made does next, until it has its response.

    ``None``: wait until ``call`` has news, the gate has ended, or it is ``call.deadline``. A run:
    perform it. When this ends, there is a response, and maybe an interrupt to raise.

    Raises :class:`GateClosed` when the gate ended before, ``TimeoutError`` at the deadline, and
    the interrupt in place of either.
    """
    core = call.gate.core
    while call.response is None:
        yield None
        call.heed_interrupts()
        run = call.next_run()
        if run is None:
            pass
        elif call.interrupt is None:
            yield run
            call.heed_interrupts()
        else:
            call.refuse(run)
        if run is None and call.response is None:
            if core.ended:
                raise call.interrupt or call.gate.closed_error()
            if call.deadline is not None and time.monotonic() >= call.deadline:
                what = f"no answer to {call.request.what} in time"
                raise call.interrupt or TimeoutError(what)


def take_turns(
    gate: Gate, box: Mailbox, above: frozenset[int]
) -> Generator[Mailbox | None, Conversation, Conversation]:
    """Say what a caller does that the gate refused because it had too many calls in flight.

    ``None``: make the request anew, and send what became of it. The mailbox: wait for its news.
    Returns the request that was taken, or the refusal when no call's end can give it room. The
    calls ``above`` cannot end before this one.
    """
    core, turns = gate.core, gate.core.turns
    while True:
        turns.line_up(box)
        made = yield None
        if not made.refused() or not turns.may_wait(box, above, core.under_way()):
            return made
        yield box
        gate.check_usable()
        made = yield None
        turns.served(box)
        if not made.refused():
            return made
