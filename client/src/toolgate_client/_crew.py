"""The threads that run the bodies of one proposal.

A gate may want several bodies of one request run at once. The rule:

- What comes while the caller waits, the caller runs itself, in its own thread. So the bodies of a
  proposal whose actions follow one another all run there, and no other thread runs anything.
- What comes while the caller is busy, is run by a worker thread, or by the caller when it is free
  first. A worker that makes a call, or a proposal, is the caller of that one.
- At most ``size`` bodies run at once, the caller's among them. Workers come when they are needed
  and go when the proposal has its result, or once what they run has ended.

Somebody has to hear the gate while the caller is busy; so whoever begins a body sees to it that
one worker more is there than has work (as long as there are fewer than ``size - 1``).

Who runs what is decided where the run arrives, by one reader at a time: the caller's free ``seat``
is taken there. Were it left to the first thread to come, a sequential plan might be run by any.

The caller may be interrupted anywhere, the workers never are (Python interrupts the main thread,
which is no worker). So the caller holds no lock; what it shares with the workers is changed by
operations that are atomic by themselves. A run that is in no queue and that nobody has claimed is
answered when the caller leaves.
"""

from __future__ import annotations

from _thread import start_new_thread
from collections import deque
from collections.abc import Callable
from contextvars import copy_context
from itertools import chain, repeat
from threading import Thread, current_thread, main_thread

from toolgate_client._calls import Call
from toolgate_client._exchange import Waiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypeVar

    from toolgate_client._gate import Gate
    from toolgate_client._mailbox import Run
    from toolgate_client._requests import Request

    T = TypeVar("T")


