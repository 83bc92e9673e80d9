"""Every case of an AutoGen tool, raw and governed: the same, or the promised difference.

The cases run in a process of their own, with the newest AutoGen that is supported and the oldest.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from support.autogen_teams import KINDS, named
from support.autogen_world import CASE_NAMES, NEEDS_OLDEST, OLDEST, run_cases
from support.crewai_world import world
from support.doc_pages import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PAGE = ROOT / "docs" / "reference" / "autogen.md"
LONGEST = 60
"""How much of what was seen the table shows."""

Seen = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What was seen with the newest AutoGen, by case."""
    deployment = world(tmp_path_factory.mktemp("newest"), "autogen")
    return {each["case"]: each for each in run_cases(deployment)}


@pytest.fixture(scope="module")
def oldest(tmp_path_factory: pytest.TempPathFactory) -> Seen:
    """What was seen with the oldest."""
    deployment = world(tmp_path_factory.mktemp("oldest"), "autogen")
    return {each["case"]: each for each in run_cases(deployment, libraries=[OLDEST])}


@pytest.fixture(params=["newest", pytest.param("oldest", marks=NEEDS_OLDEST)])
def seen(request: pytest.FixtureRequest) -> Seen:
    """What was seen with each."""
    result: Seen = request.getfixturevalue(request.param)
    return result


def governed(seen: Seen, name: str) -> dict[str, Any]:
    """Return what a case saw governed."""
    observed: dict[str, Any] = seen[name]["governed"]
    return observed


def as_dict(observed: dict[str, Any]) -> dict[str, Any]:
    """Return what was seen, if it has parts."""
    return observed["seen"] if isinstance(observed["seen"], dict) else {}


@pytest.mark.parametrize("name", CASE_NAMES)
def test_a_governed_tool_does_the_same_or_differs_as_promised(seen: Seen, name: str) -> None:
    case = seen[name]
    assert "error" not in {**as_dict(case["raw"]), **as_dict(case["governed"])}
    raw, made = ((case[each]["seen"], case[each]["ran"]) for each in ("raw", "governed"))
    assert (raw == made) is case["promise"].startswith("same")


def test_no_case_is_missing(seen: Seen) -> None:
    assert list(seen) == CASE_NAMES


@pytest.mark.parametrize("kind", KINDS)
class TestKinds:
    """What is promised of whatever an agent takes."""

    def test_an_allowed_call_is_proposed_once(self, seen: Seen, kind: str) -> None:
        assert governed(seen, f"allowed, {kind}")["proposals"] == 1

    def test_a_denial_reaches_the_model_as_an_error(self, seen: Seen, kind: str) -> None:
        for name, words in (("denied", "the rule says no"), ("held and denied", "too much")):
            observed = governed(seen, f"{name}, {kind}")
            ((text, is_error),) = observed["seen"]["told"]
            assert words in text
            assert is_error is True
            assert observed["seen"]["answer"] == "I am done"  # the run went on
            assert (observed["ran"], observed["proposals"]) == ([], 1)
        observed = governed(seen, f"denied, worded by on_denied, {kind}")
        assert observed["seen"]["told"] == [["No: the rule says no.", True]]

    def test_a_held_call_runs_with_what_was_approved(self, seen: Seen, kind: str) -> None:
        assert seen[f"held and approved, {kind}"]["promise"].startswith("same")
        observed = governed(seen, f"held and edited, {kind}")
        assert len(observed["ran"]) == 1
        assert "5" in str(observed["ran"][0])
        ((text, is_error),) = observed["seen"]["told"]
        changed = (
            'A person changed the arguments before approving this call. It ran with: {"amount"'
        )
        assert changed in text
        assert is_error is False

    def test_a_call_that_nobody_waits_for_any_more_is_taken_back(
        self, seen: Seen, kind: str
    ) -> None:
        cancelled = "held, and the run's token is cancelled"
        for name, words in (("held, nobody decides in time", "0.05 s"), (cancelled, "cancelled")):
            observed = governed(seen, f"{name}, {kind}")
            ((text, is_error),) = observed["seen"]["told"]
            assert words in text
            assert is_error is True
            assert (observed["seen"]["held"], observed["ran"]) == (0, [])

    def test_a_returned_hold_is_told_with_its_uid(self, seen: Seen, kind: str) -> None:
        observed = governed(seen, f"held, returned, {kind}")
        ((text, is_error),) = observed["seen"]["told"]
        assert "waits for a person's approval" in text
        assert text.endswith("Its uid is UID.")
        assert is_error is True
        assert (observed["seen"]["held"], observed["ran"]) == (1, [])

    def test_a_team_stops_at_a_hold_and_goes_on_with_the_result(
        self, seen: Seen, kind: str
    ) -> None:
        observed = governed(seen, f"a team that stops at a hold, {kind}")
        first, message, again, second = observed["seen"]
        name = named("pay", kind)
        assert first["stop"] == f"Held for a person's approval: {name} (uid UID)"
        assert message.startswith(f"{name} was approved, and has run. Its result: ")
        assert again == message
        assert second["messages"][0][1:] == ["toolgate", message]
        assert second["answer"] == "I am done"
        assert len(observed["ran"]) == 1


