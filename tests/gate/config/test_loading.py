"""The config file: what it may say, what it stands for, and how every problem is reported."""

import json
from pathlib import Path
from typing import Any

import pytest

from toolgate.agents import AgentProfile
from toolgate.config import (
    EnvKey,
    FileKey,
    GateConfig,
    MemoryJournal,
    SqliteJournal,
    load_config,
    parse_config,
)
from toolgate.errors import ConfigError
from toolgate.fields import parse_duration

FULL = """
project: acme-support
agent: {id: assistant, framework: langgraph}
session: monday
journal: sqlite:///data/journal.db
durability: power
journal_key: env:GATE_KEY
mode: enforce
tools:
  search_web: {level: 1}
  send_email:
    level: 3
    reversibility: compensable
    blast_radius: project
    labels: [money, egress]
    idempotent: true
    timeout: 30s
    retries: 2
    rate_limit: {max_calls: 10, interval_secs: 60}
    cache_ttl: 5m
    parameters: {type: object, properties: {to: {type: array, maxItems: 5}}}
state: {tests_passed: false, owner: {name: ann}}
policy:
  file: policies/acme.yaml
  allow_up_to: 1
  vars: {company_domain: acme.example, limits: [1, 2.5, null, true]}
approvals:
  approvers:
    - {id: alice, public_key: " key-of-alice\\n"}
  expires: 1h
  repeat: ask
  remember_denial: false
capabilities:
  tools: {allow: ["send_*", search_web], deny: [send_sms]}
  state_keys: {allow: []}
  max_actions: 50
budget:
  proposal: {max_tool_calls: 50, max_duration_ms: 600000}
  session: {max_actions: 500}
limits: {max_message_bytes: 1048576, max_in_flight: 8, max_concurrency: 4, drain: 250ms}
agents:
  - {id: translator, name: Translator, system_prompt: Translate., capabilities: [translate]}
"""


@pytest.fixture
def load(tmp_path: Path):
    """Load a config from its text."""

    def load(text: str, name: str = "gate.yaml") -> GateConfig:
        path = tmp_path / name
        path.write_text(text)
        return load_config(path)

    return load


@pytest.fixture
def problems(load):
    """Return what is wrong with a config, given its text."""

    def problems(text: str, name: str = "gate.yaml") -> tuple[str, ...]:
        with pytest.raises(ConfigError) as caught:
            load(text, name)
        assert caught.value.source.endswith(name)
        return caught.value.problems

    return problems


def test_a_full_config_is_read_with_its_types(load, tmp_path):
    config = load(FULL.replace("\\\\n", "\\n"))
    assert config.project == "acme-support"
    assert (config.agent.id, config.agent.framework) == ("assistant", "langgraph")
    assert config.session == "monday"
    assert config.journal == SqliteJournal(tmp_path / "data" / "journal.db")
    assert config.durability == "power"
    assert config.journal_key == EnvKey("GATE_KEY")
    assert config.tools["search_web"].timeout == 120.0
    email = config.tools["send_email"]
    assert (email.level, email.timeout, email.idempotent) == (3, 30.0, True)
    assert email.labels == ("money", "egress")
    assert email.parameters["properties"]["to"]["maxItems"] == 5
    assert config.policy.file == tmp_path / "policies" / "acme.yaml"
    assert config.policy.vars["limits"] == [1, 2.5, None, True]
    assert [(a.id, a.public_key) for a in config.approvals.approvers] == [("alice", "key-of-alice")]
    assert (config.approvals.expires, config.approvals.repeat) == (3600.0, "ask")
    assert config.approvals.remember_denial is False
    assert (config.limits.max_in_flight, config.limits.drain) == (8, 0.25)
    assert config.limits.max_concurrency == 4
    assert email.rate_limit is not None
    assert (email.rate_limit.max_calls, email.rate_limit.interval_secs) == (10, 60.0)
    assert (email.retries, email.cache_ttl) == (2, 300.0)
    assert config.state == {"tests_passed": False, "owner": {"name": "ann"}}
    assert config.capabilities.tools.allow == ("send_*", "search_web")
    assert config.capabilities.tools.deny == ("send_sms",)
    assert (config.capabilities.state_keys.allow, config.capabilities.max_actions) == ((), 50)
    assert config.budget.proposal.max_duration_ms == 600000
    assert config.budget.session.max_actions == 500
    assert [entry.profile for entry in config.agents] == [
        AgentProfile("translator", "Translator", "", "Translate.", ("translate",))
    ]


