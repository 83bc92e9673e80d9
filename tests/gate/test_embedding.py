"""The kernel inside a program: the same decisions and the same journal, without a sidecar."""

from __future__ import annotations

import asyncio
import contextvars
import logging
import sqlite3
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.people import ALICE, Person, config
from toolgate import embedding
from toolgate.config import parse_config
from toolgate.desk import Desk
from toolgate.embedding import (
    ActionProposal,
    ActionStatus,
    ConfigError,
    Document,
    InvalidInput,
    JournalTampered,
    JSONError,
    Kernel,
    KeyConflict,
    Outcome,
    OutcomeKind,
    PolicyError,
    ProposalStatus,
    ToolConflict,
    ToolgateError,
    ToolOutput,
    ToolRun,
    ToolSchema,
    ToolSuspended,
    TooManyCalls,
    in_thread,
)
from toolgate.journal.opening import inspect_journal
from toolgate.journal.verify import verify

Body = Callable[[ToolRun], Awaitable[Any]]


class World:
    """A deployment in a folder, and the tools of the program that embeds its kernel."""

    def __init__(self, folder: Path, **changes: Any) -> None:
        self.folder = folder
        self.config = parse_config(config(**changes), folder)
        self.ran: list[tuple[str, dict[str, Any]]] = []
        self.bodies: dict[str, Body] = {}

    def kernel(self) -> Kernel:
        return Kernel(self.config, self.execute)

    async def execute(self, run: ToolRun) -> Any:
        self.ran.append((run.tool, run.args))
        body = self.bodies.get(run.tool)
        return f"{run.tool} did it" if body is None else await body(run)

    def answer(self, name: str, verdict: Any = "approve", person: Person = ALICE) -> None:
        desk = Desk(self.config)
        try:
            desk.answer(name, verdict, person.id, person.key_file(self.folder), "because")
        finally:
            desk.close()

    def events(self, uid: str) -> list[str]:
        journal = inspect_journal(self.config)
        try:
            return [event.kind for event in journal.store.events(action=uid)]
        finally:
            journal.store.close()

    def is_whole(self) -> bool:
        journal = inspect_journal(self.config)
        try:
            return verify(journal.store, journal.key, lambda seen: None).problem is None
        finally:
            journal.store.close()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


async def registered(kernel: Kernel, *names: str) -> None:
    for name in names:
        await kernel.register_tool(ToolSchema(name=name))


