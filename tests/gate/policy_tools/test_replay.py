"""`toolgate policy replay`: what a policy would have decided on recorded calls."""

from __future__ import annotations

import shutil
import sqlite3

from support.driver import Driver
from support.people import config
from support.plans import call, plan_config, read, write


def replay(author, *arguments):
    return author("policy", "replay", "--config", "gate.yaml", *arguments)


async def work(author):
    """Leave a journal with calls that were allowed, held, denied and refused unseen by policy."""
    author.write("gate.yaml", config())
    async with Driver(author.folder, config()) as gate:
        for tool in ("search", "pay", "shell"):
            await gate.tool(tool, lambda args: "done")
        await gate.govern("search", {"q": "x"})
        await gate.govern("pay", {"amount": 10})
        await gate.govern("pay", {"amount": 5000})
        await gate.govern("shell", {"command": "rm -r"})
        await gate.govern("shell", {"command": "ls"})
        await gate.govern("unheard-of")


def draft(author, *rules, without=()):
    kept = [rule for rule in config()["policy"]["rules"] if rule["id"] not in without]
    document = {"version": 1, "id": "draft", "rules": [*kept, *rules]}
    return author.write("draft.yaml", document)


async def test_the_policy_in_force_decides_as_it_did(author):
    await work(author)
    told = replay(author, "--json", "--fail-on-change")
    assert told.code == 0, told.err
    assert (told.json["calls"], told.json["changed"], told.json["undecided"]) == (5, 0, 1)
    assert told.json["effects"] == [
        {"was": "allow", "would_be": "allow", "calls": 2},
        {"was": "deny", "would_be": "deny", "calls": 1},
        {"was": "hold", "would_be": "hold", "calls": 2},
    ]


async def test_what_an_observing_gate_let_pass_is_compared_with_what_it_would_enforce(author):
    author.write("gate.yaml", config(mode="observe"))
    async with Driver(author.folder, config(mode="observe")) as gate:
        for tool in ("search", "pay"):
            await gate.tool(tool, lambda args: "done")
            assert (await gate.govern(tool, {"amount": 1}))["status"] == "succeeded"
    assert replay(author, "--json").json["effects"] == [
        {"was": "allow", "would_be": "allow", "calls": 1},
        {"was": "allow", "would_be": "hold", "calls": 1},
    ]


async def test_a_draft_is_compared_by_effect_by_rule_and_by_call(author):
    await work(author)
    draft(
        author,
        {"id": "small-money", "tools": ["pay"], "effect": "allow"},
        {"id": "money", "tools": ["pay"], "when": "args.amount > 100", "effect": "hold"},
        without=("money",),
    )
    told = replay(author, "--policy", "draft.yaml", "--json")
    assert told.code == 0
    assert told.json["changed"] == 1
    assert {"was": "hold", "would_be": "allow", "calls": 1} in told.json["effects"]
    assert told.json["rules"]["money"] == {
        "was": 2,
        "would_be": 1,
        "gained": 0,
        "lost": 1,
        "cannot_be_told": 0,
    }
    small = told.json["rules"]["small-money"]
    assert (small["was"], small["would_be"], small["gained"], small["lost"]) == (0, 1, 1, 0)
    [change] = told.json["changes"]
    assert change["tool"] == "pay"
    assert change["would_be"]["rules"] == ["small-money"]
    shown = replay(author, "--policy", "draft.yaml", "--fail-on-change")
    assert shown.code == 1
    assert "1 of 5 calls would be decided otherwise by draft sha256:" in shown.out
    assert "pay: hold (money) → allow (small-money)" in shown.out
    assert "note: calls that ended before policy was asked are not compared: 1" in shown.out


async def test_only_so_many_changed_calls_are_shown_and_all_are_counted(author):
    await work(author)
    draft(author, {"id": "nothing", "tools": ["*"], "effect": "deny"})
    shown = replay(author, "--policy", "draft.yaml", "--limit", "2")
    assert "5 of 5 calls" in shown.out
    assert "… and 3 more (--limit)" in shown.out
    told = replay(author, "--policy", "draft.yaml", "--limit", "2", "--json")
    assert len(told.json["changes"]) == 2


async def test_a_copy_of_a_journal_can_be_replayed(author):
    await work(author)
    shutil.copy(author.folder / ".toolgate/journal.db", author.folder / "copy.db")
    assert replay(author, "copy.db", "--json").json["calls"] == 5
    assert replay(author, "nowhere.db").code == 2


