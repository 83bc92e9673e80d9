"""What a client does with plans: run them, look at them, and the session's state they share."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from toolgate_client import _requests
from toolgate_client._threads import do

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from toolgate_client._analysis import (
        Equivalence,
        Optimized,
        Ranked,
        Restored,
        Verification,
    )
    from toolgate_client._bodies import Body
    from toolgate_client._gate import Gate
    from toolgate_client._models import Outcome, ProposalResult


class PlanMethods:
    """The methods of :class:`GateClient` that are about plans and the state they share."""

    def _usable(self) -> Gate:
        raise NotImplementedError

    # --- running

    def propose(
        self,
        proposal: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        max_workers: int | None = None,
    ) -> ProposalResult:
        """Propose a plan; what is allowed of it runs here and now, with the registered bodies.

        ``proposal`` is JSON: ``{"id"?, "source"?, "actions": [...], "context"?}``.
        ``idempotency_key`` names this proposal for ever: repeated with it, nothing is run again
        that has run, and the result is given.

        The bodies of actions that follow one another run in this thread. Of those that run at the
        same time, the first runs here and the others on worker threads; at most ``max_workers`` run
        at once, the one in this thread among them. With 1, all run here, one after another. The
        default is what the gate runs at once (``limits.max_concurrency``, 16); with fewer, bodies
        wait for a thread while their timeouts run. A worker is a daemon thread if this thread is
        one; it ends with the proposal.

        Each body runs in a copy of this thread's context variables. A call or a proposal that it
        makes names its action as the parent, and runs its own bodies in the body's thread.

        What is denied, held or failed is in the result, not raised. An exception of a body fails
        its action and is in ``ActionResult.exception``. What is no ``Exception``
        (``KeyboardInterrupt``, ``SystemExit``) cancels the proposal and is raised here as it is;
        so does an interrupt while this thread waits. Then no other body is begun, and those that
        run on worker threads end by themselves and are reported to the gate. When the gate dies
        they end by themselves, too, unreported.

        Raises ``TypeError`` or ``ValueError``, with nothing proposed, when ``proposal`` is not JSON
        or ``max_workers`` is less than 1; :class:`GateError`, with nothing proposed, when a body is
        a coroutine function and this thread runs an event loop; :class:`ProtocolError` when the
        gate cannot take the request.
        """
        gate = self._usable()
        asked = _requests.propose(gate, proposal, idempotency_key, max_workers)
        for tool in _requests.tools_of(proposal):
            gate.check_body(tool, None)
        return do(gate, asked)

    def resume(
        self,
        uid: str,
        *,
        wait: float | None = 0.0,
        body: Body | None = None,
        max_workers: int | None = None,
    ) -> Outcome:
        """Continue an action, whoever proposed it: run it if it may run now, give its outcome.

        ``wait`` says how many seconds to wait for the decision about a held action: 0 looks once,
        ``None`` waits as long as it takes. ``body`` replaces the registered body, for this action.
        Interrupting the wait withdraws the action. Raises :class:`GateError`, with nothing asked,
        when ``body`` is a coroutine function and this thread runs an event loop.

        ``uid`` may also be that of a proposal, or of an action in one: then whatever may run now of
        that proposal runs on, its bodies as in :meth:`propose`, and ``Outcome.proposal`` is how it
        stands then.
        """
        gate = self._usable()
        if body is not None:
            gate.check_body(uid, body)
        return do(gate, _requests.resume(gate, uid, wait, body, max_workers))

    # --- looking

    def verify(
        self,
        proposal: Mapping[str, Any],
        *,
        state: Mapping[str, Any] | None = None,
        max_actions: int | None = None,
    ) -> Verification:
        """Check a proposal without running anything; the result is true when it is valid.

        The tools are the registered ones; ``state`` is the session's unless given. What policy
        would deny or hold is among the issues. ``max_actions`` is how many actions it may have.
        """
        return do(self._usable(), _requests.verify(proposal, state, max_actions))

    def simulate(
        self, proposal: Mapping[str, Any], *, state: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the state that a proposal would leave, by its declared effects; nothing runs.

        ``state`` is where it starts: the session's unless given.
        """
        return do(self._usable(), _requests.simulate(proposal, state))

    def equivalent(
        self,
        a: Mapping[str, Any],
        b: Mapping[str, Any],
        *,
        states: Iterable[Mapping[str, Any]] | None = None,
    ) -> Equivalence:
        """Whether two proposals leave the same state, from each of ``states``; nothing runs.

        It tries the states given, or a few of its own, and no others. The result is true when no
        difference was found.
        """
        return do(self._usable(), _requests.equivalent(a, b, states))

    def optimize(
        self, proposal: Mapping[str, Any], *, state: Mapping[str, Any] | None = None
    ) -> Optimized:
        """Return the same actions with fewer waits for each other; what happens is the same.

        ``state`` is where it starts: the session's unless given.
        """
        return do(self._usable(), _requests.optimize(proposal, state))

    def rank(
        self,
        candidates: Iterable[Mapping[str, Any]],
        *,
        target: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> list[Ranked]:
        """Order proposals, the best first, by how likely they succeed and what they cost.

        ``target`` says what one should cost, and how much that counts: ``target_tool_calls``,
        ``target_duration_ms``, ``target_actions``, ``cost_weight``. ``state`` is the session's
        unless given.
        """
        return do(self._usable(), _requests.rank(candidates, target, state))

    # --- state

    def state(self, keys: Iterable[str] | None = None) -> dict[str, Any]:
        """Return the session's state, or what of ``keys`` it has; writing it takes an action."""
        return do(self._usable(), _requests.state(keys))

    def checkpoint(self, name: str) -> str:
        """Save the session's state under a name; returns the id to :meth:`restore` it by."""
        return do(self._usable(), _requests.checkpoint(name))

    def restore(self, checkpoint_id: str) -> Restored:
        """Set the session's state back to a checkpoint that this session has saved.

        Each key that it changes has to pass policy, as if an action wrote it; else nothing changes,
        and the result says why.
        """
        return do(self._usable(), _requests.restore(checkpoint_id))
