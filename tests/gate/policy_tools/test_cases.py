"""`toolgate policy test`: cases, what they prove, and what they leave out."""

import pytest

from support.doc_pages import ROOT, code, table
from toolgate.policy.testing import Case, TestFile

INSIDE = {
    "name": "mail to a colleague goes out",
    "tool": "send_email",
    "args": {"to": ["bob@acme.example"]},
    "expect": "allow",
}
OUTSIDE = {
    "name": "mail to an outsider is read by two people",
    "tool": "send_email",
    "args": {"to": ["eve@evil.example"]},
    "expect": {
        "effect": "hold",
        "rules": ["mail-outside"],
        "reason": "outsiders",
        "approvers": ["alice", "bob"],
        "quorum": 2,
    },
}


def cases(*items, **head):
    return {
        "version": 1,
        "config": "gate.yaml",
        "environment": {"ALICE": "a stand-in"},
        **head,
        "cases": list(items),
    }


def run(author, *items, options=(), **head):
    author.write("cases.yaml", cases(*items, **head))
    return author("policy", "test", "cases.yaml", *options)


def test_cases_that_hold_pass(deployed):
    told = run(deployed, INSIDE, OUTSIDE)
    assert told.code == 0, told.out + told.err
    assert "ok    mail to a colleague goes out" in told.out
    assert "2 of 2 cases passed" in told.out


def test_a_failing_case_says_what_was_expected_and_what_came_and_where_it_stands(deployed):
    told = run(deployed, INSIDE, {**OUTSIDE, "expect": "deny"})
    assert told.code == 1
    assert "FAIL  mail to an outsider is read by two people  (line 12)" in told.out
    assert (
        "expected deny, got hold by mail-outside: mail to outsiders is read by a person first"
        in told.out
    )
    assert "1 of 2 cases passed" in told.out


def test_a_case_of_a_tool_that_the_config_does_not_name_is_a_warning(deployed):
    typo = {"name": "typo", "tool": "sned_email", "expect": "deny"}
    told = run(deployed, INSIDE, typo)
    assert told.code == 0, told.out
    warning = "cases.yaml: line 12: case 'typo': the config does not name the tool sned_email, so"
    assert f"warning: {warning}" in told.out
    [said] = run(deployed, INSIDE, typo, options=["--json"]).json["warnings"]
    assert said.startswith(warning)
    assert run(deployed, typo, options=["--json"], tools={"sned_email": {}}).json["warnings"] == []


@pytest.mark.parametrize(
    ("expect", "said"),
    [
        ({"effect": "hold", "rules": ["mail"]}, "expected the rules mail, got mail-outside"),
        ({"effect": "hold", "reason": "because"}, "expected a reason with 'because'"),
        ({"effect": "hold", "approvers": ["bob"]}, "expected the approvers bob, got alice, bob"),
        ({"effect": "hold", "quorum": 1}, "expected a quorum of 1, got 2"),
        ({"effect": "hold", "errors": ["mail-outside"]}, "rule mail-outside was evaluated"),
    ],
)
def test_each_expectation_is_held_against_the_verdict(deployed, expect, said):
    told = run(deployed, {**OUTSIDE, "expect": expect})
    assert told.code == 1
    assert said in told.out


def test_a_deny_that_is_only_an_error_does_not_pass_for_one_that_was_meant(deployed):
    case = {"name": "deploy", "tool": "deploy", "state": {"tests_passed": True}, "expect": "deny"}
    deployed.write("policy.yaml", (deployed.folder / "policy.yaml").read_text().replace(
        "state.tests_passed", "state.test_passed"
    ))  # fmt: skip
    told = run(deployed, case)
    assert told.code == 1
    assert "rule tests-first could not be evaluated: Key not found in map" in told.out
    told = run(deployed, {**case, "expect": {"effect": "deny", "errors": ["tests-first"]}})
    assert told.code == 0


