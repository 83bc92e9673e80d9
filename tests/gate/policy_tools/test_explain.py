"""`toolgate policy explain`: why a call is allowed, held or denied."""

from __future__ import annotations

import sqlite3

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support.driver import Driver
from support.people import config
from support.plans import call, plan_config
from toolgate.config import parse_config
from toolgate.policy import compile_policy
from toolgate.policy.explain import explain
from toolgate.policy.situation import Setting, Situation

MAIL = '{"to": ["eve@evil.example"]}'


def ask(author, *arguments, **env):
    return author("policy", "explain", "--config", "gate.yaml", *arguments, **{"ALICE": "k", **env})


def test_an_explanation_says_verdict_reason_approval_and_every_rule(deployed):
    told = ask(deployed, "--tool", "send_email", "--args", MAIL)
    assert told.code == 0, told.err
    assert told.out == (
        """\
send_email: level 3, irreversible, external, labels egress
  {
    "to": [
      "eve@evil.example"
    ]
  }

HOLD: mail to outsiders is read by a person first
  It waits for 2 of: alice, bob (for rule mail-outside).
  It expires after 15m.

rules about such calls
  mail-outside (hold): matches, and decides
      unless args.to.all(a, a.endsWith("@" + vars.domain)): is false
  mail (allow): matches; hold beats allow

rules about other calls
  reads: tools search_*
  tests-first: tools deploy

level 3: denied unless a rule allows or holds it (allow_up_to is 0)
"""
    )


def test_a_condition_that_cannot_be_evaluated_is_told_with_its_error(deployed):
    told = ask(deployed, "--tool", "send_email", "--args", '{"to": "eve@evil.example"}')
    assert "mail-outside (hold): could not be evaluated, so it matches" in told.out
    assert "is not asked" not in told.out
    assert 'unless args.to.all(a, a.endsWith("@" + vars.domain)): error: ' in told.out


def test_a_call_that_would_never_reach_policy_is_told_so(deployed):
    told = ask(deployed, "--tool", "send_email", "--args", "{}")
    assert "Such a call would be rejected before policy is asked:" in told.out
    assert '"to" is a required property' in told.out


def test_the_levels_that_no_rule_lifts_are_explained(deployed):
    told = ask(deployed, "--tool", "deploy", "--state", '{"tests_passed": true}')
    assert "HOLD: level 4: deploy always waits for a person's approval" in told.out
    assert "It waits for 1 of: alice, bob (for the tool's level)." in told.out
    assert "tests-first (deny): does not match" in told.out
    assert "level 4: such a tool is at least held, whatever the rules say" in told.out
    initial = ask(deployed, "--tool", "deploy")
    assert "DENY: rule tests-first denies deploy" in initial.out


def test_a_tool_without_a_contract_gets_the_conservative_one(deployed):
    told = ask(deployed, "--tool", "whatever")
    assert "whatever: level 3, irreversible, external" in told.out
    assert "DENY: no rule allows whatever" in told.out


def test_a_state_action_is_explained_by_its_type(deployed):
    told = ask(deployed, "--type", "state_write", "--args", '{"key": "k", "value": 1}', "--json")
    assert told.json["tool"] == "state_write"
    assert told.json["effect"] == "deny"


def test_machines_get_the_same_explanation(deployed):
    told = ask(deployed, "--tool", "send_email", "--args", MAIL, "--json").json
    assert (told["effect"], told["rules"]) == ("hold", ["mail-outside"])
    assert told["approval"]["groups"] == [
        {"rule": "mail-outside", "approvers": ["alice", "bob"], "quorum": 2}
    ]
    traced = {item["rule"]: item for item in told["trace"]}
    assert list(traced) == ["reads", "mail", "mail-outside", "tests-first"]
    assert traced["mail-outside"]["unless"]["result"] is False
    assert traced["mail-outside"]["decides"] is True
    assert traced["mail"] | {"rule": ""} == {
        "rule": "",
        "effect": "allow",
        "about": True,
        "matches": True,
        "decides": False,
        "observes": False,
        "outcome": "matches; hold beats allow",
        "when": None,
        "unless": None,
        "error": None,
    }


def test_arguments_and_state_may_stand_in_files(deployed):
    deployed.write("args.json", MAIL)
    told = ask(deployed, "--tool", "send_email", "--args", "@args.json", "--json")
    assert told.json["args"] == {"to": ["eve@evil.example"]}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name a call with --tool"),
        (["--tool", "x", "--args", "[1]"], "--args: must be a mapping"),
        (["--tool", "x", "--args", "{"], "--args is not JSON"),
        (["--tool", "x", "--args", "@nowhere"], "nowhere cannot be read"),
        (["--tool", "x", "--state", "1"], "--state: must be a mapping"),
        (["--tool", "x", "--session", '{"age": 3}'], "--session.age: must be a duration"),
        (["--tool", "x", "--session", '{"labels": "x"}'], "--session.labels: must be a list"),
        (["--tool", "x", "--now", "noon"], "--now: must be a time"),
        (["--tool", "x", "--type", "assertion"], "type assertion calls none"),
        (["--tool", "x", "--uid", "u"], "--tool has no place beside it"),
        (["--tool", "x", "--type", "dance"], "Invalid value for '--type'"),
    ],
)
def test_a_question_that_is_none_is_refused(deployed, arguments, said):
    told = ask(deployed, *arguments)
    assert told.code == 2
    assert said in " ".join(told.err.split())


