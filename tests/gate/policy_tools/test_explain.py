"""`toolgate policy explain`: why a call is allowed, held or denied."""

from __future__ import annotations

import json
import re
import sqlite3
from datetime import UTC, datetime

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from support.doc_pages import ROOT
from support.driver import Driver
from support.people import ALICE, BOB, config
from support.plans import call, plan_config
from toolgate.config import parse_config
from toolgate.policy import compile_policy
from toolgate.policy.conditions import ConditionCompiler
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
HELD: send_email waits for at most 15m, until alice and bob have approved (rule mail-outside).

the call
  send_email: irreversible, external, labels egress
  level 3: denied unless a rule allows or holds it (allow_up_to is 0)
  {
    "to": [
      "eve@evil.example"
    ]
  }

why
  mail-outside (hold): mail to outsiders is read by a person first
      unless args.to.all(a, a.endsWith("@" + vars.domain))
          args.to = ["eve@evil.example"]
          vars.domain = "acme.example"
      is false, so the rule applies

other rules about such calls
  mail (allow): applies, but hold beats allow

2 rules are about other calls (--verbose: all in full).
"""
    )


def test_a_condition_that_cannot_be_evaluated_is_told_with_its_error(deployed):
    told = ask(deployed, "--tool", "send_email", "--args", '{"to": "eve@evil.example"}')
    assert (
        """
      unless args.to.all(a, a.endsWith("@" + vars.domain))
          args.to = "eve@evil.example"
          vars.domain = "acme.example"
      cannot be evaluated ("""
        in told.out
    )
    assert "), so it applies, to be safe, and decides\n" in told.out
    assert "is not asked" not in told.out


def test_a_call_that_would_never_reach_policy_is_told_so(deployed):
    told = ask(deployed, "--tool", "send_email", "--args", "{}")
    assert told.out.startswith(
        """\
REJECTED: send_email would be rejected before policy is asked:
  /: "to" is a required property
If it came to policy: HELD: send_email waits for"""
    )


def test_the_levels_that_no_rule_lifts_are_explained(deployed):
    told = ask(deployed, "--tool", "deploy", "--state", '{"tests_passed": true}')
    assert (
        "HELD: deploy waits for at most 15m, until alice or bob has approved (level 4, "
        "whatever the rules say).\n" in told.out
    )
    assert "tests-first (deny): does not apply (unless is true)" in told.out
    assert "level 4: such a tool is at least held, whatever the rules say" in told.out
    initial = ask(deployed, "--tool", "deploy")
    assert "DENIED: deploy is denied by the rule tests-first." in initial.out


def test_a_tool_without_a_contract_gets_the_conservative_one(deployed):
    told = ask(deployed, "--tool", "whatever")
    assert "whatever: irreversible, external" in told.out
    assert "DENIED: no rule allows whatever" in told.out


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
    assert traced["mail-outside"]["unless"] == {
        "source": 'args.to.all(a, a.endsWith("@" + vars.domain))',
        "result": False,
        "facts": [
            {"name": "args.to", "value": ["eve@evil.example"]},
            {"name": "vars.domain", "value": "acme.example"},
        ],
    }
    assert told["summary"].startswith("send_email waits for at most 15m, until alice and bob have")
    assert traced["mail-outside"]["decides"] is True
    assert traced["mail"] | {"rule": ""} == {
        "rule": "",
        "effect": "allow",
        "about": True,
        "matches": True,
        "decides": False,
        "observes": False,
        "outcome": "applies, but hold beats allow",
        "reason": None,
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
        (["--now", "noon", "--uid", "u"], "--now has no place beside it"),
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
    assert told.out.startswith("HELD: pay waits")
    assert "money (hold): a person looks at payments\n" in told.out
    assert ") it got hold, by money: as now.\n" in told.out
    changed = config()
    changed["policy"]["rules"].append({"id": "no-pay", "tools": ["pay"], "effect": "deny"})
    author.write("gate.yaml", changed)
    said = ask(author, "--uid", held["uid"]).out
    assert ") it got hold, by money: otherwise than the policy says now.\n" in said
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


def test_what_nobody_has_said_and_rules_read_is_said_to_be_assumed(deployed, mail):
    when = "state.n == 1 || session.calls.pay > 1 || now.getHours() > 20"
    rule = {**REFUNDS[0], "when": f'{when} || "untrusted" in session.labels'}
    deployed.write("policy.yaml", mail(rule, {**rule, "id": "other", "tools": ["deploy"]}))
    before = datetime.now(UTC).replace(microsecond=0)
    told = ask(deployed, "--tool", "pay", "--json").json["assumed"]
    now, session, state = told
    assert before <= datetime.fromisoformat(now.removeprefix("now is ")) <= datetime.now(UTC)
    assert session == "the session is a new one: no labels, no calls"
    assert state == "the session's state is the one the config begins with"
    assert f"assumed: {session}\n" in ask(deployed, "--tool", "pay").out
    given = ("--now", "2026-01-05T12:00:00Z", "--state", '{"n": 2}')
    told = ask(deployed, "--tool", "pay", *given, "--session", '{"labels": []}', "--json")
    assert told.json["assumed"] == ["the session is a new one: no calls"]
    assert ask(deployed, "--tool", "send_email", "--args", MAIL, "--json").json["assumed"] == []


async def test_what_has_become_of_a_recorded_call_is_told(author):
    author.write("gate.yaml", config())
    async with Driver(author.folder, config()) as gate:
        await gate.tool("pay", lambda args: "paid")
        await gate.tool("wire_money", lambda args: "wired")
        paid, kept = await gate.govern("pay", {"n": 1}), await gate.govern("pay", {"n": 2})
        wired = await gate.govern("wire_money")
        gate.approve(paid["uid"], ALICE, author.folder)
        gate.approve(kept["uid"], ALICE, author.folder, "deny")
        gate.approve(wired["uid"], BOB, author.folder)
        await gate.request("resume", uid=paid["uid"])
    told = ask(author, "--uid", paid["uid"]).out
    hold = paid["hold"]
    assert (
        f"It was held as {hold['hold_id']}: released, deadline {hold['deadline']}; approved by "
        "alice.\nThe action is now succeeded.\n" in told
    )
    told = ask(author, "--uid", kept["uid"]).out
    assert "; approved by nobody; denied by alice.\nThe action is now held.\n" in told
    told = ask(author, "--uid", wired["uid"]).out
    assert ": pending, without a deadline; approved by bob.\nThe action is now held.\n" in told
    told = ask(author, "--uid", wired["uid"], "--json").json["became"]
    assert (told["status"], told["hold"]["approved_by"]) == ("held", ["bob"])


def secret_mail(**changes):
    """A config in which mail to strangers is denied, and nobody may read whom mail is for."""
    value = config(session="s")
    schema = {
        "type": "object",
        "properties": {"email": {"type": "string", "pattern": "@"}, "n": {"type": "integer"}},
    }
    value["tools"] |= {"mail": {"level": 3, "redact": ["/email"], "parameters": schema}}
    value["policy"]["rules"] += [
        {"id": "mail", "tools": ["mail"], "effect": "allow"},
        {
            "id": "strangers",
            "tools": ["mail"],
            "when": 'args.email.endsWith("@evil.example")',
            "effect": "deny",
            "reason": "no mail to strangers",
        },
    ]
    value.update(changes)
    return value


async def mailed(author, value, args):
    author.write("gate.yaml", value)
    async with Driver(author.folder, value) as gate:
        await gate.tool("mail", lambda args: "sent")
        return (await gate.govern("mail", args))["uid"]


@pytest.mark.parametrize(
    ("to", "first"),
    [
        ("x@evil.example", "DENIED when it was made (WHEN): mail by strangers: no mail to stran"),
        ("x@acme.example", "ALLOWED when it was made (WHEN): mail by mail: rule mail allows mail"),
    ],
)
async def test_a_call_whose_redacted_arguments_are_gone_is_told_by_its_record(author, to, first):
    uid = await mailed(author, secret_mail(), {"email": to})
    told = ask(author, "--uid", uid)
    assert told.code == 0, told.err
    assert re.sub(r"\(\S+Z\)", "(WHEN)", told.out).startswith(first)
    assert "REDACTED AND GONE: /email of its arguments." in told.out
    assert (
        "NOT TOLD: what the policy says of mail cannot be told: it depends on the rule" in told.out
    )
    assert "rejected before policy" not in told.out
    assert (
        "      cannot be told: it reads redacted arguments, which are gone\n"
        "      so whether the rule applies cannot be told\n" in told.out
    )
    assert to not in told.out
    told = ask(author, "--uid", uid, "--json").json
    assert (told["effect"], told["rules"], told["before_policy"]) == (None, [], [])
    assert (told["redacted"], told["depends_on"]) == (["/email"], ["strangers"])
    traced = {item["rule"]: item for item in told["trace"]}
    assert traced["strangers"]["matches"] is None
    assert traced["strangers"]["when"]["result"] == "untold"
    assert (traced["mail"]["matches"], traced["mail"]["decides"]) == (True, False)


@pytest.mark.parametrize(
    ("rule", "effect"),
    [
        ({"id": "many", "when": "args.n > 3", "effect": "deny"}, "deny"),
        ({"id": "many", "when": "args.n > 9", "effect": "deny"}, "allow"),
        ({"id": "all", "effect": "hold"}, "hold"),
    ],
)
async def test_what_no_redacted_argument_could_change_is_told(author, rule, effect):
    strangers = secret_mail()["policy"]["rules"][-1]
    allowing = {**strangers, "effect": "allow"}
    labelled = {**strangers, "id": "x", "when": f"'x' in tool.labels && {strangers['when']}"}
    uid = await mailed(author, secret_mail(), {"email": "x@acme.example", "n": 4})
    value = secret_mail()
    value["policy"]["rules"][-1:] = [labelled, {"tools": ["mail"], **rule}]
    if effect != "allow":
        value["policy"]["rules"].append(allowing)
    author.write("gate.yaml", value)
    told = ask(author, "--uid", uid, "--json").json
    assert (told["effect"], told["depends_on"]) == (effect, [])
    word = {"deny": "DENIED", "hold": "HELD", "allow": "ALLOWED"}[effect]
    assert f"As the policy is now: {word}: " in ask(author, "--uid", uid).out


async def test_an_argument_that_was_not_there_is_not_taken_for_a_redacted_one(author):
    uid = await mailed(author, secret_mail(), {"n": 1})
    told = ask(author, "--uid", uid, "--json").json
    assert (told["effect"], told["rules"], told["redacted"]) == ("deny", ["strangers"], [])


async def test_while_an_action_has_not_ended_its_redacted_arguments_are_judged_and_not_shown(
    author,
):
    value = secret_mail()
    value["policy"]["rules"][-1] |= {"effect": "hold"}
    uid = await mailed(author, value, {"email": "x@evil.example"})
    told = ask(author, "--uid", uid)
    assert told.out.startswith("HELD: mail waits")
    assert "x@evil" not in told.out
    assert "GONE" not in told.out


def test_what_is_explained_cannot_act_on_the_terminal(deployed):
    told = ask(
        deployed, "--tool", "x\x1b[2J", "--args", '{"a": "\\u001b[2J[bold]b[/bold]"}',
        FORCE_COLOR="1",
    )  # fmt: skip
    assert "\x1b[2J" not in told.out
    assert "[bold]b[/bold]" in told.out


REFUNDS = [
    {
        "id": "large",
        "tools": ["pay"],
        "when": "args.amount > vars.alone",
        "effect": "hold",
        "reason": "a person looks at larger refunds",
        "approval": {"approvers": ["alice", "bob"], "expires": "4h"},
    },
    {
        "id": "unread",
        "tools": ["pay"],
        "when": '"untrusted" in session.labels && tool.level >= 3',
        "effect": "hold",
        "approval": {"approvers": ["bob", "alice"], "expires": "4h"},
    },
    {
        "id": "two",
        "tools": ["pay"],
        "effect": "hold",
        "approval": {"approvers": ["alice", "bob"], "quorum": 2, "expires": "1d"},
    },
]


ALLOW = {"effect": "allow", "approval": None}


@pytest.fixture
def paying(deployed, mail):
    """Ask about a payment that several rules hold, and others do not."""
    quiet = {"id": "quiet", "tools": ["pay"], "when": "args.amount < 0 // none", "effect": "deny"}
    deployed.write("policy.yaml", mail(*REFUNDS, quiet))
    gate = yaml.safe_load((deployed.folder / "gate.yaml").read_text())
    gate["policy"]["vars"]["alone"] = 50
    deployed.write("gate.yaml", gate)
    session = ("--session", '{"labels": ["untrusted"]}')
    return lambda *options: ask(
        deployed, "--tool", "pay", "--args", '{"amount": 120}', *session, *options
    )


def test_what_several_rules_ask_of_the_same_people_is_said_once_and_which_of_them_is_shortest(
    paying,
):
    assert paying().out.startswith(
        """\
HELD: pay waits for at most 4h, until 2 groups of people have approved:
  alice or bob   for large and unread
  alice and bob  for two
  One approval counts in every group that names its approver.
  The shortest time counts: large and unread set the 4h (two alone: 1d).
"""
    )
    approval = paying("--json").json["approval"]
    assert approval["expiries"] == {"large": 14400, "unread": 14400, "two": 86400}


def test_each_deciding_rule_has_its_own_reason_and_the_values_that_its_condition_reads(paying):
    assert (
        """
  large (hold): a person looks at larger refunds
      when args.amount > vars.alone
          args.amount = 120
          vars.alone = 50
      is true, so the rule applies
  unread (hold)
      when "untrusted" in session.labels && tool.level >= 3
          session.labels = ["untrusted"]
          tool.level = 3
      is true, so the rule applies
  two (hold)
      without a condition, so it applies, and decides
"""
        in paying().out
    )


def test_a_rule_that_decides_nothing_takes_one_line_unless_all_is_asked_for(paying):
    told = paying().out
    assert "  quiet (deny): does not apply (when is false)\n" in told
    assert "args.amount < 0" not in told
    told = paying("--verbose").out
    assert (
        """
  quiet (deny)
      when args.amount < 0 // none
          args.amount = 120
      is false, so the rule does not apply
"""
        in told
    )
    assert "\nrules about other calls\n  reads: tools search_*\n" in told


def test_an_approver_who_is_in_one_group_alone_is_not_said_to_count_twice(paying, deployed, mail):
    apart = {**REFUNDS[1], "approval": {"approvers": ["bob"], "quorum": 1}}
    alone = {**REFUNDS[0], "approval": {"approvers": ["alice"], "quorum": 1}}
    deployed.write("policy.yaml", mail(apart, alone))
    told = paying().out
    assert "  alice  for large\n  bob    for unread\n" in told
    assert "One approval counts" not in told
    assert "The shortest" not in told


def test_a_call_that_no_rule_allows_is_told_with_the_rules_that_could_have(deployed, mail):
    rule = {
        "id": "known",
        "tools": ["fetch"],
        "when": 'has(args.url) && args.hosts[0] == "a"',
        "effect": "allow",
    }
    deployed.write("policy.yaml", mail(rule))
    told = ask(deployed, "--tool", "fetch", "--args", '{"hosts": []}').out
    assert told.startswith("DENIED: no rule allows fetch (level 3; allow_up_to is 0).\n")
    assert (
        """
rules that come first
  known (allow)
      when has(args.url) && args.hosts[0] == "a"
          args.url is absent
          args.hosts[0] is absent
      is false, so the rule does not apply
"""
        in told
    )


def test_a_level_that_needs_no_rule_and_one_that_never_runs_are_said_in_one_sentence(deployed):
    gate = yaml.safe_load((deployed.folder / "gate.yaml").read_text())
    gate["tools"] |= {"clock": {"level": 0}, "wipe": {"level": 5}}
    deployed.write("gate.yaml", gate)
    assert ask(deployed, "--tool", "clock").out.startswith(
        "ALLOWED: level 0 needs no rule (allow_up_to is 0).\n"
    )
    told = ask(deployed, "--tool", "wipe").out
    assert told.startswith("DENIED: level 5: wipe never runs, whatever the rules say.\n")


def test_a_hold_that_nobody_may_approve_is_said_to_be_rejected(deployed):
    gate = yaml.safe_load((deployed.folder / "gate.yaml").read_text())
    del gate["approvals"]
    deployed.write("gate.yaml", {**gate, "policy": {}})
    told = ask(deployed, "--tool", "deploy").out
    assert told.startswith("HELD: deploy would wait for ever: approvals.approvers is empty, so")


def test_a_rule_without_end_is_said_to_wait_however_long_it_takes(deployed, mail):
    rule = {**REFUNDS[0], "when": "true", "approval": {"expires": "never"}}
    deployed.write("policy.yaml", mail(rule))
    told = ask(deployed, "--tool", "pay").out
    assert told.startswith("HELD: pay waits however long it takes, until alice or bob has approved")


def test_a_long_value_is_shortened_in_a_terminal_alone_unless_all_is_asked_for(
    deployed, monkeypatch
):
    args = f'{{"to": ["{"e" * 200}@evil.example"]}}'
    asked = ("--tool", "send_email", "--args", args)
    whole = f'          args.to = ["{"e" * 200}@evil.example"]\n'
    assert whole in ask(deployed, *asked).out
    monkeypatch.setattr("toolgate.cli.policy.explained.in_terminal", lambda: True)
    told = " ".join(ask(deployed, *asked).out.split())
    assert f'args.to = ["{"e" * 78}… (80 of 217 characters; --verbose: all)' in told
    assert "characters; --verbose" not in ask(deployed, *asked, "--verbose").out


def test_times_are_shown_as_conditions_write_them(deployed, mail):
    when = 'session.age > duration("1h") && now.getHours() == 12'
    deployed.write("policy.yaml", mail({**REFUNDS[0], "when": when}))
    asked = ("--session", '{"age": "90m"}', "--now", "2026-01-05T12:00:00Z")
    told = ask(deployed, "--tool", "pay", *asked).out
    assert 'session.age = "5400s"\n' in told
    assert 'now = "2026-01-05T12:00:00Z"\n' in told


@pytest.mark.parametrize(
    ("source", "read"),
    [
        ("args.a.b[0]['c d'] == 1", ['args.a.b[0]["c d"]']),
        ("args[vars.key] == args.x", ["args", "vars.key", "args.x"]),
        ("has(args.a) && args.a == 1", ["args.a"]),
        ("args.l.exists(args, args == 1) && args.k", ["args.l", "args.k"]),
        ("[1].all(a, a == args.b && args.c.exists(b, b == a))", ["args.b", "args.c"]),
        ("history.filter(c, c.tool == tool.name).size() > 3", ["history", "tool.name"]),
        ("args.u.split('/')[2] == 'x' && {'k': args.v}.k", ["args.u", "args.v"]),
        ("args.a[-1] == 1 ? true : !state.ok", ["args.a[-1]", "state.ok"]),
        ("session.calls.a + session.total_calls > 3", ["session.calls.a", "session.total_calls"]),
    ],
)  # fmt: skip
def test_what_a_condition_reads_is_taken_from_what_was_compiled(source, read):
    compiled = ConditionCompiler({"key": "x"}).compile(source)
    assert [str(path) for path in compiled.paths] == read


def test_the_parts_that_make_a_conjunction_false_are_told(deployed, mail):
    when = 'args.n > 3 && (args.m == "a" || args.k) && // && args.z\n "egress" in tool.labels'
    deployed.write("policy.yaml", mail({**REFUNDS[0], "when": when, "effect": "allow"} | ALLOW))
    told = ask(deployed, "--tool", "pay", "--args", '{"n": 1, "m": "a"}').out
    assert (
        "      is false, so the rule does not apply\n"
        "          false is: args.n > 3\n"
        '          false is: // && args.z\\n "egress" in tool.labels\n' in told
    )
    nested = '(args.n > 3 && args.n > 5) && args.m == "a"'
    deployed.write("policy.yaml", mail({**REFUNDS[0], "when": nested} | ALLOW))
    told = ask(deployed, "--tool", "pay", "--args", '{"n": 1, "m": "a"}').out
    assert "false is" not in told


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from(["args.a", "args.b", "!args.a", "args.x == 1", "1 == 1"]), min_size=2)
)
def test_the_parts_of_a_conjunction_are_those_it_is_written_of(parts):
    compiler = ConditionCompiler({})
    found = compiler.parts(compiler.compile(" && ".join(parts)))
    assert [part.source for part in found] == parts


def test_rules_that_no_call_of_a_tool_can_meet_take_one_line_together(deployed, mail):
    no = [
        {"id": f"no-{name}", "tools": ["*"], "when": f'"{name}" in tool.labels', "effect": "deny"}
        for name in ("money", "web")
    ]
    may = {"id": "may", "tools": ["*"], "when": "args.n == 1", "effect": "deny"}
    deployed.write("policy.yaml", mail(*no, may))
    told = ask(deployed, "--tool", "send_email", "--args", MAIL).out
    assert "\nwhy\n  may (deny)\n" in told
    assert "  no-money and no-web: can match no call of this tool\n" in told
    assert "  no-web (deny)\n" in ask(
        deployed, "--tool", "send_email", "--args", MAIL, "--verbose"
    ).out  # fmt: skip


EXAMPLES = {
    "support": (
        ("issue_refund", '{"order": "O-1", "amount_cents": 60000, "reason": "it came broken"}'),
        ["customer-text", "untrusted"],
        """\
HELD: issue_refund waits for at most 4h, until 2 groups of people have approved:
  alice or bob            for large-refunds
  2 of alice, bob, carol  for money-after-untrusted and very-large-refunds
  One approval counts in every group that names its approver.
  The shortest time counts: large-refunds and money-after-untrusted set the 4h (very-large-refunds alone: 1d).
""",  # noqa: E501
        ["args.amount_cents = 60000", 'session.labels = ["customer-text", "untrusted"]'],
    ),
    "coding-agent": (
        ("shell", '{"command": "make release"}'),
        ["untrusted"],
        """\
HELD: shell waits for at most 30m, until alice or bob has approved (rule other-commands).
""",
        ['args.command = "make release"', 'vars.plain_command_re = "^(ls|cat|'],
    ),
    "data-analyst": (
        (
            "share_file",
            '{"path": "exports/q.csv", "to": ["a@auditor.example"], "visibility": "named"}',
        ),
        ["private-data"],
        """\
HELD: share_file waits for at most 4h, until 2 groups of people have approved:
  erin                    for egress-after-private-data and sharing-outside-privacy
  2 of dana, erin, frank  for sharing-outside
  One approval counts in every group that names its approver.
""",
        ['args.to = ["a@auditor.example"]', 'vars.domain = "acme.example"'],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_held_call_of_an_example_says_first_who_must_approve_and_then_what_decided(author, name):
    (tool, args), labels, first, facts = EXAMPLES[name]
    people = ("ALICE", "BOB", "CAROL", "DANA", "ERIN", "FRANK")
    told = author(
        "policy", "explain", "--config", ROOT / "configs" / name / "gate.yaml",
        "--tool", tool, "--args", args, "--session", json.dumps({"labels": labels}),
        "--now", "2026-01-05T12:00:00Z",
        **{f"{person}_KEY": f"key of {person}" for person in people},
    )  # fmt: skip
    assert told.code == 0, told.err
    assert told.out.startswith(first)
    assert all(fact in told.out for fact in facts)
    assert len(told.out.splitlines()) < 50


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