def test_state_of_a_case_is_added_to_the_state_that_the_config_begins_with(deployed):
    denied = {"name": "untested", "tool": "deploy", "expect": "deny"}
    held = {"name": "t", "tool": "deploy", "state": {"tests_passed": True}, "expect": "hold"}
    assert run(deployed, denied, held).code == 0


def test_a_case_whose_arguments_the_operators_schema_refuses_proves_nothing(deployed):
    told = run(deployed, {**INSIDE, "args": {"to": "bob@acme.example"}})
    assert told.code == 1
    assert "never reaches policy with these arguments: /to" in told.out
    assert "expected allow, got invalid: send_email never" in told.out


@pytest.mark.parametrize("expect", ["invalid", {"effect": "invalid", "reason": "/to: "}])
def test_a_case_may_expect_that_the_operators_schema_refuses_the_arguments(deployed, expect):
    case = {**INSIDE, "args": {"to": "bob@acme.example"}, "expect": expect}
    told = run(deployed, case, options=["--json"])
    assert told.code == 0, told.err
    [told] = told.json["cases"]
    assert (told["effect"], told["rules"]) == ("invalid", [])
    assert told["reason"].startswith("/to: ")


def test_a_case_that_is_invalid_for_another_reason_or_not_at_all_fails(deployed):
    other = {**INSIDE, "args": {}, "expect": {"effect": "invalid", "reason": "/to:"}}
    told = run(deployed, other, {**INSIDE, "name": "valid", "expect": "invalid"})
    assert told.code == 1
    assert "expected a reason with '/to:', got " in told.out
    assert "expected invalid, got allow by mail" in told.out


def test_arguments_that_never_reach_policy_cover_no_rule(deployed):
    told = run(deployed, {**INSIDE, "args": {"to": "x"}, "expect": "invalid"}, options=["--json"])
    [coverage] = told.json["coverage"]
    assert coverage["rules"]["mail"]["gaps"] == ["no case matches it"]


def test_coverage_names_rules_and_answers_that_no_case_has_shown(deployed):
    told = run(deployed, OUTSIDE, options=["--json"])
    assert told.code == 0
    [coverage] = told.json["coverage"]
    gaps = {name: rule["gaps"] for name, rule in coverage["rules"].items()}
    assert gaps == {
        "reads": ["no case matches it"],
        "mail": [],
        "mail-outside": ["unless is never true"],
        "tests-first": ["no case matches it", "unless is never true", "unless is never false"],
    }
    assert run(deployed, OUTSIDE, options=["--full-coverage"]).code == 1


def test_coverage_is_counted_over_all_files_about_one_policy(deployed):
    deployed.write("a.yaml", cases(INSIDE))
    deployed.write("b.yaml", cases(OUTSIDE))
    told = deployed("policy", "test", "a.yaml", "b.yaml", "--json")
    [coverage] = told.json["coverage"]
    assert coverage["rules"]["mail-outside"]["unless"] == [True, False]
    assert [case["file"] for case in told.json["cases"]] == ["a.yaml", "b.yaml"]


def test_a_document_is_tested_without_a_config_with_contracts_and_constants_of_the_file(author):
    author.write(
        "policy.yaml",
        {
            "version": 1,
            "id": "p",
            "rules": [
                {
                    "id": "egress",
                    "tools": ["*"],
                    "when": '"egress" in tool.labels && args.n > vars.most',
                    "effect": "hold",
                }
            ],
        },
    )
    author.write(
        "cases.yaml",
        {
            "version": 1,
            "policy": "policy.yaml",
            "vars": {"most": 3},
            "allow_up_to": 2,
            "tools": {"post": {"level": 2, "labels": ["egress"]}},
            "cases": [
                {"name": "few", "tool": "post", "args": {"n": 3}, "expect": "allow"},
                {"name": "many", "tool": "post", "args": {"n": 4}, "expect": "hold"},
                {"name": "others", "tool": "other", "expect": "deny"},
            ],
        },
    )
    told = author("policy", "test", "cases.yaml")
    assert told.code == 0, told.out + told.err


