"""Two gates on one journal, driven at random, compared with a model of what must come of it.

Calls, answers of all kinds (good, forged, late, twice, of another hold, edits), denials,
withdrawals, crashes in the middle of a body, restarts, and a clock that goes forward and back.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.driver import Driver
from support.people import ALICE, BOB, MALLORY, Person
from toolgate import clock
from toolgate.approvals import statement
from toolgate.desk import Desk
from toolgate.journal.verify import verify

MINUTE: Final = 60 * 1_000_000
SKEW: Final = MINUTE
BOUND: Final = 20.0
PEOPLE: Final = {"alice": ALICE, "bob": BOB}


@dataclass(frozen=True)
class Terms:
    """Who is asked about a tool's calls."""

    approvers: tuple[str, ...]
    quorum: int
    minutes: int | None
    edit: bool = False


TERMS: Final = {
    "pay": Terms(("alice",), 1, 15),
    "wire_money": Terms(("alice", "bob"), 2, None),
    "draft": Terms(("alice", "bob"), 2, 30, edit=True),
}
TOOLS: Final = ("search", *TERMS)


def config() -> dict[str, Any]:
    """Return the deployment's config: ``search`` is allowed, the others are held."""
    held = [
        {
            "id": tool,
            "tools": [tool],
            "effect": "hold",
            "approval": {
                "approvers": list(terms.approvers),
                "quorum": terms.quorum,
                "expires": "never" if terms.minutes is None else f"{terms.minutes}m",
                "edit": terms.edit,
            },
        }
        for tool, terms in TERMS.items()
    ]
    return {
        "project": "p",
        "session": "s",
        "tools": {tool: {"level": 3} for tool in TOOLS},
        "policy": {"rules": [{"id": "a", "tools": ["search"], "effect": "allow"}, *held]},
        "approvals": {"approvers": [ALICE.pinned, BOB.pinned]},
    }


@dataclass
class Action:
    """What is known of an action: how it stands, and what was said of it."""

    uid: str
    tool: str
    n: int
    opened: int = 0
    status: str = "held"
    kind: str | None = None
    spoken: set[str] = field(default_factory=set)
    approved: set[str] = field(default_factory=set)
    denied: bool = False
    edited: int | None = None
    envelopes: list[bytes] = field(default_factory=list)
    """Those that have counted."""

    @property
    def terms(self) -> Terms:
        return TERMS[self.tool]

    @property
    def deadline(self) -> int | None:
        return None if self.terms.minutes is None else self.opened + self.terms.minutes * MINUTE

    @property
    def runs_with(self) -> int:
        """The argument that is in force."""
        return self.n if self.edited is None else self.edited

    def counts(self, who: str, at: int) -> bool:
        """Tell whether somebody who says the right thing at a time is heard."""
        in_time = self.deadline is None or at <= self.deadline
        return who in self.terms.approvers and in_time and at >= self.opened - SKEW

    def hear(self, who: str, verdict: str, at: int, edit: int | None = None) -> bool:
        """Take a genuine answer; tell whether it counts."""
        if not self.counts(who, at) or (edit is not None and (self.denied or not self.terms.edit)):
            return False
        if edit is not None and edit != self.runs_with:
            self.edited = edit
            self.spoken, self.approved = set(), set()
        elif who in self.spoken:
            return False
        self.spoken.add(who)
        if verdict == "deny":
            self.denied = True
        else:
            self.approved.add(who)
        return True

    def state(self, now: int) -> str:
        """Return what has come of the hold by ``now``."""
        if self.denied:
            return "denied"
        if len(self.approved) >= self.terms.quorum:
            return "released"
        return "expired" if self.deadline is not None and now > self.deadline else "pending"


ENDS: Final = {"denied": "approval_denied", "expired": "approval_timeout"}

gates = st.sampled_from([0, 1])
picks = st.integers(0, 30)
numbers = st.integers(0, 3)
people = st.sampled_from(sorted(PEOPLE))
held_tools = st.sampled_from(sorted(TERMS))
bodies = st.sampled_from(["returns", "raises", "gate dies"])