class Latch:
    """A body that says when it has begun, and waits to be let go."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.release = asyncio.Event()
        self.ended: str | None = None

    async def __call__(self, run: ToolRun) -> str:
        self.begun.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.ended = "cancelled"
            raise
        self.ended = "done"
        return "done"


class Stubborn(Latch):
    """A body that goes on when it is cancelled, until it is let go."""

    async def __call__(self, run: ToolRun) -> str:
        self.begun.set()
        while not self.release.is_set():
            try:
                await self.release.wait()
            except asyncio.CancelledError:
                self.ended = "goes on"
        return "done after all"


# --- calls


async def test_allowed_call_runs_in_the_program_and_is_in_the_journal(world: World) -> None:
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        outcome = await kernel.govern("search", {"query": "gates"})
    assert (outcome.status, outcome.output) == (ActionStatus.SUCCEEDED, "search did it")
    assert world.ran == [("search", {"query": "gates"})]
    assert world.events(outcome.uid)[-2:] == ["action.executing", "action.succeeded"]
    assert world.is_whole()


async def test_a_changed_document_is_reloaded_on_request_and_a_broken_one_is_refused(
    tmp_path: Path,
) -> None:
    file = tmp_path / "policy.yaml"
    rule = {"id": "s", "tools": ["search"], "effect": "allow"}
    file.write_text(yaml.safe_dump({"version": 1, "id": "doc", "rules": [rule]}))
    world = World(tmp_path, policy={"file": str(file)})
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        allowed = await kernel.govern("search", {})
        file.write_text("rules: [")
        with pytest.raises(PolicyError):
            await kernel.reload_policy()
        still = await kernel.govern("search", {})
        rule["effect"] = "deny"
        file.write_text(yaml.safe_dump({"version": 1, "id": "doc", "rules": [rule]}))
        digest = await kernel.reload_policy()
        denied = await kernel.govern("search", {})
    assert [allowed.status, still.status] == [ActionStatus.SUCCEEDED] * 2
    assert denied.status is ActionStatus.REJECTED
    assert denied.decision is not None
    assert denied.decision["digest"] == digest
    assert world.is_whole()


async def test_denied_call_never_reaches_the_executor(world: World) -> None:
    async with world.kernel() as kernel:
        await registered(kernel, "shell")
        denied = await kernel.govern("shell", {"command": "rm -rf x"})
        unknown = await kernel.govern("unheard of", {})
    assert denied.error is not None
    assert denied.error.message == "nothing is removed by an agent"
    assert unknown.error is not None
    assert unknown.error.kind is OutcomeKind.UNREGISTERED_TOOL
    assert world.ran == []


async def test_held_call_is_approved_and_resumed_by_another_kernel_once(world: World) -> None:
    async with world.kernel() as kernel:
        await registered(kernel, "pay")
        held = await kernel.govern("pay", {"amount": 100})
        assert [hold["uid"] for hold in kernel.holds("pending")] == [held.uid]
    world.answer(held.uid)
    async with world.kernel() as later:
        await registered(later, "pay")
        paid = await later.resume(held.uid)
        again = await later.resume(held.uid)
    assert (held.status, paid.status) == (ActionStatus.HELD, ActionStatus.SUCCEEDED)
    assert (paid.replayed, again.replayed, again.output) == (False, True, paid.output)
    assert world.ran == [("pay", {"amount": 100})]


async def test_waiting_resume_wakes_when_somebody_approves(world: World) -> None:
    async with world.kernel() as kernel:
        await registered(kernel, "pay")
        held = await kernel.govern("pay", {"amount": 1})
        waiting = asyncio.ensure_future(kernel.resume(held.uid, wait=None))
        await asyncio.sleep(0)
        world.answer(held.uid)
        assert (await waiting).output == "pay did it"


async def test_wait_that_ends_by_itself_leaves_the_hold(world: World) -> None:
    async with world.kernel() as kernel:
        await registered(kernel, "pay")
        held = await kernel.govern("pay", {"amount": 1})
        outcome = await kernel.resume(held.uid, wait=0.01)
        assert outcome.status is ActionStatus.HELD
        assert len(kernel.holds("pending")) == 1


async def test_withdrawn_hold_runs_nothing_when_it_is_resumed(world: World) -> None:
    async with world.kernel() as kernel:
        await registered(kernel, "pay")
        held = await kernel.govern("pay", {"amount": 1})
        taken = await kernel.withdraw(held.uid)
        outcome = await kernel.resume(held.uid)
    assert taken.status is outcome.status is ActionStatus.SKIPPED
    assert world.ran == []


async def test_idempotency_key_names_one_call_in_every_kernel(world: World) -> None:
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        first = await kernel.govern("search", {"q": 1}, idempotency_key="k")
    async with world.kernel() as later:
        await registered(later, "search")
        second = await later.govern("search", {"q": 1}, idempotency_key="k")
        with pytest.raises(KeyConflict):
            await later.govern("search", {"q": 2}, idempotency_key="k")
    assert (second.uid, second.replayed) == (first.uid, True)
    assert len(world.ran) == 1


async def test_two_kernels_at_once_share_one_journal(world: World) -> None:
    async with world.kernel() as one, world.kernel() as other:
        await registered(one, "search", "pay")
        await registered(other, "search", "pay")
        outcomes = await asyncio.gather(
            *(kernel.govern("search", {"n": n}) for n in range(20) for kernel in (one, other))
        )
        held = await one.govern("pay", {"amount": 1})
        world.answer(held.uid)
        both = await asyncio.gather(one.resume(held.uid), other.resume(held.uid))
        assert one.session != other.session
    assert {outcome.status for outcome in outcomes} == {ActionStatus.SUCCEEDED}
    assert ActionStatus.SUCCEEDED in {outcome.status for outcome in both}
    assert [tool for tool, _ in world.ran].count("pay") == 1
    assert world.is_whole()


# --- bodies


async def test_what_a_body_raises_is_its_failure(world: World) -> None:
    class Odd(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    async def fail(run: ToolRun) -> Any:
        raise (run.args["n"] and Odd) or ValueError("no such \ud800 order")

    world.bodies["search"] = fail
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        outcome, odd = [await kernel.govern("search", {"n": n}) for n in (0, 1)]
    assert outcome.status is odd.status is ActionStatus.FAILED
    assert outcome.error is not None
    assert outcome.error.message == "no such ? order"
    assert outcome.error.details == {"type": "ValueError"}
    assert odd.error is not None
    assert odd.error.message == "Odd"


def nested(levels: int) -> Any:
    """Return a value nested so deeply."""
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [float("nan"), {1: 2}, object(), "\ud800", {"a": {1}}, nested(200), nested(5000)],
    ids=["nan", "key", "object", "surrogate", "set", "too deep for the log", "deep"],
)
async def test_body_that_returns_what_is_not_json_has_failed(world: World, value: Any) -> None:
    async def body(run: ToolRun) -> Any:
        return value

    world.bodies["search"] = body
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        outcome = await kernel.govern("search", {})
    assert outcome.status is ActionStatus.FAILED
    assert outcome.error is not None
    assert "search returned no JSON value" in outcome.error.message


async def test_executor_that_is_no_coroutine_function_fails_the_call(world: World) -> None:
    def plain(run: ToolRun) -> Any:
        raise LookupError("at once")

    async with Kernel(world.config, plain) as kernel:
        await registered(kernel, "search")
        outcome = await kernel.govern("search", {})
    assert outcome.error is not None
    assert outcome.error.message == "at once"


async def test_result_that_is_not_what_the_tool_declares_is_refused(world: World) -> None:
    async with world.kernel() as kernel:
        await kernel.register_tool({"name": "typed", "returns": {"type": "number"}})
        outcome = await kernel.govern("typed", {})
    assert outcome.error is not None
    assert outcome.error.kind is OutcomeKind.INVALID_RESULT


async def test_body_that_exits_has_failed_and_the_program_goes_on(world: World) -> None:
    async def leave(run: ToolRun) -> Any:
        raise SystemExit("usage: search QUERY")

    world.bodies["search"] = leave
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        outcome = await kernel.govern("search", {})
    assert outcome.error is not None
    assert outcome.error.message == "usage: search QUERY"


async def test_program_that_ends_under_its_calls_leaves_them_in_doubt(world: World) -> None:
    async def program() -> None:
        latch = world.bodies["search"] = Latch()
        kernel = world.kernel()
        await kernel.__aenter__()
        await registered(kernel, "search")
        call = asyncio.ensure_future(kernel.govern("search", {}, idempotency_key="k"))
        await latch.begun.wait()
        assert not call.done()
        kernel._runtime._journal.close()  # type: ignore[union-attr]

    await asyncio.to_thread(asyncio.run, program())
    async with world.kernel() as later:
        await registered(later, "search")
        outcome = await later.govern("search", {}, idempotency_key="k")
    assert outcome.error is not None
    assert outcome.error.kind is OutcomeKind.IN_DOUBT
    assert len(world.ran) == 1


async def test_timeout_cancels_the_task_of_the_body(world: World) -> None:
    latch = world.bodies["slow"] = Latch()
    async with world.kernel() as kernel:
        await registered(kernel, "slow")
        outcome = await kernel.govern("slow", {})
    assert outcome.error is not None
    assert outcome.error.kind is OutcomeKind.EXECUTION_TIMEOUT
    assert latch.ended == "cancelled"
    assert world.events(outcome.uid)[-1] == "action.settled"


async def test_timeout_of_a_call_may_shorten_that_of_the_contract(world: World) -> None:
    latch = world.bodies["search"] = Latch()
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        outcome = await kernel.govern("search", {}, timeout=0.01)
    assert outcome.error is not None
    assert outcome.error.kind is OutcomeKind.EXECUTION_TIMEOUT
    assert latch.ended == "cancelled"


async def test_late_result_of_a_body_that_goes_on_settles_it(world: World) -> None:
    body = world.bodies["slow"] = Stubborn()
    async with world.kernel() as kernel:
        await registered(kernel, "slow")
        outcome = await kernel.govern("slow", {})
        body.release.set()
    assert outcome.status is ActionStatus.IN_DOUBT
    async with world.kernel() as later:
        settled = await later.resume(outcome.uid)
    assert (settled.status, settled.output) == (ActionStatus.SUCCEEDED, "done after all")


async def test_thread_that_cannot_be_cancelled_is_waited_for_and_its_result_counts(
    world: World,
) -> None:
    go = threading.Event()

    async def body(run: ToolRun) -> Any:
        return await in_thread(lambda: go.wait(20))

    world.bodies["slow"] = body
    async with world.kernel() as kernel:
        await registered(kernel, "slow")
        outcome = await kernel.govern("slow", {})
        go.set()
    assert outcome.status is ActionStatus.IN_DOUBT
    async with world.kernel() as later:
        assert (await later.resume(outcome.uid)).output is True


async def test_context_variables_of_the_call_reach_the_body(world: World) -> None:
    who: contextvars.ContextVar[str] = contextvars.ContextVar("who")

    async def body(run: ToolRun) -> str:
        return await in_thread(who.get)

    world.bodies["search"] = body
    async with world.kernel() as kernel:
        await registered(kernel, "search")

        async def call(name: str) -> Outcome:
            who.set(name)
            return await kernel.govern("search", {})

        outcomes = await asyncio.gather(call("ann"), call("ben"))
    assert [outcome.output for outcome in outcomes] == ["ann", "ben"]


async def test_body_may_make_calls_of_its_own_and_names_itself_as_their_parent(
    world: World,
) -> None:
    async with world.kernel() as kernel:

        async def outer(run: ToolRun) -> Any:
            inner = await kernel.govern("search", {"by": run.uid}, parent=run.uid)
            return [inner.status.value, inner.uid]

        world.bodies["typed"] = outer
        await registered(kernel, "search", "typed")
        outcome = await kernel.govern("typed", {})
    assert outcome.output[0] == "succeeded"
    assert [tool for tool, _ in world.ran] == ["typed", "search"]
    assert world.events(outcome.output[1])[0] == "action.proposed"


async def test_time_of_a_body_stands_still_while_its_own_call_waits_for_people(
    world: World,
) -> None:
    loop = asyncio.get_running_loop()
    async with world.kernel() as kernel:

        async def outer(run: ToolRun) -> Any:
            held = await kernel.govern("pay", {"amount": 1}, parent=run.uid)
            loop.call_later(0.1, world.answer, held.uid)  # slow has 50 ms
            return (await kernel.resume(held.uid, wait=None)).output

        world.bodies["slow"] = outer
        await registered(kernel, "slow", "pay")
        outcome = await kernel.govern("slow", {})
    assert outcome.output == "pay did it"


async def test_nothing_that_was_judged_changes_with_what_the_program_changes(
    world: World,
) -> None:
    returned = ["first"]

    async def body(run: ToolRun) -> Any:
        run.args["query"] = "changed by the body"
        return returned

    world.bodies["search"] = body
    args: dict[str, Any] = {"query": ["mine"]}
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        call = asyncio.ensure_future(kernel.govern("search", args, idempotency_key="k"))
        await asyncio.sleep(0)
        args["query"].append("sneaked in")
        outcome = await call
        returned.append("changed")
        again = await kernel.govern("search", {"query": ["mine"]}, idempotency_key="k")
    assert outcome.output == again.output == ["first"]
    assert args == {"query": ["mine", "sneaked in"]}


async def test_attempt_gets_the_arguments_whatever_an_earlier_one_did_with_them(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, tools={"search": {"retries": 1}})
    seen: list[Any] = []

    async def body(run: ToolRun) -> Any:
        seen.append(dict(run.args))
        run.args.clear()
        if run.attempt == 1:
            raise ConnectionError("try again")
        return "done"

    world.bodies["search"] = body
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        outcome = await kernel.govern("search", {"q": 1})
    assert (outcome.output, outcome.attempts) == ("done", 2)
    assert seen == [{"q": 1}, {"q": 1}]


# --- callers that no longer wait


async def test_cancelled_caller_has_its_body_cancelled_and_journaled(world: World) -> None:
    latch = world.bodies["search"] = Latch()
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        call = asyncio.ensure_future(kernel.govern("search", {}, idempotency_key="k"))
        await latch.begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert latch.ended == "cancelled"
        outcome = await kernel.govern("search", {}, idempotency_key="k")
    assert outcome.status is ActionStatus.FAILED
    assert outcome.error is not None
    assert outcome.error.message == "cancelled: its caller has gone"
    assert len(world.ran) == 1


async def test_call_cancelled_before_its_body_starts_never_starts_it(world: World) -> None:
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        call = asyncio.ensure_future(kernel.govern("search", {}, idempotency_key="k"))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        outcome = await kernel.govern("search", {}, idempotency_key="k")
    assert outcome.status is ActionStatus.SKIPPED
    assert world.ran == []


async def test_body_cancelled_before_its_first_step_has_ended(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    from toolgate.embedding.bodies import Bodies

    start = Bodies.run

    def start_and_cancel(self: Bodies, order: ToolRun, on_reply: Any) -> None:
        start(self, order, on_reply)
        self.cancel(order.uid, "too late")

    monkeypatch.setattr(Bodies, "run", start_and_cancel)
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        outcome = await kernel.govern("search", {})
    assert outcome.error is not None
    assert outcome.error.message == "cancelled: too late"
    assert world.ran == []


async def test_cancelled_call_takes_the_hold_back_that_it_opened(world: World) -> None:
    async with world.kernel() as kernel:
        await registered(kernel, "pay")
        call = asyncio.ensure_future(kernel.govern("pay", {"amount": 1}))
        await asyncio.sleep(0)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert [hold["status"] for hold in kernel.holds()] == ["withdrawn"]


async def test_cancelled_wait_takes_the_hold_back(world: World) -> None:
    async with world.kernel() as kernel:
        await registered(kernel, "pay")
        held = await kernel.govern("pay", {"amount": 1})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await kernel.resume(held.uid, wait=None)
        assert [hold["status"] for hold in kernel.holds()] == ["withdrawn"]


async def test_failing_task_group_cancels_the_calls_beside_it(world: World) -> None:
    latch = world.bodies["search"] = Latch()

    async def fail() -> None:
        await latch.begun.wait()
        raise LookupError("something else")

    async with world.kernel() as kernel:
        await registered(kernel, "search")

        async def together() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(kernel.govern("search", {}))
                group.create_task(fail())

        with pytest.raises(ExceptionGroup):
            await together()
        assert latch.ended == "cancelled"


async def test_caller_of_a_body_that_goes_on_is_let_go_all_the_same(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolgate.embedding.calls.PATIENCE", 0.01)
    body = world.bodies["search"] = Stubborn()
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        call = asyncio.ensure_future(kernel.govern("search", {}, idempotency_key="k"))
        await body.begun.wait()
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert body.ended == "goes on"
        body.release.set()
        outcome = await kernel.govern("search", {}, idempotency_key="k")
    assert outcome.output == "done after all"


async def test_cancelled_caller_that_joined_a_call_leaves_it_to_the_first(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolgate.embedding.calls.PATIENCE", 0.01)
    latch = world.bodies["search"] = Latch()
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        first = asyncio.ensure_future(kernel.govern("search", {}, idempotency_key="k"))
        await latch.begun.wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await kernel.govern("search", {}, idempotency_key="k")
        latch.release.set()
        assert (await first).output == "done"


# --- the end


async def test_leaving_the_block_waits_for_the_bodies_under_way(world: World) -> None:
    latch = world.bodies["search"] = Latch()
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        call = asyncio.ensure_future(kernel.govern("search", {}))
        await latch.begun.wait()
        asyncio.get_running_loop().call_later(0.01, latch.release.set)
    assert (await call).output == "done"
    assert world.is_whole()


async def test_call_made_just_before_the_end_of_the_block_has_its_time_too(world: World) -> None:
    latch = world.bodies["search"] = Latch()
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        call = asyncio.ensure_future(kernel.govern("search", {}))
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_later(0.05, latch.release.set)
    assert (await call).output == "done"


async def test_body_that_takes_longer_than_the_drain_is_cancelled(tmp_path: Path) -> None:
    world = World(tmp_path, limits={"drain": "10ms"})
    latch = world.bodies["search"] = Latch()
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        call = asyncio.ensure_future(kernel.govern("search", {}))
        await latch.begun.wait()
    outcome = await call
    assert outcome.error is not None
    assert outcome.error.message == "cancelled: the kernel was closed"


async def test_body_that_goes_on_after_the_end_is_in_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("toolgate.embedding.kernel.CANCEL_GRACE", 0.01)
    world = World(tmp_path, limits={"drain": "10ms"})
    body = world.bodies["search"] = Stubborn()
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        call = asyncio.ensure_future(kernel.govern("search", {}))
        await body.begun.wait()
    outcome = await call
    assert outcome.error is not None
    assert outcome.error.kind is OutcomeKind.IN_DOUBT
    body.release.set()
    async with world.kernel() as later:
        assert (await later.resume(outcome.uid)).error == outcome.error


async def test_exit_that_is_cancelled_gives_bodies_no_more_time(world: World) -> None:
    latch = world.bodies["search"] = Latch()

    async def program() -> None:
        async with world.kernel() as kernel:
            await registered(kernel, "search")
            calls.append(asyncio.ensure_future(kernel.govern("search", {})))
            await latch.begun.wait()
            leaving.set()

    calls: list[asyncio.Future[Outcome]] = []
    leaving = asyncio.Event()
    running = asyncio.ensure_future(program())
    await leaving.wait()
    await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    outcome = await calls[0]
    assert outcome.status is ActionStatus.FAILED
    assert world.events(outcome.uid)[-1] == "action.failed"
    assert world.is_whole()


async def test_body_that_waits_for_people_is_ended_by_leaving_and_the_hold_stays(
    tmp_path: Path,
) -> None:
    world = World(tmp_path, limits={"drain": "10ms"})
    held = asyncio.Event()
    async with world.kernel() as kernel:

        async def body(run: ToolRun) -> Any:
            asked = await kernel.govern("pay", {"amount": 1}, parent=run.uid)
            held.set()
            return (await kernel.resume(asked.uid, wait=None)).status

        world.bodies["search"] = body
        await registered(kernel, "search", "pay")
        call = asyncio.ensure_future(kernel.govern("search", {}))
        await held.wait()
    assert (await call).status in (ActionStatus.FAILED, ActionStatus.SUCCEEDED)
    async with world.kernel() as later:
        assert [hold["status"] for hold in later.holds()] == ["pending"]


async def test_leaving_ends_a_wait_for_people_and_the_hold_stays(world: World) -> None:
    async with world.kernel() as kernel:
        await registered(kernel, "pay")
        held = await kernel.govern("pay", {"amount": 1})
        waiting = asyncio.ensure_future(kernel.resume(held.uid, wait=None))
        await asyncio.sleep(0.01)
    assert (await waiting).status is ActionStatus.HELD
    async with world.kernel() as later:
        assert [hold["status"] for hold in later.holds()] == ["pending"]


async def test_nothing_starts_outside_of_the_block(world: World) -> None:
    kernel = world.kernel()
    with pytest.raises(ToolgateError, match="not open"):
        await kernel.govern("search", {})
    async with kernel:
        with pytest.raises(ToolgateError, match="once"):
            await kernel.__aenter__()
    with pytest.raises(ToolgateError, match="closed"):
        await kernel.govern("search", {})
    with pytest.raises(ToolgateError, match="closed"):
        kernel.state()
    with pytest.raises(ToolgateError, match="once"):
        await kernel.__aenter__()


async def test_kernel_is_not_used_from_another_thread(world: World) -> None:
    async with world.kernel() as kernel:
        with pytest.raises(ToolgateError, match="event loop"):
            await asyncio.to_thread(kernel.state)
        with pytest.raises(ToolgateError, match="event loop"):
            await asyncio.to_thread(asyncio.run, kernel.govern("search", {}))


# --- what it is given


async def test_config_may_be_a_path_a_mapping_or_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "gate.yaml"
    path.write_text(yaml.safe_dump(config()))
    world = World(tmp_path)
    sessions = set()
    for given in (str(path), path, config(), world.config):
        async with Kernel(given, world.execute) as kernel:
            sessions.add(kernel.session)
    assert len(sessions) == 4
    assert world.is_whole()
    with pytest.raises(ConfigError):
        Kernel({}, world.execute)


async def test_journal_in_memory_is_warned_of(tmp_path: Path) -> None:
    async with World(tmp_path, journal="memory:").kernel() as kernel:
        assert any("in memory" in warning for warning in kernel.warnings)


async def test_registering_returns_the_operators_contract_and_never_changes(world: World) -> None:
    async with world.kernel() as kernel:
        schema = {"type": "object"}
        contract = await kernel.register_tool(ToolSchema(name="vault", parameters=schema))
        schema["type"] = "changed since"
        await kernel.register_tool({"name": "vault", "parameters": {"type": "object"}})
        with pytest.raises(ToolConflict):
            await kernel.register_tool({"name": "vault"})
    assert contract.level == 4


async def test_what_cannot_be_used_is_refused_before_anything_is_proposed(world: World) -> None:
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        with pytest.raises(JSONError):
            await kernel.govern("search", {"a": object()})
        for wrong in (
            {"idempotency_key": ""},
            {"timeout": 0},
            {"timeout": float("nan")},
            {"timeout": "soon"},
            {"parent": 7},
        ):
            with pytest.raises(InvalidInput, match=next(iter(wrong))):
                await kernel.govern("search", {}, **wrong)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput, match="wait"):
            await kernel.resume("x", wait=-1)
        with pytest.raises(InvalidInput, match="status"):
            kernel.holds("odd")
        with pytest.raises(InvalidInput, match=r"proposal\.actions\.0\.type"):
            await kernel.propose({"actions": [{"type": "odd"}]})
        with pytest.raises(InvalidInput, match=r"tool\.name"):
            await kernel.register_tool({})
    assert world.ran == []


async def test_more_calls_than_the_limit_are_refused(tmp_path: Path) -> None:
    world = World(tmp_path, limits={"max_in_flight": 2})
    latch = world.bodies["search"] = Latch()
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        calls = [asyncio.ensure_future(kernel.govern("search", {"n": n})) for n in range(3)]
        await latch.begun.wait()
        latch.release.set()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Outcome, Outcome, TooManyCalls]


async def test_row_that_is_not_genuine_is_raised_logged_and_journaled(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    async with world.kernel() as kernel:
        await registered(kernel, "pay")
        held = await kernel.govern("pay", {"amount": 1})
        other = await kernel.govern("pay", {"amount": 2})
        with sqlite3.connect(world.folder / ".toolgate/journal.db") as db:
            db.execute("UPDATE hold SET reason = 'x' WHERE uid = ?", (held.uid,))
        db.close()
        with caplog.at_level(logging.ERROR, "toolgate"):
            assert [hold["uid"] for hold in kernel.holds()] == [other.uid]
            with pytest.raises(JournalTampered):
                await kernel.resume(held.uid)
    assert len(caplog.records) == 1
    journal = inspect_journal(world.config)
    kinds = [event.kind for event in journal.store.events()]
    journal.store.close()
    assert kinds.count("journal.tampered") == 1


# --- plans


STATE = {"id": "state", "types": ["state_write"], "effect": "allow"}


def stateful(folder: Path, **changes: Any) -> World:
    """Return a world whose policy lets the session's state be written."""
    rules = [*config()["policy"]["rules"], STATE]
    return World(folder, policy={"rules": rules}, **changes)