def test_a_draft_is_tested_in_place_of_the_deployments_document(deployed, mail):
    never = {"id": "never", "tools": ["send_email"], "effect": "deny"}
    deployed.write("draft.yaml", mail(never))
    told = run(deployed, INSIDE, options=["--policy", "draft.yaml"])
    assert told.code == 1
    assert "expected allow, got deny by never" in told.out


def test_a_case_without_a_time_always_has_the_same_one(deployed, mail):
    deployed.write(
        "policy.yaml",
        mail(
            {
                "id": "nights",
                "tools": ["search_*"],
                "when": "now.getHours() < 6 || now.getHours() >= 20",
                "effect": "deny",
            }
        ),
    )
    noon = {"name": "noon", "tool": "search_web", "expect": "allow"}
    night = {**noon, "name": "night", "now": "2026-01-05T23:00:00+01:00", "expect": "deny"}
    assert run(deployed, noon, night).code == 0


def test_types_agents_sessions_and_proposals_can_be_said(deployed, mail):
    condition = (
        'args.key == "k" && agent.id == "helper" && agent.framework == "f" && session.id == "s" '
        '&& session.age > duration("1h") && action.proposal_id == "p" && action.type == '
        '"state_write"'
    )
    rule = {"id": "all", "types": ["state_write"], "when": condition, "effect": "allow"}
    deployed.write("policy.yaml", mail(rule))
    case = {
        "name": "all",
        "type": "state_write",
        "args": {"key": "k", "value": 1},
        "agent": {"id": "helper", "framework": "f"},
        "session": {"id": "s", "age": "2h"},
        "proposal_id": "p",
        "expect": {"effect": "allow", "rules": ["all"]},
    }
    assert run(deployed, case).code == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tols": "x"}, "case 'c': tols: unknown key"),
        (
            {"expect": "maybe"},
            "case 'c': expect.effect: input should be 'deny', 'hold',",
        ),
        ({"tool": None}, "case 'c': names no tool"),
        ({"type": "state_read"}, "case 'c': names a tool, and type state_read calls none"),
        ({"now": "noon"}, "case 'c': now: must be a time with its time zone"),
        ({"now": "2026-01-05T12:00:00"}, "case 'c': now: must be a time with its time zone"),
        ({"session": {"age": 5}}, "case 'c': session.age: must be a duration"),
        ({"session": {"label": []}}, "case 'c': session.label: unknown key"),
        ({"args": [1]}, "case 'c': args: must be a mapping of keys to values"),
        ({"expect": {"effect": "allow", "quorum": 1}}, "case 'c': expect: allow asks no app"),
        ({"expect": {"effect": "deny", "rules": ["typo"]}}, "the policy has no rule typo"),
        ({"expect": {"effect": "invalid", "rules": ["mail"]}}, "leave out rules"),
        ({"expect": {"effect": "invalid", "quorum": 1}}, "case 'c': expect: invalid asks no app"),
    ],
)
def test_a_bad_case_is_refused_by_name(deployed, change, said):
    told = run(deployed, {"name": "c", "tool": "x", "expect": "allow", **change})
    assert told.code == 2, told.out
    assert said in " ".join(told.err.split())
    assert "  - line " in told.err


def test_a_bad_case_is_refused_with_the_line_it_stands_on(deployed):
    deployed.write(
        "cases.yaml",
        "version: 1\nconfig: gate.yaml\ncases:\n  - name: one\n    tool: x\n    expct: allow\n",
    )
    told = deployed("policy", "test", "cases.yaml")
    assert told.code == 2
    assert "line 6: case 'one': expct: unknown key" in told.err
    assert "line 4: case 'one': expect: is required" in told.err


