"""Which action waits for which."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolgate.ir import Action
from toolgate.plan.effects import read_keys, written_keys
from toolgate.plan.graph import Graph, PlanError, build, problems_of
from toolgate.plan.references import referenced


def call(id: str, *dependencies: str, **fields: Any) -> Action:
    fields = {"type": "tool_call", "tool": "t", **fields}
    return Action.model_validate({"id": id, "dependencies": dependencies, **fields})


def write(id: str, key: str = "k") -> Action:
    return call(id, type="state_write", parameters={"key": key})


def read(id: str, key: str = "k") -> Action:
    return call(id, type="state_read", parameters={"key": key})


def undone_by(id: str, compensator: str, **fields: Any) -> Action:
    return call(id, compensation={"type": "action_ref", "action_id": compensator}, **fields)


def edges(graph: Graph) -> set[tuple[str, str]]:
    """Return the edges as (earlier, later)."""
    return {(earlier, later) for later in graph.ids for earlier in graph.before[later]}


# --- edges


def test_actions_that_share_nothing_have_no_edges() -> None:
    graph = build([call("a"), call("b"), write("c"), read("d", "j")])
    assert not edges(graph)
    assert graph.levels() == [["a", "b", "c", "d"]]


def test_empty_proposal_has_an_empty_graph() -> None:
    assert build([]).levels() == []


def test_dependencies_may_point_backward_and_forward() -> None:
    graph = build([call("a", "c"), call("b", "a"), call("c")])
    assert edges(graph) == {("c", "a"), ("a", "b")}
    assert graph.required == {"a": {"c"}, "b": {"a"}, "c": set()}
    assert graph.levels() == [["c"], ["a"], ["b"]]


def test_reference_makes_an_edge_and_is_required() -> None:
    graph = build([call("a", parameters={"x": [{"y": "$b.output.id"}]}), call("b")])
    assert edges(graph) == {("b", "a")}
    assert graph.required["a"] == {"b"}


def test_escaped_reference_makes_no_edge() -> None:
    assert not edges(build([call("a"), call("b", parameters={"x": "$$a.output"})]))


def test_writers_of_one_key_keep_their_listed_order() -> None:
    effects = call("b", expected_effects={"k": 1})
    graph = build([write("a"), effects, write("c")])
    assert edges(graph) == {("a", "b"), ("b", "c")}
    assert not any(graph.required.values())


def test_32_reader_listed_between_two_writers_runs_between_them() -> None:
    graph = build([write("w1"), read("r"), write("w2")])
    assert edges(graph) == {("w1", "r"), ("r", "w2"), ("w1", "w2")}
    assert graph.levels() == [["w1"], ["r"], ["w2"]]


def test_readers_between_the_same_writers_do_not_wait_for_each_other() -> None:
    graph = build([write("w1"), read("r1"), read("r2"), write("w2")])
    assert graph.levels() == [["w1"], ["r1", "r2"], ["w2"]]


def test_reader_listed_before_the_first_writer_runs_before_it() -> None:
    assert edges(build([read("r"), write("w")])) == {("r", "w")}


def test_reader_does_not_wait_for_writers_of_other_keys() -> None:
    assert not edges(build([write("w", "j"), read("r", "k")]))


def test_reader_waits_for_the_nearest_writer_only() -> None:
    graph = build([write("w1"), write("w2"), read("r")])
    assert graph.before["r"] == {"w2"}


@pytest.mark.parametrize(
    "reader",
    [
        read("r"),
        call("r", type="assertion", parameters={"key": "k"}),
        call("r", state_dependencies=["k"]),
    ],
)
def test_every_kind_of_reader_stands_between_the_writers(reader: Action) -> None:
    assert edges(build([write("w1"), reader, write("w2")])) >= {("w1", "r"), ("r", "w2")}


def test_action_that_reads_and_writes_a_key_is_in_the_chain_of_its_writers() -> None:
    both = call("b", state_dependencies=["k"], expected_effects={"k": 1})
    graph = build([write("a"), both, read("r"), write("c")])
    assert edges(graph) == {("a", "b"), ("b", "r"), ("b", "c"), ("r", "c")}


def test_action_that_reads_and_writes_a_key_does_not_wait_for_itself() -> None:
    both = call("a", state_dependencies=["k"], expected_effects={"k": 1})
    assert not edges(build([both]))


def test_preconditions_make_no_edges() -> None:
    assert not edges(build([write("a"), call("b", preconditions=[{"key": "k"}])]))


def test_key_that_is_a_reference_makes_no_state_edges() -> None:
    graph = build([call("a"), write("b", "$a.output"), read("c", "$a.output")])
    assert edges(graph) == {("a", "b"), ("a", "c")}


def test_after_is_the_inverse_of_before_in_listed_order() -> None:
    graph = build([call("d"), call("c", "d"), call("b", "d", "c"), call("a", "d")])
    assert graph.after == {"d": ("c", "b", "a"), "c": ("b",), "b": (), "a": ()}


# --- compensators


def test_compensator_has_no_place_in_the_graph() -> None:
    graph = build(
        [undone_by("pay", "refund"), call("refund", "pay", parameters={"id": "$pay.output.id"})]
    )
    assert graph.compensators == {"refund"}
    assert not edges(graph)
    assert graph.levels() == [["pay"]]
    assert graph.ids == ("pay", "refund")


def test_compensator_that_writes_state_is_no_writer_in_the_graph() -> None:
    graph = build([undone_by("a", "undo"), write("w1"), write("undo"), read("r"), write("w2")])
    assert edges(graph) == {("w1", "r"), ("r", "w2"), ("w1", "w2")}


@pytest.mark.parametrize(
    "waiting", [call("x", "undo"), call("x", parameters={"y": "$undo.output"})]
)
def test_nobody_can_wait_for_a_compensator(waiting: Action) -> None:
    (problem,) = problems_of([undone_by("a", "undo"), call("undo"), waiting])
    assert problem.code == "unknown_id"
    assert problem.ids == ("x", "undo")
    assert "only as the compensation" in problem.message


def test_one_compensator_may_serve_two_actions() -> None:
    assert build([undone_by("a", "u"), undone_by("b", "u"), call("u")]).compensators == {"u"}


def test_tool_compensation_may_refer_to_outputs_and_makes_no_edge() -> None:
    undo = {"type": "tool", "tool": "refund", "parameters": {"id": "$a.output", "n": "$b.output"}}
    graph = build([call("a", compensation=undo), call("b")])
    assert not edges(graph)
    assert not graph.compensators


# --- problems


def test_duplicate_id_is_named_with_its_places() -> None:
    (problem,) = problems_of([call("a"), call("b"), call("a")])
    assert (problem.code, problem.ids) == ("duplicate_id", ("a",))
    assert "1, 3" in problem.message


@pytest.mark.parametrize(
    ("action", "told"),
    [
        (call("a", "ghost"), "depends on 'ghost'"),
        (call("a", parameters={"x": "$ghost.output"}), "refers to the output of 'ghost'"),
        (undone_by("a", "ghost"), "is compensated by 'ghost'"),
        (
            call(
                "a",
                compensation={"type": "tool", "tool": "t", "parameters": {"x": "$ghost.output"}},
            ),
            "refers to the output of 'ghost'",
        ),
    ],
)
def test_unknown_id_is_named_with_who_names_it_and_how(action: Action, told: str) -> None:
    (problem,) = problems_of([action, call("b")])
    assert (problem.code, problem.ids) == ("unknown_id", ("a", "ghost"))
    assert told in problem.message


def test_text_that_was_not_meant_as_a_reference_is_told_how_to_escape() -> None:
    (problem,) = problems_of([call("a", parameters={"x": "$price.output"})])
    assert "$$price.output" in problem.message


@pytest.mark.parametrize(
    ("actions", "told"),
    [
        ([call("a", "a")], ["'a' depends on itself"]),
        (
            [call("a", parameters={"x": "$a.output"})],
            ["'a' refers to the output of itself"],
        ),
        ([call("a", "b"), call("b", "a")], ["'a' depends on 'b'", "'b' depends on 'a'"]),
        (
            [call("a", parameters={"x": "$b.output"}), call("b", "a")],
            ["'a' refers to the output of 'b'", "'b' depends on 'a'"],
        ),
        (
            [call("a", "b", type="state_write", parameters={"key": "k"}), read("b")],
            ["'a' depends on 'b'", "'b' reads state key 'k' after 'a' has written it"],
        ),
        (
            [call("a", "b", type="state_read", parameters={"key": "k"}), write("b")],
            ["'a' depends on 'b'", "'b' writes state key 'k' after 'a' has read it"],
        ),
        (
            [call("a", "b", expected_effects={"k": 1}), write("b")],
            ["'a' depends on 'b'", "'b' writes state key 'k' after 'a' has written it"],
        ),
    ],
)
def test_cycle_is_told_with_why_each_waits_for_the_next(
    actions: list[Action], told: list[str]
) -> None:
    (problem,) = problems_of(actions)
    assert problem.code == "cycle"
    assert set(problem.ids) == {action.id for action in actions}
    for text in told:
        assert text in problem.message


def test_every_circle_is_told_and_what_only_waits_for_one_is_in_none() -> None:
    actions = [
        *(call("a", "b"), call("b", "a")),
        *(call("c", "d"), call("d", "c")),
        call("e", "a", "c"),
        call("f"),
    ]
    assert [set(problem.ids) for problem in problems_of(actions)] == [{"a", "b"}, {"c", "d"}]


@pytest.mark.parametrize(
    "actions",
    [[undone_by("a", "a")], [undone_by("a", "b"), undone_by("b", "a")]],
)
def test_compensations_that_go_round_in_a_circle_are_a_problem(actions: list[Action]) -> None:
    (problem,) = problems_of(actions)
    assert problem.code == "cycle"
    assert "is compensated by" in problem.message


def test_all_problems_are_told_at_once_by_the_error() -> None:
    with pytest.raises(PlanError) as raised:
        build([call("a", "ghost"), call("b", "c"), call("c", "b"), undone_by("d", "nobody")])
    codes = [problem.code for problem in raised.value.problems]
    assert codes == ["unknown_id", "unknown_id", "cycle"]
    for id in ("ghost", "nobody", "'b'"):
        assert id in str(raised.value)


def test_message_about_a_long_circle_is_short() -> None:
    actions = [call(f"a{n}", f"a{(n + 1) % 500}") for n in range(500)]
    (problem,) = problems_of(actions)
    assert len(problem.ids) == 500
    assert len(problem.message) < 500


@pytest.mark.slow
def test_a_chain_of_a_hundred_thousand_neither_overflows_nor_takes_long() -> None:
    count = 100_000
    graph = build([call(f"a{n}", *([f"a{n - 1}"] if n else [])) for n in range(count)])
    assert len(graph.levels()) == count
    (problem,) = problems_of([call(f"a{n}", f"a{(n + 1) % count}") for n in range(count)])
    assert len(problem.ids) == count


# --- properties

KEYS = ("k", "j")


@st.composite
def plans(draw: st.DrawFn) -> list[Action]:
    """Actions with all kinds of edges, some of them in circles."""
    count = draw(st.integers(1, 7))
    ids = [f"a{n}" for n in range(count)]
    some = st.lists(st.sampled_from(ids), max_size=1)
    keys = st.lists(st.sampled_from(KEYS), max_size=1)
    actions = []
    for id in ids:
        kind = draw(st.sampled_from(["tool_call", "state_write", "state_read", "assertion"]))
        parameters: dict[str, Any] = {"value": [f"${other}.output" for other in draw(some)]}
        if kind != "tool_call":
            parameters["key"] = draw(st.sampled_from(KEYS))
        actions.append(
            call(
                id,
                *draw(some),
                type=kind,
                parameters=parameters,
                expected_effects=dict.fromkeys(draw(keys), 1),
                state_dependencies=draw(keys),
            )
        )
    return actions


def rules(actions: list[Action]) -> set[tuple[str, str]]:
    """Return the edges by the rules, one by one, as (earlier, later)."""
    found = set()
    for place, action in enumerate(actions):
        named = {*action.dependencies, *referenced(action.parameters)}
        found |= {(other, action.id) for other in named}
        for key in KEYS:
            earlier = [a.id for a in actions[:place] if key in written_keys(a)]
            later = [a.id for a in actions[place + 1 :] if key in written_keys(a)]
            if earlier and key in written_keys(action) | read_keys(action):
                found.add((earlier[-1], action.id))
            if later and key in read_keys(action):
                found.add((action.id, later[0]))
    return found


@given(plans())
def test_graph_has_the_edges_of_the_rules_or_names_a_circle_of_them(actions: list[Action]) -> None:
    expected = rules(actions)
    try:
        graph = build(actions)
    except PlanError as error:
        for problem in error.problems:
            circle = [*problem.ids, problem.ids[0]]
            assert all((b, a) in expected for a, b in pairwise(circle))
        return
    assert edges(graph) == expected


@given(plans())
def test_levels_respect_every_edge_and_place_every_action_once(actions: list[Action]) -> None:
    if problems_of(actions):
        return
    graph = build(actions)
    level = {id: n for n, ids in enumerate(graph.levels()) for id in ids}
    assert len(level) == len(actions)
    for id in graph.ids:
        awaited = [level[earlier] for earlier in graph.before[id]]
        assert level[id] == max(awaited, default=-1) + 1
    for ids in graph.levels():
        assert ids == sorted(ids, key=graph.index.__getitem__)
    for id in graph.ids:
        assert graph.required[id] <= graph.before[id]
