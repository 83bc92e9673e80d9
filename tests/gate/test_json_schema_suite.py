"""The official JSON Schema test suite, and what a second validator says of the same.

The suite is data beside the checkout, not a part of it; without it these tests are skipped. What
the gate does not support is listed here with the reason, group by group, and a listed group that
passes fails the test: the list cannot rot.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator
from jsonschema.exceptions import SchemaError as TheirSchemaError
from referencing import Registry
from referencing.exceptions import Unresolvable

from toolgate.errors import SchemaError
from toolgate.validation import compile_schema

SUITE = Path(__file__).resolve().parents[3] / "shared" / "data" / "json-schema-test-suite" / "tests"
DIALECTS = {
    "draft7": "http://json-schema.org/draft-07/schema#",
    "draft2020-12": "https://json-schema.org/draft/2020-12/schema",
}
THEIRS: dict[str, Any] = {"draft7": Draft7Validator, "draft2020-12": Draft202012Validator}

REMOTE = "refers to another document: a schema comes from a client, so nothing is ever fetched"
METASCHEMA = "has a meta-schema of its own: which keywords count is the gate's to know"
ASSERTED = "has format as an annotation: the gate asserts it, or no argument would be checked by it"

_REMOTE_OF_BOTH = (
    "remote ref",
    "fragment within remote ref",
    "ref within remote ref",
    "base URI change",
    "base URI change - change folder",
    "base URI change - change folder in subschema",
    "root ref in remote ref",
    "Location-independent identifier in remote ref",
    "retrieved nested refs resolve relative to their URI not $id",
)
_FORMATS = (
    "date", "date-time", "duration", "email", "hostname", "idn-email", "idn-hostname", "ipv4",
    "ipv6", "iri", "iri-reference", "json-pointer", "regex", "relative-json-pointer", "time", "uri",
    "uri-reference", "uri-template", "uuid",
)  # fmt: skip

REFUSED: dict[tuple[str, str], str] = {
    **{("draft7/refRemote.json", group): REMOTE for group in _REMOTE_OF_BOTH},
    ("draft7/refRemote.json", "remote ref with ref to definitions"): REMOTE,
    ("draft7/refRemote.json", "$ref to $ref finds location-independent $id"): REMOTE,
    (
        "draft7/optional/cross-draft.json",
        "refs to future drafts are processed as future drafts",
    ): REMOTE,
    **{("draft2020-12/refRemote.json", group): REMOTE for group in _REMOTE_OF_BOTH},
    ("draft2020-12/refRemote.json", "anchor within remote ref"): REMOTE,
    ("draft2020-12/refRemote.json", "remote ref with ref to defs"): REMOTE,
    ("draft2020-12/refRemote.json", "remote HTTP ref with different $id"): REMOTE,
    ("draft2020-12/refRemote.json", "remote HTTP ref with different URN $id"): REMOTE,
    ("draft2020-12/refRemote.json", "remote HTTP ref with nested absolute ref"): REMOTE,
    ("draft2020-12/refRemote.json", "$ref to $ref finds detached $anchor"): REMOTE,
    (
        "draft2020-12/dynamicRef.json",
        "strict-tree schema, guards against misspelled properties",
    ): REMOTE,
    (
        "draft2020-12/dynamicRef.json",
        "tests for implementation dynamic anchor and reference link",
    ): REMOTE,
    (
        "draft2020-12/dynamicRef.json",
        "$ref and $dynamicAnchor are independent of order - $defs first",
    ): REMOTE,
    (
        "draft2020-12/dynamicRef.json",
        "$ref and $dynamicAnchor are independent of order - $ref first",
    ): REMOTE,
    (
        "draft2020-12/dynamicRef.json",
        "$ref to $dynamicRef finds detached $dynamicAnchor",
    ): REMOTE,
    (
        "draft2020-12/optional/cross-draft.json",
        "refs to historic drafts are processed as historic drafts",
    ): REMOTE,
    (
        "draft2020-12/optional/format-assertion.json",
        "schema that uses custom metaschema with format-assertion: false",
    ): METASCHEMA,
    (
        "draft2020-12/optional/format-assertion.json",
        "schema that uses custom metaschema with format-assertion: true",
    ): METASCHEMA,
    (
        "draft2020-12/vocabulary.json",
        "schema that uses custom metaschema with with no validation vocabulary",
    ): METASCHEMA,
    ("draft2020-12/vocabulary.json", "ignore unrecognized optional vocabulary"): METASCHEMA,
}
"""Schemas of the suite that the gate does not take, by file and group."""

STRICTER: dict[tuple[str, str], str] = {
    ("draft2020-12/format.json", f"{name} format"): ASSERTED for name in _FORMATS
}
"""Groups of which the gate refuses values that the suite calls valid."""

REGEX = "has regular expressions of ECMA-262, which Python's re reads otherwise or not at all"
FORMATS = "has formats that jsonschema checks loosely, or only with packages of its own"
CONTENT = "has contentEncoding and contentMediaType, which jsonschema never asserts"
DEPENDENCIES = "has the older drafts' dependencies in draft 2020-12, which jsonschema ignores"
UNKNOWN = "has a meta-schema of its own, which the gate refuses and jsonschema overlooks"

DISAGREEING: dict[str, str] = {
    "draft7/optional/content.json": CONTENT,
    "draft7/optional/ecmascript-regex.json": REGEX,
    "draft2020-12/optional/ecmascript-regex.json": REGEX,
    "draft2020-12/pattern.json": REGEX,
    "draft2020-12/patternProperties.json": REGEX,
    "draft2020-12/optional/dependencies-compatibility.json": DEPENDENCIES,
    "draft2020-12/optional/format-assertion.json": UNKNOWN,
    "draft2020-12/vocabulary.json": UNKNOWN,
    "draft2020-12/format.json": FORMATS,
}
"""Files of the suite on which Python's jsonschema and the gate disagree, besides the formats'."""


@dataclass(frozen=True)
class Group:
    """A schema of the suite and the values it is tried on."""

    file: str
    name: str
    schema: Any
    cases: tuple[tuple[str, Any, bool], ...]

    @property
    def dialect(self) -> str:
        return self.file.partition("/")[0]


@cache
def suite(file: str) -> tuple[Group, ...]:
    """The groups of one file; its schemas say of which draft they are, as a tool's must."""
    dialect = DIALECTS[file.partition("/")[0]]
    found = []
    for group in json.loads((SUITE / file).read_bytes()):
        schema = group["schema"]
        if isinstance(schema, dict):
            schema = {"$schema": dialect, **schema}
        cases = tuple((case["description"], case["data"], case["valid"]) for case in group["tests"])
        found.append(Group(file, group["description"], schema, cases))
    return tuple(found)


