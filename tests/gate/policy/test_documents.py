"""Policy documents: what a file may say, and how every problem in one is reported."""

from pathlib import Path

import pytest

from toolgate.config import GateConfig, PolicySection, load_config
from toolgate.errors import ConfigError, PolicyError
from toolgate.policy import Policy, compile_policy

CONFIG = """
project: tests
tools: {shell: {}, send_email: {}}
policy: {file: policies/acme.yaml, allow_up_to: 1, vars: {domain: "@acme.example"}}
approvals:
  approvers:
    - {id: alice, public_key: a}
    - {id: bob, public_key: b}
"""
HEAD = "version: 1\nid: acme\nrules:\n"


@pytest.fixture
def load(tmp_path: Path):
    """Load a policy from the text of its file, under CONFIG."""

    def load(text: str, name: str = "acme.yaml") -> Policy:
        folder = tmp_path / "policies"
        folder.mkdir(exist_ok=True)
        (folder / name).write_text(text)
        config = tmp_path / "gate.yaml"
        config.write_text(CONFIG.replace("acme.yaml", name))
        return compile_policy(load_config(config))

    return load


@pytest.fixture
def problems(load):
    """Return what is wrong with a policy file."""

    def problems(text: str, name: str = "acme.yaml") -> tuple[str, ...]:
        with pytest.raises(PolicyError) as caught:
            load(text, name)
        assert caught.value.source.endswith(f"policies/{name}")
        assert all(problem in str(caught.value) for problem in caught.value.problems)
        return caught.value.problems

    return problems


def test_the_designs_example_loads_and_decides(load, call):
    policy = load(
        HEAD
        + r"""
  - id: reads
    tools: ["search_*", "read_*"]
    effect: allow
  - id: no-recursive-delete
    tools: [shell]
    when: args.command.matches("rm\\s+-[a-z]*r")
    effect: deny
    reason: recursive deletes are never run by an agent
  - id: mail-outside
    tools: [send_email]
    unless: args.to.all(a, a.endsWith(vars.domain))
    effect: hold
    reason: mail to outsiders is read by a person first
    approval: {approvers: [alice, bob], quorum: 2, expires: 15m}
"""
    )
    assert policy.id == "acme"
    assert policy.decide(call("read_file")).effect == "allow"
    deleting = policy.decide(call("shell", {"command": "rm  -fr /"}))
    assert deleting.rules == ("no-recursive-delete",)
    outside = policy.decide(call("send_email", {"to": ["eve@evil.example"]}))
    assert (outside.effect, outside.requirement.groups[0].quorum) == ("hold", 2)
    assert policy.decide(call("send_email", {"to": ["ann@acme.example"]})).effect == "deny"
    assert policy.warnings == (
        "line 6: rule reads: search_* matches no configured tool",
        "line 6: rule reads: read_* matches no configured tool",
    )


