"""What must come of whole proposals: a model of plans, on that of single calls.

Actions run one after another in it, as they do in a gate with ``limits.max_concurrency: 1``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from support.machine_model import Action, GateDied, Model, Turn

WRITE: Final = "state_write"
_UNSETTLED: Final = ("held",)
_FAILED: Final = ("failed", "in_doubt")
_SUMS: Final = {"completed": "succeeded", "aborted": "failed", "suspended": "held"}


@dataclass(frozen=True)
class Step:
    """One action of a plan, as it is listed.

    ``after`` are the places of those it depends on; with ``refers`` its argument is the output of
    the last of these. ``key`` is what it writes to the session's state when it succeeds; ``undo``
    the tool that compensates it.
    """

    tool: str
    n: int
    behaviour: str
    after: tuple[int, ...] = ()
    refers: bool = False
    key: str | None = None
    undo: str | None = None

    def to_json(self, place: int) -> dict[str, Any]:
        """Return the action that is proposed."""
        value = f"$a{self.after[-1]}.output" if self.refers else self.n
        shape: dict[str, Any] = {
            "id": f"a{place}",
            "dependencies": [f"a{other}" for other in self.after],
            "failure_behavior": self.behaviour,
            "max_retries": 1,
        }
        if self.tool == WRITE:
            return {**shape, "type": WRITE, "parameters": {"key": self.key, "value": value}}
        shape |= {"type": "tool_call", "tool": self.tool, "parameters": {"n": value}}
        if self.key is not None:
            shape["expected_effects"] = {self.key: self.n}
        if self.undo is not None:
            undo = {"type": "tool", "tool": self.undo, "parameters": {"n": f"$a{place}.output"}}
            shape |= {"reversibility": "compensable", "compensation": undo}
        return shape


def sound(steps: list[Step]) -> tuple[Step, ...]:
    """Return steps that make a plan: each depends on earlier ones, and refers to tools only."""
    made: list[Step] = []
    for place, step in enumerate(steps):
        after = tuple(sorted({other for other in step.after if other < place}))
        refers = step.refers and bool(after) and made[after[-1]].tool != WRITE
        key = step.key or "x" if step.tool == WRITE else step.key
        undo = None if step.tool == WRITE else step.undo
        made.append(Step(step.tool, step.n, step.behaviour, after, refers, key, undo))
    return tuple(made)


@dataclass
class Plan:
    """A proposal: its steps, and what its actions came to, by place. What has none, waits."""

    uid: str
    steps: tuple[Step, ...]
    status: str = "suspended"
    undone: bool = False
    """Whether its abort has begun."""
    actions: dict[int, Action] = field(default_factory=dict)
    undoing: dict[int, Action] = field(default_factory=dict)
    rollback: dict[str, Any] = field(default_factory=dict)

    @property
    def over(self) -> bool:
        return self.status in ("completed", "aborted")

    @property
    def waiting(self) -> list[int]:
        """Those of its actions that are held."""
        return [place for place, action in self.actions.items() if action.status == "held"]

    def first(self, again: set[int]) -> int | None:
        """Return the action to start next, if one may; ``again`` are those to be tried again."""
        for place, step in enumerate(self.steps):
            if place in self.actions and place not in again:
                if place in self.waiting and step.behaviour == "abort":
                    return None
                continue
            if all(self._settled(other, again) for other in self._before(place)):
                return place
        return None

    def failed(self, again: set[int]) -> bool:
        """Tell whether an action has failed that aborts the plan by that."""
        return any(
            action.status in _FAILED and self.steps[place].behaviour == "abort"
            for place, action in self.actions.items()
            if place not in again
        )

    def told(self) -> dict[str, Any]:
        """Return what a result of the plan says of it."""
        results = [self._told_of(place) for place in range(len(self.steps))]
        statuses = [result["status"] for result in results]
        ran = [action.attempts for action in self.actions.values()]
        cost = {
            "tool_calls": sum(
                step.tool != WRITE and status == "succeeded"
                for step, status in zip(self.steps, statuses, strict=True)
            ),
            "actions_executed": statuses.count("succeeded") + statuses.count("failed"),
            "actions_rejected": statuses.count("rejected"),
            "actions_skipped": statuses.count("skipped"),
            "retries": sum(attempts - 1 for attempts in ran if attempts),
        }
        told = {"uid": self.uid, "status": self.status, "results": results, "cost": cost}
        return {**told, "rollback": self.rollback} if self.status == "aborted" else told

    def sum(self) -> str:
        """Return the status that sums the plan up."""
        return _SUMS[self.status]

    def _told_of(self, place: int) -> dict[str, Any]:
        action = self.actions.get(place)
        if action is None:
            return {"status": "proposed", "kind": None, "rolled_back": False, "attempts": 0}
        status, kind = action.told
        undone = status == "succeeded" and self.undone
        told = {"status": status, "kind": kind, "rolled_back": undone, "attempts": action.attempts}
        return {**told, "output": action.output} if status == "succeeded" else told

    def _before(self, place: int) -> Iterator[int]:
        """Iterate over what an action comes after: what it needs, and who wrote its key before."""
        step = self.steps[place]
        yield from step.after
        yield from (
            other
            for other in range(place)
            if step.key is not None and self.steps[other].key == step.key
        )

    def _settled(self, place: int, again: set[int]) -> bool:
        return place in self.actions and place not in again and place not in self.waiting


class State:
    """The session's state: every value has the number of the write that it is from."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[object, int]] = {}
        self._written: dict[str, tuple[str, tuple[object, int] | None, int]] = {}
        self._writes = 0

    def values(self) -> dict[str, object]:
        """Return what is there."""
        return {key: value for key, (value, _) in self._values.items()}

    def write(self, uid: str, key: str, value: object) -> None:
        """Write a key, as an action has."""
        self._writes += 1
        self._written[uid] = (key, self._values.get(key), self._writes)
        self._values[key] = (value, self._writes)

    def undo(self, uids: list[str]) -> tuple[list[str], list[str]]:
        """Undo what actions wrote where it still stands; return the keys restored, and kept."""
        undone, kept = set(), set()
        written = [self._written[uid] for uid in uids if uid in self._written]
        for key, before, write in sorted(written, key=lambda item: item[2], reverse=True):
            if key not in self._values or self._values[key][1] != write:
                kept.add(key)
                continue
            undone.add(key)
            if before is None:
                del self._values[key]
            else:
                self._values[key] = before
        return sorted(undone - kept), sorted(kept)