def test_only_the_project_is_required(load, tmp_path):
    config = load("project: x")
    assert (config.agent.id, config.agent.framework, config.session) == ("agent", None, "auto")
    assert config.journal == SqliteJournal(tmp_path / ".toolgate" / "journal.db")
    assert config.journal_key == FileKey(tmp_path / ".toolgate" / "journal.key")
    assert (config.durability, config.mode) == ("process", "enforce")
    assert (config.policy.file, config.policy.rules, config.policy.allow_up_to) == (None, None, 0)
    assert (config.approvals.expires, config.approvals.repeat) == (900.0, "join")
    assert config.approvals.remember_denial is True
    assert config.limits.max_message_bytes == 4_194_304
    assert (config.limits.max_in_flight, config.limits.drain) == (256, 10.0)
    assert config.limits.max_concurrency == 16


def test_without_their_sections_everything_is_allowed_and_nothing_is_limited(load):
    config = load("project: x\ntools: {a: {}}")
    assert config.state == {}
    assert config.agents == ()
    for names in (config.capabilities.tools, config.capabilities.state_keys):
        assert (names.allow, names.deny) == (("*",), ())
    assert config.capabilities.max_actions is None
    for budget in (config.budget.proposal, config.budget.session):
        assert set(budget.model_dump().values()) == {None}
    tool = config.tools["a"]
    assert (tool.rate_limit, tool.cache_ttl, tool.retries) == (None, None, None)


def test_relative_paths_are_relative_to_the_file_not_to_the_working_folder(
    tmp_path, monkeypatch, load
):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    config = load("project: x\njournal: sqlite:///../j.db\njournal_key: file:/abs/key")
    assert config.journal == SqliteJournal(tmp_path.parent / "j.db")
    assert config.journal_key == FileKey(Path("/abs/key"))
    assert load_config("../gate.yaml").journal == config.journal


def test_an_absolute_journal_path_has_four_slashes(load):
    assert load("project: x\njournal: sqlite:////var/j.db").journal == SqliteJournal(
        Path("/var/j.db")
    )


def test_a_journal_in_memory_is_its_own_kind(load):
    assert load("project: x\njournal: 'memory:'").journal == MemoryJournal()


def test_a_json_config_means_the_same(load):
    config = load(json.dumps({"project": "x 😀", "tools": {"a": {"timeout": "5m"}}}), "gate.json")
    assert config.project == "x 😀"
    assert config.tools["a"].timeout == 300.0


def test_a_mapping_can_be_a_config(tmp_path):
    config = parse_config({"project": "x", "journal": "sqlite:///j.db"}, tmp_path)
    assert config.journal == SqliteJournal(tmp_path / "j.db")
    with pytest.raises(ConfigError, match="configuration:\n  - project: is required"):
        parse_config({}, tmp_path)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("30s", 30), ("15m", 900), ("2h", 7200), ("7d", 604800), ("0s", 0)],
)
def test_a_duration_has_a_unit(text, seconds):
    assert parse_duration(text) == seconds
    assert isinstance(parse_duration(text), float)


@pytest.mark.parametrize(
    "value", [30, 1.5, "30", "1.5s", "30 s", "-1s", "1w", "٣s", "", None, True, "3651d", "9" * 99]
)
def test_anything_else_is_no_duration(value):
    with pytest.raises(ValueError, match="must"):
        parse_duration(value)


def test_the_environment_is_used_in_strings(load, monkeypatch):
    monkeypatch.setenv("PROJECT", "acme")
    monkeypatch.setenv("LEVEL", "1")
    config = load("project: ${PROJECT}-${PROJECT}\nsession: $PROJECT\nagent: {id: '$${PROJECT}'}")
    assert config.project == "acme-acme"
    assert config.session == "$PROJECT"
    assert config.agent.id == "${PROJECT}"


