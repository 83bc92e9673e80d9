"""The approver's side: look at holds, sign an answer, put it beside its hold.

An answer is judged here by the very rules the gate judges it by at release, so that an approver
learns at once when it would not count. The gate judges again: what lies in the store is not
trusted.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from toolgate import clock, faults, jsonvalue
from toolgate.approvals import statement
from toolgate.approvals.hold import Hold
from toolgate.approvals.statement import Answer
from toolgate.approvals.tally import HoldState
from toolgate.config import GateConfig
from toolgate.deployment import pinned_keys, signing_key
from toolgate.errors import ApprovalError, JournalTampered
from toolgate.ir import ToolSchema
from toolgate.journal.events import Event, EventKind
from toolgate.journal.opening import inspect_journal
from toolgate.journal.records import ApprovalRow, HoldRecord, SessionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel import edits
from toolgate.kernel.answers import Answers, answers
from toolgate.kernel.capabilities import Capabilities
from toolgate.kernel.holds import HoldView, view_hold
from toolgate.kernel.judge import Judge
from toolgate.kernel.places import call_of
from toolgate.kernel.plan_list import ProposalView, view_proposal
from toolgate.kernel.plan_view import PlanView, view_plan
from toolgate.kernel.records import Call, decision_of, redactor_of
from toolgate.kernel.tools import ToolRegistry
from toolgate.policy import compile_policy
from toolgate.policy.contracts import contract_for

PAGE = 200


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer that was put beside its hold, and how the hold stands now.

    ``replaced`` is the digest that was in force before it.
    """

    view: HoldView
    verdict: Answer
    approver: str
    replaced: str


