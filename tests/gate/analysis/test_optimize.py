"""The same actions with fewer waits."""

from __future__ import annotations

from typing import Any

from hypothesis import given

from support.proposals import act, claim, plan, plans, states, write
from toolgate.analysis import equivalent, optimize, simulate
from toolgate.ir import Action, ActionProposal
from toolgate.plan.graph import build


def removed(*actions: Action, **state: Any) -> list[tuple[str, str, str]]:
    """Return what goes, as (action, kind, on)."""
    found = optimize(plan(*actions), state).removed
    return [(item.action_id, item.kind, item.on) for item in found]


def after(id: str, *dependencies: str, **fields: Any) -> Action:
    return act(id, dependencies=dependencies, **fields)


def closure(proposal: ActionProposal, attribute: str) -> set[tuple[str, str]]:
    """Return who comes before whom, also by way of others."""
    graph = build(proposal.actions)
    edges = getattr(graph, attribute)
    above: dict[str, set[str]] = {}
    for level in graph.levels():
        for id in level:
            above[id] = set(edges[id]).union(*(above[other] for other in edges[id]))
    return {(other, id) for id, others in above.items() for other in others}


def test_dependency_that_a_chain_implies_goes() -> None:
    chain = (after("a"), after("b", "a"), after("c", "b", "a"))
    assert removed(*chain) == [("c", "dependency", "a")]


def test_dependency_that_a_long_chain_of_references_implies_goes() -> None:
    assert removed(
        act("a"),
        act("b", parameters={"x": "$a.output"}),
        act("c", parameters={"x": "$b.output"}),
        after("d", "a", "c"),
    ) == [("d", "dependency", "a")]


def test_dependency_on_what_the_parameters_refer_to_goes() -> None:
    assert removed(act("a"), after("b", "a", parameters={"x": "$a.output.id"})) == [
        ("b", "dependency", "a")
    ]


def test_dependency_that_is_there_twice_stays_once() -> None:
    optimized = optimize(plan(act("a"), after("b", "a", "a")), {})
    assert optimized.proposal.actions[1].dependencies == ("a",)
    assert [item.on for item in optimized.removed] == ["a"]


def test_dependency_that_state_order_alone_implies_stays() -> None:
    """Were ``a`` to fail, ``b`` would run without the dependency."""
    assert not removed(write("a", "x", 1), write("b", "x", 2, dependencies=["a"]))
    assert not removed(
        claim("a", "y", 1, failure_behavior="retry", expected_effects={"x": 1}),
        act("b", state_dependencies=["x"], expected_effects={"z": 1}),
        act("c", state_dependencies=["z"], dependencies=["a"]),
    )


def test_dependencies_that_nothing_implies_stay() -> None:
    assert not removed(act("a"), act("b"), after("c", "a", "b"), after("d", "c"))


def test_state_dependency_on_a_key_that_is_there_and_nobody_writes_goes() -> None:
    reader = act("a", state_dependencies=["x", "y"])
    assert removed(reader, x=1) == [("a", "state_dependency", "x")]


def test_state_dependency_on_a_key_that_is_not_there_stays() -> None:
    assert not removed(act("a", state_dependencies=["x"]))


def test_state_dependency_on_a_key_that_the_plan_writes_stays() -> None:
    reader = act("a", state_dependencies=["x"])
    assert not removed(reader, write("b", "x", 1), x=1)
    undone = act("c", compensation={"type": "action_ref", "action_id": "b"})
    assert not removed(reader, write("b", "x", 1), undone, x=1)


def test_state_dependency_that_is_there_twice_stays_once() -> None:
    optimized = optimize(plan(act("a", state_dependencies=["x", "x"])), {})
    assert optimized.proposal.actions[0].state_dependencies == ("x",)


def test_what_is_no_plan_and_what_only_compensates_stay_as_they_are() -> None:
    circle = plan(after("a", "b", "b"), after("b", "a"))
    assert optimize(circle, {}).proposal is circle
    undo = after("undo", "a", "a")
    pay = act("a", compensation={"type": "action_ref", "action_id": "undo"})
    assert not removed(pay, undo)


def test_json_of_the_proposal_is_the_proposal() -> None:
    optimized = optimize(
        plan(write("a", "x", {"null": None, "big": 10**30}), after("b", "a", "a")), {}
    )
    told = optimized.to_json()
    assert ActionProposal.model_validate(told["proposal"]) == optimized.proposal
    assert told["removed"] == [{"action_id": "b", "kind": "dependency", "on": "a"}]


def test_many_needless_dependencies_go_at_once() -> None:
    count = 1200
    actions = [after("a0"), after("a1", "a0")]
    actions += [after(f"a{n}", f"a{n - 1}", f"a{n - 2}") for n in range(2, count)]
    assert removed(*actions) == [(f"a{n}", "dependency", f"a{n - 2}") for n in range(2, count)]


@given(plans(), states)
def test_optimizing_never_changes_what_happens(
    proposal: ActionProposal, state: dict[str, Any]
) -> None:
    optimized = optimize(proposal, state).proposal
    assert equivalent(proposal, optimized, [state, {**state, "other": 1}]).equivalent
    assert simulate(proposal, state).statuses == simulate(optimized, state).statuses


@given(plans())
def test_proposal_optimized_for_no_state_is_equivalent_from_every_state(
    proposal: ActionProposal,
) -> None:
    optimized = optimize(proposal, {}).proposal
    assert equivalent(proposal, optimized).equivalent
    assert equivalent(proposal, optimized, [{"x": 1, "z": None}, {"y": "a"}]).equivalent


@given(plans(), states)
def test_who_waits_for_whom_and_who_requires_whom_does_not_change(
    proposal: ActionProposal, state: dict[str, Any]
) -> None:
    optimized = optimize(proposal, state).proposal
    for attribute in ("before", "required"):
        assert closure(proposal, attribute) == closure(optimized, attribute)


@given(plans(), states)
def test_optimizing_twice_finds_nothing_more(
    proposal: ActionProposal, state: dict[str, Any]
) -> None:
    optimized = optimize(proposal, state).proposal
    assert optimize(optimized, state).removed == ()
