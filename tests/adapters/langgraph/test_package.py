"""The package's public face."""

from __future__ import annotations

import subprocess
import sys

import pytest

import toolgate_langgraph


def test_the_public_names_are_exactly_these() -> None:
    public = {name for name in vars(toolgate_langgraph) if not name.startswith("_")}
    functions = {"agoverned_call", "bind", "govern_tools", "governed_call", "tool_call_wrappers"}
    assert public - {"TYPE_CHECKING"} == functions
    assert toolgate_langgraph.__all__ == ["GateMiddleware", "__version__", *sorted(functions)]
    public = functions | {"GateMiddleware"}
    assert all(getattr(toolgate_langgraph, name).__doc__ for name in public)


def test_what_it_does_not_have_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'GateKeeper'"):
        _ = toolgate_langgraph.GateKeeper


def test_importing_it_imports_no_framework() -> None:
    program = (
        "import sys, toolgate_langgraph;"
        "sys.exit(any(n.split('.')[0] in {'langchain_core', 'langgraph', 'pydantic'}"
        " for n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert done.returncode == 0
