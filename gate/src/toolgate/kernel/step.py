"""What a transaction leaves to be done once it is durable, and what the kernel is set to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from toolgate.approvals.hold import Hold
from toolgate.approvals.tally import Tally
from toolgate.ir import ActionStatus, Outcome, OutcomeError
from toolgate.journal.records import ActionRecord
from toolgate.jsonvalue import JSONValue
from toolgate.kernel.allowance import NoToken
from toolgate.kernel.records import Call, hold_summary
from toolgate.kernel.tools import RegisteredTool


@dataclass(frozen=True, slots=True)
class Settings:
    """What the kernel needs of the deployment's config."""

    project: str
    agent: str
    mode: str
    join_repeats: bool
    remember_denial: bool
    max_concurrency: int
    max_pending: int
    approvers: Mapping[str, Ed25519PublicKey]
    allow_unsigned: bool = False


class Claim(NamedTuple):
    """An action that this gate has claimed: nobody else will execute it. ``timeout`` in seconds.

    ``edited_args`` are those of ``call`` as its caller is told them, when an approver has put them
    in the place of the proposed ones.
    """

    record: ActionRecord
    call: Call
    tool: RegisteredTool
    decision: dict[str, JSONValue] | None
    timeout: float
    edited_args: dict[str, JSONValue] | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """An action that stays held, at most until ``deadline`` (microseconds since the epoch).

    ``opened`` says that it was this very step that opened the hold.
    """

    uid: str
    session: str
    hold_id: str
    deadline: int | None
    outcome: Outcome
    opened: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """An action whose body runs in this gate already: its outcome is awaited."""

    uid: str


@dataclass(frozen=True, slots=True)
class Unprepared:
    """A released call whose arguments must be checked first, outside of any transaction."""

    uid: str
    call: Call


Step: TypeAlias = Outcome | Claim | Held | Joined | NoToken | Unprepared


def timeout_of(tool: RegisteredTool, call: Call) -> float:
    """Return the seconds a body gets: the operator's, which the caller may only shorten."""
    timeout = tool.contract.timeout
    return timeout if call.timeout is None else min(timeout, call.timeout)


def held_step(
    record: ActionRecord,
    hold: Hold,
    decision: dict[str, JSONValue] | None,
    said: Tally | None = None,
    error: OutcomeError | None = None,
) -> Held:
    """Return the step of an action that stays held; ``error`` says what else it waits for."""
    outcome = Outcome(
        ActionStatus.HELD,
        record.uid,
        error=error,
        attempts=record.attempts,
        hold=hold_summary(hold, said),
        decision=decision,
    )
    return Held(record.uid, record.session, hold.hold_id, hold.deadline, outcome)