class Gates(RuleBasedStateMachine):
    """The gates, their model, and what may happen."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.at = clock.now()
        self._real_now = clock.now
        clock.now = lambda: self.at
        self.seen = [0, 0]
        """The latest time each gate has gone by: it never goes back for one."""
        self.turn = 0
        """Which gate is asked how the holds stand."""
        self.actions: dict[str, Action] = {}
        self.keys: dict[str, str] = {}
        self.ran: Counter[str] = Counter()
        self.should_run: Counter[str] = Counter()
        self.gates: list[Driver] = []
        for place in (0, 1):
            self.gates.append(self.do(self.started(place)))

    def teardown(self) -> None:
        try:
            for place in (0, 1):
                for action in list(self.actions.values()):
                    self.resume_and_compare(place, action, "returns")
            for gate in self.gates:
                self.do(gate.__aexit__(None, None, None))
            self.desk(self.verify)
        finally:
            clock.now = self._real_now
            self.loop.run_until_complete(self.end_of_loop())
            self.loop.close()
            shutil.rmtree(self.folder)

    async def end_of_loop(self) -> None:
        """Let nothing outlive the loop, whatever went wrong."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- what happens ------------------------------------------------------------------------------

    @initialize(n=numbers)
    def holds_to_begin_with(self, n: int) -> None:
        for tool in TERMS:
            for number in (n, n + 1):
                self.call_what_is_held(0, tool, number % 4, False, "returns")

    @rule(place=gates, n=numbers, keyed=st.booleans(), body=bodies)
    def call_what_is_allowed(self, place: int, n: int, keyed: bool, body: str) -> None:
        key = f"search {n}" if keyed else None
        known = self.keys.get(key or "")
        if known is not None:
            self.resume_and_compare(place, self.actions[known], body, key=key)
            return
        self.expect_run(self.ask(place, "search", n, key, body), "search", n, body, key)

    @rule(place=gates, tool=held_tools, n=numbers, keyed=st.booleans(), body=bodies)
    def call_what_is_held(self, place: int, tool: str, n: int, keyed: bool, body: str) -> None:
        key = f"{tool} {n}" if keyed else None
        known = self.keys.get(key or "")
        alike = [a for a in self.actions.values() if (a.tool, a.n) == (tool, n)]
        if known is not None:
            self.resume_and_compare(place, self.actions[known], body, key=key)
            return
        if any(action.kind == "approval_denied" for action in alike):
            outcome = self.ask(place, tool, n, key, body)
            self.expect(outcome, "rejected", "approval_denied")
            self.know(outcome, tool, n, key, status="rejected", kind="not asked again")
            return
        held = [action for action in alike if action.status == "held"]
        if held and key is None:
            latest = max(held, key=lambda action: action.uid)
            self.resume_and_compare(place, latest, body, again=True)
            return
        outcome = self.ask(place, tool, n, key, body)
        self.expect(outcome, "held", None)
        self.know(outcome, tool, n, key, opened=self.seen[place])

    @precondition(lambda self: self.actions)
    @rule(place=gates, pick=picks, body=bodies)
    def resume(self, place: int, pick: int, body: str) -> None:
        self.resume_and_compare(place, self.pick(pick), body)

    @precondition(lambda self: self.actions)
    @rule(place=gates, pick=picks)
    def withdraw(self, place: int, pick: int) -> None:
        action = self.pick(pick)
        outcome = self.request(place, "withdraw", uid=action.uid)
        if action.status == "held":
            action.status, action.kind = "skipped", "cancelled"
        self.compare(outcome, action)

    @precondition(lambda self: self.held())
    @rule(pick=picks, who=people, verdict=st.sampled_from(["approve", "approve", "deny"]))
    def answer(self, pick: int, who: str, verdict: Any) -> None:
        self.answer_one(self.pick_held(pick), who, verdict)

    @precondition(lambda self: self.held())
    @rule(pick=picks)
    def everybody_approves(self, pick: int) -> None:
        action = self.pick_held(pick)
        for who in action.terms.approvers:
            self.answer_one(action, who, "approve")

    @precondition(lambda self: self.held())
    @rule(pick=picks, who=people)
    def somebody_denies(self, pick: int, who: str) -> None:
        self.answer_one(self.pick_held(pick), who, "deny")

    @precondition(lambda self: self.held())
    @rule(place=gates, pick=picks, body=bodies)
    def resume_what_is_held(self, place: int, pick: int, body: str) -> None:
        self.resume_and_compare(place, self.pick_held(pick), body)

    @precondition(lambda self: self.held())
    @rule(pick=picks, who=people, n=numbers)
    def edit(self, pick: int, who: str, n: int) -> None:
        action = self.pick_held(pick)
        envelope = self.signed(action, who, "approve", edit=n)
        if action.hear(who, "approve", self.at, edit=n):
            action.envelopes.append(envelope)
        self.put(action, envelope)

    @precondition(lambda self: self.held())
    @rule(pick=picks, who=people, verdict=st.sampled_from(["approve", "deny"]))
    def forge(self, pick: int, who: str, verdict: Any) -> None:
        """Somebody without the key signs in an approver's name."""
        action = self.pick_held(pick)
        self.put(action, self.signed(action, who, verdict, signer=MALLORY))

    @precondition(lambda self: self.held())
    @rule(pick=picks, other=picks, verdict=st.sampled_from(["approve", "deny"]))
    def put_beside_another(self, pick: int, other: int, verdict: Any) -> None:
        """A genuine answer to one hold is put beside another."""
        one, two = self.pick_held(pick), self.pick_held(other)
        if one is not two:
            self.put(two, self.signed(one, "alice", verdict))

    @precondition(lambda self: any(action.envelopes for action in self.held()))
    @rule(pick=picks)
    def put_again(self, pick: int) -> None:
        """A copy of an answer that counted changes nothing."""
        answered = [action for action in self.held() if action.envelopes]
        action = answered[pick % len(answered)]
        self.put(action, action.envelopes[pick % len(action.envelopes)])

    @precondition(lambda self: any(a.edited is not None for a in self.held()))
    @rule(pick=picks, who=people)
    def approve_what_was_replaced(self, pick: int, who: str) -> None:
        """An approval of the arguments before an edit is none of those after it."""
        edited = [a for a in self.held() if a.edited is not None and a.edited != a.n]
        if edited:
            action = edited[pick % len(edited)]
            self.put(action, self.signed(action, who, "approve", of=action.n))

    @rule(minutes=st.sampled_from([1, 5, 14, 16]))
    def time_passes(self, minutes: int) -> None:
        self.at += minutes * MINUTE

    @rule(minutes=st.sampled_from([1, 3, 20]))
    def clock_steps_back(self, minutes: int) -> None:
        self.at -= minutes * MINUTE

    @rule(place=gates)
    def gate_is_killed(self, place: int) -> None:
        self.kill(place)

    @rule(place=gates)
    def gate_is_restarted(self, place: int) -> None:
        self.do(self.gates[place].__aexit__(None, None, None))
        self.gates[place] = self.do(self.started(place))

    # -- what must be true -------------------------------------------------------------------------

    @invariant()
    def nothing_ran_but_what_should_have(self) -> None:
        assert self.ran == self.should_run
        assert all(times == 1 for times in self.ran.values())

    @invariant()
    def holds_stand_as_they_should(self) -> None:
        self.turn = 1 - self.turn
        page = self.request(self.turn, "holds", status="pending")
        assert {item["uid"] for item in page["holds"]} == {
            action.uid for action in self.held() if action.state(self.seen[self.turn]) == "pending"
        }

    # -- pieces ------------------------------------------------------------------------------------

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end, within a bound."""
        return self.loop.run_until_complete(asyncio.wait_for(work, BOUND))

    async def started(self, place: int) -> Driver:
        self.at += 1000
        gate = Driver(self.folder, config())
        await gate.__aenter__()
        self.seen[place] = self.at
        for tool in TOOLS:
            await gate.tool(tool)
        expiry = gate.gate.runtime.engine.expiry
        while expiry._working is None:
            await gate.request("ping")
        await expiry._working
        for action in self.held():
            # What was overdue when it started has ended; answered in time, it has not.
            overdue = action.deadline is not None and action.deadline < self.at
            if overdue and (state := action.state(self.at)) in ENDS:
                action.status, action.kind = "rejected", ENDS[state]
        return gate

    def kill(self, place: int) -> None:
        self.gates[place].die()
        self.do(asyncio.sleep(0))
        self.gates[place] = self.do(self.started(place))

    def request(self, place: int, method: str, **params: Any) -> Any:
        self.seen[place] = max(self.seen[place], self.at)
        return self.do(self.gates[place].request(method, **params))

    def ask(self, place: int, tool: str, n: int, key: str | None, body: str) -> Any:
        more = {} if key is None else {"idempotency_key": key}
        return self.carry_out(place, body, "govern", tool=tool, args={"n": n}, **more)

    def carry_out(self, place: int, body: str, method: str, **params: Any) -> Any:
        """Send a request, and be the client whose body returns, raises, or loses its gate.

        Returns the outcome, or the uid of the action whose gate has died.
        """
        self.at += 1000
        self.seen[place] = max(self.seen[place], self.at)
        gate = self.gates[place]

        async def serve() -> Any:
            request = gate.send(method, **params)
            run = asyncio.ensure_future(gate.runs.get())
            await asyncio.wait({request, run}, return_when=asyncio.FIRST_COMPLETED)
            if not run.done():
                run.cancel()
                return request.result()
            order = run.result()["params"]
            self.ran[order["uid"]] += 1
            if order["uid"] in self.actions:
                assert order["args"] == {"n": self.actions[order["uid"]].runs_with}
            if body == "gate dies":
                return order["uid"]
            if body == "raises":
                gate.fail(run.result(), "no")
            else:
                gate.answer(run.result(), order["args"]["n"])
            return await request

        outcome = self.do(serve())
        if isinstance(outcome, str):
            self.kill(place)
        return outcome

    def expect(self, outcome: Any, status: str, kind: str | None) -> None:
        found = outcome.get("error") or {}
        assert (outcome["status"], found.get("kind")) == (status, kind), outcome

    def know(self, outcome: Any, tool: str, n: int, key: str | None, **more: Any) -> Action:
        uid = outcome if isinstance(outcome, str) else outcome["uid"]
        action = self.actions[uid] = Action(uid, tool, n, **more)
        if key is not None:
            self.keys[key] = uid
        return action

    def expect_run(self, outcome: Any, tool: str, n: int, body: str, key: str | None) -> None:
        """A new call that is allowed has run."""
        action = self.know(outcome, tool, n, key)
        self.has_run(action, outcome, body)

    def has_run(self, action: Action, outcome: Any, body: str) -> None:
        self.should_run[action.uid] += 1
        action.status, action.kind = {
            "returns": ("succeeded", None),
            "raises": ("failed", "execution_failed"),
            "gate dies": ("failed", "in_doubt"),
        }[body]
        if body == "gate dies":
            assert outcome == action.uid
        else:
            self.compare(outcome, action)

    def compare(self, outcome: Any, action: Action) -> None:
        assert outcome["uid"] == action.uid
        kind = "approval_denied" if action.kind == "not asked again" else action.kind
        self.expect(outcome, action.status, kind)
        if action.status == "succeeded":
            assert outcome["output"] == action.runs_with

    def resume_and_compare(
        self,
        place: int,
        action: Action,
        body: str,
        *,
        key: str | None = None,
        again: bool = False,
    ) -> None:
        """Resume an action, by its uid, its key, or by asking for the same again."""
        now = max(self.seen[place], self.at + 1000)
        state = action.state(now) if action.status == "held" else "ended"
        if key is not None or again:
            outcome = self.ask(place, action.tool, action.n, key, body)
        else:
            outcome = self.carry_out(place, body, "resume", uid=action.uid, wait_ms=0)
        if state == "released":
            self.has_run(action, outcome, body)
            return
        if state in ENDS:
            action.status, action.kind = "rejected", ENDS[state]
        self.compare(outcome, action)

    def held(self) -> list[Action]:
        return [action for action in self.actions.values() if action.status == "held"]

    def pick(self, number: int) -> Action:
        return list(self.actions.values())[number % len(self.actions)]

    def pick_held(self, number: int) -> Action:
        held = self.held()
        return held[number % len(held)]

    def desk(self, work: Any) -> Any:
        desk = Desk(self.gates[0].config)
        try:
            return work(desk)
        finally:
            desk.close()

    def signed(
        self,
        action: Action,
        who: str,
        verdict: Any,
        *,
        signer: Person | None = None,
        edit: int | None = None,
        of: int | None = None,
    ) -> bytes:
        """Return an envelope about a hold: as it stands, or with ``of`` as its argument."""
        hold = self.desk(lambda desk: desk.find(action.uid).hold)
        hold = hold.edited({"n": action.runs_with if of is None else of})
        args = None if edit is None else {"n": edit}
        key = (signer or PEOPLE[who]).key
        return statement.sign(hold, verdict, who, key, self.at, f"{self.at}", args)

    def answer_one(self, action: Action, who: str, verdict: Any) -> None:
        """Have somebody answer a hold as it stands, at this moment."""
        envelope = self.signed(action, who, verdict)
        if action.hear(who, verdict, self.at):
            action.envelopes.append(envelope)
        self.put(action, envelope)

    def put(self, action: Action, envelope: bytes) -> None:
        """Put an envelope into the store, as anybody can who may write it."""

        def add(desk: Desk) -> None:
            hold = desk.find(action.uid).hold.hold_id
            desk._journal.store.add_approval(hold, envelope, self.at)

        self.desk(add)

    def verify(self, desk: Desk) -> None:
        journal = desk._journal
        problem = verify(journal.store, journal.key, lambda seen: None).problem
        assert problem is None, problem


Gates.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
TestGates = pytest.mark.slow(pytest.mark.timeout(170)(Gates.TestCase))