def both(**more: Any) -> dict[str, Any]:
    """Return a plan of two calls that may run at once, and a third that gets their outputs."""
    once = {"type": "tool_call", "failure_behavior": "skip"}
    return {
        "id": "plan",
        "actions": [
            {"id": "a", "tool": "search", "parameters": {"n": 1}, **once},
            {"id": "b", "tool": "search", "parameters": {"n": 2}, **once},
            {
                "id": "c",
                "type": "tool_call",
                "tool": "search",
                "parameters": {"a": "$a.output", "b": "$b.output"},
                "expected_effects": {"done": True},
            },
        ],
        **more,
    }


async def test_actions_of_a_proposal_run_at_once_in_the_program(tmp_path: Path) -> None:
    world = stateful(tmp_path)
    together = asyncio.Barrier(2)

    async def body(run: ToolRun) -> Any:
        if "n" in run.args:
            await together.wait()
        return run.args

    world.bodies["search"] = body
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        result = await kernel.propose(both())
        assert kernel.state() == {"done": True}
        assert kernel.state(["done", "other"]) == {"done": True}
    assert result.status is ProposalStatus.COMPLETED
    assert [item.action_id for item in result.results] == ["a", "b", "c"]
    assert result.results[2].outcome.output == {"a": {"n": 1}, "b": {"n": 2}}


