"""Limits: token buckets let through what they say, and budgets stop what would go over them."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from toolgate import jsonvalue
from toolgate.ir import CostBudget, OutcomeKind, RateLimit
from toolgate.kernel.limits import Spent, Take, exceeded, rate_limited, take

SECOND = 1_000_000
START = 1_780_000_000 * SECOND
THREE_A_MINUTE = RateLimit(max_calls=3, interval_secs=60.0)

limits = st.builds(
    RateLimit,
    # Few calls, so that buckets run empty; rates that no number of microseconds hits exactly.
    max_calls=st.integers(1, 7),
    interval_secs=st.floats(0.001, 100) | st.sampled_from([1.0, 3.0, 60.0, 0.1]),
)
pauses = st.lists(st.integers(0, 9) | st.integers(0, 10**7), min_size=1, max_size=60)


def run(limit: RateLimit, times: list[int], data: Any = None) -> list[Take]:
    """Ask a bucket at each of these times, and keep what it was."""
    takes = []
    for now in times:
        found = take(limit, data, now)
        data = jsonvalue.parse(jsonvalue.canonical(found.data))
        takes.append(found)
    return takes


def times_of(pauses: list[int]) -> list[int]:
    now, times = START, []
    for pause in pauses:
        now += pause
        times.append(now)
    return times


def test_as_many_calls_as_the_limit_go_through_at_once_and_then_none() -> None:
    takes = run(THREE_A_MINUTE, [START] * 5)
    assert [found.taken for found in takes] == [True, True, True, False, False]
    assert [found.wait for found in takes] == [0, 0, 0, 20.0, 20.0]


def test_tokens_come_back_evenly() -> None:
    times = [START] * 3 + [START + n * SECOND for n in (19, 20, 21, 40, 100)]
    takes = run(THREE_A_MINUTE, times)
    assert [found.taken for found in takes[3:]] == [False, True, False, True, True]
    assert takes[5].wait == 19.0


def test_an_idle_bucket_holds_no_more_than_the_limit() -> None:
    takes = run(THREE_A_MINUTE, [START, *[START + 3600 * SECOND] * 4])
    assert [found.taken for found in takes] == [True, True, True, True, False]


def test_a_call_that_gets_no_token_changes_nothing() -> None:
    empty = run(THREE_A_MINUTE, [START] * 3)[-1].data
    refused = take(THREE_A_MINUTE, empty, START + 5 * SECOND)
    assert not refused.taken
    assert refused.data == empty
    assert refused.wait == 15.0


@given(limits, pauses)
def test_no_window_lets_more_through_than_a_full_bucket_and_what_it_gained(
    limit: RateLimit, pauses: list[int]
) -> None:
    times = times_of(pauses)
    taken = [now for now, found in zip(times, run(limit, times), strict=True) if found.taken]
    rate = limit.max_calls / (Fraction(limit.interval_secs) * SECOND)
    for first, start in enumerate(taken):
        for last in range(first, len(taken)):
            assert last - first + 1 <= limit.max_calls + rate * (taken[last] - start)


@given(limits, st.integers(0, SECOND - 1), st.integers(0, 1000))
def test_whoever_waits_as_long_as_told_gets_a_token_and_not_before(
    limit: RateLimit, tokens: int, ago: int
) -> None:
    found = take(limit, {"tokens": tokens, "at": START - ago}, START)
    if not found.taken:
        later = START + round(found.wait * SECOND)
        assert later > START
        assert take(limit, found.data, later).taken
        assert not take(limit, found.data, later - 1).taken


@given(limits, st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=60))
def test_a_bucket_is_never_negative_nor_overfull_whatever_the_clock_does(
    limit: RateLimit, steps: list[int]
) -> None:
    for found in run(limit, times_of(steps)):
        assert 0 <= found.data["tokens"] <= limit.max_calls * SECOND
        assert found.wait >= 0
        assert found.taken == (found.wait == 0)
        assert math.isfinite(found.wait)


@given(limits, st.data())
def test_a_clock_that_flaps_within_an_interval_gains_nothing(
    limit: RateLimit, data: st.DataObject
) -> None:
    span = math.floor(limit.interval_secs * SECOND)
    times = data.draw(st.lists(st.integers(START, START + span), min_size=1, max_size=60))
    taken = [now for now, found in zip(times, run(limit, times), strict=True) if found.taken]
    rate = limit.max_calls / (Fraction(limit.interval_secs) * SECOND)
    assert len(taken) <= limit.max_calls + rate * (max(times) - times[0])


def test_a_call_with_an_earlier_time_takes_a_token_and_gives_no_time_back() -> None:
    later = START + 60 * SECOND
    takes = run(THREE_A_MINUTE, [later, later, START, later, later + 20 * SECOND])
    assert [found.taken for found in takes] == [True, True, True, False, True]


@pytest.mark.parametrize(("back", "wait"), [(59, 79.0), (60, 80.0), (61, 20.0)])
def test_a_clock_counts_as_set_back_when_it_lacks_more_than_an_interval(
    back: int, wait: float
) -> None:
    used = run(THREE_A_MINUTE, [START] * 3)[-1].data
    assert take(THREE_A_MINUTE, used, START - back * SECOND).wait == wait


def test_a_clock_that_was_set_back_far_costs_one_interval_at_most_and_not_for_ever() -> None:
    used = run(THREE_A_MINUTE, [START + 3600 * SECOND] * 3)[-1].data
    corrected = take(THREE_A_MINUTE, used, START)
    assert (corrected.taken, corrected.wait) == (False, 20.0)
    assert take(THREE_A_MINUTE, corrected.data, START + 20 * SECOND).taken


@given(limits, limits, pauses, pauses)
def test_a_changed_limit_holds_from_the_moment_it_is_changed(
    before: RateLimit, after: RateLimit, first: list[int], then: list[int]
) -> None:
    saved = run(before, times_of(first))[-1].data
    changed = times_of(first)[-1]
    times = [changed + pause for pause in sorted(then)]
    taken = sum(found.taken for found in run(after, times, saved))
    rate = after.max_calls / (Fraction(after.interval_secs) * SECOND)
    assert taken <= after.max_calls + rate * (times[-1] - changed)


ODD: list[Any] = [
    0,
    "",
    [],
    {},
    "full",
    {"tokens": 3 * SECOND},
    {"at": START},
    {"tokens": -1, "at": START},
    {"tokens": 3.0 * SECOND, "at": START},
    {"tokens": True, "at": START},
    {"tokens": math.nan, "at": START},
    {"tokens": math.inf, "at": START},
    {"tokens": 3 * SECOND, "at": -START},
    {"tokens": 3 * SECOND, "at": str(START)},
    {"tokens": 3 * SECOND, "at": None},
    {"tokens": 3 * SECOND, "at": 10**400},
]


@pytest.mark.parametrize("data", ODD, ids=repr)
def test_what_cannot_be_a_bucket_counts_as_an_empty_one(data: Any) -> None:
    found = take(THREE_A_MINUTE, data, START)
    assert (found.taken, found.wait) == (False, 20.0)
    assert found.data == {"tokens": 0, "at": START}
    assert take(THREE_A_MINUTE, found.data, START + 20 * SECOND).taken


def test_more_tokens_than_a_bucket_holds_are_worth_a_full_one() -> None:
    takes = run(THREE_A_MINUTE, [START] * 4, {"tokens": 10**30, "at": START})
    assert [found.taken for found in takes] == [True, True, True, False]


@given(st.integers(1), st.floats(min_value=0, exclude_min=True, allow_infinity=False))
@example(10**400, 5e-324)
@example(1, 1.7976931348623157e308)
def test_no_limit_that_a_client_can_declare_is_an_error(calls: int, seconds: float) -> None:
    limit = RateLimit(max_calls=calls, interval_secs=seconds)
    times = [START, START, START - 10**15, START + 10**15]
    assert run(limit, times)[0].taken
    assert math.isfinite(take(limit, {"tokens": 0, "at": START}, START - 5).wait)


def test_the_error_tells_the_limit_and_when_to_come_again() -> None:
    error = rate_limited("send_email", THREE_A_MINUTE, 19.9999)
    assert error.kind is OutcomeKind.RATE_LIMITED
    assert error.message == (
        "send_email may be called 3 times in 60 s, and that is used up: try again in 20 s"
    )
    assert error.details == {"max_calls": 3, "interval_secs": 60.0, "retry_after_ms": 20_000}


# --- budgets


@pytest.mark.parametrize(
    ("budget", "spent", "limit"),
    [
        ({}, {"tool_calls": 10**9, "actions": 10**9, "duration_ms": 1e12}, None),
        ({"max_tool_calls": 3}, {"tool_calls": 2, "actions": 99}, None),
        ({"max_tool_calls": 3}, {"tool_calls": 3}, "max_tool_calls"),
        ({"max_tool_calls": 3}, {"tool_calls": 4}, "max_tool_calls"),
        ({"max_tool_calls": 0}, {}, "max_tool_calls"),
        ({"max_actions": 2}, {"actions": 1, "tool_calls": 99}, None),
        ({"max_actions": 2}, {"actions": 2}, "max_actions"),
        ({"max_actions": 0}, {}, "max_actions"),
        ({"max_duration_ms": 100.0}, {"duration_ms": 99.9}, None),
        ({"max_duration_ms": 100.0}, {"duration_ms": 100.0}, "max_duration_ms"),
        ({"max_duration_ms": 0.0}, {}, "max_duration_ms"),
    ],
)
def test_nothing_starts_that_would_go_over_a_budget(
    budget: dict[str, Any], spent: dict[str, Any], limit: str | None
) -> None:
    found = exceeded(CostBudget(**budget), Spent(**spent), "proposal")
    assert (found and found.details and found.details["limit"]) == limit
    assert found is None or found.kind is OutcomeKind.BUDGET_EXCEEDED


def test_what_is_no_tool_call_needs_no_room_for_one() -> None:
    budget = CostBudget(max_tool_calls=1, max_actions=2)
    spent = Spent(tool_calls=1, actions=1)
    assert exceeded(budget, spent, "proposal") is not None
    assert exceeded(budget, spent, "proposal", tool_call=False) is None
    assert exceeded(budget, spent.add(actions=1), "proposal", tool_call=False) is not None


def test_the_error_names_the_limit_its_value_and_whose_budget_it_is() -> None:
    error = exceeded(CostBudget(max_tool_calls=500), Spent(tool_calls=500), "session")
    assert error is not None
    assert error.message == (
        "the budget of this session is used up: max_tool_calls allows 500 tool calls "
        "(budget.session.max_tool_calls in the gate's config): ask the operator for more"
    )
    assert error.details == {
        "scope": "session",
        "limit": "max_tool_calls",
        "value": 500,
        "spent": 500,
    }


@given(st.integers(0, 20), st.integers(0, 20), st.integers(0, 60))
def test_asking_and_counting_at_every_start_never_runs_one_more(
    calls: int, actions: int, wanted: int
) -> None:
    budget, spent = CostBudget(max_tool_calls=calls, max_actions=actions), Spent()
    for _ in range(wanted):
        if exceeded(budget, spent, "proposal") is None:
            spent = spent.add(tool_calls=1, actions=1)
    assert spent.tool_calls == spent.actions == min(calls, actions, wanted)


@given(
    st.builds(
        Spent, st.integers(0, 2**53), st.integers(0, 2**53), st.floats(0, 1e15, allow_nan=False)
    )
)
def test_what_is_spent_survives_being_stored(spent: Spent) -> None:
    assert Spent.from_json(jsonvalue.parse(jsonvalue.canonical(spent.to_json()))) == spent


def test_nothing_is_spent_before_anything_was_stored() -> None:
    assert Spent.from_json(None) == Spent(0, 0, 0.0)


@pytest.mark.parametrize(
    "data",
    [
        [],
        "",
        {},
        {"tool_calls": -1, "actions": -1, "duration_ms": -1},
        {"tool_calls": True, "actions": "3", "duration_ms": False},
        {"tool_calls": math.nan, "actions": math.nan, "duration_ms": math.nan},
        {"tool_calls": None, "actions": [], "duration_ms": math.inf},
        {"tool_calls": 10**400, "actions": 10**400, "duration_ms": 10**400},
    ],
    ids=repr,
)
def test_what_cannot_be_read_counts_as_more_than_any_budget(data: Any) -> None:
    spent = Spent.from_json(data)
    for budget in (
        CostBudget(max_tool_calls=10**9),
        CostBudget(max_actions=10**9),
        CostBudget(max_duration_ms=1e12),
    ):
        assert exceeded(budget, spent, "session") is not None
    jsonvalue.canonical(spent.add(tool_calls=1, actions=1, duration_ms=1.0).to_json())


def test_a_clock_that_went_back_gives_no_time_back() -> None:
    assert Spent(duration_ms=5.0).add(duration_ms=-3.0).duration_ms == 5.0
