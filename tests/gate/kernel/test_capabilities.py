"""Capabilities: what a session may touch, whatever policy says."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from toolgate.config import CapabilitiesSection
from toolgate.ir import OutcomeKind
from toolgate.kernel.capabilities import Capabilities

GLOBS = ["*", "send_*", "send_mail", "[rs]*", "?", "shell", "read_*"]
NAMES = ["send_mail", "send_sms", "shell", "read_file", "x", "read\nfile", ""]


def capabilities(**sections: Any) -> Capabilities:
    """Make capabilities as a config says them."""
    return Capabilities(CapabilitiesSection.model_validate(sections))


def test_without_a_section_everything_is_allowed() -> None:
    for unlimited in (Capabilities(), Capabilities(None), capabilities()):
        assert unlimited.refusal_of_tool("shell") is None
        assert unlimited.refusal_of_key("any\nkey") is None
        assert unlimited.refusal_of_size(1_000_000) is None


@pytest.mark.parametrize(
    ("allow", "deny", "name", "allowed"),
    [
        (["*"], [], "shell", True),
        (["*"], ["sh*"], "shell", False),
        (["shell"], ["shell"], "shell", False),
        (["shell"], ["*"], "shell", False),
        (["read_*", "send_mail"], [], "send_mail", True),
        (["read_*"], [], "send_mail", False),
        ([], [], "shell", False),
        ([], ["x"], "shell", False),
        (["SHELL"], [], "shell", False),
        (["shell"], [], "shell ", False),
        (["shell"], [], "shell\n", False),
        (["shell"], [], "not shell", False),
        (["a*z"], [], "a\nz", True),
        (["[!a]*"], [], "able", False),
        (["a.b"], [], "axb", False),
    ],
)
def test_a_name_is_allowed_by_a_glob_for_the_whole_of_it_and_by_no_denial(
    allow: list[str], deny: list[str], name: str, *, allowed: bool
) -> None:
    names = {"allow": allow, "deny": deny}
    assert (capabilities(tools=names).refusal_of_tool(name) is None) is allowed
    assert (capabilities(state_keys=names).refusal_of_key(name) is None) is allowed


@given(
    st.lists(st.sampled_from(GLOBS), unique=True),
    st.lists(st.sampled_from(GLOBS), unique=True),
    st.sampled_from(NAMES),
    st.randoms(use_true_random=False),
)
def test_deny_beats_allow_in_any_order(
    allow: list[str], deny: list[str], name: str, random: Any
) -> None:
    def refused(allow: list[str], deny: list[str]) -> bool:
        made = capabilities(tools={"allow": allow, "deny": deny})
        return made.refusal_of_tool(name) is not None

    def matched(globs: list[str]) -> bool:
        return any(not refused([glob], []) for glob in globs)

    expected = matched(deny) or not matched(allow)
    assert refused(allow, deny) is expected
    random.shuffle(allow)
    random.shuffle(deny)
    assert refused(allow, deny) is expected


def test_tools_and_state_keys_have_nothing_to_do_with_each_other() -> None:
    tools = capabilities(tools={"allow": []})
    assert tools.refusal_of_tool("x") is not None
    assert tools.refusal_of_key("x") is None
    keys = capabilities(state_keys={"deny": ["*"]})
    assert keys.refusal_of_key("x") is not None
    assert keys.refusal_of_tool("x") is None


@pytest.mark.parametrize(
    ("most", "actions", "allowed"), [(3, 3, True), (3, 4, False), (0, 0, True), (0, 1, False)]
)
def test_a_proposal_may_have_so_many_actions_and_no_more(
    most: int, actions: int, *, allowed: bool
) -> None:
    assert (capabilities(max_actions=most).refusal_of_size(actions) is None) is allowed


def test_a_refusal_says_which_capability_and_what_to_do() -> None:
    limited = capabilities(tools={"allow": ["read_*"], "deny": ["read_secret*"]}, max_actions=2)
    denied = limited.refusal_of_tool("read_secrets")
    missing = limited.refusal_of_tool("shell")
    many = limited.refusal_of_size(3)
    for refusal in (denied, missing, many):
        assert refusal is not None
        assert refusal.kind is OutcomeKind.CAPABILITY_DENIED
    assert denied is not None
    assert denied.message == (
        "this session may not call the tool 'read_secrets': capabilities.tools.deny has "
        "read_secret* in the gate's config; do without it, or ask the operator to allow it"
    )
    assert denied.details == {"capability": "capabilities.tools", "name": "read_secrets"}
    assert missing is not None
    assert "'shell': capabilities.tools.allow does not have it" in missing.message
    assert many is not None
    assert many.message == (
        "a proposal may have at most 2 actions (capabilities.max_actions in the gate's config), "
        "and this one has 3: propose it in smaller parts"
    )
    assert many.details == {"capability": "capabilities.max_actions", "limit": 2, "actions": 3}


def test_a_very_long_name_is_shown_in_part() -> None:
    refusal = capabilities(state_keys={"allow": []}).refusal_of_key("k" * 1_000_000)
    assert refusal is not None
    assert len(refusal.message) < 500