async def test_proposal_is_suspended_approved_and_brought_on_by_another_kernel(
    world: World,
) -> None:
    plan = ActionProposal.model_validate(
        {
            "actions": [
                {"id": "pay", "type": "tool_call", "tool": "pay", "parameters": {"amount": 1}},
                {"id": "tell", "type": "tool_call", "tool": "search", "parameters": {}},
            ]
        }
    )
    async with world.kernel() as kernel:
        await registered(kernel, "pay", "search")
        suspended = await kernel.propose(plan, idempotency_key="k")
    assert suspended.status is ProposalStatus.SUSPENDED
    assert world.ran == []
    world.answer(suspended.results[0].outcome.uid)
    async with world.kernel() as later:
        await registered(later, "pay", "search")
        outcome = await later.resume(suspended.uid)
        again = await later.propose(
            plan.model_dump(exclude_unset=True, mode="json"), idempotency_key="k"
        )
    assert outcome.proposal is not None
    assert outcome.proposal.status is ProposalStatus.COMPLETED
    assert [tool for tool, _ in world.ran] == ["pay", "search"]
    assert (again.uid, again.status) == (suspended.uid, ProposalStatus.COMPLETED)


async def test_cancelled_proposal_is_aborted_and_undone(tmp_path: Path) -> None:
    world = stateful(tmp_path)
    latch = world.bodies["search"] = Latch()
    plan = {
        "actions": [
            {"id": "w", "type": "state_write", "parameters": {"key": "k", "value": 1}},
            {"id": "s", "type": "tool_call", "tool": "search"},
            {"id": "t", "type": "tool_call", "tool": "search"},
        ]
    }
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        call = asyncio.ensure_future(kernel.propose(plan, idempotency_key="k"))
        await latch.begun.wait()
        assert kernel.state() == {"k": 1}
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        result = await kernel.propose(plan, idempotency_key="k")
        assert kernel.state() == {}
    assert latch.ended == "cancelled"
    assert result.status is ProposalStatus.ABORTED
    assert len(world.ran) == 1


