"""The commands that say something of proposals, as a person and as a script use them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import Result
from typer.testing import CliRunner

from support.people import config
from toolgate.cli.app import app

Run = Callable[..., Result]

PAY = {"id": "pay", "type": "tool_call", "tool": "pay", "parameters": {"amount": 5}}
NOTE = {
    "id": "note",
    "type": "state_write",
    "parameters": {"key": "paid", "value": "$pay.output"},
    "dependencies": ["pay"],
}
BROKEN = """
actions:
  - id: a
    type: dance
  - type: tool_call
    max_retries: -1
"""
CIRCLE = [{**PAY, "dependencies": ["note"]}, NOTE]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Write files (a list is a proposal's actions) and run a command in their folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TOOLGATE_CONFIG", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: str, **files: Any) -> Result:
        for name, content in files.items():
            actions = isinstance(content, list) and name != "tools"
            value = {"id": name, "actions": content} if actions else content
            text = value if isinstance(value, str) else yaml.safe_dump(value)
            (tmp_path / f"{name}.yaml").write_text(text)
        return CliRunner().invoke(app, list(arguments))

    return run


def told(result: Result, code: int = 0) -> Any:
    """Return the JSON that a command printed on one line."""
    assert result.exit_code == code, result.output
    [line] = result.stdout.splitlines()
    return json.loads(line)


def gate(**changes: Any) -> dict[str, Any]:
    """Return a config in which every tool is allowed, unless a change says otherwise."""
    rules = [
        {"id": "all", "tools": ["*"], "effect": "allow"},
        {"id": "notes", "types": ["state_write"], "effect": "allow"},
    ]
    return config(**{"policy": {"rules": rules}, **changes})


# --- verify


def test_sound_proposal_is_valid_and_nothing_is_written(run: Run, tmp_path: Path) -> None:
    found = told(run("verify", "p.yaml", "--json", p=[PAY, NOTE]))
    assert found["valid"] is True
    assert found["issues"] == []
    assert found["execution_levels"] == [["pay"], ["note"]]
    assert found["simulated_state"] == {"paid": "$pay.output"}
    found = told(run("verify", "p.yaml", "--config", "gate.yaml", "--json", gate=gate()))
    assert found["issues"] == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate.yaml", "p.yaml"]


def test_proposal_may_be_a_json_file(run: Run, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"actions": [PAY, NOTE]}))
    assert told(run("verify", "p.json", "--json"))["valid"]


def test_invalid_proposal_exits_with_one_and_tells_people_why(run: Run) -> None:
    result = run("verify", "p.yaml", p=[{**PAY, "state_dependencies": ["missing"]}])
    assert result.exit_code == 1
    assert "error: pay: state key 'missing'" in result.stdout
    assert result.stdout.endswith("not valid\n")


def test_circle_is_told_with_its_reasons(run: Run) -> None:
    result = run("verify", "p.yaml", p=CIRCLE)
    assert result.exit_code == 1
    assert "'pay' depends on 'note'" in result.stdout


def test_tools_file_says_which_tools_there_are_and_what_they_take(run: Run) -> None:
    schema = {"type": "object", "properties": {"amount": {"type": "string"}}}
    tools = [{"name": "pay", "parameters": schema}]
    found = told(
        run("verify", "p.yaml", "--tools", "tools.yaml", "--json", p=[PAY], tools=tools), 1
    )
    assert [issue["code"] for issue in found["issues"]] == ["invalid_arguments"]
    found = told(run("verify", "p.yaml", "--tools", "tools.yaml", "--json", tools=[]), 1)
    assert [issue["code"] for issue in found["issues"]] == ["unregistered_tool"]


def test_config_gives_the_operators_schemas_policy_capabilities_and_state(run: Run) -> None:
    schema = {"type": "object", "properties": {"amount": {"maximum": 3}}}
    operator = gate(
        tools={"pay": {"parameters": schema}},
        capabilities={"max_actions": 1},
        state={"ready": True},
    )
    actions = [{**PAY, "state_dependencies": ["ready"]}, NOTE]
    arguments = ("verify", "p.yaml", "-c", "gate.yaml", "--json")
    found = told(run(*arguments, p=actions, gate=operator), 1)
    assert {issue["code"] for issue in found["issues"]} == {"invalid_arguments", "too_many_actions"}


def test_config_from_the_environment_counts(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOOLGATE_CONFIG", "gate.yaml")
    denied = gate(policy={"rules": [{"id": "no", "tools": ["pay"], "effect": "deny"}]})
    found = told(run("verify", "p.yaml", "--json", p=[PAY], gate=denied))
    assert [(i["severity"], i["code"]) for i in found["issues"]] == [("info", "policy_denied")]


def test_tools_that_only_compensate_count_with_a_config_too(run: Run) -> None:
    undo = {"type": "tool", "tool": "release"}
    plan = [{**PAY, "reversibility": "compensable", "compensation": undo}]
    for tools in ({}, {"release": {"level": 2}}):
        files = {"p": plan, "gate": gate(tools=tools), "tools": [{"name": "pay"}]}
        assert told(run("verify", "p.yaml", "-c", "gate.yaml", "--json", **files))["issues"] == []
        [item] = told(run("rank", "p.yaml", "-c", "gate.yaml", "--json"))["ranking"]
        assert item["valid"] is True
        arguments = ("verify", "p.yaml", "-c", "gate.yaml", "--tools", "tools.yaml", "--json")
        [issue] = told(run(*arguments), 1)["issues"]
        assert issue["message"] == "its compensation: no tool named 'release' is registered"


def test_capabilities_and_the_policy_on_compensations_are_told(run: Run) -> None:
    rules = [
        {"id": "all", "tools": ["*"], "effect": "allow"},
        {"id": "no", "tools": ["release"], "effect": "deny"},
    ]
    operator = gate(policy={"rules": rules}, capabilities={"tools": {"deny": ["refund"]}})
    plan = [
        {
            **PAY,
            "id": tool,
            "parameters": {"for": tool},
            "reversibility": "compensable",
            "compensation": {"type": "tool", "tool": tool},
        }
        for tool in ("release", "refund")
    ]
    found = told(run("verify", "p.yaml", "-c", "gate.yaml", "--json", p=plan, gate=operator))
    assert [(issue["action_id"], issue["code"]) for issue in found["issues"]] == [
        ("release", "policy_denied"),
        ("refund", "capability_denied"),
    ]
    assert all(issue["message"].startswith("its compensation: ") for issue in found["issues"])


@pytest.mark.parametrize("config", [(), ("-c", "gate.yaml")])
def test_misspelt_field_is_a_warning(run: Run, config: tuple[str, ...]) -> None:
    files = {"p": [{**PAY, "preconditons": []}], "gate": gate()}
    [issue] = told(run("verify", "p.yaml", "--json", *config, **files))["issues"]
    assert (issue["action_id"], issue["severity"]) == ("pay", "warning")
    assert issue["code"] == "unknown_field"
    [item] = told(run("rank", "p.yaml", "--json", *config))["ranking"]
    assert item["success_likelihood"] == 0.5


def test_policy_sees_the_state_that_is_given(run: Run) -> None:
    rules = [
        {"id": "all", "tools": ["*"], "effect": "allow"},
        {"id": "late", "tools": ["pay"], "when": "state.late == true", "effect": "deny"},
    ]
    arguments = ("verify", "p.yaml", "-c", "gate.yaml", "--json", "--state", "s.yaml")
    found = told(run(*arguments, p=[PAY], gate=gate(policy={"rules": rules}), s={"late": True}))
    assert [issue["code"] for issue in found["issues"]] == ["policy_denied"]
    assert told(run(*arguments, s={"late": False}))["issues"] == []


# --- simulate, equivalent, optimize


def test_simulate_shows_the_state_that_is_left(run: Run) -> None:
    assert told(run("simulate", "p.yaml", "--state", "s.yaml", "--json", p=[PAY, NOTE], s={"a": 1}))
    result = run("simulate", "p.yaml")
    assert result.exit_code == 0
    assert result.stdout.startswith("pay: succeeded\nnote: succeeded\nstate: {")
    shown = told(run("simulate", "p.yaml", "-c", "gate.yaml", "--json", gate=gate(state={"b": 2})))
    assert shown == {"state": {"b": 2, "paid": "$pay.output"}}


def test_equivalent_answers_by_its_exit_code(run: Run) -> None:
    write = {"id": "w", "type": "state_write", "parameters": {"key": "x", "value": 1}}
    other = {**write, "parameters": {"key": "x", "value": 1.0}}
    files = {"a": [write], "b": [other], "c": []}
    assert told(run("equivalent", "a.yaml", "b.yaml", "--json", **files)) == {
        "equivalent": True,
        "differences": [],
    }
    found = told(run("equivalent", "a.yaml", "c.yaml", "--json"), 1)
    assert [item["state"] for item in found["differences"]] == [{}]
    result = run("equivalent", "a.yaml", "c.yaml", "--state", "s.yaml", s={"z": 3})
    assert result.exit_code == 1
    assert '"z": 3' in result.stdout
    result = run("equivalent", "a.yaml", "c.yaml", "--state", "s.yaml", s={"x": 1})
    assert result.exit_code == 0
    assert "equivalent" in result.stdout


def test_optimize_prints_the_proposal_that_is_left(run: Run) -> None:
    found = told(run("optimize", "p.yaml", "--json", p=[PAY, NOTE]))
    assert found["removed"] == [{"action_id": "note", "kind": "dependency", "on": "pay"}]
    assert found["proposal"]["actions"][1]["dependencies"] == []
    result = run("optimize", "p.yaml")
    assert result.stdout == "note: dependencies need not name pay\n"
    assert run("optimize", "q.yaml", q=[PAY]).stdout == "nothing is needless\n"


@pytest.mark.parametrize(
    "command", [("simulate", "p.yaml"), ("optimize", "p.yaml"), ("equivalent", "p.yaml", "p.yaml")]
)
def test_proposal_that_is_no_plan_is_a_no(run: Run, command: tuple[str, ...]) -> None:
    result = run(*command, "--json", p=CIRCLE)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert "p.yaml: actions wait for each other" in result.stderr


@pytest.mark.parametrize("command", ["simulate", "optimize"])
def test_help_does_not_promise_a_policy_that_is_not_asked(run: Run, command: str) -> None:
    said = " ".join(run(command, "--help").stdout.split())
    assert "initial state" in said
    assert "policy" not in said
    assert "policy" in run("verify", "--help").stdout


# --- rank


def test_rank_puts_the_best_first_and_names_its_file(run: Run) -> None:
    long = [{**PAY, "id": f"a{n}", "parameters": {"n": n}} for n in range(30)]
    files = {"long": long, "short": [PAY], "bad": CIRCLE}
    arguments = ("rank", "bad.yaml", "long.yaml", "short.yaml")
    ranking = told(run(*arguments, "--json", **files))["ranking"]
    assert [item["proposal_id"] for item in ranking] == ["short", "long", "bad"]
    assert [item["index"] for item in ranking] == [2, 1, 0]
    lines = run(*arguments).stdout.splitlines()
    assert [name for line in lines for name in files if f"{name}.yaml" in line] == [
        "short",
        "long",
        "bad",
    ]


def test_rank_weighs_by_the_target_and_by_the_policy_of_a_config(run: Run) -> None:
    files = {"p": [PAY], "gate": gate(policy={"rules": []}), "t": {"cost_weight": 1.0}}
    arguments = ("rank", "p.yaml", "-c", "gate.yaml", "--json")
    assert told(run(*arguments, **files))["ranking"][0]["success_likelihood"] == 0
    assert told(run(*arguments, "--target", "t.yaml"))["ranking"][0]["score"] == 1


def test_rank_of_nothing_valid_is_a_no(run: Run) -> None:
    assert run("rank", "p.yaml", p=CIRCLE).exit_code == 1


# --- bad input


@pytest.mark.parametrize(
    ("command", "files", "messages"),
    [
        (("verify", "none.yaml"), {}, ["none.yaml", "cannot be read"]),
        (("verify", "p.yaml"), {"p": "actions: ["}, ["p.yaml", "line 2, column 1"]),
        (("verify", "p.yaml"), {"p": "[]"}, ["p.yaml", "must be a mapping"]),
        (("verify", "p.yaml"), {"p": "id: x\n"}, ["actions: is required"]),
        (
            ("verify", "p.yaml"),
            {"p": BROKEN},
            ["line 4: actions[0].type", "line 6: actions[1].max_retries"],
        ),
        (
            ("verify", "p.yaml"),
            {"p": [{**PAY, "compensation": {"type": "undo"}}]},
            ["actions[0].compensation: must have as its type 'tool' or 'action_ref'"],
        ),
        (
            ("verify", "p.yaml"),
            {"p": [{**PAY, "dependencies": "x", "compensation": {"type": "tool"}}]},
            [
                "actions[0].dependencies: must be a list",
                "actions[0].compensation.tool: is required",
            ],
        ),
        (("verify", "p.yaml", "--state", "s.yaml"), {"p": [], "s": "[1]"}, ["s.yaml", "mapping"]),
        (
            ("verify", "p.yaml", "--tools", "tools.yaml"),
            {"p": [], "tools": "name: pay"},
            ["tools.yaml", "must be a list"],
        ),
        (
            ("verify", "p.yaml", "--tools", "tools.yaml"),
            {"p": [], "tools": [{"name": "pay", "parameters": {"type": "nothing"}}]},
            ["tools.yaml", "'pay'", "not a usable JSON Schema"],
        ),
        (
            ("verify", "p.yaml", "--tools", "tools.yaml"),
            {"p": [], "tools": [{"name": "pay"}, {"name": "pay", "description": "other"}]},
            ["tools.yaml", "'pay'", "already"],
        ),
        (("verify", "p.yaml", "-c", "g.yaml"), {"p": [], "g": {"mode": 1}}, ["project"]),
        (("rank", "p.yaml", "--target", "t.yaml"), {"p": [], "t": {"cost_weight": 2}}, ["t.yaml"]),
    ],
)
def test_bad_input_is_told_with_file_and_place(
    run: Run, command: tuple[str, ...], files: dict[str, Any], messages: list[str]
) -> None:
    result = run(*command, **files)
    assert result.exit_code == 2
    assert result.stdout == ""
    said = " ".join(result.stderr.split())
    for message in messages:
        assert message in said


def test_what_agents_wrote_cannot_act_on_the_terminal(run: Run) -> None:
    action = {"id": "a\x1b[2J\n", "type": "tool_call", "tool": None}
    result = run("verify", "p.yaml", p=[action])
    assert "\x1b[2J" not in result.stdout
    assert "\\u{1b}" in result.stdout
