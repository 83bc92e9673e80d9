"""What a client does with plans: run them, look at them, and the session's state they share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from toolgate_client._crew import Crew
from toolgate_client._errors import ProtocolError
from toolgate_client._params import add, milliseconds

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeVar

    from toolgate_client._analysis import (
        Equivalence,
        Optimized,
        Ranked,
        Restored,
        Verification,
    )
    from toolgate_client._bodies import Body
    from toolgate_client._calls import Gate
    from toolgate_client._models import Outcome, ProposalResult

    T = TypeVar("T")


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
        from toolgate_client._models import proposal_from_wire

        gate = self._usable()
        params: dict[str, Any] = {"proposal": _plan(proposal)}
        add(params, idempotency_key=idempotency_key, parent=gate.parent())
        actions = _actions(proposal)
        for tool in _tools(actions):
            gate.check_body(tool, None)
        what = f"the proposal {proposal['id']!r}" if "id" in proposal else "the proposal"
        # More threads than actions would find nothing to do.
        size = min(_size(gate, max_workers), max(1, len(actions)))
        call = gate.make("propose", params, lambda: Crew(gate, what, size))
        return gate.finish(call, proposal_from_wire, "result of a proposal")

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
        Interrupting the wait withdraws the action.

        ``uid`` may also be that of a proposal, or of an action in one: then whatever may run now of
        that proposal runs on, its bodies as in :meth:`propose`, and ``Outcome.proposal`` is how it
        stands then.
        """
        gate = self._usable()
        params = {"uid": uid, "wait_ms": milliseconds(wait, "wait")}
        size = _size(gate, max_workers)
        return gate.act(
            "resume", params, lambda: Crew(gate, f"the resume of {uid}", size, uid=uid, body=body)
        )

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
        from toolgate_client._analysis import verification_from_wire

        params: dict[str, Any] = {"proposal": _plan(proposal)}
        add(params, state=_state(state), max_actions=max_actions)
        return self._look("verify", params, verification_from_wire)

    def simulate(
        self, proposal: Mapping[str, Any], *, state: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the state that a proposal would leave, by its declared effects; nothing runs.

        ``state`` is where it starts: the session's unless given.
        """
        from toolgate_client._analysis import state_from_wire

        params: dict[str, Any] = {"proposal": _plan(proposal)}
        add(params, state=_state(state))
        return self._look("simulate", params, state_from_wire)

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
        from toolgate_client._analysis import equivalence_from_wire

        params: dict[str, Any] = {"a": _plan(a), "b": _plan(b)}
        add(params, states=None if states is None else [dict(state) for state in states])
        return self._look("equivalent", params, equivalence_from_wire)

    def optimize(
        self, proposal: Mapping[str, Any], *, state: Mapping[str, Any] | None = None
    ) -> Optimized:
        """Return the same actions with fewer waits for each other; what happens is the same.

        ``state`` is where it starts: the session's unless given.
        """
        from toolgate_client._analysis import optimized_from_wire

        params: dict[str, Any] = {"proposal": _plan(proposal)}
        add(params, state=_state(state))
        return self._look("optimize", params, optimized_from_wire)

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
        from toolgate_client._analysis import ranking_from_wire

        params: dict[str, Any] = {"candidates": [_plan(candidate) for candidate in candidates]}
        add(params, target=_state(target), state=_state(state))
        return self._look("rank", params, ranking_from_wire)

    # --- state

    def state(self, keys: Iterable[str] | None = None) -> dict[str, Any]:
        """Return the session's state, or what of ``keys`` it has; writing it takes an action."""
        if isinstance(keys, str):
            raise TypeError(f"keys are several texts, not one: {keys!r}")
        params: dict[str, Any] = {}
        add(params, keys=None if keys is None else list(keys))
        return self._look("state", params, dict)

    def checkpoint(self, name: str) -> str:
        """Save the session's state under a name; returns the id to :meth:`restore` it by."""
        return self._look("checkpoint", {"name": name}, _checkpoint_id)

    def restore(self, checkpoint_id: str) -> Restored:
        """Set the session's state back to a checkpoint that this session has saved.

        Each key that it changes has to pass policy, as if an action wrote it; else nothing changes,
        and the result says why.
        """
        from toolgate_client._analysis import restored_from_wire

        return self._look("restore", {"checkpoint_id": checkpoint_id}, restored_from_wire)

    def _look(self, method: str, params: dict[str, Any], read: Callable[[Any], T]) -> T:
        result = self._usable().ask(method, params, f"the answer to {method}")
        try:
            return read(result)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ProtocolError(f"the gate's answer to {method} is none: {error!r}") from error


def _size(gate: Gate, max_workers: int | None) -> int:
    if max_workers is None:
        return gate.concurrency
    if max_workers < 1:
        raise ValueError(f"max_workers is a number of threads, from 1: {max_workers!r}")
    return max_workers


def _plan(proposal: Mapping[str, Any]) -> dict[str, Any]:
    if not isinstance(proposal, Mapping):
        raise TypeError(f"a proposal is a mapping: {proposal!r}")
    return dict(proposal)


def _state(state: Mapping[str, Any] | None) -> dict[str, Any] | None:
    return None if state is None else dict(state)


def _checkpoint_id(result: Mapping[str, Any]) -> str:
    return str(result["checkpoint_id"])


def _actions(proposal: Mapping[str, Any]) -> Sequence[Any]:
    # What is no list of actions the gate refuses, in better words than these.
    actions = proposal.get("actions")
    return actions if isinstance(actions, (list, tuple)) else ()


def _tools(actions: Sequence[Any]) -> Iterator[str]:
    """The tools that a proposal may run, as far as it has a proposal's form."""
    for action in actions:
        if isinstance(action, Mapping):
            for call in (action, action.get("compensation")):
                if isinstance(call, Mapping) and isinstance(call.get("tool"), str):
                    yield call["tool"]