def test_a_draft_is_explained_in_place_of_the_document(deployed, mail):
    deployed.write("draft.yaml", mail({"id": "never", "tools": ["*"], "effect": "deny"}))
    told = ask(deployed, "--tool", "search_web", "--policy", "draft.yaml", "--json")
    assert told.json["rules"] == ["never"]


async def test_a_held_call_of_the_journal_is_explained_from_its_verified_row(author):
    author.write("gate.yaml", config())
    async with Driver(author.folder, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        held = await gate.govern("pay", {"amount": 100})
    told = ask(author, "--uid", held["uid"])
    assert told.code == 0, told.err
    assert '"amount": 100' in told.out
    assert "HOLD: a person looks at payments" in told.out
    assert "): hold by money." in told.out
    changed = config()
    changed["policy"]["rules"].append({"id": "no-pay", "tools": ["pay"], "effect": "deny"})
    author.write("gate.yaml", changed)
    told = ask(author, "--uid", held["uid"], "--json").json
    assert (told["effect"], told["rules"]) == ("deny", ["no-pay"])
    assert told["recorded"]["effect"] == "hold"
    with sqlite3.connect(author.folder / ".toolgate/journal.db") as db:
        db.execute("UPDATE action SET args = ?", (b'{"amount":1}',))
    db.close()
    forged = ask(author, "--uid", held["uid"])
    assert forged.code == 2
    assert "does not verify" in " ".join(forged.err.split())


async def test_an_action_that_is_not_there_or_never_reached_policy_is_told_so(author):
    author.write("gate.yaml", config())
    async with Driver(author.folder, config()) as gate:
        refused = await gate.govern("unheard-of", {})
    told = ask(author, "--uid", refused["uid"])
    assert told.code == 2
    assert "ended before policy was asked" in " ".join(told.err.split())
    unknown = ask(author, "--uid", "0" * 24)
    assert unknown.code == 2
    assert "has no action" in unknown.err


async def test_a_call_is_not_explained_from_a_log_that_somebody_changed(author):
    author.write("gate.yaml", config())
    async with Driver(author.folder, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        held = await gate.govern("pay", {"amount": 100})
    with sqlite3.connect(author.folder / ".toolgate/journal.db") as db:
        db.execute("UPDATE event SET at = at + 1 WHERE kind = 'session.opened'")
    db.close()
    told = ask(author, "--uid", held["uid"])
    assert told.code == 2
    assert "does not verify" in " ".join(told.err.split())


async def test_what_a_recorded_action_would_have_written_is_named(author):
    author.write("gate.yaml", plan_config())
    async with Driver(author.folder, plan_config()) as gate:
        await gate.tool("step", lambda args: "done")
        action = call("e", expected_effects={"paid": True})
        ran = await gate.request("propose", proposal={"actions": [action]})
    uid = ran["results"][0]["uid"]
    assert "It would also write the state key 'paid'" in ask(author, "--uid", uid).out
    assert ask(author, "--uid", uid, "--json").json["recorded"]["effects"] == {"paid": True}


def test_what_is_explained_cannot_act_on_the_terminal(deployed):
    told = ask(
        deployed, "--tool", "x\x1b[2J", "--args", '{"a": "\\u001b[2J[bold]b[/bold]"}',
        FORCE_COLOR="1",
    )  # fmt: skip
    assert "\x1b[2J" not in told.out
    assert "[bold]b[/bold]" in told.out


CONDITIONS = st.sampled_from(
    [None, "args.n > 1", "args.n > 5", "args.missing == 1", "state.ok == true", "args.n"]
)
RULES = st.lists(
    st.tuples(
        st.sampled_from(["allow", "hold", "deny"]),
        st.sampled_from([["*"], ["a"], ["b*"]]),
        CONDITIONS,
        CONDITIONS,
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=60)
@given(RULES, st.integers(0, 9), st.integers(0, 5), st.booleans())
def test_an_explanation_never_contradicts_the_verdict(rules, n, level, ok):
    written = []
    for number, (effect, tools, when, unless) in enumerate(rules):
        rule = {"id": f"r{number}", "effect": effect, "tools": tools}
        rule |= {"when": when} if when else {}
        rule |= {"unless": unless} if unless else {}
        written.append(rule)
    people = [{"id": "alice", "public_key": "key"}]
    policy = {"rules": written, "allow_up_to": 1}
    tools = {"a": {"level": level}}
    made = parse_config(
        {"project": "p", "tools": tools, "policy": policy, "approvals": {"approvers": people}}, "."
    )
    compiled = compile_policy(made)
    facts = Situation(tool="a", args={"n": n}, state={"ok": ok}).facts(Setting.of(made))
    told = explain(compiled, facts)
    matching = {
        t.rule.id for t in told.traces if t.matches and t.rule.effect == told.verdict.effect
    }
    assert set(told.verdict.rules) <= matching
    if told.verdict.rules:
        assert set(told.verdict.rules) == matching
    erred = {t.rule.id: t.error for t in told.traces if t.error}
    assert all(erred[error.rule] == error.error for error in told.verdict.errors)
