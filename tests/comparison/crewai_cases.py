"""CrewAI's tools: raw, under Lodestar's hook, under Toolgate's adapter.

In an environment that has CrewAI.
"""

from __future__ import annotations

from typing import Any

from comparison import crewai_gates, crewai_tools
from comparison.cases import main
from comparison.hooks import Hook, People, three_hooks


def hooks(people: People, settings: dict[str, Any]) -> list[Hook]:
    """Return the three ways to have tools."""
    return three_hooks(people, settings, "crewai")


if __name__ == "__main__":
    main([crewai_tools.cases, crewai_gates.cases], hooks, ("crewai", "lodestar-crewai"))
