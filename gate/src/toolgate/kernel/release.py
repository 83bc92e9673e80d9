"""What becomes of a held action when somebody resumes it. Pure.

Everything is checked again at release, in this order:

1. a counted denial (``approval_denied``), or a deadline that passed without enough approvals
   (``approval_timeout``), ends it; without enough approvals it stays held;
2. the resuming client has registered the tool, or the hold stays and says so;
3. what would run is that whose digest was approved;
4. everything that was looked at when it was proposed (:mod:`toolgate.kernel.admission`) is looked
   at again, as it is now: schemas, capabilities, state, preconditions, and policy. A hold with
   another approval requirement reopens the hold under that one; a hold with the same requirement,
   or allow, lets the approval stand.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from toolgate import clock
from toolgate.approvals.hold import Hold, hold_digest
from toolgate.approvals.tally import HoldState, Tally
from toolgate.errors import JournalTampered
from toolgate.ir import OutcomeError, OutcomeKind
from toolgate.kernel import admission
from toolgate.kernel.admission import Admission
from toolgate.policy.verdict import Verdict


@dataclass(frozen=True, slots=True)
class Release:
    """The decision on a held action that is resumed."""

    step: Literal["wait", "reject", "reopen", "execute"]
    state: HoldState
    verdict: Verdict | None = None
    error: OutcomeError | None = None


def release(
    hold: Hold, tally: Tally, now: int, *, runnable: bool, examine: Callable[[], Admission]
) -> Release:
    """Decide on a held action at ``now`` (microseconds since the epoch).

    ``runnable`` says whether the resuming client could run it; ``examine`` admits it anew. Raises
    :class:`JournalTampered` when the hold's digest is not that of what would run.
    """
    state = tally.state(hold, now)
    if state is HoldState.DENIED:
        return Release("reject", state, error=approval_denied(tally))
    if state is HoldState.EXPIRED:
        return Release("reject", state, error=approval_timeout(hold))
    if state is HoldState.PENDING:
        return Release("wait", state)
    if not runnable:
        return Release("wait", state, error=admission.unregistered(hold.tool))
    digest = hold_digest(
        hold.uid,
        hold.tool,
        hold.args,
        hold.requirement,
        hold.expected_effects,
        hold.compensation,
        hold.retries,
    )
    if digest != hold.digest:
        raise JournalTampered(f"the hold {hold.hold_id} does not name what would run")
    admitted = examine()
    verdict = admitted.verdict
    if admitted.step == "reject":
        return Release("reject", state, verdict, admitted.error)
    if verdict is not None and verdict.effect == "hold" and verdict.requirement != hold.requirement:
        return Release("reopen", HoldState.PENDING, verdict)
    return Release("execute", state, verdict)


def approval_denied(tally: Tally) -> OutcomeError:
    """Return the error for a call a person denied, with the person's reason."""
    said = tally.denial
    if said is None:
        raise ValueError("nobody denied")
    why = f": {said.reason}" if said.reason else ""
    return OutcomeError(
        OutcomeKind.APPROVAL_DENIED, f"denied by {said.approver}{why}", {"approver": said.approver}
    )


def approval_timeout(hold: Hold) -> OutcomeError:
    """Return the error for a hold whose deadline passed: expired, and denied by nobody."""
    deadline = clock.to_text(hold.deadline or 0)
    return OutcomeError(
        OutcomeKind.APPROVAL_TIMEOUT,
        f"not approved in time: the hold expired at {deadline} and nobody denied it",
        {"deadline": deadline},
    )
