"""What is wrong with the shape of a proposal, in the words of somebody who wrote it."""

from __future__ import annotations

from typing import Final, get_args

from pydantic_core import ErrorDetails

from toolgate import sourcefile
from toolgate.ir import ActionCompensation, ToolCompensation
from toolgate.sourcefile import Location

_INPUT: Final = "input should be "


def location(error: ErrorDetails) -> Location:
    """Return where a pydantic error is in the document: without the model that was tried there."""
    place = error["loc"]
    return place[:3] + place[4:] if place[2:3] == ("compensation",) else place


def message(error: ErrorDetails) -> str:
    """Say what a pydantic error means."""
    match error["type"]:
        case "model_attributes_type":
            return sourcefile.message({**error, "type": "model_type"})
        case "union_tag_invalid" | "union_tag_not_found":
            return f"must have as its type {' or '.join(map(repr, _compensations()))}"
    said = sourcefile.message(error)
    return f"must be {said.removeprefix(_INPUT)}" if said.startswith(_INPUT) else said


def _compensations() -> list[str]:
    """Return the types that a compensation may have."""
    models = (ToolCompensation, ActionCompensation)
    return [name for model in models for name in get_args(model.model_fields["type"].annotation)]
