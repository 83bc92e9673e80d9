"""A call of a thread: its bodies run in that thread, with its context variables."""

from __future__ import annotations

from toolgate_client._conversation import Conversation
from toolgate_client._exchange import Waiter

TYPE_CHECKING = False
if TYPE_CHECKING:
    from toolgate_client._mailbox import Run


class Call(Waiter, Conversation):
    """A request under way, which the thread that made it waits for.

    Bodies run in that thread, in its context.
    """

    __slots__ = ()

    def perform(self, run: Run) -> None:
        """Run a body for the gate, and answer."""
        self.gate.run(run, self.id, self.request.body)
        self.note_interrupt(run)
        self.gate.answer(run)

    def dismiss(self) -> None:
        """The caller leaves: whoever works for it begins nothing any more."""