class Desk:
    """One project's holds, for the people who answer them, and the proposals they belong to."""

    def __init__(self, config: GateConfig) -> None:
        """Open the deployment's journal; raises :class:`~toolgate.errors.JournalError`."""
        self._config = config
        self._journal = inspect_journal(config, anchored=True)
        self._pinned = pinned_keys(config)
        self._unsigned = config.approvals.allow_unsigned
        self._redactor = redactor_of(config, self._journal.reader)

    def close(self) -> None:
        """Close the journal."""
        self._journal.close()

    def holds(self, status: str | None = "pending") -> Iterator[HoldView | JournalTampered]:
        """Iterate over the holds that have ``status`` now (``None``: all), oldest first.

        Where one does not verify there is what is wrong with it.
        """
        # What people have said since a gate last looked shows here, though no row says so yet; a
        # row that says something final says it for good.
        recorded = {None} if status is None else {"pending", status}
        for wanted in sorted(recorded, key=str):
            after: str | None = None
            while records := self._journal.reader.holds(wanted, PAGE, after):
                for _, record in records:
                    try:
                        view = self._view(record)
                    except JournalTampered as error:
                        yield error
                        continue
                    if view.project == self._config.project and status in (None, view.status):
                        yield view
                after = records[-1][0]

    def find(self, name: str) -> HoldView:
        """Return a hold by its id or by its action's uid; raises :class:`ApprovalError`."""
        reader = self._journal.reader
        record = reader.hold(name)
        if record is None:
            action = reader.action(name)
            record = None if action is None or action.hold is None else reader.hold(action.hold)
        if record is None:
            self._refuse_proposal(name)
        view = None if record is None else self._view(record)
        if view is None or view.project != self._config.project:
            raise ApprovalError(
                f"the project {self._config.project} has no hold, and no held action, that is "
                f"named {name!r}"
            )
        return view

    def _view(self, record: HoldRecord | JournalTampered) -> HoldView:
        return view_hold(
            self._journal.reader,
            record,
            self._pinned,
            self._redactor,
            clock.now(),
            unsigned=self._unsigned,
        )

    def version(self) -> int:
        """Return a number that changes when anybody has written to the journal."""
        return self._journal.store.version()

    def pending(self) -> dict[str, HoldRecord | JournalTampered]:
        """Return the rows of the holds of every project that no gate has ended, by id."""
        found: dict[str, HoldRecord | JournalTampered] = {}
        after: str | None = None
        while records := self._journal.reader.holds("pending", PAGE, after):
            found.update(records)
            after = records[-1][0]
        return found

    def check_place(self) -> None:
        """Refuse to go on with a journal that no longer lies where it did.

        Raises :class:`~toolgate.errors.JournalUnavailable`.
        """
        self._journal.store.check_place()

    def last_answer(self) -> int:
        """Return the number of the last answer to any hold."""
        return self._journal.store.last_approval()

    def answered_after(self, number: int) -> list[tuple[int, str]]:
        """Return ``(number, hold)`` of every answer after a number."""
        return self._journal.store.approvals_after(number)

    def _refuse_proposal(self, name: str) -> None:
        """Say which holds a proposal has: an answer is to one of them."""
        reader = self._journal.reader
        record = reader.proposal(name)
        if record is None or record.project != self._config.project:
            return
        held = [reader.action(uid) for uid in view_proposal(reader, record).held]
        told = ", ".join(
            f"{action.hold} ({action.tool}, action {action.uid})" for action in held if action
        )
        raise ApprovalError(
            f"{name} is a proposal ({record.proposal_id}), and an answer is to one hold: "
            f"{f'name one of its own, {told}' if told else 'it has none at this moment'}"
        )

    def proposals(self, status: str | None = None) -> Iterator[ProposalView | JournalTampered]:
        """Iterate over the proposals of one status (``None``: of all), in the order they came.

        Where one does not verify there is what is wrong with it.
        """
        reader, after = self._journal.reader, None
        while records := reader.proposals(status, PAGE, after):
            for _, record in records:
                try:
                    view = view_proposal(reader, record)
                except JournalTampered as error:
                    yield error
                    continue
                if view.project == self._config.project:
                    yield view
            after = records[-1][0]

    def plan(self, view: HoldView) -> PlanView | None:
        """Return the proposal that a held action belongs to; a single call has none.

        Raises :class:`~toolgate.errors.JournalTampered`.
        """
        with self._journal.reader.view():
            return view_plan(self._journal.reader, view, self._redactor)

    def decision(self, view: HoldView) -> dict[str, JSONValue] | None:
        """Return policy's last decision on a held action, as the log tells it.

        Raises :class:`~toolgate.errors.JournalTampered`.
        """
        record = self._journal.reader.action(view.hold.uid)
        return None if record is None else decision_of(self._journal.reader, record)

    def timeline(self, session: str) -> Iterator[Event]:
        """Iterate over a session's events, in order."""
        return self._journal.store.events(session=session)

    def genuine(self, event: Event) -> bool:
        """Tell whether an event was written with the journal key, and not changed since."""
        return self._journal.reader.genuine(event)

    def answer(
        self,
        name: str,
        verdict: Answer,
        approver: str,
        key_file: Path | None,
        reason: str | None = None,
        *,
        args: dict[str, JSONValue] | None = None,
        digest: str | None = None,
    ) -> Answered:
        """Sign ``approver``'s answer to a hold and put it beside it, durably.

        It is about the arguments in force; with ``args`` it puts these in their place. A ``digest``
        insists on what is in force when it is signed. Without a key file nobody signs it.

        Raises :class:`ApprovalError` when it would not count, saying why; then nothing is written.
        """
        view = self.find(name)
        hold = view.hold
        if view.status != "pending":
            raise ApprovalError(
                f"the hold {hold.hold_id} is {view.status}; nobody is asked any more"
            )
        if digest not in (None, hold.digest):
            raise ApprovalError(
                f"the hold {hold.hold_id} has the digest {hold.digest} now, not {digest}: it was "
                "edited or reopened since; look at it again"
            )
        key = None
        if key_file is not None:
            key = signing_key(self._pinned, approver, key_file)
        elif not self._unsigned:
            raise ApprovalError(
                "an answer is signed: name the approver's private key with --key (only "
                "approvals.allow_unsigned does without, for development)"
            )
        now = clock.now()
        envelope = statement.sign(hold, verdict, approver, key, now, reason, args)
        refused = self._would_refuse(view, envelope, now)
        if refused is None and args is not None:
            refused = self._refuses_edit(view, args, now)
        if refused is not None:
            raise ApprovalError(refused)
        faults.hit("approval.signed")
        if not self._journal.store.add_approval(hold.hold_id, envelope, now, pending=True):
            raise ApprovalError(
                f"the hold {hold.hold_id} has ended meanwhile; nobody is asked any more, and "
                "nothing was written"
            )
        faults.hit("approval.written")
        self._check_counted(view.base, envelope)
        return Answered(self.find(hold.hold_id), verdict, approver, hold.digest)

    def _answers(self, hold: Hold, more: ApprovalRow | None = None) -> Answers:
        reader, unsigned = self._journal.reader, self._unsigned
        return answers(reader, hold, self._pinned, unsigned=unsigned, more=more)

    def _would_refuse(self, view: HoldView, envelope: bytes, now: int) -> str | None:
        hold = view.base
        rows = self._journal.reader.approvals(hold.hold_id)
        mine = max((row.seq for row in rows), default=0) + 1
        _, said = self._answers(hold, ApprovalRow(mine, hold.hold_id, envelope, now))
        return next((r.reason for r in said.refused if r.seq == mine), None)

    def _check_counted(self, hold: Hold, envelope: bytes) -> None:
        """Tell an approver whose answer came too late, or after more than a gate looks at."""
        rows, said = self._answers(hold)
        if self.find(hold.hold_id).status == HoldState.PENDING and all(
            row.envelope != envelope for row in rows
        ):
            raise ApprovalError(
                f"so much lies beside the hold {hold.hold_id} that no gate looks at one more "
                "answer: somebody has filled the journal's store"
            )
        refused = {refusal.seq: refusal.reason for refusal in said.refused}
        for row in rows:
            if row.envelope == envelope and row.seq in refused:
                raise ApprovalError(f"it was answered meanwhile, look again: {refused[row.seq]}")

    def _refuses_edit(self, view: HoldView, args: dict[str, JSONValue], now: int) -> str | None:
        """Return why the gate would refuse an edit, as far as that can be known without its client.

        The client's own schema is not in the journal. Raises
        :class:`~toolgate.errors.PolicyError` when the policy cannot be used.
        """
        reader, uid = self._journal.reader, view.hold.uid
        record = reader.action(uid)
        session = reader.session(view.hold.session)
        if record is None or session is None:
            raise JournalTampered(f"the action {uid} or its session is missing from the journal")
        call = call_of(reader, record)
        edited = edits.edited_call(call, view.base.revealed(args))
        judge = self._judge(session, edited)
        admitted = judge.admit(reader, judge.prepare(edited), uid, session, now)
        error = edits.moved(call, edited) or edits.refused(admitted)
        return None if error is None else error.message

    def _judge(self, session: SessionRecord, call: Call) -> Judge:
        """Return a judge as the gate of a session would have it that has registered its tools."""
        config, reader = self._config, self._journal.reader
        known = set(config.tools)
        for event in self.timeline(session.session):
            if event.kind == EventKind.TOOL_REGISTERED and reader.genuine(event):
                known.add(jsonvalue.parse(event.data)["name"])
        tools = ToolRegistry(lambda name: contract_for(name, config.tools.get(name)), known)
        if call.calls_tool:
            tools.register(ToolSchema(name=call.tool))
        return Judge(
            compile_policy(config),
            Capabilities(config.capabilities),
            tools,
            self._redactor,
            session.agent,
            config.agent.framework,
            self._pinned,
        )
