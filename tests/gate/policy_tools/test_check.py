"""`toolgate policy check`: what is wrong with a document, and where."""

import pytest

BROKEN = """\
version: 1
id: broken
rules:
  - id: two-lines
    tools: [shell]
    when: |
      args.command == "ls" &&
      arg.force == true
    effect: allow
  - id: nowhere
    effect: deny
  - id: bad-regex
    tools: [shell]
    unless: args.command.matches("(")
    effect: hold
"""


def test_a_document_alone_is_checked_and_what_was_assumed_is_said(author):
    author.write(
        "policy.yaml",
        """\
version: 1
id: acme
rules:
  - id: big
    tools: [pay]
    when: args.amount > vars.most
    effect: hold
    approval: {approvers: [alice, bob], quorum: 2}
""",
    )
    told = author("policy", "check", "policy.yaml")
    assert told.code == 0, told.err
    assert "policy.yaml: fine, 1 rules (acme sha256:" in told.out
    assert "assumed: the config pins the approvers alice, bob" in told.out
    assert "assumed: policy.vars have most, of a fitting type" in told.out


def test_everything_wrong_is_told_with_file_line_rule_and_column(author):
    author.write("policy.yaml", BROKEN)
    told = author("policy", "check", "policy.yaml")
    assert told.code == 1
    assert told.out == ""
    assert "policy.yaml:6: rule two-lines: when: 2:4: unknown name arg" in told.err
    assert "policy.yaml:10: rule nowhere: names neither tools nor types" in told.err
    assert "policy.yaml:14: rule bad-regex: unless: 1:22: invalid regular exp" in told.err
    rows = told.err.splitlines()
    marked = next(n for n, row in enumerate(rows) if "2:4" in row)
    assert rows[marked + 1] == "    arg.force == true"
    assert rows[marked + 2] == "       ^"


def test_machines_get_line_rule_field_and_position_apart(author):
    author.write("policy.yaml", BROKEN)
    told = author("policy", "check", "policy.yaml", "--json")
    assert told.code == 1
    assert told.json["ok"] is False
    first, second, _ = told.json["problems"]
    assert (first["line"], first["rule"], first["field"]) == (6, "two-lines", "when")
    assert first["position"] == [2, 4]
    assert (second["line"], second["rule"], second["position"]) == (10, "nowhere", None)


def test_a_document_is_checked_as_that_of_a_deployment(deployed, mail):
    deployed.write("draft.yaml", mail({"id": "typo", "tools": ["serach_web"], "effect": "allow"}))
    told = deployed("policy", "check", "draft.yaml", "--config", "gate.yaml", ALICE="her key")
    assert told.code == 0, told.err
    assert "serach_web matches no configured tool" in told.out
    assert "assumed" not in told.out
    strangers = {"id": "x", "tools": ["a"], "effect": "hold", "approval": {"approvers": ["zed"]}}
    deployed.write("draft.yaml", mail(strangers))
    told = deployed("policy", "check", "draft.yaml", "--config", "gate.yaml", ALICE="her key")
    assert told.code == 1
    assert "zed is not among approvals.approvers" in told.err


def test_a_config_is_checked_with_its_own_document(deployed):
    assert deployed("policy", "check", "-c", "gate.yaml", ALICE="her key").code == 0
    unset = deployed("policy", "check", "-c", "gate.yaml")
    assert unset.code == 2
    assert "ALICE is not set" in unset.err


def test_a_file_that_is_not_there_is_bad_input(author):
    told = author("policy", "check", "nowhere.yaml")
    assert told.code == 2
    assert "nowhere.yaml: cannot be read" in told.err
    assert author("policy", "check").code == 2


def test_a_config_that_is_taken_for_a_document_is_told_so(deployed):
    told = deployed("policy", "check", "gate.yaml")
    assert told.code == 1
    assert "looks like a config" in told.err


def test_what_a_document_holds_cannot_act_on_the_terminal(author):
    rule = '{"id": "a\\u001b[2J", "tools": ["x"], "effect": "allow", "when": "\\u009b + 1"}'
    author.write("policy.json", f'{{"version": 1, "id": "i", "rules": [{rule}]}}')
    told = author("policy", "check", "policy.json", FORCE_COLOR="1")
    assert told.code == 1
    assert "\x1b[2J" not in told.err
    assert "\x9b" not in told.err


TOOLS = {
    "send": {
        "labels": ["egress"],
        "parameters": {
            "additionalProperties": False,
            "properties": {
                "to": {
                    "type": "object",
                    "properties": {"name": {"type": "string"}},
                    "additionalProperties": False,
                },
                "how": {"enum": ["fast", "slow"]},
                "tags": {"type": "array", "items": {"enum": ["a", "b"]}},
            },
        },
    },
    "post": {
        "emits": ["web"],
        "parameters": {
            "additionalProperties": False,
            "properties": {"how": {"enum": ["fast", "late"]}, "bcc": {"type": "string"}},
        },
    },
    "open": {"parameters": {"properties": {"how": {"enum": ["fast"]}}}},
}