class Plans(Model):
    """Single calls and plans, in one session."""

    def __init__(self) -> None:
        super().__init__()
        self.plans: dict[str, Plan] = {}
        self.state = State()

    def plan_of(self, action: Action) -> Plan | None:
        """Return the plan that resuming an action brings on."""
        plan = self.plans.get(action.uid.partition("-")[0])
        return plan if plan is not None and action in plan.actions.values() else None

    def receive(self, uid: str, steps: tuple[Step, ...], turn: Turn) -> Plan:
        """Run a plan that is new as far as it goes."""
        plan = self.plans[uid] = Plan(uid, steps)
        self._run(plan, turn, set())
        return plan

    def bring_on(self, plan: Plan, turn: Turn) -> None:
        """Resume a plan."""
        doubted = [(place, a) for place, a in plan.actions.items() if a.status == "in_doubt"]
        over = plan.over or plan.undone
        again = {place for place, action in doubted if self.settle(action, over=over)}
        for action in plan.undoing.values():
            # What compensates runs again only when it is resumed itself.
            if action.status == "in_doubt":
                self.settle(action, over=False)
        if plan.over:
            return
        if not (plan.undone or plan.failed(again)):
            answered = {p for p in plan.waiting if _hold(plan.actions[p]).moves(turn.now)}
            if not answered and plan.waiting and plan.first(again) is None:
                return
            again |= answered
        self._run(plan, turn, again)

    def _run(self, plan: Plan, turn: Turn, again: set[int]) -> None:
        """Start what may start; then the plan is over, or waits."""
        while not (plan.undone or plan.failed(again) or turn.left):
            place = plan.first(again)
            if place is None:
                break
            known = place in again
            again.discard(place)
            if known:
                self._again(plan, place, turn)
            else:
                self._start(plan, place, turn)
        settled = not (plan.waiting or again) and len(plan.actions) == len(plan.steps)
        if plan.undone or plan.failed(again) or (turn.left and not settled):
            self._abort(plan, turn)
        elif settled:
            plan.status = "completed"

    def _start(self, plan: Plan, place: int, turn: Turn) -> None:
        step = plan.steps[place]
        action = Action(f"{plan.uid}-{place + 1}", step.tool, step.n, behaviour=step.behaviour)
        plan.actions[place] = action
        needed = [plan.actions[other] for other in step.after]
        if any(other.status != "succeeded" for other in needed):
            self.actions[action.uid] = action
            self.end(action, "rejected", "dependency_failed")
            return
        if step.refers:
            action.n = needed[-1].output
        if step.tool == WRITE:
            self.actions[action.uid] = action
            action.attempts = 1
            self.end(action, "succeeded", output=f"written: {step.key}")
            self.state.write(action.uid, step.key or "", action.n)
            return
        self.propose(action, turn)
        self._has_written(step, action)

    def _again(self, plan: Plan, place: int, turn: Turn) -> None:
        """Bring an action on that waited for people, or that is to run again."""
        action = plan.actions[place]
        if action.status == "in_doubt":
            self.run(action, turn)
        else:
            self.resume(action, turn)
        self._has_written(plan.steps[place], action)

    def _has_written(self, step: Step, action: Action) -> None:
        if action.status == "succeeded" and step.key is not None:
            self.state.write(action.uid, step.key, step.n)

    def _abort(self, plan: Plan, turn: Turn) -> None:
        """Undo a plan, and end it; unless its caller has gone, who runs nothing."""
        if not plan.undone:
            self._skip_the_rest(plan)
            succeeded = [a.uid for a in plan.actions.values() if a.status == "succeeded"]
            restored, kept = self.state.undo(succeeded)
            plan.rollback = {"restored": restored, "kept": kept}
            plan.undone = True
        compensations = []
        for place, action in self._to_compensate(plan):
            if turn.left:
                return
            undoing = plan.undoing.get(place)
            if undoing is None:
                tool = plan.steps[place].undo or ""
                undoing = plan.undoing[place] = Action(f"{action.uid}c", tool, action.output)
                self.propose(undoing, turn)
            status, kind = undoing.told
            compensations.append({"action_id": f"a{place}", "status": status, "kind": kind})
        made_good = {c["action_id"] for c in compensations if c["status"] == "succeeded"}
        plan.rollback["compensations"] = compensations
        plan.rollback["external_effects"] = [
            {"action_id": f"a{place}", "status": action.status}
            for place, action in sorted(plan.actions.items())
            if action.tool != WRITE and action.attempts and f"a{place}" not in made_good
        ]
        plan.status = "aborted"

    def _skip_the_rest(self, plan: Plan) -> None:
        for place, step in enumerate(plan.steps):
            if place in plan.waiting:
                self.withdraw(plan.actions[place])
            elif place not in plan.actions:
                action = Action(f"{plan.uid}-{place + 1}", step.tool, step.n)
                plan.actions[place] = self.actions[action.uid] = action
                self.end(action, "skipped", "cancelled")

    def _to_compensate(self, plan: Plan) -> list[tuple[int, Action]]:
        """Return what is to be compensated, the last to succeed first."""
        succeeded = [
            (place, action)
            for place, action in plan.actions.items()
            if action.status == "succeeded" and plan.steps[place].undo is not None
        ]
        return sorted(succeeded, key=lambda item: item[1].place, reverse=True)


def same(told: Mapping[str, Any], result: Mapping[str, Any]) -> bool:
    """Tell whether a result says what the model does, as far as that says anything."""
    return _seen_as(told, result) == told


def _seen_as(told: Any, found: Any) -> Any:
    """Return the part of what was found that the model tells of."""
    if isinstance(told, Mapping) and isinstance(found, Mapping):
        return {name: _seen_as(value, found.get(name)) for name, value in told.items()}
    if isinstance(told, list) and isinstance(found, list) and len(told) == len(found):
        return [_seen_as(one, other) for one, other in zip(told, found, strict=True)]
    return found


def _hold(action: Action) -> Any:
    if action.hold is None:
        raise AssertionError("what waits for people has a hold")
    return action.hold


__all__ = ["GateDied", "Plan", "Plans", "Step", "same", "sound"]