def test_a_model_is_told_that_its_arguments_are_too_large(seen: Seen) -> None:
    observed = governed(seen, "an argument too large for the gate, denied")
    for text, is_error in (*observed["seen"]["told"], observed["seen"]["of a workbench"]):
        assert "the gate takes at most 65536 (limits.max_message_bytes" in text
        assert text.endswith("[invalid_arguments]")
        assert is_error is True
    assert observed["ran"] == []


def test_what_cannot_be_governed_is_denied(seen: Seen) -> None:
    same_name = governed(seen, "two workbenches with one tool's name")
    assert same_name["ran"] == [["fetch", {"item": "lamp"}, None, "NoneType"]]
    assert "two tools have this name" in same_name["seen"][1]
    changed = governed(seen, "a tool that is listed with another schema later")
    assert len(changed["ran"]) == 1
    assert "registered already with another" in changed["seen"][1]["told"][0][0]
    unknown = governed(seen, "an unknown tool of an own workbench")
    assert (unknown["ran"], unknown["proposals"]) == ([], 1)
    assert "[unregistered_tool]" in unknown["seen"]


def test_what_is_judged_is_what_runs(seen: Seen) -> None:
    assert governed(seen, "a default that is another one each time")["seen"] == [1, True]
    own = governed(seen, "a tool with a run_json of its own")
    assert own["ran"] == [[{"item": "lamp", "amount": 10}, "c"]]
    assert governed(seen, "arguments that are changed while they are judged")["ran"] == [
        ["lamp", 10]
    ]


def test_an_edit_that_the_tool_does_not_take_runs_nothing_and_is_not_the_models_fault(
    seen: Seen,
) -> None:
    observed = governed(seen, "held and edited to what the tool does not take")
    ((text, is_error),) = observed["seen"]["told"]
    assert "a person gave it arguments that it does not take" in text
    assert "[invalid_edit]" in text
    assert (is_error, observed["ran"]) == (True, [])


def test_invalid_arguments_are_never_proposed(seen: Seen) -> None:
    name = "arguments: absent, invalid, unknown, no object, no JSON"
    assert governed(seen, name)["proposals"] == 1  # the unknown one is left out, as AutoGen does


def test_what_runs_beside_a_denied_call_runs(seen: Seen) -> None:
    observed = governed(seen, "denied beside allowed calls in parallel")
    assert observed["ran"] == [["a", 10], ["b", 10]]
    assert [is_error for _, is_error in observed["seen"]["told"]] == [False, True, False]


def test_calls_of_one_id_are_calls_of_their_own(seen: Seen) -> None:
    observed = governed(seen, "two calls with one id, and the same ids in another run")
    assert observed["proposals"] == 4


def test_a_cancelled_run_ends_and_asks_nothing(seen: Seen) -> None:
    team = governed(seen, "held, and the token of a team's run is cancelled")
    assert (team["seen"], team["ran"]) == (["cancelled", 0], [])
    task = governed(seen, "held, and the task is cancelled")
    assert (task["seen"], task["ran"]) == (["cancelled", 0], [])
    for kind in KINDS:
        observed = governed(seen, f"a token that was cancelled before, {kind}")
        assert (observed["proposals"], observed["ran"]) == (0, [])


