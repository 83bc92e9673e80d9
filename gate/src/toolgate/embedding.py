"""Toolgate inside a Python program: the kernel without a sidecar and without a wire.

What a gate does for a client over a pipe, :class:`Kernel` does for the program it lives in: the
same decisions, the same journal, the same holds. The program says how tools are executed; nothing
else of it is trusted with a decision.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeAlias, TypeVar

from toolgate import jsonvalue
from toolgate.analysis.equivalent import Equivalence
from toolgate.analysis.optimize import Optimized
from toolgate.analysis.rank import Ranked
from toolgate.analysis.verify import Verification
from toolgate.config import GateConfig, load_config, parse_config
from toolgate.errors import JSONError, ToolgateError
from toolgate.ir import ActionProposal, CostTarget, Outcome, ProposalResult, ToolSchema
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.engine import ToolRun
from toolgate.kernel.result import ToolError, ToolLost, ToolOutput, ToolReply
from toolgate.kernel.tools import RegisteredTool
from toolgate.runtime import Runtime

Executor: TypeAlias = Callable[[ToolRun], Awaitable[JSONValue]]
"""Runs one body and returns its output, which is JSON; what it raises is the body's failure."""

T = TypeVar("T")


class Kernel:
    """A session of the kernel, in this process and on this event loop.

    >>> async def execute(run: ToolRun) -> JSONValue:                    # doctest: +SKIP
    ...     return await my_tools[run.tool](**run.args)
    >>> async with Kernel("gate.yaml", execute) as kernel:               # doctest: +SKIP
    ...     await kernel.register_tool(ToolSchema(name="search"))
    ...     outcome = await kernel.govern("search", {"query": "gates"})

    ``config`` is a config file's path, its content as a mapping (whose relative paths start at the
    current folder), or a loaded :class:`~toolgate.config.GateConfig`. ``execute`` runs the bodies,
    each in a task of its own with the context variables of the call; the task is cancelled when the
    body's time is up or its caller has gone.

    A denial, a hold and a failure are outcomes, not exceptions. Every method may raise
    :class:`~toolgate.errors.JournalUnavailable` and :class:`~toolgate.errors.JournalTampered`.
    Cancelling the task that waits for a call cancels the call: what has not started does not start,
    and a hold that it waits for is withdrawn.
    """

    def __init__(
        self,
        config: str | PathLike[str] | Mapping[str, Any] | GateConfig,
        execute: Executor,
    ) -> None:
        if isinstance(config, GateConfig):
            self._config = config
        elif isinstance(config, Mapping):
            self._config = parse_config(config, Path.cwd())
        else:
            self._config = load_config(Path(config))
        self._runner = _Runner(execute)
        self._runtime: Runtime | None = None
        self._numbers = itertools.count(1)
        self._under_way: dict[int, asyncio.Future[Any]] = {}

    async def __aenter__(self) -> Self:
        """Open the journal and the session.

        Raises :class:`~toolgate.errors.ToolgateError` when the deployment cannot be used.
        """
        self._runtime = Runtime(self._config, self._runner)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let what is under way end (``limits.drain``), and close the run. Holds stay."""
        runtime = self._open()
        self._runtime = None
        await runtime.engine.drain(self._config.limits.drain)
        if self._under_way:
            await asyncio.wait(self._under_way.values())
        runtime.close("closed")

    @property
    def session(self) -> str:
        """The id of the session."""
        return self._open().session.session

    @property
    def warnings(self) -> list[str]:
        """What the operator should know of this deployment."""
        return self._open().warnings

    async def register_tool(self, tool: ToolSchema) -> RegisteredTool:
        """Make a tool known, with its contract; the same again changes nothing.

        Raises :class:`~toolgate.kernel.tools.ToolConflict` and
        :class:`~toolgate.errors.SchemaError`.
        """
        return await self._open().register_tool(tool)

    async def govern(
        self,
        tool: str,
        args: dict[str, JSONValue],
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the body's, which the journal records
        parent: str | None = None,
        metadata: dict[str, JSONValue] | None = None,
    ) -> Outcome:
        """Propose a call of a tool; if it is allowed, it is executed.

        ``timeout`` (seconds) may only shorten the contract's. ``parent`` is the uid of the action
        whose body makes this call. Raises :class:`~toolgate.errors.JSONError` when the arguments
        are not JSON, and :class:`~toolgate.kernel.steps.KeyConflict`.
        """
        runtime = self._open()
        return await self._cancellable(
            lambda request, cancelled: runtime.govern(
                tool,
                args,
                request,
                cancelled,
                idempotency_key=idempotency_key,
                timeout=timeout,
                parent=parent,
                metadata=metadata,
            )
        )

    async def propose(
        self,
        proposal: ActionProposal | Mapping[str, JSONValue],
        *,
        idempotency_key: str | None = None,
        parent: str | None = None,
    ) -> ProposalResult:
        """Run a proposal to its end, or until a hold suspends it.

        Raises :class:`pydantic.ValidationError` when it is none, and
        :class:`~toolgate.kernel.steps.KeyConflict`.
        """
        runtime = self._open()
        plan = _plan(proposal)
        content = jsonvalue.digest(
            plan.model_dump(mode="json") if isinstance(proposal, ActionProposal) else proposal
        )
        return await self._cancellable(
            lambda request, cancelled: runtime.propose(
                plan, content, request, cancelled, idempotency_key=idempotency_key, parent=parent
            )
        )

    async def resume(self, uid: str, *, wait: float | None = 0.0) -> Outcome:
        """Bring an action or a proposal on, waiting up to ``wait`` seconds for people.

        ``None`` waits as long as it takes. What has ended returns its recorded outcome.
        """
        runtime = self._open()
        return await self._cancellable(
            lambda request, cancelled: runtime.resume(uid, request, wait, cancelled)
        )

    async def withdraw(self, uid: str) -> Outcome:
        """Take a held action back: a later approval runs nothing."""
        return await self._open().engine.withdraw(uid)

    def holds(self, status: str | None = None) -> list[dict[str, JSONValue]]:
        """Return this agent's holds, as the wire tells them; rows that do not verify are out."""
        runtime = self._open()
        found: list[dict[str, JSONValue]] = []
        after: str | None = None
        while True:
            page, after, _ = runtime.engine.holds(status, _PAGE, after)
            found += page
            if after is None:
                return found

    def state(self, keys: Iterable[str] | None = None) -> dict[str, JSONValue]:
        """Return the session's state, all of it or these keys; a missing key is left out."""
        return self._open().state(keys)

    async def checkpoint(self, name: str) -> str:
        """Keep the session's state and return the checkpoint's id."""
        return await self._open().checkpoint(name)

    async def restore(self, checkpoint: str) -> Outcome:
        """Return the session's state to a checkpoint it has saved, if policy lets it."""
        return await self._open().restore(checkpoint)

    def verify(
        self,
        proposal: ActionProposal | Mapping[str, JSONValue],
        *,
        state: Mapping[str, JSONValue] | None = None,
        max_actions: int | None = None,
    ) -> Verification:
        """Find what is wrong with a proposal, and what policy would say, without running it."""
        return self._open().verify(_plan(proposal), state, max_actions)

    def simulate(
        self,
        proposal: ActionProposal | Mapping[str, JSONValue],
        *,
        state: Mapping[str, JSONValue] | None = None,
    ) -> dict[str, JSONValue]:
        """Return the state that a proposal would leave."""
        return self._open().simulate(_plan(proposal), state)

    def equivalent(
        self,
        a: ActionProposal | Mapping[str, JSONValue],
        b: ActionProposal | Mapping[str, JSONValue],
        *,
        states: Iterable[Mapping[str, JSONValue]] | None = None,
    ) -> Equivalence:
        """Compare what two proposals leave, from sample states."""
        return self._open().equivalent(_plan(a), _plan(b), states)

    def optimize(
        self,
        proposal: ActionProposal | Mapping[str, JSONValue],
        *,
        state: Mapping[str, JSONValue] | None = None,
    ) -> Optimized:
        """Return the proposal with fewer waits; what happens stays the same."""
        return self._open().optimize(_plan(proposal), state)

    def rank(
        self,
        candidates: Iterable[ActionProposal | Mapping[str, JSONValue]],
        *,
        target: CostTarget | None = None,
        state: Mapping[str, JSONValue] | None = None,
    ) -> list[Ranked]:
        """Order proposals, the best first."""
        return self._open().rank([_plan(item) for item in candidates], target, state)

    def _open(self) -> Runtime:
        if self._runtime is None:
            raise ToolgateError("this kernel is not open: use it in an `async with` block")
        return self._runtime

    async def _cancellable(
        self,
        start: Callable[[int, asyncio.Future[None]], Coroutine[Any, Any, T]],
    ) -> T:
        """Run a call so that cancelling its waiter cancels it, and the kernel sees to its end."""
        request = next(self._numbers)
        cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        work = asyncio.ensure_future(start(request, cancelled))
        self._under_way[request] = work
        work.add_done_callback(lambda _: self._under_way.pop(request, None))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            if not work.done():
                cancelled.set_result(None)
                self._runner.cancel_request(request)
                work.add_done_callback(_ignore)
            raise


