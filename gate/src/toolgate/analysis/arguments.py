"""Arguments against a tool's schemas while some of them are not known yet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

from toolgate.jsonvalue import JSONValue
from toolgate.plan.references import is_reference, referenced

_ANYTHING: Final[tuple[JSONValue, ...]] = ("", 1, None, True, [], {})
"""A value of every type."""

_CUT: Final = " … "
"""What stands in a message for what was left out of it."""


class Problem(Protocol):
    """What is wrong with arguments, and where (a JSON pointer)."""

    @property
    def pointer(self) -> str:
        """The place."""
        ...

    @property
    def message(self) -> str:
        """What is wrong there, for people."""
        ...


class Tool(Protocol):
    """A tool whose arguments can be checked."""

    def argument_problems(self, args: dict[str, JSONValue], /) -> Sequence[Problem]:
        """Return everything that is wrong with arguments."""
        ...


def argument_problems(
    tool: Tool, args: dict[str, JSONValue], *, unknown: bool = True
) -> list[Problem]:
    """Return what is wrong with arguments, where references left in them may become anything.

    With such references, only what is wrong in the same words whatever type the outputs have is a
    problem: a required argument that is missing, or one that there is none of. What may depend on
    an output is left to execution, which checks the real arguments.
    """
    if not unknown or not referenced(args):
        return list(tool.argument_problems(args))
    problems: dict[tuple[str, str], Problem] | None = None
    for value in _ANYTHING:
        found = {
            (problem.pointer, problem.message): problem
            for problem in tool.argument_problems(_with(args, value))
            if _CUT not in problem.message
        }
        if problems is not None:
            found = {key: problem for key, problem in found.items() if key in problems}
        problems = found
        if not problems:
            break
    return list((problems or {}).values())


def _with(item: JSONValue, value: JSONValue) -> JSONValue:
    """Return ``item`` with ``value`` in the place of every reference."""
    if isinstance(item, dict):
        return {key: _with(inner, value) for key, inner in item.items()}
    if isinstance(item, list):
        return [_with(inner, value) for inner in item]
    return value if isinstance(item, str) and is_reference(item) else item
