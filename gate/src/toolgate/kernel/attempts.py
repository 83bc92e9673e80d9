"""Whether a failed attempt is followed by another, and when. Pure.

1. ``failure_behavior: retry`` asks for ``max_retries`` further attempts, the operator's ``retries``
   for as many for any call of the tool; where both speak, the smaller number counts.
2. What never started, was denied or was cancelled is not attempted again; nor is a failure that the
   client says trying again does not help.
3. A body whose result is not valid, or that did not end in time, has done something: another
   attempt needs the operator's word that the tool is idempotent; after a timeout also the client's
   that the body has ended.
4. An action whose gate died while its body ran is attempted again when somebody resumes it, if the
   operator's word is that the tool is idempotent: as often as a failure would be, and once where
   nobody has said how often.
5. The wait before attempt ``n + 1`` is 100 ms · 2^(n−1), up to 30 s, give or take 20 %.
"""

from __future__ import annotations

from typing import Final

from toolgate.ir import Action, ActionStatus, FailureBehavior, OutcomeKind
from toolgate.kernel.result import Ending, ToolError, ToolReply
from toolgate.policy.contracts import Contract

FIRST_WAIT: Final = 0.1
"""Seconds before the second attempt, without jitter."""
LONGEST_WAIT: Final = 30.0
"""Seconds; no wait is longer, jitter included."""
JITTER: Final = 0.2
"""The part of a wait by which chance makes it longer or shorter, so that callers spread."""
CANCEL_GRACE: Final = 5.0
"""Seconds that a body gets to end once it was cancelled, before it counts as still running."""


def retries(action: Action, contract: Contract) -> int:
    """Return how many attempts there may be after the first."""
    asked = action.max_retries if action.failure_behavior is FailureBehavior.RETRY else None
    given = [count for count in (asked, contract.retries) if count is not None]
    return min(given, default=0)


def reruns(action: Action, contract: Contract) -> int:
    """Return how many attempts of an action may follow ones of which nobody knows how they ended.

    The operator's ``retries: 0`` is a word, too.
    """
    if not contract.idempotent:
        return 0
    asked = retries(action, contract)
    return asked if contract.retries is not None else max(asked, 1)


def wait_before(
    action: Action, contract: Contract, reply: ToolReply, end: Ending, made: int, chance: float
) -> float | None:
    """Return the seconds to wait before another attempt, or None when there is none.

    ``made`` attempts were made; the last one's ``reply`` came to ``end``. ``chance`` is from 0
    to 1.
    """
    if (
        end.status is not ActionStatus.FAILED
        or end.error is None
        or made > retries(action, contract)
    ):
        return None
    if isinstance(reply, ToolError) and not reply.retryable:
        return None
    acted = end.error.kind in (OutcomeKind.INVALID_RESULT, OutcomeKind.EXECUTION_TIMEOUT)
    if acted and not contract.idempotent:
        return None
    wait = FIRST_WAIT * 2.0 ** min(made - 1, 30)
    return min(wait * (1 + JITTER * (2 * chance - 1)), LONGEST_WAIT)
