"""The parameters of the methods a client may call: their shapes, checked strictly."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from toolgate.jsonvalue import JSONValue
from toolgate.wire.messages import ErrorCode, RPCError

M = TypeVar("M", bound=BaseModel)

_LONGEST_MS = 10**12
"""Some thirty years: a longer time is a mistake, and would not fit a timer."""


class Params(BaseModel):
    """Parameters of a method. What this version does not know is ignored: the wire may grow."""

    model_config = ConfigDict(strict=True, frozen=True)


class Govern(Params):
    """Propose one call of a tool."""

    tool: Annotated[str, Field(min_length=1, max_length=256)]
    args: dict[str, Any] = {}
    idempotency_key: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    timeout_ms: Annotated[int, Field(gt=0, le=_LONGEST_MS)] | None = None
    parent: str | None = None
    metadata: dict[str, Any] | None = None


class Resume(Params):
    """Bring an action on."""

    uid: str
    wait_ms: Annotated[int, Field(ge=0, le=_LONGEST_MS)] | None = 0
    """``None`` waits as long as it takes."""


class Withdraw(Params):
    """Take a held action back."""

    uid: str


class Holds(Params):
    """List holds."""

    status: Literal["pending", "released", "denied", "expired", "withdrawn"] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: str | None = None


class Cancel(Params):
    """Tell that nobody waits for a request any more."""

    id: int | str


def read_params(model: type[M], params: dict[str, JSONValue]) -> M:
    """Read a method's parameters; raises :class:`RPCError` with everything wrong with them."""
    try:
        return model.model_validate(params)
    except ValidationError as error:
        raise bad_params(
            [
                f"{'.'.join(str(part) for part in detail['loc'])}: {detail['msg']}"
                for detail in error.errors(include_url=False, include_input=False)
            ]
        ) from None


def bad_params(problems: list[str]) -> RPCError:
    """Return the error for parameters that are wrong in these ways."""
    return RPCError(ErrorCode.INVALID_PARAMS, "; ".join(problems), {"problems": problems})
