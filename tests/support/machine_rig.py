"""Two gates on one journal, driven by hand: their clock, their client's bodies, their store."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from support.driver import Driver
from support.machine_model import MINUTE, TERMS, Action, Terms, Turn, Word
from support.people import ALICE, BOB, MALLORY
from toolgate import clock
from toolgate.actions import Actions
from toolgate.approvals import settlement, statement
from toolgate.config import GateConfig
from toolgate.desk import Desk
from toolgate.journal.events import EventKind
from toolgate.journal.verify import verify
from toolgate.kernel import attempts

BOUND: Final = 60.0
KEYS: Final = {"alice": ALICE.key, "bob": BOB.key}
PLACES: Final = (0, 1)
ALLOWED: Final = ("search", "undo")
TOOLS: Final = (*ALLOWED, *sorted({terms.tool for terms in TERMS}))


def config() -> dict[str, Any]:
    """Return the deployment's config: what the model's terms say, and no more than that.

    Of a draft, 7 is denied by policy, 8 by the operator's schema and 9 by the client's.
    """
    return {
        "project": "p",
        "session": "s",
        "limits": {"max_concurrency": 1},
        "tools": {
            **{tool: {"level": 3} for tool in TOOLS},
            "draft": {"level": 3, "parameters": {"properties": {"n": {"not": {"const": 8}}}}},
        },
        "policy": {
            "rules": [
                {"id": "allowed", "tools": list(ALLOWED), "effect": "allow"},
                {"id": "state", "types": ["state_write"], "effect": "allow"},
                {"id": "sevens", "tools": ["draft"], "when": "args.n == 7", "effect": "deny"},
                *(_rule(number, terms) for number, terms in enumerate(TERMS)),
            ]
        },
        "approvals": {"approvers": [ALICE.pinned, BOB.pinned]},
    }


def _rule(number: int, terms: Terms) -> dict[str, Any]:
    rule: dict[str, Any] = {
        "id": f"held{number}",
        "tools": [terms.tool],
        "effect": "hold",
        "approval": {
            "approvers": list(terms.approvers),
            "quorum": terms.quorum,
            "expires": "never" if terms.minutes is None else f"{terms.minutes}m",
            "edit": terms.edit,
        },
    }
    return rule if terms.only is None else {**rule, "when": f"args.n == {terms.only}"}


@dataclass(frozen=True)
class Late:
    """A body that was given up and goes on: in which gate's client, and as which attempt."""

    gate: Driver
    run: dict[str, Any]
    uid: str
    attempt: int