def test_an_unset_environment_variable_is_an_error_with_its_path(problems, monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    text = "project: x\npolicy:\n  vars: {a: [1, 'x${NOWHERE}']}\n"
    assert problems(text) == (
        "line 3: policy.vars.a[1]: the environment variable NOWHERE is not set",
    )


def test_an_environment_variable_stays_text(problems, monkeypatch):
    monkeypatch.setenv("LEVEL", "1")
    (found,) = problems("project: x\ntools: {a: {level: '${LEVEL}'}}")
    assert found == "line 2: tools.a.level: input should be a valid integer"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("policy: {allow_up_to: 4}", "policy.allow_up_to: input should be less than or equal to 3"),
        ("policy: {file: a.yaml, rules: []}", "policy: has both file and rules: name one of them"),
        ("policy: {file: ''}", "policy.file: names no file"),
        ("policy: {file: 3}", "policy.file: "),
        ("colour: blue", "colour: unknown key"),
        ("tools: {a: {levle: 3}}", "tools.a.levle: unknown key"),
        ("tools: {a: {level: 6}}", "tools.a.level: input should be less than or equal to 5"),
        ("tools: {a: {level: -1}}", "tools.a.level: input should be greater than or equal to 0"),
        ("tools: {a: {level: true}}", "tools.a.level: input should be a valid integer"),
        ("tools: {a: {level: '3'}}", "tools.a.level: input should be a valid integer"),
        ("tools: {a: {idempotent: 1}}", "tools.a.idempotent: input should be a valid boolean"),
        ("tools: {a: {timeout: 30}}", "tools.a.timeout: must be a duration such as 250ms, 30s"),
        ("tools: {a: {timeout: 0s}}", "tools.a.timeout: must be longer than 0"),
        ("tools: {a: {labels: egress}}", "tools.a.labels: must be a list"),
        ("tools: {a: {labels: [x, x]}}", "tools.a.labels: names x more than once"),
        ("tools: {a: {reversibility: maybe}}", "tools.a.reversibility: input should be 'irrev"),
        ("tools: {a: }", "tools.a: must be a mapping of keys to values"),
        ("tools: {'': {}}", "tools.: must be 1 to 200 characters long"),
        ("tools: [a]", "tools: must be a mapping of keys to values"),
        ("approvals: {expires: 0s}", "approvals.expires: must be longer than 0"),
        ("approvals: {expires: ever}", "approvals.expires: must be a duration such as 250ms, 30s"),
        ("approvals: {repeat: always}", "approvals.repeat: input should be 'join' or 'ask'"),
        ("approvals: {approvers: [{id: a}]}", "approvals.approvers[0].public_key: is required"),
        (
            "approvals: {approvers: [{id: a, public_key: ' '}]}",
            "approvals.approvers[0].public_key: is empty",
        ),
        (
            "approvals: {approvers: [{id: a, public_key: x}, {id: a, public_key: y}]}",
            "approvals.approvers: names a more than once",
        ),
        (
            "approvals: {approvers: [{id: a, public_key: x}, {id: b, public_key: x}]}",
            "approvals.approvers: a and b have the same public key",
        ),
        ("limits: {max_in_flight: 0}", "limits.max_in_flight: input should be greater than or eq"),
        ("limits: {drain: 10}", "limits.drain: must be a duration"),
        ("limits: {max_concurrency: 0}", "limits.max_concurrency: input should be greater than"),
        ("state: [a]", "state: must be a mapping of keys to values"),
        ("tools: {a: {retries: -1}}", "tools.a.retries: input should be greater than or equal"),
        ("tools: {a: {cache_ttl: 60}}", "tools.a.cache_ttl: must be a duration such as"),
        ("tools: {a: {rate_limit: 3}}", "tools.a.rate_limit: must be a mapping"),
        (
            "tools: {a: {rate_limit: {max_calls: 0, interval_secs: 1}}}",
            "tools.a.rate_limit.max_calls: input should be greater than or equal to 1",
        ),
        (
            "tools: {a: {rate_limit: {max_calls: 1, interval_secs: 0}}}",
            "tools.a.rate_limit.interval_secs: input should be greater than 0",
        ),
        (
            "tools: {a: {rate_limit: {max_calls: 1, interval_secs: 60, per: user}}}",
            "tools.a.rate_limit.per: unknown key",
        ),
        ("capabilities: {tool: {}}", "capabilities.tool: unknown key"),
        ("capabilities: {tools: ['*']}", "capabilities.tools: must be a mapping"),
        ("capabilities: {tools: {deny: shell}}", "capabilities.tools.deny: must be a list"),
        ("capabilities: {tools: {deny: ['[a']}}", "capabilities.tools.deny: the glob [a has a ["),
        ("capabilities: {state_keys: {allow: ['']}}", "capabilities.state_keys.allow[0]: must be"),
        ("capabilities: {max_actions: 1.5}", "capabilities.max_actions: input should be a valid"),
        ("budget: {max_tool_calls: 5}", "budget.max_tool_calls: unknown key"),
        ("budget: {session: {max_calls: 5}}", "budget.session.max_calls: unknown key"),
        ("budget: {proposal: {max_actions: -1}}", "budget.proposal.max_actions: input should be"),
        ("budget: {session: {max_duration_ms: 1s}}", "budget.session.max_duration_ms: input"),
        ("agents: {}", "agents: must be a list"),
        (
            "agents: [{id: t, name: T, capabilities: [x]}]",
            "agents[0].system_prompt: is required",
        ),
        (
            "agents: [{id: t, name: T, system_prompt: ' ', capabilities: [x]}]",
            "agents[0].system_prompt: is empty",
        ),
        (
            "agents: [{id: t, name: T, system_prompt: P, capabilities: []}]",
            "agents[0].capabilities: must not be empty",
        ),
        (
            "agents: [{id: verifier, name: V, system_prompt: P, capabilities: [x]}]",
            "agents: verifier is the id of a built-in agent",
        ),
        (
            "agents: [&t {id: t, name: T, system_prompt: P, capabilities: [x]}, *t]",
            "agents: names t more than once",
        ),
        ("journal: postgresql://h/db", "journal: PostgreSQL is not supported by this version"),
        ("journal: mysql://h/db", "journal: must be sqlite:///path or memory:"),
        ("journal: sqlite://j.db", "journal: must be sqlite:///path or memory:"),
        ("journal: 'sqlite:///'", "journal: names no file"),
        ("journal: 'sqlite:///:memory:'", "journal: an in-memory journal is written memory:"),
        ("journal: 'sqlite:///j.db?mode=ro'", "journal: sqlite:///path takes no parameters"),
        ("journal_key: secret", "journal_key: must be file:PATH or env:NAME"),
        ("journal_key: 'env:'", "journal_key: env: must name an environment variable"),
        ("journal_key: 'file:'", "journal_key: names no file"),
        ("durability: none", "durability: input should be 'process' or 'power'"),
        ("mode: off", "mode: "),
        ("session: ''", "session: must be 1 to 200 characters long"),
        ("agent: assistant", "agent: must be a mapping of keys to values"),
        ('session: "a\\u0007b"', "session: must be 1 to 200 characters long, without control"),
        ('session: "a\\0b"', "session: a string may not contain a NUL character"),
    ],
)
def test_what_a_config_may_not_say_is_an_error_with_its_line_and_path(problems, text, problem):
    found = problems(f"project: x\n{text}\n")
    assert len(found) == 1, found
    assert found[0].startswith(f"line 2: {problem}")


