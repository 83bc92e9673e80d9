"""What can be asked of a gate: one function per method of the wire, which a thread or a task makes.

Each returns a :class:`Request` and how its result is read. Whatever can be wrong with what the user
gives is raised here, with nothing sent.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from toolgate_client._errors import ProtocolError
from toolgate_client._params import add, milliseconds, positive

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TypeAlias, TypeVar

    from toolgate_client._analysis import (
        Equivalence,
        Optimized,
        Ranked,
        Restored,
        Verification,
    )
    from toolgate_client._bodies import Body
    from toolgate_client._documents import Trust
    from toolgate_client._gate import Gate
    from toolgate_client._models import Event, Hold, Outcome, ProposalResult, Ran

    T = TypeVar("T")
    Reader: TypeAlias = Callable[[Any, Ran], T]
    Asked: TypeAlias = tuple["Request", Reader[T]]
    Proposal: TypeAlias = Mapping[str, Any]
    State: TypeAlias = Mapping[str, Any]

_HOLDS_PAGE = 500
_EVENTS_PAGE = 1000
_ENVELOPE = 100
"""More bytes than a request is longer than its parameters."""


class Request:
    """One request: ``what`` names it in errors, ``expected`` what its result should be.

    Bodies that it runs are the registered ones; ``body``, if given, replaces that of the action
    ``uid``, or of the one action there is.
    """

    __slots__ = ("body", "expected", "method", "params", "size", "uid", "what")

    def __init__(self, method: str, params: Mapping[str, Any], what: str, expected: str) -> None:
        self.method = method
        self.params = params
        self.what = what
        self.expected = expected
        self.body: Body | None = None
        self.uid = ""
        self.size = 0
        """How many bodies may run at once; 0: it is about one action, and they follow one another.
        """


# --- actions


def govern(
    gate: Gate,
    tool: str,
    args: Mapping[str, Any],
    idempotency_key: str | None,
    timeout: float | None,
    body: Body | None,
    metadata: Mapping[str, Any] | None,
) -> Asked[Outcome]:
    """Propose a call to a tool."""
    if not isinstance(args, Mapping):
        raise TypeError(f"the arguments of tool {tool!r} are not a mapping: {args!r}")
    params: dict[str, Any] = {"tool": tool, "args": dict(args)}
    add(
        params,
        idempotency_key=idempotency_key,
        timeout_ms=milliseconds(positive(timeout, "timeout"), "timeout"),
        parent=gate.parent(),
        metadata=metadata,
    )
    request = Request("govern", params, f"the call to tool {tool!r}", "outcome")
    request.body = body
    return request, gate.read_outcome


def propose(
    gate: Gate, proposal: Proposal, idempotency_key: str | None, max_workers: int | None
) -> Asked[ProposalResult]:
    """Propose a plan."""
    from toolgate_client._answers import proposal_from_wire

    params: dict[str, Any] = {"proposal": _plan(proposal)}
    add(params, idempotency_key=idempotency_key, parent=gate.parent())
    what = f"the proposal {proposal['id']!r}" if "id" in proposal else "the proposal"
    request = Request("propose", params, what, "result of a proposal")
    # More bodies at once than actions there are not.
    request.size = min(_size(gate, max_workers), max(1, len(_actions(proposal))))
    return request, proposal_from_wire


def resume(
    gate: Gate, uid: str, wait: float | None, body: Body | None, max_workers: int | None
) -> Asked[Outcome]:
    """Continue an action or a proposal."""
    params = {"uid": uid, "wait_ms": milliseconds(wait, "wait")}
    request = Request("resume", params, f"the resume of {uid}", "outcome")
    request.body = body
    request.uid = uid
    request.size = _size(gate, max_workers)
    return request, gate.read_outcome


def withdraw(gate: Gate, uid: str) -> Asked[Outcome]:
    """Take back a held action."""
    request = Request("withdraw", {"uid": uid}, f"the withdrawal of {uid}", "outcome")
    return request, gate.read_outcome


# --- tools and the session


def register_tool(
    name: str,
    body: Body,
    description: str | None,
    parameters: Mapping[str, Any] | None,
    returns: Mapping[str, Any] | None,
    idempotent: bool,
    cache_ttl: float | None,
    rate_limit: Mapping[str, Any] | None,
) -> Asked[dict[str, Any]]:
    """Make a tool known; its contract is the result."""
    if not callable(body):
        raise TypeError(f"the body of tool {name!r} is not callable: {body!r}")
    params: dict[str, Any] = {"name": name, "idempotent": idempotent}
    add(
        params,
        description=description,
        parameters=parameters,
        returns=returns,
        cache_ttl_secs=cache_ttl,
        rate_limit=None if rate_limit is None else dict(rate_limit),
    )
    what = f"the registration of tool {name!r}"
    request = Request("register_tool", params, what, "contract")
    return request, lambda result, ran: dict(result["contract"])


def observe(gate: Gate, text: str, source: str | None, trust: Trust) -> Asked[list[str]]:
    """Tell of content that came into the session: by its digest, if it is too large to be sent."""
    from toolgate_client._documents import Document
    from toolgate_client._encode import to_wire
    from toolgate_client._omitted import without_text

    params: dict[str, Any] = dict(Document(text, source, trust).to_wire())
    longest = gate.core.max_message_bytes
    if longest is not None and len(to_wire(params, "the observation")) > longest - _ENVELOPE:
        params = without_text(params)
    request = Request("observe", params, "the observation", "list of labels")
    return request, lambda result, ran: [str(label) for label in result["labels"]]


def holds(status: str | None, after: Any) -> Asked[tuple[list[Hold], Any]]:
    """List a page of holds; the result has what the next page comes after, or ``None``."""
    from toolgate_client._answers import hold_from_wire

    params: dict[str, Any] = {"limit": _HOLDS_PAGE}
    add(params, status=status, after=after)
    request = Request("holds", params, "the list of holds", "list of holds")
    return request, lambda page, ran: ([*map(hold_from_wire, page["holds"])], page.get("next"))


def events(after: int, limit: int | None, uid: str | None) -> Asked[tuple[list[Event], int | None]]:
    """List a page of events; the result has what the next page comes after, or ``None``."""
    from toolgate_client._answers import event_from_wire

    most = _EVENTS_PAGE if limit is None else min(limit, _EVENTS_PAGE)
    params: dict[str, Any] = {"after": after, "limit": most}
    add(params, action_id=uid)
    request = Request("events", params, "the list of events", "list of events")
    return request, lambda page, ran: ([*map(event_from_wire, page["events"])], page.get("next"))


def subscribe(after: int | None, limit: int, uid: str | None) -> Asked[int]:
    """Ask for events as they come; the result is the place to go on from."""
    params: dict[str, Any] = {"limit": limit}
    add(params, after=after, action_id=uid)
    request = Request("subscribe", params, "the subscription", "place in the log")
    return request, lambda result, ran: int(result["after"])


def state(keys: Iterable[str] | None) -> Asked[dict[str, Any]]:
    """Look at the session's state."""
    if isinstance(keys, str):
        raise TypeError(f"keys are several texts, not one: {keys!r}")
    params: dict[str, Any] = {}
    add(params, keys=None if keys is None else list(keys))
    return _look("state", params, "state", dict)


