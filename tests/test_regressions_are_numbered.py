"""Every published failure of another gate has a test here, named by its number: ``test_NN_…``."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

FAILURES = {
    1: "a rejected call never reaches the body by any path",
    2: "no decision, or null, is not an approval",
    3: "the approver sees exactly the arguments that run",
    4: "a precondition or state that changed while pending is checked again at release",
    5: "edited arguments are validated and put to policy again",
    6: "an approval is single use; of two workers one wins",
    7: "an approval for one call releases no other of the same tool",
    8: "forged resolutions from the client's side are refused",
    9: "what policy says of the call has changed since the approval: denied, or asked again",
    10: "the body does not run while somebody is being asked",
    11: "a restart while pending: the hold survives, is not asked twice, runs once",
    12: "another process with the same journal honours the decision",
    13: "a sub-agent's hold comes back to the call that opened it",
    14: "one rejected call of a batch leaves the others alone",
    15: "a denial says why; a call that is held, or was denied, is not asked again",
    16: "an expired hold says expired, not denied by the user",
    17: "waiting for ever is possible and holds no thread",
    18: "hold never weakens deny; precedence is total",
    19: "no policy, a parse error, a missing field: denied, loudly",
    20: "a rule that names what does not exist is an error at load",
    21: "an approved irreversible tool is not run again when its gate is killed under it",
    22: "a torn end of the log disables nothing",
    23: "a store that cannot be written makes calls fail, not hang",
    24: "rewritten arguments do not run under the genuine approval",
    25: "a forged success in the store is not believed over the chain",
    26: "the policy's signature is verified, not only present",
    27: "the gate checks the approver's authority; the approver sees what is approved",
    28: "shutdown, end of stdin and SIGTERM give every call in flight an end",
    29: "an approval in time, picked up late, counts; a hold past its deadline expires by itself",
    30: "no call costs more for those before it; memory does not grow; waiting slows nobody",
    31: "a rule without its target or key is an error",
    32: "a reader listed between two writers of a key runs between them",
}


@pytest.fixture(scope="module")
def tests() -> list[str]:
    """Return the names of all tests."""
    return [
        node.name
        for path in Path(__file__).parent.rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


@pytest.mark.parametrize("number", FAILURES, ids=[f"{n}: {what}" for n, what in FAILURES.items()])
def test_failure_of_another_gate_has_a_test_by_its_number(number: int, tests: list[str]) -> None:
    assert [name for name in tests if name.startswith(f"test_{number:02}_")]
