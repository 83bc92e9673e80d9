"""What the gate sends to one caller: runs of bodies, and the mailbox that they are put into."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Run:
    """One request of the gate to run a tool's body."""

    __slots__ = ("_claim", "answered", "args", "attempt", "id", "raised", "returned", "tool", "uid")

    def __init__(self, id: int, tool: str, args: dict[str, Any], uid: str, attempt: int) -> None:
        self.id = id
        self.tool = tool
        self.args = args
        self.uid = uid
        self.attempt = attempt
        self.returned: list[Any] = []
        """The value the body returned; empty until it did."""
        self.raised: BaseException | None = None
        self.answered = False
        self._claim: dict[str, object] = {}

    def claim(self, owner: object) -> bool:
        """Whether ``owner`` is the one who answers this run: the first who asks."""
        return self._claim.setdefault("by", owner) is owner

    def hand_over(self, owner: object) -> None:
        """From now on ``owner`` answers this run. For who answered it until now."""
        self._claim["by"] = owner


class Mailbox:
    """What has arrived for one request of this client, and how to wake who waits for it.

    The transport's callers derive from it and say how they are woken.
    """

    __slots__ = (
        "bell",
        "counted",
        "gone",
        "id",
        "known",
        "left",
        "response",
        "room",
        "runs",
        "waiting",
        "waits",
    )

    def __init__(self) -> None:
        self.id = 0
        self.counted = False
        """Whether it is a call that counts against the gate's ``max_in_flight``."""
        self.waits = False
        """Whether it is a call whose hold is taken back when nobody waits any more."""
        self.response: Mapping[str, Any] | None = None
        self.runs: deque[Run] = deque()
        """Every run that came, in that order."""
        self.waiting: deque[Run] = deque()
        """Those that the owner has not taken yet."""
        self.known: set[int] = set()
        """The ids of the runs."""
        self.room = False
        """The gate may have room for a call that it refused before."""
        self.left = False
        """The core expects nothing for it any more."""
        self.gone = False
        """The transport does not, either."""
        self.bell: Any = None
        """What its owner waits at: whoever derives from this says what that is."""

    def wake(self) -> None:
        """Called, from any thread, after something arrived or the connection ended."""
        raise NotImplementedError

    def has_news(self) -> bool:
        """Whether there is a response, a run that nobody took, or room."""
        return self.response is not None or bool(self.waiting) or self.room

    def tell(self, event: Any) -> None:
        """An event has come for it. Called by who reads, perhaps again after an interrupt."""

    def stop_body(self, run: Run) -> None:
        """The gate wants a body stopped that has begun. Called, from any thread, by who reads.

        A body that runs in a thread cannot be stopped from outside: it ends by itself.
        """

    def deliver(self, run: Run) -> None:
        """A run has come. Called by who reads."""
        self.record(run, self.waiting)

    def record(self, run: Run, queue: deque[Run]) -> None:
        """Add the run to ``runs`` and to the queue of those who may take it."""
        # In one operation of C code: an interrupt leaves it in both or in neither.
        any(map(deque.append, (self.runs, queue), (run, run)))

    def take(self) -> Run | None:
        """The next run for the owner of this mailbox to execute, or ``None``."""
        while self.waiting:
            run = self.waiting.popleft()
            if run.claim(self):
                return run
        return None
