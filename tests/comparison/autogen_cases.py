"""AutoGen's tools: raw, under Lodestar's hook, under Toolgate's adapter."""

from __future__ import annotations

from typing import Any

from comparison import autogen_bodies, autogen_gates, autogen_tools
from comparison.cases import main
from comparison.hooks import Hook, People, three_hooks


def hooks(people: People, settings: dict[str, Any]) -> list[Hook]:
    """Return the three ways to have tools."""
    return three_hooks(people, settings, "autogen")


if __name__ == "__main__":
    modules = (autogen_tools, autogen_bodies, autogen_gates)
    packages = ("autogen-agentchat", "autogen-core", "lodestar-autogen")
    main([module.cases for module in modules], hooks, packages)