@pytest.mark.parametrize(
    ("rule", "problem"),
    [
        ("id: r, tools: [shell]", "line 4: rule r: effect: is required"),
        ("tools: [shell], effect: deny", "line 4: rules[0]: id: is required"),
        ("id: r, tools: [shell], effect: block", "line 4: rule r: effect: input should be 'deny',"),
        (
            "id: r, effect: deny",
            "line 4: rule r: names neither tools nor types, so it could never match",
        ),
        ("id: r, tools: [], effect: deny", "line 4: rule r: tools: must not be empty"),
        ("id: r, types: [], effect: deny", "line 4: rule r: types: must not be empty"),
        ("id: r, tools: shell, effect: deny", "line 4: rule r: tools: must be a list"),
        ("id: r, tools: [1], effect: deny", "line 4: rule r: tools[0]: input should be a valid st"),
        ("id: r, tools: [''], effect: deny", "line 4: rule r: tools[0]: must be 1 to 200 charact"),
        ("id: r, tools: [a, a], effect: deny", "line 4: rule r: tools: names a more than once"),
        ('id: r, tools: ["a[b"], effect: deny', "line 4: rule r: tools: the glob a[b has a ["),
        ('id: r, tools: ["[]"], effect: deny', "line 4: rule r: tools: the glob [] has a ["),
        ('id: r, tools: ["[!]"], effect: deny', "line 4: rule r: tools: the glob [!] has a ["),
        ('id: r, tools: ["[z-a]"], effect: deny', "line 4: rule r: tools: the glob [z-a] has the"),
        ("id: r, types: [tool], effect: deny", "line 4: rule r: types[0]: input should be 'tool_"),
        ("id: r, tool: shell, effect: deny", "line 4: rule r: tool: unknown key"),
        ("id: r, tools: [x], effect: deny, mode: off", "line 4: rule r: mode: input should be"),
        ("id: r, tools: [x], effect: deny, when: true", "line 4: rule r: when: input should be a"),
        (
            "id: r, tools: [x], effect: deny, when: foo",
            "line 4: rule r: when: 1:1: unknown name fo",
        ),
        ("id: r, tools: [x], effect: deny, unless: 1+1", "line 4: rule r: unless: 1:1: the result"),
        (
            "id: r, tools: [x], effect: deny, when: \"args.x.matches('(')\"",
            "line 4: rule r: when: 1:16: invalid regular expression: missing ): (",
        ),
        (
            "id: r, tools: [x], effect: deny, reason: ''",
            "line 4: rule r: reason: must not be empty",
        ),
        (
            "id: r, tools: [x], effect: deny, approval: {quorum: 1}",
            "line 4: rule r: has approval, which belongs to a hold, but its effect: deny",
        ),
        (
            "id: r, tools: [x], effect: hold, approval: {approvers: [carol, alice]}",
            "line 4: rule r: approval.approvers: carol is not among approvals.approvers",
        ),
        (
            "id: r, tools: [x], effect: hold, approval: {approvers: []}",
            "line 4: rule r: approval.approvers: must not be empty",
        ),
        (
            "id: r, tools: [x], effect: hold, approval: {approvers: [bob, bob], quorum: 2}",
            "line 4: rule r: approval.approvers: names bob more than once",
        ),
        (
            "id: r, tools: [x], effect: hold, approval: {approvers: [bob], quorum: 2}",
            "line 4: rule r: approval.quorum: 2 must approve, but there are only 1 approvers",
        ),
        (
            "id: r, tools: [x], effect: hold, approval: {quorum: 3}",
            "line 4: rule r: approval.quorum: 3 must approve, but there are only 2 approvers",
        ),
        (
            "id: r, tools: [x], effect: hold, approval: {quorum: 0}",
            "line 4: rule r: approval.quorum",
        ),
        (
            "id: r, tools: [x], effect: hold, approval: {quorum: true}",
            "line 4: rule r: approval.quo",
        ),
        (
            "id: r, tools: [x], effect: hold, approval: {expires: 15}",
            "line 4: rule r: approval.expires: must be a duration such as 250ms, 30s",
        ),
        (
            "id: r, tools: [x], effect: hold, approval: {edit: please}",
            "line 4: rule r: approval.edit: ",
        ),
        (
            "id: r, tools: [x], effect: hold, approval: {whom: bob}",
            "line 4: rule r: approval.whom: unknown key",
        ),
    ],
)
def test_a_broken_rule_is_an_error_with_its_line_and_id(problems, rule, problem):
    found = problems(f"{HEAD}  - {{{rule}}}\n")
    assert len(found) == 1
    assert found[0].startswith(problem)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("- version: 1\n", "must be a mapping of keys to values"),
        ("id: acme\nrules: []\n", "line 1: version: is required"),
        ("version: 2\nid: acme\nrules: []\n", "line 1: version: input should be 1"),
        ("version: 1\nrules: []\n", "line 1: id: is required"),
        ("version: 1\nid: acme\n", "line 1: rules: is required"),
        ("version: 1\nid: acme\nrules: {}\n", "line 3: rules: "),
        ("version: 1\nid: acme\nrules:\n", "line 3: rules: "),
        ("version: 1\nid: acme\nrules: []\nvars: {}\n", "line 4: vars: unknown key"),
        (HEAD + "  - deny everything\n", "line 4: rules[0]: must be a mapping"),
        (HEAD + "  - {id: a, id: b}\n", "line 4: rules[0].id: duplicate key, first on line 4"),
        ("version: 1\n id: [\n", "line 2, column 4: "),
        (
            HEAD + '  - {id: "a\\0", tools: [x], effect: deny}\n',
            "line 4: rules[0].id: a string may n",
        ),
    ],
)
def test_a_document_that_is_not_one_is_an_error(problems, text, problem):
    found = problems(text)
    assert any(problem in item for item in found), found


def test_all_problems_of_a_document_are_reported_in_the_order_of_its_lines(problems):
    found = problems(
        HEAD.replace("id: acme", "name: acme")
        + """
  - id: first
    tools: [shell]
    when: args.x == tool.lables
    effect: deny
  - id: first
    tools: [shell]
    effect: alow
  - id: first
    tools: [shell]
    unless: |
      true &&
      foo
    effect: hold
    approval:
      approvers: [carol]
      quorum: 2
"""
    )
    assert [problem.split(": ")[:3] for problem in found] == [
        ["line 1", "id", "is required"],
        ["line 2", "name", "unknown key"],
        ["line 7", "rule first", "when"],
        ["line 9", "rule first", "this rule id is taken by rules[0] (line 5)"],
        ["line 11", "rule first", "effect"],
        ["line 12", "rule first", "this rule id is taken by rules[0] (line 5)"],
        ["line 14", "rule first", "unless"],
        ["line 19", "rule first", "approval.approvers"],
        ["line 20", "rule first", "approval.quorum"],
    ]
    assert found[6].startswith("line 14: rule first: unless: 2:1: unknown name foo")