PAST = [
    ('"untrusted" in session.labels', {"labels": ["untrusted"]}),
    ('session.calls["x"] == 0 && session.calls["mail"] == 0 && session.total_calls == 0', {}),
    ("session.calls.mail == 2 && session.total_calls == 2", {"calls": {"mail": 2}}),
    ("session.total_calls == 9 && session.calls.mail == 0", {"total_calls": 9}),
    (
        'history[0].tool == "mail" && "egress" in history[0].labels && session.calls.mail == 1',
        {"history": [{"tool": "mail"}]},
    ),
    (
        'history[0].status == "failed" && history[0].labels == ["mine"]',
        {"history": [{"tool": "mail", "status": "failed", "labels": ["mine"]}]},
    ),
]


@pytest.mark.parametrize(("when", "session"), PAST)
def test_what_a_session_has_seen_and_called_can_be_said(author, when, session):
    rule = {"id": "past", "tools": ["x"], "when": when, "effect": "allow"}
    author.write("p.yaml", {"version": 1, "id": "p", "rules": [rule]})
    case = {"name": "c", "tool": "x", "session": session, "expect": "allow"}
    tools = {"mail": {"labels": ["egress"]}}
    author.write("cases.yaml", {"version": 1, "policy": "p.yaml", "tools": tools, "cases": [case]})
    assert author("policy", "test", "cases.yaml").code == 0


@pytest.mark.parametrize(
    "session",
    [
        {"labels": "untrusted"},
        {"calls": {"x": -1}},
        {"total_calls": 1.5},
        {"history": [{"status": "failed"}]},
        {"history": [{"tool": "x", "status": "denied"}]},
        {"history": [{"tool": "x"}] * 51},
    ],
)
def test_a_past_that_no_session_can_have_is_refused(deployed, session):
    told = run(deployed, {"name": "c", "tool": "x", "expect": "allow", "session": session})
    assert told.code == 2
    assert "session." in told.err


@pytest.mark.parametrize(
    ("head", "said"),
    [
        ({"config": None, "environment": {}}, "names neither a config nor a policy"),
        ({"policy": "policy.yaml"}, "has both config and policy"),
        ({"vars": {}}, "belong to policy, but no policy"),
        ({"config": None}, "belongs to config, but no config"),
        ({"config": "nowhere.yaml"}, "nowhere.yaml"),
        ({"environment": {}}, "ALICE is not set"),
        ({"version": 2}, "version: input should be 1"),
    ],
)
def test_a_file_that_names_no_policy_of_its_own_is_refused(deployed, head, said):
    told = run(deployed, INSIDE, **head)
    assert told.code == 2
    assert said in " ".join(told.err.split())


def test_two_cases_of_one_name_are_refused(deployed):
    told = run(deployed, INSIDE, INSIDE)
    assert told.code == 2
    assert "this name is taken by cases[0]" in told.err


def test_a_broken_policy_is_no_failed_test(deployed):
    deployed.write("policy.yaml", "version: 1\nid: x\nrules: [{id: a, effect: deny}]\n")
    assert run(deployed, INSIDE).code == 2


def test_an_unsigned_draft_can_be_tested_where_a_signature_is_required(deployed):
    text = (deployed.folder / "gate.yaml").read_text()
    signed = "  require_signature: true\n  signers:\n  - {id: s, public_key: AAAA}\n"
    key = "yQU7e6mYmQmBDhYhgcKBZ2IBWTVcEmvWjJpHoEFLEKg="
    deployed.write(
        "gate.yaml", text.replace("policy:\n", f"policy:\n{signed}".replace("AAAA", key))
    )
    assert run(deployed, INSIDE).code == 0


def test_the_command_line_page_has_every_key_of_a_file_of_cases_and_no_other():
    page = ROOT / "docs" / "reference" / "cli.md"
    for heading, model in (("Files of cases", TestFile), ("Keys of a case", Case)):
        keys = {code(row["key"]) for row in table(page, heading)}
        assert keys == model.model_fields.keys()
