"""Built-in agents: found by id and capability, given tasks made of checked payloads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from toolgate.agents import (
    BUILT_IN,
    FIELDS,
    AgentProfile,
    AgentRegistry,
    DuplicateAgent,
    PayloadError,
    UnknownAgent,
    format_payload,
)
from toolgate.cli.agents import app

TRANSLATOR = AgentProfile("translator", "Translator", "", "Translate.", ("translate", "summarize"))
CONFIG = """
project: acme
agents:
  - id: translator
    name: Translator
    system_prompt: "Translate.\\nNothing \\u001belse."
    capabilities: [translate, summarize]
"""


# --- registry


def test_five_agents_ship_with_what_they_can_do() -> None:
    assert {agent.id: agent.capabilities for agent in AgentRegistry()} == {
        "researcher": ("research", "search-knowledge"),
        "summarizer": ("summarize",),
        "verifier": ("verify-claim",),
        "transcriber": ("transcribe-audio",),
        "note-taker": ("create-note", "summarize"),
    }


def test_every_agent_that_ships_says_who_it_is_and_has_its_own_prompt() -> None:
    for agent in BUILT_IN:
        assert agent.name
        assert agent.description
        assert len(agent.system_prompt) > 200
    assert len({agent.system_prompt for agent in BUILT_IN}) == len(BUILT_IN)


def test_every_capability_that_ships_has_a_payload() -> None:
    assert {name for agent in BUILT_IN for name in agent.capabilities} == FIELDS.keys()


def test_an_agent_is_found_by_its_id() -> None:
    assert AgentRegistry().get("verifier").name == "Verifier"


def test_an_unknown_id_is_an_error_that_lists_what_there_is() -> None:
    with pytest.raises(UnknownAgent) as caught:
        AgentRegistry((TRANSLATOR,)).get("Verifier")
    assert str(caught.value) == (
        "there is no agent 'Verifier'; there are researcher, summarizer, verifier, transcriber, "
        "note-taker, translator"
    )


def test_agents_for_a_capability_come_in_the_order_of_their_registration() -> None:
    registry = AgentRegistry()
    registry.register(TRANSLATOR)
    found = [agent.id for agent in registry.agents_for("summarize")]
    assert found == ["summarizer", "note-taker", "translator"]
    assert registry.agents_for("fly") == ()
    assert registry.get("translator") is TRANSLATOR


def test_a_registered_agent_is_in_that_registry_only() -> None:
    AgentRegistry().register(TRANSLATOR)
    assert "translator" not in {agent.id for agent in AgentRegistry()}


def test_an_id_that_is_taken_is_refused_and_the_first_agent_stays() -> None:
    registry = AgentRegistry()
    with pytest.raises(DuplicateAgent, match="there is an agent 'verifier' already"):
        registry.register(AgentProfile("verifier", "Other", "", "Lie.", ("verify-claim",)))
    assert registry.get("verifier").name == "Verifier"
    with pytest.raises(DuplicateAgent):
        AgentRegistry((TRANSLATOR, TRANSLATOR))


# --- payloads


@pytest.mark.parametrize(
    ("capability", "field"),
    [
        ("research", "question"),
        ("search-knowledge", "question"),
        ("summarize", "text"),
        ("verify-claim", "claim"),
        ("transcribe-audio", "audio_path"),
        ("create-note", "content"),
    ],
)
def test_a_task_says_what_to_do_and_ends_with_the_text_as_it_was(
    capability: str, field: str
) -> None:
    payload = {field: "line one\n  {two} %s é", "other": 1}
    task = format_payload(capability, payload)
    instruction, text = task.split("\n\n", 1)
    assert text == payload[field]
    assert instruction.endswith(":")
    assert format_payload(capability, json.dumps(payload)) == task
    assert format_payload(capability, json.dumps(payload).encode()) == task


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"])))
def test_no_text_is_changed_on_its_way_into_a_task(text: str) -> None:
    assert format_payload("summarize", json.dumps({"text": text})).endswith(f":\n\n{text}")


@pytest.mark.parametrize("capability", FIELDS)
@pytest.mark.parametrize(
    ("payload", "problem"),
    [
        ("{", "the payload of {capability} is not JSON: "),
        ("", "the payload of {capability} is not JSON: "),
        (b"\xff", "the payload of {capability} is not JSON: "),
        ("\ud800", "the payload of {capability} is not JSON: "),
        ('{"a": 1, "a": 2}', "the payload of {capability} is not JSON: "),
        ("[]", "must be a JSON object with '{field}': it is an array"),
        ('"text"', "must be a JSON object with '{field}': it is a string"),
        ("null", "must be a JSON object with '{field}': it is null"),
        (None, "must be a JSON object with '{field}': it is null"),
        (3, "must be a JSON object with '{field}': it is a number"),
        ({}, "the payload of {capability} lacks '{field}'"),
        ({"other": "x"}, "the payload of {capability} lacks '{field}'"),
        ({"FIELD": None}, "'{field}' of {capability} must be a string: it is null"),
        ({"FIELD": 1}, "'{field}' of {capability} must be a string: it is a number"),
        ({"FIELD": True}, "'{field}' of {capability} must be a string: it is a boolean"),
        ({"FIELD": ["x"]}, "'{field}' of {capability} must be a string: it is an array"),
        ({"FIELD": {}}, "'{field}' of {capability} must be a string: it is an object"),
    ],
)
def test_a_payload_that_cannot_be_used_is_an_error_that_names_what_is_wrong(
    capability: str, payload: Any, problem: str
) -> None:
    field = FIELDS[capability]
    if isinstance(payload, dict) and "FIELD" in payload:
        payload = {field: payload["FIELD"]}
    with pytest.raises(PayloadError) as caught:
        format_payload(capability, payload)
    assert problem.format(capability=capability, field=field) in str(caught.value)


def test_a_capability_without_a_payload_is_an_error_that_lists_those_there_are() -> None:
    with pytest.raises(PayloadError, match="'fly'; there are research, search-knowledge, "):
        format_payload("fly", {"text": "x"})


# --- command line


@pytest.fixture
def config(tmp_path: Path) -> str:
    """Write a config with one agent of its own."""
    path = tmp_path / "gate.yaml"
    path.write_text(CONFIG)
    return str(path)


def run(*arguments: str, **options: Any) -> Any:
    """Run ``toolgate agents``."""
    return CliRunner(env={"TOOLGATE_CONFIG": None}).invoke(app, arguments, **options)


def test_list_shows_the_agents_that_ship_and_those_of_a_config(config: str) -> None:
    assert [agent["id"] for agent in json.loads(run("list", "--json").stdout)] == [
        agent.id for agent in BUILT_IN
    ]
    shown = run("list", "--config", config)
    assert shown.exit_code == 0
    assert "translator" in shown.stdout


def test_list_can_be_about_one_capability(config: str) -> None:
    found = run("list", "--capability", "summarize", "--config", config, "--json")
    assert [agent["id"] for agent in json.loads(found.stdout)] == [
        "summarizer",
        "note-taker",
        "translator",
    ]
    for options in ((), ("--json",)):
        nobody = run("list", "--capability", "fly", *options)
        assert (nobody.exit_code, nobody.stdout) == (2, "")
        assert "no agent has the capability 'fly'; there are: create-note, " in nobody.stderr


def test_show_prints_the_whole_agent(config: str) -> None:
    told = json.loads(run("show", "translator", "-c", config, "--json").stdout)
    assert told == {
        "id": "translator",
        "name": "Translator",
        "description": "",
        "system_prompt": "Translate.\nNothing \x1belse.",
        "capabilities": ["translate", "summarize"],
    }
    shown = run("show", "translator", "-c", config).stdout
    assert "can   translate, summarize" in shown
    assert shown.endswith("\nTranslate.\nNothing \\u{1b}else.\n")


def test_show_of_an_unknown_agent_is_wrong_use() -> None:
    result = run("show", "pilot")
    assert result.exit_code == 2
    assert "there is no agent 'pilot'" in result.stderr


def test_format_prints_the_task() -> None:
    assert run("format", "verify-claim", '{"claim": "[red]2 is odd"}').stdout == (
        "Check whether this claim is true:\n\n[red]2 is odd\n"
    )
    told = run("format", "summarize", "-", "--json", input='{"text": "a\\u001bb"}')
    assert json.loads(told.stdout) == {
        "capability": "summarize",
        "task": "Summarize this text:\n\na\x1bb",
    }


def test_format_of_a_bad_payload_is_wrong_use() -> None:
    result = run("format", "summarize", '{"txt": "x"}')
    assert result.exit_code == 2
    assert "the payload of summarize lacks 'text'" in result.stderr
