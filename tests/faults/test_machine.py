"""Two gates on one journal, driven at random, compared with a model of what must come of it.

Calls and plans; answers and settlements of all kinds (good, forged, late, twice, of another, edits
that may not run); withdrawals, crashes in the middle of a body, bodies whose time runs out and that
end late, callers who leave, restarts, and a clock that goes forward and back.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from support.machine_draws import (
    bodies,
    edits,
    ended,
    ends,
    gates,
    held_tools,
    numbers,
    people,
    picks,
    rarely,
    steps,
    verdicts,
)
from support.machine_model import MINUTE, PEOPLE, Action, GateDied, Turn, Word
from support.machine_plans import WRITE, Plan, Plans, Step, same
from support.machine_rig import Late, Rig
from toolgate.wire.messages import RPCError


class Gates(RuleBasedStateMachine):
    """The gates, their model, and what may happen."""

    def __init__(self) -> None:
        super().__init__()
        self.rig = Rig()
        self.model = Plans()
        self.turn = 0
        """Which gate is asked how the holds stand."""
        self.keys: dict[str, str] = {}
        self.plan_keys: dict[str, Plan] = {}
        self.words: list[tuple[Word, str]] = []
        """What was said of doubts, and the names they had in the store."""

    def teardown(self) -> None:
        try:
            for place in (0, 1):
                for action in list(self.model.actions.values()):
                    self.resume_and_compare(place, action, ["returns"])
                for plan in self.model.plans.values():
                    self.bring_on_and_compare(place, plan, ["returns"])
            for place in (0, 1):
                self.rig.stop(place)
            assert self.rig.problem() is None
            assert self.rig.claims() == self.rig.ran
            ends = {uid: action.status for uid, action in self.model.actions.items()}
            assert self.rig.statuses() == ends
        finally:
            self.rig.close()

    # -- calls -------------------------------------------------------------------------------------

    @initialize(n=numbers)
    def holds_to_begin_with(self, n: int) -> None:
        for tool in ("pay", "wire_money", "draft"):
            self.call(0, tool, n, False, ["returns"])

    @rule(place=gates, n=numbers, keyed=st.booleans(), body=bodies)
    def call_what_is_allowed(self, place: int, n: int, keyed: bool, body: list[str]) -> None:
        self.call(place, "search", n, keyed, body)

    @rule(place=gates, tool=held_tools, n=numbers, keyed=st.booleans(), body=bodies)
    def call_what_is_held(
        self, place: int, tool: str, n: int, keyed: bool, body: list[str]
    ) -> None:
        self.call(place, tool, n, keyed, body)

    @rule(place=gates, n=st.sampled_from([5, 6, 7, 8, 9]), body=bodies)
    def call_what_is_told_apart_by_its_argument(self, place: int, n: int, body: list[str]) -> None:
        self.call(place, "draft", n, False, body)

    @precondition(lambda self: self.keys)
    @rule(place=gates, pick=picks)
    def a_key_is_one_call_for_ever(self, place: int, pick: int) -> None:
        key, uid = list(self.keys.items())[pick % len(self.keys)]
        action = self.model.actions[uid]
        with pytest.raises(RPCError, match="one key is one call"):
            self.rig.request(
                place, "govern", tool=action.tool, args={"n": "other"}, idempotency_key=key
            )

    @precondition(lambda self: self.model.actions)
    @rule(place=gates, pick=picks, body=bodies)
    def resume(self, place: int, pick: int, body: list[str]) -> None:
        self.resume_and_compare(place, self.pick(pick, list(self.model.actions.values())), body)

    @precondition(lambda self: self.model.held())
    @rule(place=gates, pick=picks, body=bodies)
    def resume_what_is_held(self, place: int, pick: int, body: list[str]) -> None:
        self.resume_and_compare(place, self.pick_held(pick), body)

    @precondition(lambda self: self.model.actions)
    @rule(place=gates, pick=picks)
    def withdraw(self, place: int, pick: int) -> None:
        action = self.pick(pick, list(self.model.actions.values()))
        outcome = self.rig.request(place, "withdraw", uid=action.uid)
        self.model.withdraw(action)
        self.compare(outcome, action)

    # -- plans -------------------------------------------------------------------------------------

    @precondition(lambda self: self.waiting_plans())
    @rule(place=gates, n=numbers, key=st.sampled_from(["x", "y"]))
    def another_plan_writes(self, place: int, n: int, key: str) -> None:
        """What a plan that waits has written is somebody else's then, whatever becomes of it."""
        self.propose(place, (Step(WRITE, n, "abort", key=key),), False, ["returns"])

    @rule(place=gates, listed=steps, keyed=st.booleans(), body=bodies)
    def propose_a_plan(
        self, place: int, listed: tuple[Step, ...], keyed: bool, body: list[str]
    ) -> None:
        self.propose(place, listed, keyed, body)

    def propose(self, place: int, listed: tuple[Step, ...], keyed: bool, body: list[str]) -> None:
        key = f"plan {len(self.plan_keys)}" if keyed else None
        turn, result = self.carry_out_plan(place, listed, key, body)
        uid = result.partition("-")[0] if isinstance(result, str) else result["uid"]
        self.does(lambda: self.model.receive(uid, listed, turn))
        plan = self.model.plans[uid]
        if key is not None:
            self.plan_keys[key] = plan
        self.compare_plan(result, plan)

    @precondition(lambda self: self.plan_keys)
    @rule(place=gates, pick=picks, body=bodies, other=st.booleans())
    def propose_again(self, place: int, pick: int, body: list[str], other: bool) -> None:
        key = self.pick(pick, list(self.plan_keys))
        plan = self.plan_keys[key]
        if other:
            with pytest.raises(RPCError, match="one key is one proposal"):
                self.carry_out_plan(place, (*plan.steps, plan.steps[0]), key, body)
            return
        turn, result = self.carry_out_plan(place, plan.steps, key, body)
        self.does(lambda: self.model.bring_on(plan, turn))
        self.compare_plan(result, plan)

    @precondition(lambda self: self.model.plans)
    @rule(place=gates, pick=picks, body=bodies)
    def bring_on(self, place: int, pick: int, body: list[str]) -> None:
        plans = [plan for plan in self.model.plans.values() if not plan.over]
        plans = plans or list(self.model.plans.values())
        self.bring_on_and_compare(place, self.pick(pick, plans), body)

    @precondition(lambda self: self.waiting_plans())
    @rule(place=gates, pick=picks, verdict=verdicts, body=bodies)
    def bring_on_what_was_answered(
        self, place: int, pick: int, verdict: str, body: list[str]
    ) -> None:
        plan = self.pick(pick, self.waiting_plans())
        for who in PEOPLE:
            action = plan.actions[self.pick(pick, plan.waiting)]
            self.put(action, self.rig.answer(action, who, verdict))
        self.bring_on_and_compare(place, plan, body)

    # -- what people say ---------------------------------------------------------------------------

    @precondition(lambda self: self.model.held())
    @rule(pick=picks, who=people, verdict=verdicts)
    def answer(self, pick: int, who: str, verdict: str) -> None:
        action = self.pick_held(pick)
        self.put(action, self.rig.answer(action, who, verdict))

    @precondition(lambda self: self.model.held())
    @rule(pick=picks)
    def everybody_approves(self, pick: int) -> None:
        action = self.pick_held(pick)
        for who in PEOPLE:
            self.put(action, self.rig.answer(action, who, "approve"))

    @precondition(lambda self: self.model.held())
    @rule(pick=picks, who=people, n=edits)
    def edit(self, pick: int, who: str, n: int) -> None:
        action = self.pick_held(pick)
        self.put(action, self.rig.answer(action, who, "approve", edit=n))

    @precondition(lambda self: self.drafts())
    @rule(pick=picks, who=people, n=edits, everybody=st.booleans())
    def edit_a_draft(self, pick: int, who: str, n: int, everybody: bool) -> None:
        action = self.pick(pick, self.drafts())
        self.put(action, self.rig.answer(action, who, "approve", edit=n))
        for other in PEOPLE if everybody else ():
            self.put(action, self.rig.answer(action, other, "approve"))

    @precondition(lambda self: self.model.held())
    @rule(pick=picks, who=people, verdict=verdicts, n=st.none() | edits)
    def forge(self, pick: int, who: str, verdict: str, n: int | None) -> None:
        """Somebody without the key signs in an approver's name."""
        action = self.pick_held(pick)
        verdict = verdict if n is None else "approve"
        self.put(action, self.rig.answer(action, who, verdict, edit=n, forged=True))

    @precondition(lambda self: self.model.held())
    @rule(pick=picks, other=picks, verdict=verdicts)
    def put_beside_another(self, pick: int, other: int, verdict: str) -> None:
        """A genuine answer to one hold is put beside another."""
        self.put(self.pick_held(other), self.rig.answer(self.pick_held(pick), "alice", verdict))

    @precondition(lambda self: any(a.hold.counted for a in self.model.held()))
    @rule(pick=picks)
    def put_again(self, pick: int) -> None:
        """A copy of an answer that counts changes nothing."""
        action = self.pick(pick, [a for a in self.model.held() if a.hold and a.hold.counted])
        self.put(action, self.pick(pick, action.hold.counted if action.hold else []))

    @precondition(lambda self: any(a.hold.edited for a in self.model.held()))
    @rule(pick=picks, who=people)
    def approve_what_was_replaced(self, pick: int, who: str) -> None:
        """An approval of the arguments before an edit is none of those after it."""
        action = self.pick(pick, [a for a in self.model.held() if a.hold and a.hold.edited])
        self.put(action, self.rig.answer(action, who, "approve", of=action.n))

    @precondition(lambda self: self.model.doubted())
    @rule(pick=picks, who=people, says=ends, output=numbers, forged=rarely)
    def settle(self, pick: int, who: str, says: str, output: int, forged: bool) -> None:
        action = self.pick(pick, self.model.doubted())
        self.settle_one(action, self.rig.settle(action, who, says, output, forged=forged))

    @precondition(lambda self: self.model.doubted())
    @rule(place=gates, pick=picks, who=people, says=ends, forged=rarely, body=bodies)
    def resume_what_was_settled(
        self, place: int, pick: int, who: str, says: str, forged: bool, body: list[str]
    ) -> None:
        action = self.pick(pick, self.model.doubted())
        self.settle_one(action, self.rig.settle(action, who, says, pick, forged=forged))
        self.resume_and_compare(place, action, body)

    @precondition(lambda self: self.words and self.model.doubted())
    @rule(pick=picks, other=picks)
    def put_beside_another_doubt(self, pick: int, other: int) -> None:
        """What was said of one doubt, long settled perhaps, is put beside another, or twice."""
        action, (word, _) = self.pick(pick, self.model.doubted()), self.pick(other, self.words)
        self.rig.put_beside_doubt(action, word)
        if action.doubt is not None:
            action.doubt.hear(word, self.rig.at)

    @precondition(lambda self: self.words)
    @rule(pick=picks)
    def put_beside_what_was_a_doubt(self, pick: int) -> None:
        """A settlement that comes again where it was: late, it changes nothing any more."""
        word, subject = self.pick(pick, self.words)
        self.rig.put_under(subject, word)
        for action in self.model.doubted():
            if action.doubt is not None:
                action.doubt.hear(word, self.rig.at)

    # -- what happens ------------------------------------------------------------------------------

    @precondition(lambda self: self.rig.late)
    @rule(pick=picks, returns=st.booleans())
    def a_body_ends_late(self, pick: int, returns: bool) -> None:
        self.end_late(self.pick(pick, self.rig.late), returns=returns)

    @precondition(lambda self: self.timed_out())
    @rule(place=gates, pick=picks, body=ended, returns=st.booleans())
    def run_again_what_timed_out(
        self, place: int, pick: int, body: list[str], returns: bool
    ) -> None:
        """What a body comes to that was given up settles no doubt about the one after it."""
        action = self.pick(pick, self.timed_out())
        late = next(late for late in self.rig.late if late.uid == action.uid)
        self.settle_one(action, self.rig.settle(action, "alice", "retry", 0))
        self.resume_and_compare(place, action, body)
        self.end_late(late, returns=returns)

    @rule(minutes=st.sampled_from([1, 5, 14, 16]))
    def time_passes(self, minutes: int) -> None:
        self.rig.at += minutes * MINUTE

    @rule(minutes=st.sampled_from([1, 3, 20]))
    def clock_steps_back(self, minutes: int) -> None:
        self.rig.at -= minutes * MINUTE

    @rule(place=gates)
    def gate_is_killed(self, place: int) -> None:
        self.rig.kill(place)
        self.model.overdue(self.rig.at)

    @rule(place=gates)
    def gate_is_restarted(self, place: int) -> None:
        self.rig.stop(place)
        self.rig.start(place)
        self.model.overdue(self.rig.at)

    # -- what must be true -------------------------------------------------------------------------

    @invariant()
    def nothing_ran_but_what_should_have(self) -> None:
        assert self.rig.ran == self.model.should_run

    @invariant()
    def holds_stand_as_they_should(self) -> None:
        self.turn = 1 - self.turn
        page = self.rig.request(self.turn, "holds", status="pending", limit=1000)
        now = self.rig.seen[self.turn]
        assert {item["uid"]: item["args"] for item in page["holds"]} == {
            action.uid: {"n": action.runs_with}
            for action in self.model.held()
            if action.hold and action.hold.state(now) == "pending"
        }

    @invariant()
    def state_is_what_was_written_and_not_undone(self) -> None:
        assert self.rig.request(self.turn, "state") == self.model.state.values()

    # -- pieces ------------------------------------------------------------------------------------

    def does(self, work: Callable[[], Any]) -> None:
        """Have the model do what a gate has done; where that has died another has started."""
        try:
            work()
        except GateDied:
            self.model.overdue(self.rig.at)

    def call(self, place: int, tool: str, n: int, keyed: bool, body: list[str]) -> None:
        """Make a call; a key that is known, or a call that is held, resumes that action."""
        key = f"{tool} {n}" if keyed else None
        params: dict[str, Any] = {} if key is None else {"idempotency_key": key}
        known = None if key is None else self.keys.get(key)
        if key is None and known is None:
            known = self.joins(tool, n)
        turn, outcome = self.rig.carry_out(
            place, body, "govern", tool=tool, args={"n": n}, **params
        )
        if known is not None:
            action = self.model.actions[known]
            self.does(lambda: self.model.resume(action, turn))
        else:
            action = Action(outcome if isinstance(outcome, str) else outcome["uid"], tool, n)
            self.does(lambda: self.model.propose(action, turn))
            if key is not None:
                self.keys[key] = action.uid
        self.compare(outcome, action)

    def joins(self, tool: str, n: int) -> str | None:
        """Return the held action that such a call is a repeat of, if it is one."""
        alike = [a for a in self.model.actions.values() if (a.tool, a.n) == (tool, n)]
        held = [action.uid for action in alike if action.status == "held"]
        if not held or any(action.kind == "approval_denied" for action in alike):
            return None
        return None if "-" in max(held) else max(held)

    def carry_out_plan(
        self, place: int, listed: tuple[Step, ...], key: str | None, body: list[str]
    ) -> tuple[Turn, Any]:
        params: dict[str, Any] = {} if key is None else {"idempotency_key": key}
        proposal = {"id": "p", "actions": [step.to_json(n) for n, step in enumerate(listed)]}
        return self.rig.carry_out(place, body, "propose", proposal=proposal, **params)

    def resume_and_compare(self, place: int, action: Action, body: list[str]) -> None:
        turn, outcome = self.rig.carry_out(place, body, "resume", uid=action.uid, wait_ms=0)
        plan = self.model.plan_of(action)
        if plan is None:
            self.does(lambda: self.model.resume(action, turn))
        else:
            self.does(lambda: self.model.bring_on(plan, turn))
            if not isinstance(outcome, str):
                self.compare_plan(outcome["proposal"], plan)
        self.compare(outcome, action)

    def bring_on_and_compare(self, place: int, plan: Plan, body: list[str]) -> None:
        turn, outcome = self.rig.carry_out(place, body, "resume", uid=plan.uid, wait_ms=0)
        self.does(lambda: self.model.bring_on(plan, turn))
        if not isinstance(outcome, str):
            assert outcome["status"] == plan.sum()
            self.compare_plan(outcome["proposal"], plan)

    def compare(self, outcome: Any, action: Action) -> None:
        """Compare how an action stands; of a gate that died there is nothing to compare."""
        ran_with = self.rig.ran_with.get(action.uid)
        assert action.attempts == 0 or action.tool == WRITE or ran_with == action.runs_with
        if isinstance(outcome, str):
            return
        found = outcome.get("error") or {}
        assert (outcome["uid"], outcome["attempts"]) == (action.uid, action.attempts), outcome
        assert (outcome["status"], found.get("kind")) == action.told, outcome
        assert outcome.get("output") == action.output, outcome

    def compare_plan(self, result: Any, plan: Plan) -> None:
        """Compare how a plan stands, in all that its result tells."""
        if not isinstance(result, str):
            assert same(plan.told(), result), (plan.told(), result)

    def put(self, action: Action, word: Word) -> None:
        """Put a statement beside a hold."""
        self.rig.put_beside_hold(action, word)
        if action.hold is not None:
            action.hold.hear(word, self.rig.at)

    def settle_one(self, action: Action, word: Word) -> None:
        """Put a settlement beside a doubt."""
        self.words.append((word, self.rig.put_beside_doubt(action, word)))
        if action.doubt is not None:
            action.doubt.hear(word, self.rig.at)

    def waiting_plans(self) -> list[Plan]:
        return [plan for plan in self.model.plans.values() if plan.waiting]

    def end_late(self, late: Late, *, returns: bool) -> None:
        """Have a body end that was given up; nobody hears of it whose gate is gone."""
        if self.rig.end_late(late, returns=returns):
            self.model.late(self.model.actions[late.uid], late.attempt, returns=returns)

    def timed_out(self) -> list[Action]:
        late = {late.uid for late in self.rig.late}
        return [action for action in self.model.doubted() if action.uid in late]

    def drafts(self) -> list[Action]:
        return [action for action in self.model.held() if action.tool == "draft"]

    def pick_held(self, number: int) -> Action:
        return self.pick(number, self.model.held())

    def pick(self, number: int, among: list[Any]) -> Any:
        return among[number % len(among)]


Gates.TestCase.settings = settings(
    max_examples=60,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
# The limit leaves time to find the shortest way to what went wrong.
TestGates = pytest.mark.slow(pytest.mark.timeout(420)(Gates.TestCase))
