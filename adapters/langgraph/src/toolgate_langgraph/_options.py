"""The options of governed calls, without LangChain."""

from __future__ import annotations

from typing import Literal

HoldMode = Literal["auto", "interrupt", "wait", "return"]
"""What becomes of a held call; see :func:`toolgate_langgraph.govern_tools`."""
