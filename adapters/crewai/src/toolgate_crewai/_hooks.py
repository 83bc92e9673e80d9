"""A hook of CrewAI's that stops calls of tools which the gate does not govern."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from crewai.hooks import tool_hooks
from crewai.utilities.string_utils import sanitize_tool_name

from toolgate_client import GateClient
from toolgate_crewai._tools import gate_of

_NUMBERED = re.compile(r"(.+)_[0-9]+")


class FailClosed:
    """The registered hook; see :func:`toolgate_crewai.fail_closed`.

    CrewAI asks its hooks in turn before every tool call, whichever way the model makes it. It
    swallows what a hook raises and goes on, so this one raises nothing; and it is the first, since
    in some versions what another hook raises keeps those after it from being asked.
    """

    __name__ = "toolgate_crewai.fail_closed"

    def __init__(self, gate: GateClient) -> None:
        self._gate = gate
        tool_hooks._before_tool_call_hooks.insert(0, self)  # noqa: SLF001 - there is no other way

    def __call__(self, context: Any) -> bool | None:
        """Return ``False``, which stops the call, unless the gate governs the tool."""
        try:
            governed = all(gate_of(tool) is self._gate for tool in _candidates(context))
        except Exception:  # noqa: BLE001 - what cannot be told is not governed
            governed = False
        return None if governed else False

    def close(self) -> None:
        """Take the hook away. Doing it again does nothing."""
        hooks: list[Any] = tool_hooks._before_tool_call_hooks  # noqa: SLF001
        hooks[:] = [hook for hook in hooks if hook is not self]

    def __enter__(self) -> FailClosed:
        return self

    def __exit__(self, *ended_by: object) -> None:
        self.close()


def _candidates(context: Any) -> Iterator[Any]:
    """Yield the tool of a call, and whatever CrewAI might run in its place.

    Of two tools of one name, a ReAct agent shows hooks the one and runs the other, and a native one
    numbers them (``search_2``), whether or not there is a tool of that name.
    """
    yield context.tool
    called = sanitize_tool_name(context.tool_name)
    names = {called}
    while (match := _NUMBERED.fullmatch(called)) is not None:
        called = match[1]
        names.add(called)
    agent, task = context.agent, context.task
    executor = getattr(agent, "agent_executor", None)
    known = [(executor, "tools"), (executor, "original_tools"), (agent, "tools"), (task, "tools")]
    for owner, attribute in known:
        for tool in getattr(owner, attribute, None) or ():
            if sanitize_tool_name(tool.name) in names:
                yield tool
