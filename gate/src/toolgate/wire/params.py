"""The parameters of the methods a client may call: their shapes, checked strictly."""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from toolgate.ir import LONGEST_MS
from toolgate.jsonvalue import JSONValue
from toolgate.plan import shape
from toolgate.plan.text import shown
from toolgate.sourcefile import Location
from toolgate.wire.messages import ErrorCode, RPCError

M = TypeVar("M", bound=BaseModel)

_LARGEST_INTEGER = 2**53 - 1
"""Up to here every reader of JSON reads the same integer."""


class Params(BaseModel):
    """Parameters of a method. What this version does not know is ignored: the wire may grow."""

    # A schema is built when a method is first called: a gate is to be ready soon.
    model_config = ConfigDict(strict=True, frozen=True, defer_build=True)


class Govern(Params):
    """Propose one call of a tool."""

    tool: Annotated[str, Field(min_length=1, max_length=256)]
    args: dict[str, Any] = {}
    idempotency_key: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    timeout_ms: Annotated[int, Field(gt=0, le=LONGEST_MS)] | None = None
    parent: str | None = None
    metadata: dict[str, Any] | None = None


class Propose(Params):
    """Run a proposal. Its own shape is the IR's (:class:`toolgate.ir.ActionProposal`)."""

    proposal: dict[str, Any]
    idempotency_key: Annotated[str, Field(min_length=1, max_length=512)] | None = None
    parent: str | None = None


class State(Params):
    """Read the session's state."""

    keys: list[str] | None = None


class Observe(Params):
    """Tell of content that came into the session. A body's documents have this form too."""

    text: str
    source: str | None = None
    trust: Literal["untrusted", "trusted"] = "untrusted"


class ObserveDigest(Params):
    """Tell of content that stays where it is, because its text is too large for a message."""

    digest: Annotated[str, Field(pattern=r"\Asha256:[0-9a-f]{64}\z")]
    length: Annotated[int, Field(ge=0, le=_LARGEST_INTEGER)]
    source: str | None = None
    trust: Literal["untrusted", "trusted"] = "untrusted"


class Checkpoint(Params):
    """Keep the session's state under a name."""

    name: Annotated[str, Field(min_length=1, max_length=256)]


class Restore(Params):
    """Return the session's state to a checkpoint."""

    checkpoint_id: str


class Verify(Params):
    """Find what is wrong with a proposal before it runs."""

    proposal: dict[str, Any]
    state: dict[str, Any] | None = None
    max_actions: Annotated[int, Field(ge=0)] | None = None


class Simulate(Params):
    """Tell the state that a proposal would leave."""

    proposal: dict[str, Any]
    state: dict[str, Any] | None = None


class Equivalent(Params):
    """Compare what two proposals leave, from given states."""

    a: dict[str, Any]
    b: dict[str, Any]
    states: Annotated[list[dict[str, Any]], Field(max_length=100)] | None = None


class Optimize(Params):
    """Return a proposal with fewer waits."""

    proposal: dict[str, Any]
    state: dict[str, Any] | None = None


class Rank(Params):
    """Order proposals by how likely they succeed and what they cost."""

    candidates: list[dict[str, Any]]
    target: dict[str, Any] | None = None
    state: dict[str, Any] | None = None


class Resume(Params):
    """Bring an action on."""

    uid: str
    wait_ms: Annotated[int, Field(ge=0, le=LONGEST_MS)] | None = 0
    """``None`` waits as long as it takes."""


class Withdraw(Params):
    """Take a held action back."""

    uid: str


class Holds(Params):
    """List holds."""

    status: Literal["pending", "released", "denied", "expired", "withdrawn"] | None = None
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    after: str | None = None


class Events(Params):
    """List events of the session."""

    after: Annotated[int, Field(ge=0, lt=1 << 63)] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    action_id: str | None = None


class Subscribe(Params):
    """Be told of the session's events as they come."""

    after: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    """``None`` begins with what comes from now on."""
    limit: Annotated[int, Field(ge=1)] | None = None
    action_id: str | None = None


class Cancel(Params):
    """Tell that nobody waits for a request any more."""

    id: int | str


def read_params(model: type[M], params: dict[str, JSONValue], *where: str) -> M:
    """Read a method's parameters, or the part of them that is at ``where``.

    Raises :class:`RPCError` with everything wrong with them.
    """
    try:
        return model.model_validate(params)
    except ValidationError as error:
        raise bad_params(problems_of(error, params, *where)) from None


def problems_of(error: ValidationError, sent: JSONValue, *where: str) -> list[str]:
    """Say everything that is wrong with ``sent``, which is at ``where``, each with its place.

    An action of a proposal is named by its id as well, where it has one.
    """
    problems = []
    for detail in error.errors(include_url=False, include_input=False):
        subject = _subject(shape.location(detail), sent, where)
        problems.append(f"{subject}: {_message(detail)}" if subject else _message(detail))
    return problems


def _subject(location: Location, sent: JSONValue, where: tuple[str, ...]) -> str:
    if location[:1] != ("actions",) or len(location) < 2:
        return ".".join(map(str, (*where, *location)))
    action = sent["actions"][location[1]]
    id = action.get("id") if isinstance(action, dict) else None
    if not isinstance(id, str):
        return ".".join(map(str, (*where, *location)))
    named = f"{'.'.join(map(str, (*where, *location[:2])))} ({shown(id)})"
    return ": ".join(filter(None, (named, ".".join(map(str, location[2:])))))


def _message(detail: ErrorDetails) -> str:
    if detail["type"] in {"model_type", "model_attributes_type", "dict_type"}:
        return "must be an object"
    return shape.message(detail)


def bad_params(problems: list[str]) -> RPCError:
    """Return the error for parameters that are wrong in these ways."""
    return RPCError(ErrorCode.INVALID_PARAMS, "; ".join(problems), {"problems": problems})
