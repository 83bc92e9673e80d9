"""Limits: rate limits as token buckets, and budgets. Pure: what has been used comes as data.

**Rate limits.** A bucket holds at most ``max_calls`` tokens and gains ``max_calls`` of them in
``interval_secs``, evenly. A call takes one, so that between any two moments at most ``max_calls``
and what was gained between them get through.

1. Without data the bucket is full. Data that cannot be a bucket's counts as an empty one.
2. A call that gets no token changes nothing: nothing is reserved, its caller comes again.
3. Under a changed limit, what was saved is worth at most what the limit of today holds.
4. A clock that went back by at most an interval stands still until it has caught up, so that
   gates racing for one bucket gain nothing. One that went back further was corrected: the bucket is
   empty from now on.

**Budgets.** What is spent is counted when it starts, so that a limit of three never runs a fourth,
also of those that run at once: ``actions`` when an action starts, ``tool_calls`` when a body does
(every attempt starts one). ``duration_ms`` is added when a body ends. What returns a recorded
result starts nothing and spends nothing.
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Literal, NamedTuple

from toolgate.ir import CostBudget, OutcomeError, OutcomeKind, RateLimit
from toolgate.jsonvalue import JSONValue

_TOKEN = 1_000_000
_LONGEST_WAIT = 10**18
_BEYOND_ANY = 2**62


class Take(NamedTuple):
    """What came of asking a bucket for a token.

    ``data`` is the bucket from now on: to be stored when it is not what was stored, taken or not.
    ``wait`` is the seconds until a token is there if nobody else takes it; 0 when one was taken.
    """

    taken: bool
    data: dict[str, JSONValue]
    wait: float


def take(limit: RateLimit, data: JSONValue, now: int) -> Take:
    """Ask for a token of the bucket stored as ``data`` (None: never used) at ``now`` (µs).

    The data is ``{tokens, at}``: millionths of a token, and the time up to which they are counted.
    """
    full = limit.max_calls * _TOKEN
    interval = Fraction(limit.interval_secs) * _TOKEN
    tokens, at = (full, now) if data is None else _bucket(data, now)
    if at > now + interval:
        tokens, at = 0, now
    stored: dict[str, JSONValue] = {"tokens": tokens, "at": at}
    # Microseconds times calls a second are millionths of a token.
    rate = limit.max_calls / Fraction(limit.interval_secs)
    gained = math.floor(max(now - at, 0) * rate)
    there = min(tokens + gained, full)
    if there >= _TOKEN:
        return Take(True, {"tokens": there - _TOKEN, "at": max(at, now)}, 0.0)
    ready = at + math.ceil((_TOKEN - tokens) / rate)
    return Take(False, stored, min(ready - now, _LONGEST_WAIT) / _TOKEN)


def _bucket(data: JSONValue, now: int) -> tuple[int, int]:
    match data:
        case {"tokens": int(tokens), "at": int(at)} if (
            type(tokens) is int and type(at) is int and tokens >= 0 and at >= 0
        ):
            return tokens, at
    return 0, now


def rate_limited(tool: str, limit: RateLimit, wait: float) -> OutcomeError:
    """Return the error for a call that got no token in its time; ``wait`` in seconds."""
    return OutcomeError(
        OutcomeKind.RATE_LIMITED,
        f"{tool} may be called {limit.max_calls} times in {limit.interval_secs:g} s, and that is "
        f"used up: try again in {wait:.3g} s",
        {
            "max_calls": limit.max_calls,
            "interval_secs": limit.interval_secs,
            "retry_after_ms": math.ceil(wait * 1000),
        },
    )


class Spent(NamedTuple):
    """What a proposal or a session has spent; the duration in milliseconds."""

    tool_calls: int = 0
    actions: int = 0
    duration_ms: float = 0.0

    def add(self, *, tool_calls: int = 0, actions: int = 0, duration_ms: float = 0.0) -> Spent:
        """Return this and what came on top."""
        return Spent(
            self.tool_calls + tool_calls,
            self.actions + actions,
            self.duration_ms + max(duration_ms, 0.0),
        )

    def to_json(self) -> dict[str, JSONValue]:
        """Return the plain form that is stored."""
        return {
            "tool_calls": self.tool_calls,
            "actions": self.actions,
            "duration_ms": self.duration_ms,
        }

    @classmethod
    def from_json(cls, data: JSONValue) -> Spent:
        """Read what :meth:`to_json` wrote (None: nothing spent yet).

        What cannot be read counts as more than any budget, so that nothing starts on its word.
        """
        if data is None:
            return cls()
        members = data if isinstance(data, dict) else {}
        return cls(
            int(_amount(members.get("tool_calls"))),
            int(_amount(members.get("actions"))),
            _amount(members.get("duration_ms")),
        )


def _amount(value: JSONValue) -> float:
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if number and 0 <= value <= _BEYOND_ANY else _BEYOND_ANY


def exceeded(
    budget: CostBudget,
    spent: Spent,
    scope: Literal["proposal", "session"],
    *,
    tool_call: bool = True,
) -> OutcomeError | None:
    """Return why a further action may not start, or None when the budget has room for it.

    To be asked before every start, together with counting it. ``tool_call`` says whether it is one:
    what is no tool call needs no room in ``max_tool_calls``. A limit of 0 starts nothing.
    """
    limits: list[tuple[str, float | None, float, str]] = [
        ("max_actions", budget.max_actions, spent.actions, "actions"),
        ("max_duration_ms", budget.max_duration_ms, spent.duration_ms, "ms of execution"),
    ]
    if tool_call:
        limits.insert(0, ("max_tool_calls", budget.max_tool_calls, spent.tool_calls, "tool calls"))
    for name, most, used, what in limits:
        if most is not None and used >= most:
            return OutcomeError(
                OutcomeKind.BUDGET_EXCEEDED,
                f"the budget of this {scope} is used up: {name} allows {most:.15g} {what} "
                f"(budget.{scope}.{name} in the gate's config): ask the operator for more",
                {"scope": scope, "limit": name, "value": most, "spent": used},
            )
    return None
