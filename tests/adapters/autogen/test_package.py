"""The package's public face, which needs no AutoGen."""

from __future__ import annotations

import subprocess
import sys

import pytest

import toolgate_autogen
from support.client_gates import fake_gate
from toolgate_autogen import agoverned_call, govern_tools, governed_call

FUNCTIONS = {"agoverned_call", "bind", "govern_tools", "governed_call", "run_approved"}
CLASSES = {
    "GovernedStreamTool",
    "GovernedStreamWorkbench",
    "GovernedTool",
    "GovernedWorkbench",
    "HoldTermination",
}


def test_the_public_names_are_exactly_these() -> None:
    assert toolgate_autogen.__all__ == sorted({"__version__", *FUNCTIONS, *CLASSES})
    assert all(getattr(toolgate_autogen, name).__doc__ for name in FUNCTIONS | CLASSES)
    public = {name for name in dir(toolgate_autogen) if not name.startswith("_")}
    assert public - {"TYPE_CHECKING", "Any", "annotations"} == FUNCTIONS | CLASSES
    with pytest.raises(AttributeError, match="no attribute 'GovernedAgent'"):
        _ = toolgate_autogen.GovernedAgent  # type: ignore[attr-defined]


def test_importing_it_imports_no_framework() -> None:
    program = (
        "import sys, toolgate_autogen;"
        "heavy = {'autogen_core', 'autogen_agentchat', 'pydantic'};"
        "sys.exit(any(n.split('.')[0] in heavy for n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert done.returncode == 0


async def test_wrong_options_are_refused_before_anything_is_imported() -> None:
    gate = fake_gate()
    with pytest.raises(ValueError, match="hold is one of wait, return, not 'interrupt'"):
        govern_tools(gate, [], hold="interrupt")  # type: ignore[call-overload]
    with pytest.raises(ValueError, match="hold is one of"):
        governed_call(gate, "pay", {}, hold="later")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hold is one of"):
        await agoverned_call(gate, "pay", {}, hold="later")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_denied is a function"):
        govern_tools(gate, [], on_denied=3)  # type: ignore[call-overload]