FILES = sorted(
    path.relative_to(SUITE).as_posix()
    for dialect in DIALECTS
    for path in (SUITE / dialect).rglob("*.json")
)
needs_suite = pytest.mark.skipif(
    not FILES, reason=f"the JSON Schema test suite is not in {SUITE.parent}: nothing is tested here"
)
each_file = pytest.mark.parametrize("file", FILES or ["(no suite)"])


def ours(group: Group) -> list[bool] | None:
    """What the gate says of each value; None: it does not take the schema."""
    try:
        schema = compile_schema(group.schema)
    except SchemaError:
        return None
    return [not schema.problems(value) for _, value, _ in group.cases]


def theirs(group: Group) -> list[bool] | None:
    """What Python's jsonschema says of each value; None: it does not take the schema."""
    kind = THEIRS[group.dialect]
    try:
        kind.check_schema(group.schema, format_checker=kind.FORMAT_CHECKER)
        validator = kind(group.schema, registry=Registry(), format_checker=kind.FORMAT_CHECKER)
        return [validator.is_valid(value) for _, value, _ in group.cases]
    except (TheirSchemaError, Unresolvable):
        return None


@needs_suite
@each_file
def test_the_gate_says_what_the_suite_says(file):
    wrong = []
    for group in suite(file):
        said = ours(group)
        assert (said is None) == ((file, group.name) in REFUSED), group.name
        if said is not None:
            wrong += [
                (group.name, name, valid)
                for (name, _, expected), valid in zip(group.cases, said, strict=True)
                if valid is not expected and not ((file, group.name) in STRICTER and expected)
            ]
    assert not wrong


@needs_suite
def test_what_is_listed_as_unsupported_really_is():
    groups = {(file, group.name): group for file in FILES for group in suite(file)}
    for listed, reason in (REFUSED | STRICTER).items():
        group = groups[listed]
        said = ours(group)
        if listed in REFUSED:
            assert said is None, f"{listed} is taken, though it {reason}"
        else:
            expected = [valid for _, _, valid in group.cases]
            assert said is not None
            assert said != expected, f"{listed} is as the suite has it, though it {reason}"


@needs_suite
def test_what_refers_to_another_document_is_refused_for_that():
    for (file, name), reason in REFUSED.items():
        (group,) = [group for group in suite(file) if group.name == name]
        expected = "draft this gate does not know" if reason is METASCHEMA else "not a usable JSON"
        with pytest.raises(SchemaError, match=expected) as caught:
            compile_schema(group.schema)
        if reason is REMOTE:
            assert "http://localhost:1234/" in str(caught.value)


@needs_suite
@each_file
def test_two_validators_agree_but_where_it_is_listed(file):
    differing = [group for group in suite(file) if ours(group) != theirs(group)]
    if "/optional/format/" not in file:
        assert bool(differing) == (file in DISAGREEING), [group.name for group in differing]
    # Where they do, the suite sides with the gate, or it is listed as unsupported above.
    for group in differing:
        if (file, group.name) not in REFUSED | STRICTER:
            assert ours(group) == [valid for _, _, valid in group.cases], group.name


# --- the two on schemas of our own

SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.sampled_from([0, 1, 2, 3, -1, 0.0, -0.0, 1.0, 1.5, 2.5, "", "a", "b", "aa", "é😀", "1"])
    | st.text(max_size=3)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(["a", "b", "c", ""]), inner)
    ),
    max_leaves=8,
)
TYPES = st.sampled_from(["null", "boolean", "integer", "number", "string", "array", "object"])
SIZES = st.integers(0, 3)
NUMBERS = st.integers(-3, 3) | st.sampled_from([0.5, 1.5, -1.5])
NAMES = st.sampled_from(["a", "b", "c", ""])
OPTIONS = {
    "type": TYPES | st.lists(TYPES, min_size=1, max_size=3, unique=True),
    "enum": st.lists(VALUES, min_size=1, max_size=3),
    "const": VALUES,
    "minimum": NUMBERS,
    "exclusiveMaximum": NUMBERS,
    "multipleOf": st.sampled_from([1, 2, 3, 0.5]),
    "minLength": SIZES,
    "maxLength": SIZES,
    "pattern": st.sampled_from(["^a", "b$", "^[a-c]*$", "a|b", "^.{2}$", "é"]),
    "minItems": SIZES,
    "maxItems": SIZES,
    "uniqueItems": st.booleans(),
    "minProperties": SIZES,
    "maxProperties": SIZES,
    "required": st.lists(NAMES, max_size=2, unique=True),
    "format": st.sampled_from(["date", "ipv4", "ipv6", "uuid", "unknown"]),
}


def schemas(dialect: str) -> st.SearchStrategy[Any]:
    plain = st.fixed_dictionaries({}, optional=OPTIONS)

    def nested(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
        some = st.lists(inner, min_size=1, max_size=3)
        by_name = st.dictionaries(NAMES, inner, max_size=3)
        options = {
            "properties": by_name,
            "patternProperties": st.dictionaries(st.sampled_from(["^a", "b|c"]), inner, max_size=2),
            "additionalProperties": inner,
            "propertyNames": inner,
            "items": inner,
            "contains": inner,
            "allOf": some,
            "anyOf": some,
            "oneOf": some,
            "not": inner,
            "if": inner,
            "then": inner,
            "else": inner,
        }
        if dialect == "draft7":
            options |= {"dependencies": by_name, "additionalItems": inner, "items": inner | some}
        else:
            options |= {
                "prefixItems": some,
                "minContains": SIZES,
                "maxContains": SIZES,
                "dependentSchemas": by_name,
                "unevaluatedItems": inner,
                "unevaluatedProperties": inner,
            }
        chosen = st.lists(st.sampled_from(sorted(options)), max_size=3, unique=True)
        return st.tuples(
            plain,
            chosen.flatmap(lambda names: st.fixed_dictionaries({n: options[n] for n in names})),
        ).map(lambda pair: {**pair[0], **pair[1]})

    refs = st.sampled_from(["#/definitions/x", "#"]).map(
        lambda ref: {"properties": {"a": {"$ref": ref}}}
    )
    inner = st.recursive(st.booleans() | plain | refs, nested, max_leaves=5)
    return st.tuples(nested(inner), inner).map(
        lambda pair: {"$schema": DIALECTS[dialect], **pair[0], "definitions": {"x": pair[1]}}
    )


@pytest.mark.parametrize("dialect", DIALECTS)
def test_two_validators_agree_on_schemas_of_every_shape(dialect):
    @settings(max_examples=100, suppress_health_check=list(HealthCheck), deadline=None)
    @given(schemas(dialect), st.lists(VALUES, min_size=1, max_size=6))
    def agree(schema: Any, values: list[Any]) -> None:
        group = Group(dialect, "", schema, tuple(("", value, True) for value in values))
        assert ours(group) == theirs(group)

    agree()


# --- patterns with look-around, which no engine matches in linear time

HARD = {"pattern": "(([a-z])+.)+[A-Z](?!q)"}
HOPELESS = "a" * 40 + "\n\nabcD"
"""Matches :data:`HARD` at its end, which is found only after more steps than an engine may take."""


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        (HARD, HOPELESS),
        ({"not": HARD}, HOPELESS),
        ({"if": HARD, "then": False}, HOPELESS),
        ({"if": {"not": HARD}, "else": False}, HOPELESS),
        ({"anyOf": [{"not": HARD}, {"type": "integer"}]}, HOPELESS),
        ({"oneOf": [True, HARD]}, HOPELESS),
        ({"not": {"properties": {"x": HARD}}}, {"x": HOPELESS}),
        ({"patternProperties": {HARD["pattern"]: False}}, {HOPELESS: 1}),
        ({"propertyNames": {"not": HARD}}, {HOPELESS: 1}),
    ],
)
def test_a_value_on_which_a_pattern_gives_up_is_refused_wherever_the_pattern_stands(schema, value):
    assert compile_schema(schema).problems(value)


def test_a_pattern_without_look_around_takes_linear_time():
    schema = compile_schema({"pattern": "^(a+)+$"})
    assert schema.problems("a" * 1_000_000 + "!")
    assert not schema.problems("a" * 1_000_000)
