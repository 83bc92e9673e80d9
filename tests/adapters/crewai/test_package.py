"""The package's public face, which needs no CrewAI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import toolgate_crewai
from support import crewai_world
from support.client_gates import fake_gate
from toolgate_crewai import govern_tools, governed_call


def test_the_public_names_are_exactly_these() -> None:
    public = {name for name in vars(toolgate_crewai) if not name.startswith("_")}
    assert public == {"agoverned_call", "bind", "fail_closed", "govern_tools", "governed_call"}
    assert toolgate_crewai.__all__ == ["__version__", *sorted(public)]
    assert all(getattr(toolgate_crewai, name).__doc__ for name in public)


def test_importing_it_imports_no_framework() -> None:
    program = (
        "import sys, toolgate_crewai;"
        "sys.exit(any(n.split('.')[0] in {'crewai', 'pydantic'} for n in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], timeout=30, check=False)
    assert done.returncode == 0


def test_wrong_options_are_refused_before_anything_is_imported() -> None:
    gate = fake_gate()
    with pytest.raises(ValueError, match="hold is one of wait, return, not 'interrupt'"):
        govern_tools(gate, [], hold="interrupt")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="hold is one of"):
        governed_call(gate, "pay", {}, hold="later")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="on_denied is a function"):
        govern_tools(gate, [], on_denied=3)  # type: ignore[arg-type]


@crewai_world.NEEDS_CREWAI
def test_a_number_that_crewai_adds_to_a_name_hides_no_ungoverned_tool(tmp_path: Path) -> None:
    program = """
from types import SimpleNamespace as Of
from toolgate_crewai._hooks import _candidates
plain, governed = Of(name="Search"), Of(name="search_2")
agent = Of(agent_executor=None, tools=[plain, governed])
context = Of(tool=governed, tool_name="search_2", agent=agent, task=None)
assert plain in list(_candidates(context)), list(_candidates(context))
"""
    done = subprocess.run(
        [str(crewai_world.PYTHON), "-c", program],
        env=crewai_world.environment(tmp_path),
        timeout=50,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
