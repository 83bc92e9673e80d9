"""`toolgate policy import-car`: what CAR's files mean, said as rules."""

from __future__ import annotations

import pytest
import yaml

from toolgate.config import parse_config
from toolgate.policy import CallFacts, compile_policy
from toolgate.policy.car import import_car
from toolgate.policy.situation import Setting, Situation

CAR = """\
deny_tool = ["deploy", "a*b[c]"]
deny_keyword = ["DROP TABLE"]

[[deny_tool_param]]
tool = "http_request"
param = "url"
contains = "169.254.169.254"

[[allow_tool_param]]
tool = "messaging.send"
param = "to"
allow = ["+15550100", "on\\"call"]

[[allow_tool_param]]
tool = "pager"
param = "who"
allow = []

[[deny_tool_param_matching]]
tool = "upload"
param = "body"
matches = "(?i)demo-token-[A-Za-z0-9]{4,}"

[[rate_limit_tool]]
tool = "messaging.send"
max_calls = 5
interval_secs = 3600.0

[[rate_limit_tool]]
tool = "never"
max_calls = 0
interval_secs = 60
"""


def decide(author, text, tool, args, state=None, **options):
    imported = import_car([author.write("car.toml", text)], **options)
    config = parse_config({"project": "p", "policy": {"rules": imported.rules}}, author.folder)
    situation = Situation(tool=tool, args=args, state=state or {})
    facts: CallFacts = situation.facts(Setting.of(config))
    return compile_policy(config).decide(facts).effect


@pytest.mark.parametrize(
    ("tool", "args", "effect"),
    [
        ("deploy", {}, "deny"),
        ("deployment", {}, "allow"),
        ("a*b[c]", {}, "deny"),
        ("aXbc", {}, "allow"),
        ("sql", {"query": "DROP TABLE users"}, "deny"),
        ("sql", {"query": "drop table users"}, "allow"),
        ("sql", {"all": ["x", "DROP TABLE"]}, "deny"),
        ("sql", {"all": {"q": "DROP TABLE"}}, "deny"),
        ("sql", {"n": 5, "none": None, "yes": True, "all": ["x", 1]}, "allow"),
        ("sql", {"deep": [["DROP TABLE"]]}, "deny"),
        ("sql", {"deep": [["fine, but not searched"]]}, "deny"),
        ("http_request", {"url": "http://169.254.169.254/latest"}, "deny"),
        ("http_request", {"url": "https://example.com"}, "allow"),
        ("http_request", {}, "allow"),
        ("http_request", {"url": ["http://169.254.169.254"]}, "deny"),
        ("messaging.send", {"to": "+15550100"}, "allow"),
        ("messaging.send", {"to": 'on"call'}, "allow"),
        ("messaging.send", {"to": "+15550101"}, "deny"),
        ("messaging.send", {}, "deny"),
        ("pager", {"who": "anybody"}, "deny"),
        ("upload", {"body": "a DEMO-token-AbC123 b"}, "deny"),
        ("upload", {"body": "nothing"}, "allow"),
        ("upload", {}, "allow"),
        ("never", {}, "deny"),
    ],
)
def test_a_call_is_decided_as_car_documents_it(author, tool, args, effect):
    assert decide(author, CAR, tool, args) == effect


@pytest.mark.parametrize(
    ("state", "effect"), [({}, "deny"), ({"ok": False}, "deny"), ({"ok": True}, "allow")]
)
def test_required_state_is_required_of_every_action(author, state, effect):
    text = '[[require_state]]\nkey = "ok"\nvalue = true\n'
    assert decide(author, text, "anything", {}, state) == effect


def test_what_no_rule_denies_is_allowed_as_in_car_unless_the_author_says_otherwise(author):
    assert decide(author, "", "anything", {}) == "allow"
    assert decide(author, "", "anything", {}, allow_rest=False) == "deny"


def test_the_document_is_printed_with_its_notes_and_checks_out(author):
    author.write("car.toml", CAR)
    told = author("policy", "import-car", "car.toml", "--id", "ours")
    assert told.code == 0, told.err
    assert "# For the gate's config:" in told.out
    assert "rate_limit: {max_calls: 5, interval_secs: 3600.0}" in told.out
    assert "car-allows-the-rest" in told.out
    document = yaml.safe_load(told.out)
    assert document["id"] == "ours"
    author.write("policy.yaml", told.out)
    assert author("policy", "check", "policy.yaml").code == 0


def test_several_files_make_one_document_and_no_file_is_written_over(author):
    author.write("a.toml", 'deny_tool = ["x"]')
    author.write("b.toml", 'deny_tool = ["x", "y"]')
    told = author("policy", "import-car", "a.toml", "b.toml", "--out", "policy.yaml", "--deny-rest")
    assert told.code == 0, told.err
    document = yaml.safe_load((author.folder / "policy.yaml").read_text())
    assert [rule["id"] for rule in document["rules"]] == ["deny-x", "deny-x-2", "deny-y"]
    again = author("policy", "import-car", "a.toml", "--out", "policy.yaml")
    assert again.code == 2
    assert "exists already" in again.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[deny_tool_param]]\nparam = "p"\ncontains = "x"', "deny_tool_param[0]: tool: is req"),
        ('[[allow_tool_param]]\ntool = "t"\nallow = []', "allow_tool_param[0]: param: is required"),
        ('[[require_state]]\nkey = "k"', "require_state[0]: value: is required"),
        ('deny_tool = [""]', "deny_tool[0]: tool: is empty"),
        ('deny_tool = [{tool = "t", when = "x"}]', "deny_tool[0]: when: unknown key"),
        ("deny_tool = 3", "deny_tool: "),
        ('[[deny_tool_callback]]\ntarget = "pay"', "write its condition in CEL"),
        ("surprise = 1", "surprise: is not a kind of rule that CAR documents"),
        (
            '[[rate_limit_tool]]\ntool = "t"\nmax_calls = 1\ninterval_secs = 1\n' * 2,
            "rate_limit_tool[1]: t has a rate limit already",
        ),
        (
            '[[deny_tool_param_matching]]\ntool = "t"\nparam = "p"\nmatches = "(?=x)"',
            "until you write another pattern, t is denied",
        ),
    ],
)
def test_31_what_is_not_translated_is_reported_and_never_dropped(author, text, said):
    author.write("car.toml", text)
    told = author("policy", "import-car", "car.toml")
    assert told.code == 1
    assert said in told.err
    assert said in told.out.replace("\n#", "")
    listed = author("policy", "import-car", "car.toml", "--json").json["untranslated"]
    assert any(said in item for item in listed)


def test_a_pattern_that_cannot_be_compiled_denies_its_tool_as_in_car(author):
    text = '[[deny_tool_param_matching]]\ntool = "t"\nparam = "p"\nmatches = "(?=x)"'
    assert decide(author, text, "t", {}) == "deny"


@pytest.mark.parametrize("text", ["deny_tool = [", "\x00", "a = 1\na = 2"])
def test_what_is_not_toml_is_bad_input(author, text):
    author.write("car.toml", text)
    assert author("policy", "import-car", "car.toml").code == 2
