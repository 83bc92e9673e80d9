"""What callers get back of plans that were looked at rather than run, as frozen values.

As in ``_models``, fields carry the names of the wire and annotations are evaluated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from toolgate_client._answers import error_from_wire
from toolgate_client._models import ErrorInfo

Severity = Literal["error", "warning", "info"]
Tier = Literal["decision_procedure", "heuristic"]


@dataclass(frozen=True)
class Issue:
    """One thing that verification has to say of a proposal.

    ``action_id`` is ``None`` when it concerns the proposal as a whole. ``code`` is for machines,
    ``message`` for people. ``tier`` says whether it is certain (``decision_procedure``) or a rule
    of thumb (``heuristic``).
    """

    action_id: str | None
    severity: Severity
    code: str
    message: str
    tier: Tier


@dataclass(frozen=True)
class Verification:
    """What verification found; true when the proposal is valid: no issue is an error.

    ``simulated_state`` is what its declared effects add up to; ``execution_levels`` are the ids of
    actions that need not wait for each other, in order; ``conflicts`` are triples of two actions
    that write the same key, in no order, and the key.
    """

    valid: bool
    issues: tuple[Issue, ...] = ()
    simulated_state: dict[str, Any] = field(default_factory=dict)
    execution_levels: tuple[tuple[str, ...], ...] = ()
    conflicts: tuple[tuple[str, str, str], ...] = ()

    def __bool__(self) -> bool:
        return self.valid


@dataclass(frozen=True)
class Difference:
    """A state from which two proposals lead to different ones: to ``a`` and to ``b``."""

    state: dict[str, Any]
    a: dict[str, Any]
    b: dict[str, Any]


@dataclass(frozen=True)
class Equivalence:
    """Whether two proposals lead to the same state from each that was tried; true when so."""

    equivalent: bool
    differences: tuple[Difference, ...] = ()

    def __bool__(self) -> bool:
        return self.equivalent


@dataclass(frozen=True)
class Removed:
    """A wait that the optimizer removed: of the action ``action_id``, on ``on``.

    ``kind`` says what ``on`` is, such as an action or a key of state.
    """

    action_id: str
    kind: str
    on: str


@dataclass(frozen=True)
class Optimized:
    """The same actions with fewer waits, as a ``proposal`` to propose, and what was removed."""

    proposal: dict[str, Any]
    removed: tuple[Removed, ...] = ()


@dataclass(frozen=True)
class Ranked:
    """One candidate in a ranking; ``index`` is its place among the candidates given.

    ``score``, ``success_likelihood`` and ``cost_efficiency`` are from 0 to 1.
    """

    index: int
    proposal_id: str
    score: float
    valid: bool
    success_likelihood: float
    cost_efficiency: float


@dataclass(frozen=True)
class Restored:
    """What became of restoring a checkpoint.

    ``status`` is ``succeeded`` or ``rejected``, ``error`` says why; ``state_changes`` are the keys
    that changed, with the values they have now.
    """

    status: Literal["succeeded", "rejected"]
    error: ErrorInfo | None = None
    state_changes: dict[str, Any] = field(default_factory=dict)

    @property
    def succeeded(self) -> bool:
        """Whether the state is that of the checkpoint now."""
        return self.status == "succeeded"


# Each reader raises KeyError, TypeError, ValueError or AttributeError when `raw` is something else.


def verification_from_wire(raw: Mapping[str, Any]) -> Verification:
    """Read what ``verify`` answers."""
    return Verification(
        valid=raw["valid"],
        issues=tuple(
            Issue(
                each.get("action_id"),
                each["severity"],
                each["code"],
                each["message"],
                each.get("tier", "decision_procedure"),
            )
            for each in raw["issues"]
        ),
        simulated_state=dict(raw.get("simulated_state") or {}),
        execution_levels=tuple(map(tuple, raw.get("execution_levels") or ())),
        conflicts=tuple((a, b, key) for a, b, key in raw.get("conflicts") or ()),
    )


def state_from_wire(raw: Mapping[str, Any]) -> dict[str, Any]:
    """Read what ``simulate`` answers."""
    return dict(raw["state"])


def equivalence_from_wire(raw: Mapping[str, Any]) -> Equivalence:
    """Read what ``equivalent`` answers."""
    differences = raw.get("differences") or ()
    return Equivalence(
        raw["equivalent"],
        tuple(Difference(each["state"], each["a"], each["b"]) for each in differences),
    )


def optimized_from_wire(raw: Mapping[str, Any]) -> Optimized:
    """Read what ``optimize`` answers."""
    removed = raw.get("removed") or ()
    return Optimized(
        dict(raw["proposal"]),
        tuple(Removed(each["action_id"], each["kind"], each["on"]) for each in removed),
    )


def ranking_from_wire(raw: Mapping[str, Any]) -> list[Ranked]:
    """Read what ``rank`` answers."""
    ranking: Sequence[Mapping[str, Any]] = raw["ranking"]
    return [Ranked(*(each[name] for name in Ranked.__dataclass_fields__)) for each in ranking]


def restored_from_wire(raw: Mapping[str, Any]) -> Restored:
    """Read what ``restore`` answers."""
    error = error_from_wire(raw.get("error"))
    return Restored(raw["status"], error, dict(raw.get("state_changes") or {}))


for _class in (
    Difference,
    Equivalence,
    Issue,
    Optimized,
    Ranked,
    Removed,
    Restored,
    Verification,
):
    _class.__module__ = "toolgate_client"
del _class
