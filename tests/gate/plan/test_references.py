"""Outputs of actions in the parameters of others."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from toolgate.plan.references import UnresolvedReference, referenced, resolve

OUTPUTS: dict[str, Any] = {
    "a": {
        "items": [{"id": 7}, {"id": 8}],
        "none": None,
        "": {"": "empty"},
        "0": "zero",
        "yes": True,
    },
    "b": [10, [20, 30]],
    "text": "hello",
    "nothing": None,
    "with.dots and blanks\n": 1,
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$a.output", OUTPUTS["a"]),
        ("$a.output.items.0.id", 7),
        ("$a.output.items.1", {"id": 8}),
        ("$a.output.none", None),
        ("$a.output.0", "zero"),
        ("$a.output..", "empty"),
        ("$b.output.0", 10),
        ("$b.output.1.1", 30),
        ("$text.output", "hello"),
        ("$nothing.output", None),
        ("$with.dots and blanks\n.output", 1),
    ],
)
def test_reference_stands_for_the_output_or_what_its_path_leads_to(text: str, value: Any) -> None:
    assert resolve(text, OUTPUTS) == value
    assert resolve({"deep": [text]}, OUTPUTS) == {"deep": [value]}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("$c.output", "no output of 'c'"),
        ("$a.output.things", "the output of 'a' has no member 'things'"),
        ("$a.output.items.2", "'items' in the output of 'a' is an array of 2: it has no index '2'"),
        ("$a.output.items.-1", "no index '-1'"),
        ("$a.output.items.00", "no index '00'"),
        ("$a.output.items.+1", "no index"),
        ("$a.output.items.\u0661", "no index"),
        ("$a.output.items." + "9" * 5000, "no index"),
        ("$a.output.items.id", "no index 'id'"),
        ("$text.output.0", "the output of 'text' is a string: it has no member '0'"),
        ("$nothing.output.x", "the output of 'nothing' is null: it has no member 'x'"),
        ("$b.output.0.x.y", "'0' in the output of 'b' is a number: it has no member 'x'"),
        ("$a.output.yes.1", "'yes' in the output of 'a' is a boolean: it has no member '1'"),
    ],
)
def test_reference_that_leads_to_nothing_is_an_error_that_says_why(text: str, why: str) -> None:
    with pytest.raises(UnresolvedReference, match=why.replace("+", r"\+")) as raised:
        resolve([text], OUTPUTS)
    assert text[:20] in str(raised.value)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "$",
        "$a",
        "$.output",
        "a.output",
        "see $a.output",
        " $a.output",
        "$a.output ",
        "$a.outputs",
        "$a.output.",
        "$a.Output",
        "$5",
        "$$",
        "$$5",
        "${HOME}",
        "\\$a.output",
    ],
)
def test_any_other_text_is_left_as_it_is(text: str) -> None:
    assert resolve(text, OUTPUTS) == text
    assert not referenced(text)


@pytest.mark.parametrize(
    ("text", "literal"),
    [
        ("$$a.output", "$a.output"),
        ("$$a.output.items.0", "$a.output.items.0"),
        ("$$unknown.output", "$unknown.output"),
        ("$$$a.output", "$$a.output"),
        ("$$$$a.output", "$$$a.output"),
    ],
)
def test_one_more_dollar_makes_it_the_text_itself(text: str, literal: str) -> None:
    assert resolve({"x": text}, OUTPUTS) == {"x": literal}
    assert not referenced(text)


def test_references_are_found_anywhere_in_values_but_not_in_keys() -> None:
    value = {
        "$key.output": 1,
        "x": ["$a.output", {"y": "$b.output.1"}, [["$a.output.items"]]],
        "literal": "$$c.output",
        "n": 5,
    }
    assert referenced(value) == {"a", "b"}
    resolved = resolve(value, OUTPUTS)
    assert resolved["$key.output"] == 1
    assert resolved["x"] == [OUTPUTS["a"], {"y": [20, 30]}, [[OUTPUTS["a"]["items"]]]]
    assert resolved["literal"] == "$c.output"


def test_id_reaches_to_the_first_output() -> None:
    assert referenced("$a.output.output") == {"a"}
    assert resolve("$a.output.output", {"a": {"output": 3}}) == 3


def test_output_that_looks_like_a_reference_is_not_resolved_again() -> None:
    assert resolve("$a.output", {"a": "$b.output", "b": 1}) == "$b.output"
    assert resolve("$a.output", {"a": "$$b.output", "b": 1}) == "$$b.output"


def test_resolving_changes_nothing_it_was_given() -> None:
    value = {"x": ["$b.output", "$$a.output"]}
    resolve(value, OUTPUTS)
    assert value == {"x": ["$b.output", "$$a.output"]}


texts = st.text(st.sampled_from("$a.b0")).map(lambda text: text.replace("b", ".output"))
trees = st.recursive(
    st.none() | st.integers() | texts | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=8,
)


def escaped(value: Any) -> Any:
    """Escape what would be read as something else than itself."""
    if isinstance(value, str):
        changed = referenced(value) or resolve(value, {}) != value
        return f"${value}" if changed else value
    if isinstance(value, dict):
        return {key: escaped(item) for key, item in value.items()}
    return [escaped(item) for item in value] if isinstance(value, list) else value


@given(trees)
def test_escaped_text_resolves_to_the_literal(value: Any) -> None:
    assert not referenced(escaped(value))
    assert resolve(escaped(value), {}) == value


@given(trees)
def test_what_refers_to_nothing_resolves_and_what_refers_does_not(value: Any) -> None:
    ids = referenced(value)
    if not ids:
        resolve(value, {})
        return
    for missing in ids:
        with pytest.raises(UnresolvedReference):
            resolve(value, {id: {} for id in ids if id != missing})


@given(st.text(min_size=1), st.integers())
def test_every_id_without_output_in_it_can_be_referred_to(id: str, output: int) -> None:
    assume(".output" not in id and not id.startswith("$"))
    assert referenced([f"${id}.output"]) == {id}
    assert resolve(f"${id}.output", {id: output}) == output
