"""The kernel's methods, as a program on one event loop calls them."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterable, Mapping
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeVar

from toolgate.analysis import Equivalence, Optimized, Ranked, Verification
from toolgate.config import GateConfig, load_config, parse_config
from toolgate.embedding.bodies import Bodies, Executor
from toolgate.embedding.calls import PATIENCE, Calls
from toolgate.embedding.given import (
    Proposal,
    State,
    checked,
    digest_of,
    milliseconds,
    own_document,
    own_json,
    plan_of,
    said,
)
from toolgate.errors import ToolgateError
from toolgate.ir import CostTarget, Outcome, ProposalResult, ToolSchema
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.attempts import CANCEL_GRACE
from toolgate.kernel.past import Document
from toolgate.policy.contracts import Contract
from toolgate.runtime import Runtime
from toolgate.wire.params import Checkpoint, Govern, Holds, Propose, Restore, Resume, Withdraw
from toolgate.wire.params import State as StateKeys

T = TypeVar("T")

LAST_WORDS: Final = 15.0
"""Seconds that closing waits at most for ends to be recorded, once their bodies have had theirs."""

_PAGE = 500


class TooManyCalls(ToolgateError):
    """``limits.max_in_flight`` calls are under way, or too many wait; nothing was proposed."""


class Kernel:
    """A session of the kernel, in this process and on this event loop.

    >>> async def execute(run: ToolRun) -> JSONValue:                    # doctest: +SKIP
    ...     return await my_tools[run.tool](**run.args)
    >>> async with Kernel("gate.yaml", execute) as kernel:               # doctest: +SKIP
    ...     await kernel.register_tool(ToolSchema(name="search"))
    ...     outcome = await kernel.govern("search", {"query": "gates"})

    A denial, a hold and a failure are outcomes, not exceptions. Every method may raise
    :class:`~toolgate.errors.JournalUnavailable` (:class:`~toolgate.kernel.recording.Unrecorded`:
    the body ran) and :class:`~toolgate.errors.JournalTampered`; one that is given something, also
    :class:`~toolgate.errors.JSONError` and :class:`~toolgate.embedding.given.InvalidInput`. What is
    given is copied.

    Cancelling the task that waits for a call cancels the call: what has not started does not start,
    a hold that it waits for is withdrawn, a proposal is aborted, and the task of a body under way
    is cancelled. The cancelled task waits for that, a second at most (:data:`PATIENCE`); the kernel
    sees to its end.
    """

    def __init__(
        self, config: str | PathLike[str] | Mapping[str, Any] | GateConfig, execute: Executor
    ) -> None:
        """Validate the config; nothing is opened yet.

        ``config`` is a config file's path, its content as a mapping (whose relative paths start at
        the current folder), or a loaded :class:`GateConfig`. ``execute`` runs the bodies, each in
        a task of its own with the context variables of the call; the task is cancelled when the
        body's time is up, when its caller has gone, and when the kernel is closed.

        Raises :class:`~toolgate.errors.ConfigError`.
        """
        if isinstance(config, GateConfig):
            self._config = config
        elif isinstance(config, Mapping):
            self._config = parse_config(config, Path.cwd())
        else:
            self._config = load_config(Path(config))
        self._bodies = Bodies(execute)
        self._runtime: Runtime | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._numbers = itertools.count(1)
        self._admitted = 0
        self._calls = Calls(self._bodies)

    # -- beginning and end -------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        """Open the journal and the session; a kernel can be opened once.

        Raises :class:`ToolgateError` when the deployment cannot be used.
        """
        if self._loop is not None:
            raise ToolgateError("a kernel is opened once: make another one")
        self._runtime = Runtime(self._config, self._bodies)
        self._loop = asyncio.get_running_loop()
        self._runtime.watch()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let what is under way end, for up to ``limits.drain``, and close the run. Holds stay.

        Bodies that are not done by then are cancelled, and at once when the exit is cancelled; one
        that goes on all the same is in doubt.
        """
        runtime, self._runtime = self._open(), None
        hurry: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        closing = asyncio.ensure_future(self._close(runtime, hurry))
        try:
            await asyncio.wait({closing})
        except asyncio.CancelledError:
            hurry.set_result(None)
            await asyncio.wait({closing})
            raise
        closing.result()

    async def _close(self, runtime: Runtime, hurry: asyncio.Future[None]) -> None:
        engine, drain = runtime.engine, self._config.limits.drain
        draining = asyncio.ensure_future(engine.drain(drain + CANCEL_GRACE))
        try:
            await self._calls.quiet(drain, hurry)
            self._bodies.cancel_all()
            await self._calls.quiet(CANCEL_GRACE)
            await engine.drain(0)
            self._bodies.close()
            await self._calls.quiet(LAST_WORDS)
            await engine.recorder.finish(PATIENCE)
        finally:
            self._bodies.close()
            draining.cancel()
            for task in (*self._calls.under_way, *engine.recorder.under_way):
                task.cancel()
            runtime.close("closed")

    @property
    def session(self) -> str:
        """The id of the session."""
        return self._open().session.session

    @property
    def warnings(self) -> list[str]:
        """What the operator should know of this deployment."""
        return self._open().warnings

    async def reload_policy(self) -> str:
        """Put the policy document in force as it is now, and return the digest of what is in force.

        A changed document is noticed without that, within seconds. Raises
        :class:`~toolgate.errors.PolicyError` when it cannot be used: the policy before stays in
        force. Rules that stand in the config are not read again.
        """
        runtime = self._open()
        return (await self._calls.do(runtime, runtime.reloader.reload())).digest

    # -- calls and proposals -----------------------------------------------------------------------

    async def register_tool(self, tool: ToolSchema | Mapping[str, JSONValue]) -> Contract:
        """Make a tool known, and return the operator's contract; the same again changes nothing.

        Raises :class:`~toolgate.kernel.tools.ToolConflict` and
        :class:`~toolgate.errors.SchemaError`.
        """
        runtime, declared = self._open(), checked(ToolSchema, own_json(tool), "tool")
        return (await self._calls.do(runtime, runtime.register_tool(declared))).contract

    async def govern(
        self,
        tool: str,
        args: Mapping[str, JSONValue],
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the body's, which the journal records
        parent: str | None = None,
        metadata: Mapping[str, JSONValue] | None = None,
    ) -> Outcome:
        """Propose a call of a tool; if it is allowed, it is executed.

        ``timeout`` (seconds) may only shorten the contract's. ``parent`` is the uid of the action
        whose body makes this call. Raises :class:`~toolgate.kernel.steps.KeyConflict`, and
        :class:`TooManyCalls`.
        """
        asked = checked(
            Govern,
            {
                "tool": tool,
                "args": own_json(args),
                "idempotency_key": idempotency_key,
                "timeout_ms": milliseconds(timeout, "timeout"),
                "parent": parent,
                "metadata": own_json(metadata),
            },
        )
        return await self._call(
            lambda runtime, request, cancelled: runtime.govern(
                asked.tool,
                asked.args,
                request,
                cancelled,
                idempotency_key=asked.idempotency_key,
                timeout=timeout,
                parent=asked.parent,
                metadata=asked.metadata,
            )
        )

    async def propose(
        self, proposal: Proposal, *, idempotency_key: str | None = None, parent: str | None = None
    ) -> ProposalResult:
        """Run a proposal to its end, or until a hold suspends it.

        Raises :class:`~toolgate.kernel.steps.KeyConflict`, and :class:`TooManyCalls`.
        """
        plan, content = plan_of(proposal), digest_of(proposal)
        named = {"idempotency_key": idempotency_key, "parent": parent}
        asked = checked(Propose, {"proposal": {}, **named})
        return await self._call(
            lambda runtime, request, cancelled: runtime.propose(
                plan,
                content,
                request,
                cancelled,
                idempotency_key=asked.idempotency_key,
                parent=asked.parent,
            )
        )

    async def resume(self, uid: str, *, wait: float | None = 0.0) -> Outcome:
        """Bring an action or a proposal on, waiting up to ``wait`` seconds for people.

        ``None`` waits as long as it takes. What has ended returns its recorded outcome. Cancelling
        a wait withdraws the hold, if this session opened it; a wait that ends by itself does not.
        Raises :class:`TooManyCalls`.
        """
        asked = checked(Resume, {"uid": uid, "wait_ms": milliseconds(wait, "wait")})
        return await self._call(
            lambda runtime, request, cancelled: runtime.resume(asked.uid, request, wait, cancelled)
        )

    async def withdraw(self, uid: str) -> Outcome:
        """Take a held action back: a later approval runs nothing."""
        runtime, asked = self._open(), checked(Withdraw, {"uid": uid})
        return await self._calls.do(runtime, runtime.engine.withdraw(asked.uid))

    async def observe(
        self,
        text: str,
        *,
        source: str | None = None,
        trust: Literal["untrusted", "trusted"] = "untrusted",
    ) -> list[str]:
        """Tell that content came into the session, and return the labels that the session has then.

        Untrusted content gives it the label ``untrusted``. The journal keeps the digest of the
        text, its length and ``source``, never the text.
        """
        runtime, document = self._open(), own_document(Document(text, source, trust))
        return await self._calls.do(runtime, runtime.observe(document))

    def holds(self, status: str | None = None) -> list[dict[str, JSONValue]]:
        """Return this agent's holds, oldest first, as the wire tells them.

        ``status`` is pending, released, denied, expired or withdrawn; ``None``: all. One that does
        not verify is left out, journaled, and logged as an error of the logger ``toolgate``.
        """
        runtime, wanted = self._open(), checked(Holds, {"status": status}).status
        found: list[dict[str, JSONValue]] = []
        after: str | None = None
        while True:
            with self._calls.watching(runtime):
                page, after, wrong = runtime.engine.holds(wanted, _PAGE, after)
            found += own_json(page)
            for error in wrong:
                self._calls.tell(runtime, error)
            if after is None:
                return found

    # -- the session's state -----------------------------------------------------------------------

    def state(self, keys: Iterable[str] | None = None) -> dict[str, JSONValue]:
        """Return the session's state, all of it or these keys; a missing key is left out."""
        runtime = self._open()
        asked = checked(StateKeys, {"keys": None if keys is None else list(keys)})
        with self._calls.watching(runtime):
            state: dict[str, JSONValue] = own_json(runtime.state(asked.keys))
        return state

    async def checkpoint(self, name: str) -> str:
        """Keep the session's state and return the checkpoint's id."""
        runtime, asked = self._open(), checked(Checkpoint, {"name": name})
        return await self._calls.do(runtime, runtime.checkpoint(asked.name))

    async def restore(self, checkpoint: str) -> Outcome:
        """Return the session's state to a checkpoint it has saved, if policy lets it."""
        runtime, asked = self._open(), checked(Restore, {"checkpoint_id": checkpoint})
        return await self._calls.do(runtime, runtime.restore(asked.checkpoint_id))

    # -- analysis ----------------------------------------------------------------------------------

    def verify(
        self, proposal: Proposal, *, state: State | None = None, max_actions: int | None = None
    ) -> Verification:
        """Find what is wrong with a proposal, and what policy would say, without running it.

        ``max_actions`` may only lower what the config allows.
        """
        runtime = self._open()
        with self._calls.watching(runtime):
            plan = plan_of(proposal)
            return runtime.verify(plan, own_json(state), max_actions, own_json(said(proposal)))

    def simulate(self, proposal: Proposal, *, state: State | None = None) -> dict[str, JSONValue]:
        """Return the state that a proposal would leave."""
        runtime = self._open()
        with self._calls.watching(runtime):
            return runtime.simulate(plan_of(proposal), own_json(state))

    def equivalent(
        self, a: Proposal, b: Proposal, *, states: Iterable[State] | None = None
    ) -> Equivalence:
        """Compare what two proposals leave, from sample states."""
        samples = None if states is None else [own_json(state) for state in states]
        return self._open().equivalent(plan_of(a), plan_of(b), samples)

    def optimize(self, proposal: Proposal, *, state: State | None = None) -> Optimized:
        """Return the proposal with fewer waits; what happens stays the same."""
        runtime = self._open()
        with self._calls.watching(runtime):
            return runtime.optimize(plan_of(proposal), own_json(state))

    def rank(
        self,
        candidates: Iterable[Proposal],
        *,
        target: CostTarget | None = None,
        state: State | None = None,
    ) -> list[Ranked]:
        """Order proposals, the best first."""
        runtime, given = self._open(), list(candidates)
        plans = [plan_of(candidate) for candidate in given]
        with self._calls.watching(runtime):
            sent = [own_json(said(candidate)) for candidate in given]
            return runtime.rank(plans, target, own_json(state), sent)

    # -- how calls are carried out -----------------------------------------------------------------

    def _open(self) -> Runtime:
        if self._runtime is None:
            raise ToolgateError(
                "this kernel is not open: use it in an `async with` block"
                if self._loop is None
                else "this kernel is closed, or being closed: nothing starts any more"
            )
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if here is not self._loop:
            raise ToolgateError("a kernel is used on the event loop that it was opened on")
        return self._runtime

    async def _call(
        self,
        start: Callable[[Runtime, int, asyncio.Future[None]], Coroutine[Any, Any, T]],
        *,
        waits: bool = False,
    ) -> T:
        """Carry out a call so that cancelling its waiter cancels it.

        ``waits`` says that it may be waiting for people.
        """
        runtime, request = self._open(), next(self._numbers)
        cancelled: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def on_cancel() -> None:
            # Leaving withdraws nothing, also when the body that waits is cancelled because of it.
            if self._runtime is not None or not waits:
                cancelled.set_result(None)
            self._bodies.cancel_call(request)

        async def admitted() -> T:
            limits = self._config.limits
            if runtime.engine.in_flight >= limits.max_in_flight:
                raise TooManyCalls(
                    f"{limits.max_in_flight} calls are in flight already (limits.max_in_flight); "
                    "wait for one to end"
                )
            if self._admitted >= limits.max_in_flight + limits.max_waiting:
                raise TooManyCalls(
                    f"{limits.max_waiting} calls wait already, besides those in flight "
                    "(limits.max_waiting); wait for one to end"
                )
            self._admitted += 1
            try:
                return await start(runtime, request, cancelled)
            finally:
                self._admitted -= 1

        return await self._calls.do(runtime, admitted(), on_cancel)
