"""Everything about one call that its verdict may depend on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from toolgate.jsonvalue import JSONValue
from toolgate.policy.contracts import Contract


class CallFacts(NamedTuple):
    """One call, as policy sees it.

    ``args`` are the action's parameters, a JSON object; ``session_age`` is in seconds; ``now`` is
    the time of the decision and carries its time zone.

    ``state`` returns the session's state, ``labels`` its labels, ``calls`` how often it has called
    each tool and ``total_calls`` all of them, ``history`` its last calls (tool, status, labels),
    oldest first. Each is asked only for a condition that names it, of a rule about such calls.
    """

    args: dict[str, Any]
    contract: Contract
    action_id: str
    action_type: str
    proposal_id: str | None
    agent_id: str
    framework: str | None
    session_id: str
    session_age: float
    now: datetime
    state: Callable[[], Mapping[str, JSONValue]] = dict
    labels: Callable[[], Sequence[str]] = tuple
    calls: Callable[[], Mapping[str, int]] = dict
    total_calls: Callable[[], int] = int
    history: Callable[[], Sequence[Mapping[str, JSONValue]]] = tuple
