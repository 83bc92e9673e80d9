"""The asynchronous twins of the client's methods: the same requests, made by tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from toolgate_client import _requests
from toolgate_client._errors import action_error

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, TypeVar

    from toolgate_client._analysis import (
        Equivalence,
        Optimized,
        Ranked,
        Restored,
        Verification,
    )
    from toolgate_client._bodies import Body
    from toolgate_client._client import GateClient
    from toolgate_client._documents import Trust
    from toolgate_client._gate import Gate
    from toolgate_client._models import Event, Hold, Outcome, ProposalResult
    from toolgate_client._requests import Asked

    T = TypeVar("T")


class AsyncMethods:
    """The methods of :class:`GateClient` that are awaited, each the twin of one without the a."""

    def _usable(self) -> Gate:
        raise NotImplementedError

    def start(self) -> GateClient:
        """Start the gate."""
        raise NotImplementedError

    def close(self) -> None:
        """Stop the gate."""
        raise NotImplementedError

    # --- life

    async def astart(self) -> GateClient:
        """As :meth:`start`, in a thread of its own; returns this client."""
        from toolgate_client._port import in_thread

        return await in_thread(self.start)

    async def aclose(self) -> None:
        """As :meth:`close`, in a thread of its own: meanwhile the tasks of this loop go on.

        When this task is cancelled, the gate is stopped all the same.
        """
        from toolgate_client._port import in_thread

        await in_thread(self.close)

    async def __aenter__(self) -> GateClient:
        return await self.astart()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.aclose()

    # --- tools and calls

    async def aregister_tool(
        self,
        name: str,
        body: Body,
        *,
        description: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        returns: Mapping[str, Any] | None = None,
        idempotent: bool = False,
        cache_ttl: float | None = None,
        rate_limit: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """As :meth:`register_tool`."""
        gate = self._usable()
        contract = await _do(
            gate,
            _requests.register_tool(
                name, body, description, parameters, returns, idempotent, cache_ttl, rate_limit
            ),
        )
        gate.bodies[name] = body
        return contract

    async def agovern(
        self,
        tool: str,
        args: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        body: Body | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Outcome:
        """Propose a call to a tool; if it is allowed, its body runs here and now.

        As :meth:`govern`, but for where the body runs. One that is a coroutine function is awaited
        in this very task, on its loop and in its context. A synchronous one runs in a worker
        thread, with a copy of the context; if it returns a coroutine, this task awaits that.

        When this task is cancelled, the call is: an asynchronous body gets the ``CancelledError``,
        and its end is recorded before it is raised here; a synchronous one ends by itself. When the
        gate gives up on the call (its timeout), it has an asynchronous body cancelled, and this
        returns the outcome.
        """
        gate = self._usable()
        return await _do(
            gate, _requests.govern(gate, tool, args, idempotency_key, timeout, body, metadata)
        )

    async def acall(
        self,
        tool: str,
        args: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,
        body: Body | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Any:
        """As :meth:`call`: :meth:`agovern`, but return the output, or raise why there is none."""
        outcome = await self.agovern(
            tool,
            args,
            idempotency_key=idempotency_key,
            timeout=timeout,
            body=body,
            metadata=metadata,
        )
        if outcome.succeeded:
            return outcome.output
        raise action_error(tool, outcome) from outcome.exception

    async def apropose(
        self,
        proposal: Mapping[str, Any],
        *,
        idempotency_key: str | None = None,
        max_workers: int | None = None,
    ) -> ProposalResult:
        """Propose a plan; what is allowed of it runs here and now, with the registered bodies.

        As :meth:`propose`, but each body runs in a task of its own (a synchronous one in a worker
        thread), with a copy of this task's context; at most ``max_workers`` run at once.

        When this task is cancelled, the proposal is, and the asynchronous bodies that run; this
        returns when these have ended. Synchronous ones end by themselves.
        """
        gate = self._usable()
        return await _do(gate, _requests.propose(gate, proposal, idempotency_key, max_workers))

    async def aresume(
        self,
        uid: str,
        *,
        wait: float | None = 0.0,
        body: Body | None = None,
        max_workers: int | None = None,
    ) -> Outcome:
        """As :meth:`resume`. Cancelling this task while it waits withdraws the action.

        The body of a single action runs as in :meth:`agovern`, those of a proposal as in
        :meth:`apropose`. Any number of tasks may wait: they need no threads.
        """
        gate = self._usable()
        return await _do(gate, _requests.resume(gate, uid, wait, body, max_workers))

    async def awithdraw(self, uid: str) -> Outcome:
        """As :meth:`withdraw`."""
        gate = self._usable()
        return await _do(gate, _requests.withdraw(gate, uid))

    async def aobserve(
        self,
        text: str,
        *,
        source: str | None = None,
        trust: Trust = "untrusted",
    ) -> list[str]:
        """As :meth:`observe`."""
        gate = self._usable()
        return await _do(gate, _requests.observe(gate, text, source, trust))

    async def aholds(self, status: str | None = None) -> list[Hold]:
        """As :meth:`holds`."""
        gate = self._usable()
        found, after = await _do(gate, _requests.holds(status, None))
        while after is not None:
            more, after = await _do(gate, _requests.holds(status, after))
            found += more
        return found

    async def aevents(
        self, *, after: int = 0, limit: int | None = None, uid: str | None = None
    ) -> list[Event]:
        """As :meth:`events`."""
        gate = self._usable()
        found: list[Event] = []
        place: int | None = after
        while place is not None and (limit is None or len(found) < limit):
            left = None if limit is None else limit - len(found)
            more, place = await _do(gate, _requests.events(place, left, uid))
            found += more
        return found

    async def aping(self) -> None:
        """As :meth:`ping`."""
        await _do(self._usable(), _requests.ping())

    # --- plans that are only looked at

    async def averify(
        self,
        proposal: Mapping[str, Any],
        *,
        state: Mapping[str, Any] | None = None,
        max_actions: int | None = None,
    ) -> Verification:
        """As :meth:`verify`."""
        return await _do(self._usable(), _requests.verify(proposal, state, max_actions))

    async def asimulate(
        self, proposal: Mapping[str, Any], *, state: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """As :meth:`simulate`."""
        return await _do(self._usable(), _requests.simulate(proposal, state))

    async def aequivalent(
        self,
        a: Mapping[str, Any],
        b: Mapping[str, Any],
        *,
        states: Iterable[Mapping[str, Any]] | None = None,
    ) -> Equivalence:
        """As :meth:`equivalent`."""
        return await _do(self._usable(), _requests.equivalent(a, b, states))

    async def aoptimize(
        self, proposal: Mapping[str, Any], *, state: Mapping[str, Any] | None = None
    ) -> Optimized:
        """As :meth:`optimize`."""
        return await _do(self._usable(), _requests.optimize(proposal, state))

    async def arank(
        self,
        candidates: Iterable[Mapping[str, Any]],
        *,
        target: Mapping[str, Any] | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> list[Ranked]:
        """As :meth:`rank`."""
        return await _do(self._usable(), _requests.rank(candidates, target, state))

    # --- state

    async def astate(self, keys: Iterable[str] | None = None) -> dict[str, Any]:
        """As :meth:`state`."""
        return await _do(self._usable(), _requests.state(keys))

    async def acheckpoint(self, name: str) -> str:
        """As :meth:`checkpoint`."""
        return await _do(self._usable(), _requests.checkpoint(name))

    async def arestore(self, checkpoint_id: str) -> Restored:
        """As :meth:`restore`."""
        return await _do(self._usable(), _requests.restore(checkpoint_id))


async def _do(gate: Gate, asked: Asked[T]) -> T:
    # Imported with the first use: who has no tasks needs no asyncio.
    from toolgate_client._tasks import do

    return await do(gate, asked)
