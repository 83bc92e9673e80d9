"""Observe mode: what a rule, or the whole policy, would say is told, and decides nothing."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolgate.config import parse_config
from toolgate.policy import Policy, Verdict, compile_policy
from toolgate.policy.verdict import combined

EFFECTS = ["allow", "hold", "deny"]
STRICTNESS = {effect: number for number, effect in enumerate(EFFECTS)}
CONDITIONS = ["true", "false", "args.n > 1", "args.missing == 1", "!args.b", "state.n == args.n"]
ARGUMENTS = st.sampled_from([{}, {"n": 1}, {"n": 2, "b": True}, {"n": "x"}, {"n": 2**70}])
LEVELS = st.integers(0, 5)


@st.composite
def rules(draw: st.DrawFn, modes: tuple[str, ...] = ("enforce", "observe")) -> list[dict[str, Any]]:
    rule = st.fixed_dictionaries(
        {
            "effect": st.sampled_from(EFFECTS),
            "tools": st.sampled_from([["*"], ["shell"], ["mail"]]),
            "mode": st.sampled_from(modes),
        },
        optional={
            "when": st.sampled_from(CONDITIONS),
            "unless": st.sampled_from(CONDITIONS),
            "reason": st.sampled_from(["because", "for another reason"]),
        },
    )
    found = draw(st.lists(rule, max_size=8))
    return [{**rule, "id": f"r{index}"} for index, rule in enumerate(found)]


def compiled(mode: str, document: list[dict[str, Any]], allow_up_to: int = 0) -> Policy:
    people = [{"id": name, "public_key": f"key of {name}"} for name in ("alice", "bob")]
    config = {
        "project": "tests",
        "mode": mode,
        "policy": {"rules": document, "allow_up_to": allow_up_to},
        "approvals": {"approvers": people},
    }
    return compile_policy(parse_config(config, Path("/unused")))


def enforced(document: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{**rule, "mode": "enforce"} for rule in document]


def said(verdict: Verdict) -> tuple[Any, ...]:
    """What a verdict says, whatever document it is of, and whatever is observed beside it."""
    return replace(verdict, observed=None, digest="")


# --- a rule that observes


@settings(max_examples=200)
@given(rules(), ARGUMENTS, LEVELS, st.integers(0, 3))
def test_a_rule_that_observes_never_changes_what_the_document_says_without_it(
    call, document, args, level, allowed
):
    facts = call(args=args, level=level, state=lambda: {"n": 2})
    without = [rule for rule in document if rule["mode"] == "enforce"]
    verdict = compiled("enforce", document, allowed).decide(facts)
    assert said(verdict) == said(compiled("enforce", without, allowed).decide(facts))


@settings(max_examples=200)
@given(rules(), ARGUMENTS, LEVELS, st.integers(0, 3), st.sampled_from(["enforce", "observe"]))
def test_what_is_observed_is_what_the_document_would_say_if_all_of_it_were_enforced(
    call, document, args, level, allowed, mode
):
    facts = call(args=args, level=level, state=lambda: {"n": 2})
    verdict = compiled(mode, document, allowed).decide(facts)
    would_be = compiled("enforce", enforced(document), allowed).decide(facts)
    assert would_be.observed is None
    if verdict.observed is None:
        assert (verdict.effect, verdict.rules) == (would_be.effect, would_be.rules)
        assert verdict.errors == would_be.errors
    else:
        assert said(verdict.observed) == said(would_be)
        assert said(verdict) != said(would_be)


def test_a_deny_that_only_observes_lets_the_call_pass_and_is_told(policy_of, call):
    policy = policy_of(
        {"id": "reads", "tools": ["*"], "effect": "allow"},
        {
            "id": "new",
            "tools": ["shell"],
            "when": "args.n > 1",
            "effect": "deny",
            "reason": "too many",
            "mode": "observe",
        },
    )
    passed, caught = policy.decide(call(args={"n": 1})), policy.decide(call(args={"n": 2}))
    assert (passed.effect, passed.observed) == ("allow", None)
    assert (caught.effect, caught.rules) == ("allow", ("reads",))
    observed = caught.observed
    assert (observed.effect, observed.rules, observed.reason) == ("deny", ("new",), "too many")
    assert observed.digest == caught.digest


def test_a_hold_that_only_observes_says_who_would_be_asked(policy_of, call):
    policy = policy_of(
        {"id": "all", "tools": ["*"], "effect": "allow"},
        {
            "id": "ask",
            "tools": ["*"],
            "effect": "hold",
            "mode": "observe",
            "approval": {"approvers": ["bob"]},
        },
    )
    verdict = policy.decide(call())
    assert (verdict.effect, verdict.requirement) == ("allow", None)
    assert [group.approvers for group in verdict.observed.requirement.groups] == [("bob",)]


def test_an_allow_that_only_observes_allows_nothing(policy_of, call):
    rule = {"id": "new", "tools": ["*"], "effect": "allow", "mode": "observe"}
    verdict = policy_of(rule).decide(call())
    assert (verdict.effect, verdict.rules) == ("deny", ())
    assert (verdict.observed.effect, verdict.observed.rules) == ("allow", ("new",))


def test_a_rule_that_observes_and_errs_is_told_as_one_that_matches(policy_of, call):
    policy = policy_of(
        {"id": "all", "tools": ["*"], "effect": "allow"},
        {
            "id": "new",
            "tools": ["*"],
            "when": "args.missing == 1",
            "effect": "deny",
            "mode": "observe",
        },
    )
    verdict = policy.decide(call())
    assert (verdict.effect, verdict.errors) == ("allow", ())
    assert "could not be evaluated" not in verdict.reason
    assert [error.rule for error in verdict.observed.errors] == ["new"]
    assert verdict.observed.effect == "deny"


def test_the_mode_of_a_rule_is_part_of_the_digest_and_enforce_is_what_is_left_out(policy_of):
    rule = {"id": "r", "tools": ["*"], "effect": "deny"}
    plain, written = policy_of(rule).digest, policy_of({**rule, "mode": "enforce"}).digest
    assert plain == written
    assert plain != policy_of({**rule, "mode": "observe"}).digest


def test_every_rule_that_observes_is_a_warning_and_asks_for_no_approver(policy_of):
    rules = [
        {"id": "a", "tools": ["*"], "effect": "hold", "mode": "observe"},
        {"id": "b", "tools": ["*"], "effect": "deny"},
    ]
    assert policy_of(*rules, approvers=()).warnings == (
        "rule a only observes: it would hold, and decides nothing",
    )


@pytest.mark.parametrize("mode", ["off", "Observe", None, True])
def test_another_mode_of_a_rule_is_an_error(policy_of, mode):
    with pytest.raises(Exception, match="rule a: mode: "):
        policy_of({"id": "a", "tools": ["*"], "effect": "hold", "mode": mode})


# --- a gate that observes


@settings(max_examples=200)
@given(rules(), ARGUMENTS, LEVELS, st.integers(0, 3))
def test_in_observe_mode_the_floors_hold_against_every_document_and_nothing_else_does(
    call, document, args, level, allowed
):
    facts = call(args=args, level=level, state=lambda: {"n": 2})
    verdict = compiled("observe", document, allowed).decide(facts)
    assert verdict.effect == {4: "hold", 5: "deny"}.get(level, "allow")
    if level == 4:
        assert [group.rule for group in verdict.requirement.groups] == [None]


@settings(max_examples=100)
@given(rules(("enforce",)), ARGUMENTS, LEVELS, st.integers(0, 3))
def test_in_observe_mode_nothing_is_stricter_and_what_is_looser_is_told(
    call, document, args, level, allowed
):
    facts = call(args=args, level=level, state=lambda: {"n": 2})
    observing = compiled("observe", document, allowed).decide(facts)
    enforcing = compiled("enforce", document, allowed).decide(facts)
    assert STRICTNESS[observing.effect] <= STRICTNESS[enforcing.effect]
    if observing.effect != enforcing.effect:
        assert said(observing.observed) == said(enforcing)


def test_in_observe_mode_what_no_rule_allows_passes_and_is_told(call):
    verdict = compiled("observe", []).decide(call(level=3))
    assert (verdict.effect, verdict.rules) == ("allow", ())
    assert verdict.reason == "the gate is in mode observe: what policy denies or holds passes"
    assert verdict.observed.effect == "deny"
    assert verdict.observed.reason.startswith("no rule allows shell")


def test_in_observe_mode_what_a_rule_allows_is_allowed_by_that_rule(call):
    rule = {"id": "a", "tools": ["*"], "effect": "allow"}
    verdict = compiled("observe", [rule]).decide(call(level=3))
    assert (verdict.effect, verdict.rules, verdict.observed) == ("allow", ("a",), None)


def test_the_gates_mode_is_the_first_warning_and_not_part_of_the_digest():
    rule = {"id": "a", "tools": ["nothing"], "effect": "hold"}
    observing = compiled("observe", [rule])
    assert observing.digest == compiled("enforce", [rule]).digest
    assert observing.warnings[0].startswith("OBSERVE MODE (mode: observe)")
    assert not compiled("enforce", [rule]).warnings[0].startswith("OBSERVE")


# --- several things judged together


@settings(max_examples=100)
@given(rules(), st.lists(ARGUMENTS, min_size=1, max_size=3), LEVELS)
def test_what_is_judged_together_is_observed_together(call, document, several, level):
    def together(policy: Policy) -> Verdict:
        first, *others = (
            policy.decide(call(args=args, level=level, state=lambda: {"n": 2})) for args in several
        )
        return combined(first, {f"writes {n}": item for n, item in enumerate(others)})

    found = together(compiled("enforce", document))
    without = [rule for rule in document if rule["mode"] == "enforce"]
    assert said(found) == said(together(compiled("enforce", without)))
    would_be = together(compiled("enforce", enforced(document)))
    if found.observed is None:
        assert (found.effect, found.rules, found.errors) == (
            would_be.effect,
            would_be.rules,
            would_be.errors,
        )
    else:
        assert said(found.observed) == said(would_be)
