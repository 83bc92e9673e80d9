"""Every case of a LangChain tool, raw and governed: the same, or the promised difference.

Each case is governed twice: by its tools (``govern_tools``) and by its calls (``GateMiddleware``
and the wrappers of a ``ToolNode``). All of it with the newest LangGraph and with the oldest.
"""

from __future__ import annotations

from typing import Any

import pytest

from support.crewai_world import world
from support.doc_pages import ROOT
from support.langgraph_matrix import CASE_NAMES, NEEDS_OLDEST, OLDEST, run_cases

pytestmark = [pytest.mark.slow, pytest.mark.timeout(200)]

PAGE = ROOT / "docs" / "reference" / "langgraph.md"
LONGEST = 60
"""How much of what was seen the table shows."""

Seen = dict[str, dict[str, Any]]
WAYS = ("sync", "async")
FORMS = ("by tool", "by call")


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What was seen with the newest libraries, by case."""
    return run_cases(world(tmp_path_factory.mktemp("newest")))


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What was seen with the oldest."""
    return run_cases(world(tmp_path_factory.mktemp("oldest")), libraries=OLDEST)


@pytest.fixture(params=["newest", pytest.param("oldest", marks=NEEDS_OLDEST)])
def seen(request: pytest.FixtureRequest) -> Seen:
    """What was seen with each."""
    result: Seen = request.getfixturevalue(request.param)
    return result


def governed(case: dict[str, Any]) -> list[dict[str, Any]]:
    """Return what a case saw in each way of governing that it has."""
    return [case[form] for form in FORMS if form in case]


def messages(observed: dict[str, Any]) -> str:
    """Return all that was seen, as one text."""
    return str(observed["seen"])


@pytest.mark.parametrize("name", CASE_NAMES)
def test_a_governed_tool_does_the_same_or_differs_as_promised(seen: Seen, name: str) -> None:
    raw = seen[name]["raw"]
    assert not _is_error(raw)
    for each in governed(seen[name]):
        assert not _is_error(each)
        same = (each["seen"], each["ran"]) == (raw["seen"], raw["ran"])
        assert same == seen[name]["promise"].startswith("same")


@pytest.mark.parametrize("name", CASE_NAMES)
def test_governing_tools_and_governing_calls_come_to_the_same(seen: Seen, name: str) -> None:
    first, *others = governed(seen[name])
    for other in others:
        assert (other["seen"], other["ran"]) == (first["seen"], first["ran"])


@pytest.mark.parametrize("name", CASE_NAMES)
def test_what_ran_was_proposed_and_nothing_was_proposed_twice(seen: Seen, name: str) -> None:
    for each in governed(seen[name]):
        stopped = {
            "forty": 40,
            "governed_call": 2,
            "denied beside": 1,
            "a person's edit": 1,
            "without approval": 1,
        }
        did_not_run = any(
            word in name
            for word in ("denied", "in time", "returned", "cancelled", "by itself", "on_denied")
        )
        extra = next((count for word, count in stopped.items() if word in name), did_not_run)
        asks_by_itself = "asks by itself" in name  # its one call has run
        assert each["proposals"] == len(each["ran"]) + extra - asks_by_itself


def _is_error(observed: dict[str, Any]) -> bool:
    return isinstance(observed["seen"], dict) and "error" in observed["seen"]


@pytest.mark.parametrize("way", WAYS)
def test_a_denial_reaches_the_model_and_nothing_runs(seen: Seen, way: str) -> None:
    names = (f"denied, in an agent, {way}", f"held and denied, {way}")
    added = f"a tool that middleware adds, denied, {way}"
    for name in (*names, added, f"held, with a checkpointer, and denied, {way}"):
        assert seen[name]["raw"]["ran"] != []
        for each in governed(seen[name]):
            assert each["ran"] == []
            assert "'status': 'error'" in messages(each)
            assert "the rule says no" in messages(each) or "too much" in messages(each)
            assert "done" in messages(each)  # the agent went on


@pytest.mark.parametrize("way", WAYS)
def test_a_model_is_told_that_its_arguments_are_too_large(seen: Seen, way: str) -> None:
    for each in governed(seen[f"an argument too large for the gate, denied, {way}"]):
        [text, status] = each["seen"]
        assert "the gate takes at most 65536 (limits.max_message_bytes" in text
        assert text.endswith("[invalid_arguments]")
        assert (status, each["ran"]) == ("error", [])


@pytest.mark.parametrize("way", WAYS)
def test_on_denied_words_or_raises(seen: Seen, way: str) -> None:
    for each in governed(seen[f"denied, worded by on_denied, {way}"]):
        assert "No: the rule says no." in messages(each)
    for each in governed(seen[f"denied, on_denied raises, {way}"]):
        assert messages(each).startswith("ActionDenied: the rule says no")


