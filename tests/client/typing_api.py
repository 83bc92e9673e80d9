"""Never run: mypy and pyright check that the public interface has the types users rely on."""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from typing_extensions import assert_type

from toolgate_client import (
    ActionDenied,
    ActionError,
    ActionFailed,
    ActionHeld,
    ActionResult,
    Compensated,
    Cost,
    Decision,
    Difference,
    Document,
    Equivalence,
    ErrorInfo,
    ExternalEffect,
    GateClient,
    GateClosed,
    GateError,
    GateStartError,
    Hold,
    Issue,
    Observed,
    Optimized,
    Outcome,
    ProposalResult,
    ProtocolError,
    Ranked,
    Removed,
    Restored,
    Result,
    Rollback,
    Verification,
    default_encoder,
)


def body(args: dict[str, Any]) -> list[str]:
    return sorted(args)


async def coroutine_body(args: dict[str, Any]) -> int:
    return len(args)


def constructing() -> None:
    GateClient("gate.yaml")
    GateClient(Path("gate.yaml"), launcher=("uvx", "toolgate"), start_timeout=5)
    GateClient({"project": "p", "policy": {"file": Path("p.yaml")}}, encoder=default_encoder)
    GateClient()  # type: ignore[call-arg]
    GateClient(b"gate.yaml")  # type: ignore[arg-type]
    GateClient("gate.yaml", ["uvx"])  # type: ignore[call-arg]


def using(client: GateClient) -> None:
    with client as gate:
        assert_type(gate, GateClient)
    assert_type(client.start(), GateClient)
    assert_type(client.session, str)
    assert_type(client.project, str)
    assert_type(client.warnings, tuple[str, ...])
    assert_type(client.closed, bool)
    assert_type(client.register_tool("t", body, parameters={"type": "object"}), dict[str, Any])
    client.register_tool("t", coroutine_body, returns={}, idempotent=True, description="d")
    client.register_tool("t", body, cache_ttl=60, rate_limit={"max_calls": 3, "interval_secs": 1})
    client.register_tool("t", 7)  # type: ignore[arg-type]
    assert_type(client.govern("t", {"x": 1}), Outcome)
    client.govern("t", {}, idempotency_key="k", timeout=1, body=body, metadata={"m": 1})
    client.govern("t", [1])  # type: ignore[arg-type]
    assert_type(client.call("t", {}, body=lambda args: args["x"]), Any)
    assert_type(client.resume("u"), Outcome)
    client.resume("u", wait=None, body=body, max_workers=4)
    client.resume("u", 5.0)  # type: ignore[call-arg]
    assert_type(client.withdraw("u"), Outcome)
    assert_type(client.observe("text", source="a mail", trust="trusted"), list[str])
    client.observe("text", trust="somewhat")  # type: ignore[arg-type]
    assert_type(Result({"a": 1}, documents=[Document("text", source="a page")]).output, Any)
    Document("text", trust="somewhat")  # type: ignore[arg-type]
    assert_type(client.holds("pending"), list[Hold])
    client.ping()
    client.close()


async def using_tasks(client: GateClient) -> None:
    async with client as gate:
        assert_type(gate, GateClient)
    assert_type(await client.astart(), GateClient)
    contract = await client.aregister_tool("t", coroutine_body, parameters={"type": "object"})
    assert_type(contract, dict[str, Any])
    await client.aregister_tool("t", 7)  # type: ignore[arg-type]
    assert_type(await client.agovern("t", {"x": 1}, timeout=1, body=coroutine_body), Outcome)
    await client.agovern("t", [1])  # type: ignore[arg-type]
    assert_type(await client.acall("t", {}, body=body), Any)
    assert_type(await client.aresume("u", wait=None, max_workers=4), Outcome)
    await client.aresume("u", 5.0)  # type: ignore[call-arg]
    assert_type(await client.awithdraw("u"), Outcome)
    assert_type(await client.aobserve("text", trust="trusted"), list[str])
    assert_type(await client.aholds("pending"), list[Hold])
    await client.aping()
    plan: dict[str, Any] = {"actions": []}
    assert_type(await client.apropose(plan, max_workers=4), ProposalResult)
    assert_type(await client.averify(plan, max_actions=3), Verification)
    assert_type(await client.asimulate(plan), dict[str, Any])
    assert_type(await client.aequivalent(plan, plan, states=[{}]), Equivalence)
    assert_type(await client.aoptimize(plan), Optimized)
    assert_type(await client.arank([plan]), list[Ranked])
    assert_type(await client.astate({"a"}), dict[str, Any])
    assert_type(await client.acheckpoint("before"), str)
    assert_type(await client.arestore("c"), Restored)
    await client.aclose()