def test_own_code_is_told_of_a_denial_by_an_exception(seen: Seen) -> None:
    (kind, worded), (same, plain) = governed(seen, "denied, called by own code")["seen"]
    assert (kind, same) == ("policy_denied", "policy_denied")
    assert worded.endswith("[policy_denied]")
    assert plain == "the rule says no"
    assert governed(seen, "denied, a stream that own code hears")["seen"] == "policy_denied"
    calls = governed(seen, "governed_call and agoverned_call")["seen"]
    assert calls[:3] == ["search lamp 10", "later lamp", "lamp"]
    assert calls[3:5] == ["pay_less lamp 5", "search lamp 10"]
    assert calls[5:7] == ["policy_denied", "held"]
    assert calls[7].startswith("the body of 'search' is a coroutine function")


def test_only_a_hold_stops_a_team(seen: Seen) -> None:
    liar, denied, held = governed(seen, "what stops a team, and what does not")["seen"]
    assert liar == denied == ["Maximum number of turns 1 reached.", 0, False]
    assert held == ["Held for a person's approval: pay_later (uid UID)", 1, False]


def test_a_team_is_told_why_a_held_call_did_not_run(seen: Seen) -> None:
    said = governed(seen, "a hold that was denied, withdrawn or is not decided")["seen"]
    assert "pay_no_more did not run: denied by alice: too much" in said[0]
    assert said[1:3] == ['["toolgate_status", "toolgate_uid"]', "held"]
    assert "pay_late did not run: withdrawn" in said[3]
    assert said[4] == "no tool named 'pay_elsewhere' i"
    assert said[5].startswith("pay_elsewhere was approved, and has run. Its result: pay_elsewhere")
    assert said[6] == "unknown_action"


def test_a_body_that_stops_itself_goes_on_later(seen: Seen) -> None:
    observed = governed(seen, "a body that stops itself")
    stopped, message = observed["seen"]
    assert "has stopped itself" in stopped
    assert "the shop is closed" in stopped
    assert message.endswith("went on with lamp")
    assert observed["ran"] == ["lamp", "lamp"]


def test_what_is_restored_denies_until_it_is_bound(seen: Seen) -> None:
    denied, allowed = governed(seen, "components: dumped, loaded, bound")["seen"]
    assert denied["told"][0][1] is True
    assert "bind(gate" in denied["told"][0][0]
    assert allowed["told"] == [["fetch lamp None", False]]
    *copies, pickled, bound = governed(seen, "pickled and copied tools")["seen"]
    assert [each["told"][0][1] for each in copies] == [False, False]
    assert "bind(gate" in pickled["told"][0][0]
    assert bound["told"] == [['{"item": "lamp", "total": 1}', False]]


def test_without_a_gate_nothing_runs_and_the_model_is_told(seen: Seen) -> None:
    observed = governed(seen, "a gate that has gone away")
    assert observed["ran"] == []
    assert all("cannot be reached" in each["told"][0][0] for each in observed["seen"])


def test_governing_twice_changes_nothing_and_errors_say_what_is_wrong(seen: Seen) -> None:
    same = governed(seen, "governing twice, and what is refused")["seen"]
    assert same[:5] == [True, [True, True], True, True, "StaticStreamWorkbench"]
    assert same[5:7] == [False, True]
    twice, benches, number, cls, raises, nothing, restored, other = same[7:]
    assert "two tools are called 'a'" in twice
    assert "two tools are called 'a'" in benches
    assert "42 cannot be governed" in number
    assert "<class 'int'> cannot be governed" in cls
    assert 'on_denied="raise" is not for workbenches' in raises
    assert "has no governed tool" in nothing
    assert restored == "nothing"
    assert "is governed by another gate" in other


def test_a_stream_that_nobody_hears_to_its_end_is_recorded(tmp_path: Path) -> None:
    deployment = world(tmp_path, "autogen")
    run_cases(deployment, "a stream that nobody hears to its end")
    (failed,) = deployment.events("action.failed")
    assert "CancelledError" in str(failed)


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
    promise = case["promise"]
    made = promise if promise.startswith("same") else f"{promise}: {shown(case['governed'])}"
    return f"| {case['case']} | {shown(case['raw'])} | {made} |"


def shown(observed: dict[str, Any]) -> str:
    """Return what was seen in a few words: how often bodies ran, and what the model was told."""
    seen = observed["seen"]
    words = seen
    if isinstance(seen, dict):
        told = seen.get("told")
        words = told[-1][0] if told else seen.get("answer", seen)
    text = " ".join(str(words).split()).replace("|", "/").replace("`", "'")
    text = text if len(text) <= LONGEST else f"{text[:LONGEST].rstrip()}…"
    return f"{len(observed['ran'])} × run, `{text}`"