async def test_state_returns_to_a_checkpoint(tmp_path: Path) -> None:
    world = stateful(tmp_path, state={"k": 0})
    write = {"type": "state_write", "parameters": {"key": "k", "value": 1}}
    async with world.kernel() as kernel:
        checkpoint = await kernel.checkpoint("before")
        await kernel.propose({"actions": [write]})
        assert kernel.state() == {"k": 1}
        restored = await kernel.restore(checkpoint)
        assert kernel.state() == {"k": 0}
        unknown = await kernel.restore("nowhere")
    assert restored.status is ActionStatus.SUCCEEDED
    assert unknown.status is ActionStatus.REJECTED


async def test_proposals_are_analysed_without_running_anything(world: World) -> None:
    wrong = {"actions": [{"id": "x", "type": "tool_call", "tool": "nowhere"}]}
    circle = {"actions": [{"id": "x", "type": "state_read", "dependencies": ["x"]}]}
    wasteful = both()
    wasteful["actions"][2]["dependencies"] = ["a", "b"]
    async with world.kernel() as kernel:
        await registered(kernel, "search")
        assert kernel.verify(both()).valid
        assert not kernel.verify(wrong).valid
        assert not kernel.verify(both(), max_actions=1).valid
        assert kernel.simulate(both(), state={"before": 1}) == {"before": 1, "done": True}
        assert kernel.equivalent(both(), wasteful).equivalent
        optimized = kernel.optimize(wasteful).proposal
        assert kernel.equivalent(optimized, both(), states=[{}]).equivalent
        assert [ranked.index for ranked in kernel.rank([wrong, both()])] == [1, 0]
        assert kernel.simulate(circle, state={"as": "it was"}) == {"as": "it was"}
    assert world.ran == []