def test_a_design_key_in_the_wrong_place_is_unknown(problems):
    assert problems("project: x\nredact: []") == ("line 2: redact: unknown key",)


def test_all_problems_are_reported_together_in_the_order_of_their_lines(problems, monkeypatch):
    monkeypatch.delenv("NOWHERE", raising=False)
    found = problems(
        "session: ''\nbudget: []\ntools:\n  a:\n    level: 9\n    tiemout: 1s\n"
        "agent: {id: '${NOWHERE}'}"
    )
    assert [problem.split(": ")[:2] for problem in found] == [
        ["line 1", "project"],
        ["line 1", "session"],
        ["line 2", "budget"],
        ["line 5", "tools.a.level"],
        ["line 6", "tools.a.tiemout"],
        ["line 7", "agent.id"],
    ]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("project: [", "line 2, column 1: did not find expected node content"),
        ("project: x\nproject: y", "line 2: project: duplicate key, first on line 1"),
        ("tools:\n  a: {}\n  a: {}", "line 3: tools.a: duplicate key, first on line 2"),
        ("project: x\n---\nproject: y", "line 2, column 1: but found another document"),
        ("on: 1", "line 1: the key on is not a string: put it in quotes"),
        ("agent: {1: a}", "line 1: agent: the key 1 is not a string: put it in quotes"),
        ("? [a]\n: 1", "line 1: the key of several values is not a string"),
        ("a: &x {b: 1}\nc: {<<: *x}", "line 2: c: merge keys (<<) are not supported"),
        ("a: !!python/object:os.system {}", "line 1: a: the tag tag:yaml.org,2002:python/object:"),
        ("a: !!python/name:os.system", "line 1: a: the tag tag:yaml.org,2002:python/name:os"),
        ("a: !mine x", "line 1: a: the tag !mine is not supported"),
        ("a: !!set {b}", "line 1: a: the tag tag:yaml.org,2002:set is not supported"),
        ("a: !!int x", "line 1: a: 'x' does not fit the tag tag:yaml.org,2002:int"),
        ("a: .nan", "line 1: a: .nan is not a finite number"),
        ("a: -.inf", "line 1: a: -.inf is not a finite number"),
        ("a: &x [*x]", "line 1: a[0]: an alias may not stand inside what it names"),
        ('a: "\\0"', "line 1: a: a string may not contain a NUL character"),
        ('"\\0": 1', "a string may not contain a NUL character"),
        ("a: *nowhere", "line 1, column 4: "),
        ("a: " + "[" * 3000 + "]" * 3000, "is not YAML"),
        (
            "a: &a [x,x,x,x,x,x,x,x,x]\n"
            + "".join(
                f"{new}: &{new} [{','.join([f'*{old}'] * 9)}]\n"
                for old, new in zip("abcdefg", "bcdefgh", strict=True)
            ),
            "has more than 200000 values",
        ),
    ],
)
def test_a_file_that_is_not_plain_yaml_is_an_error(problems, text, problem):
    found = problems(text)
    assert any(problem in item for item in found), found


