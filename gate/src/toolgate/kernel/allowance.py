"""What an admitted call may use up: limits that are counted in the store, with the decision.

In this order:

1. a session that has this very call's result already is given it again: the call is idempotent
   (the plan, the client or the operator says so), or the tool's results are cached and this one is
   fresh; state actions never repeat a result, and neither does what compensates: what it undoes
   has happened again;
2. the budgets of the proposal and of the session have room (``budget_exceeded``);
3. the tool's rate limit has a token, or the call waits for one (``rate_limited``).

All of it happens in the transaction that claims the call, so gates that share a store share the
counts, and a restart forgets none.
"""

from __future__ import annotations

from dataclasses import dataclass

from toolgate import jsonvalue
from toolgate.errors import JournalTampered
from toolgate.ir import ActionStatus, CostBudget, OutcomeError
from toolgate.journal.events import EventKind
from toolgate.journal.journal import Transaction
from toolgate.journal.names import name_of
from toolgate.jsonvalue import JSONValue
from toolgate.kernel import limits
from toolgate.kernel.limits import Spent
from toolgate.kernel.places import compensates, proposal_uid
from toolgate.kernel.records import Call, recall
from toolgate.kernel.tools import RegisteredTool
from toolgate.policy.contracts import cache_ttl_for, rate_limit_for


@dataclass(frozen=True, slots=True)
class Repeat:
    """A recorded result that answers the call: of the action ``uid``.

    ``emits`` are the labels that the session gets with it.
    """

    uid: str
    output: JSONValue
    emits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Exhausted:
    """A budget is used up: the call does not start, and nothing else of its proposal does."""

    error: OutcomeError


@dataclass(frozen=True, slots=True)
class NoToken:
    """The rate limit has no token for ``wait`` seconds; ``error`` is for when nobody waits."""

    wait: float
    error: OutcomeError


class Usage:
    """What was spent by one proposal of the session's budget and of its own, while it runs."""

    def __init__(self, spent: Spent) -> None:
        """``spent`` is what the proposal has spent so far."""
        self.spent = spent


class Allowance:
    """The limits of one project and of one deployment's config."""

    def __init__(self, project: str, proposal: CostBudget, session: CostBudget) -> None:
        """``proposal`` and ``session`` are the budgets; one without limits is not counted."""
        self._project = project
        self._proposal = proposal
        self._session = session
        self._counts_session = any(most is not None for _, most in session)

    def repeat(
        self, tx: Transaction, session: str, call: Call, tool: RegisteredTool | None
    ) -> Repeat | None:
        """Return the recorded result that answers the call, if there is one."""
        if tool is None or _compensates(call):
            return None
        ttl = cache_ttl_for(tool.contract, tool.declared)
        idempotent = _idempotent(call, tool)
        if not idempotent and ttl is None:
            return None
        known = tx.result(session, call.content)
        if known is None or not (idempotent or tx.now - known.at <= (ttl or 0.0) * 1e6):
            return None
        uid = proposal_uid(known.uid)
        proposal = None if uid is None else tx.proposal(uid)
        stands = 0 if proposal is None else proposal.last_seq
        if uid is not None and tx.last_event(uid, EventKind.STATE_ROLLED_BACK, stands):
            raise JournalTampered(
                f"session {session} remembers action {known.uid}, whose proposal was rolled back: "
                "an old row was put back; nothing was done on its word"
            )
        record = tx.action(known.uid)
        if record is None or record.status != ActionStatus.SUCCEEDED:
            return None
        return Repeat(known.uid, recall(tx, record).output, tool.contract.emits)

    def remembers(self, call: Call, tool: RegisteredTool | None) -> bool:
        """Tell whether a success of the call is to be remembered."""
        if tool is None or _compensates(call):
            return False
        return _idempotent(call, tool) or cache_ttl_for(tool.contract, tool.declared) is not None

    def refusal(
        self,
        tx: Transaction,
        session: str,
        call: Call,
        tool: RegisteredTool | None,
        usage: Usage | None,
    ) -> Exhausted | NoToken | None:
        """Use up what the call takes, or say why it may not start; then nothing is used up."""
        calls_tool = call.calls_tool
        if usage is not None:
            error = limits.exceeded(self._proposal, usage.spent, "proposal", tool_call=calls_tool)
            if error is not None:
                return Exhausted(error)
        if self._counts_session:
            spent = self._spent(tx, session)
            error = limits.exceeded(self._session, spent, "session", tool_call=calls_tool)
            if error is not None:
                return Exhausted(error)
        if tool is not None and (refusal := self._take_token(tx, session, tool)) is not None:
            return refusal
        if self._counts_session:
            self._count(tx, session, tool_calls=int(calls_tool), actions=1)
        if usage is not None:
            usage.spent = usage.spent.add(tool_calls=int(calls_tool), actions=1)
        return None

    def attempted(
        self, tx: Transaction, session: str, tool: RegisteredTool, usage: Usage | None
    ) -> Exhausted | NoToken | None:
        """Use up what a further attempt takes, or say why it may not start."""
        if usage is not None:
            error = limits.exceeded(_further(self._proposal), usage.spent, "proposal")
            if error is not None:
                return Exhausted(error)
        if self._counts_session:
            error = limits.exceeded(_further(self._session), self._spent(tx, session), "session")
            if error is not None:
                return Exhausted(error)
        if (refusal := self._take_token(tx, session, tool)) is not None:
            return refusal
        if self._counts_session:
            self._count(tx, session, tool_calls=1)
        if usage is not None:
            usage.spent = usage.spent.add(tool_calls=1)
        return None

    def took(self, tx: Transaction, session: str, duration_ms: float, usage: Usage | None) -> None:
        """Count how long a body took (milliseconds)."""
        if self._counts_session:
            self._count(tx, session, duration_ms=duration_ms)
        if usage is not None:
            usage.spent = usage.spent.add(duration_ms=duration_ms)

    def _take_token(self, tx: Transaction, session: str, tool: RegisteredTool) -> NoToken | None:
        limit = rate_limit_for(tool.contract, tool.declared)
        if limit is None:
            return None
        name = name_of("rate", self._project, tool.declared.name)
        known = tx.usage(name)
        stored = None if known is None else jsonvalue.parse(known.data)
        taken = limits.take(limit, stored, tx.now)
        if taken.data != stored:
            tx.count(name, taken.data, taken.data, session)
        if taken.taken:
            return None
        return NoToken(taken.wait, limits.rate_limited(tool.declared.name, limit, taken.wait))

    def _spent(self, tx: Transaction, session: str) -> Spent:
        known = tx.usage(name_of("session", session))
        return Spent.from_json(None if known is None else jsonvalue.parse(known.data))

    def _count(
        self,
        tx: Transaction,
        session: str,
        *,
        tool_calls: int = 0,
        actions: int = 0,
        duration_ms: float = 0.0,
    ) -> None:
        spent = self._spent(tx, session).add(
            tool_calls=tool_calls, actions=actions, duration_ms=duration_ms
        )
        used = spent.to_json()
        tx.count(name_of("session", session), used, used, session)


def _compensates(call: Call) -> bool:
    return call.uid is not None and compensates(call.uid)


def _idempotent(call: Call, tool: RegisteredTool) -> bool:
    return call.action.idempotent or tool.declared.idempotent or tool.contract.idempotent


def _further(budget: CostBudget) -> CostBudget:
    """Return what of a budget a further attempt of an action needs room in."""
    return budget.model_copy(update={"max_actions": None})
