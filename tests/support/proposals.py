"""Actions and proposals, made in few words, and all kinds of them for properties."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from toolgate.ir import Action, ActionProposal
from toolgate.plan.graph import problems_of


def act(id: str, kind: str = "tool_call", **fields: Any) -> Action:
    """Make an action; a tool call is one of ``t`` unless another tool is named."""
    base = {"tool": "t"} if kind == "tool_call" else {}
    return Action.model_validate({"id": id, "type": kind, **base, **fields})


def write(id: str, key: str, value: Any = None, **fields: Any) -> Action:
    """Make a ``state_write``."""
    return act(id, "state_write", parameters={"key": key, "value": value}, **fields)


def read(id: str, key: str, **fields: Any) -> Action:
    """Make a ``state_read``."""
    return act(id, "state_read", parameters={"key": key}, **fields)


def claim(id: str, key: str, expected: Any, **fields: Any) -> Action:
    """Make an ``assertion``."""
    return act(id, "assertion", parameters={"key": key, "expected": expected}, **fields)


def plan(*actions: Action) -> ActionProposal:
    """Make a proposal."""
    return ActionProposal(id="p", actions=actions)


KEYS = ("x", "y", "z")
VALUES = (0, 1, True, None, "a")


@st.composite
def plans(draw: st.DrawFn, *, foreseeable: bool = False) -> ActionProposal:
    """Make plans without circles: every edge, failure behaviour and compensation occurs.

    In a ``foreseeable`` one nothing refers to the output of a tool.
    """
    count = draw(st.integers(0, 7))
    ids = [f"a{place}" for place in range(count)]
    key, value = st.sampled_from(KEYS), st.sampled_from(VALUES)
    actions: list[Action] = []
    for place, id in enumerate(ids):
        earlier = st.sampled_from(ids[:place]) if place else st.nothing()
        some = st.lists(earlier, max_size=3) if place else st.just([])
        kind = draw(st.sampled_from(["tool_call", "state_write", "state_read", "assertion"]))
        parameters: dict[str, Any] = {"n": place}
        if kind != "tool_call":
            parameters = {"key": draw(key), "expected": draw(value), "value": draw(value)}
        sources = [a.id for a in actions if not (foreseeable and a.type == "tool_call")]
        if sources and draw(st.booleans()):
            path = draw(st.sampled_from(["", ".value", ".0"]))
            parameters["value"] = f"${draw(st.sampled_from(sources))}.output{path}"
        fields: dict[str, Any] = {
            "parameters": parameters,
            "dependencies": draw(some),
            "state_dependencies": draw(st.lists(key, max_size=2)),
            "expected_effects": draw(st.dictionaries(key, value, max_size=1)),
            "preconditions": draw(
                st.lists(st.builds(lambda k, v: {"key": k, "value": v}, key, value), max_size=1)
            ),
            "max_retries": 0,
            "failure_behavior": draw(st.sampled_from(["abort", "retry", "skip"])),
            "reversibility": draw(st.sampled_from(["irreversible", "compensable"])),
        }
        if draw(st.integers(0, 9)) == 0:
            undo = draw(st.sampled_from(ids))
            fields["compensation"] = {"type": "action_ref", "action_id": undo}
        actions.append(act(id, kind, **fields))
    proposal = plan(*actions)
    if problems_of(proposal.actions):
        plain = [action.model_copy(update={"compensation": None}) for action in actions]
        proposal = plan(*plain)
    return proposal


states = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