class Crew(Call):
    """A request under way for which several bodies may run at once.

    Each body of a proposal runs in a copy of the caller's context, wherever it runs.
    """

    __slots__ = (
        "_context",
        "_pool",
        "_seat",
        "_size",
        "_uid",
        "closing",
        "idle",
        "workers",
    )

    def __init__(self, gate: Gate, request: Request) -> None:
        super().__init__(gate, request)
        self.closing = False
        """Nobody begins another body."""
        self.idle: dict[Worker, None] = {}
        """The workers that wait for a run."""
        self.workers: dict[int, Worker] = {}
        """Every worker, by its place, from 1."""
        self._size = request.size
        self._uid = request.uid
        self._context = copy_context()
        self._pool: deque[Run] = deque()
        self._seat = deque([self.waiting])
        """The caller's own queue, as long as the caller is free to take from it."""

    # --- as a mailbox

    def has_news(self) -> bool:
        """Whether there is something for the caller, who looks when it is free."""
        return super().has_news() or bool(self._pool) or bool(self.interrupts)

    def worker_has_news(self) -> bool:
        """Whether there is something for a worker: a run, or the end."""
        return bool(self._pool) or self.over()

    def over(self) -> bool:
        """Whether a worker that has nothing to do can go."""
        return self.closing or self.response is not None or self.left

    def deliver(self, run: Run) -> None:
        """A run has come: it is the caller's, if the caller is free."""
        queues = chain(map(deque.popleft, (self._seat,)), (self.runs,))
        try:
            # As in `record`: an interrupt cannot come between the seat and the run.
            any(map(deque.append, queues, repeat(run)))
        except IndexError:
            self.record(run, self._pool)

    def wake(self) -> None:
        """Something has come: see who it is for."""
        super().wake()
        if self._pool:
            self._wake_one()

    def take(self) -> Run | None:
        """The next run for the caller, or ``None``."""
        while True:
            if self.waiting:
                queue = self.waiting
            elif not self._pool:
                return None
            elif _pop(self._seat) is not None:
                queue = self._pool
            else:
                continue  # the seat was taken for a run that is waiting now
            run = _pop(queue)
            if run is not None and run.claim(self):
                return run
            self._stand_up()

    def take_for(self, worker: Worker) -> Run | None:
        """The next run for a worker, or ``None``."""
        while not self.over():
            run = _pop(self._pool)
            if run is None:
                break
            if run.claim(worker):
                self.idle.pop(worker, None)
                return run
        return None

    # --- bodies

    def refuse(self, run: Run) -> None:
        """Answer for a body that is not begun."""
        self._stand_up()
        super().refuse(run)

    def perform(self, run: Run) -> None:
        """Run a body in the caller's thread, and answer."""
        self._stand_in(run)
        if self._is_single(run):
            self._run(run)
        else:
            self._context.copy().run(self._run, run)
        self._stand_up()
        self._answer(run, self)

    def perform_for(self, run: Run, worker: Worker) -> None:
        """Run a body in a worker's thread, and answer."""
        self._stand_in(run)
        self._context.copy().run(self._run, run)
        self.idle[worker] = None
        self._answer(run, worker)
        if self.interrupts:
            self.stop()
            super().wake()

    def _run(self, run: Run) -> None:
        self.gate.run(run, self.id, self.request.body if run.uid == self._uid else None)

    def _answer(self, run: Run, waiter: Waiter) -> None:
        self.note_interrupt(run)
        self.gate.answer(run)
        # There may be another run to begin at once, and the gate is to have this answer before.
        self.gate.exchange.flush(waiter)

    # --- the end

    def stop(self) -> None:
        """A body was interrupted: nothing else is begun, here or at the gate."""
        if not self.closing:
            self.gate.core.cancel(self)
            self.dismiss()

    def dismiss(self) -> None:
        """The workers go, once what they run has ended."""
        self.closing = True
        for worker in list(self.idle):
            worker.wake()

    # --- seats and workers

    def _stand_up(self) -> None:
        """The caller is free."""
        self._seat.append(self.waiting)

    def _wake_one(self) -> None:
        for worker in list(self.idle)[:1]:
            worker.wake()

    def _stand_in(self, run: Run) -> None:
        """Who calls this begins a body: see to it that another thread hears what the gate wants."""
        if self.idle:
            if self._pool:
                self._wake_one()
        elif not self._seat and not self.over() and not self._is_single(run):
            self._hire()

    def _is_single(self, run: Run) -> bool:
        # A call that is no part of a proposal runs under the very uid that was resumed; the actions
        # of a proposal have uids of the form <proposal>-<n>.
        return run.uid == self._uid and "-" not in run.uid

    def _hire(self) -> None:
        for place in range(1, self._size):
            worker = Worker(self, place)
            if self.workers.setdefault(place, worker) is worker:
                self.idle[worker] = None
                worker.start()
                return


class Worker(Waiter):
    """A thread that runs bodies of one proposal."""

    __slots__ = ("_crew", "_place")

    def __init__(self, crew: Crew, place: int) -> None:
        super().__init__()
        self._crew = crew
        self._place = place

    def has_news(self) -> bool:
        """Whether there is something to do."""
        return self._crew.worker_has_news()

    def start(self) -> None:
        """Start the thread. It keeps the process alive if the thread that starts it does."""
        daemon = current_thread().daemon
        thread = Thread(target=self._work, name=f"toolgate-body-{self._place}", daemon=daemon)
        if current_thread() is main_thread():
            # An interrupt within Thread.start would leave a thread that never begins or ends.
            self._begin(start_new_thread, self._begin, (thread.start,))
        else:
            self._begin(thread.start)

    def _begin(self, start: Callable[..., object], *args: object) -> None:
        try:
            start(*args)
        except RuntimeError:
            # No thread is to be had. Then there is one less at work.
            self._end()

    def _work(self) -> None:
        crew, exchange, core = self._crew, self._crew.gate.exchange, self._crew.gate.core
        try:
            while True:
                exchange.wait(self)
                run = crew.take_for(self)
                if run is not None:
                    crew.perform_for(run, self)
                elif crew.over() or core.ended:
                    return
        finally:
            self._end()
            exchange.leave(self)

    def _end(self) -> None:
        self._crew.idle.pop(self, None)
        self._crew.workers.pop(self._place, None)


def _pop(queue: deque[T]) -> T | None:
    try:
        return queue.popleft()
    except IndexError:
        return None
