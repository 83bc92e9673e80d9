"""One session of one gate put together: policy, journal, tools, and the kernel over them.

It knows no wire: :mod:`toolgate.gate` serves it to a client, :mod:`toolgate.embedding` to a program
that needs no sidecar.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Literal

from toolgate import __version__, jsonvalue
from toolgate.config import GateConfig, MemoryJournal
from toolgate.deployment import pinned_keys
from toolgate.errors import JournalTampered
from toolgate.ir import Action, ActionProposal, CostTarget, Outcome, ProposalResult, ToolSchema
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Journal, Transaction
from toolgate.journal.opening import exposures, open_journal, unanchored
from toolgate.journal.records import ActionRecord, ProposalRecord, SessionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel import checkpoints, past
from toolgate.kernel.allowance import Allowance
from toolgate.kernel.capabilities import Capabilities
from toolgate.kernel.engine import Engine, RequestId, ToolRunner
from toolgate.kernel.judge import Judge
from toolgate.kernel.past import Content
from toolgate.kernel.places import proposal_uid
from toolgate.kernel.plan_steps import PlanSteps
from toolgate.kernel.plans import Plans
from toolgate.kernel.records import Call, content_digest, redactor_of
from toolgate.kernel.reload import Level, Reloader, loaded
from toolgate.kernel.session import open_session
from toolgate.kernel.step import Settings
from toolgate.kernel.steps import Steps
from toolgate.kernel.telling import Page, page
from toolgate.kernel.tools import RegisteredTool, ToolRegistry
from toolgate.policy.contracts import contract_for
from toolgate.policy.loading import compile_policy
from toolgate.policy.verdict import Policy
from toolgate.policy.watching import DocumentWatch

if TYPE_CHECKING:
    from toolgate.analysis import Equivalence, Optimized, Ranked, Verification

_log = logging.getLogger("toolgate")

MEMORY_WARNING = "the journal is in memory: it ends with this gate, and so do its holds"


class Runtime:
    """The kernel of one session. Its coroutines may run concurrently, on one event loop."""

    def __init__(
        self,
        config: GateConfig,
        runner: ToolRunner,
        tell: Callable[[Level, str], None] | None = None,
    ) -> None:
        """Read the policy, open the journal and the session; ``runner`` runs tools' bodies.

        ``tell`` is how people are told of a policy that is reloaded later; by default in the log.

        Raises :class:`~toolgate.errors.PolicyError`, :class:`~toolgate.errors.ConfigError` or
        :class:`~toolgate.errors.JournalError`.
        """
        self.config = config
        file = config.policy.file
        watch = None if file is None else DocumentWatch(file)
        policy = compile_policy(config)
        settings = Settings(
            project=config.project,
            agent=config.agent.id,
            mode=config.mode,
            join_repeats=config.approvals.repeat == "join",
            remember_denial=config.approvals.remember_denial,
            max_concurrency=config.limits.max_concurrency,
            max_pending=config.approvals.max_pending,
            approvers=pinned_keys(config),
            allow_unsigned=config.approvals.allow_unsigned,
        )
        self._journal: Journal = open_journal(config, partial(tell or _tell, "error"))
        self.tools = ToolRegistry(
            lambda name: contract_for(name, config.tools.get(name)), config.tools
        )
        self._judge = Judge(
            policy,
            Capabilities(config.capabilities),
            self.tools,
            redactor_of(config, self._journal.reader, self.tools.knows),
            config.agent.id,
            config.agent.framework,
            settings.approvers,
        )
        allowance = Allowance(config.project, config.budget.proposal, config.budget.session)
        run, alive = self._journal.run, self._journal.liveness.alive
        steps = Steps(self._judge, allowance, settings, run, alive)
        try:
            self.session: SessionRecord = self._begin()
            self._journal.write_now(steps.doubt_the_dead)
        except BaseException:
            self._journal.close()
            raise
        self.engine = Engine(self._journal, steps, settings, self.session, runner)
        plan_steps = PlanSteps(steps, settings, run)
        self.plans = Plans(self._journal, self.engine, plan_steps, self.tools, self.session)
        self.reloader = Reloader(
            config, watch, self._judge, self._journal, self.session.session, tell or _tell
        )

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return self._judge.policy

    @property
    def warnings(self) -> list[str]:
        """What the operator should know of this deployment."""
        warnings = list(self.policy.warnings)
        if isinstance(self.config.journal, MemoryJournal):
            warnings.append(MEMORY_WARNING)
        else:
            warnings += exposures(self.config.journal.path)
            if (told := unanchored(self.config)) is not None:
                warnings.append(told)
        return warnings

    def watch(self) -> None:
        """Watch what changes without a call: the policy document, and the deadlines of holds."""
        self.reloader.watch()
        self.engine.expiry.start()

    async def register_tool(self, declared: ToolSchema) -> RegisteredTool:
        """Register a tool; the same again changes nothing.

        Raises :class:`~toolgate.kernel.tools.ToolConflict` and
        :class:`~toolgate.errors.SchemaError`.
        """
        tool, new = self.tools.register(declared)
        if new:
            data: dict[str, JSONValue] = {
                "name": declared.name,
                "contract": tool.contract.public(),
                "declared": jsonvalue.digest(declared.model_dump()),
            }
            await self._journal.transact(
                lambda tx: tx.append(EventKind.TOOL_REGISTERED, data, session=self.session.session)
            )
        return tool

    async def govern(
        self,
        tool: str,
        args: dict[str, JSONValue],
        request: RequestId,
        cancelled: asyncio.Future[None],
        *,
        idempotency_key: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - the body's, which the journal records
        parent: str | None = None,
        metadata: dict[str, JSONValue] | None = None,
    ) -> Outcome:
        """Govern one call of a tool: see :meth:`Engine.govern`. ``timeout`` is in seconds."""
        self._journal.check_anchored()
        args_json = jsonvalue.canonical(args)
        redaction = self._judge.redactor.unchecked(tool, args)
        keyed = None if redaction is None else redaction.keyed
        call = Call(
            tool=tool,
            args=args,
            args_json=args_json,
            content=content_digest(tool, args_json, keyed=keyed),
            idempotency_key=idempotency_key,
            timeout=timeout,
            parent=parent,
            metadata=metadata,
            redaction=redaction,
        )
        outcome = await self.engine.govern(call, request, cancelled)
        if idempotency_key is not None:
            await self._take_over(self._journal.reader.action(outcome.uid))
        return outcome

    async def propose(
        self,
        proposal: ActionProposal,
        content: str,
        request: RequestId,
        cancelled: asyncio.Future[None],
        *,
        idempotency_key: str | None = None,
        parent: str | None = None,
    ) -> ProposalResult:
        """Run a proposal: see :meth:`Plans.propose`."""
        self._journal.check_anchored()
        result = await self.plans.propose(
            proposal, content, request, cancelled, idempotency_key, parent
        )
        if idempotency_key is not None:
            await self._take_over(self._journal.reader.proposal(result.uid))
        return result

    async def resume(
        self, uid: str, request: RequestId, wait: float | None, cancelled: asyncio.Future[None]
    ) -> Outcome:
        """Bring an action or a proposal on: see :meth:`Engine.resume`, :meth:`Plans.resume`."""
        self._journal.check_anchored()
        reader = self._journal.reader
        if self.plans.belongs(uid) or reader.proposal(uid) is not None:
            outcome = await self.plans.resume(uid, request, wait, cancelled)
            await self._take_over(reader.proposal(proposal_uid(uid) or uid))
        else:
            outcome = await self.engine.resume(uid, request, wait, cancelled)
            await self._take_over(reader.action(uid))
        return outcome

    async def observe(self, document: Content) -> list[str]:
        """Journal content that came into the session, and return the labels it has then."""
        session = self.session.session

        def observe(tx: Transaction) -> list[str]:
            past.observe(tx, session, document)
            return past.labels_of(tx, session)

        return await self._journal.transact(observe)

    async def _take_over(self, told: ActionRecord | ProposalRecord | None) -> None:
        """Give this session the labels of another one's action or proposal, before it is told."""
        name, ours = self.session.session, (self.config.project, self.config.agent.id)
        if told is None or told.session == name or (told.project, told.agent) != ours:
            return
        await self._journal.transact(lambda tx: past.take_over(tx, name, told.uid))

    def state(self, keys: Iterable[str] | None = None) -> dict[str, JSONValue]:
        """Return the session's state, all of it or these keys; a missing key is left out.

        So is one that the agent could not read by a ``state_read`` (:meth:`Judge.readable`).
        """
        state = self._judge.readable(self._journal.reader, self.session, self._journal.now())
        if keys is None:
            return state
        return {key: state[key] for key in dict.fromkeys(keys) if key in state}

    def events(self, after: int | None, limit: int, about: str | None = None) -> Page:
        """Return the next of the session's events: see :func:`toolgate.kernel.telling.page`.

        ``after`` of ``None`` is the log's end: of what is there nothing is returned.
        """
        reader, now = self._journal.reader, self._journal.now()
        if after is None:
            return Page([], reader.store.last_seq(), more=False)
        return page(reader, self._judge, self.session, now, after=after, limit=limit, about=about)

    async def checkpoint(self, name: str) -> str:
        """Keep the session's state and return the checkpoint's id."""
        return await self._journal.transact(lambda tx: checkpoints.save(tx, self.session, name))

    async def restore(self, checkpoint: str) -> Outcome:
        """Return the session's state to a checkpoint: see :mod:`toolgate.kernel.checkpoints`."""
        self._journal.check_anchored()
        return await self._journal.transact(
            lambda tx: checkpoints.restore(tx, self._judge, self.session, checkpoint)
        )

    def verify(
        self,
        proposal: ActionProposal,
        state: Mapping[str, JSONValue] | None = None,
        max_actions: int | None = None,
        sent: Mapping[str, JSONValue] | None = None,
    ) -> Verification:
        """Find what is wrong with a proposal before it runs: :mod:`toolgate.analysis.verify`.

        ``state`` is the session's unless given; ``max_actions`` may only lower the capability.
        ``sent`` is the JSON that the proposal was read from.
        """
        from toolgate import analysis

        return analysis.verify(
            proposal,
            self.tools,
            self._state(state),
            judge=self._foresee,
            max_actions=self._max_actions(max_actions),
            sent=sent,
        )

    def simulate(
        self, proposal: ActionProposal, state: Mapping[str, JSONValue] | None = None
    ) -> dict[str, JSONValue]:
        """Return the state a proposal would leave: :mod:`toolgate.analysis.simulate`."""
        from toolgate import analysis

        return analysis.simulate(proposal, self._state(state)).state

    def equivalent(
        self,
        a: ActionProposal,
        b: ActionProposal,
        states: Iterable[Mapping[str, JSONValue]] | None = None,
    ) -> Equivalence:
        """Compare what two proposals leave: :mod:`toolgate.analysis.equivalent`."""
        from toolgate import analysis

        return analysis.equivalent(a, b) if states is None else analysis.equivalent(a, b, states)

    def optimize(
        self, proposal: ActionProposal, state: Mapping[str, JSONValue] | None = None
    ) -> Optimized:
        """Return a proposal with fewer waits: :mod:`toolgate.analysis.optimize`."""
        from toolgate import analysis

        return analysis.optimize(proposal, self._state(state))

    def rank(
        self,
        candidates: Sequence[ActionProposal],
        target: CostTarget | None = None,
        state: Mapping[str, JSONValue] | None = None,
        sent: Sequence[Mapping[str, JSONValue]] | None = None,
    ) -> list[Ranked]:
        """Order proposals, the best first: :mod:`toolgate.analysis.rank`.

        ``sent`` is the JSON that each of them was read from.
        """
        from toolgate import analysis

        return analysis.rank(
            candidates,
            target or CostTarget(),
            self.tools,
            self._state(state),
            judge=self._foresee,
            max_actions=self._max_actions(None),
            sent=sent,
        )

    def _state(self, state: Mapping[str, JSONValue] | None) -> Mapping[str, JSONValue]:
        return self.state() if state is None else state

    def _max_actions(self, asked: int | None) -> int | None:
        capability = self.config.capabilities.max_actions
        given = [most for most in (asked, capability) if most is not None]
        return min(given, default=None)

    def _foresee(
        self,
        action: Action,
        parameters: dict[str, JSONValue],
        state: Mapping[str, JSONValue],
    ) -> tuple[Literal["forbid", "deny", "hold"], str, tuple[str, ...]] | None:
        now = self._journal.now()
        return self._judge.foresee(
            self._journal.reader, action, parameters, state, self.session, now
        )

    def close(self, reason: str) -> None:
        """End the run, when nothing is under way any more (see :meth:`Engine.drain`)."""
        self.reloader.stop()
        self._journal.end(reason)

    async def journal_tampering(self, error: JournalTampered) -> None:
        """Journal that a stored row was not believed."""
        await self._journal.transact(
            lambda tx: tx.append(
                EventKind.JOURNAL_TAMPERED, {"what": str(error)}, session=self.session.session
            )
        )

    def _begin(self) -> SessionRecord:
        self._journal.start(__version__)
        config = self.config

        def begin(tx: Transaction) -> SessionRecord:
            session = open_session(
                tx, config.session, config.project, config.agent.id, config.state
            )
            tx.append(EventKind.POLICY_LOADED, loaded(self.policy), session=session.session)
            return session

        return self._journal.write_now(begin)


def _tell(level: Level, text: str) -> None:
    _log.log(logging.getLevelNamesMapping()[level.upper()], "%s", text)