@pytest.mark.parametrize(
    "text", ["{", '{"project": "x", "project": "y"}', '{"a": "\\u0000"}', "[1]"]
)
def test_a_json_file_is_read_strictly(problems, text):
    assert problems(text, "gate.json")


def test_a_config_that_cannot_be_read_is_an_error(tmp_path):
    with pytest.raises(ConfigError) as caught:
        load_config(tmp_path / "none.yaml")
    assert (
        str(caught.value) == f"{tmp_path}/none.yaml:\n  - cannot be read: No such file or directory"
    )


def test_dates_are_text_and_anchors_are_shared_values(load):
    config = load("project: 2026-01-01\ntools: {a: &t {level: 1}, b: *t}")
    assert config.project == "2026-01-01"
    assert config.tools["b"].level == 1


def test_a_config_cannot_be_changed(load):
    config: Any = load("project: x")
    with pytest.raises(ValueError, match="frozen"):
        config.project = "y"


def test_an_unpaired_surrogate_from_the_environment_is_refused(problems, monkeypatch):
    monkeypatch.setenv("PROJECT", "x\udcff")
    (found,) = problems("project: ${PROJECT}")
    assert found == "line 1: project: a string may not contain half of a surrogate pair"


def test_an_initial_state_that_is_not_json_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match="state: not a JSON value"):
        parse_config({"project": "x", "state": {"a": {1, 2}}}, tmp_path)


def test_a_glob_that_could_match_nothing_is_an_error(load, problems):
    section = "project: x\ncapabilities: {{state_keys: {{allow: [{glob}]}}}}"
    assert load(section.format(glob='"[!a]*"')).capabilities.state_keys.allow == ("[!a]*",)
    assert problems(section.format(glob='"[b-a]"')) == (
        "line 2: capabilities.state_keys.allow: the glob [b-a] has the empty range b-a",
    )