@pytest.mark.parametrize("way", WAYS)
def test_an_edit_runs_instead_and_the_model_is_told(seen: Seen, way: str) -> None:
    for name in (f"held and edited, {way}", f"held, with a checkpointer, and edited, {way}"):
        for each in governed(seen[name]):
            assert each["ran"] == [["lamp", 5]]
            assert "pay_less lamp 5" in messages(each)
            assert "A person changed the arguments" in messages(each)


@pytest.mark.parametrize("way", WAYS)
def test_a_graph_with_a_checkpointer_pauses_and_its_call_runs_once(seen: Seen, way: str) -> None:
    for each in governed(seen[f"held, with a checkpointer, and approved, {way}"]):
        ((request,), always_the_same, (message,), answer) = each["seen"]
        assert request[1:3] == ["tool_approval", "pay"]
        assert always_the_same
        assert (message["status"], answer, len(each["ran"])) == ("success", "done", 1)
    name = f"held, with a checkpointer, resumed three times without approval, {way}"
    for each in governed(seen[name]):
        (_, always_the_same, told, _) = each["seen"]
        assert (always_the_same, told, each["ran"], each["proposals"]) == (True, [], [], 1)


@pytest.mark.parametrize("way", WAYS)
def test_what_nobody_decides_in_time_is_taken_back(seen: Seen, way: str) -> None:
    for each in governed(seen[f"held, nobody decides in time, {way}"]):
        assert "nobody decided within 0.05 s" in messages(each)
        assert (each["seen"][1], each["ran"]) == (0, [])
    for each in governed(seen[f"held, returned, {way}"]):
        assert "waits for a person's approval" in messages(each)
        assert (each["seen"][1], each["ran"]) == (True, [])


def test_tasks_that_wait_need_no_threads_and_take_their_calls_back(seen: Seen) -> None:
    many = seen["forty held at once, of a tool without a coroutine"]["by tool"]
    no_executor, threads, ended, left = many["seen"]
    assert (no_executor, threads, ended, left) == (True, 0, 40, 0)
    assert seen["held and cancelled"]["by tool"]["seen"] == ["cancelled", 0]


@pytest.mark.parametrize("way", WAYS)
def test_the_gate_judges_what_a_person_edits_in_langchains_own_middleware(
    seen: Seen, way: str
) -> None:
    case = seen[f"a person's edit in HumanInTheLoopMiddleware, {way}"]
    assert case["raw"]["ran"] == [["rug", 10]]
    for each in governed(case):
        assert each["ran"] == []
        assert "forbidden_search did not run, because policy denies it" in messages(each)


@pytest.mark.parametrize("way", WAYS)
def test_without_a_gate_nothing_runs(seen: Seen, way: str) -> None:
    for each in governed(seen[f"a gate that has gone away, {way}"]):
        assert each["ran"] == []
        assert "cannot be reached" in messages(each)
    restored = seen[f"restored by pickle, without a gate and bound, {way}"]["by tool"]
    is_the_class, field, unbound, bound = restored["seen"]
    assert (is_the_class, field, bound) == (True, "got", "got lamp 2")
    assert unbound["artifact"]["toolgate"]["kind"] == "gate_unavailable"
    assert len(restored["ran"]) == 1


@pytest.mark.parametrize("way", WAYS)
def test_own_code_is_told_by_exceptions(seen: Seen, way: str) -> None:
    own = seen[f"governed_call and agoverned_call, {way}"]["by tool"]["seen"]
    assert own == ["search 0 10", "search 1 10", "policy_denied", "held"]


def test_the_page_has_the_table_as_it_is_measured(
    newest: Seen, capsys: pytest.CaptureFixture[str]
) -> None:
    head = ["| case | raw | governed |", "| --- | --- | --- |"]
    table = "\n".join([*head, *map(row, newest.values())])
    with capsys.disabled():
        print(f"\n{table}")
    assert table in PAGE.read_text(), f"put the table that is printed above into {PAGE.name}"


def row(case: dict[str, Any]) -> str:
    """Return a row of the table."""
    promise, (first, *_) = case["promise"], governed(case)
    differs = promise if promise.startswith("same") else f"{promise}: {shown(first)}"
    return f"| {case['case']} | {shown(case['raw'])} | {differs} |"


def shown(observed: dict[str, Any]) -> str:
    """Return what was seen in a few words: how often bodies ran, and what the model was told."""
    texts = list(_texts(observed["seen"])) or [str(observed["seen"])]
    text = " ".join(" · ".join(texts).split()).replace("|", "/").replace("`", "'")
    text = text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()}…"
    return f"{len(observed['ran'])} × run, `{text}`"


def _texts(seen: Any) -> Any:
    """Yield the texts of messages, of what else was seen all."""
    if isinstance(seen, dict):
        parts = [seen["content"]] if "content" in seen else list(seen.values())
    else:
        parts = seen if isinstance(seen, list) else []
    if not parts and not isinstance(seen, (dict, list)):
        yield str(seen)
    for part in parts:
        yield from _texts(part)