def test_what_is_wrong_within_a_rule_that_is_not_well_formed_is_found_too(problems):
    found = problems(
        HEAD
        + """
  - alow: true
    when: args.x == foo
    effect: deny
  - id: second
    tools: [shell]
    unless: bar
    effect: hold
    aproval: {quorum: 1}
    approval: {approvers: [carol], quroum: 2}
"""
    )
    assert [problem.split(": ")[:3] for problem in found] == [
        ["line 5", "rules[0]", "id"],
        ["line 5", "rules[0]", "alow"],
        ["line 6", "rules[0]", "when"],
        ["line 10", "rule second", "unless"],
        ["line 12", "rule second", "aproval"],
        ["line 13", "rule second", "approval.quroum"],
        ["line 13", "rule second", "approval.approvers"],
    ]


def test_a_missing_policy_file_is_an_error_that_names_it(tmp_path):
    config = tmp_path / "gate.yaml"
    config.write_text("project: x\npolicy: {file: nowhere.yaml}\n")
    with pytest.raises(PolicyError) as caught:
        compile_policy(load_config(config))
    assert (
        str(caught.value)
        == f"{tmp_path}/nowhere.yaml:\n  - cannot be read: No such file or directory\n"
        f"  - it is named by policy.file of {config}, line 2"
    )


def test_problems_of_inline_rules_have_the_lines_of_the_config(tmp_path):
    config = tmp_path / "gate.yaml"
    config.write_text("project: x\npolicy:\n  rules:\n    - id: a\n      effect: deny\n")
    with pytest.raises(PolicyError) as caught:
        compile_policy(load_config(config))
    assert caught.value.source == str(config)
    assert caught.value.problems[0].startswith("line 4: rule a: names neither tools nor types")


def test_constants_no_condition_could_name_are_an_error(policy_of):
    with pytest.raises(PolicyError, match=r"policy\.vars: a-b: the name of a constant"):
        policy_of(vars={"a-b": 1})


def test_a_nul_in_a_constant_is_an_error(policy_of):
    with pytest.raises(ConfigError, match=r"policy\.vars\.a\.b: .*NUL"):
        policy_of(vars={"a": {"b": "x\0"}})
    config = GateConfig(project="x", policy=PolicySection(vars={"a": {"b": "x\0"}}))
    with pytest.raises(PolicyError, match=r"policy\.vars: a\.b: .*NUL"):
        compile_policy(config)


def test_a_policy_in_json_is_read_as_json(load, problems, call):
    text = '{"version": 1, "id": "j", "rules": [{"id": "a", "tools": ["*"], "effect": "allow"}]}'
    assert load(text, "acme.json").decide(call()).rules == ("a",)
    found = problems(text.replace('"effect"', '"efect"'), "acme.json")
    assert found == ("rule a: effect: is required", "rule a: efect: unknown key")
    assert "Detected duplicate key" in problems('{"version": 1, "version": 1}', "acme.json")[0]


def test_the_digest_does_not_depend_on_how_the_document_is_written(load):
    flow = HEAD + "  - {id: a, tools: [x], effect: allow, approval: null}\n"
    block = HEAD + "  # all\n  - effect: allow\n    id: 'a'\n    tools:\n      - x\n"
    assert load(flow).digest == load(block).digest
    assert load(block.replace("x", "y")).digest != load(block).digest


def test_warnings_do_not_stop_a_policy_whose_tools_are_registered_later(load):
    policy = load(HEAD + '  - {id: a, tools: ["*", "shell", "later_*"], effect: allow}\n')
    assert policy.warnings == ("line 4: rule a: later_* matches no configured tool",)


def test_a_thousand_rules_load(load, call):
    rules = "".join(
        f"  - {{id: r{n}, tools: [t{n}], when: 'args.n == {n}', effect: deny}}\n"
        for n in range(1000)
    )
    policy = load(HEAD + rules)
    assert policy.decide(call("t7", {"n": 7})).rules == ("r7",)
    assert policy.decide(call("t7", {"n": 8})).rules == ()


def test_rules_are_only_asked_about_the_tools_they_name(policy_of, call):
    policy = policy_of(
        *({"id": f"r{n}", "tools": [f"t{n}"], "when": "args.n", "effect": "deny"} for n in range(9))
    )
    policy.decide(call("t3", {"n": True}))
    reach = policy._reach("tool_call", call("t3").contract)
    asked = [rule.id for rule in reach.rules]
    assert asked == ["r3"]