class Rig:
    """The gates, and everything that happens to them."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.loop = asyncio.new_event_loop()
        self.at = clock.now()
        self._real = (clock.now, attempts.FIRST_WAIT)
        clock.now = lambda: self.at
        attempts.FIRST_WAIT = 0.0005  # type: ignore[misc]
        self.seen = [0, 0]
        """The latest time each gate has gone by: it never goes back for one."""
        self.gates: list[Driver] = []
        self.ran: Counter[str] = Counter()
        self.ran_with: dict[str, Any] = {}
        """What the last body of an action was given."""
        self.late: list[Late] = []
        self._reasons = (f"reason {number}" for number in itertools.count())
        """No two statements are alike: a copy is one that is put into the store twice."""
        for place in PLACES:
            self.gates.append(self.do(self._started(place)))

    @property
    def config(self) -> GateConfig:
        """The deployment's."""
        return self.gates[0].config

    def close(self) -> None:
        """Give the clock back, and let nothing outlive the loop, whatever went wrong."""
        clock.now, attempts.FIRST_WAIT = self._real  # type: ignore[misc]
        self.loop.run_until_complete(self._end_of_loop())
        self.loop.close()
        shutil.rmtree(self.folder)

    def stop(self, place: int) -> None:
        """Shut a gate down: its client goes away."""
        self.do(self.gates[place].__aexit__(None, None, None))

    def start(self, place: int) -> None:
        """Start a gate in the place of one that is gone."""
        self.gates[place] = self.do(self._started(place))

    def kill(self, place: int) -> None:
        """Kill a gate, and start another in its place."""
        self.gates[place].die()
        self.do(asyncio.sleep(0))
        self.start(place)

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end, within a bound."""
        return self.loop.run_until_complete(asyncio.wait_for(work, BOUND))

    def request(self, place: int, method: str, **params: Any) -> Any:
        """Send a request that runs no body, and return its result."""
        self.seen[place] = max(self.seen[place], self.at)
        return self.do(self.gates[place].request(method, **params))

    def carry_out(
        self, place: int, bodies: Sequence[str], method: str, **params: Any
    ) -> tuple[Turn, Any]:
        """Send a request, and be the client whose bodies end so, one after another.

        Returns the turn, and the result; of a gate that has died, the uid of what it ran.
        """
        self.at += 1000
        self.seen[place] = max(self.seen[place], self.at)
        turn = Turn(self.seen[place], bodies)
        result = self.do(self._serve(self.gates[place], Turn(0, bodies), method, params))
        if isinstance(result, str):
            self.kill(place)
            turn.died = self.at
        return turn, result

    async def _serve(self, gate: Driver, turn: Turn, method: str, params: dict[str, Any]) -> Any:
        request = gate.send(method, **params)
        while True:
            run = asyncio.ensure_future(gate.runs.get())
            await asyncio.wait({request, run}, return_when=asyncio.FIRST_COMPLETED)
            if not run.done():
                run.cancel()
                return request.result()
            order = run.result()["params"]
            uid: str = order["uid"]
            self.ran[uid] += 1
            self.ran_with[uid] = order["args"]["n"]
            match turn.next():
                case "gate dies":
                    return uid
                case "time runs out":
                    engine = gate.gate.runtime.engine
                    engine._expire(engine._running[uid].attempt)  # type: ignore[arg-type]
                    self.late.append(Late(gate, run.result(), uid, order["attempt"]))
                case "raises":
                    gate.fail(run.result(), "no")
                case "caller leaves":
                    gate.cancel(request)
                    gate.answer(run.result(), order["args"]["n"])
                case _:
                    gate.answer(run.result(), order["args"]["n"])

    def end_late(self, late: Late, *, returns: bool) -> bool:
        """Have a body end that was given up; tell whether its gate is there to hear of it."""
        self.late.remove(late)
        if late.gate not in self.gates:
            return False
        place = self.gates.index(late.gate)
        self.seen[place] = max(self.seen[place], self.at)
        self.do(self._end_late(late, returns=returns))
        return True

    async def _end_late(self, late: Late, *, returns: bool) -> None:
        if returns:
            late.gate.answer(late.run, late.run["params"]["args"]["n"])
        else:
            late.gate.fail(late.run, "no")
        await late.gate.request("ping")
        await asyncio.gather(*late.gate.gate.runtime.engine.recorder.under_way)

    async def _started(self, place: int) -> Driver:
        self.at += 1000
        gate = Driver(self.folder, config())
        await gate.__aenter__()
        self.seen[place] = self.at
        for tool in TOOLS:
            declared = {"properties": {"n": {"not": {"const": 9}}}} if tool == "draft" else {}
            await gate.tool(tool, parameters=declared)
        expiry = gate.gate.runtime.engine.expiry
        while expiry._working is None:
            await gate.request("ping")
        await expiry._working
        return gate

    async def _end_of_loop(self) -> None:
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # -- what people put into the store, without asking anybody ------------------------------------

    def answer(
        self,
        action: Action,
        who: str,
        verdict: Any,
        *,
        of: object = None,
        edit: int | None = None,
        forged: bool = False,
    ) -> Word:
        """Return somebody's statement on a hold, on other arguments than its own, or an edit."""
        hold = self.desk(lambda desk: desk.find(action.uid).hold)
        n = action.runs_with if of is None else of
        hold = hold.edited({"n": n})
        args: Any = None if edit is None else {"n": edit}
        key = MALLORY.key if forged else KEYS[who]
        envelope = statement.sign(hold, verdict, who, key, self.at, next(self._reasons), args)
        said = n if edit is None else edit
        terms = () if action.hold is None else action.hold.terms
        edited = edit is not None
        return Word(action.uid, who, verdict, self.at, said, envelope, terms, edited, not forged)

    def settle(
        self, action: Action, who: str, outcome: Any, output: int, *, forged: bool = False
    ) -> Word:
        """Return somebody's statement on what became of an action in doubt."""
        doubt = self._doubt(action)
        key = MALLORY.key if forged else KEYS[who]
        value = output if outcome == "succeeded" else None
        envelope = settlement.sign(doubt, outcome, who, key, self.at, next(self._reasons), value)
        about = "" if action.doubt is None else action.doubt.subject
        return Word(about, who, outcome, self.at, value, envelope, genuine=not forged)

    def put_beside_hold(self, action: Action, word: Word) -> None:
        """Put an envelope beside a hold, as anybody can who may write the store."""

        def put(desk: Desk) -> None:
            hold = desk.find(action.uid).hold.hold_id
            desk._journal.store.add_approval(hold, word.envelope, self.at)

        self.desk(put)

    def put_beside_doubt(self, action: Action, word: Word) -> str:
        """Put an envelope beside a doubt; return the name that the doubt has in the store."""
        subject = self._doubt(action).subject
        self.put_under(subject, word)
        return subject

    def put_under(self, subject: str, word: Word) -> None:
        """Put an envelope under a name that something has, or had, in the store."""
        self.desk(lambda desk: desk._journal.store.add_approval(subject, word.envelope, self.at))

    def desk(self, work: Any) -> Any:
        """Do something at the approvers' desk, and return what came of it."""
        desk = Desk(self.config)
        try:
            return work(desk)
        finally:
            desk.close()

    def _doubt(self, action: Action) -> settlement.Doubt:
        actions = Actions(self.config)
        try:
            doubt = actions.find(action.uid).doubt
        finally:
            actions.close()
        if doubt is None:
            raise AssertionError(f"the journal has no doubt about {action.uid}")
        return doubt

    # -- what the journal tells in the end ---------------------------------------------------------

    def problem(self) -> object:
        """Return what is wrong with the journal by its own account, or None."""

        def look(desk: Desk) -> object:
            return verify(desk._journal.store, desk._journal.key, lambda seen: None).problem

        return self.desk(look)

    def claims(self) -> Counter[str]:
        """Return how often the log says that each tool call was claimed."""

        def count(desk: Desk) -> Counter[str]:
            events = desk._journal.store.events()
            return Counter(e.action for e in events if e.kind == EventKind.ACTION_EXECUTING)

        return self.desk(count)  # type: ignore[no-any-return]

    def statuses(self) -> dict[str, str]:
        """Return every action's status, as its row has it."""

        def read(desk: Desk) -> dict[str, str]:
            rows = desk._journal.reader.actions(
                "p", None, None, None, 100_000, None, newest_first=False
            )
            return {uid: row.status for uid, row in rows}

        return self.desk(read)  # type: ignore[no-any-return]


__all__ = ["MINUTE", "Late", "Rig"]
