"""`toolgate policy check`: what is wrong with a document, and where."""

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
