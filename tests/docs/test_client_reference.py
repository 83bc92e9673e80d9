"""The page of the Python client says what the client has, and leaves nothing out."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import toolgate_client
from support.doc_pages import ROOT, code, table
from toolgate_client import GateClient

PAGE = ROOT / "docs" / "reference" / "client.md"
PUBLIC = {
    name: getattr(toolgate_client, name)
    for name in toolgate_client.__all__
    if name != "__version__"
}
CLASSES = {name: value for name, value in PUBLIC.items() if inspect.isclass(value)}
EXCEPTIONS = {name: kind for name, kind in CLASSES.items() if issubclass(kind, Exception)}
VALUES = {name: kind for name, kind in CLASSES.items() if dataclasses.is_dataclass(kind)}


def call_of(name: str, function: Callable[..., Any]) -> str:
    """Return how a function is called: its parameters with their defaults, without types."""
    shown, keywords = [], False
    for each in inspect.signature(function).parameters.values():
        if each.name == "self":
            continue
        if each.kind is each.KEYWORD_ONLY and not keywords:
            keywords = True
            shown.append("*")
        has_default = each.default is not each.empty
        shown.append(f"{each.name}={each.default!r}" if has_default else each.name)
    return f"{name}({', '.join(shown)})"


def members(kind: type, wanted: Callable[[Any], bool]) -> Iterator[str]:
    """Yield the names of a class's public members of a sort."""
    return (
        name
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_") and wanted(member)
    )


TWINS = set(members(GateClient, inspect.iscoroutinefunction))
"""What has the same parameters and results as a method with a name that is shorter by an a."""


def named(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_page_has_every_method_as_it_is_called() -> None:
    page = [code(row["method"]) for row in table(PAGE, "Methods")]
    methods = set(members(GateClient, inspect.isfunction)) - TWINS
    assert sorted(page) == sorted(call_of(name, getattr(GateClient, name)) for name in methods)
    assert f"`{call_of('GateClient', GateClient.__init__)}`" in PAGE.read_text()
    encoder = call_of("default_encoder", toolgate_client.default_encoder)
    assert f"`{encoder}`" in PAGE.read_text()


def test_the_page_tells_apart_twins_that_there_are() -> None:
    rows = table(PAGE, "Twins for tasks")
    told = [name for row in rows for name in named(row["twin"])]
    assert set(told) <= TWINS
    assert all(f"`{name}" in PAGE.read_text() for name in ("acall", "astart()", "aclose()"))


@pytest.mark.parametrize("row", table(PAGE, "Methods"), ids=lambda row: code(row["method"])[:9])
def test_a_method_returns_what_the_page_says(row: dict[str, str]) -> None:
    function = getattr(GateClient, code(row["method"]).partition("(")[0])
    annotation = inspect.signature(function).return_annotation
    said = [name for name in named(row["returns"]) or ["Any"] if name != "tuple"]
    assert re.findall(r"\w+", annotation)[: len(said)] == said


def test_the_page_has_every_property_of_a_client() -> None:
    page = [code(row["property"]) for row in table(PAGE, "Properties")]
    found = members(GateClient, lambda member: isinstance(member, property))
    assert sorted(page) == sorted(found)


def test_the_page_has_every_value_with_its_fields() -> None:
    rows = table(PAGE, "Results")
    page = {code(row["class"]): named(row["fields"]) for row in rows}
    bodies = {"Result", "Document"}
    known = {
        name: [field.name for field in dataclasses.fields(kind)] for name, kind in VALUES.items()
    }
    assert page == {name: fields for name, fields in known.items() if name not in bodies}
    for name in bodies:
        fields = ", ".join(f"`{field}`" for field in known[name])
        assert f"| `{name}` | {fields} |" in PAGE.read_text()


@pytest.mark.parametrize("row", table(PAGE, "Results"), ids=lambda row: code(row["class"]))
def test_the_page_has_what_else_a_value_answers(row: dict[str, str]) -> None:
    kind = VALUES[code(row["class"])]
    properties = members(kind, lambda member: isinstance(member, property))
    methods = members(kind, inspect.isfunction)
    answers = [*properties, *(call_of(name, getattr(kind, name)) for name in methods)]
    assert sorted(named(row["more"])) == sorted(answers)


def test_the_page_has_every_exception_with_its_base_and_attributes() -> None:
    rows = table(PAGE, "Exceptions")
    page = {code(row["exception"]): (code(row["base"]), named(row["attributes"])) for row in rows}
    assert page == {
        name: (kind.__mro__[1].__name__, list(vars(kind("what happened"))))
        for name, kind in EXCEPTIONS.items()
    }


def test_the_page_speaks_of_every_public_name() -> None:
    text = PAGE.read_text()
    assert not [name for name in PUBLIC if f"`{name}" not in text]