def test_the_public_face_is_exactly_what_is_named() -> None:
    public = {name for name in vars(embedding) if not name.startswith("_")}
    assert embedding.__all__ == sorted(embedding.__all__)
    assert public - {"bodies", "calls", "given", "kernel"} == set(embedding.__all__)
    for name in embedding.__all__:
        assert getattr(embedding, name).__doc__ or name in {"Executor", "Proposal", "State"}


WARY = {
    "id": "wary",
    "tools": ["search"],
    "when": '"untrusted" in session.labels',
    "effect": "deny",
}


def wary(folder: Path) -> World:
    """Return a world in which nothing is searched for once untrusted content was read."""
    rules = [*config()["policy"]["rules"], WARY]
    return World(folder, policy={"rules": rules})


async def test_body_tells_what_it_has_read_and_later_calls_are_judged_by_it(
    tmp_path: Path,
) -> None:
    world = wary(tmp_path)

    async def read(run: ToolRun) -> ToolOutput:
        return ToolOutput({"title": "a page"}, (Document("Ignore.", "https://evil.example"),))

    world.bodies["search"] = read
    async with world.kernel() as kernel:
        await kernel.register_tool({"name": "search"})
        first = await kernel.govern("search", {"q": 1})
        second = await kernel.govern("search", {"q": 2})
    assert first.output == {"title": "a page"}
    assert second.error is not None
    assert second.error.kind is OutcomeKind.POLICY_DENIED


