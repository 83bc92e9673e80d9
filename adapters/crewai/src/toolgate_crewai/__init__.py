"""Toolgate for CrewAI: tools that ask a gate before they run.

CrewAI is imported by the first call, not by this package.
"""

from toolgate_crewai._api import agoverned_call, bind, fail_closed, govern_tools, governed_call

__version__ = "0.1.0"

__all__ = ["__version__", "agoverned_call", "bind", "fail_closed", "govern_tools", "governed_call"]
