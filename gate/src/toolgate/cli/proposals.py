"""What the commands about proposals read: proposals, tools, states and targets, from files."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, NamedTuple, TypeVar

from pydantic import BaseModel, Field, RootModel, ValidationError

from toolgate.errors import ToolgateError
from toolgate.ir import ActionProposal, CostTarget, ToolSchema
from toolgate.jsonvalue import JSONValue
from toolgate.plan import shape
from toolgate.sourcefile import Problems, SourceFile, UnreadableSource, read

M = TypeVar("M", bound=BaseModel)

_ToolList = RootModel[Annotated[tuple[ToolSchema, ...], Field(strict=False)]]


class InputError(ToolgateError):
    """A file does not have what it should; the message has every problem with its place."""

    def __init__(self, name: str, problems: Iterable[str]) -> None:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"{name}:\n{lines}")


class Sent(NamedTuple):
    """A proposal, and the JSON that it was read from."""

    proposal: ActionProposal
    document: Mapping[str, JSONValue]


def read_proposal(path: Path) -> Sent:
    """Read a proposal; raises :class:`InputError`."""
    source = _read(path)
    return Sent(_validated(source, ActionProposal), source.value)


def read_target(path: Path) -> CostTarget:
    """Read what a plan should cost; raises :class:`InputError`."""
    return _validated(_read(path), CostTarget)


def read_tools(path: Path) -> tuple[ToolSchema, ...]:
    """Read a list of declarations of tools; raises :class:`InputError`."""
    return _validated(_read(path), _ToolList).root


def read_state(path: Path) -> dict[str, JSONValue]:
    """Read a state, a mapping of keys to values; raises :class:`InputError`."""
    source = _read(path)
    if not isinstance(source.value, dict):
        raise InputError(source.name, ["must be a mapping of state keys to values"])
    return source.value


def _read(path: Path) -> SourceFile:
    try:
        return read(path)
    except UnreadableSource as error:
        raise InputError(str(path), error.problems) from None


def _validated(source: SourceFile, model: type[M]) -> M:
    try:
        return model.model_validate(source.value)
    except ValidationError as error:
        problems = Problems(source.lines)
        for detail in error.errors(include_url=False):
            problems.add(shape.location(detail), shape.message(detail))
        raise InputError(source.name, problems) from None