async def test_body_that_stops_itself_is_entered_again_when_it_is_resumed(tmp_path: Path) -> None:
    world = wary(tmp_path)
    page = (Document("Ignore.", "https://evil.example"),)

    async def stopping(run: ToolRun) -> Any:
        return ToolSuspended(page) if run.attempt == 1 else "done"

    world.bodies["pay"] = stopping
    async with world.kernel() as kernel:
        await kernel.register_tool({"name": "pay"})
        await kernel.register_tool({"name": "search"})
        held = await kernel.govern("pay", {"amount": 1})
        world.answer(held.uid)
        stopped = await kernel.resume(held.uid)
        denied = await kernel.govern("search", {"q": 2})
        done = await kernel.resume(held.uid)
    assert (stopped.status, stopped.attempts) == (ActionStatus.HELD, 1)
    assert denied.status is ActionStatus.REJECTED
    assert (done.output, done.attempts) == ("done", 2)


@pytest.mark.parametrize("documents", [("text",), 7, (Document(7),), (Document("x", trust="y"),)])  # type: ignore[arg-type]
async def test_wrong_documents_are_a_failure_of_the_body(tmp_path: Path, documents: Any) -> None:
    world = wary(tmp_path)

    async def read(run: ToolRun) -> ToolOutput:
        return ToolOutput("x", documents)

    world.bodies["search"] = read
    async with world.kernel() as kernel:
        await kernel.register_tool({"name": "search"})
        outcome = await kernel.govern("search", {})
    assert outcome.status is ActionStatus.FAILED
    assert outcome.error is not None
    assert "wrong documents" in outcome.error.message


async def test_observed_content_labels_the_kernels_session(tmp_path: Path) -> None:
    async with wary(tmp_path).kernel() as kernel:
        await kernel.register_tool({"name": "search"})
        assert await kernel.observe("hello", trust="trusted") == []
        before = await kernel.govern("search", {"q": 1})
        assert await kernel.observe("a mail", source="mail 7") == ["untrusted"]
        after = await kernel.govern("search", {"q": 2})
        with pytest.raises(InvalidInput):
            await kernel.observe(7)  # type: ignore[arg-type]
    assert (before.status, after.status) == (ActionStatus.SUCCEEDED, ActionStatus.REJECTED)
