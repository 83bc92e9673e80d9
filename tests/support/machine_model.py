"""What must come of calls, of what people say, and of doubts: a model without gates or journal.

It is small because nothing in it can fail, race, or be forged: a word says who has signed it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

MINUTE: Final = 60 * 1_000_000
SKEW: Final = MINUTE
PEOPLE: Final = ("alice", "bob")
ENDS: Final = {"denied": "approval_denied", "expired": "approval_timeout"}


@dataclass(frozen=True)
class Terms:
    """Who is asked by a rule, and in what time; ``only`` for one argument, or for each."""

    tool: str
    approvers: tuple[str, ...]
    quorum: int
    minutes: int | None
    edit: bool = False
    only: int | None = None


TERMS: Final = (
    Terms("pay", ("alice",), 1, 15),
    Terms("wire_money", PEOPLE, 2, None),
    Terms("draft", PEOPLE, 2, 30, edit=True),
    Terms("draft", ("alice",), 1, 20, edit=True, only=5),
    Terms("draft", ("alice",), 1, 20, only=6),
)
REFUSED: Final = {7: "policy_denied", 8: "invalid_arguments", 9: "invalid_arguments"}
"""What becomes of a draft with these arguments: policy and both its schemas have their say."""


def asked(tool: str, n: object) -> tuple[Terms, ...]:
    """Return who is asked about a call; nobody: it may run."""
    return tuple(terms for terms in TERMS if terms.tool == tool and terms.only in (None, n))


def refusal(tool: str, n: object) -> str | None:
    """Return why a call may not run whoever approves it, or None."""
    return REFUSED.get(n) if tool == "draft" and isinstance(n, int) else None


@dataclass(frozen=True, eq=False)
class Word:
    """A statement on a hold, as its ``terms`` are, or on a doubt.

    ``n`` is the argument or the output that it names. ``genuine``: whoever it names has signed it.
    """

    about: str
    who: str
    says: str
    at: int
    n: object
    envelope: bytes
    terms: tuple[Terms, ...] = ()
    edit: bool = False
    genuine: bool = True


@dataclass
class Hold:
    """An action that waits for people, with the arguments that it stands with."""

    uid: str
    terms: tuple[Terms, ...]
    n: object
    opened: int
    in_force: object = None
    edited: bool = False
    fresh: bool = False
    """Whether no gate has judged the edit in force."""
    denied: bool = False
    spoken: set[str] = field(default_factory=set)
    approved: set[str] = field(default_factory=set)
    counted: list[Word] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.in_force = self.n

    @property
    def deadline(self) -> int | None:
        limits = [terms.minutes for terms in self.terms if terms.minutes is not None]
        return self.opened + min(limits) * MINUTE if limits else None

    @property
    def editable(self) -> bool:
        return all(terms.edit for terms in self.terms)

    @property
    def approvers(self) -> list[str]:
        return sorted({who for terms in self.terms for who in terms.approvers})

    def hear(self, word: Word, arrived: int) -> None:
        """Take a statement that has arrived beside the hold, if it counts."""
        if word in self.counted or not word.genuine or word.about != self.uid:
            return
        if word.terms != self.terms:
            return
        if word.who not in self.approvers or not self._in_time(word, arrived):
            return
        same = word.n == self.in_force
        if word.edit and (self.denied or not self.editable):
            return
        if same and word.who in self.spoken:
            return
        if not same and not word.edit:
            return
        if not same:
            self.in_force, self.edited, self.fresh = word.n, True, True
            self.spoken, self.approved = set(), set()
        self.spoken.add(word.who)
        self.counted.append(word)
        if word.says == "deny":
            self.denied = True
        else:
            self.approved.add(word.who)

    def _in_time(self, word: Word, arrived: int) -> bool:
        late = self.deadline is not None and max(word.at, arrived) > self.deadline
        return not late and self.opened - SKEW <= word.at <= arrived + SKEW

    def state(self, now: int) -> str:
        """Return what people and the clock have made of it, before any gate has judged."""
        if self.denied:
            return "denied"
        if all(len(self.approved & set(terms.approvers)) >= terms.quorum for terms in self.terms):
            return "released"
        return "expired" if self.deadline is not None and now > self.deadline else "pending"

    def moves(self, now: int) -> bool:
        """Tell whether a resume would find something to do, or to judge."""
        return self.fresh or self.state(now) != "pending"

    def judge(self, tool: str, now: int) -> str:
        """Have a gate look at it: return its state then, with an edit refused that must not run."""
        state = self.state(now)
        if state in ENDS or not (state == "released" or self.fresh):
            return state
        self.fresh = False
        if not self.edited:
            return state
        wanted = asked(tool, self.in_force)
        if refusal(tool, self.in_force) or not all(terms.edit for terms in wanted):
            self._begin(self.n)
            return "pending"
        if not set(wanted) <= set(self.terms):
            self.terms = (*self.terms, *(terms for terms in wanted if terms not in self.terms))
            self.opened = now
            self._begin(self.in_force)
            return "pending"
        return state

    def _begin(self, n: object) -> None:
        """Ask everybody anew, about these arguments."""
        fresh = Hold(self.uid, self.terms, n, self.opened)
        self.__dict__.update(fresh.__dict__)


@dataclass
class Doubt:
    """An action of which nobody knows how it ended, and what was said of that."""

    subject: str
    settlers: list[str]
    since: int
    words: list[Word] = field(default_factory=list)

    def hear(self, word: Word, arrived: int) -> None:
        """Take a statement that has arrived beside the doubt, if it counts."""
        in_time = self.since - SKEW <= word.at <= arrived + SKEW
        ours = word.genuine and word.about == self.subject
        if ours and in_time and word.who in self.settlers:
            self.words.append(word)

    def settled(self, *, over: bool) -> Word | None:
        """Return the word that counts; where it is ``over`` nobody can have it run again."""
        words = [word for word in self.words if not (over and word.says == "retry")]
        return sorted(words, key=lambda word: word.at)[-1] if words else None


@dataclass
class Action:
    """An action: what was asked, how it stands, and what it came to. A single call aborts."""

    uid: str
    tool: str
    n: object
    status: str = "held"
    kind: str | None = None
    output: object = None
    attempts: int = 0
    hold: Hold | None = None
    doubt: Doubt | None = None
    behaviour: str = "abort"
    place: int = 0
    """When it came to stand so: larger is later."""

    @property
    def runs_with(self) -> object:
        """The arguments in force."""
        return self.n if self.hold is None else self.hold.in_force

    @property
    def told(self) -> tuple[str, str | None]:
        """Its status and kind, as callers are told them."""
        return ("failed" if self.status == "in_doubt" else self.status, self.kind)


class GateDied(Exception):
    """The gate died while it ran a body."""


@dataclass
class Turn:
    """One request: when it was made, what is done in it, and when a gate has died of that."""

    now: int
    bodies: Sequence[str]
    died: int = 0
    used: int = 0
    left: bool = False
    """Whether its caller has gone."""

    def next(self) -> str:
        """Return how the next body ends."""
        body = self.bodies[min(self.used, len(self.bodies) - 1)]
        self.used += 1
        return body


class Model:
    """All actions, and how often which body ought to have run."""

    def __init__(self) -> None:
        self.actions: dict[str, Action] = {}
        self.should_run: Counter[str] = Counter()
        self._places = 0

    def held(self) -> list[Action]:
        """Return the actions that wait for people."""
        return [action for action in self.actions.values() if action.status == "held"]

    def doubted(self) -> list[Action]:
        """Return the actions in doubt."""
        return [action for action in self.actions.values() if action.status == "in_doubt"]

    def overdue(self, now: int) -> None:
        """Have a gate start: what was overdue ends, but for what was answered in time."""
        for action in self.held():
            deadline = action.hold.deadline if action.hold else None
            if action.hold is not None and deadline is not None and deadline < now:
                self._end_held(action, action.hold.state(now))

    def propose(self, action: Action, turn: Turn) -> None:
        """Decide on a call that is new: run it, hold it, or reject it."""
        refused, terms = refusal(action.tool, action.n), asked(action.tool, action.n)
        alike = [a for a in self.actions.values() if (a.tool, a.n) == (action.tool, action.n)]
        self.actions[action.uid] = action
        if refused is None and terms and any(a.kind == "approval_denied" for a in alike):
            refused = "approval_denied"
        if refused is not None:
            self.end(action, "rejected", refused)
        elif terms:
            action.hold = Hold(action.uid, terms, action.n, turn.now)
            self.end(action, "held")
        else:
            self.run(action, turn)

    def resume(self, action: Action, turn: Turn) -> None:
        """Bring an action on that is no plan's."""
        if action.status == "in_doubt":
            if self.settle(action, over=False):
                self.run(action, turn)
        elif action.status == "held" and action.hold is not None:
            state = action.hold.judge(action.tool, turn.now)
            if state == "released":
                self.run(action, turn)
            else:
                self._end_held(action, state)

    def withdraw(self, action: Action) -> None:
        """Take an action back, if it is held."""
        if action.status == "held":
            self.end(action, "skipped", "cancelled")

    def settle(self, action: Action, *, over: bool) -> bool:
        """End a doubt as people have; tell whether the action is to run again instead."""
        word = None if action.doubt is None else action.doubt.settled(over=over)
        if word is None:
            return False
        if word.says == "succeeded":
            self.end(action, "succeeded", output=word.n)
        elif word.says == "failed":
            self.fail(action)
        return word.says == "retry"

    def late(self, action: Action, attempt: int, *, returns: bool) -> None:
        """Have a body end that was given up: it settles the doubt about that very attempt."""
        if action.status != "in_doubt" or action.attempts != attempt:
            return
        if returns:
            self.end(action, "succeeded", output=action.runs_with)
        else:
            self.fail(action)

    def run(self, action: Action, turn: Turn) -> None:
        """Run an action's body to an end; raises :class:`GateDied`."""
        while True:
            action.attempts += 1
            self.should_run[action.uid] += 1
            body = turn.next()
            if body == "gate dies":
                self._doubt(action, "in_doubt", turn.died)
                raise GateDied
            if body == "time runs out":
                self._doubt(action, "execution_timeout", turn.now)
                return
            if body != "raises":
                turn.left = turn.left or body == "caller leaves"
                self.end(action, "succeeded", output=action.runs_with)
                return
            if action.behaviour != "retry" or action.attempts > 1 or turn.left:
                self.fail(action)
                return

    def fail(self, action: Action) -> None:
        """End an action that failed."""
        status = "skipped" if action.behaviour == "skip" else "failed"
        self.end(action, status, "execution_failed")

    def end(
        self, action: Action, status: str, kind: str | None = None, output: object = None
    ) -> None:
        """Let an action stand so from now on."""
        self._places += 1
        action.place, action.doubt = self._places, None
        action.status, action.kind, action.output = status, kind, output

    def _end_held(self, action: Action, state: str) -> None:
        if state in ENDS:
            self.end(action, "rejected", ENDS[state])

    def _doubt(self, action: Action, kind: str, since: int) -> None:
        self.end(action, "in_doubt", kind)
        settlers = list(PEOPLE) if action.hold is None else action.hold.approvers
        action.doubt = Doubt(f"{action.uid} {action.attempts}", settlers, since)