async def test_each_call_is_judged_by_the_state_it_was_decided_in(author):
    author.write("gate.yaml", plan_config(state={"n": 0}))
    async with Driver(author.folder, plan_config(state={"n": 0})) as gate:
        await gate.tool("step", lambda args: 1 / args["by"] and "done")
        await gate.tool("peek", lambda args: "done")

        async def peek() -> None:
            await gate.govern("peek", {"at": len(seen)})
            seen.append((await gate.request("state")).get("n"))

        seen: list[object] = []
        await peek()
        checkpoint = (await gate.request("checkpoint", name="c"))["checkpoint_id"]
        await gate.request("propose", proposal={"actions": [write("a", "n", 1), read("b", "n")]})
        await peek()
        failing = [
            write("a", "n", 2),
            write("b", "n", 3),
            write("c", "fresh", 1),
            {"id": "x", "type": "assertion", "parameters": {"key": "n", "expected": "no"}},
        ]
        await gate.request("propose", proposal={"actions": failing})
        await peek()
        effects = call("e", parameters={"by": 1}, expected_effects={"n": 4})
        await gate.request("propose", proposal={"actions": [effects]})
        await peek()
        await gate.request("restore", checkpoint_id=checkpoint)
        await peek()
    assert seen == [0, 1, 1, 4, 0]
    states = plan_config()["policy"]["rules"]
    for n, number in enumerate(seen):
        wrong = {
            "id": f"peek-{n}",
            "tools": ["peek"],
            "when": f"args.at == {n} && (state.n != {number} || 'fresh' in state)",
            "effect": "deny",
        }
        states = [*states, wrong]
    author.write("draft.yaml", {"version": 1, "id": "d", "rules": states})
    told = replay(author, "--policy", "draft.yaml", "--json").json
    assert told["changed"] == 0, told["changes"]
    assert told["calls"] > 10
    last = {**states[-1], "when": "args.at == 4 && state.n == 0"}
    author.write("draft.yaml", {"version": 1, "id": "d", "rules": [*states[:-1], last]})
    assert replay(author, "--policy", "draft.yaml", "--json").json["changed"] == 1


async def test_what_an_action_would_have_written_is_judged_again_too(author):
    author.write("gate.yaml", plan_config())
    async with Driver(author.folder, plan_config()) as gate:
        await gate.tool("step", lambda args: "done")
        action = call("e", expected_effects={"paid": True})
        await gate.request("propose", proposal={"actions": [action]})
    rules = plan_config()["policy"]["rules"]
    never = {
        "id": "never-paid",
        "types": ["state_write"],
        "when": 'args.key == "paid"',
        "effect": "deny",
    }
    author.write("draft.yaml", {"version": 1, "id": "d", "rules": [*rules, never]})
    [change] = replay(author, "--policy", "draft.yaml", "--json").json["changes"]
    assert change["tool"] == "step"
    assert change["would_be"]["rules"] == ["never-paid"]


async def test_each_call_is_judged_by_what_its_session_had_seen_and_called(author):
    value = config(session="s")
    value["tools"] |= {
        "page": {"level": 1, "emits": ["untrusted"], "labels": ["web"]},
        "mail": {"level": 1},
    }
    value["policy"]["rules"] = [
        {"id": "all", "tools": ["*"], "effect": "allow"},
        {"id": "no", "tools": ["mail"], "when": "args.no", "effect": "deny"},
    ]
    author.write("gate.yaml", value)
    async with Driver(author.folder, value) as gate:
        for tool in ("page", "mail", "late"):
            await gate.tool(tool, lambda args: "done")
        await gate.govern("mail", {"no": True})
        await gate.govern("mail", {"no": False, "n": 1})
        await gate.govern("page")
        await gate.govern("mail", {"no": False, "n": 2})
        await gate.govern("mail", {"no": False, "n": 3})
    rules = {
        "labels": '"untrusted" in session.labels',
        "calls": "session.calls.mail > 1 && session.calls.late == 0",
        "total": "session.total_calls == 3",
        "history": (
            'history.map(h, h.tool) == ["mail", "page"] && history[1].labels == ["web"]'
            ' && history.all(h, h.status == "succeeded")'
        ),
    }
    found = {}
    for name, when in rules.items():
        document = {
            "version": 1,
            "id": "draft",
            "rules": [
                *value["policy"]["rules"],
                {"id": name, "tools": ["mail"], "when": when, "effect": "deny"},
            ],
        }
        author.write("draft.yaml", document)
        told = replay(author, "--policy", "draft.yaml", "--json")
        assert told.code == 0, told.err
        assert told.json["notes"] == []
        found[name] = told.json["changed"]
    assert found == {"labels": 2, "calls": 1, "total": 1, "history": 1}


