"""Puts a call before its judges: checks that need no journal, then state and policy in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import cache
from typing import Literal, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolgate import clock
from toolgate.ir import Action, ActionType, OutcomeError
from toolgate.journal.journal import Reader, Transaction
from toolgate.journal.records import SessionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.admission import (
    Admission,
    admit,
    beyond_capabilities,
    check,
    held_write,
    unmet,
)
from toolgate.kernel.capabilities import Capabilities
from toolgate.kernel.past import Past
from toolgate.kernel.records import SINGLE, Call
from toolgate.kernel.redaction import Redactor
from toolgate.kernel.state import StateView
from toolgate.kernel.tools import RegisteredTool, ToolRegistry
from toolgate.policy.contracts import Contract, contract_for_state_action
from toolgate.policy.facts import CallFacts
from toolgate.policy.verdict import Policy, Verdict


class Prepared(NamedTuple):
    """A call with what needs no journal to be known: its tool, and what is wrong with it."""

    call: Call
    tool: RegisteredTool | None
    error: OutcomeError | None


class Judge:
    """Policy, capabilities and tools of one gate, for one agent."""

    def __init__(
        self,
        policy: Policy,
        capabilities: Capabilities,
        tools: ToolRegistry,
        redactor: Redactor,
        agent: str,
        framework: str | None,
        approvers: Mapping[str, Ed25519PublicKey] | None = None,
    ) -> None:
        """``agent`` and ``framework`` are what rules see as ``agent.id`` and its framework.

        ``approvers`` may take labels away from sessions.
        """
        self._approvers = approvers
        self.policy = policy
        """What is in force; another one may take its place between two transactions."""
        self.redactor = redactor
        """What the tools' contracts keep secret of their arguments."""
        self._capabilities = capabilities
        self._tools = tools
        self._agent = agent
        self._framework = framework

    def prepare(self, call: Call) -> Prepared:
        """Look up a call's tool and check its arguments, and all else that needs no journal.

        That is done outside of any transaction: a client's schema decides how long it takes.
        """
        tool = self._tools.get(call.tool) if call.calls_tool else None
        error = check(call, tool, self._capabilities)
        redaction = call.redaction
        if redaction is None:
            return Prepared(call, tool, error)
        if error is not None:
            return Prepared(call, tool, redaction.error(error))
        if redaction.unchecked:
            call = call._replace(redaction=self.redactor.checked(call.tool, call.args))
        return Prepared(call, tool, None)

    def can_run(self, call: Call) -> bool:
        """Tell whether this client has registered what the call needs."""
        return not call.calls_tool or self._tools.get(call.tool) is not None

    def has_tool(self, tool: str) -> bool:
        """Tell whether this client has registered a tool."""
        return self._tools.get(tool) is not None

    def contract(self, tool: str) -> Contract:
        """Return a tool's contract, whether this client has registered it or not."""
        return self._tools.contract(tool)

    def unregistered(self, tools: Iterable[str]) -> list[str]:
        """Return those of ``tools`` that this client has not registered, sorted."""
        return sorted({tool for tool in tools if self._tools.get(tool) is None})

    def refusal_of_size(self, actions: int) -> OutcomeError | None:
        """Return why a proposal may not have so many actions, or None when it may."""
        return self._capabilities.refusal_of_size(actions)

    def admit(
        self, reader: Reader, prepared: Prepared, uid: str, session: SessionRecord, now: int
    ) -> Admission:
        """Decide on a prepared call, as the action ``uid`` of ``session``, at ``now``."""
        call = prepared.call
        if prepared.error is not None:
            return Admission("reject", error=prepared.error)
        state = StateView(reader, session.session)
        tx = reader if isinstance(reader, Transaction) else None
        past = Past(reader, session, self._tools, tx, self._approvers)
        case = _Case(uid, call.proposal, session, now, state.everything, past)
        admission = self._admit(prepared, case, state)
        read = {**past.stood_on, **state.stood_on}
        return admission._replace(stood_on=read) if read else admission

    def _admit(self, prepared: Prepared, case: _Case, state: StateView) -> Admission:
        call = prepared.call
        if call.action is SINGLE:
            return admit(self._verdict(prepared, case))
        on_effects = self._verdicts_on_effects(call.action, case)
        for key, verdict in on_effects:
            if verdict.effect == "deny":
                reason = f"its expected effect on state key {key!r}: {verdict.reason}"
                return admit(replace(verdict, reason=reason))
        error = unmet(call.action, state)
        if error is not None:
            return Admission("reject", error=error)
        return admit(self._verdict(prepared, case), on_effects)

    def foresee(
        self,
        reader: Reader,
        action: Action,
        parameters: dict[str, JSONValue],
        state: Mapping[str, JSONValue],
        session: SessionRecord,
        now: int,
    ) -> tuple[Literal["forbid", "deny", "hold"], str, tuple[str, ...]] | None:
        """Tell what would be said of an action that is not proposed yet, ``None``: it may run.

        Capabilities may ``forbid`` it; else it is policy's word, on the action and on what it would
        write, with ``parameters`` as far as they are known, in the ``state`` that is foreseen.
        """
        if parameters is not action.parameters:
            action = action.model_copy(update={"parameters": parameters})
        name = action.tool or "" if action.type is ActionType.TOOL_CALL else action.type.value
        call = Call(name, action.parameters, b"", "", action=action)
        refusal = beyond_capabilities(call, self._capabilities)
        if refusal is not None:
            return "forbid", refusal.message, ()
        tool = self._tools.get(call.tool) if call.calls_tool else None
        if tool is None and call.calls_tool:
            return None
        past = Past(reader, session, self._tools, approvers=self._approvers)
        case = _Case("", None, session, now, lambda: state, past)
        verdict = self._verdict(Prepared(call, tool, None), case)
        admitted = admit(verdict, self._verdicts_on_effects(action, case))
        if admitted.step == "execute" or admitted.verdict is None:
            return None
        effect: Literal["deny", "hold"] = "hold" if admitted.step == "hold" else "deny"
        reason = admitted.verdict.reason if admitted.error is None else admitted.error.message
        return effect, reason, admitted.verdict.rules

    def readable(self, reader: Reader, session: SessionRecord, now: int) -> dict[str, JSONValue]:
        """Return what of the session's state the agent may read (:meth:`reader_of`)."""
        may = self.reader_of(reader, session, now)
        everything = StateView(reader, session.session).everything()
        return {key: value for key, value in everything.items() if may(key)}

    def reader_of(self, reader: Reader, session: SessionRecord, now: int) -> Callable[[str], bool]:
        """Return what tells whether the agent may read a key of the session's state.

        It may as far as a ``state_read`` could: not what capabilities keep from it, nor what policy
        would not just allow. Each key is judged once, when it is first asked for.
        """
        everything = cache(StateView(reader, session.session).everything)
        past = Past(reader, session, self._tools, approvers=self._approvers)
        case = _Case("", None, session, now, everything, past)
        contract = contract_for_state_action(ActionType.STATE_READ)

        @cache
        def may(key: str) -> bool:
            if self._capabilities.refusal_of_key(key) is not None:
                return False
            return (
                self._decide(ActionType.STATE_READ, contract, {"key": key}, case).effect == "allow"
            )

        return may

    def refusals_of_writes(
        self,
        tx: Transaction,
        uid: str,
        session: SessionRecord,
        now: int,
        writes: Mapping[str, JSONValue],
    ) -> tuple[list[OutcomeError], dict[str, JSONValue]]:
        """Return why keys may not be written without asking anybody, and what that stands on."""
        state = StateView(tx, session.session)
        past = Past(tx, session, self._tools, tx, self._approvers)
        case = _Case(uid, None, session, now, state.everything, past)
        refusals = [self._refusal_of_write(case, key, value) for key, value in writes.items()]
        read = {**past.stood_on, **state.stood_on}
        return [refusal for refusal in refusals if refusal is not None], read

    def _refusal_of_write(self, case: _Case, key: str, value: JSONValue) -> OutcomeError | None:
        refusal = self._capabilities.refusal_of_key(key)
        if refusal is not None:
            return refusal
        admission = admit(self._verdict_on_write(case, key, value))
        if admission.step == "hold" and admission.verdict is not None:
            return held_write(key, admission.verdict)
        return admission.error

    def _verdicts_on_effects(self, action: Action, case: _Case) -> list[tuple[str, Verdict]]:
        """Return policy's verdicts on what an action is expected to write, by key."""
        effects = action.expected_effects
        return [(key, self._verdict_on_write(case, key, value)) for key, value in effects.items()]

    def _verdict_on_write(self, case: _Case, key: str, value: JSONValue) -> Verdict:
        """Return policy's verdict on writing a key, as a ``state_write`` of it would."""
        contract = contract_for_state_action(ActionType.STATE_WRITE)
        args: dict[str, JSONValue] = {"key": key, "value": value}
        return self._decide(ActionType.STATE_WRITE, contract, args, case)

    def _verdict(self, prepared: Prepared, case: _Case) -> Verdict:
        call, tool = prepared.call, prepared.tool
        kind = call.action.type
        contract = contract_for_state_action(kind) if tool is None else tool.contract
        verdict = self._decide(kind, contract, call.args, case)
        return verdict if call.redaction is None else call.redaction.verdict(verdict)

    def _decide(
        self, kind: ActionType, contract: Contract, args: dict[str, JSONValue], case: _Case
    ) -> Verdict:
        past = case.past
        return self.policy.decide(
            CallFacts(
                args=args,
                contract=contract,
                action_id=case.uid,
                action_type=kind.value,
                proposal_id=case.proposal,
                agent_id=self._agent,
                framework=self._framework,
                session_id=case.session.session,
                session_age=(case.now - case.session.opened_at) / 1e6,
                now=clock.to_datetime(case.now),
                state=case.state,
                labels=past.labels,
                calls=past.calls,
                total_calls=past.total_calls,
                history=past.history,
            )
        )


class _Case(NamedTuple):
    """Where and when an action is judged; ``state`` reads the whole of it, ``past`` what was."""

    uid: str
    proposal: str | None
    session: SessionRecord
    now: int
    state: Callable[[], Mapping[str, JSONValue]]
    past: Past