def planning(client: GateClient) -> None:
    plan: dict[str, Any] = {"actions": []}
    assert_type(client.propose(plan), ProposalResult)
    client.propose(plan, idempotency_key="k", max_workers=4)
    client.propose([plan])  # type: ignore[arg-type]
    client.propose(plan, "k")  # type: ignore[call-arg]
    assert_type(client.verify(plan, state={}, max_actions=3), Verification)
    assert_type(client.simulate(plan, state={"k": 1}), dict[str, Any])
    assert_type(client.equivalent(plan, plan, states=[{}]), Equivalence)
    assert_type(client.optimize(plan), Optimized)
    assert_type(client.rank([plan], target={"cost_weight": 0.5}), list[Ranked])
    assert_type(client.state(), dict[str, Any])
    assert_type(client.state({"a", "b"}), dict[str, Any])
    assert_type(client.checkpoint("before"), str)
    assert_type(client.restore("c"), Restored)


def reading_plans(result: ProposalResult, found: Verification, same: Equivalence) -> None:
    assert_type(result.results, tuple[ActionResult, ...])
    assert_type(result.result("a"), ActionResult)
    assert_type(result.result("a").output, Any)
    assert_type(result.result("a").error, ErrorInfo | None)
    assert_type(result.result("a").exception, Exception | None)
    assert_type(result.result("a").rolled_back, bool)
    assert_type(result.status, Literal["completed", "aborted", "suspended", "running"])
    assert_type(result.succeeded, bool)
    assert_type(result.suspended, bool)
    assert_type(result.aborted, bool)
    assert_type(result.holds, tuple[Hold, ...])
    assert_type(result.cost, Cost)
    assert_type(result.rollback, Rollback | None)
    if result.rollback is not None:
        assert_type(result.rollback.compensations, tuple[Compensated, ...])
        assert_type(result.rollback.external_effects, tuple[ExternalEffect, ...])
    assert_type(found.issues, tuple[Issue, ...])
    assert_type(found.valid, bool)
    assert_type(same.differences, tuple[Difference, ...])
    result.status = "completed"  # type: ignore[misc]


def reading_removed(optimized: Optimized, restored: Restored) -> None:
    assert_type(optimized.proposal, dict[str, Any])
    assert_type(optimized.removed, tuple[Removed, ...])
    assert_type(restored.succeeded, bool)
    assert_type(restored.error, ErrorInfo | None)


def reading(outcome: Outcome) -> None:
    assert_type(outcome.uid, str)
    assert_type(outcome.output, Any)
    assert_type(outcome.error, ErrorInfo | None)
    assert_type(outcome.hold, Hold | None)
    assert_type(outcome.decision, Decision | None)
    if outcome.decision is not None:
        assert_type(outcome.decision.observed, Observed | None)
    assert_type(outcome.exception, Exception | None)
    assert_type(outcome.duration_ms, float | None)
    assert_type(outcome.attempts, int)
    assert_type(outcome.edited_args, dict[str, Any] | None)
    assert_type(outcome.succeeded, bool)
    assert_type(outcome.live, bool)
    assert_type(outcome.proposal, ProposalResult | None)
    outcome.uid = "other"  # type: ignore[misc]
    assert_type(
        outcome.status,
        Literal["succeeded", "held", "rejected", "failed", "skipped", "executing", "proposed"],
    )


def failing(client: GateClient) -> None:
    try:
        client.call("t", {})
    except (ActionDenied, ActionHeld, ActionFailed) as error:
        assert_type(error.kind, str)
        assert_type(error.reason, str)
        assert_type(error.uid, str)
        assert_type(error.hold, Hold | None)
        assert_type(error.outcome, Outcome | None)
    except (GateClosed, GateStartError) as error:
        assert_type(error.exit_code, int | None)
        assert_type(error.stderr, str)
    except ProtocolError as error:
        assert_type(error.code, int)
        assert_type(error.data, Any)
    except ActionError as error:
        base: GateError = error
        raise base from None


def events_of(client: GateClient) -> None:
    from toolgate_client import Event, Subscription

    assert_type(client.events(after=1, limit=2, uid="u"), list[Event])
    assert_type(client.subscribe(after=0, uid="u"), Subscription)
    with client.subscribe() as events:
        for event in events:
            assert_type(event, Event)
            assert_type(event.seq, int)
            assert_type(event.action, str | None)
            assert_type(event.data, dict[str, Any])


async def events_as_they_come(client: GateClient) -> None:
    from toolgate_client import Event

    assert_type(await client.aevents(), list[Event])
    async with client.subscribe() as events:
        async for event in events:
            assert_type(event, Event)
