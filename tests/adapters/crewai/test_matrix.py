"""Every case of a CrewAI tool, raw and governed: the same, or the promised difference.

CrewAI cannot be installed beside the project's pins, so the cases run in an environment of their
own, with the newest CrewAI that is supported and with the oldest.
"""

from __future__ import annotations

from typing import Any

import pytest

from support.crewai_world import CASE_NAMES, NEEDS_CREWAI, OLDEST, PYTHON, run_cases, world
from support.doc_pages import ROOT

pytestmark = [pytest.mark.slow, NEEDS_CREWAI, pytest.mark.timeout(240)]

PAGE = ROOT / "docs" / "reference" / "crewai.md"
LONGEST = 60
"""How much of what was seen the table shows."""

Seen = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What was seen with the newest CrewAI, by case."""
    return {each["case"]: each for each in run_cases(world(tmp_path_factory.mktemp("newest")))}


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What was seen with the oldest."""
    deployment = world(tmp_path_factory.mktemp("oldest"))
    return {each["case"]: each for each in run_cases(deployment, libraries=[OLDEST])}


@pytest.fixture(params=["newest", "oldest"])
def seen(request: pytest.FixtureRequest) -> Seen:
    """What was seen with each."""
    result: Seen = request.getfixturevalue(request.param)
    return result


