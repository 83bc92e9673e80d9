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

Where the arguments in force are an approver's edit, that is done with them, by the rules of
:mod:`toolgate.kernel.edits`, as soon as it is heard. An edit that is refused leaves the action
held, with the arguments it had.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from toolgate import clock
from toolgate.approvals.hold import Hold
from toolgate.approvals.tally import HoldState, Tally
from toolgate.errors import JournalTampered
from toolgate.ir import OutcomeError, OutcomeKind
from toolgate.jsonvalue import JSONValue
from toolgate.kernel import admission, edits
from toolgate.kernel.admission import Admission
from toolgate.policy.verdict import ApprovalRequirement, Verdict


@dataclass(frozen=True, slots=True)
class Release:
    """The decision on a held action that is resumed.

    ``requirement`` is what a reopened hold asks of people; ``error`` also why an edit is refused.
    ``stood_on`` is the admission's.
    """

    step: Literal["wait", "reject", "reopen", "refuse_edit", "execute"]
    state: HoldState
    verdict: Verdict | None = None
    error: OutcomeError | None = None
    requirement: ApprovalRequirement | None = None
    stood_on: Mapping[str, JSONValue] = field(default_factory=dict)


def release(
    hold: Hold,
    tally: Tally,
    now: int,
    *,
    runnable: bool,
    fresh: bool,
    edited: bool,
    examine: Callable[[], Admission],
) -> Release:
    """Decide on a held action at ``now`` (microseconds since the epoch).

    ``runnable`` says whether the resuming client could run it; ``fresh``, that nobody has heard of
    the edit in force before; ``edited``, that its arguments are an approver's since it was
    reopened. ``examine`` admits it anew, with the arguments in force. Raises
    :class:`JournalTampered` when the digest in force is not that of what would run.
    """
    version = tally.version
    state = tally.state(hold, now)
    if state is HoldState.DENIED:
        return Release("reject", state, error=approval_denied(tally))
    if state is HoldState.EXPIRED:
        return Release("reject", state, error=approval_timeout(hold))
    released = state is HoldState.RELEASED
    if not (released or fresh):
        return Release("wait", state)
    if not runnable:
        return Release("wait", state, error=admission.unregistered(hold.tool) if released else None)
    if hold.digest_with(version.args) != version.digest:
        raise JournalTampered(f"the hold {hold.hold_id} does not name what would run")
    admitted = examine()
    verdict = admitted.verdict
    refused = None if version.by is None else edits.refused(admitted)
    if refused is not None:
        return Release("refuse_edit", HoldState.PENDING, error=refused)
    read = admitted.stood_on
    if admitted.step != "reject" and verdict is not None and verdict.requirement is not None:
        asked = verdict.requirement
        if version.by is not None or edited:
            if not edits.asked_already(hold.requirement, asked):
                wider = edits.widened(hold.requirement, asked)
                return Release(
                    "reopen", HoldState.PENDING, verdict, requirement=wider, stood_on=read
                )
        elif asked != hold.requirement:
            return Release("reopen", HoldState.PENDING, verdict, requirement=asked, stood_on=read)
    if not released:
        return Release("wait", state)
    if admitted.step == "reject":
        return Release("reject", state, verdict, admitted.error, stood_on=read)
    return Release("execute", state, verdict, stood_on=read)


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
