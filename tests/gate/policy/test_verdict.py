"""What policy says of a call: precedence, floors, defaults, reasons and requirements."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolgate import jsonvalue
from toolgate.config import RateLimitEntry, ToolEntry
from toolgate.errors import JournalUnavailable
from toolgate.ir import ActionType, RateLimit, ToolSchema
from toolgate.policy import (
    ApprovalRequirement,
    ApproverGroup,
    Contract,
    RuleError,
    cache_ttl_for,
    contract_for,
    contract_for_state_action,
    rate_limit_for,
)

ALLOW = {"id": "allowed", "tools": ["*"], "effect": "allow"}
WRITE = contract_for_state_action(ActionType.STATE_WRITE)
DENY = {"id": "denied", "tools": ["*"], "effect": "deny"}
HOLD = {"id": "held", "tools": ["*"], "effect": "hold"}
STRICTNESS = {"allow": 0, "hold": 1, "deny": 2}
CONDITIONS = ["true", "false", "args.n > 1", "args.missing == 1", "args.n", "tool.level >= 3"]


@st.composite
def rules(draw: st.DrawFn, *, effects: tuple[str, ...] = ("allow", "deny", "hold")) -> Any:
    rule: dict[str, Any] = {"effect": draw(st.sampled_from(effects))}
    rule["tools"] = draw(
        st.lists(st.sampled_from(["*", "shell", "s*", "mail", "[!s]*"]), min_size=1, unique=True)
    )
    for clause in ("when", "unless"):
        if draw(st.booleans()):
            rule[clause] = draw(st.sampled_from(CONDITIONS))
    if rule["effect"] == "hold" and draw(st.booleans()):
        rule["approval"] = {"approvers": draw(st.sampled_from([["alice"], ["alice", "bob"]]))}
    return rule


def documents(**options: Any) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(rules(**options), max_size=6).map(
        lambda found: [{**rule, "id": f"r{index}"} for index, rule in enumerate(found)]
    )


levels = st.integers(0, 5)
calls = st.fixed_dictionaries({"tool": st.sampled_from(["shell", "mail"]), "level": levels})
arguments = st.sampled_from([{}, {"n": 1}, {"n": 2}, {"n": True}, {"n": "x"}, {"missing": 1}])


def test_without_rules_only_level_0_is_allowed(policy_of, call):
    policy = policy_of()
    assert policy.decide(call(level=0)).effect == "allow"
    denied = policy.decide(call(level=1))
    assert denied.effect == "deny"
    assert denied.reason == "no rule allows shell (level 1; allow_up_to is 0)"
    assert denied.rules == ()


def test_without_a_matching_rule_levels_up_to_allow_up_to_are_allowed(policy_of, call):
    policy = policy_of({**DENY, "tools": ["other"]}, allow_up_to=2)
    assert [policy.decide(call(level=n)).effect for n in range(6)] == [
        "allow",
        "allow",
        "allow",
        "deny",
        "hold",
        "deny",
    ]


def test_no_policy_section_is_a_policy_without_rules(policy_of, call):
    policy = policy_of()
    assert policy.decide(call()).effect == "deny"
    assert policy.decide(call()).policy == "inline"
    assert policy.warnings == ()


def test_every_matching_rule_of_the_winning_effect_is_reported_in_document_order(policy_of, call):
    policy = policy_of(
        {**DENY, "id": "z"},
        ALLOW,
        {**DENY, "id": "not-this", "tools": ["mail"]},
        {**DENY, "id": "a"},
    )
    verdict = policy.decide(call())
    assert verdict.rules == ("z", "a")
    assert verdict.reason == "rule z denies shell; rule a denies shell"


def test_hold_beats_allow_and_deny_beats_hold(policy_of, call):
    assert policy_of(ALLOW, HOLD).decide(call()).effect == "hold"
    assert policy_of(ALLOW, HOLD, DENY).decide(call()).effect == "deny"


def test_a_rules_own_reason_is_what_the_model_reads(policy_of, call):
    policy = policy_of({**DENY, "reason": "recursive deletes are never run by an agent"})
    assert policy.decide(call()).reason == "recursive deletes are never run by an agent"


def test_the_same_reason_of_two_rules_is_said_once(policy_of, call):
    policy = policy_of({**DENY, "reason": "no"}, {**DENY, "id": "second", "reason": "no"})
    assert policy.decide(call()).reason == "no"


@pytest.mark.parametrize(
    ("glob", "tool", "reached"),
    [
        ("read_*", "read_file", True),
        ("read_*", "spread_file", False),
        ("read_?", "read_ab", False),
        ("[rw]*", "write", True),
        ("[!rw]*", "write", False),
        ("READ", "read", False),
        ("read", "read\n", False),
        ("a*", "a\nb", True),
        ("[]]", "]", True),
        ("a.b", "axb", False),
    ],
)
def test_a_glob_matches_the_whole_name_and_its_case(policy_of, call, glob, tool, reached):
    policy = policy_of({**ALLOW, "tools": [glob]})
    assert (policy.decide(call(tool)).effect == "allow") is reached


def test_tools_reaches_no_state_action_whatever_it_is_called(policy_of, call):
    policy = policy_of({**DENY, "tools": ["*"]}, allow_up_to=2)
    write = call(contract=WRITE, action_type="state_write")
    assert policy.decide(write).effect == "allow"
    assert policy.decide(call("state_write")).effect == "deny"


def test_types_reaches_state_actions_with_their_key_and_value(policy_of, call):
    policy = policy_of(
        {
            "id": "keep",
            "types": ["state_write"],
            "when": "args.key == 'approved' && args.value == true",
            "effect": "deny",
        },
        allow_up_to=2,
    )

    def write(value: object) -> str:
        return policy.decide(
            call(
                args={"key": "approved", "value": value},
                contract=WRITE,
                action_type="state_write",
            )
        ).effect

    assert (write(True), write(False)) == ("deny", "allow")


def test_types_with_tool_call_reaches_every_tool(policy_of, call):
    policy = policy_of({"id": "all", "types": ["tool_call"], "effect": "allow"})
    assert policy.decide(call("anything")).rules == ("all",)


def test_tools_and_types_together_reach_the_named_tools_and_those_state_actions(policy_of, call):
    policy = policy_of(
        {"id": "both", "tools": ["mail"], "types": ["tool_call", "state_write"], "effect": "allow"}
    )
    write = call(contract=WRITE, action_type="state_write")
    assert policy.decide(call("mail")).rules == ("both",)
    assert policy.decide(write).rules == ("both",)
    assert policy.decide(call("shell")).rules == ()


def test_when_and_unless_must_agree(policy_of, call):
    policy = policy_of({**ALLOW, "when": "args.a", "unless": "args.b"})
    effects = {
        (a, b): policy.decide(call(args={"a": a, "b": b})).effect
        for a in (True, False)
        for b in (True, False)
    }
    assert [pair for pair, effect in effects.items() if effect == "allow"] == [(True, False)]


@pytest.mark.parametrize("clause", ["when", "unless"])
@pytest.mark.parametrize(
    ("effect", "outcome"), [("allow", "deny"), ("deny", "deny"), ("hold", "hold")]
)
def test_a_condition_that_errors_counts_against_the_call(policy_of, call, clause, effect, outcome):
    rule = {"id": "erring", "tools": ["*"], "effect": effect, clause: "args.absent == 1"}
    verdict = policy_of(rule).decide(call())
    assert verdict.effect == outcome
    assert verdict.rules == (() if effect == "allow" else ("erring",))
    assert verdict.errors == (RuleError("erring", 'Key not found in map: "absent"'),)
    assert "rule erring could not be evaluated: Key not found" in verdict.reason


def test_an_allow_that_errs_beside_one_that_matches_is_reported(policy_of, call):
    verdict = policy_of({**ALLOW, "id": "erring", "when": "args.absent"}, ALLOW).decide(call())
    assert verdict.effect == "allow"
    assert verdict.rules == ("allowed",)
    assert [error.rule for error in verdict.errors] == ["erring"]


def test_level_5_is_denied_and_level_4_held_under_a_rule_that_allows_all(policy_of, call):
    policy = policy_of(ALLOW, allow_up_to=3)
    denied, held = policy.decide(call(level=5)), policy.decide(call(level=4))
    assert (denied.effect, denied.reason) == ("deny", "level 5: shell never runs")
    assert held.effect == "hold"
    assert held.reason == "level 4: shell always waits for a person's approval"
    assert held.requirement == ApprovalRequirement(
        (ApproverGroup(None, ("alice", "bob"), 1),), 900.0
    )


def test_a_rule_that_holds_level_4_sets_the_requirement(policy_of, call):
    policy = policy_of({**HOLD, "approval": {"approvers": ["bob"], "expires": "1h"}})
    assert policy.decide(call(level=4)).requirement == ApprovalRequirement(
        (ApproverGroup("held", ("bob",), 1),), 3600.0
    )


def test_several_holds_each_keep_their_requirement_and_the_shortest_expiry_counts(policy_of, call):
    policy = policy_of(
        {**HOLD, "id": "b", "approval": {"approvers": ["bob", "alice"], "quorum": 2}},
        {**HOLD, "id": "a", "approval": {"expires": "5m"}},
        {**HOLD, "id": "c", "approval": {"expires": "never"}},
    )
    requirement = policy.decide(call()).requirement
    assert requirement == ApprovalRequirement(
        (
            ApproverGroup("a", ("alice", "bob"), 1),
            ApproverGroup("b", ("alice", "bob"), 2),
            ApproverGroup("c", ("alice", "bob"), 1),
        ),
        300.0,
    )


def test_holds_that_never_expire_have_no_expiry(policy_of, call):
    policy = policy_of(HOLD, approvals={"expires": "never"})
    assert policy.decide(call()).requirement.expires is None
    assert policy.decide(call(level=4)).requirement.expires is None


def test_a_hold_without_anybody_to_ask_has_an_empty_group(policy_of, call):
    policy = policy_of(HOLD, approvers=())
    assert policy.decide(call()).requirement.groups == (ApproverGroup("held", (), 1),)
    assert policy.warnings == (
        "approvals.approvers is empty, so what rule held would hold is rejected",
    )


def test_a_requirement_survives_its_json_form(policy_of, call):
    policy = policy_of({**HOLD, "approval": {"quorum": 2}})
    requirement = policy.decide(call()).requirement
    stored = jsonvalue.parse(jsonvalue.canonical(requirement.to_json()))
    assert ApprovalRequirement.from_json(stored) == requirement


def test_the_digest_names_the_meaning_of_the_whole_policy(policy_of):
    digest = policy_of(ALLOW).digest
    assert digest.startswith("sha256:")
    assert policy_of({**ALLOW}, tools={"x": {}}).digest == digest
    others = [
        policy_of(DENY),
        policy_of(ALLOW, DENY),
        policy_of(ALLOW, allow_up_to=1),
        policy_of(ALLOW, vars={"a": 1}),
        policy_of({**ALLOW, "reason": "because"}),
    ]
    assert len({digest, *(other.digest for other in others)}) == 6


def test_a_verdict_is_about_the_level_of_the_call_it_was_asked_for(policy_of, call):
    policy = policy_of(allow_up_to=1)
    assert policy.decide(call(level=1)).effect == "allow"
    assert policy.decide(call(level=2)).effect == "deny"


def test_many_tools_do_not_make_the_policy_grow_without_end(policy_of, call):
    policy = policy_of(ALLOW)
    for number in range(5000):
        policy.decide(call(f"tool {number}"))
    assert len(policy._reaches) <= 4096


@given(documents(), calls, arguments, st.randoms(use_true_random=False))
def test_the_order_of_rules_never_changes_effect_rules_or_requirement(
    policy_of, call, document, about, args, random
):
    shuffled = list(document)
    random.shuffle(shuffled)
    facts = call(**about, args=args)
    one, other = policy_of(*document).decide(facts), policy_of(*shuffled).decide(facts)
    assert (one.effect, set(one.rules)) == (other.effect, set(other.rules))
    assert one.requirement == other.requirement


@given(documents(), rules(effects=("deny",)), calls, arguments)
def test_adding_a_deny_never_allows_more(policy_of, call, document, deny, about, args):
    facts = call(**about, args=args)
    before = policy_of(*document).decide(facts)
    after = policy_of(*document, {**deny, "id": "added"}).decide(facts)
    assert STRICTNESS[after.effect] >= STRICTNESS[before.effect]


@given(documents(), rules(effects=("hold",)), calls, arguments)
def test_adding_a_hold_never_weakens_a_deny_rule_or_a_floor(
    policy_of, call, document, hold, about, args
):
    facts = call(**about, args=args)
    before = policy_of(*document).decide(facts)
    after = policy_of(*document, {**hold, "id": "added"}).decide(facts)
    if before.rules or about["level"] >= 4:
        assert STRICTNESS[after.effect] >= STRICTNESS[before.effect]
    if after.effect == "allow":
        assert before.effect == "allow"


@given(documents(), st.sampled_from([4, 5]), arguments, st.integers(0, 3))
def test_floors_hold_against_every_document(policy_of, call, document, level, args, up_to):
    effect = policy_of(*document, allow_up_to=up_to).decide(call(level=level, args=args)).effect
    assert STRICTNESS[effect] >= {4: STRICTNESS["hold"], 5: STRICTNESS["deny"]}[level]


@given(documents(), documents(), calls, arguments)
def test_documents_can_be_concatenated_either_way_round(
    policy_of, call, first, second, about, args
):
    second = [{**rule, "id": f"second-{rule['id']}"} for rule in second]
    facts = call(**about, args=args)
    one = policy_of(*first, *second).decide(facts)
    other = policy_of(*second, *first).decide(facts)
    assert (one.effect, one.requirement) == (other.effect, other.requirement)


def test_a_tool_nobody_spoke_of_has_the_conservative_contract():
    assert contract_for("x", None).public() == {
        "level": 3,
        "reversibility": "irreversible",
        "blast_radius": "external",
        "labels": [],
        "idempotent": False,
        "timeout_ms": 120_000,
    }


def test_what_an_entry_leaves_out_is_conservative_too():
    contract = contract_for("x", ToolEntry(level=1, labels=("b", "a")))
    assert contract.labels == ("a", "b")
    assert contract.level == 1
    assert contract.reversibility == "irreversible"
    assert contract.blast_radius == "external"
    assert not contract.idempotent


@pytest.mark.parametrize(
    ("kind", "level"),
    [(ActionType.STATE_READ, 0), (ActionType.ASSERTION, 0), (ActionType.STATE_WRITE, 2)],
)
def test_state_actions_have_contracts_too(kind, level):
    contract = contract_for_state_action(kind)
    assert contract is contract_for_state_action(kind)
    assert (contract.name, contract.level) == (kind.value, level)
    assert (contract.reversibility, contract.blast_radius) == ("reversible", "session")
    assert not contract.idempotent


def test_a_tool_call_is_no_state_action():
    with pytest.raises(KeyError):
        contract_for_state_action(ActionType.TOOL_CALL)


def test_a_contract_tells_its_limits_only_where_it_has_them():
    told = contract_for(
        "x",
        ToolEntry(
            rate_limit=RateLimitEntry(max_calls=10, interval_secs=60.0), cache_ttl="5m", retries=0
        ),
    ).public()
    assert told["rate_limit"] == {"max_calls": 10, "interval_secs": 60.0}
    assert (told["cache_ttl_secs"], told["retries"]) == (300.0, 0)
    assert not contract_for("x", None).public().keys() & {"rate_limit", "cache_ttl_secs", "retries"}


def contract_with(**said: Any) -> Contract:
    return contract_for("x", ToolEntry(**said))


def rate(calls: int, seconds: float) -> RateLimit:
    return RateLimit(max_calls=calls, interval_secs=seconds)


@pytest.mark.parametrize(
    ("operators", "clients", "effective"),
    [
        (None, None, None),
        ((10, 60.0), None, (10, 60.0)),
        (None, (10, 60.0), (10, 60.0)),
        ((10, 60.0), (100, 60.0), (10, 60.0)),
        ((10, 60.0), (5, 60.0), (5, 60.0)),
        # Fewer at once than the one, slower than the other.
        ((10, 1.0), (100, 60.0), (10, 6.0)),
        ((100, 60.0), (10, 1.0), (10, 6.0)),
    ],
)
def test_a_client_may_only_ask_for_a_stricter_rate(operators, clients, effective):
    entry = operators and RateLimitEntry(max_calls=operators[0], interval_secs=operators[1])
    declared = ToolSchema(name="x", rate_limit=clients and rate(*clients))
    found = rate_limit_for(contract_with(rate_limit=entry), declared)
    assert (found and (found.max_calls, found.interval_secs)) == effective


@given(*[st.builds(rate, st.integers(1, 10**6), st.floats(0.001, 1e6))] * 2)
def test_no_rate_a_client_declares_loosens_the_operators(operators, clients):
    entry = RateLimitEntry(**operators.model_dump())
    declared = ToolSchema(name="x", rate_limit=clients)
    found = rate_limit_for(contract_with(rate_limit=entry), declared)
    assert found is not None
    for limit in (operators, clients):
        assert found.max_calls <= limit.max_calls
        allowed = limit.max_calls / limit.interval_secs
        assert found.max_calls / found.interval_secs <= allowed * (1 + 1e-12)


@pytest.mark.parametrize(
    ("operators", "clients", "effective"),
    [
        (None, None, None),
        (None, 60.0, 60.0),
        ("5m", None, 300.0),
        ("5m", 60.0, 300.0),
        ("0s", 60.0, None),
        (None, 0.0, None),
    ],
)
def test_the_operators_word_on_keeping_results_decides(operators, clients, effective):
    declared = ToolSchema(name="x", cache_ttl_secs=clients)
    assert cache_ttl_for(contract_with(cache_ttl=operators), declared) == effective


@pytest.mark.parametrize("kind", [kind for kind in ActionType if kind != ActionType.TOOL_CALL])
@pytest.mark.parametrize("first", ["tool", "state action"])
def test_a_tool_named_like_a_state_action_is_never_taken_for_one(policy_of, call, kind, first):
    policy = policy_of(
        {"id": "tool", "tools": [kind.value], "effect": "deny"},
        {"id": "state", "types": [kind.value], "effect": "allow"},
    )
    contract = contract_for_state_action(kind)
    as_tool = call(contract=replace(contract, name=kind.value))
    as_state = call(contract=contract, action_type=kind.value)
    for facts in (as_tool, as_state) if first == "tool" else (as_state, as_tool):
        verdict = policy.decide(facts)
        expected = "tool" if facts is as_tool else "state"
        assert verdict.rules == (expected,)
        assert verdict.effect == ("deny" if facts is as_tool else "allow")


def test_a_rule_about_one_state_action_is_about_no_other(policy_of, call):
    policy = policy_of({"id": "reads", "types": ["state_read"], "effect": "deny"})
    effects = {
        kind: policy.decide(
            call(contract=contract_for_state_action(kind), action_type=kind.value)
        ).effect
        for kind in (ActionType.STATE_READ, ActionType.ASSERTION, ActionType.STATE_WRITE)
    }
    assert effects == {"state_read": "deny", "assertion": "allow", "state_write": "deny"}
    assert policy.decide(call(contract=WRITE, action_type="state_write")).rules == ()


# --- state


class States:
    """A session's state that counts how often it is asked for."""

    def __init__(self, **state: Any) -> None:
        self.state = state
        self.asked = 0

    def __call__(self) -> dict[str, Any]:
        self.asked += 1
        return self.state


