"""What a program gives the kernel: copied, and refused where a gate would refuse it.

The shapes are those of the wire's methods (:mod:`toolgate.wire.params`), so that one rule says what
a call may be. What is copied cannot change any more under what the kernel has judged.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TypeAlias, TypeVar

from pydantic import BaseModel, ValidationError

from toolgate import jsonvalue
from toolgate.errors import ToolgateError
from toolgate.ir import ActionProposal
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.past import Content, Document
from toolgate.wire.params import Observe, problems_of

M = TypeVar("M", bound=BaseModel)

Proposal: TypeAlias = ActionProposal | Mapping[str, JSONValue]
"""A plan: the model, or its JSON."""

State: TypeAlias = Mapping[str, JSONValue]
"""A session's state, or one that might be."""


class InvalidInput(ToolgateError):
    """What a method was given cannot be used; ``problems`` are all that is wrong with it."""

    def __init__(self, problems: list[str]) -> None:
        """``problems`` are complete, each with its place; at least one."""
        self.problems = tuple(problems)
        super().__init__("; ".join(problems))


def checked(model: type[M], values: JSONValue, *where: str) -> M:
    """Return ``values`` as ``model``; raises :class:`InvalidInput`, which says ``where``."""
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise InvalidInput(problems_of(error, values, *where)) from None


def milliseconds(seconds: float | None, name: str) -> int | None:
    """Return a time as the wire tells it, rounded up; raises :class:`InvalidInput`."""
    if seconds is None:
        return None
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        raise InvalidInput([f"{name}: is not a number of seconds"])
    if not math.isfinite(seconds):
        raise InvalidInput([f"{name}: is not a finite number of seconds"])
    return math.ceil(seconds * 1000)


def own_json(value: JSONValue) -> JSONValue:
    """Return a copy of a JSON value; raises :class:`~toolgate.errors.JSONError` if it is none.

    A model's copy is its JSON, and so is a mapping's.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump()
    elif isinstance(value, Mapping):
        value = dict(value)
    return jsonvalue.parse(jsonvalue.canonical(value))


def own_document(document: Content) -> Document:
    """Return a copy; raises :class:`InvalidInput` when it is none."""
    if not isinstance(document, Document):
        raise InvalidInput(["document: is no Document"])
    said = {"text": document.text, "source": document.source, "trust": document.trust}
    asked = checked(Observe, own_json(said), "document")
    return Document(asked.text, asked.source, asked.trust)


def plan_of(proposal: Proposal) -> ActionProposal:
    """Return a copy of a proposal; raises :class:`InvalidInput`."""
    return checked(ActionProposal, own_json(proposal), "proposal")


def said(proposal: Proposal) -> dict[str, JSONValue]:
    """Return a proposal's JSON as it was said: without what the model has filled in."""
    if isinstance(proposal, ActionProposal):
        return proposal.model_dump(exclude_unset=True)
    return dict(proposal)


def digest_of(proposal: Proposal) -> str:
    """Return the digest of a proposal as it was said."""
    return jsonvalue.digest(said(proposal))