@pytest.mark.parametrize(
    ("tools", "when", "said"),
    [
        (["*"], '"untrustd" in session.labels', "no contract emits the label untrustd, so no"),
        (["*"], 'session.labels.exists(l, l == "webb")', "no contract emits the label webb, so no"),
        (["*"], '!(tool.labels.exists(l, l in ["egres"]))', "no contract has the label egres"),
        (["*"], 'history.exists(h, "web" in h.labels)', "no contract has the label web"),
        (["send"], 'args.bcc == "x"', "no tool that the rule names takes args.bcc: their schemas"),
        (["send", "post"], "has(args.boddy)", "no tool that the rule names takes args.boddy"),
        (["send"], 'args.to.nam == "x"', "no tool that the rule names takes args.to.nam"),
        (["send", "post"], 'args.how == "lat"', "args.how is never 'lat': it is not in the enum"),
        (["send"], 'args.how in ["fast", "late"]', "args.how is never 'late'"),
        (["send"], '"c" in args.tags', "args.tags[…] is never 'c'"),
        (["*"], "session.calls.sned > 2", "neither the config nor a rule names the tool sned"),
        (["*"], 'session.calls["sned"] > 2', "neither the config nor a rule names the tool sned"),
        (["*"], 'history.exists(h, h.tool == "x")', "neither the config nor a rule names the tool"),
        (["*"], 'history.exists(h, h.name == "x")', "a call in history has no name (it has tool, "),
        (["*"], 'history[0].state == "x"', "a call in history has no state (it has tool, status"),
        (["*"], 'history.all(h, h.status == "ok")', "no call in history has the status ok (there"),
    ],
)
def test_what_can_be_true_of_no_call_of_a_deployment_is_a_warning(author, tools, when, said):
    rule = {"id": "r", "tools": tools, "when": when, "effect": "deny"}
    author.write("gate.yaml", {"project": "p", "tools": TOOLS, "policy": {"rules": [rule]}})
    told = author("policy", "check", "-c", "gate.yaml")
    assert told.code == 0, told.err
    [warning] = [row for row in told.out.splitlines() if row.startswith("warning: ")]
    assert warning.startswith(f"warning: rule r: when: {said}")
    [same] = author("check", "gate.yaml", "--json").json["warnings"]
    assert f"warning: {same}" == warning


@pytest.mark.parametrize(
    ("tools", "when"),
    [
        (["*"], '"untrusted" in session.labels || "web" in session.labels'),
        (["*"], '"egress" in tool.labels && history.exists(h, h.labels == ["egress"])'),
        (["*"], 'args.bcc == "x"'),
        (["send", "open"], 'args.boddy == "x"'),
        (["send", "unheard-of"], 'args.boddy == "x"'),
        (["s*"], 'args.boddy == "x"'),
        (["send", "post"], 'args.how == "late"'),
        (["send"], 'args.to.name == "anybody" && "a" in args.tags'),
        (["send"], 'args.tags.exists(args, args.size() == "x".size())'),
        (["seen_*"], "session.calls.seen_by > 1 && session.calls.send > 2"),
        (["*"], 'history.filter(h, h.status == "failed" && h.tool == "send").size() > 3'),
        (["*"], 'state.x == "y" && args[state.x] == "z"'),
    ],
)
def test_what_may_be_true_of_some_call_is_no_warning(author, tools, when):
    rule = {"id": "r", "tools": tools, "when": when, "effect": "deny"}
    author.write("gate.yaml", {"project": "p", "tools": TOOLS, "policy": {"rules": [rule]}})
    told = author("policy", "check", "-c", "gate.yaml", "--json")
    assert [text for text in told.json["warnings"] if "configured tool" not in text] == []


def test_arguments_of_state_actions_are_not_looked_for_in_the_schema_of_a_tool(author):
    rule = {"id": "r", "tools": ["send"], "types": ["state_write"], "effect": "deny"}
    rule["when"] = 'args.key == "x"'
    author.write("gate.yaml", {"project": "p", "tools": TOOLS, "policy": {"rules": [rule]}})
    assert author("policy", "check", "-c", "gate.yaml", "--json").json["warnings"] == []


def test_a_constant_that_no_rule_reads_is_a_warning(author):
    rule = {"id": "r", "tools": ["*"], "when": "args.n > vars.most", "effect": "deny"}
    policy = {"rules": [rule], "vars": {"most": 3, "domain": "x"}}
    author.write("gate.yaml", {"project": "p", "policy": policy})
    told = author("policy", "check", "-c", "gate.yaml", "--json").json["warnings"]
    assert told == ["policy.vars.domain is read by no rule"]


def test_what_was_probably_meant_is_told_with_what_is_wrong(author):
    author.write(
        "policy.yaml",
        """\
version: 1
id: broken
rules:
  - {id: a, tools: [x], effect: deny, when: args.c.match("^a")}
  - {id: b, tools: [x], effect: deny, when: 'args.c.matches("^(?!a)b")'}
  - {id: a, tools: [x], effect: deny}
  - {id: c, tools: [x], effect: deny, when: nothinglikeit(args)}
""",
    )
    told = author("policy", "check", "policy.yaml").err
    assert "there is no function match: did you mean matches?" in told
    assert "; RE2 cannot look ahead or behind: say that in a condition of its own" in told
    assert "this rule id is taken by rules[0] (line 4)" in told
    assert "there is no function nothinglikeit\n" in told