async def test_a_fact_that_is_not_recorded_is_said_so(author):
    await work(author)
    rule = {"id": "f", "tools": ["*"], "when": 'agent.framework == "x"', "effect": "deny"}
    draft(author, rule)
    told = replay(author, "--policy", "draft.yaml")
    assert "agent.framework is not recorded: the config's is used" in told.out


async def test_events_that_are_not_genuine_are_left_out_and_the_answer_is_no(author):
    await work(author)
    with sqlite3.connect(author.folder / ".toolgate/journal.db") as db:
        db.execute(
            "UPDATE event SET data = '[' WHERE seq = "
            "(SELECT seq FROM event WHERE kind = 'action.decided' LIMIT 1)"
        )
    db.close()
    told = replay(author)
    assert told.code == 1
    assert "not written with the journal key are left out: 1" in told.out


async def test_calls_of_another_project_are_not_compared(author):
    await work(author)
    other = config(project="other")
    async with Driver(author.folder, other) as gate:
        await gate.tool("search", lambda args: "done")
        await gate.govern("search", {})
    assert replay(author, "--json").json["calls"] == 5


def secretive(*rules):
    """A config in which nobody may read whom mail is for."""
    value = config(session="s")
    value["tools"] |= {"mail": {"level": 3, "redact": ["/to"]}}
    value["policy"]["rules"] += [
        {"id": "mail", "tools": ["mail"], "effect": "allow"},
        {"id": "ours", "tools": ["mail"], "when": 'args.to == "me"', "effect": "hold"},
        *rules,
    ]
    return value


async def test_calls_that_depend_on_what_is_redacted_and_gone_are_no_changes(author):
    value = secretive()
    author.write("gate.yaml", value)
    async with Driver(author.folder, value) as gate:
        await gate.tool("mail", lambda args: "sent")
        await gate.tool("search", lambda args: "found")
        held = await gate.govern("mail", {"to": "me"})
        for args in ({"to": "you"}, {"to": "them"}, {"n": 1}):
            await gate.govern("mail", args)
        await gate.govern("search", {"to": "you"})
        assert held["status"] == "held"
    told = replay(author, "--fail-on-change", "--json")
    assert told.code == 0, told.out
    told = told.json
    # The one without a recipient was held by the error, and what is held still has its own.
    assert (told["calls"], told["changed"], told["cannot_be_told"]) == (5, 0, 2)
    assert told["effects"] == [
        {"was": "allow", "would_be": "allow", "calls": 1},
        {"was": "hold", "would_be": "hold", "calls": 2},
    ]
    assert told["rules"]["ours"]["cannot_be_told"] == 2
    shown = replay(author)
    assert "; of 2 that cannot be told\n" in shown.out
    assert "it depends on rules that read these: ours (2)" in " ".join(shown.out.split())
    author.write("gate.yaml", secretive({"id": "no", "tools": ["mail"], "effect": "deny"}))
    told = replay(author, "--fail-on-change", "--json")
    assert (told.code, told.json["changed"], told.json["cannot_be_told"]) == (1, 4, 0)


async def test_what_an_action_would_have_written_may_settle_what_cannot_be_told(author):
    value = plan_config()
    value["tools"] = {**value.get("tools", {}), "step": {"level": 1, "redact": ["/to"]}}
    author.write("gate.yaml", value)
    async with Driver(author.folder, value) as gate:
        await gate.tool("step", lambda args: "done")
        action = call("e", parameters={"to": "me"}, expected_effects={"paid": True})
        await gate.request("propose", proposal={"actions": [action]})
    rules = value["policy"]["rules"]
    ours = {"id": "ours", "tools": ["step"], "when": 'args.to == "me"', "effect": "hold"}
    writes = {"id": "writes", "types": ["state_write"], "effect": "hold"}
    for added, (changed, untold) in (
        ([ours], (0, 1)),
        ([ours, {**writes, "effect": "deny"}], (1, 0)),
    ):
        author.write("draft.yaml", {"version": 1, "id": "d", "rules": [*rules, *added]})
        told = replay(author, "--policy", "draft.yaml", "--json").json
        assert (told["changed"], told["cannot_be_told"]) == (changed, untold)
