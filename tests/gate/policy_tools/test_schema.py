"""`toolgate schema`: what editors know of a file, and that it is what the gate accepts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml

from support.doc_pages import PAGES, ROOT, blocks, name_of
from toolgate.config import parse_config
from toolgate.errors import ToolgateError
from toolgate.policy import compile_policy
from toolgate.sourcefile import read

EXAMPLES = sorted((ROOT / "configs").rglob("*.yaml"))
KINDS = {"project": "config", "cases": "policy-test", "rules": "policy"}
"""The kinds of files, by a key that no other kind has."""
WRITTEN = [
    (f"{name_of(page)}:{block.line}", yaml.safe_load(block.text))
    for page in PAGES
    for block in blocks(page)
    if block.language == "yaml" and "file" in block.options
]
WRITTEN = [(where, value) for where, value in WRITTEN if KINDS.keys() & value]


def kind_of(value: dict[str, Any]) -> str:
    """Tell which kind of file a document of the pages or of the examples is."""
    return next(kind for key, kind in KINDS.items() if key in value)


def validator(author: Any, name: str) -> Any:
    told = author("schema", name)
    assert told.code == 0
    assert told.json["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    return jsonschema_rs.validator_for(told.json)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_is_valid_under_its_schema(author, path: Path) -> None:
    value = read(path).value
    problems = [error.message for error in validator(author, kind_of(value)).iter_errors(value)]
    assert problems == []


@pytest.mark.parametrize(("where", "value"), WRITTEN, ids=[where for where, _ in WRITTEN])
def test_every_file_of_the_pages_is_valid_under_its_schema(author, where: str, value: Any) -> None:
    problems = [error.message for error in validator(author, kind_of(value)).iter_errors(value)]
    assert problems == [], where


@pytest.mark.parametrize(
    "change",
    [
        {"projekt": "x"},
        {"mode": "off"},
        {"policy": {"rules": [{"id": "a", "tools": ["x"], "effect": "deny", "mode": "off"}]}},
        {"journal": "mysql://"},
        {"tools": {"x": {"level": 6}}},
        {"tools": {"x": {"timeout": 30}}},
        {"tools": {"x": {"timeout": "30"}}},
        {"tools": {"x": {"emits": ["untrusted", "untrusted"]}}},
        {"policy": {"allow_up_to": 4}},
        {"policy": {"rules": [{"id": "a", "effect": "deny"}]}},
        {"policy": {"rules": [{"id": "a", "tools": [], "effect": "deny"}]}},
        {"policy": {"rules": [{"id": "a", "tools": ["x"], "effect": "allow", "approval": {}}]}},
        {"approvals": {"approvers": [{"id": "alice"}]}},
        {"capabilities": {"max_actions": -1}},
    ],
)
def test_what_the_schema_of_a_config_refuses_the_gate_refuses_too(author, change) -> None:
    value = {"project": "p", **change}
    assert not validator(author, "config").is_valid(value)
    with pytest.raises(ToolgateError):
        compile_policy(parse_config(value, author.folder))


@pytest.mark.parametrize("expect", ["allow", "invalid", {"effect": "hold", "quorum": 2}])
def test_both_forms_of_an_expectation_are_valid(author, expect) -> None:
    case = {"name": "c", "tool": "x", "expect": expect}
    made = validator(author, "policy-test")
    assert made.is_valid({"version": 1, "policy": "p.yaml", "cases": [case]})
    assert not made.is_valid({"version": 1, "cases": [{**case, "expect": "perhaps"}]})
    assert not made.is_valid({"version": 1, "cases": [{**case, "history": []}]})


def test_no_other_kind_of_file_has_a_schema(author) -> None:
    assert author("schema", "journal").code == 2