def checkpoint(name: str) -> Asked[str]:
    """Save the session's state."""
    params = {"name": name}
    return _look("checkpoint", params, "checkpoint", lambda result: str(result["checkpoint_id"]))


def restore(checkpoint_id: str) -> Asked[Restored]:
    """Set the session's state back."""
    from toolgate_client._analysis import restored_from_wire

    params = {"checkpoint_id": checkpoint_id}
    return _look("restore", params, "result of a restore", restored_from_wire)


def ping() -> Asked[None]:
    """Ask for a sign of life."""
    return Request("ping", {}, "the ping", "answer"), lambda result, ran: None


def shutdown() -> Asked[None]:
    """Ask the gate to end."""
    return Request("shutdown", {}, "the shutdown", "answer"), lambda result, ran: None


# --- plans that are only looked at


def verify(proposal: Proposal, state: State | None, max_actions: int | None) -> Asked[Verification]:
    """Check a proposal."""
    from toolgate_client._analysis import verification_from_wire

    params: dict[str, Any] = {"proposal": _plan(proposal)}
    add(params, state=_state(state), max_actions=max_actions)
    return _look("verify", params, "verification", verification_from_wire)


def simulate(proposal: Proposal, state: State | None) -> Asked[dict[str, Any]]:
    """Ask for the state that a proposal would leave."""
    from toolgate_client._analysis import state_from_wire

    params: dict[str, Any] = {"proposal": _plan(proposal)}
    add(params, state=_state(state))
    return _look("simulate", params, "state", state_from_wire)