def made(seen: Seen, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what a case saw raw, and governed."""
    return seen[name]["raw"], seen[name]["governed"]


def as_dict(observed: dict[str, Any]) -> dict[str, Any]:
    """Return what was seen, if it has parts."""
    return observed["seen"] if isinstance(observed["seen"], dict) else {}


def told(observed: dict[str, Any]) -> str:
    """Return all that a model was told, and the crew's answer."""
    return " ".join([*observed["seen"]["told"], observed["seen"]["answer"]])


@pytest.mark.parametrize("name", CASE_NAMES)
def test_a_governed_tool_does_the_same_or_differs_as_promised(seen: Seen, name: str) -> None:
    raw, governed = made(seen, name)
    assert "error" not in {**as_dict(raw), **as_dict(governed)}
    if seen[name]["promise"].startswith("same"):
        assert governed["seen"] == raw["seen"]
        assert governed["ran"] == raw["ran"]
    else:
        assert (governed["seen"], governed["ran"]) != (raw["seen"], raw["ran"])


@pytest.mark.parametrize("name", CASE_NAMES)
def test_what_ran_was_proposed_and_nothing_was_proposed_twice(seen: Seen, name: str) -> None:
    _, governed = made(seen, name)
    calls = 5 if name.startswith("a function, governed_call") else len(governed["ran"])
    if "in parallel, native" in name:
        calls = 2
    stopped = any(word in name for word in ("denied", "in time", "returned", "cancelled"))
    assert governed["proposals"] == max(calls, stopped)


def test_a_call_denied_beside_others_stops_it_alone(seen: Seen) -> None:
    raw, governed = made(seen, "denied beside an allowed call in parallel, native")
    assert raw["ran"] == [["lamp", 10], ["rug", 10]]
    assert governed["ran"] == [["rug", 10]]


def test_a_model_is_told_that_its_arguments_are_too_large(seen: Seen) -> None:
    _, governed = made(seen, "an argument too large for the gate, denied, native")
    assert "the gate takes at most 65536 (limits.max_message_bytes" in told(governed)
    assert "invalid_arguments" in told(governed)
    assert governed["ran"] == []


LOOPS = ("native", "ReAct")


@pytest.mark.parametrize("loop", LOOPS)
def test_a_denial_reaches_the_model_as_text_and_nothing_runs(seen: Seen, loop: str) -> None:
    for name in ("denied", "denied, on_denied raises", "held and denied"):
        raw, governed = made(seen, f"{name}, {loop}")
        assert len(raw["ran"]) == 1
        assert governed["ran"] == []
        assert "the rule says no" in told(governed) or "too much" in told(governed)
        assert governed["seen"]["transcript"]
    _, governed = made(seen, f"denied, worded by on_denied, {loop}")
    assert governed["seen"]["told"] == ["No: the rule says no."]


@pytest.mark.parametrize("loop", LOOPS)
def test_a_denial_is_no_final_answer_and_is_recorded_as_a_failure(newest: Seen, loop: str) -> None:
    raw, governed = made(newest, f"denied, {loop}")
    assert raw["seen"]["answer"] == "forbidden lamp 10"  # result_as_answer
    assert governed["seen"]["answer"] == "I am done"
    assert (raw["seen"]["failed"], governed["seen"]["failed"]) == (0, 1)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_failure_policy_that_raises_ends_the_crew_at_a_denial(newest: Seen, loop: str) -> None:
    _, governed = made(newest, f"denied, tool_failure_policy raise, {loop}")
    assert governed["seen"]["answer"] == "ToolExecutionFailedError"


def test_a_body_that_raises_runs_once_where_crewai_runs_it_six_times(seen: Seen) -> None:
    raw, governed = made(seen, "a body that raises, ReAct")
    assert (len(raw["ran"]), len(governed["ran"])) == (6, 1)
    assert governed["seen"]["told"] == ["Error executing tool: boom"]


@pytest.mark.parametrize("loop", LOOPS)
def test_what_raises_after_the_effect_does_not_repeat_it(seen: Seen, loop: str) -> None:
    for name in ("a cache_function that raises, cache=True", "a formatter that raises"):
        _, governed = made(seen, f"{name}, {loop}")
        assert len(governed["ran"]) == 1
        assert "lamp" in told(governed)


@pytest.mark.parametrize("loop", LOOPS)
def test_the_frameworks_cache_answers_no_governed_call_unless_asked(seen: Seen, loop: str) -> None:
    raw, governed = made(seen, f"CrewAI's cache of results, {loop}")
    assert (len(raw["ran"]), len(governed["ran"])) == (2, 3)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_held_call_waits_and_runs_with_what_was_approved(seen: Seen, loop: str) -> None:
    _, governed = made(seen, f"held and approved, {loop}")
    assert governed["ran"] == [["lamp", 10]]
    _, governed = made(seen, f"held and edited, {loop}")
    assert governed["ran"] == [["lamp", 5]]
    assert "pay_less lamp 5" in told(governed)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_held_call_that_nobody_waits_for_runs_nothing(seen: Seen, loop: str) -> None:
    _, governed = made(seen, f"held, nobody decides in time, {loop}")
    assert governed["ran"] == []
    assert "nobody decided within 0.05 s" in told(governed)
    assert governed["seen"]["held"] == 0  # it was taken back
    _, governed = made(seen, f"held, returned, {loop}")
    assert governed["ran"] == []
    assert "waits for a person's approval" in told(governed)
    assert "Its uid is UID." in told(governed)
    assert governed["seen"]["held"] > 0


def test_a_returned_hold_is_a_retryable_failure_whose_uid_resumes_it(newest: Seen) -> None:
    _, governed = made(newest, "held and returned to a flow's step")
    details = ["hold_id", "kind", "reason", "rules", "status", "uid"]
    assert governed["seen"] == [True, "held", details, "pay lamp 10"]


def test_a_cancelled_coroutine_takes_its_held_call_back(seen: Seen) -> None:
    _, governed = made(seen, "held and cancelled, async")
    assert governed["seen"] == ["cancelled", 0]
    assert governed["ran"] == []


@pytest.mark.parametrize("loop", LOOPS)
def test_fail_closed_stops_what_the_framework_adds_by_itself(seen: Seen, loop: str) -> None:
    duplicates = ("an ungoverned tool of a governed one's name", "such a tool, and no crew")
    changed = "a governed tool that was given another function"
    for name in ("a delegation tool", "an MCP tool", *duplicates, changed):
        raw, governed = made(seen, f"fail_closed: {name}, {loop}")
        assert len(raw["ran"]) == 1
        assert governed["ran"] == []
        assert "blocked by hook" in told(governed)


def test_own_code_is_told_of_a_denial_by_an_exception(seen: Seen) -> None:
    _, governed = made(seen, "denied, on_denied raises, called by own code")
    assert governed["seen"] == "policy_denied"
    _, governed = made(seen, "a function, governed_call and agoverned_call")
    assert governed["seen"][:3] == ["function a", "function b", "function c"]
    assert governed["seen"][3:] == ["policy_denied", "held"]


def test_governing_twice_changes_nothing_and_errors_say_what_is_wrong(seen: Seen) -> None:
    _, governed = made(seen, "governing twice, and what is refused")
    same, twice, runs, no_tool, unbound = governed["seen"]
    assert same is True
    assert "two tools are called 'a_b'" in twice
    assert "overrides run" in runs
    assert "42 cannot be governed" in no_tool
    assert "cannot be made or restored" in unbound


@pytest.mark.parametrize("loop", LOOPS)
def test_without_a_gate_nothing_runs_and_the_model_is_told(seen: Seen, loop: str) -> None:
    _, governed = made(seen, f"a gate that has gone away, {loop}")
    assert governed["ran"] == []
    assert "cannot be reached" in told(governed)


def test_the_page_has_the_table_as_it_is_measured(
    newest: Seen, capsys: pytest.CaptureFixture[str]
) -> None:
    head = ["| case | raw | governed |", "| --- | --- | --- |"]
    table = "\n".join([*head, *map(row, newest.values())])
    with capsys.disabled():
        print(f"\n{table}")
    assert PYTHON.exists()
    assert table in PAGE.read_text(), f"put the table that is printed above into {PAGE.name}"


def row(case: dict[str, Any]) -> str:
    """Return a row of the table."""
    promise = case["promise"]
    governed = promise if promise.startswith("same") else f"{promise}: {shown(case['governed'])}"
    return f"| {case['case']} | {shown(case['raw'])} | {governed} |"


def shown(observed: dict[str, Any]) -> str:
    """Return what was seen in a few words: how often bodies ran, and what the model was told."""
    seen = observed["seen"]
    words = seen
    if isinstance(seen, dict):
        words = seen["told"][-1] if seen["told"] else seen["answer"]
    text = " ".join(str(words).split()).replace("|", "/").replace("`", "'")
    text = text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()}…"
    return f"{len(observed['ran'])} × run, `{text}`"
