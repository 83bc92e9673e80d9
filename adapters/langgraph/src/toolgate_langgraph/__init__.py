"""Toolgate for LangGraph and LangChain: tools that ask a gate before they run.

LangChain is imported by the first call, not by this package.
"""

from toolgate_langgraph._api import govern_tools, governed_call

__version__ = "0.1.0"

__all__ = ["__version__", "govern_tools", "governed_call"]