def equivalent(a: Proposal, b: Proposal, states: Iterable[State] | None) -> Asked[Equivalence]:
    """Compare two proposals."""
    from toolgate_client._analysis import equivalence_from_wire

    params: dict[str, Any] = {"a": _plan(a), "b": _plan(b)}
    add(params, states=None if states is None else [dict(each) for each in states])
    return _look("equivalent", params, "comparison", equivalence_from_wire)


def optimize(proposal: Proposal, state: State | None) -> Asked[Optimized]:
    """Ask for a proposal with fewer waits."""
    from toolgate_client._analysis import optimized_from_wire

    params: dict[str, Any] = {"proposal": _plan(proposal)}
    add(params, state=_state(state))
    return _look("optimize", params, "plan", optimized_from_wire)


def rank(
    candidates: Iterable[Proposal], target: Mapping[str, Any] | None, state: State | None
) -> Asked[list[Ranked]]:
    """Order proposals."""
    from toolgate_client._analysis import ranking_from_wire

    params: dict[str, Any] = {"candidates": [_plan(candidate) for candidate in candidates]}
    add(params, target=_state(target), state=_state(state))
    return _look("rank", params, "ranking", ranking_from_wire)


# --- pieces


def read(request: Request, reader: Reader[T], result: Any, ran: Ran) -> T:
    """Read the result of a request; raises :class:`ProtocolError` when it is something else."""
    try:
        return reader(result, ran)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"the gate's answer to {request.method} is no {request.expected}"
        raise ProtocolError(f"{what}: {error!r}") from error


def tools_of(proposal: Proposal) -> Iterator[str]:
    """The tools that a proposal may run, as far as it has a proposal's form."""
    for action in _actions(proposal):
        if isinstance(action, Mapping):
            for call in (action, action.get("compensation")):
                if isinstance(call, Mapping) and isinstance(call.get("tool"), str):
                    yield call["tool"]


def _look(
    method: str, params: dict[str, Any], expected: str, reader: Callable[[Any], T]
) -> Asked[T]:
    request = Request(method, params, f"the answer to {method}", expected)
    return request, lambda result, ran: reader(result)


def _size(gate: Gate, max_workers: int | None) -> int:
    if max_workers is None:
        return gate.concurrency
    if max_workers < 1:
        raise ValueError(f"max_workers is how many bodies run at once, from 1: {max_workers!r}")
    return max_workers


def _plan(proposal: Proposal) -> dict[str, Any]:
    if not isinstance(proposal, Mapping):
        raise TypeError(f"a proposal is a mapping: {proposal!r}")
    return dict(proposal)


def _state(state: State | None) -> dict[str, Any] | None:
    return None if state is None else dict(state)


def _actions(proposal: Proposal) -> Sequence[Any]:
    # What is no list of actions the gate refuses, in better words than these.
    actions = proposal.get("actions")
    return actions if isinstance(actions, (list, tuple)) else ()
