"""What is found in a proposal before anything of it runs."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given

from support.doc_pages import ROOT, code, table
from support.proposals import act, claim, plan, plans, read, states, write
from toolgate.analysis import Verification, simulate, verify
from toolgate.analysis.issues import Code, Severity
from toolgate.ir import Action, ActionProposal, ActionStatus, Precondition, ToolSchema
from toolgate.kernel.tools import ToolRegistry
from toolgate.policy import contract_for

PAY = {
    "type": "object",
    "properties": {
        "to": {"type": "string", "minLength": 1},
        "amount": {"type": "integer", "maximum": 1000},
        "how": {"oneOf": [{"type": "object"}, {"type": "array", "maxItems": 1}]},
    },
    "required": ["to"],
    "additionalProperties": False,
}


def registry(**schemas: dict[str, Any]) -> ToolRegistry:
    tools = ToolRegistry(lambda name: contract_for(name, None))
    for name, parameters in schemas.items():
        tools.register(ToolSchema(name=name, parameters=parameters))
    return tools


TOOLS = registry(t={}, pay=PAY)


def verified(*actions: Action, state: dict[str, Any] | None = None, **options: Any) -> Verification:
    return verify(plan(*actions), TOOLS, state or {}, **options)


def found(verification: Verification) -> list[tuple[str | None, str, str]]:
    """Return the findings as (action, severity, code)."""
    return [(issue.action_id, issue.severity, issue.code) for issue in verification.issues]


def undone(id: str, **compensation: Any) -> Action:
    return act(id, reversibility="compensable", compensation=compensation)


def pay(id: str = "a", **parameters: Any) -> Action:
    return act(id, tool="pay", parameters=parameters)


# --- what there is to find


def test_sound_plan_is_valid_and_its_levels_and_state_are_told() -> None:
    told = verified(pay(to="ann"), write("b", "x", 1), read("c", "x", dependencies=["a"]))
    assert told.to_json() == {
        "valid": True,
        "issues": [],
        "simulated_state": {"x": 1},
        "execution_levels": [["a", "b"], ["c"]],
        "conflicts": [],
    }


def test_empty_plan_is_valid() -> None:
    assert verified().valid


@pytest.mark.parametrize(
    ("action", "code"),
    [
        (act("a", tool=None), "invalid_action"),
        (act("a", "state_write", parameters={"value": 1}), "invalid_action"),
        (act("a", "state_read", parameters={"key": 1}), "invalid_action"),
        (act("a", tool="nobody's"), "unregistered_tool"),
        (act("a", state_dependencies=["missing"]), "missing_key"),
        (act("a", preconditions=[{"key": "k", "value": 2}]), "precondition"),
        (act("a", preconditions=[{"key": "k", "operator": "like"}]), "precondition"),
        (claim("a", "k", 2), "assertion"),
        (write("a", "x", "$r.output.no"), "unresolved"),
    ],
)
def test_what_blocks_an_action_is_an_error(action: Action, code: str) -> None:
    told = verified(read("r", "k"), action, state={"k": 1})
    assert found(told) == [("a", "error", code)]
    assert told.issues[0].tier == "decision_procedure"
    assert not told.valid


def test_every_error_of_arguments_is_told_with_its_place() -> None:
    told = verified(pay(to="", amount="much", more=1))
    assert found(told) == [("a", "error", "invalid_arguments")] * 3
    messages = sorted(issue.message for issue in told.issues)
    assert [message.partition(":")[0] for message in messages] == ["/", "/amount", "/to"]


@pytest.mark.parametrize(
    ("actions", "codes"),
    [
        ([act("a"), act("a", parameters={"n": 1})], ["duplicate_id"]),
        ([act("a", dependencies=["ghost"])], ["unknown_id"]),
        ([act("a", parameters={"x": "$ghost.output"})], ["unknown_id"]),
        ([act("a", dependencies=["b"]), act("b", dependencies=["a"], tool="x")], ["cycle"]),
    ],
)
def test_proposal_that_is_no_plan_has_no_levels_and_leaves_the_state(
    actions: list[Action], codes: list[str]
) -> None:
    told = verified(*actions, write("w", "k", 1), pay("p"), state={"k": 0})
    seen = [issue.code for issue in told.issues]
    for expected in (*codes, "invalid_arguments"):
        assert expected in seen
    assert told.execution_levels == []
    assert told.simulated_state == {"k": 0}
    assert not told.valid


def test_more_actions_than_allowed_are_an_error_of_the_whole() -> None:
    assert found(verified(write("a", "x"), write("b", "y"), max_actions=1)) == [
        (None, "error", "too_many_actions")
    ]
    assert verified(write("a", "x"), write("b", "y"), max_actions=2).valid


@pytest.mark.parametrize(("times", "severity"), [(2, "warning"), (3, "error"), (40, "error")])
def test_same_call_again_and_again_is_told_once_as_a_heuristic(times: int, severity: str) -> None:
    told = verified(*(pay(f"a{n}", to="ann", amount=1.0 + 0) for n in range(times)))
    assert found(told) == [("a1", severity, "repeated_call")]
    assert told.issues[0].tier == "heuristic"
    assert told.valid is (severity == "warning")


def test_calls_with_other_arguments_or_tools_are_not_the_same() -> None:
    assert not verified(pay("a", to="x"), pay("b", to="y"), act("c", parameters={"to": "x"})).issues


@pytest.mark.parametrize(
    ("fields", "codes"),
    [
        ({"reversibility": "compensable"}, ["no_compensation"]),
        ({"compensation": {"type": "tool", "tool": "t"}}, ["idle_compensation"]),
        ({"reversibility": "compensable", "compensation": {"type": "tool", "tool": "t"}}, []),
        ({"reversibility": "reversible", "compensation": {"type": "tool", "tool": "t"}}, []),
        ({"reversibility": "reversible"}, []),
    ],
)
def test_compensation_and_reversibility_go_together(
    fields: dict[str, Any], codes: list[str]
) -> None:
    told = verified(act("a", **fields))
    assert found(told) == [("a", "warning", code) for code in codes]
    assert told.valid


@pytest.mark.parametrize(
    ("undo", "code"),
    [
        ({"tool": "nobody's"}, "unregistered_tool"),
        ({"tool": "pay", "parameters": {"amount": "$a.output"}}, "invalid_arguments"),
        ({"tool": "pay", "parameters": {"to": "$a.output"}}, None),
    ],
)
def test_tool_that_compensates_is_checked_like_any(undo: dict[str, Any], code: str | None) -> None:
    told = verified(undone("a", type="tool", **undo))
    assert found(told) == ([] if code is None else [("a", "error", code)])
    assert all(issue.message.startswith("its compensation: ") for issue in told.issues)


def test_action_that_compensates_is_checked_like_any() -> None:
    plan = (undone("a", type="action_ref", action_id="undo"), pay("undo", to=""))
    assert found(verified(*plan)) == [("undo", "error", "invalid_arguments")]


def test_without_knowledge_of_tools_calls_are_not_checked_against_them() -> None:
    assert verify(plan(act("a", tool="anything")), None, {}).valid


def test_mapping_of_tools_will_do() -> None:
    tool = TOOLS.get("pay")
    assert tool is not None
    assert not verify(plan(pay(to="")), {"pay": tool}, {}).valid


# --- the walk

OPEN = (Precondition(key="x", operator="lt", value=5),)


def test_blocked_action_has_its_effects_so_that_others_are_not_blamed() -> None:
    blocked = act("a", tool="nobody's", expected_effects={"x": 1})
    told = verified(blocked, act("b", state_dependencies=["x"], dependencies=["a"]))
    assert found(told) == [("a", "error", "unregistered_tool")]
    assert told.simulated_state == {"x": 1}


@pytest.mark.parametrize(
    "blocked",
    [
        act("a", "state_write", parameters={}, expected_effects={"x": 1}),
        claim("a", "k", "no", expected_effects={"x": 1}),
        write("a", "y", "$r.output.no", expected_effects={"x": 1}),
    ],
)
def test_effects_of_what_cannot_be_carried_out_are_applied_too(blocked: Action) -> None:
    told = verified(read("r", "k"), blocked, act("b", state_dependencies=["x"]), state={"k": 1})
    assert len(told.issues) == 1
    assert told.simulated_state["x"] == 1


def test_keys_are_looked_for_in_the_order_of_execution() -> None:
    late = act("a", dependencies=["b"], preconditions=[{"key": "x", "value": 1}])
    assert verified(late, write("b", "x", 1)).valid
    assert not verified(act("a", state_dependencies=["x"]), write("b", "x", 1)).valid


def test_precondition_on_a_key_that_the_plan_writes_is_a_heuristic() -> None:
    guarded = act("a", preconditions=[{"key": "x", "value": 1}])
    (issue,) = verified(guarded, write("b", "x", 1)).issues
    assert (issue.code, issue.tier) == ("precondition", "heuristic")


def test_what_a_tool_will_put_out_is_not_held_against_the_plan() -> None:
    told = verified(
        act("a"),
        write("w", "x", "$a.output.id"),
        claim("c", "x", 5),
        pay("b", to="x").model_copy(update={"preconditions": OPEN, "dependencies": ("w",)}),
    )
    assert not told.issues
    assert told.simulated_state == {"x": "$a.output.id"}


def test_state_action_on_a_key_that_is_not_known_is_a_warning() -> None:
    told = verified(act("a"), write("w", "$a.output", 1))
    assert found(told) == [("w", "warning", "unknown_key")]
    assert not verified(read("r", "k"), write("w", "$r.output", 1), state={"k": "x"}).issues


# --- arguments that refer to outputs


@pytest.mark.parametrize(
    "parameters",
    [
        {"to": "$a.output.name"},
        {"to": "ann", "amount": "$a.output"},
        {"to": "ann", "how": "$a.output"},
        {"to": "ann", "how": ["$a.output"]},
        {"to": "ann", "how": {"deep": {"x" * 600: "$a.output"}}},
    ],
)
def test_argument_that_an_output_may_become_is_no_problem(parameters: dict[str, Any]) -> None:
    assert verified(act("a"), act("b", tool="pay", parameters=parameters)).valid


@pytest.mark.parametrize(
    ("parameters", "told"),
    [
        ({"amount": "$a.output"}, '"to" is a required property'),
        ({"to": "ann", "more": "$a.output"}, "'more' was unexpected"),
        ({"to": 5, "amount": "$a.output"}, "5 is not of type"),
        ({"to": "$a.output", "amount": 2000}, "2000 is greater than"),
        ({"to": "$$a.output", "amount": "$$a.output"}, "is not of type"),
    ],
)
def test_what_no_output_can_mend_is_a_problem(parameters: dict[str, Any], told: str) -> None:
    verification = verified(act("a"), act("b", tool="pay", parameters=parameters))
    assert found(verification) == [("b", "error", "invalid_arguments")]
    assert told in verification.issues[0].message


def test_outputs_of_state_actions_are_checked_as_arguments() -> None:
    actions = (read("r", "k"), act("b", tool="pay", parameters={"to": "$r.output"}))
    assert verified(*actions, state={"k": "ann"}).valid
    assert found(verified(*actions, state={"k": 5})) == [("b", "error", "invalid_arguments")]


# --- conflicts


def conflicts(*actions: Action) -> list[tuple[str, str, str]]:
    told = verified(*actions)
    warned = [issue.action_id for issue in told.issues if issue.code == "unordered_writers"]
    assert warned == [later for _, later, _ in told.conflicts]
    return list(told.conflicts)


def test_writers_that_only_the_list_puts_in_order_conflict() -> None:
    effects = act("b", expected_effects={"x": 2})
    assert conflicts(write("a", "x", 1), effects, write("c", "x", 3)) == [
        ("a", "b", "x"),
        ("b", "c", "x"),
    ]


@pytest.mark.parametrize(
    "second",
    [
        [write("b", "x", 2, dependencies=["a"])],
        [write("b", "x", "$a.output")],
        [act("b", expected_effects={"x": 2}, state_dependencies=["x"])],
        [act("m", dependencies=["a"]), write("b", "x", 2, dependencies=["m"])],
        [read("m", "x"), write("b", "x", "$m.output")],
    ],
)
def test_writers_that_the_plan_means_to_order_do_not_conflict(second: list[Action]) -> None:
    assert conflicts(write("a", "x", 1), *second) == []


def test_reader_between_two_writers_does_not_order_them() -> None:
    assert conflicts(write("a", "x", 1), read("r", "x"), write("b", "x", 2)) == [("a", "b", "x")]


def test_compensator_does_not_conflict() -> None:
    compensated = undone("a", type="action_ref", action_id="undo")
    assert conflicts(compensated, write("undo", "x", 1), write("b", "x", 2)) == []


# --- policy


def test_what_policy_would_do_is_told_and_makes_nothing_invalid() -> None:
    def judge(action: Action, parameters: dict[str, Any], state: Any) -> Any:
        return {
            "a": ("deny", "payments are off", ["no-pay"]),
            "b": ("hold", "a person decides", ()),
        }.get(action.id)

    told = verified(pay("a", to="x"), write("b", "x", 1), act("c"), judge=judge)
    assert found(told) == [("a", "info", "policy_denied"), ("b", "info", "policy_held")]
    assert told.issues[0].message == "policy would deny it: payments are off (rules: no-pay)"
    assert told.valid


def test_what_capabilities_refuse_is_not_laid_to_policy() -> None:
    told = verified(act("a"), judge=lambda *_: ("forbid", "this session may not", ()))
    assert found(told) == [("a", "info", "capability_denied")]
    assert told.issues[0].message == "this session may not"
    assert told.valid


@pytest.mark.parametrize(
    ("effect", "code"),
    [("forbid", "capability_denied"), ("deny", "policy_denied"), ("hold", "policy_held")],
)
@pytest.mark.parametrize(
    "undo",
    [
        {"type": "tool", "tool": "pay", "parameters": {"to": "$r.output", "amount": "$a.output"}},
        {"type": "action_ref", "action_id": "undo"},
    ],
)
def test_what_would_be_said_of_a_compensation_is_told_of_the_action_it_compensates(
    undo: dict[str, Any], effect: str, code: str
) -> None:
    asked = []

    def judge(action: Action, parameters: dict[str, Any], state: Any) -> Any:
        if action.tool != "pay":
            return None
        asked.append((parameters, dict(state)))
        return (effect, "so", ())

    actions = [read("r", "k"), undone("a", **undo), write("w", "k", "bob")]
    if undo["type"] == "action_ref":
        actions.append(pay("undo", to="ann", amount=1))
    told = verified(*actions, state={"k": "ann"}, judge=judge)
    assert found(told) == [("a", "info", code)]
    assert told.issues[0].message.startswith("its compensation: ")
    assert told.issues[0].tier == "heuristic"
    amount = 1 if undo["type"] == "action_ref" else "$a.output"
    assert asked == [({"to": "ann", "amount": amount}, {"k": "ann"})]
    assert told.simulated_state == {"k": "bob"}


def test_policy_is_not_asked_about_a_compensation_that_cannot_run() -> None:
    def judge(action: Action, parameters: dict[str, Any], state: Any) -> Any:
        assert action.tool == "t"

    idle = act("a", compensation={"type": "tool", "tool": "pay", "parameters": {"to": "x"}})
    verified(idle, undone("b", type="tool", tool="nobody's", parameters={}), judge=judge)


def test_reference_of_a_compensation_that_leads_to_nothing_is_an_error() -> None:
    undo = undone("a", type="tool", tool="t", parameters={"x": "$r.output.no"})
    told = verified(read("r", "k"), undo, state={"k": 1})
    assert found(told) == [("a", "error", "unresolved")]
    assert told.issues[0].message.startswith("its compensation: '$r.output.no': the output of 'r'")


def test_policy_is_asked_with_resolved_arguments_and_is_a_guess_where_they_are_not_known() -> None:
    asked = {}

    def judge(action: Action, parameters: dict[str, Any], state: Any) -> Any:
        asked[action.id] = parameters
        return ("deny", "so", ())

    told = verified(
        act("t"), read("r", "k"), write("known", "x", "$r.output"),
        write("open", "y", "$t.output"), state={"k": 7}, judge=judge,
    )  # fmt: skip
    assert asked["known"] == {"key": "x", "value": 7}
    assert asked["open"] == {"key": "y", "value": "$t.output"}
    assert {issue.action_id: issue.tier for issue in told.issues} == {
        "t": "decision_procedure",
        "r": "decision_procedure",
        "known": "decision_procedure",
        "open": "heuristic",
    }


def test_policy_is_not_asked_about_what_never_reaches_it() -> None:
    def judge(action: Action, parameters: dict[str, Any], state: Any) -> Any:
        raise AssertionError(action.id)

    verified(act("a", tool=None), act("b", tool="nobody's"), judge=judge)


# --- the page


def test_the_analysis_page_has_every_code_with_the_severities_that_it_may_have() -> None:
    page = ROOT / "docs" / "reference" / "analysis.md"
    rows = {code(row["code"]): row["severity"] for row in table(page, "`verify`")}
    assert list(rows) == list(get_args(Code))
    assert {part for severity in rows.values() for part in severity.split(", ")} == set(
        get_args(Severity)
    )


# --- properties


@given(plans(), states)
def test_plan_without_errors_runs_to_its_end_as_foreseen(
    proposal: ActionProposal, state: dict[str, Any]
) -> None:
    told = verify(proposal, None, state)
    serious = [i for i in told.issues if i.severity == "error" and i.code != "repeated_call"]
    simulation = simulate(proposal, state)
    bad = {id for id, status in simulation.statuses.items() if status != "succeeded"}
    if not serious:
        assert simulation.state == told.simulated_state
        assert not bad
        assert sum(map(len, told.execution_levels)) == len(simulation.statuses)


@given(plans(), states)
def test_first_action_that_does_not_succeed_has_an_error(
    proposal: ActionProposal, state: dict[str, Any]
) -> None:
    blamed = {i.action_id for i in verify(proposal, None, state).issues if i.severity == "error"}
    statuses = simulate(proposal, state).statuses
    first = next((i for i, s in statuses.items() if s is not ActionStatus.SUCCEEDED), None)
    assert first is None or first in blamed


def test_thousand_actions_in_a_chain_and_a_deep_web_are_verified() -> None:
    chain = [
        act(f"a{n}", parameters={"n": n}, dependencies=[f"a{n - 1}"] if n else [])
        for n in range(1000)
    ]
    assert len(verified(*chain).execution_levels) == 1000
    writers = [write(f"a{n}", "x", n) for n in range(3000)]
    assert len(verified(*writers).conflicts) == 2999


def test_policy_is_asked_about_the_state_that_is_foreseen() -> None:
    asked: list[dict[str, Any]] = []

    def judge(action: Action, parameters: dict[str, Any], state: Any) -> Any:
        asked.append(dict(state))

    verify(
        plan(
            act("w", type="state_write", parameters={"key": "tested", "value": True}),
            act("r", type="state_read", parameters={"key": "tested"}, dependencies=["w"]),
        ),
        None,
        {"old": 1},
        judge=judge,
    )
    assert asked == [{"old": 1}, {"old": 1, "tested": True}]
