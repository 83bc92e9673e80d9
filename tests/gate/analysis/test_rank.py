"""Which of several proposals to try first."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.proposals import act, plan, plans, write
from toolgate.analysis import Judge, Ranked, rank
from toolgate.ir import ActionProposal, CostTarget


def ranked(
    *candidates: ActionProposal, target: dict[str, Any] | None = None, judge: Judge | None = None
) -> list[Ranked]:
    return rank(candidates, CostTarget(**(target or {})), None, {}, judge=judge)


def calls(count: int, **fields: Any) -> ActionProposal:
    return plan(*(act(f"a{n}", parameters={"n": n}, **fields) for n in range(count)))


def chain(count: int) -> ActionProposal:
    return plan(
        *(
            act(f"a{n}", parameters={"n": n}, dependencies=[f"a{n - 1}"] if n else [])
            for n in range(count)
        )
    )


INVALID = plan(write("a", "x", 1, state_dependencies=["missing"]))


def test_plan_within_the_target_scores_one() -> None:
    (best,) = ranked(calls(5))
    assert best.to_json() == {
        "index": 0,
        "proposal_id": "p",
        "score": 1.0,
        "valid": True,
        "success_likelihood": 1.0,
        "cost_efficiency": 1.0,
    }


def test_cheaper_plan_comes_first() -> None:
    assert [item.index for item in ranked(calls(20), calls(5), calls(10))] == [1, 2, 0]


def test_cost_efficiency_is_the_mean_of_the_ratios_to_the_target() -> None:
    (wide,) = ranked(calls(20))
    assert wide.cost_efficiency == pytest.approx((5 / 20 + 10 / 20 + 1) / 3)
    (long,) = ranked(chain(20))
    assert long.cost_efficiency == pytest.approx((5 / 20 + 10 / 20 + 5000 / 20000) / 3)


def test_timeout_bounds_what_a_call_is_taken_to_last() -> None:
    (hasty,) = ranked(calls(1, timeout_ms=100), target={"target_duration_ms": 50.0})
    assert hasty.cost_efficiency == 1.0
    (slow,) = ranked(
        calls(1, timeout_ms=100), target={"target_duration_ms": 50.0, "target_tool_calls": 1}
    )
    assert slow.cost_efficiency == 1.0


def test_state_actions_cost_no_calls_and_no_time() -> None:
    (best,) = ranked(plan(*(write(f"a{n}", f"k{n}", n) for n in range(20))))
    assert best.cost_efficiency == pytest.approx((1 + 10 / 20 + 1) / 3)


def test_policy_and_warnings_lower_the_likelihood_of_success() -> None:
    def judge(action: Any, parameters: Any, state: Any) -> Any:
        effect = {0: "deny", 1: "hold"}.get(parameters["n"])
        return None if effect is None else (effect, "so", ())

    (judged,) = ranked(calls(4), judge=judge)
    assert judged.success_likelihood == (0 + 0.5 + 1 + 1) / 4
    (warned,) = ranked(calls(2, reversibility="compensable"))
    assert warned.success_likelihood == 0.5
    (refused,) = ranked(calls(2), judge=lambda *_: ("forbid", "so", ()))
    assert refused.success_likelihood == 0


def test_what_is_found_of_a_compensation_does_not_count() -> None:
    undo = {"type": "tool", "tool": "undo"}
    (judged,) = ranked(
        calls(2, reversibility="compensable", compensation=undo),
        judge=lambda action, *_: ("deny", "so", ()) if action.tool == "undo" else None,
    )
    assert judged.success_likelihood == 1


def test_what_was_sent_is_looked_at_where_it_is_given() -> None:
    sent = {"actions": [{"id": "a", "type": "tool_call", "tool": "t", "preconditons": []}]}
    read = ActionProposal.model_validate(sent)
    (item,) = rank([read], CostTarget(), None, {}, sent=[sent])
    assert item.success_likelihood == 0.5


@pytest.mark.parametrize("weight", [0.0, 0.2, 1.0])
def test_score_weighs_likelihood_and_cost(weight: float) -> None:
    (item,) = ranked(calls(20, reversibility="compensable"), target={"cost_weight": weight})
    expected = item.success_likelihood * (1 - weight) + item.cost_efficiency * weight
    assert item.score == pytest.approx(expected)


def test_invalid_and_empty_proposals_come_last_in_their_order() -> None:
    ranking = ranked(plan(), INVALID, calls(300), plan())
    assert [item.index for item in ranking] == [2, 0, 1, 3]
    assert [item.valid for item in ranking] == [True, True, False, True]
    assert [item.score for item in ranking[1:]] == [0, 0, 0]


def test_invalid_one_comes_last_even_when_the_rest_is_surely_denied() -> None:
    ranking = rank(
        [INVALID, calls(1)],
        CostTarget(cost_weight=0.0),
        None,
        {},
        judge=lambda action, parameters, state: ("deny", "never", ()),
    )
    assert [item.index for item in ranking] == [1, 0]


def test_nothing_to_rank_is_ranked() -> None:
    assert ranked() == []


@given(st.lists(plans(), max_size=4), st.floats(0, 1))
def test_ranking_has_every_candidate_once_and_scores_from_one_to_zero(
    candidates: list[ActionProposal], weight: float
) -> None:
    ranking = ranked(*candidates, target={"cost_weight": weight})
    assert sorted(item.index for item in ranking) == list(range(len(candidates)))
    scores = [item.score for item in ranking]
    assert scores == sorted(scores, reverse=True)
    assert all(0 <= score <= 1 for score in scores)
