"""LangChain's tools in LangGraph: raw, under Lodestar's hook, under Toolgate's adapter."""

from __future__ import annotations

from typing import Any

from comparison import langgraph_bodies, langgraph_gates, langgraph_results, langgraph_tools
from comparison.cases import main
from comparison.hooks import Hook, People, three_hooks


def hooks(people: People, settings: dict[str, Any]) -> list[Hook]:
    """Return the three ways to have tools."""
    return three_hooks(people, settings, "langgraph")


if __name__ == "__main__":
    modules = (langgraph_tools, langgraph_results, langgraph_bodies, langgraph_gates)
    packages = ("langgraph", "langchain", "langchain-core", "lodestar-langgraph")
    main([module.cases for module in modules], hooks, packages)