RELEASE = {"id": "release", "tools": ["deploy"], "when": "state.tests_passed == true"}


@pytest.mark.parametrize(
    ("state", "effect"),
    [
        ({"tests_passed": True}, "allow"),
        ({"tests_passed": False}, "deny"),
        ({"tests_passed": 1}, "deny"),
        ({}, "deny"),
    ],
)
def test_a_rule_can_ask_for_the_sessions_state(policy_of, call, state, effect):
    policy = policy_of({**RELEASE, "effect": "allow"})
    assert policy.decide(call("deploy", state=States(**state))).effect == effect


def test_a_missing_key_of_state_counts_against_the_call(policy_of, call):
    policy = policy_of(ALLOW, {**RELEASE, "effect": "deny"})
    verdict = policy.decide(call("deploy"))
    assert verdict.effect == "deny"
    assert verdict.errors == (RuleError("release", 'Key not found in map: "tests_passed"'),)


def test_state_is_asked_for_once_and_only_by_a_condition_that_names_it(policy_of, call):
    policy = policy_of(
        {**RELEASE, "effect": "allow"},
        {**RELEASE, "id": "again", "effect": "allow"},
        {"id": "other", "tools": ["shell"], "when": "args.n == 1", "effect": "allow"},
        {"id": "mail", "tools": ["mail"], "effect": "allow"},
    )
    asked = {}
    for tool in ("deploy", "shell", "mail", "unheard of"):
        states = States(tests_passed=True)
        policy.decide(call(tool, {"n": 1}, state=states))
        asked[tool] = states.asked
    assert asked == {"deploy": 1, "shell": 0, "mail": 0, "unheard of": 0}


def test_an_unreadable_journal_is_not_a_verdict(policy_of, call):
    def unreadable() -> dict[str, Any]:
        raise JournalUnavailable("disk gone")

    with pytest.raises(JournalUnavailable):
        policy_of({**RELEASE, "effect": "allow"}).decide(call("deploy", state=unreadable))


def test_what_state_holds_is_not_changed_by_asking(policy_of, call):
    states = States(tests_passed=True, nested={"list": [1, {"x": None}]})
    before = jsonvalue.canonical(states.state)
    policy_of({**RELEASE, "effect": "allow"}).decide(call("deploy", state=states))
    assert jsonvalue.canonical(states.state) == before