class _Runner:
    """Executes bodies in tasks of this loop."""

    def __init__(self, execute: Executor) -> None:
        self._execute = execute
        self._tasks: dict[str, tuple[ToolRun, asyncio.Task[None]]] = {}

    def run(self, order: ToolRun, on_reply: Callable[[ToolReply], None]) -> None:
        task = asyncio.ensure_future(self._body(order, on_reply))
        self._tasks[order.uid] = (order, task)
        task.add_done_callback(lambda done: self._forget(order.uid, done))

    def cancel(self, uid: str, reason: str) -> None:
        _, task = self._tasks.get(uid, (None, None))
        if task is not None:
            task.cancel(reason)

    def cancel_request(self, request: int) -> None:
        for order, task in list(self._tasks.values()):
            if order.call == request:
                task.cancel("the caller has gone")

    def _forget(self, uid: str, done: asyncio.Task[None]) -> None:
        if self._tasks.get(uid, (None, None))[1] is done:
            del self._tasks[uid]

    async def _body(self, order: ToolRun, on_reply: Callable[[ToolReply], None]) -> None:
        reply: ToolReply = ToolLost("its task was ended")
        try:
            output = await self._execute(order)
            jsonvalue.canonical(output)
            reply = ToolOutput(output)
        except asyncio.CancelledError as error:
            reply = ToolError(f"cancelled: {error}" if str(error) else "cancelled", "Cancelled")
        except JSONError as error:
            reply = ToolError(f"{order.tool} returned what is not JSON: {error}", "TypeError")
        except Exception as error:  # noqa: BLE001 - whatever a body raises is its failure
            reply = ToolError(str(error), type(error).__name__)
        finally:
            on_reply(reply)


_PAGE = 500


def _plan(proposal: ActionProposal | Mapping[str, JSONValue]) -> ActionProposal:
    if isinstance(proposal, ActionProposal):
        return proposal
    return ActionProposal.model_validate(proposal)


def _ignore(work: asyncio.Future[Any]) -> None:
    """Take note of a failure that nobody waits for any more: it is in the journal."""
    if not work.cancelled():
        work.exception()
