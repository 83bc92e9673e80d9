"""Capabilities: what a session may touch at all, whatever policy says. Pure.

1. A name (of a tool, or a key of state) is allowed when a glob of ``allow`` matches it and no glob
   of ``deny`` does: deny beats allow, and an empty ``allow`` allows nothing.
2. A proposal may have at most ``max_actions`` actions; of a bigger one every action is rejected.

Both refusals have kind ``capability_denied``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from toolgate import globs
from toolgate.config import CapabilitiesSection, Selection
from toolgate.ir import OutcomeError, OutcomeKind

_SHOWN = 200


@dataclass(frozen=True, slots=True)
class _Names:
    """One selection of names, compiled; ``section`` is its path in the config."""

    section: str
    allow: tuple[re.Pattern[str], ...]
    deny: tuple[tuple[str, re.Pattern[str]], ...]

    @classmethod
    def of(cls, section: str, selection: Selection) -> _Names:
        allow = tuple(globs.compiled(glob) for glob in selection.allow)
        deny = tuple((glob, globs.compiled(glob)) for glob in selection.deny)
        return cls(section, allow, deny)

    def refusal(self, what: str, name: str) -> OutcomeError | None:
        for glob, pattern in self.deny:
            if pattern.match(name):
                return self._refused(what, name, f"{self.section}.deny has {glob}")
        if any(pattern.match(name) for pattern in self.allow):
            return None
        return self._refused(what, name, f"{self.section}.allow does not have it")

    def _refused(self, what: str, name: str, why: str) -> OutcomeError:
        return OutcomeError(
            OutcomeKind.CAPABILITY_DENIED,
            f"this session may not {what} {repr(name)[:_SHOWN]}: {why} in the gate's config; "
            "do without it, or ask the operator to allow it",
            {"capability": self.section, "name": name},
        )


class Capabilities:
    """A session's capabilities, from the config; without a section everything is allowed."""

    __slots__ = ("_keys", "_max_actions", "_tools")

    def __init__(self, section: CapabilitiesSection | None = None) -> None:
        section = section or CapabilitiesSection()
        self._tools = _Names.of("capabilities.tools", section.tools)
        self._keys = _Names.of("capabilities.state_keys", section.state_keys)
        self._max_actions = section.max_actions

    def refusal_of_tool(self, name: str) -> OutcomeError | None:
        """Return why the session may not call the tool ``name``, or None when it may."""
        return self._tools.refusal("call the tool", name)

    def refusal_of_key(self, key: str) -> OutcomeError | None:
        """Return why the session may not touch ``key`` of its state (read or write), or None."""
        return self._keys.refusal("use the state key", key)

    def refusal_of_size(self, actions: int) -> OutcomeError | None:
        """Return why a proposal may not have so many actions, or None when it may."""
        most = self._max_actions
        if most is None or actions <= most:
            return None
        return OutcomeError(
            OutcomeKind.CAPABILITY_DENIED,
            f"a proposal may have at most {most} actions (capabilities.max_actions in the gate's "
            f"config), and this one has {actions}: propose it in smaller parts",
            {"capability": "capabilities.max_actions", "limit": most, "actions": actions},
        )
