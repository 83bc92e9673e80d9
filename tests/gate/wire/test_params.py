"""What is wrong with parameters, in the words of whoever sent them."""

from __future__ import annotations

from typing import Any

import pytest

from toolgate.embedding.given import InvalidInput, plan_of
from toolgate.ir import ActionProposal
from toolgate.wire.messages import ErrorCode, RPCError
from toolgate.wire.params import Govern, Propose, read_params

PAY: dict[str, Any] = {"id": "pay", "type": "tool_call", "tool": "pay"}


def refused(proposal: dict[str, Any]) -> list[str]:
    with pytest.raises(RPCError) as caught:
        read_params(ActionProposal, proposal, "proposal")
    assert caught.value.code == ErrorCode.INVALID_PARAMS
    problems: list[str] = caught.value.data["problems"]
    with pytest.raises(InvalidInput) as raised:
        plan_of(proposal)
    assert list(raised.value.problems) == problems
    return problems


@pytest.mark.parametrize(
    ("action", "told"),
    [
        ({**PAY, "dependencies": "x"}, '("pay"): dependencies: must be a list'),
        ({**PAY, "dependencies": [1]}, '("pay"): dependencies.0: must be a valid string'),
        ({**PAY, "parameters": []}, '("pay"): parameters: must be an object'),
        ({**PAY, "max_retries": -1}, '("pay"): max_retries: must be greater than or equal to 0'),
        ({**PAY, "preconditions": [{}]}, '("pay"): preconditions.0.key: is required'),
        ({**PAY, "preconditions": [5]}, '("pay"): preconditions.0: must be an object'),
        (
            {**PAY, "compensation": {"type": "undo"}},
            "(\"pay\"): compensation: must have as its type 'tool' or 'action_ref'",
        ),
        (
            {**PAY, "compensation": {"tool": "t"}},
            "(\"pay\"): compensation: must have as its type 'tool' or 'action_ref'",
        ),
        ({**PAY, "compensation": "t"}, '("pay"): compensation: must be an object'),
        ({**PAY, "compensation": {"type": "tool"}}, '("pay"): compensation.tool: is required'),
        (
            {**PAY, "type": "dance"},
            "(\"pay\"): type: must be 'tool_call', 'state_write', 'state_read' or 'assertion'",
        ),
    ],
)
def test_action_is_named_by_its_place_and_its_id(action: dict[str, Any], told: str) -> None:
    assert refused({"actions": [PAY, action]}) == [f"proposal.actions.1 {told}"]


@pytest.mark.parametrize(
    ("proposal", "told"),
    [
        ({}, "proposal.actions: is required"),
        ({"actions": {}}, "proposal.actions: must be a list"),
        ({"actions": [5]}, "proposal.actions.0: must be an object"),
        ({"actions": [{}]}, "proposal.actions.0.type: is required"),
        ({"actions": [{"id": 5, "type": "tool_call"}]}, "proposal.actions.0.id: must be a valid"),
        ({"actions": [], "context": 5}, "proposal.context: must be an object"),
    ],
)
def test_everything_else_is_named_by_its_place(proposal: dict[str, Any], told: str) -> None:
    [problem] = refused(proposal)
    assert problem.startswith(told)


def test_everything_that_is_wrong_is_told_at_once() -> None:
    assert len(refused({"actions": [{**PAY, "tool": 1, "metadata": 1}, 5], "id": ""})) == 4


def test_parameters_of_other_methods_are_spoken_of_in_the_same_words() -> None:
    with pytest.raises(RPCError) as caught:
        read_params(Govern, {"tool": "", "args": [], "timeout_ms": 0})
    assert str(caught.value) == (
        "tool: must not be empty; args: must be an object; timeout_ms: must be greater than 0"
    )
    with pytest.raises(RPCError, match="proposal: must be an object"):
        read_params(Propose, {"proposal": []})
