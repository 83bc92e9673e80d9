"""The package's public face."""

from __future__ import annotations

import subprocess
import sys

import toolgate_langgraph


def test_the_public_names_are_exactly_these() -> None:
    public = {name for name in vars(toolgate_langgraph) if not name.startswith("_")}
    assert public == {"govern_tools", "governed_call"}
    assert toolgate_langgraph.__all__ == ["__version__", *sorted(public)]
    assert all(getattr(toolgate_langgraph, name).__doc__ for name in public)


def test_importing_it_imports_no_framework() -> None:
    program = (
        "import sys, toolgate_langgraph;"
        "sys.exit(any(n.split('.')[0] in {'langchain_core', 'langgraph', 'pydantic'}"
        " for n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert done.returncode == 0
